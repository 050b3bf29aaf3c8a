"""Means of the terms of a loss over many batches."""

import torch
from torch import Tensor

from .team import ALONE, Team


class Totals:
    """Running sums on the device, read once an epoch: reading a number at every step would stop the pipeline."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.sums: Tensor | float = 0.0

    def add(self, terms: dict[str, Tensor], finite: Tensor | None = None, weight: float = 1.0) -> None:
        """Add one batch's means; a batch that is not finite counts for nothing."""
        self.names = list(terms)
        one = next(iter(terms.values()))
        values = torch.stack([v.detach().float() for v in terms.values()] + [torch.ones_like(one, requires_grad=False)])
        self.sums = self.sums + weight * (values if finite is None else torch.where(finite > 0, values, 0.0))

    def take(self, team: Team = ALONE) -> dict[str, float]:
        """The means since the last call, over all processes."""
        if not isinstance(self.sums, Tensor):
            return {}
        *values, weight = team.total(self.sums.clone()).tolist()
        self.sums = 0.0
        return {name: value / max(weight, 1e-9) for name, value in zip(self.names, values, strict=True)}
