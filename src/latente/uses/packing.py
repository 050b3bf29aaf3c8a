"""Data as columns of numbers, pictures, and the rest; and back, as they came."""

import base64
import hashlib
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..errors import DataError
from ..kinds.pictures import Pictures


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
    of the columns of a frame that are no plain numbers; categories: of those that have any, theirs in order; gapped:
    columns of numbers that can be missing beside NaN; labels: names that were whole numbers.
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
    gapped: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()

    @property
    def names(self) -> list[str]:
        """Of the numeric columns."""
        return [name for name, _ in self.numbers]

    def to_json(self) -> dict[str, Any]:
        """For the header of a stream."""
        found = {
            "form": self.form,
            # An array's columns are all alike.
            "numbers": [len(self.numbers), self.numbers[0][1]]
            if self.form == "array" and self.numbers
            else [list(n) for n in self.numbers],
            "order": list(self.order),
            "inner": list(self.inner),
            "flat": self.flat,
            "frame": self.frame,
            "words": [[name, list(words)] for name, words in self.words],
            "schema": base64.b64encode(self.schema).decode(),
            "categories": [[name, list(words)] for name, words in self.categories],
            "gapped": list(self.gapped),
            "labels": list(self.labels),
        }
        said = {name: value for name, value in found.items() if value not in ([], "", False)}
        if self.form != "frame":
            del said["frame"]
        # Of an array of two axes it is the number of its columns.
        said.pop("inner", None)
        return (
            said if self.form == "array" and self.inner == (len(self.numbers),) else said | {"inner": list(self.inner)}
        )

    @staticmethod
    def from_json(document: dict[str, Any]) -> "Layout":
        """Raises ValueError, TypeError or LookupError for what `to_json` does not give."""
        said = document.get("numbers", [])
        if document["form"] == "array" and said and type(said[0]) is int:
            if not 0 < said[0] <= 1 << 24:
                raise ValueError(f"an array has no {said[0]} columns")
            said = [(f"c{i}", said[1]) for i in range(said[0])]
        numbers = tuple((str(name), np.dtype(str(dtype)).name) for name, dtype in said)
        if any(np.dtype(d).kind not in "iufmMb" or np.dtype(d).itemsize > 8 for _, d in numbers):
            raise ValueError("a column of numbers is of no such type")
        inner = tuple(int(i) for i in document.get("inner", [len(numbers)] if document["form"] == "array" else []))
        if document["form"] not in ("frame", "array", "pictures", "pixels") or not all(0 < i < 1 << 32 for i in inner):
            raise ValueError("there are no data of such a form")
        made = Layout(
            document["form"],
            numbers,
            tuple(map(str, document.get("order", []))),
            inner,
            bool(document.get("flat")),
            str(document.get("frame", "pandas")),
            _words_of(document.get("words", [])),
            base64.b64decode(document.get("schema", ""), validate=True),
            _words_of(document.get("categories", [])),
            tuple(map(str, document.get("gapped", []))),
            tuple(map(str, document.get("labels", []))),
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
        pixels = math.prod(self.inner) if self.form in ("pictures", "pixels") else 0
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
            from .frames import layout_of

            return layout_of(raw, known or {})
        array = native(np.asarray(raw))
        if array.dtype == np.uint8 and array.ndim in (3, 4) and not flat:
            return Layout("pixels", inner=tuple(array.shape[1:]))
        if array.dtype.kind not in "iufb" or array.dtype.itemsize > 8 or array.ndim < 1:
            raise DataError(f"an array of type {array.dtype} and shape {array.shape} cannot be compressed")
        width = array.shape[-1] if flat and array.ndim > 1 else int(np.prod(array.shape[1:]))
        numbers = tuple((f"c{i}", array.dtype.name) for i in range(width))
        return Layout("array", numbers, inner=tuple(array.shape[1:]), flat=flat)

    def fingerprint(self, raw: Any) -> str:
        """Of data of this layout."""
        block = self.block(raw)
        parts = [block.pixels] if block.pixels is not None else block.numbers
        found = hashlib.blake2b(digest_size=12)
        for part in parts:
            found.update(np.ascontiguousarray(part).view(np.uint8).data if part.size else b"")
        found.update(b"" if block.other is None else batch_bytes(block.other))
        return found.hexdigest()

    def block(self, raw: Any) -> Block:
        """Data of this layout. Raises DataError if they are of another."""
        if self.form == "pictures":
            if not isinstance(raw, Pictures) or raw.pixels.shape[1:] != self.inner:
                raise DataError("a later part of the pictures is of another size", hint="give all pictures one size")
            return Block(len(raw), pixels=raw.pixels, other=_beside(raw))
        if self.form == "frame":
            from .frames import block_of

            return block_of(self, raw)
        array = np.ascontiguousarray(native(np.asarray(raw)))
        if array.shape[1:] != self.inner:
            raise DataError(f"a later part of the array has rows of shape {array.shape[1:]}, and not {self.inner}")
        if self.form == "pixels":
            return Block(len(array), pixels=array if array.ndim == 4 else array[..., None])
        table = array.view(np.uint8) if array.dtype.kind == "b" else array
        table = table.reshape(-1, len(self.numbers)) if len(self.numbers) else table.reshape(len(table), 0)
        return Block(len(table), list(np.ascontiguousarray(table.T)))

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
            from .frames import frame_of

            try:
                return frame_of(self, blocks)
            except (LookupError, ValueError, TypeError, OSError) as error:  # Arrow's errors are some of these
                said = " ".join(str(error).split())[:120]
                raise DataError(f"the columns of the stream do not go together: {said}") from None
        if not blocks:
            return np.empty((0, *self.inner), self.numbers[0][1] if self.numbers else np.float64)
        columns = [np.concatenate(parts) for parts in zip(*(b.numbers for b in blocks), strict=True)]
        columns = [c.view(dtype) for c, (_, dtype) in zip(columns, self.numbers, strict=True)] if columns else []
        table = np.stack(columns, 1) if columns else np.empty((rows, 0))
        return table.reshape(-1, *self.inner)

    def words_in(self, block: Block) -> dict[str, np.ndarray]:
        """The words of a block's columns of words, None where there is none. object [rows] each"""
        found = {}
        for i, (name, _) in enumerate(self.numbers):
            if name in dict(self.words):
                all_words = (*dict(self.words)[name], *block.news.get(name, ()))
                found[name] = np.array([None, *all_words], object)[block.numbers[i]]
        return found


def native(array: np.ndarray) -> np.ndarray:
    """Numbers in this machine's order of bytes."""
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def stored(dtype: str) -> str:
    """The type that numbers of a column are coded in."""
    return {"m": "int64", "M": "int64", "b": "uint8"}.get(np.dtype(dtype).kind, dtype)


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

    if not others:
        return Pictures(pixels, None, None, ())
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
    except (pa.ArrowException, MemoryError, OSError, StopIteration, KeyError, ValueError) as error:
        raise DataError(f"its columns that are no numbers are damaged: {' '.join(str(error).split())[:100]}") from None
    return batch


def _words_of(entries: Any) -> tuple[tuple[str, tuple[str, ...]], ...]:
    return tuple((str(name), tuple(map(str, words))) for name, words in entries)
