"""What likelihoods of rows of counts have in common: a row's sum n, and how the counts share it out."""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from .. import sparse
from ..batch import Batch
from ..nets.layers import Stack
from .base import Dist, Likelihood

# Units of the net that says how large a row's sum is; quantiles of what it leaves open.
HIDDEN, QUANTILES = 32, 129


@dataclass(frozen=True)
class Sums:
    """log n ~ N(mean, deviation²) for the sum n of each row; usual: the n for which means of counts are.

    New rows' sums are not Gaussian: noise holds quantiles of log n − mean, found those of mean + noise over rows, and
    real those of their log n, each at even steps from the least to the largest.
    """

    mean: Tensor  # [...]
    log_scale: Tensor  # []
    usual: Tensor  # []
    noise: Tensor  # [QUANTILES]
    found: Tensor  # [QUANTILES]
    real: Tensor  # [QUANTILES]

    def log_prob(self, n: Tensor) -> Tensor:
        """log p(n), of a density over n; rows of nothing say nothing. [...]"""
        logs = n.clamp(min=1).log()
        found = -0.5 * ((logs - self.mean) * (-self.log_scale).exp()).square() - self.log_scale
        return (found - logs - 0.5 * math.log(2 * math.pi)) * (n > 0)

    def sample(self, generator: torch.Generator | None) -> Tensor:
        """Sums of new rows: whole, 1 or more; all together distributed as those of the data. [...]"""
        u = torch.rand(self.mean.shape, generator=generator, device=self.mean.device)
        noise = _between(u, torch.linspace(0, 1, QUANTILES, device=u.device), self.noise)
        # exp(30) is beyond all data, and a number.
        return _between(self.mean + noise, self.found, self.real).clamp(max=30).exp().round().clamp(min=1)


def _between(x: Tensor, at: Tensor, values: Tensor) -> Tensor:
    """The line through (at, values), both rising, at x; beyond its ends, their values."""
    i = torch.searchsorted(at, x.contiguous()).clamp(1, len(at) - 1)
    share = (x - at[i - 1]) / (at[i] - at[i - 1]).clamp(min=1e-9)
    return torch.lerp(values[i - 1], values[i], share.clamp(0, 1))


class CountsDist(Dist, ABC):
    """p(x, n | z) = p(n | z) p(x | n, z) for rows of counts x with the sum n. `cells` and `seen` are of the second."""

    sums: Sums

    def log_prob(self, x: Tensor, observed: Tensor | None) -> Tensor:
        if observed is not None:  # of a part of a row the sum is not known
            return self.seen(x, observed).sum(-1)
        return self.joint(x, sparse.totals(x))

    @abstractmethod
    def joint(self, x: Tensor, n: Tensor) -> Tensor:
        """log p(x, n | z) of whole rows, sparse or dense, whose sums are n. [..., b]"""

    @property
    def expectation(self) -> Tensor:
        return torch.log1p(self.mean)


