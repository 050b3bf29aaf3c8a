"""The process that parses MIDI files, so that no file can harm the one that asks.

    python midi_worker.py GRID BYTES SECONDS

asks: the length of a file (8 bytes) and the file; answers: a line of JSON, either {"error": why} or its notes on a
grid of GRID steps a quarter note. It may use so many bytes of memory, and so many seconds a file. It imports neither
numpy nor anything of latente: its start is cheap.
"""

import contextlib
import gc
import io
import itertools
import json
import sys
from collections.abc import Callable, Iterator
from typing import Any

_HOUR, _BARS = 3600, 20_000  # what is used of a file at most
_DRUMS = 9  # channel 10, counted from zero
_NOTES = 500_000

# (channel, pitch) -> tick of its start, and whether it cut off another one at that very tick.
_Open = dict[tuple[int, int], tuple[int, bool]]


def parsed(data: bytes, grid: int) -> dict[str, Any]:
    """The notes of a MIDI file, all tracks together, without its drums: lists of pitch, start and length in steps."""
    import mido

    if data[:4] == b"RIFF" and b"MThd" in data[:64]:
        data = data[data.index(b"MThd") :]  # .rmi: MIDI in a box
    if data[:4] != b"MThd":
        return {"error": "it is no MIDI file: it does not begin with MThd"}
    try:
        file = mido.MidiFile(file=io.BytesIO(data))
    except EOFError:
        return {"error": "it is cut short"}
    if file.ticks_per_beat < 1:
        return {"error": "its time is counted in film frames (SMPTE), not in notes"}
    if file.type == 2:
        return {"error": "its tracks do not belong together (type 2)"}
    notes: list[tuple[int, int, int]] = []
    tempos: list[tuple[int, int]] = []
    meters: list[tuple[int, int, int]] = []
    last = drums = 0
    for track in file.tracks:
        tick, heard = _track(track, notes, tempos, meters)
        last, drums = max(last, tick), drums + heard
    if not notes:
        return {"error": "it holds drums only" if drums else "it holds no note"}
    return _gridded(notes, file.ticks_per_beat, grid, last, min(tempos, default=(0, 500_000))[1], sorted(meters))


def _track(track: Any, notes: list[Any], tempos: list[Any], meters: list[Any]) -> tuple[int, int]:
    """Adds what one track holds; its last tick, and how many drum notes it holds."""
    tick = drums = 0
    sounding: _Open = {}
    for message in track:
        tick += message.time
        kind = message.type
        if kind in ("note_on", "note_off"):
            if message.channel == _DRUMS:
                drums += 1
                continue
            key = (message.channel, message.note)
            before = sounding.get(key)
            if kind == "note_on" and message.velocity:
                if before is not None and before[0] < tick:
                    notes.append((before[0], message.note, tick))
                # Of a note struck twice at one tick one is enough.
                sounding[key] = (tick, before is not None and (before[0] < tick or before[1]))
            elif before is not None:
                if before == (tick, True):  # it ends the note before, written in the other order
                    sounding[key] = (tick, False)
                    continue
                notes.append((before[0], message.note, tick))
                del sounding[key]
        elif kind == "set_tempo" and message.tempo:
            tempos.append((tick, message.tempo))
        elif kind == "time_signature":
            meters.append((tick, message.numerator, message.denominator))
    notes += [(start, key[1], tick) for key, (start, _) in sounding.items()]
    return tick, drums


def _gridded(
    notes: list[tuple[int, int, int]], beat: int, grid: int, last: int, tempo: int, meters: list[tuple[int, int, int]]
) -> dict[str, Any]:
    def step(tick: int) -> int:
        return (2 * tick * grid + beat) // (2 * beat)

    bar, odd = 4 * grid, 0
    if meters:
        bar, odd = divmod(4 * grid * meters[0][1], meters[0][2])
    if odd or not 0 < bar <= 64 * grid:
        bar = 0
    quarters = 60e6 / tempo  # a minute
    limit = min(_BARS * (bar or 4 * grid), int(_HOUR / 60 * quarters * grid))
    found = [(step(start), pitch, step(end)) for start, pitch, end in _apart(sorted(notes), step)]
    kept = [(start, pitch, min(max(end, start + 1), limit)) for start, pitch, end in found if start < limit]
    if not kept:
        return {"error": "it is silent for as long as files are read"}
    if len(kept) > _NOTES:
        return {"error": f"it holds {len(kept):,} notes, and at most {_NOTES:,} are read"}
    sounds = max(end for _, _, end in kept)
    # Silence at the end is kept up to the end of its bar.
    whole = -(-sounds // bar) * bar if bar else sounds
    return {
        "pitch": [pitch for _, pitch, _ in kept],
        "start": [start for start, _, _ in kept],
        "length": [end - start for start, _, end in kept],
        "steps": max(sounds, min(step(last), whole, limit)),
        "bar": bar,
        "tempo": round(quarters, 3),
        "long": len(kept) < len(found) or max(end for _, _, end in found) > limit,
        "meters": len({meter[1:] for meter in meters}),
    }


def _apart(notes: list[tuple[int, int, int]], step: Callable[[int], int]) -> Iterator[tuple[int, int, int]]:
    """The notes, without the shorter of two that follow each other in one step: on the grid they would be a chord."""
    for _, together in itertools.groupby(notes, lambda note: step(note[0])):
        kept: list[tuple[int, int, int]] = []
        for note in together:
            before = [other for other in kept if other[2] <= note[0]]
            if any(note[2] - note[0] <= other[2] - other[0] for other in before):
                continue
            kept = [other for other in kept if other not in before] + [note] if before else [*kept, note]
        yield from kept


def _limited(memory: int) -> None:
    with contextlib.suppress(ImportError, ValueError, OSError):  # Windows has no limits, macOS not this one
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))


def _timed(seconds: int) -> None:
    """So many seconds of the processor from now on."""
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        used = resource.getrusage(resource.RUSAGE_SELF)
        hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
        resource.setrlimit(resource.RLIMIT_CPU, (int(used.ru_utime + used.ru_stime) + seconds, hard))


def main() -> None:
    """Answer until nobody asks."""
    grid, memory, seconds = (int(word) for word in sys.argv[1:4])
    _limited(memory)
    gc.disable()  # mido's many small objects hold no cycles: looking for some takes a tenth of the time
    asked, answers = sys.stdin.buffer, sys.stdout
    while len(head := asked.read(8)) == 8:
        data = asked.read(int.from_bytes(head, "big"))
        _timed(seconds)
        try:
            answer = parsed(data, grid)
        except MemoryError:
            answer = {"error": "it takes too much memory"}
        except Exception as error:  # a damaged file makes mido raise anything: OSError, KeyError, IndexError …
            reason = " ".join(str(error).split()) or type(error).__name__
            answer = {"error": f"it is damaged: {reason[:120]}"}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
