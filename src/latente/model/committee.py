"""A committee: several small autoencoders side by side, each trained on its own share of the rows.

Which members learn from a row is drawn from the row's own content (`bags`), so that nothing has to be remembered: of
any row, met in training or not, log p is the mean over the members that never learned from it. A row that is scored
is judged by strangers, and its duplicates by the same ones.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import torch
from torch import Tensor, nn

from .batch import Batch
from .dists.base import Dist, Likelihood
from .nets.layers import ACTIVATIONS, Offset

# Rounds of subspace iteration: of a spectrum that falls at all, the axes are known long before.
ROUNDS = 8
SHARE = 0.9

# Odd constants of SplitMix64 (Steele, Lea & Flood 2014, fig. 16), as signed 64-bit numbers.
_STEP, _FIRST, _SECOND = (c - (1 << 64) for c in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))


def bags(x: Tensor, members: int, share: float) -> Tensor:
    """Whether each of so many members learns from each row of x [b, *cells]: true for `share` of the rows, drawn from
    the row's bits. bool [members, b]
    """
    # + 0: of the two zeros one.
    bits = (x.flatten(1).float() + 0.0).view(torch.int32).long()
    places = torch.arange(1, bits.shape[1] + 1, device=x.device)
    row = _mixed(_mixed(bits + places * _STEP).sum(1))
    drawn = _mixed(row + (torch.arange(1, members + 1, device=x.device) * _STEP)[:, None])
    # The 24 middle bits: shifts keep the sign, so the highest are not evenly drawn.
    return ((drawn >> 20) & 0xFFFFFF) < round(share * (1 << 24))


def _mixed(h: Tensor) -> Tensor:
    """SplitMix64's finaliser; sums and products wrap."""
    h = (h ^ ((h >> 30) & 0x3FFFFFFFF)) * _FIRST
    h = (h ^ ((h >> 27) & 0x1FFFFFFFFF)) * _SECOND
    return h ^ ((h >> 31) & 0x1FFFFFFFF)


class Blocks(nn.Module):
    """The members' linear layers of `sizes`, an activation after each but the last, which has no bias. [k, b, in] ->
    [k, b, out]; shared: [b, in], the same for all members.
    """

    def __init__(self, members: int, sizes: Sequence[int], activation: str, shared: bool, silent: bool = False) -> None:
        super().__init__()
        self.activation, self.shared = activation, shared
        pairs = list(pairwise(sizes))
        self.weights = nn.ParameterList([_uniform(members, a, b) for a, b in pairs])
        if silent:  # they give 0 until they have learned
            nn.init.zeros_(self.weights[-1])
        self.biases = nn.ParameterList([nn.Parameter(torch.zeros(members, 1, b)) for _, b in pairs[:-1]])

    def forward(self, h: Tensor) -> Tensor:
        act = ACTIVATIONS[self.activation].forward
        if self.shared:
            h = h.expand(len(self.weights[0]), *h.shape)
        for weight, bias in zip(self.weights, self.biases, strict=False):
            h = act(torch.baddbmm(bias, h, weight))
        return torch.bmm(h, self.weights[-1])


def _uniform(members: int, a: int, b: int) -> nn.Parameter:
    # Variance 1 / inputs, which keeps the spread of features from layer to layer.
    return nn.Parameter((torch.rand(members, a, b) * 2 - 1) * (3 / a) ** 0.5)


