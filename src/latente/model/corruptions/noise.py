"""Gaussian noise."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ...parts import part, require
from .. import sparse
from ..batch import Batch
from ..noise import normal


@part("corruption", "noise")
@dataclass(frozen=True)
class Noise:
    """Add N(0, std²) to the real cells; `std` is in the model's units, where a column's spread is about 1 and a
    pixel's range is 0 to 1. Categories are left alone.
    """

    std: float = 0.3

    def __post_init__(self) -> None:
        require(self.std >= 0, self, "std", "0 or more")

    def __call__(self, batch: Batch, continuous: Tensor, generator: torch.Generator | None) -> Batch:
        noise = normal(tuple(batch.x.shape), generator, batch.x.device) * self.std
        return replace(batch, x=sparse.dense(batch.x) + noise * continuous)
