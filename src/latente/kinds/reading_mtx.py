"""Matrix Market files (.mtx, .mtx.gz) -> counts, with the names in the files beside them.

    matrix.mtx.gz      features.tsv.gz (or genes.tsv)  barcodes.tsv.gz         as 10x writes them
    NAME_matrix.mtx    NAME_features.tsv               NAME_barcodes.tsv
    NAME.mtx           NAME_features.tsv               NAME_barcodes.tsv       or as the first

Where there are such files and their lengths say so, rows are features (genes), and are turned into columns.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy.sparse as sp

from ..errors import DataError
from .counted import Counted
from .matrices import in_memory
from .reading_anndata import cells, named
from .reading_bytes import Note, content, is_bomb, require_room, utf8

MATRICES = ("matrix.mtx.gz", "matrix.mtx")
_HEADER = b"%%MatrixMarket"


def matrix_in(folder: Path) -> Path | None:
    """The matrix of a folder as 10x writes it, if it is one."""
    return next((folder / name for name in MATRICES if (folder / name).is_file()), None)


def read_mtx(path: Path, note: Note) -> Counted:
    """A Matrix Market file as counts. Raises as `read_counts`."""
    data = content(path)
    if data[: len(_HEADER)].lower() != _HEADER.lower():
        raise DataError(
            f"{path.name} is no Matrix Market file: it does not begin with %%MatrixMarket", hint="fetch it again"
        )
    matrix = _parsed(data, _form(data, path.name), path.name)
    del data
    rows, columns = matrix.shape
    features, barcodes = _lines(path, ("features", "genes"), note), _lines(path, ("barcodes",), note)
    number = None if features is None else len(features)
    cells_of = None if barcodes is None else len(barcodes)
    if number == rows and cells_of in (None, columns):
        matrix = matrix.T  # genes × cells, as 10x has it
    elif not (number in (None, columns) and cells_of in (None, rows)):
        if features is None and cells_of == columns:
            matrix = matrix.T
        else:
            said = [f"{n:,} {what}" for n, what in ((number, "features"), (cells_of, "barcodes")) if n is not None]
            raise DataError(
                f"{path.name} has {rows:,} rows × {columns:,} columns, and beside it are names of {' and '.join(said)}",
                hint="move the .tsv files elsewhere if they are not this matrix's",
            )
    counts = in_memory(matrix.tocsr(), path.name).whole()
    names = None if features is None else [line[1] if len(line) > 1 else line[0] for line in features]
    about = cells(None if barcodes is None else [line[0] for line in barcodes], counts.shape[0])
    return Counted(counts, named(names, counts.shape[1], note), about)


@dataclass(frozen=True)
class _Form:
    """What the head of a file says: its sizes, whether only places are listed, and where its numbers begin."""

    rows: int
    columns: int
    entries: int
    sparse: bool
    field: str
    start: int


def _form(data: bytes, name: str) -> _Form:
    """DataError if a file declares a form that counts do not have, or more than its bytes can hold."""
    end = data.find(b"\n")
    words = data[: end if end >= 0 else None].decode("latin-1").lower().split()
    if len(words) != 5 or words[2] not in ("coordinate", "array"):
        raise DataError(f"{name}: its first line is not that of a matrix", hint="fetch or write it again")
    if words[3] not in ("integer", "unsigned-integer", "real", "double", "pattern") or words[4] != "general":
        raise DataError(f"{name} is a matrix of the form {words[3]} {words[4]}", hint="counts are 'integer general'")
    at = end + 1 if end >= 0 else len(data)
    while True:
        end = data.find(b"\n", at)
        line = data[at : end if end >= 0 else None].strip()
        if line and not line.startswith(b"%"):
            break
        if end < 0:
            raise DataError(f"{name} ends before it tells its size", hint="fetch it again: it is cut short")
        at = end + 1
    numbers = line[:200].split()
    sparse = words[2] == "coordinate"
    if len(numbers) != 2 + sparse or not all(n.isdigit() and len(n) < 19 for n in numbers):
        raise DataError(f"{name}: {line[:60]!r} is no size of a matrix", hint="fetch or write it again")
    rows, columns, *rest = (int(n) for n in numbers)
    form = _Form(
        rows, columns, rest[0] if sparse else rows * columns, sparse, words[3], end + 1 if end >= 0 else len(data)
    )
    # An entry is a digit for each of its numbers, and what parts them.
    if form.entries * 2 * (3 - (form.field == "pattern") if sparse else 1) > len(data) - form.start + 1:
        raise DataError(
            f"{name} declares {form.entries:,} numbers, more than its {len(data):,} bytes can hold",
            hint="fetch it again: it is cut short or damaged",
        )
    # As triples, and as CSR of either side.
    require_room(form.entries * 48 + (rows + columns) * 16, name)
    if is_bomb((rows + columns) * 8, len(data)):
        raise DataError(
            f"{name} declares {rows:,} × {columns:,} numbers and holds {form.entries:,}",
            hint="write it again, as .h5ad",
        )
    return form


def _parsed(data: bytes, form: _Form, name: str) -> sp.coo_matrix:
    """The numbers of a file. Not by scipy's mmread, which a damaged file can crash together with Python."""
    if not form.sparse:
        return sp.coo_matrix(_dense(data, form, name).reshape(form.columns, form.rows).T)
    if not form.entries:
        return sp.coo_matrix((form.rows, form.columns), dtype=np.int64)
    triples = _triples(data, form, name)
    row, column = triples[0] - 1, triples[1] - 1
    if len(row) != form.entries:
        raise DataError(f"{name} declares {form.entries:,} numbers and holds {len(row):,}", hint="fetch it again")
    for places, size in ((row, form.rows), (column, form.columns)):
        if places.min() < 0 or places.max() >= size:
            odd = int(places[(places < 0) | (places >= size)][0]) + 1
            raise DataError(f"{name} has a number at place {odd:,} of {size:,}", hint="fetch or write it again")
    values = triples[2] if len(triples) > 2 else np.ones(len(row), np.int64)
    return sp.coo_matrix((values, (row, column)), shape=(form.rows, form.columns))


