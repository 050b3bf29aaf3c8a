"""Parquet and Arrow files in blocks."""

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ..errors import DataError, LatenteError
from .reading_columns import listing, may_be_nullable
from .sources import BLOCK_BYTES, MOST_ROWS, even, rows_per_block

_LARGEST = 64 << 20  # bytes of a row group, decoded, beyond which it is read in parts


@contextlib.contextmanager
def damaged(name: str, form: str) -> Iterator[None]:
    """Whatever Arrow says of broken bytes, as a DataError."""
    try:
        yield
    except (LatenteError, MemoryError, PermissionError, FileNotFoundError):
        raise
    except Exception as error:  # Arrow's own errors, OSError, and UnicodeDecodeError for column names
        reason = " ".join(str(error).split())[:200]
        raise DataError(f"{name} is damaged, or no {form} file: {reason}", hint="write it again") from error


def column_names(names: Sequence[str], rows: int, file: str) -> list[str]:
    """The columns of a columnar file but for an index that pandas left without a name. Raises DataError for none."""
    names = [name for name in names if not name.startswith("__index_level_")]
    twice = sorted({name for name in names if names.count(name) > 1}) if len(set(names)) < len(names) else []
    if twice:
        raise DataError(f"{file} has more than one column called {listing(twice)}", hint="rename them")
    if not names or not rows:
        raise DataError(f"{file} has {rows:,} rows of {len(names):,} columns", hint="give some data")
    return names


class ColumnarPart(ABC):
    """A file of typed columns. `types` are Arrow's, `gaps` the whole numbers and booleans that miss cells somewhere,
    `levels` the values of dictionary columns."""

    form = "arrow"
    sizes: tuple[int, ...]

    def __init__(self, path: Path) -> None:
        self.path = path
        with damaged(path.name, self.form):
            schema, rows = self._open()
            self.names = tuple(column_names(schema.names, rows, path.name))
            self.types: dict[str, Any] = {name: schema.field(name).type for name in self.names}
            self.gaps, self.levels = self._look()

    @abstractmethod
    def _open(self) -> tuple[Any, int]:
        """The schema and the number of rows; sets `sizes`."""

    @abstractmethod
    def _table(self, block: int, names: list[str]) -> Any: ...

    def _look(self) -> tuple[frozenset[str], dict[str, Any]]:
        """`gaps` and `levels`."""
        import pyarrow as pa

        asked = [name for name, kind in self.types.items() if may_be_nullable(kind) or pa.types.is_dictionary(kind)]
        return self._scan(asked)

    def _scan(self, asked: list[str]) -> tuple[frozenset[str], dict[str, Any]]:
        """`gaps` and `levels` of some columns, by a pass over them."""
        import pyarrow as pa

        gaps: set[str] = set()
        levels: dict[str, Any] = {}
        for block in range(len(self.sizes)) if asked else ():
            table = self._table(block, asked)
            table.validate(full=True)  # offsets that point outside would crash, not raise
            for name in asked:
                column = table.column(name)
                if pa.types.is_dictionary(column.type):
                    levels[name] = merged([levels.get(name), *(chunk.dictionary for chunk in column.chunks)])
                elif column.null_count:
                    gaps.add(name)
        return frozenset(gaps), levels

    def columns(self, block: int, types: dict[str, Any]) -> list[Any]:
        """The wanted columns of a block, of the given types."""
        import pyarrow as pa

        with damaged(f"{self.path.name}, block {block:,} of {len(self.sizes):,}", self.form):
            table = self._table(block, list(types))
            table.validate(full=True)
            if table.num_rows != self.sizes[block]:
                raise DataError(
                    f"{self.path.name}, block {block:,}: {table.num_rows:,} rows instead of {self.sizes[block]:,}",
                    hint="the file has changed since it was opened: open it again",
                )
            columns = []
            for name, kind in types.items():
                column = table.column(name)
                # Dictionaries are brought together later, value by value.
                fits = column.type == kind or pa.types.is_dictionary(kind)
                columns.append(column if fits else column.cast(kind, safe=False))
            return columns


def merged(levels: Sequence[Any]) -> Any:
    """The values of dictionaries, each once, in the order in which they first occur."""
    import pyarrow as pa

    known = [values for values in levels if values is not None]
    if len(known) == 1 or all(values.equals(known[0]) for values in known):
        return known[0]
    kind = known[0].type
    return pa.concat_arrays([values.cast(kind) for values in known]).unique()


