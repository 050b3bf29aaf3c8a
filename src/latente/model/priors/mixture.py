"""A mixture of diagonal Gaussians as prior, learned with the model."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ...parts import part, require
from .base import Host, PriorModule


class _Mixture(PriorModule):
    def __init__(self, dim: int, components: int) -> None:
        super().__init__()
        # Spread like draws of N(0, I), so that the components do not start as one.
        self.means = nn.Parameter(torch.randn(components, dim))
        self.log_scales = nn.Parameter(torch.zeros(components, dim))
        self.logits = nn.Parameter(torch.zeros(components))

    def log_prob(self, z: Tensor) -> Tensor:
        log_scales = self.log_scales.clamp(-9.0, 4.5)
        standard = (z.unsqueeze(-2) - self.means) * (-log_scales).exp()
        each = (-0.5 * standard.square() - log_scales - 0.5 * math.log(2 * math.pi)).sum(-1)
        return torch.logsumexp(each + self.logits.log_softmax(-1), -1)

    def sample(self, n: int, generator: torch.Generator | None) -> Tensor:
        which = torch.multinomial(self.logits.softmax(-1), n, replacement=True, generator=generator)
        noise = torch.randn((n, self.means.shape[1]), generator=generator, device=self.means.device)
        return self.means[which] + self.log_scales.clamp(-9.0, 4.5).exp()[which] * noise


@part("prior", "mixture")
@dataclass(frozen=True)
class Mixture:
    """p(z) = Σ_k w_k N(m_k, diag(s_k²)), learned jointly. Its KL is estimated from the draws of q."""

    components: int = 20

    def __post_init__(self) -> None:
        require(self.components >= 1, self, "components", "1 or more")

    def build(self, host: Host) -> PriorModule:
        """The prior of a model."""
        return _Mixture(host.dim, self.components)
