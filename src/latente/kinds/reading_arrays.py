"""Arrays in files: npy, npz, and the idx format of MNIST."""

import contextlib
import math
import re
import warnings
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import DataError, LatenteError
from .reading_bytes import Note, content, is_bomb, require_room

# Where the data of an npz are, before the first array of at least two dimensions; and its labels.
_DATA, _LABELS = ("X", "x", "X_train", "x_train"), ("y", "labels", "y_train")
_UNSIGNED_BYTE = 8  # idx: the type code


@dataclass(frozen=True)
class Stored:
    """What a file of arrays holds."""

    x: np.ndarray  # 2 to 4 dimensions, numbers or booleans in the machine's byte order
    labels: np.ndarray | None = None  # [n]
    observed: np.ndarray | None = None  # as x, or without its channels; as `write` leaves it


def read_arrays(path: Path, note: Note) -> Stored:
    """An npy or npz file, without unpickling anything.

    Of an npz it takes "X", "x", "X_train" or "x_train", else the first array of at least
    two dimensions, with "y" or "labels" (of as many entries) and "observed" (of pictures).
    Raises DataError for pickled objects, damaged files, and arrays of text or of one dimension.
    """
    with _damaged(path):
        with path.open("rb") as file:
            zipped = file.read(2) == b"PK"
        if zipped:
            return _npz(path, note)
        x = _npy(path)
        require_room(x.nbytes, path.name)
        return Stored(_numbers(x, path.name))


def mapped(path: Path) -> np.ndarray:
    """The array of an npy file where it is, on disk. Raises DataError as `read_arrays` does."""
    with _damaged(path):
        return required(_npy(path), path.name)


@contextlib.contextmanager
def _damaged(path: Path) -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # files of Python 2: they are read all the same
        try:
            yield
        except (LatenteError, MemoryError, PermissionError):
            raise
        except Exception as error:  # a broken header makes numpy raise anything: SyntaxError, TypeError, EOFError …
            if "allow_pickle" in str(error) or "Object arrays" in str(error) or "Python objects" in str(error):
                raise DataError(
                    f"{path.name} holds pickled Python objects, which are never read: they could run code",
                    hint="save the numbers alone: np.save('x.npy', x.astype('float32'))",
                ) from error
            reason = " ".join(str(error).split())[:200]
            raise DataError(f"{path.name} is damaged: {reason}", hint="write it again with np.save") from error


def _npy(path: Path) -> np.ndarray:
    # Mapped: a header that declares more than the file holds is an error, not an allocation.
    return np.load(path, mmap_mode="r", allow_pickle=False)


def _npz(path: Path, note: Note) -> Stored:
    with zipfile.ZipFile(path) as archive:
        members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
    for name, info in members.items():
        if is_bomb(info.file_size, info.compress_size):
            raise DataError(
                f"{path.name}: {name} unpacks to {info.file_size / info.compress_size:,.0f} times its size",
                hint="if you trust it, save it again without compression: np.savez",
            )
    require_room(max((info.file_size for info in members.values()), default=0), path.name)
    # Opened here: numpy forgets to close a file whose zip directory is broken.
    with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
        name = next((name for name in _DATA if name in members), "")
        if name:
            x = file[name]
        else:
            # Loaded one by one: an npz does not tell dimensions beforehand.
            for candidate in members:
                x = file[candidate]
                if x.ndim >= 2:
                    name = candidate
                    break
            else:
                raise DataError(f"{path.name} holds no array of two or more dimensions", hint="save it as 'X'")
        if len(members) > 1 and name not in _DATA:
            note(f"{path.name}: of the arrays {', '.join(members)} it is {name!r} that is read")
        x = _numbers(x, f"{path.name} ({name})")
        labels = next((file[key] for key in _LABELS if key in members), None)
        observed = file["observed"] if "observed" in members else None
    return Stored(x, labels if labels is not None and labels.shape == x.shape[:1] else None, observed)


