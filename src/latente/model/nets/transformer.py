"""Transformers: every step of a row looks at the others."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...errors import ConfigError
from ...parts import part, require
from .layers import Offset
from .ragged import Ragged


class _Layer(nn.Module):
    """Attention and two linear layers, each on normalised inputs and added to them (pre-norm)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norms = nn.ModuleList([nn.LayerNorm(width), nn.LayerNorm(width)])
        self.inner, self.outer = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.wide, self.narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor, seen: Tensor | None, causal: bool) -> Tensor:
        """x [n, steps, width]; seen: bool [n, 1, 1, steps], which steps are looked at."""
        q, k, v = self._apart(x)
        x = self._mixed(x, F.scaled_dot_product_attention(q, k, v, seen, is_causal=causal))
        return x

    def step(self, x: Tensor, before: tuple[Tensor, Tensor] | None) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """One more step x [n, 1, width], given keys and values of those before; and those with its own."""
        q, k, v = self._apart(x)
        if before is not None:
            k, v = torch.cat([before[0], k], 2), torch.cat([before[1], v], 2)
        return self._mixed(x, F.scaled_dot_product_attention(q, k, v)), (k, v)

    def _apart(self, x: Tensor) -> list[Tensor]:
        parts = self.inner(self.norms[0](x)).chunk(3, -1)
        return [p.unflatten(-1, (self.heads, -1)).transpose(1, 2) for p in parts]

    def _mixed(self, x: Tensor, looked: Tensor) -> Tensor:
        x = x + self.outer(looked.transpose(1, 2).flatten(2))
        return x + self.narrow(F.gelu(self.wide(self.norms[1](x))))


class _Stack(nn.Module):
    """Inputs and where they are -> layers -> a last norm."""

    def __init__(self, inputs: int, width: int, layers: int, heads: int, steps: int) -> None:
        super().__init__()
        self.into, self.place = nn.Linear(inputs, width), nn.Parameter(0.02 * torch.randn(steps, width))
        self.layers = nn.ModuleList([_Layer(width, heads) for _ in range(layers)])
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor, seen: Tensor | None = None, causal: bool = False) -> Tensor:
        """[n, steps, inputs] -> [n, steps, width]"""
        x = self.into(x) + self.place[: x.shape[1]]
        for layer in self.layers:
            x = layer(x, seen, causal)
        return self.norm(x)


class _Reader(nn.Module):
    """Channels over steps [b, c, …] -> the mean over steps. [b, width]"""

    def __init__(self, stack: _Stack) -> None:
        super().__init__()
        self.stack = stack

    def forward(self, h: Tensor) -> Tensor:
        return self.stack(h.flatten(2).transpose(1, 2)).mean(1)


class _Writer(nn.Module):
    """z [b, d], told to every step -> [b, *shape]."""

    def __init__(self, stack: _Stack, shape: tuple[int, ...], width: int) -> None:
        super().__init__()
        self.stack, self.shape, self.steps = stack, shape, math.prod(shape[1:])
        self.out = nn.Linear(width, shape[0])
        nn.init.normal_(self.out.weight, std=0.05 / math.sqrt(width))

    def forward(self, z: Tensor) -> Tensor:
        h = self.stack(z[:, None].expand(-1, self.steps, -1))
        return self.out(h).transpose(1, 2).unflatten(2, self.shape[1:])


class _TokenReader(nn.Module):
    """Packed cells of rows of different lengths -> the mean over a row's steps, and its last one. [n, 2·width]"""

    def __init__(self, stack: _Stack) -> None:
        super().__init__()
        self.stack = stack

    def forward(self, x: Tensor, rows: Ragged) -> Tensor:
        steps = len(rows.sizes)
        there = torch.arange(steps, device=x.device) < rows.lengths[:, None]
        h = self.stack(rows.spread(x)[:, :steps], there[:, None, None])
        mean = (h * there[..., None]).sum(1) / rows.lengths[:, None]
        last = h.gather(1, (rows.lengths - 1)[:, None, None].expand(-1, 1, h.shape[-1]))[:, 0]
        return torch.cat([mean, last], -1)


