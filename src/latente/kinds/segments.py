"""Series as they come -> evenly spaced segments: sorted out by entity, put on a grid of steps, gaps marked."""

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from ..errors import ConfigError, DataError
from ..parts import nearest
from .base import DataWarning
from .columns import to_days, to_numbers

SECONDS = 86_400.0
# A period is looked for up to so many times the longest that is of use.
FAR = 4


@dataclass(frozen=True)
class Segment:
    """One stretch of time of one entity. values [t, c], NaN where missing; rows [n]: the rows of the data that are in
    it; places [n]: the step at which each stands; entity: its id, or None.
    """

    values: np.ndarray
    rows: np.ndarray
    places: np.ndarray
    entity: Any = None


def time_column(frame: pd.DataFrame, asked: str, ident: str) -> str | None:
    """The column that says when: the one asked for, else the first of dates, else one called time, date, timestamp …

    Raises ConfigError if there is none of the name that was asked for.
    """
    names = [str(c) for c in frame.columns]
    for name in (asked, ident):
        if name and name not in names:
            raise ConfigError(f"there is no column {name!r}", hint=nearest(name, names))
    if asked:
        return asked
    dates = [n for n, c in zip(names, frame.columns, strict=True) if pd.api.types.is_datetime64_any_dtype(frame[c])]
    known = [n for n in names if n.lower() in ("time", "timestamp", "datetime", "date", "ds", "t") and n != ident]
    return next(iter([*dates, *known]), None)


def seconds(column: pd.Series, label: str) -> np.ndarray:
    """Times as seconds since 1970, or numbers as they are [n]. Raises DataError for a gap, or what is no time."""
    numeric = pd.api.types.is_numeric_dtype(column)
    found = to_numbers(column, label) if numeric else to_days(column, label) * SECONDS
    if np.isnan(found).any():
        row = int(np.flatnonzero(np.isnan(found))[0])
        raise DataError(f"column {label!r}, row {row}: the time is missing", hint="drop such rows, or fill their time")
    return found


def step_of(times: np.ndarray) -> float:
    """The usual distance between two times [n] that follow each other, of an entity; 1 of fewer than two."""
    gaps = np.diff(times)
    gaps = gaps[gaps > 0]
    return float(np.median(gaps)) if len(gaps) else 1.0


def usual_step(frame: pd.DataFrame, when: str, ident: str) -> float:
    """Seconds between two rows of an entity, as is usual in the table."""
    times = pd.Series(seconds(frame[when], when))
    gaps = (times.groupby(frame[ident].to_numpy(object)).diff() if ident else times.diff()).to_numpy()
    gaps = gaps[gaps > 0]
    return float(np.median(gaps)) if len(gaps) else 0.0


def of_frame(
    frame: pd.DataFrame, channels: list[str], when: str | None, ident: str, step: float, longest: int
) -> list[Segment]:
    """The segments of a table. step: seconds between two steps; 0: what is usual in it. longest: so many steps without
    any row part two segments; fewer are a gap.

    A row stands at the step nearest to its time; several at one step are averaged, channel by channel, and a step
    without a row is missing. Raises DataError, with the row, if time goes backwards within an entity.
    """
    values = np.stack([to_numbers(frame[c], c) for c in channels], 1)
    times = np.arange(len(frame), dtype=np.float64) if when is None else seconds(frame[when], when)
    who = frame[ident].to_numpy(object) if ident else np.zeros(len(frame), int)
    codes, names = pd.factorize(who)
    if (codes < 0).any():
        row = int(np.flatnonzero(codes < 0)[0])
        raise DataError(f"column {ident!r}, row {row}: the id is missing", hint="drop such rows, or fill their id")
    found, doubled = [], 0
    for code in range(len(names)):
        rows = np.flatnonzero(codes == code)
        own = times[rows]
        back = np.flatnonzero(np.diff(own) < 0)
        if len(back):
            at = rows[back[0] + 1]
            whose = f" of {names[code]!r}" if ident else ""
            raise DataError(
                f"column {when!r}, row {at}: time goes backwards{whose}: {frame[when].iloc[at]} after "
                f"{frame[when].iloc[rows[back[0]]]}",
                hint=f"df.sort_values({when!r})"
                + ("" if ident else ", or --set kind.id=COLUMN if several entities are in it"),
            )
        width = 1.0 if when is None else step or step_of(own)
        place = np.rint((own - own[0]) / width).astype(np.int64)
        doubled += int((np.diff(place) == 0).sum())
        cuts = np.flatnonzero(np.diff(place) > longest) + 1
        for part in np.split(np.arange(len(rows)), cuts):
            found.append(_gridded(values[rows[part]], rows[part], place[part], names[code] if ident else None))
    if doubled:
        warnings.warn(
            f"{doubled:,} rows share a time step with the row before: they are averaged", DataWarning, stacklevel=3
        )
    return found


def _gridded(values: np.ndarray, rows: np.ndarray, place: np.ndarray, entity: Any) -> Segment:
    place = place - place[0]
    length = int(place[-1]) + 1
    there = ~np.isnan(values)
    total, count = np.zeros((length, values.shape[1])), np.zeros((length, values.shape[1]))
    np.add.at(total, place, np.where(there, values, 0.0))
    np.add.at(count, place, there)
    return Segment(np.where(count > 0, total / np.maximum(count, 1), np.nan), rows, place, entity)


def period(values: np.ndarray, most: int) -> int:
    """The period of a series [t, c] in steps, by its autocorrelation, mean over channels: the first high peak, above
    .3, behind a trough, from 4 up to `most`; 0 if there is none, or a longer one.
    """
    x = values - np.nanmean(values, 0, keepdims=True)
    x = np.nan_to_num(x)
    x = x[:, x.std(0) > 0]
    if not x.shape[1] or len(x) < 12:
        return 0
    spectrum = np.abs(np.fft.rfft(x / x.std(0), 2 * len(x), axis=0)) ** 2
    lags = np.fft.irfft(spectrum, axis=0)[: len(x)].mean(1)
    lags = lags / lags[0] * len(x) / np.arange(len(x), 0, -1)
    # The flank of a longer period has small peaks of its own: it must be seen to be told from them.
    far = min(FAR * most, len(x) // 3)
    trough = np.flatnonzero(lags[:far] < 0)
    if not len(trough):
        return 0
    after = lags[trough[0] : far]
    # The first of the peaks that are about as high as the highest: a period's multiples are peaks too.
    inner = np.flatnonzero((after[1:-1] >= after[:-2]) & (after[1:-1] >= after[2:])) + 1
    high = inner[after[inner] > max(0.3, 0.9 * after[inner].max(initial=0.0))]
    return int(trough[0] + high[0]) if len(high) and 4 <= trough[0] + high[0] <= most else 0
