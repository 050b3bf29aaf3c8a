"""Music in files -> tunes.

    .mid .midi                                one tune, its tracks together, without drums
    .abc                                      many tunes
    a folder or .zip of these                 with its sub-folders, sorted by path
    .json                                     pieces, each a list of steps, each a list of pitches; or parts of such
    .npy .npz of 0 and 1                      piano rolls (pieces, steps, 128 or 88), or (steps, 128 or 88)

MIDI and ABC are brought to a grid of equal steps. Nothing here is trusted: whatever a file holds, the outcome is
tunes, a DataError, or a ResourceError if this machine is too small; MIDI is parsed in a process of its own.
"""

import json
import os
import stat
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from ..errors import ConfigError, DataError
from .reading_abc import Found, abc_tunes
from .reading_arrays import read_arrays
from .reading_bytes import Note, ReadingErrors, is_bomb, marked, require_room
from .reading_columns import listing
from .reading_midi import LARGEST, midi_tunes
from .tunes import KEYS, Tune, Tunes, of_roll

_MIDI, _ABC = (".mid", ".midi"), (".abc",)
ENDINGS = _MIDI + _ABC  # what is looked for in folders

_LARGEST_TEXT = 1 << 26  # bytes
_RESTS = (None, -1)  # in the place of a pitch; NaN too


@dataclass(frozen=True)
class _Source:
    name: str
    size: int  # bytes
    read: Callable[[], bytes]

    @property
    def ending(self) -> str:
        return PurePosixPath(self.name).suffix.lower()


class _UnreadableError(Exception):
    """Why a file is left out."""


@dataclass
class _Remarks:
    """What a reader should know about how files were read."""

    left_out: list[str] = field(default_factory=list)  # "a.mid: why"
    long: list[str] = field(default_factory=list)
    meters: list[str] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    abc: Found = field(default_factory=Found)

    def tell(self, note: Note) -> None:
        def count(number: int, noun: str, one: str, many: str) -> None:
            if number:
                note(f"{number:,} {noun}{'s' * (number > 1)} {many if number > 1 else one}")

        problems = self.left_out + self.abc.left_out
        number = len(problems)
        if problems:
            what = f"{number:,} {'files or tunes' if number > 1 else 'file or tune'}"
            note(f"{what} could not be read and {'are' if number > 1 else 'is'} left out: {listing(problems, 3)}")
        if self.long:
            note(f"longer than an hour or 20,000 bars, and used up to there: {listing(self.long, 3)}")
        if self.meters:
            note(f"bars are those of the first meter where the meter changes: {listing(self.meters, 3)}")
        for text in self.texts[:3]:
            note(text)
        abc = self.abc
        count(
            abc.odd,
            "bar",
            f"of {abc.bars:,} does not add up to its meter",
            f"of {abc.bars:,} do not add up to their meter",
        )
        count(abc.meters, "ABC tune", "changes its meter: bars are those of the first", "change their meter")
        count(abc.lost, "note", "begins in the step of the one before: left out", "begin in a step of others: left out")
        count(abc.unknown, "sign", "of ABC is not known, and passed over", "of ABC are not known, and passed over")


def read_music(
    path: str | os.PathLike[str],
    *,
    note: Note = lambda _: None,
    grid: int = 4,
    part: str | None = None,
) -> Tunes:
    """The tunes in a file, a folder or a zip; `note` is told what a reader should know about how they were read.

    grid: steps a quarter note (4: sixteenths; 12 holds triplets too). Starts and ends are
    brought to the nearest step, and a note lasts at least one. Frames of JSON and of arrays
    are taken as steps of that grid.
    part: the key of a JSON dictionary of parts ("train"); without one, all of them in order.

    Raises DataError for what cannot be read, ConfigError if mido is missing for MIDI or an
    option cannot be.
    """
    if not 1 <= grid <= 96:
        raise ConfigError(f"a grid of {grid} steps a quarter note cannot be", hint="4 is sixteenth notes")
    with ReadingErrors(path):
        place = Path(path).expanduser()
        ending = place.suffix.lower()
        if place.is_dir() or ending == ".zip" or ending in ENDINGS:
            with ExitStack() as stack:
                found = _of_sources(place, stack, grid, note)
        elif ending == ".json":
            found = _of_json(place, part, grid, note)
        elif ending in (".npy", ".npz"):
            found = _of_arrays(place, grid, note)
        else:
            raise DataError(
                f"{place.name}: no music is read from files ending in {ending!r}",
                hint="music is read from .mid .midi .abc .json .npy .npz, a folder or a .zip",
            )
    return Tunes(tuple(found))


