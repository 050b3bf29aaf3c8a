"""Frequency tables of integers, made once when a model is fitted.

A table gives each of its symbols a share of 2^16, at least 1. Nothing here is a float once a table is made.
"""

from functools import cached_property

import numpy as np

from .rans import BITS, TOTAL, Decoder

# Shares of 2^16 / 2^_FINE slots that lie within one symbol are looked up at once, others are searched for.
_FINE = 10
_COARSE = BITS - _FINE


class Tables:
    """freqs: uint16 [tables, symbols], each row summing to 2^16, each share at least 1; two symbols or more."""

    def __init__(self, freqs: np.ndarray) -> None:
        if freqs.ndim != 2 or freqs.shape[1] < 2 or freqs.dtype != np.uint16:
            raise ValueError(f"tables of frequencies are uint16 [k, symbols], not {freqs.dtype} {freqs.shape}")
        if (freqs == 0).any() or (freqs.sum(1, dtype=np.int64) != TOTAL).any():
            raise ValueError("frequencies are 1 or more, and together 2^16")
        self.freqs = freqs

    @property
    def symbols(self) -> int:
        return self.freqs.shape[1]

    def __len__(self) -> int:
        return len(self.freqs)

    @cached_property
    def bits(self) -> np.ndarray:
        """What each symbol costs. float32 [tables, symbols]"""
        return (BITS - np.log2(self.freqs.astype(np.float64))).astype(np.float32)

    @cached_property
    def _flat(self) -> tuple[np.ndarray, np.ndarray]:
        ends = np.cumsum(self.freqs, 1, dtype=np.int64)
        return (ends - self.freqs).astype(np.uint64).ravel(), self.freqs.astype(np.uint64).ravel()

    @cached_property
    def _order(self) -> np.ndarray:
        """Where each symbol begins, table after table. int64 [tables · symbols]"""
        return self._flat[0].astype(np.int64) + (np.arange(len(self)) << BITS).repeat(self.symbols)

    @cached_property
    def _quick(self) -> np.ndarray:
        """Of each table and each 64 slots the symbol that has them all, or −1. int16 [tables · 2^10]"""
        edges = (np.arange(len(self))[:, None] << BITS) + np.arange(0, TOTAL, 1 << _COARSE)
        first = np.searchsorted(self._order, edges.ravel(), "right")
        last = np.searchsorted(self._order, edges.ravel() + (1 << _COARSE) - 1, "right")
        symbol = first - 1 - np.arange(len(self)).repeat(1 << _FINE) * self.symbols
        return np.where(first == last, symbol, -1).astype(np.int16)

    def coded(self, symbols: np.ndarray, which: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Start and frequency of each symbol in its table. uint64 [n] each"""
        at = which * self.symbols + symbols
        return self._flat[0][at], self._flat[1][at]

    def decode(self, decoder: Decoder, which: np.ndarray) -> np.ndarray:
        """The next batch of symbols, each from its table. int64 [n]"""
        starts, freqs = self._flat

        def find(slot: np.ndarray, part: slice) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
            table = which[part]
            symbol = self._quick[(table << _FINE) + (slot >> _COARSE)].astype(np.int64)
            hard = np.flatnonzero(symbol < 0)
            if len(hard):
                place = np.searchsorted(self._order, (table[hard] << BITS) + slot[hard], "right") - 1
                symbol[hard] = place - table[hard] * self.symbols
            at = table * self.symbols + symbol
            return symbol, starts[at], freqs[at]

        return decoder.batch(len(which), find)


def quantised(counts: np.ndarray) -> np.ndarray:
    """Counts or weights [k, a] as frequencies: uint16 [k, a], rows summing to 2^16, each at least 1."""
    if counts.shape[1] < 2:
        raise ValueError("a table has two symbols or more")
    share = np.asarray(counts, np.float64)
    total = share.sum(1, keepdims=True)
    share = np.where(total > 0, share / np.where(total > 0, total, 1.0), 1.0 / share.shape[1])
    # What the least share of 1 takes is taken from all in proportion.
    exact = 1 + share * (TOTAL - share.shape[1])
    freqs = np.floor(exact).astype(np.int64)
    order = np.argsort(freqs - exact, 1, kind="stable")
    rank = np.empty_like(order)
    np.put_along_axis(rank, order, np.arange(share.shape[1])[None], 1)
    freqs += rank < (TOTAL - freqs.sum(1, keepdims=True))
    return freqs.astype(np.uint16)
