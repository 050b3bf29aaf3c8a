"""The interface of q(z|x)."""

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor

from ...errors import ConfigError
from ..noise import normal


def require_mean(latent: Any, who: str, hint: str) -> None:
    """Refuse a latent part whose mean has no gradient where objective `who` presses on it. Raises ConfigError."""
    if getattr(latent, "sampled", False):
        raise ConfigError(
            f"{who} presses on the mean of q(z|x), and that of latent {latent.name!r} is made of draws: it has no "
            "gradient",
            hint=f"{hint}, or --set latent=gaussian",
        )


class Posterior(ABC):
    """q(z|x) of b rows. `penalty` is what the latent itself adds to the loss, in nats per row."""

    has_density = True
    discrete = False  # whether q gives a z a probability: log_prob is then one, and so is the prior's
    kl_weight: float = 1.0  # how often a nat of its KL counts in the objective `elbo`

    @property
    @abstractmethod
    def mean(self) -> Tensor:
        """[b, d]"""

    @property
    @abstractmethod
    def stddev(self) -> Tensor:
        """[b, d]; zeros where q is a point."""

    @property
    def like(self) -> Tensor:
        """Any tensor [b, d] on q's device: asked at every step, so a q whose mean costs a pass gives another."""
        return self.mean

    @property
    def penalty(self) -> Tensor:
        """A scalar."""
        return self.like.new_zeros(())

    @property
    def kl_standard(self) -> Tensor | None:
        """KL(q(z|x) ‖ N(0, I)) of each dimension in nats where it has a closed form. [b, d]"""
        return None

    def moved(self, mean: Tensor, log_width: Tensor) -> "Posterior | None":
        """q of (z − mean) / exp(log_width), each [b, d] or [1, d]; None where it has no closed form."""
        return None

    def sample(self, samples: int, generator: torch.Generator | None) -> Tensor:
        """Reparametrised draws. [samples, b, d]"""
        return self.draw(normal((samples, *self.like.shape), generator, self.like.device, rows=1))

    @abstractmethod
    def draw(self, noise: Tensor) -> Tensor:
        """The draws that standard normal noise [s, b or 1, d] stands for. [s, b, d]"""

    @abstractmethod
    def log_prob(self, z: Tensor) -> Tensor:
        """log q(z|x) of z [s, b, d], in nats. [s, b]"""

    def log_prob_pairs(self, z: Tensor) -> Tensor:
        """log q_k(z_n) of every z [n, d] under every row's q. [n, b]"""
        return self.log_prob(z.unsqueeze(1).expand(len(z), *self.like.shape))

    def log_prob_dims(self, z: Tensor, dims: slice = slice(None)) -> Tensor | None:
        """log q(z_k|x) of the dimensions k in `dims` of z [s, b or 1, d], in nats [s, b, those]; None where q does not
        factorise.
        """
        return None

    @property
    def entropy(self) -> Tensor | None:
        """−E_q[log q(z|x)] of each row, in nats [b]; None where it has no closed form."""
        return None

    def detached(self) -> "Posterior":
        """This q with its numbers as constants: a gradient of its `log_prob` goes through z alone."""
        raise ConfigError(
            "the gradient through log q(z|x) cannot be left out with this latent",
            hint="--set objective.path=false, for objective 'iwae' --set objective.dreg=false",
        )
