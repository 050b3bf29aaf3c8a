"""What is estimated from a fitted model: bounds on log p(x), row by row."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from .batch import Batch
from .model import Model

# Numbers of one decode: 64 MB of float32, so that a thousand draws of a picture fit on a laptop.
CHUNK = 1 << 24


@dataclass(frozen=True)
class Bounds:
    """Nats per row, each [b]. For a point latent, log_p is log p(x|z) and kl is 0; for codes it is log p(x|z) +
    log P(z) of the row's own code, a lower bound on log p(x), and kl is −log P(z).

    log_p: importance-weighted, on average a lower bound on log p(x); rec: −E_q log p(x|z); kl: KL(q(z|x) ‖ p(z)).
    """

    log_p: Tensor
    rec: Tensor
    kl: Tensor

    @property
    def elbo(self) -> Tensor:
        """The evidence lower bound. [b]"""
        return -self.rec - self.kl


@torch.no_grad()
def bounds(model: Model, batch: Batch, samples: int, generator: torch.Generator, shared: bool = False) -> Bounds:
    """Bounds from `samples` draws a row (Burda et al. 2016, eq. 8).

    shared: every row uses the same noise, so that its numbers do not depend on the rows beside it; unshared, errors of
    different rows are independent, which is better for a mean over rows.
    """
    q = model.encode(batch)
    samples = samples if q.has_density else 1
    weighed = q.has_density or q.discrete
    rows, dim = q.mean.shape
    noise = torch.randn((samples, 1 if shared else rows, dim), generator=generator, device=q.mean.device)
    step = max(1, CHUNK // (rows * max(batch.x[0].numel(), model.breadth)))
    passes = (model.run(batch, noise=noise[i : i + step], q=q) for i in range(0, samples, step))
    log_px, log_w, kl = [], [], []
    for out in passes:
        log_px.append(out.log_px)
        if weighed:
            log_w.append(out.log_px + out.log_pz - out.log_qz)
            kl.append(out.kl * len(out.z) / samples)
    px = torch.cat(log_px)
    if not weighed:
        return Bounds(px[0], -px[0], torch.zeros_like(px[0]))
    return Bounds(torch.logsumexp(torch.cat(log_w), 0) - math.log(samples), -px.mean(0), torch.stack(kl).sum(0))
