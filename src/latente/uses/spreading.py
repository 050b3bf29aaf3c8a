"""Labels that spread from the few rows that have one to those that lie near them."""

from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy import sparse

from ..errors import ConfigError, DataError
from ..estimator import Autoencoder
from .learned.map import neighbours

# How much of a row's label comes from its neighbours, and the rounds after which nothing moves.
ALPHA, ROUNDS = 0.99, 60


def spread_labels(
    model: Autoencoder | None, X: Any, y: Any, *, k: int = 10, classes: Any = None
) -> tuple[np.ndarray, np.ndarray]:
    """The class of every row, from those that are known: NaN or None in `y` where they are not.

    A graph joins each row's code to its `k` nearest; classes flow along it, and each gets the same weight in all. Made
    for rows at hand: predictions for new ones are LatentClassifier's. model: None if X are codes already. classes: in
    the order that the second result has them; None is sorted.

    Returns (classes [n], probabilities [n, classes]). Raises DataError for fewer than two classes.
    Source: Zhou et al. 2004, "Learning with local and global consistency", eq. 6; class masses as Zhu et al. 2003,
    sec. 4, with equal shares.
    """
    codes = np.asarray(X, np.float32) if model is None else model.transform(X)
    values = np.asarray(y, dtype=object)
    known = ~np.asarray(pd.isna(values))
    if len(values) != len(codes):
        raise DataError(f"{len(codes):,} rows, and {len(values):,} labels", hint="one for each row, NaN if not known")
    if not 1 <= k < len(codes):
        raise ConfigError(f"k must be from 1 to {len(codes) - 1:,}, not {k}")
    found = np.array(sorted(set(values[known].tolist()))) if classes is None else np.asarray(classes)
    if len(found) < 2:
        raise DataError("labels of one class spread everywhere", hint="label rows of two classes or more")
    place = {c: i for i, c in enumerate(found.tolist())}
    begin = np.zeros((len(codes), len(found)))
    for i in np.flatnonzero(known):
        begin[i, place[values[i]]] = 1.0
    graph = _graph(torch.from_numpy(codes), k)
    flow = begin.copy()
    for _ in range(ROUNDS):
        flow = ALPHA * (graph @ flow) + (1 - ALPHA) * begin
    flow /= np.maximum(flow.sum(0), 1e-30)
    total = flow.sum(1, keepdims=True)
    p = np.where(total > 0, flow / np.maximum(total, 1e-300), 1 / len(found))
    return found[p.argmax(1)], p


def _graph(codes: torch.Tensor, k: int) -> Any:
    """D^−½ W D^−½ of exp(−d² / s), s the median squared distance to the k-th neighbour, joined both ways. [n, n]"""
    near, distances = neighbours(codes, k)
    square = distances.double().square().numpy()
    weights = np.exp(-square / max(float(np.median(square[:, -1])), 1e-30))
    n = len(codes)
    rows = np.repeat(np.arange(n), near.shape[1])
    w = sparse.csr_matrix((weights.ravel(), (rows, near.numpy().ravel())), shape=(n, n))
    w = w.maximum(w.T)
    d = sparse.diags_array(1 / np.sqrt(np.maximum(np.asarray(w.sum(1)).ravel(), 1e-30)))
    return d @ w @ d
