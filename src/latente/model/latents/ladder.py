"""Latents in levels, each told those above it."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import nn

from ...errors import ConfigError
from ...parts import part, require
from ..nets.trunk import Trunk

if TYPE_CHECKING:
    from ..ladder import Ladder as Model


class _Rungs:
    """Nets that a kind can ask for encoder and decoder, and that give it both halves of a ladder."""

    def __init__(self, nets: Any, levels: int) -> None:
        from ..ladder import Climb

        self.nets, self.levels, self.climb = nets, levels, Climb()
        self.shape: tuple[int, ...] = ()
        self.trunk: Trunk | None = None

    def encoder(self, shape: tuple[int, ...]) -> tuple[nn.Module, int]:
        self.shape = shape
        return self.climb, 0

    def decoder(self, dim: int, shape: tuple[int, ...]) -> nn.Module:
        self.trunk = self.nets.ladder(self.shape, shape, self.levels)
        self.climb.blocks = self.trunk.up
        return self.trunk.out


@part("latent", "ladder")
@dataclass(frozen=True)
class Ladder:
    """q(z|x) and p(z) in `levels` levels from the top down, each told what was drawn above it; both share the nets on
    the way down.

    dim: numbers of z at a level that is a vector: all levels of tables, the top of pictures. channels: of z at each
    place of a level that is a grid. A code is all levels' numbers in units of their prior, p(code) = N(0, I).

    Source: Sønderby et al. 2016 (arXiv:1602.02282), sec. 2; q relative to p as in Vahdat & Kautz 2020
    (arXiv:2007.03898), eq. 2–3.
    """

    levels: int = 3
    dim: int = 16
    channels: int = 8
    mixes = False

    def __post_init__(self) -> None:
        require(2 <= self.levels <= 12, self, "levels", "2 to 12")
        require(self.dim >= 1, self, "dim", "1 or more")
        require(self.channels >= 1, self, "channels", "1 or more")

    def model(self, spec: Any) -> "Model":
        """The untrained model of a spec. Raises ConfigError for nets that cannot carry a ladder."""
        from ..ladder import Ladder as Model
        from ..priors.base import Host

        nets = spec.nets or spec.kind.nets
        if not hasattr(nets, "ladder"):
            raise ConfigError(f"nets {nets.name!r} cannot carry a ladder", hint="--set nets=mlp, or conv for pictures")
        rungs = _Rungs(nets, self.levels)
        built = spec.kind.build(rungs, 0)
        assert rungs.trunk is not None
        sizes = [self.dim if len(s) == 1 or s[1:] == (1, 1) else self.channels for s in rungs.trunk.shapes]
        condition = None if spec.condition is None else spec.condition.condition()
        places = (math.prod(shape[1:]) for shape in rungs.trunk.shapes)
        prior = spec.prior.build(Host(sum(z * n for z, n in zip(sizes, places, strict=True))))
        return Model(built.encoder, rungs.trunk, sizes, prior, built.likelihood, spec.corruption, condition)
