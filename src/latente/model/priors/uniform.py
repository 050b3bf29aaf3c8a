"""The uniform prior on a sphere."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from ...parts import part
from ..latents.sphere import log_area
from ..noise import standard_normal
from .base import Host, PriorModule


class _Uniform(PriorModule):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim

    def log_prob(self, z: Tensor) -> Tensor:
        return z.new_full(z.shape[:-1], -log_area(self.dim))

    def sample(self, n: int, generator: torch.Generator | None) -> Tensor:
        return F.normalize(standard_normal(n, self.dim, generator), dim=-1)


@part("prior", "uniform")
@dataclass(frozen=True)
class Uniform:
    """Every point of the unit sphere alike: the prior of latent `sphere`. Densities are over its surface."""

    support = "points of a sphere"

    def build(self, host: Host) -> PriorModule:
        """The prior of a model."""
        return _Uniform(host.dim)
