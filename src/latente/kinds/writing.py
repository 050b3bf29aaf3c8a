"""Results -> files, by the ending of the name; each is whole or not there.

a table, a 1-D or 2-D array     .csv .tsv .parquet .arrow .feather .npy .npz .json
texts                           .txt .jsonl, or as a table of one column
counts                          .h5ad .mtx .npz, or as a table
tunes                           .mid .abc .wav .png (a piano roll) .json .npy .npz, a folder of .mid
pictures                        .png (a grid)  .gif (there and back)  a folder  .npy .npz
a dict                          .json, and .npz if it holds arrays
"""

import io
import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal

import numpy as np

from ..atomic import atomic_write
from ..errors import ConfigError
from .counted import Counted
from .pictures import Pictures
from .texts import Texts
from .tunes import Tune, Tunes
from .writing_counts import write_counts
from .writing_music import write_music
from .writing_pictures import animation, as_image, as_pictures, grid, write_folder

if TYPE_CHECKING:
    import pandas as pd

_What = Literal["table", "pictures", "dict", "texts"]
_HOLDS: dict[_What, tuple[str, ...]] = {
    "table": (".csv", ".tsv", ".parquet", ".arrow", ".feather", ".npy", ".npz", ".json"),
    "pictures": (".png", ".gif", ".npy", ".npz"),
    "dict": (".json", ".npz"),
    "texts": (".txt", ".jsonl", ".csv", ".tsv", ".parquet", ".arrow", ".feather", ".json"),
}
_NOUNS: dict[_What, str] = {"table": "a table", "pictures": "pictures", "dict": "a dictionary", "texts": "texts"}


def write(result: object, path: str | os.PathLike[str], *, names: Sequence[str] | None = None) -> list[Path]:
    """Write a result in the format that the ending of `path` names; returns the files written.

    `result` is a table (pandas, polars), an array of one or two dimensions, `Pictures`, a
    uint8 array [n, h, w, c] (or [n, h, w]) of pictures, or a dict. `names` are the columns of
    an array (else c0, c1, …; one dimension: value), or the file names of the pictures in a
    folder, which is what a path without an ending, or with a final /, means.

    A missing value is an empty cell in CSV and null in JSON; the index of a table is not
    written. Raises ConfigError if the format cannot hold the result or the place cannot be
    written, ResourceError if the disk is full.
    """
    if isinstance(result, (Tune, Tunes)):
        return write_music(result, path)
    if isinstance(result, Counted):
        return write_counts(result, path)
    place = Path(path)
    what = what_of(result)
    ending = place.suffix.lower()
    if what == "pictures" and (not ending or os.fspath(path).endswith(("/", os.sep))):
        return write_folder(as_pictures(result), place, names)
    if ending not in _HOLDS[what]:
        also = " or a folder (a final /)" if what == "pictures" else ""
        raise ConfigError(
            f"{place.name!r} cannot hold {_NOUNS[what]}: {f'it ends in {ending}' if ending else 'it has no ending'}",
            hint=f"{_NOUNS[what]} can be written as {' '.join(_HOLDS[what])}{also}",
        )
    if what == "pictures":
        _write_pictures(as_pictures(result), place, ending)
    elif what == "dict":
        _write_dict(result, place, ending)
    elif what == "texts":
        _write_texts(list(result), place, ending)  # type: ignore[call-overload]
    else:
        _write_table(result, place, ending, names)
    return [place]


def strip(pictures: "Pictures | np.ndarray") -> np.ndarray:
    """One row of pictures [n, h, w, c] as a single one: uint8 [1, height, width, c], enlarged as in a grid."""
    return sheet(pictures, None)


def sheet(pictures: "Pictures | np.ndarray", columns: int | None, labels: Sequence[str] = ()) -> np.ndarray:
    """Pictures [n, h, w, c] in rows of `columns`, each with its label, as a single one: uint8 [1, height, width, c]."""
    return grid(as_pictures(pictures), columns, labels)[None]


def what_of(result: object) -> _What:
    if isinstance(result, Pictures):
        return "pictures"
    if isinstance(result, Mapping):
        return "dict"
    if isinstance(result, (list, tuple, Texts)) and all(isinstance(one, str) for one in result):
        return "texts"
    if isinstance(result, np.ndarray):
        if result.ndim in (1, 2) and result.dtype.names is None:
            return "table"
        if result.ndim in (3, 4) and result.dtype == np.uint8 and (result.ndim == 3 or result.shape[3] in (1, 3)):
            return "pictures"
        raise ConfigError(
            f"an array of shape {result.shape} and type {result.dtype} is neither a table nor pictures",
            hint="pictures are uint8 of shape (n, height, width, 1 or 3)",
        )
    if type(result).__name__ == "DataFrame" and type(result).__module__.split(".")[0] in ("pandas", "polars"):
        return "table"
    raise ConfigError(f"a {type(result).__name__} cannot be written", hint="give a table, an array, pictures or a dict")


