"""The stream: a header, chunks that can each be decoded alone, and an index of where they are. Little-endian.

    magic 8 · version u16 · length u32 · header, a JSON object, deflated · seal 8
    chunk:  b"chnk" · number u32 · first row u64 · rows u32 · decoded bytes u64 · payload bytes u32 · digest of what is
            decoded 8 · digest of the payload 8 · seal 8 · payload
    index:  b"indx" · chunks u32 · rows u64 · for each chunk its place u64, first row u64, rows u32 · seal 8
            · place of the index u64 · b"LTZE"

A seal is the BLAKE2b digest, 8 bytes, of what stands before it since the mark, and the header's seal is the key of all
others: a chunk of a stream with another header is none of this one. Sizes are checked before anything is set aside for
them. A stream is written and read without going back; the index is for reading some rows of a file, and its absence
says that the end is missing. A payload is sections, each `method` u8 · length u32 and its bytes; how they are made is
the caller's.
"""

import hashlib
import json
import re
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO, Protocol

from ..errors import DataError

MAGIC, VERSION = b"\x93LTZ\r\n\x1a\n", 1
MOST_HEADER = 16 << 20
# A chunk decodes to at most so many bytes, and its payload is hardly longer.
MOST_DECODED = 64 << 20
_MOST_PAYLOAD = MOST_DECODED + (1 << 20)
_HEAD, _CHUNK, _INDEX, _ENTRY, _TAIL = (struct.Struct("<" + f) for f in ("HI", "IQIQI8s8s", "IQ", "QQI", "Q4s"))
_MARK, _END, _TAIL_MARK = b"chnk", b"indx", b"LTZE"
_MARKS = re.compile(_MARK + b"|" + _END)
_WINDOW, _MOST_INDEX = 1 << 20, 64 << 20


class Readable(Protocol):
    """Anything with `read`."""

    def read(self, size: int = -1, /) -> bytes: ...


@dataclass(frozen=True)
class Chunk:
    """Rows first … first + rows − 1. digest: of what `payload` decodes to, `size` bytes."""

    number: int
    first: int
    rows: int
    size: int
    digest: bytes
    payload: bytes

    @property
    def name(self) -> str:
        """For messages."""
        return f"chunk {self.number} (rows {self.first}–{self.first + self.rows - 1})"


@dataclass(frozen=True)
class Damage:
    """Rows that are lost, and why; rows is None where the stream ends without saying how many it had."""

    first: int
    rows: int | None
    why: str


def digest(*parts: bytes | memoryview, key: bytes = b"") -> bytes:
    """BLAKE2b of 8 bytes."""
    found = hashlib.blake2b(digest_size=8, key=key)
    for part in parts:
        found.update(part)
    return found.digest()


def sections(parts: Sequence[tuple[int, bytes]]) -> bytes:
    """(method, bytes) of each section as a payload."""
    return b"".join(struct.pack("<BI", method, len(data)) + data for method, data in parts)


def sections_of(payload: bytes) -> list[tuple[int, memoryview]]:
    """What `sections` was given. Raises DataError if it cannot be."""
    found, at, view = [], 0, memoryview(payload)
    while at < len(view):
        if at + 5 > len(view):
            raise DataError("a section of it is cut short")
        method, size = struct.unpack_from("<BI", view, at)
        at += 5
        if at + size > len(view):
            raise DataError("a section of it is cut short")
        found.append((method, view[at : at + size]))
        at += size
    return found


