"""Pictures at a quality: a linear autoencoder of blocks of 8×8 pixels, its latents rounded, each from a table that the
latents before it choose. What is read and shown is whole numbers alone.

    pixels ─ colours turned ─▶ block less what its decoded neighbours say ─ basis ─▶ latents / step, rounded ─▶ symbols
    pixels ◀ colours back ── block ◀── + ◀──────────────────────────────── basis ◀── latents

A latent's table is by how large it is likely to be: a linear form of the logarithms of those before it in its block
and of those of the blocks left, above and across. Of the qualities each has its step; all else they share. Planes are
in 16ths of a grey level. An encoder may use floats: it chooses what is best for distortion + λ · bits.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from .columns import log16
from .numbers import Numbers, Writer, opened, symbols_of
from .tables import Tables

SIZE, QUALITIES = 8, 8
# Parts of a grey level in planes; bits of the weights of predictions, bases and colours.
FINE, PREDICT, BASIS, COLOUR = 16, 13, 14, 12
# Classes of likely size, a quarter of an octave each; groups of latents with tables of their own begin at these.
CLASSES, GROUPS = 48, (0, 1, 6, 24)
# Bits of an octave in the sums that choose a class: features carry 16 parts, weights 256.
OCTAVE, FIRST = 12, 6
# Magnitudes have symbols of their own up to 31, one for a quarter of an octave up to 511; those of more than 15 are
# alike to what they say of others. Parts of a step in the offsets of reconstructions.
LARGEST, SYMBOLS, CAP, PART = 511, 49, 15, 64
# What a bit may cost of squared steps: chosen on held-out CIFAR pictures.
LAMBDA = 0.11


# Of each magnitude its symbol, and how many raw bits are behind it.
SYMBOL, RAW, _ = symbols_of(np.arange(LARGEST + 2, dtype=np.uint64), SYMBOLS)


def case_of(y: int, x: int) -> int:
    """Which neighbours a block at these pixels has: 0 none, 1 left, 2 above, 3 both."""
    return (x > 0) + 2 * (y > 0)


def edge(planes: np.ndarray, y: int, x: int) -> np.ndarray:
    """What is decoded around a block, two pixels deep, and a constant. [n, inputs]"""
    n, parts = len(planes), []
    if x:
        parts.append(planes[:, y : y + SIZE, x - 2 : x])
    if y:
        parts.append(planes[:, y - 2 : y, x : x + SIZE])
    if x and y:
        parts.append(planes[:, y - 2 : y, x - 2 : x])
    return np.concatenate([*(p.reshape(n, -1) for p in parts), np.full((n, 1), 256.0 * FINE)], 1)


def rounded(x: np.ndarray, bits: int) -> np.ndarray:
    """x / 2^bits, rounded: whole numbers in float64."""
    return np.asarray(np.floor((x + 2.0 ** (bits - 1)) * 2.0**-bits))


def padded(pixels: np.ndarray) -> np.ndarray:
    """Pictures [n, h, w, c] with their last rows and columns repeated to whole blocks."""
    h, w = pixels.shape[1:3]
    return np.pad(pixels, ((0, 0), (0, -h % SIZE), (0, -w % SIZE), (0, 0)), "edge")


class Blocks:
    """shape [h, w, c]; steps [8]; colour int16 [c, c]; predict0 … predict3, basis int16 [4, 64 c, l]; inner, left,
    above, across int32 [l, l]; quality int32 [8, l]; case int32 [4, l]; tables uint16 [groups · classes, SYMBOLS];
    offsets int16 [classes, 4]: by how much a magnitude of 1, 2, 3 or more is less than it says.
    """

    NAMES = (
        *(
            "shape",
            "steps",
            "colour",
            "predict0",
            "predict1",
            "predict2",
            "predict3",
            "basis",
            "inner",
            "left",
            "above",
        ),
        *("across", "quality", "case", "tables", "offsets"),
    )

    def __init__(self, **arrays: np.ndarray) -> None:
        self.arrays = arrays
        *_, c = self.shape = tuple(int(s) for s in arrays["shape"])
        self.latents = int(arrays["basis"].shape[2])
        edges = 2 * SIZE * c
        inputs = [1, edges + 1, edges + 1, 2 * edges + 4 * c + 1]
        wanted = {"colour": (c, c), "basis": (4, SIZE * SIZE * c, self.latents), "steps": (QUALITIES,)}
        wanted |= {f"predict{i}": (inputs[i], SIZE * SIZE * c) for i in range(4)}
        wanted |= dict.fromkeys(("inner", "left", "above", "across"), (self.latents, self.latents))
        wanted |= {"quality": (QUALITIES, self.latents), "case": (4, self.latents), "offsets": (CLASSES, 4)}
        wanted |= {"tables": (len(GROUPS) * CLASSES, SYMBOLS)}
        if c not in (1, 3) or any(arrays[n].shape != s for n, s in wanted.items()) or (arrays["steps"] < 1).any():
            raise ValueError("the coder of qualities does not go together")
        # Below 2^53 with planes below 2^15 and latents below 2^24, whatever these hold.
        if any(arrays[n].dtype != np.int16 for n in ("colour", "basis", "offsets", *(f"predict{i}" for i in range(4)))):
            raise ValueError("the coder of qualities does not go together")
        if any(arrays[n].dtype != np.int32 for n in ("inner", "left", "above", "across", "quality", "case")):
            raise ValueError("the coder of qualities does not go together")
        if (arrays["steps"] >= 1 << 16).any() or arrays["steps"].dtype.kind not in "iu":
            raise ValueError("the coder of qualities has steps that cannot be")
        self.tables = Tables(arrays["tables"])
        self._float = {n: a.astype(np.float64) for n, a in arrays.items() if a.dtype in (np.int16, np.int32)}
        self.group = np.searchsorted(GROUPS, np.arange(self.latents), "right") - 1
        self._inner = np.triu(self._float["inner"], 1)

    @staticmethod
    def of(arrays: dict[str, np.ndarray]) -> "Blocks":
        """Raises LookupError, ValueError for what `arrays` does not give."""
        return Blocks(**{n: arrays[n] for n in Blocks.NAMES})

    def encode(self, pixels: np.ndarray, quality: int) -> bytes:
        """Pictures uint8 [n, h, w, c] at a quality from 0 to 7 as bytes."""
        writer = Writer()

        def wrote(i: int, which: np.ndarray, z: np.ndarray) -> None:
            size = np.abs(z).astype(np.uint64)
            writer.unsigned(self.tables, which, size)
            signs = (z[size > 0] < 0).astype(np.uint64)
            if len(signs):
                writer.raw(signs, 1)

        Choice(self, pixels, quality, wrote).run()
        lanes, data = writer.finish()
        return lanes.to_bytes(2, "little") + data

    def decode(self, data: memoryview, n: int, quality: int) -> np.ndarray:
        """n pictures that `encode` wrote. uint8 [n, h, w, c]. Raises DataError for other bytes."""
        decoder, numbers = opened(data), Numbers(self.tables)

        def read(i: int, which: np.ndarray) -> np.ndarray:
            z = np.minimum(numbers.unsigned(decoder, which), np.uint64(1 << 16)).astype(np.int64)
            some = np.flatnonzero(z)
            if len(some):
                z[some] *= 1 - 2 * decoder.raw(np.ones(len(some), np.int64))
            return z

        found = self.run(n, quality, lambda *_: None, read)
        decoder.finish()
        return found

    def run(
        self, n: int, quality: int, block: Callable[..., Any], choose: Callable[[int, np.ndarray], np.ndarray]
    ) -> np.ndarray:
        """Build n pictures block by block. block(case, y, x, prediction) is told of each; choose(i, which table) gives
        the whole numbers [n] of its latent i. uint8 [n, h, w, c]
        """
        h, w, c = self.shape
        high, wide, f = -(-h // SIZE), -(-w // SIZE), self._float
        planes = np.zeros((n, high * SIZE, wide * SIZE, c))
        logs = np.zeros((high, wide, n, self.latents))
        for row in range(high):
            for column in range(wide):
                y, x = row * SIZE, column * SIZE
                case = case_of(y, x)
                guess = rounded(edge(planes, y, x) @ f[f"predict{case}"], PREDICT)
                block(case, y, x, guess)
                form = np.tile(f["quality"][quality] + f["case"][case], (n, 1))
                if column:
                    form += logs[row, column - 1] @ f["left"]
                if row:
                    form += logs[row - 1, column] @ f["above"]
                if case == 3:
                    form += logs[row - 1, column - 1] @ f["across"]
                here = self._latents(form, logs[row, column], quality, choose)
                made = guess + rounded(here @ f["basis"][case].T, BASIS)
                # A stream may say anything: planes stay where sums are exact.
                planes[:, y : y + SIZE, x : x + SIZE] = np.clip(made, -(1 << 15), 1 << 15).reshape(n, SIZE, SIZE, c)
        shown = rounded(planes @ f["colour"] + 128.0 * FINE * 2**COLOUR, COLOUR + 4)
        return np.clip(shown, 0, 255).astype(np.uint8)[:, :h, :w]

    def _latents(
        self, form: np.ndarray, logs: np.ndarray, quality: int, choose: Callable[[int, np.ndarray], np.ndarray]
    ) -> np.ndarray:
        """The latents of a block, in 16ths of a grey level [n, l]; their logarithms go to `logs` [n, l]."""
        found, step = np.zeros_like(form), float(self.arrays["steps"][quality]) * FINE
        for i in range(self.latents):
            size = np.clip(np.floor(form[:, i] * 2.0 ** -(OCTAVE - 2)), 0, CLASSES - 1).astype(np.int64)
            z = choose(i, self.group[i] * CLASSES + size)
            some = np.flatnonzero(z)
            if not len(some):
                continue
            far = np.abs(z[some])
            less = self._float["offsets"][size[some], np.minimum(far, 3)]
            found[some, i] = np.sign(z[some]) * np.minimum(rounded((far * PART - less) * step, 6), 1 << 24)
            logs[some, i] = log16(np.minimum(far, CAP))
            if i + 1 < self.latents:
                form[some, i + 1 :] += logs[some, i, None] * self._inner[i, i + 1 :]
        return found


class Choice:
    """An encoder's choice of whole numbers for the latents of pictures at a quality. wrote(i, which table, z) is told
    of each. plain: round, with a wider cell at 0, where there are no tables yet.
    """

    def __init__(
        self, blocks: Blocks, pixels: np.ndarray, quality: int, wrote: Callable[..., Any], plain: bool = False
    ) -> None:
        self._of, self._quality, self.wrote, self._plain = blocks, quality, wrote, plain
        turn = np.linalg.inv(blocks._float["colour"] / 2**COLOUR)
        self._planes = np.round((padded(pixels).astype(np.float64) - 128) @ turn * FINE)
        self._step = float(blocks.arrays["steps"][quality]) * FINE

    def run(self) -> np.ndarray:
        """The pictures as they will be decoded."""
        return self._of.run(len(self._planes), self._quality, self._block, self._choose)

    def _block(self, case: int, y: int, x: int, guess: np.ndarray) -> None:
        own = self._planes[:, y : y + SIZE, x : x + SIZE].reshape(len(guess), -1)
        self.v = (own - guess) @ (self._of._float["basis"][case] / 2**BASIS) / self._step

    def _choose(self, i: int, which: np.ndarray) -> np.ndarray:
        v = self.v[:, i]
        far = np.abs(v)
        nearest = np.floor(far + 0.5)
        if self._plain:
            best = np.floor(far + 0.34)
        else:
            bits, best, least = self._of.tables.bits, np.zeros(len(v)), np.full(len(v), np.inf)
            for tried in (nearest, np.maximum(nearest - 1, 0), np.zeros(len(v))):
                small = np.minimum(tried, 3).astype(np.int64)
                less = self._of._float["offsets"][which % CLASSES, small] / PART
                size = np.minimum(tried, LARGEST + 1).astype(np.int64)
                cost = bits[which, SYMBOL[size]] + RAW[size] + (tried > 0)
                loss = (far - np.where(tried > 0, tried - less, 0)) ** 2 + LAMBDA * cost
                better = loss < least
                best, least = np.where(better, tried, best), np.where(better, loss, least)
        z = (np.sign(v) * best).astype(np.int64)
        self.wrote(i, which, z)
        return z
