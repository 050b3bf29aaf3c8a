"""The evidence lower bound, with a KL whose balance is managed."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ...parts import part, require
from ..batch import Batch
from ..model import Loss, Model, Pass

# Draws a row: more do not fit a batch of two in memory, and change nothing.
MOST = 10_000
# A price, or nats, that float32 can still multiply.
HEAVIEST = 1e30


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
    capacity: C nats of KL that the code is to carry: in place of β KL stands gamma · |KL − C| of the batch's mean KL,
    with C rising from 0 over the warm-up (Burgess et al. 2018, arXiv:1804.03599, eq. 8). gamma: the price of a nat off.
    aggressive: share of the run, from its start, in which the encoder is ahead: of `turns` steps the decoder's weights
    have a gradient in the last alone (He et al. 2019, arXiv:1901.05534, alg. 1; they go on until the encoder has
    converged, and stop for good when the mutual information falls). A learned prior or scale moves in every step. Adam
    takes no gradient for one of 0, so that its momentum spreads the decoder's step over the following ten; all in all
    it moves √turns as far as a single step.
    path: where the KL is estimated from draws, leave out the part of its gradient whose mean is 0 (Roeder et al. 2017,
    arXiv:1703.09194): less noise the nearer q is to the true posterior. Nothing where the KL has a closed form.
    """

    beta: float = 1.0
    warmup: float = 0.1
    schedule: Literal["linear", "cyclical"] = "linear"
    cycles: int = 4
    free_bits: float = 0.0
    samples: int = 1
    capacity: float | None = None
    gamma: float = 30.0
    aggressive: float = 0.0
    turns: int = 5
    path: bool = False
    needs_density = True

    def __post_init__(self) -> None:
        require(0 <= self.beta <= HEAVIEST, self, "beta", f"between 0 and {HEAVIEST:g}")
        require(0 <= self.warmup <= 1, self, "warmup", "a share between 0 and 1")
        require(self.cycles >= 1, self, "cycles", "1 or more")
        require(0 <= self.free_bits <= HEAVIEST, self, "free_bits", f"between 0 and {HEAVIEST:g}")
        require(1 <= self.samples <= MOST, self, "samples", f"between 1 and {MOST:,}")
        require(self.capacity is None or self.capacity >= 0, self, "capacity", "0 or more")
        require(0 <= self.gamma <= HEAVIEST, self, "gamma", f"between 0 and {HEAVIEST:g}")
        require(0 <= self.aggressive <= 1, self, "aggressive", "a share between 0 and 1")
        require(self.turns >= 2, self, "turns", "2 or more")
        if self.capacity is not None:
            require(self.beta == 1, self, "beta", "1 where there is a capacity: its price is gamma")
            require(self.free_bits == 0, self, "free_bits", "0 where there is a capacity: it is a floor already")

    def __call__(self, model: Model, batch: Batch) -> Loss:
        out = model.run(batch, self.samples, still=self._still(model))
        out.require_density("elbo")
        rec, kl = -out.log_px.mean(), (out.kl_path if self.path else out.kl).mean()
        ramp = self.ramp(model.progress)
        if self.capacity is None:
            price = self.beta * out.q.kl_weight * ramp * self._floored(out, kl)
        else:
            price = self.gamma * (kl - self.capacity * ramp).abs()
        return Loss(rec + price + out.penalty, {"rec": rec, "kl": kl})

    def ramp(self, progress: float) -> float:
        """The factor on β, or on the capacity, at this share of the run: 0 at its start, 1 at its end."""
        if self.warmup == 0 or progress >= 1:
            return 1.0
        if self.schedule == "cyclical":
            progress = progress * self.cycles % 1
        return min(1.0, progress / self.warmup)

    def memory(self) -> dict[str, Tensor]:
        """The number of steps that the encoder has had, and the share of the run at the last."""
        if self.aggressive == 0:
            return {}
        return {"turn": torch.zeros((), dtype=torch.int64), "at": torch.full((), -1.0, dtype=torch.float64)}

    def _still(self, model: Model) -> bool:
        """Whether this step is the encoder's alone."""
        if not model.training or self.aggressive == 0 or model.progress >= self.aggressive:
            return False
        turn, at = model.memory.get_buffer("turn"), model.memory.get_buffer("at")
        # A step may be taken in parts, for want of memory: they have one progress.
        if float(at) != model.progress:
            at.fill_(model.progress)
            turn.add_(1)
        return int(turn) % self.turns != 0

    def _floored(self, out: Pass, kl: Tensor) -> Tensor:
        if self.free_bits == 0:
            return kl
        if out.kl_dims is not None:
            return out.kl_dims.mean(0).clamp(min=self.free_bits).sum()
        return kl.clamp(min=self.free_bits * out.z.shape[-1])


def rise(progress: float, over: float) -> float:
    """A factor that rises from 0 along a line over the first share `over` of a run, and is 1 from there."""
    return 1.0 if over == 0 else min(1.0, progress / over)
