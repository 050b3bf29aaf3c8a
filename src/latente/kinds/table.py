"""Tables: numbers, categories, dates and gaps in named columns."""

import warnings
from collections.abc import Iterable
from dataclasses import dataclass, replace
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
from ..model.dists.gaussian import Gaussian
from ..model.dists.mixed import Mixed
from ..model.nets.mlp import Mlp
from ..parts import part
from . import learning
from .base import Built, DataWarning, Kind, Nets
from .columns import Binary, Categorical, Column, Constant

# A sparse matrix is spread out to float32: refuse what would not fit beside the model.
MAX_DENSE_BYTES = 4 << 30
# Values of a column that are kept to find its median when rows come in blocks; fewer where there are many columns.
MOST_SAMPLED, FEWEST_SAMPLED, MOST_CELLS_SAMPLED = 100_000, 10_000, 10_000_000


@part("kind", "table")
@dataclass(frozen=True)
class Table(Kind):
    """A table. Options: `scale`, how σ of the numeric columns is found (see the Gaussian likelihood).

    Learned: `columns`; `frame`, what the data came in ("pandas", "polars" or "numpy"), and so goes out in; `dtype`, of
    a numpy array.
    """

    scale: Literal["closed-form", "learned", "unit"] = "closed-form"
    columns: tuple[Column, ...] = ()
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
        columns = tuple(column.column() for column in growing)
        if all(isinstance(c, Constant) for c in columns):
            shown = "; ".join(f"{c.label!r} {c.summary}" for c in columns[:3])
            raise DataError(
                f"there is nothing to learn: no column varies ({shown})", hint="check the file and its header"
            )
        return replace(kind, columns=columns)

    @property
    def modelled(self) -> list[Column]:
        """The columns that take part; the others are constant."""
        return [c for c in self.columns if not isinstance(c, Constant)]

    @property
    def feature_names(self) -> list[str]:
        """The likelihood's features in order: columns, and column=level for each level of a category."""
        found = []
        for i, _ in _feature_order(self.modelled):
            column = self.modelled[i]
            levels = (*column.levels, "<other>") if isinstance(column, Categorical) else ()
            found += [f"{column.label}={level}" for level in levels] or [str(column.label)]
        return found

    def to_batch(self, raw: Any) -> Batch:
        frame = self._matched(as_frame(raw))
        numbers, masks, unseen = [], [], []
        for i, column in enumerate(self.columns):
            cells = column.encode(frame.iloc[:, i])
            if cells.unseen:
                share = "all " if cells.unseen == len(frame) else ""
                unseen.append(f"{column.label!r} ({share}{cells.unseen:,} of {len(frame):,})")
            if not isinstance(column, Constant):
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
        at = iter(range(cells.shape[1]))
        nothing = np.zeros(len(cells))
        series = [c.decode(nothing if isinstance(c, Constant) else cells[:, next(at)]) for c in self.columns]
        frame = pd.concat(series, axis=1)
        frame.columns = pd.Index([c.label for c in self.columns])
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
        size = (len(owner) + len(columns),)
        body, width = nets.encoder(size)
        encoder = _Encoder(likelihood, owner, len(columns), body)
        return Built(encoder, width, nets.decoder(dim, likelihood.out_shape), likelihood, size)

    def condition(self) -> Condition:
        """This table as what is given to a model of something else."""
        columns = self.modelled
        return Condition(self._likelihood(columns), self._owner(columns), len(columns))

    @staticmethod
    def _owner(columns: list[Column]) -> Tensor:
        """Of each feature, the column that it belongs to."""
        return torch.tensor([i for i, size in _feature_order(columns) for _ in range(size)])

    @property
    def nets(self) -> Nets:
        return Mlp()

    @property
    def room(self) -> int:
        # Half as many dimensions as columns: with as many, nothing would have to be learned.
        return max(1, min(len(self.modelled), max(2, len(self.modelled) // 2)))

    @property
    def summary(self) -> list[str]:
        return [f"{c.label}: {c.summary}" + (f", {c.missing:.1%} missing" if c.missing else "") for c in self.columns]

    def cell_name(self, index: int) -> str:
        return f"column {self.modelled[index].label!r}"

    def log_volume(self, batch: Batch) -> Tensor:
        cells = batch.x.numpy().astype(np.float64)
        volume = np.stack([c.log_volume(cells[:, i]) for i, c in enumerate(self.modelled)], 1)
        if batch.observed is not None:
            volume = volume * batch.observed.numpy()
        return torch.from_numpy(volume.sum(1))

    def _likelihood(self, columns: list[Column]) -> Likelihood:
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


def as_frame(raw: Any) -> pd.DataFrame:
    """Table-like data in memory as a pandas frame. Raises DataError for what is not one."""
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


def _array(raw: Any) -> np.ndarray:
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


def _feature_order(columns: list[Column]) -> list[tuple[int, int]]:
    """(column, number of its features) in the order of the likelihood's features."""
    numeric, binary, levels = _groups(columns)
    return [(i, 1) for i in numeric + binary] + [(i, columns[i].size) for i in levels]  # type: ignore[attr-defined]


def _label(column: Any) -> Any:
    """A column's name as JSON can hold it."""
    if isinstance(column, (bool, np.bool_)):
        return str(column)
    return int(column) if isinstance(column, (int, np.integer)) else str(column)


def _few(labels: list[Any]) -> str:
    shown = ", ".join(repr(c) for c in labels[:6])
    return shown + (f" and {len(labels) - 6} more" if len(labels) > 6 else "")
