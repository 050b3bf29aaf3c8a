"""Matrices of counts where they lie, in a file or in memory: read by rows, and never as a whole before it fits."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp

from ..errors import DataError
from .reading_bytes import is_bomb, require_room

JUDGED = 2_000  # rows whose numbers are looked at to tell what a matrix holds
_BLOCK = 32 << 20  # bytes of a dense matrix that are in memory at once
_SLICES = 16  # of the numbers of a sparse one that are looked at
_LOOKED_AT = 1 << 20  # numbers


class Matrix(ABC):
    """Rows × columns of numbers. name: what it is called in messages."""

    name: str
    shape: tuple[int, int]

    @abstractmethod
    def rows(self, start: int, stop: int) -> sp.csr_matrix:
        """Some rows. DataError if they are damaged."""

    @abstractmethod
    def sample(self) -> np.ndarray:
        """Some of the numbers, of all parts of the matrix; all of them if they are few."""

    @abstractmethod
    def whole(self) -> sp.csr_matrix:
        """All rows. DataError if they are damaged, ResourceError if they exceed the memory."""

    @abstractmethod
    def stored_bytes(self) -> int:
        """Bytes of the numbers as they are stored, unpacked."""

    @abstractmethod
    def held_bytes(self) -> int:
        """About how many bytes they take as CSR."""

    @property
    @abstractmethod
    def piece(self) -> int:
        """Rows that can only be read together; 0 if each can be read alone."""


@dataclass(frozen=True, eq=False)
class Sliced(Matrix):
    """What is sliced by rows: a dense array, a data set of HDF5, a sparse matrix that AnnData left on disk."""

    name: str
    x: Any

    @property
    def shape(self) -> tuple[int, int]:  # type: ignore[override]
        return int(self.x.shape[0]), int(self.x.shape[1])

    def rows(self, start: int, stop: int) -> sp.csr_matrix:
        part = self.x[start:stop]
        if not sp.issparse(part):
            part = np.asarray(part)
            require_numbers(part.dtype, self.name)
            part = native(part)
        return tidy(sp.csr_matrix(part))

    def sample(self) -> np.ndarray:
        rows = self.shape[0]
        if rows <= JUDGED:
            return np.concatenate([self.rows(a, b).data for a, b in self._blocks(0, rows)] or [np.zeros(0)])
        size = JUDGED // _SLICES
        starts = np.linspace(0, rows - size, _SLICES).astype(int).tolist()
        return np.concatenate([self.rows(a, b).data for start in starts for a, b in self._blocks(start, start + size)])

    def whole(self) -> sp.csr_matrix:
        rows, columns = self.shape
        parts: list[sp.csr_matrix] = []
        held = 0
        for start, stop in self._blocks(0, rows):
            part = self.rows(start, stop)
            parts.append(part)
            held += _bytes(part)
            # What is there tells what will be, and the parts and what they become are in memory together.
            require_room(int(2 * held * rows / stop), self.name)
        return sp.vstack(parts, format="csr") if parts else sp.csr_matrix((rows, columns), dtype=np.float32)

    def stored_bytes(self) -> int:
        return room_of(self.shape, self.x.dtype.itemsize)

    def held_bytes(self) -> int:
        rows = self.shape[0]
        looked_at = min(rows, JUDGED // _SLICES * _SLICES if rows > JUDGED else rows)
        return int(len(self.sample()) * (self.x.dtype.itemsize + 4) * rows / max(1, looked_at))

    @property
    def piece(self) -> int:
        chunks = getattr(self.x, "chunks", None)
        return int(chunks[0]) if chunks and isinstance(chunks[0], int) else 0

    def _blocks(self, start: int, stop: int) -> list[tuple[int, int]]:
        size = max(1, _BLOCK // max(1, self.shape[1] * 8))
        return [(a, min(a + size, stop)) for a in range(start, stop, size)]


@dataclass(frozen=True, eq=False)
class Compressed(Matrix):
    """The three arrays of CSR, or of CSC (`by_columns`), in a file or in memory."""

    name: str
    shape: tuple[int, int]
    data: Any
    indices: Any
    indptr: Any
    by_columns: bool = False

    def __post_init__(self) -> None:
        long, _ = self._sides
        if min(self.shape) < 0 or any(len(part.shape) != 1 for part in (self.data, self.indices, self.indptr)):
            raise self._damaged(f"its shape is {self.shape}")
        # Files of an empty matrix may lack the last entry, and the first.
        if self.indptr.shape[0] != long + 1 and self.data.shape[0]:
            raise self._damaged(f"{self.indptr.shape[0]:,} row ends for {long:,} rows")
        if self.data.shape != self.indices.shape:
            raise self._damaged(f"{self.data.shape[0]:,} numbers at {self.indices.shape[0]:,} places")
        require_numbers(self.data.dtype, self.name)
        if self.indices.dtype.kind not in "iu" or self.indptr.dtype.kind not in "iu":
            raise self._damaged("its places are no whole numbers")

    @property
    def _sides(self) -> tuple[int, int]:
        rows, columns = self.shape
        return (columns, rows) if self.by_columns else (rows, columns)

    def rows(self, start: int, stop: int) -> sp.csr_matrix:
        if self.by_columns:
            return self.whole()[start:stop]
        return self._part(start, stop)

    def sample(self) -> np.ndarray:
        number = self.data.shape[0]
        if number <= _LOOKED_AT:
            return native(self.data[:])
        size = _LOOKED_AT // _SLICES
        starts = np.linspace(0, number - size, _SLICES).astype(int).tolist()
        return np.concatenate([native(self.data[start : start + size]) for start in starts])

    def whole(self) -> sp.csr_matrix:
        rows, _ = self.shape
        number = self.data.shape[0]
        # Places are widened to be checked; a change of sides needs both matrices at once.
        room = number * (self.data.dtype.itemsize + self.indices.dtype.itemsize + 8) * (1 + self.by_columns)
        require_room(room + self.indptr.shape[0] * 16 + rows * 8, self.name)
        if is_bomb(rows * 8, number * 8 + self.indptr.shape[0] * 8):
            raise self._damaged(f"{rows:,} rows, and {number:,} numbers in them")
        return self._part(0, self._sides[0])

    def stored_bytes(self) -> int:
        return int(self.data.shape[0]) * int(self.data.dtype.itemsize + self.indices.dtype.itemsize)

    def held_bytes(self) -> int:
        return self.stored_bytes() + self.shape[0] * 8

    @property
    def piece(self) -> int:
        return 0

    def _part(self, start: int, stop: int) -> sp.csr_matrix:
        """Some of what is compressed, rows or columns, as CSR."""
        wide = self._sides[1]
        if not self.data.shape[0]:
            shape = (stop - start, wide)
            empty = sp.csr_matrix(shape, dtype=native(self.data[:0]).dtype)
            return sp.csr_matrix(empty.T) if self.by_columns else empty
        # As int64, in which what exceeds it becomes negative, which no end is.
        ends = np.asarray(self.indptr[start : stop + 1]).astype(np.int64)
        if (np.diff(ends) < 0).any() or ends[0] < 0 or ends[-1] > self.data.shape[0] or (start == 0 and ends[0]):
            raise self._damaged("its rows overlap, or end beyond its numbers")
        first, last = int(ends[0]), int(ends[-1])
        places = np.asarray(self.indices[first:last])
        if len(places) and (places.min() < 0 or places.max() >= wide):
            raise self._damaged(f"it has a number in column {int(places.max()):,} of {wide:,}")
        ends -= first
        parts = (native(self.data[first:last]), places.astype(np.int32 if wide < 2**31 else np.int64, copy=False), ends)
        if self.by_columns:
            return tidy(sp.csc_matrix(parts, shape=(wide, stop - start)).tocsr())
        return tidy(sp.csr_matrix(parts, shape=(stop - start, wide)))

    def _damaged(self, why: str) -> DataError:
        return DataError(f"{self.name} is damaged: {why}", hint="fetch or write the file again")


def in_memory(x: Any, name: str) -> Matrix:
    """A matrix in memory, or one that AnnData left on disk: of scipy, numpy, or anything that is sliced by rows."""
    if not sp.issparse(x):
        if len(getattr(x, "shape", ())) != 2:
            raise DataError(f"{name} is no matrix", hint="counts have two dimensions: rows and columns")
        return Sliced(name, x)
    if x.format not in ("csr", "csc"):
        x = x.tocsr()
    return Compressed(name, (int(x.shape[0]), int(x.shape[1])), x.data, x.indices, x.indptr, x.format == "csc")


def looks(values: np.ndarray) -> str:
    """ "" for whole numbers that are not negative, as counts are; else what the numbers look like."""
    if values.dtype.kind in "bu" or not len(values):
        return ""
    if not (finite := np.isfinite(values)).all():
        return f"holds {values[~finite][0]}"
    if (negative := values < 0).any():
        return f"looks scaled (negative numbers such as {values[negative][0]:.4g})"
    if values.dtype.kind == "f" and (parts := values != np.floor(values)).any():
        return f"looks normalised (fractions such as {values[parts][0]:.4g})"
    return ""


def tidy(x: sp.csr_matrix) -> sp.csr_matrix:
    """CSR with the places of a row in order, once each, and no zeros among its numbers; what is shared is copied."""
    if not x.has_canonical_format:
        x = x.copy()
        x.sum_duplicates()
    if not x.data.all():
        x = x.copy()
        x.eliminate_zeros()
    return x


def native(x: np.ndarray) -> np.ndarray:
    """Numbers of a type that scipy's matrices can have, in the machine's byte order."""
    if x.dtype.kind == "b":
        return x.astype(np.uint8)
    if x.dtype == np.float16:
        return x.astype(np.float32)
    if x.dtype.itemsize > 8:
        return x.astype(np.float64)
    return x.astype(x.dtype.newbyteorder("="), copy=False)


def require_numbers(dtype: Any, name: str) -> None:
    """DataError for what is neither numbers nor booleans."""
    if dtype.kind not in "biuf":
        raise DataError(f"{name} holds values of type {dtype}, not numbers", hint="counts are whole numbers")


def unique(names: Sequence[str]) -> tuple[str, ...]:
    """Names of which none occurs twice: the first of each as it is, the next with -1, -2, …, as AnnData has it."""
    there, seen, out = set(names), dict[str, int](), []
    for name in names:
        new = name
        if name in seen:
            number = seen[name]
            while new in there:
                number += 1
                new = f"{name}-{number}"
            seen[name] = number
            there.add(new)
        else:
            seen[name] = 0
        out.append(new)
    return tuple(out)


def room_of(shape: Sequence[int], itemsize: int) -> int:
    """Bytes of a dense array."""
    return math.prod(int(n) for n in shape) * itemsize


def _bytes(x: sp.csr_matrix) -> int:
    return int(x.data.nbytes + x.indices.nbytes + x.indptr.nbytes)
