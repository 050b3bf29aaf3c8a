"""Tables: numbers, categories, dates and gaps in named columns."""

import contextlib
import warnings
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from ..errors import DataError
from ..model.batch import Batch
from ..model.condition import Condition
from ..model.dists.base import Likelihood
from ..model.dists.bernoulli import Bernoulli
from ..model.dists.categorical import Categorical as Levels
from ..model.dists.chain import Chain, Words, _Chain
from ..model.dists.gaussian import Gaussian
from ..model.dists.mixed import Mixed
from ..model.nets.mlp import Mlp
from ..parts import part
from . import learning
from .base import Built, DataWarning, Kind, Nets
from .binned import Binned
from .columns import Binary, Categorical, Column, Constant, Encoded, Identifier
from .derived import Derived, derived, level_count

# A sparse matrix is spread out to float32: refuse what would not fit beside the model.
MAX_DENSE_BYTES = 4 << 30
# Units of a chain that are left out in a step, of tables with fewer rows than that the second: on 258 to 3,600 rows of
# five tables it was better by .1 to 1.1 nats a row (penguins 10.96 to 10.22, red wine 40.9 to 39.9). On Adult and
# credit .05 and .1 are as good in nats, and new rows of .05 harder to tell from real ones (.521 and .534; .647, .655).
DROPOUT, MORE_DROPOUT, FEW_ROWS = 0.05, 0.3, 5_000
# Numbers that the body of a chain's encoder is told.
TOLD = 128
# Values of a column that are kept to find its median when rows come in blocks; fewer where there are many columns.
MOST_SAMPLED, FEWEST_SAMPLED, MOST_CELLS_SAMPLED = 100_000, 10_000, 10_000_000