def has_music(path: Path) -> bool:
    """Whether a folder or zip holds a file that is named as MIDI or ABC."""
    with ExitStack() as stack:
        if path.is_dir():
            return next(_walk(path, []), None) is not None
        return bool(_sources(path, stack, []))


# MIDI and ABC


def _of_sources(place: Path, stack: ExitStack, grid: int, note: Note) -> list[Tune]:
    remarks = _Remarks()
    sources = _sources(place, stack, remarks.left_out)
    if not sources and not remarks.left_out:
        raise DataError(f"there is no music in {place}", hint=f"music in folders ends in {' '.join(ENDINGS)}")
    alone = not place.is_dir() and place.suffix.lower() != ".zip"
    found: dict[int, list[Tune]] = {}
    songs = _Passed(_contents(sources, _MIDI, LARGEST, remarks))
    for answer, about in midi_tunes(songs, grid) if any(source.ending in _MIDI for source in sources) else ():
        name = sources[songs.at].name
        if isinstance(answer, str):
            remarks.left_out.append(f"{name}: {answer}")
            continue
        found[songs.at] = [answer]
        if about["long"]:
            remarks.long.append(name)
        if about["meters"] > 1:
            remarks.meters.append(name)
    for at, name, data in _contents(sources, _ABC, _LARGEST_TEXT, remarks):
        try:
            text = _text(data, name, remarks.texts)
            found[at] = list(abc_tunes(text, grid, remarks.abc))
            if "X:" not in text and not found[at]:
                raise _UnreadableError("it holds no ABC tune: no line begins with X:")
        except _UnreadableError as error:
            remarks.left_out.append(f"{name}: {error}")
    tunes = [tune for at in sorted(found) for tune in found[at]]
    if not tunes:
        problems = remarks.left_out + remarks.abc.left_out or ["it holds no tune"]
        if alone:
            reason = listing(problems, 3).removeprefix(f"{place.name}: ")
            raise DataError(f"{place.name} cannot be read: {reason}", hint="fetch or write it again")
        raise DataError(f"no music in {place} can be read: {listing(problems, 3)}", hint="play one in a player")
    remarks.tell(note)
    return tunes


class _Passed:
    """(name, content) of files one after the other, and which is the latest."""

    def __init__(self, contents: Iterator[tuple[int, str, bytes]]) -> None:
        self.contents, self.at = contents, -1

    def __iter__(self) -> Iterator[tuple[str, bytes]]:
        for at, name, data in self.contents:
            self.at = at
            yield str(PurePosixPath(name).with_suffix("")), data


def _contents(
    sources: list[_Source], endings: tuple[str, ...], most: int, remarks: _Remarks
) -> Iterator[tuple[int, str, bytes]]:
    """(place, name, content) of those that can be opened."""
    for at, source in enumerate(sources):
        if source.ending not in endings:
            continue
        try:
            if source.size > most:
                raise _UnreadableError(f"it has {source.size:,} bytes, and at most {most:,} are read")
            data = source.read()
            if not data:
                raise _UnreadableError("it is empty (0 bytes)")
        except OSError as error:
            remarks.left_out.append(f"{source.name}: {(error.strerror or str(error)).lower()}")
        except Exception as error:  # a broken member makes zipfile raise anything: BadZipFile, zlib.error, RuntimeError
            remarks.left_out.append(f"{source.name}: {' '.join(str(error).split())[:120] or type(error).__name__}")
        else:
            yield at, source.name, data


