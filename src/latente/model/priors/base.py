"""The interface of p(z)."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ..batch import Batch
from ..latents.base import Posterior

if TYPE_CHECKING:
    from ..model import Flat


@dataclass(frozen=True)
class Host:
    """What a prior is told of its model: the code's dimensions, the shape of the features that the encoder's body
    takes, the head that makes q(z|x), and how many numbers say what is given.
    """

    dim: int
    features: tuple[int, ...] = ()
    head: nn.Module | None = None
    given: int = 0


class PriorNets(nn.Module, ABC):
    """The weights of p(z)."""

    @abstractmethod
    def of(self, model: "Flat") -> "PriorModule":
        """p(z) for one pass of its model: here a prior that is made of encodings looks at the encoder."""

    def start(self, model: "Flat", batch: Batch) -> None:
        """Before training: begin at these rows, if that is where this prior begins."""


class PriorModule(PriorNets, ABC):
    """p(z) in d dimensions."""

    fitted_afterwards = False  # whether `fit` is to be called with the codes when training is over

    @abstractmethod
    def log_prob(self, z: Tensor) -> Tensor:
        """log p(z) of z [..., d], in nats. [...]"""

    @abstractmethod
    def sample(self, n: int, generator: torch.Generator | None) -> Tensor:
        """n draws. [n, d]"""

    def of(self, model: "Flat") -> "PriorModule":
        return self

    def told(self, given: Tensor) -> "PriorModule":
        """p(z|c) for c = `given` [b, k] or [1, k], of a prior that can be told; of any other p(z)."""
        return self

    def around(self, model: "Flat", batch: Batch) -> "PriorModule":
        """p(z) for the rows of one pass: of a prior that holds rows to something in training; of any other itself."""
        return self

    def kl_dims(self, q: Posterior) -> Tensor | None:
        """KL(q ‖ p) of each dimension [b, d] where it has a closed form; None where it has not."""
        return None

    def fit(self, codes: Tensor, generator: torch.Generator | None) -> None:
        """Fit to the codes [n, d] of the training rows, once, after training."""
