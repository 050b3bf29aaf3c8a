"""Whether rows that a model made look like data: Fréchet distance, precision and recall, a two-sample classifier.

All of them are measured in a space of features, and between samples of one size, because each depends on both. Beside
every number stands what rows of data get against other rows of data (`_ceiling`: no model can be better) and what rows
get whose columns were shuffled, each by itself (`_floor`: every column is right, and nothing that binds them).
"""

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.spatial.distance import cdist
from sklearn.decomposition import PCA
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.neural_network import MLPClassifier
from torch import Tensor

from ..errors import ConfigError, DataError
from ..estimator import Autoencoder
from ..model import sparse
from ..model.dists.base import as_mask

# Components of the space: what is beyond them in pictures is mostly noise, and k-nearest-neighbour balls need few.
COMPONENTS = 64
# Rows of each set. The cost of neighbours is quadratic, and 2,000 rows tell an AUROC of .53 from .5.
ROWS = 2_000
# Neighbours, as in Kynkäänniemi et al. 2019.
NEIGHBOURS = 3
# Hidden units of the classifier whose features are used where there are labels.
HIDDEN = 64


@dataclass(frozen=True, eq=False)
class Space:
    """Rows' features [n, f] -> the coordinates in which they are compared; `text` says which."""

    pca: PCA
    scale: float
    text: str
    layer: tuple[np.ndarray, np.ndarray] | None = None  # weights [c, HIDDEN] and bias of the classifier's hidden layer
    unit: float = 1.0  # root of the pixels' or columns' total variance, by which the classifier's inputs are divided

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        found = self.pca.transform(np.asarray(rows, np.float64))
        if self.layer is not None:
            found = np.maximum(found / self.unit @ self.layer[0] + self.layer[1], 0)
        return found / self.scale


def space(rows: np.ndarray, labels: np.ndarray | None = None, seed: int = 0) -> Space:
    """The space that real rows [n, f] define.

    Without labels: the first 64 principal components, or all of fewer columns. They are not whitened (that would give
    the noise of the last component the weight of the first) but divided by one number, so that the rows' total variance
    is 1: a Fréchet distance of 1 is that of rows which are all the mean row. With labels [n]: the hidden layer, 64
    units, of a classifier learned on those components, divided in the same way.
    """
    rows = np.asarray(rows, np.float64)
    if rows.ndim != 2 or len(rows) < 2 or not np.isfinite(rows).all():
        raise DataError(f"features are two or more rows of finite numbers, not an array of shape {rows.shape}")
    k = min(COMPONENTS, *rows.shape)
    solver = "randomized" if 4 * k < min(rows.shape) else "full"
    pca = PCA(k, svd_solver=solver, random_state=np.random.RandomState(seed)).fit(rows)
    text = f"{k} principal components of the real rows"
    plain = Space(pca, 1.0, f"{text}, total variance 1")
    found = plain(rows)
    scale = _spread(found)
    if labels is None:
        return Space(pca, scale, plain.text)
    net = MLPClassifier(
        (HIDDEN,), early_stopping=len(rows) > 500, max_iter=50, random_state=np.random.RandomState(seed)
    )
    with warnings.catch_warnings():
        # Fifty rounds are enough for features, whether or not the last digit of the loss has settled.
        warnings.simplefilter("ignore", ConvergenceWarning)
        # Each input of about unit size, as the net's starting weights expect.
        unit = scale / np.sqrt(k)
        net.fit(found / unit, np.asarray(labels))
    layer = (net.coefs_[0], net.intercepts_[0])
    text = f"{HIDDEN} hidden units of a classifier on {text}, total variance 1"
    hidden = Space(pca, 1.0, text, layer, unit)
    return Space(pca, _spread(hidden(rows)), text, layer, unit)


