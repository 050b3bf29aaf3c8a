"""Numbers and dates as tokens: values that stand out by themselves, and bins of about equal weight between them."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from ..parts import part, require
from .columns import Column, Datetime, Encoded, Numeric

# Bins of a column, at most, and the fewest values in one; a value more frequent than a bin is a token of its own.
BINS, FEWEST = 100, 20
# Pieces of a bin that are as heavy as each other: within a piece values lie evenly.
PIECES = 8
# A column of no more values than this, each this often on average, is nothing but tokens.
MOST_VALUES, OFTEN = 200, 20
# Decimals that a column's values are tried with; beyond, they count as exact.
DECIMALS = 8


@part("column", "binned")
@dataclass(frozen=True)
class Binned(Column):
    """A number or a date, `of`, as a token and a place within it: 3.25 is a quarter of the way through token 3.

    atoms: values that are tokens of their own (a point mass at zero or at a cap; all values of a column that has few).
    edges: of the bins' pieces, `PIECES` a bin, from the lowest to the highest. Tokens stand in the order of their
    values. decimals: those that the training data needed; -1 if more than can be told.
    """

    of: Any = field(default_factory=lambda: Numeric(high=1.0))
    atoms: tuple[float, ...] = (0.0, 1.0)
    edges: tuple[float, ...] = ()
    decimals: int = -1

    def __post_init__(self) -> None:
        require(isinstance(self.of, (Numeric, Datetime)), self, "of", "a numeric or datetime column")
        require(len(self.atoms) + len(self.edges) > 1, self, "atoms", "two tokens or more, with the bins")
        require(len(self.edges) % PIECES == (1 if self.edges else 0), self, "edges", f"{PIECES} pieces for each bin")
        for name in ("atoms", "edges"):
            require(list(getattr(self, name)) == sorted(getattr(self, name)), self, name, "in order")

    @property
    def size(self) -> int:
        """Number of tokens."""
        return len(self.atoms) + self.bins

    @property
    def bins(self) -> int:
        """Number of bins."""
        return len(self.edges) // PIECES

    @cached_property
    def _order(self) -> tuple[np.ndarray, np.ndarray]:
        """(of each token, the number of its atom, or that of all atoms plus its bin's; the inverse), by value."""
        middles = [*self.atoms, *(self.edges[i * PIECES + PIECES // 2] for i in range(self.bins))]
        order = np.argsort(middles, kind="stable")
        return order, np.argsort(order)

    @cached_property
    def centres(self) -> np.ndarray:
        """The mean value of each token. [tokens]"""
        edges = np.array(self.edges)
        pieces = (edges[1:] + edges[:-1]) / 2
        return np.concatenate([self.atoms, pieces.reshape(-1, PIECES).mean(1)])[self._order[0]]

    def values(self, series: pd.Series) -> np.ndarray:
        """Cells as float64 [n], NaN where missing."""
        return self.of._values(series)

    def cells(self, values: np.ndarray) -> pd.Series:
        """Values as cells of the column's own type, precision and range."""
        if self.decimals >= 0:
            values = np.round(values, self.decimals)
        return self.of._cells(np.clip(values, self.of.low, self.of.high))

    def encode(self, series: pd.Series) -> Encoded:
        values = self.values(series)
        observed = ~np.isnan(values)
        return Encoded(np.where(observed, self.places(np.where(observed, values, self.of.low)), 0.0), observed)

    def places(self, values: np.ndarray) -> np.ndarray:
        """Values as tokens and places within them. [n]"""
        atoms, edges = np.array(self.atoms), np.array(self.edges)
        at = np.zeros(len(values), int)
        exact = np.zeros(len(values), bool)
        if len(atoms):
            # The nearest atom: where there are no bins, a value between two atoms is read as the nearer one.
            at = np.searchsorted((atoms[1:] + atoms[:-1]) / 2, values)
            exact = atoms[at] == values
        if not self.bins:
            return self._order[1][at].astype(float)
        piece = np.clip(np.searchsorted(edges, values, "right") - 1, 0, len(edges) - 2)
        width = np.maximum(edges[piece + 1] - edges[piece], 1e-300)
        within = np.clip((values - edges[piece]) / width, 0.0, 1.0)
        # A float32 must hold token and place: 1 − 2⁻¹⁰ leaves room for a thousand tokens.
        place = np.minimum((piece % PIECES + within) / PIECES, 1 - 2.0**-10)
        return np.where(exact, self._order[1][at], self._order[1][len(atoms) + piece // PIECES] + place)

    def decode(self, numbers: np.ndarray) -> pd.Series:
        tokens = np.clip(np.nan_to_num(numbers).astype(int), 0, self.size - 1)
        kind = self._order[0][tokens]
        values = np.zeros(len(numbers))
        exact = kind < len(self.atoms)
        values[exact] = np.array(self.atoms)[kind[exact]] if exact.any() else 0.0
        at = (kind[~exact] - len(self.atoms) + np.clip(numbers[~exact] - tokens[~exact], 0, 1)) * PIECES
        if len(at):
            values[~exact] = np.interp(at, np.arange(len(self.edges)), self.edges)
        return self.cells(values)

    def within(self, low: float, high: float) -> tuple[np.ndarray, np.ndarray]:
        """From where to where in each token values from `low` to `high` lie: each [tokens], equal where none does."""
        first, last = np.zeros(self.size), np.zeros(self.size)
        edges = np.array(self.edges)
        for token, kind in enumerate(self._order[0]):
            if kind < len(self.atoms):
                last[token] = float(low <= self.atoms[kind] <= high)
                continue
            own = edges[(kind - len(self.atoms)) * PIECES :][: PIECES + 1]
            first[token], last[token] = np.interp([low, high], own, np.arange(PIECES + 1) / PIECES)
        return first, last

    def log_volume(self, numbers: np.ndarray) -> np.ndarray:
        if not self.bins:
            return np.zeros(len(numbers))
        tokens = np.clip(numbers.astype(int), 0, self.size - 1)
        kind = self._order[0][tokens] - len(self.atoms)
        piece = np.clip(kind * PIECES + ((numbers - tokens) * PIECES).astype(int), 0, len(self.edges) - 2)
        width = np.maximum(np.diff(self.edges)[piece], 10.0**-DECIMALS if self.decimals < 0 else 10.0**-self.decimals)
        # A token of its own has a probability, not a density.
        return np.where(kind < 0, 0.0, -np.log(PIECES * width))

    @property
    def summary(self) -> str:
        shown = ", ".join(f"{v:g}" for v in self.atoms[:3]) + (" …" if len(self.atoms) > 3 else "")
        tokens = f"{len(self.atoms)} values by themselves" + (f" ({shown})" if self.atoms and self.bins else "")
        parts = [tokens] * bool(self.atoms) + [f"{self.bins} bins"] * bool(self.bins)
        precision = f", {self.decimals} decimals" if self.decimals > 0 else ""
        return f"{self.of.summary}{precision}: {' and '.join(parts)}"


def binned(column: Numeric | Datetime, values: np.ndarray) -> Binned:
    """`column` as tokens, from its values [n] in the training data."""
    distinct, counts = np.unique(values, return_counts=True)
    n = len(values)
    shared = {"label": column.label, "dtype": column.dtype, "missing": column.missing, "of": column}
    decimals = _decimals(distinct) if isinstance(column, Numeric) else -1
    if len(distinct) <= MOST_VALUES and n >= OFTEN * len(distinct):
        return Binned(**shared, atoms=tuple(distinct.tolist()), decimals=decimals)
    atoms = distinct[counts > max(n / BINS, FEWEST / 2)]
    rest = values[~np.isin(values, atoms)]
    bins = int(np.clip(len(rest) // FEWEST, 1, BINS)) if len(rest) else 0
    edges = _edges(np.sort(rest), bins * PIECES + 1) if bins else np.empty(0)
    return Binned(**shared, atoms=tuple(atoms.tolist()), edges=tuple(edges.tolist()), decimals=decimals)


def _edges(values: np.ndarray, many: int) -> np.ndarray:
    """Quantiles of sorted values [n] at so many even steps, each but the first and the last the mean of some values
    around: the schema is to hold no single row's number.
    """
    reach = max(2, len(values) // (2 * many))
    total = np.concatenate([[0.0], np.cumsum(values)])
    at = np.arange(len(values))
    low, high = np.maximum(at - reach, 0), np.minimum(at + reach + 1, len(values))
    mean = (total[high] - total[low]) / (high - low)
    edges = np.interp(np.linspace(0, len(values) - 1, many), at, mean)
    edges[0], edges[-1] = values[0], values[-1]
    return np.maximum.accumulate(np.clip(edges, values[0], values[-1]))


def _decimals(values: np.ndarray) -> int:
    """The fewest decimals that all of the values have; -1 if they are more than can be told."""
    for decimals in range(DECIMALS + 1):
        if np.allclose(np.round(values, decimals), values, rtol=1e-12, atol=0):
            return decimals
    return -1
