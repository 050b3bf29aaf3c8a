"""ABC text -> tunes: the part of the notation in which collections of folk tunes are written.

Read: the fields X T M L Q K V, in the header, between lines and inside them; notes, rests,
chords, ties, tuplets, broken rhythm, accidentals (until the end of their bar), keys with
modes, repeats and endings (played out). Passed over: grace notes, chord symbols, decorations,
slurs, words, the order of parts (P). A short first bar is an upbeat: silence comes before it,
so that bar lines lie at multiples of `Tune.bar`.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from .abc_signs import ALTER, WHOLE, key_of, meter_of, midi, step, tempo_of, times_of, unit_of
from .tunes import Tune, of_notes

_MOST_NOTES = 100_000  # of a tune, played out
_MOST_PLAYS = 12  # of a section

_LENGTH = r"(\d{0,4})(/*)(\d{0,4})"
_PITCH = r"(\^\^|\^|__|_|=)?([A-Ga-g])([,']*)"
_TOKEN = re.compile(
    r'(?P<skip>"[^"]*"?|\{[^}]*\}?|![^!|]{0,200}!|\+[a-z.]+\+|[\s~.`*$\\uvHLMOPSTJRK?]+|y\d*|\)|!|&[^|]*)'
    r"|\[(?P<field>[A-Za-z]):(?P<value>[^\]]{0,200})\]"
    r"|(?P<bar>\[?:*\|[|\]:]*|::+)(?:\s*\[?(?P<after>\d[\d,\-]*)|)"
    r"|\[(?P<ending>\d[\d,\-]*)"
    r"|\((?P<p>\d)(?::(?P<q>\d*))?(?::(?P<r>\d*))?"
    r"|(?P<slur>\()"
    rf"|\[(?P<chord>[^\]|]{{0,200}})\](?P<chord_length>{_LENGTH})"
    rf"|(?P<note>{_PITCH}{_LENGTH})"
    rf"|(?P<rest>[zxZX])(?P<rest_length>{_LENGTH})"
    r"|(?P<tie>-)"
    r"|(?P<broken>>+|<+)"
)
_IN_CHORD = re.compile(rf'"[^"]*"?|{_PITCH}{_LENGTH}')
_FIELD = re.compile(r"([A-Za-z+]):(?![:|])(.*)")  # A:| is a note and a repeat

_NORMAL = {2: 3, 3: 2, 4: 3, 6: 2, 8: 3}  # so many in the time of; 5, 7 and 9 depend on the meter


class NoTuneError(Exception):
    """Why a piece of ABC gives no tune."""


@dataclass
class Found:
    """What was met in a text, apart from its tunes."""

    bars: int = 0  # as written
    odd: int = 0  # of these: neither a full bar nor part of one at the edge of a section
    lost: int = 0  # notes that begin in the same step as the one before
    unknown: int = 0  # signs that are not read
    meters: int = 0  # tunes that change their meter
    left_out: list[str] = field(default_factory=list)  # "X:3 Name: why"


@dataclass
class _Event:
    pitches: tuple[int, ...]  # none: a rest
    time: int  # ticks
    tied: bool = False


@dataclass
class _Bar:
    events: list[_Event] = field(default_factory=list)
    full: int = 0  # ticks that its meter asks; 0: free
    opens: bool = False  # a repeat
    closes: int = 0  # how often its section is played, if it ends a repeat
    edge: bool = False  # ends with a double line
    ending: frozenset[int] = frozenset()  # the passes in which it is played; empty: all

    @property
    def time(self) -> int:
        return sum(event.time for event in self.events)


@dataclass
class _Voice:
    """What is known while the notes of one voice are read."""

    meter: int = WHOLE  # ticks a bar; 0: free
    thirds: bool = False  # of a compound meter such as 6/8
    unit: int | None = None  # ticks
    key: dict[str, int] = field(default_factory=dict)
    bars: list[_Bar] = field(default_factory=lambda: [_Bar()])
    altered: dict[tuple[str, str], int] = field(default_factory=dict)  # in this bar
    tied: dict[tuple[str, str], int] = field(default_factory=dict)  # accidentals that a tie carries over the line
    tuplet: tuple[int, int, int] = (1, 1, 0)  # so many in the time of so many, and how many notes are left
    broken: tuple[int, int] = (1, 1)  # the next note's factor
    ending: frozenset[int] = frozenset()

    def like(self) -> "_Voice":
        return _Voice(self.meter, self.thirds, self.unit, dict(self.key), [_Bar(full=self.meter)])

    def unit_length(self) -> int:
        return self.unit or (WHOLE // 16 if 0 < self.meter < 3 * WHOLE // 4 else WHOLE // 8)


def abc_tunes(text: str, grid: int, found: Found) -> Iterator[Tune]:
    """The tunes of a text; what they are short of is counted in `found`."""
    head, *pieces = re.split(r"(?m)^(?=X:)", text)
    if not pieces and re.search(r"(?m)^K:", head):
        head, pieces = "", [head]
    common = [line for line in head.splitlines() if re.match(r"[LMQ]:", line)]
    for i, piece in enumerate(pieces, 1):
        lines = piece.splitlines()
        number = lines[0][2:].strip()[:20] if lines[0].startswith("X:") else str(i)
        title = next((line[2:].strip()[:200] for line in lines if line.startswith("T:")), "")
        try:
            yield _Reader(grid, found).tune([*common, *lines], title or f"X:{number}")
        except NoTuneError as error:
            found.left_out.append(f"X:{number} {title}".strip() + f": {error}")


class _Reader:
    def __init__(self, grid: int, found: Found) -> None:
        self.grid, self.found = grid, found
        self.header = _Voice()
        self.voices: dict[str, _Voice] = {}
        self.voice = self.header
        self.tempo: float | None = None
        self.meters: list[int] = []  # in the order of their use
        self.written = 0

    def tune(self, lines: list[str], name: str) -> Tune:
        in_body = False
        for line in _whole(lines):
            if not line.strip():
                if in_body:
                    break
                continue
            if match := _FIELD.match(line):
                self.field(match[1], match[2].strip(), in_body)
                if match[1] == "K" and not in_body:
                    in_body = True
                    self.voice = self.voices.setdefault("", self.header.like())
            elif in_body:
                self.music(line)
        if not in_body:
            raise NoTuneError("it has no key (K:), so its notes cannot be told")
        return self.laid_out(name)

    def field(self, letter: str, value: str, in_body: bool) -> None:
        """A field of the header, of a line or inside a line."""
        voice = self.voice
        if letter == "M":
            voice.meter, voice.thirds = meter_of(value)
            if not voice.bars[-1].events:
                voice.bars[-1].full = voice.meter
        elif letter == "L" and (unit := unit_of(value)):
            voice.unit = unit
        elif letter == "K":
            voice.key = key_of(value)
        elif letter == "Q" and self.tempo is None:
            self.tempo = tempo_of(value, voice.unit_length())
        elif letter == "V" and in_body:
            self.voice = self.voices.setdefault(value.partition(" ")[0], self.header.like())
        elif letter == "P" and in_body:
            self.line_of_bar("||")

    def music(self, line: str) -> None:
        at = 0
        while at < len(line):
            match = _TOKEN.match(line, at)
            if match is None:
                self.found.unknown += 1
                at += 1
                continue
            at = match.end()
            self.token(match)

    def token(self, match: "re.Match[str]") -> None:
        voice = self.voice
        if match["field"]:
            self.field(match["field"], match["value"].strip(), True)
        elif match["bar"]:
            self.line_of_bar(match["bar"])
            if match["after"]:
                self.ending(match["after"])
        elif match["ending"]:
            self.ending(match["ending"])
        elif match["p"]:
            self.tuplet(int(match["p"]), match["q"], match["r"])
        elif match["note"]:
            found = re.fullmatch(_PITCH + _LENGTH, match["note"])
            assert found is not None
            self.add((self.pitch(found[1], found[2], found[3]),), times_of(*found.groups()[3:]))
        elif match["chord"] is not None:
            self.chord(match["chord"], match["chord_length"])
        elif match["rest"]:
            found = re.fullmatch(_LENGTH, match["rest_length"])
            times = times_of(*found.groups()) if found else (1, 1)
            if match["rest"] in "ZX":  # whole bars
                times = (min(times[0], 100 * times[1]) * voice.meter, times[1] * voice.unit_length())
            self.add((), times)
        elif match["tie"]:
            if voice.bars[-1].events:
                voice.bars[-1].events[-1].tied = True
                voice.tied = dict(voice.altered)
        elif match["broken"] and voice.bars[-1].events:
            parts = 2 ** min(len(match["broken"]), 3)
            before, after = (2 * parts - 1, 1) if match["broken"][0] == ">" else (1, 2 * parts - 1)
            last = voice.bars[-1].events[-1]
            last.time, voice.broken = last.time * before // parts, (after, parts)

    def line_of_bar(self, line: str) -> None:
        """The end of a bar. An empty one only passes its line on to the one before."""
        voice = self.voice
        line = line.lstrip("[")
        bar = voice.bars[-1]
        closes, opens = line.startswith(":"), line.endswith(":")
        edge = closes or opens or line.count("|") > 1 or "]" in line
        if bar.events:
            new = _Bar(full=voice.meter, opens=opens)
            voice.bars.append(new)
        else:
            new, bar = bar, voice.bars[-2] if len(voice.bars) > 1 else _Bar()
            new.opens = new.opens or opens
        if closes:
            bar.closes = max(2, len(line) - len(line.lstrip(":")) + 1 if "|" in line else 2)
        bar.edge = bar.edge or edge
        if edge:
            voice.ending = frozenset()
        new.ending = voice.ending
        voice.altered = {}

    def ending(self, numbers: str) -> None:
        passes: set[int] = set()
        for part in numbers.strip(",-").split(","):
            low, _, high = part.partition("-")
            if low.isdigit():
                passes |= set(range(int(low[:2]), min(int(high[:2]) if high.isdigit() else int(low[:2]), 20) + 1))
        self.voice.ending = self.voice.bars[-1].ending = frozenset(passes)

    def tuplet(self, p: int, q: str | None, r: str | None) -> None:
        normal = int(q[:2]) if q else _NORMAL.get(p, 3 if self.voice.thirds else 2)
        if p and normal:
            self.voice.tuplet = (normal, p, int(r[:2]) if r else p)

    def pitch(self, accidental: str | None, letter: str, octaves: str) -> int:
        voice, place = self.voice, (letter, octaves)
        if accidental:
            voice.altered[place] = ALTER[accidental]
        elif place in voice.tied and not voice.bars[-1].events and _ends_tied(voice.bars[-2:-1]):
            return midi(letter, octaves, voice.tied[place])
        return midi(letter, octaves, voice.altered.get(place, voice.key.get(letter.upper(), 0)))

    def chord(self, inside: str, length: str) -> None:
        pitches, times = [], []
        for match in _IN_CHORD.finditer(inside):
            if match[2]:
                pitches.append(self.pitch(match[1], match[2], match[3]))
                times.append(times_of(*match.groups()[3:]))
        if pitches:
            outer = re.fullmatch(_LENGTH, length)
            above, below = times_of(*outer.groups()) if outer else (1, 1)
            self.add(tuple(pitches), (times[0][0] * above, times[0][1] * below))
            self.voice.bars[-1].events[-1].tied = "-" in inside

    def add(self, pitches: tuple[int, ...], times: tuple[int, int]) -> None:
        """A note, chord or rest, so many times the unit long."""
        voice = self.voice
        above, below = times[0] * voice.broken[0], times[1] * voice.broken[1]
        normal, p, left = voice.tuplet
        if left:
            above, below = above * normal, below * p
            voice.tuplet = (normal, p, left - 1)
        voice.broken = (1, 1)
        voice.bars[-1].events.append(_Event(pitches, voice.unit_length() * above // below))
        self.written += 1
        if self.written > _MOST_NOTES:
            raise NoTuneError(f"it has more than {_MOST_NOTES:,} notes")
        if voice.meter not in self.meters:
            self.meters.append(voice.meter)

    # Played out

    def laid_out(self, name: str) -> Tune:
        grid = self.grid
        notes: list[tuple[int, int, int]] = []
        end = 0
        for voice in self.voices.values():
            end = max(end, self.laid_voice(voice, notes))
        if not notes:
            raise NoTuneError("it holds no note")
        self.found.meters += len(self.meters) > 1
        steps, rest = divmod(self.meters[0] * 4 * grid, WHOLE)
        steps = 0 if rest else steps
        pitch, start, length = zip(*notes, strict=True)
        end = -(-end // steps) * steps if steps else end
        tempo = self.tempo or 120.0
        return of_notes(pitch, start, length, end, name=name, grid=grid, bar=steps, tempo=tempo)

    def laid_voice(self, voice: _Voice, notes: list[tuple[int, int, int]]) -> int:
        """Adds a voice's notes (pitch, start, length); the step in which it ends."""
        bars = [bar for bar in voice.bars if bar.events]
        if not bars:
            return 0
        self.count(bars)
        time = max(0, bars[0].full - bars[0].time)  # before an upbeat there is silence
        sounding: dict[int, int] = {}  # pitch -> the note that a tie carries on
        latest = -1  # the step in which a note last began
        for bar in _played(bars):
            for event in bar.events:
                start, time = step(time, self.grid), time + event.time
                end = step(time, self.grid)
                tied, sounding = sounding, {}
                fresh = [pitch for pitch in event.pitches if pitch not in tied]
                for pitch in event.pitches:
                    if pitch in tied:
                        at = tied[pitch]
                        notes[at] = (pitch, notes[at][1], max(1, end - notes[at][1]))
                    elif start > latest:
                        notes.append((pitch, start, max(1, end - start)))
                        at = len(notes) - 1
                    else:
                        self.found.lost += 1
                        continue
                    if event.tied:
                        sounding[pitch] = at
                if fresh:
                    latest = max(latest, start)
                if len(notes) > _MOST_NOTES or end > 100 * _MOST_NOTES:
                    raise NoTuneError(f"played out it has more than {_MOST_NOTES:,} notes")
        return step(time, self.grid)

    def count(self, bars: list[_Bar]) -> None:
        for i, bar in enumerate(bars):
            self.found.bars += 1
            edge = bar.edge or bar.opens or i == 0 or bars[i - 1].edge or i == len(bars) - 1
            self.found.odd += bool(bar.full) and bar.time != bar.full and not (edge and bar.time < bar.full)


