"""A diagonal Gaussian q(z|x)."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ...parts import part, require
from .base import Posterior

# exp(-9) < scale < exp(4.5): outside, float32 rates overflow before training can react.
LOWEST, HIGHEST = -9.0, 4.5
# How far means lie apart before training. Of 0.3, 0.5 and 1 the smallest had the best bounds on digits and Adult.
SPREAD = 0.3
# By how much log q's width begins below that of the prior. Of 0, 0.5 and 1 the middle one had the best bounds there.
NARROWER = 0.5


@dataclass(frozen=True)
class DiagonalGaussian(Posterior):
    """N(mean, diag(exp(log_scale)²))."""

    location: Tensor  # [b, d]
    log_scale: Tensor  # [b, d]
    kl_weight: float = 1.0

    @property
    def mean(self) -> Tensor:
        return self.location

    @property
    def stddev(self) -> Tensor:
        return self.log_scale.exp()

    def draw(self, noise: Tensor) -> Tensor:
        return self.location + self.stddev * noise

    def moved(self, mean: Tensor, log_width: Tensor) -> "DiagonalGaussian":
        return DiagonalGaussian((self.location - mean) * (-log_width).exp(), self.log_scale - log_width)

    def log_prob(self, z: Tensor) -> Tensor:
        return self.log_prob_dims(z).sum(-1)

    def log_prob_dims(self, z: Tensor, dims: slice = slice(None)) -> Tensor:
        location, log_scale = self.location[:, dims], self.log_scale[:, dims]
        standard = (z[..., dims] - location) / log_scale.exp()
        return -0.5 * standard.square() - log_scale - 0.5 * math.log(2 * math.pi)

    @property
    def entropy(self) -> Tensor:
        return (self.log_scale + 0.5 * math.log(2 * math.pi * math.e)).sum(-1)

    def detached(self) -> "DiagonalGaussian":
        return DiagonalGaussian(self.location.detach(), self.log_scale.detach())

    @property
    def kl_standard(self) -> Tensor:
        return 0.5 * (self.location.square() + (2 * self.log_scale).exp() - 1) - self.log_scale

    def log_prob_pairs(self, z: Tensor) -> Tensor:
        # Two products of matrices instead of n·b·d numbers. About the mean of the means, and in float64 where nobody
        # waits for it: the terms are large, and their sum is not.
        where = self.location.mean(0)
        z, location = z - where, self.location - where
        weight = (-2 * self.log_scale).exp()
        if not torch.is_grad_enabled():
            z, location, weight = z.double(), location.double(), weight.double()
        square = z.square() @ weight.t() - 2 * z @ (location * weight).t() + (location.square() * weight).sum(-1)
        scales = (self.log_scale + 0.5 * math.log(2 * math.pi)).sum(-1)
        return -0.5 * square.to(scales.dtype) - scales


class Head(nn.Module):
    """Features -> q(z|x)."""

    def __init__(self, width: int, dim: int) -> None:
        super().__init__()
        self.both = nn.Linear(width, 2 * dim)  # means, then log scales: one product instead of two

    @torch.no_grad()
    def start(self, h: Tensor) -> None:
        """Before training, from rows with features h [b, width]."""
        telling(self.both, h)

    def forward(self, h: Tensor) -> DiagonalGaussian:
        mean, log_scale = self.both(h).chunk(2, -1)
        return DiagonalGaussian(mean, log_scale.clamp(LOWEST, HIGHEST))


@torch.no_grad()
def telling(both: nn.Linear, h: Tensor) -> None:
    """Start `both`, means and log scales [width -> 2d], so that the code tells rows apart from the first step on.

    Over rows with features h [b, width] each mean then varies by `SPREAD`, and q is narrower than the prior. Where they
    start nearly equal and q as wide as the prior, z is noise, and a decoder of many cells learns in its first steps to
    do without it, for good: pictures of 64×64 pixels stayed at the mean of the data.
    """
    dim = both.out_features // 2
    mean = nn.functional.linear(h, both.weight[:dim], both.bias[:dim])
    spread = mean.std(0, correction=0)
    # A dimension that no row moves, or rows without features, stay as they are.
    scale = torch.where(spread > 1e-6, SPREAD / spread, 1.0)
    both.weight[:dim].mul_(scale[:, None])
    both.bias[:dim].sub_(mean.mean(0)).mul_(scale)
    both.bias[dim:].sub_(NARROWER)


@part("latent", "gaussian")
@dataclass(frozen=True)
class Gaussian:
    """q(z|x) = N(mean, diag(scale²)) in `dim` dimensions."""

    dim: int = 16

    def __post_init__(self) -> None:
        require(self.dim >= 1, self, "dim", "1 or more")

    def build(self, width: int) -> nn.Module:
        """The head on `width` features."""
        return Head(width, self.dim)
