"""A q(z|x) that stands for rounding: codes that will be sent as whole numbers."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ...parts import part, require
from .base import Posterior


@dataclass(frozen=True)
class Cell(Posterior):
    """Uniform on [location − 1/2, location + 1/2] in each dimension: what rounding does to a location, on average."""

    location: Tensor  # [b, d]

    @property
    def mean(self) -> Tensor:
        return self.location

    @property
    def stddev(self) -> Tensor:
        return torch.full_like(self.location, 1 / math.sqrt(12))

    def draw(self, noise: Tensor) -> Tensor:
        return self.location + torch.special.ndtr(noise) - 0.5

    def log_prob(self, z: Tensor) -> Tensor:
        # What float32 adds to the edge of a cell is inside.
        inside = ((z - self.location).abs() <= 0.5 + 1e-5 * (1 + z.abs())).all(-1)
        return torch.where(inside, 0.0, -math.inf)

    @property
    def entropy(self) -> Tensor:
        return self.location.new_zeros(len(self.location))

    def detached(self) -> "Cell":
        return Cell(self.location.detach())


class Head(nn.Module):
    """Features -> q(z|x)."""

    def __init__(self, width: int, dim: int) -> None:
        super().__init__()
        self.mean = nn.Linear(width, dim)

    @torch.no_grad()
    def start(self, h: Tensor) -> None:
        """Before training, from rows with features h [b, width]: codes that differ by about two cells."""
        mean = self.mean(h)
        spread = mean.std(0, correction=0)
        scale = torch.where(spread > 1e-6, 2.0 / spread, 1.0)
        self.mean.weight.mul_(scale[:, None])
        self.mean.bias.sub_(mean.mean(0)).mul_(scale)

    def forward(self, h: Tensor) -> Cell:
        return Cell(self.mean(h))


@part("latent", "rounded")
@dataclass(frozen=True)
class Rounded:
    """q(z|x) uniform on a cell of width 1 in `dim` dimensions: trained so, codes lose little when they are rounded.

    −ELBO is then what a two-part message takes, whole numbers under p(z) and the row given them, up to what rounding
    to the nearest differs from rounding at random. Goes best with prior "cells".
    Source: Ballé, Laparra & Simoncelli 2017 (arXiv:1611.01704), sec. 3.
    """

    mixes = False  # a density with sharp edges cannot be a component of a prior

    dim: int = 16

    def __post_init__(self) -> None:
        require(self.dim >= 1, self, "dim", "1 or more")

    def build(self, width: int) -> nn.Module:
        """The head on `width` features."""
        return Head(width, self.dim)
