"""What texts and tunes have in common: tokens, each given those before it."""

import base64
import binascii
import zlib
from abc import abstractmethod
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import ConfigError, ModelFileError
from ..model.batch import Batch
from ..model.dists.tokens import END, PAD, UNSEEN, Tokens
from ..model.nets.mlp import Mlp
from ..model.nets.ragged import Ragged
from ..model.nets.recurrent import Recurrent
from .base import Built, Kind, Nets

# Units of the layers that know each place, where z is told of each step, and numbers that it then says to it.
PLACES, MAPS = 512, 32
# Tokens of a training batch, and rows from the fewest to the most.
TOKENS, BATCHES = 4096, (16, 128)


@dataclass(frozen=True)
class Sequences(Kind):
    """Rows of up to `steps` tokens; what fills a row, and what is not known in it, is not observed.

    told: whether z speaks in one word to the "whole" sequence, or to each of its "steps", and hears of each. width: of
    the tokens' vectors. word_dropout, dropout: see the likelihood `tokens`. steps: learned unless given.
    Learned: `pairs`, which tokens follow which, packed (`follows` says it); `usual`, tokens of a row on average.
    """

    recipe = "density"

    steps: int = 0
    told: Literal["whole", "steps"] = "whole"
    width: int = 64
    word_dropout: float = 0.0
    dropout: float | None = None
    pairs: str = ""
    usual: int = 0

    @property
    @abstractmethod
    def size(self) -> int:
        """Tokens of the vocabulary."""

    @property
    def usual_dropout(self) -> float:
        """The dropout of data of this kind, unless another is asked for."""
        return 0.0

    @property
    def whole_rows(self) -> bool:
        """Whether a row of as many tokens as there can be is a whole one, or was cut."""
        return False

    @property
    def grammar(self) -> np.ndarray | None:
        """Which token may follow which at all, the first of a row after `PAD`: bool [tokens, tokens]; None: any."""
        return None

    @property
    def clock(self) -> tuple[int, int]:
        """The token that moves the clock on (-1: each does), and after how many it is where it was; 0 without one."""
        return -1, 0

    @cached_property
    def follows(self) -> np.ndarray:
        """Whether a token came after another one in the data, the first after `PAD`. bool [tokens, tokens]"""
        width = -(-self.size // 8)
        try:
            packed = zlib.decompressobj().decompress(base64.b64decode(self.pairs, validate=True), self.size * width)
            bits = np.frombuffer(packed, np.uint8).reshape(self.size, width)
        except (zlib.error, binascii.Error, ValueError) as error:
            raise ModelFileError(f"its pairs of tokens cannot be used: {error}", hint="fetch the file again") from None
        return np.unpackbits(bits, axis=1)[:, : self.size].astype(bool)

    @property
    def batch(self) -> int | None:
        # Some four thousand tokens: fewer make small products, more make few steps of a small corpus.
        return int(np.clip(TOKENS // max(1, self.usual), *BATCHES)) // 8 * 8

    def seen(self, batch: Batch) -> Self:
        """This kind, having seen of rows how long they are, and which tokens follow which."""
        tokens = batch.x.long().numpy()
        before = np.concatenate([np.full((len(tokens), 1), PAD), tokens[:, :-1]], 1)
        seen = np.zeros((self.size, self.size), bool)
        seen[before, tokens] = True
        seen[:, :END] = False
        usual = round(float(tokens.shape[1] if batch.observed is None else batch.observed.sum(1).float().mean()))
        return replace(
            self, usual=usual, pairs=base64.b64encode(zlib.compress(np.packbits(seen, axis=1).tobytes(), 9)).decode()
        )

    def prepare(self, batch: Batch, generator: torch.Generator | None = None) -> Batch:
        return replace(batch, x=batch.x.float())

    def build(self, nets: Nets, dim: int) -> Built:
        if not hasattr(nets, "reader"):
            name = getattr(nets, "name", "")
            raise ConfigError(
                f"nets {name!r} cannot read tokens" if name else "a committee cannot read tokens",
                hint="--set nets=recurrent or --set nets=transformer" if name else "--recipe density",
            )
        part = Tokens(
            self.size,
            nets,
            width=self.width,
            maps=2 * self.width if self.told == "whole" else MAPS,
            told=self.told,
            word_dropout=self.word_dropout,
            dropout=self.usual_dropout if self.dropout is None else self.dropout,
            tick=self.clock[0],
            period=self.clock[1],
        )
        likelihood = part.build((self.steps,))
        if self.grammar is not None:
            likelihood.net.allowed = torch.from_numpy(self.grammar)  # type: ignore[union-attr]
        body, width = nets.reader(self.width, self.steps)
        decoder = Mlp(() if self.told == "whole" else (PLACES,)).decoder(dim, likelihood.out_shape)
        places = None if self.told == "whole" else nn.Linear(self.steps * self.width, PLACES)
        width += 0 if places is None else PLACES
        encoder = _Encoder(self.size, self.width, body, places)
        return Built(encoder, width, decoder, likelihood, (self.steps, self.width + 1))

    @property
    def nets(self) -> Nets:
        return Recurrent(128)


class _Encoder(nn.Module):
    """Tokens -> their vectors, with whether each is there beside them -> the body."""

    eager = True

    def __init__(self, size: int, width: int, body: nn.Module, places: nn.Linear | None) -> None:
        super().__init__()
        self.words = nn.Parameter(torch.randn(size, width))
        self.body = _Body(body, places)

    def features(self, batch: Batch) -> Tensor:
        """What the body sees. [b, steps, width + 1]"""
        tokens = batch.x.long()
        there = torch.ones_like(tokens, dtype=torch.bool) if batch.observed is None else batch.observed
        rows = Ragged.of(there)
        # What comes after a row's end is 0, what is missing before it is a token of its own.
        vectors = rows.spread(F.embedding(rows.pack(torch.where(there, tokens, UNSEEN)), self.words))
        inside = torch.arange(tokens.shape[1], device=tokens.device) < rows.lengths[:, None]
        return torch.cat([vectors, inside[..., None].to(vectors.dtype)], -1)

    def forward(self, batch: Batch) -> Tensor:
        return self.body(self.features(batch))


class _Body(nn.Module):
    """Vectors of tokens, with whether each belongs to the row in the last channel -> the reader's features; where z is
    told of each step, beside them a layer that has weights of its own for each place.
    """

    def __init__(self, net: nn.Module, places: nn.Linear | None) -> None:
        super().__init__()
        self.net, self.places = net, places

    def forward(self, features: Tensor) -> Tensor:
        rows, vectors = Ragged.of(features[..., -1] > 0.5), features[..., :-1]
        read = self.net(rows.pack(vectors), rows)
        return read if self.places is None else torch.cat([read, torch.relu(self.places(vectors.flatten(1)))], -1)


def batch_of(rows: list[list[int]], steps: int) -> Batch:
    """Rows of tokens as a batch, int16, filled up to so many steps; a row of more is cut."""
    x = torch.zeros(len(rows), steps, dtype=torch.int16)
    lengths = torch.tensor([min(len(row), steps) for row in rows])
    where = torch.arange(steps) < lengths[:, None]
    flat: Any = [token for row in rows for token in row[:steps]]
    x[where] = torch.tensor(flat, dtype=torch.int16)
    return Batch(x, where & (x != UNSEEN))
