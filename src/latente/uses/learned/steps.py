"""Series, scored step by step and channel by channel: what windows say of each step, put together.

of each window and channel: mean squared difference from what is expected ─┐
of each window: squared distance from the nearest that came back (windows) ─┴─ mean over the windows that hold a step ─▶
[steps, voices] ─ each voice in its own quartile widths above its median, log(1 + ·), root mean square ─▶ a score
"""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ...errors import DataError
from ...kinds.series import Series
from ...model.batch import Batch, parts_of
from .calibration import p_values, threshold
from .prototypes import Prototypes

if TYPE_CHECKING:
    from .anomaly import Detector


# The least width of a voice's squares, as a share of the voices' median.
LEAST = 0.2
DECIMALS = 4


@dataclass(frozen=True, eq=False)
class Seen:
    """What windows say of steps, on average: squares [t, c] of each channel, NaN where nothing was seen; far [t, c]: of
    the distance from the nearest window that came back the part of each channel, or None; own [t, c]: squares of the
    step alone, NaN where it was not seen.
    """

    squares: np.ndarray
    far: np.ndarray | None
    own: np.ndarray


@dataclass(frozen=True, eq=False)
class Steps:
    """What steps are measured by. known: scores of steps, sorted; middle, width [voices]: of a channel's squares, and
    behind the channels of distances from windows that came back, if they have a voice; windows: those.
    """

    known: np.ndarray
    middle: np.ndarray
    width: np.ndarray
    contaminated: bool
    windows: Prototypes | None = None

    @property
    def threshold(self) -> float:
        """Where alarms begin unless a rate is asked for."""
        return threshold(self.known, self.contaminated)

    def score(self, seen: Seen) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Scores [t] and p-values [t] of steps, and what share of the score each channel has [t, c]."""
        c = seen.squares.shape[1]
        each = self._voice(seen.squares, slice(0, c))
        if seen.far is not None:
            total = seen.far.sum(1, keepdims=True)
            each = each + self._voice(total, slice(c, None)) * _shares(seen.far)
        score = np.round(np.sqrt(each.sum(1) / len(self.middle)), DECIMALS)
        return score, p_values(score, self.known), _shares(each)

    def by_itself(self, own: np.ndarray) -> np.ndarray:
        """How strange steps are without those around them, from their own squares [t, c]. [t]"""
        return self._voice(own, slice(0, own.shape[1])).sum(1)

    def _voice(self, squares: np.ndarray, which: slice) -> np.ndarray:
        beyond = np.maximum((squares - self.middle[which]) / self.width[which], 0.0)
        return np.log1p(np.nan_to_num(beyond)) ** 2

    @property
    def tensors(self) -> dict[str, np.ndarray]:
        """By name, as the model file holds them."""
        own = {"known": self.known, "middle": self.middle, "width": self.width}
        return own if self.windows is None else own | {"windows": self.windows.points}


def _shares(amounts: np.ndarray) -> np.ndarray:
    """Amounts [t, c] as shares of their sum; alike where all are 0."""
    total = amounts.sum(1, keepdims=True)
    return np.where(total > 0, amounts / np.where(total > 0, total, 1.0), 1.0 / amounts.shape[1])


def seen_of(detector: "Detector", kind: Series, windows: Prototypes | None, raw: Any, rows: Batch) -> Seen:
    """What the windows `rows` of `raw` say of its rows, in the model's units."""
    own, whole, far, count = [], [], [], []
    for some in parts_of(rows):
        mask = torch.ones_like(some.x, dtype=torch.bool) if some.observed is None else some.observed
        cells = detector.squares(some).reshape(mask.shape) * mask.numpy()
        own.append(cells)
        count.append(mask.numpy())
        whole.append(cells.sum(2) / np.maximum(count[-1].sum(2), 1))
        if windows is not None:
            x, flat = detector.model.likelihood.features(some.x).flatten(1).float(), mask.flatten(1)
            far.append(windows.shares(x * flat, flat, some.x).reshape(mask.shape).sum(2))
    there = np.concatenate(count)
    any_there = (there.sum(2) > 0).astype(float)
    squares = _merged(kind, raw, np.concatenate(whole), any_there)
    away = _merged(kind, raw, np.concatenate(far), any_there) if far else None
    return Seen(squares, None if away is None else np.nan_to_num(away), _merged(kind, raw, np.concatenate(own), there))


def _merged(kind: Series, raw: Any, values: np.ndarray, count: np.ndarray) -> np.ndarray:
    """What belongs to windows [n, c], or to their cells [n, c, w], as what belongs to rows: the mean of those that
    count; NaN of none. [rows, c]
    """
    shape = (len(values), kind.window, len(kind.channels))

    def spread(a: np.ndarray) -> np.ndarray:
        return a.transpose(0, 2, 1) if a.ndim == 3 else np.broadcast_to(a[:, None], shape)

    total, weight = kind.merged(raw, spread(values)), kind.merged(raw, spread(count.astype(float)))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(weight > 0, total / weight, np.nan)


def measured(seen: Seen, contaminated: bool, windows: Prototypes | None) -> Steps:
    """What steps are measured by, from what is seen of ordinary series. Raises DataError if no channel differs."""
    voices = seen.squares if seen.far is None else np.column_stack([seen.squares, seen.far.sum(1)])
    gone = np.isnan(voices).all(0)
    quarter, middle, three = np.nanpercentile(np.where(gone, 0.0, voices), [25, 50, 75], axis=0)
    width = (three - quarter) / 1.349
    # A channel that is always the same has hardly a width: in its own units rounding would be strange.
    least = LEAST * float(np.median(width[: seen.squares.shape[1]]))
    made = Steps(np.empty(0), middle, np.maximum(width, max(least, 1e-12)), contaminated, windows)
    known = np.sort(made.score(seen)[0])
    if not np.isfinite(known).all() or known[0] == known[-1]:
        raise DataError("all steps have the same score: nothing could be detected", hint="a longer run (--epochs)")
    return replace(made, known=known)


def of(tensors: dict[str, np.ndarray], kind: Series, contaminated: bool) -> Steps:
    """The steps of a model file. Raises ValueError for numbers that cannot be."""
    windows = Prototypes(tensors["windows"]) if "windows" in tensors else None
    made = Steps(tensors["known"], tensors["middle"], tensors["width"], contaminated, windows)
    channels = len(kind.channels)
    if windows is not None and (windows.points.ndim != 3 or windows.points.shape[2] != channels * kind.window):
        raise ValueError("its windows that came back are none of its series")
    voices = (channels + (windows is not None),)
    if (
        made.middle.shape != voices
        or made.width.shape != voices
        or not (made.width > 0).all()
        or not np.isfinite([made.middle, made.width]).all()
    ):
        raise ValueError("its scales of channels cannot be")
    if not len(made.known) or (np.diff(made.known) < 0).any() or not np.isfinite(made.known).all():
        raise ValueError("its calibration of steps is not sorted, or no numbers")
    return made
