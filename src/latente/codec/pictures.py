"""Pictures without loss: each pixel from a table that the pixels before it choose. Integers alone.

Pictures go side by side, position after position in rows from the top, all channels of a pixel in turn. What is known
at a position becomes whole numbers, a tree's leaf says the table:

    drawn    ink on paper (grey): a small net looks at some hundred pixels around; the symbol is the pixel itself
    photo    a linear form of the pixels around, one for each class of positions; the symbol is what it misses by

Encoder and decoder are one walk: what the encoder looks at at a position is what the decoder has there.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from .exact import Exact
from .numbers import Writer, opened
from .rans import Decoder
from .tables import Tables
from .tree import Tree

# How far pixels are looked at, and the width of the frame around a picture.
_UP, _SIDE = 8, 8
# What a drawn pixel's net looks at: rows above, and of each from which column to which.
_AROUND = ((0, -8, -1), (-1, -7, 7), (-2, -7, 7), (-3, -7, 7), (-4, -5, 5), (-5, -5, 5), (-6, -5, 5))
_NEAR = ((0, -1), (-1, 0), (-1, -1), (-1, 1), (0, -2), (-2, 0), (-1, 2), (-1, -2), (-2, 1), (-2, -1))
_NEXT = (*_NEAR, (0, -3), (-1, 3), (-3, 0))
_INK = 250
# Of pixels that the latents say: here, right, below, and around.
_TOLD = ((0, 0), (0, 1), (1, 0), (1, 1), (1, -1), (0, -1), (-1, 0), (0, 2), (2, 0))
# What a photo's linear form looks at in its own channel.
_OWN = ((0, -7, -1), (-1, -7, 7), (-2, -7, 7), (-3, -4, 4), (-4, -3, 3), (-5, -1, 1), (-6, -1, 1), (-7, 0, 0))
# Fractions of a grey level in a prediction, and of 1 in its weights.
_FINE, _WEIGHT = 16, 4096
# Positions from the edge that are classes of their own; those farther in are alike every 8 (JPEG's blocks).
_EDGE = 8


class Walk(ABC):
    """Pictures [h, w, c, n] on the way from their first pixel to their last."""

    @abstractmethod
    def rows(self, y: int, x: int, c: int) -> np.ndarray:
        """What is known of the pixels at this position, as whole numbers. [features, n]"""

    @abstractmethod
    def symbol(self, y: int, x: int, c: int, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """The symbol of each pixel [n], after `rows` at this position; and where it is none, or None."""

    @abstractmethod
    def pixels(self, y: int, x: int, c: int, symbols: np.ndarray) -> np.ndarray:
        """The pixels of symbols [n], after `rows` at this position."""

    @abstractmethod
    def put(self, y: int, x: int, c: int, pixels: np.ndarray) -> None:
        """Go on from this position."""


class Method(ABC):
    """How walks are made. symbols: their number, the last for raw pixels where `escapes`."""

    symbols: int
    escapes: bool

    @abstractmethod
    def walk(self, shape: tuple[int, int, int], n: int, told: np.ndarray | None) -> Walk:
        """A walk over n pictures [h, w, c]. told: int16 [h, w, n], what else is known of them."""

    @property
    @abstractmethod
    def arrays(self) -> dict[str, np.ndarray]:
        """What was learned."""


def _framed(h: int, w: int, c: int, n: int) -> np.ndarray:
    return np.zeros((h + _UP, w + 2 * _SIDE, c, n), np.int16)


def _told(told: np.ndarray | None, y: int, x: int) -> np.ndarray:
    """What latents say about the pixels around one [9, n], the picture's edge repeated; nothing if they are silent."""
    if told is None:
        return np.empty((0, 0), np.int16)
    h, w, _ = told.shape
    return np.stack([told[min(max(y + d, 0), h - 1), min(max(x + e, 0), w - 1)] for d, e in _TOLD])