# Tables


def frame_of(result: Any, names: Sequence[str] | None) -> "pd.DataFrame":
    """The result as a pandas table; `names` rename an array's columns only."""
    import pandas as pd

    if isinstance(result, pd.DataFrame):
        return result
    if not isinstance(result, np.ndarray):
        # Through Arrow types: whole numbers with nulls must not become floats.
        try:
            return result.to_arrow().to_pandas(types_mapper=pd.ArrowDtype)
        except Exception as error:  # polars panics on columns of Python objects
            raise ConfigError(
                f"this polars table cannot be written: {error}", hint="drop its object columns"
            ) from error
    columns = result[:, None] if result.ndim == 1 else result
    if names is None:
        names = ["value"] if result.ndim == 1 else [f"c{i}" for i in range(columns.shape[1])]
    elif len(names) != columns.shape[1]:
        raise ConfigError(f"{len(names)} names for {columns.shape[1]} columns", hint="give one name per column")
    return pd.DataFrame(columns, columns=list(names))


def _write_table(result: Any, path: Path, ending: str, names: Sequence[str] | None) -> None:
    if ending in (".npy", ".npz"):
        _write_arrays(path, {"X": matrix_of(result, path)})
        return
    frame = frame_of(result, names)
    if ending in (".csv", ".tsv"):
        _write_text(frame, path, "," if ending == ".csv" else "\t")
    elif ending == ".json":
        _write_json([dict(zip(map(str, frame.columns), row, strict=True)) for row in _rows(frame)], path)
    else:
        _write_columnar(frame, path, ending)


def _write_text(frame: "pd.DataFrame", path: Path, delimiter: str) -> None:
    atomic_write(path, lambda file: pour_text(frame, file, delimiter, quoted=has_returns(frame)))


def pour_text(frame: "pd.DataFrame", file: BinaryIO, delimiter: str, *, quoted: bool, header: bool = True) -> None:
    """A table as delimited text; `quoted` puts every cell that is no number in quotes."""
    text: Any = io.TextIOWrapper(file, "utf-8", errors="backslashreplace", newline="")
    quoting: Literal[0, 2] = 2 if quoted else 0  # csv.QUOTE_NONNUMERIC, csv.QUOTE_MINIMAL
    frame.to_csv(text, sep=delimiter, index=False, header=header, lineterminator="\n", quoting=quoting)
    text.flush()
    text.detach()


def has_returns(frame: "pd.DataFrame") -> bool:
    """Whether a name or cell has a carriage return: Python's writer leaves it unquoted, readers take it for an end."""
    return any(_has_return(frame.iloc[:, i]) for i in range(frame.shape[1])) or any(
        "\r" in str(c) for c in frame.columns
    )


def _has_return(column: "pd.Series") -> bool:
    import pandas as pd

    if pd.api.types.is_numeric_dtype(column.dtype) or pd.api.types.is_datetime64_any_dtype(column.dtype):
        return False
    return any("\r" in value for value in column.unique() if isinstance(value, str))


def _write_columnar(frame: "pd.DataFrame", path: Path, ending: str) -> None:
    from pyarrow import feather, parquet

    table = arrow_table(frame, path)
    if ending == ".parquet":
        atomic_write(path, lambda file: parquet.write_table(table, file))
    else:
        atomic_write(path, lambda file: feather.write_feather(table, file, compression="uncompressed"))


def arrow_table(frame: "pd.DataFrame", path: Path, schema: Any = None) -> Any:
    """A table of pandas as one of Arrow, of a given schema if there is one. ConfigError if that cannot be."""
    import pyarrow as pa

    try:
        named = frame.set_axis([str(name) for name in frame.columns], axis=1)
        return pa.Table.from_pandas(named, schema=schema, preserve_index=False)
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ConfigError(f"{path.name} cannot hold this table: {reason}", hint="write it as .csv") from error


