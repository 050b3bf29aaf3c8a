"""Hide cells."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ...parts import part, require
from ..batch import Batch
from ..noise import uniform


@part("corruption", "masking")
@dataclass(frozen=True)
class Masking:
    """Hide each cell with probability `share`, as if it were missing.

    vary: draw the share of each row anew, uniformly between 0 and `share`, so that the encoder learns rows with few and
    with many gaps.
    """

    share: float = 0.25
    vary: bool = False

    def __post_init__(self) -> None:
        require(0 <= self.share < 1, self, "share", "a share from 0 to below 1")

    def __call__(self, batch: Batch, continuous: Tensor, generator: torch.Generator | None) -> Batch:
        x = batch.x
        hide: Tensor | float = self.share
        if self.vary:
            rows = (len(x),) + (1,) * (x.dim() - 1)
            hide = self.share * uniform(rows, generator, x.device)
        kept = uniform(tuple(x.shape), generator, x.device) >= hide
        return replace(batch, observed=kept if batch.observed is None else kept & batch.observed)
