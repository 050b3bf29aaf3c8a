"""Leave out cells."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ...parts import part, require
from .. import sparse
from ..batch import Batch
from ..noise import uniform


@part("corruption", "dropout")
@dataclass(frozen=True)
class Dropout:
    """Set each cell of counts, or of numbers, to 0 with probability `rate`, and make the others 1 / (1 − rate) times as
    large.

    For cells of which 0 says "nothing seen": the encoder of counts and histories then learns to say the whole from a
    part of it (Liang et al. 2018, arXiv:1802.05814, sec. 2.4).
    """

    rate: float = 0.5

    def __post_init__(self) -> None:
        require(0 <= self.rate < 1, self, "rate", "a share from 0 to below 1")

    def __call__(self, batch: Batch, continuous: Tensor, generator: torch.Generator | None) -> Batch:
        x = batch.x
        if not sparse.is_sparse(x):
            # A level's number is no amount: it stays.
            kept = uniform(tuple(x.shape), generator, x.device) >= self.rate
            return replace(batch, x=torch.where(continuous, x * kept / (1 - self.rate), x))
        starts, columns, values = sparse.parts(x)
        kept = torch.rand(len(values), generator=generator, device=x.device) >= self.rate
        # What is left out is gone, so that it costs nothing.
        first = torch.nn.functional.pad(kept.cumsum(0, dtype=torch.int32), (1, 0))[starts.long()]
        return replace(batch, x=sparse.csr(first, columns[kept], values[kept] / (1 - self.rate), x.shape[1]))
