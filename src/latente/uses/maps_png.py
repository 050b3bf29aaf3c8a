"""A map as a picture: points in their colours, names where groups are, outliers ringed, trends beside the axes."""

import io
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .maps_fields import COLOURED, GREY, MISSING, OTHER, PALETTE, Field

if TYPE_CHECKING:
    from .maps import Landscape
    from .maps_findings import Trend

__all__ = ["picture"]

SCALE = "viridis"
INK, FAINT, RING = "#1f1f1f", "#6b6b6b", "#111111"
# Levels that have a line in the legend and a name on the map; rings that are drawn, the strangest first.
LEGEND, RINGS = COLOURED + 2, 200
# Ends of a colour scale: beyond these percentiles one colour is all.
ENDS = (2, 98)
# Signs of a name. From which cosine on a direction is as good as an axis.
WIDE, ASIDE = 26, 0.98


def picture(found: "Landscape", form: str = "png") -> bytes:
    """The map in a format of matplotlib's."""
    # Not pyplot: it keeps figures alive and asks for a display.
    from matplotlib.figure import Figure

    deep = found.points.shape[1] == 3
    figure = Figure(figsize=(11, 8), layout="constrained", facecolor="white")
    turned = _turned(found)
    below = deep or turned is not None
    grid = figure.add_gridspec(1 + below, 1, height_ratios=[16, 2 if deep else 1][: 1 + below])
    axes: Any = figure.add_subplot(grid[0], projection="3d" if deep else None)
    _points(found, axes, deep)
    if not deep:
        _names(found, axes)
    if deep:
        _listed(found, figure.add_subplot(grid[1]))
    elif turned is not None:
        _arrow(turned, figure.add_subplot(grid[1]))
    _frame(found, axes, deep)
    held = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a sign that the font lacks is a box, and no news
        dates = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(form)  # equal maps are equal files
        figure.savefig(held, format=form, dpi=140, metadata=dates)
    return held.getvalue()


def _points(found: "Landscape", axes: Any, deep: bool) -> None:
    """Points in their colours, legend or scale, and rings."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    n, field = len(found), found.coloured_by
    size, alpha = float(np.clip(40_000 / n, 2.5, 26.0)), float(np.clip(12_000 / n, 0.45, 0.9))
    look = {"s": size, "alpha": alpha, "linewidths": 0, "rasterized": True}
    # In an order that is no class's, so that none lies on top of all others.
    order = np.random.default_rng(0).permutation(n)
    at = found.points[order].T
    if field.numeric:
        values = field.values[order]
        there = ~np.isnan(values)
        low, high = np.percentile(values[there], ENDS) if there.any() else (0.0, 1.0)
        axes.scatter(*at[:, ~there], color=GREY, **look)
        high = high if high > low else low + 1
        axes.scatter(*at[:, there], c=values[there], cmap=SCALE, vmin=low, vmax=high, **look)
        plain = ScalarMappable(Normalize(low, high), SCALE)
        bar = axes.figure.colorbar(plain, ax=axes, shrink=0.7, aspect=30, pad=0.02, extend="both")
        bar.set_label(_plain(field.name))
        bar.outline.set_visible(False)
        if field.sort == "date":
            bar.set_ticks(bar.get_ticks(), labels=[Field("", "date", np.array([t])).said(0) for t in bar.get_ticks()])
    else:
        codes, levels = field.coloured()
        axes.scatter(*at, color=[_colour(c) for c in codes[order]], **look)
        _legend(axes, field.name, codes, levels)
    rows = found.strangest[:RINGS]
    rings = found.points[rows].T
    axes.scatter(*rings, s=max(size * 2.5, 26), facecolors="none", edgecolors=RING, linewidths=0.8)


def _colour(code: int) -> str:
    return PALETTE[code] if code >= 0 else GREY


def _legend(axes: Any, name: str, codes: np.ndarray, levels: Sequence[str]) -> None:
    from matplotlib.lines import Line2D

    def mark(colour: str) -> Any:
        return Line2D([], [], linestyle="", marker="o", markersize=7, color=colour)

    counts = {c: int((codes == c).sum()) for c in (*range(len(levels)), -1, -2)}
    missing = "in none" if name == "cluster" else MISSING
    lines = [(mark(PALETTE[i]), level, counts[i]) for i, level in enumerate(levels) if counts[i]]
    lines += [(mark(GREY), what, counts[c]) for c, what in ((-1, OTHER), (-2, missing)) if counts[c]]
    texts = [f"{_plain(level, 44)}  ({count:,})" for _, level, count in lines[:LEGEND]]
    legend = axes.legend(
        [m for m, *_ in lines[:LEGEND]],
        texts,
        title=_plain(name),
        loc="upper left",
        bbox_to_anchor=(1.01, 1.0),
        frameon=False,
        fontsize=8,
        title_fontsize=9,
        alignment="left",
        borderaxespad=0.0,
    )
    legend.set_in_layout(True)


def _names(found: "Landscape", axes: Any) -> None:
    """The names of what is coloured where most of it lies; of pictures each group's middlemost one."""
    from matplotlib.patheffects import withStroke

    field = found.coloured_by
    if found.pictures is not None:
        _thumbnails(found, axes)
    if field.numeric:
        return
    codes, levels = field.coloured()
    for i, level in enumerate(levels):
        rows = codes == i
        if rows.sum() < max(3, 0.005 * len(found)):
            continue
        place = _densest(found.points[rows])
        # A bare number would look like a group's.
        named = f"{field.name} {level}" if str(level).isdigit() else level
        text = str(i) if field.name == "cluster" else _plain(named, WIDE)
        halo = [withStroke(linewidth=3, foreground="white", alpha=0.9)]
        axes.annotate(text, place, ha="center", va="center", fontsize=10, weight="bold", color=INK, path_effects=halo)


