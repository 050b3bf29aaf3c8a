"""Prototypes: means of like rows. How far a row is from the nearest tells how strange it is, as a neighbour would.

They stand in the place of neighbours, so that the model file holds no row: each is the mean of several.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ...model.committee import bags

# A prototype is the mean of so many rows at least; rounds of k-means, after which means hardly move.
FEWEST, ROUNDS = 3, 4
SHARE = 0.5
# A state that holds for this many times what counts as apart is one that comes back.
LONG = 8


@dataclass(frozen=True)
class Prototypes:
    """points float32 [sets, size, f], NaN where a set has fewer. A row is measured against the sets it was not in."""

    points: np.ndarray

    def score(self, features: Tensor, seen: Tensor | None, own: Tensor) -> np.ndarray:
        """Mean distance to the nearest prototype over the sets without the row [n]. Missing features count as far as
        the others do on average.
        """
        total, _ = self._nearest(features, seen, own)
        return total.numpy()

    def shares(self, features: Tensor, seen: Tensor | None, own: Tensor) -> np.ndarray:
        """Of each feature its mean squared difference from the nearest prototypes. [n, f]"""
        return self._nearest(features, seen, own)[1].numpy()

    def _nearest(self, features: Tensor, seen: Tensor | None, own: Tensor) -> tuple[Tensor, Tensor]:
        stranger = ~bags(own, len(self.points), SHARE)
        stranger |= ~stranger.any(0)
        there = torch.ones_like(features) if seen is None else seen.float()
        whole = features.shape[1] / there.sum(1).clamp(min=1)
        total, parts = torch.zeros(len(features)), torch.zeros_like(features)
        for all_of_them, say in zip(torch.from_numpy(self.points), stranger, strict=True):
            points = all_of_them[~all_of_them[:, 0].isnan()]
            at = squared(features, points, there).argmin(1)
            square = (features - points[at]).square() * there
            total += say * (square.sum(1) * whole).sqrt()
            parts += say[:, None] * square
        count = stranger.sum(0)
        return total / count, parts / count[:, None]


def squared(features: Tensor, points: Tensor, there: Tensor) -> Tensor:
    """Squared distances [n, k] over the features that are there; those that are not must be 0."""
    return (features.square().sum(1, keepdim=True) + there @ points.square().T - 2 * features @ points.T).clamp(min=0)


def found(
    features: Tensor,
    seen: Tensor | None,
    own: Tensor,
    sets: int,
    size: int,
    seed: int,
    places: Tensor | None = None,
    apart: int = 0,
) -> Prototypes:
    """`sets` of prototypes, each of up to `size` from half of the rows by k-means; those of few rows are left out, so
    that a strange row among the training data is none.

    places [n]: where the rows stand in time, in rising order. Then rows that stand nearer to each other than `apart`
    count as one: a prototype is what came back.
    """
    generator = torch.Generator().manual_seed(seed)
    mine = bags(own, sets, SHARE)
    there = torch.ones_like(features) if seen is None else seen.float()
    points = torch.full((sets, size, features.shape[1]), torch.nan)
    for k in range(sets):
        rows = mine[k].nonzero()[:, 0]
        rows = rows if len(rows) > FEWEST else torch.arange(len(features))
        x, seen_x = features[rows], there[rows]
        many = max(1, min(size, len(rows) // FEWEST))
        means = x[torch.randperm(len(x), generator=generator)[:many]]
        for _ in range(ROUNDS):
            at = squared(x, means, seen_x).argmin(1)
            count = torch.zeros(len(means)).index_add(0, at, torch.ones(len(x)))
            weight = torch.zeros_like(means).index_add(0, at, seen_x)
            total = torch.zeros_like(means).index_add(0, at, x)
            means = torch.where(weight > 0, total / weight.clamp(min=1), means)
        if places is not None:
            count = _times(at, places[rows], apart, len(means))
        kept = count >= FEWEST if bool((count >= FEWEST).any()) else count == count.max()
        points[k, : int(kept.sum())] = means[kept]
    return Prototypes(points.numpy())


def _times(at: Tensor, places: Tensor, apart: int, means: int) -> Tensor:
    """How often rows came to each of so many means: a run of rows, each nearer in time than `apart` to the one before,
    came once; one that goes on for long, once in every `LONG` of these.
    """

    def distinct(of: Tensor) -> Tensor:
        pairs = torch.unique(torch.stack([at, of]), dim=1)
        return torch.bincount(pairs[0], minlength=means)

    order = torch.argsort(at, stable=True)
    new = (at[order][1:] != at[order][:-1]) | (places[order][1:] - places[order][:-1] >= apart)
    run = torch.empty_like(at)
    run[order] = torch.cat([torch.zeros(1, dtype=torch.long), new.long().cumsum(0)])
    return torch.maximum(distinct(run), distinct(places // (LONG * apart)))
