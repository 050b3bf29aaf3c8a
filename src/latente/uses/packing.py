"""Data as columns of numbers, pictures, and the rest; and back, as they came."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..errors import DataError
from ..kinds.pictures import Pictures

# A column of so few different words, of so many letters together, is numbered.
WORDS, LETTERS = 4_096, 1 << 18


@dataclass(frozen=True, eq=False)
class Block:
    """Some rows, from row `first` on. numbers: the numeric columns, each [rows]; pixels: uint8 [rows, h, w, c] or None;
    other: what is neither, as an Arrow batch, or None; news: of columns of words those that the layout does not have.
    """

    rows: int
    numbers: list[np.ndarray] = field(default_factory=list)
    pixels: np.ndarray | None = None
    other: Any = None
    first: int = 0
    news: dict[str, list[str]] = field(default_factory=dict)

    def part(self, start: int, stop: int) -> "Block":
        """Its rows start … stop − 1."""
        stop = min(stop, self.rows)
        return Block(
            stop - start,
            [n[start:stop] for n in self.numbers],
            None if self.pixels is None else self.pixels[start:stop],
            None if self.other is None else self.other.slice(start, stop - start),
            self.first + start,
            self.news,
        )


@dataclass(frozen=True)
class Layout:
    """What data are beside their values. form: "frame", "array", "pictures" or "pixels" (an array of pictures);
    numbers: name and type of each column of numbers, truths or times, and of words, which are numbered; words: of those
    the words 1, 2, …, where 0 is none; order: the names of all columns of a frame; inner: of an array the shape of what
    the first axis counts, in `flat` of which rows of numbers go on into the next; frame: the library; schema: Arrow's,
    of the columns of a frame that are no numbers; categories: of those that have any, theirs in order.
    """

    form: str
    numbers: tuple[tuple[str, str], ...] = ()
    order: tuple[str, ...] = ()
    inner: tuple[int, ...] = ()
    flat: bool = False
    frame: str = "pandas"
    words: tuple[tuple[str, tuple[str, ...]], ...] = ()
    schema: bytes = b""
    categories: tuple[tuple[str, tuple[str, ...]], ...] = ()

    @property
    def names(self) -> list[str]:
        """Of the numeric columns."""
        return [name for name, _ in self.numbers]

    def to_json(self) -> dict[str, Any]:
        """For the header of a stream."""
        return {
            "form": self.form,
            "numbers": [list(n) for n in self.numbers],
            "order": list(self.order),
            "inner": list(self.inner),
            "flat": self.flat,
            "frame": self.frame,
            "words": [[name, list(words)] for name, words in self.words],
            "schema": base64.b64encode(self.schema).decode(),
            "categories": [[name, list(words)] for name, words in self.categories],
        }

    @staticmethod
    def from_json(document: dict[str, Any]) -> "Layout":
        """Raises ValueError, TypeError or LookupError for what `to_json` does not give."""
        numbers = tuple((str(name), np.dtype(str(dtype)).name) for name, dtype in document["numbers"])
        if any(np.dtype(d).kind not in "iufmMb" or np.dtype(d).itemsize > 8 for _, d in numbers):
            raise ValueError("a column of numbers is of no such type")
        inner = tuple(int(i) for i in document["inner"])
        if document["form"] not in ("frame", "array", "pictures", "pixels") or not all(0 < i < 1 << 32 for i in inner):
            raise ValueError("there are no data of such a form")
        made = Layout(
            document["form"],
            numbers,
            tuple(map(str, document["order"])),
            inner,
            bool(document["flat"]),
            str(document["frame"]),
            _words_of(document["words"]),
            base64.b64decode(document["schema"], validate=True),
            _words_of(document["categories"]),
        )
        if made.form == "frame" and not set(made.names) <= set(made.order):
            raise ValueError("a column of numbers is none of the table's")
        if any(dict(numbers).get(name) != "int32" for name, _ in made.words):
            raise ValueError("a column of words has no numbers")
        if made.form in ("pictures", "pixels") and (
            len(inner) not in (2, 3) or (len(inner) == 3 and inner[2] not in (1, 3))
        ):
            raise ValueError("pictures have no such shape")
        return made

    def row_bytes(self) -> int:
        """Bytes of the numbers and pixels of a row."""
        pixels = int(np.prod(self.inner)) if self.form in ("pictures", "pixels") else 0
        return pixels + sum(np.dtype(d).itemsize for _, d in self.numbers)

    # ── data -> blocks ──────────────────────────────────────────────────────────────────────────────────────────

    @staticmethod
    def of(raw: Any, flat: bool = False, known: dict[str, list[str]] | None = None) -> "Layout":
        """The layout of data. flat: an array [n, time, channels] is rows of channels. known: words of some columns,
        which are then 1, 2, …; others are numbered as they come. Raises DataError for data that have no layout.
        """
        if isinstance(raw, Pictures):
            return Layout("pictures", inner=tuple(raw.pixels.shape[1:]))
        if hasattr(raw, "columns") or hasattr(raw, "column_names"):
            return _frame_layout(raw, known or {})
        array = np.asarray(raw)
        if array.dtype == np.uint8 and array.ndim in (3, 4) and not flat:
            return Layout("pixels", inner=tuple(array.shape[1:]))
        if array.dtype.kind not in "iufb" or array.dtype.itemsize > 8 or array.ndim < 1:
            raise DataError(f"an array of type {array.dtype} and shape {array.shape} cannot be compressed")
        width = array.shape[-1] if flat and array.ndim > 1 else int(np.prod(array.shape[1:]))
        numbers = tuple((f"c{i}", array.dtype.name) for i in range(width))
        return Layout("array", numbers, inner=tuple(array.shape[1:]), flat=flat)

    def block(self, raw: Any) -> Block:
        """Data of this layout. Raises DataError if they are of another."""
        if self.form == "pictures":
            if not isinstance(raw, Pictures) or raw.pixels.shape[1:] != self.inner:
                raise DataError("a later part of the pictures is of another size", hint="give all pictures one size")
            return Block(len(raw), pixels=raw.pixels, other=_beside(raw))
        if self.form == "frame":
            return self._of_frame(raw)
        array = np.ascontiguousarray(raw)
        if array.shape[1:] != self.inner:
            raise DataError(f"a later part of the array has rows of shape {array.shape[1:]}, and not {self.inner}")
        if self.form == "pixels":
            return Block(len(array), pixels=array if array.ndim == 4 else array[..., None])
        table = array.view(np.uint8) if array.dtype.kind == "b" else array
        table = table.reshape(-1, len(self.numbers)) if len(self.numbers) else table.reshape(len(table), 0)
        return Block(len(table), list(np.ascontiguousarray(table.T)))

    def _of_frame(self, raw: Any) -> Block:
        import pyarrow as pa

        table = _arrow(raw)
        if tuple(table.column_names) != self.order:
            raise DataError(
                f"a later part of the table has the columns {table.column_names[:6]}, and not {list(self.order)[:6]}"
            )
        words, numbers = dict(self.words), []
        news: dict[str, list[str]] = {}
        for name, dtype in self.numbers:
            if name in words:
                codes, more = _numbered(table.column(name), words[name])
                numbers.append(codes)
                news |= {name: more} if more else {}
                continue
            column = raw[name].to_numpy() if hasattr(raw, "columns") else table.column(name).to_numpy()
            if column.dtype.name != dtype:
                column = _as_type(np.asarray(column), dtype, name)
            numbers.append(np.ascontiguousarray(column).view(stored(dtype)))
        rest = [n for n in self.order if n not in self.names]
        other = table.select(rest).combine_chunks() if rest else None
        if other is not None:
            other = pa.RecordBatch.from_arrays(
                [c.combine_chunks() if c.num_chunks != 1 else c.chunk(0) for c in other.columns],
                schema=other.schema.remove_metadata(),
            )
        return Block(table.num_rows, numbers, other=other, news=news)

    # ── blocks -> data ──────────────────────────────────────────────────────────────────────────────────────────

    def join(self, blocks: Sequence[Block]) -> Any:
        """Data again, of blocks in their order."""
        rows = sum(b.rows for b in blocks)
        if self.form in ("pictures", "pixels"):
            pixels = np.concatenate(
                [b.pixels for b in blocks if b.pixels is not None] or [np.empty((0, *self.inner), np.uint8)]
            )
            return (
                _pictures(pixels, [b.other for b in blocks])
                if self.form == "pictures"
                else pixels.reshape(rows, *self.inner)
            )
        if self.form == "frame":
            return self._frame(blocks)
        columns = [np.concatenate(parts) for parts in zip(*(b.numbers for b in blocks), strict=True)]
        columns = [c.view(dtype) for c, (_, dtype) in zip(columns, self.numbers, strict=True)] if columns else []
        table = np.stack(columns, 1) if columns else np.empty((rows, 0))
        return table.reshape(-1, *self.inner)

    def _frame(self, blocks: Sequence[Block]) -> Any:
        import pandas as pd
        import pyarrow as pa

        words, numbers, spelled = dict(self.words), {}, {}
        for i, (name, dtype) in enumerate(self.numbers):
            parts = [b.numbers[i] for b in blocks]
            if name in words:
                found = [_spelled(p, (*words[name], *b.news.get(name, ()))) for p, b in zip(parts, blocks, strict=True)]
                spelled[name] = pa.chunked_array(found, pa.string())
            else:
                numbers[name] = (np.concatenate(parts) if parts else np.empty(0, stored(dtype))).view(dtype)
        rest = pa.table({})
        if self.schema:
            others = [b.other for b in blocks if b.other is not None]
            beside: Any = pa.Table.from_batches(others) if others else None
            schema, categories = pa.ipc.read_schema(pa.py_buffer(self.schema)), dict(self.categories)
            columns = [
                _typed(spelled[f.name], f.type, categories.get(f.name)) if f.name in spelled else beside.column(f.name)
                for f in schema
            ]
            rest = pa.Table.from_arrays(columns, schema=schema)
        if self.frame == "pyarrow":
            return pa.table({n: numbers[n] if n in numbers else rest.column(n) for n in self.order})
        table = rest.to_pandas()
        frame = pd.DataFrame({n: numbers[n] if n in numbers else table[n] for n in self.order})
        if self.frame == "polars":
            import polars

            return polars.from_pandas(frame)
        return frame

    def words_in(self, block: Block) -> dict[str, np.ndarray]:
        """The words of a block's columns of words, None where there is none. object [rows] each"""
        found = {}
        for i, (name, _) in enumerate(self.numbers):
            if name in dict(self.words):
                all_words = (*dict(self.words)[name], *block.news.get(name, ()))
                found[name] = np.array([None, *all_words], object)[block.numbers[i]]
        return found


