"""What good libraries make of the same numbers: pcodec, zstd, xz, and for pictures PNG and WebP, all without loss.

A chunk is never larger than the best of them; each is an honest baseline too.
"""

import io
import lzma
import math
import struct
from collections.abc import Iterable
from typing import Any

import numpy as np

from ..errors import DataError, ResourceError

# Methods of a section, as streams name them: never to be renumbered.
PLAIN, ZSTD, XZ, PCODEC, PNG, WEBP, NEWS, EACH = range(8)
NAMES = {PLAIN: "none", ZSTD: "zstd", XZ: "xz", PCODEC: "pcodec", PNG: "png", WEBP: "webp"}
_TYPES = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float16", "float32", "float64")
# Ways in which numbers lie before bytes are packed: as they are; differences; bytes of equal weight together.
_AS_IS, _DELTA, _SHUFFLED = range(3)
_LEVEL, _XZ = 19, [{"id": lzma.FILTER_LZMA2, "preset": 6}]
# Sides of a picture that WebP can hold.
_WEBP_SIDE = 16_383


def zstd(data: bytes | memoryview) -> bytes:
    """Packed bytes."""
    import pyarrow as pa

    return bytes(pa.Codec("zstd", _LEVEL).compress(data))


def quick(data: bytes) -> int:
    """How long a quick library makes them."""
    import pyarrow as pa

    return len(pa.Codec("zstd", 3).compress(data))


def unzstd(data: bytes | memoryview, size: int) -> bytes:
    """`size` bytes that `zstd` packed. Raises DataError if they are not there."""
    import pyarrow as pa

    try:
        found = bytes(pa.Codec("zstd").decompress(pa.py_buffer(data), decompressed_size=size)) if size else b""
    except (OSError, pa.ArrowInvalid, ValueError) as error:
        raise DataError(f"its packed bytes are damaged: {' '.join(str(error).split())[:100]}") from None
    if len(found) != size:
        raise DataError("its packed bytes are fewer than they should be")
    return found


def packed(data: bytes) -> tuple[int, bytes]:
    """Bytes by zstd or xz, whichever is shorter, with their length before them."""
    size = struct.pack("<I", len(data))
    return min(((ZSTD, size + zstd(data)), (XZ, size + _xz(data))), key=lambda one: len(one[1]))


def unpacked(method: int, data: memoryview, most: int) -> bytes:
    """At most `most` bytes that `packed` packed. Raises DataError if they are not there."""
    size = struct.unpack_from("<I", data)[0] if len(data) >= 4 else most + 1
    if size > most or method not in (ZSTD, XZ):
        raise DataError("its columns that are no numbers are damaged")
    return (unzstd if method == ZSTD else _unxz)(data[4:], size)


def _xz(data: bytes) -> bytes:
    return lzma.compress(data, lzma.FORMAT_RAW, filters=_XZ)


def _unxz(data: bytes | memoryview, size: int) -> bytes:
    try:
        found = lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=_XZ).decompress(data, max_length=size)
    except (lzma.LZMAError, EOFError) as error:
        raise DataError(f"its packed bytes are damaged: {error}") from None
    if len(found) != size:
        raise DataError("its packed bytes are fewer than they should be")
    return found


def have_pcodec() -> bool:
    """Whether pcodec is installed."""
    try:
        import pcodec  # noqa: F401
    except ImportError:
        return False
    return True


# ── numbers ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def smallest(numbers: np.ndarray) -> np.ndarray:
    """int64 numbers in the smallest type that holds them."""
    low, high = (int(numbers.min()), int(numbers.max())) if numbers.size else (0, 0)
    for name in _TYPES[:3]:
        info = np.iinfo(name)
        if info.min <= low and high <= info.max:
            return numbers.astype(name)
    return numbers


def columns_packed(columns: list[np.ndarray], slow: bool = True) -> Iterable[tuple[int, bytes]]:
    """Columns of one type, each [rows], by each library that there is: (method, bytes). slow: not by pcodec alone."""
    head = struct.pack("<B", _TYPES.index(columns[0].dtype.name))
    if have_pcodec():
        yield PCODEC, head + b"".join(struct.pack("<I", len(c)) + c for c in map(_pco, columns))
    elif not slow:
        yield ZSTD, head + struct.pack("<BB", _AS_IS, False) + zstd(_laid(np.stack(columns), _AS_IS))
    if not slow:
        return
    table = np.stack(columns)
    for method, pack in ((ZSTD, zstd), (XZ, _xz)):
        found = [
            head + struct.pack("<BB", way, across) + pack(_laid(table.T if across else table, way))
            for way in (_AS_IS, _DELTA, *((_SHUFFLED,) if table.dtype.itemsize > 1 else ()))
            for across in ((False, True) if len(columns) > 1 and way != _SHUFFLED else (False,))
        ]
        yield method, min(found, key=len)


def columns_of(method: int, data: memoryview, rows: int, count: int) -> list[np.ndarray]:
    """`count` columns [rows] that `columns_packed` packed. Raises DataError for other bytes."""
    if not data or data[0] >= len(_TYPES):
        raise DataError("its numbers are of no type")
    dtype, data = np.dtype(_TYPES[data[0]]), data[1:]
    if method == PCODEC:
        found = []
        for _ in range(count):
            size = struct.unpack_from("<I", data)[0] if len(data) >= 4 else 1 << 32
            if size > len(data) - 4:
                raise DataError("its packed numbers are cut short")
            found.append(_unpco(bytes(data[4 : 4 + size]), rows, dtype))
            data = data[4 + size :]
        return found
    if len(data) < 2 or method not in (ZSTD, XZ):
        raise DataError("its packed numbers are cut short")
    way, across = data[0], bool(data[1])
    unpack = unzstd if method == ZSTD else _unxz
    shape = (rows, count) if across else (count, rows)
    table = _back(unpack(data[2:], rows * count * dtype.itemsize), shape, dtype, way)
    return list(np.ascontiguousarray(table.T if across else table))


