"""Tunes -> files, by the ending of the name; each is whole or not there.

.mid           one tune, or several one after the other       .abc    melodies
.wav           what it sounds like                            .png    what it looks like
.json          the pitches of each step                       .npy .npz    a piano roll (tunes, steps, 128)
a folder       (no ending, or a final /) one .mid a tune
"""

import io
import json
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..atomic import atomic_folder, atomic_write
from ..errors import ConfigError
from .reading_bytes import require_room
from .tunes import Tune, frames, is_melody, roll
from .writing_roll import roll_picture
from .writing_wav import wav_bytes

ENDINGS = (".mid", ".midi", ".abc", ".wav", ".png", ".json", ".npy", ".npz")

_TICKS = 480  # a quarter note, about: a multiple of the grid
_LOUD = 80  # MIDI velocity of every note
_SHARPS = (("C", 0), ("C", 1), ("D", 0), ("D", 1), ("E", 0), ("F", 0), ("F", 1), ("G", 0), ("G", 1), ("A", 0), ("A", 1))
_BARS_A_LINE = 4
_ENOUGH = 32  # notes a line where there are no bars

Music = Tune | Sequence[Tune]


def write_music(music: Music, path: str | os.PathLike[str]) -> list[Path]:
    """Write a tune or several in the format that the ending of `path` names; returns the files written.

    Raises ConfigError if the format cannot hold them or the place cannot be written,
    ResourceError if the disk is full.
    """
    place, tunes = Path(path), some(music)
    ending = place.suffix.lower()
    if not ending or os.fspath(path).endswith(("/", os.sep)):
        return _write_folder(tunes, place)
    if ending not in ENDINGS:
        raise ConfigError(
            f"{place.name!r} cannot hold music: it ends in {ending}",
            hint=f"music can be written as {' '.join(ENDINGS)} or a folder (a final /)",
        )
    if ending in (".npy", ".npz"):
        _write_rolls(tunes, place, ending)
        return [place]
    if ending in (".mid", ".midi"):
        data = midi_bytes(tunes)
    elif ending == ".wav":
        data = wav_bytes(tunes)
    elif ending == ".png":
        data = _png(roll_picture(tunes, [tune.name for tune in tunes]))
    else:
        data = (abc_text(tunes) if ending == ".abc" else json_text(tunes)).encode()
    atomic_write(place, data)
    return [place]


def some(music: Music) -> list[Tune]:
    """One tune or several as a list; ConfigError if there is none."""
    tunes = [music] if isinstance(music, Tune) else list(music)
    if not tunes:
        raise ConfigError("there is no tune to write", hint="give at least one tune")
    return tunes


def _write_folder(tunes: list[Tune], place: Path) -> list[Path]:
    names = [f"{i:0{max(4, len(str(len(tunes))))}d}.mid" for i in range(1, len(tunes) + 1)]
    with atomic_folder(place) as folder:
        for name, tune in zip(names, tunes, strict=True):
            (folder / name).write_bytes(midi_bytes(tune))
    return [place / name for name in names]


def _write_rolls(tunes: list[Tune], place: Path, ending: str) -> None:
    """Rolls of one length: shorter ones are filled up with silence, which `read_music` cuts off again."""
    steps = max(tune.steps for tune in tunes)
    require_room(len(tunes) * steps * 128, place.name)
    rolls = np.zeros((len(tunes), steps, 128), bool)
    for i, tune in enumerate(tunes):
        rolls[i, : tune.steps] = roll(tune)
    if ending == ".npy":
        atomic_write(place, lambda file: np.save(file, rolls, allow_pickle=False))
    else:
        atomic_write(place, lambda file: np.savez_compressed(file, X=rolls))


def _png(pixels: np.ndarray) -> bytes:
    from PIL import Image

    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def json_text(music: Music) -> str:
    """A list of tunes, each a list of steps, each a list of the pitches that sound, the highest first."""
    return json.dumps([frames(tune) for tune in some(music)], separators=(",", ":")) + "\n"


# MIDI


