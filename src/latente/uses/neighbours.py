"""What lies near: rows whose codes are nearest, and rows of the training data that samples may be copies of."""

from collections.abc import Sequence
from difflib import SequenceMatcher
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy import sparse
from sklearn.cluster import KMeans
from sklearn.neighbors import NearestNeighbors

from ..errors import ConfigError
from ..estimator import Autoencoder
from ..kinds.sequences import Sequences
from ..model.dists.tokens import PAD
from .rows import places

# Training rows that share most pairs of tokens with a sample, among which the nearest is looked for.
CANDIDATES = 8
# Pairs of tokens are told apart by their hash.
HASHES = 1 << 20
# New rows that are looked at.
NEW = 200
# From how many shared tokens on a sample counts as a copy.
COPY = 0.9


def nearest(ae: Autoencoder, item: Any, among: Any, k: int) -> pd.DataFrame:
    """The `k` rows of `among` whose codes are nearest to the item's: row, distance, and the text where there is one; of
    tunes the window's tune and first step.
    """
    rows = ae.rows(among)
    codes, own = ae.transform(rows), ae.transform(item)
    if not 1 <= k <= len(codes):
        raise ConfigError(f"k must be from 1 to {len(codes):,}, the number of rows, not {k}", hint="-k 5")
    distances, index = NearestNeighbors(n_neighbors=k).fit(codes).kneighbors(own[:1])
    found = pd.DataFrame({"row": index[0], "distance": distances[0]})
    where = places(ae, rows)
    if len(where):
        return pd.concat([found, where.iloc[index[0]].reset_index(drop=True)], axis=1)
    return found.assign(**_shown(rows, index[0].tolist()))


def _shown(rows: Any, index: list[int]) -> dict[str, Any]:
    """What is shown of some rows: a table's cells, or the text."""
    if hasattr(rows, "iloc"):
        return {str(name): rows[name].iloc[index].tolist() for name in rows.columns}
    if not isinstance(rows, (Sequence, np.ndarray)) or getattr(rows, "ndim", 1) != 1:
        return {}
    found = [rows[i] for i in index]
    return {"text": found} if all(isinstance(f, str) for f in found) else {}


def grouped(codes: np.ndarray, clusters: int, seed: int, part: bool = False) -> np.ndarray:
    """Clusters of codes by k-means, the largest first: numbers from 0. part: whether the codes are of a block of rows.
    int [rows]
    """
    if part:
        raise ConfigError("clusters are of all rows together, and these come in blocks", hint="encode them first")
    if not 2 <= clusters <= len(codes):
        raise ConfigError(f"clusters must be from 2 to {len(codes):,}, the number of rows, not {clusters}")
    found = KMeans(clusters, n_init=10, random_state=np.random.RandomState(seed)).fit_predict(codes)
    order = np.argsort(-np.bincount(found, minlength=clusters), kind="stable")
    return np.argsort(order)[found]


def copies(ae: Autoencoder, samples: Any, training: Any) -> pd.DataFrame:
    """Of each sample the nearest row of the training data: nearest, its number; likeness, the share of their tokens
    that the two have in common, in order, 1 for a copy.

    Looked for among the rows that share the most pairs of tokens with the sample.
    """
    if not isinstance(ae.schema_, Sequences):
        raise ConfigError("copies of training rows are looked for among texts and tunes", hint="leave --training out")
    new, old = _tokens(ae, samples), _tokens(ae, training)
    exact = {tuple(row): i for i, row in reversed(list(enumerate(old)))}
    shared = _pairs(new) @ _pairs(old).T
    found: list[tuple[int, float]] = []
    for i, row in enumerate(new):
        if tuple(row) in exact:
            found.append((exact[tuple(row)], 1.0))
            continue
        line = shared.getrow(i)
        near = line.indices[np.argsort(-line.data, kind="stable")[:CANDIDATES]] if line.nnz else np.zeros(1, int)
        likeness = [SequenceMatcher(None, row, old[j], autojunk=False).ratio() for j in near]
        best = int(np.argmax(likeness))
        found.append((int(near[best]), float(likeness[best])))
    return pd.DataFrame(found, columns=["nearest", "likeness"])


def of_tokens(ae: Autoencoder) -> bool:
    """Whether a model is of texts or tunes."""
    return isinstance(getattr(ae, "schema_", None), Sequences)


def repeated(ae: Autoencoder, training: Any, seed: int) -> dict[str, float]:
    """Of new rows the share that are training rows, and the median likeness to the nearest."""
    found = copies(ae, ae.sample(NEW, random_state=seed), training)
    return {"copies": float((found.likeness == 1).mean()), "likeness": float(found.likeness.median())}


def told(found: pd.DataFrame) -> str:
    """In a sentence how many samples repeat training rows."""
    exact, near = int((found.likeness == 1).sum()), int((found.likeness >= COPY).sum())
    words = (
        f"{exact:,} of {len(found):,} samples are training rows word for word"
        if exact
        else "no sample is a training row"
    )
    more = f"; {near - exact:,} more share {COPY:.0%} of their tokens with one" if near > exact else ""
    return f"{words}{more}; the median likeness to the nearest is {found.likeness.median():.2f}"


def _tokens(ae: Autoencoder, rows: Any) -> list[list[int]]:
    x = ae.schema_.to_batch(ae.rows(rows)).x
    lengths = ((x != PAD) * torch.arange(1, x.shape[1] + 1)).amax(1).clamp(min=1).tolist()
    return [row[:n] for row, n in zip(x.tolist(), lengths, strict=True)]


def _pairs(rows: list[list[int]]) -> sparse.csr_matrix:
    """Rows as the pairs of tokens that they have, each row of length 1."""
    index = [np.unique((np.array([0, *row[:-1]]) * 65_537 + np.array(row)) % HASHES) for row in rows]
    ends = np.cumsum([0, *map(len, index)])
    weights = np.concatenate([np.full(len(i), len(i) ** -0.5) for i in index]) if index else np.zeros(0)
    return sparse.csr_matrix((weights, np.concatenate(index), ends), shape=(len(rows), HASHES))
