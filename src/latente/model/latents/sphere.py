"""Codes on a sphere: a von Mises–Fisher q(z|x)."""

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...parts import part, require
from .base import Posterior

# The density of w = μ·z is summed over so many points, within so many deviations of its peak, in a coordinate in which
# it is smooth and falls off on both sides: the sum is then exact to some 1e-3 nats (tested against Bessel functions).
POINTS, REACH = 192, 14.0
# exp of these: below, z is uniform to float32; above, 1 − w is lost in rounding.
LOWEST, HIGHEST = -4.0, 9.0


class VonMisesFisher(Posterior):
    """Density C(κ) exp(κ μ·z) on the unit sphere in d dimensions, over its surface."""

    def __init__(self, direction: Tensor, log_kappa: Tensor) -> None:
        self.direction, self.log_kappa = direction, log_kappa  # [b, d] of length 1, [b, 1]

    @property
    def mean(self) -> Tensor:
        """The direction μ, a point of the sphere as codes are. (The mean of z lies inside: E[w] μ.)"""
        return self.direction

    @cached_property
    def stddev(self) -> Tensor:
        """The root of the mean square of a coordinate's distance from E[z], the same in all. [b, d]"""
        s, mass, _ = self._grid
        w = 1 - 2 * (s * mass).sum(-1, keepdim=True)
        return ((1 - w.square()).clamp(min=0) / self.direction.shape[1]).sqrt().expand_as(self.direction)

    @cached_property
    def _grid(self) -> tuple[Tensor, Tensor, Tensor]:
        """Points s = (1 − w)/2 [b, POINTS], their probabilities, and log ∫ exp(κ (w − 1)) dA / A, A the area [b].

        With y = logit(s) the density is s^a (1 − s)^a exp(−2κs), a = (d − 1)/2: log-concave, with its peak where
        s = a / (a + κ + √(κ² + a²)).
        """
        a, kappa = 0.5 * (self.direction.shape[1] - 1), self.log_kappa.exp()
        peak = (a / (a + kappa + (kappa.square() + a * a).sqrt())).detach()
        curve = 2 * peak * (1 - peak) * (a + kappa.detach() * (1 - 2 * peak))
        steps = torch.linspace(-REACH, REACH, POINTS, device=kappa.device)
        # On the left the tail falls off as exp(a y): at least so far must the grid go.
        spread = torch.maximum(curve.rsqrt(), torch.tensor(1.0 / a))
        y = torch.logit(peak) + spread * steps
        log_s, log_rest = F.logsigmoid(y), F.logsigmoid(-y)
        s = log_s.exp()
        height = a * (log_s + log_rest) - 2 * kappa * s
        total = torch.logsumexp(height, -1, keepdim=True)
        log_step = (spread * (steps[1] - steps[0])).log()
        flat = 2 * math.lgamma(a) - math.lgamma(2 * a)  # the integral at κ = 0, the beta function B(a, a)
        return s, (height - total).exp(), (total + log_step).squeeze(-1) - flat

    def draw(self, noise: Tensor) -> Tensor:
        """The first number of the noise chooses w by its distribution function, the others the way off μ."""
        s, mass, _ = self._grid
        below = mass.cumsum(-1) - 0.5 * mass
        u = 0.5 * (1 + torch.erf(noise[..., :1] / math.sqrt(2)))
        u = u.expand(*u.shape[:-2], len(s), 1) if u.shape[-2] == 1 else u  # [samples, b, 1]
        at = torch.searchsorted(below.expand(*u.shape[:-1], POINTS).contiguous(), u.contiguous()).clamp(1, POINTS - 1)
        left, right = (below.expand(*u.shape[:-1], POINTS).gather(-1, at - i) for i in (1, 0))
        low, high = (s.expand(*u.shape[:-1], POINTS).gather(-1, at - i) for i in (1, 0))
        # Between two points s is a line in the distribution function, whose ends depend on κ: that is its gradient.
        share = ((u - left) / (right - left).clamp(min=1e-12)).clamp(0, 1)
        chosen = low + share * (high - low)
        w, across = 1 - 2 * chosen, 2 * (chosen * (1 - chosen)).clamp(min=1e-12).sqrt()
        off = F.normalize(noise[..., 1:], dim=-1, eps=1e-12)
        pole = torch.cat([w, (across * off).expand(*w.shape[:-1], off.shape[-1])], -1)
        # The reflection that sends the first axis to μ (Ulrich's Householder step).
        first = F.one_hot(torch.zeros((), dtype=torch.long, device=w.device), self.direction.shape[1])
        mirror = F.normalize(first - self.direction, dim=-1, eps=1e-12)
        return pole - 2 * (pole * mirror).sum(-1, keepdim=True) * mirror

    def log_prob(self, z: Tensor) -> Tensor:
        w = (z * self.direction).sum(-1)
        return self.log_kappa.exp().squeeze(-1) * (w - 1) - self._grid[2] - log_area(self.direction.shape[1])

    @property
    def entropy(self) -> Tensor:
        """−E log q. [b]"""
        s, mass, log_z = self._grid
        return 2 * self.log_kappa.exp().squeeze(-1) * (s * mass).sum(-1) + log_z + log_area(self.direction.shape[1])

    def detached(self) -> "VonMisesFisher":
        return VonMisesFisher(self.direction.detach(), self.log_kappa.detach())


def log_area(dim: int) -> float:
    """log of the unit sphere's surface in `dim` dimensions."""
    return math.log(2) + 0.5 * dim * math.log(math.pi) - math.lgamma(0.5 * dim)


class _Head(nn.Module):
    def __init__(self, width: int, dim: int) -> None:
        super().__init__()
        self.direction, self.log_kappa = nn.Linear(width, dim), nn.Linear(width, 1)

    def forward(self, h: Tensor) -> VonMisesFisher:
        # A start at κ = d: neither uniform nor a point.
        log_kappa = self.log_kappa(h) + math.log(self.direction.out_features)
        return VonMisesFisher(F.normalize(self.direction(h), dim=-1), log_kappa.clamp(LOWEST, HIGHEST))

    def snap(self, z: Tensor) -> Tensor:
        """The point of the sphere in the direction of z. [..., d]"""
        return F.normalize(z, dim=-1)


@part("latent", "sphere")
@dataclass(frozen=True)
class Sphere:
    """q(z|x) = von Mises–Fisher on the unit sphere in `dim` dimensions, with one concentration κ a row: no point of the
    sphere is its middle, so nothing pulls codes together. Goes with prior `uniform`.

    Source: Davidson et al. 2018 (arXiv:1804.00891), eq. 1–4. Their draws come from rejection; ours from the inverse of
    the distribution function of μ·z, on a grid: a draw is then a function of fixed noise, and κ has its gradient.
    """

    dim: int = 16
    support = "points of a sphere"
    least = 2

    def __post_init__(self) -> None:
        require(self.dim >= 2, self, "dim", "2 or more")

    def build(self, width: int) -> nn.Module:
        """The head on `width` features."""
        return _Head(width, self.dim)
