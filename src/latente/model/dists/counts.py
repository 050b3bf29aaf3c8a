"""What likelihoods of rows of counts have in common: the row's sum is given, not modelled."""

from abc import ABC

import torch
from torch import Tensor

from .. import sparse
from .base import Likelihood


class CountsLikelihood(Likelihood, ABC):
    """p(x | z, n) for a row of counts x whose sum is n.

    usual: the n for which means are. spread: mean and standard deviation of log n, from which n is drawn for new rows.
    Both are the kind's to set.
    """

    whole = False  # features are of a row whose sum is the usual one
    usual: Tensor
    spread: Tensor

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.out_shape = shape
        self.register_buffer("usual", torch.ones(()))
        self.register_buffer("spread", torch.zeros(2))
        self.register_buffer("continuous", torch.zeros(shape[-1:], dtype=torch.bool), persistent=False)

    def features(self, x: Tensor) -> Tensor:
        """log(1 + x) of rows brought to the usual sum. [b, g]"""
        x = sparse.dense(x)
        return torch.log1p(x * (self.usual / x.sum(-1, keepdim=True).clamp(min=1e-9)))

    def average(self, x: Tensor) -> Tensor:
        """The share of each column in rows x. [g]"""
        if not sparse.is_sparse(x):
            return x.sum(0) / x.sum().clamp(min=1e-9)
        _, columns, values = sparse.parts(x)
        share = torch.zeros(x.shape[1], device=x.device).index_add_(0, columns.long(), values.float())
        return share / share.sum().clamp(min=1e-9)

    def start(self, features: Tensor) -> Tensor:
        # A column of which these rows have nothing starts at half a count among all of them.
        return features.clamp(min=0.5 * float(features[features > 0].min())).log().expand(self.out_shape)

    def discrete(self, x: Tensor) -> bool:
        return True


def coefficient(row: Tensor, values: Tensor, total: Tensor) -> Tensor:
    """log(n! / Π x_j!) of each row, whose sum is n. [b]"""
    if bool((values == 1).all()):
        return torch.special.gammaln(total + 1)
    each = torch.special.gammaln(values.float() + 1)
    return torch.special.gammaln(total + 1).index_add(0, row, each, alpha=-1)
