"""Counts in files: single cells × genes, documents × words.

    .h5ad                              AnnData, by the first of its matrices that holds counts
    .h5                                10x's, or one with a matrix X (and labels Y)
    .mtx .mtx.gz, a folder of one      Matrix Market, with features.tsv and barcodes.tsv beside it
    .npz                               a sparse matrix of scipy, or a dense array
    .csv .tsv .parquet .arrow .npy     a table: its columns of numbers

Nothing here is trusted: whatever a file holds, the outcome is data, a DataError, or a ResourceError if this machine is
too small. No pickle is read, no other file that one names, and no matrix before it is known to fit.
"""

import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp

from ..errors import ConfigError, DataError
from .counted import Counted
from .hdf5 import array, children, is_dataset, member, opened, require_sound, strings
from .matrices import Compressed, Matrix, in_memory, native, require_numbers
from .reading_anndata import AUTO, cells, named, of_anndata, read_h5ad, stored
from .reading_bytes import Note, ReadingErrors, is_bomb, require_room
from .reading_columns import listing
from .reading_mtx import matrix_in, read_mtx

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["is_sparse_npz", "matrix_in", "of_anndata", "of_array", "of_frame", "read_counts"]

_BLOCK = 32 << 20  # bytes of a table that are an array at once
_PLAIN = ("X", "x", "counts", "matrix")  # a plain .h5 file's matrix
CELL = "cell"  # the column of rows' names, where counts are written as a table
_LABELS = ("Y", "y", "labels")


def read_counts(place: Path, *, layer: str = AUTO, note: Note = lambda _: None) -> Counted:
    """The counts in a file of their own formats, or a folder as 10x writes it; `note` is told how they were read.

    layer: of an .h5ad file "X", "raw" or the name of a layer, taken as it is; "auto" is the first
    of X, layers["counts"], the other layers and raw.X that holds whole numbers and no negative
    ones, by a look at some 2,000 rows.

    Raises DataError for what cannot be read, or a layer that is not there; ConfigError if h5py
    is missing; ResourceError if the counts exceed the memory.
    """
    with ReadingErrors(place):
        found = matrix_in(place) if place.is_dir() else place
        if found is None:
            raise DataError(f"{place} holds no matrix.mtx", hint="name the file itself")
        ending = "".join(found.suffixes[-2:]) if found.suffix.lower() == ".gz" else found.suffix
        if ending.lower() in (".h5ad", ".h5"):
            require_sound(found)
        if ending.lower() == ".h5ad" or (ending.lower() == ".h5" and _is_anndata(found)):
            return read_h5ad(found, layer, note)
        if layer != AUTO:
            raise ConfigError(f"{place.name} has no layers", hint="leave --layer out: it is for .h5ad files")
        if ending.lower() == ".h5":
            return _read_h5(found, note)
        if ending.lower() in (".mtx", ".mtx.gz"):
            return read_mtx(found, note)
        if ending.lower() == ".npz":
            return _read_npz(found)
        raise DataError(f"{place.name}: no counts are read from files ending in {ending!r}", hint="save it as .h5ad")


# Plain HDF5, and 10x's


def _is_anndata(path: Path) -> bool:
    with opened(path) as file:
        return member(file, "obs") is not None and member(file, "var") is not None


def _read_h5(path: Path, note: Note) -> Counted:
    with opened(path) as file:
        # Since version 3 the group is "matrix"; before, it was called by the genome.
        groups = [name for name in children(file) if is_dataset(member(file, f"{name}/indptr"))]
        name = "matrix" if "matrix" in groups else groups[0] if groups else ""
        if name and is_dataset(member(file, f"{name}/barcodes")):
            if len(groups) > 1:
                note(f"{path.name}: of the genomes {listing(groups)} it is {name!r} that is read")
            return _tenx(member(file, name), path.name, note)
        name = next((name for name in _PLAIN if member(file, name) is not None), "")
        if not name:
            there = listing(children(file)) or "nothing"
            raise DataError(
                f"{path.name} holds {there}, and no counts that are known",
                hint="save the matrix as 'X' (rows × columns), or the file as .h5ad",
            )
        counts = stored(member(file, name), name).whole()
        about = cells(None, counts.shape[0])
        labels = next((found for key in _LABELS if is_dataset(found := member(file, key))), None)
        if labels is not None and labels.shape == (counts.shape[0],):
            about["Y"] = _labels(array(labels))
        return Counted(counts, (), about, name)


def _tenx(group: Any, name: str, note: Note) -> Counted:
    """10x's matrix is genes × cells by columns, which is cells × genes by rows."""
    data, indices, indptr, shape = (member(group, part) for part in ("data", "indices", "indptr", "shape"))
    if not all(is_dataset(part) for part in (data, indices, indptr, shape)) or shape.shape != (2,):
        raise DataError(f"{name} is damaged: data, indices, indptr or shape is missing", hint="fetch it again")
    genes, rows = (int(n) for n in array(shape))
    counts = Compressed(name, (rows, genes), data, indices, indptr).whole()
    places = ("features/name", "gene_names", "features/id", "genes")
    features = next((found for place in places if (found := member(group, place)) is not None), None)
    kinds = member(group, "features/feature_type")
    if kinds is not None and len(several := sorted(set(strings(kinds)))) > 1:
        note(f"{name}: features of several types are counts alike: {listing(several)}")
    about = cells(strings(member(group, "barcodes")), rows)
    return Counted(counts, named(None if features is None else strings(features), genes, note), about)


def _labels(values: np.ndarray) -> Any:
    import pandas as pd

    return pd.Categorical(values) if values.dtype.kind == "O" else values


# Arrays


