"""Delimited text in blocks: one pass finds where rows end and what each column holds."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import DataError
from .reading_bytes import Note, coding, marked
from .reading_columns import FORMS, Form, cast, forms, trimmed, without_words
from .reading_csv import (
    Place,
    delimiter_of,
    header_names,
    missing_words,
    note_missing,
    require_width,
    row_ends,
    rows,
    unclosed,
    without_rows,
    word_counts,
)
from .sources import MOST_ROWS

_BYTES = 1 << 24  # of text in a block
_LONGEST = 1 << 28  # bytes of one row


@dataclass(frozen=True)
class _Block:
    start: int  # byte in the file
    length: int
    place: Place
    header: bool  # whether its first row is the header
    rows: int


class CsvPart:
    """A csv file. `types` are the forms that every cell of a column has; a table of several files intersects them."""

    def __init__(self, path: Path, header: str, delimiter: str | None, missing: tuple[str, ...], note: Note) -> None:
        self.path = path
        self._missing = missing_words(missing)
        with path.open("rb") as file:
            head = file.read(1 << 20)
        if head.startswith(b"\x1f\x8b"):
            raise DataError(
                f"{path.name} is packed, and rows in the middle of it cannot be found",
                hint=f"unpack it: gunzip -k {path.name}",
            )
        if mark := marked(head):
            raise DataError(
                f"{path.name} is {mark} text, which is not read in blocks",
                hint=f"save it as UTF-8: iconv -f {mark} -t utf-8 {path.name} > new.csv",
            )
        self._coding = coding(_pieces(path), path.name, note)
        skipped = 3 if head.startswith(b"\xef\xbb\xbf") else 0
        if not head[skipped:].strip() and len(head) < 1 << 20:
            raise DataError(f"{path.name} is empty", hint="a table needs a row of names and at least one row of values")
        self._delimiter = delimiter_of(head[skipped:], path.name, delimiter)
        self._comma = self._delimiter == ";"
        require_width(head[skipped:], self._delimiter, path.name)
        self._index(skipped, header, missing, note)

    def _index(self, skipped: int, header: str, missing: tuple[str, ...], note: Note) -> None:
        names: list[str] = []
        fits: list[frozenset[Form]] = []
        gaps: set[str] = set()
        counts: dict[str, list[int]] = {}
        blocks: list[_Block] = []
        for start, line, last, data in self._cut(skipped):
            place = Place(line, len(names), last)
            text = [trimmed(column) for column in self._cells(data, place).columns]
            headed = False
            if not names:
                names, headed = header_names([column[0].as_py() for column in text], header, self.path.name, note)
                fits = [frozenset(FORMS)] * len(names)
                text = [column.slice(int(headed)) for column in text]
                place = Place(line, len(names), last)
            if len(text[0]):
                blocks.append(_Block(start, len(data), place, headed, len(text[0])))
            for word, numbers in word_counts(text, missing).items():
                counts[word] = [a + b for a, b in zip(counts.get(word, [0] * len(names)), numbers, strict=True)]
            for i, column in enumerate(text):
                cells = without_words(column, self._missing)
                if cells.null_count:
                    gaps.add(names[i])
                if fits[i] != {"text"}:
                    fits[i] &= forms(cells, comma=self._comma)
        if not blocks:
            raise without_rows(self.path.name)
        note_missing(names, counts, note)
        self._blocks = blocks
        self.sizes = tuple(block.rows for block in blocks)
        self.names, self.gaps = tuple(names), frozenset(gaps)
        self.types: dict[str, Any] = dict(zip(names, fits, strict=True))
        self.levels: dict[str, Any] = {}

    def _cut(self, start: int) -> Iterator[tuple[int, int, bool, bytes]]:
        """Blocks that end where a row does: first byte, first line, whether it is the last, and the text."""
        line, rest, at = 1, b"", start
        size = self.path.stat().st_size
        with self.path.open("rb") as file:
            file.seek(start)
            while rest or at < size:
                # A row that is longer than a piece: twice as much is looked at.
                more = file.read(_BYTES if len(rest) < _BYTES else len(rest))
                at += len(more)
                data, last = rest + more, at >= size
                ends = row_ends(data, self._delimiter)
                cuts = ends[MOST_ROWS - 1 :: MOST_ROWS].tolist()
                if last and (not cuts or cuts[-1] < len(data)):
                    cuts.append(len(data))
                elif not cuts and len(ends):
                    cuts.append(int(ends[-1]))
                elif not cuts and len(data) > _LONGEST:
                    raise unclosed(self.path.name)
                for begin, end in zip([0, *cuts[:-1]], cuts, strict=True):
                    piece = data[begin:end]
                    if piece.strip(b"\r\n"):
                        yield at - len(data) + begin, line, last and end == len(data), piece
                    line += piece.count(b"\n") + piece.count(b"\r") - piece.count(b"\r\n")
                rest = data[cuts[-1] :] if cuts else data
                if last:
                    return

    def _cells(self, data: bytes, place: Place) -> Any:
        if self._coding != "utf-8":
            data = data.decode(self._coding).encode()
        return rows(data, self._delimiter, self.path.name, place)

    def columns(self, block: int, types: dict[str, Any]) -> list[Any]:
        """The wanted columns of a block in the given forms."""
        about = self._blocks[block]
        with self.path.open("rb") as file:
            file.seek(about.start)
            data = file.read(about.length)
        table = self._cells(data, about.place)
        columns = []
        for name, form in types.items():
            text = trimmed(table.column(self.names.index(name)).slice(int(about.header)))
            column = cast(without_words(text, self._missing), form)
            if column is None or len(column) != about.rows:
                raise DataError(
                    f"{self.path.name}, rows from line {about.place.line:,}: the file has changed since it was opened",
                    hint="open it again once it is whole",
                )
            columns.append(column)
        return columns


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(_BYTES):
            yield piece
