"""Recurrent nets: a series is read step by step, and written step by step."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ...errors import ConfigError
from ...parts import part, require
from .gru import Gru
from .layers import Offset
from .ragged import Ragged


class _Reader(nn.Module):
    """[b, c, steps] -> the mean of the states and the last one. [b, 2·width]"""

    def __init__(self, channels: int, width: int, layers: int) -> None:
        super().__init__()
        self.gru = nn.GRU(channels, width, layers, batch_first=True)

    def forward(self, h: Tensor) -> Tensor:
        states, _ = self.gru(h.flatten(2).transpose(1, 2))
        return torch.cat([states.mean(1), states[:, -1]], -1)


class _Writer(nn.Module):
    """z [b, d] -> [b, *shape]: z is told at every step, beside a learned vector that says which it is."""

    def __init__(self, dim: int, shape: tuple[int, ...], width: int, layers: int) -> None:
        super().__init__()
        self.shape, steps = shape, math.prod(shape[1:])
        self.told = nn.Linear(dim, width)
        self.place = nn.Parameter(torch.randn(steps, width) * 0.1)
        self.gru = nn.GRU(width, width, layers, batch_first=True)
        self.out = nn.Linear(width, shape[0])
        nn.init.normal_(self.out.weight, std=0.05 / math.sqrt(width))

    def forward(self, z: Tensor) -> Tensor:
        states, _ = self.gru(torch.tanh(self.told(z)[:, None] + self.place))
        return self.out(states).transpose(1, 2).unflatten(2, self.shape[1:])


class _TokenReader(nn.Module):
    """Cells of rows of different lengths -> the mean of the states and the last one, both ways through the row."""

    def __init__(self, inputs: int, width: int, layers: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList([Gru(inputs if i == 0 else width, width) for i in range(layers)])

    def forward(self, x: Tensor, rows: Ragged) -> Tensor:
        """x [cells, inputs], packed. [n, 2·width]"""
        for gru in self.layers:
            x = gru(x, rows)
        total = x.new_zeros(len(rows.lengths), x.shape[1]).index_add(0, rows.row, x)
        return torch.cat([total / rows.lengths[:, None], rows.ends(x)], -1)


class _TokenWriter(nn.Module):
    """Cells, each given those before it, and what it is told: at first, and at every step."""

    def __init__(self, inputs: int, told: int, width: int, layers: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList([Gru(inputs if i == 0 else width, width) for i in range(layers)])
        self.first = nn.Linear(told, layers * width)
        self.more = nn.Linear(told, 3 * width, bias=False)

    def forward(self, x: Tensor, first: Tensor, told: Tensor, rows: Ragged) -> Tensor:
        """x [cells, inputs], packed: the cell before each; first [n, told]; told: the same [n, told], or of each cell
        its own [cells, told]. [cells, width]
        """
        more = self.more(told)
        more = more if len(told) == len(x) else more.index_select(0, rows.row)
        for gru, h in zip(self.layers, self.begin(first), strict=True):
            x, more = gru(x, rows, h, more), None
        return x

    def begin(self, told: Tensor) -> list[Tensor]:
        """The states before the first cell. [n, width] each"""
        return list(torch.tanh(self.first(told)).chunk(len(self.layers), -1))

    def step(self, x: Tensor, told: Tensor, state: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """One more cell of each row: what `forward` gives there, and the states."""
        more, after = self.more(told), []
        for gru, h in zip(self.layers, state, strict=True):
            x, more = gru.step(x, h, more), None  # type: ignore[operator]
            after.append(x)
        return x, after


@part("nets", "recurrent")
@dataclass(frozen=True)
class Recurrent:
    """Gated recurrent units of `width` in `layers` layers, both ways from the series to the latent and back."""

    width: int = 64
    layers: int = 1

    def __post_init__(self) -> None:
        require(self.width >= 1, self, "width", "1 or more")
        require(1 <= self.layers <= 16, self, "layers", "1 to 16")

    def encoder(self, shape: tuple[int, ...]) -> tuple[nn.Module, int]:
        """The body on series of `shape` (channels, steps), and the width of its features."""
        self._require(shape)
        return _Reader(shape[0], self.width, self.layers), 2 * self.width

    def decoder(self, dim: int, shape: tuple[int, ...]) -> nn.Module:
        """From z [b, dim] to [b, *shape]."""
        self._require(shape)
        return nn.Sequential(_Writer(dim, shape, self.width, self.layers), Offset(shape))

    def reader(self, inputs: int, steps: int) -> tuple[nn.Module, int]:
        """(packed cells of tokens, rows) -> features, and their width."""
        return _TokenReader(inputs, self.width, self.layers), 2 * self.width

    def writer(self, inputs: int, told: int, steps: int) -> tuple[nn.Module, int]:
        """Tokens one after the other, and the width of what it gives of each."""
        return _TokenWriter(inputs, told, self.width, self.layers), self.width

    def _require(self, shape: tuple[int, ...]) -> None:
        if len(shape) < 2:
            raise ConfigError(f"nets 'recurrent' need series, not cells of shape {shape}", hint="--set nets=mlp")
