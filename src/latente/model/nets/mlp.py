"""Fully connected nets."""

import math
from dataclasses import dataclass
from itertools import pairwise

from torch import nn

from ...parts import part, require
from .layers import ACTIVATIONS, Offset, Stack
from .trunk import Trunk

# Features of a ladder's narrowest level.
NARROWEST = 32


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

    def ladder(self, shape: tuple[int, ...], out_shape: tuple[int, ...], levels: int) -> Trunk:
        """The nets of a ladder of `levels` levels: vectors, the lowest of the first of `widths`, each above half as
        wide, down to 32; two layers a level each way.
        """
        size = math.prod(shape)
        widest = (self.widths or (size,))[0]
        sizes = [max(widest >> i, min(widest, NARROWEST)) for i in reversed(range(levels))]  # top first
        up = [self._body(a, b) for a, b in pairwise([size, *reversed(sizes)])]
        down = [Offset((sizes[0],)), *(self._body(a, b) for a, b in pairwise(sizes))]
        end = Stack((widest, widest, math.prod(out_shape)), self.activation, residual=True, open_end=True)
        up[0] = nn.Sequential(nn.Flatten(1), up[0])
        return Trunk(
            shapes=tuple((b,) for b in sizes),
            up=nn.ModuleList(up),
            down=nn.ModuleList(down),
            out=nn.Sequential(end, nn.Unflatten(1, out_shape)),
            mix=nn.Linear,
        )

    def _body(self, a: int, b: int) -> nn.Module:
        return Stack((a, b, b), self.activation, residual=True, open_end=False)
