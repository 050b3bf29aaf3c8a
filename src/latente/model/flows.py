"""Invertible nets: RealNVP couplings, given something or nothing."""

import torch
from torch import Tensor, nn

from .nets.layers import Stack

# Bound on |log scale| of one coupling: e² each way, so that a few couplings reach any scale and one bad step none.
STEEPEST = 2.0


class RealNVP(nn.Module):
    """Affine couplings between the halves of d numbers, each time other ones. Starts as the identity.

    given: how many numbers every coupling is told besides. Source: Dinh et al. 2017 (arXiv:1605.08803), eq. 7–8.
    """

    masks: Tensor

    def __init__(self, dim: int, couplings: int, width: int, given: int = 0) -> None:
        super().__init__()
        masks = torch.zeros(couplings, dim)
        for i in range(couplings):
            # Even and odd places, then the first and the second half: after four every number has met every other.
            half = torch.arange(dim) % 2 if i % 4 < 2 else (torch.arange(dim) * 2 >= dim).long()
            masks[i] = (half == i % 2).float()
        self.register_buffer("masks", masks, persistent=False)
        self.nets = nn.ModuleList()
        for _ in range(couplings):
            net = Stack((dim + given, width, width, 2 * dim), "silu", residual=False, open_end=True)
            for weight in net.weights[-2:]:
                nn.init.zeros_(weight)
            self.nets.append(net)
        # Whether the nets compute in bfloat16, while training. What they say is applied in float32.
        self.low_precision = False

    def forward(self, z: Tensor, given: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """From z [..., d] to e [..., d], and log |det ∂e/∂z| [...]."""
        total = z.new_zeros(z.shape[:-1])
        for net, mask in zip(self.nets, self.masks, strict=True):
            log_scale, shift = self._pair(net, z, mask, given)
            z = z * log_scale.exp() + shift
            total = total + log_scale.sum(-1)
        return z, total

    def inverse(self, e: Tensor, given: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """From e back to z, and log |det ∂z/∂e|."""
        total = e.new_zeros(e.shape[:-1])
        for net, mask in zip(reversed(self.nets), self.masks.flip(0), strict=True):
            log_scale, shift = self._pair(net, e, mask, given)
            e = (e - shift) * (-log_scale).exp()
            total = total - log_scale.sum(-1)
        return e, total

    def _pair(self, net: nn.Module, z: Tensor, mask: Tensor, given: Tensor | None) -> tuple[Tensor, Tensor]:
        """log scale and shift of the numbers outside of the mask, from those inside."""
        seen = z * mask
        if given is not None:
            seen = torch.cat([seen, given.expand(*z.shape[:-1], given.shape[-1])], -1)
        with torch.autocast(z.device.type, torch.bfloat16, enabled=self.low_precision):
            said = net(seen.flatten(0, -2)).to(z.dtype).unflatten(0, z.shape[:-1])
        log_scale, shift = said.chunk(2, -1)
        free = 1 - mask
        return STEEPEST * torch.tanh(log_scale / STEEPEST) * free, shift * free
