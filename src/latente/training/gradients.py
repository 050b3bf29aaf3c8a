"""One batch -> its loss, and the gradients in the weights' `.grad`."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..errors import ResourceError
from ..kinds.base import Kind
from ..model.batch import Batch
from ..model.model import Loss, Model
from .feed import Portion
from .team import ALONE, Team

Objective = Callable[[Model, Batch], Any]


class Gradients:
    """Forward and backward. If memory runs out the batch is taken in `parts` whose gradients add up: the same loss, in
    more time. In a team the gradients are those of all processes' rows.
    """

    def __init__(self, model: Model, objective: Objective, kind: Kind, team: Team = ALONE) -> None:
        self.model, self.kind, self.team = model, kind, team
        self.weights = [p for p in model.parameters() if p.requires_grad]
        self.objective = objective
        self.parts = 1

    def __call__(self, portion: Portion, noise: torch.Generator) -> dict[str, Tensor]:
        """The loss and its terms, in nats per row, by name. Raises ResourceError if not even two rows fit in memory."""
        while True:
            state = noise.get_state() if self.parts > 1 else None
            try:
                return self._attempt(portion.batch, noise)
            except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
                if not out_of_memory(error):
                    raise
                if self.team.size > 1 or self.parts * 4 > len(portion.batch):
                    raise ResourceError(
                        f"memory ran out in a step of {len(portion.batch) // self.parts} rows",
                        hint="a smaller net, or --set train.batch_size=32",
                    ) from error
                self.parts *= 2
                if state is not None:
                    noise.set_state(state)
                if torch.cuda.is_available():
                    torch.cuda.empty_cache()

    def _attempt(self, batch: Batch, noise: torch.Generator) -> dict[str, Tensor]:
        for p in self.weights:
            p.grad = None
        sums: dict[str, Tensor] = {}
        size = -(-len(batch) // self.parts)
        for start in range(0, len(batch), size):
            part = batch if self.parts == 1 else batch.rows(slice(start, start + size))
            loss: Loss = self.objective(self.model, self.kind.prepare(part, noise))
            share = len(part) / len(batch)
            (loss.total if share == 1 else loss.total * share).backward()
            for name, value in {"loss": loss.total, **loss.terms}.items():
                sums[name] = value.detach() if share == 1 else sums.get(name, 0.0) + share * value.detach()
        return sums


def out_of_memory(error: BaseException) -> bool:
    """Whether it is torch's, the GPU's or Python's way to say that memory ran out."""
    kinds = (torch.OutOfMemoryError, MemoryError)
    return isinstance(error, kinds) or "can't allocate memory" in str(error) or "not enough memory" in str(error)
