"""Counts -> files, and what was learned of them -> back into their own.

.h5ad                          AnnData: X, obs, var
.mtx .mtx.gz                   Matrix Market, genes × cells as 10x has it; names in the .tsv files beside it
.npz                           a sparse matrix of scipy, without names
.csv .tsv .parquet .arrow      a table of all numbers, with the rows' names in the column "cell"
"""

import errno
import gzip
import io
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp

from ..atomic import atomic_file, atomic_write
from ..errors import ConfigError, DataError, LatenteError
from .counted import Counted
from .hdf5 import require_h5py, require_sound
from .hdf5_writing import put, put_frame, put_group, put_order
from .reading_bytes import ReadingErrors, require_room
from .reading_counts import CELL

if TYPE_CHECKING:
    import pandas as pd

_TABLES = (".csv", ".tsv", ".parquet", ".arrow", ".feather")
ENDINGS = (".h5ad", ".mtx", ".mtx.gz", ".npz", *_TABLES)


def write_counts(counted: Counted, path: str | os.PathLike[str]) -> list[Path]:
    """Write counts in the format that the ending of `path` names; returns the files written.

    Raises ConfigError if the format is none of counts or the place cannot be written,
    ResourceError if the disk is full, or a table of all numbers exceeds the memory.
    """
    place = Path(path)
    ending = next((e for e in ENDINGS if place.name.lower().endswith(e)), "")
    if not ending:
        raise ConfigError(f"{place.name!r} cannot hold counts", hint=f"counts can be written as {' '.join(ENDINGS)}")
    if ending in _TABLES:
        from .writing import write

        return write(_table(counted, place.name), path)
    if ending == ".npz":
        atomic_write(place, lambda file: sp.save_npz(file, counted.counts))
        return [place]
    if ending == ".h5ad":
        _write_h5ad(counted, place)
        return [place]
    return _write_market(counted, place, ending)


def _names(counted: Counted) -> list[str]:
    return list(counted.names) or [f"c{i}" for i in range(counted.shape[1])]


def _table(counted: Counted, name: str) -> "pd.DataFrame":
    import pandas as pd

    require_room(2 * counted.shape[0] * counted.shape[1] * counted.counts.dtype.itemsize, name)
    # As 3, not 3.0: counts in text are whole numbers.
    counts = counted.counts.astype(np.int64) if _is_whole(counted.counts.data) else counted.counts
    table = pd.DataFrame(counts.toarray(), columns=_names(counted))
    if not isinstance(counted.about.index, pd.RangeIndex):
        if CELL in table.columns:
            raise ConfigError(f"{name} cannot hold rows' names: a column is called {CELL!r} already", hint="use .h5ad")
        table.insert(0, CELL, counted.about.index.astype(str).to_numpy())
    return table


def _is_whole(values: np.ndarray) -> bool:
    return bool(values.dtype.kind in "iu" or (np.isfinite(values).all() and (values == np.floor(values)).all()))


# Matrix Market


def _write_market(counted: Counted, place: Path, ending: str) -> list[Path]:
    import pandas as pd

    packed = ending == ".mtx.gz"
    stem = place.name[: -len(ending)]
    prefix = stem[: -len("matrix")] if stem.lower().endswith("matrix") else f"{stem}_"
    rows = isinstance(counted.about.index, pd.RangeIndex)
    cells = [f"cell{i}" if rows else str(name) for i, name in enumerate(counted.about.index)]
    names = {
        "features": [f"{name}\t{name}\tGene Expression" for name in map(_cell, _names(counted))],
        "barcodes": list(map(_cell, cells)),
    }
    files = [place]
    for what, lines in names.items():
        file = place.with_name(f"{prefix}{what}.tsv{'.gz' if packed else ''}")
        data = "".join(f"{line}\n" for line in lines).encode("utf-8", "backslashreplace")
        # Without a time in it, so that equal counts are equal bytes.
        atomic_write(file, gzip.compress(data, mtime=0) if packed else data)
        files.append(file)
    with atomic_file(place) as out:
        if packed:
            with gzip.GzipFile(filename="", fileobj=out, mode="wb", compresslevel=6, mtime=0) as zipped:
                _pour(counted.counts, zipped)
        else:
            _pour(counted.counts, out)
    return files


def _cell(name: str) -> str:
    """A name that stays in its place in a file of tabs and lines."""
    return " ".join(name.split()) or "-"


