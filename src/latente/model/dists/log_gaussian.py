"""Counts as rounded numbers whose logarithm is Gaussian: what taking log(1 + x) and going on as with numbers means."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from ...parts import part
from .. import sparse
from .counts import CountsDist, CountsLikelihood, Sums

# A deviation below this is rounding: half a count of a thousand.
NARROWEST = 1e-3


@dataclass(frozen=True)
class LogGaussianDist(CountsDist):
    """P(x) = Φ(b) − Φ(a) with a and b the ends of the count's bin, log(1 + x ∓ ½), standardised: a probability, to
    compare with other likelihoods of counts. It is of the counts as they are, so a row's sum has no part of its own.
    """

    location: Tensor  # [..., g]
    scale: Tensor  # [g] or [1]
    sums: Sums

    def cells(self, x: Tensor) -> Tensor:
        x = sparse.dense(x)
        a = torch.where(x > 0, (torch.log1p((x - 0.5).clamp(min=0)) - self.location) / self.scale, -torch.inf)
        b = (torch.log1p(x + 0.5) - self.location) / self.scale
        # In the upper tail the other way round, where float32 still tells the two apart.
        high, low = torch.where(a > 0, -a, b), torch.where(a > 0, -b, a)
        top = torch.special.log_ndtr(high)
        apart = (torch.special.log_ndtr(low) - top).clamp(max=-1e-6)
        return top + torch.log(-torch.expm1(apart))

    def joint(self, x: Tensor, n: Tensor) -> Tensor:
        return self.cells(x).sum(-1)

    @property
    def mean(self) -> Tensor:
        return torch.expm1(self.location + 0.5 * self.scale.square()).clamp(min=0)

    @property
    def mode(self) -> Tensor:
        # Bins are the narrower the larger the count: the top is near that of a log-normal density, or at 0, whose bin
        # has no lower end.
        near = torch.expm1(self.location - self.scale.square()).clamp(min=0).floor()
        tried = [torch.zeros_like(near), *((near + i).clamp(min=0) for i in (-1, 0, 1, 2))]
        best = torch.stack([self.cells(x) for x in tried]).argmax(0)
        return torch.stack(tried).gather(0, best.unsqueeze(0))[0]

    def sample(self, generator: torch.Generator | None) -> Tensor:
        noise = torch.randn(self.location.shape, generator=generator, device=self.location.device)
        return torch.expm1((self.location + self.scale * noise).clamp(max=17)).clamp(min=0).round()


class _LogGaussian(CountsLikelihood):
    def __init__(self, shape: tuple[int, ...], per: str) -> None:
        super().__init__(shape)
        self.cell_log_scale = nn.Parameter(torch.zeros(shape if per == "column" else (1,)))

    def forward(self, params: Tensor) -> LogGaussianDist:
        return LogGaussianDist(params[..., :-1], self.cell_log_scale.exp().clamp(min=NARROWEST), self.sums(params))

    def features(self, x: Tensor) -> Tensor:
        """log(1 + x), of rows as they are. [b, g]"""
        return torch.log1p(sparse.dense(x))

    def average(self, x: Tensor) -> Tensor:
        return self.features(x).mean(0)

    def start(self, features: Tensor) -> Tensor:
        return features


@part("likelihood", "log-gaussian")
@dataclass(frozen=True)
class LogGaussian:
    """log(1 + x) ~ N(mean, σ²) as probabilities of whole counts: a baseline. per: a σ for each "column", or one for all
    of a "row", as PCA and squared errors have it.
    """

    per: Literal["column", "row"] = "column"

    def build(self, shape: tuple[int, ...]) -> CountsLikelihood:
        """The likelihood of rows of `shape`."""
        return _LogGaussian(shape, self.per)
