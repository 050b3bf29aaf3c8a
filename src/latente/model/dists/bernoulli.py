"""Bernoulli cells from logits."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from ...parts import part
from .base import Dist, Likelihood


@dataclass(frozen=True)
class BernoulliDist(Dist):
    """P(x = 1) = sigmoid(logits). A grey value between 0 and 1 is scored by its cross-entropy."""

    logits: Tensor
    dims: int = 1

    def cells(self, x: Tensor) -> Tensor:
        return -F.binary_cross_entropy_with_logits(self.logits, x.expand_as(self.logits), reduction="none")

    @property
    def mean(self) -> Tensor:
        return self.logits.sigmoid()

    @property
    def mode(self) -> Tensor:
        return (self.logits > 0).float()

    @property
    def event_dim(self) -> int:
        return self.dims

    def sample(self, generator: torch.Generator | None) -> Tensor:
        return torch.bernoulli(self.mean, generator=generator)


class _Bernoulli(Likelihood):
    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.out_shape = shape
        self.register_buffer("continuous", torch.zeros(shape, dtype=torch.bool), persistent=False)

    def forward(self, params: Tensor) -> BernoulliDist:
        return BernoulliDist(params, len(self.out_shape))


@part("likelihood", "bernoulli")
@dataclass(frozen=True)
class Bernoulli:
    """Cells that are 0 or 1: binary cross-entropy, in nats."""

    def build(self, shape: tuple[int, ...]) -> Likelihood:
        """The likelihood of cells of `shape`."""
        return _Bernoulli(shape)
