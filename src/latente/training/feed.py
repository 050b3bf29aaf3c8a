"""Which rows a step sees: the split, the length of the run, and the order."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ..model.batch import Batch
from ..model.spec import Train

# A run that nobody planned: so many epochs, but neither fewer steps than a small table needs nor more than one waits
# for. Early stopping ends most runs before.
EPOCHS, MIN_STEPS, MAX_STEPS = 100, 1_500, 30_000
# Below this number of rows none is held out: too few to tell a better model from a luckier one.
MIN_HELD_OUT = 10


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
        steps = min(max(EPOCHS * per_epoch, MIN_STEPS), max(MAX_STEPS, 10 * per_epoch))
    # Of a small table many epochs make one evaluation: evaluating must not cost more than training.
    every = per_epoch * max(1, 50 // per_epoch)
    return Pace(per_epoch, steps, every)


def split(data: Batch, config: Train, generator: torch.Generator) -> tuple[Batch, Batch | None]:
    """Rows to train on, and rows held out (None if too few)."""
    held_out = int(len(data) * config.validation)
    if held_out < MIN_HELD_OUT:
        return data, None
    order = torch.randperm(len(data), generator=generator)
    return data.rows(order[held_out:]), data.rows(order[:held_out])


def batches(rows: int, size: int, generator: torch.Generator) -> Iterator[Tensor]:
    """One epoch in random order, `size` rows at a time; the last has what is left, if more than one row."""
    for index in torch.randperm(rows, generator=generator).split(size):
        # A batch of one row teaches nothing but noise; that row has its turn in the next epoch.
        if len(index) > 1:
            yield index
