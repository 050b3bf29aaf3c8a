"""Counts: cells and their genes, documents and their words."""

import warnings
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor, nn

from ..errors import DataError
from ..model import sparse
from ..model.batch import Batch
from ..model.dists.log_gaussian import LogGaussian
from ..model.dists.multinomial import Multinomial
from ..model.dists.negative_binomial import NegativeBinomial
from ..model.nets.sparse import Sparse
from ..parts import part, require
from .bags import TEXTS, of_texts
from .base import Built, DataWarning, Kind, Nets, no_committee
from .counted import Counted
from .histories import csr_matrix, is_histories
from .interactions import canonical, csr_of
from .reading_counts import of_anndata, of_frame
from .selecting import Moments
from .table import as_frame, from_arrow
from .texts import Texts

# Columns that are looked at for an explanation of what is no count.
SHOWN = 5


@part("kind", "counts")
@dataclass(frozen=True)
class Counts(Kind):
    """Rows of counts given their sums: cells over genes, documents over words.

    likelihood: "negative-binomial", "zero-inflated" (ZINB), "multinomial", "auto" (multinomial for texts, else
    negative binomial), or a baseline, "log-gaussian" or "log-gaussian-isotropic". selection, most: the rule by which
    columns are chosen, and how many at the most; 0 is all. layer: of AnnData, where the counts are: "X", "raw", a
    layer's name, "auto".
    Learned: `names` of the columns, `shares` of each in all counts, `usual` and `spread` of the rows' sums, `texts`:
    whether rows were texts.
    """

    recipe = "counts"
    sparse = True

    likelihood: Literal[
        "auto", "negative-binomial", "zero-inflated", "multinomial", "log-gaussian", "log-gaussian-isotropic"
    ] = "auto"
    selection: Literal["deviance", "dispersion", "variance"] = "deviance"
    most: int = 2000
    layer: str = "auto"
    names: tuple[str, ...] = ()
    shares: tuple[float, ...] = ()
    usual: float = 1.0
    spread: tuple[float, ...] = (0.0, 0.0)
    texts: bool = False

    def __post_init__(self) -> None:
        require(self.most >= 0, self, "most", "0 or more")
        require(0 < self.usual < 1e12, self, "usual", "above 0, below 1e12")
        require(len(self.spread) == 2 and bool(np.isfinite(self.spread).all()), self, "spread", "two numbers")
        require(len(set(self.names)) == len(self.names), self, "names", "each once")
        fine = len(self.shares) == len(self.names) and all(1e-30 < s <= 1 for s in self.shares)
        require(fine, self, "shares", "one for each name, above 0, up to 1")

    @classmethod
    def accepts(cls, raw: Any) -> bool:
        return (isinstance(raw, Counted) and not is_histories(raw)) or type(raw).__name__ == "AnnData"

    @cached_property
    def places(self) -> dict[str, int]:
        """The number of each column."""
        return {name: i for i, name in enumerate(self.names)}

    def taken(self, data: Any) -> Counted:
        if isinstance(data, Counted):
            return data
        if type(data).__name__ == "AnnData":
            return of_anndata(data, self.layer, _note)
        if isinstance(data, Texts) or (isinstance(data, (list, tuple)) and data and isinstance(data[0], str)):
            odd = next((i for i, text in enumerate(data) if not isinstance(text, str)), None)
            if odd is not None:
                raise DataError(f"item {odd} is {data[odd]!r:.60}, and no text", hint="leave it out, or put '' there")
            return of_texts(list(data))
        data = from_arrow(data)
        if hasattr(data, "columns"):
            return of_frame(as_frame(data), _note)
        if sp.issparse(data) or getattr(data, "ndim", 0) == 2:
            return Counted(csr_matrix(data, "counts are a matrix"))
        raise DataError(
            f"counts are a table, a sparse matrix, AnnData or texts, not a {type(data).__name__}",
            hint="latente.read('cells.h5ad') reads a file",
        )

    def learn_blocks(self, blocks: Iterable[Any]) -> "Counts":
        moments: Moments | None = None
        kind, empty, names = self, 0, tuple[str, ...]()
        logs, squares = 0.0, 0.0
        for block in blocks:
            raw = self.taken(block)
            x = checked(raw)
            if moments is None:
                moments, names = Moments(x.shape[1]), raw.names or _numbered(x.shape[1])
                kind = replace(kind, texts=raw.part == TEXTS)
            n = np.asarray(x.sum(1), np.float64).ravel()
            empty += int((n == 0).sum())
            logs, squares = logs + np.log(n[n > 0]).sum(), squares + np.square(np.log(n[n > 0])).sum()
            moments.add(x)
        if moments is None or moments.rows < 2 or (moments.seen > 0).sum() < 2:
            found = 0 if moments is None else moments.rows
            raise DataError(
                f"found {found} row(s) with counts (n_samples={found}): there is nothing to learn",
                hint="check the file: rows are cells or documents, columns genes or words",
            )
        if empty:
            _note(f"{empty:,} row(s) have no counts at all, and teach nothing")
        chosen = moments.chosen(kind.selection, kind.most)
        sums = moments.sums[chosen]
        # Of each row the sum over the chosen columns is not known before they are; their share of all counts is.
        mean = logs / moments.rows
        among = np.log(sums.sum() / moments.whole)
        deviation = float(np.sqrt(max(squares / moments.rows - mean**2, 1e-4)))
        return replace(
            kind,
            # Half of a character cannot be written to a file.
            names=tuple(names[i].encode("utf-8", "replace").decode() for i in chosen),
            shares=tuple((sums / sums.sum()).tolist()),
            usual=float(max(1.0, np.exp(mean + among))),
            spread=(float(mean + among), deviation),
        )

    def to_batch(self, raw: Any) -> Batch:
        raw = self.taken(raw)
        x, names = checked(raw), raw.names or _numbered(raw.shape[1])
        if not names and not self.texts:
            raise DataError("these counts have no columns", hint=f"the model's are named like {self.names[0]!r}")
        if names == self.names:
            return Batch(csr_of(x, _compact(x)))
        where = np.array([self.places.get(name, -1) for name in names], np.int64)
        there = np.zeros(len(self.names), bool)
        there[where[where >= 0]] = True
        if not there.any() and not self.texts:
            raise DataError(
                f"none of the model's {len(self.names):,} columns is there: it knows {self.names[0]!r}, and these are "
                f"named like {names[0]!r}",
                hint="name the columns as in the data that the model was fitted on",
            )
        chosen = np.flatnonzero(where >= 0)
        x = x[:, chosen].tocsr()
        x = sp.csr_matrix((x.data, where[chosen][x.indices], x.indptr), shape=(x.shape[0], len(self.names)))
        if (
            there.all() or self.texts
        ):  # a word that is not there was not said; a gene that is not there was not looked at
            return Batch(csr_of(x, _compact(x)))
        absent = [self.names[i] for i in np.flatnonzero(~there)]
        shown = ", ".join(absent[:SHOWN]) + (", …" if len(absent) > SHOWN else "")
        _note(f"{len(absent):,} of the model's {len(self.names):,} columns are missing, and not guessed: {shown}")
        return Batch(csr_of(x, _compact(x)), torch.from_numpy(there).expand(x.shape).clone())

    def prepare(self, batch: Batch, generator: torch.Generator | None = None) -> Batch:
        return replace(batch, x=sparse.with_values(batch.x, sparse.parts(batch.x)[2].float()))

    def restore(self, x: Tensor) -> Counted:
        found = sp.csr_matrix(x.detach().cpu().numpy())
        whole = (found.data == np.rint(found.data)).all() and (not found.nnz or found.data.max() < 1 << 31)
        return Counted(found.astype(np.int32) if whole else found, self.names)

    def rejoin(self, raw: Any, x: Tensor) -> Counted:
        return replace(self.restore(x), about=self.taken(raw).about)

    def build(self, nets: Nets, dim: int) -> Built:
        no_committee(nets, "counts", self.recipe)
        shape = (len(self.names),)
        likelihood = self._likelihood().build(shape)
        likelihood.usual.fill_(self.usual)
        body, width = nets.encoder(shape)
        decoder = likelihood.decoder(nets.decoder(dim, likelihood.cells_shape), dim, self.spread)
        return Built(_Encoder(body, self.shares), width, decoder, likelihood, shape)

    def _likelihood(self) -> Any:
        name = self.likelihood
        if name == "auto":
            name = "multinomial" if self.texts else "negative-binomial"
        if name.startswith("log-gaussian"):
            return LogGaussian("row" if name.endswith("isotropic") else "column")
        return Multinomial() if name == "multinomial" else NegativeBinomial(name == "zero-inflated")

    @property
    def nets(self) -> Nets:
        return Sparse(128, 1, (128,))

    @property
    def room(self) -> int:
        return max(1, len(self.names) // 4)

    @property
    def read_options(self) -> dict[str, Any]:
        return {} if self.texts else {"layer": self.layer}

    @property
    def summary(self) -> list[str]:
        what = "words" if self.texts else "columns"
        top = np.argsort(-np.array(self.shares))[:10]
        by = f" chosen by {self.selection}" if self.most else ""
        head = f"{len(self.names):,} {what}{by}, a row has {self.usual:,.0f} counts of them"
        return [head, f"most of {', '.join(self.names[i] for i in top)}"]

    def cell_name(self, index: int) -> str:
        return f"column {self.names[index]!r}"


class _Encoder(nn.Module):
    """log(1 + x) -> the body. A column that was not looked at is as large as it is on average, for such a row."""

    shares: Tensor

    def __init__(self, body: nn.Module, shares: tuple[float, ...]) -> None:
        super().__init__()
        self.register_buffer("shares", torch.tensor(shares), persistent=False)
        self.body = body

    def features(self, batch: Batch) -> Tensor:
        """What the body sees: sparse where the rows are, and nothing is missing."""
        if batch.observed is not None:
            x = sparse.dense(batch.x) * batch.observed
            whole = x.sum(1, keepdim=True) / (batch.observed * self.shares).sum(1, keepdim=True).clamp(min=1e-6)
            return torch.log1p(torch.where(batch.observed, x, whole * self.shares))
        if not sparse.is_sparse(batch.x):
            return torch.log1p(batch.x)
        return sparse.with_values(batch.x, torch.log1p(sparse.parts(batch.x)[2]))

    def forward(self, batch: Batch) -> Tensor:
        return self.body(self.features(batch))


def checked(raw: Counted) -> sp.csr_matrix:
    """The matrix of counts, if they are: whole numbers of 0 or more. Raises DataError that says where one is not."""
    if raw.counts.dtype.kind not in "fiub":
        raise DataError(f"counts are numbers, not {raw.counts.dtype}")
    x = canonical(raw.counts.tocsr())
    odd = (x.data < 0) | ~np.isfinite(x.data) | (x.data != np.rint(x.data)) if x.dtype.kind == "f" else x.data < 0
    if odd.any():
        at = int(np.flatnonzero(odd)[0])
        row, column = int(np.searchsorted(x.indptr, at, side="right") - 1), int(x.indices[at])
        looks = "scaled" if (x.data < 0).any() else "normalised"
        where = f" {raw.part} looks {looks}" if raw.part else f" these look {looks}"
        name = raw.names[column] if raw.names else f"column {column}"
        raise DataError(
            f"row {row}, {name}: {x.data[at]:g} is no count (0, 1, 2, …);{where}",
            hint="give the raw counts: --layer counts, if they are in a layer of that name",
        )
    if x.nnz and x.data.max() >= 1 << 24:
        raise DataError(f"a count of {x.data.max():g}: from 16,777,216 on they are too large", hint="check the columns")
    if (x.data == 0).any():
        x = x.copy()
        x.eliminate_zeros()
    return x


def _compact(x: sp.csr_matrix) -> Any:
    """The smallest type that holds the counts."""
    return np.uint8 if not x.nnz or x.data.max() < 256 else np.int32


def _numbered(columns: int) -> tuple[str, ...]:
    return tuple(f"c{i}" for i in range(columns))


def _note(text: str) -> None:
    warnings.warn(text, DataWarning, stacklevel=4)
