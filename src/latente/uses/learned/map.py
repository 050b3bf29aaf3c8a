"""A map of codes in a few dimensions on which neighbours stay neighbours, as a net: new rows land on the same map.

codes ──▶ graph of 15 neighbours ──▶ pairs ──▶ net ──▶ points ──▶ near where they are neighbours, apart from all others
                                                 └──▶ net ──▶ codes again (so that a point of the map is a row)
"""

import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...errors import DataError
from ...model.batch import parts_of
from ...model.spec import Train, seeded
from ...parts import part, require
from ...training.feed import evenly
from ...training.optimiser import Optimiser
from ...training.progress import Passed
from .base import Learned

if TYPE_CHECKING:
    from ...estimator import Autoencoder
    from ...training.feed import Feed

# Rows whose neighbours are looked for, at the most: the cost is their number squared. 60,000 take 12 CPU seconds.
MOST = 60_000
# Fewer rows have no neighbourhoods.
FEWEST = 5
# Neighbours of a row.
NEIGHBOURS = 15
# Rows in a block of the search; candidates of which the nearest is looked at first.
BLOCK, GROUP = 1024, 64
# Rows of the pairs of a step that are reconstructed: a quarter is as good, and costs a third less.
DECODED = 4
WIDTH = 256


@part("use", "map")
@dataclass(frozen=True)
class Map:
    """A map of the codes in `dim` dimensions.

    rows: neighbours and pairs are of so many rows at the most. reconstruct: weight of giving the code back from its
    point. steps: None is 20 √rows, from 500 to 5,000. noise: of what the net sees, in units of the distance to
    neighbours, where rows are 1,500; less where they are more, and lie closer. share: of a time limit.

    Pairs of neighbours are drawn by UMAP's weights (McInnes et al. 2018, arXiv:1802.03426, sec. 3.1); the loss is
    InfoNCE with a Cauchy kernel, the rest of the batch being what a pair is told from (Damrich et al. 2023,
    arXiv:2206.01816). Rate, decay and noise were chosen on digits and MNIST held out from training.
    """

    dim: int = 2
    rows: int = MOST
    reconstruct: float = 1.0
    steps: int | None = None
    noise: float = 0.7
    share: float = 0.5
    slow = True

    def __post_init__(self) -> None:
        require(1 <= self.dim <= 64, self, "dim", "from 1 to 64")
        require(self.rows >= FEWEST, self, "rows", f"{FEWEST} or more")
        require(self.reconstruct >= 0, self, "reconstruct", "0 or more")
        require(self.steps is None or self.steps >= 1, self, "steps", "1 or more")
        require(self.noise >= 0, self, "noise", "0 or more")
        require(0 < self.share < 1, self, "share", "a share between 0 and 1")

    def learn(self, ae: "Autoencoder", feed: "Feed", seed: int, raw: Any = None, report: Any = None) -> "Mapped":
        """From the codes of the rows that the model was fitted on. Raises DataError for a handful of rows."""
        rows = feed.whole(self.rows)
        limit = ae.spec_.train.time_limit
        return self.drawn(codes_of(ae, rows), seed, None if limit is None else self.share * limit)

    def drawn(self, codes: np.ndarray, seed: int, seconds: float | None = None, quiet: bool = True) -> "Mapped":
        """The map of these codes. [n, k]"""
        if len(codes) < FEWEST:
            raise DataError(f"{len(codes)} rows have no neighbourhoods to keep", hint="give more rows")
        mean = codes.mean(0)
        scale = max(float(np.sqrt(np.square(codes - mean).mean())), 1e-6)
        x = torch.from_numpy(((codes - mean) / scale).astype(np.float32))
        made = _Net(codes.shape[1], self.dim, seed)
        _train(made, x, self, seed, seconds, quiet)
        return Mapped(self, made.eval(), mean.astype(np.float32), scale)

    def restore(self, ae: "Autoencoder", document: dict[str, Any], tensors: dict[str, np.ndarray]) -> "Mapped":
        """The map of a model file."""
        if set(document) != {"scale"} or type(document["scale"]) is not float:
            raise ValueError("where its map begins is not said")
        net, mean, scale = _Net(ae.model_.dim, self.dim, 0), tensors["mean"], document["scale"]
        own = {n: t for n, t in tensors.items() if n != "mean"}
        if {n: t.shape for n, t in own.items()} != {n: tuple(t.shape) for n, t in net.state_dict().items()}:
            raise ValueError("its map's weights are not those of its codes and dimensions")
        if mean.shape != (ae.model_.dim,) or not 1e-6 <= scale <= 1e30:
            raise ValueError("where its map begins is not said")
        if not all(np.isfinite(t).all() and np.abs(t).max(initial=0) < 1e30 for t in tensors.values()):
            raise ValueError("its map holds what is no number")
        net.load_state_dict({n: torch.from_numpy(t.copy()) for n, t in own.items()})
        return Mapped(self, net.eval(), mean, scale)


