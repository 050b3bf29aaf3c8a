"""The covariance of the codes is pressed to the identity (DIP-VAE)."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from torch import Tensor

from ...parts import part, require
from ..batch import Batch
from ..latents.base import Posterior, require_mean
from ..model import Loss, Model
from .elbo import rise

if TYPE_CHECKING:
    from ..spec import Spec


@part("objective", "dip")
@dataclass(frozen=True)
class Dip:
    """The negative ELBO + off_diagonal · Σ_{i≠j} C_ij² + diagonal · Σ_i (C_ii − 1)², with C a covariance of the codes.

    Source: Kumar, Sattigeri & Balakrishnan 2018 (arXiv:1711.00848). of "means": C is that of the posterior means,
    DIP-VAE-I (eq. 6; diagonal = 10 · off_diagonal is usual). of "draws": that of z, the mean of q's own variances added
    to it, DIP-VAE-II (eq. 7, diagonal = off_diagonal); of a q whose dimensions are not independent, its variances.
    C is the batch's, divided by b; the penalty has no unit, its weights are in nats. A team's processes each take the
    covariance of their own rows.
    warmup: share of the run over which the weight on the KL rises from 0; the penalty does not wait.
    """

    of: Literal["means", "draws"] = "draws"
    off_diagonal: float = 10.0
    diagonal: float = 10.0
    warmup: float = 0.1
    needs_density = True

    def __post_init__(self) -> None:
        require(self.of in ("means", "draws"), self, "of", "'means' or 'draws'")
        require(self.off_diagonal >= 0, self, "off_diagonal", "0 or more")
        require(self.diagonal >= 0, self, "diagonal", "0 or more")
        require(0 <= self.warmup <= 1, self, "warmup", "a share between 0 and 1")

    def needs(self, spec: "Spec") -> None:
        """Raise ConfigError for a latent whose mean has no gradient."""
        require_mean(spec.latent, "objective 'dip'", "--set objective=beta-tc")

    def __call__(self, model: Model, batch: Batch) -> Loss:
        out = model.run(batch)
        out.require_density("dip")
        rec, kl, penalty = -out.log_px.mean(), out.kl.mean(), self.penalty(out.q)
        total = rec + self.ramp(model.progress) * kl + penalty + out.penalty
        return Loss(total, {"rec": rec, "kl": kl, "covariance": penalty})

    def penalty(self, q: Posterior) -> Tensor:
        """What the covariance of a batch's codes costs. A scalar."""
        centred = q.mean - q.mean.mean(0)
        covariance = centred.t() @ centred / len(centred)
        if self.of == "draws":
            covariance = covariance + q.stddev.square().mean(0).diag()
        variances = covariance.diagonal()
        off = covariance.square().sum() - variances.square().sum()
        return self.off_diagonal * off + self.diagonal * (variances - 1).square().sum()

    def ramp(self, progress: float) -> float:
        """The factor on the KL at this share of the run."""
        return rise(progress, self.warmup)
