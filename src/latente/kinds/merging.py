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
    levels: tuple[str, ...] = ()

    @property
    def changed(self) -> bool:
        """Whether other columns or levels take part than before."""
        return bool(self.added or self.left_out or self.levels)

    @property
    def words(self) -> str:
        """What was done, in a sentence."""
        parts = [f"{len(self.shared)} columns matched by name"]
        for names, what in (
            (self.added, "new"),
            (self.left_out, "not there any more"),
            (self.levels, "with new levels"),
        ):
            if names:
                few = ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")
                parts.append(f"{len(names)} {what} ({few})")
        return "; ".join(parts)


def merged(old: Kind, raw: Any) -> Merged:
    """The schema of `old` for the rows of `raw`: a table's columns are matched by name, scales stay as they were, new
    levels and columns are added, those that are not there any more are left out. Other kinds stay as they are, as do
    the columns of a chain.

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
    if old.chained:
        if set(names) == set(before):
            return Merged(old, tuple(shared))
        new, gone = tuple(n for n in names if n not in before), tuple(n for n in before if n not in names)
        other = Merged(old, tuple(shared), new, gone)
        raise ConfigError(
            f"a chain of columns (recipe tabular) cannot take other columns than its own: {other.words}",
            hint="begin with a model of recipe pretrained: latente fit DATA --recipe pretrained",
        )
    columns, same, levels = [], [], []
    for i, (name, fresh) in enumerate(zip(names, _learned(old, frame), strict=True)):
        known = before.get(name)
        kept = None if known is None else _kept(known, fresh, frame.iloc[:, i])
        columns.append(fresh if kept is None else kept)
        if kept is not None:
            same.append(name)
        if isinstance(kept, Categorical) and kept != known:
            levels.append(name)
    if not same:
        raise DataError(
            "no column that the model and these data share holds the same sort of thing in both",
            hint="latente info MODEL shows what it knows of each",
        )
    new, gone = tuple(n for n in names if n not in same), tuple(n for n in before if n not in names)
    return Merged(replace(old, columns=tuple(columns), rules=()), tuple(same), new, gone, tuple(levels))


def _learned(old: Table, frame: pd.DataFrame) -> list[Column]:
    """The frame's columns by themselves."""
    plain = replace(old, columns=(), rules=())
    return list(plain.learn(frame).columns)  # type: ignore[attr-defined]


def _kept(known: Column, fresh: Column, cells: pd.Series) -> Column | None:
    """What a model knows of a column, widened by what new rows hold; None if they hold another sort of thing."""
    if not isinstance(known, LASTING):
        return known if type(known) is type(fresh) else None
    try:
        found = known.encode(cells)
    except DataError:
        return None
    there = int(cells.notna().sum())
    if found.unseen and found.unseen >= there:
        return None  # nothing of it is known
    if isinstance(known, (Numeric, Datetime)) and isinstance(fresh, type(known)):
        return replace(known, low=min(known.low, fresh.low), high=max(known.high, fresh.high))
    if isinstance(known, Binary):
        return None if found.unseen else known
    if isinstance(known, Categorical) and isinstance(fresh, (Categorical, Binary)):
        return replace(known, levels=(*known.levels, *(v for v in fresh.levels if v not in known.levels)))
    return known


def _few(names: list[str]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