@dataclass(frozen=True, eq=False)
class Mapped(Learned):
    """A fitted map."""

    use: Map
    net: "_Net"
    mean: np.ndarray
    scale: float

    @property
    def dim(self) -> int:
        """Its dimensions."""
        return self.use.dim

    @property
    def document(self) -> dict[str, Any]:
        return {"scale": self.scale}

    @property
    def tensors(self) -> dict[str, np.ndarray]:
        return {"mean": self.mean} | {n: t.numpy() for n, t in self.net.state_dict().items()}

    @torch.no_grad()
    def place(self, codes: np.ndarray) -> np.ndarray:
        """Where rows with these codes [n, k] lie. float32 [n, dim]"""
        x = torch.from_numpy(((codes - self.mean) / self.scale).astype(np.float32, copy=False))
        return torch.cat([self.net.down(part) for part in x.split(2 * BLOCK)]).numpy()

    @torch.no_grad()
    def back(self, points: np.ndarray) -> np.ndarray:
        """The codes of points [n, dim] of the map, for `decode`. float32 [n, k]"""
        z = torch.from_numpy(np.ascontiguousarray(points, np.float32))
        return torch.cat([self.net.up(part) for part in z.split(2 * BLOCK)]).numpy() * self.scale + self.mean


def learned_on(ae: "Autoencoder", data: Any, dim: int, seed: int, quiet: bool = True) -> Mapped:
    """A map for a model that is fitted already, of these rows."""
    codes = ae.transform(data)
    return Map(dim=dim).drawn(codes[evenly(len(codes), MOST)], seed, quiet=quiet)


@torch.no_grad()
def codes_of(ae: "Autoencoder", rows: Any) -> np.ndarray:
    """The codes of compact rows. [n, k]"""
    prepared = (ae.schema_.prepare(some) for some in parts_of(rows.to("cpu")))
    return torch.cat([ae.model_.encode(some).mean for some in prepared]).numpy()


class _Net(nn.Module):
    """Codes [n, k] down to the map, and up again."""

    def __init__(self, k: int, dim: int, seed: int) -> None:
        super().__init__()
        with seeded(seed):
            self.down, self.up = _layers(k, dim), _layers(dim, k)


def _layers(a: int, b: int) -> nn.Sequential:
    first, second = (nn.Sequential(nn.Linear(w, WIDTH), nn.LayerNorm(WIDTH), nn.SiLU()) for w in (a, WIDTH))
    return nn.Sequential(first, second, nn.Linear(WIDTH, b))