class Writer:
    """Writes a stream into an open file, chunk by chunk, without going back."""

    def __init__(self, file: BinaryIO, header: dict[str, Any]) -> None:
        text = json.dumps(header, sort_keys=True, ensure_ascii=False, allow_nan=False).encode()
        if len(text) > MOST_HEADER:
            raise DataError(f"what is to be said of the data takes {len(text):,} bytes, {MOST_HEADER:,} at the most")
        packed = zlib.compress(text, 9)
        start = MAGIC + _HEAD.pack(VERSION, len(packed)) + packed
        self._file, self._key = file, digest(start)
        self._entries: list[tuple[int, int, int]] = []
        self.rows = self.place = 0
        self._write(start + self._key)

    def add(self, rows: int, payload: bytes, decoded: bytes, size: int) -> None:
        """The next rows. decoded: the digest of what `payload` decodes to, which has `size` bytes."""
        if size > MOST_DECODED or len(payload) > _MOST_PAYLOAD:
            raise DataError(f"a chunk of {size:,} bytes is too large", hint="fewer rows a chunk (--rows)")
        head = _MARK + _CHUNK.pack(
            len(self._entries), self.rows, rows, size, len(payload), decoded, digest(payload, key=self._key)
        )
        self._entries.append((self.place, self.rows, rows))
        self.rows += rows
        self._write(head + digest(head, key=self._key) + payload)

    def close(self) -> None:
        """Write the index."""
        place = self.place
        entries = b"".join(_ENTRY.pack(*e) for e in self._entries)
        index = _END + _INDEX.pack(len(self._entries), self.rows) + entries
        self._write(index + digest(index, key=self._key) + _TAIL.pack(place, _TAIL_MARK))

    def _write(self, data: bytes) -> None:
        self._file.write(data)
        self._file.flush()
        self.place += len(data)


class _Tape:
    """Bytes of a file that are looked at before they are taken. at: how many were taken."""

    def __init__(self, file: Readable, at: int = 0) -> None:
        self._file, self._held, self._from, self.at = file, b"", 0, at

    def _reach(self, size: int) -> None:
        """Hold so many bytes, if there are."""
        missing = size - (len(self._held) - self._from)
        if missing <= 0:
            return
        parts = [self._held[self._from :]]
        while missing > 0:
            part = self._file.read(max(1, min(missing, _WINDOW)))
            if not part:
                break
            parts.append(part)
            missing -= len(part)
        self._held, self._from = b"".join(parts), 0

    def peek(self, size: int, start: int = 0) -> bytes:
        """The next bytes from `start` on, fewer at the end."""
        self._reach(start + size)
        return self._held[self._from + start : self._from + start + size]

    def take(self, size: int) -> bytes:
        data = self.peek(size)
        self._from += len(data)
        self.at += len(data)
        return data

    def seek(self) -> None:
        """Go on to the next place where a chunk or the index may begin, or to the end."""
        self.take(1)
        while True:
            found = _MARKS.search(self._held, self._from)
            end = found.start() if found else max(self._from, len(self._held) - 3)
            self.at += end - self._from
            self._from = end
            if found:
                return
            # One more than what could be the beginning of a mark: a pipe gives what it has.
            if len(self.peek(4)) < 4:
                self.take(4)
                return


