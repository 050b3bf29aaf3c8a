"""The model: three distributions over a batch, and one pass through them.

encode(batch) -> q(z|x)        prior() -> p(z)        decode(z) -> p(x|z)

"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any, Protocol, final

import torch
from torch import Tensor, nn
from torch.func import functional_call

from ..errors import ConfigError
from .batch import Batch
from .condition import Condition
from .dists.base import Dist, Likelihood
from .latents.base import Posterior
from .nets.layers import Offset
from .priors.base import PriorModule, PriorNets
from .priors.given import Moved, Moves


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
        return self.px.seen(self.target.x, self.target.observed)

    @cached_property
    def log_px(self) -> Tensor:
        """log p(x|z) over the observed cells. [s, b]"""
        return self.px.log_prob(self.target.x, self.target.observed)

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
        """KL(q(z|x) ‖ p(z)) of each row: exact where it has a closed form, else from the draws; of those, what q has
        in closed form, its entropy, is exact. [b]
        """
        dims = self.kl_dims
        if dims is not None:
            return dims.sum(-1)
        entropy = self.q.entropy
        return (self.log_qz - self.log_pz).mean(0) if entropy is None else -entropy - self.log_pz.mean(0)

    @cached_property
    def kl_path(self) -> Tensor:
        """The KL with gradients through the draws alone: where it is estimated from them, log q(z|x) is read with q's
        numbers as constants, which leaves out a term whose mean is 0 (Roeder et al. 2017, arXiv:1703.09194). [b]
        """
        return self.kl if self.kl_dims is not None else (self.q.detached().log_prob(self.z) - self.log_pz).mean(0)

    @cached_property
    def kl_dims(self) -> Tensor | None:
        """The KL of each latent dimension [b, d]; None if q or p does not factorise."""
        return self.prior.kl_dims(self.q)

    def require_density(self, name: str) -> None:
        """Raise ConfigError unless log q(z|x) exists; `name` is who asks."""
        if not self.q.has_density:
            raise ConfigError(
                f"objective {name!r} needs log q(z|x), which this latent does not have",
                hint="--set objective=ae, or a latent with a density: --set latent=gaussian",
            )


class Model(nn.Module, ABC):
    """Encoder, q(z|x), p(z), decoder and p(x|z), joined: `Flat`, with one layer of latents, or a ladder of them.

    `dim` numbers make a code. `generator` is the only source of randomness of a pass. `progress` is the share of the
    training run that is done (1 outside training): warm-ups follow it. `judged`: whether a run looks at held-out rows.
    `low_precision`: whether nets compute in bfloat16. `condition` turns a batch's context into numbers; None where
    nothing is given. `memory` holds the running numbers of an objective that has some: they go into checkpoints, not
    into the model file.
    """

    dim: int
    breadth = 1  # numbers of a row in the widest layer of the decoder, where that is more than the row's own

    def __init__(
        self,
        encoder: nn.Module,
        likelihood: Likelihood,
        corruption: Corruption | None = None,
        condition: Condition | None = None,
    ) -> None:
        super().__init__()
        self.encoder, self.likelihood = encoder, likelihood
        self.corruption, self.condition = corruption, condition
        self.memory = nn.Module()
        self.generator: torch.Generator | None = None
        self.progress = 1.0
        self.judged = False

    @property
    def low_precision(self) -> bool:
        """Whether encoder, decoder and a likelihood's own nets compute in bfloat16."""
        return self.likelihood.low_precision

    @low_precision.setter
    def low_precision(self, low: bool) -> None:
        self.likelihood.low_precision = low

    @abstractmethod
    def encode(self, batch: Batch) -> Posterior:
        """q(z|x) of each row."""

    @abstractmethod
    def prior(self, given: Tensor | None = None) -> PriorModule:
        """p(z|c) for c = `given`, [b, k] or [1, k]; of an unconditional model, or of a latent that has none, p(z)."""

    @abstractmethod
    def decode(self, z: Tensor, given: Tensor | None = None) -> Dist:
        """p(x|z, c) for z [..., d] and c = `given`, [b, k] or [1, k]; the distribution's batch shape is z's."""

    @abstractmethod
    def drawn(self, q: Posterior, z: Tensor, given: Tensor | None, still: bool) -> Dist:
        """p(x|z, c) of the z that was just drawn from q; see `run` on `still`."""

    @final
    def run(
        self,
        batch: Batch,
        samples: int = 1,
        *,
        noise: Tensor | None = None,
        q: Posterior | None = None,
        still: bool = False,
    ) -> Pass:
        """Encode, draw `samples` latents a row, decode; the target is the batch as it came.

        noise: standard normal [s, b or 1, d] in place of fresh draws. q: the posterior of `batch`, if it is known.
        still: the decoder's weights get no gradient from this pass.
        """
        batch = self.forgetful(batch)
        q = self.encode(self.corrupted(batch)) if q is None else q
        z = q.sample(samples, self.generator) if noise is None else q.draw(noise)
        given = self.given(batch)
        px = self.drawn(q, z, given, still)
        if self.training:
            self.likelihood.stir(self.generator)
            self.likelihood.observe(px, batch)
        prior = self.prior(given).around(self, batch)  # type: ignore[arg-type]
        return Pass(q, prior, z, px, batch, q.penalty)

    @property
    @abstractmethod
    def output(self) -> nn.Module:
        """The nets whose last layer gives the likelihood its numbers."""

    def fit_prior(self, codes: Tensor, given: list[Tensor | None]) -> None:
        """Fit a prior that is fitted when training is over: to the codes [n, d] of rows, and what is given of them."""
        self.prior().fit(codes, self.generator)

    def snap(self, z: Tensor) -> Tensor:
        """The nearest z that a row can have: of a codebook its entries, of any other latent z itself. [..., d]"""
        return z

    def given(self, batch: Batch) -> Tensor | None:
        """What is given, as numbers [b, k]: unknown where the batch says nothing; None of an unconditional model."""
        if self.condition is None:
            return None
        context = self.condition.unknown(len(batch)) if batch.context is None else batch.context
        return self.condition(context)

    def mean_of(self, batch: Batch) -> Dist:
        """p(x|z) of each row at its posterior mean. [1, b, *cells]"""
        return self.decode(self.encode(batch).mean.unsqueeze(0), self.given(batch))

    def _low(self) -> AbstractContextManager[Any]:
        """Where the nets compute in bfloat16. Heads, densities, KL and losses never do."""
        if not self.low_precision:
            return nullcontext()
        return torch.autocast(next(self.parameters()).device.type, dtype=torch.bfloat16)

    @torch.no_grad()
    def center(self, batch: Batch) -> None:
        """Set the decoder's last bias so that, before training, p(x|z) is the rows' own mean: nothing in the first
        steps is spent on learning what a row looks like on average. A prior that starts from rows does so here.
        """
        last = [m for m in self.output.modules() if isinstance(m, (nn.Linear, Offset))][-1]
        params = self.likelihood.start(self.likelihood.average(batch.x))
        assert last.bias is not None
        last.bias.copy_(params.reshape(last.bias.shape))

    def corrupted(self, batch: Batch) -> Batch:
        """What the encoder sees of `batch` in training."""
        if self.corruption is None or not self.training:
            return batch
        return self.corruption(batch, self.likelihood.continuous, self.generator)

    def forgetful(self, batch: Batch) -> Batch:
        """The batch with some of what is given hidden, in training: so a use that is told nothing is one it knows."""
        if self.condition is None or batch.context is None or not self.training:
            return batch
        return replace(batch, context=self.condition.forget(batch.context, self.generator))