def midi_bytes(music: Music) -> bytes:
    """A standard MIDI file of one track; several tunes follow each other, with a bar of rest between."""
    tunes = some(music)
    grids = {tune.grid for tune in tunes}
    if len(grids) > 1:
        raise ConfigError(f"tunes of grids {sorted(grids)} cannot share a file", hint="write them into a folder")
    grid = grids.pop()
    ticks = max(1, _TICKS // grid)  # a step
    events: list[tuple[int, int, bytes]] = []  # tick, rank among those of one tick, message
    first = 0
    for tune in tunes:
        about = [(3, tune.name.encode()[:120]), (81, _tempo(tune.tempo))]
        if (meter := meter_of(tune)) and meter[0] < 256 and (meter[1] & (meter[1] - 1)) == 0:
            about.append((88, bytes([meter[0], meter[1].bit_length() - 1, 24, 8])))
        events += [(first, 1, bytes([255, kind, len(data)]) + data) for kind, data in about]
        start, end = first + tune.start.astype(np.int64) * ticks, first + tune.end.astype(np.int64) * ticks
        for pitch, on, off in zip(tune.pitch.tolist(), start.tolist(), end.tolist(), strict=True):
            # What ends at a tick comes before what starts at it.
            events += [(on, 2, bytes([0x90, pitch, _LOUD])), (off, 0, bytes([0x80, pitch, 64]))]
        last = first + tune.steps * ticks
        first = last + (tune.bar or 4 * grid) * ticks
    events.append((last, 3, b"\xff\x2f\x00"))
    events.sort(key=lambda event: event[:2])  # stable: of one rank as they came
    track = bytearray()
    now = 0
    for tick, _, message in events:
        track += _variable(tick - now) + message
        now = tick
    header = b"MThd" + (6).to_bytes(4, "big") + bytes([0, 0, 0, 1]) + (grid * ticks).to_bytes(2, "big")
    return header + b"MTrk" + len(track).to_bytes(4, "big") + bytes(track)


def _tempo(quarters: float) -> bytes:
    return min(max(round(60e6 / quarters), 1), (1 << 24) - 1).to_bytes(3, "big")


def _variable(number: int) -> bytes:
    """Seven bits a byte, the highest first; all bytes but the last have their top bit set."""
    out = [number & 127]
    while number := number >> 7:
        out.append(number & 127 | 128)
    return bytes(reversed(out))


def meter_of(tune: Tune) -> tuple[int, int] | None:
    """A bar as beats and their note value, such as (3, 4); None if its length is unknown."""
    if not tune.bar:
        return None
    for value in (4, 8, 16, 32, 64):
        beats, rest = divmod(tune.bar * value, 4 * tune.grid)
        if not rest:
            return beats, value
    return tune.bar, 4 * tune.grid


# ABC


def abc_text(music: Music) -> str:
    """Melodies in ABC, each note with its own accidental; ConfigError if two notes sound at once."""
    return "\n".join(_abc(tune, number) for number, tune in enumerate(some(music), 1))


def _abc(tune: Tune, number: int) -> str:
    if not is_melody(tune):
        raise ConfigError(
            f"{tune.name or f'tune {number}'} has several notes at once, which ABC is not written for",
            hint="write it as .mid",
        )
    meter = meter_of(tune)
    title = "".join(c for c in tune.name if c.isprintable() and c not in "%\\").strip() or f"Tune {number}"
    head = [f"X:{number}", f"T:{title}", f"M:{f'{meter[0]}/{meter[1]}' if meter else 'none'}", f"L:1/{4 * tune.grid}"]
    head += [f"Q:1/4={max(1, round(tune.tempo))}", "K:C"]
    bars = _bars(tune)
    lines = [bars[i : i + _BARS_A_LINE] for i in range(0, len(bars), _BARS_A_LINE)]
    body = [" | ".join(line) + (" |" if line is not lines[-1] else " |]") for line in lines]
    return "\n".join([*head, *(line.replace("- |", "-|") for line in body)]) + "\n"


def _bars(tune: Tune) -> list[str]:
    """The notes of each bar, the last one filled up with a rest; without bars, lines of enough notes."""
    pieces: list[tuple[int | None, int]] = []  # pitch or a rest, and steps
    now = 0
    for pitch, start, end in zip(tune.pitch.tolist(), tune.start.tolist(), tune.end.tolist(), strict=True):
        pieces += [(None, start - now)] * (start > now) + [(pitch, end - start)]
        now = end
    whole = -(-tune.steps // tune.bar) * tune.bar if tune.bar else tune.steps
    pieces += [(None, whole - now)] * (whole > now)
    if not tune.bar:
        return [" ".join(_signs(pieces[i : i + _ENOUGH])) for i in range(0, len(pieces), _ENOUGH)]
    bars: list[list[tuple[int | None, int, bool]]] = [[]]
    left = tune.bar
    for pitch, steps in pieces:
        rest = steps
        while rest:
            if not left:
                bars.append([])
                left = tune.bar
            now = min(rest, left)
            rest, left = rest - now, left - now
            bars[-1].append((pitch, now, bool(rest)))
    return [" ".join(_signs(bar)) for bar in bars]


def _signs(pieces: Sequence[tuple[int | None, int] | tuple[int | None, int, bool]]) -> list[str]:
    """Notes and rests of one bar; a natural is marked once its letter was sharp."""
    out: list[str] = []
    sharp: set[str] = set()
    for pitch, steps, *tied in pieces:
        length = str(steps) if steps > 1 else ""
        if pitch is None:
            out.append("z" + length)
            continue
        letter, raised = (*_SHARPS, ("B", 0))[pitch % 12]
        mark = "^" if raised else "=" if letter in sharp else ""
        if raised:
            sharp.add(letter)
        octave = pitch // 12 - 5
        name = letter + "," * -octave if octave < 1 else letter.lower() + "'" * (octave - 1)
        out.append(mark + name + length + "-" * any(tied))
    return out
