"""Tuning: a net that says something of each row, trained on rows of which it is known.

rows with targets ──corrupt──▶ encoder (pretrained, or not) ──dropout──▶ head ──▶ cross-entropy or squared error
                                      ▲ slower the deeper                        └─▶ fused AdamW ──▶ averaged weights
"""

import math
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..kinds.base import Kind
from ..model.batch import Batch, parts_of
from ..model.model import Corruption
from ..model.nets.layers import Stack
from ..model.spec import Train, seeded
from ..parts import require
from .feed import batches, order
from .optimiser import Optimiser
from .precision import kernels_of, threads_for

# Looks at held-out rows in a run that may end early.
LOOKS = 40
# Added to a feature's deviation where features are standardised: one that hardly varies must not be made loud.
FLOOR = 0.01
# Rows that go through a net together, at the least, when it is used.
LEAST = 16

Loss = Callable[[Tensor, Tensor], Tensor]  # outputs [b, k], targets [b, …] -> [b]


@dataclass(frozen=True)
class Tuning:
    """How a net is tuned. The plan of steps is of MNIST: 1,000 for 100 labels, 2,000 for 1,000, 4,000 for 10,000,
    two thirds of those of our trials.

    steps: None is `first` for 100 rows, and grows with their number to the power `growth`. lr, batch_size,
    weight_decay, ema: see `Train`. lowest: the rate of the encoder's first layer over that of the head, those between
    in equal ratios. pull: of the squared distance from the weights with which tuning begins, in the loss (L2-SP, Li et
    al. 2018, arXiv:1802.01483). dropout: share of what each layer gives that is left out. unfreeze: "all" layers are
    trained, the upper half ("partial"), or the "head" alone. smoothing: share of a label that is spread over all
    classes. patience: of `LOOKS` looks at held-out rows, how many without a better one end the run.
    """

    steps: int | None = None
    first: int = 1_000
    growth: float = 0.3
    lr: float = 1e-3
    batch_size: int = 128
    weight_decay: float = 0.05
    pull: float = 0.0
    ema: float = 0.999
    lowest: float = 1.0
    dropout: float = 0.5
    smoothing: float = 0.1
    unfreeze: Literal["all", "partial", "head"] = "all"
    patience: int = 10
    precision: Literal["auto", "float32", "bfloat16"] = "auto"

    role = "training"
    name = "tuning"

    def __post_init__(self) -> None:
        require(self.steps is None or self.steps >= 1, self, "steps", "1 or more")
        require(0 <= self.dropout < 1, self, "dropout", "a share from 0 to below 1")
        require(0 <= self.smoothing < 1, self, "smoothing", "a share from 0 to below 1")
        require(0 < self.lowest <= 1, self, "lowest", "above 0, up to 1")
        require(self.unfreeze in ("all", "partial", "head"), self, "unfreeze", "all, partial or head")
        require(self.patience >= 1, self, "patience", "1 or more")

    def planned(self, rows: int) -> int:
        """The steps of a run on so many rows with targets."""
        return self.steps or max(1, round(self.first * (rows / 100) ** self.growth))

    def train(self, rows: int, seed: int) -> Train:
        """The same, as the optimiser has it."""
        return Train(
            steps=self.planned(rows),
            lr=self.lr,
            batch_size=max(2, min(self.batch_size, rows)),
            weight_decay=self.weight_decay,
            ema=self.ema,
            precision=self.precision,
            # Few rows and steps: nets for labels are tuned where their rows are.
            device="cpu",
            seed=seed,
        )


