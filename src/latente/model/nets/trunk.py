"""What a ladder of latents stands on: features that climb from the data, and a state that comes down to them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn


@dataclass(frozen=True, eq=False, kw_only=True)
class Trunk:
    """The nets of a ladder of n levels, without its distributions.

    shapes: of a row at each level, top first; features and state of a level have the same. up: n blocks, bottom first;
    the first takes the data, and what block i gives are the features of level n - 1 - i. down: n blocks, top first;
    block i takes the state of the level above it to that of level i, and the first takes zeros, so that the state at
    the top is learned. out: from the last state to the likelihood's parameters. mix(a, b): a linear map of channels, a
    to b, at every place of a level. In use:

        features = [x := block(x) for block in trunk.up][::-1]
        state = zeros(b, *trunk.shapes[0])
        for i, down in enumerate(trunk.down):
            state = down(state)                 # p(z_i | z_above) is a mix of it, q(z_i | x, z_above) of
            state = state + inject[i](z_i)      # cat([state, features[i]], 1); inject[i] is a mix
        parameters = trunk.out(state)
    """

    shapes: tuple[tuple[int, ...], ...]
    up: nn.ModuleList
    down: nn.ModuleList
    out: nn.Module
    mix: Callable[[int, int], Any]
