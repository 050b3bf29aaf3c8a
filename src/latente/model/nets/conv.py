"""Residual convolutions for pictures of any size."""

import math
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...errors import ConfigError
from ...parts import part, require
from .layers import ACTIVATIONS, Activate, Offset, Residual
from .trunk import Trunk


def cells_of(x: Tensor, k: int) -> Tensor:
    """Squares of k×k pixels as the channels of one cell: [b, c, h, w] to [b, k²c, ⌈h/k⌉, ⌈w/k⌉], channels last.

    Written as views around one copy: half the time of torch's pixel_unshuffle and a change of layout.
    """
    b, c, h, w = x.shape
    if h % k or w % k:
        x = F.pad(x, (0, -w % k, 0, -h % k))
        h, w = x.shape[2:]
    x = x.permute(0, 2, 3, 1).reshape(b, h // k, k, w // k, k, c)
    x = x.permute(0, 1, 3, 2, 4, 5).reshape(b, h // k, w // k, k * k * c).permute(0, 3, 1, 2)
    return x.contiguous(memory_format=torch.channels_last)


def pixels_of(x: Tensor, k: int, size: tuple[int, int]) -> Tensor:
    """The inverse of `cells_of`, cut to `size`."""
    b, c, h, w = x.shape
    x = x.permute(0, 2, 3, 1).reshape(b, h, w, k, k, c // k**2).permute(0, 1, 3, 2, 4, 5)
    return x.reshape(b, h * k, w * k, c // k**2).permute(0, 3, 1, 2)[:, :, : size[0], : size[1]]


class _Cells(nn.Module):
    def __init__(self, k: int) -> None:
        super().__init__()
        self.k = k

    def forward(self, x: Tensor) -> Tensor:
        return cells_of(x, self.k)


class _Pixels(nn.Module):
    def __init__(self, k: int, size: tuple[int, int]) -> None:
        super().__init__()
        self.k, self.size = k, size

    def forward(self, x: Tensor) -> Tensor:
        return pixels_of(x, self.k, self.size)


class _Flat(nn.Module):
    """[b, c, h, w] to [b, h·w·c]: no copy where channels lie last."""

    def forward(self, h: Tensor) -> Tensor:
        return h.permute(0, 2, 3, 1).flatten(1)


class _Grid(nn.Module):
    """The inverse of `_Flat`."""

    def __init__(self, shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.shape = shape

    def forward(self, h: Tensor) -> Tensor:
        c, y, x = self.shape
        return h.reshape(-1, y, x, c).permute(0, 3, 1, 2)


class _Near(nn.Module):
    """Each cell as the 2×2 below it, cut to `size`."""

    def __init__(self, size: tuple[int, int]) -> None:
        super().__init__()
        self.size = size

    def forward(self, h: Tensor) -> Tensor:
        h = F.interpolate(h, scale_factor=2.0, mode="nearest")
        return h[:, :, : self.size[0], : self.size[1]]


# A place in the net: channels, height, width. The vector at the top is a grid of one cell.
Grid = tuple[int, int, int]


@part("nets", "conv")
@dataclass(frozen=True)
class Conv:
    """Residual convolutions on patches of the picture, without norms.

    patch: squares of so many pixels a side become the channels of one cell, smaller ones where the picture has fewer
    than four a side. channels: at that size, and twice as many, up to four times, at each further halving, until the
    shorter side is `smallest` or less. blocks: residual blocks at each size. width: features beside the latent.

    Blocks start as the identity and everything else keeps the scale of what it gets (He et al. 2015, arXiv:1502.01852),
    so the code says something of the picture from the first step on. A KL at its full weight would then press it flat
    before the decoder has learned to listen: warm it up.
    """

    channels: int = 32
    blocks: int = 2
    width: int = 256
    patch: int = 2
    smallest: int = 8
    activation: str = "relu"

    def __post_init__(self) -> None:
        for field in ("channels", "width", "patch"):
            require(getattr(self, field) >= 1, self, field, "1 or more")
        require(self.smallest >= 2, self, "smallest", "2 or more")
        require(self.blocks >= 0, self, "blocks", "0 or more")
        require(self.activation in ACTIVATIONS, self, "activation", f"one of {', '.join(ACTIVATIONS)}")

    def encoder(self, shape: tuple[int, ...]) -> tuple[nn.Module, int]:
        """The body on pictures of `shape` (c, h, w), and the width of its features."""
        grids = self._grids(shape)
        layers = self._stem(shape, grids[0])
        for a, b in pairwise(grids):
            layers += [*self._blocks(a), *self._coarser(a, b)]
        return nn.Sequential(*layers), self.width

    def decoder(self, dim: int, shape: tuple[int, ...]) -> nn.Module:
        """From z [b, dim] to [b, *shape]."""
        grids = self._grids(shape)[::-1]
        layers = [_linear(dim, self.width), self._act(), *self._finer(grids[0], grids[1])[1:]]
        for a, b in pairwise(grids[1:]):
            layers += [*self._blocks(a), *self._finer(a, b)]
        return nn.Sequential(*layers, *self._blocks(grids[-1]), *self._end(grids[-1], shape))

    def ladder(self, shape: tuple[int, ...], out_shape: tuple[int, ...], levels: int) -> Trunk:
        """The nets of a ladder of `levels` levels: the top on a vector, the others spread over the picture's sizes."""
        grids = self._grids(shape)[::-1]
        sizes = len(grids) - 1
        at = [0, *(1 + i * sizes // (levels - 1) for i in range(levels - 1))]
        up: list[nn.Module] = []
        down: list[nn.Module] = [Offset(grids[0])]
        here = len(grids) - 1
        for i in reversed(at):
            path = [m for g in range(here, i, -1) for m in self._coarser(grids[g], grids[g - 1])]
            stem = [] if up else self._stem(shape, grids[-1])
            top = [_Grid(grids[0])] if i == 0 else []
            up.append(nn.Sequential(*stem, *path, *top, *self._blocks(grids[i])))
            here = i
        for a, b in pairwise(at):
            path = [m for g in range(a, b) for m in self._finer(grids[g], grids[g + 1])]
            down.append(nn.Sequential(*self._blocks(grids[a], 1), *path, *self._blocks(grids[b])))
        path = [m for g in range(at[-1], len(grids) - 1) for m in self._finer(grids[g], grids[g + 1])]
        out = nn.Sequential(
            *self._blocks(grids[at[-1]], 1), *path, *self._blocks(grids[-1]), *self._end(grids[-1], out_shape)
        )
        return Trunk(
            shapes=tuple(grids[i] for i in at),
            up=nn.ModuleList(up),
            down=nn.ModuleList(down),
            out=out,
            mix=partial(_conv, size=1),
        )

    def _grids(self, shape: tuple[int, ...]) -> list[Grid]:
        """Channels, height and width at each size, the picture's first; at the end the vector."""
        if len(shape) != 3:
            raise ConfigError(f"nets 'conv' need pictures, not cells of shape {shape}", hint="--set nets=mlp")
        k = self._patch(shape)
        h, w = -(-shape[1] // k), -(-shape[2] // k)
        grids = [(self.channels, h, w)]
        while min(h, w) > self.smallest:
            h, w = (h + 1) // 2, (w + 1) // 2
            grids.append((min(2 * grids[-1][0], 4 * self.channels), h, w))
        return [*grids, (self.width, 1, 1)]

    def _patch(self, shape: tuple[int, ...]) -> int:
        return max(1, min(self.patch, min(shape[1:]) // 4))

    def _stem(self, shape: tuple[int, ...], first: Grid) -> list[nn.Module]:
        k = self._patch(shape)
        return [_Cells(k), _conv(k * k * shape[0], first[0], 3)]

    def _end(self, last: Grid, shape: tuple[int, ...]) -> list[nn.Module]:
        k = self._patch(shape)
        head = _conv(last[0], k * k * shape[0], 1)
        # The picture starts as its mean, which `Model.center` writes into the offset, and a little of the code.
        nn.init.normal_(head.weight, std=0.05 / math.sqrt(last[0]))
        return [self._act(), head, _Pixels(k, (shape[1], shape[2])), Offset(shape)]

    def _coarser(self, a: Grid, b: Grid) -> list[nn.Module]:
        if b[1:] == (1, 1):
            return [self._act(), _Flat(), _linear(math.prod(a), b[0]), self._act()]
        return [_Cells(2), _conv(4 * a[0], b[0], 1)]

    def _finer(self, a: Grid, b: Grid) -> list[nn.Module]:
        if a[1:] == (1, 1):
            return [_Flat(), _linear(a[0], math.prod(b)), _Grid(b)]
        return [_conv(a[0], b[0], 1), _Near(b[1:])]

    def _act(self) -> nn.Module:
        return Activate(self.activation)

    def _blocks(self, grid: Grid, number: int | None = None) -> list[nn.Module]:
        size = 1 if grid[1:] == (1, 1) else 3
        return [self._block(grid[0], size) for _ in range(self.blocks if number is None else number)]

    def _block(self, channels: int, size: int) -> nn.Module:
        last = _conv(channels, channels, 1)
        nn.init.zeros_(last.weight)
        return Residual(nn.Sequential(_conv(channels, channels, size), self._act(), last))


def _conv(a: int, b: int, size: int) -> nn.Conv2d:
    layer = nn.Conv2d(a, b, size, padding=size // 2)
    _scale(layer)
    return layer


def _linear(a: int, b: int) -> nn.Linear:
    layer = nn.Linear(a, b)
    _scale(layer)
    return layer


def _scale(layer: nn.Conv2d | nn.Linear) -> None:
    """Weights that keep the scale: between 1, for what no activation follows, and the 2 of He et al. (eq. 10)."""
    nn.init.normal_(layer.weight, std=math.sqrt(1.5 / layer.weight[0].numel()))
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