class CountsLikelihood(Likelihood, ABC):
    """p(x, n | z): a decoder gives numbers of a row's cells, `cells_shape` of them, then the mean of log n.

    usual: the n for which means of counts are; the kind sets it.
    """

    whole = False  # features are of a row whose sum is the usual one
    usual: Tensor
    noise: Tensor
    found: Tensor
    real: Tensor

    def __init__(self, shape: tuple[int, ...], each: int = 1) -> None:
        super().__init__()
        self.cells_shape = (each * shape[0],)
        self.out_shape = (each * shape[0] + 1,)
        self.log_scale = nn.Parameter(torch.zeros(()))
        self.register_buffer("usual", torch.ones(()), persistent=False)
        normal = torch.special.ndtri(torch.linspace(0, 1, QUANTILES).clamp(1e-3, 1 - 1e-3))
        for name in ("noise", "found", "real"):
            self.register_buffer(name, normal.clone())
        self.register_buffer("continuous", torch.zeros(shape, dtype=torch.bool), persistent=False)

    def sums(self, params: Tensor) -> Sums:
        """p(n|z) of a decoder's numbers."""
        return Sums(params[..., -1], self.log_scale.clamp(-5, 3), self.usual, self.noise, self.found, self.real)

    def decoder(self, body: nn.Module, dim: int, spread: tuple[float, ...]) -> nn.Module:
        """A decoder of cells with one of sums beside it; spread: mean and deviation of log n, where it begins."""
        with torch.no_grad():
            deviation = max(spread[1], 1e-2)
            self.log_scale.fill_(math.log(deviation))
            self.noise.mul_(deviation)
            for quantiles in (self.found, self.real):
                quantiles.mul_(deviation).add_(spread[0])
        return _WithSums(body, dim, spread[0])

    @torch.no_grad()
    def refit(self, rows: Iterator[tuple[Dist, Batch]], new: Iterator[Dist] | None = None) -> None:
        """When training is over: what the sums leave open, as it is over these rows by the final weights. new: what
        draws of the prior decode to, where sums of new rows are to be as those of the data.
        """
        means, logs = [], []
        for px, batch in rows:
            assert isinstance(px, CountsDist)
            n = sparse.totals(batch.x)
            means.append(px.sums.mean[0][n > 0])
            logs.append(n[n > 0].log())
            self.look(px, batch)
        mean, log = torch.cat(means).float(), torch.cat(logs).float()
        if len(log) < QUANTILES:
            return
        rest, at = (log - mean).sort().values, torch.linspace(0, 1, QUANTILES, device=log.device)
        if new is not None:
            mean = torch.cat([px.sums.mean.flatten() for px in new if isinstance(px, CountsDist)]).float()
        # Each mean with the rest of another row: a stride through the sorted ones is as good as a draw.
        other = rest[torch.arange(len(mean), device=log.device) * 7919 % len(rest)]
        self.log_scale.copy_(rest.square().mean().sqrt().clamp(min=1e-2).log())
        for buffer, values in ((self.noise, rest), (self.found, mean + other), (self.real, log)):
            buffer.copy_(torch.quantile(values, at))

    def look(self, px: Dist, batch: Batch) -> None:
        """Look at some rows, where more is refitted than the sums."""

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
    to be of how deeply they were sequenced. in_place: see `Gather`, of the last layer's weight.
    """

    in_place = False

    def __init__(self, body: nn.Module, dim: int, mean: float) -> None:
        super().__init__()
        last = nn.Linear(HIDDEN, 1)
        with torch.no_grad():
            last.weight.zero_()
            last.bias.fill_(mean)
        self.sums = nn.Sequential(nn.Linear(dim, HIDDEN), nn.SiLU(), last)
        self.body = body

    @property
    def stack(self) -> Stack | None:
        """The body's layers, where it is made of such."""
        first = self.body[0] if isinstance(self.body, nn.Sequential) else None
        return first if isinstance(first, Stack) else None

    @property
    def weight(self) -> Tensor | None:
        """What `in_place` is of."""
        return None if self.stack is None else self.stack.layers[-1].weight  # type: ignore[return-value]

    def clear(self) -> None:
        """Make the kept gradient 0 again."""
        self.weight.grad.zero_()  # type: ignore[union-attr]

    def forward(self, z: Tensor) -> Tensor:
        sums = self.sums(z.detach())
        stack = self.stack
        if stack is not None and z.device.type == "cpu" and not torch.is_autocast_enabled("cpu"):
            h, last = stack.inner(z), stack.layers[-1]
            # A pass in which the decoder holds still has other tensors in the place of its weights.
            kept = self if self.in_place and torch.is_grad_enabled() and last.weight.requires_grad else None
            found: Tensor = _Joined.apply(h, last.weight, last.bias, sums, kept)
            return found
        return torch.cat([self.body(z), sums], -1)


class _Joined(torch.autograd.Function):
    """h @ weight.t() + bias with a column beside it, in one tensor: of some hundred rows of many columns a copy costs a
    tenth of the product.
    """

    @staticmethod
    def forward(ctx: Any, h: Tensor, weight: Tensor, bias: Tensor, more: Tensor, layer: Any) -> Tensor:
        out = aligned((len(h), len(weight) + 1), h)
        torch.addmm(bias, h, weight.t(), out=out[:, :-1])
        out[:, -1:] = more
        ctx.save_for_backward(h, weight)
        ctx.layer = layer
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Any:
        h, weight = ctx.saved_tensors
        own = gradient[:, :-1]
        by_weight = None
        if ctx.layer is not None and ctx.layer.weight.grad is not None:
            ctx.layer.weight.grad.addmm_(own.t(), h)
        elif ctx.needs_input_grad[1]:
            by_weight = own.t() @ h
        return own @ weight, by_weight, own.sum(0), gradient[:, -1:], None


def aligned(shape: tuple[int, ...], like: Tensor) -> Tensor:
    """An empty tensor whose rows begin at multiples of 16 numbers: products into and from rows that do not take a
    third longer.
    """
    room = -(-shape[-1] // 16) * 16
    return torch.empty((*shape[:-1], room), dtype=like.dtype, device=like.device)[..., : shape[-1]]


def coefficient(row: Tensor, values: Tensor, total: Tensor) -> Tensor:
    """log(n! / Π x_j!) of each row, whose sum is n: float64, since its terms are large and cancel others. [b]"""
    whole = torch.special.gammaln(total.double() + 1)
    if bool((values == 1).all()):
        return whole
    return whole - sparse.by_row(torch.special.gammaln(values.double() + 1), row, len(total))
