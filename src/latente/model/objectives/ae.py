"""Reconstruction alone."""

from dataclasses import dataclass

from ...parts import part
from ..batch import Batch
from ..model import Loss, Model


@part("objective", "ae")
@dataclass(frozen=True)
class Ae:
    """Minimise −log p(x|z): squared error or cross-entropy in nats, as the likelihood says."""

    def __call__(self, model: Model, batch: Batch) -> Loss:
        out = model.run(batch)
        rec = -out.log_px.mean()
        return Loss(rec + out.penalty, {"rec": rec})