def _triples(data: bytes, form: _Form, name: str) -> list[np.ndarray]:
    """Rows, columns and, unless the form is without them, values."""
    import pyarrow as pa
    from pyarrow import csv

    value = pa.float64() if form.field in ("real", "double") else pa.int64()
    types = {"row": pa.int64(), "column": pa.int64()} | ({} if form.field == "pattern" else {"value": value})
    body = pa.py_buffer(data).slice(form.start)
    try:
        table = csv.read_csv(
            pa.BufferReader(body),
            read_options=csv.ReadOptions(column_names=list(types), use_threads=True),
            parse_options=csv.ParseOptions(delimiter=" ", quote_char=False),
            convert_options=csv.ConvertOptions(column_types=types, null_values=[]),
        )
        return [column.to_numpy() for column in table.columns]
    except pa.ArrowInvalid:
        pass  # parted by tabs, or by more than one space, which is slower to read
    words = np.array(data[form.start :].split())
    if len(words) % len(types) or len(words) // len(types) != form.entries:
        raise DataError(
            f"{name} declares {form.entries:,} entries and holds {len(words):,} words", hint="fetch it again"
        )
    try:
        return [
            words[i :: len(types)].astype(np.float64 if kind == pa.float64() else np.int64)
            for i, kind in enumerate(types.values())
        ]
    except (ValueError, OverflowError) as error:
        raise DataError(f"{name} is damaged: {str(error)[:200]}", hint="fetch or write it again") from error


def _dense(data: bytes, form: _Form, name: str) -> np.ndarray:
    words = data[form.start :].split()
    if len(words) != form.entries:
        raise DataError(f"{name} declares {form.entries:,} numbers and holds {len(words):,}", hint="fetch it again")
    try:
        return np.array(words, dtype=np.float64 if form.field in ("real", "double") else np.int64)
    except (ValueError, OverflowError) as error:
        raise DataError(f"{name} is damaged: {str(error)[:200]}", hint="fetch or write it again") from error


def _lines(path: Path, whats: tuple[str, ...], note: Note) -> list[list[str]] | None:
    """The lines of the file of names beside a matrix, each as its cells; None if there is none."""
    stem = path.name[: -len(".mtx.gz")] if path.name.lower().endswith(".gz") else path.name[: -len(".mtx")]
    prefixes = [stem[: -len("matrix")]] if stem.lower().endswith("matrix") else [f"{stem}_", f"{stem}.", ""]
    names = [f"{prefix}{what}.tsv{gz}" for prefix in prefixes for what in whats for gz in (".gz", "")]
    place = next((path.with_name(name) for name in names if path.with_name(name).is_file()), None)
    if place is None:
        return None
    text = utf8(content(place), place.name, note).decode().replace("\r\n", "\n")
    lines = text.removesuffix("\n").split("\n") if text else []
    return [[cell.strip() for cell in line.split("\t")] for line in lines]
