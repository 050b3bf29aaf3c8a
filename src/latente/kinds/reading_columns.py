"""Arrow columns -> pandas columns: the types of text cells, and what a table may hold."""

import re
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any, Literal, get_args

from ..errors import DataError
from .reading_bytes import Note

if TYPE_CHECKING:
    import pandas as pd

# What pandas reads as missing, and NAN, which Arrow would read as a number.
MISSING = (
    "", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "-NAN", "1.#IND", "1.#QNAN", "<NA>", "N/A",
    "NA", "NAN", "NULL", "NaN", "None", "n/a", "nan", "null",
)  # fmt: skip

_DATE = r"^\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2}(\.\d{1,9})?)?)?"
_ZONE = r"(Z|[+-]\d{2}:?\d{2})$"


def trimmed(column: Any) -> Any:
    """Text cells without the white space around them."""
    import pyarrow.compute as pc

    return pc.utf8_trim_whitespace(column)


def typed(text: Any, missing: tuple[str, ...], *, comma: bool) -> Any:
    """A column of trimmed text as int64, float64, bool, timestamp or, if it is none of these, text.

    `missing` words become nulls. With `comma`, 1,5 is a number. A cell as 007 or 0x1F
    makes its column text: such columns are codes, and a number would lose the zeros.
    """
    text = without_words(text, missing)
    tried = (cast(text, form) for form in _candidates(text, comma=comma))
    return next((column for column in tried if column is not None), text)


def without_words(text: Any, missing: tuple[str, ...]) -> Any:
    """Text cells with nulls for the `missing` words."""
    import pyarrow as pa
    import pyarrow.compute as pc

    blank = pc.is_in(text, value_set=pa.array(missing, pa.string()))
    return pc.if_else(blank, pa.scalar(None, pa.string()), text)


# What text may be, the better form first: "us+zone" is a time in microseconds with a zone.
Form = Literal["empty", "int64", "float64", "comma", "bool", "us", "ns", "us+zone", "ns+zone", "text"]
FORMS: tuple[Form, ...] = get_args(Form)


def forms(text: Any, *, comma: bool) -> frozenset[Form]:
    """All forms that every cell has. The best form of a whole column is the best of those that all its parts share."""
    candidates = _candidates(text, comma=comma)
    if candidates == ("empty",):
        return frozenset(FORMS)
    if candidates[:1] == ("int64",) and cast(text, "int64") is not None:
        return frozenset(["text", *candidates])  # whole numbers are fractions too, and have no comma
    return frozenset(["text", *(form for form in candidates if cast(text, form) is not None)])


def _candidates(text: Any, *, comma: bool) -> tuple[Form, ...]:
    """The forms worth a try, by the first cell: all cells must fit."""
    import pyarrow.compute as pc

    first = pc.first(text).as_py()
    if first is None:
        return ("empty",)
    if re.match(_DATE, first):
        return "us", "ns", "us+zone", "ns+zone"
    if re.match(r"[+-]?([\d.,]|inf)", first, re.IGNORECASE):
        return ("int64", "float64", "comma") if comma else ("int64", "float64")
    return ("bool",) if first.lower() in ("true", "false") else ()


