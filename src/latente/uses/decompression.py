"""A stream back to data: with whole numbers alone, and no torch."""

import json
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np

from ..codec import container
from ..codec.coder import Coder
from ..codec.container import Chunk, Damage, sections_of
from ..errors import DataError, LatenteError, ModelFileError
from . import libraries
from .libraries import EACH, NAMES, NEWS, PLAIN, columns_of
from .packing import Block, Layout, batch_of, stored
from .plans import CONTEXT, LATENTS, MOST_CELLS, QUALITY, Mode, Plan, digest_of, groups_of, size_of

_T = TypeVar("_T")


def decoded(
    payload: bytes, rows: int, size: int, layout: Layout, plan: Plan, coder: Coder | None, mode: Mode
) -> tuple[Block, bytes]:
    """What a chunk's payload says, and what is no number as bytes. Raises DataError for what `Compressor` cannot have
    written, ModelFileError if it needs another model.
    """
    parts = iter(sections_of(payload))

    def section() -> tuple[int, memoryview]:
        found = next(parts, None)
        if found is None:
            raise DataError("a section of it is missing")
        return found

    if not rows or rows * layout.row_bytes() > size or rows * len(layout.numbers) > MOST_CELLS:
        raise DataError("it has more rows than bytes, or none")
    pixels, numbers = None, []
    if layout.form in ("pictures", "pixels"):
        shape = (*layout.inner, 1)[:3]
        method, data = section()
        if method in (CONTEXT, LATENTS, QUALITY):
            own = None if coder is None else coder.pictures
            if own is None or own.shape != shape:
                raise ModelFileError("the model given is not the one that made this stream")
            pixels = _of_model(own, method, data, rows, mode)
        elif method in NAMES and method not in (libraries.PCODEC, NEWS, EACH):
            pixels = libraries.pixels_of(method, data, (rows, *shape))
        else:
            raise DataError(f"its pictures are coded by no known method ({method})")
    else:
        numbers = _columns(section, rows, layout, plan, coder)
    other, batch, news = b"", None, {}
    for method, data in parts:
        if method == NEWS:
            words = _inflated(data, size)
            news, other = _news(words), other + words
        else:
            other = libraries.unpacked(method, data, size)
            batch = batch_of(other)
            if batch.num_rows != rows:
                raise DataError("its columns are of different lengths")
    return Block(rows, numbers, pixels, batch, news=news), other


def _inflated(data: memoryview, most: int) -> bytes:
    try:
        return zlib.decompressobj().decompress(data, most + 1)
    except zlib.error:
        raise DataError("its new words are damaged") from None


def _news(data: bytes) -> dict[str, list[str]]:
    """Words that a chunk brings. Raises DataError for what are none."""
    try:
        found = json.loads(data)
        return {str(name): list(map(str, words)) for name, words in found.items()}
    except (ValueError, AttributeError, TypeError, RecursionError):
        raise DataError("its new words are damaged") from None


def _of_model(own: Any, method: int, data: memoryview, rows: int, mode: Mode) -> np.ndarray:
    """Pictures as the model coded them."""
    if method == QUALITY and own.lossy is not None and mode.name == "quality":
        return own.lossy.decode(data, rows, mode.value - 1)
    if method == LATENTS and own.latents is not None:
        return own.latents.decode(data, rows)
    if method == CONTEXT:
        return own.context.decode(data, rows)
    raise DataError("its pictures are coded in a way that this model does not know")


def _columns(section: Any, rows: int, layout: Layout, plan: Plan, coder: Coder | None) -> list[np.ndarray]:
    columns: dict[int, np.ndarray] = {}
    if plan.asked:
        method, data = section()
        used = plan.own if method == CONTEXT else plan.asked
        if method == CONTEXT:
            if coder is None or plan.level is None or plan.level >= len(coder.levels):
                raise ModelFileError("the model given is not the one that made this stream")
            wholes = plan.causal(coder).decode(data, rows)
            if wholes.shape[1] != len(used):
                raise ModelFileError("the model given is not the one that made this stream")
        else:
            wholes = np.stack(columns_of(method, data, rows, len(used)), 1).astype(np.int64)
        for i, (at, quantiser) in enumerate(used):
            columns[at] = quantiser.values(wholes[:, i])
        _put(section(), [columns[at] for at, _ in used], rows)
    for group in groups_of(layout, plan):
        method, data = section()
        if method == EACH:
            found = []
            for _ in group:
                method, data = section()
                found += columns_of(method, data, rows, 1)
        else:
            found = columns_of(method, data, rows, len(group))
        columns |= dict(zip(group, found, strict=True))
    for i, (_, dtype) in enumerate(layout.numbers):
        if columns[i].dtype.name != stored(dtype):
            raise DataError(f"its column {layout.names[i]!r} is of type {columns[i].dtype}, and not {dtype}")
    return [columns[i] for i in range(len(layout.numbers))]