# ── drawn ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, eq=False)
class Drawn(Method):
    """net: of `Drawn.inputs` whole numbers; palette: the pixels that have symbols, sorted."""

    net: Exact
    palette: np.ndarray

    def __post_init__(self) -> None:
        if self.net.inputs != INPUTS or self.palette.ndim != 1 or not (np.diff(self.palette.astype(int)) > 0).all():
            raise ValueError("the net of pictures is no such net")

    @property
    def symbols(self) -> int:  # type: ignore[override]
        return len(self.palette) + self.escapes

    @property
    def escapes(self) -> bool:  # type: ignore[override]
        return len(self.palette) < 256

    def walk(self, shape: tuple[int, int, int], n: int, told: np.ndarray | None) -> Walk:
        if self.net.places is None or tuple(len(p) for p in self.net.places) != shape[:2]:
            raise ValueError("the net of pictures is of other pictures")
        return DrawnWalk(self, shape, n, told)

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        return self.net.arrays | {"palette": self.palette}

    @staticmethod
    def of(arrays: dict[str, np.ndarray]) -> "Drawn":
        """Raises LookupError, ValueError for what `arrays` does not give."""
        return Drawn(Exact.of(arrays), arrays["palette"])


INPUTS = sum(b - a + 1 for _, a, b in _AROUND) + 2 * len(_NEAR) + 3


