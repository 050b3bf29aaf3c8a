"""Numbers of a column as whole numbers, within a bound; and the grid that a column's numbers lie on.

a grid: value = k · unit / per for whole k, e.g. steps of .05: unit 5, per 100
a bin holds `width` neighbours, and stands for their middle: (2 · q · width + width − 1) · unit / (2 · per)
without a grid: value = q · step
"""

from collections.abc import Sequence
from dataclasses import astuple, dataclass, replace
from typing import Any

import numpy as np

# Decimals that are looked for, and the largest whole number that a float64 and its neighbours hold.
_DECIMALS, _EXACT = 12, 1 << 52
_LARGEST = float(np.finfo(np.float32).max)
# Values that a grid is looked for on.
_LOOKED_AT = 100_000
# Of a grid's step, what values may be away from it.
_SLACK = 0.02
# Bounds of so many steps of a grid gain nothing from it, and what lies off it loses.
_WIDE = 16
# Values of a column with a step of its own, at least; values and waves that are looked at; how alike phases are; and
# parts of 1 of its steps.
_FEWEST, _WAVES, _MOST_WAVES, _ALIKE, _FINE = 8, 400, 1 << 24, 0.9, 1 << 30


@dataclass(frozen=True)
class Grid:
    """Whole multiples of unit / per. single: as float32, which is what the values were before they were float64.
    slack: values are no farther from it than this; 0 where they are on it, to the last bit.
    """

    unit: int
    per: int
    single: bool = False
    slack: float = 0.0

    @property
    def step(self) -> float:
        """The distance between two of its values."""
        return self.unit / self.per

    def places(self, values: np.ndarray) -> np.ndarray:
        """The nearest place of each finite value, as float64 whole numbers."""
        return np.rint(values.astype(np.float64) * self.per / self.unit)

    def typed(self, values: np.ndarray, dtype: Any) -> np.ndarray:
        """float64 values in a column's type."""
        return (values.astype(np.float32) if self.single else values).astype(dtype)

    def holds(self, values: np.ndarray) -> bool:
        """Whether finite values are on it, within its slack, in their own type."""
        k = self.places(values)
        if not (np.abs(k) < _EXACT / self.unit).all():
            return False
        back = self.typed(k * self.unit / self.per, values.dtype)
        return bool((np.abs(values - back) <= self.slack).all() if self.slack else (back == values).all())


