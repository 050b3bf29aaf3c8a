"""Counts whose variance grows faster than their mean: molecules of genes."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...parts import part
from .. import sparse
from ..batch import Batch
from .base import Dist
from .counts import CountsDist, CountsLikelihood, Sums

# log of a dispersion θ, from a variance of some hundred times the mean's square to that of Poisson counts.
LOWEST, HIGHEST = -5.0, 9.0
# Rows that dispersions are refitted on when training is over, and steps of it, each so long in log θ at the most.
REFITTED, STEPS, LONGEST = 4096, 6, 1.5
_gammaln, _digamma, _polygamma = torch.special.gammaln, torch.special.digamma, torch.special.polygamma


class _LogP(torch.autograd.Function):
    """Σ_j log NB(x_j; μ_j, θ_j) of rows, with μ = n·softmax(logits), and its derivatives written out.

    What a zero costs, −θ log(1 + μ/θ), is summed over all columns; the gamma functions, which cost twenty times a
    logarithm, are asked for where a count is not 0 alone. d/d log μ = θ (x − μ) / (θ + μ).
    """

    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, log_theta: Tensor, row: Tensor, column: Tensor, values: Tensor, total: Tensor
    ) -> Tensor:
        theta = log_theta.exp()
        shares = logits.softmax(-1)
        mu = shares * total.unsqueeze(-1)
        ratio = mu / theta
        found = -(torch.log1p(ratio) @ theta)
        where = row * logits.shape[-1] + column
        each, own = mu.flatten(-2).index_select(-1, where), theta[column]
        # In float64, where large terms cancel.
        wide = values.double()
        there = _gammaln(wide + own) - _gammaln(theta)[column] - _gammaln(wide + 1)
        there = there + wide * (each.clamp(min=1e-30).log() - (own + each).log())
        found += sparse.by_row(there, row, found.shape[-1])
        ctx.save_for_backward(shares, ratio, theta, row, column, where, values, total)
        return found

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Any:
        shares, ratio, theta, row, column, where, values, _ = ctx.saved_tensors
        own, each = theta[column], ratio.flatten(-2).index_select(-1, where)
        weight = gradient.index_select(-1, row)
        less = 1 / (1 + ratio)  # θ / (θ + μ)
        slope = (ratio * theta).mul_(less).mul_(-gradient.unsqueeze(-1))
        at = values / (1 + each)  # x θ / (θ + μ)
        slope.flatten(-2).index_add_(-1, where, weight * at)
        by_theta = torch.log1p(ratio).add_(less).sub_(1).mul_(-gradient.unsqueeze(-1)).flatten(0, -2).sum(0)
        there = weight * (_digamma(values + own) - _digamma(theta)[column] - at / own)
        by_theta = by_theta.index_add_(0, column.expand_as(there).flatten(), there.flatten()) * theta
        return slope - shares * slope.sum(-1, keepdim=True), by_theta, None, None, None, None


@dataclass(frozen=True)
class NegativeBinomialDist(CountsDist):
    """NB with mean μ_j = n·softmax(logits)_j and variance μ + μ²/θ; with `gates`, 0 with probability sigmoid(gates)
    besides.
    """

    logits: Tensor  # [..., g]
    log_theta: Tensor  # [g]
    sums: Sums
    gates: Tensor | None = None

    def cells(self, x: Tensor) -> Tensor:
        return self.seen(x, None)

    def seen(self, x: Tensor, observed: Tensor | None) -> Tensor:
        x, logits = sparse.dense(x), self.logits
        if observed is not None:
            # The counts that are there share out their own sum.
            x, logits = x * observed, logits.masked_fill(~observed, -torch.inf)
        mu = logits.softmax(-1) * x.sum(-1, keepdim=True)
        theta = self.log_theta.exp()
        nothing = -theta * torch.log1p(mu / theta)
        gammas = _gammaln(x + theta) - _gammaln(theta) - _gammaln(x + 1)
        found = nothing + gammas + torch.special.xlogy(x, (mu / (theta + mu)).clamp(min=1e-30))
        if self.gates is not None:
            open_, shut = F.logsigmoid(-self.gates), F.logsigmoid(self.gates)
            found = torch.where(x > 0, open_ + found, torch.logaddexp(shut, open_ + nothing))
        return found if observed is None else found.masked_fill(~observed, 0.0)

    def joint(self, x: Tensor, n: Tensor) -> Tensor:
        if self.gates is not None:
            return self.cells(x).sum(-1) + self.sums.log_prob(n)
        row, column, values = sparse.entries(x)
        found: Tensor = _LogP.apply(self.logits, self.log_theta, row, column, values.float(), n)
        return found + self.sums.log_prob(n)

    @property
    def mean(self) -> Tensor:
        mu = self.logits.softmax(-1) * self.sums.usual
        return mu if self.gates is None else mu * torch.sigmoid(-self.gates)

    @property
    def mode(self) -> Tensor:
        mu = self.logits.softmax(-1) * self.sums.usual
        found = (mu * (1 - (-self.log_theta).exp())).clamp(min=0).floor()
        return found if self.gates is None else found.masked_fill(self.gates > 0, 0.0)

    def sample(self, generator: torch.Generator | None) -> Tensor:
        theta = self.log_theta.exp().expand(self.logits.shape).contiguous()
        mu = self.logits.softmax(-1) * self.sums.sample(generator).unsqueeze(-1)
        found = torch.poisson(torch._standard_gamma(theta, generator=generator) / theta * mu, generator=generator)
        if self.gates is None:
            return found
        shut = torch.rand(found.shape, generator=generator, device=found.device) < self.gates.sigmoid()
        return found.masked_fill(shut, 0.0)


class _NegativeBinomial(CountsLikelihood):
    def __init__(self, shape: tuple[int, ...], inflated: bool) -> None:
        super().__init__(shape, 2 if inflated else 1)
        self.inflated = inflated
        self.log_dispersion = nn.Parameter(torch.zeros(shape))

    def forward(self, params: Tensor) -> NegativeBinomialDist:
        log_theta = self.log_dispersion.clamp(LOWEST, HIGHEST)
        cells = params[..., :-1]
        logits, gates = cells.chunk(2, -1) if self.inflated else (cells, None)
        return NegativeBinomialDist(logits, log_theta, self.sums(params), gates)

    @torch.no_grad()
    def refit(self, rows: Iterator[tuple[Dist, Batch]], new: Iterator[Dist] | None = None) -> None:
        """Besides, the dispersions given the final means: those that were learned make up for what a corrupted encoder
        did not know. They are the likeliest, but none is so wide that new rows vary more than these do.
        """
        self.kept: list[tuple[Tensor, Tensor]] = []
        super().refit(rows, new)
        if self.kept and not self.inflated:
            means, x = torch.cat([m for m, _ in self.kept]), sparse.joined([x for _, x in self.kept])
            self.log_dispersion.copy_(likeliest(self.log_dispersion.clamp(LOWEST, HIGHEST), means, x))
            narrow = means.square().sum(0) / ((sparse.dense(x) - means).square() - means).sum(0).clamp(min=1e-6)
            self.log_dispersion.copy_(torch.maximum(self.log_dispersion, narrow.log()).clamp(LOWEST, HIGHEST))
        self.kept = []

    def look(self, px: Dist, batch: Batch) -> None:
        if sum(len(m) for m, _ in self.kept) < REFITTED and batch.observed is None and sparse.is_sparse(batch.x):
            assert isinstance(px, NegativeBinomialDist)
            self.kept.append((px.logits[0].softmax(-1) * sparse.totals(batch.x).unsqueeze(-1), batch.x))

    def start(self, features: Tensor) -> Tensor:
        logits = super().start(features)
        return torch.cat([logits, torch.full_like(logits, -3.0)]) if self.inflated else logits  # 5 % shut


def likeliest(log_theta: Tensor, mu: Tensor, x: Tensor) -> Tensor:
    """log of the dispersions under which counts x [b, g] are likeliest, given their means, by Newton's steps. [g]"""
    row, column, values = sparse.entries(x)
    theta, width = log_theta.exp(), mu.shape[1]
    for _ in range(STEPS):
        own = theta[column]
        whole = theta + mu
        # The derivative of Σ log NB by θ, and its own; of a zero the gamma functions say nothing.
        at = torch.zeros(width, device=mu.device).index_add_(0, column, _digamma(values + own) - _digamma(own))
        slope = (theta.log() - whole.log() + mu / whole).sum(0) + at
        slope.index_add_(0, column, -values / whole[row, column])
        bend = (1 / theta - 2 / whole + theta / whole.square()).sum(0)
        bend.index_add_(0, column, values / whole[row, column].square())
        bend.index_add_(0, column, _polygamma(1, values + own) - _polygamma(1, own))
        # In log θ, in which the likelihood is nearer to a parabola; uphill where it is none.
        first, second = theta * slope, theta * slope + theta.square() * bend
        step = torch.where(second < 0, -first / second, first.sign()).clamp(-LONGEST, LONGEST)
        theta = (theta.log() + step).clamp(LOWEST, HIGHEST).exp()
    return theta.log()


@part("likelihood", "negative-binomial")
@dataclass(frozen=True)
class NegativeBinomial:
    """Counts given their sum n: NB(n·softmax, θ) with a dispersion θ for each column, variance μ + μ²/θ.

    inflated: a count is 0 with a probability of its own besides, which the decoder gives (ZINB).
    Source: Lopez et al. 2018 (scVI), eq. 1–3.
    """

    inflated: bool = False

    def build(self, shape: tuple[int, ...]) -> CountsLikelihood:
        """The likelihood of rows of `shape`."""
        return _NegativeBinomial(shape, self.inflated)