class Axes(nn.Module):
    """A linear way beside the members, the same for all: the first principal axes of rows, known before training, as
    many as `SHARE` of the variance takes, up to `count`. A code is 0 along those that are left.

    Source: Pearson 1901; the subspace by iteration, Halko, Martinsson & Tropp 2011, alg. 4.4.
    """

    axes: Tensor
    mean: Tensor
    spread: Tensor

    def __init__(self, size: int, count: int) -> None:
        super().__init__()
        self.register_buffer("axes", torch.zeros(size, count))
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("spread", torch.ones(count))

    def forward(self, h: Tensor) -> Tensor:
        """Rows [b, size] -> codes of unit variance [b, count]."""
        return (h - self.mean) @ self.axes / self.spread

    def back(self, z: Tensor) -> Tensor:
        """Codes [n, count] -> differences from the mean row [n, size]."""
        return (z * self.spread) @ self.axes.T

    @torch.no_grad()
    def start(self, rows: Tensor) -> None:
        """Take the axes of rows [n, size]."""
        self.mean.copy_(rows.mean(0))
        x = rows - self.mean
        generator = torch.Generator().manual_seed(0)
        basis = torch.randn(self.axes.shape, generator=generator).to(x)
        for _ in range(ROUNDS):
            basis = torch.linalg.qr(x.T @ (x @ basis)).Q
        _, size, turn = torch.linalg.svd(x @ basis, full_matrices=False)
        before = (size.square().cumsum(0) - size.square()) / x.square().sum()
        self.axes.zero_()
        self.axes[:, : len(turn)] = (basis @ turn.T) * (before < SHARE)
        spread = size / max(1, len(x) - 1) ** 0.5
        # Along an axis on which rows do not differ there is nothing to magnify.
        self.spread.fill_(1.0)[: len(turn)] = spread.clamp(min=max(1e-3 * float(spread[0]), 1e-12))


class Inward(nn.Module):
    """Features [b, *shape] -> their codes along the axes, if there are any, and the members', one after the other.
    [b, a + k·d]
    """

    def __init__(self, blocks: Blocks, axes: Axes | None = None) -> None:
        super().__init__()
        self.blocks, self.axes = blocks, axes

    def forward(self, h: Tensor) -> Tensor:
        own = self.blocks(h.flatten(1)).transpose(0, 1).flatten(1)
        return own if self.axes is None else torch.cat([self.axes(h.flatten(1)), own], 1)


class Outward(nn.Module):
    """Codes [n, a + k·d], and behind them what is given [n, c] to all, -> the members' parameters. [n, k·out]

    The first a are along the axes: all members see them, and add to what they say by themselves.
    """

    def __init__(self, blocks: Blocks, members: int, dim: int, out: int, axes: Axes | None = None) -> None:
        super().__init__()
        self.blocks, self.members, self.dim, self.axes = blocks, members, dim, axes
        self.offset = Offset((members * out,))

    def forward(self, z: Tensor) -> Tensor:
        own, a = self.members * self.dim, 0 if self.axes is None else len(self.axes.spread)
        shared, own, given = z.split([a, own, z.shape[1] - a - own], -1)
        each = own.unflatten(1, (self.members, self.dim)).transpose(0, 1)
        told = torch.cat([shared, given], -1)
        if told.shape[1]:
            each = torch.cat([each, told.expand(self.members, *told.shape)], -1)
        found = self.blocks(each)
        if self.axes is not None:
            found = found + self.axes.back(shared)
        return self.offset(found.transpose(0, 1).flatten(1))

    def start(self, rows: Tensor) -> None:
        """Before training: the axes of rows [n, *shape]."""
        if self.axes is not None:
            self.axes.start(rows.flatten(1))


