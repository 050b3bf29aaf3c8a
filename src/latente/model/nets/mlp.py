"""Fully connected nets."""

import math
from dataclasses import dataclass

from torch import nn

from ...parts import part, require
from .layers import ACTIVATIONS, Residual


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
        layers: list[nn.Module] = [nn.Flatten(1)] if len(shape) > 1 else []
        layers += self._hidden((size, *self.widths))
        return nn.Sequential(*layers), (self.widths or (size,))[-1]

    def decoder(self, dim: int, shape: tuple[int, ...]) -> nn.Module:
        """From z [b, dim] to [b, *shape]."""
        sizes = (dim, *reversed(self.widths))
        layers = [*self._hidden(sizes), nn.Linear(sizes[-1], math.prod(shape))]
        if len(shape) > 1:
            layers.append(nn.Unflatten(1, shape))
        return nn.Sequential(*layers)

    def _hidden(self, sizes: tuple[int, ...]) -> list[nn.Module]:
        layers: list[nn.Module] = []
        for a, b in zip(sizes, sizes[1:], strict=False):
            layer = nn.Sequential(nn.Linear(a, b), ACTIVATIONS[self.activation]())
            layers.append(Residual(layer) if self.residual and a == b else layer)
        return layers
