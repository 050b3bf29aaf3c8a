"""path -> a source of blocks, for data that need not fit in memory.

    a table: csv, tsv, parquet, arrow, or a folder of them; npy of two dimensions
    counts: the rows of an .h5ad file
    pictures: a folder or zip; npy of three or four dimensions; idx that is not packed

What a source gives block by block is, put together, what `read` gives of the same place.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..errors import ConfigError, DataError
from .pictures import Shape, target
from .reading import located, read, require_kind, table_files, whole_kind
from .reading_bytes import ReadingErrors, free_memory
from .reading_pictures import sampled
from .sources import Source
from .streams_array import open_array
from .streams_counts import footprint as counts_footprint
from .streams_counts import open_counts
from .streams_pictures import open_pictures
from .streams_table import open_table

__all__ = ["Source", "footprint", "open_source", "opened", "streamable"]

# Kinds that are learned in memory, but for the counts of .h5ad files.
WHOLE = ("series", "text", "music", "counts", "interactions")
_LOOKED_AT = 32  # pictures whose headers are read for an estimate


def open_source(
    path: str | os.PathLike[str],
    kind: str = "auto",
    *,
    header: str = "auto",
    delimiter: str | None = None,
    missing: tuple[str, ...] = ("?",),
    shape: Shape | None = None,
    layer: str = "auto",
    note: Callable[[str], None] = lambda _: None,
) -> Source:
    """The data in a file or folder as blocks, with the options of `read` and, put together, with its result.

    A csv file is gone through once, and so are the headers of pictures; nothing is kept but
    places and types. Raises what `read` raises, and DataError for what has no blocks: packed
    tables and arrays, and text that is not UTF-8 or cp1252.
    """
    with ReadingErrors(path):
        place, form = located(path, kind, header, shape)
        if in_memory(place, kind):
            raise DataError(f"{place.name} is read whole: data of its kind and form have no blocks", hint="--stream no")
        if form == "counts":
            return open_counts(place, layer, note)
        if form == "text":
            form = "csv"
        if form in ("csv", "parquet", "arrow"):
            files = table_files(place) if place.is_dir() else [place]
            return open_table(place, files, form, header=header, delimiter=delimiter, missing=missing, note=note)
        if form == "pictures":
            return open_pictures(place, shape, note)
        if place.suffix.lower() in (".npz", ".gz"):
            packed = place.suffix.lower() == ".gz"
            raise DataError(
                f"{place.name} is packed, and pictures in the middle of it cannot be found",
                hint=f"unpack it: gunzip -k {place.name}" if packed else "save its array alone: np.save('x.npy', x)",
            )
        source = open_array(place, shape, note)
        require_kind(place, source.kind, kind)
        return source


def opened(
    path: str | os.PathLike[str],
    kind: str = "auto",
    *,
    stream: str = "auto",
    note: Callable[[str], None] = lambda _: None,
    **options: Any,
) -> Any:
    """The data at a path: whole, as `read` gives them, or a Source if they are to be streamed.

    stream: "yes", "no", or "auto": if reading them whole would take more than half of the memory that is free.
    """
    if stream not in ("auto", "yes", "no"):
        raise ConfigError(f"stream is 'auto', 'yes' or 'no', not {stream!r}")
    if in_memory(path, kind):
        if stream == "yes":
            raise ConfigError(
                "series, texts, music, interactions and counts that are in no .h5ad file are learned in memory",
                hint="--stream no",
            )
        return read(path, kind, note=note, **options)
    large = stream == "auto" and streamable(path, kind) and footprint(path, kind) > free_memory() / 2
    if stream == "yes" or large:
        return open_source(path, kind, note=note, **options)
    return read(path, kind, note=note, **options)


def in_memory(path: str | os.PathLike[str], kind: str) -> bool:
    """Whether data are of a kind that is read whole: windows reach over any blocks, and a vocabulary is of all."""
    found = whole_kind(path) if kind == "auto" else kind
    return found in WHOLE and not (found == "counts" and Path(path).suffix.lower() == ".h5ad")


def streamable(path: str | os.PathLike[str], kind: str = "auto") -> bool:
    """Whether `open_source` takes data in this form. Says nothing of whether they are whole."""
    try:
        if in_memory(path, kind):
            return False
        place, _ = located(path, kind, "auto", None)
        files = table_files(place) if place.is_dir() else [place]
    except (ConfigError, DataError, OSError):
        return False
    return not any(file.suffix.lower() in (".npz", ".gz") for file in files)


def footprint(path: str | os.PathLike[str], kind: str = "auto") -> int:
    """About how many bytes `read` needs at its peak, estimated without reading the data."""
    with ReadingErrors(path):
        place, form = located(path, kind, "auto", None)
        if form == "pictures":
            sizes, number = sampled(place, _LOOKED_AT)
            height, width = target(sizes) if sizes else (0, 0)
            return number * height * width * 3
        if form == "counts":
            return counts_footprint(place)
        files = table_files(place) if place.is_dir() else [place]
        return sum(_held(file, form) for file in files)


def _held(file: Path, form: str) -> int:
    size = file.stat().st_size
    if form == "parquet":
        from pyarrow import parquet

        from .streams_arrow import damaged

        with damaged(file.name, form):
            about = parquet.read_metadata(file)
            unpacked = sum(about.row_group(i).total_byte_size for i in range(about.num_row_groups))
            # Arrow's copy beside the one of pandas; eight bytes a cell at least.
            return 2 * max(unpacked, about.num_rows * about.num_columns * 8)
    if file.suffix.lower() == ".gz":
        size *= 5  # what gzip saves on tables, at most, as a rule
    # The text, its cells and the typed columns are in memory together, as an array and its copy are. Arrow's batches
    # may be packed, which lz4 does to a half or a third.
    return size * {"csv": 4, "text": 4, "arrow": 5}.get(form, 2)
