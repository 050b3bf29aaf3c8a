"""Pieces that the nets share: activations with their derivatives, a residual wrapper, and a stack of linear layers."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_aten = torch.ops.aten
# act(h @ weight.t() + bias), as torch's own compiler calls it.
_linear = torch.ops.mkldnn._linear_pointwise
# Activations that it applies itself, of those whose gradient asks for the output alone; its names for them.
_POST = {"relu": "relu", "tanh": "tanh", "sigmoid": "sigmoid", "identity": "none"}


@dataclass(frozen=True)
class Activation:
    """A function; the same into a buffer; and its input's gradient from (gradient, input, output), into a buffer.

    from_output: the gradient asks for the output alone, so the output may lie where the input was.
    """

    forward: Callable[[Tensor], Tensor]
    into: Callable[[Tensor, Tensor], object]
    backward: Callable[[Tensor, Tensor, Tensor, Tensor], object]
    from_output: bool = True


ACTIVATIONS = {
    "relu": Activation(
        F.relu,
        lambda x, out: torch.clamp_min(x, 0, out=out),
        lambda g, x, y, out: _aten.threshold_backward.grad_input(g, y, 0, grad_input=out),
    ),
    "silu": Activation(
        F.silu,
        lambda x, out: _aten.silu.out(x, out=out),
        lambda g, x, y, out: _aten.silu_backward.grad_input(g, x, grad_input=out),
        from_output=False,
    ),
    "gelu": Activation(
        F.gelu,
        lambda x, out: _aten.gelu.out(x, out=out),
        lambda g, x, y, out: _aten.gelu_backward.grad_input(g, x, grad_input=out),
        from_output=False,
    ),
    "tanh": Activation(
        torch.tanh,
        lambda x, out: torch.tanh(x, out=out),
        lambda g, x, y, out: _aten.tanh_backward.grad_input(g, y, grad_input=out),
    ),
    "sigmoid": Activation(
        torch.sigmoid,
        lambda x, out: torch.sigmoid(x, out=out),
        lambda g, x, y, out: _aten.sigmoid_backward.grad_input(g, y, grad_input=out),
    ),
    "identity": Activation(lambda x: x, lambda x, out: out, lambda g, x, y, out: out.copy_(g)),
}


class Activate(nn.Module):
    """An activation by name, as a module."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def forward(self, h: Tensor) -> Tensor:
        return ACTIVATIONS[self.name].forward(h)


class Residual(nn.Module):
    """h + f(h)."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, h: Tensor) -> Tensor:
        return h + self.body(h)


class Offset(nn.Module):
    """h + a learned number for each cell, in float32: it has no part in bfloat16's rounding."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(shape))

    def forward(self, h: Tensor) -> Tensor:
        return h + self.bias


class Stack(nn.Module):
    """Linear layers of `sizes`, an activation after each but, where `open_end`, the last; skips between equal sizes."""

    def __init__(self, sizes: tuple[int, ...], activation: str, residual: bool, open_end: bool) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(a, b) for a, b in pairwise(sizes)])
        names = [activation] * len(self.layers)
        if open_end and names:
            names[-1] = "identity"
        self.sizes, self.acts = sizes, tuple(names)
        pairs = zip(pairwise(sizes), names, strict=True)
        self.skips = tuple(residual and a == b and n != "identity" for (a, b), n in pairs)
        # What is done to what each layer gives, while training with labels: dropout.
        self.drop: Callable[[Tensor], Tensor] | None = None

    @property
    def weights(self) -> list[Tensor]:
        """Weight and bias of each layer in turn."""
        return [w for m in self.layers for w in (m.weight, m.bias) if isinstance(w, Tensor)]

    def forward(self, h: Tensor) -> Tensor:
        if torch.is_autocast_enabled(h.device.type) and torch.is_grad_enabled() and self.drop is None:
            return _LowPrecision.apply(h, Work(self, len(h), torch.bfloat16, False), *self.weights)
        return self._through(h, len(self.layers))

    def inner(self, h: Tensor) -> Tensor:
        """What the last layer is given."""
        return self._through(h, len(self.layers) - 1)

    def _through(self, h: Tensor, number: int) -> Tensor:
        found = h
        for given in islice(self._each(h), number):
            found = given
        return found

    def each(self, h: Tensor) -> list[Tensor]:
        """What every layer gives, the first one first."""
        return list(self._each(h))

    def _each(self, h: Tensor) -> Iterator[Tensor]:
        for layer, act, skip in zip(self.layers, self.acts, self.skips, strict=True):
            y = ACTIVATIONS[act].forward(layer(h))
            h = h + y if skip else y
            if self.drop is not None:
                h = self.drop(h)
            yield h


