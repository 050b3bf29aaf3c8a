"""The VampPrior: a mixture of the encoder's own posteriors at learned inputs."""

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ...parts import part, require
from .. import sparse
from ..batch import Batch
from ..latents.base import Posterior
from .base import Host, PriorModule, PriorNets

if TYPE_CHECKING:
    from ..model import Flat

# Each learned input begins as the average of so many training rows: different from the others, and nobody's row, for
# a model file holds none.
BLEND = 4


class _Components(PriorModule):
    """The mixture as it is in one pass: q(z|u_k) of the learned inputs u_k, all of one weight."""

    def __init__(self, q: Posterior) -> None:
        super().__init__()
        self.q = q

    def log_prob(self, z: Tensor) -> Tensor:
        each = self.q.log_prob_pairs(z.flatten(0, -2))  # [n, k]
        return (torch.logsumexp(each, -1) - math.log(each.shape[-1])).unflatten(0, z.shape[:-1])

    def sample(self, n: int, generator: torch.Generator | None) -> Tensor:
        k, d, device = *self.q.like.shape, self.q.like.device
        which = torch.randint(k, (n,), generator=generator, device=device).sort().values
        # Every component draws as often as the busiest one is asked; draw i of a component is its i-th row here.
        counts = which.bincount(minlength=k)
        turn = torch.arange(n, device=device) - (counts.cumsum(0) - counts)[which]
        z = self.q.draw(torch.randn((int(counts.max()), k, d), generator=generator, device=device))[turn, which]
        return z[torch.randperm(n, generator=generator, device=device)]


class _Vamp(PriorNets):
    def __init__(self, inputs: int, features: tuple[int, ...]) -> None:
        super().__init__()
        self.inputs = nn.Parameter(torch.zeros(inputs, *features))

    def of(self, model: "Flat") -> PriorModule:
        return _Components(model.posterior(self.inputs))

    def start(self, model: "Flat", batch: Batch) -> None:
        total = torch.zeros_like(self.inputs)
        for i in range(BLEND):
            # Other rows each time, as far as there are some: the first K, the next K, …
            rows = (torch.arange(len(self.inputs), device=batch.x.device) + i * len(self.inputs)) % len(batch)
            seen = model.encoder.features(replace(batch.rows(rows), context=None))  # type: ignore[operator]
            total += sparse.dense(seen)
        self.inputs.copy_(total / BLEND)


@part("prior", "vamp")
@dataclass(frozen=True)
class Vamp:
    """p(z) = 1/K Σ_k q(z|u_k), with K `inputs` u_k to the encoder learned jointly.

    Source: Tomczak & Welling 2018 (arXiv:1705.07120), eq. 9. A step costs K more encodings. Needs a latent with a
    density. The inputs begin as averages of four training rows each.
    """

    inputs: int = 500
    mixes = True

    def __post_init__(self) -> None:
        require(self.inputs >= 1, self, "inputs", "1 or more")

    def build(self, host: Host) -> PriorNets:
        """The prior of a model."""
        return _Vamp(self.inputs, host.features)