def _laid(table: np.ndarray, way: int) -> bytes:
    table = np.ascontiguousarray(table)
    if way == _AS_IS:
        return table.tobytes()
    whole = table.view(f"u{table.dtype.itemsize}")
    if way == _DELTA:
        axis = int(np.argmax(table.shape))
        return np.diff(whole, axis=axis, prepend=np.zeros_like(whole.take([0], axis))).tobytes()
    return np.ascontiguousarray(whole.view(np.uint8).reshape(-1, table.dtype.itemsize).T).tobytes()


def _back(data: bytes, shape: tuple[int, ...], dtype: np.dtype, way: int) -> np.ndarray:
    unsigned = f"u{dtype.itemsize}"
    if way == _SHUFFLED:
        parts = np.frombuffer(data, np.uint8).reshape(dtype.itemsize, -1)
        return np.ascontiguousarray(parts.T).view(dtype).reshape(shape)
    table = np.frombuffer(data, unsigned).reshape(shape)
    if way == _DELTA:
        table = np.cumsum(table, axis=int(np.argmax(shape)), dtype=unsigned)
    elif way != _AS_IS:
        raise DataError("its numbers lie in no known way")
    return table.view(dtype)


def _pco(column: np.ndarray) -> bytes:
    from pcodec import ChunkConfig, standalone

    narrow = column.dtype.itemsize == 1  # pcodec knows none of 8 bits
    return standalone.simple_compress(column.astype(f"{column.dtype.kind}2") if narrow else column, ChunkConfig())


def _unpco(data: bytes, rows: int, dtype: np.dtype) -> np.ndarray:
    try:
        from pcodec import standalone
    except ImportError:
        raise ResourceError(
            "this stream has chunks of pcodec, which is not installed", hint="pip install 'latente[codec]'"
        ) from None
    narrow = dtype.itemsize == 1
    found = np.empty(rows, f"{dtype.kind}2" if narrow else dtype)
    try:
        progress = standalone.simple_decompress_into(data, found)
    except (RuntimeError, TypeError, ValueError) as error:
        raise DataError(f"its packed numbers are damaged: {' '.join(str(error).split())[:100]}") from None
    if progress.n_processed != rows:
        raise DataError("its packed numbers are fewer than they should be")
    return found.astype(dtype) if narrow else found


# ── pictures ────────────────────────────────────────────────────────────────────────────────────────────────────────


def pixels_packed(pixels: np.ndarray, slow: bool = True) -> Iterable[tuple[int, bytes]]:
    """Pictures [n, h, w, c] by each library: (method, bytes). PNG and WebP get them side by side as one picture."""
    sheet = _sheet(pixels)
    yield PNG, _saved(sheet, {"format": "PNG"})
    if slow:
        data = np.ascontiguousarray(pixels).tobytes()
        yield ZSTD, zstd(data)
        yield XZ, _xz(data)
        if max(sheet.shape[:2]) <= _WEBP_SIDE:
            yield WEBP, _saved(sheet, {"format": "WEBP", "lossless": True, "exact": True})


def pixels_of(method: int, data: memoryview, shape: tuple[int, ...]) -> np.ndarray:
    """Pictures of `shape` [n, h, w, c] that `pixels_packed` packed. Raises DataError for other bytes."""
    size = math.prod(shape)
    if method in (ZSTD, XZ):
        return np.frombuffer((unzstd if method == ZSTD else _unxz)(data, size), np.uint8).reshape(shape)
    n, h, w, c = shape
    across = _across(n, h, w)
    down = -(-n // across)
    sheet = _opened(bytes(data), "PNG" if method == PNG else "WEBP", (w * across, h * down), c)
    tiles = sheet.reshape(down, h, across, w, c).transpose(0, 2, 1, 3, 4).reshape(down * across, h, w, c)
    return np.ascontiguousarray(tiles[:n])


def _across(n: int, h: int, w: int) -> int:
    """How many pictures stand side by side, so that their sheet is about square."""
    return max(1, min(n, round((n * h / w) ** 0.5)))


def _sheet(pixels: np.ndarray) -> np.ndarray:
    n, h, w, c = pixels.shape
    across = _across(n, h, w)
    down = -(-n // across)
    full = np.concatenate([pixels, np.zeros((down * across - n, h, w, c), np.uint8)])
    return full.reshape(down, across, h, w, c).transpose(0, 2, 1, 3, 4).reshape(down * h, across * w, c)


def _saved(sheet: np.ndarray, how: dict[str, Any]) -> bytes:
    from PIL import Image

    sink = io.BytesIO()
    Image.fromarray(sheet[..., 0] if sheet.shape[2] == 1 else sheet).save(sink, **how)
    return sink.getvalue()


def _opened(data: bytes, form: str, size: tuple[int, int], channels: int) -> np.ndarray:
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data), formats=[form]) as image:
            if image.size != size:
                raise DataError(f"its picture is of {image.size} pixels, and not {size}")
            found = np.asarray(image.convert("L" if channels == 1 else "RGB"))
    except DataError:
        raise
    except Exception as error:  # a broken picture makes its decoder raise anything
        raise DataError(f"its picture is damaged: {' '.join(str(error).split())[:100]}") from None
    return found.reshape(size[1], size[0], channels)


def best(candidates: Iterable[tuple[int, bytes]]) -> tuple[int, bytes]:
    """The shortest."""
    return min(candidates, key=lambda one: len(one[1]))
