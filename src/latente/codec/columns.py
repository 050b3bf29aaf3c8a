"""Columns of whole numbers, without loss: each value from a table that the values before it choose. Integers alone.

    mean    of a value: the one before it, plus a linear form of differences and running means of all channels, and of
            what the channels coded before it at this step did; in 64ths, weights in 1,024ths
    scale   of what it misses by: a linear form of logarithms of what was missed before, here and in other channels
    table   by scale, by the fraction of the mean, and by whether the last value is the likeliest one
    symbol  value − mean, rounded down; far ones with raw bits

Rows in time go in lanes, stretches that are decoded side by side; rows of a table are lanes themselves, and know of
each other nothing. Every sum is of whole numbers below 2^53, so a product of matrices in float64 is exact.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .numbers import Numbers, Writer, folded, opened, symbols_of
from .rans import TOTAL
from .tables import Tables

# Fraction bits of a mean and bits of the weights; phases of the fraction, classes of scale, and of where the last lies.
FRACTION, WEIGHT, PHASES, SCALES, HOLDS = 6, 10, 4, 20, 3
CONTEXTS = SCALES * HOLDS * PHASES
# Steps of the running means of values and of what was missed; and which of them other channels see.
MEANS, MISSES = (4, 16, 64), (1, 2, 4, 8, 16, 64)
MEANS_SEEN, MISSES_SEEN = (4, 16), (1, 4, 16)
# What weights multiply is no farther from 0, and their sizes together are less: products stay below 2^53.
_LARGEST, _SUM = 1 << 24, 1 << 28
_LOGS = 1 << 14
# Rows of a lane, at least, and lanes at most.
ROWS, LANES = 512, 1024
_PERIODS = 8
# Counts of columns by themselves: tables are made of them that take 26 bytes each.
MOST_COUNTS = 1 << 24


def _logs() -> np.ndarray:
    """16 log2(1 + x), along straight lines between powers of 2: whole numbers from shifts alone."""
    x = np.arange(_LOGS, dtype=np.int64) + 1
    place = np.zeros_like(x)
    for k in range(1, 20):
        place += (x >> k) > 0
    return np.asarray(16 * place + ((x << 4) >> place) - 16)


_LOG = _logs()


def log16(x: np.ndarray) -> np.ndarray:
    """16 log2(1 + |x|), up to x = 2^14."""
    return np.asarray(_LOG[np.minimum(np.abs(np.clip(x, -_LOGS, _LOGS)), _LOGS - 1)])


def dot(x: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """x [..., k], clipped, by weights [k, c], exactly. float64 whole numbers"""
    return np.asarray(np.clip(x, -_LARGEST, _LARGEST).astype(np.float64) @ weights)


def _shifted(x: np.ndarray, bits: int) -> np.ndarray:
    return np.floor(x * 2.0**-bits).astype(np.int64)


def boxes(x: np.ndarray, steps: int) -> np.ndarray:
    """x[t − steps] + … + x[t − 1] for each t of x [t, ...], 0 before the start."""
    sums = np.concatenate([np.zeros((1, *x.shape[1:]), x.dtype), np.cumsum(x, 0)])
    at = np.arange(len(x))
    return np.asarray(sums[at] - sums[np.maximum(at - steps, 0)])


@dataclass(frozen=True, eq=False)
class Columns:
    """order [c]: the columns in coding order; ends: where groups end, which are coded at once; reference [c]: what a
    column starts at; mean [features, c], scale [features, c], level [c]: weights; shared [CONTEXTS, s]: frequencies;
    counts [c, CONTEXTS, s] or empty: of each column by itself; weight [CONTEXTS]: what `shared` counts beside them. All
    in coding order. time: whether rows follow each other; levels: whether values lean on the reference; period: of
    rows, or 0.
    """

    order: np.ndarray
    ends: np.ndarray
    reference: np.ndarray
    mean: np.ndarray
    scale: np.ndarray
    level: np.ndarray
    shared: np.ndarray
    counts: np.ndarray
    weight: np.ndarray
    time: bool
    levels: bool
    period: int
    tables: Tables = field(init=False)
    _mean: np.ndarray = field(init=False)
    _scale: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        c, a = len(self.order), self.shared.shape[-1]
        sizes = (self.reference.shape, self.level.shape, self.mean.shape[1:], self.scale.shape[1:])
        fine = [
            sorted(self.order.tolist()) == list(range(c)),
            all(s == (c,) for s in sizes),
            self.shared.shape == (CONTEXTS, a),
            self.counts.shape in ((0, CONTEXTS, a), (c, CONTEXTS, a)),
            len(self.ends) > 0 and bool((np.diff([0, *self.ends]) > 0).all()) and self.ends[-1] == c,
            len(self.mean) == c * (1 + self._lags),
            len(self.scale) == c * (1 + self._scales) + 3,
            0 <= self.period < 1 << 20,
            self.weight.shape == (CONTEXTS,) and bool((self.weight > 0).all() and (self.weight < 1 << 24).all()),
            bool((self.counts >= 0).all() and (self.counts < 1 << 28).all()),
            self.counts.size <= MOST_COUNTS,
            all(a.dtype == np.int64 for a in (self.reference, self.level, self.counts, self.weight)),
            all(a.dtype == np.int32 for a in (self.order, self.ends, self.mean, self.scale)),
        ]
        if not all(fine):
            raise ValueError("the coder of columns does not go together")
        for weights in (self.mean, self.scale):
            if (np.abs(weights.astype(np.int64)).sum(0) >= _SUM).any():
                raise ValueError("the coder of columns has weights that are too large")
        object.__setattr__(self, "_mean", self.mean.astype(np.float64))
        object.__setattr__(self, "_scale", self.scale.astype(np.float64))
        object.__setattr__(self, "tables", Tables(self._frequencies()))

    @property
    def _lags(self) -> int:
        """Features of the mean that a step has for each channel before it begins."""
        return (3 + len(MEANS) if self.time else 0) + self.levels + (6 if self.period else 0)

    @property
    def _scales(self) -> int:
        return len(MISSES) + 2 + len(MEANS) if self.time else 0

    def _frequencies(self) -> np.ndarray:
        """Tables of each column and context: its own counts beside those of all. Whole numbers alone."""
        shared = self.shared.astype(np.int64)
        if not len(self.counts):
            return self.shared
        found = np.empty(self.counts.shape, np.uint16)
        for own, out in zip(self.counts, found, strict=True):
            out[:] = integers((own.astype(np.int64) << 16) + self.weight.astype(np.int64)[:, None] * shared)
        return found.reshape(-1, shared.shape[1])

    # ── what is known ───────────────────────────────────────────────────────────────────────────────────────────

    def lagged(
        self, last: np.ndarray, steps: list[np.ndarray], means: list[np.ndarray], periodic: list[np.ndarray]
    ) -> np.ndarray:
        """What a mean is a linear form of, beside this step's channels. [..., features · c]"""
        parts = [*steps, *means] if self.time else []
        if self.levels:
            parts.append(last - self.reference)
        return (
            np.concatenate([*parts, *periodic], -1) if parts or periodic else np.empty((*last.shape[:-1], 0), np.int64)
        )

    def missed(self, sums: list[np.ndarray], steps: list[np.ndarray], means: list[np.ndarray]) -> np.ndarray:
        """What a scale is a linear form of, beside this step's channels. [..., features · c]"""
        if not self.time:
            return np.empty((0,), np.int64)
        return np.concatenate(
            [log16(s) for s in sums] + [log16(4 * s) for s in steps[:2]] + [log16(m) for m in means], -1
        )

    def contexts(self, scale: np.ndarray, mean: np.ndarray, last: np.ndarray, column: slice) -> np.ndarray:
        """The table of each value."""
        cell = mean >> FRACTION
        hold = (last == cell) + 2 * (last == cell + 1)
        phase = (mean & ((1 << FRACTION) - 1)) * PHASES >> FRACTION
        found = (np.clip(scale >> 3, 0, SCALES - 1) * HOLDS + hold) * PHASES + phase
        return found + np.arange(len(self.order))[column] * CONTEXTS if len(self.counts) else found

    def history(self, q: np.ndarray) -> tuple[np.ndarray, list[np.ndarray], list[np.ndarray], list[np.ndarray]]:
        """Of rows q [t, lanes, c] what is known before each: the last row, last differences, running means less the
        last row, times their steps, and differences a period ago.
        """
        if not self.time:
            return np.broadcast_to(self.reference, q.shape), [], [], []
        longest = MEANS[-1]
        before = np.concatenate([np.broadcast_to(self.reference, (longest, *q.shape[1:])), q])

        def lag(k: int) -> np.ndarray:
            return before[longest - k : longest - k + len(q)]

        last = lag(1)
        steps = [lag(k) - lag(k + 1) for k in (1, 2, 3)]
        means = [w * last - boxes(before, w)[longest:] for w in MEANS]
        return last, steps, means, _periodic(q - last, self.period) if self.period else []

    def whole(self, q: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Of rows q [t, lanes, c] in coding order: means, what was missed, scales, last rows and the features of means
        that came before each step.
        """
        c = len(self.order)
        last, steps, means, periodic = self.history(q)
        moved = q - last
        lags = self.lagged(last, steps, means, periodic)
        form = dot(moved, self._mean[-c:])
        if lags.shape[-1]:
            form += dot(lags, self._mean[:-c])
        mean = (last << FRACTION) + _shifted(form, WEIGHT)
        off = miss(q, mean)
        return mean, off, self._scales_of(off, moved, mean, last, steps, means), last, lags

    def _scales_of(
        self,
        off: np.ndarray,
        moved: np.ndarray,
        mean: np.ndarray,
        last: np.ndarray,
        steps: list[np.ndarray],
        means: list[np.ndarray],
    ) -> np.ndarray:
        c, weights = len(self.order), self._scale
        form = self.level + dot(log16(off), weights[-c - 3 : -3])
        if self.time:
            size = np.abs(off)
            form = form + dot(self.missed([boxes(size, w) for w in MISSES], steps, means), weights[: -c - 3])
        for own, weight in zip(self.own(off, moved, mean, last), weights[-3:], strict=True):
            form = form + own * weight
        return _shifted(form, WEIGHT)

    def own(self, off: np.ndarray, moved: np.ndarray, mean: np.ndarray, last: np.ndarray) -> list[np.ndarray]:
        """Of each value how far the channels before it at this step went and missed, together, and its mean goes."""
        found = []
        for x in (off, moved):
            sums = np.concatenate([np.zeros_like(x[..., :1]), np.cumsum(np.abs(x), -1)], -1)
            found.append(log16(sums[..., np.repeat([0, *self.ends[:-1]], np.diff([0, *self.ends]))]))
        return [*found, log16((mean - (last << FRACTION)) >> (FRACTION - 2))]

    # ── coding ──────────────────────────────────────────────────────────────────────────────────────────────────

    def encode(self, wholes: np.ndarray) -> bytes:
        """Rows int64 [n, c] as bytes."""
        writer = Writer()
        q = self._laned(wholes)
        mean, _, scale, last, _ = self.whole(q)
        which = self.contexts(scale, mean, last, slice(None))
        values, groups = q - (mean >> FRACTION), list(zip([0, *self.ends[:-1]], self.ends, strict=True))
        # A step is a group of columns of all lanes.
        step = np.arange(len(q))[:, None, None] * len(groups) + np.zeros(q.shape, np.int64)
        for number, (begin, end) in enumerate(groups):
            step[..., begin:end] += number

        def flat(a: np.ndarray) -> np.ndarray:
            return np.concatenate([a[..., begin:end].reshape(-1) for begin, end in groups])

        writer.numbers(self.tables, flat(which), flat(values), flat(step))
        lanes, data = writer.finish()
        return lanes.to_bytes(2, "little") + data

    def cost(self, wholes: np.ndarray) -> float:
        """Bits of rows int64 [n, c]."""
        q = self._laned(wholes)
        mean, _, scale, last, _ = self.whole(q)
        symbols, raw, _ = symbols_of(folded(q - (mean >> FRACTION)), self.tables.symbols)
        bits = self.tables.bits[self.contexts(scale, mean, last, slice(None)), symbols] + raw
        return float(bits.sum(dtype=np.float64))

    def decode(self, data: memoryview, n: int) -> np.ndarray:
        """n rows that `encode` wrote. int64 [n, c]. Raises DataError for other bytes."""
        decoder, numbers = opened(data), Numbers(self.tables)
        lanes, steps = self._shape(n)
        q = np.empty((steps, lanes, len(self.order)), np.int64)
        past = _Past(self, lanes, steps)
        for t in range(steps):
            q[t] = self._step(past, lambda which: numbers.read(decoder, which.ravel()).reshape(which.shape))
            past.add(q[t])
        decoder.finish()
        rows = q.transpose(1, 0, 2).reshape(-1, len(self.order))[:n]
        found = np.empty_like(rows)
        found[:, self.order] = rows
        return found

    def _step(self, past: "_Past", read: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        """The next row of each lane, group after group. [lanes, c]"""
        c = len(self.order)
        last, lags, before = past.known()
        mean_so_far = dot(lags, self._mean[:-c]) if lags.shape[-1] else np.zeros(last.shape)
        scale_so_far = self.level + (dot(before, self._scale[: -c - 3]) if self.time else np.zeros(last.shape))
        q, far, off_far = np.empty_like(last), np.zeros((len(last), 1), np.int64), np.zeros((len(last), 1), np.int64)
        begin = 0
        for end in self.ends:
            now = slice(begin, end)
            mean = (last[:, now] << FRACTION) + _shifted(mean_so_far[:, now], WEIGHT)
            weights = self._scale[-3:, now]
            form = scale_so_far[:, now] + log16(off_far) * weights[0] + log16(far) * weights[1]
            form = form + log16((mean - (last[:, now] << FRACTION)) >> (FRACTION - 2)) * weights[2]
            which = self.contexts(_shifted(form, WEIGHT), mean, last[:, now], now)
            q[:, now] = (mean >> FRACTION) + read(which)
            if end < c:
                moved, off = q[:, now] - last[:, now], miss(q[:, now], mean)
                mean_so_far[:, end:] += dot(moved, self._mean[begin - c : (end - c) or None, end:])
                scale_so_far[:, end:] += dot(log16(off), self._scale[begin - c - 3 : end - c - 3, end:])
                far = far + np.abs(moved).sum(1, keepdims=True)
                off_far = off_far + np.abs(off).sum(1, keepdims=True)
            past.missed[:, now] = np.abs(miss(q[:, now], mean))
            begin = end
        return q

    def _shape(self, n: int) -> tuple[int, int]:
        """Lanes and steps of n rows."""
        if not self.time:
            return n, 1 if n else 0
        lanes = int(np.clip(n // ROWS, 1, LANES))
        return lanes, -(-n // lanes)

    def _laned(self, wholes: np.ndarray) -> np.ndarray:
        """Rows [n, c] as [steps, lanes, c] in coding order; what is left of the last lane repeats the last row."""
        n = len(wholes)
        lanes, steps = self._shape(n)
        at = np.minimum(np.arange(lanes * steps), n - 1).reshape(lanes, steps)
        return np.ascontiguousarray(wholes[:, self.order][at].transpose(1, 0, 2))

    # ── the model file ──────────────────────────────────────────────────────────────────────────────────────────

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """What was learned."""
        names = ("order", "ends", "reference", "mean", "scale", "level", "shared", "counts", "weight")
        return {n: getattr(self, n) for n in names}

    @property
    def settings(self) -> dict[str, Any]:
        """The rest of it."""
        return {"time": self.time, "levels": self.levels, "period": self.period}

    @staticmethod
    def of(arrays: dict[str, np.ndarray], settings: dict[str, Any]) -> "Columns":
        """Raises LookupError, TypeError, ValueError for what cannot be."""
        flags = bool(settings["time"]), bool(settings["levels"]), int(settings["period"])
        names = ("order", "ends", "reference", "mean", "scale", "level", "shared", "counts", "weight")
        made = [arrays[n] for n in names]
        return Columns(*made, *flags)  # type: ignore[call-arg, arg-type]


class _Past:
    """What a decoder knows of the rows before the next. missed [lanes, c]: how far the last row's means were off."""

    def __init__(self, columns: Columns, lanes: int, steps: int) -> None:
        shape, self._of, self._t = (lanes, len(columns.order)), columns, 0
        longest = MEANS[-1] + 3 if columns.time else 0
        self._start, self.missed = longest, np.zeros(shape, np.int64)
        self._q = np.zeros((longest + steps, *shape), np.int64)
        self._q[:longest] = columns.reference
        self._sums = np.concatenate([np.zeros((1, *shape), np.int64), np.cumsum(self._q, 0)])
        self._misses = np.zeros((steps + 1, *shape), np.int64)
        self._moved = np.zeros((steps if columns.period else 0, *shape), np.int64)

    def known(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The last row, the features of means and of scales."""
        of, at, t = self._of, self._start + self._t, self._t
        if not of.time:
            last = np.broadcast_to(of.reference, self.missed.shape)
            return last, of.lagged(last, [], [], []), np.empty(0)
        last = self._q[at - 1]
        steps = [self._q[at - k] - self._q[at - k - 1] for k in (1, 2, 3)]
        means = [w * last - self._sums[at] + self._sums[at - w] for w in MEANS]
        periodic = []
        if of.period:
            zero = np.zeros_like(last)

            def moved(k: int) -> np.ndarray:
                return self._moved[t - k] if k <= t else zero

            around = [sum((moved(j * of.period + e) for j in range(1, _PERIODS)), zero) for e in (-1, 0, 1)]
            periodic = [moved(of.period), moved(of.period - 1), moved(7 * of.period), *around]
        sums = [self._misses[t] - self._misses[max(t - w, 0)] for w in MISSES]
        return last, of.lagged(last, steps, means, periodic), of.missed(sums, steps, means)

    def add(self, row: np.ndarray) -> None:
        """Go on with the row [lanes, c] that was decoded, and `missed`."""
        if self._of.time:
            at = self._start + self._t
            if self._of.period:
                self._moved[self._t] = row - self._q[at - 1]
            self._q[at] = row
            self._sums[at + 1] = self._sums[at] + row
            self._misses[self._t + 1] = self._misses[self._t] + self.missed
        self._t += 1


def _periodic(moved: np.ndarray, period: int) -> list[np.ndarray]:
    """Of differences [t, ...] those one and seven periods ago, and of seven periods those around the same place."""

    def lag(k: int) -> np.ndarray:
        return np.concatenate([np.zeros_like(moved[: min(k, len(moved))]), moved[: max(len(moved) - k, 0)]])

    around = [sum((lag(j * period + e) for j in range(1, _PERIODS)), np.zeros_like(moved)) for e in (-1, 0, 1)]
    return [lag(period), lag(period - 1), lag(7 * period), *around]


def miss(q: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """How far values are from their means, in quarters."""
    return np.asarray(((q << FRACTION) - mean) >> (FRACTION - 2))


def integers(weights: np.ndarray) -> np.ndarray:
    """Weights int64 [k, a], of which none is below 0, as frequencies: rows summing to 2^16, each at least 1."""
    a = weights.shape[-1]
    found = 1 + weights * (TOTAL - a) // np.maximum(weights.sum(-1, keepdims=True), 1)
    found[np.arange(len(found)), found.argmax(-1)] += TOTAL - found.sum(-1)
    return found.astype(np.uint16)