def stored(dtype: str) -> str:
    """The type that numbers of a column are coded in."""
    return {"m": "int64", "M": "int64", "b": "uint8"}.get(np.dtype(dtype).kind, dtype)


def _frame_layout(raw: Any, known: dict[str, list[str]]) -> Layout:
    import pyarrow.compute as pc

    library = type(raw).__module__.split(".")[0]
    order = tuple(
        str(c) for c in (raw.columns if hasattr(raw, "columns") and library != "pyarrow" else raw.column_names)
    )
    if len(set(order)) < len(order):
        raise DataError("column names occur more than once", hint="rename them: columns are told apart by name")
    table = _arrow(raw)
    numbers, words, categories, rest = [], [], [], []
    for i, name in enumerate(order):
        column = raw.iloc[:, i] if library == "pandas" else raw[name]
        found = _plain(column, library)
        if found is not None:
            numbers.append((name, found))
            continue
        rest.append(name)
        if not _is_words(table.column(name).type):
            continue
        if hasattr(table.column(name).type, "ordered"):
            chunk = table.column(name).combine_chunks()
            categories.append((name, tuple(chunk.dictionary.to_pylist() if hasattr(chunk, "dictionary") else ())))
        there = _strings(table.column(name)).drop_null()
        distinct = pc.unique(there)
        few = len(distinct) <= WORDS and len(distinct) * 2 <= max(len(there), 2)
        if name in known or (few and sum(map(len, distinct.to_pylist())) <= LETTERS):
            more = [w for w in distinct.to_pylist() if w not in set(known.get(name, ()))]
            words.append((name, (*known.get(name, ()), *(more if few else ()))))
            numbers.append((name, "int32"))
    schema = _schema(table.select(rest), raw).serialize().to_pybytes() if rest else b""
    return Layout("frame", tuple(numbers), order, (), False, library, tuple(words), schema, tuple(categories))


