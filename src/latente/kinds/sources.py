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
        """64 hexadecimal digits that change when the data do; found by reading all of them."""

    def without(self, columns: Sequence[str]) -> "Source":
        """The rows without these columns. ConfigError if there are none of these names."""
        raise ConfigError(f"{self.name} has no column {listing(list(columns))} to leave out", hint="it has no names")

    def take(self, column: str) -> Iterator[np.ndarray]:
        """The values of one column, block by block. ConfigError if there is none of this name."""
        raise ConfigError(f"{self.name} has no column {column!r}", hint="its columns have no names")


@dataclass(frozen=True)
class Read:
    """Raw data that were read from a file, whose columns are matched by name, in any order; part: whether they are a
    block of them.
    """

    raw: Any
    part: bool = False


def rows_per_block(row_bytes: float) -> int:
    """How many rows of so many bytes make a block."""
    return max(FEWEST_ROWS, min(MOST_ROWS, int(BLOCK_BYTES / max(1.0, row_bytes))))


def even(rows: int, most: int) -> tuple[int, ...]:
    """Sizes of blocks of at most so many rows: equal but for the last."""
    return (*[most] * (rows // most), *([rows % most] if rows % most else []))


def fingerprint(root: Path, files: Sequence[Path], *more: object) -> str:
    """A hash over the files' names below the root, their bytes, and `more`.

    All of the bytes: a second or two a gigabyte, beside a schema pass of half a minute, and no change is missed.
    """
    digest = hashlib.sha256(repr(more).encode("utf-8", "backslashreplace"))
    for file in files:
        name = file.relative_to(root).as_posix() if file != root else file.name
        digest.update(f"{name!a} {file.stat().st_size}\n".encode())
        with file.open("rb") as opened:
            digest.update(hashlib.file_digest(opened, "sha256").digest())
    return digest.hexdigest()
