"""A training step written out: forward and backward through an MLP model in a few dozen operations.

batch ──corrupt──▶ features ──▶ encoder ──▶ head ──▶ q(z|x) ──▶ z ──▶ decoder ──▶ p(x|z)
                      ◀─────────  ◀─────────  ◀──── KL ────  ◀────────  ◀──────── −log p

Autograd records, saves and dispatches some two hundred operations a step and takes fresh memory for each result; at
batches of a few hundred rows that costs more than the matrix products. Here buffers are kept from step to step. Loss,
terms and gradients are the objective's own, from the same random draws (tested).
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ..model.batch import Batch
from ..model.latents.gaussian import HIGHEST, LOWEST
from ..model.latents.gaussian import Head as GaussianHead
from ..model.latents.point import Head as PointHead
from ..model.model import Loss, Model
from ..model.nets.layers import Stack, Work
from ..model.objectives.ae import Ae
from ..model.objectives.elbo import Elbo
from ..model.priors.standard import StandardNormal

Gradients = Callable[[Batch], Loss]


def gradients_of(model: Model, objective: Any, onednn: bool = False) -> Gradients:
    """What a step calls: the loss of a batch, with its gradients left in `p.grad`. Written out where it can be."""
    return step_of(model, objective, onednn) or _autograd(model, objective)


def step_of(model: Model, objective: Any, onednn: bool = False) -> Gradients | None:
    """The written-out step of a model on the CPU, or None if it is not of the kind that is known here.

    Known are nets of one `Stack` each, a Gaussian latent under a standard normal prior with the objective `elbo` of one
    draw and no free bits, and either latent with `ae`. onednn: by which library float32 is multiplied.
    """
    encoder, decoder = _stack(getattr(model.encoder, "body", None)), _stack(model.decoder)
    if encoder is None or decoder is None or not hasattr(model.encoder, "features"):
        return None
    gaussian = type(model.head) is GaussianHead
    if type(objective) is Elbo:
        known = gaussian and type(model.prior_module) is StandardNormal
        known = known and objective.samples == 1 and objective.free_bits == 0
    else:
        known = type(objective) is Ae and (gaussian or type(model.head) is PointHead)
    if not known or any(p.device.type != "cpu" or not p.requires_grad for p in model.parameters()):
        return None
    return _Step(model, encoder, decoder, objective, onednn)


def _autograd(model: Model, objective: Any) -> Gradients:
    weights = [p for p in model.parameters() if p.requires_grad]

    def gradients(batch: Batch) -> Loss:
        loss: Loss = objective(model, batch)
        for p in weights:
            p.grad = None
        loss.total.backward()
        return loss

    return gradients


def _stack(body: nn.Module | None) -> Stack | None:
    """The stack of a body that is one, with nothing but changes of shape around it."""
    parts = list(body) if isinstance(body, nn.Sequential) else [body]
    found = [m for m in parts if not isinstance(m, (nn.Flatten, nn.Unflatten))]
    return found[0] if len(found) == 1 and type(found[0]) is Stack else None


class _Step:
    def __init__(self, model: Model, encoder: Stack, decoder: Stack, objective: Any, onednn: bool) -> None:
        self.model, self.objective, self.onednn = model, objective, onednn
        self.nets = encoder, decoder
        self.weights = [w for net in self.nets for w in net.weights]
        self.head = model.head.both if type(model.head) is GaussianHead else model.head.value
        assert isinstance(self.head, nn.Linear)
        written = {id(w) for w in (*self.weights, self.head.weight, self.head.bias)}
        # Those of which only some batches have gradients: what stands in a gap, learned scales.
        self.others = [p for p in model.parameters() if id(p) not in written]
        self.rows = 0

    def __call__(self, batch: Batch) -> Loss:
        model, dtype = self.model, torch.bfloat16 if self.model.low_precision else torch.float32
        seen = model.corrupted(batch)
        # Of what the encoder does before its stack, only the values in gaps have gradients.
        with torch.set_grad_enabled(seen.observed is not None):
            features = model.encoder.features(seen).flatten(1)  # type: ignore[operator]
        with torch.no_grad():
            self._make(len(batch), dtype)
            for w in self.others:
                w.grad.zero_()  # type: ignore[union-attr]
            loss, slope = self._both_ways(batch, features.detach(), features.requires_grad)
        if slope is not None:
            features.backward(slope)
        return loss

    def _both_ways(self, batch: Batch, features: Tensor, first: bool) -> tuple[Loss, Tensor | None]:
        """The loss, and the gradient of the features if that of the `first` is wanted; the weights' in `p.grad`."""
        work, head, cast = self.work, self.head, self.cast
        if cast:
            torch._foreach_copy_(self.inner, self.weights)
        at = len(self.nets[0].weights)
        h = work[0].forward(features.to(work[0].dtype), self.inner[:at])
        h = self.h.copy_(h) if cast else h
        z, kl, back = self._code(torch.addmm(head.bias, h, head.weight.t()))
        out = work[1].forward(z.to(work[1].dtype), self.inner[at:])
        params = self.params.copy_(out) if cast else out
        rec = self.model.likelihood.descend(params, batch, self.slope)
        slope = self.slopes.copy_(self.slope) if cast else self.slope
        slope = work[1].backward(slope, self.inner[at:], self.found[at:], True)
        assert slope is not None
        code = back(slope.float())
        torch.mm(code.t(), h, out=head.weight.grad)
        torch.sum(code, 0, out=head.bias.grad)
        slope = torch.mm(code, head.weight).to(work[0].dtype)
        slope = work[0].backward(slope, self.inner[:at], self.found[:at], first)
        if kl is None:
            return Loss(rec, {"rec": rec}), slope
        return Loss(rec + self._weight() * kl, {"rec": rec, "kl": kl}), slope

    def _code(self, code: Tensor) -> tuple[Tensor, Tensor | None, Callable[[Tensor], Tensor]]:
        """From the head's numbers to z [b, d] and the KL, and from z's gradient back to the head's numbers."""
        if type(self.model.head) is not GaussianHead:
            return code, None, lambda g: g
        n = len(code)
        mean, raw = code.chunk(2, -1)
        log_scale = raw.clamp(LOWEST, HIGHEST)
        scale = log_scale.exp()
        noise = torch.randn((1, *mean.shape), generator=self.model.generator)[0]
        z = torch.addcmul(mean, scale, noise)
        if type(self.objective) is Ae:
            kl, weight = None, 0.0
        else:
            kl = (0.5 * (mean.square() + scale.square() - 1) - log_scale).sum() / n
            weight = self._weight() / n

        def back(g: Tensor) -> Tensor:
            by_scale = (g * noise).mul_(scale).add_(scale.square().sub_(1), alpha=weight)
            by_scale.mul_(raw == log_scale)  # where the clamp held it, the raw number has no say
            return torch.cat([g.add(mean, alpha=weight), by_scale], -1)

        return z, kl, back

    def _weight(self) -> float:
        """The factor on the KL now."""
        return self.objective.beta * self.objective.ramp(self.model.progress)

    def _make(self, rows: int, dtype: torch.dtype) -> None:
        """Buffers for so many rows, unless they are there."""
        for w in self.model.parameters():
            if w.grad is None:
                w.grad = torch.empty_like(w)
        if not self.rows or (rows, dtype) != (self.rows, self.work[0].dtype):
            self.rows, self.cast = rows, dtype != torch.float32
            self.work = [Work(net, rows, dtype, self.onednn) for net in self.nets]
            self.h = torch.empty(rows, self.head.in_features)
            self.params = torch.empty(rows, self.nets[1].sizes[-1])
            self.slope = torch.empty_like(self.params)
            self.slopes = torch.empty_like(self.params, dtype=dtype)
            self.inner = [torch.empty_like(w, dtype=dtype) if self.cast else w for w in self.weights]
        self.found = [w.grad for w in self.weights]
