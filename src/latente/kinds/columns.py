"""A table's columns: each turns its cells into numbers and back; the fitted ones are the schema.

In a batch a column is one float32: a scaled number, or the index of a level. A cell that is missing is 0 there and
False in the mask. How a column is chosen and measured: `learning.py`.
"""

import datetime
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from ..errors import DataError, DataTypeError
from ..parts import part, require

# Beyond this many robust standard deviations a value's distance counts by its logarithm: one cell of 1e9 among units
# must not own the gradient, and still must not become equal to a cell of 1e6.
KNEE = 3.0
MICROS_PER_DAY = 86_400_000_000
PER_DAY: dict[Literal["D", "h", "m", "s", "ms"], int] = {"D": 1, "h": 24, "m": 1440, "s": 86_400, "ms": 86_400_000}


@dataclass(frozen=True)
class Encoded:
    """A column as numbers [n], which of them were observed [n], and how many cells the training data did not have."""

    numbers: np.ndarray
    observed: np.ndarray
    unseen: int = 0


@dataclass(frozen=True)
class Column(ABC):
    """label: the column's name. dtype: what pandas called its type. missing: share of missing cells in training."""

    label: Any = ""
    dtype: str = "float64"
    missing: float = 0.0

    @abstractmethod
    def encode(self, series: pd.Series) -> Encoded:
        """Cells to numbers. Raises DataError, with the row, for a cell of another type."""

    @abstractmethod
    def decode(self, numbers: np.ndarray) -> pd.Series:
        """Numbers [n] to cells in the column's own type, levels and range."""

    def log_volume(self, numbers: np.ndarray) -> np.ndarray:
        """log |d number / d cell|: added to a density of numbers, it gives the density of cells. [n]"""
        return np.zeros(len(numbers))

    @property
    @abstractmethod
    def summary(self) -> str:
        """One line for `info`."""


@dataclass(frozen=True)
class _Scaled(Column, ABC):
    """Median to 0, interquartile range to 1.35 (a unit Gaussian's), tails damped beyond KNEE; back into [low, high]."""

    center: float = 0.0
    scale: float = 1.0
    low: float = 0.0
    high: float = 0.0

    def __post_init__(self) -> None:
        require(self.scale > 1e-300, self, "scale", "above 0")
        require(self.low <= self.high, self, "high", "no lower than low")

    @abstractmethod
    def _values(self, series: pd.Series) -> np.ndarray: ...

    @abstractmethod
    def _cells(self, values: np.ndarray) -> pd.Series: ...

    def encode(self, series: pd.Series) -> Encoded:
        values = self._values(series)
        observed = ~np.isnan(values)
        return Encoded(np.where(observed, damp((values - self.center) / self.scale), 0.0), observed)

    def decode(self, numbers: np.ndarray) -> pd.Series:
        values = undamp(numbers.astype(np.float64)) * self.scale + self.center
        return self._cells(np.clip(values, self.low, self.high))

    def log_volume(self, numbers: np.ndarray) -> np.ndarray:
        return -np.log(self.scale) - np.maximum(np.abs(numbers) - KNEE, 0.0)


@part("column", "numeric")
@dataclass(frozen=True)
class Numeric(_Scaled):
    """A number; `integer` columns come back rounded."""

    integer: bool = False

    def _values(self, series: pd.Series) -> np.ndarray:
        return to_numbers(series, self.label)

    def _cells(self, values: np.ndarray) -> pd.Series:
        return as_dtype(np.rint(values) if self.integer else values, self.dtype)

    @property
    def summary(self) -> str:
        return f"{'integer' if self.integer else 'numeric'} {self.low:g} … {self.high:g}"