def _pour(counts: sp.csr_matrix, file: Any) -> None:
    """The numbers by cells, which are columns here, each with its gene first."""
    whole = _is_whole(counts.data)
    rows, columns = counts.shape
    head = f"%%MatrixMarket matrix coordinate {'integer' if whole else 'real'} general\n{columns} {rows} {counts.nnz}\n"
    file.write(head.encode())
    step = 1 << 16
    for start in range(0, rows, step):
        part = counts[start : start + step].tocoo()
        values = part.data.astype(np.int64) if whole else part.data
        text = io.StringIO()
        triples = zip((part.col + 1).tolist(), (part.row + start + 1).tolist(), values.tolist(), strict=True)
        text.writelines(f"{column} {row} {value!r}\n" for column, row, value in triples)
        file.write(text.getvalue().encode())


# AnnData


def _write_h5ad(counted: Counted, place: Path) -> None:
    require_h5py("writing .h5ad files")
    import h5py
    import pandas as pd

    about = counted.about
    if isinstance(about.index, pd.RangeIndex):
        about = about.set_axis(about.index.astype(str), axis=0)
    with atomic_file(place) as out, h5py.File(out, "w") as file:
        file.attrs["encoding-type"], file.attrs["encoding-version"] = "anndata", "0.1.0"
        put(file, "X", counted.counts)
        put_frame(file, "obs", about)
        put_frame(file, "var", pd.DataFrame(index=pd.Index(_names(counted))))
        for name in ("layers", "obsm", "obsp", "uns", "varm", "varp"):
            put_group(file, name)


def write_back(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    obsm: Mapping[str, np.ndarray] | None = None,
    obsp: Mapping[str, Any] | None = None,
    obs: Mapping[str, Any] | None = None,
    layers: Mapping[str, Any] | None = None,
    uns: Mapping[str, Any] | None = None,
) -> Path:
    """A copy of an .h5ad file with these added to it, or in the place of what has their names; its X is not loaded.

    obsm: arrays [cells, …]. obsp: matrices [cells, cells]. obs: a column of text, numbers or categories each. layers:
    matrices as X is. uns: text, numbers, arrays, tables, and dictionaries of these. `target` may be `source`.

    Raises DataError if `source` is no .h5ad file or what is to be added has other cells,
    ConfigError if the place cannot be written or h5py is missing.
    """
    require_h5py("writing .h5ad files")
    import h5py

    place = Path(source)
    with ReadingErrors(place):
        require_sound(place)
    parts = {"obsm": obsm, "obsp": obsp, "layers": layers, "uns": uns}
    with ReadingErrors(place), place.open("rb") as original, atomic_file(target) as out:
        shutil.copyfileobj(original, out, 1 << 24)
        out.flush()
        try:
            with h5py.File(out, "r+") as file:
                cells = _cells(file, place.name)
                for group, members in parts.items():
                    for name, value in (members or {}).items():
                        if group != "uns":
                            _require_cells(f"{group}[{name!r}]", np.shape(value)[0], place.name, cells)
                        put(put_group(file, group), name, value)
                if obs:
                    _add_columns(file["obs"], obs, cells, place.name)
        except (LatenteError, MemoryError):
            raise
        except Exception as error:  # a damaged file makes HDF5 raise anything
            if isinstance(error, OSError) and error.errno == errno.ENOSPC:
                raise
            reason = " ".join(str(error).split())[:200]
            raise DataError(
                f"{place.name} cannot be added to: {reason}", hint="write it again with adata.write_h5ad"
            ) from error
    return Path(target)


def _cells(file: Any, name: str) -> int:
    """The number of cells of an open .h5ad file."""
    import h5py

    obs = file.get("obs")
    index = obs.get(str(obs.attrs.get("_index", "_index"))) if isinstance(obs, h5py.Group) else None
    if not isinstance(index, h5py.Dataset) or len(index.shape) != 1:
        raise DataError(
            f"{name} is no .h5ad file as anndata 0.7 and later write it",
            hint="read it with anndata and write it again: adata.write_h5ad",
        )
    return int(index.shape[0])


def _add_columns(group: Any, columns: Mapping[str, Any], cells: int, name: str) -> None:
    order = [str(one) for one in np.ravel(group.attrs.get("column-order", [])).tolist()]
    for column, values in columns.items():
        _require_cells(f"obs[{column!r}]", len(values), name, cells)
        put(group, column, values)
    put_order(group, [*order, *(column for column in columns if column not in order)])


def _require_cells(what: str, rows: int, name: str, cells: int) -> None:
    if rows != cells:
        raise DataError(
            f"{what} has {rows:,} rows, and {name} {cells:,} cells", hint="encode the same file that is written to"
        )
