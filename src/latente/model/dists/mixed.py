"""Mixed columns: each group of columns has a likelihood of its own."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ...parts import from_json, part
from ..batch import Batch
from .base import Dist, Likelihood


@dataclass(frozen=True)
class MixedDist(Dist):
    """Independent groups of columns, put back in the order of the table."""

    groups: tuple[tuple[Tensor, Dist], ...]  # (columns of the group, its distribution)
    inverse: Tensor  # position of each column in the concatenated groups

    def _join(self, of: Callable[[Tensor, Dist], Tensor]) -> Tensor:
        return torch.cat([of(columns, dist) for columns, dist in self.groups], -1).index_select(-1, self.inverse)

    def cells(self, x: Tensor) -> Tensor:
        return self._join(lambda columns, dist: dist.cells(x[:, columns]))

    @property
    def mean(self) -> Tensor:
        return self._join(lambda _, dist: dist.mean)

    @property
    def mode(self) -> Tensor:
        return self._join(lambda _, dist: dist.mode)

    @property
    def expectation(self) -> Tensor:
        return torch.cat([dist.expectation for _, dist in self.groups], -1)

    def sample(self, generator: torch.Generator | None) -> Tensor:
        return self._join(lambda _, dist: dist.sample(generator))


class _Mixed(Likelihood):
    inverse: Tensor

    def __init__(self, groups: list[tuple[tuple[int, ...], Likelihood]]) -> None:
        super().__init__()
        self.members = nn.ModuleList([member for _, member in groups])
        self.sizes = [member.out_shape[0] for _, member in groups]
        self.out_shape = (sum(self.sizes),)
        self.measured = any(member.measured for _, member in groups)
        order = torch.tensor([c for columns, _ in groups for c in columns])
        self.register_buffer("inverse", order.argsort(), persistent=False)
        for i, (columns, _) in enumerate(groups):
            self.register_buffer(f"columns{i}", torch.tensor(columns), persistent=False)
        flags = torch.cat([member.continuous for _, member in groups])
        self.register_buffer("continuous", flags[order.argsort()], persistent=False)

    def _columns(self, i: int) -> Tensor:
        return self.get_buffer(f"columns{i}")

    def forward(self, params: Tensor) -> MixedDist:
        pieces = params.split(self.sizes, -1)
        groups = tuple(
            (self._columns(i), m(piece)) for i, (m, piece) in enumerate(zip(self.members, pieces, strict=True))
        )
        return MixedDist(groups, self.inverse)

    def features(self, x: Tensor) -> Tensor:
        return torch.cat([m.features(x[:, self._columns(i)]) for i, m in enumerate(self.members)], -1)  # type: ignore[operator]

    def discrete(self, x: Tensor) -> bool:
        return all(m.discrete(x[:, self._columns(i)]) for i, m in enumerate(self.members))  # type: ignore[operator]

    @property
    def owner(self) -> Tensor:
        return torch.cat([self._columns(i)[m.owner] for i, m in enumerate(self.members)])  # type: ignore[index]

    def start(self, features: Tensor) -> Tensor:
        # A column's features are as many as its parameters, in the same order.
        pieces = features.split(self.sizes)
        return torch.cat([m.start(p) for m, p in zip(self.members, pieces, strict=True)])  # type: ignore[operator]

    def from_features(self, features: Tensor) -> Tensor:
        pieces = features.split(self.sizes, -1)
        cells = [m.from_features(piece) for m, piece in zip(self.members, pieces, strict=True)]  # type: ignore[operator]
        return torch.cat(cells, -1).index_select(-1, self.inverse)

    def observe(self, px: Dist, target: Batch) -> None:
        assert isinstance(px, MixedDist)
        for i, (member, (columns, dist)) in enumerate(zip(self.members, px.groups, strict=True)):
            del i
            mask = None if target.observed is None else target.observed[:, columns]
            member.observe(dist, Batch(target.x[:, columns], mask))  # type: ignore[operator]

    def restart(self) -> None:
        for member in self.members:
            member.restart()  # type: ignore[operator]


@part("likelihood", "mixed")
@dataclass(frozen=True)
class Mixed:
    """Groups of columns, each `(columns, likelihood)`; every column is in exactly one group."""

    groups: tuple[tuple[Any, ...], ...] = ()

    def build(self, shape: tuple[int, ...]) -> Likelihood:
        """The likelihood of a table's columns; `shape` is (number of columns,)."""
        built = [(tuple(c), from_json("likelihood", part).build((len(c),))) for c, part in self.groups]
        assert sorted(i for c, _ in built for i in c) == list(range(shape[0])), "every column in one group"
        return _Mixed(built)
