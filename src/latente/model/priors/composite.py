"""A prior that holds each row near where the encoder had it a while ago."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.func import functional_call

from ...parts import part, require
from ..batch import Batch
from ..latents.base import Posterior
from .base import Host, PriorModule
from .fitted import FittedMixture

if TYPE_CHECKING:
    from ..model import Flat

# The standard deviation of the component that lets a code go anywhere (Shenbin et al. 2020: a log variance of 10).
WIDE = math.exp(5)


class _OfRows(PriorModule):
    """The mixture for the rows of one pass; `sample` takes the rows in turn."""

    def __init__(self, old: Posterior, weights: tuple[float, ...]) -> None:
        super().__init__()
        self.old, self.weights = old, torch.tensor(weights, device=old.mean.device)

    def log_prob(self, z: Tensor) -> Tensor:
        each = self.old.log_prob_dims(z)
        ends = [-0.5 * (z / width).square() - math.log(width) - 0.5 * math.log(2 * math.pi) for width in (1.0, WIDE)]
        if each is None:  # q does not factorise: the mixture is of whole codes
            return self._mixed([ends[0].sum(-1), self.old.log_prob(z), ends[1].sum(-1)])
        return self._mixed([ends[0], each, ends[1]]).sum(-1)

    def _mixed(self, parts: list[Tensor]) -> Tensor:
        return torch.logsumexp(torch.stack(parts, -1) + self.weights.log(), -1)

    def sample(self, n: int, generator: torch.Generator | None) -> Tensor:
        rows, dim = self.old.mean.shape
        own = self.old.sample(-(-n // rows), generator).flatten(0, 1)[:n]
        noise = torch.randn(own.shape, generator=generator, device=own.device)
        # By dimension where q factorises, else one choice for the whole code.
        each = 1 if self.old.log_prob_dims(own[:1].expand(rows, dim).unsqueeze(0)) is None else dim
        which = torch.multinomial(self.weights, n * each, replacement=True, generator=generator).view(n, each)
        return torch.where(which == 0, noise, torch.where(which == 1, own, WIDE * noise))


class _Composite(FittedMixture):
    """A mixture fitted to the codes, with one that is told of each row in its place while a model is trained. The old
    weights are buffers, so that checkpoints have them and model files do not.
    """

    def __init__(self, dim: int, components: int, shares: tuple[float, ...], updates: int) -> None:
        super().__init__(dim, components, diagonal=True)
        self.shares, self.updates = shares, updates
        self.names: list[str] = []

    def start(self, model: "Flat", batch: Batch) -> None:
        self.names = [n for n, _ in _read(model)]
        self.register_buffer("turn", torch.zeros((), dtype=torch.int64), persistent=False)
        for i, (_, p) in enumerate(_read(model)):
            self.register_buffer(f"old{i}", p.detach().clone(), persistent=False)

    def around(self, model: "Flat", batch: Batch) -> PriorModule:
        # Held-out rows are judged as training rows are: under N(0, I), which the other mixture is until it is fitted,
        # a run would be at its best far too soon.
        if not (model.training or model.judged) or not self.names:
            return self
        with torch.no_grad():
            turn = int(model.progress * self.updates)
            if model.training and turn != int(self.get_buffer("turn")):
                self.get_buffer("turn").fill_(turn)
                for i, (_, p) in enumerate(_read(model)):
                    self.get_buffer(f"old{i}").copy_(p)
            old = {n: self.get_buffer(f"old{i}") for i, n in enumerate(self.names)}
            encoder = {n.removeprefix("encoder."): p for n, p in old.items() if n.startswith("encoder.")}
            head = {n.removeprefix("head."): p for n, p in old.items() if n.startswith("head.")}
            features = functional_call(model.encoder, encoder, batch).float()
            given = model.given(batch)
            told = features if given is None else torch.cat([features, given], -1)
            assert model.head is not None
            return _OfRows(functional_call(model.head, head, told), self.shares)


def _read(model: "Flat") -> list[tuple[str, Tensor]]:
    """The weights of encoder and head."""
    return [(n, p) for n, p in model.named_parameters() if n.startswith(("encoder.", "head."))]


@part("prior", "composite")
@dataclass(frozen=True)
class Composite:
    """While a model is trained, of each row p(z) = Π_d [a N(0, 1) + b q_old(z_d|x) + c N(0, e^10)], with q_old the
    encoder as it was at the last of so many `updates`, spread evenly over the run; afterwards a mixture of so many
    Gaussian `components`, with diagonal covariances, fitted to the codes.

    Steps of the encoder are held short, as a trust region does. weights: a, b and c, together 1. The first mixture is
    told of the row, so that the loss is no bound on −log p(x); what `evaluate` says is, under the second. Costs one
    more encoding a step.
    Source: Shenbin et al. 2020 (RecVAE, arXiv:1912.11160), eq. 8; there the encoder of the epoch before.
    """

    weights: tuple[float, float, float] = (0.15, 0.75, 0.1)
    updates: int = 24
    components: int = 10
    mixes = True

    def __post_init__(self) -> None:
        fine = len(self.weights) == 3 and min(self.weights) > 0 and abs(sum(self.weights) - 1) < 1e-6
        require(fine, self, "weights", "three shares above 0 that are 1 together")
        require(self.updates >= 1, self, "updates", "1 or more")
        require(self.components >= 1, self, "components", "1 or more")

    def build(self, host: Host) -> PriorModule:
        """The prior of a model."""
        return _Composite(host.dim, self.components, self.weights, self.updates)
