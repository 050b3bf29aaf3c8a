"""Random draws that have a row axis: where several processes train one model, each takes the draws of its own rows.

All processes draw for the rows of all, from generators in one state, and keep what is theirs: so a run is the same
whether one process makes it or several.
"""

from collections.abc import Callable

import torch
from torch import Tensor


class Shared(torch.Generator):
    """A generator of a team: `rank` of `size` processes, which have `total` rows together and take them in turn."""

    rank: int = 0
    size: int = 1
    total: int = 0

    def own(self, draws: Tensor, axis: int) -> Tensor:
        """This process's rows of draws for all."""
        return draws[(slice(None),) * axis + (slice(self.rank, None, self.size),)]


def normal(shape: tuple[int, ...], generator: torch.Generator | None, device: torch.device, rows: int = 0) -> Tensor:
    """Standard normal draws; `rows` is the axis of the rows."""
    if isinstance(generator, Shared) and generator.total:
        shape = (*shape[:rows], generator.total, *shape[rows + 1 :])
        return generator.own(torch.randn(shape, generator=generator, device=device), rows)
    return torch.randn(shape, generator=generator, device=device)


def drawn(draw: Callable[[int], Tensor], rows: int, generator: torch.Generator | None) -> Tensor:
    """One draw for each of this process's rows, where `draw(n)` gives n of them from `generator`. [rows, ...]"""
    if isinstance(generator, Shared) and generator.total:
        return generator.own(draw(generator.total), 0)
    return draw(rows)


def uniform(shape: tuple[int, ...], generator: torch.Generator | None, device: torch.device) -> Tensor:
    """Draws from [0, 1); the first axis is the rows'."""
    if isinstance(generator, Shared) and generator.total:
        shape = (generator.total, *shape[1:])
        return generator.own(torch.rand(shape, generator=generator, device=device), 0)
    return torch.rand(shape, generator=generator, device=device)


def bernoulli(p: Tensor, generator: torch.Generator) -> Tensor:
    """1 with probability p [rows, ...], else 0."""
    if isinstance(generator, Shared) and generator.total:
        return (uniform(tuple(p.shape), generator, p.device) < p).to(p.dtype)
    return torch.bernoulli(p, generator=generator)


def others(rows: int, generator: torch.Generator | None, device: torch.device) -> Tensor:
    """For each row another one of this process's, drawn at random."""
    if isinstance(generator, Shared) and generator.total:
        return generator.own(torch.randperm(generator.total, generator=generator, device=device), 0) % rows
    return torch.randperm(rows, generator=generator, device=device)


def standard_normal(n: int, dim: int, generator: torch.Generator | None) -> Tensor:
    """n standard normal draws, on the generator's device. [n, dim]"""
    return torch.randn((n, dim), generator=generator, device="cpu" if generator is None else generator.device)
