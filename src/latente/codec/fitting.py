"""Learning a coder of columns from rows of whole numbers. Here are floats; what is made of them are whole numbers."""

from dataclasses import replace

import numpy as np

from .columns import (
    CONTEXTS,
    FRACTION,
    HOLDS,
    MEANS,
    MEANS_SEEN,
    MISSES,
    MISSES_SEEN,
    MOST_COUNTS,
    PHASES,
    SCALES,
    WEIGHT,
    Columns,
    boxes,
    integers,
    log16,
)
from .numbers import alphabet_for, folded, spans, symbols_of, unfolded

# Symbols that the tables of all columns weigh beside a column's own, and those of a smooth family beside those of all.
_SHARED, _FAMILY = 16.0, 2000.0
# With more columns than this, one pass of least squares finds the means; else what was missed weighs in, twice again.
_MANY = 48
# Rows that the weights are found on, at the most; of columns that are many.
_ROWS, _ROWS_OF_MANY = 60_000, 20_000
# Sizes of the first groups of columns that are coded together; the rest is one group. Coded one by one columns save 1 %
# more, and take five times as long to decode.
GROUPS = (1, 2, 4)
# A choice must save so much of the held-out rows' bits.
_WORTH = 0.005
_SHORTEST = 6


def fitted(rows: np.ndarray, time: bool, held_out: float = 0.2) -> Columns:
    """A coder of rows int64 [n, c]. time: whether they follow each other. Whether values lean on their usual level,
    have a period, and have tables by column, is decided on the last rows, which are held out for that.
    """
    cut = max(1, int(len(rows) * (1 - held_out)))
    train, test = rows[:cut], rows[cut:]
    if len(test) < 10:
        return _fitted(rows, time, False, 0, own=False)
    ways = [(level, period) for level in (False, True) for period in (0, _period(rows) if time else 0)]
    tried: list[tuple[float, int, bool, int, bool]] = []
    for level, period in dict.fromkeys(ways):
        coder = _fitted(train, time, level, period)
        tried.append((coder.cost(test), len(tried), level, period, True))
        plain = _without_own(coder)
        tried.append((plain.cost(test), len(tried), level, period, False))
    plainest = tried[1][0]
    best = min(tried)
    if best[0] > plainest * (1 - _WORTH):
        best = tried[1]
    return _fitted(rows, time, *best[2:4], own=best[4])


def _without_own(coder: Columns) -> Columns:
    return replace(coder, counts=coder.counts[:0])


def _fitted(rows: np.ndarray, time: bool, levels: bool, period: int, own: bool = True) -> Columns:
    rows = np.asarray(rows, np.int64)
    c = rows.shape[1]
    reference = np.rint(np.median(rows, 0)).astype(np.int64)
    moved = np.diff(rows, axis=0, prepend=rows[:1]) if time else rows - reference
    order, ends = _grouped(moved, GROUPS if time else (1,) * c)
    symbols = alphabet_for(int(np.ptp(rows, 0).max()))
    blank = Columns(
        order,
        ends,
        reference[order],
        np.zeros((c * (1 + (3 + len(MEANS)) * time + levels + 6 * bool(period)), c), np.int32),
        np.zeros((c * (1 + (len(MISSES) + 2 + len(MEANS)) * time) + 3, c), np.int32),
        np.zeros(c, np.int64),
        integers(np.ones((CONTEXTS, symbols), np.int64)),
        np.empty((0, CONTEXTS, symbols), np.int64),
        np.ones(CONTEXTS, np.int64),
        time,
        levels,
        period,
    )
    few = rows[: (_ROWS if c <= _MANY else _ROWS_OF_MANY), order][:, None]  # one lane
    mean, scale, level = _weights(blank, few)
    coder = replace(blank, mean=mean, scale=scale, level=level)
    return _with_tables(coder, rows[:, order][:, None], own)


def _before(ends: np.ndarray) -> np.ndarray:
    """Which columns are coded in a group before each. bool [before, column]"""
    group = np.repeat(np.arange(len(ends)), np.diff([0, *ends]))
    return np.asarray(group[:, None] < group[None])


