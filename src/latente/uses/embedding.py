"""What of rows' neighbourhoods a space of fewer dimensions keeps."""

from functools import cached_property
from typing import Any

import numpy as np
from sklearn.cluster import KMeans
from sklearn.metrics import silhouette_score
from sklearn.neighbors import NearestNeighbors

# Neighbours of a row; rows whose silhouette is looked at; clusters that are tried where there are no labels.
NEIGHBOURS = 10
SILHOUETTE = 2_000
CLUSTERS = range(2, 9)
# Rows whose distances to all others are in work at once.
_ROWS = 256
# Rows of which pairs are looked at for a median.
_PAIRS = 1_000


class Judge:
    """Measures spaces [n, d] of the same rows, whose features [n, f] say what is near; labels [n]: numbers, −1 none."""

    def __init__(self, x: np.ndarray, labels: np.ndarray | None, seed: int) -> None:
        self.labels, self.seed = labels, seed
        self.k = min(NEIGHBOURS, (len(x) - 1) // 2)
        self.distances = squared_distances(x)
        self.near = nearest(self.distances, self.k)

    def __call__(
        self, codes: np.ndarray, known: tuple[np.ndarray, Any] | None = None, itself: bool = False
    ) -> dict[str, float]:
        """trustworthiness, continuity, accuracy (with labels) and silhouette. known: codes of other rows and their
        labels, among which neighbours are looked for. itself: whether these are the features themselves.
        """
        if itself:
            found = {"trustworthiness": 1.0, "continuity": 1.0}
        else:
            own = squared_distances(codes)
            found = {
                "trustworthiness": kept(self.distances, nearest(own, self.k)),
                "continuity": kept(own, self.near),
            }
        if self.labels is not None:
            accuracy = self._accuracy(codes, known)
            found |= {} if accuracy is None else {"accuracy": accuracy}
        silhouette = self._silhouette(codes)
        return found | ({} if silhouette is None else {"silhouette": silhouette})

    @cached_property
    def _some(self) -> np.ndarray:
        """The rows whose silhouette is looked at."""
        rows = np.arange(len(self.distances)) if self.labels is None else np.flatnonzero(self.labels >= 0)
        return rows[np.unique(np.linspace(0, len(rows) - 1, min(SILHOUETTE, len(rows))).astype(int))]

    def _accuracy(self, codes: np.ndarray, known: tuple[np.ndarray, Any] | None) -> float | None:
        assert self.labels is not None
        asked = self.labels >= 0
        if known is None:
            pool, labels = codes[asked], self.labels[asked]
        else:
            there = known[1] >= 0
            pool, labels = known[0][there], known[1][there]
        k = min(self.k, len(pool) - 1)
        if k < 1 or not asked.any():
            return None
        # Without rows asked for, sklearn leaves each row out of its own neighbours.
        index = NearestNeighbors(n_neighbors=k).fit(pool)
        near = index.kneighbors(None if known is None else codes[asked], return_distance=False)
        votes = np.zeros((len(near), int(max(labels.max(), self.labels.max())) + 1))
        for column in labels[near].T:
            votes[np.arange(len(near)), column] += 1
        return float((votes.argmax(1) == self.labels[asked]).mean())

    def _silhouette(self, codes: np.ndarray) -> float | None:
        some = codes[self._some]
        if np.ptp(some, axis=0).max() == 0:
            return None
        if self.labels is not None:
            labels = self.labels[self._some]
            return float(silhouette_score(some, labels)) if 1 < len(set(labels.tolist())) < len(labels) else None
        found = []
        for clusters in CLUSTERS:
            if clusters < min(len(some), 1 + len(np.unique(some, axis=0))):
                means = KMeans(clusters, n_init=2, random_state=np.random.RandomState(self.seed))
                found.append(float(silhouette_score(some, means.fit_predict(some))))
        return max(found, default=None)

    def notes(self, looked_up: bool) -> list[str]:
        """What the last two columns are of."""
        few = f" of {len(self._some):,} rows" if len(self._some) < len(self.distances) else ""
        if self.labels is None:
            return [
                f"silhouette{few}: of the k-means clusters of each space itself, the best of {CLUSTERS.start} to "
                f"{CLUSTERS.stop - 1}: how clustered a space is, not whether the clusters are real"
            ]
        often = np.bincount(self.labels[self.labels >= 0])
        among = "labelled rows of training" if looked_up else "the other rows"
        return [
            f"10-NN: share of rows whose label most of their {self.k} nearest among {among} have; the commonest label "
            f"is {often.max() / often.sum():.4f} of them. Silhouette{few} by label"
        ]


def squared_distances(x: np.ndarray) -> np.ndarray:
    """|a − b|² of all pairs of rows [n, d], infinite of a row to itself. float32 [n, n]"""
    x = np.asarray(x, np.float64)
    x = x - x.mean(0)
    norms = np.square(x).sum(1)
    found = np.empty((len(x), len(x)), np.float32)
    for i in range(0, len(x), _ROWS):
        found[i : i + _ROWS] = norms[i : i + _ROWS, None] + norms - 2 * x[i : i + _ROWS] @ x.T
    np.fill_diagonal(found, np.inf)
    return np.maximum(found, 0, out=found)


def nearest(distances: np.ndarray, k: int) -> np.ndarray:
    """The k nearest of each row. int [n, k]"""
    parts = [np.argpartition(distances[i : i + _ROWS], k - 1, 1)[:, :k] for i in range(0, len(distances), _ROWS)]
    return np.concatenate(parts)


def kept(distances: np.ndarray, near: np.ndarray) -> float:
    """How little the neighbours `near` [n, k], found elsewhere, are strangers by these distances: 1, none is.

    1 − 2 / (n k (2n − 3k − 1)) Σ max(0, rank − k). With distances of the rows and neighbours of the codes it is
    trustworthiness, the other way round continuity. Source: Venna & Kaski 2001, "Neighborhood preservation in nonlinear
    projection methods: an experimental study". Of equal distances the better rank counts.
    """
    n, k = near.shape
    beyond = 0
    for i in range(0, n, _ROWS):
        some = distances[i : i + _ROWS]
        for reach in np.take_along_axis(some, near[i : i + _ROWS], 1).T:
            beyond += int(np.maximum((some < reach[:, None]).sum(1) + 1 - k, 0).sum())
    return 1 - 2 * beyond / (n * k * (2 * n - 3 * k - 1))


def gamma(x: np.ndarray) -> float:
    """1 / the median of |a − b|² over pairs of up to 1,000 rows, evenly spread."""
    some = x[np.unique(np.linspace(0, len(x) - 1, min(_PAIRS, len(x))).astype(int))]
    middle = float(np.median(squared_distances(some)[np.triu_indices(len(some), 1)]))
    return 1 / middle if middle > 0 else 1.0
