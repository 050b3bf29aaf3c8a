"""What is estimated from a fitted model: bounds on log p(x), row by row."""

import math
from dataclasses import dataclass
from itertools import islice

import torch
from torch import Tensor

from .batch import Batch
from .model import Model

# Numbers of one decode: 4 MB of float32. On MNIST sixteen times as many took a fifth longer and 200 MB more.
CHUNK = 1 << 20


@dataclass(frozen=True)
class Bounds:
    """Nats per row, each [b]. For a point latent, log_p is log p(x|z) and kl is 0.

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
    rows, dim = q.mean.shape
    step = max(1, CHUNK // (rows * max(1, batch.x[0].numel())))
    # Drawn draw by draw, so that how many are decoded at once changes nothing.
    shape = (1 if shared else rows, dim)
    draws = (torch.randn(shape, generator=generator, device=q.mean.device) for _ in range(samples))
    noise = (torch.stack([first, *islice(draws, step - 1)]) for first in draws)
    # In place: small results allocated between large ones keep the holes that those leave from being filled (1 GB more
    # for a thousand draws of MNIST).
    log_px, log_w, kl = q.mean.new_empty(samples, rows), q.mean.new_empty(samples, rows), q.mean.new_zeros(rows)
    done = 0
    for some in noise:
        out = model.run(batch, noise=some, q=q)
        span = slice(done, done + len(some))
        log_px[span] = out.log_px
        if q.has_density:
            log_w[span] = out.log_px + out.log_pz - out.log_qz
            kl += out.kl * len(some) / samples
        done = span.stop
    if not q.has_density:
        return Bounds(log_px[0], -log_px[0], torch.zeros_like(log_px[0]))
    return Bounds(torch.logsumexp(log_w, 0) - math.log(samples), -log_px.mean(0), kl)
