"""What is found on a map: groups of points and what sets each apart, and what varies along its axes."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse
from scipy.stats import rankdata
from sklearn.cluster import HDBSCAN
from sklearn.neighbors import NearestNeighbors

from .maps_fields import COLOURED, Field, short

# Rows up to which groups are looked for among all codes; of more, among as many rows of the map.
ROWS = 20_000
# A group has at least one row in a hundred, and so many; more groups than these nobody looks at.
LEAST, MOST = 10, 40
# Rows around a point that its density is judged by, among codes and on a map, whose grain is finer than the data's:
# with 5 there the ten digits fall into 18 groups, with 10 into 13.
DENSE, GRAIN = 5, 10
# From which share of rows without a group on the map is asked in place of the codes.
LOOSE = 0.4
# By how many standard deviations a group must differ in a column for it to be said; how many columns are said.
DIFFERS, SAID = 0.3, 3
# From which share of a group's texts on a word is one of its own.
COMMON = 0.1
# Shares of variance along an axis from which a column is said to vary along it; the rows that say so.
VARIES, ENOUGH = 0.05, 20_000


@dataclass(frozen=True)
class Cluster:
    """One group: its number, rows, what sets it apart, in short and column by column; its middlemost row."""

    number: int
    size: int
    name: str
    words: tuple[str, ...]
    medoid: int


@dataclass(frozen=True)
class Trend:
    """What varies along a direction of the map: (column, strength, words), the strongest first. angle: degrees against
    the x axis; None of the z axis and in space.
    """

    axis: str
    direction: tuple[float, ...]
    columns: tuple[tuple[str, float, str], ...]

    @property
    def words(self) -> str:
        """In one line."""
        return " · ".join(words for _, _, words in self.columns)


# Groups


def grouped(codes: np.ndarray, points: np.ndarray, seed: int) -> tuple[np.ndarray, str]:
    """Groups of rows, the largest first, −1 for none; and what they were looked for among: "codes" or "map"."""
    if len(codes) <= ROWS:
        found = _dense(codes, DENSE)
        if found.max(initial=-1) >= 1 and (found < 0).mean() <= LOOSE:
            return found, "codes"
        other = _dense(points, GRAIN)
        if other.max(initial=-1) >= 1 and ((other < 0).mean() < (found < 0).mean() or found.max() < 1):
            return other, "map"
        return found, "codes"
    some = np.sort(np.random.default_rng(seed).choice(len(points), ROWS, replace=False))
    found = _dense(points[some], GRAIN)
    members = found >= 0
    if not members.any():
        return np.full(len(points), -1), "map"
    # Whether a row that was left out is in a group at all is as its nearest row of the sample is.
    rest = np.setdiff1d(np.arange(len(points)), some)
    near = NearestNeighbors(n_neighbors=1).fit(points[some]).kneighbors(points[rest], return_distance=False)[:, 0]
    whole = np.empty(len(points), int)
    whole[some], whole[rest] = found, found[near]
    return _by_size(whole), "map"


def _dense(x: np.ndarray, around: int) -> np.ndarray:
    """HDBSCAN (Campello, Moulavi & Sander 2013), with fewer and larger groups until there are at most `MOST`."""
    n = len(x)
    least = max(LEAST, n // 100)
    if n < 2 * LEAST:
        return np.full(n, -1)
    while True:
        found = HDBSCAN(min_cluster_size=min(least, n // 2), min_samples=min(around, n - 1), copy=True).fit_predict(
            np.asarray(x, np.float64)
        )
        if found.max() < MOST or least >= n // 2:
            return _by_size(np.maximum(found, -1))
        least *= 2


def _by_size(found: np.ndarray) -> np.ndarray:
    if found.max(initial=-1) < 0:
        return found
    order = np.argsort(-np.bincount(found[found >= 0]), kind="stable")
    return np.where(found >= 0, np.argsort(order)[found], -1)


def described(
    found: np.ndarray, points: np.ndarray, fields: Sequence[Field], texts: Sequence[str] | None = None
) -> tuple[Cluster, ...]:
    """Each group with what sets it apart from all rows; of texts also the words that it has more often."""
    made = []
    words = None if texts is None else _words(texts)
    for number in range(int(found.max(initial=-1)) + 1):
        inside = found == number
        rows = np.flatnonzero(inside)
        middle = np.median(points[rows], 0)
        medoid = int(rows[np.square(points[rows] - middle).sum(1).argmin()])
        facts = [f for field in fields for f in _facts(field, inside)]
        facts += [] if words is None else _often(*words, rows)
        facts = sorted(facts, key=lambda f: -f[0])[:SAID]
        name = ", ".join(text for _, text, _ in facts[:2])
        made.append(Cluster(number, len(rows), name, tuple(words for *_, words in facts), medoid))
    return tuple(made)


def _facts(field: Field, inside: np.ndarray) -> list[tuple[float, str, str]]:
    """(strength, in short, in words) of what a group differs in, in one column: at most one fact."""
    if field.numeric:
        there = ~np.isnan(field.values)
        own, rest = field.values[there & inside], field.values[there]
        spread = rest.std() if len(rest) else 0.0
        if len(own) < 2 or spread == 0:
            return []
        mean, whole = own.mean(), rest.mean()
        strength = abs(mean - whole) / spread
        if strength < DIFFERS:
            return []
        if field.sort == "date":
            at, all_at = field_said(field, float(np.median(own))), field_said(field, float(np.median(rest)))
            return [(strength, f"{field.name} ≈ {at}", f"{field.name} about {at} (all: {all_at})")]
        words = f"{field.name} {_plain(mean)} ± {_plain(own.std())} (all: {_plain(whole)} ± {_plain(spread)})"
        return [(strength, f"{field.name} {'↑' if mean > whole else '↓'} {_plain(mean)}", words)]
    if field.sort == "text" or not len(field.levels):
        return []
    there = field.values >= 0
    counts = np.bincount(field.values[there], minlength=len(field.levels))
    if not counts.sum() or not (there & inside).any():
        return []
    whole_shares = counts / counts.sum()
    shares = np.bincount(field.values[there & inside], minlength=len(counts)) / (there & inside).sum()
    scale = np.sqrt(np.maximum(whole_shares * (1 - whole_shares), 0.01))
    gain = (shares - whole_shares) / scale
    best = int(gain.argmax())
    if gain[best] < DIFFERS:
        return []
    level = field.levels[best]
    words = f"{field.name}={level} {shares[best] * 100:.0f} % (all: {whole_shares[best] * 100:.0f} %)"
    return [(float(gain[best]), f"{field.name}={level}", words)]


def _words(texts: Sequence[str]) -> tuple[Any, list[str]]:
    """Which text has which word: CSR of 0 and 1 [texts, words]."""
    numbers: dict[str, int] = {}
    index, ends = [], [0]
    for text in texts:
        index += sorted({numbers.setdefault(w, len(numbers)) for w in re.findall(r"\w{2,}", text.lower())})
        ends.append(len(index))
    return sparse.csr_matrix((np.ones(len(index)), index, ends), shape=(len(texts), len(numbers))), list(numbers)


def _often(has: Any, words: list[str], rows: np.ndarray) -> list[tuple[float, str, str]]:
    """Words that texts of a group have more often than others."""
    if not words:
        return []
    shares, whole = (np.asarray(m.mean(0)).ravel() for m in (has[rows], has))
    gain = (shares - whole) / np.sqrt(np.maximum(whole * (1 - whole), 0.01))
    gain[(shares * len(rows) < 3) | (shares < COMMON)] = 0
    best = [j for j in np.argsort(-gain, kind="stable")[:SAID] if gain[j] >= DIFFERS]
    said = "“{}” in {:.0f} % (all: {:.0f} %)"
    return [(float(gain[j]), words[j], said.format(words[j], 100 * shares[j], 100 * whole[j])) for j in best]


def field_said(field: Field, value: float) -> str:
    """A value of a field in words."""
    return Field(field.name, field.sort, np.array([value])).said(0)


def _plain(value: float) -> str:
    """A number in two or three digits."""
    if value == 0 or 100 <= abs(value) < 1e7:
        return short(round(float(value)))
    return f"{value:.3g}" if abs(value) >= 1 else f"{value:.2g}"


# Trends


def trends(points: np.ndarray, fields: Sequence[Field], seed: int) -> tuple[Trend, ...]:
    """What varies along each axis, and along the direction in which one column varies most."""
    some = np.arange(len(points))
    if len(some) > ENOUGH:
        some = np.sort(np.random.default_rng(seed).choice(len(some), ENOUGH, replace=False))
    x = points[some].astype(np.float64)
    usable = [(f, f.values[some]) for f in fields if f.sort != "text"]
    made, found = [], []
    for axis, name in enumerate("xyz"[: x.shape[1]]):
        direction = np.eye(x.shape[1])[axis]
        columns = _along(x[:, axis], usable)
        made.append(Trend(name, tuple(map(float, direction)), columns))
        # An axis may be the steepest itself.
        found += [(max(_share(x[:, axis], f, v) for f, v in usable), direction)] if columns else []
    for field, values in usable:
        direction = _gradient(x, field, values)
        if direction is not None:
            found.append((_share(x @ direction, field, values), direction))
    share, best = max(found, key=lambda f: f[0], default=(0.0, None))
    if best is not None and share >= VARIES:
        made.append(Trend("steepest", tuple(map(float, best)), _along(x @ best, usable)))
    return tuple(made)


def _share(place: np.ndarray, field: Field, values: np.ndarray) -> float:
    """The share of variance along a direction that goes with a column: ρ² or η²."""
    if field.numeric:
        return _spearman(place, values) ** 2
    there = values >= 0
    return _eta(rankdata(place[there]), _few(values[there]))[0]


def _along(place: np.ndarray, fields: Sequence[tuple[Field, np.ndarray]]) -> tuple[tuple[str, float, str], ...]:
    """The columns that vary most along one direction."""
    found: list[tuple[float, tuple[str, float, str]]] = []
    for field, values in fields:
        if field.numeric:
            rho = _spearman(place, values)
            if rho**2 >= VARIES:
                found.append((rho**2, (field.name, rho, f"{field.name} ρ {rho:+.2f}".replace("-", "−"))))
            continue
        codes, there = _few(values), values >= 0
        eta, means = _eta(rankdata(place[there]), codes[there])
        if eta >= VARIES:
            named = [c for c in np.argsort(means) if np.isfinite(means[c]) and c < COLOURED]
            ends = f" ({field.levels[named[0]]} … {field.levels[named[-1]]})" if len(named) > 1 else ""
            found.append((eta, (field.name, eta, f"{field.name} η² {eta:.2f}{ends}")))
    return tuple(said for _, said in sorted(found, key=lambda f: -f[0])[:SAID])


def _few(codes: np.ndarray) -> np.ndarray:
    """Codes with all levels beyond the coloured as one: many levels would explain anything."""
    return np.minimum(codes, COLOURED)


def _spearman(place: np.ndarray, values: np.ndarray) -> float:
    there = ~np.isnan(values)
    if there.sum() < 3:
        return 0.0
    a, b = rankdata(place[there]), rankdata(values[there])
    spread = a.std() * b.std()
    return 0.0 if spread == 0 else float(((a - a.mean()) * (b - b.mean())).mean() / spread)


def _eta(place: np.ndarray, codes: np.ndarray) -> tuple[float, np.ndarray]:
    """The share of variance that lies between groups, corrected for their number (Kelley's ε²); the groups' means."""
    n, counts = len(place), np.bincount(codes) if len(codes) else np.zeros(0, int)
    k = int((counts > 0).sum())
    if k < 2 or n <= k + 1 or place.var() == 0:
        return 0.0, np.full(len(counts), np.nan)
    with np.errstate(invalid="ignore"):
        means = np.bincount(codes, place) / counts
    within = np.square(place - means[codes]).sum() / np.square(place - place.mean()).sum()
    # The mean of a group of one or two rows says nothing about where its level lies.
    return max(0.0, 1 - within * (n - 1) / (n - k)), np.where(counts > 2, means, np.nan)


def _gradient(x: np.ndarray, field: Field, values: np.ndarray) -> np.ndarray | None:
    """The direction along which a column varies most, a unit vector: of numbers the gradient of their ranks, of
    categories the first discriminant.
    """
    there = ~np.isnan(values) if field.numeric else values >= 0
    if there.sum() < 10:
        return None
    some = x[there] - x[there].mean(0)
    scale = np.where(some.std(0) > 0, some.std(0), 1.0)
    some = some / scale
    if field.numeric:
        ranks = rankdata(values[there])
        direction = np.linalg.lstsq(some, ranks - ranks.mean(), rcond=None)[0] / scale
    else:
        codes = _few(values[there])
        counts = np.bincount(codes)
        variances, vectors = np.linalg.eigh(np.cov(some.T))
        white = vectors / np.sqrt(np.maximum(variances, 1e-9))
        spread = some @ white
        sums = np.stack([np.bincount(codes, spread[:, i]) for i in range(x.shape[1])], 1)
        means = sums / np.maximum(counts, 1)[:, None]
        between = (means * counts[:, None]).T @ means
        direction = white @ np.linalg.eigh(between)[1][:, -1] / scale
    length = np.linalg.norm(direction)
    if length < 1e-12:
        return None
    # Of the two ways along a line the one that goes up, or right.
    return np.asarray(direction / length * np.sign(direction[np.abs(direction).argmax()]))
