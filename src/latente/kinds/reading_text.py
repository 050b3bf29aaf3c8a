"""Texts of a file: .txt in lines, paragraphs or sentences, .jsonl, a column of a table."""

import codecs
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ConfigError, DataError
from .reading_bytes import Note, content, marked
from .reading_columns import listing
from .texts import UNITS, Texts, examples, unit_of

if TYPE_CHECKING:
    import pandas as pd

# Names under which a table or a JSON object most often has its text.
USUAL = ("text", "sentence", "caption", "content", "body", "review", "comment", "title")
# Characters of a file up to which it is a text.
SHORT = 1000
# Lines that may be damaged before it is the file's encoding that is wrong: a share of them.
FEW = 0.01


def read_txt(path: Path, unit: str, note: Note) -> Texts:
    """A file's lines, paragraphs or sentences. unit "auto": see `unit_of`.

    A line that is not UTF-8 is left out and named, with its first bad byte; DataError if there are many, or for a
    binary file, or one without text.
    """
    if unit not in ("auto", *UNITS):
        raise ConfigError(f"unit {unit!r} is not known", hint=f"--unit {' or --unit '.join(UNITS)}")
    lines = _lines(path, note)
    unit = unit_of(lines) if unit == "auto" else unit
    found = examples(lines, unit)
    if not found:
        raise DataError(f"{path.name} holds no text: its {len(lines):,} line(s) are empty", hint="check the file")
    if unit != "line":
        note(f"{path.name}: each {unit} is an example, {len(found):,} in all; --unit line takes its lines")
    return Texts(tuple(found), unit)


def text_files(folder: Path) -> list[Path]:
    """The .txt files of a folder, by name."""
    return sorted(p for p in folder.glob("*.txt") if p.is_file() and not p.name.startswith("."))


