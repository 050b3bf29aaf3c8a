"""Codes of a committee: each member's point, side by side."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from ...errors import ConfigError
from ...parts import part, require
from ..committee import Axes, Blocks, Inward, Outward, Together
from ..nets.mlp import Mlp
from .point import PointPosterior

if TYPE_CHECKING:
    from ..model import Flat


class _Seats:
    """Nets that a kind can ask for encoder and decoder: those of all members side by side, and so many `axes`."""

    def __init__(self, nets: Mlp, members: int, dim: int, axes: int) -> None:
        self.nets, self.members, self.dim, self.count = nets, members, dim, axes
        self.axes: Axes | None = None

    def encoder(self, shape: tuple[int, ...]) -> tuple[nn.Module, int]:
        size = math.prod(shape)
        self.axes = Axes(size, self.count) if self.count else None
        blocks = Blocks(self.members, (size, *self.nets.widths, self.dim), self.nets.activation, shared=True)
        return Inward(blocks, self.axes), self.count + self.members * self.dim

    def decoder(self, dim: int, shape: tuple[int, ...]) -> nn.Module:
        own, out = dim - self.members * self.dim, math.prod(shape)  # axes, and what is given
        sizes = (self.dim + own, *reversed(self.nets.widths), out)
        silent = self.axes is not None
        blocks = Blocks(self.members, sizes, self.nets.activation, shared=False, silent=silent)
        return Outward(blocks, self.members, self.dim, out, self.axes)


class _Head(nn.Module):
    """The codes as they are."""

    def forward(self, h: Tensor) -> PointPosterior:
        return PointPosterior(h)


@part("latent", "committee")
@dataclass(frozen=True)
class Committee:
    """So many `members`, small autoencoders of `dim` numbers each; a code is all of theirs, one after the other.

    share: of the rows that a member learns from, drawn from each row's content; log p of a row is the mean over the
    members that did not. Their nets are those of an `mlp`, without skips. What disagreement tells of a row, one net
    cannot: each finds its own way to fit what is rare, and is at a loss where it never was.
    axes: of rows that are numbers of one sort (series), up to so many principal axes are a linear way beside the
    members, which begin with nothing to add to it; a code begins with them.

    Source: out-of-bag estimates are Breiman 1996, of networks of autoencoders Chen et al. 2017 (RandNet).
    """

    members: int = 8
    dim: int = 8
    share: float = 0.5
    axes: int = 64
    mixes = False
    density = False

    def __post_init__(self) -> None:
        require(self.members >= 1, self, "members", "1 or more")
        require(self.dim >= 1, self, "dim", "1 or more")
        require(0 < self.share <= 1, self, "share", "above 0, up to 1")
        require(self.axes >= 0, self, "axes", "0 or more")

    def model(self, spec: Any) -> "Flat":
        """The untrained model of a spec. Raises ConfigError for nets that are not fully connected."""
        from ..model import Flat
        from ..priors.base import Host

        nets = spec.nets or spec.kind.nets
        if not isinstance(nets, Mlp):
            raise ConfigError(f"nets {nets.name!r} cannot be a committee's", hint="--set nets=mlp")
        condition = None if spec.condition is None else spec.condition.condition()
        axes = min(self.axes, spec.kind.room) if spec.kind.plain else 0
        whole, more = axes + self.members * self.dim, 0 if condition is None else condition.width
        built = spec.kind.build(_Seats(nets, self.members, self.dim, axes), whole + more)
        likelihood = Together(built.likelihood, self.members, self.share)
        prior = spec.prior.build(Host(whole, built.features, None, more))
        return Flat(built.encoder, _Head(), prior, built.decoder, likelihood, spec.corruption, condition, whole)
