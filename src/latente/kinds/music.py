"""Music: tunes of one voice or several, on a grid of steps."""

import warnings
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from ..errors import DataError
from ..model.batch import Batch
from ..model.dists.tokens import END, OWN, PAD, UNSEEN
from ..model.nets.recurrent import Recurrent
from ..model.noise import uniform
from ..parts import part, require
from .base import DataWarning, Nets
from .sequences import Sequences, batch_of
from .tunes import Tune, Tunes, cut, is_melody, melody, of_notes, of_roll

# Bars of a melody's window, and steps up to which pieces of several voices are learned whole; of longer ones, windows.
BARS, WHOLE, PART = 2, 256, 64
# From which share of tunes of one voice on the others are taken for melodies too.
MOSTLY = 0.9
# Tokens of a window, at the most.
LONGEST = 4096
# Of a melody the first tokens: a note goes on, silence. Of voices: the step is over.
HOLD, REST = OWN, OWN + 1
STEP = OWN


@part("kind", "music")
@dataclass(frozen=True)
class Music(Sequences):
    """Tunes as tokens on a grid, in windows of `window` steps (0: two bars of melodies, whole pieces of several voices
    up to 256 steps, else 64 steps), one every `stride` (0: a bar of melodies, else a window).

    form: a "melody" is a token a step: a pitch that is struck, one that goes on, or silence; "voices" are, step by
    step, the pitches that sound, the highest first, each struck or, where that is known, going on; "auto": voices if
    two notes sound at once in more than a tenth of the tunes. grid: steps a quarter note. transpose: training rows are
    moved by up to so many semitones either way, anew each time, as far as their pitches stay in the data's range.
    Learned: `low` and `high`, the range of pitches; `bar`, steps a bar; `tempo`; `struck`, see `Tune`; `steps`.
    """

    form: Literal["auto", "melody", "voices"] = "auto"
    window: int = 0
    stride: int = 0
    grid: int = 4
    transpose: int = 6
    low: int = 0
    high: int = 127
    bar: int = 16
    tempo: float = 120.0
    struck: bool = True

    def __post_init__(self) -> None:
        require(0 <= self.low <= self.high <= 127, self, "low", "at most high, and both from 0 to 127")
        require(0 <= self.transpose <= 64, self, "transpose", "0 to 64 semitones")
        require(1 <= self.grid <= 96, self, "grid", "1 to 96 steps a quarter")
        for name in ("window", "stride", "steps", "bar"):
            require(0 <= getattr(self, name) <= 1 << 16, self, name, "0 to 65,536")
        require(1e-3 <= self.tempo <= 1e5, self, "tempo", "from .001 to 100,000 quarters a minute")
        require(not self.pairs or min(self.window, self.stride, self.steps) >= 1, self, "stride", "1 or more")

    @classmethod
    def accepts(cls, raw: Any) -> bool:
        return isinstance(raw, (Tune, Tunes)) or (
            isinstance(raw, (list, tuple)) and len(raw) > 0 and all(isinstance(one, Tune) for one in raw)
        )

    @property
    def size(self) -> int:
        keys = self.high - self.low + 1
        return OWN + (2 + keys if self.form == "melody" else 1 + keys * (1 + self.struck))

    @property
    def first(self) -> int:
        """The token of the lowest pitch."""
        return OWN + (2 if self.form == "melody" else 1)

    def learn_blocks(self, blocks: Iterable[Any]) -> "Music":
        parts = list(blocks)
        if len(parts) != 1:
            raise DataError("music is learned in memory", hint="--stream no")
        tunes = [t for t in tunes_of(parts[0]) if len(t.pitch)]
        if not tunes:
            raise DataError("found 0 tunes with a note", hint="check the folder")
        kind, longest = self, max(t.steps for t in tunes)
        if kind.form == "auto":
            single = sum(map(is_melody, tunes))
            kind = replace(kind, form="melody" if single >= MOSTLY * len(tunes) else "voices")
            if kind.form == "melody" and single < len(tunes):
                note = f"{len(tunes) - single:,} of {len(tunes):,} tunes have several voices: their highest is taken"
                warnings.warn(f"{note}; --set kind.form=voices takes all", DataWarning, stacklevel=4)
        bar = int(np.bincount([t.bar for t in tunes]).argmax()) or 4 * kind.grid
        other = sum(t.bar not in (0, bar) for t in tunes)
        if other and kind.form == "melody" and not kind.window:
            note = f"{other:,} of {len(tunes):,} tunes have bars of other than {bar} steps, of which a window has two"
            warnings.warn(f"{note}: --set kind.window=32", DataWarning, stacklevel=4)
        if not kind.window:
            whole = min(longest, BARS * bar) if kind.form == "melody" else (longest if longest <= WHOLE else PART)
            kind = replace(kind, window=whole)
        if not kind.stride:
            kind = replace(kind, stride=bar if kind.form == "melody" and bar < kind.window else kind.window)
        pitches = np.concatenate([t.pitch for t in tunes])
        kind = replace(
            kind,
            low=int(pitches.min()),
            high=int(pitches.max()),
            bar=bar,
            tempo=float(np.median([t.tempo for t in tunes])),
            struck=all(t.struck for t in tunes),
            grid=tunes[0].grid,
        )
        rows = [kind.tokens(w) for _, w in kind.windows(tunes)]
        if len(rows) < 2 or len({tuple(row) for row in rows}) < 2:
            raise DataError(
                f"found {len(rows)} window(s) (n_samples={len(rows)}) of {kind.window} steps, all the same: there is "
                "nothing to learn",
                hint="give more tunes, or --set kind.window=16",
            )
        most = kind.window if kind.form == "melody" else min(LONGEST, max(map(len, rows)))
        kind = replace(kind, steps=self.steps or most)
        return kind.seen(batch_of(rows, kind.steps))

    def windows(self, tunes: Iterable[Tune]) -> list[tuple[int, Tune]]:
        """The windows of tunes, each with the number of its tune. The last of a tune is what is left of it; less than
        half a window after the others is left out.
        """
        found = []
        for number, whole in enumerate(tunes):
            tune = melody(whole) if self.form == "melody" else whole
            for start in range(0, max(1, tune.steps), self.stride):
                covered = start - self.stride + self.window >= tune.steps
                if start == 0 or (not covered and 2 * (tune.steps - start) >= self.window):
                    found.append((number, cut(tune, start, start + self.window)))
        return found

    def tokens(self, tune: Tune) -> list[int]:
        """A window's tokens; `END` where it is shorter than a window, and always of voices. A pitch out of the range
        that was learned is not known.
        """
        pitch, start, end = (a.tolist() for a in (tune.pitch, tune.start, tune.end))
        if self.form == "melody":
            row = [REST] * tune.steps
            for p, s, e in zip(pitch, start, end, strict=True):
                row[s] = self.first + p - self.low if self.low <= p <= self.high else UNSEEN
                row[s + 1 : e] = [HOLD] * (min(e, tune.steps) - s - 1)
            return row if tune.steps >= self.window else [*row, END]
        sounding: list[list[tuple[int, int]]] = [[] for _ in range(tune.steps)]
        held = self.first + (self.high - self.low + 1 if self.struck else 0)
        for p, s, e in zip(pitch, start, end, strict=True):
            for step in range(s, e):
                token = (self.first if step == s else held) + p - self.low
                sounding[step].append((-p, token if self.low <= p <= self.high else UNSEEN))
        return [*(token for frame in sounding for token in (*(t for _, t in sorted(frame)), STEP)), END]

    def tune(self, tokens: list[int]) -> Tune:
        """Tokens as a tune: what goes on without having begun is struck."""
        keys, step, notes = self.high - self.low + 1, 0, list[list[int]]()
        open_: dict[int, list[int]] = {}  # the note of each pitch that sounded a step ago, and where it is
        now: dict[int, list[int]] = {}
        for token in tokens:
            if token in (PAD, END):
                break
            if self.form == "melody":
                if token >= self.first:
                    notes.append([self.low + token - self.first, step, 1])
                    open_ = {0: notes[-1]}
                elif token == HOLD and open_:
                    open_[0][2] += 1
                else:
                    open_ = {}
                step += 1
            elif token == STEP:
                open_, now, step = now, {}, step + 1
            elif token >= self.first:
                held, key = divmod(token - self.first, keys)
                goes_on = (held or not self.struck) and key in open_
                note = open_[key] if goes_on else [self.low + key, step, 0]
                note[2] += 1
                now[key] = note
                notes += [] if goes_on else [note]
        step += bool(now)
        pitch, start, length = zip(*notes, strict=True) if notes else ((), (), ())
        about: Any = {"grid": self.grid, "bar": self.bar, "tempo": self.tempo, "struck": self.struck}
        return of_notes(pitch, start, length, step, **about)

    def to_batch(self, raw: Any) -> Batch:
        tunes = tunes_of(raw)
        if not len(tunes):
            raise DataError("found 0 rows", hint="check the folder, or the filter before it")
        strange = sum(int(((t.pitch < self.low) | (t.pitch > self.high)).sum()) for t in tunes)
        if strange:
            note = f"{strange:,} note(s) outside of the range that was learned, {self.low} to {self.high}, are unknown"
            warnings.warn(note, DataWarning, stacklevel=5)
        return batch_of([self.tokens(w) for _, w in self.windows(tunes)], self.steps)

    def prepare(self, batch: Batch, generator: torch.Generator | None = None) -> Batch:
        batch = super().prepare(batch)
        if generator is None or not self.transpose:
            return batch
        keys, x = self.high - self.low + 1, batch.x
        sounds = x >= self.first
        key = (x - self.first) % keys
        down = torch.where(sounds, key, keys).amin(1).clamp(max=self.transpose)
        up = torch.where(sounds, keys - 1 - key, keys).amin(1).clamp(max=self.transpose)
        by = (uniform((len(x), 1), generator, x.device) * (down + up + 1)[:, None]).floor() - down[:, None]
        return replace(batch, x=torch.where(sounds, x + by, x))

    def restore(self, x: Tensor) -> Tunes:
        return Tunes(tuple(self.tune(row) for row in x.long().tolist()))

    def where(self, raw: Any) -> tuple[list[str], list[int]]:
        """Of each window the name of its tune, or its number, and the step at which it begins."""
        tunes = tunes_of(raw)
        numbers = [number for number, _ in self.windows(tunes)]
        first = {number: i for i, number in reversed(list(enumerate(numbers)))}
        nth = [i - first[number] for i, number in enumerate(numbers)]
        return [tunes[n].name or str(n) for n in numbers], [i * self.stride for i in nth]

    def rejoin(self, raw: Any, x: Tensor) -> Tunes:
        """Windows put together again: of each its first `stride` steps, of a tune's last one all."""
        tunes = tunes_of(raw)
        numbers = [number for number, _ in self.windows(tunes)]
        found: list[Tune] = []
        windows: list[list[Tune]] = [[] for _ in tunes]
        for number, window in zip(numbers, self.restore(x), strict=True):
            windows[number].append(window)
        for tune, parts in zip(tunes, windows, strict=True):
            rest = tune.steps - self.stride * (len(parts) - 1)
            cuts = [cut(w, 0, self.stride) for w in parts[:-1]] + [cut(w, 0, rest) for w in parts[-1:]]
            pitch, length = (np.concatenate([getattr(c, name) for c in cuts]) for name in ("pitch", "length"))
            start = np.concatenate([c.start + i * self.stride for i, c in enumerate(cuts)])
            about: Any = {"grid": self.grid, "bar": tune.bar, "tempo": tune.tempo, "struck": self.struck}
            found.append(of_notes(pitch, start, length, tune.steps, name=tune.name, **about))
        return Tunes(tuple(found))

    @cached_property
    def grammar(self) -> np.ndarray:
        """Which token may follow which, the first of a row after `PAD`. bool [tokens, tokens]"""
        token = np.arange(self.size)
        allowed = np.ones((self.size, self.size), bool)
        allowed[:, :END] = False
        if self.form == "melody":
            allowed[[PAD, REST], HOLD] = False
            return allowed
        key = np.where(token >= self.first, (token - self.first) % (self.high - self.low + 1), -1)
        sounds = key >= 0
        allowed[np.ix_(sounds, sounds)] = key[sounds][:, None] > key[sounds]
        allowed[sounds, END] = False
        return allowed

    @property
    def nets(self) -> Nets:
        # Which chord comes next asks for more than which note does.
        return Recurrent(256 if self.form == "voices" else 128)

    @property
    def whole_rows(self) -> bool:
        return self.form == "melody"

    @property
    def usual_dropout(self) -> float:
        # Pieces of several voices are few, and soon known by heart.
        return 0.3 if self.form == "voices" else 0.0

    @property
    def clock(self) -> tuple[int, int]:
        return (-1, self.window) if self.form == "melody" else (STEP, self.bar or 4 * self.grid)

    @property
    def read_options(self) -> dict[str, Any]:
        return {"grid": self.grid}

    @property
    def summary(self) -> list[str]:
        what = f"{self.form}: windows of {self.window} steps, one every {self.stride}; {self.grid} steps a quarter"
        return [what, f"pitches {self.low} to {self.high}, up to {self.steps} tokens of {self.size}"]


def tunes_of(raw: Any) -> Tunes:
    """Tunes in memory; a roll [steps, 128 or 88], or several of them, is one too. Raises DataError for what is none."""
    if isinstance(raw, Tunes):
        return raw
    if isinstance(raw, Tune):
        return Tunes((raw,))
    if isinstance(raw, np.ndarray) and raw.ndim in (2, 3):
        return Tunes(tuple(of_roll(one) for one in (raw if raw.ndim == 3 else raw[None])))
    if isinstance(raw, (list, tuple)) and all(isinstance(one, Tune) for one in raw):
        return Tunes(tuple(raw))
    if isinstance(raw, (list, tuple)):
        return Tunes(tuple(of_roll(piece) for piece in raw))
    raise DataError(f"music is a list of tunes or of rolls, not a {type(raw).__name__}", hint="latente.read('tunes/')")
