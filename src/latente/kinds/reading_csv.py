"""Tables in text: delimiter, header, ragged rows, and the types of the columns."""

import csv
import io
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import ConfigError, DataError
from .reading_bytes import Note, content, utf8
from .reading_columns import MISSING, frame, listing, trimmed, typed

if TYPE_CHECKING:
    import pandas as pd

_NUMBER = re.compile(r"[+-]?(\d+([.,]\d*)?|[.,]\d+)([eE][+-]?\d+)?")
_QUOTED = re.compile(rb'(?<![^,;\t|\r\n])"(?:[^"]|"")*+"')
_COMMA_APART = re.compile(rb"(?<!\d),|,(?!\d)")
_SAMPLE = 1 << 18  # bytes looked at to find the delimiter
_QUOTE, _LINE_FEED, _RETURN = 34, 10, 13
_WIDEST = 100_000  # columns; a table of this width is an array in disguise


def read_csv(path: Path, *, header: str, delimiter: str | None, missing: tuple[str, ...], note: Note) -> "pd.DataFrame":
    """A delimited text file as a table, each column of one type.

    The first row is the header unless one of its non-empty cells is a number
    (`header="auto"`); without a header the columns are c0, c1, …. Raises DataError for
    rows of unequal length, names that occur twice, and files without rows.
    """
    data = utf8(content(path), path.name, note)
    if not data.strip():
        raise DataError(f"{path.name} is empty", hint="a table needs a row of names and at least one row of values")
    return of_text(data, path.name, header=header, delimiter=delimiter, missing=missing, note=note)


def of_lines(head: bytes, lines: "list[bytes]", name: str) -> "pd.DataFrame":
    """Some lines of a csv under its first one, without remarks: of a stream they would be made again and again."""

    def quiet(_: str) -> None:
        """What a reader remarks of a part is said nowhere."""

    text = utf8(b"".join([head, *lines]), name, quiet)
    return of_text(text, name, header="yes", delimiter=delimiter_of(head, name, None), missing=("?",), note=quiet)


def of_text(
    data: bytes, name: str, *, header: str, delimiter: str | None, missing: tuple[str, ...], note: Note
) -> "pd.DataFrame":
    """`read_csv` of a text that is not empty, in UTF-8; name: what it is called in messages."""
    delimiter = delimiter_of(data, name, delimiter)
    require_width(data, delimiter, name)
    columns = [trimmed(column) for column in rows(data, delimiter, name).columns]
    del data
    names, headed = header_names([column[0].as_py() for column in columns], header, name, note)
    if headed:
        columns = [column.slice(1) for column in columns]
    if not len(columns[0]):
        raise without_rows(name)
    note_missing(names, word_counts(columns, missing), note)
    words = missing_words(missing)
    for i, column in enumerate(columns):
        columns[i] = typed(column, words, comma=delimiter == ";")
    return frame(names, columns, note)


def delimiter_of(data: bytes, name: str, delimiter: str | None) -> str:
    """The given delimiter, checked; else the one that a text's beginning shows."""
    if delimiter is None:
        return "\t" if name.lower().removesuffix(".gz").endswith(".tsv") else sniffed(data)
    delimiter = {"\\t": "\t", "tab": "\t"}.get(delimiter, delimiter)
    if len(delimiter) != 1 or not delimiter.isascii() or delimiter in '"\r\n\0':
        raise ConfigError(
            f"{delimiter!r} cannot be a delimiter", hint="use one character, such as ',' ';' '|' or 'tab'"
        )
    return delimiter


def require_width(data: bytes, delimiter: str, name: str) -> None:
    """DataError for a first line of more columns than text should have."""
    end = re.search(rb"[\r\n]", data)
    width = data.count(delimiter.encode(), 0, end.start() if end else len(data)) + 1
    if width > _WIDEST:
        raise DataError(
            f"{name} has {width:,} columns; at most {_WIDEST:,} are read from text",
            hint="save it as a .npy array or a Parquet file",
        )