@part("kind", "table")
@dataclass(frozen=True)
class Table(Kind):
    """A table. Options: `scale`, how σ of the numeric columns is found (see the Gaussian likelihood).
    likelihood: "mixed", each column by itself given the code; "chain", each given the code and the columns before it,
    numbers as tokens (see the chain likelihood for `width`, `direct`, `orders`, `keep` and `dropout`).
    gaps: of a chain, whether the pattern of missing cells is learned and drawn with new rows ("generated"), or new rows
    have none ("filled").

    Learned: `columns`; `rules`, by which columns that are modelled follow from others where both are there; `frame`,
    what the data came in ("pandas", "polars", "pyarrow" or "numpy"), and so goes out in; `dtype`, of a numpy array.
    """

    scale: Literal["closed-form", "learned", "unit"] = "closed-form"
    likelihood: Literal["mixed", "chain"] = "mixed"
    width: int = 64
    direct: int = 64
    orders: float = 0.5
    keep: float = 0.5
    dropout: float | None = None
    gaps: Literal["generated", "filled"] = "generated"
    columns: tuple[Column, ...] = ()
    rules: tuple[Derived, ...] = ()
    frame: str = "pandas"
    dtype: str = ""

    @classmethod
    def accepts(cls, raw: Any) -> bool:
        rows = isinstance(raw, (list, tuple)) or (hasattr(raw, "__array__") and not hasattr(raw, "ndim"))
        return rows or _frame_of(raw) is not None or getattr(raw, "ndim", 0) == 2

    def learn_blocks(self, blocks: Iterable[Any]) -> "Table":
        rows = 0
        kind = replace(self, columns=())
        growing: list[learning.Growing] = []
        for raw in blocks:
            frame = as_frame(raw)
            labels = [_label(c) for c in frame.columns]
            if not growing:
                dtype = str(raw.dtype) if hasattr(raw, "dtype") and not isinstance(raw, pd.DataFrame) else ""
                kind = replace(kind, frame=_frame_of(raw) or "numpy", dtype=dtype)
                most = max(FEWEST_SAMPLED, min(MOST_SAMPLED, MOST_CELLS_SAMPLED // len(labels)))
                growing = [learning.Growing(label, most, seed=i) for i, label in enumerate(labels)]
            elif labels != [g.label for g in growing]:
                raise DataError(
                    f"the rows from {rows:,} on have the columns {_few(labels)}, those before "
                    f"{_few([g.label for g in growing])}",
                    hint="give every block the same columns",
                )
            for i, column in enumerate(growing):
                column.add(frame.iloc[:, i])
            rows += len(frame)
        if rows < 2:
            raise DataError(
                f"found {rows} sample(s) (n_samples={rows}), and a model needs 2 or more to learn from",
                hint="give it more rows",
            )
        if kind.dropout is None:
            kind = replace(kind, dropout=MORE_DROPOUT if rows < FEW_ROWS else DROPOUT)
        columns = tuple(column.column(tokens=kind.chained) for column in growing)
        if kind.chained and growing[0].parts == 1:
            # Rows that come in blocks are never together: of those no column is told to follow from another.
            found, rules = derived(list(columns), frame)
            columns, kind = tuple(found), replace(kind, rules=tuple(rules))
        if not replace(kind, columns=columns).modelled:
            shown = "; ".join(f"{c.label!r} {c.summary}" for c in columns[:3])
            raise DataError(
                f"there is nothing to learn: no column varies ({shown})", hint="check the file and its header"
            )
        return replace(kind, columns=columns)

    @property
    def chained(self) -> bool:
        """Whether a row is a chain of tokens."""
        return self.likelihood == "chain"

    @cached_property
    def modelled(self) -> list[Column]:
        """The columns that take part, in the order of a row's cells; the others are constant, or follow from these."""
        return [c for c in self.columns if not isinstance(c, (Constant, Derived, Identifier))]

    def tokens(self, column: Column) -> int:
        """How many tokens a column of a chain has: its own, and a last one for "missing" where that is learned."""
        own = column.size if isinstance(column, Binned) else level_count(column)
        return own + self.learns_gaps(column)

    def learns_gaps(self, column: Column) -> bool:
        """Whether "missing" is a token of the column."""
        return self.chained and self.gaps == "generated" and column.missing > 0

    @property
    def feature_names(self) -> list[str]:
        """The likelihood's features in order: columns, and column=level for each level of a category."""
        found = []
        for i, size in self._feature_order(self.modelled):
            column = self.modelled[i]
            levels: tuple[Any, ...] = (*column.levels, "<other>") if isinstance(column, Categorical) else ()
            if self.chained and size > 1:
                own = levels if isinstance(column, Categorical) else getattr(column, "levels", ())
                levels = (*own, "<missing>")[:size]
            found += [f"{column.label}={level}" for level in levels] or [str(column.label)]
        return found

    def to_batch(self, raw: Any) -> Batch:
        frame = self._matched(as_frame(raw))
        unseen = []
        found: dict[Any, Encoded] = {}
        for i, column in enumerate(self.columns):
            found[column.label] = cells = column.encode(frame.iloc[:, i])
            if cells.unseen:
                share = "all " if cells.unseen == len(frame) else ""
                unseen.append(f"{column.label!r} ({share}{cells.unseen:,} of {len(frame):,})")
        for column in self.columns:
            if isinstance(column, Derived):
                found[column.source] = _filled(found[column.source], column, found[column.label])
        numbers, masks = [], []
        for column in self.modelled:
            cells = found[column.label]
            if self.learns_gaps(column):
                gap = self.tokens(column) - 1
                cells = Encoded(np.where(cells.observed, cells.numbers, gap), np.ones(len(frame), bool))
            numbers.append(cells.numbers.astype(np.float32))
            masks.append(cells.observed)
        if unseen:
            warnings.warn(
                f"values that the training data did not have, in {', '.join(unseen)}: read as '<other>', or as "
                f"missing where a column had only one or two values",
                DataWarning,
                stacklevel=2,
            )
        mask = torch.from_numpy(np.stack(masks, 1))
        return Batch(torch.from_numpy(np.stack(numbers, 1)), None if bool(mask.all()) else mask)

    def prepare(self, batch: Batch, generator: torch.Generator | None = None) -> Batch:
        return batch

    def restore(self, x: Tensor) -> Any:
        cells = x.detach().cpu().numpy()
        at = {c.label: i for i, c in enumerate(self.modelled)}
        series = []
        for column in self.columns:
            source = self.columns[[c.label for c in self.columns].index(getattr(column, "source", column.label))]
            numbers = cells[:, at[source.label]].astype(np.float64) if source.label in at else np.zeros(len(cells))
            made = column.decode(column.follow(numbers) if isinstance(column, Derived) else numbers)
            if self.learns_gaps(source) and source.label in at:
                made = made.mask(pd.Series(numbers >= self.tokens(source) - 1))
            series.append(made)
        for rule in self.rules:
            labels = [c.label for c in self.columns]
            place, other = labels.index(rule.label), labels.index(rule.source)
            both = series[place].notna() & series[other].notna()
            told = rule.decode(rule.follow(cells[:, at[rule.source]].astype(np.float64)))
            series[place] = series[place].where(~both, told)
        frame = pd.concat(series, axis=1)
        frame.columns = pd.Index([c.label for c in self.columns])
        if self.frame == "pyarrow":
            return to_arrow(frame)
        if self.frame == "polars":
            import polars

            return polars.from_pandas(frame)
        if self.frame == "numpy":
            return frame.to_numpy(dtype=self.dtype or None)
        return frame

    def build(self, nets: Nets, dim: int) -> Built:
        columns = self.modelled
        likelihood = self._likelihood(columns)
        owner = self._owner(columns)
        if isinstance(likelihood, _Chain):
            body, width = nets.encoder((TOLD,))
            tokens = _TokenEncoder(likelihood.net.sizes, likelihood.net.numeric, body)
            return Built(tokens, width, nets.decoder(dim, likelihood.out_shape), likelihood, (TOLD,))
        size = (len(owner) + len(columns),)
        body, width = nets.encoder(size)
        encoder = _Encoder(likelihood, owner, len(columns), body)
        return Built(encoder, width, nets.decoder(dim, likelihood.out_shape), likelihood, size)

    def condition(self) -> Condition:
        """This table as what is given to a model of something else."""
        columns = self.modelled
        return Condition(self._likelihood(columns), self._owner(columns), len(columns))

    def _owner(self, columns: list[Column]) -> Tensor:
        """Of each feature, the column that it belongs to."""
        return torch.tensor([i for i, size in self._feature_order(columns) for _ in range(size)])

    def _feature_order(self, columns: list[Column]) -> list[tuple[int, int]]:
        """(column, number of its features) in the order of the likelihood's features."""
        if self.chained:
            return [(i, 1 if isinstance(c, Binned) else self.tokens(c)) for i, c in enumerate(columns)]
        numeric, binary, several = _groups(columns)
        return [(i, 1) for i in numeric + binary] + [(i, columns[i].size) for i in several]  # type: ignore[attr-defined]

    @property
    def nets(self) -> Nets:
        return Mlp()

    @property
    def room(self) -> int:
        if self.chained:
            # The rest of a row is the chain's: a code need not be narrow to have something to learn.
            return max(2, len(self.modelled))
        # Half as many dimensions as columns: with as many, nothing would have to be learned.
        return max(1, min(len(self.modelled), max(2, len(self.modelled) // 2)))

    @property
    def summary(self) -> list[str]:
        bound = {rule.label: f", kept to what follows from {rule.source}" for rule in self.rules}
        gaps = {c.label: f", {c.missing:.1%} missing" for c in self.columns if c.missing}
        return [f"{c.label}: {c.summary}{bound.get(c.label, '')}{gaps.get(c.label, '')}" for c in self.columns]

    def cell_name(self, index: int) -> str:
        return f"column {self.modelled[index].label!r}"

    def log_volume(self, batch: Batch) -> Tensor:
        cells = batch.x.numpy().astype(np.float64)
        volume = np.stack([c.log_volume(cells[:, i]) for i, c in enumerate(self.modelled)], 1)
        if batch.observed is not None:
            volume = volume * batch.observed.numpy()
        return torch.from_numpy(volume.sum(1))

    def _likelihood(self, columns: list[Column]) -> Likelihood:
        if self.chained:
            numbers = tuple(isinstance(c, Binned) for c in columns)
            sizes = tuple(self.tokens(c) for c in columns)
            return Chain(sizes, numbers, self.width, self.direct, self.orders, self.keep, self.dropout or 0.0).build(
                (len(columns),)
            )
        numeric, binary, levels = _groups(columns)
        groups: list[tuple[tuple[int, ...], Any]] = []
        if numeric:
            groups.append((tuple(numeric), Gaussian(self.scale, "cell")))
        if binary:
            groups.append((tuple(binary), Bernoulli()))
        if levels:
            groups.append((tuple(levels), Levels(tuple(columns[i].size for i in levels))))  # type: ignore[attr-defined]
        return Mixed(tuple(groups)).build((len(columns),))

    def _matched(self, frame: pd.DataFrame) -> pd.DataFrame:
        """The frame's columns in the schema's order: by name where there are names, else by place."""
        wanted = [c.label for c in self.columns]
        got = [_label(c) for c in frame.columns]
        if got == wanted:
            return frame
        unnamed = all(isinstance(c, int) for c in got)
        if unnamed or all(isinstance(c, int) for c in wanted):
            if len(got) != len(wanted):
                raise DataError(
                    f"X has {len(got)} features, but Autoencoder is expecting {len(wanted)} features as input",
                    hint=f"the model was fitted on the columns {_few(wanted)}",
                )
            return frame
        absent = [c for c in wanted if c not in got]
        if absent:
            raise DataError(
                f"{len(absent)} of the {len(wanted)} columns of the model are not there: {_few(absent)}",
                hint=f"add them (empty cells are allowed); the data have {_few(got)}",
            )
        extra = [c for c in got if c not in wanted]
        if extra:
            warnings.warn(
                f"columns that the model does not know are left out: {_few(extra)}", DataWarning, stacklevel=3
            )
        return frame[[frame.columns[got.index(c)] for c in wanted]]


class _Encoder(nn.Module):
    """Columns -> features, with gaps told apart from zeros -> the body."""

    owner: Tensor

    def __init__(self, likelihood: Likelihood, owner: Tensor, columns: int, body: nn.Module) -> None:
        super().__init__()
        # A bound method, not a submodule: the likelihood's weights belong to the model once.
        self._features = likelihood.features
        self.register_buffer("owner", owner, persistent=False)
        # How much a gap speaks, per column. It starts at 0: a net that never met a gap in training must not answer
        # one with the noise of weights that were never trained.
        self.gap = nn.Parameter(torch.zeros(columns))
        self.body = body

    def features(self, batch: Batch) -> Tensor:
        """What the body sees."""
        features = self._features(batch.x)
        gaps = features.new_zeros(batch.x.shape)
        if batch.observed is not None:
            features = features * batch.observed[:, self.owner]
            gaps = (~batch.observed) * self.gap
        return torch.cat([features, gaps], -1)

    def forward(self, batch: Batch) -> Tensor:
        return self.body(self.features(batch))


class _TokenEncoder(nn.Module):
    """Columns of tokens -> a sum of vectors, one for each cell or its gap -> the body."""

    first: Tensor
    gaps: Tensor

    def __init__(self, sizes: tuple[int, ...], numeric: tuple[bool, ...], body: nn.Module) -> None:
        super().__init__()
        self.words = Words(sizes, numeric, TOLD)
        # A gap that was never met in training says nothing.
        self.gap = nn.Parameter(torch.zeros(len(sizes), TOLD))
        first = torch.tensor([0, *sizes]).cumsum(0)
        self.register_buffer("first", first[:-1], persistent=False)
        self.register_buffer("gaps", first[-1] + torch.arange(len(sizes)), persistent=False)
        self.body = body

    def features(self, batch: Batch) -> Tensor:
        """What the body sees."""
        place = batch.x.long() + self.first
        if batch.observed is not None:
            place = torch.where(batch.observed, place, self.gaps)
        return nn.functional.silu(nn.functional.embedding_bag(place, torch.cat([*self.words(), self.gap]), mode="sum"))

    def forward(self, batch: Batch) -> Tensor:
        return self.body(self.features(batch))


def as_frame(raw: Any) -> pd.DataFrame:
    """Table-like data in memory as a pandas frame. Raises DataError for what is not one."""
    raw = from_arrow(raw)
    match _frame_of(raw):
        case "pandas":
            frame = raw.to_frame().T if isinstance(raw, pd.Series) else raw
        case "polars":
            frame = raw.to_pandas()
        case _:
            frame = pd.DataFrame(_array(raw))
    names = [_label(c) for c in frame.columns]
    twice = sorted({str(c) for c in names if names.count(c) > 1}) if len(set(names)) < len(names) else []
    if twice:
        raise DataError(
            f"column names occur more than once: {_few(twice)}", hint="rename them: the model matches columns by name"
        )
    if frame.shape[1] == 0:
        raise DataError("the table has no columns (0 feature(s))", hint="check the file and its delimiter")
    return frame


def from_arrow(raw: Any) -> Any:
    """A pyarrow table as a pandas frame; anything else as it is."""
    return raw.to_pandas() if is_arrow(raw) else raw


def is_arrow(raw: Any) -> bool:
    """Whether `raw` is a pyarrow table."""
    return type(raw).__module__.split(".")[0] == "pyarrow" and hasattr(raw, "to_pandas")


def to_arrow(frame: pd.DataFrame, schema: Any = None) -> Any:
    """A pandas frame as a pyarrow table, of `schema` where its columns can be; whole numbers with gaps stay whole."""
    import pyarrow as pa

    table = pa.Table.from_pandas(frame, preserve_index=False).replace_schema_metadata()
    for i, field in enumerate(table.schema):
        wanted = schema.field(field.name).type if schema is not None and field.name in schema.names else None
        column = frame[field.name]
        if wanted is None and pa.types.is_floating(field.type) and column.isna().any():
            there = column.dropna()
            wanted = pa.int64() if len(there) and (there == np.rint(there)).all() else None
        if wanted is not None and wanted != field.type:
            with contextlib.suppress(pa.ArrowInvalid, pa.ArrowNotImplementedError):
                table = table.set_column(i, field.name, table.column(i).cast(wanted))
    return table


def _array(raw: Any) -> np.ndarray:
    if type(raw) is dict or type(raw).__name__ == "LazyFrame":
        made = "pd.DataFrame(data)" if type(raw) is dict else "frame.collect()"
        raise DataError(f"a {type(raw).__name__} is no table yet", hint=made)
    if hasattr(raw, "toarray"):
        if raw.shape[0] * raw.shape[1] * 8 > MAX_DENSE_BYTES:
            raise DataError(f"a sparse matrix of shape {raw.shape} is too large to be spread out as a table")
        raw = raw.toarray()
    array = np.asarray(raw)
    if array.ndim != 2:
        raise DataError(
            f"Expected 2D array, got {array.ndim}D array instead: a table has rows and columns",
            hint="Reshape your data with X.reshape(-1, 1) for one column or X.reshape(1, -1) for one row",
        )
    if np.iscomplexobj(array):
        raise DataError("Complex data not supported", hint="np.c_[X.real, X.imag] makes two columns of each")
    return array


def _frame_of(raw: Any) -> str | None:
    if isinstance(raw, (pd.DataFrame, pd.Series)):
        return "pandas"
    return "polars" if type(raw).__module__.split(".")[0] == "polars" and hasattr(raw, "to_pandas") else None


def _groups(columns: list[Column]) -> tuple[list[int], list[int], list[int]]:
    """Places of the numeric, the two-valued and the categorical columns."""
    binary = [i for i, c in enumerate(columns) if isinstance(c, Binary)]
    levels = [i for i, c in enumerate(columns) if isinstance(c, Categorical)]
    return [i for i in range(len(columns)) if i not in binary and i not in levels], binary, levels


def _filled(source: Encoded, column: Derived, own: Encoded) -> Encoded:
    """The source's cells, with gaps filled where the column that follows from it is there and tells which it was."""
    back = column.back(own.numbers)
    known = ~source.observed & own.observed & (back >= 0)
    return Encoded(np.where(known, back, source.numbers), source.observed | known, source.unseen)


def _label(column: Any) -> Any:
    """A column's name as JSON can hold it."""
    if isinstance(column, (bool, np.bool_)):
        return str(column)
    return int(column) if isinstance(column, (int, np.integer)) else str(column)


def _few(labels: list[Any]) -> str:
    shown = ", ".join(repr(c) for c in labels[:6])
    return shown + (f" and {len(labels) - 6} more" if len(labels) > 6 else "")
