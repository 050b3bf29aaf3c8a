"""A mixture of discretised logistics in each pixel, whose colours depend on each other."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from ...parts import part, require
from .base import Dist, Likelihood
from .discretised_logistic import draw, log_mass, rounded, scale_of


@dataclass(frozen=True)
class LogisticMixtureDist(Dist):
    """p(pixel) = Σ_k w_k Π_c P_k(x_c | x_<c): one component for all channels of a pixel, its locations linear in the
    values of the channels before (k components, c channels, m = c(c-1)/2 pairs of them).

    Cells of one pixel are scored in turn, each given those before it, so that they add up to log p(x). A pixel is
    missing as a whole (the kind's masks say so for all channels at once): its cells are then left out together, which
    is the exact marginal, and no other cell is conditioned on them. With a mask over single channels it would not be.
    """

    log_weight: Tensor  # [..., k, h, w], normalised
    location: Tensor  # [..., k, c, h, w], in [0, 1] where the channels before are at 1/2
    log_scale: Tensor
    slope: Tensor  # [..., k, m, h, w]
    levels: int

    def cells(self, x: Tensor) -> Tensor:
        x = x.unsqueeze(-4)
        log_p = log_mass(x, self._locations(lambda c, _: x.select(-3, c)), self.log_scale, self.levels)
        weight, found = self.log_weight, []
        for each in log_p.unbind(-3):
            joint = weight + each
            found.append(torch.logsumexp(joint, -3))
            weight = joint - found[-1].unsqueeze(-3)  # p(component | the channels until here)
        return torch.stack(found, -3)

    @property
    def mean(self) -> Tensor:
        """Of the clipped logistics before rounding, and of a later channel at the earlier ones' mean: exact to half a
        level where nothing is clipped.
        """
        each: list[Tensor] = []

        def clipped(c: int, location: Tensor) -> Tensor:
            # E[clip(X, 0, 1)] = ∫₀¹ P(X > t) dt, of a logistic a difference of two softplus.
            scale = self.log_scale.select(-3, c).exp()
            each.append(scale * (F.softplus(location / scale) - F.softplus((location - 1) / scale)))
            return each[-1]

        self._locations(clipped)
        return (self.log_weight.exp().unsqueeze(-3) * torch.stack(each, -3)).sum(-4)

    @property
    def mode(self) -> Tensor:
        """Of each cell given the modes of the channels before it, by a look at every level."""
        weight, found = self.log_weight, list[Tensor]()

        def best(c: int, location: Tensor) -> Tensor:
            nonlocal weight
            log_scale = self.log_scale.select(-3, c)
            found.append(_most_probable(weight.exp(), location, log_scale, self.levels))
            joint = weight + log_mass(found[-1].unsqueeze(-3), location, log_scale, self.levels)
            weight = joint - torch.logsumexp(joint, -3, keepdim=True)
            return found[-1].unsqueeze(-3)

        self._locations(best)
        return torch.stack(found, -3)

    @property
    def event_dim(self) -> int:
        return 3

    def sample(self, generator: torch.Generator | None) -> Tensor:
        u = torch.rand(self.log_weight.select(-3, 0).shape, generator=generator, device=self.location.device)
        # Inverse CDF; the last component takes what rounding leaves over.
        edges = self.log_weight.exp().cumsum(-3).narrow(-3, 0, self.log_weight.shape[-3] - 1)
        which = (edges < u.unsqueeze(-3)).sum(-3, keepdim=True)
        found: list[Tensor] = []

        def drawn(c: int, location: Tensor) -> Tensor:
            log_scale = self.log_scale.select(-3, c).gather(-3, which)
            found.append(draw(location.gather(-3, which), log_scale, self.levels, generator))
            return found[-1]

        self._locations(drawn)
        return torch.cat(found, -3)

    def _locations(self, value: Callable[[int, Tensor], Tensor]) -> Tensor:
        """The locations of the channels in turn; `value` gives that of a channel, by its number and location, for those
        after it (eq. 3). [..., k, c, h, w]
        """
        values: list[Tensor] = []
        locations: list[Tensor] = []
        slopes = iter(self.slope.unbind(-3))
        for c, location in enumerate(self.location.unbind(-3)):
            shifted = location
            for before in values:
                shifted = shifted + next(slopes) * (before - 0.5)
            locations.append(shifted)
            values.append(value(c, shifted))
        return torch.stack(locations, -3)


def _most_probable(weight: Tensor, location: Tensor, log_scale: Tensor, levels: int) -> Tensor:
    """The level of the most mass under Σ_k weight_k logistic_k; all [..., k, h, w]. [..., h, w]"""
    inverse = (-log_scale).exp()
    below = torch.zeros_like(location.select(-3, 0))
    best, at = torch.full_like(below, -1.0), torch.zeros_like(below)
    for level in range(levels):
        # Differences of a sum of probabilities: 1e-7 is lost, and the mode of 256 levels has 4e-3 or more.
        edge = (level + 0.5) / (levels - 1)
        up_to = (
            (weight * torch.sigmoid((edge - location) * inverse)).sum(-3)
            if level < levels - 1
            else torch.ones_like(below)
        )
        higher = up_to - below > best
        best, at = torch.where(higher, up_to - below, best), torch.where(higher, float(level), at)
        below = up_to
    return rounded(at / (levels - 1), levels)


class _LogisticMixture(Likelihood):
    def __init__(self, shape: tuple[int, ...], components: int, levels: int) -> None:
        super().__init__()
        c = shape[0]
        self.components, self.levels = components, levels
        self.sizes = [components, components * c, components * c, components * (c * (c - 1) // 2)]
        self.out_shape = (sum(self.sizes), *shape[1:])
        self.register_buffer("continuous", torch.ones(shape, dtype=torch.bool), persistent=False)

    def discrete(self, x: Tensor) -> bool:
        return True

    def start(self, features: Tensor) -> Tensor:
        mean = features.reshape(self.continuous.shape)
        # Components that start in different places learn different things; none outside the range.
        spread = torch.linspace(-1, 1, self.components + 2)[1:-1].to(mean).view(-1, 1, 1, 1)
        location = (mean + spread * torch.minimum(mean, 1 - mean) - 0.5).flatten(0, 1)
        weight, slope = (mean.new_zeros((self.sizes[i], *mean.shape[1:])) for i in (0, 3))
        return torch.cat([weight, location, torch.zeros_like(location), slope])

    def forward(self, params: Tensor) -> LogisticMixtureDist:
        weight, location, log_scale, slope = params.split(self.sizes, -3)
        location, log_scale, slope = (
            t.unflatten(-3, (self.components, -1)) if t.shape[-3] else t.unsqueeze(-4)
            for t in (location, log_scale, slope)
        )
        # Slopes within ±1, as in the authors' own code: beyond, a channel would have to contradict another.
        return LogisticMixtureDist(
            weight.log_softmax(-3), 0.5 + location, scale_of(log_scale), slope.tanh(), self.levels
        )


@part("likelihood", "discretised-logistic-mixture")
@dataclass(frozen=True)
class LogisticMixture:
    """`components` logistics in each pixel, integrated over each of `levels` levels; in colour the location of a
    channel depends linearly on the values of the channels before it.

    Source: Salimans et al. 2017 (arXiv:1701.05517), sec. 2.1 and 2.2, eq. 1–3, who use 10 components. In nats of
    probability, not of density: divide by the number of cells and by log 2 for bits per dimension. A pixel of c
    channels takes components · (1 + 2c + c(c-1)/2) outputs of the decoder.
    """

    components: int = 5
    levels: int = 256

    def __post_init__(self) -> None:
        require(self.components >= 1, self, "components", "1 or more")
        require(self.levels >= 2, self, "levels", "2 or more")

    def build(self, shape: tuple[int, ...]) -> Likelihood:
        """The likelihood of a picture of `shape` (c, h, w)."""
        return _LogisticMixture(shape, self.components, self.levels)
