"""What points of a map can be coloured by and say of themselves: columns as numbers, categories or texts."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

# Categories that have a colour of their own; the rest are "other".
COLOURED = 20
OTHER, MISSING = "other", "missing"
# The first ten are told apart at a glance, also by most who see colours differently, on white and on black.
PALETTE = (
    *("#3b82c4", "#e8862e", "#3fa14c", "#d1495b", "#8e6bbf", "#8c6a55", "#d873b5", "#6f8f1f", "#1fa9b8", "#c9a227"),
    *("#7fb2e5", "#f4b77d", "#8fd19a", "#ee9aa5", "#c0a6e3", "#bfa08d", "#efb3d8", "#b5cc6a", "#86d3dc", "#e6d07a"),
)
GREY = "#9a9a9a"
# Signs of a cell that are kept.
LONGEST = 200
# Whole numbers with up to so many values are categories where they are labels.
LABELS = 50


@dataclass(frozen=True, eq=False)
class Field:
    """One thing that is known of each row. Of numbers and dates: values [n], NaN where missing. Of categories and
    texts: codes [n] into levels, −1 where missing; the levels that have a colour of their own come first.
    """

    name: str
    sort: Literal["number", "date", "category", "text"]
    values: np.ndarray
    levels: tuple[str, ...] = ()

    @property
    def numeric(self) -> bool:
        """Whether it is coloured by a scale."""
        return self.sort in ("number", "date")

    def coloured(self) -> tuple[np.ndarray, list[str]]:
        """Of a category the number of each row's colour, and the names of the colours; what has none of its own is −1
        (other), what is missing −2.
        """
        codes = np.where(self.values >= COLOURED, -1, np.where(self.values < 0, -2, self.values))
        return codes.astype(int), list(self.levels[:COLOURED])

    def said(self, row: int) -> str:
        """A row's value in words."""
        value = self.values[row]
        if not self.numeric:
            return self.levels[int(value)] if value >= 0 else ""
        if not np.isfinite(value):
            return ""
        return short(float(value)) if self.sort == "number" else day(float(value))


def short(value: float) -> str:
    """A number in about four digits."""
    if value == round(value) and abs(value) < 1e7:
        return f"{value:,.0f}"
    return f"{value:.4g}" if abs(value) < 1e5 else f"{value:,.0f}"


def day(seconds: float) -> str:
    """Seconds since 1970 as a date, with the time of day where there is one."""
    text = str(np.datetime64(int(seconds), "s")).replace("T", " ")
    return text.removesuffix(" 00:00:00")


def field_of(name: Any, column: Any, label: bool = False) -> Field:
    """A column as a field. label: whether few whole numbers are names of classes and not amounts."""
    column = pd.Series(np.asarray(column) if not isinstance(column, pd.Series) else column.array)
    kind = column.dtype
    if pd.api.types.is_datetime64_any_dtype(kind):
        seconds = (column.dt.tz_localize(None) if getattr(column.dt, "tz", None) is not None else column).astype(
            "datetime64[s]"
        )
        values = seconds.astype("int64").to_numpy(np.float64)
        return Field(str(name), "date", np.where(column.isna(), np.nan, values))
    if pd.api.types.is_timedelta64_dtype(kind):
        return Field(str(name), "number", column.dt.total_seconds().to_numpy(np.float64))
    if pd.api.types.is_numeric_dtype(kind) and not pd.api.types.is_bool_dtype(kind) and kind.kind != "c":
        values = column.astype("Float64").to_numpy(np.float64, na_value=np.nan)
        values = np.where(np.isfinite(values), values, np.nan)
        there = np.unique(values[~np.isnan(values)])
        if not (label and len(there) <= LABELS and (there == np.round(there)).all()):
            return Field(str(name), "number", values)
        column = pd.Series(values).map(short, na_action="ignore")
    return _category(str(name), column)


def _category(name: str, column: pd.Series) -> Field:
    gone = column.isna().to_numpy()
    texts = column.map(_text)
    counts = texts[~gone].value_counts(sort=False)
    levels = sorted(map(str, counts.index), key=lambda level: (-int(counts[level]), level))
    some = sorted(levels[:COLOURED], key=_natural)
    levels = some + levels[COLOURED:]
    places = {level: i for i, level in enumerate(levels)}
    codes = np.array([-1 if g else places[t] for t, g in zip(texts, gone, strict=True)], dtype=np.int64)
    many = len(levels) > max(COLOURED, 0.5 * int((~gone).sum()))
    return Field(name, "text" if many else "category", codes, tuple(levels))


def _text(cell: Any) -> str:
    text = " ".join(str(cell).split())
    # Half of a surrogate pair cannot be written.
    text = text.encode("utf-8", "replace").decode("utf-8")
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"


def _natural(level: str) -> tuple[int, float, str]:
    """Numbers by their size, before words by the alphabet."""
    try:
        return 0, float(level.replace(",", "")), level
    except ValueError:
        return 1, 0.0, level


def fields_of(frame: pd.DataFrame) -> tuple[Field, ...]:
    """All columns of a frame."""
    return tuple(field_of(name, frame.iloc[:, i]) for i, name in enumerate(frame.columns))


def cluster_field(cluster: np.ndarray, names: dict[int, str]) -> Field:
    """Clusters as a category: what belongs to none is missing."""
    return Field("cluster", "category", cluster.astype(np.int64), tuple(names[c] for c in sorted(names)))