@part("column", "datetime")
@dataclass(frozen=True)
class Datetime(_Scaled):
    """A date or time, as days since 1970; comes back rounded to `unit`, the coarsest that the training data needed."""

    unit: Literal["D", "h", "m", "s", "ms"] = "D"

    def _values(self, series: pd.Series) -> np.ndarray:
        return to_days(series, self.label)

    def _cells(self, values: np.ndarray) -> pd.Series:
        per_day = PER_DAY[self.unit]
        stamps = pd.Series(np.rint(values * per_day).astype("int64") * (MICROS_PER_DAY // per_day))
        if self.dtype == "date":
            return stamps.astype("datetime64[us]").dt.date
        return pd.to_datetime(stamps, unit="us", utc="," in self.dtype).astype(self.dtype)  # type: ignore[call-overload]

    @property
    def summary(self) -> str:
        low, high = (np.datetime64(int(v * PER_DAY["s"]), "s") for v in (self.low, self.high))
        return f"date/time {low} … {high}, to the {self.unit}"


@part("column", "categorical")
@dataclass(frozen=True)
class Categorical(Column):
    """Levels, the most frequent first; the index after the last is `<other>`: rare levels, and those never seen.

    rare: training levels that share `<other>`. categories: the pandas categories, in their order, where the column was
    a categorical; `ordered` is theirs.
    """

    dtype: str = "str"
    levels: tuple[Any, ...] = ()
    rare: tuple[Any, ...] = ()
    categories: tuple[Any, ...] = ()
    ordered: bool = False

    def __post_init__(self) -> None:
        require(len(set(self.levels)) == len(self.levels), self, "levels", "different from each other")

    @property
    def size(self) -> int:
        """Number of levels, `<other>` included."""
        return len(self.levels) + 1

    def encode(self, series: pd.Series) -> Encoded:
        observed = series.notna().to_numpy(bool)
        text = all(isinstance(v, str) for v in self.levels)
        index = _places(series, self.levels, text)
        other = observed & (index < 0)
        rare = set(self.rare)
        unseen = sum(cell not in rare for cell in plain(series.iloc[np.flatnonzero(other)], text))
        return Encoded(np.where(observed, np.where(other, len(self.levels), index), 0.0), observed, unseen)

    def decode(self, numbers: np.ndarray) -> pd.Series:
        # `<other>` is not a value that the training data had: its most frequent member stands for it.
        table = np.array([*self.levels, (self.rare or self.levels)[0]], dtype=object)
        cells = table[np.clip(np.rint(np.nan_to_num(numbers)), 0, len(self.levels)).astype(int)]
        if self.dtype == "category":
            return pd.Series(pd.Categorical(cells, list(self.categories), ordered=self.ordered))
        return as_dtype(cells, self.dtype)

    @property
    def summary(self) -> str:
        shown = ", ".join(str(v) for v in self.levels[:4])
        return f"categorical, {len(self.levels)} levels: {shown}{' …' if len(self.levels) > 4 else ''}"


@part("column", "binary")
@dataclass(frozen=True)
class Binary(Column):
    """Two values, true or false, 0 or 1. A third, seen later, is missing to the model, and counted."""

    dtype: str = "bool"
    levels: tuple[Any, ...] = (False, True)

    def __post_init__(self) -> None:
        require(len(set(self.levels)) == 2, self, "levels", "two values")

    def encode(self, series: pd.Series) -> Encoded:
        observed = series.notna().to_numpy(bool)
        index = _places(series, self.levels)
        known = observed & (index >= 0)
        return Encoded(np.where(known, index, 0.0), known, int((observed & ~known).sum()))

    def decode(self, numbers: np.ndarray) -> pd.Series:
        return as_dtype(np.array(self.levels, dtype=object)[(numbers > 0.5).astype(int)], self.dtype)

    @property
    def summary(self) -> str:
        return f"binary: {self.levels[0]}, {self.levels[1]}"


@part("column", "constant")
@dataclass(frozen=True)
class Constant(Column):
    """A column that takes no part in the model: one value in every row, no value at all, or identifiers.

    It comes back as that value; identifiers, which must never be learned, come back missing.
    """

    value: Any = None
    reason: str = "constant"

    def encode(self, series: pd.Series) -> Encoded:
        nothing = np.zeros(len(series))
        cells = plain(series)[series.notna().to_numpy(bool)]
        changed = 0 if self.value is None else sum(v != self.value and str(v) != self.value for v in cells)
        return Encoded(nothing, nothing.astype(bool), int(changed))

    def decode(self, numbers: np.ndarray) -> pd.Series:
        if self.value is None:
            empty = pd.Series([None] * len(numbers), dtype=object)
            return (
                empty
                if self.dtype in ("date", "category", "bool") or "int" in self.dtype
                else as_dtype(empty, self.dtype)
            )
        if self.dtype == "date" or "datetime" in self.dtype:
            stamps = pd.Series(pd.to_datetime([self.value] * len(numbers), utc="," in self.dtype))
            return stamps.dt.date if self.dtype == "date" else stamps.astype(self.dtype)  # type: ignore[call-overload]
        if self.dtype == "category":
            return pd.Series(pd.Categorical([self.value] * len(numbers)))
        return as_dtype(np.full(len(numbers), self.value, dtype=object), self.dtype)

    @property
    def summary(self) -> str:
        what = {"constant": f"always {self.value}", "empty": "all missing", "identifier": "identifiers"}[self.reason]
        return f"{what}: not modelled"


@part("column", "identifier")
@dataclass(frozen=True)
class Identifier(Column):
    """Numbers that count rows, or text that is nearly unique: no part of the model. Numbers of new rows are counted on
    from the `last` of the training data; text is the column's name and a number from 1 (`text`).
    """

    last: int = 0
    text: bool = False

    def encode(self, series: pd.Series) -> Encoded:
        nothing = np.zeros(len(series))
        return Encoded(nothing, nothing.astype(bool))

    def decode(self, numbers: np.ndarray) -> pd.Series:
        count = np.arange(self.last + 1, self.last + 1 + len(numbers))
        if self.text:
            return as_dtype(np.array([f"{self.label}-{i}" for i in count], dtype=object), self.dtype)
        return as_dtype(count, self.dtype)

    @property
    def summary(self) -> str:
        if self.text:
            return f"identifiers: not modelled, new ones are {self.label}-1, {self.label}-2, …"
        return f"counts rows up to {self.last}: not modelled, new rows are counted on"


def damp(t: np.ndarray, knee: float = KNEE) -> np.ndarray:
    """Linear up to `knee`, logarithmic beyond, with one slope at the joint."""
    excess = np.maximum(np.abs(t) - knee, 0.0)
    return np.where(excess > 0, np.sign(t) * (knee + np.log1p(excess)), t)


def undamp(t: np.ndarray, knee: float = KNEE) -> np.ndarray:
    """The inverse of `damp`."""
    # A number above knee + 80 is beyond anything that a trained net gives, and exp would overflow.
    excess = np.clip(np.abs(t) - knee, 0.0, 80.0)
    return np.where(excess > 0, np.sign(t) * (knee + np.expm1(excess)), t)


def _places(series: pd.Series, levels: tuple[Any, ...], as_text: bool = False) -> np.ndarray:
    """The place of each cell among the levels; -1 where it is none of them, or missing. [n]"""
    known = pd.Index(list(levels), dtype=object)
    if isinstance(series.dtype, (pd.StringDtype, pd.CategoricalDtype)):
        # Each distinct value is looked up once: a column of text has few of them beside its rows.
        codes, distinct = pd.factorize(series)
        found = known.get_indexer(pd.Index(plain(pd.Series(distinct), as_text), dtype=object))
        return np.where(codes >= 0, np.append(found, -1)[codes], -1)
    return known.get_indexer(pd.Index(plain(series, as_text), dtype=object))


def plain(series: pd.Series, as_text: bool = False) -> np.ndarray:
    """Cells as Python values [n] (object); missing ones are None."""
    cells = series.astype(object).to_numpy(object)
    missing = series.isna().to_numpy(bool)
    out = np.empty(len(cells), dtype=object)
    for i, v in enumerate(cells):
        out[i] = None if missing[i] else (v.item() if isinstance(v, np.generic) else v)
    if as_text:
        out = np.array([v if v is None or isinstance(v, str) else str(v) for v in out] or [], dtype=object)
    return out


def to_numbers(series: pd.Series, label: Any, start: int = 0) -> np.ndarray:
    """Cells as float64 [n], NaN where missing. Raises DataError for text or an infinity; rows count from `start`."""
    if series.dtype == object:
        refuse_containers(series, label, start)
    dated: list[int] = []
    if series.dtype == object or pd.api.types.is_datetime64_any_dtype(series.dtype):
        dated = [row for row, v in enumerate(series) if isinstance(v, (datetime.date, np.datetime64))]
    if dated:
        row = dated[0]
        raise DataError(
            f"column {label!r}, row {start + row}: {series.iloc[row]} is a date, and the model learned numbers there",
            hint=f"give numbers, as at fit time: df[{label!r}].dt.year",
        )
    try:
        values = pd.to_numeric(series).to_numpy(np.float64, na_value=np.nan)
    except (ValueError, TypeError):
        converted = pd.to_numeric(series.astype(object), errors="coerce")
        odd = np.flatnonzero(converted.isna() & series.notna())
        if len(odd) == 0:
            raise DataError(
                f"column {label!r} of type {series.dtype} cannot be read as numbers",
                hint=f"df[{label!r}].astype(float)",
            ) from None
        row = int(odd[0])
        raise DataError(
            f"column {label!r}, row {start + row}: {series.iloc[row]!r} is not a number, "
            "and the model learned numbers there",
            hint="give the column the type that it had at fit time; an empty cell (NaN) is read as missing",
        ) from None
    if np.isinf(values).any():
        row = int(np.flatnonzero(np.isinf(values))[0])
        raise DataError(
            f"column {label!r}, row {start + row}: the value is {values[row]}",
            hint="replace infinities by a number, or by NaN for missing: df.replace([np.inf, -np.inf], np.nan)",
        )
    # Squares of larger numbers overflow float64 on the way to a scale.
    if (np.abs(values) > 1e150).any():
        row = int(np.flatnonzero(np.abs(values) > 1e150)[0])
        raise DataError(
            f"column {label!r}, row {start + row}: {values[row]:g} is too large to be scaled", hint="change the unit"
        )
    return values


def to_days(series: pd.Series, label: Any, start: int = 0) -> np.ndarray:
    """Cells as days since 1970 (float64 [n]), NaN where missing. Raises DataError for what is no date; rows count from
    `start`.
    """
    try:
        # Microseconds reach from the year 1 to 9999, the usual mark of "never"; nanoseconds end in 2262.
        stamps = pd.to_datetime(series.astype(object) if series.dtype == object else series, utc=True)
        micros = stamps.astype("datetime64[us, UTC]").astype("int64").to_numpy(np.float64)
    except (ValueError, TypeError, OverflowError) as error:
        # Pandas says more than there is room for, and no row: the first that cannot be read alone is at fault.
        apart = pd.to_datetime(series.astype(object), utc=True, errors="coerce", format="mixed")
        wrong = np.flatnonzero(apart.isna().to_numpy() & series.notna().to_numpy())
        told = f", row {start + wrong[0]}: {series.iloc[wrong[0]]!r} is no date" if len(wrong) else ""
        told = told or f": {str(error).split(chr(10))[0].removesuffix(' You might want to try:')}"
        raise DataError(
            f"column {label!r}{told}; the model learned dates there",
            hint="write dates as 2024-12-31 or 2024-12-31 23:59:59",
        ) from None
    return np.where(stamps.isna(), np.nan, micros / MICROS_PER_DAY)


def as_dtype(values: np.ndarray | pd.Series, dtype: str) -> pd.Series:
    """Values as a series of the dtype that pandas named so."""
    series = pd.Series(values)
    return series if dtype in ("object", "category", str(series.dtype)) else series.astype(dtype)  # type: ignore[call-overload]


def refuse_containers(series: pd.Series, label: Any, start: int = 0) -> None:
    """Raise DataTypeError for a cell that is a list, a dict or some other object; rows count from `start`."""
    for row, value in enumerate(series, start):
        if isinstance(value, (dict, list, set, tuple, np.ndarray)) or callable(value):
            raise DataTypeError(
                f"column {label!r}, row {row}: argument must be a string or a number, not {type(value).__name__!r}",
                hint="spread containers over columns of their own: pd.json_normalize(records)",
            )
