"""Residual convolutions for pictures of any size."""

import math
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F

from ...errors import ConfigError
from ...parts import part, require
from .layers import ACTIVATIONS, Activate, Residual


class _Up(nn.Module):
    """Enlarge to exactly `size`: pictures whose sides are no power of two come back as they went."""

    def __init__(self, size: tuple[int, int]) -> None:
        super().__init__()
        self.size = size

    def forward(self, h: Tensor) -> Tensor:
        return F.interpolate(h, size=self.size, mode="nearest")


@part("nets", "conv")
@dataclass(frozen=True)
class Conv:
    """3×3 convolutions: each stage halves the picture (down to `smallest` pixels a side) and has a residual block.

    channels: of the first stage; each later stage doubles them up to four times that. width: features beside the
    latent.
    """

    channels: int = 32
    width: int = 256
    smallest: int = 4
    activation: str = "silu"

    def __post_init__(self) -> None:
        require(self.channels >= 1, self, "channels", "1 or more")
        require(self.activation in ACTIVATIONS, self, "activation", f"one of {', '.join(ACTIVATIONS)}")

    def encoder(self, shape: tuple[int, ...]) -> tuple[nn.Module, int]:
        """The body on pictures of `shape` (c, h, w), and the width of its features."""
        sizes, channels = self._stages(shape)
        layers: list[nn.Module] = []
        for a, b in zip((shape[0], *channels), channels, strict=False):
            layers += [nn.Conv2d(a, b, 3, stride=2, padding=1), self._act(), self._block(b)]
        h, w = sizes[-1]
        layers += [nn.Flatten(1), nn.Linear(channels[-1] * h * w, self.width), self._act()]
        return nn.Sequential(*layers), self.width

    def decoder(self, dim: int, shape: tuple[int, ...]) -> nn.Module:
        """From z [b, dim] to [b, *shape]."""
        sizes, channels = self._stages(shape)
        first = (channels[-1], *sizes[-1])
        layers: list[nn.Module] = [nn.Linear(dim, self.width), self._act()]
        layers += [nn.Linear(self.width, math.prod(first)), self._act(), nn.Unflatten(1, first)]
        ups = [*reversed(sizes[:-1]), (shape[1], shape[2])]
        outs = [*reversed(channels[:-1]), channels[0]]
        for a, b, size in zip(reversed(channels), outs, ups, strict=True):
            layers += [self._block(a), _Up(size), nn.Conv2d(a, b, 3, padding=1), self._act()]
        return nn.Sequential(*layers, nn.Conv2d(channels[0], shape[0], 3, padding=1))

    def _stages(self, shape: tuple[int, ...]) -> tuple[list[tuple[int, int]], list[int]]:
        """The picture's size and the channels after each stage."""
        if len(shape) != 3:
            raise ConfigError(f"nets 'conv' need pictures, not cells of shape {shape}", hint="use nets 'mlp'")
        h, w = shape[1:]
        sizes: list[tuple[int, int]] = []
        while not sizes or min(h, w) > self.smallest:
            h, w = (h + 1) // 2, (w + 1) // 2
            sizes.append((h, w))
        return sizes, [self.channels * min(4, 2**i) for i in range(len(sizes))]

    def _act(self) -> nn.Module:
        return Activate(self.activation)

    def _block(self, channels: int) -> nn.Module:
        return Residual(
            nn.Sequential(
                nn.Conv2d(channels, channels, 3, padding=1), self._act(), nn.Conv2d(channels, channels, 3, padding=1)
            )
        )
