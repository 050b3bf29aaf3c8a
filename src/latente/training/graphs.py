"""CUDA graphs: a step's forward and backward recorded once and played again, for models so small that starting the
operations one by one takes longer than they do.

A recording holds its numbers fast: the factor on the KL of a warm-up would stay as it was, and the number of draws. So
there is one for each value of the objective's `ramp` and `draws`, and a run's progress is rounded while they rise.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ..model.batch import Batch

# Weights above which a step's operations are long enough to hide the cost of starting them. Convolutions of 8 million
# are not yet so.
SMALL = 30_000_000
# Values that the progress takes while a warm-up lasts: each costs a recording of some milliseconds.
STEPS = 64
# What an objective may have that depends on the progress.
HELD = ("ramp", "draws")
# Passes before a recording: libraries choose their kernels and take their memory in the first ones.
WARM = 3

Forward = Callable[[Batch], dict[str, Tensor]]


class Graphs:
    """Plays forward and backward for batches of `rows` rows; others go the ordinary way."""

    def __init__(self, forward: Forward, objective: Any, weights: list[nn.Parameter], rows: int) -> None:
        self.forward, self.objective, self.weights, self.rows = forward, objective, weights, rows
        self.recorded: tuple[Any, ...] | None = None
        self.batch: Batch | None = None

    def fits(self, batch: Batch) -> bool:
        """Whether a recording can be of this batch: of the whole size, and with gaps if the first one had some."""
        same = self.batch is None or (self.batch.observed is None) == (batch.observed is None)
        return len(batch) == self.rows and same and batch.context is None

    def progress(self, done: float) -> float:
        """The share of the run as a recording knows it."""
        return min(1.0, round(done * STEPS) / STEPS)

    def __call__(self, batch: Batch, progress: float, noise: torch.Generator) -> dict[str, Tensor]:
        """Terms of the loss, with the gradients in `p.grad`."""
        if self.batch is None:
            self.batch = Batch(batch.x.clone(), None if batch.observed is None else batch.observed.clone())
        self.batch.x.copy_(batch.x)
        if self.batch.observed is not None and batch.observed is not None:
            self.batch.observed.copy_(batch.observed)
        held = [getattr(self.objective, name)(progress) for name in HELD if hasattr(self.objective, name)]
        if self.recorded is None or self.recorded[0] != held:
            self.recorded = (held, *self._record(noise))
        _, graph, terms, gradients = self.recorded
        graph.replay()
        for p, g in zip(self.weights, gradients, strict=True):
            p.grad = g
        return terms

    def _record(self, noise: torch.Generator) -> tuple[Any, dict[str, Tensor], list[Tensor | None]]:
        assert self.batch is not None
        # Practice must leave no trace: neither in the draws nor in running statistics.
        state = noise.get_state()
        buffers = [b for m in [self.forward] if isinstance(m, nn.Module) for b in m.buffers()]
        before = [b.clone() for b in buffers]
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(WARM):
                self._pass()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        graph.register_generator_state(noise)
        for p in self.weights:
            p.grad = None
        with torch.cuda.graph(graph):
            terms = self._pass()
        for buffer, value in zip(buffers, before, strict=True):
            buffer.copy_(value)
        noise.set_state(state)
        return graph, terms, [p.grad for p in self.weights]

    def _pass(self) -> dict[str, Tensor]:
        assert self.batch is not None
        for p in self.weights:
            p.grad = None
        terms = self.forward(self.batch)
        terms["loss"].backward()
        return {name: value.detach() for name, value in terms.items()}
