"""Pictures whose causes are known: one shape, its size, its turn and its place, drawn here, without a file.

What dSprites (Matthey et al. 2017) is for, in pictures of 32×32 that are drawn on demand. Differences, on purpose:
every shape looks different at each of its turns (a square or an ellipse does not, so that nobody could tell its turn);
all shapes of one scale cover the same area and turn round their centre of mass, so that no factor gives a hint of
another; and edges are anti-aliased.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from ..errors import ConfigError

SIDE = 32
SHAPES = ("heart", "wedge", "half-disc")
# Square root of the area in pixels, smallest and largest. The wedge's tip is 1.03 of it from its centre, and centres
# keep 9.5 pixels from the border: nothing is ever cut off.
SMALLEST, LARGEST, MARGIN = 5.0, 9.0, 9.5
NAMES = ("shape", "scale", "rotation", "x", "y")
SIZES = (len(SHAPES), 6, 20, 16, 16)
# Pictures that are drawn together: their distances fit in a processor's nearer caches.
_ROWS = 256


class Factored(NamedTuple):
    """pictures uint8 [n, 32, 32]; factors int64 [n, 5], each from 0 to its size − 1; their names and sizes."""

    pictures: np.ndarray
    factors: np.ndarray
    names: tuple[str, ...]
    sizes: tuple[int, ...]


def make(n: int, seed: int = 0) -> Factored:
    """n pictures, every factor drawn uniformly and independently (so two of them can be the same). uint8 [n, 32, 32]

    shape: heart, wedge or half-disc; scale: 6 sizes, of areas from 5² to 9² pixels; rotation: 20 turns of 18°, a full
    circle (so turn 19 is beside turn 0); x and y: 16 places each, 0.87 of a pixel apart. 92,160 different pictures.
    """
    if n < 1:
        raise ConfigError(f"n must be 1 or more, not {n!r}")
    rng = np.random.default_rng(seed)
    factors = np.stack([rng.integers(size, size=n) for size in SIZES], 1)
    return Factored(draw(factors), factors, NAMES, SIZES)


def draw(factors: np.ndarray) -> np.ndarray:
    """The pictures of given factors int [n, 5]. uint8 [n, 32, 32]; white shape on black, grey edges."""
    factors = np.asarray(factors)
    if factors.ndim != 2 or factors.shape[1] != len(SIZES) or (factors < 0).any() or (factors >= SIZES).any():
        raise ConfigError(f"factors are rows of {len(SIZES)} whole numbers, each from 0 to below {SIZES}")
    pictures = np.empty((len(factors), SIDE, SIDE), np.uint8)
    for shape, distance in enumerate(_DISTANCES):
        rows = np.flatnonzero(factors[:, 0] == shape)
        for at in range(0, len(rows), _ROWS):
            few = rows[at : at + _ROWS]
            pictures[few] = _drawn(factors[few], distance)
    return pictures


def _drawn(factors: np.ndarray, distance: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> np.ndarray:
    steps = factors.astype(np.float32).T[:, :, None, None]
    size = SMALLEST + (LARGEST - SMALLEST) * steps[1] / (SIZES[1] - 1)
    angle = steps[2] * np.float32(2 * math.pi / SIZES[2])
    places = SIDE - 2 * MARGIN
    x0, y0 = (MARGIN + places * steps[i] / (SIZES[i] - 1) for i in (3, 4))
    centres = np.arange(SIDE, dtype=np.float32) + np.float32(0.5)
    dx, dy = (centres[None, None, :] - x0) / size, (centres[None, :, None] - y0) / size
    u, v = np.cos(angle) * dx + np.sin(angle) * dy, np.cos(angle) * dy - np.sin(angle) * dx
    # A straight edge that is d pixels from a pixel's centre covers about ½ − d of it.
    covered = np.clip(0.5 - distance(u, v) * size, 0, 1)
    return np.rint(255 * covered).astype(np.uint8)


# Signed distances to shapes of area 1 whose centre of mass is the origin; negative inside; v points down.


def _heart(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """A square on its tip with a half-disc on each of its upper sides."""
    side = 1 / math.sqrt(1 + math.pi / 4)
    # The half-discs' centres of mass lie (2 / 3π) side outside their sides, each with (π / 8) side² of the area.
    rise = 2 * math.pi / 8 * side**2 * (side / 2 + 2 / (3 * math.pi) * side) * math.sqrt(0.5)
    v = v - np.float32(rise)
    a, b = (u - v) * np.float32(math.sqrt(0.5)), (-u - v) * np.float32(math.sqrt(0.5))
    half = np.float32(side / 2)
    square = np.maximum(np.abs(a), np.abs(b)) - half
    discs = np.minimum(np.hypot(a - half, b), np.hypot(a, b - half)) - half
    return np.minimum(square, discs)


def _wedge(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """A triangle with two equal sides, 1.2 times as high as wide."""
    wide = math.sqrt(2 / 1.2)
    high = 1.2 * wide
    slope = math.hypot(high, wide / 2)
    sides = (np.abs(u) * np.float32(high / slope)) - (v + np.float32(2 / 3 * high)) * np.float32(wide / 2 / slope)
    # Level with the tip a third line: between two steep sides alone, grey would reach a pixel beyond it.
    ends = np.maximum(v - np.float32(high / 3), -v - np.float32(2 / 3 * high))
    return np.maximum(sides, ends)


def _half_disc(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    radius = math.sqrt(2 / math.pi)
    v = v + np.float32(4 / (3 * math.pi) * radius)
    return np.maximum(np.hypot(u, v) - np.float32(radius), -v)


_DISTANCES = (_heart, _wedge, _half_disc)