class Work:
    """The buffers of `rows` rows on their way through a stack and back, and that way written out.

    Every number is written where the last batch's was: at batches of a few hundred rows, waiting for fresh memory costs
    more than what is computed into it. onednn: whether the products with weights go through oneDNN's own operation,
    which adds the bias and applies the activation while it writes.
    """

    def __init__(self, stack: Stack, rows: int, dtype: torch.dtype, onednn: bool) -> None:
        device = stack.weights[0].device if stack.acts else None
        self.acts, self.skips, self.dtype, self.onednn = stack.acts, stack.skips, dtype, onednn

        def empty(size: int) -> Tensor:
            return torch.empty(rows, size, dtype=dtype, device=device)

        outs, self.stays = stack.sizes[1:], [ACTIVATIONS[n].from_output for n in self.acts]
        self.x = [empty(b) for b in outs]  # before the activation
        self.y = [x if stays else torch.empty_like(x) for x, stays in zip(self.x, self.stays, strict=True)]
        self.sums = [torch.empty_like(y) if skip else y for y, skip in zip(self.y, self.skips, strict=True)]
        self.inner = [x if n == "identity" else torch.empty_like(x) for x, n in zip(self.x, self.acts, strict=True)]
        self.back = [empty(a) for a in stack.sizes[:-1]]
        # One for all layers: what is in it is read at once, from the nearest cache.
        largest = max((a * b for a, b in pairwise(stack.sizes)), default=0)
        self.scratch = torch.empty(0 if dtype == torch.float32 else largest, dtype=dtype, device=device)
        self.inputs: list[Tensor] = []

    def forward(self, h: Tensor, weights: Sequence[Tensor]) -> Tensor:
        """The stack's output. h [rows, in] and weights in the dtype of the buffers."""
        self.inputs = []
        for i, (act, skip, stays) in enumerate(zip(self.acts, self.skips, self.stays, strict=True)):
            self.inputs.append(h)
            weight, bias = weights[2 * i : 2 * i + 2]
            fused = self.onednn and act in _POST
            if self.onednn:
                self.x[i] = _linear(h, weight, bias, _POST.get(act, "none"), [], None)
            else:
                torch.addmm(bias, h, weight.t(), out=self.x[i])
            if stays:
                self.y[i] = self.x[i]
            if not fused:
                ACTIVATIONS[act].into(self.x[i], self.y[i])
            h = torch.add(h, self.y[i], out=self.sums[i]) if skip else self.y[i]
        return h

    def backward(self, g: Tensor, weights: Sequence[Tensor], found: Sequence[Tensor], first: bool = True) -> Tensor:
        """From the output's gradient to those of the weights, written in the float32 tensors `found`, and, if `first`,
        to the input's, which is returned.
        """
        for i in reversed(range(len(self.acts))):
            h, act, weight = self.inputs[i], self.acts[i], weights[2 * i]
            inner = g
            if act != "identity":
                inner = self.inner[i]
                ACTIVATIONS[act].backward(g, self.x[i], self.y[i], inner)
            if self.dtype == torch.float32:
                torch.sum(inner, 0, out=found[2 * i + 1])
                torch.mm(inner.t(), h, out=found[2 * i])
            else:
                found[2 * i + 1].copy_(inner.sum(0))
                found[2 * i].copy_(torch.mm(inner.t(), h, out=self.scratch[: weight.numel()].view_as(weight)))
            if i or first:
                if self.onednn:
                    back = _linear(inner, weight.t(), None, "none", [], None)
                else:
                    back = torch.mm(inner, weight, out=self.back[i])
                g = back.add_(g) if self.skips[i] else back
        return g


class _LowPrecision(torch.autograd.Function):
    """A stack in bfloat16 with float32 weights and gradients, as one operation: what autocast computes (tested).

    Autocast casts, saves and dispatches layer by layer; at batches of a hundred rows that costs as much as the matrix
    products.
    """

    @staticmethod
    def forward(ctx: Any, h: Tensor, work: Work, *weights: Tensor) -> Tensor:
        low = [w.to(work.dtype) for w in weights]
        ctx.work, ctx.low, ctx.first = work, low, h.requires_grad
        with torch.autocast(h.device.type, enabled=False):
            return work.forward(h.to(work.dtype), low)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Any:
        # The output lies in the buffers, and knows this context: they would hold each other until Python looks for
        # cycles, which it does by their number, not by their gigabytes.
        work, low = ctx.work, ctx.low
        ctx.work = ctx.low = None
        found = [torch.empty_like(w, dtype=torch.float32) for w in low]
        g = work.backward(gradient.to(work.dtype), low, found, ctx.first)
        return (g.float() if ctx.first else None, None, *found)
