"""Notes on a grid of steps, and what can be done to them without hearing them."""

import heapq
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, overload

import numpy as np

from ..errors import ConfigError, DataError

KEYS, LOWEST_KEY = 88, 21  # of a piano: A0 … C8


@dataclass(frozen=True, eq=False, repr=False)
class Tune:
    """Notes on a grid, sorted by (start, -pitch); notes of one pitch never overlap.

    Raises DataError if they are not so: `of_notes` brings them into this form.
    """

    pitch: np.ndarray  # int16 [n], MIDI numbers 0…127
    start: np.ndarray  # int32 [n], in steps
    length: np.ndarray  # int32 [n], in steps, at least 1
    steps: int  # how long it is in all
    name: str = ""
    grid: int = 4  # steps a quarter note (4: sixteenth notes)
    bar: int = 16  # steps a bar; 0: unknown
    tempo: float = 120.0  # quarter notes a minute
    # Whether it is known where a note is struck anew. False for piano rolls, whose equal neighbours are one sounding
    # note or several, nobody knows.
    struck: bool = True

    def __post_init__(self) -> None:
        for field, dtype in (("pitch", np.int16), ("start", np.int32), ("length", np.int32)):
            object.__setattr__(self, field, np.ascontiguousarray(getattr(self, field), dtype))
        if problem := _problem(self):
            raise DataError(f"these notes are no tune: {problem}", hint="bring them into form with tunes.of_notes")

    def __repr__(self) -> str:
        return f"Tune({self.name!r}, {len(self.pitch):,} notes in {self.steps:,} steps)"

    @property
    def end(self) -> np.ndarray:
        """The first step in which each note is over. int32 [n]"""
        return self.start + self.length

    @property
    def seconds(self) -> float:
        """How long it takes."""
        return self.steps / self.grid * 60.0 / self.tempo


def _problem(tune: Tune) -> str:
    pitch, start, end = tune.pitch, tune.start, tune.end
    if not pitch.shape == start.shape == tune.length.shape == (pitch.size,):
        return "pitch, start and length are of different shapes"
    if tune.steps < 0 or tune.grid < 1 or tune.bar < 0 or not 0 < tune.tempo < np.inf:
        return f"{tune.steps} steps, {tune.grid} a quarter, {tune.bar} a bar, tempo {tune.tempo:g}"
    if not pitch.size:
        return ""
    if pitch.min() < 0 or pitch.max() > 127:
        return f"pitches lie in [{pitch.min()}, {pitch.max()}], not in [0, 127]"
    if tune.length.min() < 1 or start.min() < 0 or end.max() > tune.steps:
        return (
            f"they reach from step {start.min()} to {end.max()} of {tune.steps}, the shortest {tune.length.min()} long"
        )
    if (np.diff(start.astype(np.int64) * 128 - pitch) <= 0).any():
        return "they are not sorted by start, the highest first"
    order = np.lexsort((start, pitch))
    same = pitch[order][1:] == pitch[order][:-1]
    return "two of one pitch overlap" if (same & (start[order][1:] < end[order][:-1])).any() else ""


@dataclass(frozen=True, repr=False)
class Tunes(Sequence[Tune]):
    """A sequence of tunes."""

    items: tuple[Tune, ...]

    def __len__(self) -> int:
        return len(self.items)

    def __repr__(self) -> str:
        return f"Tunes({len(self):,} of them, {sum(len(t.pitch) for t in self):,} notes)"

    def __iter__(self) -> Iterator[Tune]:
        return iter(self.items)

    @overload
    def __getitem__(self, at: int) -> Tune: ...
    @overload
    def __getitem__(self, at: slice) -> "Tunes": ...
    def __getitem__(self, at: int | slice) -> "Tune | Tunes":
        return Tunes(self.items[at]) if isinstance(at, slice) else self.items[at]


def of_notes(
    pitch: Iterable[int],
    start: Iterable[int],
    length: Iterable[int],
    steps: int = 0,
    *,
    name: str = "",
    grid: int = 4,
    bar: int = 16,
    tempo: float = 120.0,
    struck: bool = True,
) -> Tune:
    """A tune of notes in any order, at least so many steps long.

    A note is at least one step long, and ends where its own pitch is struck anew; what was
    struck then sounds as long as either.
    """
    p, s, n = (np.array(x if isinstance(x, np.ndarray) else list(x), np.int64) for x in (pitch, start, length))
    e = s + np.maximum(n, 1)
    order = np.lexsort((s, p))
    p, s, e = p[order], s[order], e[order]
    # Ends so far within a pitch: pitches are kept apart by an offset larger than any time.
    far = int(e.max(initial=0)) + 1
    e = np.maximum.accumulate(e + p * far) - p * far if p.size else e
    again = np.r_[p[1:] == p[:-1], False] if p.size else np.zeros(0, bool)
    e = np.where(again, np.minimum(e, np.r_[s[1:], 0]), e) if p.size else e
    kept = e > s  # of those that start together, the last, which lasts longest
    p, s, e = p[kept], s[kept], e[kept]
    order = np.lexsort((-p, s))
    p, s, e = p[order], s[order], e[order]
    return Tune(p, s, e - s, max(int(e.max(initial=0)), steps), name, grid, bar, tempo, struck)


