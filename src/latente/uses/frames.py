"""Tables as columns of numbers, words and the rest; and back, in the library that they came in."""

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..errors import DataError, DataWarning
from .packing import Block, Layout, stored

# A column of so few different words, of so many letters together, is numbered.
WORDS, LETTERS = 4_096, 1 << 18


def layout_of(raw: Any, known: dict[str, list[str]]) -> Layout:
    """The layout of a table; see `Layout.of`."""
    import pyarrow as pa
    import pyarrow.compute as pc

    library = _library(raw)
    order = tuple(str(c) for c in (raw.column_names if library == "pyarrow" else raw.columns))
    if len(set(order)) < len(order):
        raise DataError("column names occur more than once", hint="rename them: columns are told apart by name")
    if library == "pandas" and type(raw.index).__name__ != "RangeIndex":
        warnings.warn("the index is not kept: reset_index() makes it a column", DataWarning, stacklevel=5)
    table = _arrow(raw)
    numbers, words, categories, gapped, rest = [], [], [], [], []
    for i, name in enumerate(order):
        found = _plain(raw.iloc[:, i] if library == "pandas" else raw[name], library)
        if found is not None:
            numbers.append((name, found))
            continue
        rest.append(name)
        kind, column = table.column(name).type, table.column(name)
        if pa.types.is_integer(kind) or pa.types.is_floating(kind):
            numbers.append((name, np.dtype(kind.to_pandas_dtype()).name))
            gapped.append(name)
        if not _is_words(kind):
            continue
        if pa.types.is_dictionary(kind):
            chunk = column.combine_chunks()
            categories.append((name, tuple(chunk.dictionary.to_pylist() if hasattr(chunk, "dictionary") else ())))
        there = _strings(column).drop_null()
        distinct = pc.unique(there).to_pylist()
        few = len(distinct) <= WORDS and len(distinct) * 2 <= max(len(there), 2) and sum(map(len, distinct)) <= LETTERS
        if name in known or few:
            more = [w for w in distinct if w not in set(known.get(name, ()))] if few else []
            words.append((name, (*known.get(name, ()), *more)))
            numbers.append((name, "int32"))
    schema = _schema(table.select(rest), raw).serialize().to_pybytes() if rest else b""
    whole = library == "pandas" and any(isinstance(c, (int, np.integer)) for c in raw.columns)
    labels = tuple(str(c) for c in raw.columns if isinstance(c, (int, np.integer))) if whole else ()
    return Layout(
        "frame",
        tuple(numbers),
        order,
        (),
        False,
        library,
        tuple(words),
        schema,
        tuple(categories),
        tuple(gapped),
        labels,
    )


def block_of(layout: Layout, raw: Any) -> Block:
    """A table of this layout. Raises DataError if it is of another."""
    import pyarrow as pa

    table = _arrow(raw)
    if tuple(table.column_names) != layout.order:
        raise DataError(
            f"a later part of the table has the columns {table.column_names[:6]}, and not {list(layout.order)[:6]}"
        )
    words, numbers = dict(layout.words), []
    news: dict[str, list[str]] = {}
    there: dict[str, Any] = {}
    for name, dtype in layout.numbers:
        if name in words:
            codes, more = _numbered(table.column(name), words[name])
            numbers.append(codes)
            news |= {name: more} if more else {}
            continue
        if name in layout.gapped:
            column, there[name] = _filled(table.column(name))
        elif _library(raw) == "pandas":
            column = raw.iloc[:, layout.order.index(name)].to_numpy()
        else:
            column = table.column(name).to_numpy()
        if column.dtype.name != dtype:
            column = _as_type(np.asarray(column), dtype, name)
        numbers.append(np.ascontiguousarray(column).view(stored(dtype)))
    rest = [n for n in layout.order if n not in layout.names]
    parts = {n: _whole(table.column(n)) for n in rest} | there
    return Block(table.num_rows, numbers, other=pa.RecordBatch.from_pydict(parts) if parts else None, news=news)


