"""Reconstruction of most rows: those that fit worst teach nothing."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ...parts import part, require
from ..batch import Batch
from ..committee import TogetherDist
from ..model import Loss, Model


@part("objective", "trimmed")
@dataclass(frozen=True)
class Trimmed:
    """Minimise −log p(x|z) over all of a batch but the `trim` share that fits worst, so that rows which are not like
    the others are not learned. The first `warmup` of the run takes all, as nothing is known of the rows before.

    A latent with a density pays its KL too, and is trimmed by both. Of a committee each member trims the rows of its
    own share. Losses that are shown are of the rows that were kept.

    Source: least trimmed squares, Rousseeuw 1984; of autoencoders Xia et al. 2015.
    """

    trim: float = 0.1
    warmup: float = 0.1

    def __post_init__(self) -> None:
        require(0 <= self.trim < 1, self, "trim", "a share from 0 to below 1")
        require(0 <= self.warmup <= 1, self, "warmup", "a share of the run")

    def __call__(self, model: Model, batch: Batch) -> Loss:
        out = model.run(batch)
        trim = self.trim if model.progress >= self.warmup else 0.0
        if isinstance(out.px, TogetherDist) and model.training:
            each = -out.px.each(batch.x, batch.observed).flatten(3).sum(-1).squeeze(1)  # [k, b]
            own = out.px.bags(batch.x)
        else:
            each = -out.log_px.mean(0, keepdim=True)  # [1, b]
            own = torch.ones_like(each, dtype=torch.bool)
        if out.q.has_density:
            each = each + out.kl
        rec = (each * kept(each, own, trim)).sum(1)
        return Loss(rec.sum() + out.penalty, {"rec": rec.mean()})


@torch.no_grad()
def kept(losses: Tensor, own: Tensor, trim: float) -> Tensor:
    """The weight of each loss [k, b] in its line's mean over the lowest 1 − `trim` of those that are its `own`."""
    # Out of its share a row is beyond the worst; a rank below the count that is kept is in.
    among = losses.masked_fill(~own, torch.inf)
    count = (own.sum(1, keepdim=True) * (1 - trim)).ceil().clamp(min=1)
    rank = among.argsort(1).argsort(1)
    taken = (rank < count) & own
    return taken / taken.sum(1, keepdim=True).clamp(min=1)
