"""Rows that are read while the run goes on: memory does not grow with their number.

epoch ──seeded order of blocks──▶ windows of a few blocks ──decoded ahead, by a thread──▶ shuffled ──▶ portions

One pass over the data learns the schema and picks the rows that stay in memory: those held out, and a sample to measure
with. Which rows a block gives to them depends on the seed and the block's number alone.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import ConfigError, DataError
from ..kinds.base import Kind
from ..kinds.counted import Counted
from ..kinds.sources import Source
from ..model import sparse
from ..model.batch import Batch, parts_of
from ..model.spec import Train
from .feed import MIN_HELD_OUT, Feed, Portion, order, plan
from .team import ALONE, Team

# Rows that stay in memory: more tell hardly more of a loss, a scale or a subspace.
HELD_OUT = SAMPLE = 20_000
# Blocks from which they are taken.
PICKED = 64
# Bytes of a window's compact rows: many blocks of a long table, so that neighbours in the file meet strangers.
WINDOW = 64 << 20
# Marks the draws that pick rows from a block, apart from those that order an epoch.
_PICK = 0x70696B


@dataclass(frozen=True)
class Picks:
    """Which rows of one block are held out, which are in the sample, and which are trained on."""

    held_out: Tensor
    sample: Tensor
    fit: Tensor


@dataclass
class Sampler:
    """Goes over a source once, and keeps the picked rows as raw data."""

    source: Source
    config: Train

    def __post_init__(self) -> None:
        self.held_out: list[Any] = []
        self.sample: list[Any] = []
        sizes = np.asarray(self.source.sizes)
        # From blocks that lie evenly over the data: a piece of every one would be many small pieces, which cost far
        # more memory than their cells.
        chosen = np.unique(np.linspace(0, len(sizes) - 1, min(len(sizes), PICKED)).astype(int))
        there = np.zeros_like(sizes)
        there[chosen] = sizes[chosen]
        rows, ends = int(there.sum()), np.concatenate([[0], np.cumsum(there)])
        # A block of one row cannot give to both.
        held_out = min(HELD_OUT, int(len(self.source) * self.config.validation), rows // 2)
        held_out = held_out if held_out >= MIN_HELD_OUT else 0
        # How many of each block:
        self.held = np.diff(ends * held_out // rows)
        self.sampled = np.diff(ends * min(SAMPLE, rows - held_out) // rows)

    def blocks(self) -> Iterator[Any]:
        """All blocks, one after the other."""
        self.held_out, self.sample = [], []
        for block in range(len(self.source.sizes)):
            raw = self.source.read(block)
            picks = self.picks(block)
            for kept, which in ((self.held_out, picks.held_out), (self.sample, picks.sample)):
                if len(which):
                    kept.append(chosen(raw, which.numpy()))
            yield raw

    def picks(self, block: int) -> Picks:
        """The picks of one block."""
        size, h, s = self.source.sizes[block], int(self.held[block]), int(self.sampled[block])
        mixed = torch.randperm(size, generator=order(self.config.seed, _PICK, block))
        fit = mixed[h:]
        return Picks(mixed[:h].sort().values, fit[:s].sort().values, fit.sort().values)


class Streamed(Feed):
    """The rows of a source, read block by block in every epoch."""

    def __init__(self, sampler: Sampler, kind: Kind, device: str = "cpu", team: Team = ALONE) -> None:
        self.sampler, self.kind, self.device, self.team = sampler, kind, device, team
        self.source, self.config = sampler.source, sampler.config
        if not sampler.sample:
            raise DataError(f"{self.source.name} leaves no row to train on", hint="give more rows, or hold out fewer")
        self._sample = together([kind.to_batch(raw) for raw in sampler.sample]).to(device)
        held_out = [kind.to_batch(raw) for raw in sampler.held_out]
        self.held_out = together(held_out).to(device) if held_out else None
        sampler.sample = sampler.held_out = []
        self.rows = len(self.source) - (0 if self.held_out is None else len(self.held_out))
        self.starts = np.concatenate([[0], np.cumsum(self.source.sizes)])
        fit = np.asarray(self.source.sizes) - sampler.held
        # With few blocks every process reads all of them and takes its rows, else it reads its own alone.
        self.apart = len(fit) >= 4 * team.size
        if not self.apart and fit.sum() < team.size:
            raise ConfigError(f"{len(self.source)} rows cannot be shared by {team.size} processes", hint="use fewer")
        self._own = fit if self.apart else (fit - team.rank + team.size - 1) // team.size
        self._ahead: dict[tuple[int, ...], Future[tuple[Batch, Tensor]]] = {}
        self._reader = ThreadPoolExecutor(1, "latente-reader")

    def epoch(self, number: int, start: int = 0) -> Iterator[Portion]:
        size = self.config.batch_size // self.team.size
        count = plan(self.rows, self.config).batches_per_epoch
        windows = self._windows(number)
        at, skip = 0, start * size
        own = sum(self._rows_of(w) for w in windows)
        skip %= max(own, 1)
        while skip >= self._rows_of(windows[at]):
            skip -= self._rows_of(windows[at])
            at += 1
        rest: Batch | None = None
        places = torch.empty(0, dtype=torch.int64)
        done = start
        while done < count:
            batch, numbers = self._window(number, at)
            mixed = torch.randperm(len(batch), generator=order(self.config.seed, number, at))[skip:]
            skip, taken = 0, 0
            while done < count:
                index = mixed[taken : taken + size - (0 if rest is None else len(rest))]
                last = self.team.size == 1 and at == len(windows) - 1 and taken + len(index) == len(mixed)
                part, where = batch.rows(index), numbers[index]
                if rest is not None:
                    part, where, rest = together([rest, part]), torch.cat([places, where]), None
                taken += len(index)
                if len(part) < size and not last:
                    rest, places = part, where
                    break
                if len(part) > 1:
                    yield Portion(part.to(self.device), where, len(part) * self.team.size)
                done += 1
            # A process whose blocks are fewer than another's starts over.
            at = (at + 1) % len(windows)

    def some(self, n: int) -> Batch:
        return self._sample.rows(slice(0, n))

    def whole(self, n: int) -> Batch:
        return self.some(n).to("cpu")

    def every(self, n: int) -> Iterator[Batch]:
        for block in range(len(self.source.sizes)):
            yield from parts_of(self.kind.to_batch(self.source.read(block)), n)

    def numbers(self, portion: Portion, which: Tensor) -> list[int]:
        return portion.places[which].tolist()

    @property
    def fingerprint(self) -> str:
        return self.source.fingerprint

    @lru_cache(maxsize=2)  # noqa: B019 - one feed a run
    def _windows(self, epoch: int) -> list[list[int]]:
        """The blocks of this process in the epoch's order, a few at a time."""
        sample, blocks = self._sample, len(self.source.sizes)
        row = sum(sparse.bytes_of(t) // len(t) for t in (sample.x, sample.observed) if t is not None)
        if self.team.size == 1 and self._rows_of(list(range(blocks))) * row <= WINDOW:
            return [list(range(blocks))]  # all of them in one: read once, and kept
        mixed = torch.randperm(blocks, generator=order(self.config.seed, epoch)).tolist()
        mine = mixed[self.team.rank :: self.team.size] if self.apart else mixed
        windows: list[list[int]] = [[]]
        for block in mine:
            if windows[-1] and (self._rows_of(windows[-1]) + self._rows_of([block])) * row > WINDOW:
                windows.append([])
            windows[-1].append(block)
        return windows

    def _rows_of(self, blocks: Sequence[int]) -> int:
        return int(self._own[list(blocks)].sum())

    def _fit(self, block: int) -> Tensor:
        fit = self.sampler.picks(block).fit
        return fit if self.apart else fit[self.team.rank :: self.team.size]

    def _window(self, epoch: int, at: int) -> tuple[Batch, Tensor]:
        """A window's rows; the one after it is begun, so that reading and training go on side by side."""
        blocks = tuple(self._windows(epoch)[at])
        if blocks not in self._ahead:
            for future in self._ahead.values():
                future.cancel()
            self._ahead = {blocks: self._reader.submit(self._read, blocks)}
        found = self._ahead[blocks].result()
        following = (epoch, at + 1) if at + 1 < len(self._windows(epoch)) else (epoch + 1, 0)
        then = tuple(self._windows(following[0])[following[1]])
        if then != blocks:
            self._ahead = {then: self._reader.submit(self._read, then)}
        return found

    def _read(self, blocks: tuple[int, ...]) -> tuple[Batch, Tensor]:
        parts, numbers = [], []
        for block in blocks:
            fit = self._fit(block)
            parts.append(self.kind.to_batch(self.source.read(block)).rows(fit))
            numbers.append(fit + int(self.starts[block]))
        return together(parts), torch.cat(numbers)


def together(parts: list[Batch]) -> Batch:
    """Batches one after the other."""
    observed = None
    if any(p.observed is not None for p in parts):
        observed = torch.cat(
            [torch.ones_like(p.x, dtype=torch.bool) if p.observed is None else p.observed for p in parts]
        )
    return Batch(sparse.joined([p.x for p in parts]), observed)


def chosen(raw: Any, index: np.ndarray) -> Any:
    """Rows of raw data by their places."""
    if hasattr(raw, "iloc"):
        return raw.iloc[index]
    if hasattr(raw, "pixels"):
        seen = None if raw.observed is None else raw.observed[index]
        return replace(raw, pixels=raw.pixels[index], observed=seen, labels=None, names=())
    return raw[index] if isinstance(raw, Counted) else np.array(raw[index])
