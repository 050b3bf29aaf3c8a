"""A prior of independent dimensions that gives cells of width 1 their mass: for codes sent as whole numbers."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...parts import part, require
from .base import Host, PriorModule

# The narrowest and the widest logistic, in logs: far inside a cell, and far beyond any code.
NARROWEST, WIDEST = -5.0, 9.0


class _Cells(PriorModule):
    def __init__(self, dim: int, components: int) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(dim, components))
        self.means = nn.Parameter(
            torch.linspace(-2, 2, components).repeat(dim, 1) if components > 1 else torch.zeros(dim, 1)
        )
        self.log_scales = nn.Parameter(torch.zeros(dim, components))

    def log_prob(self, z: Tensor) -> Tensor:
        scale = self.log_scales.clamp(NARROWEST, WIDEST).exp()
        # Of the side nearer to the mean both logarithms are about 0: the other side's keep their digits.
        x = -(z.unsqueeze(-1) - self.means).abs()
        high, low = (x + 0.5) / scale, (x - 0.5) / scale
        # log(σ(high) − σ(low)) = log σ(high) + log σ(−low) + log(1 − e^(low − high))
        cell = F.logsigmoid(high) + F.logsigmoid(-low) + torch.log(-torch.expm1(-1 / scale))
        return torch.logsumexp(cell + self.logits.log_softmax(-1), -1).sum(-1)

    def sample(self, n: int, generator: torch.Generator | None) -> Tensor:
        d = len(self.logits)
        which = torch.multinomial(self.logits.softmax(-1), n, replacement=True, generator=generator).t()  # [n, d]
        at = torch.arange(d, device=which.device)
        u = torch.rand((2, n, d), generator=generator, device=which.device)
        logistic = torch.logit(u[0].clamp(1e-6, 1 - 1e-6))
        scale = self.log_scales.clamp(NARROWEST, WIDEST).exp()
        return self.means[at, which] + scale[at, which] * logistic + u[1] - 0.5


@part("prior", "cells")
@dataclass(frozen=True)
class Cells:
    """p(z) of each dimension a mixture of logistics, blurred by a cell of width 1: its density at a whole number is the
    mass of that number's cell, so −log p(z) of rounded codes is what an entropy coder needs for them.

    Source: Ballé et al. 2018 (arXiv:1802.01436), app. 6.1, with logistics for the learned distribution function.
    """

    components: int = 3

    def __post_init__(self) -> None:
        require(self.components >= 1, self, "components", "1 or more")

    def build(self, host: Host) -> PriorModule:
        """The prior of a model."""
        return _Cells(host.dim, self.components)