def read_folder(folder: Path, unit: str, note: Note) -> Texts:
    """A folder's .txt files: the `unit`s of each, or, "auto", a text each if half of them are short, else as a file is
    read alone. One that is no text, or empty, is left out and named.
    """
    files: list[list[str]] = []
    left: list[str] = []
    for path in text_files(folder):
        try:
            files.append(_lines(path, note))
        except DataError as error:
            left.append(error.problem)
            continue
        if not any(line.strip() for line in files[-1]):
            left.append(f"{path.name} is empty")
            files.pop()
    if unit == "auto" and files:
        lengths = sorted(sum(map(len, lines)) for lines in files)
        unit = "file" if lengths[len(files) // 2] < SHORT else unit_of([line for lines in files for line in lines])
    found = [text for lines in files for text in examples(lines, unit)]
    what = "file" if unit == "file" else f"{unit} of its files"
    note(f"{folder.name}: each {what} is an example, {len(found):,} in all; --unit line, paragraph, sentence, file")
    if left:
        note(f"{len(left):,} file(s) are left out: {'; '.join(left[:3])}")
    if not found:
        raise DataError(f"there is no text in {folder}", hint="texts are .txt files in UTF-8")
    return Texts(tuple(found), unit)


def read_jsonl(path: Path, column: str, note: Note) -> Texts:
    """A JSON document a line: a string, or an object whose field `column` is one; "": a usual name, or the only one."""
    found: list[str] = []
    without: list[int] = []
    for number, line in enumerate(_lines(path, note), 1):
        if not line.strip():
            continue
        try:
            document = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataError(
                f"{path.name}, line {number}: this is no JSON: {str(error)[:100]}", hint="each line is one document"
            ) from None
        if isinstance(document, dict):
            if not column:
                column = _usual([k for k, v in document.items() if isinstance(v, str)], path.name)
                rest = [k for k in document if k != column]
                if rest:
                    note(
                        f"{path.name}: the text is field {column!r} (--text-col), the rest is not read: {listing(rest)}"
                    )
            document = document.get(column)
        if isinstance(document, str) and document.strip():
            found.append(document.strip())
        else:
            without.append(number)
    if without:
        where = f"the field {column!r}" if column else "a text"
        note(f"{path.name}: {len(without):,} line(s) without {where} are left out, the first is line {without[0]}")
    if not found:
        raise DataError(f"{path.name} holds no text", hint="--text-col NAME says which field it is")
    return Texts(tuple(found), "", column)


def of_table(frame: "pd.DataFrame", column: str, name: str, note: Note) -> Texts:
    """A column of a table: its cells are examples, and empty ones are left out."""
    names = [str(c) for c in frame.columns]
    if column and column not in names:
        raise ConfigError(f"{name} has no column {column!r}", hint=f"its columns: {listing(names)}")
    column = column or _usual(
        [c for c, kind in zip(names, frame.dtypes, strict=True) if kind.kind not in "biufcmM"], name
    )
    cells = frame.iloc[:, names.index(column)]
    found = [str(cell).strip() for cell in cells if isinstance(cell, str) and cell.strip()]
    if len(found) < len(cells):
        note(f"{name}: {len(cells) - len(found):,} row(s) have no text in column {column!r}, and are left out")
    if not found:
        raise DataError(f"column {column!r} of {name} holds no text", hint=f"its columns: {listing(names)}")
    return Texts(tuple(found), "", column)


def looks_like_numbers(path: Path) -> bool:
    """Whether the first lines of a file are numbers, as a table's are."""
    with path.open("rb") as file:
        head = file.read(1 << 12).decode("utf-8", "replace").split("\n")
    words = [w for line in head[:20] for w in line.replace(",", " ").replace(";", " ").split()]
    return len(words) > 1 and all(_is_number(w) for w in words[:-1])


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _usual(names: list[str], where: str) -> str:
    """The only name, or the one that is usual. ConfigError if neither says which."""
    if not names:
        raise DataError(
            f"{where} has no text", hint="texts are strings: a column of words, or a field of a JSON object"
        )
    if len(names) == 1:
        return names[0]
    found = [n for u in USUAL for n in names if n.lower() == u]
    if not found:
        raise ConfigError(
            f"{where} does not say which of its columns is the text", hint=f"--text-col: {listing(names)}"
        )
    return found[0]


def _lines(path: Path, note: Note) -> list[str]:
    data = content(path)
    mark = marked(data)
    if mark:
        try:
            return data.decode(mark).splitlines()
        except UnicodeError as error:
            raise DataError(f"{path.name} starts as {mark} text, but {error}", hint="save it as UTF-8") from None
    data = data.removeprefix(codecs.BOM_UTF8)
    zero = data.find(b"\0")
    if zero >= 0:
        raise DataError(f"{path.name} is no text: byte 0x00 at offset {zero:,}", hint="a .txt file holds text in UTF-8")
    try:
        return _split(data.decode())
    except UnicodeDecodeError:
        return _mended(path, data, note)


def _split(text: str) -> list[str]:
    # Not `splitlines`, which also splits at form feeds and at marks that belong to a line.
    return text.replace("\r\n", "\n").replace("\r", "\n").split("\n")


def _mended(path: Path, data: bytes, note: Note) -> list[str]:
    """The lines that are UTF-8, where few are not."""
    good: list[str] = []
    bad: list[str] = []
    offset = 0
    pieces = data.split(b"\n")
    for number, piece in enumerate(pieces, 1):
        try:
            good.append(piece.decode().rstrip("\r"))
        except UnicodeDecodeError as error:
            bad.append(f"line {number}, byte 0x{piece[error.start]:02x} at offset {offset + error.start:,}")
        offset += len(piece) + 1
    if len(bad) > max(1, FEW * len(pieces)):
        raise DataError(
            f"{path.name} is not UTF-8: {bad[0]}, and {len(bad) - 1:,} more line(s)",
            hint=f"if it is Latin-1: iconv -f latin1 -t utf-8 {path.name} > {path.stem}-utf8{path.suffix}",
        )
    note(f"{path.name}: {len(bad)} line(s) that are not UTF-8 are left out: {'; '.join(bad[:3])}")
    return good


def texts_of(raw: Any) -> Texts | None:
    """Texts in memory: a list, array or series of strings; None if these are none."""
    if isinstance(raw, Texts):
        return raw
    if isinstance(raw, str) or hasattr(raw, "columns") or getattr(raw, "ndim", 1) != 1:
        return None
    kind = getattr(getattr(raw, "dtype", None), "kind", "O")
    if kind not in "OU" or not (isinstance(raw, (list, tuple)) or hasattr(raw, "dtype")):
        return None
    items = list(raw)
    return Texts(tuple(map(str, items))) if items and all(isinstance(item, str) for item in items) else None
