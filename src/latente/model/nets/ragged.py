"""Rows of different lengths without their padding: what is computed is what is there."""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Ragged:
    """Rows of `lengths` [n] cells, of at most `width`, packed step by step: first the first cell of every row, the
    longest row first, then the second cell of those that have one. The layout of torch's PackedSequence.
    """

    lengths: Tensor
    width: int

    @classmethod
    def of(cls, observed: Tensor) -> "Ragged":
        """Rows up to their last observed cell, and of at least one. observed: bool [n, width]"""
        at = torch.arange(1, observed.shape[1] + 1, device=observed.device)
        return cls((observed * at).amax(1).clamp(min=1), observed.shape[1])

    def __len__(self) -> int:
        """Cells of all rows."""
        return len(self.place)

    @cached_property
    def order(self) -> Tensor:
        """The rows, the longest first. [n]"""
        return self.lengths.argsort(descending=True, stable=True)

    @cached_property
    def sizes(self) -> list[int]:
        """How many rows have a cell at each step."""
        steps = torch.arange(int(self.lengths.max()), device=self.lengths.device)
        return (self.lengths[:, None] > steps).sum(0).tolist()

    @cached_property
    def row(self) -> Tensor:
        """The row of each packed cell. [cells]"""
        return torch.cat([self.order[:k] for k in self.sizes])

    @cached_property
    def step(self) -> Tensor:
        """The step of each packed cell. [cells]"""
        return torch.arange(len(self.sizes), device=self.lengths.device).repeat_interleave(
            torch.tensor(self.sizes, device=self.lengths.device)
        )

    @cached_property
    def place(self) -> Tensor:
        """Where each packed cell is in the flattened rows. [cells]"""
        return self.row * self.width + self.step

    def pack(self, x: Tensor) -> Tensor:
        """[n, width, …] -> [cells, …]"""
        return x.flatten(0, 1).index_select(0, self.place)

    def spread(self, packed: Tensor) -> Tensor:
        """[cells, …] -> [n, width, …], 0 where a row has ended."""
        out = packed.new_zeros(len(self.lengths) * self.width, *packed.shape[1:])
        return out.index_copy(0, self.place, packed).unflatten(0, (len(self.lengths), self.width))

    def ends(self, packed: Tensor) -> Tensor:
        """The last cell of each row. [cells, …] -> [n, …]"""
        first = torch.cumsum(torch.tensor([0, *self.sizes[:-1]], device=packed.device), 0)
        rank = torch.empty_like(self.order).index_copy(
            0, self.order, torch.arange(len(self.order), device=packed.device)
        )
        return packed.index_select(0, first[self.lengths - 1] + rank)