def is_sparse_npz(path: Path) -> bool:
    """Whether a file is an .npz as scipy.sparse.save_npz writes it."""
    try:
        with zipfile.ZipFile(path) as archive:
            return {"format.npy", "shape.npy", "data.npy"} <= set(archive.namelist())
    except (OSError, ValueError, zipfile.BadZipFile, NotImplementedError):
        return False


def _read_npz(path: Path) -> Counted:
    try:
        return of_matrix(_sparse(path), "")
    except (DataError, MemoryError, PermissionError):
        raise
    except Exception as error:  # a broken header makes numpy raise anything: SyntaxError, TypeError, EOFError …
        reason = " ".join(str(error).split())[:200]
        raise DataError(
            f"{path.name} is damaged: {reason}", hint="write it again with scipy.sparse.save_npz"
        ) from error


def _sparse(path: Path) -> Matrix:
    with zipfile.ZipFile(path) as archive:
        members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
    if any(is_bomb(info.file_size, info.compress_size) for info in members.values()):
        raise DataError(
            f"{path.name} unpacks to more than 200 times its size",
            hint="if you trust it, save it again: scipy.sparse.save_npz(path, x, compressed=False)",
        )
    require_room(2 * sum(info.file_size for info in members.values()), path.name)
    with path.open("rb") as opened_, np.load(opened_, allow_pickle=False) as file:
        form = file["format"].item()
        form = form.decode("ascii", "replace") if isinstance(form, bytes) else str(form)
        shape = tuple(int(n) for n in file["shape"])
        if form not in ("csr", "csc", "coo") or len(shape) != 2 or min(shape) < 0:
            raise DataError(
                f"{path.name} holds a sparse matrix of form {form!r} and shape {shape}",
                hint="save it as CSR: scipy.sparse.save_npz(path, x.tocsr())",
            )
        data = file["data"]
        require_numbers(data.dtype, path.name)
        if form != "coo":
            return Compressed(path.name, shape, data, file["indices"], file["indptr"], form == "csc")
        row, column = file["row"], file["col"]
    if is_bomb(shape[0] * 8, path.stat().st_size):
        raise DataError(
            f"{path.name} declares {shape[0]:,} rows, and holds {len(data):,} numbers", hint="write it again, as .h5ad"
        )
    return in_memory(sp.coo_matrix((native(data), (row, column)), shape=shape).tocsr(), path.name)


def of_matrix(matrix: Matrix, part: str) -> Counted:
    """The counts of a matrix without names."""
    counts = matrix.whole()
    return Counted(counts, (), cells(None, counts.shape[0]), part)


def of_array(x: Any, name: str, labels: np.ndarray | None = None) -> Counted:
    """The counts of an array or a sparse matrix in memory, and its rows' labels."""
    counted = of_matrix(in_memory(x, name), "")
    if labels is not None:
        counted.about["Y"] = _labels(labels)
    return counted


# Tables


def of_frame(frame: "pd.DataFrame", note: Note = lambda _: None) -> Counted:
    """The counts in a table: its columns of numbers. The others are `about` its rows.

    A first column of text in which no cell is twice, or missing, names the rows. Raises DataError if no column holds
    numbers.
    """
    import pandas as pd

    about = frame
    if isinstance(frame.index, pd.RangeIndex) and frame.shape[1] and len(frame):
        first = frame.iloc[:, 0]
        text = not pd.api.types.is_numeric_dtype(first.dtype) and all(isinstance(cell, str) for cell in first)
        # Names such as 1, 2, … are text no more in a .csv file: `write` says by the column's name that they are names.
        if (text or (first.name == CELL and first.notna().all())) and first.is_unique:
            about = frame.iloc[:, 1:].set_axis(pd.Index(first.astype(str), name=first.name), axis=0)
    numeric = [pd.api.types.is_numeric_dtype(kind) and not _is_bool(kind) for kind in about.dtypes]
    if not any(numeric):
        raise DataError(
            f"none of the columns holds numbers: {listing([str(name) for name in frame.columns])}",
            hint="counts are a table with a column of whole numbers for each gene, word or item",
        )
    other = [str(name) for name, is_number in zip(about.columns, numeric, strict=True) if not is_number]
    if other:
        note(f"no counts, but known of each row: {listing(other)}")
    table = about.loc[:, numeric]
    kind = np.result_type(*{_plain(one) for one in table.dtypes})
    step = max(1, _BLOCK // (table.shape[1] * kind.itemsize))
    parts = [_block(table.iloc[at : at + step], kind) for at in range(0, len(table), step)]
    counts = sp.vstack(parts, format="csr") if parts else sp.csr_matrix(table.shape, dtype=kind)
    names = named([str(name) for name in table.columns], table.shape[1], note)
    return Counted(counts, names, about.loc[:, [not is_number for is_number in numeric]].copy())


def _block(rows: "pd.DataFrame", kind: np.dtype) -> sp.csr_matrix:
    # Columns of whole numbers that miss cells hold pd.NA, which is a NaN here.
    return in_memory(
        native(rows.to_numpy(kind, na_value=np.nan) if kind.kind == "f" else rows.to_numpy(kind)), ""
    ).whole()


def _is_bool(kind: Any) -> bool:
    import pandas as pd

    return pd.api.types.is_bool_dtype(kind)


def _plain(kind: Any) -> np.dtype:
    """The type of numpy for the numbers of a column."""
    if isinstance(kind, np.dtype):
        return kind
    subtype = getattr(kind, "subtype", None)  # of a sparse column
    # pandas' own types may miss cells, whatever they are.
    return np.dtype(subtype) if subtype is not None else np.dtype(np.float64)
