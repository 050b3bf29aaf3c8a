"""Pieces that the nets share: activations with their derivatives, a residual wrapper, and a stack of linear layers."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_aten = torch.ops.aten


@dataclass(frozen=True)
class Activation:
    """A function, and the gradient of its input from (gradient, input, output)."""

    forward: Callable[[Tensor], Tensor]
    backward: Callable[[Tensor, Tensor, Tensor], Tensor]


ACTIVATIONS = {
    "relu": Activation(F.relu, lambda g, x, y: _aten.threshold_backward(g, y, 0)),
    "silu": Activation(F.silu, lambda g, x, y: _aten.silu_backward(g, x)),
    "gelu": Activation(F.gelu, lambda g, x, y: _aten.gelu_backward(g, x)),
    "tanh": Activation(torch.tanh, lambda g, x, y: _aten.tanh_backward(g, y)),
    "sigmoid": Activation(torch.sigmoid, lambda g, x, y: _aten.sigmoid_backward(g, y)),
    "identity": Activation(lambda x: x, lambda g, x, y: g),
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


class Stack(nn.Module):
    """Linear layers of `sizes`, an activation after each but, where `open_end`, the last; skips between equal sizes."""

    def __init__(self, sizes: tuple[int, ...], activation: str, residual: bool, open_end: bool) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(a, b) for a, b in pairwise(sizes)])
        names = [activation] * len(self.layers)
        if open_end and names:
            names[-1] = "identity"
        self.acts = tuple(names)
        pairs = zip(pairwise(sizes), names, strict=True)
        self.skips = tuple(residual and a == b and n != "identity" for (a, b), n in pairs)

    def forward(self, h: Tensor) -> Tensor:
        weights = [w for layer in self.layers for w in (layer.weight, layer.bias)]
        if torch.is_autocast_enabled(h.device.type) and torch.is_grad_enabled():
            return _LowPrecision.apply(h, self.acts, self.skips, *weights)
        for layer, act, skip in zip(self.layers, self.acts, self.skips, strict=True):
            y = ACTIVATIONS[act].forward(layer(h))
            h = h + y if skip else y
        return h


class _LowPrecision(torch.autograd.Function):
    """A stack in bfloat16 with float32 weights and gradients: what autocast computes, in a third of its operations.

    Autocast casts, saves and dispatches layer by layer; at batches of a hundred rows that costs as much as the matrix
    products. Here is the same arithmetic written out: equal to autocast's up to bfloat16 rounding (tested).
    """

    @staticmethod
    def forward(ctx: Any, h: Tensor, acts: Any, skips: Any, *weights: Tensor) -> Tensor:
        low = [w.to(torch.bfloat16) for w in weights]
        ctx.acts, ctx.skips, ctx.first = acts, skips, h.requires_grad
        saved = []
        h = h.to(torch.bfloat16)
        with torch.autocast(h.device.type, enabled=False):
            for i, (act, skip) in enumerate(zip(acts, skips, strict=True)):
                x = torch.addmm(low[2 * i + 1], h, low[2 * i].t())
                y = ACTIVATIONS[act].forward(x)
                saved += [h, x, y]
                h = h + y if skip else y
        ctx.save_for_backward(*saved, *low[::2])
        return h

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        n = len(ctx.acts)
        saved, low = ctx.saved_tensors[: 3 * n], ctx.saved_tensors[3 * n :]
        g, found = gradients[0].to(torch.bfloat16), []
        for i in reversed(range(n)):
            h, x, y = saved[3 * i : 3 * i + 3]
            inner = ACTIVATIONS[ctx.acts[i]].backward(g, x, y)
            found += [inner.sum(0).float(), (inner.t() @ h).float()]
            if i or ctx.first:
                back = inner @ low[i]
                g = back + g if ctx.skips[i] else back
        return (g.float() if ctx.first else None, None, None, *reversed(found))
