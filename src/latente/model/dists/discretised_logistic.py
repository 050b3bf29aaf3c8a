"""Discretised logistic cells: a proper probability for each of a picture's levels."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ...parts import part, require
from .base import Dist, Likelihood


class _LogMass(torch.autograd.Function):
    """`log_mass`, with its derivatives written out beside it: two thirds of the time of recorded operations."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, location: Tensor, log_scale: Tensor, levels: int) -> Tensor:
        half = 0.5 / (levels - 1)
        # The lowest level has no lower edge and the highest no upper one.
        above, below = (x <= 1 - half).to(x), (x >= half).to(x)
        inner = above * below
        inverse = (-log_scale).exp()
        centred = x - location
        upper, lower, width = inverse * (centred + half), inverse * (centred - half), 2 * half * inverse
        # log(σ(u) - σ(l)) without cancellation: log σ(u) + log σ(-l) + log(1 - e^(l-u)).
        mass = torch.log(-torch.expm1(-width)).mul_(inner)
        mass.sub_(F.softplus(-upper).mul_(above)).sub_(F.softplus(lower).mul_(below))
        if any(ctx.needs_input_grad):
            rise, fall = torch.sigmoid(-upper).mul_(above), torch.sigmoid(lower).mul_(below)
            by_scale = lower.mul_(fall).sub_(upper.mul_(rise)).sub_(width.div_(torch.expm1(width)).mul_(inner))
            ctx.save_for_backward(fall.sub_(rise).mul_(inverse), by_scale)
        return mass

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Any:
        by_location, by_scale = ctx.saved_tensors
        return None, by_location * gradient, by_scale * gradient, None


def log_mass(x: Tensor, location: Tensor, log_scale: Tensor, levels: int) -> Tensor:
    """log P(x) of a logistic integrated from half a level below x to half a level above; the ends take the tails.

    x in [0, 1]; location and log_scale of one shape. Finite, with a gradient, however far x lies from the location
    (Salimans et al. 2017, eq. 2).
    """
    return _LogMass.apply(x, location, log_scale, levels)


def scale_of(output: Tensor) -> Tensor:
    """The log scale that a decoder's output stands for."""
    # exp(-7) is a quarter of a level of 256: narrower changes nothing but the risk of overflow. An output of 0
    # starts with a scale of a tenth of the range.
    return (output - math.log(10)).clamp(-7.0, 2.0)


def draw(location: Tensor, log_scale: Tensor, levels: int, generator: torch.Generator | None) -> Tensor:
    """A level of each logistic."""
    u = torch.rand(location.shape, generator=generator, device=location.device).clamp(1e-6, 1 - 1e-6)
    return rounded(location + log_scale.exp() * torch.logit(u), levels)


def rounded(x: Tensor, levels: int) -> Tensor:
    """The level in [0, 1] that is nearest to x."""
    return (x.clamp(0, 1) * (levels - 1)).round() / (levels - 1)


@dataclass(frozen=True)
class DiscretisedLogisticDist(Dist):
    """P(level) is the logistic's mass between half a level below and half a level above; the ends take the tails."""

    location: Tensor  # [..., *cells], in [0, 1]
    log_scale: Tensor
    levels: int

    def cells(self, x: Tensor) -> Tensor:
        return log_mass(x, self.location, self.log_scale, self.levels)

    @property
    def mean(self) -> Tensor:
        return self.location.clamp(0, 1)

    @property
    def mode(self) -> Tensor:
        return rounded(self.location, self.levels)

    @property
    def event_dim(self) -> int:
        return 3

    def sample(self, generator: torch.Generator | None) -> Tensor:
        return draw(self.location, self.log_scale, self.levels, generator)


class _DiscretisedLogistic(Likelihood):
    def __init__(self, shape: tuple[int, ...], levels: int) -> None:
        super().__init__()
        self.levels = levels
        self.out_shape = (2 * shape[0], *shape[1:])
        self.register_buffer("continuous", torch.ones(shape, dtype=torch.bool), persistent=False)

    def discrete(self, x: Tensor) -> bool:
        return True

    def start(self, features: Tensor) -> Tensor:
        location = features.reshape(self.continuous.shape) - 0.5
        return torch.cat([location, torch.zeros_like(location)])

    def forward(self, params: Tensor) -> DiscretisedLogisticDist:
        location, log_scale = params.chunk(2, -len(self.out_shape))
        # An output of 0 starts in the middle of the range.
        return DiscretisedLogisticDist(0.5 + location, scale_of(log_scale), self.levels)


@part("likelihood", "discretised-logistic")
@dataclass(frozen=True)
class DiscretisedLogistic:
    """A logistic with learned location and scale in each cell, integrated over each of `levels` levels.

    Source: Salimans et al. 2017 (arXiv:1701.05517), eq. 2, with one component. In nats of probability, not of density:
    divide by the number of cells and by log 2 for bits per dimension.
    """

    levels: int = 256

    def __post_init__(self) -> None:
        require(self.levels >= 2, self, "levels", "2 or more")

    def build(self, shape: tuple[int, ...]) -> Likelihood:
        """The likelihood of a picture of `shape` (c, h, w)."""
        return _DiscretisedLogistic(shape, self.levels)