def required(x: np.ndarray, name: str) -> np.ndarray:
    """The array, if it is one of numbers in two to four dimensions; else a DataError."""
    if x.dtype.kind not in "biuf":
        raise DataError(
            f"{name} holds values of type {x.dtype}, not numbers", hint="save mixed columns as CSV or Parquet"
        )
    if not 2 <= x.ndim <= 4:
        raise DataError(
            f"{name} has {x.ndim} dimension{'s' * (x.ndim != 1)}",
            hint="a table has two (rows, columns), pictures three or four (n, height, width, channels)",
        )
    if 0 in x.shape:
        raise DataError(f"{name} has shape {x.shape}: it is empty", hint="give at least one row")
    return x


def native(x: np.ndarray) -> np.ndarray:
    """A copy in memory, in the machine's byte order."""
    return np.array(x, dtype=x.dtype.newbyteorder("="), order="C")


def _numbers(x: np.ndarray, name: str) -> np.ndarray:
    return native(required(x, name))


def idx_ndim(path: Path) -> int:
    """The number of dimensions that an idx file's name tells (train-images-idx3-ubyte.gz), or 0."""
    found = re.search(r"idx(\d)", path.name.lower())
    return int(found[1]) if found else 0


def read_idx(path: Path) -> Stored:
    """Pictures in idx format (gzipped or not), with the labels in the file beside it.

    The labels of train-images-idx3-ubyte.gz are in train-labels-idx1-ubyte.gz, packed or
    not. Raises DataError for other types than bytes, and for a size that is not as declared.
    """
    return _with_labels(path, _idx(path))


def mapped_idx(path: Path) -> Stored:
    """An idx file that is not packed, its pictures where they are, on disk."""
    with path.open("rb") as file:
        shape = _idx_shape(file.read(4 + 4 * 255), path.stat().st_size, path.name)
    return _with_labels(path, np.memmap(path, np.uint8, "r", offset=4 + 4 * len(shape), shape=shape))


def _with_labels(path: Path, x: np.ndarray) -> Stored:
    if x.ndim == 1:
        raise DataError(f"{path.name} holds labels, not pictures", hint="name the file of the pictures (…-idx3-…)")
    if x.ndim not in (3, 4):
        raise DataError(f"{path.name} has {x.ndim} dimensions", hint="pictures have three: n, height, width")
    beside = _labels_beside(path)
    labels = None if beside is None else _idx(beside)
    if beside is not None and labels is not None and labels.shape != x.shape[:1]:
        raise DataError(
            f"{beside.name} holds {labels.size:,} labels, {path.name} {len(x):,} pictures",
            hint=f"move {beside.name} elsewhere if the two do not belong together",
        )
    return Stored(x, None if labels is None else labels.astype(np.int64))


def _labels_beside(path: Path) -> Path | None:
    name = path.name.replace("images", "labels").replace("idx3", "idx1")
    plain = name.removesuffix(".gz")
    return next(
        (path.with_name(n) for n in (name, plain, plain + ".gz") if n != path.name and path.with_name(n).is_file()),
        None,
    )


def _idx(path: Path) -> np.ndarray:
    data = content(path)
    shape = _idx_shape(data[: 4 + 4 * 255], len(data), path.name)
    return np.frombuffer(data, np.uint8, offset=4 + 4 * len(shape)).reshape(shape).copy()  # writable


def _idx_shape(head: bytes, length: int, name: str) -> tuple[int, ...]:
    """The shape that an idx file of so many bytes declares."""
    damaged = DataError(f"{name} is no idx file, or damaged", hint="idx files are those of MNIST: …-idx3-ubyte.gz")
    if length < 4 or head[:2] != b"\0\0" or length < 4 + 4 * head[3] or head[3] == 0:
        raise damaged
    if head[2] != _UNSIGNED_BYTE:
        raise DataError(f"{name} holds values of idx type {head[2]}, not bytes (8)", hint="convert it to .npy")
    shape = tuple(int.from_bytes(head[at : at + 4], "big") for at in range(4, 4 + 4 * head[3], 4))
    size = math.prod(shape)
    held = length - 4 - 4 * len(shape)
    if held != size:
        raise DataError(
            f"{name} declares {' × '.join(map(str, shape[:8]))} bytes and holds {held:,}",
            hint="it is cut short or damaged: fetch it again",
        )
    if size == 0:
        raise DataError(f"{name} is empty", hint="give at least one picture")
    return shape
