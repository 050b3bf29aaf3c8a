"""Learning the coders of pictures: what is looked at, the tree, its tables."""

import math
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...codec.exact import CAP, UNIT, Exact
from ...codec.pictures import (
    INPUTS,
    ORDER,
    Context,
    Drawn,
    DrawnWalk,
    Method,
    Photo,
    PhotoWalk,
    inputs_of_photo,
    place_class,
    positions,
)
from ...codec.tables import Tables, quantised
from ...codec.tree import Tree, grouped, grow

# Rows that a tree grows on; pixels that its tables are counted on; pictures of a walk, so that it stays in the caches.
_GROWN, _COUNTED, _TOGETHER = 6_000_000, 48_000_000, 2_500
# Pictures that forms of photos are found on, of 32×32 pixels; and what draws their weights towards 0.
_FORMS, _AREA, _DRAWN = 6_000, 32 * 32, 2.0
# Strengths with which a leaf's table is drawn towards those above it: tried on held-out pictures.
_STRENGTHS = (4.0, 15.0, 60.0, 250.0, 1_000.0)
_HELD_OUT = 1_500
# A drawn picture's net: widths, passes over its rows, rows, batch, rate; one blank surrounding in so many is kept.
WIDTHS, _PASSES, _ROWS, _BATCH, _RATE, _BLANK = (128, 48), 2.0, 9_000_000, 2_048, 4e-3, 8
# Groups of pixels that a net is asked about; and answers, those about most pixels, that its tree sees.
_GROUPS, _SEEN = 32, 14
# Of drawn pictures so much is paper or ink.
DRAWN_FROM = 0.4