def matrix_of(result: Any, path: Path) -> np.ndarray:
    """The numbers of a table; missing ones are NaN."""
    if isinstance(result, np.ndarray):
        matrix = result
    else:
        import pandas as pd

        frame = frame_of(result, None)
        other = [str(name) for name, kind in zip(frame.columns, frame.dtypes, strict=True) if not _is_number(kind)]
        if other:
            raise ConfigError(
                f"{path.name} holds numbers only, and column {other[0]!r} has others",
                hint="write it as .csv or .parquet, or leave those columns out",
            )
        whole = not any(pd.api.types.is_float_dtype(kind) for kind in frame.dtypes) and not frame.isna().any(axis=None)
        matrix = frame.to_numpy() if whole and not _is_nullable(frame) else frame.to_numpy(float, na_value=np.nan)
    if matrix.dtype.hasobject:
        raise ConfigError(f"{path.name} cannot hold Python objects", hint="write the table as .csv or .parquet")
    return matrix


def _is_number(kind: Any) -> bool:
    import pandas as pd

    return pd.api.types.is_numeric_dtype(kind)


def _is_nullable(frame: "pd.DataFrame") -> bool:
    return any(not isinstance(kind, np.dtype) for kind in frame.dtypes)


def _rows(frame: "pd.DataFrame") -> list[tuple[object, ...]]:
    return list(frame.itertuples(index=False, name=None))


# Texts


def _write_texts(texts: list[str], path: Path, ending: str) -> None:
    """A text a line; one of several lines, which a .txt file cannot tell from two, with its ends written \\n."""
    import pandas as pd

    if ending == ".txt":
        lines = "".join(text.replace("\n", "\\n") + "\n" for text in texts)
    elif ending == ".jsonl":
        lines = "".join(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in texts)
    else:
        _write_table(pd.DataFrame({"text": texts}), path, ending, None)
        return
    atomic_write(path, lines.encode("utf-8", "backslashreplace"))


# Dictionaries and arrays


def _write_dict(result: Any, path: Path, ending: str) -> None:
    if ending == ".json":
        _write_json(result, path)
        return
    arrays = {str(key): np.asarray(value) for key, value in result.items()}
    if bad := [key for key, value in arrays.items() if value.dtype.hasobject or "/" in key or not key]:
        raise ConfigError(f"{path.name} holds arrays only, which {bad[0]!r} is not", hint="write it as .json")
    _write_arrays(path, arrays)


def _write_arrays(path: Path, arrays: dict[str, np.ndarray]) -> None:
    def pour(file: BinaryIO) -> None:
        if path.suffix.lower() == ".npy":
            np.lib.format.write_array(file, next(iter(arrays.values())), allow_pickle=False)
        else:
            np.savez(file, allow_pickle=False, **arrays)

    atomic_write(path, pour)


def _write_json(value: object, path: Path) -> None:
    # A list of records: one a line, which is readable and can be compared.
    if isinstance(value, list):
        lines = ",\n".join(json.dumps(_plain(item), ensure_ascii=False, allow_nan=False) for item in value)
        text = f"[\n{lines}\n]\n" if value else "[]\n"
    else:
        text = json.dumps(_plain(value), ensure_ascii=False, allow_nan=False, indent=2) + "\n"
    atomic_write(path, text.encode("utf-8", "backslashreplace"))


def _plain(value: object) -> object:
    """What JSON can hold: NaN, infinities and missing values become null, times ISO text."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray) and value.ndim:
        return [_plain(item) for item in value]
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(item) for item in value]
    return _scalar(value)


def _scalar(value: object) -> object:
    import pandas as pd

    if isinstance(value, (np.datetime64, np.timedelta64)):
        return None if np.isnat(value) else str(value)
    if isinstance(value, (np.generic, np.ndarray)):
        value = value.item()
    if value is None or value is pd.NA or value is pd.NaT:
        return None
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, (str, bool, int)):
        return value
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


def _write_pictures(pictures: Pictures, path: Path, ending: str) -> None:
    if ending == ".png":
        image = as_image(grid(pictures, columns=math.ceil(math.sqrt(len(pictures)))))
        atomic_write(path, lambda file: image.save(file, "PNG"))
    elif ending == ".gif":
        atomic_write(path, animation(pictures))
    elif ending == ".npy":
        # Grey pictures without their axis of one channel, as most arrays of pictures are.
        grey = pictures.pixels.shape[-1] == 1
        _write_arrays(path, {"X": pictures.pixels[..., 0] if grey else pictures.pixels})
    else:
        arrays = {"X": pictures.pixels}
        if pictures.labels is not None:
            labels = pictures.labels
            arrays["y"] = labels.astype(str) if labels.dtype.hasobject else labels
        if pictures.observed is not None:
            arrays["observed"] = pictures.observed
        _write_arrays(path, arrays)