def _schema(table: Any, raw: Any) -> Any:
    """The schema of columns; without what pandas says of them, where they come back as they were without it."""
    plain = table.schema.remove_metadata()
    types = plain.empty_table().to_pandas().dtypes
    same = not hasattr(raw, "iloc") or all(str(types[n]) == str(d) for n, d in raw.dtypes.items() if n in types)
    return plain if same else table.schema


def _is_words(kind: Any) -> bool:
    """Whether an Arrow type is one of strings."""
    import pyarrow as pa

    inner = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(pa.types.is_string(inner) or pa.types.is_large_string(inner))


def _strings(column: Any) -> Any:
    """A column of words, in whatever type, as one Arrow array of strings."""
    import pyarrow as pa

    whole = column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)
    return whole.cast(pa.string())


def _numbered(column: Any, words: tuple[str, ...]) -> tuple[np.ndarray, list[str]]:
    """Words as their numbers int32 [rows], 0 for none; and words that had no number, which go on counting."""
    import pyarrow as pa
    import pyarrow.compute as pc

    strings = _strings(column)
    more = [w for w in pc.unique(strings).to_pylist() if w is not None and w not in set(words)]
    found = pc.index_in(strings, value_set=pa.array([*words, *more], pa.string()))
    return found.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int32) + 1, more


def _spelled(codes: np.ndarray, words: tuple[str, ...]) -> Any:
    """Numbers as their words. Raises DataError for numbers of none."""
    import pyarrow as pa

    if len(codes) and not 0 <= codes.min() <= codes.max() <= len(words):
        raise DataError("a word of it has no number")
    return pa.array(words, pa.string()).take(pa.array(codes.astype(np.int64) - 1, mask=codes == 0))


