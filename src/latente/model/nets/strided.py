"""Strided convolutions that read pictures, and a fully connected net that draws them."""

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from ...errors import ConfigError
from ...parts import part, require
from .layers import ACTIVATIONS, Activate


class _ChannelsLast(nn.Module):
    """The layout in which convolutions are fastest."""

    def forward(self, h: Tensor) -> Tensor:
        return h.contiguous(memory_format=torch.channels_last)


@part("nets", "strided")
@dataclass(frozen=True)
class Strided:
    """Convolutions 4×4 that halve the picture, each with batch normalisation, then `width` features; the decoder is
    fully connected, `width` and `hidden` wide.

    For codes and labels rather than for fine pictures: a step costs a quarter of one of `conv`. channels: at each
    halving. norm: whether layers are normalised over the batch.
    """

    channels: tuple[int, ...] = (32, 64)
    width: int = 256
    hidden: int = 512
    norm: bool = True
    activation: str = "relu"

    def __post_init__(self) -> None:
        require(len(self.channels) >= 1, self, "channels", "one or more")
        require(all(c >= 1 for c in self.channels), self, "channels", "1 or more each")
        for field in ("width", "hidden"):
            require(getattr(self, field) >= 1, self, field, "1 or more")
        require(self.activation in ACTIVATIONS, self, "activation", f"one of {', '.join(ACTIVATIONS)}")

    def encoder(self, shape: tuple[int, ...]) -> tuple[nn.Module, int]:
        """The body on pictures of `shape` (c, h, w), and the width of its features."""
        if len(shape) != 3:
            raise ConfigError(f"nets 'strided' need pictures, not cells of shape {shape}", hint="--set nets=mlp")
        h, w = shape[1:]
        layers: list[nn.Module] = [_ChannelsLast()]
        for a, b in pairwise((shape[0], *self.channels)):
            layers += [nn.Conv2d(a, b, 4, stride=2, padding=(1 + h % 2, 1 + w % 2), bias=not self.norm)]
            layers += [*self._normed(nn.BatchNorm2d, b), Activate(self.activation)]
            h, w = (h + 1) // 2, (w + 1) // 2
        size = self.channels[-1] * h * w
        layers += [nn.Flatten(1), nn.Linear(size, self.width, bias=not self.norm)]
        return nn.Sequential(*layers, *self._normed(nn.BatchNorm1d, self.width), Activate(self.activation)), self.width

    def decoder(self, dim: int, shape: tuple[int, ...]) -> nn.Module:
        """From z [b, dim] to [b, *shape]."""
        sizes = (dim, self.width, self.hidden)
        layers: list[nn.Module] = []
        for a, b in pairwise(sizes):
            layers += [nn.Linear(a, b), Activate(self.activation)]
        end = nn.Linear(self.hidden, math.prod(shape))
        return nn.Sequential(*layers, end, nn.Unflatten(1, shape))

    def _normed(self, norm: type[nn.Module], size: int) -> list[nn.Module]:
        if not self.norm:
            return []
        layer = norm(size)
        # How many batches it has seen is of no use, and a whole number in a file of reals.
        layer.register_buffer("num_batches_tracked", None)
        return [layer]