def header_names(cells: list[str], header: str, name: str, note: Note) -> tuple[list[str], bool]:
    """The columns' names by the cells of the first row, and whether that row is the header."""
    numeric = any(_NUMBER.fullmatch(cell) for cell in cells)
    if header == "yes" or (header == "auto" and not numeric):
        return _named(cells, name, note), True
    names = [f"c{i}" for i in range(len(cells))]
    if header == "auto":
        span = names[0] if len(names) == 1 else f"{names[0]} … {names[-1]}"
        note(f"{name} has no header row: its columns are named {span}")
    return names, False


def without_rows(name: str) -> DataError:
    return DataError(f"{name} has a header and no rows", hint="read it with header='no' if that row is data")


def missing_words(missing: tuple[str, ...]) -> tuple[str, ...]:
    """All the words that mean a missing cell."""
    return (*MISSING, *(word.strip() for word in missing))


def sniffed(data: bytes) -> str:
    """The delimiter among comma, tab, ; and |: the one whose number per line varies least; the comma if none occurs.

    Of several that vary equally little the first in this list wins; but commas that all
    stand between digits, as in 1,5;2,5, are then decimal.
    """
    sample = data[:_SAMPLE]
    lines = [line for line in _QUOTED.sub(b"", sample).splitlines() if line.strip()]
    if len(lines) > 1 and len(data) > _SAMPLE:
        lines.pop()  # cut off in the middle
    steadiness = {}
    for candidate in ",\t;|":
        counts = Counter(line.count(candidate.encode()) for line in lines[:200])
        number, having = counts.most_common(1)[0] if counts else (0, 0)
        steadiness[candidate] = having / counts.total() if number else 0.0
    if not any(steadiness.values()):
        return ","
    decimal = not any(_COMMA_APART.search(line) for line in lines[:200])
    return max(steadiness, key=lambda candidate: (steadiness[candidate], candidate != "," or not decimal))


@dataclass(frozen=True)
class Place:
    """Where a part of a text stands in its file."""

    line: int = 1  # the number of its first line
    width: int = 0  # columns; 0: its first row decides
    last: bool = True  # whether the file ends here


def rows(data: bytes, delimiter: str, name: str, place: Place | None = None) -> Any:
    """All cells as text, the first row included. Arrow needs blocks that hold at least a row."""
    import pyarrow as pa

    place = place or Place()
    quoted = b'"' in data
    block = 1 << 22
    while True:
        try:
            table = _parsed(data, delimiter, block, place.width, quoted=quoted)
            break
        except pa.ArrowException as error:
            if "straddling" in str(error) and block < min(len(data), 1 << 30):
                block *= 8
                continue
            raise _refusal(error, data, delimiter, name, place) from error
    # An unclosed quote swallows the rest of the file, which shows as a last cell of several lines.
    odd = place.last and quoted and data.count(b'"') % 2
    if odd and "\n" in table.column(table.num_columns - 1)[-1].as_py().rstrip("\r\n"):
        ends = row_ends(data + b"\n", delimiter)
        if not len(ends) or ends[-1] <= len(data):
            raise unclosed(name)
    return table


def row_ends(data: bytes, delimiter: str) -> np.ndarray:
    """The places after each row's end: line feeds, or else carriage returns, that stand in no quoted cell."""
    array = np.frombuffer(data, np.uint8)
    ends = np.flatnonzero(array == _LINE_FEED)
    if not len(ends):
        ends = np.flatnonzero(array[:-1] == _RETURN)  # what follows the last byte could be its line feed
    quotes = np.flatnonzero(array == _QUOTE)
    if not len(quotes) or not len(ends):
        return ends + 1
    opening = quotes[::2]
    before = array[opening - 1]
    # A quote opens a cell only at its start, or is the second of a doubled one. If all do, quotes alternate.
    fine = np.isin(before, [ord(delimiter), _LINE_FEED, _RETURN, _QUOTE]) | (opening == 0)
    if fine.all():
        inside = np.searchsorted(quotes, ends) % 2 == 1
    else:
        cell = rb'(?:(?<=[%s\r\n])|\A)"(?:[^"]|"")*+(?:"|\Z)' % re.escape(delimiter).encode()
        spans = np.array([found.span() for found in re.finditer(cell, data)], int).reshape(-1, 2)
        opened, closed = np.searchsorted(spans[:, 0], ends), np.searchsorted(spans[:, 1], ends, "right")
        inside = opened > closed
    return ends[~inside] + 1