def neighbours(x: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The `k` nearest other rows of each: their numbers and distances, nearest first. [n, k]

    Exact: the k nearest lie in those k groups of candidates whose nearest members are nearest.
    """
    n = len(x)
    lacking = -n % GROUP
    square = x.square().sum(1)
    # Rows that fill up the last group lie nowhere.
    others, lengths = F.pad(x, (0, 0, 0, lacking)), F.pad(square, (0, lacking), value=math.inf)
    found, distances = [], []
    for start in range(0, n, BLOCK):
        own = x[start : start + BLOCK]
        away = torch.addmm(lengths, own, others.t(), alpha=-2.0)
        away[torch.arange(len(own)), torch.arange(start, start + len(own))] = math.inf
        grouped = away.view(len(own), -1, GROUP)
        best = grouped.amin(2).topk(min(k, grouped.shape[1]), largest=False).indices
        near = grouped.gather(1, best[:, :, None].expand(-1, -1, GROUP)).flatten(1)
        value, place = near.topk(k, largest=False)
        found.append(best.gather(1, place // GROUP) * GROUP + place % GROUP)
        distances.append((value + square[start : start + len(own), None]).clamp_min(0).sqrt())
    return torch.cat(found), torch.cat(distances)


def weights(distances: Tensor) -> Tensor:
    """How much each neighbour counts: exp(−(d − d₁) / σ), σ such that a row's weights sum to log₂ k. [n, k]"""
    beyond = distances - distances[:, :1]
    wanted = math.log2(max(2, distances.shape[1]))
    low = torch.zeros(len(distances), 1)
    high = (20 * beyond.mean(1, keepdim=True)).clamp_min(1e-6)
    for _ in range(40):
        middle = (low + high) / 2
        over = (-beyond / middle.clamp_min(1e-12)).exp().sum(1, keepdim=True) > wanted
        low, high = torch.where(over, low, middle), torch.where(over, middle, high)
    return (-beyond / ((low + high) / 2).clamp_min(1e-12)).exp()


class _Apart(torch.autograd.Function):
    """Mean over points of log Σ 1 / (1 + d²) to all others, with its gradient in closed form: one product of matrices
    in place of autograd's six passes over all pairs.
    """

    @staticmethod
    def forward(ctx: Any, z: Tensor) -> Tensor:
        square = z.square().sum(1)
        kernel = (1 + torch.addmm(square[None] + square[:, None], z, z.t(), alpha=-2.0).clamp_min_(0)).reciprocal_()
        kernel.fill_diagonal_(0)
        sums = kernel.sum(1)
        ctx.save_for_backward(z, kernel, sums)
        return sums.log().mean()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        z, kernel, sums = ctx.saved_tensors
        a = (1 / (len(z) * sums))[:, None]
        # −2 Σ_j q²_ij (a_i + a_j) (z_i − z_j)
        s = kernel.square() @ torch.cat([z, torch.ones_like(a), a, a * z], 1)
        d = z.shape[1]
        pulled = a * (s[:, d : d + 1] * z - s[:, :d]) + s[:, d + 1 : d + 2] * z - s[:, d + 2 :]
        return -2 * gradient * pulled


def _train(net: _Net, x: Tensor, use: Map, seed: int, seconds: float | None, quiet: bool) -> None:
    n, k = len(x), min(NEIGHBOURS, len(x) - 1)
    steps = use.steps or int(min(5000, max(500, 20 * math.sqrt(n))))
    pairs = min(n, 512 if n < 10_000 else 1024)
    train = Train(steps=steps, lr=1e-2, beta2=0.99, weight_decay=0.3, ema=0.99, clip=1e3)
    start, passed = time.perf_counter(), Passed(steps, quiet, what="steps of the map")
    near, distances = neighbours(x, k)
    chosen = weights(distances)
    few = slice(None, None, max(1, n // 2000))
    apart = (x[near[few]] - x[few, None]).square().mean((0, 1)).sqrt()  # from neighbours, column by column
    noise = use.noise * min(1.0, (1500 / n) ** 0.25) * apart
    generator = torch.Generator().manual_seed(seed)
    optimiser, order, at, step, done = Optimiser(net, train), torch.arange(0), 0, 0, 0.0
    net.train()
    while step < steps and done < 1:
        if at + pairs > len(order):
            order, at = torch.randperm(n, generator=generator), 0
        i = order[at : at + pairs]
        at += pairs
        j = near[i, torch.multinomial(chosen[i], 1, generator=generator)[:, 0]]
        seen = _seen(x, torch.cat([i, j]), near, noise, generator)
        z = net.down(seen)
        a, b = z.chunk(2)
        loss = torch.log1p((a - b).square().sum(1)).mean() + _Apart.apply(z)
        if use.reconstruct:
            some = slice(None, None, DECODED)
            loss = loss + use.reconstruct * (net.up(z[some]) - seen[some]).square().mean()
        loss.backward()
        step += 1
        spent = 0.0 if seconds is None else (time.perf_counter() - start) / seconds
        done = max(step / steps, spent)
        optimiser.step(done)
        optimiser.gradient.zero_()
        passed(1)
    optimiser.finish()


def _seen(x: Tensor, index: Tensor, near: Tensor, noise: Tensor, generator: torch.Generator) -> Tensor:
    """Rows on their way to a neighbour, and with noise: new rows lie between, and the map is to be smooth there."""
    rows = x[index]
    other = near[index, torch.randint(near.shape[1], (len(index),), generator=generator)]
    way = 0.5 * torch.rand((len(index), 1), generator=generator)
    return torch.lerp(rows, x[other], way) + noise * torch.randn(rows.shape, generator=generator)
