"""The aggregate of the codes is brought to the prior by a kernel distance (InfoVAE, WAE-MMD)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ...errors import ConfigError
from ...parts import part, require
from ..batch import Batch
from ..model import Loss, Model
from ..noise import drawn
from .elbo import rise

# Widths of the kernels, around the mean squared distance of two draws of the prior: what differs in one place of a
# distribution shows at another width than what differs in another (Tolstikhin et al. 2018, sec. 4, take seven).
SCALES = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)


@part("objective", "mmd")
@dataclass(frozen=True)
class Mmd:
    """Reconstruction + (1 − alpha) KL(q(z|x) ‖ p(z)) + (alpha + weight − 1) MMD²(q(z), p(z)).

    Source: Zhao et al. 2019 (arXiv:1706.02262), eq. 6, with `weight` for their λ. alpha = 0 keeps the whole KL, 1
    leaves it out: then q may be a point, and it is WAE-MMD (Tolstikhin et al. 2018, arXiv:1711.01558, alg. 2).
    MMD² is the unbiased estimate between a batch's draws of q(z) and as many of p(z), by the mean of seven inverse
    multiquadratic kernels, each from 0 to 1: it has no unit, and lies between 0 (equal) and 2. `weight` is in nats:
    about what a row would pay for codes that are nowhere near the prior. It stands against the whole reconstruction of
    a row, so large pictures want more. A learned prior follows the codes through its draws, where these have a gradient
    (a mixture's weights have none); a team's processes each compare their own rows.
    warmup: share of the run over which the weight on the KL rises from 0; the one on MMD² does not wait.
    """

    alpha: float = 0.5
    weight: float = 100.0
    warmup: float = 0.1

    def __post_init__(self) -> None:
        require(0 <= self.alpha <= 1, self, "alpha", "between 0 and 1")
        require(self.weight >= 1 - self.alpha, self, "weight", f"1 − alpha = {1 - self.alpha:g} or more")
        require(0 <= self.warmup <= 1, self, "warmup", "a share between 0 and 1")

    def __call__(self, model: Model, batch: Batch) -> Loss:
        out = model.run(batch)
        prior, z = out.prior, out.z[0]
        if prior.fitted_afterwards:
            raise ConfigError(
                "objective 'mmd' compares codes with draws of the prior, and this prior is only fitted after training",
                hint="--set prior=standard",
            )
        others = drawn(lambda n: prior.sample(n, model.generator), len(z), model.generator)
        rec, mmd = -out.log_px.mean(), mmd2(z, others)
        total = rec + (self.alpha + self.weight - 1) * mmd + out.penalty
        if self.alpha == 1:
            return Loss(total, {"rec": rec, "mmd": mmd})
        if not out.q.has_density:
            raise ConfigError(
                "objective 'mmd' with alpha below 1 needs log q(z|x), which this latent does not have",
                hint="--set objective.alpha=1, or --set latent=gaussian",
            )
        kl = out.kl.mean()
        return Loss(total + self.ramp(model.progress) * (1 - self.alpha) * kl, {"rec": rec, "kl": kl, "mmd": mmd})

    def ramp(self, progress: float) -> float:
        """The factor on the KL at this share of the run."""
        return rise(progress, self.warmup)


def mmd2(z: Tensor, prior: Tensor) -> Tensor:
    """MMD² of two sets of draws [b, d], without bias, hence also below 0.

    The kernels are C / (C + ‖z − z'‖²), C = scale · the mean squared distance of two draws of the prior.
    """
    n, pairs = len(z), max(1, len(z) * (len(z) - 1))
    among = _squares(prior, prior)
    base = (among.sum() / pairs).detach().clamp(min=1e-6)
    within = _off_diagonal(_kernel(_squares(z, z), base)) + _off_diagonal(_kernel(among, base))
    return within / pairs - 2 * _kernel(_squares(z, prior), base).sum() / n**2


def _squares(a: Tensor, b: Tensor) -> Tensor:
    """Squared distances. [a, b]"""
    return (a.square().sum(-1, keepdim=True) + b.square().sum(-1) - 2 * a @ b.t()).clamp(min=0)


def _kernel(squares: Tensor, base: Tensor) -> Tensor:
    """The mean of the kernels, each scale / (scale + squares / base)."""
    squares, total = squares / base, torch.zeros_like(squares)
    for scale in SCALES:
        total = torch.add(total, (squares + scale).reciprocal(), alpha=scale / len(SCALES))
    return total


def _off_diagonal(kernel: Tensor) -> Tensor:
    return kernel.sum() - kernel.diagonal().sum()