class _TokenWriter(nn.Module):
    """Cells, each given those before it, and what it is told at every step."""

    def __init__(self, stack: _Stack, inputs: int, told: int) -> None:
        super().__init__()
        self.stack, self.told = stack, nn.Linear(told, inputs)

    def forward(self, x: Tensor, first: Tensor, told: Tensor, rows: Ragged) -> Tensor:
        """See the writer of nets `recurrent`."""
        word = self.told(told)
        word = word if len(told) == len(x) else word.index_select(0, rows.row)
        h = self.stack(rows.spread(x + word)[:, : len(rows.sizes)], causal=True)
        return F.pad(h, (0, 0, 0, rows.width - h.shape[1])).flatten(0, 1).index_select(0, rows.place)

    def begin(self, told: Tensor) -> list[tuple[Tensor, Tensor] | None]:
        """What is kept before the first cell: nothing."""
        return [None] * len(self.stack.layers)

    def step(
        self, x: Tensor, told: Tensor, state: list[tuple[Tensor, Tensor] | None]
    ) -> tuple[Tensor, list[tuple[Tensor, Tensor] | None]]:
        """One more cell of each row: what `forward` gives there, and the layers' keys and values."""
        at = 0 if state[0] is None else state[0][0].shape[2]
        h, after = (self.stack.into(x + self.told(told)) + self.stack.place[at])[:, None], []
        for layer, before in zip(self.stack.layers, state, strict=True):
            assert isinstance(layer, _Layer)
            h, kept = layer.step(h, before)
            after.append(kept)
        return self.stack.norm(h)[:, 0], list(after)


@part("nets", "transformer")
@dataclass(frozen=True)
class Transformer:
    """Layers of attention of `width` in `heads`, pre-norm, with learned places (Vaswani et al. 2017, arXiv:1706.03762).

    Their work grows with the square of the steps, and none waits for the one before: for a GPU, or rows of some hundred
    steps at the most.
    """

    width: int = 128
    layers: int = 2
    heads: int = 4

    def __post_init__(self) -> None:
        require(self.width >= 1, self, "width", "1 or more")
        require(1 <= self.layers <= 64, self, "layers", "1 to 64")
        require(self.heads >= 1 and self.width % self.heads == 0, self, "heads", "a divisor of the width")

    def encoder(self, shape: tuple[int, ...]) -> tuple[nn.Module, int]:
        """The body on series of `shape` (channels, steps), and the width of its features."""
        self._require(shape)
        return _Reader(self._stack(shape[0], math.prod(shape[1:]))), self.width

    def decoder(self, dim: int, shape: tuple[int, ...]) -> nn.Module:
        """From z [b, dim] to [b, *shape]."""
        self._require(shape)
        return nn.Sequential(_Writer(self._stack(dim, math.prod(shape[1:])), shape, self.width), Offset(shape))

    def reader(self, inputs: int, steps: int) -> tuple[nn.Module, int]:
        """(packed cells of tokens, rows) -> features, and their width."""
        return _TokenReader(self._stack(inputs, steps)), 2 * self.width

    def writer(self, inputs: int, told: int, steps: int) -> tuple[nn.Module, int]:
        """Tokens one after the other, and the width of what it gives of each."""
        return _TokenWriter(self._stack(inputs, steps), inputs, told), self.width

    def _stack(self, inputs: int, steps: int) -> _Stack:
        return _Stack(inputs, self.width, self.layers, self.heads, steps)

    def _require(self, shape: tuple[int, ...]) -> None:
        if len(shape) < 2:
            raise ConfigError(f"nets 'transformer' need series, not cells of shape {shape}", hint="--set nets=mlp")