def _typed(column: Any, kind: Any, categories: tuple[str, ...] | None) -> Any:
    """Strings in a column's own type."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if not pa.types.is_dictionary(kind):
        return column.cast(kind)
    values = pa.array(categories or (), pa.string())
    index = pc.index_in(column, value_set=values).cast(kind.index_type)
    inner = values.cast(kind.value_type)
    parts = [pa.DictionaryArray.from_arrays(c, inner, ordered=kind.ordered) for c in index.chunks]
    return pa.chunked_array(parts, kind)


def _words_of(entries: Any) -> tuple[tuple[str, tuple[str, ...]], ...]:
    return tuple((str(name), tuple(map(str, words))) for name, words in entries)


def _plain(column: Any, library: str) -> str | None:
    """The numpy type of a column of plain numbers; None if it is none, or has places without one."""
    if library == "pandas":
        dtype = column.dtype
        plain = isinstance(dtype, np.dtype) and dtype.kind in "iufmMb" and dtype.itemsize <= 8
        return dtype.name if plain else None
    array = column.to_arrow() if library == "polars" else column
    if array.null_count:
        return None
    try:
        dtype = np.dtype(array.type.to_pandas_dtype())
    except (NotImplementedError, TypeError):
        return None
    return dtype.name if dtype.kind in "iuf" and dtype.itemsize <= 8 else None


def _as_type(column: np.ndarray, dtype: str, name: str) -> np.ndarray:
    """A later part's column in the first part's type. Raises DataError where that would change a value."""
    if column.dtype.kind in "mM" and column.dtype.kind == np.dtype(dtype).kind:
        made = column.astype(dtype)
        if (made.astype(column.dtype).view(np.int64) == column.view(np.int64)).all():
            return made
    elif column.dtype.kind in "iufb":
        with np.errstate(all="ignore"):
            made = column.astype(dtype)
            back = made.astype(column.dtype)
        gone = np.isnan(column) & np.isnan(made) if column.dtype.kind == "f" and made.dtype.kind == "f" else False
        if ((back == column) | gone).all():
            return made
    raise DataError(
        f"column {name!r} is of type {dtype} in the first rows and {column.dtype} in later ones",
        hint="write the table as .parquet, which has one type for each column",
    )


def _arrow(raw: Any) -> Any:
    import pyarrow as pa

    library = type(raw).__module__.split(".")[0]
    if library == "pyarrow":
        return raw if isinstance(raw, pa.Table) else pa.Table.from_batches([raw])
    if library == "polars":
        return raw.to_arrow()
    named = raw.set_axis([str(c) for c in raw.columns], axis=1)
    try:
        return pa.Table.from_pandas(named, preserve_index=False)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError) as error:
        raise DataError(
            f"a column cannot be written: {' '.join(str(error).split())[:200]}", hint="make each column of one type"
        ) from None


def _beside(pictures: Pictures) -> Any:
    """Names, labels and masks of pictures as an Arrow batch."""
    import pyarrow as pa

    found = {"name": pa.array(list(pictures.names), pa.string())}
    if pictures.labels is not None:
        found["label"] = pa.array(pictures.labels)
    if pictures.observed is not None:
        found["observed"] = pa.array(
            [row.tobytes() for row in np.packbits(pictures.observed.reshape(len(pictures), -1), 1)]
        )
    return pa.RecordBatch.from_pydict(found)


def _pictures(pixels: np.ndarray, others: list[Any]) -> Pictures:
    import pyarrow as pa

    table = pa.Table.from_batches(others)
    labels = observed = None
    if "label" in table.column_names:
        labels = table.column("label").to_numpy()
        labels = labels.astype(str) if labels.dtype.kind == "O" else labels
    if "observed" in table.column_names:
        n, h, w, _ = pixels.shape
        rows = [np.frombuffer(r, np.uint8) for r in table.column("observed").to_pylist()]
        observed = np.unpackbits(np.stack(rows), axis=1)[:, : h * w].reshape(n, h, w).astype(bool)
    return Pictures(pixels, observed, labels, tuple(table.column("name").to_pylist()))


def batch_bytes(batch: Any) -> bytes:
    """An Arrow batch as bytes, its schema with it."""
    import pyarrow as pa

    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return sink.getvalue()


def batch_of(data: bytes | memoryview) -> Any:
    """What `batch_bytes` wrote. Raises DataError for other bytes."""
    import pyarrow as pa

    try:
        with pa.ipc.open_stream(pa.py_buffer(data)) as reader:
            batch = reader.read_next_batch()
        batch.validate(full=True)
    except (pa.ArrowInvalid, OSError, StopIteration, pa.ArrowNotImplementedError, KeyError) as error:
        raise DataError(f"its columns that are no numbers are damaged: {' '.join(str(error).split())[:100]}") from None
    return batch
