"""A row of counts as draws from one distribution over its columns."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ...parts import part
from .. import sparse
from ..batch import Batch
from .base import Dist
from .counts import CountsLikelihood, coefficient


class _LogP(torch.autograd.Function):
    """Σ_j x_j log softmax(logits)_j of rows [.., b, g], with its derivative x − n·softmax(logits) written out: what is
    dense in it is passed over once forward and once backward, the rest is gathered.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, row: Tensor, column: Tensor, values: Tensor, total: Tensor) -> Tensor:
        where = row * logits.shape[-1] + column
        top = logits.amax(-1, keepdim=True)
        shares = (logits - top).exp_()
        mass = shares.sum(-1, keepdim=True)
        flat = logits.flatten(-2).index_select(-1, where)
        found = torch.zeros(logits.shape[:-1], dtype=logits.dtype, device=logits.device)
        found = found.index_add_(-1, row, flat * values) - total * (mass.log() + top)[..., 0]
        ctx.save_for_backward(shares.div_(mass), row, where, values, total)
        return found

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Any:
        shares, row, where, values, total = ctx.saved_tensors
        out = shares * -(gradient * total).unsqueeze(-1)
        out.flatten(-2).index_add_(-1, where, gradient.index_select(-1, row) * values)
        return out, None, None, None, None


@dataclass(frozen=True)
class MultinomialDist(Dist):
    """P(x | n, z) = n! / Π x_j! · Π p_j^x_j with p = softmax(logits), for a row of n in all.

    usual: n where none is given. spread: (mean, standard deviation) of log n for draws.
    """

    logits: Tensor  # [..., g]
    usual: Tensor
    spread: Tensor  # [2]
    once: bool = False  # whether a column is taken once at the most

    def cells(self, x: Tensor) -> Tensor:
        return self.seen(x, None)

    def seen(self, x: Tensor, observed: Tensor | None) -> Tensor:
        x = sparse.dense(x)
        logits = self.logits if observed is None else self.logits.masked_fill(~observed, -torch.inf)
        x = x if observed is None else x * observed
        share = torch.special.gammaln(x.sum(-1, keepdim=True) + 1) / x.sum(-1, keepdim=True).clamp(min=1)
        found = torch.special.xlogy(x, logits.softmax(-1)) + x * share - torch.special.gammaln(x + 1)
        return found if observed is None else found * observed

    def log_prob(self, x: Tensor, observed: Tensor | None) -> Tensor:
        if observed is not None:
            return super().log_prob(x, observed)
        row, column, values = sparse.entries(x)
        total = sparse.totals(x)
        found: Tensor = _LogP.apply(self.logits, row, column, values, total)
        return found + coefficient(row, values, total)

    @property
    def mean(self) -> Tensor:
        return self.logits.softmax(-1) * self.usual

    @property
    def mode(self) -> Tensor:
        # The largest remainders: within one of the true mode in each column (Finucan 1964).
        mean = self.mean
        whole = mean.floor()
        rest = (self.usual - whole.sum(-1, keepdim=True)).round().clamp(min=0)
        order = (mean - whole).argsort(-1, descending=True).argsort(-1)
        return whole + (order < rest)

    @property
    def expectation(self) -> Tensor:
        return torch.log1p(self.mean)

    def sample(self, generator: torch.Generator | None) -> Tensor:
        p = self.logits.softmax(-1)
        n = drawn_totals(p.shape[:-1], self.spread, generator).flatten()
        flat, out = p.flatten(0, -2), torch.zeros_like(p).flatten(0, -2)
        for i, (row, k) in enumerate(zip(flat, n.long().tolist(), strict=True)):
            k = min(k, int((row > 0).sum())) if self.once else k
            taken = torch.multinomial(row, k, replacement=not self.once, generator=generator)
            out[i].index_add_(0, taken, torch.ones(len(taken), device=p.device))
        return out.view(p.shape)


def drawn_totals(shape: torch.Size, spread: Tensor, generator: torch.Generator | None) -> Tensor:
    """Totals of new rows: log-normal, rounded, 1 or more."""
    noise = torch.randn(shape, generator=generator, device=spread.device)
    # Six deviations are beyond any row that was seen.
    return (spread[0] + spread[1] * noise.clamp(-6, 6)).exp().round().clamp(min=1)


class _Multinomial(CountsLikelihood):
    def __init__(self, shape: tuple[int, ...], once: bool) -> None:
        super().__init__(shape)
        self.once = once

    def forward(self, params: Tensor) -> MultinomialDist:
        return MultinomialDist(params, self.usual, self.spread, self.once)

    def observe(self, px: Dist, target: Batch) -> None:
        """Nothing is followed."""


@part("likelihood", "multinomial")
@dataclass(frozen=True)
class Multinomial:
    """Counts of a row given their sum: each of its n draws is column j with probability p_j.

    once: a draw of a new row takes each column once at the most, as people do things.
    Source: Liang et al. 2018 (arXiv:1802.05814), eq. 2; theirs leaves out n! / Π x_j!, which has no gradient.
    """

    once: bool = False

    def build(self, shape: tuple[int, ...]) -> CountsLikelihood:
        """The likelihood of rows of `shape`."""
        return _Multinomial(shape, self.once)
