"""Recommendations for people from their histories, and what they are worth."""

import csv
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch
from torch import nn

from ..errors import ConfigError, DataError
from ..estimator import ROWS, Autoencoder, _seed
from ..kinds.base import DataWarning
from ..kinds.counted import Counted
from ..kinds.interactions import Interactions
from ..kinds.reading_bytes import content, utf8
from ..model import sparse
from ..model.batch import Batch
from ..model.estimates import bounds
from . import ranking
from .learned.recommender import Recommender

# What a difference between two ways is given for.
FIGURES = ("ndcg100", "recall20", "recall50")


def recommend(ae: Autoencoder, history: Any, k: int, by: str, why: int, seen: bool, among: Any = None) -> pd.DataFrame:
    """See `latente.recommend`."""
    for name, value, least in (("k", k, 1), ("why", why, 0)):
        if not isinstance(value, (int, np.integer)) or value < least:
            raise ConfigError(f"{name} must be a whole number, {least} or more, not {value!r}")
    use, kind, raw = _recommender(ae), _kind(ae), ae.rows(_given(_kind(ae), history))
    if not len(raw):
        raise DataError("found 0 rows", hint="check the file, or the filter before it")
    batch = kind.to_batch(raw)
    empty = int((sparse.lengths(batch.x) == 0).sum())
    if empty:
        warnings.warn(
            f"{empty:,} of {len(batch):,} users took nothing that the model knows, and get what most people take",
            DataWarning,
            stacklevel=4,
        )
    items, names = np.array(kind.items, dtype=object), np.asarray(raw.about.index, dtype=object)
    reasons = _Reasons(ae, use, by, why) if why else None
    barred = None if among is None else ~_allowed(kind, among)
    found: list[pd.DataFrame] = []
    for first, part in _parts(batch):
        rows = kind.prepare(part)
        nothing = sparse.take(rows.x, slice(0, 0)) if seen else rows.x
        scored = use.scores(ae.model_, rows, by)
        if barred is not None:
            scored.masked_fill_(barred, -torch.inf)
        index, scores = ranking.top(scored, nothing, k)
        there, pick = scores.numpy() > -np.inf, index.numpy()
        n = there.sum(1)
        frame = {
            "user": np.repeat(names[first : first + len(part)], n),
            "rank": (np.cumsum(there, 1))[there],
            "item": items[pick[there]],
            "score": scores.numpy()[there],
        }
        if reasons is not None:
            frame["because"] = [
                text for i in range(len(part)) for text in reasons(rows.rows(slice(i, i + 1)), pick[i][there[i]])
            ]
        found.append(pd.DataFrame(frame))
    return pd.concat(found, ignore_index=True)


def evaluate(ae: Autoencoder, data: Any, seed: int) -> dict[str, Any]:
    """How much of what is kept back of new users' histories their recommendations find: recall, NDCG and coverage of
    each way, and the differences to the baselines with 95 % intervals of a paired bootstrap over users.
    """
    use, kind, seed = _recommender(ae), _kind(ae), _seed(seed)
    batch = kind.to_batch(ae.rows(data))
    seen, wanted, users = ranking.halves(batch.x, seed)
    if len(users) < 2:
        raise DataError(
            f"{len(users)} of {len(batch)} users have two items or more that the model knows; 2 are needed",
            hint="give whole histories, a line for each interaction",
        )
    ways = ["both", "net", "linear", "ease", "popularity"]
    ways = [w for w in ways if (w not in ("both", "linear") or use.linear.size) and (w != "ease" or use.ease.size)]
    lists: dict[str, list[ranking.Lists]] = {way: [] for way in ways}
    generator, nats = torch.Generator().manual_seed(seed), []
    for start in range(0, len(seen), ROWS):
        part = slice(start, start + ROWS)
        shown, back = kind.prepare(Batch(sparse.take(seen, part))), sparse.take(wanted, part)
        scored = {way: use.scores(ae.model_, shown, way) for way in ways if way != "both"}
        if "both" in ways:
            scored["both"] = scored["net"].add(scored["linear"], alpha=use.weight)
        for way, scores in scored.items():
            lists[way].append(ranking.judged(ranking.top(scores, shown.x, ranking.GAIN)[0], back))
        nats.append(bounds(ae.model_, kind.prepare(batch.rows(users[part])), 1, generator))
    together = {way: ranking.together(parts) for way, parts in lists.items()}
    best = ways[0]
    figures: dict[str, Any] = {"users": len(seen), "kept_back": ranking.KEPT_BACK, "items": len(kind.items)}
    figures |= {way: _rounded(found.means()) for way, found in together.items()}
    for other in ways[1:]:
        figures[f"{best}_over_{other}"] = _over(together[best], together[other], seed)
    figures["ndcg100_se"] = round(float(together[best].ndcg.std() / len(seen) ** 0.5), 4)
    if use.linear.size:
        figures["weight"] = use.weight
    rec, kl = (float(torch.cat([getattr(n, name) for n in nats]).double().mean()) for name in ("rec", "kl"))
    figures |= {"neg_elbo": rec + kl, "rec": rec, "kl": kl, "units": "nats per user, of the whole history"}
    return figures