class DrawnWalk(Walk):
    """Grey pictures, each pixel a symbol."""

    def __init__(self, method: Drawn | None, shape: tuple[int, int, int], n: int, told: np.ndarray | None) -> None:
        h, w, c = shape
        if c != 1:
            raise ValueError("drawn pictures have one channel")
        self._method, self._told = method, told
        self._a = _framed(h, w, 1, n)[:, :, 0]
        self._seen = np.zeros((3, n), np.int16)  # pixels above 0, pixels of full ink, the largest
        if method is not None:
            self._symbol = np.full(256, method.symbols - 1, np.int64)
            self._symbol[method.palette] = np.arange(len(method.palette))
            self._pixel = np.concatenate([method.palette, [0]]).astype(np.int16)

    def near(self, y: int, x: int) -> np.ndarray:
        """The nearest pixels. int16 [10, n]"""
        return np.stack([self._a[y + _UP + d, x + _SIDE + e] for d, e in _NEAR])

    def inputs(self, y: int, x: int, which: np.ndarray | slice = slice(None)) -> np.ndarray:
        """What the net looks at, of some of the pictures. int16 [INPUTS, those]"""
        y0, x0 = y + _UP, x + _SIDE
        near, seen = self.near(y, x)[:, which], np.minimum(self._seen[:, which], 255)
        around = [self._a[y0 + d, x0 + a : x0 + b + 1][:, which] for d, a, b in _AROUND]
        return np.concatenate([*around, (near > 0) * np.int16(255), (near >= _INK) * np.int16(255), seen])

    def rows(self, y: int, x: int, c: int) -> np.ndarray:
        assert self._method is not None
        y0, x0 = y + _UP, x + _SIDE
        west, north, nw, ne, ww, nn, nee, nww, nne, nnw, www, neee, nnn = (self._a[y0 + d, x0 + e] for d, e in _NEXT)
        plain = np.stack(
            [
                *(west, north, nw, ne, ww, nn, nee, nww, nne, nnw, www, neee, nnn),
                *(west + north - nw, north + ne - nne, west - nw, north - ne, west - ww, north - nn, west + ne),
                *(west + north, west + north + nw + ne, np.full_like(west, y), np.full_like(west, x), *self._seen),
            ]
        )
        net = self._method.net(self.inputs(y, x), (y, x))
        told = _told(self._told, y, x)
        return np.concatenate([net, plain, told]) if told.size else np.concatenate([net, plain])

    def symbol(self, y: int, x: int, c: int, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        assert self._method is not None
        symbols = self._symbol[pixels]
        return symbols, (symbols == len(self._method.palette)) if self._method.escapes else None

    def pixels(self, y: int, x: int, c: int, symbols: np.ndarray) -> np.ndarray:
        return self._pixel[symbols]

    def put(self, y: int, x: int, c: int, pixels: np.ndarray) -> None:
        self._a[y + _UP, x + _SIDE] = pixels
        self._seen[0] += pixels > 0
        self._seen[1] += pixels >= _INK
        np.maximum(self._seen[2], pixels, out=self._seen[2], casting="unsafe")


# ── photo ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def inputs_of_photo(c: int, channels: int) -> int:
    """How many numbers the linear form of channel c looks at."""
    own = sum(b - a + 1 for _, a, b in _OWN) + 1
    return own + sum(7 + (k < c) for k in range(channels) if k != c)


def place_class(y: int) -> int:
    """The class of a row or column."""
    return y if y < _EDGE else _EDGE + y % _EDGE


@dataclass(frozen=True, eq=False)
class Photo(Method):
    """weights: of each class of rows, of columns and channel the linear form, int32 [16, 16, c, most inputs]; spread:
    16 log2 of its mean square error, int16 [16, 16, c].
    """

    weights: np.ndarray
    spread: np.ndarray

    symbols = 256
    escapes = False

    def __post_init__(self) -> None:
        # Inputs are below 2^10: sums stay far below 2^53 whatever an int32 says.
        c = self.spread.shape[-1]
        if self.weights.shape[:3] != self.spread.shape or self.weights.shape[0] != 2 * _EDGE or c not in (1, 3):
            raise ValueError("the linear forms of pictures do not go together")
        if self.weights.shape[3] != max(inputs_of_photo(k, c) for k in range(c)):
            raise ValueError("the linear forms of pictures do not go together")

    def walk(self, shape: tuple[int, int, int], n: int, told: np.ndarray | None) -> Walk:
        if shape[2] != self.spread.shape[-1]:
            raise ValueError("the linear forms of pictures are of other channels")
        return PhotoWalk(self, shape, n, told)

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        return {"weights": self.weights, "spread": self.spread}

    @staticmethod
    def of(arrays: dict[str, np.ndarray]) -> "Photo":
        """Raises LookupError, ValueError for what `arrays` does not give."""
        return Photo(arrays["weights"], arrays["spread"])


class PhotoWalk(Walk):
    """Pictures of one channel, or of three as green, red − green, blue − green; each symbol a residual modulo 256."""

    def __init__(self, method: Photo | None, shape: tuple[int, int, int], n: int, told: np.ndarray | None) -> None:
        h, w, c = shape
        self._method, self._told, self.channels, self._n = method, told, c, n
        self.a, self._e = _framed(h, w, c, n), _framed(h, w, c, n)
        self._float = None if method is None else method.weights.astype(np.float64)

    def fill(self, lanes: np.ndarray) -> None:
        """Put all pixels [h, w, c, n] at once: for learning, which asks for no residuals."""
        h, w = lanes.shape[:2]
        self.a[_UP : _UP + h, _SIDE : _SIDE + w] = lanes
        self.a[:, :, 1:] -= self.a[:, :, :1]

    def at(self, y: int, x: int, c: int) -> np.ndarray:
        """What is here of channel c. int16 [n]"""
        return self.a[y + _UP, x + _SIDE, c]

    def inputs(self, y: int, x: int, c: int) -> tuple[np.ndarray, np.ndarray]:
        """What the linear form looks at [inputs, n], less the nearest pixel, which is the second. int16"""
        y0, x0, a = y + _UP, x + _SIDE, self.a
        if x or y:
            base = a[y0, x0 - 1] if x else a[y0 - 1, x0]
        else:
            base = np.zeros_like(a[0, 0])
            base[0] = 128
        parts = [a[y0 + d, x0 + e : x0 + f + 1, c] - base[c] for d, e, f in _OWN]
        for k in range(self.channels):
            if k != c:
                parts += [a[y0 - 1, x0 - 2 : x0 + 3, k] - base[k], a[y0, x0 - 2 : x0, k] - base[k]]
                if k < c:
                    parts.append((a[y0, x0, k] - base[k])[None])
        parts.append(np.full((1, self._n), 16, np.int16))
        return np.concatenate(parts), base[c]

    def rows(self, y: int, x: int, c: int) -> np.ndarray:
        assert self._method is not None
        assert self._float is not None
        y0, x0, e, a = y + _UP, x + _SIDE, self._e, self.a
        seen, base = self.inputs(y, x, c)
        at = place_class(y), place_class(x), c
        form = self._float[at][: len(seen)] @ seen.astype(np.float64)
        self._fine = np.floor(form * (_FINE / _WEIGHT)).astype(np.int32) + _FINE * base
        self._shift = a[y0, x0, 0] if c else np.zeros(self._n, np.int16)
        self._mean = np.clip(((self._fine + _FINE // 2) >> 4) + self._shift, 0, 255).astype(np.int16)

        def off(d: int, f: int, k: int = c) -> np.ndarray:
            return np.abs(e[y0 + d, x0 + f, k])

        zero = np.zeros(self._n, np.int16)
        west, north, nw, ne, ww, nn = off(0, -1), off(-1, 0), off(-1, -1), off(-1, 1), off(0, -2), off(-2, 0)
        first, second = (e[y0, x0, 0] if c > 0 else zero), (e[y0, x0, 1] if c > 1 else zero)
        one, two = (c + 1) % self.channels, (c + 2) % self.channels
        above = np.abs(e[y0 - 1, x0 - 4 : x0 + 5, c]).sum(0, dtype=np.int16)
        pw, pn, pnw, pne = a[y0, x0 - 1, c], a[y0 - 1, x0, c], a[y0 - 1, x0 - 1, c], a[y0 - 1, x0 + 1, c]
        found = [
            *(
                west,
                north,
                nw,
                ne,
                ww,
                nn,
                2 * (west + north) + nw + ne,
                west + north + nw + ne + ww + nn + above,
                above,
            ),
            *(off(-1, 2), off(0, -1, one) + off(-1, 0, one), off(0, -1, two) + off(-1, 0, two)),
            *(np.abs(first), np.abs(second), first, second, e[y0, x0 - 1, c], e[y0 - 1, x0, c]),
            *(pw - pnw, pn - pnw, pn - pne, np.abs(pw - pnw) + np.abs(pn - pnw) + np.abs(pn - pne)),
            *((self._fine & (_FINE - 1)).astype(np.int16), self._mean, pw + self._shift - self._mean),
            pn + self._shift - self._mean,
            *(np.full(self._n, v, np.int16) for v in (self._method.spread[at], y, x, y % _EDGE, x % _EDGE, c)),
        ]
        told = _told(self._told, y, x)
        return np.concatenate([np.stack(found), told]) if told.size else np.stack(found)

    def symbol(self, y: int, x: int, c: int, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        return (pixels.astype(np.int64) - self._mean + 128) & 255, None

    def pixels(self, y: int, x: int, c: int, symbols: np.ndarray) -> np.ndarray:
        return ((symbols - 128 + self._mean) & 255).astype(np.int16)

    def put(self, y: int, x: int, c: int, pixels: np.ndarray) -> None:
        y0, x0 = y + _UP, x + _SIDE
        self.a[y0, x0, c] = pixels - self._shift
        self._e[y0, x0, c] = pixels - self._mean


# ── coding ──────────────────────────────────────────────────────────────────────────────────────────────────────────

# Channels of a pixel in the order in which they are coded: green first, as the others are told by it.
ORDER = {1: (0,), 3: (1, 0, 2)}
METHODS: dict[str, Any] = {"drawn": Drawn, "photo": Photo}


def positions(shape: tuple[int, int, int]) -> Iterator[tuple[int, int, int]]:
    """Row, column and channel in coding order, in the order in which they are coded."""
    return ((y, x, c) for y in range(shape[0]) for x in range(shape[1]) for c in range(shape[2]))


@dataclass(frozen=True, eq=False)
class Context:
    """A coder of pictures of one shape [h, w, c]. told: whether latents have a say."""

    shape: tuple[int, int, int]
    method: Method
    tree: Tree
    tables: Tables
    told: bool = False

    def __post_init__(self) -> None:
        if len(self.tables) != len(self.tree.leaves) or self.tables.symbols != self.method.symbols:
            raise ValueError("the tables of pictures do not go with their tree")
        h, w, _ = self.shape
        told = np.zeros((h, w, 1), np.int16) if self.told else None
        try:
            walk = self.method.walk(self.shape, 1, told)
            rows = [walk.rows(y, x, 0) for y, x in ((0, 0), (h - 1, w - 1))]
        except IndexError as error:
            raise ValueError("the coder of pictures is of other pictures") from error
        if self.tree.features > len(rows[0]):
            raise ValueError("the tree of pictures asks for what is not known")

    def put(self, writer: Writer, pixels: np.ndarray, told: np.ndarray | None = None) -> None:
        """Pictures uint8 [n, h, w, c] into a writer."""
        lanes = np.ascontiguousarray(pixels.transpose(1, 2, 3, 0)[:, :, list(ORDER[self.shape[2]])]).astype(np.int16)
        n, walk = len(pixels), self.method.walk(self.shape, len(pixels), told)
        size = int(np.prod(self.shape))
        leaves, symbols = np.empty((size, n), np.int32), np.empty((size, n), np.int16)
        raw: np.ndarray | None = None
        for i, (y, x, c) in enumerate(positions(self.shape)):
            rows = walk.rows(y, x, c)
            leaves[i] = self.tree.leaf(rows)
            symbols[i], odd = walk.symbol(y, x, c, lanes[y, x, c])
            if odd is not None and odd.any():
                raw = np.zeros((size, n), bool) if raw is None else raw
                raw[i] = odd
            walk.put(y, x, c, lanes[y, x, c])
        if raw is None:
            writer.symbols(self.tables, leaves.astype(np.int64), symbols.astype(np.int64))
            return
        which, values = leaves.astype(np.int64).ravel(), lanes.reshape(-1).astype(np.uint64)
        step = np.arange(size).repeat(n)
        writer.coded(self.tables, which, symbols.astype(np.int64).ravel(), raw.ravel() * 8, values, step)

    def take(self, decoder: Decoder, n: int, told: np.ndarray | None = None) -> np.ndarray:
        """The next n pictures of a decoder. uint8 [n, h, w, c]"""
        lanes = np.empty((*self.shape, n), np.uint8)
        walk = self.method.walk(self.shape, n, told)
        for y, x, c in positions(self.shape):
            symbols = self.tables.decode(decoder, self.tree.leaf(walk.rows(y, x, c)))
            pixels = walk.pixels(y, x, c, symbols)
            if self.method.escapes:
                odd = np.flatnonzero(symbols == self.method.symbols - 1)
                if len(odd):
                    pixels[odd] = decoder.raw(np.full(len(odd), 8))
            lanes[y, x, c] = pixels
            walk.put(y, x, c, pixels)
        order = list(ORDER[self.shape[2]])
        found = np.empty((n, *self.shape), np.uint8)
        found[..., order] = lanes.transpose(3, 0, 1, 2)
        return found

    def encode(self, pixels: np.ndarray) -> bytes:
        """Pictures uint8 [n, h, w, c] as bytes."""
        writer = Writer()
        self.put(writer, pixels)
        lanes, data = writer.finish()
        return lanes.to_bytes(2, "little") + data

    def decode(self, data: memoryview, n: int) -> np.ndarray:
        """n pictures that `encode` wrote. Raises DataError for other bytes."""
        decoder = opened(data)
        found = self.take(decoder, n)
        decoder.finish()
        return found
