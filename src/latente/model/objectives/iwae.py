"""The importance-weighted bound (IWAE)."""

import math
from dataclasses import dataclass

import torch

from ...parts import part, require
from ..batch import Batch
from ..model import Loss, Model


@part("objective", "iwae")
@dataclass(frozen=True)
class Iwae:
    """Maximise E[log (1/s) Σ_i p(x, z_i) / q(z_i|x)] over `samples` draws.

    Source: Burda, Grosse & Salakhutdinov 2016 (arXiv:1509.00519), eq. 8. In expectation never looser than the ELBO, and
    the ELBO for `samples=1`; costs `samples` decodes a step.
    """

    samples: int = 8

    def __post_init__(self) -> None:
        require(self.samples >= 1, self, "samples", "1 or more")

    def __call__(self, model: Model, batch: Batch) -> Loss:
        out = model.run(batch, self.samples)
        out.require_density("iwae")
        log_w = out.log_px + out.log_pz - out.log_qz  # [s, b]
        bound = torch.logsumexp(log_w, 0) - math.log(self.samples)  # [b]
        return Loss(-bound.mean() + out.penalty, {"rec": -out.log_px.mean(), "kl": out.kl.mean()})