def _weights(coder: Columns, q: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Weights of means and scales, from rows [t, 1, c] in coding order."""
    n, c = len(q), q.shape[2]
    last, steps, means, periodic = coder.history(q)
    moved = (q - last)[:, 0]
    lags = coder.lagged(last, steps, means, periodic)[:, 0]
    x = np.concatenate([lags, moved], 1).astype(np.float64)
    before = _before(coder.ends)
    kinds = [k == 0 or (k > 2 and MEANS[k - 3] in MEANS_SEEN) for k in range((3 + len(MEANS)) * coder.time)]
    seen = _allowed([*kinds, *[False] * (coder._lags - len(kinds))], before, c)
    found = np.zeros((x.shape[1], c))
    scales: np.ndarray | None = None
    for _ in range(1 if c > _MANY else 3):
        gram = x.T @ x if c > _MANY else None
        for k in range(c):
            which = np.flatnonzero(seen[:, k])
            y = moved[:, k].astype(np.float64)
            if len(which) and y.any():
                found[which, k] = (
                    _ridge(gram[np.ix_(which, which)] / n, x[:, which].T @ y / n, n)
                    if gram is not None
                    else _robust(x[:, which], y, None if scales is None else scales[:, k])
                )
        mean = np.rint(found * 2.0 ** (FRACTION + WEIGHT))
        now = replace(coder, mean=_bounded(mean))
        scale, level = _scale_weights(now, q, before, steps, means, last)
        now = replace(now, scale=scale, level=level)
        scales = now.whole(q)[2][:, 0]
    return now.mean, now.scale, now.level


def _scale_weights(
    coder: Columns,
    q: np.ndarray,
    before: np.ndarray,
    steps: list[np.ndarray],
    means: list[np.ndarray],
    last: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    n, c = len(q), q.shape[2]
    mean, off = coder.whole(q)[:2]
    sums = [boxes(np.abs(off), w) for w in MISSES]
    missed = coder.missed(sums, steps, means)[:, 0] if coder.time else np.empty((n, 0))
    x = np.concatenate([missed, log16(off[:, 0])], 1).astype(np.float64)
    kinds = [w in MISSES_SEEN for w in MISSES] + [False] * (2 + len(MEANS)) if coder.time else []
    seen = _allowed(kinds, before, c)
    own = coder.own(off, q - last, mean, last)
    scale, level = np.zeros((x.shape[1] + 3, c)), np.zeros(c)
    for k in range(c):
        which = np.flatnonzero(seen[:, k])
        z = np.column_stack([x[:, which], *(f[:, 0, k] for f in own)]).astype(np.float64)
        y = log16(off[:, 0, k]).astype(np.float64)
        middle = z.mean(0)
        found = _ridge(((z - middle).T @ (z - middle)) / n, (z - middle).T @ (y - y.mean()) / n, n)
        scale[which, k], scale[-3:, k] = found[:-3], found[-3:]
        level[k] = y.mean() - middle @ found
    rounded = _bounded(np.rint(scale * 2.0**WEIGHT))
    return rounded, np.rint((level + 0.5) * 2.0**WEIGHT).astype(np.int64)


def _allowed(crosses: list[bool], before: np.ndarray, c: int) -> np.ndarray:
    """Which features each column's linear form has: its own, those that cross, and this step's channels before it."""
    blocks = [np.ones((c, c), bool) if cross else np.eye(c, dtype=bool) for cross in crosses]
    return np.concatenate([*blocks, before])


def _bounded(weights: np.ndarray) -> np.ndarray:
    return np.clip(weights, -(1 << 20), 1 << 20).astype(np.int32)


def _ridge(gram: np.ndarray, xy: np.ndarray, n: int) -> np.ndarray:
    """Least squares on standardised features, drawn towards 0 the more the fewer rows there are."""
    size = np.sqrt(np.diag(gram)) + 1e-9
    standard = gram / size[:, None] / size
    standard[np.diag_indices(len(standard))] += 1e-3 + (250 / n) ** 2
    return np.linalg.solve(standard, xy / size) / size


def _robust(x: np.ndarray, y: np.ndarray, scale: np.ndarray | None) -> np.ndarray:
    """A linear form that a few large errors do not bend: rows weigh less the farther they are from it, in units of
    `scale`, where that is known.
    """
    first = np.ones(len(x)) if scale is None else 1 / (0.3 + 2.0 ** (scale / 16) / 4) ** 2
    weight = first
    for turn in range(3):
        total = weight.sum()
        found = _ridge((x * weight[:, None]).T @ x / total, (x * weight[:, None]).T @ y / total, len(x))
        if turn < 2:
            square = (y - x @ found) ** 2
            weight = 1 / np.sqrt(square + 0.25) if scale is None else first / np.sqrt(1 + square * first)
    return found


def _grouped(moved: np.ndarray, sizes: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Columns in coding order, and where groups of these sizes end: each next column is the one that says most of those
    that are left (pivots of the correlation of clipped differences).
    """
    n, c = moved.shape
    z = np.clip(moved / (np.abs(moved).mean(0) + 1e-9), -4, 4)
    left_over = z.T @ z / n + 1e-3 * np.eye(c)
    left, order = list(range(c)), []
    while left:
        own = np.diag(left_over)
        share = left_over[np.ix_(left, left)] ** 2 / (own[left][:, None] * own[left] + 1e-12)
        gain = np.where(own[left] > 1e-2, -np.log(np.maximum(1 - share, 0.02)).sum(1), 0.0)
        pick = left.pop(int(gain.argmax()))
        order.append(pick)
        left_over = left_over - np.outer(left_over[:, pick], left_over[pick]) / (own[pick] + 1e-12)
    ends = [e for e in np.cumsum(sizes).tolist() if e < c] + [c]
    return np.array(order, np.int32), np.array(ends, np.int32)


def _period(rows: np.ndarray) -> int:
    """The lag, from 6 steps on, at which differences are most like themselves; 0 of too few rows."""
    moved = np.diff(rows, axis=0).astype(np.float64)
    n = len(moved)
    if n // 8 <= _SHORTEST:
        return 0
    moved = np.clip(moved / (np.abs(moved).mean(0) + 1e-9), -4, 4)
    spectrum = np.fft.rfft(moved - moved.mean(0), 2 * n, axis=0)
    alike = np.fft.irfft(np.abs(spectrum) ** 2, axis=0).sum(1)[: n // 8]
    return int(_SHORTEST + alike[_SHORTEST:].argmax())


def _with_tables(coder: Columns, q: np.ndarray, own: bool) -> Columns:
    """The coder with tables counted on rows [t, 1, c] in coding order."""
    mean, _, scale, last, _ = coder.whole(q)
    which = coder.contexts(scale, mean, last, slice(None))[:, 0]
    size, c = coder.shared.shape[1], len(coder.order)
    symbols = symbols_of(folded(q - (mean >> FRACTION)), size)[0][:, 0]
    counts = np.stack([np.bincount(which[:, k] * size + symbols[:, k], minlength=CONTEXTS * size) for k in range(c)])
    counts = counts.reshape(c, CONTEXTS, size)
    total = counts.sum(0)
    smooth = _smooth(total)
    shares = (total + _FAMILY * smooth) / (total.sum(1, keepdims=True) + _FAMILY)
    shared = integers(np.floor(shares * 2.0**30).astype(np.int64))
    share = shared / 65_536
    weight = np.maximum(1, np.rint(_SHARED * np.exp(-(share * np.log(share)).sum(1)))).astype(np.int64)
    own = own and counts.size <= MOST_COUNTS
    return replace(coder, shared=shared, counts=counts if own else counts[:0], weight=weight)


def _smooth(total: np.ndarray) -> np.ndarray:
    """For each context's counts [CONTEXTS, s] the likeliest of a family: mixtures of two logistics about a mean whose
    fraction is the context's phase, the same for all phases of a scale and hold.
    """
    size = total.shape[1]
    family = _family(size)
    logs = np.log(family).reshape(len(family), -1)
    joined = total.reshape(SCALES * HOLDS, PHASES * size)
    return family[(logs @ joined.T).argmax(0)].reshape(CONTEXTS, size)


def _family(size: int) -> np.ndarray:
    """Shares of symbols [members, PHASES, s]."""
    first, many = spans(size)
    one = many == 1
    # A symbol of one number has its own place; others have numbers on both sides of 0.
    low = np.where(one, unfolded(first.astype(np.uint64)), first / 2) - 0.5
    high = np.where(one, low + 1, (first + many) / 2 - 0.5)
    phase = ((np.arange(PHASES) + 0.5) / PHASES)[:, None]
    found = []
    for scale in 0.04 * 2.0 ** (np.arange(60) / 4):
        for share, wider in ((0.0, 1), (0.1, 3), (0.25, 4), (0.03, 10)):

            def below(z: np.ndarray, scale: float = scale, share: float = share, wider: int = wider) -> np.ndarray:
                narrow, wide = (1 / (1 + np.exp(-np.clip(z / s, -40, 40))) for s in (scale, scale * wider))
                return (1 - share) * narrow + share * wide

            mass = below(high - phase) - below(low - phase)
            mass = mass + np.where(one, 0.0, below(-low - 1 - phase) - below(-high - 1 - phase))
            mass = np.maximum(np.concatenate([mass, np.full((PHASES, 1), 1e-6)], 1), 0) + 1e-7
            found.append(mass / mass.sum(1, keepdims=True))
    return np.array(found)
