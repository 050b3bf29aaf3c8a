"""A decision tree over whole numbers: which table a symbol is coded with; and the tables of its leaves.

Grown best first: of all leaves that one is split, and by that feature and threshold, which shortens the code of the
training symbols most, less what it costs to learn two tables in place of one (a Dirichlet prior about the leaf's own
distribution). Growing uses floats; a grown tree compares whole numbers.
"""

import heapq

import numpy as np

_NEVER = np.iinfo(np.int32).max
# Of a tree that a file describes: those that are grown have 16.
DEEPEST, MOST_NODES = 32, 1 << 17


def _lgamma(x: np.ndarray) -> np.ndarray:
    """log Γ(x) for x > 0, to 1e-7 (Stirling's series at x + 3): scipy's is ten times slower."""
    y = x + 3.0
    series = (y - 0.5) * np.log(y) - y + 0.9189385332 + 1 / (12 * y) - 1 / (360 * y**3)
    return np.asarray(series - np.log(x * (x + 1) * (x + 2)))


class Tree:
    """feature, threshold, child, parent [nodes]: a row goes on from node i to child[i] + (row[feature[i]] >
    threshold[i]); a leaf is its own child. Children stand behind their parents, in the order in which they were made.
    Raises ValueError for what is no tree.
    """

    def __init__(self, feature: np.ndarray, threshold: np.ndarray, child: np.ndarray, parent: np.ndarray) -> None:
        nodes = np.arange(len(child))
        inner = child != nodes
        fine = len(nodes) > 0 and {len(feature), len(threshold), len(parent)} == {len(nodes)} and (feature >= 0).all()
        fine = fine and (child[inner] > nodes[inner]).all() and (child[inner] + 1 < len(nodes)).all()
        fine = (
            fine and (parent[1:] >= 0).all() and (parent[1:] < nodes[1:]).all() and (threshold[~inner] == _NEVER).all()
        )
        if (
            not fine
            or len(nodes) > MOST_NODES
            or any(a.dtype.kind not in "iu" for a in (feature, threshold, child, parent))
        ):
            raise ValueError("a tree's nodes do not go together")
        self.feature, self.threshold, self.child, self.parent = feature, threshold, child, parent
        level = np.zeros(len(nodes), np.int64)
        for i in nodes[1:]:
            level[i] = level[parent[i]] + 1
        self.depth = int(level.max())
        if self.depth > DEEPEST:
            raise ValueError(f"a tree is {self.depth} nodes deep")
        self.leaves = nodes[~inner]
        self._rank = np.cumsum(~inner) - 1

    @property
    def features(self) -> int:
        """How many features a row has at least."""
        return int(self.feature.max()) + 1

    def node(self, rows: np.ndarray) -> np.ndarray:
        """The leaf of each of `rows` [features, n], as a node. [n]"""
        n = rows.shape[1]
        flat, at, lane = rows.reshape(-1), self.feature.astype(np.int64) * n, np.arange(n)
        node = np.zeros(n, np.int64)
        for _ in range(self.depth):
            node = self.child.take(node) + (flat.take(at.take(node) + lane) > self.threshold.take(node))
        return node

    def leaf(self, rows: np.ndarray) -> np.ndarray:
        """The leaf of each of `rows` [features, n], counted from 0. [n]"""
        return np.asarray(self._rank.take(self.node(rows)))

    def tables(self, counts: np.ndarray, strength: float, discount: float = 0.3) -> np.ndarray:
        """Shares of symbols in each leaf [leaves, s] from their counts there [leaves, s]: each node's distribution is
        drawn towards its parent's, with the weight of `strength` symbols, and gives up `discount` of each of its own
        (Kneser & Ney 1995).
        """
        found = counts
        counts = np.zeros((len(self.child), counts.shape[1]))
        counts[self.leaves] = found
        for i in range(len(counts) - 1, 0, -1):
            counts[self.parent[i]] += counts[i]
        share = np.empty_like(counts)
        for i, own in enumerate(counts):
            above = share[self.parent[i]] if i else np.full(counts.shape[1], 1 / counts.shape[1])
            taken = np.minimum(own, discount)
            share[i] = (own - taken + (strength + taken.sum()) * above) / (own.sum() + strength)
        return share[self.leaves]