def _densest(points: np.ndarray) -> np.ndarray:
    """A place among points where many are: their median may lie where there are none."""
    some = points[np.linspace(0, len(points) - 1, min(len(points), 300)).astype(int)]
    apart = np.linalg.norm(some[:, None] - some[None], axis=2)
    near = max(1, len(some) // 3)
    return np.asarray(some[np.partition(apart, near, axis=1)[:, near].argmin()])


def _thumbnails(found: "Landscape", axes: Any) -> None:
    from matplotlib.offsetbox import AnnotationBbox, OffsetImage

    assert found.pictures is not None
    room = 0.09 * np.ptp(found.points[:, :2], axis=0).max()
    taken: list[np.ndarray] = []
    for cluster in found.clusters[:COLOURED]:
        place = found.points[cluster.medoid]
        if any(np.abs(place - other).max() < room for other in taken):
            continue  # one upon the other says less than one
        taken.append(place)
        pixels = found.pictures[cluster.medoid]
        pixels = np.repeat(pixels, 3, axis=-1) if pixels.shape[-1] == 1 else pixels
        image = OffsetImage(pixels, zoom=34 / max(pixels.shape[:2]), interpolation="nearest")
        border = {"edgecolor": PALETTE[cluster.number] if found.coloured_by.name == "cluster" else FAINT}
        box = AnnotationBbox(
            image,
            place,
            xybox=(26, 26),
            boxcoords="offset points",
            pad=0.1,
            bboxprops=border | {"linewidth": 1.5},
            arrowprops={"arrowstyle": "-", "color": FAINT, "linewidth": 0.7},
        )
        axes.add_artist(box)


def _turned(found: "Landscape") -> "Trend | None":
    """The direction in which one column varies most, unless it is nearly an axis."""
    steepest = next((t for t in found.trends if t.axis == "steepest" and t.columns), None)
    return None if steepest is None or max(np.abs(steepest.direction)) > ASIDE else steepest


def _arrow(trend: "Trend", axes: Any) -> None:
    """A direction of the map, with what varies along it, below the map."""
    axes.set_axis_off()
    axes.set(xlim=(0, 1), ylim=(0, 1))
    x, y = 14 * np.array(trend.direction)
    # In points, so that its angle is that on the map, whose axes are of one length.
    tip = {"xycoords": "data", "textcoords": "offset points", "annotation_clip": False}
    arrow = {"arrowstyle": "-|>", "color": INK, "linewidth": 1.2, "shrinkA": 0, "shrinkB": 0, "relpos": (0.5, 0.5)}
    head = axes.annotate("", (0.03, 0.5), (x, y), **tip, arrowprops=arrow | {"arrowstyle": "<|-"})
    head.set_in_layout(False)
    axes.text(0.07, 0.5, _plain("along the arrow: " + trend.words, 150), va="center", fontsize=8, color=INK)


def _listed(found: "Landscape", axes: Any) -> None:
    """What varies along the axes, below a map in space, where lines along them would cross each other."""
    axes.set_axis_off()
    axes.set(xlim=(0, 1), ylim=(0, 3))
    for i, trend in enumerate(t for t in found.trends if t.axis in "xyz"):
        text = _plain(f"{trend.axis} → {trend.words or 'no column varies along it'}", 150)
        axes.text(0.02, 2.5 - i, text, va="center", fontsize=8, color=INK)


def _frame(found: "Landscape", axes: Any, deep: bool) -> None:
    """Title, and what varies along each axis."""
    words = {t.axis: t.words for t in found.trends}
    for axis in "xyz"[: found.points.shape[1]]:
        said = "" if deep else words.get(axis) or ""
        getattr(axes, f"set_{axis}label")(_plain(f"{axis} → {said}" if said else axis, 120), fontsize=8, color=INK)
    axes.tick_params(labelsize=7, colors=FAINT, length=2)
    if not deep:
        axes.set_aspect("equal", adjustable="datalim")
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
        for side in ("left", "bottom"):
            axes.spines[side].set_color("#cccccc")
    groups = f"{len(found.clusters)} group{'' if len(found.clusters) == 1 else 's'}"
    text = f"{found.name}: {len(found):,} rows, {groups}, coloured by {found.coloured_by.name}"
    axes.set_title(_plain(text, 110), loc="left", fontsize=12, color=INK, pad=18)
    many = int(found.outlier.sum())
    rings = (
        f"{many:,} outlier{'' if many == 1 else 's'}"
        if many <= RINGS
        else f"the strangest {RINGS} of {many:,} outliers"
    )
    note = f"○ {rings} by {found.measure} · near is alike; how far apart groups lie means little"
    draw = axes.text2D if deep else axes.text
    draw(0.0, 1.008, _plain(note, 160), transform=axes.transAxes, fontsize=8, color=FAINT, va="bottom")


def _plain(text: str, most: int = 40) -> str:
    """A text as matplotlib shows it letter by letter: no formula, one line, and no name that a legend would hide."""
    text = " ".join(str(text).split())
    text = text if len(text) <= most else text[: most - 1] + "…"
    return (" " if text.startswith("_") else "") + text.replace("$", r"\$")
