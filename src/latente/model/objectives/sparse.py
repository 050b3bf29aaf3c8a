"""Sparse codes."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from ...parts import part, require
from ..batch import Batch
from ..latents.base import require_mean
from ..model import Loss, Model

if TYPE_CHECKING:
    from ..spec import Spec


@part("objective", "sparse")
@dataclass(frozen=True)
class Sparse:
    """Reconstruction plus a price on activity of the code (the posterior mean).

    penalty "l1": weight · Σ_j |z_j|. "kl": weight · Σ_j KL(target ‖ mean over the batch of sigmoid(z_j)), with `target`
    the wanted share of rows in which a unit is on (Ng 2011, CS294A lecture notes, §3); the code is then read through
    its sigmoid.
    """

    weight: float = 0.1
    penalty: Literal["l1", "kl"] = "l1"
    target: float = 0.05

    def __post_init__(self) -> None:
        require(self.weight >= 0, self, "weight", "0 or more")
        require(0 < self.target < 1, self, "target", "a share between 0 and 1")

    def needs(self, spec: "Spec") -> None:
        """Raise ConfigError for a latent whose mean has no gradient."""
        require_mean(spec.latent, "objective 'sparse'", "--set objective=elbo")

    def __call__(self, model: Model, batch: Batch) -> Loss:
        out = model.run(batch)
        rec, code = -out.log_px.mean(), out.q.mean
        if self.penalty == "l1":
            price = code.abs().sum(-1).mean()
        else:
            on = code.sigmoid().mean(0).clamp(1e-6, 1 - 1e-6)
            rho = self.target
            price = (rho * (rho / on).log() + (1 - rho) * ((1 - rho) / (1 - on)).log()).sum()
        return Loss(rec + self.weight * price + out.penalty, {"rec": rec, "sparsity": price})
