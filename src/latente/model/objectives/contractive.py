"""Codes that hardly move when the input does."""

from dataclasses import dataclass

import torch

from ...errors import ConfigError
from ...parts import part, require
from ..batch import Batch
from ..model import Loss, Model
from ..noise import uniform


@part("objective", "contractive")
@dataclass(frozen=True)
class Contractive:
    """Reconstruction plus weight · ‖∂ code / ∂ x‖², the squared Frobenius norm of the encoder's Jacobian.

    Source: Rifai et al. 2011 (ICML), eq. 2–4. Their norm is exact for one sigmoid layer; ours is an unbiased estimate
    for any encoder, ‖∂(v·code)/∂x‖² with v of random signs, E = the norm: one more backward pass a step. Categories are
    constants here: only real cells have a derivative.
    """

    weight: float = 0.1

    def __post_init__(self) -> None:
        require(self.weight >= 0, self, "weight", "0 or more")

    def __call__(self, model: Model, batch: Batch) -> Loss:
        x = batch.x.detach().requires_grad_()
        # The low-precision stack has no second derivative.
        low, model.low_precision = model.low_precision, False
        # Evaluation runs under no_grad, but the Jacobian needs a graph.
        with torch.enable_grad():
            code = model.encode(Batch(x, batch.observed, batch.context)).mean
            v = (uniform(tuple(code.shape), model.generator, code.device) < 0.5) * 2.0 - 1.0
            slope = None
            if code.requires_grad:
                (slope,) = torch.autograd.grad((code * v).sum(), x, create_graph=model.training, allow_unused=True)
        model.low_precision = low
        if slope is None:
            raise ConfigError(
                "objective 'contractive' needs codes that move with cells that are numbers: a table with a column of "
                "numbers, and a latent whose mean has a gradient",
                hint="--recipe denoising, or --set latent=gaussian",
            )
        norm = slope.square().flatten(1).sum(-1).mean()
        out = model.run(batch)
        rec = -out.log_px.mean()
        return Loss(rec + self.weight * norm + out.penalty, {"rec": rec, "jacobian": norm})
