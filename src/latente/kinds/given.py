"""What is given beside the rows of a conditional model: columns of a table, or labels; apart from them and back."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor

from ..errors import ConfigError, DataError
from ..parts import nearest
from .columns import Numeric
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
    if not hasattr(raw, "columns"):
        raise ConfigError(
            f"condition names the column {next(iter(names))!r}, and these rows have no names",
            hint="condition=True takes the y of fit(X, y)",
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


def cells(table: Table, given: pd.DataFrame) -> Tensor:
    """What is given as a model's context: cells, NaN where it is missing. [rows, m]"""
    batch = table.to_batch(given)
    return batch.x if batch.observed is None else batch.x.masked_fill(~batch.observed, float("nan"))


def chosen(table: Table, given: Any, rows: int) -> pd.DataFrame:
    """The table of `given` for `rows` rows: a dict for all of them ({"plan": "gold"}), a frame, or labels.

    Names that are left out are unknown. Raises ConfigError for a name or level that the model does not have.
    """
    labels = [c.label for c in table.columns]
    names = [str(label) for label in labels]
    if not isinstance(given, dict):
        frame = _table(given, rows)
        if len(names) == 1 and frame.shape[1] == 1:
            frame.columns = pd.Index(labels)
        return frame
    # By their text: a column may be named by a number, which the command line does not know from "3".
    given = {str(name): None if pd.isna(value) else value for name, value in given.items()}
    for name, value in given.items():
        if name not in names:
            raise ConfigError(f"the model is not conditioned on {name!r}", hint=nearest(name, names))
        column = table.columns[names.index(name)]
        levels = getattr(column, "levels", None)
        if levels is not None and value is not None and str(value) not in map(str, levels):
            raise ConfigError(f"{name!r} has no value {value!r}", hint=nearest(str(value), map(str, levels)))
        if isinstance(column, Numeric) and value is not None:
            _require_in_range(column, value)
    values = {c.label: [_as_level(c, given.get(n))] * rows for n, c in zip(names, table.columns, strict=True)}
    return pd.DataFrame(values)


def _require_in_range(column: Numeric, value: Any) -> None:
    """Refuse what the training data never came near: there the model knows nothing."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise ConfigError(
            f"{column.label!r} is a number, not {value!r}", hint=f"{column.label}={column.low:g}"
        ) from None
    if not column.low <= number <= column.high:
        raise ConfigError(
            f"{column.label!r} ran from {column.low:g} to {column.high:g} in the training data, and {value} is outside",
            hint=f"the nearest that the model knows: {column.label}={min(max(number, column.low), column.high):g}",
        )


def _as_level(column: Any, value: Any) -> Any:
    """A value as the column has it: "3" from a command line is the level 3."""
    for level in getattr(column, "levels", None) or ():
        if str(level) == str(value):
            return level
    if isinstance(value, str) and getattr(column, "levels", None) is None:
        try:
            return float(value)
        except ValueError:
            return value
    return value


def together(rows: Any, given: pd.DataFrame, order: Sequence[Any]) -> Any:
    """Rows of a table with what was given put back where it was."""
    if not hasattr(rows, "columns"):
        return rows
    if _frame_of(rows) == "polars":
        import polars

        return rows.hstack(polars.from_pandas(given)).select([str(c) for c in order])
    found = pd.concat([rows, given.set_axis(rows.index)], axis=1)
    return found[[c for c in order if c in found.columns]]
