"""Columns of a table, each given those before it, in any order: a chain of residual layers.

code ──decoder──▶ h₀ ──▶ p(column a) ; h₁ = layer_a(h₀, value of a) ──▶ p(column b) ; h₂ = layer_b(h₁, value of b) ──▶ …

Beside the layers runs a plain sum of what the values say, which each column's head reads as it is: what one column says
of another directly is learned at once, however many columns stand between them.

Half of the training batches take the columns in an order drawn anew, so that whatever is known of a row can come first:
the rest is then drawn, scored or filled in given that, without a net of its own. In part of the rows the decoder's word
is left out, so that the same chain also knows p(x) without a code.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...parts import part, require
from .. import noise
from .base import Dist, Likelihood

# Cosines over the order of a numeric column's tokens, and tokens from which on there are some. On Adult a run of ten
# epochs reached 20.75 nats in any order with them, 21.32 without: neighbouring tokens need not be learned apart.
COSINES, FEWEST = 12, 9
# Rows that go through the chain at once where no gradient is wanted: what a cache likes.
ROWS = 2048
# The layers' nonlinearity is the hard swish (Howard et al. 2019, arXiv:1905.02244): on Adult as good as the swish, and
# new rows come 1.5 times as fast.


class State(NamedTuple):
    """What a chain knows so far of each row."""

    h: Tensor  # [n, width], after the layers
    sum: Tensor  # [n, direct]


class Words(nn.Module):
    """A vector for each token of each column; those of a numeric column lie along smooth curves besides."""

    def __init__(self, sizes: tuple[int, ...], numeric: tuple[bool, ...], width: int, spread: float = 0.1) -> None:
        super().__init__()
        self.own = nn.ParameterList([nn.Parameter(spread * torch.randn(k, width)) for k in sizes])
        self.curves = nn.ParameterDict()
        for j, k in enumerate(sizes):
            if numeric[j] and k >= FEWEST:
                many, at = min(COSINES, k // 2), (torch.arange(k) + 0.5) / k
                cosines = torch.cos(math.pi * at[:, None] * torch.arange(1, many + 1))
                self.register_buffer(f"cosines{j}", cosines, persistent=False)
                self.curves[str(j)] = nn.Parameter(spread * torch.randn(many, width))

    def forward(self) -> list[Tensor]:
        """[tokens, width] of each column."""
        return [
            own + self.get_buffer(f"cosines{j}") @ self.curves[str(j)] if str(j) in self.curves else own
            for j, own in enumerate(self.own)
        ]


class _Net(nn.Module):
    """The chain's weights: of each column the tokens' vectors, a layer, and a head."""

    eager = True  # the order of the columns changes from step to step: no recording of one step is another's

    def __init__(
        self,
        sizes: tuple[int, ...],
        numeric: tuple[bool, ...],
        width: int,
        direct: int,
        orders: float,
        keep: float,
        dropout: float,
    ) -> None:
        super().__init__()
        self.sizes, self.numeric, self.width, self.direct = sizes, numeric, width, direct
        self.orders, self.keep, self.dropout = orders, keep, dropout
        self.blank = nn.Parameter(torch.zeros(width + direct))  # h₀ where there is no code
        self.values = Words(sizes, numeric, width + direct)
        self.layers = nn.ModuleList([nn.Linear(width, width) for _ in sizes])
        # Of spreads .02 and .06 the wider gave codes of 16 nats, not 12 (ten epochs of Adult), and as good a chain.
        self.heads = Words(sizes, numeric, width + direct, spread=0.06)
        self.biases = nn.ParameterList([nn.Parameter(torch.zeros(k)) for k in sizes])
        self.generator: torch.Generator | None = None
        self.judged = False
        self.dealt: list[int] | None = None  # the order of the next passes, if it was drawn beforehand

    def tables(self) -> list[tuple[Tensor, Tensor]]:
        """Of each column the vectors of its tokens and the weights of its head, each [tokens, width + direct]."""
        return list(zip(self.values(), self.heads(), strict=True))

    def start(self, h: Tensor) -> State:
        """The state before any column is known, from the decoder's word [n, width + direct]."""
        return State(*h.split([self.width, self.direct], -1))

    def logits(self, at: State, j: int, head: Tensor, mask: Tensor | None = None) -> Tensor:
        """Unnormalised log-probabilities of column j's tokens. [n, tokens]"""
        a = torch.cat([F.hardswish(at.h), at.sum], -1)
        return F.linear(a if mask is None else a * mask, head, self.biases[j])

    def step(self, at: State, j: int, vector: Tensor, mask: Tensor | None = None, known: Tensor | None = None) -> State:
        """The state after column j is known; where it is not (`known` [n] false) as it was."""
        own, direct = vector.split([self.width, self.direct], -1)
        u = at.h + own
        a = F.hardswish(u)
        u = u + self.layers[j](a if mask is None else a * mask[:, : self.width])
        total = at.sum + direct
        if known is None:
            return State(u, total)
        return State(torch.where(known[:, None], u, at.h), torch.where(known[:, None], total, at.sum))

    def score(self, h: Tensor, tokens: Tensor, observed: Tensor | None) -> Tensor:
        """log p of each row's observed tokens, 0 elsewhere. [n, m]

        h [n, width + direct] is the decoder's word, tokens [b, m], n a multiple of b.
        """
        order, mask = list(range(len(self.sizes))), None
        again = len(h) // len(tokens)
        if self.training:
            h, order, mask = self._stirred(h)
        elif self.judged:
            # The share of the rows that training tells their code, spread evenly.
            place = torch.arange(len(h), device=h.device) * self.keep
            h = torch.where((place.floor() != (place + self.keep).floor())[:, None], h, self.blank)
        at, tables = self.start(h), self.tables()
        cells: list[Tensor] = [h] * len(order)
        for turn, j in enumerate(order):
            vectors, head = tables[j]
            token = tokens[:, j].repeat(again) if again > 1 else tokens[:, j]
            known = None if observed is None or self.whole(observed[:, j]) else observed[:, j].repeat(again)
            found = -F.cross_entropy(self.logits(at, j, head, mask), token, reduction="none")
            cells[j] = found if known is None else found.masked_fill(~known, 0.0)
            if turn + 1 < len(order):
                at = self.step(at, j, F.embedding(token, vectors), mask, known)
        return torch.stack(cells, -1)

    def whole(self, observed: Tensor) -> bool:
        """Whether nothing of a column is missing; of rows that go through by themselves nobody can tell."""
        return self.dealt is None and bool(observed.all())

    def turned(self, generator: torch.Generator | None, device: torch.device) -> list[int]:
        """The order of a training pass."""
        if float(torch.rand((), generator=generator, device=device)) < self.orders:
            return torch.randperm(len(self.sizes), generator=generator, device=device).tolist()
        return list(range(len(self.sizes)))

    def _stirred(self, h: Tensor) -> tuple[Tensor, list[int], Tensor | None]:
        """What a training pass draws anew: which rows have a code, the order, and which units are left out."""
        generator = self.generator
        order = self.turned(generator, h.device) if self.dealt is None else self.dealt
        if self.keep < 1:
            kept = noise.uniform((len(h), 1), generator, h.device) < self.keep
            h = torch.where(kept, h, self.blank)
        if self.dropout == 0:
            return h, order, None
        # One mask for all columns of a row, as in a recurrent net (Gal & Ghahramani 2016, arXiv:1512.05287): fresh ones
        # for each cost a quarter of the step.
        on = noise.uniform((len(h), self.width + self.direct), generator, h.device) >= self.dropout
        return h, order, on.float() / (1 - self.dropout)

    def known(self, h: Tensor, tokens: Tensor, observed: Tensor, tables: list[tuple[Tensor, Tensor]]) -> State:
        """The state after all that is observed of each row."""
        at = self.start(h)
        for j, (vectors, _) in enumerate(tables):
            seen = observed[:, j]
            if seen.any():
                at = self.step(at, j, F.embedding(tokens[:, j], vectors), known=None if seen.all() else seen)
        return at

    def walk(
        self,
        h: Tensor,
        tokens: Tensor,
        observed: Tensor,
        open_: Tensor,
        pick: Callable[[int, Tensor], Tensor],
        first: Iterable[int] = (),
        told: bool = False,
    ) -> tuple[Tensor, list[Tensor]]:
        """Tokens [n, m] with the `open_` ones picked one after the other, those of the columns `first` before others,
        from their probabilities [n, tokens] given the observed and the earlier ones; and, if `told`, those.
        """
        tables = self.tables()
        at, tokens = self.known(h, tokens, observed, tables), tokens.clone()
        seen = [F.one_hot(tokens[:, j], k).float() for j, k in enumerate(self.sizes)] if told else []
        some, every = open_.any(0).tolist(), open_.all(0).tolist()
        order = [j for j in (*first, *(j for j in range(len(tables)) if j not in first)) if some[j]]
        for j in order:
            vectors, head = tables[j]
            p = self.logits(at, j, head).softmax(-1)
            picked = pick(j, p)
            if not every[j]:
                picked = torch.where(open_[:, j], picked, tokens[:, j])
            if told:
                seen[j] = p if every[j] else torch.where(open_[:, j, None], p, seen[j])
            tokens[:, j] = picked
            if j != order[-1]:
                at = self.step(at, j, F.embedding(picked, vectors), known=None if every[j] else open_[:, j])
        return tokens, seen


