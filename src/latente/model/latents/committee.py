"""Codes of a committee: each member's point, side by side."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from ...errors import ConfigError
from ...parts import part, require
from ..committee import Blocks, Inward, Outward, Together
from ..nets.mlp import Mlp
from .point import PointPosterior

if TYPE_CHECKING:
    from ..model import Flat


class _Seats:
    """Nets that a kind can ask for encoder and decoder: those of all members side by side."""

    def __init__(self, nets: Mlp, members: int, dim: int) -> None:
        self.nets, self.members, self.dim = nets, members, dim

    def encoder(self, shape: tuple[int, ...]) -> tuple[nn.Module, int]:
        sizes = (math.prod(shape), *self.nets.widths, self.dim)
        return Inward(Blocks(self.members, sizes, self.nets.activation, shared=True)), self.members * self.dim

    def decoder(self, dim: int, shape: tuple[int, ...]) -> nn.Module:
        given, out = dim - self.members * self.dim, math.prod(shape)
        sizes = (self.dim + given, *reversed(self.nets.widths), out)
        return Outward(Blocks(self.members, sizes, self.nets.activation, shared=False), self.members, self.dim, out)


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

    Source: out-of-bag estimates are Breiman 1996, of networks of autoencoders Chen et al. 2017 (RandNet).
    """

    members: int = 8
    dim: int = 8
    share: float = 0.5
    mixes = False
    density = False

    def __post_init__(self) -> None:
        require(self.members >= 1, self, "members", "1 or more")
        require(self.dim >= 1, self, "dim", "1 or more")
        require(0 < self.share <= 1, self, "share", "above 0, up to 1")

    def model(self, spec: Any) -> "Flat":
        """The untrained model of a spec. Raises ConfigError for nets that are not fully connected."""
        from ..model import Flat
        from ..priors.base import Host

        nets = spec.nets or spec.kind.nets
        if not isinstance(nets, Mlp):
            raise ConfigError(f"nets {nets.name!r} cannot be a committee's", hint="--set nets=mlp")
        condition = None if spec.condition is None else spec.condition.condition()
        whole, more = self.members * self.dim, 0 if condition is None else condition.width
        built = spec.kind.build(_Seats(nets, self.members, self.dim), whole + more)
        likelihood = Together(built.likelihood, self.members, self.share)
        prior = spec.prior.build(Host(whole, built.features, None, more))
        return Flat(built.encoder, _Head(), prior, built.decoder, likelihood, spec.corruption, condition, whole)