def unclosed(name: str) -> DataError:
    return DataError(f"{name} has a quote that is never closed", hint='write a quote inside a quoted cell as ""')


def _parsed(data: bytes, delimiter: str, block: int, width: int, *, quoted: bool) -> Any:
    import pyarrow as pa
    from pyarrow import csv as arrow

    parse = arrow.ParseOptions(delimiter=delimiter, newlines_in_values=quoted)
    if not width:
        read = arrow.ReadOptions(autogenerate_column_names=True, block_size=block)
        with arrow.open_csv(pa.BufferReader(data), read_options=read, parse_options=parse) as first:
            width = len(first.schema.names)
    names = [f"f{i}" for i in range(width)]
    read = arrow.ReadOptions(column_names=names, block_size=block)
    # Arrow would guess types block by block, and take 007 for a number: `typed` sees whole columns.
    text = arrow.ConvertOptions(column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False)
    return arrow.read_csv(pa.BufferReader(data), read_options=read, parse_options=parse, convert_options=text)


def _refusal(error: Exception, data: bytes, delimiter: str, name: str, place: Place) -> DataError:
    """What is wrong in the file, with its line."""
    if found := _ragged(data, delimiter, place):
        line, fields, expected = found
        return DataError(
            f"{name}, line {line:,}: {fields} fields, where the first row has {expected}",
            hint="put cells that hold the delimiter in quotes, or name another delimiter",
        )
    return DataError(f"{name} cannot be read as a table: {str(error)[:200]}", hint="check its delimiter and its quotes")


def _ragged(data: bytes, delimiter: str, place: Place) -> tuple[int, int, int] | None:
    """(line, its fields, fields of the first row) of the first row that differs. Slow, and only after a failure."""
    reader = csv.reader(io.TextIOWrapper(io.BytesIO(data), "utf-8", newline=""), delimiter=delimiter)
    expected, start = place.width, place.line
    try:
        for row in reader:
            if expected and row and len(row) != expected:
                return start, len(row), expected
            expected, start = expected or len(row), place.line + reader.line_num
    except csv.Error:  # a cell beyond its limit of 131,072 characters
        return None
    return None


def _named(cells: list[str], file: str, note: Note) -> list[str]:
    twice = [name for name, count in Counter(cells).items() if name and count > 1]
    if twice:
        raise DataError(
            f"{file} has more than one column called {listing([repr(name) for name in twice])}",
            hint="give each column its own name, or read with header='no' if the first row is data",
        )
    names: list[str] = []
    for i, cell in enumerate(cells):
        name = cell or f"unnamed_{i}"
        while not cell and name in cells:
            name += "_"
        names.append(name)
    new = [name for name, cell in zip(names, cells, strict=True) if not cell]
    if new:
        note(f"columns of {file} without a name are called {listing(new)}")
    return names


def word_counts(columns: list[Any], missing: tuple[str, ...]) -> dict[str, list[int]]:
    """How often each column has each of the `missing` words that are not missing anyway."""
    import pyarrow.compute as pc

    words = [word for word in dict.fromkeys(word.strip() for word in missing) if word not in MISSING]
    return {word: [pc.sum(pc.equal(column, word)).as_py() or 0 for column in columns] for word in words}


def note_missing(names: list[str], counts: dict[str, list[int]], note: Note) -> None:
    """Tell which words were read as missing."""
    for word, numbers in counts.items():
        having = [name for name, count in zip(names, numbers, strict=True) if count]
        if having:
            note(f"{word!r} is read as missing: {sum(numbers):,} cells in {listing(having)}")