def drawn(p: Tensor, u: Tensor) -> Tensor:
    """One token for each row of probabilities [n, tokens], which need not sum to 1, by inverse CDF of u [n]. [n]"""
    cumulative = p.cumsum(-1)
    at = torch.searchsorted(cumulative, u[:, None] * cumulative[:, -1:], right=True)[:, 0]
    return at.clamp(max=p.shape[-1] - 1)


@dataclass(frozen=True, eq=False)
class ChainDist(Dist):
    """p(x|z) = Π p(column | columns before it, z). A cell is its token plus a place within it, from 0 to below 1.

    `cells` takes the columns in the table's order. What has no closed form is read along the greedy path, on which each
    column takes its likeliest token given those before it: `mode` is that path; `mean`, of a numeric column, is the
    mean place among the tokens there.
    """

    context: Tensor  # [..., width + direct]
    net: _Net

    def cells(self, x: Tensor) -> Tensor:
        return self.seen(x, None)

    def seen(self, x: Tensor, observed: Tensor | None) -> Tensor:
        """log p of each observed cell given the observed ones before it. Without gaps the chain is p(x|z); with gaps it
        is the chain of the observed columns, which was learned as such.
        """
        h, tokens = self.context.flatten(0, -2), x.long()
        if torch.is_grad_enabled() or len(h) <= ROWS:
            found = self.net.score(h, tokens, observed)
        else:
            # Whole draws of the rows at a time.
            rows = max(1, ROWS // len(tokens)) * len(tokens)
            found = torch.cat([self.net.score(part, tokens, observed) for part in h.split(rows)])
        return found.unflatten(0, self.context.shape[:-1])

    @torch.no_grad()
    def marginals(self, x: Tensor, observed: Tensor) -> list[Tensor]:
        """log p of every token of each column given the observed cells, and nothing of the others. [b, tokens] each"""
        tables = self.net.tables()
        at = self.net.known(self.context, x.long(), observed, tables)
        return [self.net.logits(at, j, head).log_softmax(-1) for j, (_, head) in enumerate(tables)]

    @torch.no_grad()
    def complete(
        self,
        x: Tensor,
        observed: Tensor,
        generator: torch.Generator | None,
        open_: Tensor | None = None,
        within: dict[int, tuple[Tensor, Tensor]] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Rows [b, m] with the `open_` cells (all that were not observed) drawn given those that were observed; and of
        each row the probability with which it is to be kept, 1 where at most one column is cut off [b].

        within: of column j, from where to where in each of its tokens a cell may lie: (low, high), each [tokens] or, of
        each row its own, [b, tokens], from 0 to 1; equal where it may not. Such columns are drawn before the other open
        ones, each from its own distribution cut off there: rows follow p(x | observed, within) if each is kept with its
        probability.
        """
        within, rows = within or {}, torch.ones(len(x), device=x.device)
        weights = {j: high - low for j, (low, high) in within.items()}

        def pick(j: int, p: Tensor) -> Tensor:
            nonlocal rows
            if j in weights:
                p = p * weights[j]
                # That of the first one is the same for all rows of which the same is known.
                rows = rows * p.sum(-1) if j != next(iter(weights)) else rows
                p = p + 1e-30 * (weights[j] > 0)  # where float32 has nothing left, anything that is allowed
            return drawn(p, torch.rand(len(p), generator=generator, device=p.device))

        open_ = ~observed if open_ is None else open_
        tokens, _ = self.net.walk(self.context, x.long(), observed, open_, pick, first=weights)
        place = torch.rand(x.shape, generator=generator, device=x.device)
        place = place * torch.tensor(self.net.numeric, device=x.device)
        for j, (low, _) in within.items():
            start, width = (part.expand(len(x), -1).gather(1, tokens[:, j : j + 1])[:, 0] for part in (low, weights[j]))
            place[:, j] = start + place[:, j] * width
        # Rounding must not carry a place into the next token.
        cells = torch.minimum(tokens + place, (tokens + 1).float().nextafter(tokens.float()))
        return torch.where(open_, cells, x), rows

    def _greedy(self) -> tuple[Tensor, list[Tensor]]:
        h = self.context.flatten(0, -2)
        nothing = torch.zeros(len(h), len(self.net.sizes), dtype=torch.long, device=h.device)
        with torch.no_grad():
            return self.net.walk(h, nothing, nothing.bool(), ~nothing.bool(), lambda _, p: p.argmax(-1), told=True)

    def _places(self, p: Tensor) -> Tensor:
        return p @ (torch.arange(p.shape[-1], device=p.device) + 0.5)

    @property
    def mean(self) -> Tensor:
        tokens, p = self._greedy()
        columns = [
            self._places(p[j]) if numeric else tokens[:, j].float() for j, numeric in enumerate(self.net.numeric)
        ]
        return torch.stack(columns, -1).unflatten(0, self.context.shape[:-1])

    @property
    def mode(self) -> Tensor:
        tokens, _ = self._greedy()
        middle = 0.5 * torch.tensor(self.net.numeric, device=tokens.device)
        return (tokens + middle).unflatten(0, self.context.shape[:-1])

    @property
    def expectation(self) -> Tensor:
        _, p = self._greedy()
        features = [
            self._places(q)[:, None] * _unit(q.shape[-1]) if numeric else q
            for q, numeric in zip(p, self.net.numeric, strict=True)
        ]
        return torch.cat(features, -1).unflatten(0, self.context.shape[:-1])

    def sample(self, generator: torch.Generator | None) -> Tensor:
        h = self.context.flatten(0, -2)
        nothing = torch.zeros(len(h), len(self.net.sizes), device=h.device)
        found = [
            ChainDist(a, self.net).complete(b, b.bool(), generator)[0]
            for a, b in zip(h.split(ROWS), nothing.split(ROWS), strict=True)
        ]
        return torch.cat(found).unflatten(0, self.context.shape[:-1])


def _unit(tokens: int) -> float:
    """What a token is worth as a feature, so that a column's are from 0 to about 4, a variance of about 1. A power of
    two: features and cells are inverses to the last bit.
    """
    return 4.0 / 2 ** math.ceil(math.log2(tokens))


class _Chain(Likelihood):
    sequential = True

    def __init__(self, net: _Net) -> None:
        super().__init__()
        self.net = net
        self.out_shape = (net.width + net.direct,)
        self.register_buffer("continuous", torch.zeros(len(net.sizes), dtype=torch.bool), persistent=False)

    def stir(self, generator: torch.Generator | None) -> None:
        self.net.generator = generator

    def deal(self, generator: torch.Generator | None) -> None:
        self.net.dealt = None if generator is None else self.net.turned(generator, self.net.blank.device)

    @contextmanager
    def judged(self) -> Iterator[None]:
        self.net.judged = True
        try:
            yield
        finally:
            self.net.judged = False

    def forward(self, params: Tensor) -> ChainDist:
        return ChainDist(params, self.net)

    def alone(self, rows: int) -> ChainDist:
        """p(x) of the chain without a code, for so many rows."""
        return ChainDist(self.net.blank.expand(rows, -1), self.net)

    def start(self, features: Tensor) -> Tensor:
        return features.new_zeros(self.out_shape)

    def discrete(self, x: Tensor) -> bool:
        return not any(self.net.numeric)

    def features(self, x: Tensor) -> Tensor:
        return torch.cat(
            [
                x[:, j : j + 1] * _unit(k) if numeric else F.one_hot(x[:, j].long(), k).float()
                for j, (k, numeric) in enumerate(zip(self.net.sizes, self.net.numeric, strict=True))
            ],
            -1,
        )

    def from_features(self, features: Tensor) -> Tensor:
        columns = []
        widths = [1 if numeric else k for k, numeric in zip(self.net.sizes, self.net.numeric, strict=True)]
        for piece, k, numeric in zip(features.split(widths, -1), self.net.sizes, self.net.numeric, strict=True):
            cell = (piece[:, 0] / _unit(k)).clamp(0, k - 1e-3) if numeric else piece.argmax(-1).float()
            columns.append(cell)
        return torch.stack(columns, -1)

    @property
    def owner(self) -> Tensor:
        widths = torch.tensor([1 if n else k for k, n in zip(self.net.sizes, self.net.numeric, strict=True)])
        return torch.arange(len(widths)).repeat_interleave(widths).to(self.continuous.device)


@part("likelihood", "chain")
@dataclass(frozen=True)
class Chain:
    """Columns of tokens, each given z and the columns before it, by cross-entropy in nats.

    Source: orders drawn anew as in Uria, Murray & Larochelle 2014 (arXiv:1310.1757); a layer for each column of the
    chain, the sum beside it, and cosines over the tokens of a numeric one, are ours.
    sizes: tokens of each column. numeric: whether they stand in an order, as the bins of a number do. width: of the
    layers' state. direct: of the sum that the heads read as it is. orders: share of the training batches whose columns
    come in an order of their own. keep: share of the rows that are told their code in training; the others teach the
    chain alone. dropout: of the state's units.
    """

    sizes: tuple[int, ...] = (2,)
    numeric: tuple[bool, ...] = (False,)
    width: int = 64
    direct: int = 64
    orders: float = 0.5
    keep: float = 0.5
    dropout: float = 0.1

    def __post_init__(self) -> None:
        require(self.width >= 1, self, "width", "1 or more")
        require(self.direct >= 0, self, "direct", "0 or more")
        require(0 <= self.orders <= 1, self, "orders", "a share from 0 to 1")
        require(0 < self.keep <= 1, self, "keep", "a share above 0, up to 1")
        require(0 <= self.dropout < 1, self, "dropout", "a share from 0 to below 1")
        require(len(self.sizes) == len(self.numeric), self, "numeric", "one for each of the sizes")

    def build(self, shape: tuple[int, ...]) -> Likelihood:
        """The likelihood of the columns; `shape` is (number of columns,)."""
        assert shape == (len(self.sizes),), "a size for every column"
        return _Chain(_Net(self.sizes, self.numeric, self.width, self.direct, self.orders, self.keep, self.dropout))
