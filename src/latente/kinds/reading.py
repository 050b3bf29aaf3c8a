"""path -> raw data: tables, arrays and pictures, told apart by their names.

    .csv .tsv (also .gz)  .parquet .arrow .feather     -> pd.DataFrame
    a folder of such files of one format               -> pd.DataFrame
    .npy .npz of two dimensions                        -> np.ndarray
    .npy .npz of three or four, idx, a picture,
    a folder or .zip of pictures                       -> Pictures
    .txt, a folder of them, .jsonl, a table's column   -> Texts
    .mid .abc, a folder or .zip of them, .json         -> Tunes
    .h5ad .h5 .mtx, a folder as 10x writes it,
    .npz of a sparse matrix; any table of kind counts  -> Counted

Nothing here is trusted: whatever a file holds, the outcome is data, a DataError, or a
ResourceError if this machine is too small. No pickle is read and nothing is unpacked to disk.
"""

import difflib
import itertools
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ..errors import ConfigError, DataError
from .counted import Counted
from .histories import of_frame as of_lines
from .histories import of_matrix, read_lines
from .pictures import Pictures, Shape, from_array
from .reading_arrays import Stored, idx_ndim, mapped, read_arrays, read_idx
from .reading_bytes import ReadingErrors, require_room
from .reading_columns import frame, listing
from .reading_counts import is_sparse_npz, matrix_in, of_array, of_frame, read_counts
from .reading_csv import read_csv
from .reading_music import ENDINGS as MUSIC
from .reading_music import has_music, read_music
from .reading_pictures import ENDINGS, has_pictures, read_pictures
from .reading_text import looks_like_numbers, of_table, read_folder, read_jsonl, read_txt, text_files
from .streams_arrow import column_names, damaged
from .streams_table import gathered, open_table
from .texts import Texts
from .tunes import Tunes

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Pictures", "guess_kind", "read"]

Form = Literal["csv", "text", "jsonl", "parquet", "arrow", "array", "idx", "pictures", "music", "counts"]
_FORMS: dict[str, Form] = {
    ".csv": "csv",
    ".tsv": "csv",
    ".csv.gz": "csv",
    ".tsv.gz": "csv",
    ".txt": "text",  # a table only if the caller says so: most are prose
    ".txt.gz": "text",
    ".jsonl": "jsonl",
    ".jsonl.gz": "jsonl",
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".feather": "arrow",
    ".npy": "array",
    ".npz": "array",
    ".idx": "idx",
    ".idx.gz": "idx",
    ".zip": "pictures",
    **dict.fromkeys((".h5ad", ".h5", ".mtx", ".mtx.gz"), "counts"),
    **dict.fromkeys(ENDINGS, "pictures"),
    **dict.fromkeys((*MUSIC, ".json"), "music"),
}
_SUPPORTED = (
    ".csv .tsv .csv.gz .parquet .arrow .feather .npy .npz .idx .zip .txt .jsonl .json .h5ad .h5 .mtx "
    + " ".join(MUSIC + ENDINGS)
)
KINDS = ("table", "image", "series", "text", "music", "counts", "interactions", "auto")
_OF_TABLES = ("series", "text", "counts", "interactions")  # what tables are read for too
_SCANNED = 10_000  # names looked at for a suggestion


def guess_kind(path: str | os.PathLike[str]) -> str:
    """ "table", "image", "text", "music" or "counts", by the file's name or its array's dimensions; else DataError."""
    with ReadingErrors(path):
        place = _existing(path)
        form = _form(place)
        if form == "array":
            plain = place.suffix.lower() == ".npy"  # its header tells
            return _kind_of(Stored(mapped(place)) if plain else read_arrays(place, lambda _: None))
        if form == "text" and place.is_file() and looks_like_numbers(place):
            raise DataError(
                f"{place.name} may be a table or a text",
                hint="--kind table if its lines are rows of cells, or --kind text",
            )
        if form in ("text", "jsonl"):
            return "text"
        if form in ("music", "counts"):
            return form
        if form == "pictures" and (place.is_dir() or place.suffix.lower() == ".zip") and not has_pictures(place):
            raise _without_pictures(place)
        return "image" if form in ("idx", "pictures") else "table"