def frame_of(layout: Layout, blocks: Sequence[Block]) -> Any:
    """A table again."""
    import pandas as pd
    import pyarrow as pa

    words, numbers, spelled = dict(layout.words), {}, {}
    for i, (name, dtype) in enumerate(layout.numbers):
        parts = [b.numbers[i] for b in blocks]
        if name in words:
            found = [_spelled(p, (*words[name], *b.news.get(name, ()))) for p, b in zip(parts, blocks, strict=True)]
            spelled[name] = pa.chunked_array(found, pa.string())
        else:
            numbers[name] = (np.concatenate(parts) if parts else np.empty(0, stored(dtype))).view(dtype)
    rest = pa.table({})
    if layout.schema:
        others = [b.other for b in blocks if b.other is not None]
        beside: Any = pa.Table.from_batches(others) if others else pa.table({})
        schema, categories = pa.ipc.read_schema(pa.py_buffer(layout.schema)), dict(layout.categories)
        columns = []
        for field in schema:
            if field.name in spelled:
                columns.append(_typed(spelled[field.name], field.type, categories.get(field.name)))
            elif field.name in layout.gapped:
                valid = beside.column(field.name).to_numpy() if others else np.empty(0, bool)
                columns.append(pa.array(numbers.pop(field.name), mask=~valid.astype(bool)).cast(field.type))
            else:
                columns.append(beside.column(field.name) if others else pa.array([], field.type))
        rest = pa.Table.from_arrays(columns, schema=schema)
    if layout.frame != "pandas":
        whole = pa.table({n: numbers[n] if n in numbers else rest.column(n) for n in layout.order})
        if layout.frame == "pyarrow":
            return whole
        import polars

        return polars.from_arrow(whole)
    table = rest.to_pandas()
    frame = pd.DataFrame({n: numbers[n] if n in numbers else table[n] for n in layout.order})
    if layout.labels:
        frame.columns = pd.Index([int(n) if n in layout.labels else n for n in layout.order])
    return frame


def _library(raw: Any) -> str:
    return str(type(raw).__module__.split(".")[0])


def _filled(column: Any) -> tuple[np.ndarray, Any]:
    """Numbers with those that are missing as the one before them, or 0; and which are there."""
    import pyarrow.compute as pc

    whole = _whole(column)
    return pc.fill_null(pc.fill_null_forward(whole), 0).to_numpy(zero_copy_only=False), whole.is_valid()


def _whole(column: Any) -> Any:
    """A column as one Arrow array."""
    return column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)


def _schema(table: Any, raw: Any) -> Any:
    """The schema of columns; without what pandas says of them, where they come back as they were without it."""
    plain = table.schema.remove_metadata()
    types = plain.empty_table().to_pandas().dtypes
    same = not hasattr(raw, "iloc") or all(str(types[n]) == str(d) for n, d in raw.dtypes.items() if n in types)
    return plain if same else table.schema


def _is_words(kind: Any) -> bool:
    """Whether an Arrow type is one of strings."""
    import pyarrow as pa

    inner = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(pa.types.is_string(inner) or pa.types.is_large_string(inner))


def _strings(column: Any) -> Any:
    """A column of words, in whatever type, as one Arrow array of strings."""
    import pyarrow as pa

    return _whole(column).cast(pa.string())


def _numbered(column: Any, words: tuple[str, ...]) -> tuple[np.ndarray, list[str]]:
    """Words as their numbers int32 [rows], 0 for none; and words that had no number, which go on counting."""
    import pyarrow as pa
    import pyarrow.compute as pc

    strings = _strings(column)
    more = [w for w in pc.unique(strings).to_pylist() if w is not None and w not in set(words)]
    found = pc.index_in(strings, value_set=pa.array([*words, *more], pa.string()))
    return found.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int32) + 1, more


