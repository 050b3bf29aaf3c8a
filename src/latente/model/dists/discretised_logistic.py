"""Discretised logistic cells: a proper probability for each of a picture's levels."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from ...parts import part, require
from .base import Dist, Likelihood


@dataclass(frozen=True)
class DiscretisedLogisticDist(Dist):
    """P(level) is the logistic's mass between half a level below and half a level above; the ends take the tails."""

    location: Tensor  # [..., *cells], in [0, 1]
    log_scale: Tensor
    levels: int

    def cells(self, x: Tensor) -> Tensor:
        half = 0.5 / (self.levels - 1)
        inverse = (-self.log_scale).exp()
        centred = x - self.location
        upper, lower = inverse * (centred + half), inverse * (centred - half)
        # log(σ(u) - σ(l)) without cancellation: log σ(u) + log σ(-l) + log(1 - e^(l-u)).
        middle = F.logsigmoid(upper) + F.logsigmoid(-lower) + torch.log(-torch.expm1(-2 * half * inverse))
        first, last = x < half, x > 1 - half
        return torch.where(first, F.logsigmoid(upper), torch.where(last, F.logsigmoid(-lower), middle))

    @property
    def mean(self) -> Tensor:
        return self.location.clamp(0, 1)

    @property
    def mode(self) -> Tensor:
        return self._rounded(self.location)

    @property
    def event_dim(self) -> int:
        return 3

    def sample(self, generator: torch.Generator | None) -> Tensor:
        u = torch.rand(self.location.shape, generator=generator, device=self.location.device).clamp(1e-6, 1 - 1e-6)
        return self._rounded(self.location + self.log_scale.exp() * torch.logit(u))

    def _rounded(self, x: Tensor) -> Tensor:
        return (x.clamp(0, 1) * (self.levels - 1)).round() / (self.levels - 1)


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
        # exp(-7) is a quarter of a level of 256: narrower changes nothing but the risk of overflow. An output of 0
        # starts in the middle of the range with a scale of a tenth of it.
        return DiscretisedLogisticDist(0.5 + location, (log_scale - math.log(10)).clamp(-7.0, 2.0), self.levels)


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
