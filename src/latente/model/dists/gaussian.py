"""Gaussian cells, with the scale in closed form (σ-VAE), learned, or fixed."""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from ...parts import part, require
from ..batch import Batch
from .base import Dist, Likelihood, as_mask

# A scale below a thousandth of a column's own spread is rounding of the data, not knowledge of the model;
# without a floor, duplicated or quantised columns drive the density to infinity.
FLOOR = 1e-3


@dataclass(frozen=True)
class GaussianDist(Dist):
    """N(location, scale²) in each cell."""

    location: Tensor  # [..., *cells]
    scale: Tensor  # broadcastable to location
    dims: int = 1

    def cells(self, x: Tensor) -> Tensor:
        return -0.5 * ((x - self.location) / self.scale).square() - self.scale.log() - 0.5 * math.log(2 * math.pi)

    @property
    def mean(self) -> Tensor:
        return self.location

    @property
    def mode(self) -> Tensor:
        return self.location

    @property
    def event_dim(self) -> int:
        return self.dims

    def sample(self, generator: torch.Generator | None) -> Tensor:
        noise = torch.randn(self.location.shape, generator=generator, device=self.location.device)
        return self.location + self.scale * noise


class _Gaussian(Likelihood):
    variance: Tensor  # of a closed-form scale
    seen: Tensor  # batches since the last restart

    def __init__(self, shape: tuple[int, ...], scale: str, per: str) -> None:
        super().__init__()
        self.out_shape, self.scale, self.measured = shape, scale, scale == "closed-form"
        # Per column for tables, per channel for series; one scale for all pixels of a picture.
        sizes = {"cell": shape, "channel": (*shape[:1], *(1,) * len(shape[1:])), "row": (1,) * len(shape)}
        size, self.per = sizes[per], per
        self.register_buffer("continuous", torch.ones(shape, dtype=torch.bool), persistent=False)
        if scale == "learned":
            self.log_scale = nn.Parameter(torch.zeros(size))
        if scale == "closed-form":
            self.register_buffer("variance", torch.ones(size))
            self.register_buffer("seen", torch.zeros(()), persistent=False)

    def forward(self, params: Tensor) -> GaussianDist:
        if self.scale == "learned":
            scale = self.log_scale.clamp(min=math.log(FLOOR)).exp()
        elif self.scale == "closed-form":
            scale = self.variance.sqrt()
        else:
            scale = params.new_ones((1,) * len(self.out_shape))
        return GaussianDist(params, scale, len(self.out_shape))

    def descend(self, params: Tensor, target: Batch, gradient: Tensor) -> Tensor:
        if target.observed is not None or self.scale == "learned" or self.per == "channel":
            return super().descend(params, target, gradient)
        x, n, variance = target.x.flatten(1), len(params), torch.ones(())
        if self.scale == "closed-form":
            variance = self.variance.flatten().clone()
        torch.sub(params, x, out=gradient)
        square = gradient.square()
        constant = 0.5 * x.shape[1] * (variance.log().mean() + math.log(2 * math.pi))
        if variance.numel() == 1:
            total = square.sum()
            rec = 0.5 * total / (n * variance.squeeze()) + constant
            error = total / square.numel()
        else:
            error = square.mean(0)
            rec = 0.5 * (error / variance).sum() + constant
        gradient.div_(n * variance)
        self._follow(error)
        return rec

    @torch.no_grad()
    def observe(self, px: Dist, target: Batch) -> None:
        """Follow the mean squared error: at its optimum σ² equals it, and the loss has the same gradient."""
        if self.scale != "closed-form":
            return
        error = (target.x - px.mean).square()  # [s, b, *cells]
        mask = as_mask(target).expand_as(error)
        axes = {"cell": (0, 1), "channel": (0, 1, *range(3, error.dim())), "row": tuple(range(error.dim()))}[self.per]
        count = mask.sum(axes)
        self._follow((error * mask).sum(axes) / count.clamp(min=1), count > 0)

    def _follow(self, mean: Tensor, known: Tensor | bool = True) -> None:
        """A batch's mean squared errors, where any were seen, enter the running ones."""
        if self.scale != "closed-form":
            return
        # The first batches count fully; later ones are averaged over about a hundred steps.
        rate = (1 / (self.seen + 1)).clamp(min=0.01)
        rate = (rate * known).expand(self.variance.numel()).reshape(self.variance.shape)
        self.variance.lerp_(mean.reshape(self.variance.shape), rate).clamp_(min=FLOOR**2)
        self.seen += 1

    def restart(self) -> None:
        if self.scale == "closed-form":
            self.seen.zero_()


@part("likelihood", "gaussian")
@dataclass(frozen=True)
class Gaussian:
    """N(mean, σ²): squared error in nats.

    scale "closed-form": σ² is the mean squared error itself, followed as a running mean (Rybkin, Daniilidis & Levine
    2021, arXiv:2006.13202, σ-VAE). "learned": a parameter. "unit": σ = 1, the plain squared error.
    per "cell": a scale for each column; "channel": for each entry of the first dimension; "row": one for all cells.
    """

    scale: Literal["closed-form", "learned", "unit"] = "closed-form"
    per: Literal["cell", "channel", "row"] = "row"

    def __post_init__(self) -> None:
        require(self.scale in ("closed-form", "learned", "unit"), self, "scale", "'closed-form', 'learned' or 'unit'")

    def build(self, shape: tuple[int, ...]) -> Likelihood:
        """The likelihood of cells of `shape`."""
        return _Gaussian(shape, self.scale, self.per)
