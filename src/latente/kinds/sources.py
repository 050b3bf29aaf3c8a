"""Data that need not fit in memory: rows in blocks, each readable alone."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ConfigError
from .reading_bytes import ReadingErrors
from .reading_columns import listing

# A decoded block should be large beside what it costs to open a file, and small beside the memory.
BLOCK_BYTES = 24 << 20
FEWEST_ROWS, MOST_ROWS = 256, 65_536

_PIECE = 1 << 16  # bytes read at one place of a file for its fingerprint
_PLACES = 8  # between its head and its tail
_LARGEST_FOOTER = 1 << 26


class Source(ABC):
    """Rows in blocks, each readable alone, in any order, from any thread. kind: "table" or "image"."""

    kind: str

    @property
    @abstractmethod
    def name(self) -> str:
        """The file's or folder's, for messages."""

    @property
    @abstractmethod
    def sizes(self) -> tuple[int, ...]:
        """Rows of each block."""

    def __len__(self) -> int:
        """Rows."""
        return sum(self.sizes)

    def read(self, block: int) -> Any:
        """The raw data of a block: a data frame, an array or Pictures. Raises DataError if they are damaged."""
        if not 0 <= block < len(self.sizes):
            raise IndexError(f"{self.name} has {len(self.sizes)} blocks, and block {block} was asked for")
        with ReadingErrors(self.name):
            return self._read(block)

    @abstractmethod
    def _read(self, block: int) -> Any: ...

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """64 hexadecimal digits that change when the data do; found without reading all of them."""

    def without(self, columns: Sequence[str]) -> "Source":
        """The rows without these columns. ConfigError if there are none of these names."""
        raise ConfigError(f"{self.name} has no column {listing(list(columns))} to leave out", hint="it has no names")

    def take(self, column: str) -> Iterator[np.ndarray]:
        """The values of one column, block by block. ConfigError if there is none of this name."""
        raise ConfigError(f"{self.name} has no column {column!r}", hint="its columns have no names")


@dataclass(frozen=True)
class Read:
    """Raw data that were read from a file, whose columns are matched by name, in any order."""

    raw: Any


def rows_per_block(row_bytes: float) -> int:
    """How many rows of so many bytes make a block."""
    return max(FEWEST_ROWS, min(MOST_ROWS, int(BLOCK_BYTES / max(1.0, row_bytes))))


def even(rows: int, most: int) -> tuple[int, ...]:
    """Sizes of blocks of at most so many rows: equal but for the last."""
    return (*[most] * (rows // most), *([rows % most] if rows % most else []))


def fingerprint(root: Path, files: Sequence[Path], *more: object) -> str:
    """A hash over the files' names below the root, their sizes and samples of their bytes, and `more`."""
    digest = hashlib.sha256(repr(more).encode("utf-8", "backslashreplace"))
    for file in files:
        size = file.stat().st_size
        name = file.relative_to(root).as_posix() if file != root else file.name
        digest.update(f"{name!a} {size}\n".encode())
        with file.open("rb") as opened:
            for place in sorted({max(0, size - _PIECE) * i // (_PLACES + 1) for i in range(_PLACES + 2)}):
                opened.seek(place)
                digest.update(opened.read(_PIECE))
            opened.seek(max(0, size - 8))
            tail = opened.read(8)
            if tail.endswith(b"PAR1"):  # the whole footer, which tells of every column
                opened.seek(max(0, size - 8 - int.from_bytes(tail[:4], "little")))
                digest.update(opened.read(_LARGEST_FOOTER))
    return digest.hexdigest()
