"""Categorical cells: a column of levels is its index, scored by cross-entropy from logits."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from ...parts import part
from .base import Dist, Likelihood


@dataclass(frozen=True)
class CategoricalDist(Dist):
    """A distribution over `sizes[j]` levels in column j."""

    log_p: tuple[Tensor, ...]  # per column [..., levels], normalised

    def cells(self, x: Tensor) -> Tensor:
        index = x.long()
        picked = [lp.gather(-1, index[:, j : j + 1].expand(*lp.shape[:-1], 1)) for j, lp in enumerate(self.log_p)]
        return torch.cat(picked, -1)

    @property
    def mean(self) -> Tensor:
        return self.mode

    @property
    def mode(self) -> Tensor:
        return torch.stack([lp.argmax(-1) for lp in self.log_p], -1).float()

    @property
    def expectation(self) -> Tensor:
        return torch.cat([lp.exp() for lp in self.log_p], -1)

    def sample(self, generator: torch.Generator | None) -> Tensor:
        draws = []
        for lp in self.log_p:
            u = torch.rand((*lp.shape[:-1], 1), generator=generator, device=lp.device)
            # Inverse CDF; the last level takes what rounding leaves over.
            draws.append((lp.exp().cumsum(-1)[..., :-1] < u).sum(-1))
        return torch.stack(draws, -1).float()


class _Categorical(Likelihood):
    def __init__(self, sizes: tuple[int, ...]) -> None:
        super().__init__()
        self.sizes = list(sizes)
        self.out_shape = (sum(sizes),)
        self.register_buffer("continuous", torch.zeros(len(sizes), dtype=torch.bool), persistent=False)

    def forward(self, params: Tensor) -> CategoricalDist:
        return CategoricalDist(tuple(p.log_softmax(-1) for p in params.split(self.sizes, -1)))

    def discrete(self, x: Tensor) -> bool:
        return True

    def start(self, features: Tensor) -> Tensor:
        return features.clamp(min=1e-4).log()

    def features(self, x: Tensor) -> Tensor:
        return torch.cat([F.one_hot(x[:, j].long(), k).float() for j, k in enumerate(self.sizes)], -1)

    @property
    def owner(self) -> Tensor:
        sizes = torch.tensor(self.sizes, device=self.continuous.device)
        return torch.arange(len(self.sizes), device=sizes.device).repeat_interleave(sizes)

    def from_features(self, features: Tensor) -> Tensor:
        return torch.stack([p.argmax(-1) for p in features.split(self.sizes, -1)], -1).float()


@part("likelihood", "categorical")
@dataclass(frozen=True)
class Categorical:
    """Cross-entropy over levels, in nats. `sizes[j]` is the number of levels of column j."""

    sizes: tuple[int, ...] = (2,)

    def build(self, shape: tuple[int, ...]) -> Likelihood:
        """The likelihood of the columns; `shape` is (number of columns,)."""
        return _Categorical(self.sizes)
