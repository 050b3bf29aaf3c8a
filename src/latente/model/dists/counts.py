"""What likelihoods of rows of counts have in common: a row's sum n, and how the counts share it out."""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .. import sparse
from ..batch import Batch
from .base import Dist, Likelihood

# Units of the net that says how large a row's sum is.
HIDDEN = 32


@dataclass(frozen=True)
class Sums:
    """log n ~ N(mean, deviation²) for the sum n of each row; usual: the n for which means of counts are."""

    mean: Tensor  # [...]
    log_scale: Tensor  # []
    usual: Tensor  # []

    def log_prob(self, n: Tensor) -> Tensor:
        """log p(n), of a density over n; rows of nothing say nothing. [...]"""
        logs = n.clamp(min=1).log()
        found = -0.5 * ((logs - self.mean) * (-self.log_scale).exp()).square() - self.log_scale
        return (found - logs - 0.5 * math.log(2 * math.pi)) * (n > 0)

    def sample(self, generator: torch.Generator | None) -> Tensor:
        """Sums of new rows: whole, 1 or more. [...]"""
        noise = torch.randn(self.mean.shape, generator=generator, device=self.mean.device)
        # Four deviations are beyond nearly any row; exp(17) is the largest count that float32 still tells apart.
        return (self.mean + self.log_scale.exp() * noise.clamp(-4, 4)).clamp(max=17).exp().round().clamp(min=1)


class CountsDist(Dist, ABC):
    """p(x, n | z) = p(n | z) p(x | n, z) for rows of counts x with the sum n. `cells` and `seen` are of the second."""

    sums: Sums

    def log_prob(self, x: Tensor, observed: Tensor | None) -> Tensor:
        if observed is not None:  # of a part of a row the sum is not known
            return self.seen(x, observed).sum(-1)
        n = sparse.totals(x)
        return self.shared(x, n) + self.sums.log_prob(n)

    @abstractmethod
    def shared(self, x: Tensor, n: Tensor) -> Tensor:
        """log p(x | n, z) of whole rows, sparse or dense. [..., b]"""

    @property
    def expectation(self) -> Tensor:
        return torch.log1p(self.mean)


class CountsLikelihood(Likelihood, ABC):
    """p(x, n | z): what the decoder gives of a row are numbers of its cells, [cells_shape] flattened, then log n's mean.

    usual: the n for which means of counts are; the kind sets it.
    """

    whole = False  # features are of a row whose sum is the usual one
    usual: Tensor

    def __init__(self, shape: tuple[int, ...], each: int = 1) -> None:
        super().__init__()
        self.cells_shape = (each * shape[0],)
        self.out_shape = (each * shape[0] + 1,)
        self.log_scale = nn.Parameter(torch.zeros(()))
        self.register_buffer("usual", torch.ones(()))
        self.register_buffer("continuous", torch.zeros(shape, dtype=torch.bool), persistent=False)

    def sums(self, params: Tensor) -> Sums:
        """p(n|z) of a decoder's numbers."""
        return Sums(params[..., -1], self.log_scale.clamp(-5, 3), self.usual)

    def decoder(self, body: nn.Module, dim: int, spread: tuple[float, ...]) -> nn.Module:
        """A decoder of cells with one of sums beside it; spread: mean and deviation of log n, where it begins."""
        with torch.no_grad():
            self.log_scale.fill_(math.log(max(spread[1], 1e-2)))
        return _WithSums(body, dim, spread[0])

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
        # A column of which these rows have nothing starts at half of the rarest that they have.
        return features.clamp(min=0.5 * float(features[features > 0].min())).log()

    def discrete(self, x: Tensor) -> bool:
        return True

    def observe(self, px: Dist, target: Batch) -> None:
        """Nothing is followed."""


class _WithSums(nn.Module):
    """z -> numbers of the cells, then the mean of log n. What a row's sum is has no say in z: clusters of cells are not
    to be of how deeply they were sequenced.
    """

    def __init__(self, body: nn.Module, dim: int, mean: float) -> None:
        super().__init__()
        last = nn.Linear(HIDDEN, 1)
        with torch.no_grad():
            last.weight.zero_()
            last.bias.fill_(mean)
        self.sums = nn.Sequential(nn.Linear(dim, HIDDEN), nn.SiLU(), last)
        self.body = body

    def forward(self, z: Tensor) -> Tensor:
        return torch.cat([self.body(z), self.sums(z.detach())], -1)


def coefficient(row: Tensor, values: Tensor, total: Tensor) -> Tensor:
    """log(n! / Π x_j!) of each row, whose sum is n. [b]"""
    if bool((values == 1).all()):
        return torch.special.gammaln(total + 1)
    each = torch.special.gammaln(values.float() + 1)
    return torch.special.gammaln(total + 1).index_add(0, row, each, alpha=-1)