def of_roll(
    roll: "np.ndarray | Sequence[Iterable[int]]",
    *,
    name: str = "",
    grid: int = 4,
    bar: int = 0,
    tempo: float = 120.0,
) -> Tune:
    """A tune of what sounds in each step: an array [steps, 128], or [steps, 88] from A0 on, or lists of pitches.

    Equal neighbours are one note, and the tune is not `struck`. Raises DataError for other
    widths and pitches.
    """
    if isinstance(roll, np.ndarray):
        on = roll.astype(bool)
        if on.ndim != 2 or on.shape[1] not in (128, KEYS):
            raise DataError(f"a roll of shape {on.shape} is no tune", hint="a roll is (steps, 128) or (steps, 88)")
        first = LOWEST_KEY if on.shape[1] == KEYS else 0
    else:
        first = 0
        step, pitch = _pairs(roll)
        on = np.zeros((len(roll), 128), bool)
        on[step, pitch] = True
    edges = np.diff(np.pad(on, ((1, 1), (0, 0))).astype(np.int8), axis=0).T  # by pitch, so that ends meet their starts
    keys, starts = np.nonzero(edges == 1)
    ends = np.nonzero(edges == -1)[1]
    return of_notes(
        keys + first, starts, ends - starts, len(on), name=name, grid=grid, bar=bar, tempo=tempo, struck=False
    )


def _pairs(frames: Sequence[Iterable[int]]) -> tuple[np.ndarray, np.ndarray]:
    lists = [list(frame) for frame in frames]
    pitch = np.array([p for frame in lists for p in frame], np.int64)
    if pitch.size and (pitch.min() < 0 or pitch.max() > 127):
        raise DataError(
            f"pitches lie in [{pitch.min()}, {pitch.max()}], not in [0, 127]", hint="give MIDI numbers: 60 is C4"
        )
    return np.repeat(np.arange(len(lists)), [len(frame) for frame in lists]), pitch


def roll(tune: Tune) -> np.ndarray:
    """What sounds in each step. bool [steps, 128]"""
    edges = np.zeros((tune.steps + 1, 128), np.int8)
    np.add.at(edges, (tune.start, tune.pitch), 1)
    np.add.at(edges, (tune.end, tune.pitch), -1)
    return np.cumsum(edges[:-1], 0, dtype=np.int8) > 0


def frames(tune: Tune) -> list[tuple[int, ...]]:
    """The pitches that sound in each step, the highest first."""
    sounding: list[list[int]] = [[] for _ in range(tune.steps)]
    for step, key in np.argwhere(roll(tune)[:, ::-1]).tolist():
        sounding[step].append(127 - key)
    return [tuple(pitches) for pitches in sounding]


def melody(tune: Tune) -> Tune:
    """The notes that are the highest when they are struck, each ending where the next begins.

    What they covered does not come back when they end: an accompaniment is not struck anew.
    """
    sounding: list[tuple[int, int]] = []  # (-pitch, end), the highest first; those that are over go when they surface
    kept: list[int] = []
    for i, (pitch, start, end) in enumerate(
        zip(tune.pitch.tolist(), tune.start.tolist(), tune.end.tolist(), strict=True)
    ):
        while sounding and sounding[0][1] <= start:
            heapq.heappop(sounding)
        if not sounding or -sounding[0][0] < pitch:
            kept.append(i)
        heapq.heappush(sounding, (-pitch, end))
    starts = tune.start[kept]
    length = np.minimum(tune.length[kept], np.diff(starts, append=tune.steps))
    return replace(tune, pitch=tune.pitch[kept], start=starts, length=length)


def is_melody(tune: Tune) -> bool:
    """Whether no two notes sound at once."""
    return bool((tune.end[:-1] <= tune.start[1:]).all())


def transposed(tune: Tune, semitones: int) -> Tune:
    """The tune higher (or lower, if negative). Raises ConfigError if a note would leave MIDI's 0…127."""
    pitch = tune.pitch.astype(np.int64) + semitones
    if pitch.size and (pitch.min() < 0 or pitch.max() > 127):
        raise ConfigError(
            f"{semitones:+d} semitones bring pitches to [{pitch.min()}, {pitch.max()}], outside of [0, 127]",
            hint=f"from {-int(tune.pitch.min())} to {127 - int(tune.pitch.max()):+d} are possible",
        )
    return replace(tune, pitch=pitch)


def cut(tune: Tune, start: int, stop: int) -> Tune:
    """The steps start … stop - 1; notes are cut at the edges, one that was begun before starts with the window."""
    start, stop = max(0, start), min(stop, tune.steps)
    inside = (tune.start < stop) & (tune.end > start) & (start < stop)  # nothing is in a window of no steps
    begin = np.maximum(tune.start[inside], start)
    end = np.minimum(tune.end[inside], stop)
    pitch = tune.pitch[inside]
    order = np.lexsort((-pitch, begin))
    about: dict[str, Any] = {"pitch": pitch[order], "start": (begin - start)[order], "length": (end - begin)[order]}
    return replace(tune, **about, steps=max(0, stop - start))
