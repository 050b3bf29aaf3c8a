"""One batch -> its loss, and the gradients in the weights' `.grad`."""

import inspect
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import ConfigError, ResourceError
from ..kinds.base import Kind
from ..model.batch import Batch
from ..model.model import Loss, Model
from ..model.spec import Train
from . import graphs
from .feed import Portion
from .fused import step_of
from .private import Private
from .team import ALONE, Team

Objective = Callable[[Model, Batch], Any]


class Gradients:
    """Forward and backward. If memory runs out the batch is taken in `parts` whose gradients add up: the same loss, in
    more time. In a team the gradients are those of all processes' rows.
    """

    def __init__(
        self,
        model: Model,
        objective: Objective,
        kind: Kind,
        config: Train,
        team: Team = ALONE,
        onednn: bool = False,
        steps: int | None = None,
        rows: int = 0,
    ) -> None:
        self.model, self.kind, self.team = model, kind, team
        self.inner = _Forward(model, objective)
        self.forward: nn.Module = self.inner
        self.config, self.onednn = config, onednn
        # Running statistics, which each process of a team moves by its own rows.
        heads: list[Any] = [m for m in model.modules() if hasattr(m, "team")]
        for head in heads:
            head.team = (team.rank, team.size)
        owners = (model.likelihood, model.memory, *heads)
        self.running = [b for m in owners for b in m.buffers() if b.is_floating_point()]
        if team.sharding == "full":
            _shard(self.forward, team)
        elif team.size > 1:
            self.forward = _parallel(self.forward)
        if config.compile:
            self.forward = compiled(self.forward)
        # Only now: sharding puts other parameters in the place of the model's.
        self.weights = [p for p in model.parameters() if p.requires_grad]
        on_gpu = next(model.parameters()).is_cuda
        # Layers that add to their weight's gradient where it lies.
        layers: list[Any] = [
            m for m in model.modules() if getattr(m, "in_place", None) is not None and m.weight is not None
        ]
        alone = team.size == 1 and not config.compile and config.dp_epsilon is None and not on_gpu
        for layer in layers:
            layer.in_place = alone
        self.kept = layers if alone else []
        kept = {id(layer.weight) for layer in self.kept}
        self.weights = [p for p in self.weights if id(p) not in kept]
        self.parts = 1
        self.private = None if config.dp_epsilon is None else Private(model, self.inner, config, rows, steps)
        # The layout in which a GPU's convolutions are fastest.
        self.channels_last = on_gpu and any(isinstance(m, nn.Conv2d) for m in model.modules())
        small = sum(p.numel() for p in self.weights) < graphs.SMALL
        self.recorded = on_gpu and small and team.size == 1 and not config.compile
        self.change(objective)

    def change(self, objective: Objective) -> None:
        """Go on with another objective: what knows the old one is made anew."""
        self.inner.objective = objective
        # Engines for many processes listen to autograd.
        alone = self.team.size == 1 and not self.config.compile and self.private is None
        self.written_out = step_of(self.model, objective, self.onednn) if alone else None
        self.graphs: graphs.Graphs | None = None
        # A recording would hold fast what an objective remembers from step to step, and which entries a code took.
        model = self.model
        eager = any(getattr(m, "eager", False) for m in model.modules()) or any(True for _ in model.memory.buffers())
        if self.recorded and not eager:
            self.graphs = graphs.Graphs(self.forward, objective, self.weights, self.config.batch_size)

    def __call__(self, portion: Portion, noise: torch.Generator) -> dict[str, Tensor]:
        """The loss and its terms, in nats per row, by name. Raises ResourceError if not even two rows fit in memory."""
        while True:
            state = noise.get_state() if self.parts > 1 else None
            try:
                terms = self._attempt(portion, noise)
                self._average(len(portion.batch) / portion.total)
                return terms
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

    def _attempt(self, portion: Portion, noise: torch.Generator) -> dict[str, Tensor]:
        batch = portion.batch
        if self.private is not None:
            return self.private(self.kind.prepare(batch, noise), noise)
        if self.written_out is not None and self.parts == 1:
            found = self.written_out(self.kind.prepare(batch, noise))
            return {"loss": found.total, **found.terms}
        if self.graphs is not None and self.parts == 1 and self.graphs.fits(batch):
            self.model.progress = self.graphs.progress(self.model.progress)
            return self.graphs(self._prepared(batch, noise), self.model.progress, noise)
        for p in self.weights:
            p.grad = None
        for layer in self.kept:
            if layer.weight.grad is None:
                layer.weight.grad = torch.zeros_like(layer.weight)
            layer.clear()
        sums: dict[str, Tensor] = {}
        size = -(-len(batch) // self.parts)
        for start in range(0, len(batch), size):
            part = batch if self.parts == 1 else batch.rows(slice(start, start + size))
            terms = self.forward(self._prepared(part, noise))
            # A team takes the mean of its gradients: of unequal numbers of rows each counts by its own.
            share, weight = len(part) / len(batch), len(part) * self.team.size / portion.total
            (terms["loss"] if weight == 1 else terms["loss"] * weight).backward()
            for name, value in terms.items():
                sums[name] = value.detach() if share == 1 else sums.get(name, 0.0) + share * value.detach()
        return sums

    def _prepared(self, batch: Batch, noise: torch.Generator) -> Batch:
        found = self.kind.prepare(batch, noise)
        return replace(found, x=found.x.contiguous(memory_format=torch.channels_last)) if self.channels_last else found

    @contextmanager
    def whole(self) -> Iterator[None]:
        """A sharded model with all its weights, for a pass beside training."""
        if self.team.sharding == "full":
            self.forward.unshard()  # type: ignore[operator]
        try:
            yield
        finally:
            if self.team.sharding == "full":
                self.forward.reshard()  # type: ignore[operator]

    def _average(self, share: float) -> None:
        """Running statistics as if one process had seen the rows of all; `share` of them are this one's."""
        if self.team.size > 1 and self.running:
            together = self.team.total(torch.cat([b.flatten() for b in self.running]) * share)
            for buffer, mean in zip(self.running, together.split([b.numel() for b in self.running]), strict=True):
                buffer.copy_(mean.reshape(buffer.shape))


class _Forward(nn.Module):
    """Model and objective as one module, as torch's engines for many processes want it."""

    def __init__(self, model: Model, objective: Objective) -> None:
        super().__init__()
        self.model, self.objective = model, objective

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        loss: Loss = self.objective(self.model, batch)
        return {"loss": loss.total, **loss.terms}


def compiled(module: nn.Module) -> Any:
    """The module through torch's compiler. ConfigError where the compiler has none to work with."""
    if not torch.cuda.is_available() and not (shutil.which("g++") or shutil.which("clang++")):
        raise ConfigError(
            "torch's compiler makes C++ on a CPU, and neither g++ nor clang++ is here", hint="leave --compile out"
        )
    return torch.compile(module)


def _shard(module: nn.Module, team: Team) -> None:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    device = next(module.parameters()).device.type
    fully_shard(module, mesh=init_device_mesh(device, (team.size,)))


def _parallel(module: nn.Module) -> nn.Module:
    from torch.nn.parallel import DistributedDataParallel

    known = inspect.signature(DistributedDataParallel).parameters
    # Statistics are averaged, not sent round. The name of the switch changed with torch 2.13.
    switch = "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"
    # A table without gaps leaves the weights of gaps unused.
    options: dict[str, Any] = {"find_unused_parameters": True, switch: False}
    return DistributedDataParallel(module, **options)


def out_of_memory(error: BaseException) -> bool:
    """Whether it is torch's, the GPU's or Python's way to say that memory ran out."""
    kinds = (torch.OutOfMemoryError, MemoryError)
    return isinstance(error, kinds) or "can't allocate memory" in str(error) or "not enough memory" in str(error)