def _text(data: bytes, name: str, remarks: list[str]) -> str:
    """ABC in UTF-8, or UTF-16/32 by their marks; what is neither is taken as cp1252, with a remark."""
    if mark := marked(data[:4]):
        try:
            data = data.decode(mark).encode()
        except UnicodeError as error:
            raise _UnreadableError(f"it starts as {mark} text, but {error}") from error
    data = data.removeprefix(b"\xef\xbb\xbf")
    odd = next((at for at, byte in enumerate(data) if byte < 32 and byte not in b"\t\n\r\f\x1a"), None)
    if odd is not None:
        raise _UnreadableError(f"it is not text: byte {odd:,} is 0x{data[odd]:02x}")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        where = f"byte {error.start:,} is 0x{data[error.start]:02x}"
        try:
            text = data.decode("cp1252")
        except UnicodeDecodeError as worse:
            where = f"byte {worse.start:,} is 0x{data[worse.start]:02x}"
            raise _UnreadableError(f"it is neither UTF-8 nor cp1252 text: {where}") from worse
        remarks.append(f"{name} is not UTF-8 ({where}): it is read as cp1252 (Western European)")
    return text.replace("\r\n", "\n").replace("\r", "\n")


# Where they are: as for pictures, sub-folders too, without what is hidden


def _sources(path: Path, stack: ExitStack, skipped: list[str]) -> list[_Source]:
    if path.is_dir():
        found = sorted(_walk(path, skipped), key=lambda file: file.relative_to(path).parts)
        return [_file(file, file.relative_to(path).as_posix()) for file in found]
    if path.suffix.lower() != ".zip":
        return [_file(path, path.name)]
    try:
        archive = stack.enter_context(zipfile.ZipFile(path))
        members = [info for info in archive.infolist() if _wanted(PurePosixPath(info.filename)) and not info.is_dir()]
    except OSError:
        raise
    except Exception as error:  # a broken directory of a zip raises struct.error, ValueError, NotImplementedError …
        raise DataError(f"{path.name} is not a readable zip: {error}", hint="fetch or pack it again") from error
    if is_bomb(sum(info.file_size for info in members), path.stat().st_size):
        raise DataError(
            f"{path.name} unpacks to more than 200 times its size", hint="if you trust it, unpack it yourself"
        )
    members.sort(key=lambda info: PurePosixPath(info.filename).parts)
    return [_member(archive, info) for info in members]


def _walk(folder: Path, skipped: list[str]) -> Iterator[Path]:
    def refused(error: OSError) -> None:
        skipped.append(f"{_printable(str(error.filename))}: {error.strerror}")

    for root, folders, files in os.walk(folder, onerror=refused):
        folders[:] = [name for name in folders if _wanted(PurePosixPath(name + ".mid"))]
        for file in files:
            if _wanted(PurePosixPath(file)):
                yield Path(root, file)


def _wanted(path: PurePosixPath) -> bool:
    visible = not any(part.startswith((".", "__MACOSX")) for part in path.parts)
    return visible and path.suffix.lower() in ENDINGS


def _file(path: Path, name: str) -> _Source:
    def read() -> bytes:
        if not stat.S_ISREG(path.stat().st_mode):
            raise _UnreadableError("not a file")  # a pipe would wait for ever
        return path.read_bytes()

    try:
        size = path.stat().st_size
    except OSError:
        size = 0  # a broken link: opening it tells
    return _Source(_printable(name), size, read)


def _member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> _Source:
    # Never to disk; zipfile gives no more bytes than a member declares.
    return _Source(_printable(info.filename), info.file_size, lambda: archive.read(info))


def _printable(name: str) -> str:
    """Names that are not UTF-8 could otherwise not be shown."""
    return name.encode("utf-8", "backslashreplace").decode()


# Frames


