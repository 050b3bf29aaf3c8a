"""What a recommender learns beside its VAE: a linear model in closed form, and how the two are put together."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor
from torch.nn import functional as F

from ...errors import ConfigError, DataError
from ...kinds.interactions import Interactions
from ...model import sparse
from ...model.batch import Batch
from ...model.model import Model
from ...parts import part, require
from .. import ranking
from .base import Learned

if TYPE_CHECKING:
    from ...estimator import Autoencoder
    from ...training.feed import Feed
    from ...training.loop import Report

# What scores may be by.
WAYS = ("both", "net", "linear", "ease", "popularity")
# Weights of the linear scores beside the net's log-probabilities that are tried on held-out users; 8 without any.
TRIED, USUAL = (0.0, 2.0, 4.0, 6.0, 8.0, 12.0, 16.0, 24.0, 32.0), 8.0
# Ridge of the plain EASE that stands beside: what its author takes for such data (Steck 2019, sec. 4).
EASE = 500.0
# The largest number of a float16.
HALF = 65_504.0
# Users whose products are added up at a time; held-out users that the weight is chosen on, at the most.
USERS, CHOSEN_ON = 20_000, 2_000


@dataclass(frozen=True, eq=False)
class Recommender(Learned):
    """popularity [items]: the share of users who took each. linear, ease: float16 [m, m], what an item taken says of
    each, among the m items `which`; empty where there are none. weight: of the linear scores beside the net's.
    """

    popularity: np.ndarray
    which: np.ndarray
    linear: np.ndarray
    ease: np.ndarray
    weight: float
    held_out: dict[str, Any] = field(default_factory=dict)

    @torch.no_grad()
    def scores(self, model: Model, batch: Batch, by: str = "both") -> Tensor:
        """Scores of all items for prepared histories; higher is likelier. "both": log p of the net plus the weighted
        linear scores, so it is the net's alone where there is no linear model. [users, items]
        """
        if by not in WAYS:
            raise ConfigError(f"recommendations are by {', '.join(WAYS)}, not {by!r}", hint="--by both")
        if by == "popularity":
            return torch.from_numpy(self.popularity).expand(batch.x.shape).clone()
        if by in ("linear", "ease"):
            return self._by_items(batch.x, by)
        net = model.mean_of(batch).logits[0].log_softmax(-1)  # type: ignore[attr-defined]
        if by == "net" or not self.linear.size or not self.weight:
            return net
        return net.add_(self._by_items(batch.x, "linear"), alpha=self.weight)

    def _by_items(self, x: Tensor, which: str) -> Tensor:
        matrix = self._tensors[which]
        if not matrix.numel():
            raise ConfigError(f"this model has no {which!r} beside it", hint="--by net")
        starts, columns, values = sparse.parts(x)
        if len(matrix) < x.shape[1]:
            # Of the items beyond those that it knows, it says nothing.
            kept = self._place[columns.long()]
            there = kept >= 0
            starts = F.pad(there.cumsum(0, dtype=torch.int32), (1, 0))[starts.long()]
            columns, values = kept[there], values[there]
        alike = bool((values == 1).all())
        found = F.embedding_bag(
            columns,
            matrix if alike else matrix.float(),
            starts,
            mode="sum",
            include_last_offset=True,
            per_sample_weights=None if alike else values,
        ).float()
        if len(matrix) == x.shape[1]:
            return found
        return torch.zeros(x.shape).index_copy_(1, torch.from_numpy(self.which).long(), found)

    def said(self, taken: np.ndarray, picks: np.ndarray) -> np.ndarray:
        """How much each item taken adds to the linear score of each pick. [taken, picks]"""
        place = self._place.numpy()
        a, b = place[taken], place[picks]
        found = self.linear[np.ix_(a, b)].astype(np.float32)
        found[a < 0] = 0
        found[:, b < 0] = 0
        return found

    @cached_property
    def _tensors(self) -> dict[str, Tensor]:
        return {name: torch.from_numpy(np.ascontiguousarray(getattr(self, name))) for name in ("linear", "ease")}

    @cached_property
    def _place(self) -> Tensor:
        place = torch.full((len(self.popularity),), -1, dtype=torch.int32)
        place[torch.from_numpy(self.which).long()] = torch.arange(len(self.which), dtype=torch.int32)
        return place

    @property
    def document(self) -> dict[str, Any]:
        return {"weight": self.weight, "held_out": self.held_out}

    @property
    def tensors(self) -> dict[str, np.ndarray]:
        return {name: getattr(self, name) for name in ("popularity", "which", "linear", "ease")}


@part("use", "recommender")
@dataclass(frozen=True)
class Recommend:
    """A linear item-to-item model beside the net, and the weight of its scores, chosen on the held-out users.

    linear: whether there is one. power: a user counts by (items taken)^power. ridge, relative: what is added to the
    diagonal of the weighted item-by-item products G, ridge + relative · diag(G). compare: keep a plain EASE for
    `evaluate` to stand beside. most: items that either knows at the most, those that most users took: they are
    matrices.

    Source: EASE, Steck 2019 (arXiv:1905.03375), eq. 8; weights and the relative part of the ridge are ours.
    """

    linear: bool = True
    power: float = -0.5
    ridge: float = 200.0
    relative: float = 0.25
    compare: bool = True
    most: int = 8_000

    def __post_init__(self) -> None:
        require(self.ridge > 0, self, "ridge", "above 0")
        require(self.relative >= 0, self, "relative", "0 or more")
        require(self.most >= 1, self, "most", "1 or more")

    def learn(
        self, ae: "Autoencoder", feed: "Feed", seed: int, raw: Any = None, report: "Report | None" = None
    ) -> Recommender:
        """From the users that the model was fitted on."""
        if not isinstance(ae.schema_, Interactions):
            raise ConfigError(
                f"recommendations are from histories, and these data are of kind {ae.schema_.name!r}",
                hint="--kind interactions, or --recipe vae",
            )
        x = _matrix(ae.schema_.prepare(feed.some(1 << 40)).x)
        users = np.asarray((x > 0).mean(0), np.float32).ravel()
        which = np.sort(np.argsort(-users, kind="stable")[: self.most]).astype(np.int32)
        few, none = x[:, which].tocsr(), np.zeros((0, 0), np.float16)
        linear = self.weights(few) if self.linear else none
        ease = closed_form(products(few), EASE * _size(few), 0.0) if self.compare else none
        found = Recommender(users, which, linear, ease, USUAL if self.linear else 0.0)
        if feed.held_out is None:
            return found
        return self._chosen(found, ae, feed.held_out.rows(slice(0, CHOSEN_ON)), seed)

    def weights(self, x: sp.csr_matrix) -> np.ndarray:
        """The linear model of histories x [users, items]. float16 [items, items]"""
        n = np.asarray(x.sum(1), np.float64).ravel()
        by_user = np.where(n > 0, np.maximum(n, 1e-9) ** self.power, 0.0)
        by_user *= (n > 0).sum() / max(by_user.sum(), 1e-30)  # one, on average
        return closed_form(products(x, by_user), self.ridge * _size(x), self.relative)

    def _chosen(self, found: Recommender, ae: "Autoencoder", rows: Batch, seed: int) -> Recommender:
        """With the weight that is best on these users, and what all ways are worth on them."""
        seen, wanted, _ = ranking.halves(ae.schema_.prepare(rows).x, seed)
        if len(seen) < 2:
            return found
        batch = Batch(seen)
        net = found.scores(ae.model_, batch, "net")
        ways: dict[str, Tensor] = {"net": net, "popularity": found.scores(ae.model_, batch, "popularity")}
        weight, best = 0.0, -1.0
        if self.linear:
            beside = found.scores(ae.model_, batch, "linear")
            for tried in TRIED:
                index, _ = ranking.top(net.add(beside, alpha=tried), seen, ranking.GAIN)
                gain = float(ranking.judged(index, wanted).ndcg.mean())
                if gain > best:
                    weight, best = tried, gain
            ways |= {"linear": beside, "both": net.add(beside, alpha=weight)}
        if self.compare:
            ways["ease"] = found.scores(ae.model_, batch, "ease")
        held_out: dict[str, Any] = {"users": len(seen), "kept_back": ranking.KEPT_BACK}
        for way, scores in ways.items():
            lists = ranking.judged(ranking.top(scores, seen, ranking.GAIN)[0], wanted)
            held_out[way] = {name: round(value, 4) for name, value in lists.means().items()}
        return Recommender(found.popularity, found.which, found.linear, found.ease, weight, held_out)

    def restore(self, ae: "Autoencoder", document: dict[str, Any], tensors: dict[str, np.ndarray]) -> Recommender:
        """From a model file. Raises ValueError for matrices that do not go with the model's items."""
        found = Recommender(
            **{name: tensors[name] for name in ("popularity", "which", "linear", "ease")},
            weight=float(document["weight"]),
            held_out=document["held_out"],
        )
        if not isinstance(found.held_out, dict) or isinstance(document["weight"], bool):
            raise ValueError("what it says of its held-out users is no table of figures")
        items, m = len(ae.schema_.items), len(found.which)  # type: ignore[attr-defined]
        fine = found.popularity.shape == (items,) and found.which.shape == (m,) and np.isfinite(found.weight)
        fine = fine and found.which.dtype == np.int32 and (np.diff(found.which) > 0).all()
        fine = fine and (m == 0 or (found.which[0] >= 0 and found.which[-1] < items))
        for matrix in (found.linear, found.ease):
            fine = fine and matrix.dtype == np.float16 and matrix.shape in ((0, 0), (m, m))
            fine = fine and bool(np.isfinite(matrix).all())
        fine = fine and bool(np.isfinite(found.popularity).all()) and 0 <= found.weight <= 1e6
        if not fine:
            raise ValueError("what it says of items does not go with the items that it names")
        return found


