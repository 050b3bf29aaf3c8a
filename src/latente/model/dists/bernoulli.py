"""Bernoulli cells from logits."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ...parts import part
from ..batch import Batch
from .base import Dist, Likelihood

_aten = torch.ops.aten


class _LogP(torch.autograd.Function):
    """x · logits − log(1 + exp(logits)), with its derivative x − sigmoid(logits) written out: half the passes over
    memory of the library's cross-entropy, which is most of the work beside the matrix products.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, x: Tensor) -> Tensor:
        ctx.save_for_backward(logits, x)
        return torch.mul(logits, x).sub_(F.softplus(logits))

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Any:
        logits, x = ctx.saved_tensors
        return torch.sub(x, logits.sigmoid()).mul_(gradient), None


@dataclass(frozen=True)
class BernoulliDist(Dist):
    """P(x = 1) = sigmoid(logits). A grey value between 0 and 1 is scored by its cross-entropy."""

    logits: Tensor
    dims: int = 1

    def cells(self, x: Tensor) -> Tensor:
        return _LogP.apply(self.logits, x)

    @property
    def mean(self) -> Tensor:
        return self.logits.sigmoid()

    @property
    def mode(self) -> Tensor:
        return (self.logits > 0).float()

    @property
    def event_dim(self) -> int:
        return self.dims

    def sample(self, generator: torch.Generator | None) -> Tensor:
        return torch.bernoulli(self.mean, generator=generator)


class _Bernoulli(Likelihood):
    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.out_shape = shape
        self.scratch = torch.empty(0)
        self.register_buffer("continuous", torch.zeros(shape, dtype=torch.bool), persistent=False)

    def start(self, features: Tensor) -> Tensor:
        # A pixel that is always black starts at one in two hundred: sure, but not beyond recall.
        return torch.logit(features.clamp(0.005, 0.995)).reshape(self.out_shape)

    def forward(self, params: Tensor) -> BernoulliDist:
        return BernoulliDist(params, len(self.out_shape))

    def discrete(self, x: Tensor) -> bool:
        return bool(((x == 0) | (x == 1)).all())  # the cross-entropy of a grey value is no probability

    def descend(self, params: Tensor, target: Batch, gradient: Tensor) -> Tensor:
        if target.observed is not None:
            return super().descend(params, target, gradient)
        x, n = target.x.flatten(1), len(params)
        p = torch.sigmoid(params, out=gradient)
        scratch = self._scratch(params)
        rec = _softplus(params, p, scratch) - torch.dot(params.flatten(), x.flatten())
        # (p − x) / n in one pass: the derivative of a squared error halved.
        _aten.mse_loss_backward.grad_input(params.new_tensor(0.5 / n), p, x, 2, grad_input=gradient)
        return rec / n

    def _scratch(self, params: Tensor) -> Tensor:
        if self.scratch.shape != params.shape:
            self.scratch = torch.empty_like(params)
        return self.scratch


def _softplus(logits: Tensor, p: Tensor, scratch: Tensor) -> Tensor:
    """Σ log(1 + exp(logits)), given their sigmoid p.

    It is Σ max(l, 0) − log max(p, 1 − p). Factors between ½ and 1 can be multiplied 64 at a time without leaving
    float32's range, so that one logarithm does for 64: a third of the cost of the function itself. An error of a
    rounding in each factor is one of 64 · 6e-8 in their logarithm, as it would be in 64 logarithms.
    """
    flat = torch.maximum(p, torch.sub(1, p, out=scratch), out=scratch).flatten()
    whole = len(flat) // 64 * 64
    logs = flat[:whole].view(64, -1).prod(0).log().sum() + flat[whole:].log().sum()
    return torch.clamp_min(logits, 0, out=scratch).sum() - logs


@part("likelihood", "bernoulli")
@dataclass(frozen=True)
class Bernoulli:
    """Cells that are 0 or 1: binary cross-entropy, in nats."""

    def build(self, shape: tuple[int, ...]) -> Likelihood:
        """The likelihood of cells of `shape`."""
        return _Bernoulli(shape)