def is_drawn(pixels: np.ndarray) -> bool:
    """Whether pictures [n, h, w, c] are ink on paper: grey, and most of it black or white."""
    return pixels.shape[3] == 1 and float(np.isin(pixels[:: max(1, len(pixels) // 2000)], (0, 255)).mean()) > DRAWN_FROM


def learned(pixels: np.ndarray, seed: int, leaves: int, say: Callable[[str], None]) -> Context:
    """A coder of pictures uint8 [n, h, w, c]."""
    pixels = pixels[np.random.default_rng(seed).permutation(len(pixels))]
    drawn = is_drawn(pixels)
    say("a net for pixels" if drawn else "linear forms of pixels")
    method: Method = _drawn(pixels, seed) if drawn else _photo(pixels)
    say("a tree of contexts")
    return with_tree(method, pixels, None, seed, leaves)


def with_tree(method: Method, pixels: np.ndarray, told: np.ndarray | None, seed: int, leaves: int) -> Context:
    """A coder by a method, from pictures [n, h, w, c] and what is told of them [h, w, n]."""
    n, size = len(pixels), math.prod(pixels.shape[1:])
    shape: tuple[int, int, int] = tuple(pixels.shape[1:])
    held = min(_HELD_OUT, n // 10)
    grown = slice(held, held + max(1, min(n - held, _GROWN // size)))
    counted = slice(held, held + max(1, min(n - held, _COUNTED // size)))
    rows, symbols = zip(*_walked(method, shape, pixels[grown], _part(told, grown)), strict=True)
    tree = grow(np.concatenate(rows, 1), np.concatenate(symbols), leaves)
    del rows, symbols
    counts = _counts(method, shape, tree, pixels[counted], _part(told, counted))
    if not held:
        return Context(shape, method, tree, Tables(quantised(tree.tables(counts, _STRENGTHS[2]))), told is not None)
    test = _counts(method, shape, tree, pixels[:held], _part(told, slice(0, held)))
    made = [Tables(quantised(tree.tables(counts, strength))) for strength in _STRENGTHS]
    best = min(made, key=lambda t: float((test * t.bits).sum()))
    return Context(shape, method, tree, best, told is not None)


def _part(told: np.ndarray | None, which: slice) -> np.ndarray | None:
    return None if told is None else told[:, :, which]


def _walked(
    method: Method, shape: tuple[int, int, int], pixels: np.ndarray, told: np.ndarray | None
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(rows, symbols) of every position, of some pictures at a time."""
    for start in range(0, len(pixels), _TOGETHER):
        part = slice(start, start + _TOGETHER)
        lanes = np.ascontiguousarray(pixels[part].transpose(1, 2, 3, 0)[:, :, list(ORDER[shape[2]])]).astype(np.int16)
        walk = method.walk(shape, lanes.shape[3], _part(told, part))
        for y, x, c in positions(shape):
            rows = walk.rows(y, x, c)
            yield rows, walk.symbol(y, x, c, lanes[y, x, c])[0].astype(np.int16)
            walk.put(y, x, c, lanes[y, x, c])


def _counts(
    method: Method, shape: tuple[int, int, int], tree: Tree, pixels: np.ndarray, told: np.ndarray | None
) -> np.ndarray:
    """How often each symbol is in each leaf. [leaves, symbols]"""
    found = np.zeros(len(tree.leaves) * method.symbols, np.int64)
    for rows, symbols in _walked(method, shape, pixels, told):
        which, count = np.unique(tree.leaf(rows) * method.symbols + symbols, return_counts=True)
        found[which] += count
    return found.reshape(-1, method.symbols)


# ── photos ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def _photo(pixels: np.ndarray) -> Photo:
    """Linear forms by least squares, of each class of positions and channel."""
    h, w, c = pixels.shape[1:]
    few = pixels[: max(50, min(len(pixels), _FORMS * _AREA // (h * w)))]
    lanes = few.transpose(1, 2, 3, 0)[:, :, list(ORDER[c])].astype(np.int16)
    walk = PhotoWalk(None, (h, w, c), len(few), None)
    sums: dict[tuple[int, int, int], list[np.ndarray]] = {}
    walk.fill(lanes)
    for y, x, k in positions((h, w, c)):
        seen, base = walk.inputs(y, x, k)
        rows, off = seen.astype(np.float32), (walk.at(y, x, k) - base).astype(np.float32)
        own = [rows @ rows.T, rows @ off, np.array([len(off), off @ off])]
        key = (place_class(y), place_class(x), k)
        sums[key] = (
            [a + b for a, b in zip(sums[key], own, strict=True)] if key in sums else [a.astype(float) for a in own]
        )
    most = max(inputs_of_photo(k, c) for k in range(c))
    weights, spread = np.zeros((16, 16, c, most), np.int32), np.zeros((16, 16, c), np.int16)
    for (a, b, k), (gram, xy, (count, square)) in sums.items():
        form = np.linalg.solve(gram + np.eye(len(gram)) * count * _DRAWN, xy)
        left = (square - 2 * xy @ form + form @ gram @ form) / count
        weights[a, b, k, : len(form)] = np.rint(form * 4096)
        spread[a, b, k] = round(16 * math.log2(max(left, 0.05)))
    return Photo(weights, spread)


# ── drawn ───────────────────────────────────────────────────────────────────────────────────────────────────────────


class _Net(nn.Module):
    """What is looked at -> questions about the pixel; hidden units are clipped as those of whole numbers are."""

    def __init__(self, h: int, w: int, questions: int) -> None:
        super().__init__()
        self.first = nn.Linear(INPUTS, WIDTHS[0])
        self.row, self.column = (nn.Parameter(torch.zeros(n, WIDTHS[0])) for n in (h, w))
        self.second, self.last = nn.Linear(*WIDTHS), nn.Linear(WIDTHS[1], questions)

    def forward(self, x: Tensor, row: Tensor, column: Tensor) -> Tensor:
        h = (self.first(x) + self.row[row] + self.column[column]).clamp(0, CAP / UNIT)
        return self.last(self.second(h).clamp(0, CAP / UNIT))

    def exact(self) -> Exact:
        """The same in whole numbers: weights in 1,024ths, units in 256ths, questions in 64ths."""
        layers = (self.first, self.second, self.last)
        weights = [np.clip(np.rint(_double(layer.weight) * 1024), -32_768, 32_767).astype(np.int16) for layer in layers]
        weights[2] = weights[2][:_SEEN]
        biases = [np.rint(_double(layer.bias) * 1024 * 256).astype(np.int64) for layer in layers]
        biases[2] = biases[2][:_SEEN]
        places = [np.rint(_double(p) * 1024 * 256).astype(np.int32) for p in (self.row, self.column)]
        return Exact(weights, biases, [10, 10, 12], 255, (places[0], places[1]))


def _double(weight: Tensor) -> np.ndarray:
    return weight.detach().double().numpy()


def _questions(shares: np.ndarray) -> np.ndarray:
    """Groups of pixels told apart by halves of about equal mass. −1, 1, 0 where not asked [questions, groups]"""
    found: list[tuple[float, np.ndarray]] = []

    def halve(a: int, b: int) -> None:
        if b - a < 2:
            return
        mass = np.cumsum(shares[a:b])
        cut = int(np.abs(mass[:-1] - mass[-1] / 2).argmin()) + 1
        row = np.zeros(len(shares))
        row[a : a + cut], row[a + cut : b] = -1, 1
        found.append((float(mass[-1]), row))
        halve(a, a + cut)
        halve(a + cut, b)

    halve(0, len(shares))
    return np.array([row for _, row in sorted(found, key=lambda one: -one[0])])


def _drawn(pixels: np.ndarray, seed: int) -> Drawn:
    """A net that is asked which group a pixel is of, from what is around it; and which pixels there are."""
    h, w, _ = pixels.shape[1:]
    palette = np.unique(pixels)
    palette = palette if len(palette) > 1 else np.array([0, 255], np.uint8)
    groups = grouped(np.bincount(pixels.ravel(), minlength=256)[palette] / pixels.size, _GROUPS)
    group_of = np.zeros(256, np.int64)
    group_of[palette] = groups
    x, place, symbol, weight = _surroundings(pixels, seed)
    group = group_of[symbol]
    shares = np.bincount(group, weights=weight, minlength=int(groups.max()) + 1)
    asked = torch.from_numpy(_questions(shares / shares.sum())).float().t().contiguous()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = _Net(h, w, asked.shape[1])
    _train(net, x, place, torch.from_numpy(group), torch.from_numpy(weight), asked, seed)
    return Drawn(net.exact(), palette)


def _surroundings(pixels: np.ndarray, seed: int) -> tuple[Tensor, Tensor, np.ndarray, np.ndarray]:
    """What is looked at [rows, INPUTS], where, the pixels there, and how many each row stands for: of surroundings that
    are blank only one in 8 is taken.
    """
    rng = np.random.default_rng(seed)
    n, h, w, _ = pixels.shape
    lanes = pixels[..., 0].transpose(1, 2, 0).astype(np.int16)
    walk = DrawnWalk(None, (h, w, 1), n, None)
    rate = min(1.0, _ROWS / max(1, int((lanes > 0).sum()) * 3))
    inputs, places, symbols, weights = [], [], [], []
    for y, x, _ in positions((h, w, 1)):
        blank = np.asarray(~walk.near(y, x).any(0))
        taken = rng.random(n) < np.where(blank, rate / _BLANK, rate)
        which = np.flatnonzero(taken)
        inputs.append(walk.inputs(y, x, which).T.astype(np.uint8))
        places.append(np.full(len(which), y * w + x))
        symbols.append(lanes[y, x, which])
        weights.append(np.where(blank[which], np.float32(_BLANK), np.float32(1)))
        walk.put(y, x, 0, lanes[y, x])
    return (
        torch.from_numpy(np.concatenate(inputs)),
        torch.from_numpy(np.concatenate(places)),
        np.concatenate(symbols),
        np.concatenate(weights),
    )


def _train(net: _Net, x: Tensor, place: Tensor, group: Tensor, weight: Tensor, asked: Tensor, seed: int) -> None:
    steps = max(200, int(_PASSES * len(x) / _BATCH))
    optimiser = torch.optim.Adam(net.parameters(), _RATE, betas=(0.9, 0.99))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, _RATE, total_steps=steps, pct_start=0.1)
    generator = torch.Generator().manual_seed(seed)
    width, mean, order = len(net.column), float(weight.mean()), torch.empty(0, dtype=torch.int64)
    for _ in range(steps):
        if len(order) < min(_BATCH, len(x)):
            order = torch.randperm(len(x), generator=generator)
        batch, order = order[:_BATCH], order[_BATCH:]
        answer = asked[group[batch]]
        z = net(x[batch].float() * (1 / 256), place[batch] // width, place[batch] % width)
        loss = ((F.softplus(-answer * z) * answer.abs()).sum(1) * weight[batch]).mean() / mean
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        schedule.step()
