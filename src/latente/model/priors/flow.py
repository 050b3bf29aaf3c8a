"""A RealNVP flow as prior."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ...parts import part, require
from ..flows import RealNVP
from .base import Host, PriorModule
from .fitting import apart, maximise

if TYPE_CHECKING:
    from ..model import Flat


class _Flow(PriorModule):
    center: Tensor
    spread: Tensor

    def __init__(self, dim: int, couplings: int, width: int, afterwards: bool, given: int) -> None:
        super().__init__()
        self.fitted_afterwards = afterwards
        self.given = 0 if afterwards else given
        self.flow = RealNVP(dim, couplings, width, self.given)
        self.flow.requires_grad_(not afterwards)  # what is fitted afterwards is no weight of the run
        # Codes of an autoencoder have any place and size; learned jointly, these stay 0 and 1.
        self.register_buffer("center", torch.zeros(dim))
        self.register_buffer("spread", torch.ones(dim))

    def told(self, given: Tensor) -> PriorModule:
        return _Told(self.flow, given) if self.given else self

    def of(self, model: "Flat") -> PriorModule:
        self.flow.low_precision = model.low_precision
        return self

    def log_prob(self, z: Tensor) -> Tensor:
        e, log_det = self.flow((z - self.center) / self.spread)
        return -0.5 * (e.square() + math.log(2 * math.pi)).sum(-1) + log_det - self.spread.log().sum()

    def sample(self, n: int, generator: torch.Generator | None) -> Tensor:
        e = torch.randn((n, len(self.center)), generator=generator, device=self.center.device)
        return self.flow.inverse(e)[0] * self.spread + self.center

    def fit(self, codes: Tensor, generator: torch.Generator | None) -> None:
        """Maximum likelihood, with early stopping on held-out codes."""
        self.center.copy_(codes.mean(0))
        # A unit that never moves must not be divided by.
        self.spread.copy_(codes.std(0, correction=0).clamp(min=1e-3))
        # More steps gained less than .1 nats a row on a curved density of two dimensions.
        fit, held_out = apart(codes, generator)
        maximise(self.flow, self.log_prob, fit, held_out, generator, steps=3000, lr=2e-3, every=100, patience=6)


class _Told(PriorModule):
    """p(z|c) of a flow whose couplings are told c."""

    def __init__(self, flow: RealNVP, given: Tensor) -> None:
        super().__init__()
        self.flow, self.given = flow, given

    def log_prob(self, z: Tensor) -> Tensor:
        e, log_det = self.flow(z, self.given)
        return -0.5 * (e.square() + math.log(2 * math.pi)).sum(-1) + log_det

    def sample(self, n: int, generator: torch.Generator | None) -> Tensor:
        dim, device = self.flow.masks.shape[1], self.given.device
        e = torch.randn((n, dim), generator=generator, device=device).unflatten(0, (-1, len(self.given)))
        return self.flow.inverse(e, self.given)[0].flatten(0, 1)


@part("prior", "flow")
@dataclass(frozen=True)
class Flow:
    """p(z) as an invertible net that turns z into standard normal noise: `couplings` RealNVP layers of two hidden
    layers of `width` (Dinh et al. 2017, arXiv:1605.08803). Its KL is estimated from the draws of q.

    afterwards: fitted to the codes of the training rows when training is over, for autoencoders; else learned jointly.
    """

    couplings: int = 6
    width: int = 128
    afterwards: bool = False

    def __post_init__(self) -> None:
        require(self.couplings >= 1, self, "couplings", "1 or more")
        require(self.width >= 1, self, "width", "1 or more")

    def build(self, host: Host) -> PriorModule:
        """The prior of a model."""
        return _Flow(host.dim, self.couplings, self.width, self.afterwards, host.given)
