"""Fully connected nets."""

import math
from dataclasses import dataclass

from torch import nn

from ...parts import part, require
from .layers import ACTIVATIONS, Stack


@part("nets", "mlp")
@dataclass(frozen=True)
class Mlp:
    """Linear layers of `widths`, from the input to the latent; the decoder mirrors them. () is a linear model.

    residual: layers between equal widths are h + f(h), which trains deeper nets at the same cost.
    """

    widths: tuple[int, ...] = (256, 256)
    activation: str = "silu"
    residual: bool = False

    def __post_init__(self) -> None:
        require(all(w >= 1 for w in self.widths), self, "widths", "1 or more each")
        require(self.activation in ACTIVATIONS, self, "activation", f"one of {', '.join(ACTIVATIONS)}")

    def encoder(self, shape: tuple[int, ...]) -> tuple[nn.Module, int]:
        """The body on inputs of `shape`, and the width of its features."""
        size = math.prod(shape)
        body = Stack((size, *self.widths), self.activation, self.residual, open_end=False)
        return nn.Sequential(nn.Flatten(1), body), (self.widths or (size,))[-1]

    def decoder(self, dim: int, shape: tuple[int, ...]) -> nn.Module:
        """From z [b, dim] to [b, *shape]."""
        body = Stack((dim, *reversed(self.widths), math.prod(shape)), self.activation, self.residual, open_end=True)
        return nn.Sequential(body, nn.Unflatten(1, shape))
