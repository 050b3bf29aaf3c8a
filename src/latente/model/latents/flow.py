"""A posterior of any shape: a Gaussian sent through an invertible net that is told the row."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ...parts import part, require
from ..flows import RealNVP
from .base import Posterior
from .gaussian import HIGHEST, LOWEST, telling

# Draws, half of them mirrored, of which the mean and the deviation of a row's code are made.
DRAWS = 32


class FlowPosterior(Posterior):
    """z = f(location + exp(log_scale) · noise; the row), f invertible."""

    def __init__(self, location: Tensor, log_scale: Tensor, flow: RealNVP, told: Tensor) -> None:
        self.location, self.log_scale, self.flow, self.told = location, log_scale, flow, told
        self._last: tuple[Tensor, Tensor] | None = None
        self._known: tuple[Tensor, Tensor] | None = None

    @property
    def mean(self) -> Tensor:
        """Estimated from 32 draws that are the same at every call. [b, d]"""
        return self._moments()[0]

    @property
    def stddev(self) -> Tensor:
        return self._moments()[1]

    @torch.no_grad()
    def _moments(self) -> tuple[Tensor, Tensor]:
        if self._known is None:
            device = self.location.device
            half = torch.randn((DRAWS // 2, 1, self.location.shape[1]), generator=torch.Generator().manual_seed(0))
            z = self._draw(torch.cat([half, -half]).to(device))[0]
            self._known = z.mean(0), z.std(0)
        return self._known

    @property
    def like(self) -> Tensor:
        return self.location

    def draw(self, noise: Tensor) -> Tensor:
        # Its density comes with the draw; asked for another z, it is found by going back.
        self._last = self._draw(noise)
        return self._last[0]

    def log_prob(self, z: Tensor) -> Tensor:
        if self._last is not None and z is self._last[0]:
            return self._last[1]
        base, log_det = self.flow.inverse(z, self.told)
        return self._base((base - self.location) / self.log_scale.exp()) + log_det

    def _draw(self, noise: Tensor) -> tuple[Tensor, Tensor]:
        z, log_det = self.flow(self.location + self.log_scale.exp() * noise, self.told)
        return z, self._base(noise) - log_det

    def _base(self, standard: Tensor) -> Tensor:
        return (-0.5 * standard.square() - self.log_scale - 0.5 * math.log(2 * math.pi)).sum(-1)


class _Head(nn.Module):
    def __init__(self, width: int, dim: int, couplings: int, hidden: int) -> None:
        super().__init__()
        self.both = nn.Linear(width, 2 * dim)
        self.told = nn.Linear(width, hidden)
        self.flow = RealNVP(dim, couplings, hidden, given=hidden)

    def start(self, h: Tensor) -> None:
        """Before training, from rows with features h [b, width]."""
        telling(self.both, h)

    def forward(self, h: Tensor) -> FlowPosterior:
        mean, log_scale = self.both(h).chunk(2, -1)
        return FlowPosterior(mean, log_scale.clamp(LOWEST, HIGHEST), self.flow, self.told(h).tanh())


@part("latent", "flow")
@dataclass(frozen=True)
class Flow:
    """q(z|x): a Gaussian in `dim` dimensions sent through `couplings` RealNVP layers of `width` that are told the row's
    features.

    Source: Rezende & Mohamed 2015 (arXiv:1505.05770), eq. 14, with couplings as in Dinh et al. 2017 (arXiv:1605.08803).
    It can follow what a Gaussian cannot, at the cost of a net between encoder and z; the KL is estimated from draws.
    """

    dim: int = 16
    couplings: int = 4
    width: int = 64
    sampled = True  # the mean is made of draws, and has no gradient

    def __post_init__(self) -> None:
        require(self.dim >= 1, self, "dim", "1 or more")
        require(self.couplings >= 1, self, "couplings", "1 or more")
        require(self.width >= 1, self, "width", "1 or more")

    def build(self, width: int) -> nn.Module:
        """The head on `width` features."""
        return _Head(width, self.dim, self.couplings, self.width)
