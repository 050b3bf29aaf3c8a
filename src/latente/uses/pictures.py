"""Pictures of what a model of pictures learned."""

import math
from pathlib import Path
from typing import Any

import numpy as np

from ..estimator import Autoencoder
from ..kinds.image import as_pictures
from ..kinds.writing import sheet, write
from .ways import Walk, between, decoded, walk

# Pictures a row of the album's sheets; ways of its interpolation; dimensions of its traversal.
ACROSS, WAYS, DIMS = 10, 5, 10
# An animation of several ways: pictures from one end to the other, two seconds; about how wide, in screen pixels.
FRAMES, WIDE = 25, 500


def album(ae: Autoencoder, raw: Any, folder: Path) -> None:
    """reconstructions.png (five rows of originals, each above its reconstructions), samples.png (100 draws, or a row of
    draws for each value that can be given), interpolation.png and .gif (five ways from one picture to another),
    traversal.png (what each dimension does).
    """
    pixels, _ = as_pictures(raw)
    # Evenly over the data: a folder of class folders shows every class.
    chosen = pixels[np.linspace(0, len(pixels) - 1, min(5 * ACROSS, len(pixels))).astype(int)]
    codes = ae.transform(chosen)
    redone = rgb(ae.inverse_transform(codes))
    across = min(ACROSS, len(chosen))
    pairs = []
    for start in range(0, len(chosen) - across + 1, across):
        pairs += [*rgb(chosen[start : start + across]), *redone[start : start + across]]
    write(sheet(np.stack(pairs), across), folder / "reconstructions.png")
    write(_drawn(ae), folder / "samples.png")
    # From each tenth picture to one half of the data away: another class, where there are any.
    n = len(codes)
    ends = [(codes[i * n // WAYS], codes[(i * n // WAYS + n // 2) % n]) for i in range(min(WAYS, n))]
    write(sheet(rgb(decoded(ae, _ways(ae, ends, ACROSS))), ACROSS), folder / "interpolation.png")
    write(_film(ae, _ways(ae, ends, FRAMES), len(ends)), folder / "interpolation.gif")
    # Around the picture nearest to the middle: the middle itself is a blend of everything.
    nearest = codes[np.square(codes - walk(ae, None, 1).base).sum(1).argmin()]
    write(_walked(ae, walk(ae, nearest, DIMS), ACROSS + 1), folder / "traversal.png")


def write_walk(ae: Autoencoder, way: Walk, steps: int, target: Path) -> list[Path]:
    """A sheet (.png), a row for each dimension, with an animation (.gif), all dimensions at once, beside it."""
    codes = way.codes(FRAMES)
    written = write(_walked(ae, way, steps), target.with_suffix(".png"))
    film = _film(ae, codes, math.ceil(math.sqrt(len(codes))), way.told)
    return written + write(film, target.with_suffix(".gif"))


def _drawn(ae: Autoencoder) -> np.ndarray:
    """A sheet of samples: of a model that is given one name, a row for each of its values, the first ten."""
    columns = () if ae.condition_ is None else ae.condition_.columns
    levels = list(getattr(columns[0], "levels", ()) if len(columns) == 1 else ())
    if not levels:
        return sheet(rgb(ae.sample(ACROSS**2, random_state=0)), ACROSS)
    levels = sorted(levels, key=str)[:ACROSS]
    told = [{str(columns[0].label): level} for level in levels]
    rows = [rgb(ae.sample(ACROSS, random_state=i, given=given)) for i, given in enumerate(told)]
    return sheet(np.concatenate(rows), ACROSS, [str(level) for level in levels])


def rgb(pictures: np.ndarray) -> np.ndarray:
    """Pictures as uint8 [n, h, w, c]."""
    return as_pictures(pictures)[0]


def _ways(ae: Autoencoder, ends: list[tuple[np.ndarray, np.ndarray]], steps: int) -> np.ndarray:
    """Codes of several ways. [ways, steps, d]"""
    return np.stack([between(ae, a, b, steps) for a, b in ends])


def _walked(ae: Autoencoder, way: Walk, steps: int) -> np.ndarray:
    """A walk as one picture: a row for each dimension, with its name."""
    return sheet(rgb(decoded(ae, way.codes(steps), way.told)), steps, [f"z{i}" for i in way.order])


def _film(ae: Autoencoder, codes: np.ndarray, columns: int, told: Any = None) -> np.ndarray:
    """Ways [n, steps, d] side by side in rows of `columns`, a picture for each step: uint8 [steps, height, width, c]"""
    n, steps = codes.shape[:2]
    shown = rgb(decoded(ae, codes, told))
    shown = shown.reshape(n, steps, *shown.shape[1:])
    frames = np.concatenate([sheet(shown[:, t], columns) for t in range(steps)])
    factor = max(1, round(WIDE / frames.shape[2]))
    return frames.repeat(factor, 1).repeat(factor, 2)