class Headed(nn.Module):
    """An encoder's features, and a linear head on them that starts at 0: before training all rows are told alike.

    width: of the encoder's features. layers: the head sees what each layer of the encoder's stack gives, standardised
    by `Headed.standardise`, in place of what the last one does.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, encoder: nn.Module, width: int, outputs: int, layers: bool = False) -> None:
        super().__init__()
        self.encoder = encoder
        # Where a stack is all that follows an encoder's features, its layers can be asked one by one.
        stacks = [m for m in encoder.modules() if isinstance(m, Stack)]
        self._stack = (stacks[0],) if layers and len(stacks) == 1 and hasattr(encoder, "features") else ()
        self.stacked = bool(self._stack)
        width = sum(stacks[0].sizes[1:]) if self.stacked else width
        with seeded(0):
            self.head = nn.Linear(width, outputs)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)
        if self.stacked:
            self.register_buffer("mean", torch.zeros(width))
            self.register_buffer("scale", torch.ones(width))
        self.drop = 0.0
        self.generator: torch.Generator | None = None
        for stack in stacks:
            stack.drop = self._dropped
        self._plain = not stacks

    def forward(self, batch: Batch) -> Tensor:
        """What is said of each row. [b, outputs]"""
        return self.head(self.features(batch))

    def features(self, batch: Batch) -> Tensor:
        """What the head sees. [b, width]"""
        if self._stack:
            seen = self.encoder.features(batch).flatten(1)  # type: ignore[operator]
            return (torch.cat([h.float() for h in self._stack[0].each(seen)], -1) - self.mean) / self.scale
        h = self.encoder(batch).float()
        return self._dropped(h) if self._plain else h

    @torch.no_grad()
    def standardise(self, features: Tensor) -> None:
        """Let what the head sees have mean 0 and deviation 1 over the rows of these features. [n, width]"""
        if self.stacked:
            self.mean += features.mean(0) * self.scale
            self.scale *= features.std(0) + FLOOR

    def _dropped(self, h: Tensor) -> Tensor:
        if not self.training or not self.drop:
            return h
        kept = torch.rand(h.shape, generator=self.generator) >= self.drop
        return h * kept / (1 - self.drop)


def tune(
    net: Headed,
    rows: Batch,
    targets: Tensor,
    kind: Kind,
    config: Tuning,
    loss: Loss,
    seed: int,
    *,
    weights: Tensor | None = None,
    corruption: Corruption | None = None,
    continuous: Tensor | None = None,
    held_out: tuple[Batch, Tensor] | None = None,
    passed: Callable[[int], None] = lambda steps: None,
) -> int:
    """Train `net` in place on rows (compact) with targets; the steps taken. It ends with averaged weights: the last
    ones, or those of the best look at rows held out. weights: of each row in the loss.
    """
    train = config.train(len(rows), seed)
    steps = train.steps or 1
    _freeze(net, config.unfreeze)
    generator = torch.Generator().manual_seed(seed)
    optimiser = Optimiser(net, train, factor=_factors(net.encoder, config.lowest))
    choice = kernels_of(net, train)
    low = torch.autocast("cpu", torch.bfloat16) if choice.precision == "bfloat16" else nullcontext()
    best, worse, done, every = math.inf, 0, 0, max(1, steps // LOOKS)
    net.drop, net.generator = config.dropout, generator
    begun = [p.detach().clone() for p in net.parameters() if p.requires_grad] if config.pull else []
    net.train()
    with threads_for(choice):
        while done < steps:
            for index in batches(len(rows), train.batch_size, order(seed, done)):
                batch, wanted = kind.prepare(rows.rows(index), generator), targets[index]
                if corruption is not None and continuous is not None:
                    batch = corruption(batch, continuous, generator)
                with low:
                    found = loss(net(batch).float(), wanted)
                mean = found.mean() if weights is None else (found * weights[index]).sum() / weights[index].sum()
                if config.pull:
                    pairs = zip((p for p in net.parameters() if p.requires_grad), begun, strict=True)
                    mean = mean + config.pull * sum((p - b).square().sum() for p, b in pairs)
                mean.backward()
                optimiser.step(done / steps)
                _forget(optimiser)
                done += 1
                if held_out is not None and done % every == 0:
                    score = _score(net, optimiser, *held_out, kind, loss)
                    worse = 0 if score < best else worse + 1
                    if score < best:
                        best = score
                        optimiser.keep()
                passed(1)
                if done >= steps or worse >= config.patience:
                    break
            if worse >= config.patience:
                break
    optimiser.finish()
    net.drop, net.generator = 0.0, None
    net.requires_grad_(True).eval()
    return done


@torch.no_grad()
def outputs(net: nn.Module, rows: Batch, kind: Kind) -> Tensor:
    """What `net` says of compact rows, some at a time, in float32. [n, k]

    Of a few rows products of matrices are summed in another order than of many: what is said of a row is to depend on
    that as little as can be, so a handful is made up to LEAST.
    """
    net.eval()
    if 0 < len(rows) < LEAST:
        return outputs(net, rows.rows(torch.arange(LEAST) % len(rows)), kind)[: len(rows)]
    return torch.cat([net(kind.prepare(some)).float() for some in parts_of(rows)])


def cross_entropy(smoothing: float) -> Loss:
    """−log of the class's probability, with some of it spread over all classes. Targets: class numbers [b]."""
    return lambda found, wanted: F.cross_entropy(found, wanted, reduction="none", label_smoothing=smoothing)


def squared(found: Tensor, wanted: Tensor) -> Tensor:
    """Half the squared error, summed over targets. [b]"""
    return 0.5 * (found - wanted).square().sum(-1)


def _score(net: Headed, optimiser: Optimiser, rows: Batch, targets: Tensor, kind: Kind, loss: Loss) -> float:
    with optimiser.averaged():
        score = float(loss(outputs(net, rows, kind), targets).mean())
    net.train()
    return score


def _forget(optimiser: Optimiser) -> None:
    """Gradients to 0, where they lie."""
    optimiser.gradient.zero_()


def layers(encoder: nn.Module) -> list[str]:
    """The names of an encoder's modules that have weights of their own, from the input on."""
    return [name for name, m in encoder.named_modules() if list(m.parameters(recurse=False))]


def _factors(encoder: nn.Module, lowest: float) -> Callable[[str], float]:
    found = {f"encoder.{name}".rstrip("."): i for i, name in enumerate(layers(encoder))}
    last = max(1, len(found))

    def factor(name: str) -> float:
        at = found.get(name.rpartition(".")[0])
        return 1.0 if at is None else lowest ** ((last - at) / last)

    return factor


def _freeze(net: Headed, unfreeze: str) -> None:
    names = layers(net.encoder)
    modules: dict[str, Any] = dict(net.encoder.named_modules())
    # What has no matrix, a norm or what stands for gaps, goes with what comes before it.
    deep = [i for i, n in enumerate(names) if any(p.ndim > 1 for p in modules[n].parameters(recurse=False))]
    upper = names[deep[len(deep) // 2] :] if deep else names
    free = {"all": names, "partial": upper, "head": []}[unfreeze]
    for name in names:
        for p in modules[name].parameters(recurse=False):
            p.requires_grad_(name in free)
