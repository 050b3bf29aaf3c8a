"""The honest baseline that travels in the model file: PCA of the same size, fitted on the same rows."""

from dataclasses import dataclass

import numpy as np
import torch
from sklearn.decomposition import PCA

from ..kinds.base import Kind
from ..model.batch import Batch
from ..model.model import Model
from .feed import Feed

# Rows that PCA is fitted on; its subspace is known long before, and the cost is quadratic in the features.
ROWS = 20_000
# Rows that are drawn for it from a private model.
FEW = 2_000


@dataclass(frozen=True)
class Baseline:
    """mean [f], components [k, f] of the features that the model reconstructs."""

    mean: np.ndarray
    components: np.ndarray

    def residual(self, features: np.ndarray) -> np.ndarray:
        """Features [n, f] minus their PCA reconstruction."""
        centred = features - self.mean
        return centred - (centred @ self.components.T) @ self.components


def features(model: Model, batch: Batch) -> tuple[np.ndarray, np.ndarray]:
    """The features [n, f] of prepared rows, and the model's expectation of them from each row's mean code."""
    with torch.no_grad():
        expected = model.mean_of(batch).expectation[0]
        return model.likelihood.features(batch.x).flatten(1).cpu().numpy(), expected.cpu().numpy()


@torch.no_grad()
def fit(model: Model, feed: Feed, kind: Kind, dim: int, seed: int, private: bool = False) -> Baseline:
    """PCA with as many components as the latent has dimensions; a missing cell counts as 0, the median.

    A kind whose baseline is another has none here. private: of new rows of the model in place of those it was trained
    on, so that it tells of them what the model does.
    """
    if not kind.pca:
        f = model.likelihood.continuous.numel()
        return Baseline(np.zeros(f, np.float32), np.zeros((0, f), np.float32))
    if private:
        generator = torch.Generator().manual_seed(seed)
        x = model.decode(model.prior().sample(FEW, generator)).sample(generator)
    else:
        x = kind.prepare(feed.whole(ROWS)).x
    return of(model.likelihood.features(x).flatten(1).cpu().numpy(), dim, seed)


def of(x: np.ndarray, dim: int, seed: int) -> Baseline:
    """PCA of features [n, f]."""
    k = min(dim, *x.shape)
    solver = "randomized" if k < 0.8 * min(x.shape) and min(x.shape) > 50 else "full"
    pca = PCA(k, svd_solver=solver, random_state=np.random.RandomState(seed)).fit(x)
    return Baseline(pca.mean_.astype(np.float32), np.ascontiguousarray(pca.components_, np.float32))
