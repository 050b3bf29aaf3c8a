"""The standard normal prior."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ...parts import part
from ..latents.base import Posterior
from ..noise import standard_normal
from .base import Host, PriorModule


class StandardNormal(PriorModule):
    """N(0, I)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim

    def log_prob(self, z: Tensor) -> Tensor:
        return -0.5 * (z.square() + math.log(2 * math.pi)).sum(-1)

    def sample(self, n: int, generator: torch.Generator | None) -> Tensor:
        return standard_normal(n, self.dim, generator)

    def kl_dims(self, q: Posterior) -> Tensor | None:
        return q.kl_standard


@part("prior", "standard")
@dataclass(frozen=True)
class Standard:
    """p(z) = N(0, I). The KL of a Gaussian q has a closed form (Kingma & Welling 2014, arXiv:1312.6114, app. B)."""

    def build(self, host: Host) -> PriorModule:
        """The prior of a model."""
        return StandardNormal(host.dim)
