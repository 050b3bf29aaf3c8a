"""What a model sees of the data: rows, and which of their cells were observed."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from . import sparse


@dataclass(frozen=True)
class Batch:
    """Rows as tensors.

    x: [b, *cells], in a kind's compact dtype while it lies in memory, float32 when it reaches a model. Of kinds in
    which nearly all cells are 0 it is sparse (`sparse.py`), all the way to nets and likelihoods that know of it.
    observed: bool, same shape as x; None means that every cell is. Missing, padding and unseen are this one mask.
    context: [b, k] what is given and not modelled, or None.
    """

    x: Tensor
    observed: Tensor | None = None
    context: Tensor | None = None

    def __len__(self) -> int:
        return len(self.x)

    def rows(self, index: Tensor | slice) -> "Batch":
        """The rows of `index`."""
        return Batch(*(None if t is None else sparse.take(t, index) for t in self._tensors()))  # type: ignore[arg-type]

    def to(self, device: str) -> "Batch":
        """The same rows on `device`."""
        return Batch(*(None if t is None else t.to(device) for t in self._tensors()))  # type: ignore[arg-type]

    def _tensors(self) -> tuple[Tensor | None, ...]:
        return self.x, self.observed, self.context


def both(a: Batch, b: Batch) -> Batch:
    """The rows of `a`, then those of `b`; what is given of them where both say it."""
    masks = None
    if a.observed is not None or b.observed is not None:
        masks = torch.cat([_mask(a), _mask(b)])
    context = None if a.context is None or b.context is None else torch.cat([a.context, b.context])
    return Batch(sparse.joined([a.x, b.x]), masks, context)


def _mask(rows: Batch) -> Tensor:
    return torch.ones(rows.x.shape, dtype=torch.bool) if rows.observed is None else rows.observed


def parts_of(rows: Batch, size: int = 1024) -> Iterator[Batch]:
    """Some rows at a time."""
    return (rows.rows(slice(i, i + size)) for i in range(0, len(rows), size))
