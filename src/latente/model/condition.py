"""What is given beside a row: c in q(z|x, c) and p(x|z, c)."""

import torch
from torch import Tensor, nn

from .dists.base import Likelihood
from .noise import uniform

# Share of what is given that is hidden in training: enough to know what to do where nothing is said, too little to
# learn less of the rest (10 to 20 % is usual: Ho & Salimans 2022, arXiv:2207.12598, sec. 5).
HIDDEN = 0.1


class Condition(nn.Module):
    """Cells of what is given [b, m], NaN where unknown, as numbers [b, k]: a category is its one-hot row, and each cell
    has a mark that says whether it is known. Has no weights.
    """

    owner: Tensor

    def __init__(self, likelihood: Likelihood, owner: Tensor, cells: int) -> None:
        super().__init__()
        self._features = likelihood.features  # a bound method: its weights are nobody's here
        self.cells, self.width = cells, len(owner) + cells
        self.register_buffer("owner", owner, persistent=False)  # of each number, the cell that it belongs to

    def forward(self, context: Tensor) -> Tensor:
        known = ~context.isnan()
        numbers = self._features(context.nan_to_num()) * known[:, self.owner]
        return torch.cat([numbers, known.float()], -1)

    def unknown(self, rows: int) -> Tensor:
        """Cells of which nothing is known. [rows, m]"""
        return torch.full((rows, self.cells), float("nan"), device=self.owner.device)

    def forget(self, context: Tensor, generator: torch.Generator | None) -> Tensor:
        """Some cells hidden, at random."""
        return context.masked_fill(uniform(tuple(context.shape), generator, context.device) < HIDDEN, float("nan"))
