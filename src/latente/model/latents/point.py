"""A point: q(z|x) puts everything on one value, as in a plain autoencoder."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ...errors import ConfigError
from ...parts import part, require
from .base import Posterior


@dataclass(frozen=True)
class PointPosterior(Posterior):
    """z = value, without a density."""

    value: Tensor  # [b, d]
    has_density = False

    @property
    def mean(self) -> Tensor:
        return self.value

    @property
    def stddev(self) -> Tensor:
        return torch.zeros_like(self.value)

    def sample(self, samples: int, generator: torch.Generator | None) -> Tensor:
        return self.value.expand(samples, *self.value.shape)

    def draw(self, noise: Tensor) -> Tensor:
        return self.value.expand(len(noise), *self.value.shape)

    def log_prob(self, z: Tensor) -> Tensor:
        raise ConfigError("a point latent has no density log q(z|x)", hint="use latent 'gaussian'")


class Head(nn.Module):
    """Features -> the point."""

    def __init__(self, width: int, dim: int) -> None:
        super().__init__()
        self.value = nn.Linear(width, dim)

    def forward(self, h: Tensor) -> PointPosterior:
        return PointPosterior(self.value(h))


@part("latent", "point")
@dataclass(frozen=True)
class Point:
    """A deterministic code of `dim` numbers."""

    dim: int = 16
    mixes = False
    density = False

    def __post_init__(self) -> None:
        require(self.dim >= 1, self, "dim", "1 or more")

    def build(self, width: int) -> nn.Module:
        """The head on `width` features."""
        return Head(width, self.dim)