def read(
    path: str | os.PathLike[str],
    kind: str = "auto",
    *,
    header: str = "auto",
    delimiter: str | None = None,
    missing: tuple[str, ...] = ("?",),
    shape: Shape | None = None,
    unit: str = "auto",
    text_col: str = "",
    grid: int = 4,
    layer: str = "auto",
    columns: tuple[str, str, str | None] | None = None,
    note: Callable[[str], None] = lambda _: None,
) -> "pd.DataFrame | np.ndarray | Pictures | Texts | Tunes | Counted":
    """The data in a file or folder; `note` is told what a reader should know about how they were read.

    A CSV file's first row is its header unless one of its non-empty cells is a number
    (`header` "yes" or "no" decides it); its `delimiter` is found if None; empty cells, the
    usual words (NA, null, …) and the `missing` ones are missing.

    Pictures are brought to `shape` (height, width, channels). Without one, pictures of one
    size whose longer side is at most 128 pixels keep it, and others are fitted, with their
    aspect kept and their edges repeated, into the most common size, scaled down to a longer
    side of at most 64.

    Of a .txt file each `unit` is an example: "line", "paragraph" (between empty lines), "sentence", or "auto": lines,
    but sentences of prose whose paragraphs are wrapped. `text_col`: the column of a table, or the field of a JSON
    object, that is a text; "" is the only one, or one with a usual name. Music is brought to a `grid` of so many steps
    a quarter note; of a .json file that holds several parts, FILE.json:PART is one.

    Counts in an .h5ad file are of its `layer`: "X", "raw", the name of a layer, or "auto", the first of them that holds
    counts. Of a table of kind "counts" the columns of numbers are counts, and the others are kept beside them. A table
    of kind "interactions" is its lines, unless its `columns` of user, item and weight are given ("": by usual names).

    Raises DataError for data that cannot be read or are of another kind, ConfigError for an
    option that cannot be, ResourceError if the data exceed the memory.
    """
    with ReadingErrors(path):
        path, part = apart(path)
        place, form = located(path, kind, header, shape)
        raw: Any
        if kind == "interactions":
            return _histories(place, form, header, delimiter, columns, note)
        if form == "counts":
            return read_counts(place, layer=layer, note=note)
        if kind == "counts":
            return _counted(place, form, header, delimiter, missing, note)
        if kind == "music" or form == "music":
            return read_music(place, note=note, grid=grid, part=part)
        if kind == "text" or form == "jsonl" or (kind == "auto" and form == "text"):
            return _texts(place, form, header, delimiter, unit, text_col, note)
        if kind == "series" and form in ("array", "idx"):
            raw = (read_idx(place) if form == "idx" else read_arrays(place, note)).x
        elif place.is_dir() and form in ("csv", "parquet", "arrow"):
            files = table_files(place)
            require_room(sum(file.stat().st_size for file in files), place.name)
            raw = gathered(
                open_table(place, files, form, header=header, delimiter=delimiter, missing=missing, note=note)
            )
        elif form in ("csv", "text"):
            raw = read_csv(place, header=header, delimiter=delimiter, missing=missing, note=note)
        elif form in ("parquet", "arrow"):
            raw = _columnar(place, form, note)
        elif form in ("array", "idx"):
            stored = read_idx(place) if form == "idx" else read_arrays(place, note)
            require_kind(place, _kind_of(stored), kind, f" of shape {stored.x.shape}")
            raw = _of_arrays(stored, place.name, shape, note)
        else:
            raw = read_pictures(place, shape=shape, note=note)
        return raw


def located(path: str | os.PathLike[str], kind: str, header: str, shape: Shape | None) -> tuple[Path, Form]:
    """The place of data and their form, which is of this kind unless it is an array's. Raises as `read` does."""
    if kind not in KINDS:
        raise ConfigError(f"kind {kind!r} cannot be read here", hint=f"kinds read from files are: {', '.join(KINDS)}")
    if header not in ("auto", "yes", "no"):
        raise ConfigError(f"header {header!r} is not known", hint="header is 'auto', 'yes' or 'no'")
    if shape is not None and (len(shape) != 3 or min(shape) < 1 or shape[2] not in (1, 3)):
        raise ConfigError(f"pictures cannot have shape {shape}", hint="a shape is (height, width, 1 or 3)")
    place = _existing(path)
    form = _form(place)
    if form == "text" and kind == "auto":
        guess_kind(place)  # says what to do of what may be a table
    if form in ("jsonl", "music"):
        require_kind(place, "text" if form == "jsonl" else "music", "text" if kind == "counts" else kind)
    if form == "counts":
        require_kind(place, "counts", "counts" if kind == "interactions" and place.suffix.lower() == ".npz" else kind)
    if form in ("csv", "parquet", "arrow"):
        require_kind(place, "table", "table" if kind in _OF_TABLES else kind)
    if form == "pictures":
        require_kind(place, "image", kind)
        if place.is_dir() and not has_pictures(place):
            raise _without_pictures(place)
    return place, form


