"""Bytes of untrusted files: unpacked with limits, and text brought to UTF-8."""

import codecs
import gzip
import os
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path

from ..errors import DataError, LatenteError, ResourceError

Note = Callable[[str], None]

# Deflate reaches 1032:1, honest data seldom a tenth of it. Below 256 MB a bomb does no harm.
_RATIO, _HARMLESS = 200, 1 << 28
_CHUNK = 1 << 24

_UNDEFINED = (b"\x81", b"\x8d", b"\x8f", b"\x90", b"\x9d")  # in cp1252

# UTF-32 first: its little-endian mark begins with the one of UTF-16.
_MARKS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


class ReadingErrors:
    """Turns what the system says about a file, or about memory, into our errors."""

    def __init__(self, path: object) -> None:
        self.path = path

    def __enter__(self) -> None:
        pass

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if isinstance(error, LatenteError):
            return
        if isinstance(error, OSError):
            reason = (error.strerror or str(error)).lower()
            raise DataError(
                f"{self.path} cannot be read: {reason}", hint="check the file and who may read it"
            ) from error
        if isinstance(error, MemoryError):
            raise ResourceError(f"{self.path} does not fit in memory", hint="use a part of the data") from error


def require_room(size: int, what: str) -> None:
    """ResourceError when `size` bytes exceed the machine's memory."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else size
    if size > memory:
        raise ResourceError(
            f"{what} needs {size / 1e9:,.1f} GB of memory, and this machine has {memory / 1e9:,.1f} GB",
            hint="use a part of the data, or smaller pictures",
        )


def free_memory() -> int:
    """Bytes of memory that this machine can give now."""
    if hasattr(os, "sysconf") and "SC_AVPHYS_PAGES" in os.sysconf_names:
        free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        try:
            # The kernel's own estimate counts what its caches would give back.
            lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
            return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
        except (OSError, StopIteration):
            return free
    return 4 << 30


def is_bomb(unpacked: int, packed: int) -> bool:
    """Whether so many bytes from so few are more than honest data ever give."""
    return unpacked > _HARMLESS and unpacked > _RATIO * max(packed, 1)


def content(path: Path) -> bytes:
    """The bytes of a file, unpacked if it is gzip (whatever its name says).

    Raises DataError for a damaged or absurdly packed gzip, ResourceError if it exceeds the memory.
    """
    size = path.stat().st_size
    require_room(size, path.name)
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        return _unpacked(path, size) if packed else file.read()


def _unpacked(path: Path, packed: int) -> bytes:
    out = bytearray()
    try:
        with gzip.open(path) as file:
            while chunk := file.read(_CHUNK):
                out += chunk
                if is_bomb(len(out), packed):
                    raise DataError(
                        f"{path.name} unpacks to more than {_RATIO} times its size",
                        hint=f"if you trust it, unpack it yourself: gunzip -k {path.name}",
                    )
                require_room(len(out), path.name)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path.name} is damaged or cut short: {error}", hint="fetch or write it again") from error
    return bytes(out)


def utf8(data: bytes, name: str, note: Note) -> bytes:
    """Text in UTF-8 without a byte-order mark; UTF-16/32 by their marks, else cp1252 is assumed, with a note.

    Raises DataError for bytes that are no text.
    """
    if mark := marked(data):
        try:
            data = data.decode(mark).encode()
        except UnicodeError as error:
            raise DataError(f"{name} starts as {mark} text, but {error}", hint="save it as UTF-8") from error
    data = data.removeprefix(codecs.BOM_UTF8)
    view = memoryview(data)
    found = coding([view[start : start + _CHUNK] for start in range(0, len(data), _CHUNK)], name, note)
    return data if found == "utf-8" else data.decode(found).encode()


def marked(head: bytes) -> str | None:
    """The coding other than UTF-8 that a byte-order mark announces."""
    return next((coding for mark, coding in _MARKS.items() if head.startswith(mark)), None)


def coding(pieces: Iterable["bytes | memoryview"], name: str, note: Note) -> str:
    """ "utf-8" or, for text that is not, "cp1252", of a text's consecutive pieces.

    In pieces, since a decoded copy can take four times the memory. Raises DataError for bytes that are no text.
    """
    decoder = codecs.getincrementaldecoder("utf-8")()
    at, bad = 0, None
    controls = foreign = False
    for piece in pieces:
        data = bytes(piece)
        if (zero := data.find(0)) >= 0:
            raise DataError(
                f"{name} is not a text file: byte {at + zero:,} is zero",
                hint="if it is a spreadsheet, export it as CSV in UTF-8",
            )
        if at == 0:
            controls = any(byte < 32 and byte not in b"\t\n\r\f\x1a" for byte in data[:65_536])
        if bad is None:
            pending = len(decoder.getstate()[0])
            try:
                decoder.decode(data)
            except UnicodeDecodeError as error:
                bad = at - pending + error.start
        foreign = foreign or any(byte in data for byte in _UNDEFINED)
        at += len(data)
    if bad is None and (pending := len(decoder.getstate()[0])):
        bad = at - pending  # cut off in the middle of a character
    if bad is None:
        return "utf-8"
    if controls:
        raise DataError(f"{name} is not a text file", hint="tables are read from CSV, TSV, Parquet or Arrow files")
    if foreign:
        raise DataError(
            f"{name} is neither UTF-8 (byte {bad:,}) nor cp1252 text", hint="save it as UTF-8, for example with iconv"
        )
    note(f"{name} is not UTF-8 (byte {bad:,}): it is read as cp1252 (Western European)")
    return "cp1252"
