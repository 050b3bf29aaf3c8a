"""Whether single codes stand for single causes: MIG and DCI, of codes and factors whose truth is known."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.ensemble import RandomForestClassifier

from ..errors import DataError

# As is usual since Locatello et al. 2019 (arXiv:1811.12359): equal widths between a code's smallest and largest value.
BINS = 20
# Rows that DCI sees at most: its forests take some seconds of them.
ROWS = 10_000
TREES = 10
# Rows in the smallest leaf of DCI's trees; which of them, is chosen for each factor on rows held out.
LEAVES = (2, 10, 50)


@dataclass(frozen=True)
class Mig:
    """score: the mean of `gaps` [k], each factor's gap as a share of its entropy. information: nats [d, k]."""

    score: float
    gaps: np.ndarray
    information: np.ndarray


@dataclass(frozen=True)
class Dci:
    """Disentanglement, completeness and informativeness, each from 0 to 1; informative: the last by factor [k].

    importance: [d, k], of each code for each factor; a column sums to one.
    """

    disentanglement: float
    completeness: float
    informativeness: float
    informative: np.ndarray
    importance: np.ndarray


def mig(codes: np.ndarray, factors: np.ndarray, bins: int = BINS) -> Mig:
    """Mutual information gap: how far the best code of a factor is ahead of the second. From 0 to 1.

    (1/k) Σ_k (I(z_j; v_k) − max_{i≠j} I(z_i; v_k)) / H(v_k), where j is the code that knows most of v_k.
    Source: Chen et al. 2018 (arXiv:1802.04942), sec. 4.1. Choices: codes are posterior means, not draws, in
    `bins` bins of equal width; informations and entropies are of the rows' own frequencies. Their bias, about
    (bins − 1)(levels − 1) / 2n nats, is that of both codes and mostly falls out of the gap: give 10,000 rows or more.
    A factor that runs in a circle (rotation) needs two codes, so that a perfect model can have no gap there.
    """
    codes, factors = _checked(codes, factors)
    information = np.array([[_information(z, v) for v in factors.T] for z in _binned(codes, bins).T])
    entropy = np.array([_information(v, v) for v in factors.T])
    ordered = np.sort(np.vstack([np.zeros_like(entropy), information]), 0)
    gaps = (ordered[-1] - ordered[-2]) / entropy
    return Mig(float(gaps.mean()), gaps, information)


def dci(codes: np.ndarray, factors: np.ndarray, seed: int = 0) -> Dci:
    """Disentanglement, completeness, informativeness: of the importances of codes for telling factors. Seconds.

    D = Σ_i ρ_i (1 − H_k(R_i· / Σ_j R_ij)), ρ_i the share of code i in all importance: does a code stand for one factor?
    C = mean_j (1 − H_d(R_·j / Σ_i R_ij)): is a factor in one code? H_b is the entropy to base b.
    I: accuracy on new rows, from guessing the commonest level (0) to never wrong (1), mean over factors.
    Source: Eastwood & Williams 2018 ("A framework for the quantitative evaluation of disentangled representations",
    ICLR). Choices: R are the impurity importances of forests of 10 trees that choose among all codes at every
    split; three fifths of the rows are for learning, one for choosing the leaves' size, one for I; I is in that form so
    that factors of few and of many levels can be averaged.
    """
    codes, factors = _checked(codes, factors)
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(codes))[:ROWS]
    learn, choose, test = np.split(order, [len(order) * 3 // 5, len(order) * 4 // 5])
    importance = np.zeros((codes.shape[1], factors.shape[1]))
    informative = np.zeros(factors.shape[1])
    for j, v in enumerate(factors.T):
        forests = [
            RandomForestClassifier(
                TREES, max_features=None, min_samples_leaf=leaf, random_state=np.random.RandomState(seed)
            ).fit(codes[learn], v[learn])
            for leaf in LEAVES
        ]
        # Of equals the simpler.
        best = max(reversed(forests), key=lambda forest: forest.score(codes[choose], v[choose]))
        importance[:, j] = best.feature_importances_
        chance = np.bincount(v[test]).max() / len(test)
        informative[j] = (best.score(codes[test], v[test]) - chance) / max(1 - chance, 1e-12)
    of_code = importance.sum(1)
    return Dci(
        float((of_code / max(of_code.sum(), 1e-12)) @ _sharpness(importance)),
        float(_sharpness(importance.T).mean()),
        float(informative.mean()),
        informative,
        importance,
    )


def scores(codes: np.ndarray, factors: np.ndarray, names: Sequence[str] = (), seed: int = 0) -> dict[str, Any]:
    """MIG and DCI as plain numbers: mig, mig_by_factor, disentanglement, completeness, informativeness."""
    gap, parts = mig(codes, factors), dci(codes, factors, seed)
    names = names or [f"factor {i}" for i in range(len(gap.gaps))]
    return {
        "mig": gap.score,
        "mig_by_factor": {name: float(g) for name, g in zip(names, gap.gaps, strict=True)},
        "disentanglement": parts.disentanglement,
        "completeness": parts.completeness,
        "informativeness": parts.informativeness,
    }


def _checked(codes: np.ndarray, factors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Codes float64 [n, d] and factors as levels 0, 1, … [n, k]."""
    codes, factors = np.asarray(codes, np.float64), np.asarray(factors)
    if codes.ndim != 2 or factors.ndim != 2 or len(codes) != len(factors):
        raise DataError(f"codes [n, d] and factors [n, k] are needed, not {codes.shape} and {factors.shape}")
    if not np.isfinite(codes).all():
        raise DataError("there are codes that are not finite")
    levels = [np.unique(v, return_inverse=True)[1] for v in factors.T]
    for j, v in enumerate(levels):
        if len(v) == 0 or v.max() == 0:
            raise DataError(f"factor {j} has one level only: nothing can be known about it", hint="leave it out")
    return codes, np.stack(levels, 1)


def _binned(codes: np.ndarray, bins: int) -> np.ndarray:
    low, high = codes.min(0), codes.max(0)
    # A code that never changes is all in the first bin.
    return np.minimum((codes - low) / np.maximum(high - low, 1e-12) * bins, bins - 1).astype(np.int64)


def _information(a: np.ndarray, b: np.ndarray) -> float:
    """Mutual information in nats of two columns of levels; of a column and itself, its entropy."""
    wide = int(b.max()) + 1
    joint = np.bincount(a * wide + b, minlength=(int(a.max()) + 1) * wide).reshape(-1, wide) / len(a)
    apart = joint.sum(1, keepdims=True) * joint.sum(0, keepdims=True)
    some = joint > 0
    return float((joint[some] * np.log(joint[some] / apart[some])).sum())


def _sharpness(importance: np.ndarray) -> np.ndarray:
    """1 − entropy of each row's shares, to the base of their number; 0 for a row of zeros."""
    total = importance.sum(1, keepdims=True)
    share = importance / np.where(total > 0, total, 1)
    logs = np.log(share, where=share > 0, out=np.zeros_like(share))
    sharp = 1 + (share * logs).sum(1) / np.log(max(importance.shape[1], 2))
    return np.where(total[:, 0] > 0, sharp, 0.0)