def cast(text: Any, form: Form) -> Any:
    """The cells in this form, or None if one does not have it."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if form == "text":
        return text
    if form == "empty":
        return pc.cast(text, pa.float64())  # nothing but missing cells
    if form == "bool":
        lower = pc.utf8_lower(text)
        both = pc.all(pc.is_in(lower, value_set=pa.array(["true", "false", None], pa.string()))).as_py()
        return pc.equal(lower, "true") if both is not False else None
    return _number(text, form) if form in ("int64", "float64", "comma") else _time(text, form)


def _number(text: Any, form: Form) -> Any:
    import pyarrow as pa
    import pyarrow.compute as pc

    if form == "comma":
        if pc.all(pc.match_substring_regex(text, r"^[+-]?\d*(,\d*)?([eE][+-]?\d+)?$")).as_py() is False:
            return None
        return _number(pc.replace_substring(text, ",", "."), "float64")
    if pc.any(pc.match_substring_regex(text, r"^[+-]?0[0-9xX]")).as_py():
        return None
    if pc.any(pc.starts_with(text, "+")).as_py():
        text = pc.replace_substring_regex(text, r"^\+([0-9.,])", r"\1")  # Arrow's integers take no plus
    try:
        numbers = pc.cast(text, pa.int64() if form == "int64" else pa.float64())
    except pa.ArrowInvalid:
        return None
    # Missing words are gone by now: what still gives nan is a word such as nan(abc).
    return numbers if form == "int64" or not pc.any(pc.is_nan(numbers)).as_py() else None


def _time(text: Any, form: Form) -> Any:
    """ISO dates and times; those with a zone become UTC."""
    import pyarrow as pa
    import pyarrow.compute as pc

    unit, _, zoned = form.partition("+")
    if pc.all(pc.match_substring_regex(text, _DATE + (_ZONE if zoned else "$"))).as_py() is False:
        return None
    try:
        return pc.cast(text, pa.timestamp(unit, "UTC" if zoned else None))
    except pa.ArrowInvalid:  # finer than this unit, or no such day (31 February)
        return None


def frame(
    names: list[str],
    columns: list[Any],
    note: Note,
    gaps: Collection[str] = (),
    levels: Mapping[str, Any] | None = None,
) -> "pd.DataFrame":
    """Arrow columns as a pandas table: nullable integers and booleans, times without a zone (UTC).

    For a part of a longer table: `gaps`, the columns that miss cells in any part, and
    `levels`, the values of dictionary columns over all parts; so every part has the types
    of the whole. Raises DataError for columns of lists, structs or bytes.
    """
    import pandas as pd
    import pyarrow as pa
    import pyarrow.compute as pc

    zoned = []
    series = {}
    for name, given in zip(names, columns, strict=True):
        column = given
        if pa.types.is_timestamp(column.type) and column.type.tz is not None:
            zoned.append(name)
            column = pc.cast(column, pa.timestamp(column.type.unit, "UTC")).cast(pa.timestamp(column.type.unit))
        if levels and name in levels:
            column = _with_levels(column, levels[name])
        series[name] = _series(name, column, gaps=name in gaps)
    if zoned:
        note(f"times with a zone are turned into UTC: {listing(zoned)}")
    return pd.DataFrame(series, copy=False)


def _with_levels(column: Any, levels: Any) -> Any:
    """A dictionary column whose values are `levels`, in their order."""
    import pyarrow as pa

    chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
    nothing = pa.DictionaryArray.from_arrays(pa.array([], pa.int32()), levels, ordered=column.type.ordered)
    wide = pa.dictionary(pa.int32(), levels.type, column.type.ordered)
    return pa.chunked_array([nothing, *(chunk.cast(wide) for chunk in chunks)]).unify_dictionaries()


def _series(name: str, column: Any, *, gaps: bool) -> "pd.Series":
    import pandas as pd
    import pyarrow as pa

    kind = column.type
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if pa.types.is_nested(kind) or "binary" in str(kind) or "extension" in str(kind):
        raise DataError(
            f"column {name!r} holds {kind} values, which a table cannot use",
            hint="keep only columns of numbers, text, booleans and times",
        )
    if pa.types.is_decimal(kind) or pa.types.is_null(kind):
        column = column.cast(pa.float64())
    elif pa.types.is_date(kind):
        column = column.cast(pa.timestamp("us"))
    elif pa.types.is_time(kind):
        column = column.cast(pa.string())
    if (gaps or column.null_count) and may_be_nullable(column.type):
        # pandas spells its nullable types Int64, UInt8, boolean
        name = (
            str(column.type).replace("uint", "UInt").replace("int", "Int") if column.type != pa.bool_() else "boolean"
        )
        return column.to_pandas(types_mapper=lambda _: pd.api.types.pandas_dtype(name))
    return column.to_pandas()


def may_be_nullable(kind: Any) -> bool:
    """Whether a missing cell changes the type that a column of this Arrow type has in pandas."""
    import pyarrow as pa

    return pa.types.is_integer(kind) or pa.types.is_boolean(kind)


def listing(words: list[str], most: int = 8) -> str:
    """`a, b, c and 4 more`."""
    rest = len(words) - most
    return ", ".join(words[:most]) + (f" and {rest:,} more" if rest > 0 else "")
