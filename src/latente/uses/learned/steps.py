"""Series, scored step by step and channel by channel: what windows say of each step, put together.

squared difference from what is expected, of each cell of each window ─ mean over the windows that hold a step ─▶
[steps, channels] ─ each channel in its own quartile widths above its median, log(1 + ·), mean ─▶ a score for each step
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import DataError
from ...kinds.series import Series
from ...model.batch import Batch, parts_of
from .calibration import p_values, threshold

if TYPE_CHECKING:
    from .anomaly import Detector


# The least width of a channel's squares, as a share of the channels' median.
LEAST = 0.2


@dataclass(frozen=True, eq=False)
class Steps:
    """What steps are measured by. known: scores of steps, sorted; middle, width [channels]: of a channel's
    squares."""

    known: np.ndarray
    middle: np.ndarray
    width: np.ndarray
    contaminated: bool

    @property
    def threshold(self) -> float:
        """Where alarms begin unless a rate is asked for."""
        return threshold(self.known, self.contaminated)

    def score(self, squares: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Scores [t] and p-values [t] of steps, and what each channel adds to the score [t, c], from their squares
        [t, c]."""
        adds = np.log1p(np.maximum((squares - self.middle) / self.width, 0.0)) / squares.shape[1]
        adds = np.nan_to_num(adds)
        score = np.round(adds.sum(1), 4)
        return score, p_values(score, self.known), adds

    @property
    def tensors(self) -> dict[str, np.ndarray]:
        """By name, as the model file holds them."""
        return {"known": self.known, "middle": self.middle, "width": self.width}


def squares_of(detector: "Detector", kind: Series, raw: Any, rows: Batch) -> np.ndarray:
    """Squared difference from what is expected, in the model's units, of each row of `raw` and channel: the mean over
    the windows that hold it; NaN where nothing was seen. float64 [rows, channels]
    """
    cells = np.concatenate([detector.squares(some) for some in parts_of(rows)])
    each = cells.reshape(len(cells), len(kind.channels), kind.window).transpose(0, 2, 1)
    seen = np.ones_like(each) if rows.observed is None else rows.observed.numpy().transpose(0, 2, 1).astype(float)
    total, count = kind.merged(raw, each * seen), kind.merged(raw, seen)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(count > 0, total / count, np.nan)


def measured(squares: np.ndarray, contaminated: bool) -> Steps:
    """What steps are measured by, from those of ordinary series. Raises DataError if no channel differs."""
    gone = np.isnan(squares).all(0)
    quarter, middle, three = np.nanpercentile(np.where(gone, 0.0, squares), [25, 50, 75], axis=0)
    width = (three - quarter) / 1.349
    # A channel that is always the same has hardly a width: in its own units rounding would be strange.
    width = np.maximum(width, max(LEAST * float(np.median(width)), 1e-12))
    made = Steps(np.empty(0), middle, width, contaminated)
    known = np.sort(made.score(squares)[0])
    if not np.isfinite(known).all() or known[0] == known[-1]:
        raise DataError("all steps have the same score: nothing could be detected", hint="a longer run (--epochs)")
    return Steps(known, middle, width, contaminated)


def of(tensors: dict[str, np.ndarray], channels: int, contaminated: bool) -> Steps:
    """The steps of a model file. Raises ValueError for numbers that cannot be."""
    made = Steps(tensors["known"], tensors["middle"], tensors["width"], contaminated)
    if (
        made.middle.shape != (channels,)
        or made.width.shape != (channels,)
        or not (made.width > 0).all()
        or not np.isfinite([made.middle, made.width]).all()
    ):
        raise ValueError("its scales of channels cannot be")
    if not len(made.known) or (np.diff(made.known) < 0).any() or not np.isfinite(made.known).all():
        raise ValueError("its calibration of steps is not sorted, or no numbers")
    return made