def similar(ae: Autoencoder, item: str, k: int) -> pd.DataFrame:
    """The k items whose codes, each that of a history of one item, lie most nearly the way of the item's from their
    mean: item, cosine.
    """
    kind = _kind(ae)
    if item not in kind.places:
        raise DataError(f"the model knows no item {item!r}", hint=kind.near(item))
    if not 1 <= k < len(kind.items):
        raise ConfigError(f"k must be from 1 to {len(kind.items) - 1:,}, not {k}", hint="-k 5")
    single = sp.identity(len(kind.items), np.float32, "csr")
    codes = torch.from_numpy(ae.transform(Counted(single, kind.items)))
    vectors = nn.functional.normalize(codes - codes.mean(0), dim=1)
    cosine = vectors @ vectors[kind.places[item]]
    cosine[kind.places[item]] = -torch.inf
    values, index = cosine.topk(k)
    return pd.DataFrame({"item": [kind.items[i] for i in index.tolist()], "cosine": values.numpy()})


def recommends(ae: Autoencoder) -> bool:
    """Whether a model gives recommendations."""
    return isinstance(getattr(ae, "use_", None), Recommender)


class _Reasons:
    """Which of the items taken weigh most in a pick: what each adds to its score through the linear model or, of a
    net alone, how far the pick's log p falls without it.
    """

    def __init__(self, ae: Autoencoder, use: Recommender, by: str, most: int) -> None:
        self.ae, self.use, self.by, self.most = ae, use, by, most
        self.items = _kind(ae).items
        self.linear = bool(use.linear.size and use.weight) and by in ("both", "linear")

    def __call__(self, row: Batch, picks: np.ndarray) -> Iterator[str]:
        taken = sparse.parts(row.x)[1].numpy()
        if self.by == "popularity" or not len(taken):
            return iter([""] * len(picks))
        weight = self.use.weight if self.by == "both" else 1.0
        weighs = weight * self.use.said(taken, picks) if self.linear else self._without(row, picks)
        best = np.argsort(-weighs, axis=0, kind="stable")[: self.most]
        return (
            ", ".join(f"{self.items[taken[i]]} {weighs[i, j]:+.2g}" for i in best[:, j] if weighs[i, j] > 0)
            for j in range(len(picks))
        )

    def _without(self, row: Batch, picks: np.ndarray) -> np.ndarray:
        """How far each pick's score falls when one item of the history is left out. [taken, picks]"""
        _, columns, values = sparse.parts(row.x)
        n = len(columns)
        others = ~torch.eye(n, dtype=torch.bool)
        starts = torch.arange(n + 1, dtype=torch.int32) * (n - 1)
        left = sparse.csr(starts, columns.expand(n, n)[others], values.expand(n, n)[others], row.x.shape[1])
        whole = self.use.scores(self.ae.model_, row, self.by)[:, picks]
        without = [self.use.scores(self.ae.model_, p, self.by)[:, picks] for _, p in _parts(Batch(left))]
        return (whole - torch.cat(without)).numpy()


def _parts(batch: Batch) -> Iterator[tuple[int, Batch]]:
    return ((i, batch.rows(slice(i, i + ROWS))) for i in range(0, len(batch), ROWS))


def _given(kind: Interactions, history: Any) -> Any:
    """A history from the command line: a file, an item, or items with commas between them, in quotes where they have
    commas of their own.
    """
    if not isinstance(history, str) or os.path.exists(history):
        return history
    if history in kind.places:
        return [history]
    if os.sep in history or history.lower().endswith((".csv", ".txt", ".tsv", ".parquet", ".npz", ".arrow")):
        return history  # whose absence the reader explains
    found = next(csv.reader([history], skipinitialspace=True), [])
    return [name.strip() for name in found if name.strip()]


def _allowed(kind: Interactions, among: Any) -> torch.Tensor:
    """Which items may be recommended. Raises DataError if the model knows none of them. bool [items]"""
    if isinstance(among, str):
        file = os.path.isfile(among)  # Path.is_file raises for a long list of names
        among = utf8(content(Path(among)), among, lambda _: None).decode().splitlines() if file else _given(kind, among)
    names = [str(name).strip() for name in ([among] if isinstance(among, str) else among)]
    places = [kind.places[name] for name in names if name in kind.places]
    if not places:
        shown = ", ".join(map(repr, names[:5])) or "none"
        raise DataError(
            f"the model knows none of the items to choose among: {shown}", hint=kind.near("".join(names[:1]))
        )
    if len(places) < len(names):
        note = f"{len(names) - len(places):,} of {len(names):,} items to choose among are not the model's"
        warnings.warn(note, DataWarning, stacklevel=4)
    allowed = torch.zeros(len(kind.items), dtype=torch.bool)
    allowed[places] = True
    return allowed


def _recommender(ae: Autoencoder) -> Recommender:
    ae._require_fitted()
    if not isinstance(ae.use_, Recommender):
        raise ConfigError(
            "this model gives no recommendations", hint="latente fit HISTORIES --kind interactions learns one that does"
        )
    return ae.use_


def _kind(ae: Autoencoder) -> Interactions:
    ae._require_fitted()
    assert isinstance(ae.schema_, Interactions)
    return ae.schema_


def _over(own: ranking.Lists, other: ranking.Lists, seed: int) -> dict[str, Any]:
    """Differences of the figures, each with its interval."""
    found: dict[str, Any] = {}
    for figure, name in zip(FIGURES, ("ndcg", "recall20", "recall50"), strict=True):
        a, b = getattr(own, name), getattr(other, name)
        low, high = ranking.apart(a, b, seed)
        found |= {
            figure: round(float((a - b).mean()), 4),
            f"{figure}_from": round(low, 4),
            f"{figure}_to": round(high, 4),
        }
    return found


def _rounded(figures: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 4) for name, value in figures.items()}
