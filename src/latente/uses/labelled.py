"""Rows of any data for what is measured on pairs of them: so many, evenly spread, with their labels."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from ..errors import ConfigError, DataError
from ..estimator import Autoencoder, read_noted
from ..kinds.counted import Counted
from ..kinds.given import apart
from ..kinds.reading import read
from ..kinds.sources import Read, Source
from ..model.batch import Batch
from ..parts import nearest
from ..training.stream import together

# Classes have this many rows each on average, or there are no more than so many of them: others are numbers or names.
EACH, CLASSES = 10, 10


@dataclass(frozen=True)
class Rows:
    """batch: prepared rows, evenly spread over the data. rows: how many the data have. labels: words [n], "" where
    there is none; None without labels.
    """

    batch: Batch
    rows: int
    labels: np.ndarray | None = None
    notes: tuple[str, ...] = ()

    @property
    def levels(self) -> list[str] | None:
        """The labels that there are, in order."""
        return None if self.labels is None else sorted(set(self.labels.tolist()) - {""})

    def every_other(self) -> tuple["Rows", "Rows"]:
        """Rows 0, 2, 4, … and rows 1, 3, 5, …"""
        parts = []
        for start in (0, 1):
            labels = None if self.labels is None else self.labels[start::2]
            parts.append(Rows(self.batch.rows(torch.arange(start, len(self.batch), 2)), self.rows, labels, self.notes))
        return parts[0], parts[1]


def rows_with_labels(
    ae: Autoencoder, data: Any, most: int, labels: Any = None, label_col: str | None = None, needed: bool = True
) -> Rows:
    """Up to `most` rows of data, and their labels: `labels`, an array or a file; a column of the data (or of the file
    of labels); or those that pictures bring with them. needed: whether data must have the column.

    Raises ConfigError where there is no such column, DataError where labels are not one for each row, or no classes.
    """
    if isinstance(data, (str, Path)):
        data = read_noted(data, ae.schema_.name, **ae.schema_.read_options)
        from_file = True
    else:
        from_file = False
    notes: tuple[str, ...] = ()
    if labels is None and label_col is None:
        labels = getattr(data, "labels", None)
    elif labels is None:
        data, labels, notes = _column(ae, data, str(label_col), needed)
    elif isinstance(labels, (str, Path)):
        labels = _of_file(Path(labels), label_col)
    raw = ae.rows(Read(data) if from_file and not isinstance(data, Source) else data)
    total, places, batch = _spread(ae, raw, most)
    if labels is None:
        return Rows(batch, total)
    return Rows(batch, total, _classes(labels, total)[places], notes)


def _column(ae: Autoencoder, data: Any, name: str, needed: bool) -> tuple[Any, Any, tuple[str, ...]]:
    """A column apart from the rows, unless the model knows it."""
    known = {str(c.label) for t in (ae.schema_, ae.condition_) for c in getattr(t, "columns", ())}
    note = (f"the labels, {name!r}, are a column of the model: its codes were told of them",) if name in known else ()
    if isinstance(data, Source):
        labels = np.concatenate([np.asarray(part) for part in data.take(name)])
        return (data if note else data.without([name])), labels, note
    table = data.about if isinstance(data, Counted) else data
    have = list(getattr(table, "columns", ()))
    if name not in have:
        if not needed:
            return data, None, ()
        words = nearest(name, map(str, have)) if have else "--labels FILE, or labels= in Python"
        raise ConfigError(f"there is no column {name!r} of labels in the data", hint=words)
    labels = np.asarray(table[name])
    if isinstance(data, Counted) or note:
        return data, labels, note
    return data[[c for c in have if c != name]], labels, note


def _of_file(path: Path, column: str | None) -> Any:
    if path.suffix.lower() == ".npy" and path.is_file():
        try:
            return np.load(path, allow_pickle=False)
        except (ValueError, EOFError):
            raise DataError(f"{path} holds no array of labels", hint="np.save(path, labels)") from None
    table: Any = read(path, "table", note=lambda text: None)
    if not hasattr(table, "columns"):
        return table
    have = [str(c) for c in table.columns]
    if column is None and len(have) != 1:
        raise DataError(f"{path.name} has {len(have)} columns, and one is needed", hint=f"--label-col {have[-1]}")
    if column is not None and column not in have:
        raise ConfigError(f"{path.name} has no column {column!r}", hint=nearest(column, have))
    return table.iloc[:, 0 if column is None else have.index(column)]


def _classes(labels: Any, rows: int) -> np.ndarray:
    """Labels as words, "" where there is none. Raises DataError if they are not one for each row, or no classes."""
    found = np.asarray(labels)
    found = found.reshape(-1) if found.ndim == 2 and 1 in found.shape else found
    if found.ndim != 1 or len(found) != rows:
        raise DataError(
            f"there are labels of shape {found.shape} for {rows:,} rows", hint="give one label for each row, in order"
        )
    series = pd.Series(found)
    words = series.astype(object).map(_word).where(series.notna(), "").to_numpy(object)
    levels = len(set(words.tolist()) - {""})
    if levels < 2:
        raise DataError(f"the labels have {levels} value(s): two or more classes can be told apart")
    if levels > max(CLASSES, rows / EACH):
        raise DataError(
            f"the labels have {levels:,} different values in {rows:,} rows: they are numbers or names, not classes",
            hint="give classes: pd.qcut(values, 5, labels=False) makes five of numbers",
        )
    return words


def _word(value: Any) -> str:
    """A label as a word: 3 and 3.0 are one class."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _spread(ae: Autoencoder, raw: Any, most: int) -> tuple[int, np.ndarray, Batch]:
    """How many rows there are, which of them were taken, and those."""
    if not isinstance(raw, Source):
        whole = _compact(ae, raw)
        places = _evenly(len(whole), most)
        return len(whole), places, ae.schema_.prepare(whole.rows(torch.from_numpy(places)))
    places = _evenly(len(raw), most)
    ends = np.cumsum([0, *raw.sizes])

    def parts() -> Iterator[Batch]:
        for block in range(len(raw.sizes)):
            own = places[(places >= ends[block]) & (places < ends[block + 1])] - ends[block]
            if len(own):
                yield ae.schema_.prepare(_compact(ae, raw.read(block)).rows(torch.from_numpy(own)))

    return len(raw), places, together(list(parts()))


def _compact(ae: Autoencoder, raw: Any) -> Batch:
    found, known = apart(raw, ae._condition)
    batch = ae._batch(found, known)
    if len(batch) == 0:
        raise DataError("found 0 rows", hint="check the file, or the filter before it")
    return batch


def _evenly(rows: int, most: int) -> np.ndarray:
    return np.unique(np.linspace(0, rows - 1, min(most, rows)).astype(np.int64))