def _put(found: tuple[int, memoryview], columns: list[np.ndarray], rows: int) -> None:
    """Put the values of a section of exceptions where they belong."""
    method, data = found
    if method == PLAIN and not data:
        return
    if len(data) < 9:
        raise DataError("its list of exceptions is cut short")
    as_mask, count, size = struct.unpack_from("<BII", data)
    cells = rows * len(columns)
    if not 0 < count <= cells or size > len(data) - 9 or as_mask > 1:
        raise DataError("its list of exceptions cannot be")
    packed = data[9 : 9 + size]
    if as_mask:
        bits = np.unpackbits(np.frombuffer(libraries.unzstd(packed, -(-cells // 8)), np.uint8))[:cells]
        places = np.flatnonzero(bits)
    else:
        places = np.cumsum(np.frombuffer(libraries.unzstd(packed, 4 * count), "<u4").astype(np.int64))
    values = np.frombuffer(libraries.unzstd(data[9 + size :], 8 * count), "<u8")
    if len(places) != count or places[-1] >= cells or (np.diff(places) <= 0).any():
        raise DataError("its list of exceptions cannot be")
    row, at = np.divmod(places, len(columns))
    for i, column in enumerate(columns):
        here = at == i
        column[row[here]] = values[here].astype(f"u{column.dtype.itemsize}").view(column.dtype)


@dataclass(frozen=True)
class Opened:
    """A stream whose header was read. needed: the fingerprint of its model."""

    header: dict[str, Any]
    layout: Layout
    mode: Mode
    model: str
    name: str
    _chunks: Iterable[Chunk | Damage]

    def blocks(self, coder: Coder | None, recover: bool = False) -> Iterator[Block | Damage]:
        """Its rows, chunk by chunk. What is damaged raises DataError, or is told of where `recover`."""
        plan = _read(self.name, lambda: Plan.from_json(self.header["plan"], self.layout, coder))
        for one in self._chunks:
            chunk = one
            if isinstance(chunk, Chunk):
                try:
                    found = decoded(chunk.payload, chunk.rows, chunk.size, self.layout, plan, coder, self.mode)
                    if size_of(*found) != chunk.size or digest_of(*found) != chunk.digest:
                        raise DataError("it does not decode to what was coded")
                    yield replace(found[0], first=chunk.first)
                    continue
                except DataError as error:
                    chunk = Damage(chunk.first, chunk.rows, error.problem)
            if not recover:
                raise DataError(f"{self.name}: {told(chunk)}", hint="--recover gives the rows that are whole")
            yield chunk


def told(damage: Damage) -> str:
    """In words."""
    if damage.rows is None:
        return f"{damage.why}: rows from {damage.first} on, if there were any, are lost"
    if not damage.rows:
        return f"{damage.why}, but no rows are lost"
    return f"rows {damage.first} to {damage.first + damage.rows - 1} are lost: {damage.why}"


def opened(file: Any, name: str, rows: tuple[int, int] | None = None) -> Opened:
    """A stream's header and chunks. rows: first and last + 1 of those that are asked for: the file is read only there.
    Raises DataError for what is no stream or declares what cannot be.
    """
    if rows is None:
        reader = container.Reader(file, name)
        header, chunks = reader.header, reader.chunks()
    else:
        header, chunks = container.some(file, name, *rows)

    def read() -> Opened:
        layout = Layout.from_json(header["layout"])
        mode, value = header["mode"]
        if mode == "quality" and not (type(value) is int and 1 <= value <= 8):
            raise ValueError(f"there is no quality {value!r}")
        if layout.row_bytes() > container.MOST_DECODED:
            raise ValueError(f"a row of {layout.row_bytes():,} bytes")
        return Opened(header, layout, Mode(str(mode), value), str(header["model"]), name, chunks)

    return _read(name, read)


def _read(name: str, build: Callable[[], _T]) -> _T:
    """Run `build`, which reads parts of a header. Raises DataError for what it refuses."""
    try:
        return build()
    except LatenteError:
        raise
    except (ValueError, TypeError, LookupError, AttributeError, OverflowError) as error:
        raise DataError(f"{name} has a header that this version cannot read: {error}", hint="update latente") from None
