"""Adam in one fused kernel, with clipping, skipping and averaging folded in: no reading back, no extra pass."""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from ..model.spec import Train

BETAS, EPS = (0.9, 0.999), 1e-8
# Gradients are averaged over this many steps to know what a usual one is.
NORM_RATE = 0.02
# Steps between two updates of the averaged weights: neighbours differ little, and each update reads all weights.
EMA_EVERY = 4


class Optimiser:
    """Adam (Kingma & Ba 2015) over a model's weights. `skipped` counts steps whose gradient was not finite.

    It calls the kernel of `torch.optim.Adam(fused=True)` itself (equal results, tested): the class around it costs a
    third of a millisecond a step, and at the first one 1.4 s of imports, as much as a small table's whole fit.
    """

    def __init__(self, model: nn.Module, config: Train) -> None:
        self.config = config
        named = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
        self.weights: list[Tensor] = [p for _, p in named]
        # Learned scales follow the residuals, which shrink tenfold in a run: they need a rate of their own.
        self.factors = [config.scale_lr if n.startswith("likelihood.") else 1.0 for n, _ in named]
        device = self.weights[0].device
        self.first = [torch.zeros_like(p) for p in self.weights]
        self.second = [torch.zeros_like(p) for p in self.weights]
        self.count, self.usual, self.skipped = (torch.zeros((), device=device) for _ in range(3))
        self.average = [p.detach().clone() for p in self.weights] if config.ema else []
        self.best: list[Tensor] | None = None
        self.steps = 0
        # A factor on the rate: a run that had to be rolled back goes on in smaller steps.
        self.slower = 1.0

    @torch.no_grad()
    def step(self, done: float) -> Tensor:
        """One update of the weights by their gradients, at share `done` of the run. Returns 1.0 if it was made, 0.0 if
        it was skipped.
        """
        used = [i for i, p in enumerate(self.weights) if p.grad is not None]
        gradients = [g for g in (self.weights[i].grad for i in used) if g is not None]
        norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
        finite = norm.isfinite().float()
        # The fused kernel divides by grad_scale and leaves everything as it was where found_inf is 1: clipping and
        # skipping cost no pass of their own, and nothing waits for the device.
        limit = self.config.clip * self.usual if self.steps else norm
        clipped = (norm / limit).clamp_(min=1.0).nan_to_num_(1.0)
        self.count += finite
        rate_now = self.slower * self.config.lr * rate(done, self.config.lr_warmup)
        for factor in sorted(set(self.factors)):
            group = [j for j, i in enumerate(used) if self.factors[i] == factor]
            chosen = [used[j] for j in group]
            torch._fused_adam_(
                [self.weights[i] for i in chosen],
                [gradients[j] for j in group],
                [self.first[i] for i in chosen],
                [self.second[i] for i in chosen],
                [],
                [self.count] * len(chosen),
                lr=rate_now * factor,
                beta1=BETAS[0],
                beta2=BETAS[1],
                weight_decay=0.0,
                eps=EPS,
                amsgrad=False,
                maximize=False,
                grad_scale=clipped,
                found_inf=1.0 - finite,
            )
        seen = torch.where(finite > 0, torch.minimum(norm, limit), self.usual)
        self.usual = self.usual.lerp(seen, NORM_RATE if self.steps else 1.0)
        self.skipped += 1 - finite
        self.steps += 1
        if self.average and self.steps % EMA_EVERY == 0:
            # Warmed up: the average of a short run is not made of its first weights.
            decay = min(self.config.ema, (1 + self.steps) / (10 + self.steps)) ** EMA_EVERY
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

    def state(self) -> dict[str, Tensor]:
        """Everything that the next steps depend on, by name."""
        groups = {"weights": self.weights, "first": self.first, "second": self.second, "average": self.average}
        groups |= {"best": self.best or []}
        found = {f"{name}.{i}": t.detach() for name, group in groups.items() for i, t in enumerate(group)}
        numbers = torch.tensor([self.steps, self.slower], dtype=torch.float64)
        return found | {"count": self.count, "usual": self.usual, "skipped": self.skipped, "numbers": numbers}

    @torch.no_grad()
    def restore(self, state: dict[str, Tensor]) -> None:
        """Go back to a `state`, bit for bit."""
        if "best.0" in state:
            self.keep()
        else:
            self.best = None
        own = self.state()
        for name, saved in state.items():
            own[name].copy_(saved)
        self.steps, self.slower = int(state["numbers"][0]), float(state["numbers"][1])

    def _exchange(self) -> None:
        for i, p in enumerate(self.weights[: len(self.average)]):
            p.data, self.average[i] = self.average[i], p.data


def rate(done: float, warmup: float) -> float:
    """The factor on the learning rate: up along a line, then down along a cosine to a hundredth."""
    if done < warmup:
        return (done + 1e-3) / (warmup + 1e-3)
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * (done - warmup) / (1 - warmup)))
