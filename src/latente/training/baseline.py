"""The honest baseline that travels in the model file: PCA of the same size, fitted on the same rows."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from scipy.linalg import eigh
from scipy.sparse.linalg import ArpackError, eigsh
from sklearn.decomposition import PCA
from torch import Tensor, nn

from ..kinds.base import Kind
from ..model.batch import Batch, parts_of
from ..model.model import Model
from .feed import Feed, plan

# Features up to which a covariance is kept: at this bound 67 MB of float32 products, and 134 MB of their sum.
WIDE = 4_096
# Features above which a few leading eigenvectors come from Lanczos: all of them would cost the cube.
LANCZOS = 1_024
# Rows of more features that PCA is fitted on, and the bytes that those have at the most.
ROWS, BYTES = 20_000, 256 << 20
# Bytes of a block's features, and the rows that it has at the most.
BLOCK, LONGEST = 32 << 20, 8_192
# How many multiplications of training one of PCA counts as: training computes in bfloat16 where that is faster, and PCA
# of 3,000 columns at as many multiplications as an epoch took 1.5 times its CPU seconds.
DEARER = 3
# Products of rows with directions that sklearn's randomized PCA takes.
PASSES = 16
# Rows below which PCA is no baseline, whatever an epoch costs: thousandths of a second.
FEWEST = 500
# Multiplications that a symmetric eigendecomposition counts as, in cubes of its size: half of them wait for memory.
SOLVE = 4
# Rows that are drawn for it from a private model.
FEW = 2_000
_CONVOLUTIONS = (nn.Conv2d, nn.ConvTranspose2d)


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
def fit(
    model: Model, feed: Feed, kind: Kind, dim: int, seed: int, private: bool = False, steps: int | None = None
) -> Baseline:
    """PCA with as many components as the latent has dimensions; a missing cell counts as 0, the median.

    Exact, of the covariance of all rows, in memory or block by block, wherever that takes fewer multiplications than an
    epoch of the model's training (`affordable`). Else of so many rows, spread evenly, that it does, or of 500: of wide
    rows and a tiny net. Of more than 4,096 features it is sklearn's randomized PCA of up to 20,000 rows, 256 MB of
    them, or what an epoch pays for: their covariance alone would be larger. steps: of the run; one that saw less than
    an epoch of the data gets PCA of 20,000 rows at most, since it did not wait for a pass over all of them either.

    A kind whose baseline is another has none here. private: of new rows of the model in place of those it was trained
    on, so that it tells of them what the model does.
    """
    if not kind.pca:
        f = model.likelihood.continuous.numel()
        return Baseline(np.zeros(f, np.float32), np.zeros((0, f), np.float32))
    if private:
        generator = torch.Generator().manual_seed(seed)
        new = model.decode(model.prior().sample(FEW, generator)).sample(generator)
        return of(model.likelihood.features(new).flatten(1).cpu().numpy(), dim, seed)

    def of_rows(batches: Iterable[Batch]) -> Iterator[np.ndarray]:
        for batch in batches:
            yield model.likelihood.features(kind.prepare(batch).x).flatten(1).cpu().numpy()

    one = feed.whole(1)
    (first,) = of_rows([one])
    f, rows = first.shape[1], feed.rows + (0 if feed.held_out is None else len(feed.held_out))
    each = work(model, kind.prepare(one))
    if f > WIDE:
        most = max(
            FEWEST, rows * each // (DEARER * PASSES * f * (dim + 10))
        )  # as many directions as sklearn looks along
        (x,) = of_rows([feed.whole(min(ROWS, BYTES // (4 * f), most))])
        return of(x, dim, seed)
    most = affordable(rows, f, each)
    if steps is not None and steps < plan(feed.rows, feed.config).batches_per_epoch:
        most = min(most, ROWS)
    block = max(1, min(LONGEST, BLOCK // (4 * f)))
    batches = feed.every(block) if most >= rows else parts_of(feed.whole(most), block)
    if min(rows, most) <= f:
        return of_few(np.concatenate(list(of_rows(batches))), dim)
    found = Covariance()
    for x in of_rows(batches):
        found.add(x)
    return found.baseline(dim)


def work(model: Model, row: Batch) -> int:
    """Multiplications of training for a row, at least: forward, and backward by weights and by inputs, one product for
    each weight, of a convolution as many as it has places. A table of vectors is looked up. row: a prepared one.
    """
    looked_up = {id(m.weight) for m in model.modules() if isinstance(m, (nn.Embedding, nn.EmbeddingBag))}
    once = sum(p.numel() for p in model.parameters() if id(p) not in looked_up)
    again: list[int] = []

    def convolved(module: nn.Module, given: tuple[Tensor, ...], out: Tensor) -> None:
        places = (given[0] if isinstance(module, nn.ConvTranspose2d) else out).shape[-2:].numel()
        again.append((places - 1) * module.weight.numel())  # type: ignore[operator]

    hooks = [m.register_forward_hook(convolved) for m in model.modules() if isinstance(m, _CONVOLUTIONS)]
    if hooks:
        model.decode(model.encode(row).mean.unsqueeze(0), model.given(row))
    for hook in hooks:
        hook.remove()
    return 3 * (once + sum(again))


def cost(rows: int, f: int) -> int:
    """What PCA of rows of f features counts as in multiplications of training: half of a square of the shorter side
    (the other half is the same), and its eigenvectors.
    """
    short = min(rows, f)
    return DEARER * (rows * f * short // 2 + SOLVE * min(short, LANCZOS) * short**2)


def affordable(rows: int, f: int, each: int) -> int:
    """Of how many rows PCA costs no more than an epoch of them all at `each` multiplications a row; 500, or all of
    fewer, at least.
    """
    low, high = min(rows, FEWEST), rows
    if cost(high, f) <= rows * each:
        return high
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if cost(middle, f) <= rows * each else (low, middle - 1)
    return low


@dataclass
class Covariance:
    """Mean and covariance of features that come by, some rows at a time: float32 products of blocks that are centred
    each on its own mean, added up in float64.

    On its own, since rows that are sorted are far from the mean of the first of them. Blocks are joined as in Chan,
    Golub & LeVeque 1979, "Updating formulae and a pairwise algorithm for computing sample variances".
    """

    rows: int = 0
    mean: np.ndarray = field(default_factory=lambda: np.zeros(0))
    scatter: np.ndarray = field(default_factory=lambda: np.zeros((0, 0)))

    def add(self, x: np.ndarray) -> None:
        """Features [n, f]."""
        mean = x.mean(0, dtype=np.float64)
        centred = x - mean.astype(np.float32)
        # What float32 left of the mean: of columns with large numbers it is not nothing.
        rest = centred.mean(0, dtype=np.float64)
        # A product with itself, of which BLAS computes one half.
        product = centred.T @ centred
        if not self.rows:
            self.mean, self.scatter = np.zeros(x.shape[1]), np.zeros((x.shape[1],) * 2)
        self.scatter += product
        n, total = len(x), self.rows + len(x)
        apart = mean - self.mean
        self._outer(-n, rest)
        self._outer(self.rows * n / total, apart)
        self.mean += apart * (n / total)
        self.rows = total

    def _outer(self, weight: float, v: np.ndarray) -> None:
        if weight and v.any():
            self.scatter += np.outer(weight * v, v)

    def baseline(self, dim: int) -> Baseline:
        """The leading components."""
        f = len(self.mean)
        return _signed(self.mean, leading(self.scatter, min(dim, self.rows, f)).T)


def leading(matrix: np.ndarray, k: int) -> np.ndarray:
    """Eigenvectors [f, k] of a symmetric matrix's k largest eigenvalues, the largest first."""
    f = len(matrix)
    if f > LANCZOS and 8 * k <= f:
        try:
            values, vectors = eigsh(matrix, k, v0=np.random.default_rng(0).standard_normal(f))
            missed = np.abs(matrix @ vectors - vectors * values).max()
            if missed <= 1e-6 * abs(values).max():
                return np.asarray(vectors[:, np.argsort(-values, kind="stable")])
        except ArpackError:  # no convergence: of eigenvalues that are all but equal
            pass
    return np.asarray(eigh(matrix, subset_by_index=[f - k, f - 1])[1][:, ::-1])


