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
from ..model.model import Flat, Loss, Model
from ..model.nets.layers import Stack, Work
from ..model.objectives.ae import Ae
from ..model.objectives.elbo import Elbo
from ..model.priors.standard import StandardNormal

Step = Callable[[Batch], Loss]


def step_of(model: Model, objective: Any, onednn: bool = False) -> Step | None:
    """The written-out step of a model that is `known`, else None. onednn: see `Work`."""
    return _Step(model, objective, onednn) if isinstance(model, Flat) and known(model, objective) else None


def known(model: Model, objective: Any) -> bool:
    """Whether the step of a model can be written out: on the CPU, with nets of one `Stack` each, a Gaussian latent
    under a standard normal prior and the objective `elbo` of one draw without free bits, capacity or aggressive steps,
    or either latent with `ae`.
    """
    if type(model) is not Flat or model.condition is not None:
        return False
    if _stack(getattr(model.encoder, "body", None)) is None or _stack(model.decoder) is None:
        return False
    # A prior that is fitted when training is over has no part in a step.
    own = [p for n, p in model.named_parameters() if not n.startswith("prior_module.")]
    if any(p.device.type != "cpu" or not p.requires_grad for p in own):
        return False
    gaussian = type(model.head) is GaussianHead
    if type(objective) is Elbo:
        # Where the KL has a closed form, as here, `path` changes nothing.
        plain = objective.samples == 1 and objective.free_bits == 0
        plain = plain and objective.capacity is None and objective.aggressive == 0
        return plain and gaussian and type(model.prior_module) is StandardNormal
    return type(objective) is Ae and (gaussian or type(model.head) is PointHead)


def _stack(body: Any) -> Stack | None:
    """The stack of a body that is one, with nothing but changes of shape around it."""
    parts = list(body) if isinstance(body, nn.Sequential) else [body]
    found = [m for m in parts if not isinstance(m, (nn.Flatten, nn.Unflatten))]
    return found[0] if len(found) == 1 and type(found[0]) is Stack else None


class _Step:
    def __init__(self, model: Flat, objective: Any, onednn: bool) -> None:
        self.model, self.objective, self.onednn = model, objective, onednn
        found = _stack(model.encoder.body), _stack(model.decoder)
        self.nets = [net for net in found if net is not None]
        self.middle = len(self.nets[0].weights)  # of all weights, so many are the encoder's
        head = model.head.both if type(model.head) is GaussianHead else model.head.value
        assert isinstance(head, nn.Linear)
        self.head = head
        self.weights = [w for net in self.nets for w in net.weights]
        written = {id(w) for w in (*self.weights, head.weight, head.bias)}
        # Those of which only some batches have gradients: what stands in a gap, learned scales.
        self.others = [p for p in model.parameters() if id(p) not in written and p.requires_grad]
        self.shape: tuple[int, torch.dtype] | None = None

    def __call__(self, batch: Batch) -> Loss:
        model = self.model
        seen = model.corrupted(batch)
        # Of what the encoder does before its stack, only the values in gaps have gradients.
        with torch.set_grad_enabled(seen.observed is not None):
            features = model.encoder.features(seen).flatten(1)  # type: ignore[operator]
        with torch.no_grad():
            self._make(len(batch), torch.bfloat16 if model.low_precision else torch.float32)
            for w in self.others:
                _gradient(w).zero_()
            loss, slope = self._both_ways(batch, features.detach(), features.requires_grad)
        if slope is not None:
            features.backward(slope.float())
        return loss

    def _both_ways(self, batch: Batch, features: Tensor, first: bool) -> tuple[Loss, Tensor | None]:
        """The loss, and the gradient of the features if that of the `first` is wanted; the weights' in `p.grad`."""
        (encoder, decoder), head, at = self.work, self.head, self.middle
        dtype, low = encoder.dtype, encoder.dtype != torch.float32
        if low:
            torch._foreach_copy_(self.inner, self.weights)
        h = encoder.forward(features.to(dtype), self.inner[:at])
        h = self.h.copy_(h) if low else h
        z, kl, back = self._code(torch.addmm(head.bias, h, head.weight.t()))
        params = decoder.forward(z.to(dtype), self.inner[at:])
        params = self.params.copy_(params) if low else params
        rec = self.model.likelihood.descend(params, batch, self.slope)
        found = [_gradient(w) for w in self.weights]
        slope = decoder.backward(self.low_slope.copy_(self.slope) if low else self.slope, self.inner[at:], found[at:])
        code = back(slope.float())
        torch.mm(code.t(), h, out=_gradient(head.weight))
        torch.sum(code, 0, out=_gradient(head.bias))
        slope = torch.mm(code, head.weight).to(dtype)
        by_features = encoder.backward(slope, self.inner[:at], found[:at], first)
        if kl is None:
            return Loss(rec, {"rec": rec}), by_features if first else None
        return Loss(rec + self._weight() * kl, {"rec": rec, "kl": kl}), by_features if first else None

    def _code(self, code: Tensor) -> tuple[Tensor, Tensor | None, Callable[[Tensor], Tensor]]:
        """From the head's numbers to z [b, d] and the KL, and from z's gradient back to the head's numbers."""
        if type(self.model.head) is not GaussianHead:
            return code, None, lambda g: g
        n = len(code)
        mean, raw = code.chunk(2, -1)
        log_scale = raw.clamp(LOWEST, HIGHEST)
        scale = log_scale.exp()
        variance = scale.square()
        noise = torch.randn((1, *mean.shape), generator=self.model.generator)[0]
        z = torch.addcmul(mean, scale, noise)
        kl, weight = None, 0.0
        if type(self.objective) is Elbo:
            kl = (0.5 * (mean.square() + variance - 1) - log_scale).sum() / n
            weight = self._weight() / n

        def back(g: Tensor) -> Tensor:
            by_scale = (g * noise).mul_(scale).add_(variance - 1, alpha=weight)
            by_scale.mul_(raw == log_scale)  # where the clamp held it, the raw number has no say
            return torch.cat([g.add(mean, alpha=weight), by_scale], -1)

        return z, kl, back

    def _weight(self) -> float:
        """The factor on the KL now."""
        return self.objective.beta * self.objective.ramp(self.model.progress)

    def _make(self, rows: int, dtype: torch.dtype) -> None:
        """Buffers for so many rows, unless they are there; and for the gradients, where the optimiser made none."""
        for w in self.model.parameters():
            if w.grad is None and w.requires_grad:
                w.grad = torch.empty_like(w)
        if self.shape == (rows, dtype):
            return
        self.shape, low = (rows, dtype), dtype != torch.float32
        self.work = [Work(net, rows, dtype, self.onednn) for net in self.nets]
        self.h = torch.empty(rows, self.head.in_features)
        self.params = torch.empty(rows, self.nets[1].sizes[-1])
        self.slope, self.low_slope = torch.empty_like(self.params), torch.empty_like(self.params, dtype=dtype)
        self.inner: list[Tensor] = [torch.empty_like(w, dtype=dtype) if low else w for w in self.weights]


def _gradient(w: Tensor) -> Tensor:
    assert w.grad is not None
    return w.grad
