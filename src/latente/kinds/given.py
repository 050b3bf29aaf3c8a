"""What is given beside the rows of a conditional model: columns of a table, or labels; apart from them and back."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor

from ..errors import ConfigError, DataError
from ..parts import nearest
from .columns import Datetime, Numeric
from .counted import Counted
from .sources import Source
from .table import Table, _frame_of, as_frame

Names = Sequence[str] | bool | None
# Labels that are whole numbers are classes if they have no more values than this.
CLASSES = 50


def apart(raw: Any, names: Names, y: Any = None) -> tuple[Any, pd.DataFrame | None]:
    """Rows without what is given, and that as a table. names: columns of `raw`, or True (of pictures also "label"):
    `y`, or the labels that pictures bring with them.

    Raises ConfigError if there are no such columns, DataError if `y` has another number of rows.
    """
    if not names:
        return raw, None
    if isinstance(raw, Source):
        raise ConfigError("a conditional model is fitted in memory", hint="--stream no")
    if names is True or (list(names) == ["label"] and not hasattr(raw, "columns")):
        y = getattr(raw, "labels", None) if y is None else y
        if y is None:
            return raw, None
        table = _table(y, len(raw))
        # By the name that it was asked for: `--condition-col label`, `--given label=cat`.
        return raw, table if names is True else table.set_axis(list(names), axis=1)
    if isinstance(raw, Counted):
        absent = [n for n in names if n not in raw.about.columns]
        if absent:
            known = ", ".join(map(str, raw.about.columns[:8])) or "none"
            raise ConfigError(f"there is no column {absent[0]!r} beside the counts", hint=f"columns: {known}")
        return raw, raw.about[list(names)].reset_index(drop=True)
    if not hasattr(raw, "columns"):
        raise ConfigError(
            f"condition names the column {next(iter(names))!r}, and these rows have no names",
            hint="--condition-col label: of pictures the folder or the labels file; Python: condition=True, fit(X, y)",
        )
    have = list(raw.columns)
    for name in names:
        if name not in have:
            raise ConfigError(f"there is no column {name!r} to condition on", hint=nearest(name, map(str, have)))
    rest = [c for c in have if c not in names]
    if not rest:
        raise ConfigError("every column is given, and none is left to model", hint="condition on fewer columns")
    return raw[rest], as_frame(raw[list(names)]).reset_index(drop=True)


def _table(y: Any, rows: int) -> pd.DataFrame:
    """Labels as a table of one column, named as they are or "y"."""
    if _frame_of(y) == "polars" and not hasattr(y, "columns"):
        y = y.to_pandas()
    if isinstance(y, pd.DataFrame) or _frame_of(y) == "polars":
        frame = as_frame(y).reset_index(drop=True)
    else:
        name = getattr(y, "name", None)
        frame = pd.DataFrame({str(name) if name is not None else "y": np.asarray(y).reshape(-1)})
        # Whole numbers that name classes are levels, not amounts.
        if frame.dtypes.iloc[0].kind in "iu" and frame.iloc[:, 0].nunique() <= CLASSES:
            frame = frame.astype("category")
    if len(frame) != rows:
        raise DataError(f"{rows:,} rows and {len(frame):,} labels", hint="give one label for each row")
    return frame


def parsed(text: str) -> dict[str, Any]:
    """What a command line gives, "plan=gold,age=60", by name. A piece without a "=" belongs to the value before it: a
    level may have commas. Raises ConfigError.
    """
    found: dict[str, Any] = {}
    name = ""
    for piece in text.split(","):
        left, equals, right = piece.partition("=")
        if not equals and not name:
            raise ConfigError(f"--given takes NAME=VALUE, not {piece!r}", hint="as in --given plan=gold,age=60")
        if not equals:
            found[name] += f",{piece}"
            continue
        name = left.strip()
        if name in found:
            raise ConfigError(f"{name!r} is given twice", hint=f"--given {name}={right.strip()}")
        found[name] = right.strip()
    return found


def between(a: pd.DataFrame, b: pd.DataFrame, steps: int) -> pd.DataFrame:
    """What is given along a way from row a to row b: amounts in proportion, of all else a's for the first half."""
    t = np.linspace(0.0, 1.0, steps)
    first = pd.concat([a.head(1)] * int((t < 0.5).sum()) + [b.head(1)] * int((t >= 0.5).sum()), ignore_index=True)
    for c in first.columns:
        ends = a[c].iloc[0], b[c].iloc[0]
        if all(isinstance(v, (int, float, np.number)) and not isinstance(v, bool) and np.isfinite(v) for v in ends):
            way = (1 - t) * float(ends[0]) + t * float(ends[1])
            whole = all(isinstance(v, (int, np.integer)) for v in ends)
            first[c] = np.rint(way).astype(int) if whole else way
    return first


