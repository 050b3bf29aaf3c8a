"""Tunes -> piano rolls, as a picture: time from left to right, a lane a key, the upper voice in a stronger colour."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..errors import ConfigError
from .tunes import Tune, melody

if TYPE_CHECKING:
    from PIL import ImageDraw, ImageFont

_WIDTH, _LEFT, _RIGHT = 1120, 64, 16  # pixels of the whole, and beside the lanes
_KEYS = 22  # pixels: how far the keyboard reaches to the left of the lanes
_TITLE, _ABOVE, _BELOW = 22, 15, 9  # pixels: a tune's label, the numbers of bars, the gap under a row
_THIN = 3.0  # pixels a step at least, before a tune goes on in another row
_ROWS = 8  # of one tune at most: a longer one is drawn finer
_FINE = 2  # drawn so many times as large, then reduced: smooth edges
_LARGEST = 20_000  # pixels of height

_PAPER, _WHITE, _BLACK, _EDGE = "#ffffff", "#fafbfc", "#eef1f5", "#c9d0d9"
_BEAT, _BAR, _OCTAVE, _INK, _FAINT = "#e2e7ed", "#aeb8c4", "#d3dae2", "#20262e", "#7b8794"
_UPPER, _UPPER_EDGE, _LOWER, _LOWER_EDGE = "#2f6db3", "#1c4577", "#8fb8de", "#5c8ab8"
_IS_BLACK = (0, 1, 0, 1, 0, 0, 1, 0, 1, 0, 1, 0)


def roll_picture(music: Tune | Sequence[Tune], labels: Sequence[str] | None = None) -> np.ndarray:
    """A piano roll; several tunes are panels under each other on one scale of time. uint8 [h, w, 3]

    A long tune goes on in another row, as on a sheet. labels: what stands above each tune.
    Raises ConfigError if there is no tune, or too many for a picture.
    """
    from PIL import Image, ImageDraw

    tunes = [music] if isinstance(music, Tune) else list(music)
    if not tunes or (labels is not None and len(labels) != len(tunes)):
        raise ConfigError(f"{len(labels or ())} labels for {len(tunes)} tunes", hint="give a label for each tune")
    panels = [_Panel(tune, label) for tune, label in zip(tunes, labels or [""] * len(tunes), strict=True)]
    span = _span(tunes)
    height = sum(panel.height(span) for panel in panels) + _BELOW
    if height > _LARGEST:
        raise ConfigError(f"{len(tunes):,} tunes make a picture {height:,} pixels high", hint="draw fewer, or .mid")
    image = Image.new("RGB", (_WIDTH * _FINE, height * _FINE), _PAPER)
    top = _BELOW
    for panel in panels:
        panel.draw(ImageDraw.Draw(image), top, span)
        top += panel.height(span)
    return np.asarray(image.resize((_WIDTH, height), Image.Resampling.BOX))


def _span(tunes: Sequence[Tune]) -> int:
    """Steps a row, whole bars of all tunes if that is possible."""
    longest = max(1, *(tune.steps for tune in tunes))
    bar = math.lcm(*(tune.bar or 4 * tune.grid for tune in tunes))
    most = max((_WIDTH - _LEFT - _RIGHT) / _THIN, longest / _ROWS)
    if bar > most:  # no row is whole bars of all: those of the longest tune, then
        bar = max((tune.steps, tune.bar or 4 * tune.grid) for tune in tunes)[1]
    if longest <= most or bar > most:
        return longest
    rows = math.ceil(longest / (most // bar * bar))
    return math.ceil(longest / rows / bar) * bar


def _font(size: int) -> "ImageFont.ImageFont | ImageFont.FreeTypeFont":
    from PIL import ImageFont

    return ImageFont.load_default(size * _FINE)


class _Panel:
    """One tune in rows of steps."""

    def __init__(self, tune: Tune, label: str) -> None:
        self.tune = tune
        self.label = "".join(c if c.isprintable() else " " for c in label)[:120]
        low, high = (int(tune.pitch.min()), int(tune.pitch.max())) if tune.pitch.size else (60, 71)
        room = max(0, 12 - (high - low))  # at least an octave is shown
        self.low, self.high = max(0, low - 2 - room // 2), min(127, high + 2 + (room + 1) // 2)
        self.lane = min(9, max(5, 260 // (self.high - self.low + 1)))  # pixels a key

    def rows(self, span: int) -> int:
        return max(1, math.ceil(self.tune.steps / span))

    def height(self, span: int) -> int:
        lanes = (self.high - self.low + 1) * self.lane
        return self.rows(span) * (_ABOVE + lanes + _BELOW) + _TITLE * bool(self.label)

    def draw(self, pen: "ImageDraw.ImageDraw", top: int, span: int) -> None:
        if self.label:
            at = (_LEFT * _FINE, (top + _TITLE // 2) * _FINE)
            pen.text(at, self.label, fill=_INK, font=_font(13), anchor="lm")
            top += _TITLE
        upper = melody(self.tune)
        upper_starts = set(zip(upper.start.tolist(), upper.pitch.tolist(), strict=True))
        for row in range(self.rows(span)):
            first = row * span
            top += _ABOVE
            self.lanes(pen, top, first, span)
            self.notes(pen, top, first, span, upper_starts)
            top += (self.high - self.low + 1) * self.lane + _BELOW

    def x(self, step: float, first: int, span: int) -> float:
        return (_LEFT + (step - first) * (_WIDTH - _LEFT - _RIGHT) / span) * _FINE

    def y(self, pitch: int, top: int) -> int:
        """The upper edge of a key's lane."""
        return (top + (self.high - pitch) * self.lane) * _FINE

    def lanes(self, pen: "ImageDraw.ImageDraw", top: int, first: int, span: int) -> None:
        """The keyboard, the lanes, the lines of beats and bars."""
        stop = min(first + span, max(self.tune.steps, 1))
        left, right, keys = _LEFT * _FINE, self.x(stop, first, span), (_LEFT - _KEYS) * _FINE
        upper, lower = self.y(self.high, top), self.y(self.low - 1, top)
        for pitch in range(self.low, self.high + 1):
            y, black = self.y(pitch, top), _IS_BLACK[pitch % 12]
            pen.rectangle((left, y, right, y + self.lane * _FINE - 1), fill=_BLACK if black else _WHITE)
            pen.rectangle((keys, y, left - 3 * _FINE, y + self.lane * _FINE - 1), fill=_PAPER)
            if black:
                pen.rectangle((keys, y, left - 10 * _FINE, y + self.lane * _FINE - 1), fill="#3a424d")
            if pitch % 12 in (0, 5):  # between B and C, and E and F, two white keys meet
                pen.line((keys, y + self.lane * _FINE, left - 3 * _FINE, y + self.lane * _FINE), fill=_EDGE)
            if pitch % 12 == 0:
                pen.line((left, y + self.lane * _FINE, right, y + self.lane * _FINE), fill=_OCTAVE, width=_FINE)
                at = (keys - 4 * _FINE, y + self.lane * _FINE // 2)
                pen.text(at, f"C{pitch // 12 - 1}", fill=_FAINT, font=_font(10), anchor="rm")
        pen.rectangle((keys, upper, left - 3 * _FINE, lower), outline=_EDGE, width=_FINE)
        self.lines(pen, (upper, lower), first, stop, span)

    def lines(self, pen: "ImageDraw.ImageDraw", edges: tuple[int, int], first: int, stop: int, span: int) -> None:
        bar = self.tune.bar
        wide = (_WIDTH - _LEFT - _RIGHT) / span  # pixels a step
        beats = self.tune.grid if self.tune.grid * wide >= 6 else 4 * self.tune.grid
        for step in range(first - first % beats, stop + 1, beats):
            if step >= first and beats * wide >= 3:
                x = self.x(step, first, span)
                pen.line((x, edges[0], x, edges[1]), fill=_BEAT, width=_FINE)
        if not bar or bar * wide < 3:
            return
        every = next(k for k in (1, 2, 4, 5, 10, 20, 50, 100, 1000, 10_000) if k * bar * wide >= 24 or k == 10_000)
        for step in range(-(-first // bar) * bar, stop + 1, bar):
            x = self.x(step, first, span)
            pen.line((x, edges[0], x, edges[1]), fill=_BAR, width=_FINE)
            if step < stop and step // bar % every == 0:
                at = (x + 2 * _FINE, edges[0] - 2 * _FINE)
                pen.text(at, str(step // bar + 1), fill=_FAINT, font=_font(10), anchor="ls")

    def notes(self, pen: "ImageDraw.ImageDraw", top: int, first: int, span: int, upper: set[tuple[int, int]]) -> None:
        tune = self.tune
        radius = min(self.lane // 3, 2) * _FINE
        for pitch, start, end in zip(tune.pitch.tolist(), tune.start.tolist(), tune.end.tolist(), strict=True):
            if end <= first or start >= first + span:
                continue
            left, right = self.x(max(start, first), first, span), self.x(min(end, first + span), first, span)
            y = self.y(pitch, top)
            fill, edge = (_UPPER, _UPPER_EDGE) if (start, pitch) in upper else (_LOWER, _LOWER_EDGE)
            # A gap after each note, so that two of one pitch are seen as two.
            gap = min(1.5, 0.25 * (_WIDTH - _LEFT - _RIGHT) / span) * _FINE
            box = (left, y, max(left + 2, right - gap), y + self.lane * _FINE - 1)
            pen.rounded_rectangle(box, radius=radius, fill=fill, outline=edge, width=1 if right - left < 12 else _FINE)
