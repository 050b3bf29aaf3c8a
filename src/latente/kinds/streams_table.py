"""A table in one file, or in the files of a folder, as a source of blocks."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np

from ..errors import ConfigError, DataError
from .reading_bytes import Note
from .reading_columns import FORMS, frame, listing
from .sources import Source, fingerprint
from .streams_arrow import ArrowPart, ParquetPart, damaged, merged
from .streams_csv import CsvPart

if TYPE_CHECKING:
    import pandas as pd


_REMARKS = 8  # that are passed on: a folder may have thousands of files


class Part(Protocol):
    """One file of a table."""

    path: Path
    sizes: tuple[int, ...]
    names: tuple[str, ...]
    types: dict[str, Any]  # by name: Arrow's types, or the forms that all cells of a text column have
    gaps: frozenset[str]
    levels: dict[str, Any]

    def columns(self, block: int, types: dict[str, Any]) -> list[Any]: ...


@dataclass(frozen=True)
class TableSource(Source):
    """A table in files of the same columns."""

    root: Path
    parts: tuple[Part, ...]
    types: dict[str, Any]
    gaps: frozenset[str]
    levels: dict[str, Any]

    kind = "table"

    @property
    def name(self) -> str:
        return self.root.name

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        return tuple(rows for part in self.parts for rows in part.sizes)

    @cached_property
    def fingerprint(self) -> str:
        files = [part.path for part in self.parts]
        types = [(name, str(kind), name in self.gaps) for name, kind in self.types.items()]
        return fingerprint(self.root, files, self.sizes, types)

    def arrow(self, block: int) -> list[Any]:
        """The columns of a block, as Arrow's arrays."""
        at = block
        for part in self.parts:
            if at < len(part.sizes):
                return part.columns(at, self.types)
            at -= len(part.sizes)
        raise IndexError(block)

    def frame(self, columns: list[Any], note: Note) -> "pd.DataFrame":
        """Columns in the types that they have over all blocks."""
        return frame(list(self.types), columns, note, self.gaps, self.levels)

    def _read(self, block: int) -> "pd.DataFrame":
        return self.frame(self.arrow(block), _silent)

    def without(self, columns: Sequence[str]) -> "TableSource":
        for column in columns:
            self._require(column)
        kept = {name: kind for name, kind in self.types.items() if name not in columns}
        if not kept:
            raise ConfigError(f"no column of {self.name} would be left", hint="keep at least one")
        return replace(self, types=kept)

    def take(self, column: str) -> Iterator[np.ndarray]:
        self._require(column)
        alone = replace(self, types={column: self.types[column]})
        return (np.asarray(alone.read(block)[column]) for block in range(len(self.sizes)))

    def _require(self, column: str) -> None:
        if column not in self.types:
            raise ConfigError(
                f"there is no column {column!r} to leave out", hint=f"columns: {listing(list(self.types))}"
            )


def open_table(
    root: Path,
    files: Sequence[Path],
    form: Literal["csv", "parquet", "arrow"],
    *,
    header: str,
    delimiter: str | None,
    missing: tuple[str, ...],
    note: Note,
) -> TableSource:
    """The table in some files of one form. Raises DataError, with the first odd file and column, if they differ."""
    parts: list[Part] = []
    remarks: list[str] = []
    for file in files:
        if form == "csv":
            parts.append(CsvPart(file, header, delimiter, missing, remarks.append))
        else:
            parts.append(ParquetPart(file) if form == "parquet" else ArrowPart(file))
        _same_names(parts[0], parts[-1])
    for remark in remarks[:_REMARKS]:
        note(remark)
    if len(remarks) > _REMARKS:
        note(f"and {len(remarks) - _REMARKS:,} more remarks on the files in {root.name}")
    types = {}
    for name in parts[0].names:
        if form == "csv":
            shared = frozenset.intersection(*(part.types[name] for part in parts))
            types[name] = next(form for form in FORMS if form in shared)
        else:
            types[name] = _shared_type(name, parts)
    levels = {
        name: merged([part.levels.get(name) for part in parts])
        for name in types
        if any(name in part.levels for part in parts)
    }
    source = TableSource(root, tuple(parts), types, frozenset().union(*(part.gaps for part in parts)), levels)
    # What a table cannot hold, and what a reader should know, is the same in every block.
    with damaged(root.name, form):
        source.frame([column.slice(0, 0) for column in source.arrow(0)], note)
    return source


def gathered(source: TableSource) -> "pd.DataFrame":
    """All blocks of a table in memory."""
    import pyarrow as pa

    blocks = [source.arrow(block) for block in range(len(source.sizes))]
    columns = [
        pa.chunked_array([c for column in whole for c in _chunks(column)]) for whole in zip(*blocks, strict=True)
    ]
    return source.frame(columns, _silent)


def _chunks(column: Any) -> list[Any]:
    return list(column.chunks) if hasattr(column, "chunks") else [column]


def _same_names(first: Part, other: Part) -> None:
    absent = [name for name in first.names if name not in other.names]
    extra = [name for name in other.names if name not in first.names]
    if absent or extra:
        what = f"has no column {absent[0]!r}" if absent else f"has a column {extra[0]!r}"
        where = "is" if absent else "is not"
        raise DataError(
            f"{other.path.name} {what}, which {where} in {first.path.name}",
            hint="keep only files with the same columns in the folder",
        )


def _shared_type(name: str, parts: Sequence[Part]) -> Any:
    """The Arrow type that holds a column of every file."""
    import pyarrow as pa

    found = parts[0].types[name]
    for part in parts[1:]:
        if (kind := part.types[name]) == found:
            continue
        try:
            both = [pa.schema([(name, found)]), pa.schema([(name, kind)])]
            found = pa.unify_schemas(both, promote_options="permissive").field(0).type
        except pa.ArrowException as error:
            raise DataError(
                f"{part.path.name}: column {name!r} is of type {kind}, and of {found} in {parts[0].path.name}",
                hint="write the files again with the same types",
            ) from error
    return found


def _silent(remark: str) -> None:
    """What a block repeats was said when the source was opened."""