def _spelled(codes: np.ndarray, words: tuple[str, ...]) -> Any:
    """Numbers as their words. Raises DataError for numbers of none."""
    import pyarrow as pa

    if len(codes) and not 0 <= codes.min() <= codes.max() <= len(words):
        raise DataError("a word of it has no number")
    return pa.array(words, pa.string()).take(pa.array(codes.astype(np.int64) - 1, mask=codes == 0))


def _typed(column: Any, kind: Any, categories: tuple[str, ...] | None) -> Any:
    """Strings in a column's own type."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if not pa.types.is_dictionary(kind):
        return column.cast(kind)
    values = pa.array(categories or (), pa.string())
    index = pc.index_in(column, value_set=values).cast(kind.index_type)
    inner = values.cast(kind.value_type)
    parts = [pa.DictionaryArray.from_arrays(c, inner, ordered=kind.ordered) for c in index.chunks]
    return pa.chunked_array(parts, kind)


def _plain(column: Any, library: str) -> str | None:
    """The numpy type of a column of plain numbers; None if it is none, or has places without one."""
    if library == "pandas":
        dtype = column.dtype
        plain = isinstance(dtype, np.dtype) and dtype.kind in "iufmMb" and dtype.itemsize <= 8
        return dtype.name if plain else None
    array = column.to_arrow() if library == "polars" else column
    if array.null_count:
        return None
    try:
        dtype = np.dtype(array.type.to_pandas_dtype())
    except (NotImplementedError, TypeError):
        return None
    return dtype.name if dtype.kind in "iuf" and dtype.itemsize <= 8 else None


def _as_type(column: np.ndarray, dtype: str, name: str) -> np.ndarray:
    """A later part's column in the first part's type. Raises DataError where that would change a value."""
    if column.dtype.kind in "mM" and column.dtype.kind == np.dtype(dtype).kind:
        made = column.astype(dtype)
        if (made.astype(column.dtype).view(np.int64) == column.view(np.int64)).all():
            return made
    elif column.dtype.kind in "iufb":
        with np.errstate(all="ignore"):
            made = column.astype(dtype)
            back = made.astype(column.dtype)
        gone = np.isnan(column) & np.isnan(made) if column.dtype.kind == "f" and made.dtype.kind == "f" else False
        if ((back == column) | gone).all():
            return made
    raise DataError(
        f"column {name!r} is of type {dtype} in the first rows and {column.dtype} in later ones",
        hint="write the table as .parquet, which has one type for each column",
    )


def _arrow(raw: Any) -> Any:
    """A table of any library as Arrow's. Raises DataError for columns that it does not hold as they are."""
    import pyarrow as pa

    library = _library(raw)
    if library == "pyarrow":
        return raw if isinstance(raw, pa.Table) else pa.Table.from_batches([raw])
    if library == "polars":
        return raw.to_arrow()
    named = raw.set_axis([str(c) for c in raw.columns], axis=1)
    for i, name in enumerate(named.columns):
        if str(named.dtypes.iloc[i]) == "object":
            _require_plain(named.iloc[:, i], name)
    try:
        return pa.Table.from_pandas(named, preserve_index=False)
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        raise DataError(
            f"a column cannot be kept: {' '.join(str(error).split())[:200]}", hint="make each column of one type"
        ) from None


def _require_plain(column: Any, name: str) -> None:
    """Raises DataError for a column of Python's objects that are not all text, or all of another simple type."""
    kinds = {type(v) for v in column if v is not None and v == v}  # noqa: PLR0124 - NaN is not
    if len(kinds) > 1 or kinds & {list, dict, set, tuple, np.ndarray, complex}:
        shown = ", ".join(sorted(k.__name__ for k in kinds)[:4])
        raise DataError(f"column {name!r} holds values of type {shown}", hint="make it text, or numbers of one type")
    if kinds == {int} and any(v is None for v in column):
        raise DataError(f"column {name!r} holds whole numbers and None", hint=f"frame[{name!r}].astype('Int64')")
