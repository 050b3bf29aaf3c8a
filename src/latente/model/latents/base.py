"""The interface of q(z|x)."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from ..noise import normal


class Posterior(ABC):
    """q(z|x) of b rows. `penalty` is what the latent itself adds to the loss, in nats per row."""

    has_density = True
    discrete = False  # whether q gives a z a probability: log_prob is then one, and so is the prior's

    @property
    @abstractmethod
    def mean(self) -> Tensor:
        """[b, d]"""

    @property
    @abstractmethod
    def stddev(self) -> Tensor:
        """[b, d]; zeros where q is a point."""

    @property
    def penalty(self) -> Tensor:
        """A scalar."""
        return self.mean.new_zeros(())

    def sample(self, samples: int, generator: torch.Generator | None) -> Tensor:
        """Reparametrised draws. [samples, b, d]"""
        shape = (samples, *self.mean.shape)
        return self.draw(normal(shape, generator, self.mean.device, rows=1))

    @abstractmethod
    def draw(self, noise: Tensor) -> Tensor:
        """The draws that standard normal noise [s, b or 1, d] stands for. [s, b, d]"""

    @abstractmethod
    def log_prob(self, z: Tensor) -> Tensor:
        """log q(z|x) of z [s, b, d], in nats. [s, b]"""
