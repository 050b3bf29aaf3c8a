"""Arrays on disk, memory-mapped, as sources of blocks."""

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from .pictures import Pictures, Shape, from_array
from .reading_arrays import Stored, mapped, mapped_idx, native
from .reading_bytes import Note
from .sources import Source, even, fingerprint, rows_per_block


@dataclass(frozen=True)
class ArraySource(Source):
    """The rows of an npy or idx file: numbers of a table, or pictures."""

    path: Path
    stored: Stored
    shape: Shape | None
    kind: str

    @property
    def name(self) -> str:
        return self.path.name

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        x = self.stored.x
        return even(len(x), rows_per_block(x.nbytes / len(x)))

    @cached_property
    def fingerprint(self) -> str:
        return fingerprint(self.path, [self.path], self.shape)

    def _read(self, block: int) -> "np.ndarray | Pictures":
        return self.block(block, lambda remark: None)

    def block(self, block: int, note: Note) -> "np.ndarray | Pictures":
        """What `read` gives, with its remarks."""
        start = sum(self.sizes[:block])
        rows = slice(start, start + self.sizes[block])
        x = native(self.stored.x[rows])
        if self.kind == "table":
            return x
        labels = None if self.stored.labels is None else self.stored.labels[rows]
        pictures = from_array(x, name=self.name, labels=labels, shape=self.shape, note=note, part=True)
        return replace(pictures, names=tuple(f"{i:06d}" for i in range(rows.start, rows.stop)))


def open_array(path: Path, shape: Shape | None, note: Note) -> ArraySource:
    """An npy file, or an idx file that is not packed."""
    stored = Stored(mapped(path)) if path.suffix.lower() == ".npy" else mapped_idx(path)
    source = ArraySource(path, stored, shape, "table" if stored.x.ndim == 2 else "image")
    if source.kind == "image":
        source.block(0, note)  # what is said of it is the same in every block
    return source
