"""What goes into an .h5ad file, as AnnData documents it: each element with the name and version of its encoding."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import scipy.sparse as sp

from ..errors import ConfigError

_CHUNK = 1 << 16  # numbers


def put(group: Any, name: str, value: Any) -> None:
    """Write a value under a name, in the place of what has it: numbers, text, arrays, matrices, columns, tables, and
    dictionaries of these. ConfigError for other values, and names with a slash.
    """
    import pandas as pd

    if "/" in name or name in ("", "."):
        raise ConfigError(f"{name!r} is no name in an .h5ad file", hint="leave the slash out")
    if name in group:
        del group[name]
    if isinstance(value, Mapping):
        below = put_group(group, name)
        for key, one in value.items():
            put(below, str(key), one)
    elif sp.issparse(value):
        _put_sparse(group, name, value)
    elif isinstance(value, pd.DataFrame):
        put_frame(group, name, value)
    elif isinstance(value, (pd.Series, pd.Index, pd.api.extensions.ExtensionArray)):
        _put_column(group, name, pd.Series(value))
    elif isinstance(value, str):
        _tell(group.create_dataset(name, data=value, dtype=_text()), "string")
    elif isinstance(value, (bool, int, float, np.generic)):
        _tell(group.create_dataset(name, data=value), "numeric-scalar")
    else:
        _put_array(group, name, np.asarray(value))


def put_group(group: Any, name: str) -> Any:
    """The group of this name, which is made if it is not there."""
    if name in group:
        return group[name]
    made = group.create_group(name)
    made.attrs["encoding-type"], made.attrs["encoding-version"] = "dict", "0.1.0"
    return made


def put_frame(group: Any, name: str, frame: Any) -> None:
    """A table; its index becomes the names of its rows."""
    if name in group:
        del group[name]
    made = group.create_group(name)
    columns = [str(column) for column in frame.columns]
    index = "_index" if "_index" not in columns else "__index"
    made.attrs["encoding-type"], made.attrs["encoding-version"], made.attrs["_index"] = "dataframe", "0.2.0", index
    put_order(made, columns)
    _put_array(made, index, np.asarray(frame.index.astype(str), dtype=object))
    for i, column in enumerate(columns):
        put(made, column, frame.iloc[:, i])


def put_order(group: Any, columns: Sequence[str]) -> None:
    """The order of a table's columns."""
    group.attrs.create("column-order", np.array(list(columns), dtype=object), dtype=_text(), shape=(len(columns),))


def _put_sparse(group: Any, name: str, x: Any) -> None:
    if x.format not in ("csr", "csc"):
        x = x.tocsr()
    made = group.create_group(name)
    made.attrs["encoding-type"], made.attrs["encoding-version"] = f"{x.format}_matrix", "0.1.0"
    made.attrs["shape"] = np.array(x.shape, dtype=np.int64)
    for part in ("data", "indices", "indptr"):
        values = getattr(x, part)
        # Counts pack to a third; the ends of rows hardly matter.
        options = {"compression": "gzip", "compression_opts": 4, "chunks": (min(len(values), _CHUNK),)}
        made.create_dataset(part, data=values, **(options if len(values) else {}))


def _put_column(group: Any, name: str, column: Any) -> None:
    import pandas as pd

    kind = column.dtype
    if isinstance(kind, pd.CategoricalDtype):
        levels = np.asarray(kind.categories)
        made = group.create_group(name)
        _tell(made, "categorical")
        made.attrs["ordered"] = bool(kind.ordered)
        _put_array(made, "codes", np.asarray(column.cat.codes))
        _put_array(made, "categories", levels if levels.dtype.kind in "biuf" else levels.astype(str).astype(object))
    elif isinstance(kind, np.dtype) and kind.kind in "biuf":
        _put_array(group, name, column.to_numpy())
    elif pd.api.types.is_integer_dtype(kind) or pd.api.types.is_bool_dtype(kind):
        missing = column.isna().to_numpy(bool)
        plain = bool if pd.api.types.is_bool_dtype(kind) else np.int64
        made = group.create_group(name)
        made.attrs["encoding-type"] = "nullable-boolean" if plain is bool else "nullable-integer"
        made.attrs["encoding-version"] = "0.1.0"
        _put_array(made, "values", column.fillna(plain(0)).to_numpy(plain))
        _put_array(made, "mask", missing)
    elif pd.api.types.is_float_dtype(kind):
        _put_array(group, name, column.to_numpy(np.float64, na_value=np.nan))
    elif column.isna().any():
        # Text that misses cells: all versions of AnnData have categories that do.
        known = column.astype(object).where(column.notna(), None)
        _put_column(group, name, pd.Series(pd.Categorical(known.map(lambda cell: cell if cell is None else str(cell)))))
    else:
        _put_array(group, name, np.asarray(column.astype(str), dtype=object))


def _put_array(group: Any, name: str, x: np.ndarray) -> None:
    if x.dtype.kind in "OU":
        if not all(isinstance(one, str) for one in x.ravel().tolist()):
            raise ConfigError(f"{name!r} holds Python objects, which no .h5ad file does", hint="keep numbers and text")
        # HDF5 ends text at a zero, and has none for half a character.
        clean = [one.replace("\0", "").encode("utf-8", "backslashreplace").decode() for one in x.ravel().tolist()]
        made = group.create_dataset(name, x.shape, dtype=_text())
        if x.size:
            made[...] = np.array(clean, dtype=object).reshape(x.shape)
        _tell(made, "string-array")
    elif x.dtype.kind in "biuf":
        _tell(group.create_dataset(name, data=x), "array")
    else:
        raise ConfigError(
            f"{name!r} holds values of type {x.dtype}, which no .h5ad file does", hint="keep numbers and text"
        )


def _text() -> Any:
    import h5py

    return h5py.string_dtype()


def _tell(thing: Any, encoding: str) -> None:
    thing.attrs["encoding-type"], thing.attrs["encoding-version"] = encoding, "0.2.0"