def of_few(x: np.ndarray, dim: int) -> Baseline:
    """Exact PCA of fewer rows than features, by the rows' products with each other. [n, f]"""
    mean = x.mean(0, dtype=np.float64)
    centred = x - mean
    vectors = leading(centred @ centred.T, min(dim, *x.shape))
    # Orthogonal again where a component has next to no variance; any will do where it has none.
    components, upper = np.linalg.qr(centred.T @ vectors)
    return _signed(mean, (components * np.where(np.diag(upper) < 0, -1, 1)).T)


def of(x: np.ndarray, dim: int, seed: int) -> Baseline:
    """PCA of features [n, f]."""
    k = min(dim, *x.shape)
    solver = "randomized" if k < 0.8 * min(x.shape) and min(x.shape) > 50 else "full"
    pca = PCA(k, svd_solver=solver, random_state=np.random.RandomState(seed)).fit(x)
    return Baseline(pca.mean_.astype(np.float32), np.ascontiguousarray(pca.components_, np.float32))


def _signed(mean: np.ndarray, components: np.ndarray) -> Baseline:
    """Components [k, f] whose largest loadings are positive, as sklearn has them."""
    largest = components[np.arange(len(components)), np.abs(components).argmax(1)]
    signed = components * np.where(largest < 0, -1, 1)[:, None]
    return Baseline(mean.astype(np.float32), np.ascontiguousarray(signed, np.float32))
