"""Columns that have few levels, far apart: the rank of the nearest level, and what is left, which is hardly ever not 0.

A sensor that counts in steps of its own, of which nobody told, has such levels; as differences they look like noise.
"""

from dataclasses import dataclass

import numpy as np

# A level occurs so often at least; together they are this share of the rows; a column's range is so many times their
# number, or ranks would say nothing that numbers do not.
_FEWEST, _MOST, _SHARE, _SPARSE = 3, 64, 0.95, 4


@dataclass(frozen=True, eq=False)
class Ranks:
    """counts int32 [c]: how many levels each column has, 0 where it is left as it is; levels int64: those of all, each
    column's sorted.
    """

    counts: np.ndarray
    levels: np.ndarray

    def __post_init__(self) -> None:
        if (self.counts < 0).any() or int(self.counts.sum()) != len(self.levels) or self.levels.dtype != np.int64:
            raise ValueError("the levels of columns do not go together")
        if any((np.diff(own) <= 0).any() for own in self._each()):
            raise ValueError("the levels of a column are not sorted")

    @staticmethod
    def of(wholes: np.ndarray) -> "Ranks":
        """The levels of columns int64 [n, c]."""
        found = []
        for column in wholes.T:
            values, times = np.unique(column, return_counts=True)
            often = times >= _FEWEST
            kept = values[often]
            few = 2 <= len(kept) <= _MOST and times[often].sum() >= _SHARE * len(column)
            found.append(kept if few and values[-1] - values[0] > _SPARSE * len(kept) else kept[:0])
        return Ranks(np.array([len(f) for f in found], np.int32), np.concatenate(found).astype(np.int64))

    @property
    def columns(self) -> int:
        """How many columns `split` makes."""
        return len(self.counts) + int((self.counts > 0).sum())

    def split(self, wholes: np.ndarray) -> np.ndarray:
        """Columns [n, c] with ranks in place of numbers, and behind them what is left of those. [n, columns]"""
        ranks, rest = wholes.copy(), []
        for i, own in enumerate(self._each()):
            if len(own):
                middles = (own[:-1] >> 1) + (own[1:] >> 1) + (own[:-1] & own[1:] & 1) + 1
                ranks[:, i] = np.searchsorted(middles, wholes[:, i], "right")
                rest.append(wholes[:, i] - own[ranks[:, i]])
        return np.column_stack([ranks, *rest])

    def join(self, split: np.ndarray) -> np.ndarray:
        """What `split` split. [n, c]"""
        found = split[:, : len(self.counts)].copy()
        at = len(self.counts)
        for i, own in enumerate(self._each()):
            if len(own):
                found[:, i] = own[np.clip(split[:, i], 0, len(own) - 1)] + split[:, at]
                at += 1
        return found

    def _each(self) -> list[np.ndarray]:
        return np.split(self.levels, np.cumsum(self.counts)[:-1])
