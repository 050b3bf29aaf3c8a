"""Columns that follow from another: found, left out of the model, and read off that one."""

from dataclasses import dataclass, field
from itertools import permutations
from typing import Any

import numpy as np
import pandas as pd

from ..parts import part, require
from .binned import Binned
from .columns import Binary, Categorical, Column, Encoded

# A column follows from another only if that one's levels are seen so many times on average: else it may be chance.
ROWS_PER_LEVEL = 10
# Levels of a column, at most, for it to be looked at.
MOST_LEVELS = 200


@part("column", "derived")
@dataclass(frozen=True)
class Derived(Column):
    """A column each of whose cells follows from another's: it takes no part in the model, and is read off that one.

    of: the column as it would be by itself. source: the label of the other. places: of each token of the source the
    token here; −1 where the training data had none.
    """

    of: Any = field(default_factory=Binary)
    source: Any = None
    places: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        require(level_count(self.of) > 0, self, "of", "a column of levels")
        require(all(-1 <= p < level_count(self.of) for p in self.places), self, "places", "levels of the column")

    def encode(self, series: pd.Series) -> Encoded:
        return self.of.encode(series)

    def decode(self, numbers: np.ndarray) -> pd.Series:
        return self.of.decode(numbers)

    def follow(self, source: np.ndarray) -> np.ndarray:
        """Tokens here of cells of the source. [n]"""
        places = np.array(self.places)
        found = places[np.clip(source.astype(int), 0, len(places) - 1)]
        # `<other>` without rare levels comes back as the first level: see `Categorical`.
        return np.maximum(np.where(found < 0, places[0], found), 0).astype(float)

    def back(self, tokens: np.ndarray) -> np.ndarray:
        """The one token of the source from which each token here follows; −1 where there are several, or none. [n]"""
        places = np.array(self.places)
        counts = np.bincount(places[places >= 0], minlength=level_count(self.of))
        first = np.full(len(counts), -1)
        seen = np.flatnonzero(places >= 0)
        first[places[seen]] = seen
        return np.where(counts == 1, first, -1)[np.clip(tokens.astype(int), 0, len(counts) - 1)]

    def allows(self, token: np.ndarray) -> np.ndarray:
        """Which tokens of the source each token [n] here can follow from. bool [n, tokens of the source]"""
        return np.array(self.places) == token.astype(int)[:, None]

    @property
    def summary(self) -> str:
        return f"follows from {self.source}: {self.of.summary}"


def level_count(column: Column) -> int:
    """Tokens of a column that is nothing but levels; 0 for any other."""
    if isinstance(column, Categorical):
        return column.size
    if isinstance(column, Binary):
        return 2
    return column.size if isinstance(column, Binned) and not column.bins else 0


def derived(columns: list[Column], frame: pd.DataFrame) -> tuple[list[Column], list[Derived]]:
    """The columns, with those that follow from another in every row of `frame`, and it from them, as Derived; and as
    rules those that follow where both are there, or from which the other does not follow: these stay what they are,
    because where the other is missing they tell something of it.

    Of two that follow from each other the first stays.
    """
    tokens, there = {}, {}
    for i, column in enumerate(columns):
        if 0 < level_count(column) <= MOST_LEVELS:
            cells = column.encode(frame.iloc[:, i])
            tokens[i], there[i] = cells.numbers.astype(int), cells.observed
    follows: dict[tuple[int, int], tuple[int, ...]] = {}
    for i, j in permutations(tokens, 2):
        both = there[i] & there[j]
        places = _places(tokens[i][both], tokens[j][both], level_count(columns[i]), level_count(columns[j]))
        if places is not None:
            follows[i, j] = tuple(places.tolist())
    found, rules = list(columns), []
    for j in tokens:
        own = columns[j]
        sources = [i for i in tokens if (i, j) in follows and (i < j or (j, i) not in follows)]
        # First those that are there in the same rows: then the column need not be modelled at all.
        for i in sorted(sources, key=lambda i: ((j, i) not in follows, bool((there[i] != there[j]).any()))):
            if isinstance(found[i], Derived):
                continue
            one = Derived(own.label, own.dtype, own.missing, own, columns[i].label, follows[i, j])
            if (there[i] == there[j]).all() and (j, i) in follows:
                found[j] = one
            else:
                rules.append(one)
            break
    # A rule's source is a column of the model.
    return found, [r for r in rules if not any(isinstance(c, Derived) and c.label == r.source for c in found)]


def _places(a: np.ndarray, b: np.ndarray, size_a: int, size_b: int) -> np.ndarray | None:
    """Of each token of a the one token of b that goes with it, if it is one; None if b does not follow from a."""
    counts = np.bincount(a * size_b + b, minlength=size_a * size_b).reshape(size_a, size_b)
    seen = (counts.sum(1) > 0).sum()
    if ((counts > 0).sum(1) > 1).any() or (counts.sum(0) > 0).sum() < 2 or len(a) < ROWS_PER_LEVEL * seen:
        return None
    return np.where(counts.sum(1) > 0, counts.argmax(1), -1)
