"""The ELBO with its total correlation weighted (β-TCVAE)."""

import math
from dataclasses import dataclass

from torch import Tensor
from torch.utils.checkpoint import checkpoint

from ...errors import ConfigError
from ...parts import part, require
from ..batch import Batch
from ..latents.base import Posterior
from ..model import Loss, Model
from .elbo import rise

# Densities that are held at once: 64 MB of float32 each of the handful of results between z and them.
CHUNK = 1 << 24


@part("objective", "beta-tc")
@dataclass(frozen=True)
class BetaTc:
    """The ELBO with its total-correlation term KL(q(z) ‖ Π_k q(z_k)) weighted by `beta`: 1 is the plain ELBO.

    Source: Chen et al. 2018 (arXiv:1802.04942), eq. 4 with α = γ = 1, with q(z) estimated from the minibatch. Their
    estimator divides by b·n, ours by b: the difference is the constant (d − 1) log n, which moves the reported number
    and no gradient. The estimate is above 0 for independent latents too, once a code tells the rows of a batch apart:
    compare it between runs of one batch size. A team's processes each estimate it from their own rows.
    warmup: share of the run over which the weight on KL and total correlation rises from 0.
    Time and memory b² d, in blocks of dimensions where that is large: a step of an MLP of two layers of 512 and a batch
    of 128 takes 1.2 times the ELBO's at 16 dimensions, 2.3 times at 64.
    """

    beta: float = 6.0
    warmup: float = 0.1
    needs_density = True

    def __post_init__(self) -> None:
        require(self.beta >= 0, self, "beta", "0 or more")
        require(0 <= self.warmup <= 1, self, "warmup", "a share between 0 and 1")

    def __call__(self, model: Model, batch: Batch) -> Loss:
        out = model.run(batch)
        out.require_density("beta-tc")
        rec, kl, tc = -out.log_px.mean(), out.kl.mean(), total_correlation(out.q, out.z[0])
        weight = self.ramp(model.progress)
        return Loss(rec + weight * (kl + (self.beta - 1) * tc) + out.penalty, {"rec": rec, "kl": kl, "tc": tc})

    def ramp(self, progress: float) -> float:
        """The factor on KL and total correlation at this share of the run."""
        return rise(progress, self.warmup)


def total_correlation(q: Posterior, z: Tensor) -> Tensor:
    """KL(q(z) ‖ Π_k q(z_k)) in nats, from one draw z [b, d] of each row's q, with q(z) the mean over the rows' own.

    Raises ConfigError for a q that does not factorise.
    """
    rows, dims = z.shape
    joint: Tensor | float = 0.0  # log q(z_i|x_j) + log b, [b, b]
    apart: Tensor | float = 0.0  # Σ_k log q(z_ik) + d log b, [b]
    step = max(1, CHUNK // rows**2)
    for start in range(0, dims, step):
        keep = slice(start, start + step)
        if step >= dims:
            both, alone = _block(q, z, keep)
        else:  # the densities of a block are computed again for its gradient, and not kept
            both, alone = checkpoint(_block, q, z, keep, use_reentrant=False, preserve_rng_state=False)
        joint, apart = joint + both, apart + alone
    assert isinstance(joint, Tensor)
    # log b is taken off once from the joint density, and d times from the marginals.
    return (joint.logsumexp(1) - apart).mean() + (dims - 1) * math.log(rows)


def _block(q: Posterior, z: Tensor, keep: slice) -> tuple[Tensor, Tensor]:
    """Of some dimensions, Σ_k log q(z_ik|x_j) [b, b] and Σ_k log Σ_j q(z_ik|x_j) [b]."""
    each = q.log_prob_dims(z.unsqueeze(1), keep)  # [b, b, dims]
    if each is None:
        raise ConfigError(
            "objective 'beta-tc' needs the density of each latent dimension by itself, which this latent does not have",
            hint="--set latent=gaussian, or --set objective=elbo",
        )
    return each.sum(-1), each.logsumexp(1).sum(-1)
