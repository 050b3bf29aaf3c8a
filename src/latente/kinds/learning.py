"""Which column a series is, and its numbers: the rules by which a table's schema is learned."""

import datetime
import decimal
import math
from collections.abc import Iterable, Iterator
from typing import Any, Literal

import numpy as np
import pandas as pd

from ..errors import DataError
from .columns import (
    MICROS_PER_DAY,
    PER_DAY,
    Binary,
    Categorical,
    Column,
    Constant,
    Datetime,
    Numeric,
    plain,
    refuse_containers,
    to_days,
    to_numbers,
)

# Levels that are kept of a categorical column, the most frequent first; the rest share `<other>`.
MAX_LEVELS = 500
# Text of which more than this share is unique, in at least that many rows, is a name or an id, not a category.
UNIQUE_SHARE, UNIQUE_ROWS = 0.9, 50


def learn(label: Any, series: pd.Series) -> Column:
    """The column of a series, by its type and values.

    - no value at all, or one value: Constant
    - booleans, and numbers that are all one of two integers: Binary
    - other numbers: Numeric, integer if every value is
    - dates and times: Datetime
    - text, categories, anything else: Categorical; nearly unique text: identifiers, never learned

    Raises DataError for an infinity and DataTypeError for containers.
    """
    missing = float(series.isna().mean())
    present = series.dropna()
    dtype = str(series.dtype)
    if series.dtype == object:
        refuse_containers(series, label)
        dtype, present = _sharpen(present)
    if len(present) == 0:
        return Constant(label, dtype, missing, None, "empty")
    if pd.api.types.is_complex_dtype(present.dtype):
        raise DataError(
            f"Complex data not supported: column {label!r}", hint="make columns of its real and imaginary part"
        )
    if pd.api.types.is_timedelta64_dtype(present.dtype):
        raise DataError(f"column {label!r} holds durations", hint=f"df[{label!r}] = df[{label!r}].dt.total_seconds()")
    if pd.api.types.is_bool_dtype(present.dtype) and dtype != "category":
        return _two_valued(label, dtype, missing, present, (False, True))
    if pd.api.types.is_numeric_dtype(present.dtype) and dtype != "category":
        return _number(label, dtype, missing, present)
    if dtype == "date" or pd.api.types.is_datetime64_any_dtype(present.dtype):
        return _date(label, dtype, missing, present)
    return _levels(label, dtype, missing, series, present)


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


def _date(label: Any, dtype: str, missing: float, present: pd.Series) -> Column:
    values = to_days(present, label)
    low, high = float(values.min()), float(values.max())
    if low == high:
        return Constant(label, dtype, missing, str(present.iloc[0]), "constant")
    micros = np.rint(values * MICROS_PER_DAY)
    # Float days resolve about a microsecond: that is what "falls on a whole unit" can mean.
    fits: Iterator[Literal["D", "h", "m", "s", "ms"]] = (
        u for u, per in PER_DAY.items() if (np.abs(micros - np.rint(values * per) * (MICROS_PER_DAY // per)) <= 2).all()
    )
    return Datetime(label, dtype, missing, *_scale(values), low, high, next(fits, "ms"))


def _levels(label: Any, dtype: str, missing: float, series: pd.Series, present: pd.Series) -> Column:
    cells = plain(present)
    counts = pd.Series(cells, dtype=object).value_counts()
    # Ties are broken by the level itself, so that the order of rows does not matter.
    order = sorted(counts.items(), key=lambda kv: (-kv[1], str(kv[0])))
    levels = [_jsonable(v) for v, _ in order]
    if len(levels) == 1:
        return Constant(label, dtype, missing, levels[0], "constant")
    if len(present) >= UNIQUE_ROWS and len(levels) > UNIQUE_SHARE * len(present):
        return Constant(label, dtype, missing, None, "identifier")
    categories: Iterable[Any] = ()
    ordered = False
    if dtype == "category":
        categories, ordered = (_jsonable(_item(v)) for v in series.cat.categories), bool(series.cat.ordered)
    return Categorical(
        label, dtype, missing, tuple(levels[:MAX_LEVELS]), tuple(levels[MAX_LEVELS:]), tuple(categories), ordered
    )


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
