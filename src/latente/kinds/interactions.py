"""People and what they took: histories of users, each a row over all items."""

import difflib
import warnings
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch
from torch import Tensor, nn

from ..errors import ConfigError, DataError
from ..model import sparse
from ..model.batch import Batch
from ..model.dists.multinomial import Multinomial
from ..model.nets.sparse import Sparse
from ..parts import part, require
from . import histories
from .base import Built, DataWarning, Kind, Nets, no_committee
from .counted import Counted
from .table import as_frame, from_arrow

# Rows of a training batch, the fewest and the most.
BATCHES = (64, 400)


@part("kind", "interactions")
@dataclass(frozen=True)
class Interactions(Kind):
    """Histories of users: which of the items each took. Users do not stay in the model, items do, by their names.

    user, item, weight: columns of a table of lines, "" for those with usual names. weights: whether an item counts by
    its weight; else each that is there counts once. least: interactions with a smaller weight are left out. rare: so
    are items that fewer users took. Learned: `items`, `users`, how many there were; `usual` and `spread`, of the
    number of items that they have.
    """

    recipe = "recommend"
    sparse = True

    user: str = ""
    item: str = ""
    weight: str = ""
    weights: bool = False
    least: float = 0.0
    rare: int = 1
    items: tuple[str, ...] = ()
    users: int = 0
    usual: float = 1.0
    spread: tuple[float, ...] = (0.0, 0.0)

    def __post_init__(self) -> None:
        require(self.rare >= 1, self, "rare", "1 or more")
        require(self.least >= 0, self, "least", "0 or more")
        require(0 < self.usual < 1e12, self, "usual", "above 0, below 1e12")
        require(len(set(self.items)) == len(self.items), self, "items", "each once")
        require(len(self.spread) == 2 and bool(np.isfinite(self.spread).all()), self, "spread", "two numbers")

    @classmethod
    def accepts(cls, raw: Any) -> bool:
        return histories.is_histories(raw)

    @cached_property
    def places(self) -> dict[str, int]:
        """The number of each item."""
        return {name: i for i, name in enumerate(self.items)}

    def taken(self, data: Any) -> Counted:
        if isinstance(data, Counted):
            return data
        data = from_arrow(data)
        if hasattr(data, "columns"):
            found = histories.of_frame(as_frame(data), *self.lines, _note)
            if (self.weights or self.least) and not found.part:
                raise ConfigError(
                    f"{'weights are' if self.weights else 'a least weight is'} asked for, and no column is known as "
                    "that of the weights",
                    hint=f"--set kind.weight=COLUMN; columns: {', '.join(map(str, list(data.columns)[:8]))}",
                )
            return found
        if isinstance(data, (list, tuple)):
            if not data:
                raise DataError("this history is empty", hint="['item a', 'item b']")
            alone = all(isinstance(one, (str, int, float)) for one in data)
            return histories.of_lists([data] if alone else data, _note)
        if sp.issparse(data) or getattr(data, "ndim", 0) == 2:
            return histories.of_matrix(data)
        raise DataError(
            f"histories are lines of user and item, lists of items, or a sparse matrix, not a {type(data).__name__}",
            hint="[['item a', 'item b']] is one user's",
        )

    @property
    def read_options(self) -> dict[str, Any]:
        return {"columns": self.lines} if self.items else {}

    @property
    def lines(self) -> tuple[str, str, str | None]:
        """Those of user, item and weight in a table of lines; no weight where none has a say."""
        return self.user, self.item, self.weight if self.weights or self.least or self.weight else None

    def learn_blocks(self, blocks: Iterable[Any]) -> "Interactions":
        parts = list(blocks)
        if len(parts) != 1:
            raise DataError("histories are learned in memory", hint="--stream no")
        raw = self.taken(parts[0])
        x = self._kept(raw.counts)
        users = np.asarray((x > 0).sum(0)).ravel()
        items = np.flatnonzero(users >= self.rare)
        n = np.asarray(x[:, items].sum(1)).ravel()
        n = n[n > 0]
        if len(items) < 2 or len(n) < 2:
            raise DataError(
                f"there is nothing to learn: {len(n):,} users and {len(items):,} items are left of {x.shape[0]:,} and "
                f"{x.shape[1]:,}, and 2 of each are the least",
                hint="lower kind.least and kind.rare"
                if self.least or self.rare > 1
                else "check the columns: --set kind.user=COLUMN --set kind.item=COLUMN",
            )
        empty = len(raw) - len(n)
        if empty:
            _note(f"{empty:,} of {len(raw):,} users have no item that is learned from: their rows teach nothing")
        logs = np.log(n.astype(np.float64))
        names = raw.names or tuple(map(str, range(x.shape[1])))
        return replace(
            self,
            items=tuple(names[i] for i in items),
            users=len(n),
            usual=float(np.median(n)),
            spread=(float(logs.mean()), float(logs.std())),
        )

    def _kept(self, x: sp.csr_matrix) -> sp.csr_matrix:
        """Interactions of at least the least weight, each counting as it should. Raises DataError for a bad weight."""
        x = x.tocsr()
        x = canonical(x)
        fine = (x.data >= 0) & (x.data <= histories.HEAVIEST)
        if not fine.all():
            row = int(np.searchsorted(x.indptr, np.flatnonzero(~fine)[0], side="right") - 1)
            most = f"{histories.HEAVIEST:.0e}"
            raise DataError(f"row {row}: a weight is a number from 0 to {most}", hint="leave such interactions out")
        if self.least > 0 or (x.data == 0).any():
            kept = np.where(x.data >= self.least, x.data, 0)
            x = sp.csr_matrix((kept, x.indices, x.indptr), shape=x.shape, copy=True)
            x.eliminate_zeros()
        if not self.weights:
            return sp.csr_matrix((np.ones(x.nnz, np.float32), x.indices, x.indptr), shape=x.shape)
        return x.astype(np.float32)

    def to_batch(self, raw: Any) -> Batch:
        raw = self.taken(raw)
        x = self._kept(raw.counts)
        names = raw.names or tuple(map(str, range(x.shape[1])))
        if names != self.items:
            where = np.array([self.places.get(name, -1) for name in names])
            self._tell(names, where, x)
            kept = where[x.indices] >= 0
            row = np.repeat(np.arange(len(raw)), np.diff(x.indptr))[kept]
            x = sp.csr_matrix((x.data[kept], (row, where[x.indices[kept]])), shape=(len(raw), len(self.items)))
        return Batch(csr_of(x, np.float32 if self.weights else np.uint8))

    def _tell(self, names: tuple[str, ...], where: np.ndarray, x: sp.csr_matrix) -> None:
        """Say which items are not known."""
        new = [names[i] for i in np.flatnonzero(where < 0)]
        if new and len(new) < len(names):
            count = int((where[x.indices] < 0).sum())
            shown = ", ".join(map(repr, new[:5])) + (", …" if len(new) > 5 else "")
            what = "item is" if len(new) == 1 else "items are"
            _note(f"{len(new):,} {what} not among the model's, and ignored in {count:,} interactions: {shown}")
        if new and len(new) == len(names):
            raise DataError(
                f"the model knows none of these {len(new):,} items, such as {new[0]!r}",
                hint=self.near(new[0]),
            )

    def near(self, name: str) -> str:
        """A hint at what an item may be called."""
        found = difflib.get_close_matches(name, self.items, n=1)
        return f"did you mean {found[0]!r}?" if found else f"its items are named like {self.items[0]!r}"

    def prepare(self, batch: Batch, generator: torch.Generator | None = None) -> Batch:
        return replace(batch, x=sparse.with_values(batch.x, sparse.parts(batch.x)[2].float()))

    def restore(self, x: Tensor) -> pd.DataFrame:
        """Rows of whole counts as lines of user and item (and how often, where weights count); expected counts as a
        table with a column for each item.
        """
        counts = x.detach().cpu().numpy()
        if not (counts == np.rint(counts)).all():
            return pd.DataFrame(counts, columns=list(self.items))
        row, column = counts.nonzero()
        lines = pd.DataFrame({"user": row, "item": [self.items[j] for j in column]})
        return lines.assign(weight=counts[row, column]) if self.weights else lines

    def build(self, nets: Nets, dim: int) -> Built:
        no_committee(nets, "histories", self.recipe)
        shape = (len(self.items),)
        likelihood = Multinomial(once=not self.weights).build(shape)
        likelihood.usual.fill_(self.usual)
        body, width = nets.encoder(shape)
        decoder = likelihood.decoder(nets.decoder(dim, likelihood.cells_shape), dim, self.spread)
        return Built(_Encoder(body), width, decoder, likelihood, shape)

    @property
    def nets(self) -> Nets:
        return Sparse(600, 0)

    @property
    def batch(self) -> int | None:
        # Some two dozen steps an epoch; of many users as many rows as keep the nets' outputs in reach.
        return int(np.clip(self.users // 24, *BATCHES)) // 8 * 8

    @property
    def room(self) -> int:
        return max(1, len(self.items) // 4)

    @property
    def pca(self) -> bool:
        return False  # popularity and EASE are: see the use `recommender`

    @property
    def summary(self) -> list[str]:
        shown = ", ".join(self.items[:10])
        return [f"{len(self.items):,} items, {self.usual:g} of them a user, in the middle", f"such as {shown}"]

    def cell_name(self, index: int) -> str:
        return f"item {self.items[index]!r}"


class _Encoder(nn.Module):
    """Rows of length 1 -> the body."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def features(self, batch: Batch) -> Tensor:
        """What the body sees: sparse where the rows are."""
        if not sparse.is_sparse(batch.x):
            return batch.x / batch.x.norm(dim=1, keepdim=True).clamp(min=1e-9)
        _, _, values = sparse.parts(batch.x)
        norm = sparse.totals(sparse.with_values(batch.x, values.square())).clamp(min=1e-9).rsqrt()
        return sparse.with_values(batch.x, values * torch.repeat_interleave(norm, sparse.lengths(batch.x)))

    def forward(self, batch: Batch) -> Tensor:
        return self.body(self.features(batch))


def canonical(x: sp.csr_matrix) -> sp.csr_matrix:
    """The rows with each column once, in order; the caller's matrix stays as it is."""
    if x.has_canonical_format:
        return x
    wide = np.float64 if x.dtype.kind == "f" else np.int64
    found = sp.csr_matrix((x.data.astype(wide), x.indices.copy(), x.indptr.copy()), shape=x.shape)
    found.sum_duplicates()
    return found


def csr_of(x: sp.csr_matrix, dtype: Any) -> Tensor:
    """A matrix of scipy as sparse rows of torch."""
    x = x if x.has_sorted_indices else x.sorted_indices()
    return sparse.csr(
        torch.from_numpy(x.indptr.astype(np.int32)),
        torch.from_numpy(x.indices.astype(np.int32)),
        torch.from_numpy(x.data.astype(dtype)),
        x.shape[1],
    )


def _note(text: str) -> None:
    warnings.warn(text, DataWarning, stacklevel=4)
