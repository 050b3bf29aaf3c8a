"""A constraint on the reconstruction, with a multiplier that follows it (GECO)."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ...errors import ConfigError
from ...parts import part, require
from ..batch import Batch
from ..model import Loss, Model, Pass

# Held-out rows lose a little more than those of training, by what is learned by heart and by noise: a tenth is granted.
GRANTED = 1.1
# log λ stays within ± this, a factor of a thousand: a tolerance that cannot be met must not end in overflow.
FARTHEST = 6.9


@part("objective", "geco")
@dataclass(frozen=True)
class Geco:
    """Minimise KL(q(z|x) ‖ p(z)) such that reconstructions lose no more than `tolerance` of the data's variance.

    tolerance: Σ (x − E[x|z])² / Σ (x − mean)² over rows and features, z drawn from q: what 1 − R² is to a regression. A
    feature is a real cell, a pixel, or a category's one-hot column; missing cells count on neither side. So it means
    the same for a table and for pictures, and under any likelihood.
    Source: Rezende & Viola 2018 (arXiv:1810.00597), alg. 1, with their moving average (0.99). What differs: the loss is
    KL + λ · r · −log p(x|z) in place of KL + λ · the squared error, because −log p teaches scales and probabilities
    too; r is the ratio of what is lost (its moving mean) to the tolerance. Where the likelihood's scale follows the
    error, −log p has it in the denominator, and without r the multiplier and the scale chase each other for ever
    (measured); in the end r is 1. λ moves by `speed` · log r a step. A tolerance below what the model can reach drives
    λ to a thousand: an autoencoder.
    In evaluation, where losses of different λ must compare, the loss is the KL and, for what is lost beyond 1.1 times
    the tolerance, ten times what a Gaussian's −log p would rise.
    """

    tolerance: float = 0.1
    speed: float = 0.01
    needs_density = True

    def __post_init__(self) -> None:
        require(0 < self.tolerance < 1, self, "tolerance", "a share between 0 and 1")
        require(0 < self.speed <= 1, self, "speed", "above 0, 1 at most")

    def memory(self) -> dict[str, Tensor]:
        """Moving means of what is lost and of the variance, in squared units a row; how many entered; log r, log λ."""
        return {name: torch.zeros(()) for name in ("lost", "variance", "seen", "log_ratio", "log_multiplier")}

    def __call__(self, model: Model, batch: Batch) -> Loss:
        out = model.run(batch)
        out.require_density("geco")
        rec, kl = -out.log_px.mean(), out.kl.mean()
        if not model.likelihood.whole:
            raise ConfigError("objective 'geco' weighs squared errors, which tokens do not have", hint="--recipe vae")
        lost, variance = squares(model, out)
        memory = model.memory
        if model.training:
            self._follow(memory, lost, variance)
        known = torch.where(memory.get_buffer("seen") > 0, memory.get_buffer("variance"), variance)
        terms = {"rec": rec, "kl": kl, "lost": lost / known.clamp(min=1e-12)}
        if not model.training:
            beyond = (terms["lost"] / (GRANTED * self.tolerance)).log().clamp(min=0)
            return Loss(kl + 10 * 0.5 * out.target.x[0].numel() * beyond + out.penalty, terms)
        multiplier = (memory.get_buffer("log_multiplier") + memory.get_buffer("log_ratio")).exp()
        return Loss(kl + multiplier * rec + out.penalty, terms | {"multiplier": multiplier})

    @torch.no_grad()
    def _follow(self, memory: nn.Module, lost: Tensor, variance: Tensor) -> None:
        seen = memory.get_buffer("seen")
        # The first batches count fully; later ones are averaged over about a hundred steps.
        rate = (1 / (seen + 1)).clamp(min=0.01)
        for name, value in (("lost", lost), ("variance", variance)):
            memory.get_buffer(name).lerp_(value, rate)
        seen += 1
        share = memory.get_buffer("lost") / memory.get_buffer("variance").clamp(min=1e-12)
        ratio = memory.get_buffer("log_ratio").copy_((share / self.tolerance).log().clamp(-3, 3).nan_to_num())
        memory.get_buffer("log_multiplier").add_(self.speed * ratio.clamp(-1, 1)).clamp_(-FARTHEST, FARTHEST)


@torch.no_grad()
def squares(model: Model, out: Pass) -> tuple[Tensor, Tensor]:
    """What the reconstructions lose and what the features vary by: sums over observed features, means over rows."""
    likelihood, target = model.likelihood, out.target
    x = likelihood.features(target.x).flatten(1)
    error = (out.px.expectation - x).square().mean(0)
    if target.observed is None:
        return error.sum(-1).mean(), x.var(0, correction=0).sum()
    mask = target.observed.flatten(1)[:, likelihood.owner]
    mean = (x * mask).sum(0) / mask.sum(0).clamp(min=1)
    return (error * mask).sum(-1).mean(), ((x - mean).square() * mask).sum(-1).mean()
