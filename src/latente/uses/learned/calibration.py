"""From scores to answers: how often a normal row is as strange, and which rows may be called so.

Of n rows that the scorer did not learn from, and a new one like them, the new one's rank is any of n + 1 with equal
chance: so P(p ≤ α) ≤ α, whatever the score is (conformal p-values: Vovk, Gammerman & Shafer 2005, sec. 2.2).
"""

from dataclasses import dataclass

import numpy as np


def p_values(scores: np.ndarray, known: np.ndarray) -> np.ndarray:
    """The share of rows at least as strange, the row itself among them. scores [n], known [m] sorted; in (0, 1]. [n]"""
    return (1.0 + len(known) - np.searchsorted(known, scores, "left")) / (1.0 + len(known))


def discoveries(p: np.ndarray, rate: float) -> np.ndarray:
    """Which of the p-values [n] to call alarms so that, on average, no more than `rate` of the alarms are false.

    Source: Benjamini & Hochberg 1995. It holds for conformal p-values of independent rows that share their calibration
    (Bates et al. 2023, arXiv:2104.08279, thm. 2).
    """
    order = np.argsort(p, kind="stable")
    below = np.flatnonzero(p[order] <= rate * np.arange(1, len(p) + 1) / max(1, len(p)))
    found = np.zeros(len(p), bool)
    if len(below):
        found[order[: below[-1] + 1]] = True
    return found


def blocks(p: np.ndarray, rate: float, size: int) -> np.ndarray:
    """`discoveries` for rows that follow each other in time: whole blocks of `size` are called, by size · min p of each
    (Bonferroni), which needs nothing of how rows of a block hang together; within one, the rows with p ≤ the block's.
    """
    starts = np.arange(0, len(p), size)
    lowest = np.minimum(1.0, np.minimum.reduceat(p, starts) * np.diff([*starts, len(p)]))
    called = np.repeat(discoveries(lowest, rate), np.diff([*starts, len(p)]))
    limit = np.repeat(np.minimum.reduceat(p, starts), np.diff([*starts, len(p)]))
    return called & (p <= np.maximum(limit, rate / size))


@dataclass(frozen=True)
class Scale:
    """One part's scores to a common scale: log of the distance from `floor`, in quartile widths from the median."""

    floor: float
    median: float
    width: float

    def __call__(self, scores: np.ndarray) -> np.ndarray:
        """0 for an ordinary row, about 1 for one of the upper sixth of ordinary ones; unbounded above. [n]"""
        return (np.log(np.maximum(scores - self.floor, 1e-3 * np.exp(self.median))) - self.median) / self.width


def scale_of(scores: np.ndarray) -> Scale:
    """The scale of scores [n] that are mostly ordinary. Raises ValueError if they do not differ."""
    middle, low = float(np.median(scores)), float(scores.min())
    # Where most rows tie at the lowest score, last bits must not be told apart: the floor keeps away by what there is.
    floor = low - max(0.05 * (middle - low), 0.05 * float(scores.std()), 1e-12)
    logs = np.log(scores - floor)
    quarter, half, three = np.percentile(logs, [25, 50, 75])
    # A quartile width of a unit Gaussian is 1.349. Scores that mostly agree are scaled by all of them.
    width = (three - quarter) / 1.349 or float(logs.std())
    if not np.isfinite(width) or width <= 0:
        raise ValueError("all rows have one score")
    return Scale(floor, float(half), float(width))


def threshold(known: np.ndarray, contaminated: bool) -> float:
    """Where alarms begin unless a rate is asked for. known [m] sorted.

    Of clean rows: what 1 in 100 passes. Of rows with anomalies among them: three and a half upper half-quartile widths
    (scaled to a Gaussian's deviation) above the median, which is where the body of a skewed distribution has ended, if
    that is lower and no more than 1 row in 20 lies above it (of scores that tie, the body has no width).
    """
    # Between two scores: one that is computed among other rows, and differs in its last bits, stays on its side.
    last = min(int(np.ceil(0.99 * len(known))), len(known) - 1)
    usual = float((known[last - 1] + known[last]) / 2)
    if not contaminated:
        return usual
    half, three, most = np.percentile(known, [50, 75, 95])
    body = half + 3.5 * (three - half) / 0.6745
    return float(min(body, usual)) if body > half and body >= most else usual