def frechet(a: np.ndarray, b: np.ndarray) -> float:
    """Fréchet distance of the Gaussians with the two samples' moments, squared units of the rows; 0 if they agree.

    |m_a − m_b|² + tr(C_a + C_b − 2 (C_a C_b)^½). Finite samples of one distribution are above 0, the more so the fewer
    their rows. Source: Heusel et al. 2017 (arXiv:1706.08500), there of an Inception net's features.
    """
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    ca, cb = (np.atleast_2d(np.cov(x, rowvar=False)) for x in (a, b))
    values, vectors = np.linalg.eigh(ca)
    root = (vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T
    # The eigenvalues of C_a C_b are those of the symmetric C_a^½ C_b C_a^½, which rounding cannot make complex.
    both = np.sqrt(np.clip(np.linalg.eigvalsh(root @ cb @ root), 0, None)).sum()
    distance = np.square(a.mean(0) - b.mean(0)).sum() + np.trace(ca) + np.trace(cb) - 2 * both
    return max(float(distance), 0.0)


def precision_recall(real: np.ndarray, synthetic: np.ndarray, k: int = NEIGHBOURS) -> tuple[float, float]:
    """Shares from 0 to 1: of synthetic rows that lie among the real ones, and of real rows among the synthetic.

    A row lies among others if it is in the ball round one of them that reaches to its k-th neighbour. Two samples of
    one distribution do not get 1: the more dimensions, the less. Source: Kynkäänniemi et al. 2019 (arXiv:1904.06991).
    """
    if min(len(real), len(synthetic)) <= k:
        raise DataError(f"balls that hold {k} neighbours need more rows than {min(len(real), len(synthetic))}")
    across = cdist(real, synthetic)
    # A row is its own nearest: the k-th neighbour is at place k.
    of_real, of_synthetic = (np.partition(cdist(x, x), k, axis=1)[:, k] for x in (real, synthetic))
    precision = (across <= of_real[:, None]).any(0).mean()
    recall = (across <= of_synthetic[None, :]).any(1).mean()
    return float(precision), float(recall)


def two_sample(a: np.ndarray, b: np.ndarray, seed: int = 0) -> float:
    """How well boosted trees tell two samples apart: AUROC over three folds; .5 is not at all, 1 always.

    Source: Lopez-Paz & Oquab 2017 (arXiv:1610.06545), there as an accuracy. With n rows of each, samples of one
    distribution are within about 0.8 / √n of .5 nineteen times in twenty.
    """
    x, y = np.concatenate([a, b]), np.repeat([0, 1], [len(a), len(b)])
    trees = HistGradientBoostingClassifier(max_iter=60, max_leaf_nodes=15, early_stopping=False, random_state=seed)
    folds = StratifiedKFold(3, shuffle=True, random_state=seed)
    return float(roc_auc_score(y, cross_val_predict(trees, x, y, cv=folds, method="predict_proba")[:, 1]))


def compare(
    real: np.ndarray,
    synthetic: np.ndarray,
    held_out: np.ndarray | None = None,
    *,
    labels: np.ndarray | None = None,
    floor: np.ndarray | None = None,
    seed: int = 0,
    limit: int = ROWS,
) -> dict[str, Any]:
    """Synthetic rows against real rows, features [n, f] of each, with ceiling and floor beside.

    frechet (lower is better), precision, recall (higher), two_sample (AUROC; .5 is best), each also as `_ceiling`, of
    held-out rows against the real ones, and `_floor`, of real rows whose columns were shuffled. Without `held_out` it
    is one half of the real rows. All samples have one size, `compared_rows`, at most `limit`. `space` says where
    distances are; the trees see the features themselves if there are no more than 64 of them. labels: of `real`, see
    `space`. floor: rows to take for it, where a column of the data is several features (a category).
    """
    rng = np.random.default_rng(seed)
    real, synthetic = np.asarray(real, np.float64), np.asarray(synthetic, np.float64)
    order = rng.permutation(len(real))
    if held_out is None:
        order, rest = order[: (len(real) + 1) // 2], order[(len(real) + 1) // 2 :]
        held_out = real[rest]
    where = space(real[order], None if labels is None else np.asarray(labels)[order], seed)
    n = min(len(order), len(synthetic), len(held_out), limit)
    if n < 10:
        raise DataError(f"only {n} rows of each sort can be compared, and 10 are needed", hint="give more rows")
    base = real[order[:n]]
    if floor is None:
        floor = np.stack([column[rng.permutation(n)] for column in base.T], 1)
    others = {
        "": synthetic[rng.permutation(len(synthetic))[:n]],
        "_ceiling": np.asarray(held_out, np.float64)[rng.permutation(len(held_out))[:n]],
        "_floor": np.asarray(floor, np.float64)[:n],
    }
    plain = base.shape[1] <= COMPONENTS and labels is None
    figures: dict[str, Any] = {"compared_rows": n, "space": where.text}
    found: dict[str, dict[str, float]] = {}
    for name, rows in others.items():
        a, b = where(base), where(rows)
        precision, recall = precision_recall(a, b)
        apart = two_sample(base, rows, seed) if plain else two_sample(a, b, seed)
        found[name] = {"frechet": frechet(a, b), "precision": precision, "recall": recall, "two_sample": apart}
    return figures | {key + name: found[name][key] for key in found[""] for name in found}


def of_samples(ae: Autoencoder, data: Any, seed: int = 0, limit: int = ROWS) -> dict[str, Any]:
    """`compare` of rows that the model samples with rows of data; give it rows that the model was not fitted on.

    Features are those that the model reconstructs: scaled numbers, one-hot levels, pixels. A missing cell counts as the
    median or the first level, in the samples too: they get the gaps of rows of the data, so that gaps do not give them
    away. Raises DataError for fewer than 20 rows of data.
    """
    if limit < 10:
        raise ConfigError(f"the rows to compare must be 10 or more, not {limit}")
    rng = np.random.default_rng(seed)
    x, observed = _drawn(ae, data, 2 * limit, rng)
    n = min(limit, len(x) // 2)
    if n < 10:
        raise DataError(f"{len(x)} rows are too few to compare samples with: 20 are needed", hint="give more rows")
    # An expected picture is no black and white one: where values are discrete, so are those of a fair sample.
    of = "sample" if ae.model_.likelihood.discrete(x) else None
    made, _ = _drawn(ae, ae.sample(n, random_state=seed, of=of), n, rng)
    gaps = observed[torch.from_numpy(rng.permutation(len(x))[:n])]
    # The floor's columns are cells: a category moves as a whole, and with it whether it was observed.
    mixed = [torch.from_numpy(rng.permutation(len(x))[:n]) for _ in range(x[0].numel())]
    shuffled = torch.stack([column[rows] for column, rows in zip(x.flatten(1).T, mixed, strict=True)], 1)
    real, synthetic, floor = (
        ae.model_.likelihood.features(cells).flatten(1).numpy() for cells in (x, made * gaps, shuffled.view_as(made))
    )
    return compare(real, synthetic, floor=floor, seed=seed, limit=limit)


def _drawn(ae: Autoencoder, data: Any, n: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """At most n rows of data, drawn evenly, in memory that does not grow with their number: cells, 0 where missing, and
    which were observed. [n, *cells]
    """
    keys, x, observed = np.empty(0), torch.empty(0), torch.empty(0, dtype=torch.bool)
    for batch in ae.batches(data):
        seen = as_mask(batch)
        keys = np.concatenate([keys, rng.random(len(batch))])
        own = sparse.dense(batch.x) * seen
        x, observed = (torch.cat([a, b]) if len(a) else b for a, b in ((x, own), (observed, seen)))
        if len(keys) > 2 * n:
            keys, x, observed = _least(keys, n, x, observed)
    _, x, observed = _least(keys, n, x, observed)
    return x, observed


def _least(keys: np.ndarray, n: int, *rows: Tensor) -> tuple[Any, ...]:
    """The n rows of the smallest keys, and those keys."""
    kept = np.argsort(keys)[:n]
    return keys[kept], *(r[torch.from_numpy(kept)] for r in rows)


def _spread(rows: np.ndarray) -> float:
    """Root of the total variance; 1 where there is none."""
    return float(np.sqrt(rows.var(0).sum())) or 1.0
