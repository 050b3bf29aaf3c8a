"""A folder or zip of pictures as a source: a list of entries, decoded when they are read."""

from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from .pictures import Pictures, Shape
from .reading_bytes import Note
from .reading_pictures import Listing, decode, labels_of, list_pictures, picture_files
from .sources import Source, even, fingerprint, rows_per_block


@dataclass(frozen=True)
class PictureSource(Source):
    """Pictures by their headers.

    One whose header is fine and whose pixels cannot be decoded, which only reading shows,
    keeps its row: all its pixels are missing, and its block names it in `skipped`.
    """

    found: Listing
    labels: np.ndarray | None
    keep: ExitStack  # holds a zip open

    kind = "image"

    @property
    def name(self) -> str:
        return self.found.path.name

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        height, width, channels = self.found.shape
        return even(len(self.found.looks), rows_per_block(height * width * channels))

    @cached_property
    def fingerprint(self) -> str:
        return fingerprint(self.found.path, picture_files(self.found.path), self.found.shape)

    def _read(self, block: int) -> Pictures:
        start = sum(self.sizes[:block])
        places = range(start, start + self.sizes[block])
        pixels, observed, problems = decode(self.found, places)
        names = tuple(self.found.looks[i][0].name for i in places)
        lost = np.array([problem is not None for problem in problems])
        if lost.any():
            observed = np.ones(pixels.shape[:3], bool) if observed is None else observed
            pixels[lost], observed[lost] = 0, False
        if observed is not None and observed.all():
            observed = None
        labels = None if self.labels is None else self.labels[start : places.stop]
        skipped = tuple(f"{name}: {problem}" for name, problem in zip(names, problems, strict=True) if problem)
        return Pictures(pixels, observed, labels, names, skipped)


def open_pictures(path: Path, shape: Shape | None, note: Note) -> PictureSource:
    """The pictures in `path`, which stay there. Raises DataError if none can be read."""
    keep = ExitStack()
    found = list_pictures(path, keep, shape)
    if not found.looks:
        raise found.none_readable(found.skipped)
    found.tell(found.skipped, note)
    return PictureSource(found, labels_of([source.name for source, _ in found.looks]), keep)
