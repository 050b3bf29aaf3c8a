"""Counts in an .h5ad file as a source of blocks: rows of a matrix that need not fit in memory."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..errors import ConfigError, DataError
from .counted import Counted
from .hdf5 import member, opened, require_sound
from .hdf5_frames import frame
from .matrices import Compressed
from .reading_anndata import layers_of, named, of_layer
from .reading_bytes import Note
from .reading_columns import listing
from .sources import Source, even, fingerprint, rows_per_block

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class CountsSource(Source):
    """The rows of a matrix of an .h5ad file. What is known of each row, and the names, are held in memory."""

    path: Path
    part: str  # of the file
    names: tuple[str, ...]
    about: "pd.DataFrame"
    most: int  # rows of a block
    kind: str = "counts"

    @property
    def name(self) -> str:
        return self.path.name

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        return even(len(self.about), self.most)

    @cached_property
    def fingerprint(self) -> str:
        return fingerprint(self.path, [self.path], self.part, list(self.about.columns))

    def _read(self, block: int) -> Counted:
        start = sum(self.sizes[:block])
        rows = slice(start, start + self.sizes[block])
        with opened(self.path) as file:
            _, matrix = of_layer(layers_of(file, self.name), self.part, self.name, lambda _: None)
            if matrix.shape[0] != len(self.about) or (self.names and matrix.shape[1] != len(self.names)):
                raise DataError(f"{self.name} has changed while it was read", hint="leave it alone during a run")
            counts = matrix.rows(rows.start, rows.stop)
        return Counted(counts, self.names, self.about.iloc[rows], self.part)

    def without(self, columns: Sequence[str]) -> Source:
        for column in columns:
            self._require(column)
        return replace(self, about=self.about.drop(columns=list(columns)))

    def take(self, column: str) -> Iterator[np.ndarray]:
        self._require(column)
        start = 0
        for size in self.sizes:
            yield self.about[column].iloc[start : start + size].to_numpy()
            start += size

    def _require(self, column: str) -> None:
        if column not in self.about.columns:
            there = listing([str(name) for name in self.about.columns]) or "nothing"
            raise ConfigError(f"{self.name} has no column {column!r} in obs", hint=f"obs holds: {there}")


def open_counts(path: Path, layer: str, note: Note) -> CountsSource:
    """A matrix of an .h5ad file in blocks of rows: `layer`, or the first that holds counts.

    Raises as `read_counts` does, and DataError for a matrix that is stored by columns (CSC).
    """
    require_sound(path)
    with opened(path) as file:
        chosen, matrix = of_layer(layers_of(file, path.name), layer, path.name, note)
        if isinstance(matrix, Compressed) and matrix.by_columns:
            raise DataError(
                f"{path.name}: {chosen.part} is stored by columns (CSC), and rows in it cannot be read alone",
                hint="save it by rows: adata.X = adata.X.tocsr(); or read it whole: --stream no",
            )
        rows, columns = matrix.shape
        if not rows or not columns:
            raise DataError(f"{path.name} holds {rows:,} rows and {columns:,} columns", hint="give at least one row")
        about = frame(member(file, "obs"), rows, note)
        names = named(chosen.names(), columns, note)
        most = rows_per_block(matrix.stored_bytes() / rows)
        if matrix.piece:
            most = (
                max(1, most // matrix.piece) * matrix.piece
            )  # a packed piece is unpacked whole: no two blocks share one
        return CountsSource(path, chosen.part, names, about, most)


def footprint(path: Path) -> int:
    """About how many bytes it takes to read the largest matrix of an .h5ad file whole."""
    require_sound(path)
    with opened(path) as file:
        # The parts of a matrix and what they become are in memory together.
        return 2 * max(layer.matrix().held_bytes() for layer in layers_of(file, path.name))
