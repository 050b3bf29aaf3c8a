"""Whole numbers of 64 bits as symbols of a small alphabet, and raw bits behind some of them.

u = 0, 1, 2, 3, 4 …  for 0, −1, 1, −2, 2 …
u < 32 is a symbol; above, a symbol says the place of u's first bit and the two bits behind it, the rest is raw
the last symbol of an alphabet that was cut off is an escape: 64 raw bits
"""

from collections.abc import Sequence

import numpy as np

from ..errors import DataError
from .rans import BITS, Decoder, encode, lanes_for
from .tables import Tables

_DIRECT, _FIRST = 32, 5
MOST_SYMBOLS = _DIRECT + 4 * (64 - _FIRST)


def folded(values: np.ndarray) -> np.ndarray:
    """…, −2, −1, 0, 1, 2, … as 3, 1, 0, 2, 4: uint64."""
    v = values.astype(np.int64, copy=False)
    return ((v << 1) ^ (v >> 63)).view(np.uint64)


def unfolded(u: np.ndarray) -> np.ndarray:
    """What `folded` folded. int64"""
    return (u >> np.uint64(1)).view(np.int64) ^ -(u & np.uint64(1)).view(np.int64)


def symbols_of(u: np.ndarray, alphabet: int = MOST_SYMBOLS + 1) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Numbers [n] as (symbol int64, how many raw bits int64, the raw bits uint64)."""
    symbol = u.astype(np.int64)
    bits, rest = np.zeros(u.shape, np.int64), np.zeros(u.shape, np.uint64)
    large = np.nonzero(u >= _DIRECT)
    if len(large[0]):
        v = u[large]
        place = np.zeros(len(v), np.uint64)
        for step in (32, 16, 8, 4, 2, 1):
            place += ((v >> (place + np.uint64(step))) > 0) * np.uint64(step)
        raw = place - np.uint64(2)
        symbol[large] = _DIRECT + (place.astype(np.int64) - _FIRST) * 4 + ((v >> raw) & np.uint64(3)).astype(np.int64)
        bits[large], rest[large] = raw.astype(np.int64), v & ((np.uint64(1) << raw) - np.uint64(1))
    beyond = np.nonzero(symbol >= alphabet - 1)
    symbol[beyond], bits[beyond], rest[beyond] = alphabet - 1, 64, u[beyond]
    return symbol, bits, rest


def _kinds(alphabet: int) -> tuple[np.ndarray, np.ndarray]:
    """Of each symbol of an alphabet the number that it stands for without its raw bits, and how many there are."""
    symbol = np.arange(alphabet)
    high = np.maximum(symbol - _DIRECT, 0)
    bits = np.where(symbol < _DIRECT, 0, high // 4 + _FIRST - 2)
    base = np.where(symbol < _DIRECT, symbol, 0).astype(np.uint64)
    base = np.where(symbol < _DIRECT, base, (np.uint64(4) + (high % 4).astype(np.uint64)) << bits.astype(np.uint64))
    base[-1], bits[-1] = 0, 64
    return base, bits


def alphabet_for(largest: int) -> int:
    """How many symbols numbers of so large absolute values need, with the escape for larger ones."""
    return int(symbols_of(folded(np.array([-largest - 1])))[0][0]) + 2


def spans(alphabet: int) -> tuple[np.ndarray, np.ndarray]:
    """Of each symbol but the escape its smallest u, and how many it has. float64"""
    base, bits = _kinds(alphabet)
    return base[:-1].astype(np.float64), 2.0 ** bits[:-1]


class Writer:
    """Gathers batches of symbols, and codes them at the end. bits: about what they cost so far."""

    def __init__(self) -> None:
        self._starts: list[np.ndarray] = []
        self._freqs: list[np.ndarray] = []
        self._sizes: list[int] = []
        self.bits = 0.0

    def put(self, starts: np.ndarray, freqs: np.ndarray, sizes: Sequence[int] | np.ndarray) -> None:
        """Symbols [n] in batches of these sizes."""
        self._starts.append(starts)
        self._freqs.append(freqs)
        self._sizes.extend(int(s) for s in sizes)
        self.bits += float((BITS - np.log2(freqs.astype(np.float64))).sum())

    def symbols(self, tables: Tables, which: np.ndarray, symbols: np.ndarray) -> None:
        """Symbols [steps, n], each step a batch."""
        self.put(*tables.coded(symbols.ravel(), which.ravel()), [symbols.shape[1]] * len(symbols))

    def numbers(self, tables: Tables, which: np.ndarray, values: np.ndarray, step: np.ndarray) -> None:
        """Whole numbers [n], each from its table, of the steps `step` [n]: see `coded`."""
        self.coded(tables, which, *symbols_of(folded(values), tables.symbols), step)

    def unsigned(self, tables: Tables, which: np.ndarray, values: np.ndarray) -> None:
        """Whole numbers from 0 on, uint64 [n], as one step."""
        self.coded(tables, which, *symbols_of(values, tables.symbols), np.zeros(len(values), np.int64))

    def raw(self, values: np.ndarray, bits: int) -> None:
        """Whole numbers uint64 [n] of so many bits each, as one batch."""
        space = np.uint64(BITS - bits)
        self.put(values << space, np.full(len(values), 1 << int(space), np.uint64), [len(values)])

    def coded(
        self,
        tables: Tables,
        which: np.ndarray,
        symbols: np.ndarray,
        bits: np.ndarray,
        rest: np.ndarray,
        step: np.ndarray,
    ) -> None:
        """Symbols [n] with `bits` raw bits behind each, `rest`. Those of one step are a batch, in their order; their
        raw bits are batches behind it.
        """
        starts, freqs = tables.coded(symbols, which)
        order, all_starts, all_freqs = [step * 8], [starts], [freqs]
        for part in range(4):
            some = np.flatnonzero(bits > part * BITS)
            if not len(some):
                break
            width = np.minimum(bits[some] - part * BITS, BITS).astype(np.uint64)
            value = (rest[some] >> np.uint64(part * BITS)) & ((np.uint64(1) << width) - np.uint64(1))
            space = np.uint64(BITS) - width
            all_starts.append(value << space)
            all_freqs.append(np.uint64(1) << space)
            order.append(step[some] * 8 + 1 + part)
        key = np.concatenate(order)
        by = np.argsort(key, kind="stable")
        sizes = np.bincount(key)
        self.put(np.concatenate(all_starts)[by], np.concatenate(all_freqs)[by], sizes[sizes > 0])

    def finish(self) -> tuple[int, bytes]:
        """The number of lanes, and the coded bytes."""
        if not self._sizes:
            return 1, encode(np.empty(0), np.empty(0), [], 1)
        lanes = lanes_for(self.bits, max(self._sizes))
        return lanes, encode(np.concatenate(self._starts), np.concatenate(self._freqs), self._sizes, lanes)


class Numbers:
    """Reads numbers of one set of tables, as `Writer.numbers` wrote them."""

    def __init__(self, tables: Tables) -> None:
        self.tables = tables
        self._base, self._bits = _kinds(tables.symbols)
        self._first = int(np.flatnonzero(self._bits)[0])

    def read(self, decoder: Decoder, which: np.ndarray) -> np.ndarray:
        """The next step's numbers, each from its table. int64 [n]"""
        return unfolded(self.unsigned(decoder, which))

    def unsigned(self, decoder: Decoder, which: np.ndarray) -> np.ndarray:
        """The next step's numbers from 0 on. uint64 [n]"""
        symbol = self.tables.decode(decoder, which)
        u = self._base[symbol]
        if symbol.max(initial=0) >= self._first:
            bits = self._bits[symbol]
            for part in range(4):
                some = np.flatnonzero(bits > part * BITS)
                if not len(some):
                    break
                raw = decoder.raw(np.minimum(bits[some] - part * BITS, BITS)).astype(np.uint64)
                u[some] |= raw << np.uint64(part * BITS)
        return u


def opened(data: memoryview) -> Decoder:
    """A decoder of bytes that begin with their number of lanes. Raises DataError if they are too few."""
    if len(data) < 2:
        raise DataError("its coded symbols are cut short")
    return Decoder(data[2:], int.from_bytes(data[:2], "little"))
