"""The interface of p(z)."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from ..latents.base import Posterior


class PriorModule(nn.Module, ABC):
    """p(z) in d dimensions."""

    fitted_afterwards = False  # whether `fit` is to be called with the codes when training is over

    @abstractmethod
    def log_prob(self, z: Tensor) -> Tensor:
        """log p(z) of z [..., d], in nats. [...]"""

    @abstractmethod
    def sample(self, n: int, generator: torch.Generator | None) -> Tensor:
        """n draws. [n, d]"""

    def kl_dims(self, q: Posterior) -> Tensor | None:
        """KL(q ‖ p) of each dimension [b, d] where it has a closed form; None where it has not."""
        return None

    def fit(self, codes: Tensor, generator: torch.Generator | None) -> None:
        """Fit to the codes [n, d] of the training rows, once, after training."""
