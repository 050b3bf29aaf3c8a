"""P(z) over codes, place after place, fitted after training."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...parts import part, require
from ..latents.codes import Head
from .base import Host, PriorModule
from .fitting import apart, maximise

# Rows whose logits are computed at once.
ROWS = 1024
# Numbers that a place says of the next entry, and that an entry answers to; units between an entry's vector and those;
# learned numbers of an entry beside its vector, for codes whose near entries have little to do with each other.
WORDS, BETWEEN, BESIDE = 32, 64, 8


class _Masked(nn.Linear):
    """A linear layer without the weights where mask [out, in] is false."""

    mask: Tensor

    def __init__(self, mask: Tensor) -> None:
        super().__init__(mask.shape[1], mask.shape[0])
        self.register_buffer("mask", mask.float(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight * self.mask, self.bias)

    def silent(self) -> "_Masked":
        """This layer, giving zeros until it learns."""
        nn.init.zeros_(self.weight)
        nn.init.zeros_(self.bias)
        return self


class _Autoregressive(PriorModule):
    fitted_afterwards = True

    def __init__(self, head: Head, width: int, steps: int) -> None:
        super().__init__()
        # In a tuple, so that it is no part of this module: the codebook is the head's, and saved there alone.
        self._head = (head,)
        self.levels, self.steps = head.levels, steps
        self.places = places = head.slots * head.levels
        place = torch.arange(places)
        inputs, words = place.repeat_interleave(head.width), place.repeat_interleave(WORDS)
        hidden = torch.arange(width) * max(1, places - 1) // width  # each unit sees the places up to this one
        self.first = _Masked(hidden.unsqueeze(1) >= inputs)
        self.second = _Masked(hidden.unsqueeze(1) >= hidden)
        self.last = _Masked(words.unsqueeze(1) > hidden).silent()
        self.skip = _Masked(words.unsqueeze(1) > place.repeat_interleave(head.width + BESIDE)).silent()
        self.known = nn.Sequential(nn.Linear(head.width, BETWEEN), nn.SiLU(), nn.Linear(BETWEEN, WORDS))
        self.own = nn.Parameter(torch.zeros(head.levels, head.size, WORDS))
        self.beside = nn.Parameter(torch.randn(head.levels, head.size, BESIDE))
        # Begins as the product of the places' own frequencies, which is all there is to fit of a single place.
        self.frequencies = nn.Parameter(torch.zeros(places, head.size))
        # Training of the model has nothing to do here.
        self.requires_grad_(False)

    @property
    def head(self) -> Head:
        """The owner of the codebook."""
        return self._head[0]

    def log_prob(self, z: Tensor) -> Tensor:
        """log P of the entries that z is made of. [...]"""
        parts = self.head.indices(z.flatten(0, -2)).split(ROWS)
        return torch.cat([self.log_mass(part) for part in parts]).view(z.shape[:-1])

    def log_mass(self, index: Tensor) -> Tensor:
        """log P of entries, int [n, places], in nats. [n]"""
        return self._logits(index).log_softmax(-1).gather(-1, index.unsqueeze(-1))[..., 0].sum(-1)

    def _logits(self, index: Tensor) -> Tensor:
        """Of each place, from the entries before it. [n, places, size]"""
        book = self.head.codebook
        book = (book - book.mean(1, keepdim=True)) / book.std(1, keepdim=True).clamp(min=1e-6)
        level = torch.arange(self.places, device=index.device) % self.levels
        x = torch.cat([book, self.beside], -1)[level, index].flatten(1)
        h = F.silu(self.first(book[level, index].flatten(1)))
        h = h + F.silu(self.second(h))
        said = (self.last(h) + self.skip(x)).unflatten(-1, (-1, self.levels, WORDS))  # [n, slots, levels, words]
        answers = (self.known(book) + self.own) / WORDS**0.5  # [levels, size, words]
        return torch.einsum("nslw,lkw->nslk", said, answers).flatten(1, 2) + self.frequencies

    def sample(self, n: int, generator: torch.Generator | None) -> Tensor:
        return torch.cat([self._draw(min(ROWS, n - i), generator) for i in range(0, n, ROWS)])

    def _draw(self, n: int, generator: torch.Generator | None) -> Tensor:
        index = torch.zeros(n, self.places, dtype=torch.long, device=self.frequencies.device)
        for i in range(self.places):
            p = self._logits(index)[:, i].softmax(-1)
            index[:, i] = torch.multinomial(p, 1, generator=generator)[:, 0]
        return self.head.entries(index)

    def fit(self, codes: Tensor, generator: torch.Generator | None) -> None:
        data, held_out = apart(self.head.indices(codes), generator)
        size = self.frequencies.shape[1]
        # Half a count for what was never seen (Krichevsky & Trofimov 1981).
        counts = torch.stack([i.bincount(minlength=size) for i in data.unbind(-1)]) + 0.5
        with torch.no_grad():
            self.frequencies.copy_((counts / counts.sum(-1, keepdim=True)).log())
        if self.places > 1:
            maximise(self, self.log_mass, data, held_out, generator, steps=self.steps)


@part("prior", "autoregressive")
@dataclass(frozen=True)
class Autoregressive:
    """P(z) = Π_i P(code_i | codes before) over a row's slots and their levels, by a masked net with two layers of
    `width` units (Germain et al. 2015, arXiv:1502.03509, eq. 4–12), fitted to the codes of the training rows after
    training, in `steps` steps of 256 rows at most; no part of the loss. Only over latent `codes`: it is a probability,
    not a density.

    What the net sees of a code is its entry's vector, and a next entry's logit is a product with a function of that
    entry's vector: so near entries share what is learned. On MNIST's codes of 16 × 8 bits (88.7 nats) that came to 74.1
    nats on held-out rows in 7 CPU seconds, where a recurrent net on embeddings of the entries came to 84.3 in 20.
    """

    width: int = 512
    steps: int = 300

    support = "codes"

    def __post_init__(self) -> None:
        require(self.width >= 1, self, "width", "1 or more")
        require(self.steps >= 1, self, "steps", "1 or more")

    def build(self, host: Host) -> PriorModule:
        """The prior of a model whose head has a codebook."""
        assert isinstance(host.head, Head)
        return _Autoregressive(host.head, self.width, self.steps)
