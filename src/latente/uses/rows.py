"""Raw data for a verb: loaded from a path, with their labels apart; and single rows of them."""

import os
import warnings
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..errors import ConfigError, DataError
from ..estimator import Autoencoder, read_noted
from ..kinds.base import DataWarning
from ..kinds.counted import Counted
from ..kinds.music import Music, tunes_of
from ..kinds.reading import read
from ..kinds.reading_text import of_table
from ..kinds.sources import Source
from ..kinds.tunes import Tunes, cut


@dataclass(frozen=True)
class Loaded:
    """Raw data, their labels or None, and a name for them; path: where they were read from, or None.

    Of a Source, labels are a function that gives them block by block.
    """

    raw: Any
    labels: Any = None
    name: str = "data"
    path: str | None = None


def load(
    data: Any,
    kind: str = "auto",
    header: str = "auto",
    label_col: str | None = None,
    stream: str = "auto",
    text_col: str | None = None,
    unit: str | None = None,
    layer: str | None = None,
) -> Loaded:
    """Data in memory as they are, or from a path, read or streamed; without `label_col`, which is kept apart.

    text_col, unit: of texts, layer: of counts, see `kinds.reading.read`; each says that these are some.
    """
    name, path = "data", None
    asked: dict[str, Any] = {n: v for n, v in (("text_col", text_col), ("unit", unit)) if v is not None}
    if asked and kind == "auto":
        kind = "text"
    if layer is not None:
        asked, kind = {"layer": layer}, "counts" if kind == "auto" else kind
    # Labels stand in another column of the table that the texts are a column of.
    beside = kind == "text" and label_col is not None
    if isinstance(data, (str, Path)):
        name, path = Path(data).name.split(".")[0] or "data", str(Path(data).absolute())
        how = ("table", "no", {"missing": ()}) if beside else (kind, stream, asked)
        data = read_noted(data, how[0], how[1], header=header, **how[2])
    if isinstance(data, Source):
        if label_col is None:
            return Loaded(data, None, name, path)
        return Loaded(data.without([label_col]), partial(data.take, label_col), name, path)
    labels = getattr(data, "labels", None)
    if label_col is not None and isinstance(data, Counted) and label_col in data.about:
        labels = np.asarray(data.about[label_col])
    elif label_col is not None:
        if not hasattr(data, "columns") or label_col not in list(data.columns):
            known: Any = data.about.columns if isinstance(data, Counted) else getattr(data, "columns", ())
            have = ", ".join(map(str, known)) or "none"
            raise ConfigError(f"there is no column {label_col!r}", hint=f"columns: {have}")
        labels = np.asarray(data[label_col])
        data = data[[c for c in data.columns if c != label_col]]
    if kind == "text" and hasattr(data, "columns"):
        texts = of_table(data, text_col or "", name, lambda text: warnings.warn(text, DataWarning, stacklevel=4))
        if labels is not None:
            labels = labels[[isinstance(cell, str) and bool(cell.strip()) for cell in data[texts.column]]]
        data = texts
    return Loaded(data, labels, name, path)


def row_of(data: Any, kind: str, options: dict[str, Any], steps: int = 1) -> Any:
    """One row as raw data of one row: "FILE", "FILE:N", or a row in memory. steps: of a series, how many from N on are
    one.
    """
    if kind == "text" and isinstance(data, str) and not _is_place(data):
        return [data]
    if isinstance(data, (str, Path)):
        text, _, at = str(data).rpartition(":")
        path, index = (
            (text, int(at))
            if text and at.isascii() and at.isdigit() and not Path(str(data)).exists()
            else (str(data), 0)
        )
        rows = read(path, kind, note=lambda text: None, **options)
        if index >= len(rows):
            raise DataError(f"{path} has {len(rows):,} rows, and row {index} was asked for (the first is 0)")
        found = one(rows, index, steps if kind == "series" and getattr(rows, "ndim", 2) != 3 else 1)
        return sounding(found, steps) if kind == "music" else found
    if kind == "music":
        return sounding(tunes_of(data), steps)
    if kind in ("series", "text", "interactions", "counts"):
        return data
    if isinstance(data, pd.Series):
        return data.to_frame().T
    array = np.asarray(data)
    return (
        array[None] if not hasattr(data, "columns") and array.ndim in (1, 2, 3) and not _is_batch(array, kind) else data
    )


def places(ae: Autoencoder, data: Any) -> pd.DataFrame:
    """Of windows of tunes the tune (its name, or number) and the step at which each begins; of histories the user, of
    cells their names, where they have some; of other rows no column.
    """
    if ae.schema_.sparse:
        raw = ae.rows(data)
        index = raw.about.index if isinstance(raw, Counted) else pd.RangeIndex(0)
        name = "user" if ae.schema_.name == "interactions" else "row"
        return pd.DataFrame() if isinstance(index, pd.RangeIndex) else pd.DataFrame({name: index.astype(str)})
    if not isinstance(ae.schema_, Music):
        return pd.DataFrame()
    tune, step = ae.schema_.where(ae.rows(data))
    return pd.DataFrame({"tune": tune, "step": step})


def _is_place(text: str) -> bool:
    """Whether a word on the command line is a file, or FILE:N, and not a text itself."""
    head, _, at = text.rpartition(":")
    return len(text) < 4096 and any(p and os.path.exists(p) for p in (text, head if at.isdigit() else ""))


def sounding(tunes: Tunes, window: int) -> Tunes:
    """Tunes from the bar on in which their first note is, as far as a window goes."""
    found = []
    for tune in tunes:
        first = int(tune.start[0]) if len(tune.pitch) else 0
        # An upbeat is the end of a bar of silence: what it leads to says more.
        bar = max(1, tune.bar or window)
        begin = -(-first // bar) * bar if first % bar else first
        begin = begin if begin + window <= tune.steps else max(0, min(first, tune.steps - window))
        found.append(cut(tune, begin, begin + window))
    return Tunes(tuple(found))


def one(rows: Any, index: int, steps: int = 1) -> Any:
    """Row `index` of raw data, or so many from there on, as data of one row."""
    if hasattr(rows, "iloc"):
        return rows.iloc[index : index + steps]
    return (rows.pixels if hasattr(rows, "pixels") else rows)[index : index + steps]


def _is_batch(array: np.ndarray, kind: str) -> bool:
    """Whether an array already has a rows axis: tables are 2-D with it, pictures 3-D (grey) or 4-D."""
    if kind == "table":
        return array.ndim == 2
    return array.ndim == 4 or (array.ndim == 3 and array.shape[-1] not in (1, 3))
