"""A recurrent net over codes: P(z) as a product over slots, fitted after training."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ...parts import part, require
from ..latents.codes import Head
from .base import Host, PriorModule
from .fitting import apart, maximise

# Rows whose logits are computed at once.
ROWS = 1024


class _Autoregressive(PriorModule):
    fitted_afterwards = True

    def __init__(self, head: Head, width: int, steps: int) -> None:
        super().__init__()
        # Bound methods: the codebook is the head's, and saved there alone.
        self._indices, self._entries = head.indices, head.entries
        self.size, self.levels, self.steps = head.size, head.levels, steps
        places = head.slots * head.levels
        self.code = nn.Embedding(head.levels * head.size, width)
        self.place = nn.Parameter(torch.randn(places, width))
        self.net = nn.GRU(width, width, batch_first=True)
        # Begins as the product of the places' own frequencies, which is all there is to fit of a single place.
        self.frequencies = nn.Parameter(torch.zeros(places, self.size))
        self.out = nn.Linear(width, self.size)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)
        # Training of the model has nothing to do here.
        self.requires_grad_(False)

    def log_prob(self, z: Tensor) -> Tensor:
        """log P of the entries that z is made of. [...]"""
        parts = self._indices(z.flatten(0, -2)).split(ROWS)
        return torch.cat([self.log_mass(part) for part in parts]).view(z.shape[:-1])

    def log_mass(self, index: Tensor) -> Tensor:
        """log P of entries, int [n, places], in nats. [n]"""
        h, _ = self.net(self._inputs(index))
        return -nn.functional.cross_entropy(
            (self.out(h) + self.frequencies).flatten(0, 1), index.flatten(), reduction="none"
        ).view_as(index).sum(-1)  # fmt: skip

    def _inputs(self, index: Tensor) -> Tensor:
        """What the net sees at each place: which it is, and the entry before."""
        level = torch.arange(index.shape[1], device=index.device) % self.levels
        before = self.code(index + self.size * level)[:, :-1]
        return nn.functional.pad(before, (0, 0, 1, 0)) + self.place

    def sample(self, n: int, generator: torch.Generator | None) -> Tensor:
        return torch.cat([self._draw(min(ROWS, n - i), generator) for i in range(0, n, ROWS)])

    def _draw(self, n: int, generator: torch.Generator | None) -> Tensor:
        places = len(self.place)
        index = torch.zeros(n, places, dtype=torch.long, device=self.place.device)
        state = None
        for i in range(places):
            h, state = self.net(self._inputs(index)[:, i : i + 1], state)
            p = (self.out(h[:, 0]) + self.frequencies[i]).softmax(-1)
            index[:, i] = torch.multinomial(p, 1, generator=generator)[:, 0]
        return self._entries(index)

    def fit(self, codes: Tensor, generator: torch.Generator | None) -> None:
        data, held_out = apart(self._indices(codes), generator)
        # Half a count for what was never seen (Krichevsky & Trofimov 1981).
        counts = torch.stack([i.bincount(minlength=self.size) for i in data.unbind(-1)]) + 0.5
        with torch.no_grad():
            self.frequencies.copy_((counts / counts.sum(-1, keepdim=True)).log())
        if len(self.place) > 1:
            maximise(self, self.log_mass, data, held_out, generator, steps=self.steps)


@part("prior", "autoregressive")
@dataclass(frozen=True)
class Autoregressive:
    """P(z) = Π_i P(code_i | codes before), by a gated recurrent net of `width` units (Cho et al. 2014, arXiv:1406.1078)
    over a row's slots and their levels, fitted to the codes of the training rows after training, in `steps` steps of
    256 rows at most; no part of the loss. Only over latent `codes`: it is a probability, not a density.
    """

    width: int = 128
    steps: int = 300

    support = "codes"

    def __post_init__(self) -> None:
        require(self.width >= 1, self, "width", "1 or more")
        require(self.steps >= 1, self, "steps", "1 or more")

    def build(self, host: Host) -> PriorModule:
        """The prior of a model whose head has a codebook."""
        assert isinstance(host.head, Head)
        return _Autoregressive(host.head, self.width, self.steps)