def _texts(
    place: Path, form: Form, header: str, delimiter: str | None, unit: str, column: str, note: Callable[[str], None]
) -> Texts:
    """The texts of a place of kind text."""
    if form == "text":
        return read_folder(place, unit, note) if place.is_dir() else read_txt(place, unit, note)
    if form == "jsonl":
        return read_jsonl(place, column, note)
    if form not in ("csv", "parquet", "arrow"):
        raise DataError(f"{place.name} holds no texts", hint="texts are read from .txt, .jsonl, or a table's column")
    table: Any = read(place, "table", header=header, delimiter=delimiter, missing=(), note=note)
    return of_table(table, column, place.name, note)


def _counted(
    place: Path,
    form: Form,
    header: str,
    delimiter: str | None,
    missing: tuple[str, ...],
    note: Callable[[str], None],
) -> "Counted | Texts":
    """The counts in a place of another form: a table, an array of two dimensions, texts whose words are counted."""
    if form in ("array", "idx"):
        stored = read_idx(place) if form == "idx" else read_arrays(place, note)
        require_kind(place, _kind_of(stored), "table", f" of shape {stored.x.shape}")
        return of_array(stored.x, place.name, stored.labels)
    if form in ("text", "jsonl"):
        return _texts(place, form, header, delimiter, "auto", "", note)
    if form not in ("csv", "parquet", "arrow"):
        raise DataError(f"{place.name} holds no counts", hint="counts are read from .h5ad, .h5, .mtx, .npz or a table")
    table: Any = read(place, "table", header=header, delimiter=delimiter, missing=missing, note=note)
    return of_frame(table, note)


def _histories(
    place: Path,
    form: Form,
    header: str,
    delimiter: str | None,
    columns: tuple[str, str, str | None] | None,
    note: Callable[[str], None],
) -> "Counted | pd.DataFrame":
    """Histories of users: a table of lines, a text with a line a user, a sparse matrix."""
    if form == "text" and place.is_file():
        return read_lines(place, note)
    if form == "counts" and place.suffix.lower() == ".npz":
        return of_matrix(read_counts(place, note=note).counts)
    if form not in ("csv", "parquet", "arrow"):
        raise DataError(
            f"{place.name} holds no histories",
            hint="they are read from tables of user and item, .txt with a line a user, .npz of a sparse matrix",
        )
    table: Any = read(place, "table", header=header, delimiter=delimiter, note=note)
    return table if columns is None else of_lines(table, *columns, note)


def apart(path: str | os.PathLike[str]) -> tuple[str | os.PathLike[str], str | None]:
    """The path and the part of FILE.json:PART."""
    file, _, part = os.fspath(path).rpartition(":")
    return (file, part) if file.lower().endswith(".json") and not Path(path).exists() else (path, None)


def form_of(path: str | os.PathLike[str]) -> str:
    """The form of the data at a path, "" if there are none, or none that is known."""
    try:
        return _form(_existing(apart(path)[0]))
    except (DataError, OSError):
        return ""


def whole_kind(path: str | os.PathLike[str]) -> str:
    """ "text", "music" or "counts", by the form of a place; "" for what is in any other form, or not there."""
    return {"text": "text", "jsonl": "text", "music": "music", "counts": "counts"}.get(form_of(path), "")


def table_files(folder: Path) -> list[Path]:
    """The files of a table that is spread over a folder, sorted by name; empty if there are none.

    Raises DataError if they are of several formats.
    """
    with os.scandir(folder) as entries:
        names = sorted(entry.name for entry in entries if entry.is_file() and not entry.name.startswith((".", "_")))
    files = [folder / name for name in names if _FORMS.get(_ending(name)) in ("csv", "parquet", "arrow")]
    odd = next((file for file in files if _form(file) != _form(files[0])), None)
    if odd is not None:
        raise DataError(
            f"{folder} holds files of several formats, such as {files[0].name} and {odd.name}",
            hint="keep files of one format in it, or read one of them",
        )
    return files


