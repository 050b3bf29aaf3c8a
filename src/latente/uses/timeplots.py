"""Series as pictures: what was there, what the model expects, and how strange each step is."""

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..atomic import atomic_write
from ..errors import ConfigError

if TYPE_CHECKING:
    from .steps import StepAlarms

PLOTS = (".png", ".pdf", ".svg")
# Channels that have room in a picture: those that vary most from what is expected come first.
MOST = 12
# Columns of pixels that are drawn; of more steps each column shows its lowest and highest.
WIDE = 2_000
SEEN, EXPECTED, ALARM = "#1f1f1f", "#2a78b8", "#d6453d"


def checked(place: Path) -> None:
    """Raise ConfigError if the place is none of `PLOTS`."""
    if place.suffix.lower() not in PLOTS:
        raise ConfigError(f"{place.name!r} is no picture", hint=f"--plot {place.stem or 'alarms'}.png")


def draw(alarms: "StepAlarms", place: Path) -> list[Path]:
    """Channels over time: seen (black), expected ± twice what usually lies between the two (a band), alarms (red), and
    below them the score with its threshold.
    """
    if alarms.entity is not None and len(set(alarms.entity)) > 1:
        raise ConfigError("a picture is of one series, and these rows are of several", hint="give the rows of one")
    # Not pyplot: it keeps figures alive and asks for a display.
    from matplotlib.figure import Figure

    off = np.nanmean(np.abs(alarms.seen - alarms.expected) / np.where(alarms.spread > 0, alarms.spread, np.inf), 0)
    shown = np.sort(np.argsort(-np.nan_to_num(off), kind="stable")[:MOST])
    figure = Figure(figsize=(14, 1.5 * (len(shown) + 1) + 0.8), layout="constrained")
    axes = figure.subplots(len(shown) + 1, 1, sharex=True, squeeze=False)[:, 0]
    when = np.arange(len(alarms.seen)) if alarms.when is None else alarms.when.to_numpy()
    spans = list(zip(*alarms.spans(), strict=True))
    for axis, c in zip(axes, shown, strict=False):
        low, high = alarms.expected[:, c] - 2 * alarms.spread[c], alarms.expected[:, c] + 2 * alarms.spread[c]
        axis.fill_between(*thinned(when, low, high), color=EXPECTED, alpha=0.25, linewidth=0)
        axis.plot(*_line(when, alarms.expected[:, c]), color=EXPECTED, linewidth=0.8)
        axis.plot(*_line(when, alarms.seen[:, c]), color=SEEN, linewidth=0.8)
        axis.set_ylabel(_short(alarms.kind.channels[c]), rotation=0, ha="right", va="center", fontsize=8)
    axes[-1].plot(*_line(when, alarms.scored.score), color=SEEN, linewidth=0.8)
    axes[-1].axhline(alarms.threshold, color=ALARM, linewidth=0.8, linestyle="--")
    axes[-1].set_ylabel("score", rotation=0, ha="right", va="center", fontsize=8)
    for axis in axes:
        axis.tick_params(labelsize=7)
        axis.margins(x=0)
        for side in ("top", "right"):
            axis.spines[side].set_visible(False)
        for first, last in spans:
            axis.axvspan(when[first], when[last], color=ALARM, alpha=0.15, linewidth=0)
    left = f" ({len(shown)} of {len(alarms.kind.channels)} channels)" if len(shown) < len(alarms.kind.channels) else ""
    many = f"{len(spans)} {'alarm' if len(spans) == 1 else 'alarms'}"
    axes[0].set_title(
        f"black: seen · blue: expected ± twice the usual difference · red: {many}{left}",
        fontsize=9,
        loc="left",
    )
    stream = io.BytesIO()
    figure.savefig(stream, format=place.suffix.lower()[1:], dpi=110)
    atomic_write(place, stream.getvalue())
    return [place]


def thinned(when: np.ndarray, low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Lines of so many points at most: in each column of pixels the lowest of one and the highest of the other."""
    step = -(-len(when) // WIDE)
    starts = np.arange(0, len(when), step)
    return when[starts], np.fmin.reduceat(low, starts), np.fmax.reduceat(high, starts)


def _line(when: np.ndarray, values: np.ndarray) -> tuple[Any, Any]:
    if len(when) <= WIDE:
        return when, values
    at, low, high = thinned(when, values, values)
    return np.repeat(at, 2), np.column_stack([low, high]).ravel()


def _short(name: str) -> str:
    return name if len(name) <= 24 else name[:23] + "…"