def grouped(shares: np.ndarray, groups: int) -> np.ndarray:
    """Symbols of these shares in at most so many runs, each of about one sum of √share: the group of each. [symbols]"""
    root = np.sqrt(shares + 1e-9)
    middle = np.cumsum(root) - root / 2
    return np.unique((middle / root.sum() * groups).astype(int), return_inverse=True)[1]


def grow(
    rows: np.ndarray,
    symbols: np.ndarray,
    leaves: int,
    *,
    bins: int = 32,
    groups: int = 24,
    alpha: float = 400.0,
    least_gain: float = 4.0,
    depth: int = 16,
    fewest: int = 64,
) -> Tree:
    """A tree of at most so many leaves from whole numbers `rows` [features, n] and symbols [n].

    bins: thresholds that are tried for each feature, at its quantiles. groups: to so many are symbols joined while it
    grows. alpha: of the Dirichlet prior. least_gain: bits that a split must save; fewest: rows of a leaf.
    """
    n = rows.shape[1]
    groups_of = grouped(np.bincount(symbols) / n, groups)
    g = groups_of[symbols].astype(np.int64)
    count = int(groups_of.max()) + 1
    cuts, binned = _binned(rows, bins)
    feature, threshold, child, parent, level = [0], [_NEVER], [0], [-1], [0]
    waiting: list[tuple[float, int, int, int, np.ndarray]] = []

    def consider(node: int, which: np.ndarray) -> None:
        if len(which) >= 2 * fewest and level[node] < depth:
            gain, f, cut = _split(binned, cuts, g, which, count, alpha, fewest)
            if gain / np.log(2) > least_gain:
                heapq.heappush(waiting, (-gain, node, f, cut, which))

    consider(0, np.arange(n))
    made = 1
    while waiting and made < leaves:
        _, node, f, cut, which = heapq.heappop(waiting)
        above = binned[f][which] > cut
        feature[node], threshold[node], child[node] = f, int(cuts[f][cut]), len(feature)
        for part in (which[~above], which[above]):
            feature.append(0)
            threshold.append(_NEVER)
            child.append(len(child))
            parent.append(node)
            level.append(level[node] + 1)
            consider(len(child) - 1, part)
        made += 1
    made_of = [np.array(a, np.int32) for a in (feature, threshold, child, parent)]
    return Tree(made_of[0], made_of[1], made_of[2], made_of[3])


def _binned(rows: np.ndarray, bins: int) -> tuple[list[np.ndarray], np.ndarray]:
    """Thresholds of each feature, and the bin of each of its values: value > threshold[b] where bin > b."""
    cuts, found = [], np.empty(rows.shape, np.uint8)
    step = max(1, rows.shape[1] // 200_000)
    for f, values in enumerate(rows):
        different = np.unique(values[::step])
        if len(different) > bins:
            different = np.unique(np.quantile(values[::step], np.arange(1, bins) / bins, method="lower"))
        else:
            different = different[:-1]
        cuts.append(different.astype(np.int64))
        found[f] = np.searchsorted(cuts[-1], values, "left")
    return cuts, found


def _split(
    binned: np.ndarray, cuts: list[np.ndarray], g: np.ndarray, which: np.ndarray, count: int, alpha: float, fewest: int
) -> tuple[float, int, int]:
    """The best split of rows `which`: (nats saved, feature, threshold)."""
    own, n = g[which], len(which)
    total = np.bincount(own, minlength=count).astype(np.float64)
    share = (total + 0.5 / count) / (n + 0.5)
    prior = alpha * share
    fixed = (total * np.log(share)).sum() + 2 * _lgamma(prior).sum() - 2 * float(_lgamma(np.array(alpha)))
    best = (0.0, 0, 0)
    for f, values in enumerate(cuts):
        if not len(values):
            continue
        table = np.bincount(binned[f][which].astype(np.int64) * count + own, minlength=(len(values) + 1) * count)
        left = np.cumsum(table.reshape(-1, count)[:-1], 0)
        size = left.sum(1)
        fine = np.flatnonzero((size >= fewest) & (n - size >= fewest))
        if not len(fine):
            continue
        left, size = left[fine], size[fine]
        gain = (_lgamma(left + prior) + _lgamma(total - left + prior)).sum(1) - fixed
        gain -= _lgamma(size + alpha) + _lgamma(n - size + alpha)
        at = int(gain.argmax())
        if gain[at] > best[0]:
            best = (float(gain[at]), f, int(fine[at]))
    return best
