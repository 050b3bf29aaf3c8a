"""Tables in HDF5 as AnnData keeps them -> pandas: obs and var, of all versions of its format."""

from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import DataError
from .hdf5 import array, is_dataset, member, said, strings
from .reading_bytes import Note
from .reading_columns import listing

if TYPE_CHECKING:
    import pandas as pd

_INDEX = ("_index", "index")


def row_names(group: Any) -> list[str] | None:
    """The names of a table's rows; None if it has none."""
    if is_dataset(group):  # before version 0.7 a table was one data set of records
        field = next((name for name in _INDEX if name in (group.dtype.names or ())), "")
        return [_text(value) for value in group[field].tolist()] if field else None
    found = None if group is None else member(group, said(group, "_index") or "_index")
    return None if found is None else strings(found)


def frame(group: Any, rows: int, note: Note) -> "pd.DataFrame":
    """A table of so many rows, its categories as such. What pandas has no column for is left out, and noted.

    Raises DataError if its columns are not of that length.
    """
    import pandas as pd

    names = row_names(group)
    index = pd.RangeIndex(rows) if names is None else pd.Index(names)
    columns: dict[str, Any] = {}
    left: list[str] = []
    for name in _columns(group):
        column = _record(group, name) if is_dataset(group) else _column(group, name)
        if column is None:
            left.append(name)
        else:
            columns[name] = column
    if left:
        note(f"not read of obs, since they are no columns of a table: {listing(left)}")
    odd = next((name for name, column in columns.items() if len(column) != rows), "")
    if odd or len(index) != rows:
        length = len(columns[odd]) if odd else len(index)
        raise DataError(
            f"obs has {length:,} {f'values in column {odd!r}' if odd else 'names'}, and the counts {rows:,} rows",
            hint="fetch or write the file again",
        )
    return pd.DataFrame(columns, index=index)


def _columns(group: Any) -> list[str]:
    if group is None:
        return []
    if is_dataset(group):
        return [name for name in group.dtype.names or () if name not in _INDEX]
    own = said(group, "_index") or "_index"
    order = group.attrs.get("column-order", None)
    named = [_text(name) for name in np.ravel(order).tolist()] if order is not None and np.size(order) else []
    there = [name for name in group if name not in (own, "__categories")]
    return [name for name in dict.fromkeys(named) if name in there] + [name for name in there if name not in named]


def _column(group: Any, name: str) -> Any:
    """A column of a table; None if it is something else."""
    import pandas as pd

    found = member(group, name)
    if is_dataset(found):
        if len(found.shape) != 1:
            return None
        values = array(found)
        levels = member(group, f"__categories/{name}")  # version 0.7
        return values if levels is None else _categorical(values, array(levels), bool(levels.attrs.get("ordered")))
    kind = "" if found is None else said(found, "encoding-type")
    if kind == "categorical":
        codes, levels = member(found, "codes"), member(found, "categories")
        if is_dataset(codes) and is_dataset(levels):
            return _categorical(array(codes), array(levels), bool(found.attrs.get("ordered", False)))
    if kind.startswith("nullable-"):
        held, mask = member(found, "values"), member(found, "mask")
        if is_dataset(held) and is_dataset(mask) and held.shape == mask.shape and len(held.shape) == 1:
            values, missing = array(held), array(mask).astype(bool)
            if values.dtype.kind in "iu":
                return pd.arrays.IntegerArray(values, missing)
            if values.dtype.kind == "b":
                return pd.arrays.BooleanArray(values, missing)
            return pd.Series(values).mask(missing, None).to_numpy()
    return None


def _record(dataset: Any, name: str) -> Any:
    values = dataset[name]
    if values.ndim != 1 or values.dtype.names:
        return None
    if values.dtype.kind in "OS":
        return np.asarray([_text(value) for value in values.tolist()], dtype=object)
    return values if values.dtype.kind in "biuf" else None


def _categorical(codes: np.ndarray, levels: np.ndarray, ordered: bool) -> "pd.Categorical":
    import pandas as pd

    if codes.dtype.kind not in "iu" or codes.ndim != 1 or levels.ndim != 1 or len(set(levels.tolist())) < len(levels):
        raise DataError("a column of categories in obs is damaged", hint="fetch or write the file again")
    if len(codes) and (codes.min() < -1 or codes.max() >= len(levels)):
        raise DataError(
            f"a column of obs has {len(levels):,} categories, and number {int(codes.max()):,} in its cells",
            hint="fetch or write the file again",
        )
    return pd.Categorical.from_codes(codes, categories=pd.Index(levels), ordered=ordered)


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
