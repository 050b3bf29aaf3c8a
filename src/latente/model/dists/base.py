"""Interfaces of p(x|z): a likelihood turns a decoder's numbers into a distribution."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ...errors import ConfigError
from ..batch import Batch


@dataclass(frozen=True)
class Bend:
    """How draws of a sequence differ from its density: log p is divided by `temperature`, then of the tokens those are
    kept that have `top_p` together, the likeliest first (Holtzman et al. 2020, arXiv:1904.09751). follows: bool
    [tokens, tokens], which may follow which; None: any.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    follows: Tensor | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.temperature <= 100:
            raise ConfigError(f"temperature must be from 0 (the likeliest) to 100, not {self.temperature}")
        if not 0 < self.top_p <= 1:
            raise ConfigError(f"top_p must be a share above 0, up to 1, not {self.top_p}", hint="0.9, for one")


class Dist(ABC):
    """p(x|z), cell by cell. Shapes: [..., *cells], the leading ones those of z."""

    @abstractmethod
    def cells(self, x: Tensor) -> Tensor:
        """log p of each cell of x [b, *cells], in nats. [..., b, *cells]"""

    def seen(self, x: Tensor, observed: Tensor | None) -> Tensor:
        """log p of each observed cell, 0 elsewhere; what stands in the other cells has no say. As `cells`"""
        cells = self.cells(x)
        return cells if observed is None else cells.masked_fill(~observed, 0.0)

    def log_prob(self, x: Tensor, observed: Tensor | None) -> Tensor:
        """log p of each row's observed cells together, in nats. [..., b]"""
        return self.seen(x, observed).flatten(-self.event_dim).sum(-1)

    @property
    @abstractmethod
    def mean(self) -> Tensor:
        """The mean of each cell; of a categorical cell, which has none, the mode."""

    @property
    @abstractmethod
    def mode(self) -> Tensor:
        """The most probable value of each cell."""

    @property
    def expectation(self) -> Tensor:
        """The mean of the cells' features: a category is its row of probabilities. [..., features]"""
        return self.mean.flatten(-self.event_dim)

    @property
    def event_dim(self) -> int:
        """How many trailing dimensions are cells of one row."""
        return 1

    @abstractmethod
    def sample(self, generator: torch.Generator | None) -> Tensor:
        """One draw of each cell."""

    def bent(self, bend: "Bend") -> "Dist":
        """This distribution with other draws. Raises ConfigError where a cell does not wait for those before it."""
        raise ConfigError(
            "temperature, top_p and like_data are for draws of texts and tunes", hint="leave them out for this model"
        )


class Likelihood(nn.Module, ABC):
    """Decoder output -> Dist. `out_shape` is what it wants of the decoder for one row."""

    out_shape: tuple[int, ...]
    sequential = False  # whether each cell is given those before it: such a decoder can do without a code
    low_precision = False  # whether nets of its own compute in bfloat16
    whole = True  # whether features are all of a row, so that `from_features` gives it back
    measured = False  # whether a running statistic (a closed-form scale) is kept, and to be settled after training
    continuous: Tensor  # bool [*cells]: which cells are real numbers, in units of about one

    @abstractmethod
    def forward(self, params: Tensor) -> Dist:
        """The distribution of params [..., *out_shape]."""

    def features(self, x: Tensor) -> Tensor:
        """x [b, *cells] as plain numbers [b, features]: a category is its one-hot row."""
        return x.flatten(1)

    def average(self, x: Tensor) -> Tensor:
        """What `start` is told of rows x: the mean of their features. [features]"""
        return self.features(x).flatten(1).mean(0)

    @property
    def owner(self) -> Tensor:
        """The cell that each feature belongs to. int [features]"""
        return torch.arange(self.continuous.numel(), device=self.continuous.device)

    def start(self, features: Tensor) -> Tensor:
        """The decoder output [*out_shape] whose distribution has these expected features [features]."""
        return features.reshape(self.out_shape)

    def from_features(self, features: Tensor) -> Tensor:
        """Expected features [b, features] as cells [b, *cells]: of a category the most probable level."""
        return features.unflatten(1, self.continuous.shape)

    def discrete(self, x: Tensor) -> bool:
        """Whether p of these cells is a probability of discrete values, not a density."""
        return False

    def stir(self, generator: torch.Generator | None) -> None:
        """Take the generator from which a training pass draws what is this likelihood's own."""

    def deal(self, generator: torch.Generator | None) -> None:
        """Draw what a training pass's rows share, for one in which each goes through by itself; None: it is over."""

    @contextmanager
    def judged(self) -> Iterator[None]:
        """Where a run looks at its held-out rows: a likelihood that trains in several ways is then seen in each."""
        yield

    def observe(self, px: Dist, target: Batch) -> None:
        """Update running statistics (a closed-form scale) from one training pass."""

    def descend(self, params: Tensor, target: Batch, gradient: Tensor) -> Tensor:
        """−log p(target|z), mean over the rows, with its gradient by `params` [b, ...] written in `gradient`; the
        likelihood's own weights get theirs added to `.grad`. Running statistics are updated as in a training pass.
        """
        with torch.enable_grad():
            leaf = params.detach().requires_grad_()
            px = self(leaf.unflatten(-1, self.out_shape).unsqueeze(0))
            self.observe(px, target)
            cells = px.seen(target.x, target.observed)
            rec = -cells.flatten(2).sum(-1).mean()
            rec.backward()
        assert leaf.grad is not None
        gradient.copy_(leaf.grad)
        return rec.detach()

    def restart(self) -> None:
        """Forget the running statistics: they are about to be measured anew."""


def as_mask(target: Batch) -> Tensor:
    """The observed mask of a batch, all ones if it has none."""
    if target.observed is not None:
        return target.observed
    return torch.ones(target.x.shape, dtype=torch.bool, device=target.x.device)
