"""Which rows a step sees: the split, the length of the run, and the order.

The order of an epoch depends on the seed and the epoch's number alone, so a run that was stopped goes on with the very
batch at which it stopped, and every process of a team knows which rows are its own.
"""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..model import sparse
from ..model.batch import Batch, parts_of
from ..model.spec import Train
from .private import draws
from .team import ALONE, Team

# A run that nobody planned has no more steps than one waits for. Early stopping ends most runs before.
MAX_STEPS = 30_000
# Below this number of rows none is held out: too few to tell a better model from a luckier one.
MIN_HELD_OUT = 10
# Of a very large table an epoch is a long time: it is looked at now and then within one.
MAX_STEPS_UNSEEN = 5_000


@dataclass(frozen=True)
class Pace:
    """The length of a run. steps None: only the time limit ends it."""

    batches_per_epoch: int
    steps: int | None
    evaluate_every: int


def plan(rows: int, config: Train) -> Pace:
    """The pace of a run over so many rows."""
    full, rest = divmod(rows, config.batch_size)
    per_epoch = full + (rest > 1)
    steps = config.steps
    if config.epochs is not None:
        steps = min(config.epochs * per_epoch, steps or config.epochs * per_epoch)
    elif steps is None and config.time_limit is None:
        epochs, least = config.unplanned
        steps = min(max(epochs * per_epoch, least), max(MAX_STEPS, 10 * per_epoch))
    # Of a small table many epochs make one evaluation: evaluating must not cost more than training.
    every = per_epoch * max(1, 50 // per_epoch)
    return Pace(per_epoch, steps, min(every, MAX_STEPS_UNSEEN))


@dataclass(frozen=True)
class Portion:
    """This process's rows of one step, compact and on the device. places: where the feed has them. total: how many rows
    the step has in all processes.
    """

    batch: Batch
    places: Tensor
    total: int


class Feed(ABC):
    """The rows of a run. rows: how many are trained on, in all processes. held_out: None if there are too few."""

    config: Train
    rows: int
    held_out: Batch | None

    @abstractmethod
    def epoch(self, number: int, start: int = 0) -> Iterator[Portion]:
        """The portions of an epoch, from its batch `start` on."""

    @abstractmethod
    def some(self, n: int) -> Batch:
        """Up to `n` of the rows that are trained on, the same ones at every call."""

    @abstractmethod
    def whole(self, n: int) -> Batch:
        """Up to `n` rows of the data as they came, held out or not."""

    @abstractmethod
    def every(self, n: int) -> Iterator[Batch]:
        """All rows of the data as they came, held out or not, at most `n` at a time: one pass over them."""

    @abstractmethod
    def numbers(self, portion: Portion, which: Tensor) -> list[int]:
        """The numbers in the data (the first row is 0) of the rows `which` of a portion."""

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """64 hex digits that change when the data do."""


class Resident(Feed):
    """Rows that lie in memory, in their compact dtype, on the device: sliced with a permutation."""

    def __init__(self, data: Batch, config: Train, device: str = "cpu", team: Team = ALONE) -> None:
        self.data, self.config, self.team = data, config, team
        fit, held_out = split(len(data), config)
        self.origin = fit
        self.fit = data.rows(fit).to(device) if held_out is not None else data.to(device)
        self.held_out = None if held_out is None else data.rows(held_out).to(device)
        self.rows = len(fit)
        self.device = device

    def epoch(self, number: int, start: int = 0) -> Iterator[Portion]:
        if self.config.dp_epsilon is not None:
            for index in draws(self.rows, self.config, plan(self.rows, self.config).batches_per_epoch - start):
                yield Portion(self.fit.rows(index.to(self.device)), index, max(1, len(index)))
            return
        own = slice(self.team.rank, None, self.team.size)
        parts = list(batches(self.rows, self.config.batch_size, order(self.config.seed, number)))[start:]
        # At once: each copy to a GPU waits until all that it was told before is done.
        there = torch.cat(parts).to(self.device).split([len(part) for part in parts]) if parts else ()
        for index, place in zip(parts, there, strict=True):
            # A rest that is too small to give each process a row goes to all of them: its mean is the same.
            few = len(index) < self.team.size
            yield Portion(self.fit.rows(place if few else place[own]), index if few else index[own], len(index))

    def some(self, n: int) -> Batch:
        return self.fit.rows(evenly(len(self.fit), n))

    def whole(self, n: int) -> Batch:
        return self.data.rows(evenly(len(self.data), n))

    def every(self, n: int) -> Iterator[Batch]:
        return parts_of(self.data, n)

    def numbers(self, portion: Portion, which: Tensor) -> list[int]:
        return self.origin[portion.places[which]].tolist()

    @property
    def fingerprint(self) -> str:
        digest = hashlib.sha256()
        x = sparse.parts(self.data.x) if sparse.is_sparse(self.data.x) else (self.data.x,)
        for tensor in (*x, self.data.observed, self.data.context):
            if tensor is not None:
                digest.update(str(tuple(tensor.shape)).encode())
                digest.update(np.ascontiguousarray(tensor.cpu().numpy()).data)
        return digest.hexdigest()


def evenly(rows: int, n: int) -> slice:
    """Up to `n` of so many rows, from first to last: data are often sorted, by time above all."""
    return slice(None, None, max(1, -(-rows // n)))


def order(seed: int, *numbers: int) -> torch.Generator:
    """A generator of its own for each seed and epoch (or block): independent streams."""
    state = np.random.SeedSequence([seed, *numbers]).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state >> np.uint64(1)))


def split(rows: int, config: Train) -> tuple[Tensor, Tensor | None]:
    """The numbers of the rows to train on, and of those held out (None if too few)."""
    held_out = int(rows * config.validation)
    if held_out < MIN_HELD_OUT:
        return torch.arange(rows), None
    mixed = torch.randperm(rows, generator=torch.Generator().manual_seed(config.seed))
    return mixed[held_out:], mixed[:held_out]


def batches(rows: int, size: int, generator: torch.Generator) -> Iterator[Tensor]:
    """One epoch in random order, `size` rows at a time; the last has what is left, if more than one row."""
    for index in torch.randperm(rows, generator=generator).split(size):
        # A batch of one row teaches nothing but noise; that row has its turn in another epoch.
        if len(index) > 1:
            yield index
