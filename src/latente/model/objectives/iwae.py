"""The importance-weighted bound (IWAE)."""

import math
from dataclasses import dataclass

import torch

from ...parts import part, require
from ..batch import Batch
from ..model import Loss, Model
from .elbo import MOST, rise


@part("objective", "iwae")
@dataclass(frozen=True)
class Iwae:
    """Maximise E[log (1/s) Σ_i p(x, z_i) / q(z_i|x)] over `samples` draws.

    Source: Burda, Grosse & Salakhutdinov 2016 (arXiv:1509.00519), eq. 8. In expectation never looser than the ELBO, and
    the ELBO for `samples=1`; costs `samples` decodes a step.
    dreg: the encoder's gradient in the doubly reparametrised form (Tucker et al. 2019, arXiv:1810.04152, eq. 8): the
    same in expectation, and its signal does not sink in noise as samples grow. The decoder's and the prior's stay as
    they are.
    rise: share of the run over which the draws rise from 1 to `samples`, each step by the same factor: a run that rises
    throughout costs a quarter of one with 50 draws from the start, and ends on the same bound.
    single: share of the run, from its start, that goes by with one draw before they rise.
    warmup: share of the run over which the weight of log p(z) − log q(z|x) rises from 0 to 1, as that of the KL does in
    `elbo`: convolutions want one.
    """

    samples: int = 8
    dreg: bool = False
    rise: float = 0.0
    single: float = 0.0
    warmup: float = 0.0
    needs_density = True

    def __post_init__(self) -> None:
        require(1 <= self.samples <= MOST, self, "samples", f"between 1 and {MOST:,}")
        require(0 <= self.rise <= 1, self, "rise", "a share between 0 and 1")
        require(0 <= self.single <= 1 - self.rise, self, "single", "a share between 0 and 1 - rise")
        require(0 <= self.warmup <= 1, self, "warmup", "a share between 0 and 1")

    def __call__(self, model: Model, batch: Batch) -> Loss:
        samples = self.draws(model.progress)
        out = model.run(batch, samples)
        out.require_density("iwae")
        log_qz = out.q.detached().log_prob(out.z) if self.dreg else out.log_qz
        log_w = out.log_px + self.ramp(model.progress) * (out.log_pz - log_qz)  # [s, b]
        if self.dreg and out.z.requires_grad:
            # With q's numbers constant the encoder is reached through z alone, with the weight w_i / Σ w that the bound
            # gives to draw i. The estimator has its square.
            weight = log_w.detach().softmax(0).unsqueeze(-1)
            out.z.register_hook(lambda slope: slope * weight)
        bound = torch.logsumexp(log_w, 0) - math.log(samples)  # [b]
        return Loss(-bound.mean() + out.penalty, {"rec": -out.log_px.mean(), "kl": out.kl.mean()})

    def draws(self, progress: float) -> int:
        """Draws a row at this share of the run."""
        if progress < self.single:
            return 1
        return round(self.samples ** rise(progress - self.single, self.rise))

    def ramp(self, progress: float) -> float:
        """The factor on log p(z) − log q(z|x) at this share of the run."""
        return rise(progress, self.warmup)