def grid_of(values: np.ndarray, exact: bool = True) -> Grid | None:
    """The coarsest decimal grid that holds every finite value of a column; None if there is none. exact: to the last
    bit; else what float32 or nine printed digits do to a grid is no matter.
    """
    some = np.unique(values[np.isfinite(values)])
    if not len(some):
        return Grid(1, 1)
    far = float(np.abs(some[[0, -1]].astype(np.float64)).max())
    if values.dtype.kind in "iub":
        found = Grid(1, 1) if far < _EXACT else None
    else:
        looked = some[:: max(1, len(some) // _LOOKED_AT)]
        single = values.dtype.itemsize == 8 and far < _LARGEST and bool((looked.astype(np.float32) == looked).all())
        # Nearly every float32 is a decimal of nine digits, and a float64 of seventeen: such a grid says nothing.
        digits = 6 if values.dtype.itemsize <= 4 or single else 14
        tried = [Grid(1, 10**d, single) for d in range(_DECIMALS) if far * 10.0**d < 10.0**digits]
        if not exact:
            slack = far * float(np.finfo(np.float32).eps)
            tried += [Grid(1, 10**d, False, slack) for d in range(_DECIMALS) if slack * 10.0**d < _SLACK]
            tried.sort(key=lambda g: g.per)
        found = next((g for g in tried if g.holds(looked) and g.holds(some)), None)
    if found is None:
        return None
    # Of few values any step would do, and others that come later would be on none.
    unit = max(1, int(np.gcd.reduce(found.places(some).astype(np.int64)))) if len(some) >= _FEWEST else 1
    return replace(found, unit=unit)


def pitch_of(values: np.ndarray, bound: float) -> Grid | None:
    """A grid that nobody wrote down, to which a column's values keep within a fraction of a bound: the steps of the
    instrument behind them, of half the bound to 40 times it. None if there is none.

    Of a wave of the right length all values are at one phase: the length is where the mean of exp(2πi·value/length) is
    largest, then by least squares.
    """
    some = np.unique(values[np.isfinite(values)].astype(np.float64))
    if bound <= 0 or len(some) < _FEWEST:
        return None
    reach, looked = some[-1] - some[0], some[:: max(1, len(some) // _WAVES)]
    with np.errstate(all="ignore"):
        count = (2 / bound - 1 / (40 * bound)) * 8 * reach
    if not 0 < count * len(looked) < _MOST_WAVES:
        return None
    tried = np.arange(1 / (40 * bound), 2 / bound, 1 / (8 * reach))
    alike = np.abs(np.exp(2j * np.pi * np.outer(tried, looked)).mean(1))
    if alike.max() < _ALIKE:
        return None
    often = float(tried[alike.argmax()])
    for _ in range(3):
        k = np.rint(some * often)
        often = float(k @ k / max(k @ some, 1e-300))
    unit = round(_FINE / often)
    slack = float(np.abs(some - np.rint(some * often) * unit / _FINE).max()) * (1 + 1e-6)
    return Grid(unit, _FINE, False, slack) if unit >= 1 and 0 < slack < bound else None


@dataclass(frozen=True)
class Quantiser:
    """Whole numbers of one column. bound: no value is farther than so much from what stands for it; 0: exact."""

    dtype: str
    bound: float
    grid: Grid | None
    width: int = 1
    step: float = 0.0

    @staticmethod
    def best(dtype: np.dtype, bound: float, grids: "Sequence[Grid | None]") -> "Quantiser | None":
        """The coarsest within the bound that any of these grids, or none, allows; None if there is none."""
        found = [q for q in (Quantiser.of(dtype, bound, g) for g in grids) if q is not None]
        return max(found, key=lambda q: q.coarseness, default=None)

    @property
    def coarseness(self) -> float:
        """How wide a bin is."""
        return self.step if self.grid is None else self.width * self.grid.step

    @staticmethod
    def of(dtype: np.dtype, bound: float, grid: Grid | None) -> "Quantiser | None":
        """The coarsest within the bound; None if there is none, as the bound is 0 and there is no grid."""
        if grid is not None and (bound < _WIDE * grid.step or dtype.kind != "f"):
            # A little less than the bound: both values and middles are rounded to their type.
            inside = int(np.clip(2 * (bound - grid.slack) / grid.step * (1 - 1e-6), 0, 1e9))
            # Of whole numbers the middle must be one.
            width = inside + 1 if dtype.kind == "f" else inside // 2 * 2 + 1
            return Quantiser(dtype.name, bound, grid, width)
        # A little less than the bound allows: what rounding adds must not make exceptions of many.
        return None if bound <= 0 else Quantiser(dtype.name, bound, None, step=2 * bound * (1 - 1e-6))

    def typed(self, dtype: str) -> "Quantiser":
        """The same for a column of another type."""
        return replace(self, dtype=dtype)

    def wholes(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """int64 [n] for values [n] of its type; and which of them these do not stand for within the bound, as bool [n]:
        NaN, infinities, what is on no grid, what is too large. Those repeat the value before them.
        """
        with np.errstate(all="ignore"):
            if self.grid is not None:
                q = np.floor(self.grid.places(values) / self.width)
            else:
                q = np.rint(values.astype(np.float64) / self.step)
            fits = np.abs(q) * self.width * (self.grid.unit if self.grid else 1) < _EXACT
        q = np.where(fits, q, 0.0).astype(np.int64)
        with np.errstate(all="ignore"):
            back = self.values(q)
            if values.dtype.kind == "f":
                off = np.abs(values.astype(np.float64) - back.astype(np.float64))
                good = (off <= self.bound) if self.bound > 0 else _same(values, back)
            else:
                good = np.abs(values.astype(np.float64) - back.astype(np.float64)) <= self.bound
                good &= (values == back) | (self.bound > 0)
        odd = ~(good & fits)
        if odd.any():
            last = np.maximum.accumulate(np.where(odd, -1, np.arange(len(q))))
            q = np.where(last >= 0, q[np.maximum(last, 0)], 0)
        return q, odd

    def values(self, wholes: np.ndarray) -> np.ndarray:
        """What whole numbers stand for, in the column's type. Every operation is one rounding of IEEE 754."""
        q = wholes.astype(np.float64)
        if self.grid is None:
            return (q * self.step).astype(self.dtype)
        if self.width % 2:  # the middle is on the grid
            found = (q * self.width + self.width // 2) * self.grid.unit / self.grid.per
        else:
            found = (2 * q * self.width + (self.width - 1)) * self.grid.unit / (2 * self.grid.per)
        return self.grid.typed(found, self.dtype)

    def to_json(self) -> list[Any]:
        """For a header or a model file."""
        return [self.dtype, self.bound, None if self.grid is None else [*astuple(self.grid)], self.width, self.step]

    @staticmethod
    def from_json(document: list[Any]) -> "Quantiser":
        """Raises ValueError or TypeError for what `to_json` does not give."""
        dtype, bound, grid, width, step = document
        if np.dtype(dtype).kind not in "iuf" or not (np.isfinite(bound) and bound >= 0 and np.isfinite(step)):
            raise ValueError(f"no column is of type {dtype} within {bound}")
        if type(width) is not int or not 1 <= width <= 1 << 40 or (grid is None and step <= 0):
            raise ValueError("a column's bins cannot be so wide")
        if grid is not None:
            unit, per, single, slack = grid
            if not all(type(g) is int and 1 <= g < _EXACT for g in (unit, per)) or not np.isfinite(slack):
                raise ValueError(f"no grid has steps of {unit} / {per}")
            grid = Grid(unit, per, bool(single), float(slack))
        return Quantiser(np.dtype(dtype).name, float(bound), grid, width, float(step))


def _same(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Where floats are the same bits: −0.0 is not 0.0."""
    return (a == b) & (np.signbit(a) == np.signbit(b))