def _size(x: sp.csr_matrix) -> float:
    """The mean square of what is there, 1 where each item counts once: ridges are in its units."""
    return float(np.square(x.data, dtype=np.float64).mean()) if x.nnz else 1.0


def products(x: sp.csr_matrix, weights: np.ndarray | None = None) -> np.ndarray:
    """Σ_u w_u x_ui x_uj of all pairs of items. float32 [items, items]"""
    out = np.zeros((x.shape[1], x.shape[1]), np.float32)
    for start in range(0, x.shape[0], USERS):
        some = x[start : start + USERS].astype(np.float32)
        if weights is not None:
            some = sp.diags(np.sqrt(weights[start : start + USERS]).astype(np.float32)) @ some
        out += (some.T @ some).toarray()
    return out


def closed_form(g: np.ndarray, ridge: float, relative: float) -> np.ndarray:
    """argmin_B of the squared error of x ≈ x B with a diagonal of zeros and a ridge, from products g, which are
    overwritten. float16 [items, items]
    """
    diagonal = np.arange(len(g))
    g[diagonal, diagonal] += ridge + relative * g[diagonal, diagonal]
    factor, wrong = torch.linalg.cholesky_ex(torch.from_numpy(g))
    more = 1e-9 * float(g.diagonal().max())
    while int(wrong):  # items that are all but the same, or weights of millions: float32 does not tell them apart
        if not np.isfinite(more):
            raise DataError("the products of items are no numbers", hint="--set kind.weights=false")
        wide = torch.from_numpy(g).double()
        wide.diagonal().add_(more)
        factor, wrong = torch.linalg.cholesky_ex(wide)
        more *= 10
    inverse = torch.cholesky_inverse(factor)
    inverse.div_(-inverse.diagonal().clone()).fill_diagonal_(0.0)
    return inverse.clamp(-HALF, HALF).half().numpy()


def _matrix(x: Tensor) -> sp.csr_matrix:
    """Sparse rows of torch as scipy's."""
    starts, columns, values = (t.cpu().numpy() for t in sparse.parts(x))
    return sp.csr_matrix((values, columns, starts), shape=tuple(x.shape))
