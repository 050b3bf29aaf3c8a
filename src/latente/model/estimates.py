"""What is estimated from a fitted model: bounds on log p(x), row by row, and what the codes tell of the rows."""

import math
from dataclasses import dataclass
from itertools import islice

import torch
from torch import Tensor

from ..errors import ConfigError
from .batch import Batch
from .model import Model

# Numbers of one decode: 4 MB of float32. On MNIST sixteen times as many took a fifth longer and 200 MB more.
CHUNK = 1 << 20


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
    rows, dim = q.like.shape
    step = max(1, CHUNK // (rows * breadth(model, batch)))
    # Drawn draw by draw, so that how many are decoded at once changes nothing.
    shape = (1 if shared else rows, dim)
    draws = (torch.randn(shape, generator=generator, device=q.like.device) for _ in range(samples))
    noise = (torch.stack([first, *islice(draws, step - 1)]) for first in draws)
    # Sums so far, not the draws' numbers: memory does not grow with `samples`. In float64, so that how many draws are
    # decoded at once changes nothing but digits that float32 does not have.
    log_px, kl = (torch.zeros(rows, dtype=torch.float64, device=q.like.device) for _ in range(2))
    log_w = torch.full_like(log_px, -math.inf)
    for some in noise:
        out = model.run(batch, noise=some, q=q)
        log_px += out.log_px.double().sum(0)
        if weighed:
            weights = (out.log_px + out.log_pz - out.log_qz).double()
            log_w = torch.logaddexp(log_w, weights.logsumexp(0))
            kl += out.kl.double() * len(some)
    rec = -(log_px / samples).float()
    if not weighed:
        return Bounds(-rec, rec, torch.zeros_like(rec))
    return Bounds((log_w - math.log(samples)).float(), rec, (kl / samples).float())


def breadth(model: Model, batch: Batch) -> int:
    """The most numbers that decoding makes of one row at a time, as far as they are known."""
    return max(model.breadth, batch.x[0].numel(), math.prod(model.likelihood.out_shape))


@torch.no_grad()
def mutual_information(model: Model, batch: Batch, generator: torch.Generator) -> float:
    """I(x; z) = E_q[log q(z|x) − log q(z)] in nats, with one draw of z a row and q(z) = mean of q(z|x) over the rows.

    On average a lower bound that cannot exceed log(rows): each draw's own row is one of the mixture's. So take many
    rows, 2,000 or more, and read a number near log(rows) as "at least". ConfigError for a latent without density.

    Source: Hoffman & Johnson 2016 ("ELBO surgery"), with q(z) of all rows; the bound: Poole et al. 2019
    (arXiv:1905.06922), sec. 2.3, where the conditional density is known.
    """
    q = model.encode(batch)
    if not q.has_density:
        raise ConfigError("mutual information needs log q(z|x), which this latent does not have")
    z = q.sample(1, generator)[0]
    rows, dim = z.shape
    own = q.log_prob(z.unsqueeze(0))[0]
    step = max(1, CHUNK // (rows * dim))
    among = [q.log_prob_pairs(z[i : i + step]) for i in range(0, rows, step)]
    aggregate = torch.logsumexp(torch.cat(among), 1) - math.log(rows)
    return float((own - aggregate).double().mean())
