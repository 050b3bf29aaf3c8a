"""Tokens of a sequence, each given those before it: texts and tunes.

decoder ──word──▶ writer ──▶ logits over the vocabulary ──▶ p(token | tokens before it, z)
tokens, one later ──▶ ┘

With such a likelihood z is needed for nothing that the tokens before tell already: docs/collapse.md.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...errors import ConfigError
from ...parts import part, require
from .. import noise
from ..nets.ragged import Ragged
from ..nets.recurrent import Recurrent
from .base import Bend, Dist, Likelihood
from .chain import drawn

Pick = Callable[[Tensor], Tensor]
AS_IT_IS = Bend()
# Below it a draw is the likeliest token: float32 could not tell the others apart from nothing.
COLDEST = 1e-4
# Tokens that no data have: what fills a row, and stands before its first; one that is not known; a row's end.
PAD, UNSEEN, END = 0, 1, 2
OWN = 3
# Cells whose logits are in memory at once where no gradient is wanted, and rows that are drawn together.
CELLS, ROWS = 4096, 2048
# A vocabulary so large has common tokens, a share of 1/RARE of them: of captions and of Don Quijote it costs the least.
LARGE, RARE = 600, 6
# Tokens that are features: the count of each in a row.
FEATURES = 2000


class _Net(nn.Module):
    """Of a sequence likelihood the weights: a vector for each token, the writer, and the way back to the tokens."""

    eager = True  # how many cells a batch has changes from batch to batch
    allowed: Tensor | None  # bool [tokens, tokens], which token may follow which; None: any

    def __init__(self, settings: "Tokens", steps: int) -> None:
        super().__init__()
        self.settings, self.steps, width = settings, steps, settings.width
        self.words = nn.Parameter(torch.randn(settings.size, width) / width**0.5)
        self.writer, wide = settings.nets.writer(width, settings.maps, steps)
        # The vectors that are read are those that are written (Press & Wolf 2017, arXiv:1608.05859).
        self.out = nn.Linear(wide, width, bias=False)
        self.skip = nn.Linear(settings.maps, width, bias=False)
        self.bias = nn.Parameter(torch.zeros(settings.size))
        # A softmax in two steps: the common tokens or "another one", and which (Grave et al. 2017, arXiv:1609.04309).
        self.common = settings.size // RARE if settings.size >= LARGE else settings.size
        self.rare = nn.Linear(width, 1) if self.common < settings.size else None
        self.beats = nn.Parameter(torch.randn(settings.period, width)) if settings.period else None
        self.register_buffer("allowed", None, persistent=False)
        self.generator: torch.Generator | None = None

    def read(self, tokens: Tensor, beat: Tensor | None) -> Tensor:
        """The vectors of tokens as they are read, and of the beat that comes: numbers of about 1, where those that are
        written are small.
        """
        x = F.embedding(tokens, self.words) * self.settings.width**0.5
        return x if self.beats is None or beat is None else x + F.embedding(beat, self.beats)

    def beat(self, before: Tensor) -> Tensor | None:
        """Where the clock stands at each cell, from the tokens before it [n, steps]."""
        period = self.settings.period
        if not period:
            return None
        return self.ticks(before).cumsum(1) % period

    def ticks(self, tokens: Tensor) -> Tensor:
        """Whether each token moves the clock on."""
        return (tokens != PAD) if self.settings.tick < 0 else (tokens == self.settings.tick)

    def log_p(self, h: Tensor, before: Tensor) -> Tensor:
        """log p of every token, from what the writer and the decoder say of a cell, and the token before it.
        [cells, tokens]
        """
        logits = F.linear(h, self.words, self.bias)
        logits[:, :END] = -torch.inf
        if self.allowed is not None:
            logits = logits.masked_fill(~self.allowed[before], -torch.inf)
        if self.rare is None:
            return logits.log_softmax(-1)
        top = torch.cat([logits[:, : self.common], self.rare(h)], -1).log_softmax(-1)
        return torch.cat([top[:, :-1], logits[:, self.common :].log_softmax(-1) + top[:, -1:]], -1)

    def nats(self, h: Tensor, tokens: Tensor, before: Tensor) -> Tensor:
        """−log p of one token of each cell: `log_p`, as far as it is asked for. [cells]"""
        if self.allowed is not None:
            return F.nll_loss(self.log_p(h, before), tokens.clamp(min=END), reduction="none")
        words, bias, many = self.words[END : self.common], self.bias[END : self.common], self.common - END
        tokens = (tokens - END).clamp(min=0)
        if self.rare is None:
            return F.cross_entropy(F.linear(h, words, bias), tokens, reduction="none")
        top = torch.cat([words, self.rare.weight]), torch.cat([bias, self.rare.bias])
        found = F.cross_entropy(F.linear(h, *top), tokens.clamp(max=many), reduction="none")
        late = (tokens >= many).nonzero()[:, 0]
        logits = F.linear(h[late], self.words[self.common :], self.bias[self.common :])
        return found.index_add(0, late, F.cross_entropy(logits, tokens[late] - many, reduction="none"))

    def score(self, told: Tensor, tokens: Tensor, observed: Tensor) -> Tensor:
        """log p of each row's observed tokens, 0 elsewhere. [n, steps]

        told [n, maps] or [n, steps, maps] is the decoder's word, tokens [b, steps], n a multiple of b.
        """
        again = len(told) // len(tokens)
        tokens, observed = torch.where(observed, tokens, UNSEEN).repeat(again, 1), observed.repeat(again, 1)
        rows = Ragged.of(observed)
        now, seen = rows.pack(tokens), rows.pack(observed)
        earlier = F.pad(tokens[:, :-1], (1, 0), value=PAD)
        before, beat = rows.pack(earlier), self.beat(earlier)
        settings = self.settings
        if self.training and settings.word_dropout:
            gone = noise.uniform((len(told), self.steps), self.generator, told.device) < settings.word_dropout
            before = torch.where(rows.pack(gone) & (before != PAD), UNSEEN, before)
        x = self.read(before, None if beat is None else rows.pack(beat))
        first = told if told.dim() == 2 else told.mean(1)
        word = told if told.dim() == 2 else rows.pack(told)
        skip = self.skip(word)
        h = self.writer(x, first, word, rows)
        if self.training and settings.dropout:
            on = noise.uniform((len(told), h.shape[1]), self.generator, told.device) >= settings.dropout
            h = h * (on.float() / (1 - settings.dropout)).index_select(0, rows.row)
        skip = skip if len(skip) == len(h) else skip.index_select(0, rows.row)
        h = self.out(h) + skip
        parts = [(h, now, before)]
        if not torch.is_grad_enabled():
            parts = list(zip(h.split(CELLS), now.split(CELLS), before.split(CELLS), strict=True))
        found = torch.cat([-self.nats(*part) for part in parts])
        return rows.spread(found.masked_fill(~seen, 0.0))

    @torch.no_grad()
    def walk(self, told: Tensor, pick: Pick, follows: Tensor | None = None) -> Tensor:
        """Tokens one after the other, each picked from log p of all, until every row has ended. [n, steps]"""
        n = len(told)
        tokens = torch.full((n, self.steps), PAD, device=told.device)
        before, open_ = tokens[:, 0], torch.ones(n, dtype=torch.bool, device=told.device)
        state, clock = self.writer.begin(told if told.dim() == 2 else told.mean(1)), torch.zeros_like(before)
        for t in range(self.steps):
            word = told if told.dim() == 2 else told[:, t]
            clock = clock + self.ticks(before)
            beat = clock % self.settings.period if self.settings.period else None
            h, state = self.writer.step(self.read(before, beat), word, state)
            log_p = self.log_p(self.out(h) + self.skip(word), before)
            if follows is not None:
                # What is ruled out counts as 1e-30 times as likely: where nothing else is left, it is still an answer.
                log_p = torch.where(follows[before], log_p, log_p - 70)
            tokens[:, t] = before = torch.where(open_, pick(log_p), PAD)
            open_ = open_ & (before != END)
            if not open_.any():
                break
        return tokens


@dataclass(frozen=True, eq=False)
class TokensDist(Dist):
    """p(x|z) = Π p(token | tokens before it, z), up to a row's end, or to the last step, after which none can come.

    `mode` is the greedy path, on which each token is the likeliest given those before it; a sequence that is more
    probable may exist. There is no mean.
    """

    told: Tensor  # [..., maps] or [..., maps, steps]
    net: _Net
    bend: Bend = AS_IT_IS

    def cells(self, x: Tensor) -> Tensor:
        return self.seen(x, None)

    def seen(self, x: Tensor, observed: Tensor | None) -> Tensor:
        """log p of each observed token given those before it, of which one that is not observed is unknown."""
        tokens = x.long()
        open_ = ((tokens == END).cumsum(1) - (tokens == END).long()) == 0
        found = self.net.score(self._word, tokens, open_ if observed is None else observed & open_)
        return found.unflatten(0, self._shape)

    def bent(self, bend: Bend) -> "TokensDist":
        return replace(self, bend=bend)

    @property
    def _shape(self) -> tuple[int, ...]:
        return tuple(self.told.shape[: -1 - (self.net.settings.told == "steps")])

    @property
    def _word(self) -> Tensor:
        flat = self.told.flatten(0, len(self._shape) - 1)
        return flat.transpose(1, 2) if flat.dim() == 3 else flat

    @cached_property
    def mode(self) -> Tensor:
        return self._walked(lambda log_p: log_p.argmax(-1))

    @property
    def mean(self) -> Tensor:
        return self.mode

    @property
    def expectation(self) -> Tensor:
        return counts(self.mode.flatten(0, -2), self.net.settings.size).unflatten(0, self._shape)

    def sample(self, generator: torch.Generator | None) -> Tensor:
        if self.bend.temperature < COLDEST:
            return self.mode

        def pick(log_p: Tensor) -> Tensor:
            p = (log_p / self.bend.temperature).softmax(-1)
            p = p if self.bend.top_p == 1 else likeliest(p, self.bend.top_p)
            return drawn(p, torch.rand(len(p), generator=generator, device=p.device))

        return self._walked(pick)

    def _walked(self, pick: Pick) -> Tensor:
        found = [self.net.walk(part, pick, self.bend.follows) for part in self._word.split(ROWS)]
        return torch.cat(found).float().unflatten(0, self._shape)


def likeliest(p: Tensor, share: float) -> Tensor:
    """Probabilities [n, tokens] with 0 for all but the likeliest tokens that have `share` together."""
    order = p.sort(-1, descending=True)
    kept = order.values.cumsum(-1) - order.values < share
    return torch.zeros_like(p).scatter(-1, order.indices, order.values * kept)


def counts(tokens: Tensor, size: int) -> Tensor:
    """How often each token is in each row, of the first `FEATURES`. [n, steps] -> [n, features]"""
    index = tokens.long()
    found = torch.zeros(len(index), size, device=tokens.device)
    found.scatter_add_(1, index, torch.ones_like(tokens, dtype=torch.float32))
    return found[:, END : END + FEATURES]


class _Tokens(Likelihood):
    sequential = True
    whole = False

    def __init__(self, settings: "Tokens", steps: int) -> None:
        super().__init__()
        self.net = _Net(settings, steps)
        self.out_shape = (settings.maps,) if settings.told == "whole" else (settings.maps, steps)
        self.register_buffer("continuous", torch.zeros(steps, dtype=torch.bool), persistent=False)

    def stir(self, generator: torch.Generator | None) -> None:
        self.net.generator = generator

    def forward(self, params: Tensor) -> TokensDist:
        return TokensDist(params, self.net)

    def discrete(self, x: Tensor) -> bool:
        return True

    def features(self, x: Tensor) -> Tensor:
        return counts(x, self.net.settings.size)

    @torch.no_grad()
    def start(self, features: Tensor) -> Tensor:
        # A token's bias is the log of how often it comes: nothing in the first steps is spent on that.
        often = features.new_full((self.net.settings.size,), 0.1 * float(features.sum()) / self.net.settings.size)
        often[END : END + len(features)] += features
        log_p = (often / often.sum()).log()
        self.net.bias.copy_(log_p)
        if self.net.rare is not None:
            self.net.rare.bias.copy_(log_p[self.net.common :].logsumexp(0))
        return features.new_zeros(self.out_shape)


@part("likelihood", "tokens")
@dataclass(frozen=True)
class Tokens:
    """Tokens of a vocabulary, each given z and those before it, by cross-entropy in nats.

    size: tokens, the three that every vocabulary begins with among them (filling, not known, end). width: of their
    vectors, which are read and written. maps: numbers that the decoder says, to the "whole" sequence or to each of its
    "steps" (told). word_dropout: share of the tokens before that are not known in training, so that more is asked of z
    (Bowman et al. 2016, arXiv:1511.06349). dropout: of the writer's units, one mask a row. tick, period: the token that
    moves a clock on (-1: each does), which stands where it stood after so many; 0: there is none.
    """

    size: int = 8
    nets: Any = field(default_factory=Recurrent)
    width: int = 64
    maps: int = 64
    told: Literal["whole", "steps"] = "whole"
    word_dropout: float = 0.0
    dropout: float = 0.0
    tick: int = -1
    period: int = 0

    def __post_init__(self) -> None:
        require(self.size > OWN, self, "size", f"more than {OWN} tokens")
        for name in ("width", "maps"):
            require(getattr(self, name) >= 1, self, name, "1 or more")
        for name in ("word_dropout", "dropout"):
            require(0 <= getattr(self, name) < 1, self, name, "a share from 0 to below 1")

    def build(self, shape: tuple[int, ...]) -> Likelihood:
        """The likelihood of sequences of `shape` (steps,)."""
        if not hasattr(self.nets, "writer"):
            raise ConfigError(f"nets {self.nets.name!r} cannot write tokens", hint="--set nets=recurrent")
        return _Tokens(self, shape[0])