class ParquetPart(ColumnarPart):
    """Row groups: small ones together, very large ones in parts."""

    form = "parquet"

    def _open(self) -> tuple[Any, int]:
        from pyarrow import parquet

        self._about = about = parquet.read_metadata(self.path)
        schema = about.schema.to_arrow_schema()
        # (row groups, rows before the block in the first of them, rows)
        self._blocks: list[tuple[list[int], int, int]] = []
        groups: list[int] = []
        rows = size = 0

        def close() -> None:
            nonlocal groups, rows, size
            if groups:
                self._blocks.append((groups, 0, rows))
            groups, rows, size = [], 0, 0

        for group in range(about.num_row_groups):
            number, decoded = self._decoded(group)
            if rows and (size + decoded > BLOCK_BYTES or rows + number > MOST_ROWS):
                close()
            if decoded > _LARGEST and number > 1:
                at = 0
                for part in even(number, rows_per_block(decoded / number)):
                    self._blocks.append(([group], at, part))
                    at += part
            elif number:
                groups, rows, size = [*groups, group], rows + number, size + decoded
        close()
        self.sizes = tuple(rows for _, _, rows in self._blocks)
        return schema, about.num_rows

    def _decoded(self, group: int) -> tuple[int, int]:
        """Rows of a group and, as far as its summary tells, the bytes that they take in memory."""
        about = self._about.row_group(group)
        return about.num_rows, max(about.total_byte_size, about.num_rows * about.num_columns * 8)

    def _look(self) -> tuple[frozenset[str], dict[str, Any]]:
        """What the file's statistics tell is not looked up in its columns."""
        import pyarrow as pa

        leaves = {self._about.schema.column(i).path: i for i in range(self._about.num_columns)}
        asked, gaps = [], set()
        for name, kind in self.types.items():
            if may_be_nullable(kind) and name in leaves:
                counts = list(self._null_counts(leaves[name]))
                if any(counts):
                    gaps.add(name)
                elif None in counts:
                    asked.append(name)
            elif pa.types.is_dictionary(kind):
                asked.append(name)
        found, levels = self._scan(asked)
        return found | gaps, levels

    def _null_counts(self, leaf: int) -> Iterator[int | None]:
        for group in range(self._about.num_row_groups):
            statistics = self._about.row_group(group).column(leaf).statistics
            yield statistics.null_count if statistics is not None and statistics.has_null_count else None

    def _table(self, block: int, names: list[str]) -> Any:
        import pyarrow as pa
        from pyarrow import parquet

        groups, skipped, rows = self._blocks[block]
        with parquet.ParquetFile(self.path, metadata=self._about) as file:
            if not skipped and rows == sum(self._about.row_group(group).num_rows for group in groups):
                return file.read_row_groups(groups, columns=names)
            # A part of a large row group: what stands before it is decoded and dropped, piece by piece.
            pieces, at = [], 0
            for piece in file.iter_batches(min(rows, MOST_ROWS), row_groups=groups, columns=names):
                begin, end = max(skipped - at, 0), min(skipped + rows - at, len(piece))
                if begin < end:
                    pieces.append(piece.slice(begin, end - begin))
                at += len(piece)
                if at >= skipped + rows:
                    break
            return pa.Table.from_batches(pieces)


class ArrowPart(ColumnarPart):
    """Record batches of an Arrow file or stream, memory-mapped; small ones together."""

    def _open(self) -> tuple[Any, int]:
        import pyarrow as pa
        from pyarrow import ipc

        self._stream: _Stream | None = None
        with pa.memory_map(str(self.path)) as file:
            try:
                reader = ipc.open_file(file)
            except pa.ArrowInvalid:  # Arrow's other layout, the stream
                self._stream = _Stream(self.path)
                schema, sizes = self._stream.schema, self._stream.sizes
            else:
                schema = reader.schema
                # One cheap column is enough to count rows: packed batches are unpacked for it.
                thin = ipc.open_file(file, options=ipc.IpcReadOptions(included_fields=[0]))
                sizes = [thin.get_batch(i).num_rows for i in range(reader.num_record_batches)]
        row_bytes = self.path.stat().st_size / max(1, sum(sizes))
        most = rows_per_block(max(row_bytes, 8 * len(schema)))
        blocks: list[tuple[int, int, int]] = []  # first batch, batches; rows
        for batch, rows in enumerate(sizes):
            if blocks and blocks[-1][2] + rows <= most:
                blocks[-1] = (blocks[-1][0], batch + 1, blocks[-1][2] + rows)
            else:
                blocks.append((batch, batch + 1, rows))
        # A batch is cut without a copy, so a large one makes several blocks.
        self._blocks = []
        for first, end, rows in blocks:
            at = 0
            for part in even(rows, most):
                self._blocks.append((first, end, at, part))
                at += part
        self.sizes = tuple(part for _, _, _, part in self._blocks)
        return schema, sum(sizes)

    def _table(self, block: int, names: list[str]) -> Any:
        import pyarrow as pa
        from pyarrow import ipc

        first, end, skipped, rows = self._blocks[block]
        with pa.memory_map(str(self.path)) as file:
            if self._stream is not None:
                table = self._stream.table(file, first, end).select(names)
            else:
                wanted = [i for i, name in enumerate(ipc.open_file(file).schema.names) if name in set(names)]
                reader = ipc.open_file(file, options=ipc.IpcReadOptions(included_fields=wanted))
                table = pa.Table.from_batches([reader.get_batch(i) for i in range(first, end)]).select(names)
            return table.slice(skipped, rows)


class _Stream:
    """Where the record batches of an Arrow stream stand: it has no table of contents."""

    def __init__(self, path: Path) -> None:
        import pyarrow as pa
        from pyarrow import ipc

        self._before: list[tuple[int, int]] = []  # the schema and the dictionaries
        self._spans: list[tuple[int, int, int]] = []  # start and end of a batch, and how many dictionaries precede it
        with pa.memory_map(str(path)) as file:
            self.schema = ipc.open_stream(file).schema
            file.seek(0)
            messages = ipc.MessageReader.open_stream(file)
            at = 0
            while True:
                try:
                    message = messages.read_next_message()
                except StopIteration:
                    break
                span = (at, at := file.tell())
                if message.type == "record batch":
                    self._spans.append((*span, len(self._before)))
                else:
                    self._before.append(span)
            self.sizes = [self.table(file, i, i + 1).num_rows for i in range(len(self._spans))]

    def table(self, file: Any, first: int, end: int) -> Any:
        """Batches as a table: with the schema and the dictionaries before them, their bytes are a stream too."""
        import pyarrow as pa
        from pyarrow import ipc

        tables = []
        for start, stop, dictionaries in self._spans[first:end]:
            pieces = [file.read_at(b - a, a) for a, b in [*self._before[:dictionaries], (start, stop)]]
            tables.append(ipc.open_stream(pa.py_buffer(b"".join(pieces))).read_all())
        return pa.concat_tables(tables)
