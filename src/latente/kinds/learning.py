"""Which column a series is, and its numbers: the rules by which a table's schema is learned."""

import datetime
import decimal
import math
import warnings
from collections.abc import Iterable
from typing import Any, Literal

import numpy as np
import pandas as pd

from ..errors import DataError
from .base import DataWarning
from .binned import binned
from .columns import (
    MICROS_PER_DAY,
    PER_DAY,
    Binary,
    Categorical,
    Column,
    Constant,
    Datetime,
    Identifier,
    Numeric,
    plain,
    refuse_containers,
    to_days,
    to_numbers,
)

_Unit = Literal["D", "h", "m", "s", "ms"]

# Levels that are kept of a categorical column, the most frequent first; the rest share `<other>`.
MAX_LEVELS = 500
# Text of which more than this share is unique, in at least that many rows, is a name or an id, not a category.
UNIQUE_SHARE, UNIQUE_ROWS = 0.9, 50
# Words of a cell on average from which on such a column is texts, not names.
PROSE = 4
# A column of text of which no more than this share of the cells is no number, among so many different numbers, was
# meant as one of numbers.
NEARLY, FEWEST_NUMBERS = 0.1, 20
# Levels that are counted at once; beyond, the rarer half is forgotten.
MOST_LEVELS = 200_000


def learn(label: Any, series: pd.Series) -> Column:
    """The column of a series, by its type and values.

    - no value at all, or one value: Constant
    - booleans, and numbers that are all one of two integers: Binary
    - other numbers: Numeric, integer if every value is
    - dates and times: Datetime
    - text, categories, anything else: Categorical; nearly unique text: identifiers, never learned

    Raises DataError for an infinity and DataTypeError for containers.
    """
    growing = Growing(label)
    growing.add(series)
    return growing.column()