def _of_json(place: Path, part: str | None, grid: int, note: Note) -> list[Tune]:
    size = place.stat().st_size
    require_room(20 * size, place.name)
    try:
        data = json.loads(place.read_bytes())
    except (ValueError, RecursionError) as error:
        raise DataError(f"{place.name} is no JSON: {error}", hint="fetch or write it again") from error
    pieces: list[tuple[str, Any]] = []
    if isinstance(data, dict):
        if part is not None and part not in data:
            raise ConfigError(f"{place.name} has no part {part!r}", hint=f"it has {listing([*map(str, data)])}")
        if part is None and len(data) > 1:
            note(f"{place.name}: its parts {listing([*map(str, data)])} are taken together; FILE.json:PART is one")
        for key in [part] if part is not None else list(data):
            pieces += _pieces(data[key], f"{place.name} {key}")
    else:
        pieces = _pieces(data, place.name)
    note(f"{place.name}: {grid} steps are taken for a quarter note; --set kind.grid=1 if a step is one")
    tunes, silent = [], 0
    for name, frames in pieces:
        tune = of_roll(_frames(frames, name), name=name, grid=grid)
        silent += not tune.pitch.size
        if tune.pitch.size:
            tunes.append(tune)
    return _sounding(tunes, silent, place, note)


def _pieces(data: Any, name: str) -> list[tuple[str, Any]]:
    """(name, frames) of a list of pieces; a single piece is one too."""
    hint = "it is a list of pieces, each a list of steps, each a list of MIDI numbers"
    if not isinstance(data, list) or not all(isinstance(piece, list) for piece in data):
        raise DataError(f"{name} is no list of pieces", hint=hint)
    deep = any(isinstance(frame, list) for piece in data for frame in piece)
    return [(f"{name} {i}", piece) for i, piece in enumerate(data)] if deep else [(name, data)]


def _frames(piece: Any, name: str) -> list[list[int]]:
    frames: list[list[int]] = []
    for i, frame in enumerate(piece):
        if not isinstance(frame, list) and frame is not None:
            raise DataError(f"{name}, step {i:,}: {str(frame)[:40]!r} is no list of pitches", hint="[] is silence")
        sounds = []
        for pitch in frame or ():
            # NaN differs from itself.
            if pitch in _RESTS or pitch != pitch:  # noqa: PLR0124
                continue
            if isinstance(pitch, bool) or not isinstance(pitch, int | float) or pitch % 1 or not 0 <= pitch <= 127:
                hint = "pitches are MIDI numbers, 0 to 127; null is a rest"
                raise DataError(f"{name}, step {i:,}: {str(pitch)[:40]!r} is no pitch", hint=hint)
            sounds.append(int(pitch))
        frames.append(sounds)
    return frames


def _of_arrays(place: Path, grid: int, note: Note) -> list[Tune]:
    x = read_arrays(place, note).x
    if x.ndim not in (2, 3) or x.shape[-1] not in (128, KEYS):
        raise DataError(
            f"{place.name} has shape {x.shape}, which is no piano roll",
            hint="rolls are (pieces, steps, 128) or (steps, 128); 88 keys are those of a piano",
        )
    if x.dtype != np.bool_ and not np.isin(x, (0, 1)).all():
        raise DataError(
            f"{place.name} holds other values than 0 and 1 in [{x.min():g}, {x.max():g}]",
            hint="say what sounds: np.save('x.npy', x > 0)",
        )
    rolls = x[None] if x.ndim == 2 else x
    tunes, silent, padded = [], 0, 0
    for i, roll in enumerate(rolls):
        heard = np.flatnonzero(roll.any(1))
        silent += not heard.size
        if not heard.size:
            continue
        # Rolls of one array are of one length: what is shorter was filled up with silence.
        steps = len(roll) if len(rolls) == 1 else int(heard[-1]) + 1
        padded += steps < len(roll)
        tunes.append(of_roll(roll[:steps], name=f"{place.stem} {i}" if len(rolls) > 1 else place.stem, grid=grid))
    if padded:
        note(f"{place.name}: silence at the end of {padded:,} piece{'s' * (padded > 1)} is cut off")
    return _sounding(tunes, silent, place, note)


def _sounding(tunes: list[Tune], silent: int, place: Path, note: Note) -> list[Tune]:
    if not tunes:
        raise DataError(f"{place.name} holds no note", hint="give a piece in which something sounds")
    if silent:
        note(f"{place.name}: {silent:,} silent piece{'s' * (silent > 1)} {'are' if silent > 1 else 'is'} left out")
    return tunes
