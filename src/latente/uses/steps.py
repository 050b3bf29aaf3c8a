"""Alarms in time: spans of steps that are strange, and the channels that make them so."""

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from ..errors import ConfigError, DataError
from ..kinds.base import DataWarning
from ..kinds.series import Series
from ..kinds.table import as_frame, from_arrow, is_arrow
from ..model.batch import Batch
from .learned.anomaly import Detector, Scored
from .learned.calibration import blocks
from .reasons import named


@dataclass(frozen=True, eq=False, repr=False)
class StepAlarms:
    """The rows of a series, scored: `found` [n] are those in an alarm. seen, expected [n, channels]: what is there, and
    what the model expects; spread [channels]: what usually lies between the two; own [n]: how strange a row is without
    those around it; threshold: where alarms begin without a rate; stretch [n]: the number of the stretch, of one entity
    and without a long break, that a row is in; entity [n]: its id, or None; when: the rows' times.
    """

    kind: Series
    scored: Scored
    found: np.ndarray
    expected: np.ndarray
    seen: np.ndarray
    spread: np.ndarray
    own: np.ndarray
    threshold: float
    stretch: np.ndarray
    entity: Any = None
    when: Any = None

    def __repr__(self) -> str:
        return f"StepAlarms({len(self.found):,} rows, {len(self.spans()[0]):,} spans of alarms)"

    def table(self, every: bool = False, first: int = 0) -> pd.DataFrame:
        """A line a span of alarms: its first and last row; its peak, the row that is strangest by itself; the highest
        score, its p-value, and why, at the peak. Or, if `every`, a line a row: row (from `first`), time, score,
        p_value, alarm, why.
        """
        if every:
            which = np.arange(len(self.found))
            frame = pd.DataFrame({"row": which + first, "score": self.scored.score, "p_value": self.scored.p.round(6)})
            frame["alarm"], frame["why"] = self.found, self.why(which)
            if self.when is not None:
                frame.insert(1, "time", self.when.to_numpy())
            if self.entity is not None:
                frame.insert(1, self.kind.id, self.entity)
            return frame
        starts, ends = self.spans()
        peaks, highest = (
            np.array([self._highest(by, s, e) for s, e in zip(starts, ends, strict=True)], int)
            for by in (self.own, self.scored.score)
        )
        frame = pd.DataFrame({"row": starts + first, "last": ends + first})
        if self.entity is not None:
            frame[self.kind.id] = self.entity[starts]
        if self.when is not None:
            frame["from"], frame["to"] = self.when.iloc[starts].to_numpy(), self.when.iloc[ends].to_numpy()
        frame["peak"] = peaks + first
        frame["score"], frame["p_value"] = self.scored.score[highest], self.scored.p[highest].round(6)
        frame["alarm"] = True
        frame["why"] = self.why(peaks)
        return frame

    def _highest(self, by: np.ndarray, first: int, last: int) -> int:
        """The row of a span at which `by` is highest; rows of others may lie between its own."""
        rows = np.arange(first, last + 1)
        rows = rows[self.stretch[rows] == self.stretch[first]]
        return int(rows[by[rows].argmax()])

    def spans(self) -> tuple[np.ndarray, np.ndarray]:
        """First and last rows of runs of alarms; those less than a quarter of a window apart are one."""
        firsts, lasts = [], []
        for stretch in np.unique(self.stretch[self.found]):
            own = np.flatnonzero(self.stretch == stretch)  # rows of other entities may lie between
            at = np.flatnonzero(self.found[own])
            cuts = np.flatnonzero(np.diff(at) > max(1, self.kind.window // 4))
            firsts += own[at[np.r_[0, cuts + 1]]].tolist()
            lasts += own[at[np.r_[cuts, len(at) - 1]]].tolist()
        order = np.argsort(firsts, kind="stable").astype(int)
        return np.array(firsts, int)[order], np.array(lasts, int)[order]

    def contributions(self) -> pd.DataFrame:
        """Of each row what each channel adds to its score: a line sums to it. [rows × channels]"""
        return pd.DataFrame(self.scored.shares * self.scored.score[:, None], columns=list(self.kind.channels))

    def why(self, which: np.ndarray) -> list[str]:
        """In words, of each of these rows: the channels that add most, what was seen and what was expected."""
        lines = []
        for row in which:
            shares = self.scored.shares[row]
            words: list[str] = []
            for c in named(shares):
                seen = "missing" if np.isnan(self.seen[row, c]) else f"{self.seen[row, c]:.4g}"
                wide = f" ± {self.spread[c]:.2g}" if self.spread[c] > 0 else ""
                words.append(
                    f"{self.kind.channels[c]} {seen}, expected {self.expected[row, c]:.4g}{wide} ({shares[c]:.0%})"
                )
            lines.append("; ".join(words))
        return lines


def by_step(
    detector: Detector, kind: Series, raw: Any, rows: Batch, fdr: float | None, threshold: float | None
) -> StepAlarms:
    """The rows of a series, scored; rows: its windows, prepared. fdr: by whole windows, of which at most this share of
    those that are called is called wrongly, on average, however their steps hang together.
    """
    if detector.steps is None:
        raise ConfigError(
            "this model does not know how strange an ordinary step is", hint="--normal SERIES, ordinary series"
        )
    around = detector.seen(raw, rows)
    score, p, shares = detector.steps.score(around)
    limit = detector.steps.threshold if threshold is None else threshold
    stretch, entity = np.empty(len(score), int), np.empty(len(score), object)
    for number, segment in enumerate(kind.segments(raw)):
        stretch[segment.rows], entity[segment.rows] = number, segment.entity
    found = score > limit
    if fdr is not None:
        order = np.argsort(stretch, kind="stable")
        found[order] = blocks(p[order], fdr, kind.window)
    windows = kind.values(detector.expected(rows))
    seen, when = _as_seen(kind, raw)
    gone = [c for c, there in zip(kind.channels, ~np.isnan(seen).all(0), strict=True) if not there]
    if len(gone) == len(kind.channels):
        raise DataError("no channel has a value in these data", hint="check the file and its columns")
    if gone:
        names = ", ".join(map(repr, gone[:6]))
        warnings.warn(f"channels without a value are not judged: {names}", DataWarning, stacklevel=2)
    scales = np.array(kind.scales)
    spread = detector.spread.reshape(len(kind.channels), kind.window).mean(1) * scales
    own, expected = detector.steps.by_itself(around.own), kind.merged(raw, windows)
    return StepAlarms(
        kind,
        Scored(score, p, {}, shares),
        found,
        expected,
        seen,
        spread,
        own,
        limit,
        stretch,
        entity if kind.id else None,
        when,
    )


def _as_seen(kind: Series, raw: Any) -> tuple[np.ndarray, Any]:
    """The channels' numbers as they came [n, channels], and the rows' times or None."""
    if not hasattr(raw, "columns") and not is_arrow(raw):
        return np.asarray(raw, float).reshape(-1, len(kind.channels)), None
    table = as_frame(from_arrow(raw))
    table = table.set_axis([str(c) for c in table.columns], axis=1)
    when = kind.when(table)
    return table[list(kind.channels)].to_numpy(float, na_value=np.nan), None if when is None else table[when]
