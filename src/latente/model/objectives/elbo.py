"""The evidence lower bound, with a KL whose balance is managed."""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from ...parts import part, require
from ..batch import Batch
from ..model import Loss, Model, Pass


@part("objective", "elbo")
@dataclass(frozen=True)
class Elbo:
    """Maximise E_q[log p(x|z)] − β KL(q(z|x) ‖ p(z)).

    beta: 1 is the bound (Kingma & Welling 2014, arXiv:1312.6114, eq. 3); above, latents are pressed to be independent
    (Higgins et al. 2017, β-VAE).
    warmup: share of the run over which β rises from 0 ("linear", Bowman et al. 2016, arXiv:1511.06349) or, "cyclical",
    share of each of `cycles` cycles (Fu et al. 2019, arXiv:1903.10145). A share, so that a short run reaches β too.
    free_bits: nats of KL that each latent dimension has for nothing, averaged over the batch (Kingma et al. 2016,
    arXiv:1606.04934, eq. 15); where q or p does not factorise, the floor is on their sum.
    samples: draws a row; more is a quieter gradient at more cost.
    """

    beta: float = 1.0
    warmup: float = 0.1
    schedule: Literal["linear", "cyclical"] = "linear"
    cycles: int = 4
    free_bits: float = 0.0
    samples: int = 1

    def __post_init__(self) -> None:
        require(self.beta >= 0, self, "beta", "0 or more")
        require(0 <= self.warmup <= 1, self, "warmup", "a share between 0 and 1")
        require(self.cycles >= 1, self, "cycles", "1 or more")
        require(self.free_bits >= 0, self, "free_bits", "0 or more")
        require(self.samples >= 1, self, "samples", "1 or more")

    def __call__(self, model: Model, batch: Batch) -> Loss:
        out = model.run(batch, self.samples)
        out.require_density("elbo")
        rec, kl = -out.log_px.mean(), out.kl.mean()
        weight = self.beta * self.ramp(model.progress)
        return Loss(rec + weight * self._floored(out, kl) + out.penalty, {"rec": rec, "kl": kl})

    def ramp(self, progress: float) -> float:
        """The factor on β at this share of the run: 0 at its start, 1 at its end."""
        if self.warmup == 0 or progress >= 1:
            return 1.0
        if self.schedule == "cyclical":
            progress = progress * self.cycles % 1
        return min(1.0, progress / self.warmup)

    def _floored(self, out: Pass, kl: Tensor) -> Tensor:
        if self.free_bits == 0:
            return kl
        if out.kl_dims is not None:
            return out.kl_dims.mean(0).clamp(min=self.free_bits).sum()
        return kl.clamp(min=self.free_bits * out.z.shape[-1])
