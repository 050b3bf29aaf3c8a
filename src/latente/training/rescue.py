"""When a run goes wrong: a streak of steps without a finite gradient, and what began it."""

import torch
from torch import Tensor

from ..kinds.base import Kind
from ..model.model import Model
from .feed import Feed, Portion

# Single steps are skipped. So many in a row are no accident of a batch: the weights themselves are beyond recall.
STREAK = 10
# Times that a run is rolled back before it is given up, and the factor on its rate at each.
ROLLBACKS, SMALLER = 5, 0.5
# How many rows and columns are named.
FEW = 3
# On a GPU, reading the verdict makes the processor wait: it is read once in so many steps.
PATIENCE = STREAK


class Guard:
    """Counts steps in a row that were skipped. `first` is the portion that began the streak."""

    def __init__(self, device: str) -> None:
        self.waits = device != "cpu"
        self.streak = 0
        self.first: Portion | None = None
        self._unread: list[tuple[Tensor, Portion]] = []

    def lost(self, finite: Tensor, portion: Portion) -> bool:
        """Whether the run has to go back."""
        self._unread.append((finite, portion))
        if self.waits and len(self._unread) < PATIENCE:
            return False
        for one, (_, seen) in zip(torch.stack([f for f, _ in self._unread]).tolist(), self._unread, strict=True):
            if one:
                self.forget()
            else:
                self.first = self.first or seen
                self.streak += 1
        self._unread = []
        return self.streak >= STREAK

    def forget(self) -> None:
        """All is well again."""
        self.streak, self.first = 0, None


@torch.no_grad()
def blame(model: Model, kind: Kind, feed: Feed, portion: Portion) -> str:
    """In words: the rows and columns of a portion that a good model finds impossible, or else the least likely."""
    model.eval()
    batch = kind.prepare(portion.batch)
    cells = model.run(batch).cells[0]
    model.train()
    odd = ~torch.isfinite(cells)
    what = "not finite" if odd.any() else "least likely"
    surprise = odd.double() if odd.any() else -cells.double()
    by_row = surprise.flatten(1).sum(1)
    by_cell = surprise.sum(0).flatten()
    rows = feed.numbers(portion, by_row.topk(min(FEW, len(by_row))).indices.cpu())
    columns = [kind.cell_name(int(i)) for i in by_cell.topk(min(FEW, len(by_cell))).indices]
    return (
        f"{STREAK} in a row had no finite gradient; in the first of them rows {', '.join(map(str, rows))} and "
        f"{', '.join(columns)} were {what}"
    )