def cells(table: Table, given: pd.DataFrame) -> Tensor:
    """What is given as a model's context: cells, NaN where it is missing. [rows, m]"""
    batch = table.to_batch(given)
    return batch.x if batch.observed is None else batch.x.masked_fill(~batch.observed, float("nan"))


def chosen(table: Table, given: Any, rows: int) -> pd.DataFrame:
    """The table of `given` for `rows` rows: a dict for all of them ({"plan": "gold"}), its text ("plan=gold"), a frame,
    or labels.

    Names that are left out are unknown. Raises ConfigError for a name or level that the model does not have.
    """
    labels = [c.label for c in table.columns]
    names = [str(label) for label in labels]
    if isinstance(given, str):
        given = parsed(given)
    if not isinstance(given, dict):
        frame = _table(given, rows)
        if len(names) == 1 and frame.shape[1] == 1:
            frame.columns = pd.Index(labels)
        return frame[[c for c in frame.columns if c in labels]]
    # By their text: a column may be named by a number, which the command line does not know from "3".
    given = {str(name): None if pd.isna(value) else value for name, value in given.items()}
    for name, value in given.items():
        if name not in names:
            raise ConfigError(f"the model is not conditioned on {name!r}", hint=nearest(name, names))
        column = table.columns[names.index(name)]
        levels = getattr(column, "levels", None)
        if levels is not None and value is not None and str(value) not in map(str, levels):
            raise ConfigError(f"{name!r} has no value {value!r}", hint=nearest(str(value), _in_order(levels)))
        if isinstance(column, (Numeric, Datetime)) and value is not None:
            _require_in_range(column, value)
    values = {c.label: [_as_level(c, given.get(n))] * rows for n, c in zip(names, table.columns, strict=True)}
    return pd.DataFrame(values)


def _in_order(levels: Any) -> list[str]:
    """Levels as words, numbers among them by size."""
    return sorted(map(str, levels), key=lambda text: (not text.isdigit(), int(text) if text.isdigit() else 0, text))


def _require_in_range(column: Numeric | Datetime, value: Any) -> None:
    """Refuse what the training data never came near: there the model knows nothing."""
    dated = isinstance(column, Datetime)

    def shown(number: float) -> str:
        return str(pd.Timestamp(0) + pd.Timedelta(days=number)).removesuffix(" 00:00:00") if dated else f"{number:g}"

    low, high = shown(column.low), shown(column.high)
    try:
        number = (pd.Timestamp(value) - pd.Timestamp(0)) / pd.Timedelta(days=1) if dated else float(value)
    except (TypeError, ValueError):
        raise ConfigError(
            f"{column.label!r} is a {'date' if dated else 'number'}, not {value!r}", hint=f"{column.label}={low}"
        ) from None
    if not column.low <= number <= column.high:
        raise ConfigError(
            f"{column.label!r} ran from {low} to {high} in the training data, and {value} is outside",
            hint=f"the nearest that the model knows: {column.label}={low if number < column.low else high}",
        )


def _as_level(column: Any, value: Any) -> Any:
    """A value as the column has it: "3" from a command line is the level 3."""
    for level in getattr(column, "levels", None) or ():
        if str(level) == str(value):
            return level
    if isinstance(value, str) and getattr(column, "levels", None) is None:
        try:
            value = float(value)
        except ValueError:
            return value
    whole = isinstance(column, Numeric) and column.integer and value is not None
    return int(value) if whole and float(value).is_integer() else value


def together(rows: Any, given: pd.DataFrame, order: Sequence[Any]) -> Any:
    """Rows of a table with what was given put back where it was; of counts, beside them."""
    if isinstance(rows, Counted):
        return replace(rows, about=given.set_axis(rows.about.index))
    if not hasattr(rows, "columns"):
        return rows
    if _frame_of(rows) == "polars":
        import polars

        return rows.hstack(polars.from_pandas(given)).select([str(c) for c in order])
    found = pd.concat([rows, given.set_axis(rows.index)], axis=1)
    return found[[c for c in order if c in found.columns]]
