"""An isolation forest whose trees, like a committee's members, never judge a row that they were grown on."""

from dataclasses import dataclass

import numpy as np
from sklearn.tree import ExtraTreeRegressor
from torch import Tensor

from ...model.committee import bags

# Rows that a tree is grown on (Liu, Ting & Zhou 2008, sec. 5: more does not help), and of those with its bit.
ROWS, SHARE = 256, 0.5
# Nodes of a tree of 256 rows, at most.
NODES = 512


@dataclass(frozen=True)
class Forest:
    """feature, left, right int32 and threshold, length float64, each [trees, nodes]. A node whose `left` is itself is a
    leaf, and `length` is then how many splits it takes on average to have a row there alone.

    Source: Liu, Ting & Zhou 2008; that trees and rows are paired by the row's content is ours.
    """

    feature: np.ndarray
    threshold: np.ndarray
    left: np.ndarray
    right: np.ndarray
    length: np.ndarray

    @property
    def trees(self) -> int:
        """How many there are."""
        return len(self.feature)

    def score(self, features: np.ndarray, own: Tensor) -> np.ndarray:
        """How easily each row is set apart, 2^(−mean splits / expected splits): from 0 to 1, higher is stranger. [n]

        features float32 [n, f]; own: cells [n, *cells], from whose bits the pairing is drawn.
        """
        rows = np.arange(len(features))
        stranger = ~bags(own, self.trees, SHARE).numpy()
        stranger |= ~stranger.any(0)
        total = np.zeros(len(features))
        for tree in range(self.trees):
            at = np.zeros(len(features), np.int32)
            for _ in range(_depth(ROWS)):
                left = features[rows, self.feature[tree, at]] <= self.threshold[tree, at]
                at = np.where(left, self.left[tree, at], self.right[tree, at])
            total += np.where(stranger[tree], self.length[tree, at], 0.0)
        return np.exp2(-total / stranger.sum(0) / _average(ROWS))

    def tensors(self) -> dict[str, np.ndarray]:
        """By name, as the model file holds them."""
        return dict(vars(self))


def grow(features: np.ndarray, own: Tensor, trees: int, seed: int) -> Forest:
    """A forest of rows: features float32 [n, f], and their cells."""
    rng = np.random.RandomState(seed)
    features = np.ascontiguousarray(features, np.float32)
    mine = bags(own, trees, SHARE).numpy()
    shape = (trees, NODES)
    feature, left, right = (np.zeros(shape, np.int32) for _ in range(3))
    threshold, length = np.zeros(shape), np.zeros(shape)
    for tree in range(trees):
        rows = np.flatnonzero(mine[tree])
        rows = rows if len(rows) >= 2 else np.arange(len(features))
        some = rng.choice(rows, min(ROWS, len(rows)), replace=False)
        grown = ExtraTreeRegressor(max_features=1, splitter="random", max_depth=_depth(ROWS), random_state=rng)
        made = grown.fit(features[some], rng.uniform(size=len(some)), check_input=False).tree_
        n, leaf = made.node_count, made.children_left < 0
        itself = np.arange(n)
        feature[tree, :n] = np.where(leaf, 0, made.feature)
        threshold[tree, :n] = np.where(leaf, 0.0, made.threshold)
        left[tree, :n] = np.where(leaf, itself, made.children_left)
        right[tree, :n] = np.where(leaf, itself, made.children_right)
        depth = np.zeros(n)
        for node in np.flatnonzero(~leaf):  # a node comes before its children
            depth[[made.children_left[node], made.children_right[node]]] = depth[node] + 1
        length[tree, :n] = depth + np.array([_average(int(k)) for k in made.n_node_samples])
    return Forest(feature, threshold, left, right, length)


def _depth(rows: int) -> int:
    return int(np.ceil(np.log2(rows)))


def _average(rows: int) -> float:
    """Splits that it takes on average to have a row alone among so many: that of a failed search in a binary tree."""
    if rows <= 2:
        return float(rows == 2)
    return 2.0 * (np.log(rows - 1.0) + np.euler_gamma) - 2.0 * (rows - 1.0) / rows


def of(tensors: dict[str, np.ndarray], features: int) -> Forest:
    """The forest of a model file. Raises ValueError for a tree that leads nowhere."""
    forest = Forest(**tensors)
    nodes = forest.feature.shape[1]
    if not np.isfinite(forest.threshold).all() or not np.isfinite(forest.length).all() or (forest.length < 0).any():
        raise ValueError("a tree of its forest has a length or a threshold that is no number")
    for name, most in (("feature", features), ("left", nodes), ("right", nodes)):
        if not ((tensors[name] >= 0) & (tensors[name] < most)).all():
            raise ValueError(f"a tree of its forest has a {name} out of range")
    return forest
