"""HDF5 files that nobody vouches for: what lies in them is looked at before it is loaded.

A file may name other files, whose bytes would then be read as its own: links and data sets that do so are refused.
"""

import contextlib
import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ConfigError, DataError, LatenteError
from . import hdf5_worker
from .matrices import room_of
from .reading_bytes import is_bomb, require_room

_WALL, _SPEED = 15.0, 10e6  # seconds for any file, and bytes a second beyond: names are read at a hundred times that


def require_h5py(what: str) -> None:
    """ConfigError if h5py is missing."""
    if importlib.util.find_spec("h5py") is None:
        raise ConfigError(f"{what} needs h5py, which is not installed", hint="pip install 'latente[omics]'")


def require_sound(path: Path) -> None:
    """DataError for a file that would make HDF5 break off, or never come to an end; another process tries it."""
    require_h5py(f"reading {path.suffix.lower()} files")
    about = path.stat()
    code = _tried(str(path.resolve()), about.st_size, about.st_mtime_ns)
    if code < 0:
        raise DataError(
            f"{path.name} is damaged: HDF5 {'never comes to its end' if code == -1 else 'breaks off at it'}",
            hint="fetch or write it again",
        )


@lru_cache(maxsize=64)
def _tried(path: str, size: int, _changed: int) -> int:
    """How another process ends that goes through a file: below zero if it was killed, by us (-1) or by a fault."""
    # By its file and with -P, so that no module in the working directory stands in for another.
    command = [sys.executable, "-P", str(Path(hdf5_worker.__file__)), path]
    nowhere = subprocess.DEVNULL
    try:
        return subprocess.run(
            command, stdin=nowhere, stdout=nowhere, stderr=nowhere, timeout=_WALL + size / _SPEED, check=False
        ).returncode
    except subprocess.TimeoutExpired:
        return -1


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Any]:
    """An HDF5 file, open to be read; what goes wrong with it inside is a DataError."""
    require_h5py(f"reading {path.suffix.lower()} files")
    import h5py

    try:
        if not h5py.is_hdf5(path):
            raise DataError(f"{path.name} is no HDF5 file", hint="fetch it again: it may be a page of a web site")
        # Without a lock: a file on a read-only disk, or one that another program reads, is read all the same.
        with h5py.File(path, "r", locking=False) as file:
            yield file
    except (LatenteError, MemoryError, PermissionError):
        raise
    except Exception as error:  # a damaged file makes HDF5 raise anything: OSError, KeyError, RuntimeError …
        reason = " ".join(str(error).split())[:200]
        raise DataError(f"{path.name} is damaged: {reason}", hint="fetch or write it again") from error


def member(group: Any, name: str) -> Any:
    """A group or data set by its path below a group; None if it is not there, or not one."""
    import h5py

    for part in name.split("/"):
        if not isinstance(group, h5py.Group):
            return None
        link = group.get(part, getlink=True)
        if link is None:
            return None
        if not isinstance(link, h5py.HardLink):
            raise DataError(f"{part!r} is a link, which is not followed", hint="save the file with its data in it")
        group = group[part]
    if isinstance(group, h5py.Dataset):
        return _readable(group)
    return group if isinstance(group, h5py.Group) else None


def children(group: Any) -> list[str]:
    """The names in a group, or none if it is no group."""
    import h5py

    return list(group) if isinstance(group, h5py.Group) else []


def is_dataset(thing: Any) -> bool:
    """Whether it is a data set of HDF5."""
    import h5py

    return isinstance(thing, h5py.Dataset)


def _readable(dataset: Any) -> Any:
    """A data set whose bytes are in its file, and not far fewer than it says."""
    name = str(dataset.name)
    if dataset.shape is None:
        raise DataError(f"{name} is empty", hint="write the file again")
    if dataset.is_virtual or dataset.external:
        raise DataError(f"{name} lies in other files, which are not read", hint="save the file with its data in it")
    size = room_of(dataset.shape, dataset.dtype.itemsize)
    if is_bomb(size, dataset.id.get_storage_size()):
        raise DataError(
            f"{name} declares {size / 1e9:,.1f} GB and holds hardly any of it", hint="if you trust it, save it as CSR"
        )
    if dataset.chunks:
        require_room(room_of(dataset.chunks, dataset.dtype.itemsize), name)
    return dataset


def array(dataset: Any) -> np.ndarray:
    """A data set of numbers or of text, whole; text is str. DataError for other types and more than fits in memory."""
    import h5py

    require_room(room_of(dataset.shape, dataset.dtype.itemsize), str(dataset.name))
    if h5py.check_string_dtype(dataset.dtype) is not None:
        return np.asarray(dataset.asstr(errors="replace")[()], dtype=object)
    if dataset.dtype.kind not in "biuf":
        raise DataError(f"{dataset.name} holds values of type {dataset.dtype}", hint="keep numbers and text in it")
    return np.asarray(dataset[()])


def strings(dataset: Any) -> list[str]:
    """A data set of one dimension as text."""
    if not is_dataset(dataset) or len(dataset.shape) != 1:
        raise DataError("names in the file are no list of text", hint="fetch or write the file again")
    return [str(value) for value in array(dataset).tolist()]


def said(thing: Any, attribute: str) -> str:
    """An attribute that is text; "" if it is not there, or something else."""
    value = thing.attrs.get(attribute, "")
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value if isinstance(value, str) else ""
