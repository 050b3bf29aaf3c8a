"""Adam in one fused kernel, with clipping, skipping and averaging folded in: no reading back, no extra pass."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import accumulate, pairwise
from typing import Any

import torch
from torch import Tensor, nn

from ..model.spec import Train
from .team import ALONE, Team

BETA1, EPS = 0.9, 1e-8
# Gradients are averaged over this many steps to know what a usual one is.
NORM_RATE = 0.02
# Steps between two updates of the averaged weights: neighbours differ little, and each update reads all weights.
EMA_EVERY = 4


class Optimiser:
    """Adam (Kingma & Ba 2015) over a model's weights. `skipped` counts steps whose gradient was not finite.

    All weights lie in one flat tensor, of which the model's parameters become views; so do their gradients, moments
    and averages. A step is then a handful of operations, whatever the number of layers.

    It calls the kernel of `torch.optim.Adam(fused=True)` itself (equal results, tested): the class around it costs a
    third of a millisecond a step, and at the first one 1.4 s of imports, as much as a small table's whole fit.
    """

    def __init__(
        self,
        model: nn.Module,
        config: Train,
        team: Team = ALONE,
        factor: Callable[[str], float] = lambda name: 1.0,
    ) -> None:
        """factor: on the rate of each parameter that is no learned scale, by its name."""
        self.config, self.team = config, team
        # By (scales last, those without decay after the others, factor on the rate): a stretch of the flat tensor each.
        groups: dict[tuple[bool, bool, float], list[nn.Parameter]] = {}
        for name, p in model.named_parameters():
            if p.requires_grad:
                scale = _is_scale(name)
                decays = not scale and config.weight_decay > 0 and _decays(name, p)
                key = (scale, not decays, config.scale_lr if scale else factor(name))
                groups.setdefault(key, []).append(p)
        keys = sorted(groups)
        self.parameters = [p for key in keys for p in groups[key]]
        # Of a sharded model this process's share, which torch holds in tensors of its own: they get copies.
        self.shards = [_local(p).detach() for p in self.parameters] if team.sharding == "full" else None
        own = [p.detach() for p in self.shards or self.parameters]
        self.sizes = [p.shape for p in own]
        self.weights = torch.cat([p.flatten() for p in own])
        device = self.weights.device
        self.gradient, self.first, self.second = (torch.zeros_like(self.weights) for _ in range(3))
        # (from, to, factor on the rate, decay) of each stretch. Learned scales follow the residuals, which shrink
        # tenfold in a run: they need a rate of their own.
        at = [0, *accumulate(len(groups[key]) for key in keys)]
        ends = [0, *accumulate(p.numel() for p in own)]
        stretches = [(ends[a], ends[b]) for a, b in pairwise(at)]
        self.parts = [
            (start, end, rate_factor, 0.0 if scale or free else config.weight_decay)
            for (start, end), (scale, free, rate_factor) in zip(stretches, keys, strict=True)
            if start < end
        ]
        self.count, self.usual, self.skipped = (torch.zeros((), device=device) for _ in range(3))
        self.average = self.weights.clone() if config.ema else None
        self.best: Tensor | None = None
        self.steps = 0
        # A factor on the rate: a run that had to be rolled back goes on in smaller steps.
        self.slower = 1.0
        self.slots = self._views(self.gradient)
        self._point(self.weights)
        if self.shards is None:
            for p, slot in zip(self.parameters, self.slots, strict=True):
                p.grad = slot

    def collect(self) -> Tensor:
        """All gradients as one flat tensor; a parameter without one counts as 0."""
        strange = [(slot, p.grad) for p, slot in zip(self.parameters, self.slots, strict=True) if p.grad is not slot]
        for slot, grad in strange:
            if grad is None:
                slot.zero_()
        found = [(slot, grad if self.shards is None else _local(grad)) for slot, grad in strange if grad is not None]
        if found:
            # In one call: on a GPU a copy takes less time than its start.
            torch._foreach_copy_([slot for slot, _ in found], [grad for _, grad in found])
        return self.gradient

    @torch.no_grad()
    def step(self, done: float) -> Tensor:
        """One update of the weights, by the gradients in `p.grad`, at share `done` of the run. Returns 1.0 if it was
        made, 0.0 if it was skipped.
        """
        gradient = self.collect()
        norm = torch.linalg.vector_norm(gradient)
        if self.shards is not None:
            norm = self.team.total(norm.square()).sqrt()
        finite = norm.isfinite().float()
        # The fused kernel divides by grad_scale and leaves everything as it was where found_inf is 1: clipping and
        # skipping cost no pass of their own, and nothing waits for the device.
        limit = self.config.clip * self.usual if self.steps else norm
        clipped = (norm / limit).clamp_(min=1.0).nan_to_num_(1.0)
        # On the CPU nothing is to be waited for: a division by 1 would write the whole gradient anew.
        scale = None if clipped.device.type == "cpu" and clipped == 1.0 else clipped
        self.count += finite
        rate_now = self.slower * self.config.lr * rate(done, self.config.lr_warmup)
        for start, end, factor, decay in self.parts:
            torch._fused_adamw_(
                [self.weights[start:end]],
                [gradient[start:end]],
                [self.first[start:end]],
                [self.second[start:end]],
                [],
                [self.count],
                lr=rate_now * factor,
                beta1=BETA1,
                beta2=self.config.beta2,
                weight_decay=decay,
                eps=EPS,
                amsgrad=False,
                maximize=False,
                grad_scale=scale,
                found_inf=1.0 - finite,
            )
        seen = torch.where(finite > 0, torch.minimum(norm, limit), self.usual)
        self.usual.lerp_(seen, NORM_RATE if self.steps else 1.0)
        self.skipped += 1 - finite
        self.steps += 1
        if self.average is not None and self.steps % EMA_EVERY == 0:
            # Warmed up: the average of a short run is not made of its first weights.
            decay = min(self.config.ema, (1 + self.steps) / (10 + self.steps)) ** EMA_EVERY
            self.average.lerp_(self.weights, 1 - decay)
        if self.shards is not None:
            self._point(self.weights)
        return finite

    @torch.no_grad()
    def begin_again(self, weights: Tensor, slower: float) -> None:
        """From these weights, without momentum, in steps `slower` times the usual ones."""
        self.weights.copy_(weights)
        for moment in (self.first, self.second, self.count):
            moment.zero_()
        if self.average is not None:
            self.average.copy_(weights)
        self.slower = slower
        self._point(self.weights)

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """The model with its averaged weights."""
        self._point(self.weights if self.average is None else self.average)
        try:
            yield
        finally:
            self._point(self.weights)

    def keep(self) -> None:
        """Remember the averaged weights as the best so far."""
        source = self.weights if self.average is None else self.average
        self.best = source.clone() if self.best is None else self.best.copy_(source)

    def finish(self) -> None:
        """Leave the best averaged weights in the model; the last ones, where nothing was held out."""
        last = self.weights if self.average is None else self.average
        self._point(last if self.best is None else self.best)
        if self.shards is not None:
            return
        for p in self.parameters:
            # Tensors of their own again: a saved or copied layer must not carry all others with it.
            p.data, p.grad = p.data.clone(), None

    def state(self) -> dict[str, Tensor]:
        """Everything that later steps depend on, by name: copies, of the flat tensors and of single numbers."""
        names = ["weights", "first", "second", "count", "usual", "skipped", "average", "best"]
        found = {n: t.clone() for n in names if (t := getattr(self, n)) is not None}
        return found | {"numbers": torch.tensor([self.steps, self.slower], dtype=torch.float64)}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Go on from what `state` gave, bit for bit."""
        missing = self.state().keys() - state.keys() - {"best"}
        if missing:
            raise KeyError(f"the checkpoint lacks {', '.join(sorted(missing))}")
        self.best = state["best"].to(self.weights.device, copy=True) if "best" in state else None
        for name in state.keys() - {"best", "numbers"}:
            getattr(self, name).copy_(state[name])
        self.steps, self.slower = int(state["numbers"][0]), float(state["numbers"][1])
        self._point(self.weights)

    def _views(self, flat: Tensor) -> list[Tensor]:
        pieces = flat.split([size.numel() for size in self.sizes])
        return [piece.view(size) for piece, size in zip(pieces, self.sizes, strict=True)]

    def _point(self, flat: Tensor) -> None:
        """Make the parameters views of `flat`; shards, copies."""
        if self.shards is not None:
            torch._foreach_copy_(self.shards, self._views(flat))
            return
        for p, view in zip(self.parameters, self._views(flat), strict=True):
            p.data = view


def _is_scale(name: str) -> bool:
    """Whether a parameter of this name is a learned scale of p(x|z), or a place or a width of p(z|c), which follow the
    codes as scales follow the residuals; a likelihood may have nets too.
    """
    scale = name.startswith("likelihood.") and name.endswith(("log_scale", "log_dispersion"))
    return scale or name.startswith("moves.")


def _decays(name: str, parameter: Tensor) -> bool:
    """Whether it is a matrix or a kernel of a net; biases, offsets, codebooks and a prior's own rows stay free."""
    return parameter.ndim >= 2 and any(piece in ("weight", "weights") for piece in name.split(".")[-2:])


def _local(tensor: Any) -> Tensor:
    """This process's share of a sharded tensor: its own memory, not a copy."""
    return tensor.to_local()


def rate(done: float, warmup: float) -> float:
    """The factor on the learning rate: up along a line, then down along a cosine to a hundredth."""
    if done < warmup:
        return (done + 1e-3) / (warmup + 1e-3)
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * (done - warmup) / (1 - warmup)))
