"""Residual convolutions over time."""

import math
from dataclasses import dataclass
from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional as F

from ...errors import ConfigError
from ...parts import part, require
from .layers import ACTIVATIONS, Activate, Offset, Residual


class _Folded(nn.Module):
    """[b, c, *places] to [b, k·c, ⌈steps/k⌉]: the places one after the other, k of them as the channels of one step."""

    def __init__(self, k: int) -> None:
        super().__init__()
        self.k = k

    def forward(self, h: Tensor) -> Tensor:
        h = h.flatten(2)
        h = F.pad(h, (0, -h.shape[2] % self.k))
        return h.unflatten(2, (-1, self.k)).transpose(2, 3).flatten(1, 2)


class _Unfolded(nn.Module):
    """The inverse of `_Folded`, cut to the shape."""

    def __init__(self, k: int, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.k, self.shape = k, shape

    def forward(self, h: Tensor) -> Tensor:
        h = h.unflatten(1, (self.shape[0], self.k)).transpose(2, 3).flatten(2)
        return h[..., : math.prod(self.shape[1:])].unflatten(2, self.shape[1:])


class _Longer(nn.Module):
    """Twice as many steps, cut to `size`."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def forward(self, h: Tensor) -> Tensor:
        return F.interpolate(h, scale_factor=2.0, mode="nearest")[..., : self.size]


@part("nets", "temporal")
@dataclass(frozen=True)
class Temporal:
    """Residual convolutions over time: `blocks` at each length, which is halved until it is `shortest` or less.

    fold: steps that are one at first, fewer where there are few. channels: at that length, and half as many again at
    each halving. kernel: steps that one looks at; those of later blocks at one length lie twice as far apart each time.
    width: features beside the latent.
    """

    fold: int = 2
    channels: int = 32
    blocks: int = 1
    kernel: int = 3
    width: int = 128
    shortest: int = 8
    activation: str = "silu"

    def __post_init__(self) -> None:
        for field in ("fold", "channels", "width", "shortest"):
            require(getattr(self, field) >= 1, self, field, "1 or more")
        require(self.kernel >= 1 and self.kernel % 2 == 1, self, "kernel", "odd")
        require(self.blocks >= 0, self, "blocks", "0 or more")
        require(self.activation in ACTIVATIONS, self, "activation", f"one of {', '.join(ACTIVATIONS)}")

    def encoder(self, shape: tuple[int, ...]) -> tuple[nn.Module, int]:
        """The body on series of `shape` (channels, steps), and the width of its features."""
        lengths = self._lengths(shape)
        k = self._fold(shape)
        layers: list[nn.Module] = [_Folded(k), self._conv(k * shape[0], lengths[0][0])]
        for (a, _), (b, _) in pairwise(lengths):
            layers += [*self._blocks(a), nn.Conv1d(a, b, 3, stride=2, padding=1)]
        channels, steps = lengths[-1]
        layers += [*self._blocks(channels), Activate(self.activation), nn.Flatten(1)]
        return nn.Sequential(*layers, nn.Linear(channels * steps, self.width), Activate(self.activation)), self.width

    def decoder(self, dim: int, shape: tuple[int, ...]) -> nn.Module:
        """From z [b, dim] to [b, *shape]."""
        lengths = self._lengths(shape)[::-1]
        channels, steps = lengths[0]
        layers: list[nn.Module] = [nn.Linear(dim, self.width), Activate(self.activation)]
        layers += [nn.Linear(self.width, channels * steps), nn.Unflatten(1, (channels, steps))]
        for (a, _), (b, size) in pairwise(lengths):
            layers += [*self._blocks(a), _Longer(size), self._conv(a, b)]
        k = self._fold(shape)
        end = self._conv(lengths[-1][0], k * shape[0])
        # A series starts as its mean, which `Model.center` writes into the offset, and a little of the code.
        nn.init.normal_(end.weight, std=0.05 / math.sqrt(end.weight[0].numel()))
        layers += [*self._blocks(lengths[-1][0]), Activate(self.activation), end]
        return nn.Sequential(*layers, _Unfolded(k, shape), Offset(shape))

    def _lengths(self, shape: tuple[int, ...]) -> list[tuple[int, int]]:
        """Channels and steps at each length."""
        if len(shape) < 2:
            raise ConfigError(f"nets 'temporal' need series, not cells of shape {shape}", hint="--set nets=mlp")
        found = [(self.channels, -(-math.prod(shape[1:]) // self._fold(shape)))]
        while found[-1][1] > self.shortest:
            channels, steps = found[-1]
            found.append((channels + self.channels // 2, (steps + 1) // 2))
        return found

    def _fold(self, shape: tuple[int, ...]) -> int:
        return max(1, min(self.fold, math.prod(shape[1:]) // 8))

    def _conv(self, a: int, b: int, apart: int = 1) -> nn.Conv1d:
        return nn.Conv1d(a, b, self.kernel, padding=self.kernel // 2 * apart, dilation=apart)

    def _blocks(self, channels: int) -> list[nn.Module]:
        found: list[nn.Module] = []
        for i in range(self.blocks):
            last = nn.Conv1d(channels, channels, 1)
            nn.init.zeros_(last.weight)
            body = [Activate(self.activation), self._conv(channels, channels, 2**i), Activate(self.activation), last]
            found.append(Residual(nn.Sequential(*body)))
        return found
