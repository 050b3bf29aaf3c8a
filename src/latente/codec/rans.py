"""Interleaved rANS: symbols as shares of 2^16 in, 16-bit words out, and back. Integers alone.

    x in [2^16, 2^32) is a lane's state; a symbol has `freq` of the 2^16 slots, from `start` on
    encode:  if x >= freq · 2^16: write x mod 2^16, x = x // 2^16;   x = (x // freq) · 2^16 + x mod freq + start
    decode:  slot = x mod 2^16 says the symbol;  x = freq · (x // 2^16) + slot − start;   if x < 2^16: read a word

Symbols come in batches, since a decoder knows their tables only once those before are decoded. Symbol i of a batch is
lane i mod `lanes`; the words of all lanes lie in one stream, in the order in which a decoder needs them. An encoder
goes through the symbols backwards, beginning at x = 2^16 in each lane: where a decoder must end, with no word left.

Source: Duda 2013 (arXiv:1311.2540); Giesen 2014 (arXiv:1402.3392) for the lanes.
"""

from collections.abc import Callable, Sequence

import numpy as np

from ..errors import DataError

BITS = 16
TOTAL = 1 << BITS
_SHIFT, _MASK, _LOW = np.uint64(BITS), np.uint64(TOTAL - 1), np.uint64(TOTAL)
# A lane costs its last state, 32 bits, of which it uses half: together at most this share of what is coded.
OVERHEAD = 0.002
MOST_LANES = 4096

Find = Callable[[np.ndarray, slice], tuple[np.ndarray, np.ndarray, np.ndarray]]


def lanes_for(bits: float, widest: int) -> int:
    """How many lanes suit about so many bits in batches of at most `widest` symbols."""
    return int(np.clip(bits * OVERHEAD / 32, 1, max(1, min(widest, MOST_LANES))))


def encode(starts: np.ndarray, freqs: np.ndarray, batches: Sequence[int], lanes: int) -> bytes:
    """Symbols [n], each with its start and frequency (1 … 2^16 − 1), in batches of these sizes. Bytes that `Decoder`
    reads.
    """
    starts, freqs = starts.astype(np.uint64), freqs.astype(np.uint64)
    limits = freqs << _SHIFT
    state = np.full(lanes, _LOW)
    words: list[np.ndarray] = []
    end = len(starts)
    for size in reversed(batches):
        begin = end - size
        for i in range(begin + (size - 1) // lanes * lanes, begin - 1, -lanes) if size else ():
            part = slice(i, min(i + lanes, end))
            x, freq = state[: part.stop - i], freqs[part]
            full = x >= limits[part]
            if full.any():
                words.append(x[full] & _MASK)
                x[full] >>= _SHIFT
            share, rest = np.divmod(x, freq)
            np.add(share << _SHIFT, rest + starts[part], out=x)
        end = begin
    if end:
        raise ValueError(f"{end} symbols are in no batch")
    words.append(np.stack([state >> _SHIFT, state & _MASK], 1).ravel())
    return np.concatenate(words[::-1]).astype("<u2").tobytes()


class Decoder:
    """Reads what `encode` wrote with so many lanes. Raises DataError for what it cannot have written."""

    def __init__(self, data: bytes | memoryview, lanes: int) -> None:
        if not 1 <= lanes <= MOST_LANES or len(data) % 2 or len(data) < 4 * lanes:
            raise DataError("its coded symbols are cut short")
        words = np.frombuffer(data, "<u2").astype(np.uint64)
        ends = words[: 2 * lanes].reshape(lanes, 2)
        self._state = ends[:, 0] << _SHIFT | ends[:, 1]
        self._words, self._at, self.lanes = words[2 * lanes :], 0, lanes
        if (self._state < _LOW).any():
            raise DataError("its coded symbols begin with what is no state")

    def batch(self, size: int, find: Find) -> np.ndarray:
        """The next batch. find: of slots [m], those of symbols `part` of the batch, (symbol, start, frequency)."""
        out = np.empty(size, np.int64)
        for i in range(0, size, self.lanes):
            part = slice(i, min(i + self.lanes, size))
            x = self._state[: part.stop - i]
            slot = x & _MASK
            out[part], start, freq = find(slot.view(np.int64), part)
            np.add(freq * (x >> _SHIFT), slot - start, out=x)
            empty = np.flatnonzero(x < _LOW)
            if len(empty):
                more = self._words[self._at : self._at + len(empty)]
                if len(more) < len(empty):
                    raise DataError("its coded symbols are cut short")
                x[empty] = x[empty] << _SHIFT | more
                self._at += len(empty)
        return out

    def raw(self, bits: np.ndarray) -> np.ndarray:
        """The next batch of whole numbers that were written with `bits` [n] bits each, 0 to 16. int64 [n]"""
        width = np.uint64(BITS) - bits.astype(np.uint64)

        def find(slot: np.ndarray, part: slice) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
            value = slot.view(np.uint64) >> width[part]
            return value, value << width[part], np.uint64(1) << width[part]

        return self.batch(len(bits), find)

    def finish(self) -> None:
        """Raises DataError unless all is read and every lane is where encoding began."""
        if self._at != len(self._words) or (self._state != _LOW).any():
            raise DataError("its coded symbols do not end where they should")
