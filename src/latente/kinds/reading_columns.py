"""Arrow columns -> pandas columns: the types of text cells, and what a table may hold."""

import re
from typing import TYPE_CHECKING, Any

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
    import pyarrow as pa
    import pyarrow.compute as pc

    blank = pc.is_in(text, value_set=pa.array(missing, pa.string()))
    text = pc.if_else(blank, pa.scalar(None, pa.string()), text)
    first = pc.first(text).as_py()
    if first is None:
        return pc.cast(text, pa.float64())  # nothing but missing cells
    # All cells must fit, so the first one tells which single type is worth a try.
    if re.match(_DATE, first):
        result = _times(text)
    elif re.match(r"[+-]?([\d.,]|inf)", first, re.IGNORECASE):
        result = _numbers(text, comma=comma)
    elif first.lower() in ("true", "false"):
        lower = pc.utf8_lower(text)
        both = pc.all(pc.is_in(lower, value_set=pa.array(["true", "false", None], pa.string()))).as_py()
        result = pc.equal(lower, "true") if both else None
    else:
        result = None
    return text if result is None else result


def _numbers(text: Any, *, comma: bool) -> Any:
    import pyarrow as pa
    import pyarrow.compute as pc

    if pc.any(pc.match_substring_regex(text, r"^[+-]?0[0-9xX]")).as_py():
        return None
    if pc.any(pc.starts_with(text, "+")).as_py():
        text = pc.replace_substring_regex(text, r"^\+([0-9.,])", r"\1")  # Arrow's integers take no plus
    for kind in (pa.int64(), pa.float64()):
        try:
            numbers = pc.cast(text, kind)
        except pa.ArrowInvalid:
            continue
        # Missing words are gone by now: what still gives nan is a word such as nan(abc).
        if kind == pa.int64() or not pc.any(pc.is_nan(numbers)).as_py():
            return numbers
        return None
    if comma and pc.all(pc.match_substring_regex(text, r"^[+-]?\d*(,\d*)?([eE][+-]?\d+)?$")).as_py():
        return _numbers(pc.replace_substring(text, ",", "."), comma=False)
    return None


def _times(text: Any) -> Any:
    """ISO dates and times; those with a zone become UTC."""
    import pyarrow as pa
    import pyarrow.compute as pc

    for zone, end in ((None, "$"), ("UTC", _ZONE)):
        if pc.all(pc.match_substring_regex(text, _DATE + end)).as_py():
            for unit in ("us", "ns"):
                try:
                    return pc.cast(text, pa.timestamp(unit, zone))
                except pa.ArrowInvalid:  # finer than this unit, or no such day (31 February)
                    continue
    return None


def frame(names: list[str], columns: list[Any], note: Note) -> "pd.DataFrame":
    """Arrow columns as a pandas table: nullable integers and booleans, times without a zone (UTC).

    Raises DataError for columns of lists, structs or bytes.
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
        series[name] = _series(name, column)
    if zoned:
        note(f"times with a zone are turned into UTC: {listing(zoned)}")
    return pd.DataFrame(series, copy=False)


def _series(name: str, column: Any) -> "pd.Series":
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
    if column.null_count and (pa.types.is_integer(column.type) or pa.types.is_boolean(column.type)):
        # pandas spells its nullable types Int64, UInt8, boolean
        name = (
            str(column.type).replace("uint", "UInt").replace("int", "Int") if column.type != pa.bool_() else "boolean"
        )
        return column.to_pandas(types_mapper=lambda _: pd.api.types.pandas_dtype(name))
    return column.to_pandas()


def listing(words: list[str], most: int = 8) -> str:
    """`a, b, c and 4 more`."""
    rest = len(words) - most
    return ", ".join(words[:most]) + (f" and {rest:,} more" if rest > 0 else "")
