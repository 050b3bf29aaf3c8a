"""A diagonal Gaussian q(z|x) whose means are normalised, so that it cannot collapse."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...parts import part, require
from .gaussian import LOWEST, DiagonalGaussian

# How fast the running moments follow the batches', and below which variance a mean is not stretched any more.
FOLLOW, LEAST = 0.05, 1e-6
# How near q's width begins to the widest: softplus(-2) = .13 below its log.
NEAR = 2.0


class _Normed(nn.Module):
    """Features -> q(z|x); the means of a batch have mean 0 and standard deviation `spread` in every dimension."""

    floored = True  # a KL above 0 is built in: a floor under it is not needed
    mean: Tensor
    variance: Tensor

    def __init__(self, width: int, dim: int, spread: float) -> None:
        super().__init__()
        self.both, self.spread = nn.Linear(width, 2 * dim), spread
        self.widest = 0.5 * math.log1p(-(spread**2))
        self.shift = nn.Parameter(torch.zeros(dim))
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("variance", torch.ones(dim))

    @torch.no_grad()
    def start(self, h: Tensor) -> None:
        """Before training, from rows with features h [b, width]."""
        self.settle(h)
        self.both.bias[len(self.mean) :].sub_(NEAR)

    @torch.no_grad()
    def settle(self, h: Tensor) -> None:
        """When training is over, from rows with features h [b, width]: their moments are the ones that are kept."""
        mean = self.both(h).chunk(2, -1)[0]
        self.mean.copy_(mean.mean(0))
        self.variance.copy_(mean.var(0, correction=0))

    def forward(self, h: Tensor) -> DiagonalGaussian:
        found, log_scale = self.both(h).chunk(2, -1)
        mean, variance = self.mean, self.variance
        if self.training:
            mean, variance = found.mean(0), found.var(0, correction=0)
            self.mean.lerp_(mean.detach(), FOLLOW)
            self.variance.lerp_(variance.detach(), FOLLOW)
        normed = (found - mean) * (self.spread * (variance + LEAST).rsqrt()) + self.shift
        return DiagonalGaussian(normed, (self.widest - F.softplus(log_scale)).clamp(min=LOWEST))


@part("latent", "normed")
@dataclass(frozen=True)
class Normed:
    """q(z|x) = N(mean, diag(scale²)) in `dim` dimensions, with means that vary by `spread` over rows, in each of them,
    and a scale² of at most 1 − spread²: so that the codes of all rows together are about as wide as the prior.

    Then the KL is at least −½·dim·log(1 − spread²) on average over rows, and what the code says of a row about as much,
    whatever the decoder knows without one: what is left to learn is what the code says.

    Source: Zhu et al. 2020 (arXiv:2004.12585), eq. 7, with a fixed scale and a learned shift. The bound on q's width is
    ours: without it the KL is spent on where the codes lie, and the code says half as much.
    """

    dim: int = 32
    spread: float = 0.65

    def __post_init__(self) -> None:
        require(self.dim >= 1, self, "dim", "1 or more")
        require(0 < self.spread < 1, self, "spread", "between 0 and 1")

    def build(self, width: int) -> nn.Module:
        """The head on `width` features."""
        return _Normed(width, self.dim, self.spread)
