"""How good lists of recommendations are, user by user: recall and discounted gain of what was kept back."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..model import sparse

# The share of a history that is kept back to be found.
KEPT_BACK = 0.2
# Lengths of the lists: of recall, and of the gain.
RECALL, GAIN = (20, 50), 100


@dataclass(frozen=True)
class Lists:
    """Figures of each user [users] (float64), and which items were shown at all in the first twenty of a list."""

    ndcg: np.ndarray
    recall20: np.ndarray
    recall50: np.ndarray
    shown: np.ndarray  # bool [items]

    def means(self) -> dict[str, float]:
        """ndcg100, recall20 and recall50 over users, and coverage: the share of all items that anybody was shown."""
        found = {"ndcg100": self.ndcg, "recall20": self.recall20, "recall50": self.recall50}
        return {name: float(v.mean()) for name, v in found.items()} | {"coverage": float(self.shown.mean())}


def halves(x: Tensor, seed: int, kept_back: float = KEPT_BACK) -> tuple[Tensor, Tensor, Tensor]:
    """What is shown of sparse histories [users, items], what is kept back, and the users that have both (their places).

    Of each history a share, rounded down but at least one item, drawn at random.
    """
    starts, columns, values = sparse.parts(x)
    n = sparse.lengths(x)
    users = (n >= 2).nonzero().flatten()
    keys = torch.rand(len(columns), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    # By user, and within a user at random: the whole part of a key is its user.
    order = (sparse.owners(x) + keys).argsort()
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(order))
    rank -= torch.repeat_interleave(starts[:-1].long(), n)
    back = rank < torch.repeat_interleave((kept_back * n).long().clamp(min=1), n)
    found = []
    for mask in (~back, back):
        first = torch.nn.functional.pad(mask.cumsum(0, dtype=torch.int32), (1, 0))[starts.long()]
        found.append(sparse.take(sparse.csr(first, columns[mask], values[mask], x.shape[1]), users))
    return found[0], found[1], users


def top(scores: Tensor, seen: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k best items of each user that are not in `seen`, the best first, and their scores. [users, k] each

    Scores may be overwritten. A user for whom fewer are left has items of score −inf at the end.
    """
    row, column, _ = sparse.entries(seen)
    scores = scores.contiguous()
    scores.view(-1).index_fill_(0, row * scores.shape[1] + column, -torch.inf)
    values, index = scores.topk(min(k, scores.shape[1]), -1)
    return index, values


def judged(index: Tensor, wanted: Tensor) -> Lists:
    """Lists [users, 100 or fewer] against what was kept back."""
    there = torch.zeros(wanted.shape, dtype=torch.bool)
    row, column, _ = sparse.entries(wanted)
    there.view(-1).index_fill_(0, row * wanted.shape[1] + column, True)
    hits = there.gather(1, index).double()
    n = sparse.lengths(wanted).double()
    discount = 1 / torch.arange(2, index.shape[1] + 2, dtype=torch.float64).log2()
    best = discount.cumsum(0)[n.long().clamp(max=index.shape[1]) - 1]
    shown = torch.zeros(wanted.shape[1], dtype=torch.bool)
    shown[index[:, : RECALL[0]].flatten()] = True
    recalls = [(hits[:, :k].sum(1) / n.clamp(max=k)).numpy() for k in RECALL]
    return Lists(((hits * discount).sum(1) / best).numpy(), recalls[0], recalls[1], shown.numpy())


def together(parts: list[Lists]) -> Lists:
    """Lists of some users after those of others."""
    ndcg, r20, r50 = (np.concatenate([getattr(p, n) for p in parts]) for n in ("ndcg", "recall20", "recall50"))
    return Lists(ndcg, r20, r50, np.any([p.shown for p in parts], axis=0))


def apart(own: np.ndarray, other: np.ndarray, seed: int, draws: int = 1000) -> tuple[float, float]:
    """The 95 % interval of mean(own − other) over users, by a paired bootstrap."""
    difference = own - other
    rng = np.random.default_rng(seed)
    means = [difference[rng.integers(0, len(difference), len(difference))].mean() for _ in range(draws)]
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)
