"""The model: three distributions over a batch, and one pass through them.

encode(batch) -> q(z|x)        prior() -> p(z)        decode(z) -> p(x|z)

batch ──corrupt──▶ encoder ──▶ head ──▶ q(z|x) ──sample──▶ z ──▶ decoder ──▶ likelihood ──▶ p(x|z)
                                          └──── KL to p(z) ────┘                              └─ log p(batch|z)
"""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol, final

import torch
from torch import Tensor, nn

from ..errors import ConfigError
from .batch import Batch
from .dists.base import Dist, Likelihood
from .latents.base import Posterior
from .nets.layers import Offset
from .priors.base import PriorModule


class Corruption(Protocol):
    """What the encoder sees instead of x. `continuous` [cells] marks the cells that are real numbers."""

    def __call__(self, batch: Batch, continuous: Tensor, generator: torch.Generator | None) -> Batch: ...


@dataclass(frozen=True)
class Loss:
    """What an objective returns: the number to minimise and its named terms, in nats per row."""

    total: Tensor
    terms: dict[str, Tensor]


@dataclass(frozen=True, eq=False)
class Pass:
    """One pass of a batch through a model. Shapes: s draws, b rows; nats, summed over dimensions."""

    q: Posterior
    prior: PriorModule
    z: Tensor  # [s, b, d]
    px: Dist  # p(x|z)
    target: Batch
    penalty: Tensor = field(default_factory=lambda: torch.zeros(()))

    @cached_property
    def cells(self) -> Tensor:
        """log p of each cell given z; 0 where it was not observed. [s, b, *cells]"""
        cells = self.px.cells(self.target.x)
        return cells if self.target.observed is None else cells.masked_fill(~self.target.observed, 0.0)

    @cached_property
    def log_px(self) -> Tensor:
        """log p(x|z) over the observed cells. [s, b]"""
        return self.cells.flatten(2).sum(-1)

    @cached_property
    def log_pz(self) -> Tensor:
        """log p(z). [s, b]"""
        return self.prior.log_prob(self.z)

    @cached_property
    def log_qz(self) -> Tensor:
        """log q(z|x). [s, b]"""
        return self.q.log_prob(self.z)

    @cached_property
    def kl(self) -> Tensor:
        """KL(q(z|x) ‖ p(z)) of each row: exact where it has a closed form, else from the draws. [b]"""
        dims = self.kl_dims
        return dims.sum(-1) if dims is not None else (self.log_qz - self.log_pz).mean(0)

    @cached_property
    def kl_dims(self) -> Tensor | None:
        """The KL of each latent dimension [b, d]; None if q or p does not factorise."""
        return self.prior.kl_dims(self.q)

    def require_density(self, name: str) -> None:
        """Raise ConfigError unless log q(z|x) exists; `name` is who asks."""
        if not self.q.has_density:
            raise ConfigError(
                f"objective {name!r} needs log q(z|x), which this latent does not have",
                hint="use objective 'ae', or a latent with a density such as 'gaussian'",
            )


@final
class Model(nn.Module):
    """Encoder, latent head, prior, decoder and likelihood, joined.

    `generator` is the only source of randomness of a pass. `progress` is the share of the training run that is done
    (1 outside training): warm-ups follow it. `low_precision`: whether encoder and decoder compute in bfloat16.
    """

    def __init__(
        self,
        encoder: nn.Module,
        head: nn.Module,
        prior: PriorModule,
        decoder: nn.Module,
        likelihood: Likelihood,
        corruption: Corruption | None = None,
    ) -> None:
        super().__init__()
        self.encoder, self.head, self.prior_module = encoder, head, prior
        self.decoder, self.likelihood = decoder, likelihood
        self.corruption = corruption
        self.generator: torch.Generator | None = None
        self.progress = 1.0
        self.low_precision = False

    def encode(self, batch: Batch) -> Posterior:
        """q(z|x) of each row."""
        with self._low():
            features = self.encoder(batch)
        return self.head(features.float())

    def prior(self) -> PriorModule:
        """p(z)."""
        return self.prior_module

    def decode(self, z: Tensor) -> Dist:
        """p(x|z) for z [..., d]; the distribution's batch shape is z's."""
        with self._low():
            params = self.decoder(z.flatten(0, -2))
        return self.likelihood(params.float().unflatten(0, z.shape[:-1]))

    def _low(self) -> AbstractContextManager[Any]:
        """Where the nets compute in bfloat16. Heads, densities, KL and losses never do."""
        if not self.low_precision:
            return nullcontext()
        return torch.autocast(next(self.parameters()).device.type, dtype=torch.bfloat16)

    @torch.no_grad()
    def center(self, batch: Batch) -> None:
        """Set the decoder's last bias so that, before training, p(x|z) is the rows' own mean: nothing in the first
        steps is spent on learning what a row looks like on average.
        """
        last = [m for m in self.decoder.modules() if isinstance(m, (nn.Linear, Offset))][-1]
        params = self.likelihood.start(self.likelihood.features(batch.x).flatten(1).mean(0))
        assert last.bias is not None
        last.bias.copy_(params.reshape(last.bias.shape))

    def corrupted(self, batch: Batch) -> Batch:
        """What the encoder sees of `batch` in training."""
        if self.corruption is None or not self.training:
            return batch
        return self.corruption(batch, self.likelihood.continuous, self.generator)

    def run(self, batch: Batch, samples: int = 1) -> Pass:
        """Encode, draw `samples` latents a row, decode; the target is the batch as it came."""
        q = self.encode(self.corrupted(batch))
        z = q.sample(samples, self.generator)
        px = self.decode(z)
        if self.training:
            self.likelihood.observe(px, batch)
        return Pass(q, self.prior(), z, px, batch, q.penalty)