@dataclass(frozen=True, eq=False)
class TogetherDist(Dist):
    """The members' p(x|z). log p of a cell is the mean of the members' own, a lower bound on the log of their mean p
    (Jensen); of the members, those that did not learn from the row that it is asked for.
    """

    params: Tensor  # [k, ..., *out]
    inner: Likelihood
    share: float
    count: int

    @cached_property
    def members(self) -> Dist:
        """Theirs, side by side: batch shape [k, ...]."""
        return self.inner(self.params)

    @property
    def flat(self) -> Dist:
        """Theirs, as draws of one: batch shape [k·s, b] of params [k, s, b, *out]."""
        return self.inner(self.params.flatten(0, 1))

    def each(self, x: Tensor, observed: Tensor | None) -> Tensor:
        """log p of each observed cell of x [b, *cells] by each member, 0 elsewhere. [k, ..., b, *cells]"""
        return self.members.seen(x, observed)

    def bags(self, x: Tensor) -> Tensor:
        """Which members learn from each row. bool [k, b]"""
        return bags(x, self.count, self.share)

    def strangers(self, x: Tensor) -> Tensor:
        """The weight of each member's word on each row: equal among those that did not learn from it. [k, b]"""
        weight = (~self.bags(x)).float()
        # A row from which all learned has no strangers: then all have a say.
        weight = torch.where(weight.sum(0) > 0, weight, torch.ones_like(weight))
        return weight / weight.sum(0)

    def _mean(self, cells: Tensor, x: Tensor) -> Tensor:
        weight = self.strangers(x)
        shape = (self.count, *(1,) * (cells.dim() - 2 - self.event_dim), len(x), *(1,) * self.event_dim)
        return (cells * weight.reshape(shape)).sum(0)

    def cells(self, x: Tensor) -> Tensor:
        return self._mean(self.members.cells(x), x)

    def seen(self, x: Tensor, observed: Tensor | None) -> Tensor:
        return self._mean(self.members.seen(x, observed), x)

    @property
    def mean(self) -> Tensor:
        expected = self.expectation
        return self.inner.from_features(expected.flatten(0, -2)).unflatten(0, expected.shape[:-1])

    @property
    def mode(self) -> Tensor:
        return self.mean

    @property
    def expectation(self) -> Tensor:
        return self.members.expectation.mean(0)

    @property
    def event_dim(self) -> int:
        return self.members.event_dim

    def sample(self, generator: torch.Generator | None) -> Tensor:
        """A draw of each row from one member, drawn for the row."""
        drawn = self.members.sample(generator)  # [k, ..., *cells]
        lead = drawn.shape[1 : drawn.dim() - self.event_dim]
        which = torch.randint(self.count, lead, generator=generator, device=drawn.device)
        index = which.reshape(1, *lead, *(1,) * self.event_dim).expand(1, *drawn.shape[1:])
        return drawn.gather(0, index)[0]


class Together(Likelihood):
    """The members' parameters side by side -> their p(x|z)."""

    eager = True  # how many rows a member has in a batch changes from batch to batch
    continuous: Tensor

    def __init__(self, inner: Likelihood, members: int, share: float) -> None:
        super().__init__()
        self.inner, self.members, self.share = inner, members, share
        self.measured = inner.measured
        self.size = int(torch.Size(inner.out_shape).numel())
        self.out_shape = (members * self.size,)
        self.register_buffer("continuous", inner.continuous, persistent=False)

    def forward(self, params: Tensor) -> TogetherDist:
        each = params.unflatten(-1, (self.members, self.size)).movedim(-2, 0)
        return TogetherDist(each.unflatten(-1, self.inner.out_shape), self.inner, self.share, self.members)

    def features(self, x: Tensor) -> Tensor:
        return self.inner.features(x)

    @property
    def owner(self) -> Tensor:
        return self.inner.owner

    def start(self, features: Tensor) -> Tensor:
        return self.inner.start(features).flatten().repeat(self.members)

    def from_features(self, features: Tensor) -> Tensor:
        return self.inner.from_features(features)

    def discrete(self, x: Tensor) -> bool:
        return self.inner.discrete(x)

    def stir(self, generator: torch.Generator | None) -> None:
        self.inner.stir(generator)

    @contextmanager
    def judged(self) -> Iterator[None]:
        with self.inner.judged():
            yield

    def observe(self, px: Dist, target: Batch) -> None:
        assert isinstance(px, TogetherDist)
        # The members' draws count as draws of one.
        self.inner.observe(px.flat, target)

    def restart(self) -> None:
        self.inner.restart()