class Reader:
    """Reads a stream from an open file, once, from its beginning. header: the JSON object of its start.

    Raises DataError if it is no stream, is of a newer version, or its header is damaged.
    """

    def __init__(self, file: Readable, name: str = "the stream") -> None:
        self.name, self._tape = name, _Tape(file)
        start = self._tape.take(len(MAGIC) + _HEAD.size)
        if start[: len(MAGIC)] != MAGIC:
            raise DataError(f"{name} is no compressed data of latente", hint="latente compress MODEL DATA -o data.ltz")
        if len(start) < len(MAGIC) + _HEAD.size:
            raise DataError(f"{name} ends in its header", hint="copy it again from its source")
        version, length = _HEAD.unpack(start[len(MAGIC) :])
        if version > VERSION:
            raise DataError(f"{name} is of version {version}, and this reads {VERSION}", hint="update latente")
        if length > MOST_HEADER:
            raise DataError(f"{name} is damaged: a header of {length:,} bytes", hint="copy it again from its source")
        text = self._tape.take(length)
        self._key = self._tape.take(8)
        if digest(start, text) != self._key:
            raise DataError(f"{name} is damaged or cut short in its header", hint="copy it again from its source")
        unpacking = zlib.decompressobj()
        try:
            self.header: dict[str, Any] = json.loads(unpacking.decompress(text, MOST_HEADER))
        except (ValueError, RecursionError, zlib.error):
            raise DataError(f"{name} has a header that is no JSON", hint="copy it again from its source") from None
        self.total: int | None = None

    def chunks(self) -> Iterator[Chunk | Damage]:
        """Chunks in order, and what is lost between them; after damage the next whole chunk is looked for."""
        row = number = 0
        lost = ""
        while True:
            mark = self._tape.peek(4)
            found = self._chunk(number) if mark == _MARK else None
            if isinstance(found, Chunk) and (found.number < number or found.first < row):
                lost = lost or "a chunk is out of its place"
                continue
            if isinstance(found, Chunk):
                if found.first > row or lost:
                    yield Damage(row, found.first - row, lost or "it is missing")
                yield found
                row, number, lost = found.first + found.rows, found.number + 1, ""
                continue
            if mark == _END and self._index():
                assert self.total is not None
                if self.total > row:
                    yield Damage(row, self.total - row, lost or "it is missing")
                elif lost:
                    yield Damage(row, 0, lost)
                return
            if not mark:
                yield Damage(row, None, lost or "the end of the stream is missing")
                return
            lost = lost or (found if isinstance(found, str) else "its bytes are damaged")
            self._tape.seek()

    def _chunk(self, number: int) -> "Chunk | str | None":
        """The chunk that begins here, what is wrong with it, or None if what begins here is none."""
        size = 4 + _CHUNK.size
        head = self._tape.peek(size + 8)
        if len(head) < size + 8 or digest(head[:size], key=self._key) != head[size:]:
            return None
        at, first, rows, decoded, length, inside, seal = _CHUNK.unpack(head[4:size])
        if decoded > MOST_DECODED or length > _MOST_PAYLOAD:
            return f"it declares {max(decoded, length):,} bytes"
        payload = self._tape.peek(size + 8 + length)[size + 8 :]
        if len(payload) < length:
            return "it is cut short"
        if digest(payload, key=self._key) != seal:
            return "its bytes are damaged"
        self._tape.take(size + 8 + length)
        return Chunk(at, first, rows, decoded, inside, payload)

    def _index(self) -> bool:
        """Whether a whole index begins here: it says how many rows there were."""
        head = self._tape.peek(4 + _INDEX.size)
        if len(head) < 4 + _INDEX.size:
            return False
        chunks, rows = _INDEX.unpack(head[4:])
        size = len(head) + chunks * _ENTRY.size
        # Its end first: whatever begins like an index must not cost a digest of all that follows.
        if size > _MOST_INDEX or self._tape.peek(_TAIL.size, size + 8)[8:] != _TAIL_MARK:
            return False
        whole = self._tape.peek(size + 8)
        if digest(whole[:size], key=self._key) != whole[size:]:
            return False
        self.total = rows
        return True


def some(file: BinaryIO, name: str, first: int, last: int) -> tuple[dict[str, Any], Iterator[Chunk | Damage]]:
    """The header, and the chunks that hold rows first … last − 1, of a file that can be read in any order."""
    reader = Reader(file, name)
    file.seek(0, 2)
    end = file.tell()
    entries: list[tuple[int, int, int]] | None = None
    if end >= _TAIL.size:
        file.seek(end - _TAIL.size)
        place, mark = _TAIL.unpack(file.read(_TAIL.size))
        if mark == _TAIL_MARK and place < end and end - place <= _MOST_INDEX:
            file.seek(place)
            index = file.read(end - _TAIL.size - place)
            inside = index[4 + _INDEX.size : -8]
            fine = len(inside) % _ENTRY.size == 0 and digest(index[:-8], key=reader._key) == index[-8:]
            if fine and all(e[0] < end for e in _ENTRY.iter_unpack(inside)):
                entries = list(_ENTRY.iter_unpack(inside))
    if entries is None:
        file.seek(0)
        whole = Reader(file, name)
        return whole.header, (
            c for c in whole.chunks() if c.rows is None or (c.first < last and c.first + c.rows > first)
        )

    def found() -> Iterator[Chunk | Damage]:
        for number, (place, begin, rows) in enumerate(entries):
            if begin < last and begin + rows > first:
                file.seek(place)
                reader._tape = _Tape(file)
                chunk = reader._chunk(number)
                whole = isinstance(chunk, Chunk) and (chunk.first, chunk.rows) == (begin, rows)
                yield (
                    chunk
                    if whole
                    else Damage(begin, rows, chunk if isinstance(chunk, str) else "its bytes are damaged")
                )  # type: ignore[misc]

    return reader.header, found()