def _existing(path: str | os.PathLike[str]) -> Path:
    """The path, if a file or folder is there; else a DataError that names its likely neighbours."""
    try:
        place = Path(path).expanduser()
        mode = place.stat().st_mode
    except (FileNotFoundError, NotADirectoryError) as error:
        raise DataError(f"there is no file {os.fspath(path)}", hint=_near(Path(path))) from error
    except (ValueError, RuntimeError) as error:  # a zero byte in the name, or ~ without a home
        raise DataError(f"{os.fspath(path)!r} is no file name: {error}", hint="check the path") from error
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise DataError(f"{place} is neither a file nor a folder", hint="save its content as a file first")
    if stat.S_ISREG(mode) and place.stat().st_size == 0:
        raise DataError(f"{place} is empty (0 bytes)", hint="fetch or write it again")
    return place


def _near(path: Path) -> str:
    try:
        with os.scandir(path.parent) as entries:
            names = [entry.name for entry in itertools.islice(entries, _SCANNED)]
    except OSError:
        return f"the folder {path.parent} is not there either"
    near = difflib.get_close_matches(path.name, names, n=3)
    return f"did you mean {listing(near)}?" if near else f"look into the folder: ls {path.parent}"


def _form(path: Path) -> Form:
    if path.is_dir():
        if matrix_in(path):
            return "counts"
        files = [] if has_pictures(path) else table_files(path)
        if files:
            return _form(files[0])
        if not has_pictures(path):
            return "music" if has_music(path) else ("text" if text_files(path) else "pictures")
        return "pictures"
    ending = _ending(path.name)
    if ending == ".zip" and not has_pictures(path) and has_music(path):
        return "music"
    if idx_ndim(path) and ending not in _FORMS:
        return "idx"
    if ending not in _FORMS:
        raise DataError(f"{path.name}: files ending in {ending!r} cannot be read", hint=f"supported: {_SUPPORTED}")
    return "counts" if ending == ".npz" and is_sparse_npz(path) else _FORMS[ending]


def _ending(name: str) -> str:
    name = name.lower()
    return "".join(Path(name).suffixes[-2:]) if name.endswith(".gz") else Path(name).suffix


def _kind_of(stored: Stored) -> str:
    return "table" if stored.x.ndim == 2 else "image"


def _of_arrays(stored: Stored, name: str, shape: Shape | None, note: Callable[[str], None]) -> np.ndarray | Pictures:
    if stored.x.ndim == 2:
        if stored.labels is not None:
            note(f"{name}: only the columns of X are read, not its labels")
        return stored.x
    return from_array(stored.x, name=name, labels=stored.labels, observed=stored.observed, shape=shape, note=note)


def _columnar(path: Path, form: str, note: Callable[[str], None]) -> "pd.DataFrame":
    """A Parquet or Arrow file; an index that pandas left without a name is dropped."""
    import pyarrow as pa
    from pyarrow import feather, ipc, parquet

    with damaged(path.name, form):
        if form == "parquet":
            about = parquet.read_metadata(path)
            # Runs of equal values pack without limit. Arrow's copy and the one of pandas, eight bytes a cell:
            require_room(about.num_rows * about.num_columns * 16, path.name)
            table = parquet.read_table(path, partitioning=None)
        else:
            try:
                table = feather.read_table(path, memory_map=False)
            except pa.ArrowInvalid:  # Arrow's other layout, the stream
                with pa.OSFile(str(path)) as file, ipc.open_stream(file) as stream:
                    table = stream.read_all()
        table.validate(full=True)  # offsets that point outside would crash, not raise
        names = column_names(table.column_names, table.num_rows, path.name)
    return frame(names, [table.column(name) for name in names], note)


def _without_pictures(path: Path) -> DataError:
    try:
        names = sorted(os.listdir(path))[:_SCANNED] if path.is_dir() else []
    except OSError:
        names = []
    readable = [name for name in names if (path / name).is_file() and (_known(name) or idx_ndim(Path(name)) == 3)]
    hint = f"read a file in it: {path / readable[0]}" if readable else f"pictures end in {' '.join(ENDINGS)}"
    return DataError(f"there is no picture in {path}", hint=hint)


def _known(name: str) -> bool:
    return Path(name.lower().removesuffix(".gz")).suffix in _FORMS


def require_kind(path: Path, found: str, wanted: str, more: str = "") -> None:
    """DataError if what a place holds is not of the wanted kind."""
    if wanted not in ("auto", found):
        nouns = {"table": "a table", "image": "pictures", "series": "series", "text": "texts", "music": "music"}
        nouns |= {"counts": "counts", "interactions": "interactions"}
        raise DataError(f"{path.name} holds {nouns[found]}{more}, not {nouns[wanted]}", hint=f"--kind {found}")
