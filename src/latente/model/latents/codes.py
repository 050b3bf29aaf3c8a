"""Codes: z is made of entries of a learned codebook (vector quantisation, and in several levels residual)."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ...parts import part, require
from .point import PointPosterior

# An entry that is taken less often than a fiftieth of its even share is dead: at decay .99 one that nobody takes is so
# after log(.02) / log(.99) = 390 steps.
DEAD = 0.02
# A share of the vectors below this is none.
TINY = 1e-30
# Numbers of one table of distances: 64 MB of float32.
CHUNK = 1 << 24
# Entries of each level that are tried for a z whose entries are to be found again; see `Head.indices`.
BEAM = 16


@dataclass(frozen=True)
class CodePosterior(PointPosterior):
    """Probability 1 on one row of entries, whose place in the latent space is `value`. No density: a probability."""

    price: Tensor
    discrete = True

    @property
    def penalty(self) -> Tensor:
        return self.price

    def log_prob(self, z: Tensor) -> Tensor:
        """log q of the row's own code: 0."""
        return z.new_zeros(z.shape[:-1])


class Head(nn.Module):
    """Features -> numbers, `slots` vectors of them a row, each -> its nearest entry.

    The codebook is the running mean of what its entries were taken for, sums over counts. Both are means over vectors,
    so that those of several processes can be averaged. Only passes that learn move it.
    """

    counts: Tensor  # [levels, size], the share of vectors that take the entry
    sums: Tensor  # [levels, size, width], their running mean times that share
    eager = True  # no recording of the step on a GPU: tried on none
    team = (0, 1)  # this process's number, of how many

    def __init__(self, features: int, latent: "Codes") -> None:
        super().__init__()
        self.slots, self.size, self.levels = latent.in_slots, latent.size, latent.levels
        self.width, self.decay, self.commitment = latent.dim // self.slots, latent.decay, latent.commitment
        self.value = nn.Linear(features, latent.dim)
        self.register_buffer("counts", torch.full((self.levels, self.size), 1 / self.size))
        self.register_buffer("sums", torch.randn(self.levels, self.size, self.width) / self.size)

    @property
    def codebook(self) -> Tensor:
        """The entries of each level. [levels, size, width]"""
        # What nobody took for thousands of steps has sunk to 0 / 0: it lies at 0 until it is its turn to move.
        return self.sums / self.counts.unsqueeze(-1).clamp(min=TINY)

    def forward(self, h: Tensor) -> CodePosterior:
        e, learn = self.value(h), self.training and torch.is_grad_enabled()
        with torch.no_grad():
            found = self._quantised(self._vectors(e), learn)[1].view_as(e)
        price = self.commitment * (e - found).square().sum(-1).mean()
        # The decoder's gradient goes to e as if nothing had been done to it; the value is the entries' to the bit.
        return CodePosterior(found + (e - e.detach()), price)

    @torch.no_grad()
    def start(self, h: Tensor) -> None:
        """Before training: entries are vectors of rows with features h [b, ...], evenly over rows and slots."""
        left = self.value(h).unflatten(-1, (self.slots, self.width))
        pick = torch.arange(self.size, device=h.device)
        for level in range(self.levels):
            # Of each level other rows: what the level before made entries of has nothing left.
            row = (pick * self.levels + level) * len(left) // (self.size * self.levels)
            entries = left[row, pick % self.slots]
            self.counts[level], self.sums[level] = 1 / self.size, entries / self.size
            vectors = left.flatten(0, 1)
            left = (vectors - entries[_nearest(vectors, entries)[1]]).view_as(left)

    def snap(self, z: Tensor) -> Tensor:
        """The nearest z that a row can have, entry by entry. z [..., d] -> [..., d]"""
        return self._quantised(self._vectors(z), False)[1].view_as(z)

    def entries(self, indices: Tensor) -> Tensor:
        """z of entries. int [..., slots · levels], a slot's levels side by side -> [..., d]"""
        index, z = indices.unflatten(-1, (self.slots, self.levels)), 0.0
        for level, entries in enumerate(self.codebook):
            z = z + entries[index[..., level]]
        assert isinstance(z, Tensor)
        return z.flatten(-2)

    def indices(self, z: Tensor) -> Tensor:
        """The entries that z is made of. [..., d] -> int [..., slots · levels]

        Of one level the nearest ones. A sum of several levels may lie nearer to another first entry than to its own:
        the BEAM best beginnings are followed, and the exact sum is found among them (tested).
        """
        vectors, book = self._vectors(z), self.codebook
        if self.levels == 1:
            found = _nearest(vectors, book[0])[1]
        else:
            parts = vectors.split(max(1, CHUNK // (BEAM * self.size)))
            found = torch.cat([self._beam(part, book) for part in parts])
        return found.view(*z.shape[:-1], self.slots * self.levels)

    def _beam(self, vectors: Tensor, book: Tensor) -> Tensor:
        left = vectors.unsqueeze(1)  # [n, beam, width]
        ways = torch.zeros(len(vectors), 1, 0, dtype=torch.long, device=vectors.device)
        for entries in book:
            distance = torch.cdist(left, entries.expand(len(left), -1, -1), compute_mode=EXACT).flatten(1)
            best = distance.topk(min(BEAM, distance.shape[1]), largest=False).indices
            before, entry = best // self.size, best % self.size
            ways = torch.cat([_take(ways, before), entry.unsqueeze(-1)], -1)
            left = _take(left, before) - entries[entry]
        return ways[:, 0]  # the best comes first

    def _vectors(self, z: Tensor) -> Tensor:
        return z.detach().reshape(-1, self.width)

    def _quantised(self, vectors: Tensor, learn: bool) -> tuple[Tensor, Tensor]:
        """Entry of each level [n, levels] and their sum [n, width], the level's nearest to what is left each time."""
        found, index = torch.zeros_like(vectors), []
        for level, entries in enumerate(self.codebook):
            left = vectors - found
            distance, nearest = _nearest(left, entries)
            if learn:
                self._follow(level, left, nearest, distance)
            found = found + entries[nearest]
            index.append(nearest)
        return torch.stack(index, -1), found

    def _follow(self, level: int, vectors: Tensor, nearest: Tensor, distance: Tensor) -> None:
        """Move a level's running means towards the vectors that took each entry; give dead entries new places."""
        counts, sums = self.counts[level], self.sums[level]
        dead = counts < DEAD / self.size
        # A batch that is not finite leaves no trace: its step is skipped too.
        fine = vectors.isfinite().all(-1, keepdim=True)
        known = torch.cat([torch.where(fine, vectors, 0.0), fine.to(vectors.dtype)], -1) / len(vectors)
        # accumulate: sums in a fixed order on a GPU too, where index_add has none.
        new = known.new_zeros(self.size, self.width + 1).index_put_((nearest,), known, accumulate=True)
        counts.lerp_(new[:, -1], 1 - self.decay)
        sums.lerp_(new[:, :-1], 1 - self.decay)
        # The vectors that are worst served, as many as a row has slots. Of a team's processes each serves its share of
        # the dead, from its own vectors, and has nothing for the others: so the average over processes is the vector of
        # the one that has it.
        rank, of = self.team
        far = distance.masked_fill(~fine[:, 0], -1.0).topk(min(self.slots, len(vectors))).indices
        number = dead.cumsum(0) - 1
        moved = dead & (number < len(far) * of)
        own = (moved & (number % of == rank) & fine.any()).float() / self.size
        counts.copy_(torch.where(moved, own, counts))
        place = torch.where(fine, vectors, 0.0)[far[(number // of).clamp(0, len(far) - 1)]]
        sums.copy_(torch.where(moved.unsqueeze(-1), place * own.unsqueeze(-1), sums))


EXACT = "donot_use_mm_for_euclid_dist"  # |e|² − 2 e·c + |c|² loses small distances between large numbers


def _nearest(vectors: Tensor, entries: Tensor) -> tuple[Tensor, Tensor]:
    """Distance [n] to the nearest entry, and which it is [n]."""
    parts = vectors.split(max(1, CHUNK // len(entries)))
    found = [torch.cdist(part, entries, compute_mode=EXACT).min(-1) for part in parts]
    return torch.cat([f.values for f in found]), torch.cat([f.indices for f in found])


def _take(of: Tensor, which: Tensor) -> Tensor:
    """Rows `which` [n, k] of each of n tables [n, m, w]. [n, k, w]"""
    return of.gather(1, which.unsqueeze(-1).expand(-1, -1, of.shape[-1]))


def usage(model: Any, z: Tensor) -> dict[str, float]:
    """Of a model with a codebook, what rows with codes z [n, d] use of it, as a mean over levels; else nothing.

    codebook_use: the share of entries that at least one slot of one row takes. codebook_perplexity: exp of the entropy
    of how often each is taken, the number of entries that would be as varied if all were taken alike.
    """
    head = getattr(model, "head", None)
    if not isinstance(head, Head):
        return {}
    index = head.indices(z).unflatten(-1, (head.slots, head.levels)).flatten(0, -2)
    shares = torch.stack([i.bincount(minlength=head.size) for i in index.unbind(-1)]).double() / len(index)
    return {
        "codebook_use": float((shares > 0).double().mean()),
        "codebook_perplexity": float(torch.special.entr(shares).sum(-1).exp().mean()),
    }


@part("latent", "codes")
@dataclass(frozen=True)
class Codes:
    """z of `dim` numbers in `slots` vectors, each the nearest of `size` learned entries, the same for all slots.

    slots: dim / slots numbers make a vector; None: 2 numbers, or 3 where dim is odd, or 1. A row is then at most
    slots · levels · log2(size) bits.
    levels: each level's codebook is for what the levels before left (Zeghidour et al. 2021, arXiv:2107.03312, sec.
    III-C: residual vector quantisation).
    decay: of the running means that the entries are. commitment: nats per squared distance between the encoder's
    numbers and their entries, summed over the row: −log N(e; entry, 1 / (2 · commitment)) up to a constant. Beside a
    likelihood of hundreds of nats that is little; the encoder answers a small weight with larger numbers (deviations of
    6 at .1 and 2 at 1, on one table), so that it hardly matters: on MNIST .25, 1 and 4 left 11.3, 11.3 and 11.5 % of
    the variance, and theirs saw no difference from .1 to 2.

    Source: van den Oord et al. 2017 (arXiv:1711.00937), eq. 3, with the codebook's loss replaced by the running means
    of app. A.1. Theirs smooth the counts; here an entry that nobody takes moves to one of the vectors that are farthest
    from their entries, which needs no draw.
    """

    dim: int = 16
    slots: int | None = None
    size: int = 256
    levels: int = 1
    decay: float = 0.99
    commitment: float = 0.25

    support = "codes"
    density = False
    searches = True  # q(z|x) is found by a search, not by a formula

    def __post_init__(self) -> None:
        require(self.dim >= 1, self, "dim", "1 or more")
        fine = self.slots is None or (self.slots >= 1 and self.dim % self.slots == 0)
        require(fine, self, "slots", f"a divisor of dim = {self.dim}")
        require(self.size >= 2, self, "size", "2 or more")
        require(self.levels >= 1, self, "levels", "1 or more")
        require(0 <= self.decay < 1, self, "decay", "from 0 to below 1")
        require(self.commitment >= 0, self, "commitment", "0 or more")

    @property
    def in_slots(self) -> int:
        """How many vectors a row has."""
        return self.slots or self.dim // next(n for n in (2, 3, 1) if self.dim % n == 0)

    @property
    def bits(self) -> float:
        """The most that a row's code can say."""
        return self.in_slots * self.levels * math.log2(self.size)

    def build(self, width: int) -> nn.Module:
        """The head on `width` features."""
        return Head(width, self)
