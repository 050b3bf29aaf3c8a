"""Swap cells with another row's."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ...parts import part, require
from .. import sparse
from ..batch import Batch
from ..noise import others, uniform


@part("corruption", "swap")
@dataclass(frozen=True)
class Swap:
    """Replace each cell, with probability `share`, by the same cell of another row of the batch: noise drawn from the
    column's own marginal, for categories and numbers alike. A missing cell of the other row makes the cell missing.
    """

    share: float = 0.15

    def __post_init__(self) -> None:
        require(0 <= self.share <= 1, self, "share", "a share between 0 and 1")

    def __call__(self, batch: Batch, continuous: Tensor, generator: torch.Generator | None) -> Batch:
        x = sparse.dense(batch.x)
        other = others(len(x), generator, x.device)
        swapped = uniform(tuple(x.shape), generator, x.device) < self.share
        observed = batch.observed
        if observed is not None:
            observed = torch.where(swapped, observed[other], observed)
        return replace(batch, x=torch.where(swapped, x[other], x), observed=observed)