def _ends_tied(bars: list[_Bar]) -> bool:
    return any(bar.events and bar.events[-1].tied for bar in bars)


def _whole(lines: list[str]) -> Iterator[str]:
    """Lines without their comments, those that end in a backslash joined with the next."""
    before = ""
    for raw in lines:
        if raw.startswith("%"):
            continue
        line = re.sub(r"(?<!\\)%.*", "", raw).rstrip()
        if line.endswith("\\"):
            before += line[:-1]
            continue
        if before and _FIELD.match(line):  # a continued line goes on after the field
            yield before
            before = ""
        yield before + line
        before = ""
    yield before


def _played(bars: list[_Bar]) -> Iterator[_Bar]:
    """The bars in the order in which they are played."""
    at = start = 0
    turn = 1
    while at < len(bars):
        bar = bars[at]
        if bar.opens and at > start:
            start, turn = at, 1
        if bar.ending and turn not in bar.ending:
            at += 1
            continue
        yield bar
        following = bars[at + 1].ending if at + 1 < len(bars) else frozenset()
        again = turn < bar.closes or turn + 1 in bar.ending or (bar.closes and turn + 1 in following)
        if bar.closes and again and turn < _MOST_PLAYS and (not bar.ending or turn < max(bar.ending) or following):
            at, turn = start, turn + 1
            continue
        if bar.closes or (bar.edge and bar.ending):
            start, turn = at + 1, 1
        at += 1
