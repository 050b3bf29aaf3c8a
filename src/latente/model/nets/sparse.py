"""Nets for rows in which nearly all numbers are 0: the first layer costs what is there, not what could be."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...parts import part, require
from .. import sparse
from .layers import Activate, Residual
from .mlp import Mlp


class Gather(nn.Module):
    """x @ weight + bias for rows x [b, width] that are sparse, or dense but mostly 0.

    in_place: whether its weight's gradient is added to `weight.grad` where that lies, row by row, in place of a new
    tensor of the weight's size at each step; whoever switches it on calls `clear` before each step.
    """

    in_place = False

    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.touched: list[Tensor] = []  # rows of the kept gradient that are not 0
        self.weight = nn.Parameter(torch.randn(width, out) / math.sqrt(out))
        self.bias = nn.Parameter(torch.zeros(out))

    def clear(self) -> None:
        """Make the kept gradient 0 again, where it is not."""
        for which in self.touched:
            self.weight.grad.index_fill_(0, which, 0.0)  # type: ignore[union-attr]
        self.touched = []

    def forward(self, x: Tensor) -> Tensor:
        if not sparse.is_sparse(x):
            row, column, values = sparse.entries(x.flatten(1))
            starts = F.pad(row.bincount(minlength=len(x)).cumsum(0), (1, 0))
        else:
            starts, column, values = sparse.parts(x)
        if self.in_place and torch.is_grad_enabled() and self.weight.requires_grad:
            found: Tensor = _InPlace.apply(self.weight, self, starts, column, values)
        else:
            found = _bags(column, self.weight, starts, values)
        return found + self.bias


class _InPlace(torch.autograd.Function):
    """The product, whose weight's gradient goes where it is kept."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, layer: Gather, starts: Tensor, column: Tensor, values: Tensor) -> Tensor:
        ctx.layer = layer
        ctx.save_for_backward(starts, column, values)
        return _bags(column, weight, starts, values)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Any:
        starts, column, values = ctx.saved_tensors
        # The transposed product is one over bags of the rows that have each column.
        column, order = column.sort(stable=True)
        row = torch.repeat_interleave(starts.diff()).to(column.dtype)[order]
        which, counts = column.unique_consecutive(return_counts=True)
        ends = F.pad(counts.cumsum(0), (1, 0)).to(column.dtype)
        found = _bags(row, gradient.contiguous(), ends, values[order])
        layer = ctx.layer
        if layer.weight.grad is None:  # nobody keeps it here, as after a run
            return torch.zeros_like(layer.weight).index_add_(0, which, found), None, None, None, None
        layer.weight.grad.index_add_(0, which, found)
        layer.touched.append(which.long())
        return None, None, None, None, None


def _bags(index: Tensor, rows: Tensor, starts: Tensor, weights: Tensor) -> Tensor:
    """Weighted sums of rows, bag by bag: one pass over those that are named."""
    return F.embedding_bag(index, rows, starts, mode="sum", per_sample_weights=weights, include_last_offset=True)


@part("nets", "sparse")
@dataclass(frozen=True)
class Sparse:
    """A gathered first layer, then `depth` layers h + f(h), each of `width` units, normalised (Ba et al. 2016,
    arXiv:1607.06450) before its activation; back through layers of `back`, () a linear decoder.
    """

    width: int = 600
    depth: int = 1
    back: tuple[int, ...] = ()
    activation: str = "silu"

    def __post_init__(self) -> None:
        require(self.width >= 1, self, "width", "1 or more")
        require(0 <= self.depth <= 64, self, "depth", "0 to 64")
        Mlp(self.back, self.activation)

    def encoder(self, shape: tuple[int, ...]) -> tuple[nn.Module, int]:
        """The body on inputs of `shape`, and the width of its features."""
        first = [Gather(math.prod(shape), self.width), nn.LayerNorm(self.width), Activate(self.activation)]
        return nn.Sequential(*first, *(self._layer() for _ in range(self.depth))), self.width

    def decoder(self, dim: int, shape: tuple[int, ...]) -> nn.Module:
        """From z [b, dim] to [b, *shape]."""
        return Mlp(self.back, self.activation).decoder(dim, shape)

    def _layer(self) -> nn.Module:
        width = self.width
        return Residual(nn.Sequential(nn.Linear(width, width), nn.LayerNorm(width), Activate(self.activation)))
