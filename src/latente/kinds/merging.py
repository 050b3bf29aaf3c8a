"""A schema for other rows: what a model knows of columns, matched by name, with what the new rows bring."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from ..errors import ConfigError, DataError
from .base import Kind
from .columns import Binary, Categorical, Column, Datetime, Numeric
from .table import Table, as_frame

# Columns that go on as they were learned, if the new rows hold the same sort of thing.
LASTING = (Numeric, Datetime, Categorical, Binary)


@dataclass(frozen=True)
class Merged:
    """A schema, and of which columns it came: names."""

    kind: Kind
    shared: tuple[str, ...] = ()
    added: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()

    @property
    def changed(self) -> bool:
        """Whether other columns take part than before."""
        return bool(self.added or self.left_out)

    @property
    def words(self) -> str:
        """What was done, in a sentence."""
        parts = [f"{len(self.shared)} columns matched by name"]
        for names, what in ((self.added, "new"), (self.left_out, "not there any more")):
            if names:
                few = ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")
                parts.append(f"{len(names)} {what} ({few})")
        return "; ".join(parts)


def merged(old: Kind, raw: Any) -> Merged:
    """The schema of `old` for the rows of `raw`: a table's columns are matched by name, scales stay as they were, new
    levels and columns are added, those that are not there any more are left out. Other kinds stay as they are.

    Raises DataError if no column is shared, ConfigError for a chain of columns that would have to change.
    """
    if not isinstance(old, Table) or not (hasattr(raw, "columns") or hasattr(raw, "shape")):
        return Merged(old)
    frame = as_frame(raw)
    unnamed = all(isinstance(c, (int, np.integer)) for c in frame.columns)
    names = [str(c) for c in frame.columns]
    before = {str(c.label): c for c in old.columns}
    if unnamed and len(names) == len(before):
        return Merged(old, tuple(before))
    shared = [n for n in names if n in before]
    if not shared:
        raise DataError(
            f"the model and these data share no column: it knows {_few(list(before))}, they have {_few(names)}",
            hint="rename the columns to the model's, or fit another model: latente fit DATA",
        )
    fresh = _learned(old, frame)
    columns, same = [], []
    for name, column in zip(names, fresh, strict=True):
        known = before.get(name)
        kept = None if known is None else _kept(known, column)
        columns.append(column if kept is None else kept)
        if kept is not None:
            same.append(name)
    added = [n for n in names if n not in same]
    gone = [n for n in before if n not in names]
    if not same:
        raise DataError(
            "no column that the model and these data share holds the same sort of thing in both",
            hint="latente info MODEL shows what it knows of each",
        )
    levels = any(isinstance(c, Categorical) and c != before.get(n) for c, n in zip(columns, names, strict=True))
    if old.chained and (added or gone or levels):
        raise ConfigError(
            "a chain of columns cannot take other columns or levels than those it was fitted on: "
            + Merged(old, tuple(same), tuple(added), tuple(gone)).words,
            hint="fit it anew, or begin with a model of recipe vae or pretrained",
        )
    if old.chained:
        return Merged(old, tuple(same))
    return Merged(replace(old, columns=tuple(columns), rules=()), tuple(same), tuple(added), tuple(gone))


def _learned(old: Table, frame: pd.DataFrame) -> list[Column]:
    """The frame's columns by themselves."""
    plain = replace(old, columns=(), rules=())
    return list(plain.learn(frame).columns)  # type: ignore[attr-defined]


def _kept(known: Column, fresh: Column) -> Column | None:
    """What a model knows of a column, widened by what new rows hold; None if they hold another sort of thing."""
    if not isinstance(known, LASTING):
        return known if type(known) is type(fresh) else None
    if isinstance(known, (Numeric, Datetime)):
        if isinstance(fresh, type(known)):
            return replace(known, low=min(known.low, fresh.low), high=max(known.high, fresh.high))
        return known if _numeric_level(known, fresh) else None
    levels = _levels(fresh)
    if levels is None or (levels and not set(levels) & set(_levels(known) or ())):
        return None
    if isinstance(known, Binary):
        return known if set(levels) <= set(known.levels) else None
    assert isinstance(known, Categorical)
    return replace(known, levels=(*known.levels, *(v for v in levels if v not in known.levels)))


def _levels(column: Column) -> tuple[Any, ...] | None:
    """The values of a column that has few; None of any other."""
    if isinstance(column, (Categorical, Binary)):
        return column.levels
    value = getattr(column, "value", None)
    return (value,) if value is not None else None


def _numeric_level(known: Column, fresh: Column) -> bool:
    """Whether a column of numbers has become one of two numbers, or of one: still numbers."""
    return isinstance(known, Numeric) and all(isinstance(v, (int, float)) for v in _levels(fresh) or ("",))


def _few(names: list[str]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