@final
class Flat(Model):
    """One layer of latents: a head on the encoder's features, a prior, and a decoder.

    batch ──corrupt──▶ encoder ──▶ head ──▶ q(z|x) ──sample──▶ z ──▶ decoder ──▶ likelihood ──▶ p(x|z)
                          given ────┘                          given ────┘          given ──moves──▶ p(z)
    """

    def __init__(
        self,
        encoder: nn.Module,
        head: nn.Module,
        prior: PriorNets,
        decoder: nn.Module,
        likelihood: Likelihood,
        corruption: Corruption | None = None,
        condition: Condition | None = None,
        dim: int = 0,
        moves: Moves | None = None,
    ) -> None:
        super().__init__(encoder, likelihood, corruption, condition)
        self.head, self.prior_module, self.decoder, self.dim = head, prior, decoder, dim
        self.moves = moves

    def encode(self, batch: Batch) -> Posterior:
        return self._posterior(*self._seen(batch))

    def _seen(self, batch: Batch) -> tuple[Tensor, Tensor | None]:
        """What the head is told of each row: features, and what is given."""
        with self._low():
            features = self.encoder(batch)
        return features.float(), self.given(batch)

    def told(self, batch: Batch) -> Tensor:
        """What the head sees of each row. [b, width]"""
        return _joined(*self._seen(batch))

    def posterior(self, features: Tensor) -> Posterior:
        """q(z|x) of rows that are features [b, ...] of the encoder's body already."""
        with self._low():
            found = self.encoder.body(features)  # type: ignore[operator]
        unknown = None if self.condition is None else self.condition(self.condition.unknown(len(features)))
        return self._posterior(found, unknown)

    def _posterior(self, features: Tensor, given: Tensor | None) -> Posterior:
        return self.head(_joined(features.float(), given))

    def prior(self, given: Tensor | None = None) -> PriorModule:
        prior = self.prior_module.of(self)
        if self.moves is None or self.condition is None:
            return prior
        given = self.condition(self.condition.unknown(1)) if given is None else given
        return Moved(prior.told(given), *self.moves(given))

    def fit_prior(self, codes: Tensor, given: list[Tensor | None]) -> None:
        told = [g for g in given if g is not None]
        if self.moves is not None and told:
            codes = self.moves.fit(codes, torch.cat(told))
        self.prior_module.of(self).fit(codes, self.generator)

    def snap(self, z: Tensor) -> Tensor:
        return self.head.snap(z) if hasattr(self.head, "snap") else z  # type: ignore[operator]

    @property
    def output(self) -> nn.Module:
        return self.decoder

    def center(self, batch: Batch) -> None:
        super().center(batch)
        with torch.no_grad():
            if hasattr(self.decoder, "start"):
                self.decoder.start(self.encoder.features(batch))  # type: ignore[operator]
            if hasattr(self.head, "start"):
                self.head.start(self.told(batch))  # type: ignore[operator]
            self.prior_module.start(self, batch)
            given = self.given(batch)
            if self.moves is not None and given is not None:
                self.moves.fit(self.encode(batch).mean, given)

    def decode(self, z: Tensor, given: Tensor | None = None) -> Dist:
        return self._decode(self.decoder, z, given)

    def _decode(self, decoder: Callable[[Tensor], Tensor], z: Tensor, given: Tensor | None) -> Dist:
        if self.condition is not None:
            given = self.condition(self.condition.unknown(1)) if given is None else given
            z = torch.cat([z, given.expand(*z.shape[:-1], given.shape[-1])], -1)
        with self._low():
            params = decoder(z.flatten(0, -2))
        return self.likelihood(params.float().unflatten(0, z.shape[:-1]))

    def drawn(self, q: Posterior, z: Tensor, given: Tensor | None, still: bool) -> Dist:
        if not still:
            return self.decode(z, given)
        weights = {n: p.detach() for n, p in self.decoder.named_parameters()}
        return self._decode(partial(functional_call, self.decoder, weights), z, given)


def _joined(features: Tensor, given: Tensor | None) -> Tensor:
    return features if given is None else torch.cat([features, given], -1)
