"""Fused Adam with clipping, skipping and averaging folded in: one pass over the weights, no reading back."""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from ..model.spec import Train

# Gradients are averaged over this many steps to know what a usual one is.
NORM_RATE = 0.02


class Optimiser:
    """Adam over a model's weights. `skipped` counts steps whose gradient was not finite."""

    def __init__(self, model: nn.Module, config: Train) -> None:
        named = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
        scales = [p for n, p in named if n.startswith("likelihood.")]
        others = [p for n, p in named if not n.startswith("likelihood.")]
        groups = [{"params": others, "factor": 1.0}] + ([{"params": scales, "factor": config.scale_lr}] if scales else [])
        self.adam = torch.optim.Adam(groups, lr=config.lr, fused=True)
        self.weights = others + scales
        self.config = config
        device = self.weights[0].device
        self.usual, self.skipped = torch.zeros((), device=device), torch.zeros((), device=device)
        self.average = [p.detach().clone() for p in self.weights] if config.ema else []
        self.best: list[Tensor] | None = None
        self.steps = 0

    def step(self, loss: Tensor, done: float) -> Tensor:
        """One update of the weights at share `done` of the run. Returns 1.0 if it was made, 0.0 if it was skipped."""
        for group in self.adam.param_groups:
            group["lr"] = self.config.lr * group["factor"] * rate(done, self.config.lr_warmup)
        self.adam.zero_grad(set_to_none=True)
        loss.backward()
        norm = nn.utils.get_total_norm([p.grad for p in self.weights if p.grad is not None])
        finite = norm.isfinite().float()
        # The fused kernel divides by grad_scale and leaves everything as it was where found_inf is 1: clipping and
        # skipping cost no pass of their own, and nothing waits for the device.
        limit = self.config.clip * self.usual
        clipped = (norm / limit).clamp(min=1.0) if self.steps else torch.ones_like(norm)
        self.adam.grad_scale, self.adam.found_inf = clipped, 1.0 - finite  # type: ignore[attr-defined]
        self.adam.step()
        weight = NORM_RATE if self.steps else 1.0
        seen = torch.where(finite > 0, torch.minimum(norm, limit) if self.steps else norm, self.usual)
        self.usual = self.usual.lerp(seen, weight)
        self.skipped += 1 - finite
        self.steps += 1
        if self.average:
            # Warmed up: the average of a short run is not made of its first weights.
            decay = min(self.config.ema, (1 + self.steps) / (10 + self.steps))
            torch._foreach_lerp_(self.average, self.weights, 1 - decay)
        return finite

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """The model with its averaged weights."""
        self._exchange()
        try:
            yield
        finally:
            self._exchange()

    def keep(self) -> None:
        """Remember the averaged weights as the best so far."""
        source = self.average or [p.detach() for p in self.weights]
        if self.best is None:
            self.best = [t.clone() for t in source]
        else:
            torch._foreach_copy_(self.best, source)

    def finish(self) -> None:
        """Leave the best averaged weights in the model; the last ones, where nothing was held out."""
        for p, t in zip(self.weights, self.best or self.average, strict=False):
            p.data = t
            p.grad = None

    def _exchange(self) -> None:
        for i, p in enumerate(self.weights[: len(self.average)]):
            p.data, self.average[i] = self.average[i], p.data


def rate(done: float, warmup: float) -> float:
    """The factor on the learning rate: up along a line, then down along a cosine to a hundredth."""
    if done < warmup:
        return (done + 1e-3) / (warmup + 1e-3)
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * (done - warmup) / (1 - warmup)))