class Growing:
    """What the rules must know of one column, gathered part by part in memory that does not grow with the parts.

    Counts are exact. Beyond `most` values a random sample of that many stands for all, beside witnesses: the values on
    which a rule can turn, such as the extremes or the first that is no whole number. Only the median and the
    interquartile range are then estimates. Of text beyond `MOST_LEVELS` values the rare ones are forgotten.
    """

    def __init__(self, label: Any, most: int = 100_000, seed: int = 0) -> None:
        self.label, self.most = label, most
        self.rows = self.gaps = self.parts = 0
        self._dtype, self._empty = "", pd.Series(dtype=object)
        self._families: set[str] = set()
        self._categories: dict[Any, None] = {}
        self._ordered = False
        self._keys = np.random.default_rng(seed)
        self._pool: list[tuple[pd.Series, np.ndarray]] = []  # values by row number, and their keys in the draw
        self._counts: dict[Any, int] = {}
        self._distinct: _Distinct | None = None

    def add(self, series: pd.Series) -> None:
        """The next part of the column."""
        start, self.rows = self.rows, self.rows + len(series)
        self.parts += 1
        values = series.set_axis(pd.RangeIndex(start, self.rows))
        if values.dtype == object:
            refuse_containers(values, self.label, start)
        present = values.dropna()
        self.gaps += len(values) - len(present)
        other = self._dtype not in ("", str(values.dtype))
        self._empty = pd.concat([self._empty, values.iloc[:0]]) if other else values.iloc[:0]
        self._dtype = str(self._empty.dtype)
        if self._dtype == "category":
            self._categories |= dict.fromkeys(values.cat.categories)
            self._ordered = bool(values.cat.ordered)
        if len(present) == 0:
            return
        family = _family(self.label, present)
        if other and self._families - {family}:
            raise DataError(
                f"column {self.label!r} holds {family} from row {start} on, and {', '.join(self._families)} before",
                hint="give every block the same types",
            )
        self._families.add(family)
        if family == "numbers":
            to_numbers(values, self.label, start)  # raises for an infinity, with its row
        if family == "levels" or values.dtype == object:
            self._count(present)
        if family != "levels" or values.dtype == object:
            if self._pool and sum(len(values) for values, _ in self._pool) + len(present) > 2 * self.most:
                self._thin()
            self._pool.append((present, self._keys.random(len(present))))

    def column(self, tokens: bool = False) -> Column:
        """The column of all parts; tokens: numbers and dates as tokens, and numbers that count rows as identifiers."""
        label, missing, dtype = self.label, self.gaps / max(1, self.rows), self._dtype
        if self.gaps == self.rows:
            return Constant(label, dtype, missing, None, "empty")
        if self.parts > 1:
            self._thin()
        present = pd.concat([values for values, _ in self._pool]) if self._pool else pd.Series(dtype=object)
        if dtype == "object":
            dtype, present = _sharpen(present)
        family = _family(label, present) if self._pool else "levels"
        if family == "booleans":
            return _two_valued(label, dtype, missing, present, (False, True))
        if family == "numbers":
            column: Column = _number(label, dtype, missing, present)
            if tokens and isinstance(column, Numeric):
                values = to_numbers(present, label)
                return (
                    Identifier(label, dtype, missing, int(column.high)) if _counts(values) else binned(column, values)
                )
            return column
        if family == "dates":
            column = _date(label, dtype, missing, present)
            return binned(column, to_days(present, label)) if tokens and isinstance(column, Datetime) else column
        column = self._levels(missing)
        self._say_if_nearly_numbers()
        if tokens and isinstance(column, Constant) and column.reason == "identifier" and dtype != "category":
            return Identifier(label, dtype, missing, text=True)
        return column

    def _say_if_nearly_numbers(self) -> None:
        """A note if all but a few of the cells are numbers written as text: a stray word has made levels of them."""
        values = [v for v in self._counts if isinstance(v, str)]
        numbers = pd.to_numeric(pd.Series(values, dtype=object), errors="coerce").notna().to_numpy()
        odd = [v for v, number in zip(values, numbers, strict=True) if not number]
        cells, words = sum(self._counts[v] for v in values), sum(self._counts[v] for v in odd)
        if odd and numbers.sum() >= FEWEST_NUMBERS and words <= NEARLY * cells:
            warnings.warn(
                f"{words:,} of {cells:,} cells of column {self.label!r} are no numbers ({odd[0]!r}), so it is read as "
                "text: leave such cells empty if it is one of numbers",
                DataWarning,
                stacklevel=2,
            )

    def _count(self, present: pd.Series) -> None:
        cells = present if present.dtype == "str" else pd.Series(plain(present), dtype=object)
        counts = cells.value_counts(sort=False)
        found = counts.index.to_numpy(object)
        for value, count in zip(found, counts.tolist(), strict=True):
            self._counts[value] = self._counts.get(value, 0) + count
        if self._distinct is not None:
            self._distinct.add(found)
        if len(self._counts) > MOST_LEVELS and self.parts > 1:
            if self._distinct is None:
                self._distinct = _Distinct()
                self._distinct.add(self._counts)
            self._counts = dict(_ranked(self._counts)[: MOST_LEVELS // 2])

    def _levels(self, missing: float) -> Column:
        label, dtype, present = self.label, self._dtype, self.rows - self.gaps
        levels = [_jsonable(value) for value, _ in _ranked(self._counts)]
        number = len(levels) if self._distinct is None else self._distinct.number
        if number == 1:
            return Constant(label, dtype, missing, levels[0], "constant")
        if present >= UNIQUE_ROWS and number > UNIQUE_SHARE * present:
            if sum(len(str(v).split()) for v in levels[:UNIQUE_ROWS]) >= PROSE * UNIQUE_ROWS:
                note = f"column {label!r} is text, and was left out: --text-col {label} learns from it alone"
                warnings.warn(note, DataWarning, stacklevel=2)
            return Constant(label, dtype, missing, None, "identifier")
        categories = tuple(_jsonable(_item(value)) for value in self._categories)
        kept, rare = tuple(levels[:MAX_LEVELS]), tuple(levels[MAX_LEVELS:])
        return Categorical(label, dtype, missing, kept, rare, categories, self._ordered)

    def _thin(self) -> None:
        """Leave the sample, which are the values of the smallest keys, and the witnesses."""
        values = pd.concat([values for values, _ in self._pool]) if self._pool else pd.Series(dtype=object)
        if len(values) <= self.most:
            return
        keys = np.concatenate([keys for _, keys in self._pool])
        kept = np.zeros(len(values), bool)
        kept[np.argpartition(keys, self.most)[: self.most]] = True
        kept[_witnesses(self.label, values)] = True
        self._pool = [(values[kept], keys[kept])]


class _Distinct:
    """About how many values differ, from the smallest of their hashes: off by about 1 %.

    Source: Bar-Yossef et al. 2002, "Counting distinct elements in a data stream", algorithm 1.
    """

    most = 10_000

    def __init__(self) -> None:
        self._smallest = np.empty(0, np.uint64)

    def add(self, values: Iterable[Any]) -> None:
        text = np.array([str(value) for value in values], dtype=object)
        hashes = pd.util.hash_array(text, categorize=False)
        self._smallest = np.unique(np.concatenate([self._smallest, hashes]))[: self.most]

    @property
    def number(self) -> int:
        if len(self._smallest) < self.most:
            return len(self._smallest)
        return int((self.most - 1) / (float(self._smallest[-1]) / 2.0**64))


def _ranked(counts: dict[Any, int]) -> list[tuple[Any, int]]:
    # Ties are broken by the level itself, so that the order of rows does not matter.
    return sorted(counts.items(), key=lambda kv: (-kv[1], str(kv[0])))


def _family(label: Any, present: pd.Series) -> Literal["booleans", "numbers", "dates", "levels"]:
    """By which rules a column's present cells are read; raises DataError for what none reads."""
    if present.dtype == object:
        present = _sharpen(present)[1]
    if pd.api.types.is_complex_dtype(present.dtype):
        raise DataError(
            f"Complex data not supported: column {label!r}", hint="make columns of its real and imaginary part"
        )
    if pd.api.types.is_timedelta64_dtype(present.dtype):
        raise DataError(f"column {label!r} holds durations", hint=f"df[{label!r}] = df[{label!r}].dt.total_seconds()")
    if isinstance(present.dtype, pd.CategoricalDtype):
        return "levels"
    if pd.api.types.is_bool_dtype(present.dtype):
        return "booleans"
    if pd.api.types.is_numeric_dtype(present.dtype):
        return "numbers"
    return "dates" if pd.api.types.is_datetime64_any_dtype(present.dtype) else "levels"


def _witnesses(label: Any, present: pd.Series) -> np.ndarray:
    """The places of cells that decide what a column is: first ones, extremes, those that break a rule."""
    places = {0}
    family = _family(label, present)
    if present.dtype == object:
        # One of each type: whether a column is of numbers alone depends on a single cell.
        places |= {int(p) for p in np.unique([type(v).__name__ for v in present], return_index=True)[1]}
        present = _sharpen(present)[1]
    if family == "numbers":
        values = to_numbers(present, label)
        broken = [values != np.rint(values)]
    elif family == "dates":
        values = to_days(present, label)
        broken = [~fits for fits in _fits(values).values()]
    elif family == "booleans":
        values, broken = present.to_numpy(float), []
    else:
        return np.array(sorted(places))
    # The first of three values, if there are as many, tells that they are more than two.
    places |= {int(values.argmin()), int(values.argmax())}
    other = (values != values.min()) & (values != values.max())
    places |= {int(where.argmax()) for where in (*broken, other) if where.any()}
    return np.array(sorted(places))


def _sharpen(present: pd.Series) -> tuple[str, pd.Series]:
    """An object column by what its cells are: numbers, dates, booleans, or mixed."""
    kinds = {type(v) for v in present}
    if kinds and kinds <= {bool, np.bool_}:
        return "object", present.astype(bool)
    numbers = (int, float, np.integer, np.floating, decimal.Decimal)
    if kinds and all(issubclass(k, numbers) and k is not bool for k in kinds):
        return "object", present.astype(float)
    if kinds and all(issubclass(k, datetime.date) for k in kinds):
        whole = not any(issubclass(k, datetime.datetime) for k in kinds)
        return ("date" if whole else "datetime64[ns]"), pd.to_datetime(present)
    return "object", present


def _two_valued(label: Any, dtype: str, missing: float, present: pd.Series, levels: tuple[Any, Any]) -> Column:
    seen = present.unique()
    if len(seen) == 1:
        return Constant(label, dtype, missing, _item(seen[0]), "constant")
    return Binary(label, dtype, missing, levels)


def _number(label: Any, dtype: str, missing: float, present: pd.Series) -> Column:
    values = to_numbers(present, label)
    low, high = float(values.min()), float(values.max())
    if low == high:
        return Constant(label, dtype, missing, _item(present.iloc[0]), "constant")
    integer = bool((values == np.rint(values)).all())
    if integer and not ((values != low) & (values != high)).any():
        return Binary(
            label, dtype, missing, (_item(present[values == low].iloc[0]), _item(present[values == high].iloc[0]))
        )
    if integer and dtype == "object" and np.abs(values).max() < 2**53:
        dtype = "int64"
    elif dtype == "object":
        dtype = "float64"
    return Numeric(label, dtype, missing, *_scale(values), low, high, integer)


def _counts(values: np.ndarray) -> bool:
    """Whether numbers do nothing but count the rows: whole, each once, without a gap."""
    return bool(
        len(values) >= UNIQUE_ROWS and np.ptp(values) == len(values) - 1 and len(np.unique(values)) == len(values)
    )


def _date(label: Any, dtype: str, missing: float, present: pd.Series) -> Column:
    values = to_days(present, label)
    low, high = float(values.min()), float(values.max())
    if low == high:
        return Constant(label, dtype, missing, str(present.iloc[0]), "constant")
    unit: _Unit = next((unit for unit, fits in _fits(values).items() if fits.all()), "ms")
    return Datetime(label, dtype, missing, *_scale(values), low, high, unit)


def _fits(values: np.ndarray) -> dict[_Unit, np.ndarray]:
    """Which days fall on a whole unit, for each unit but the finest."""
    micros = np.rint(values * MICROS_PER_DAY)
    # Float days resolve about a microsecond: that is what "falls on a whole unit" can mean.
    return {
        unit: np.abs(micros - np.rint(values * per) * (MICROS_PER_DAY // per)) <= 2
        for unit, per in PER_DAY.items()
        if unit != "ms"
    }


def _scale(values: np.ndarray) -> tuple[float, float]:
    """Median, and a scale that a few wild cells cannot move: IQR / 1.349, else the standard deviation."""
    q1, median, q3 = np.percentile(values, [25, 50, 75])
    # A column that is mostly one value has no IQR; and a spread lost in rounding is no scale either.
    scale = (q3 - q1) / 1.349
    if scale <= 1e-9 * max(1e-300, abs(median)):
        scale = values.std()
    return float(median), float(scale) if scale > 0 else 1.0


def _item(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _jsonable(value: Any) -> Any:
    """Levels live in a JSON document: text, numbers and booleans as they are, anything else by its text."""
    if isinstance(value, float) and not math.isfinite(value):
        raise DataError(
            f"a column of categories holds {value}", hint="replace infinities, by NaN for missing for example"
        )
    return value if isinstance(value, (str, int, float, bool)) else str(value)
