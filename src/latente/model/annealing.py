"""Annealed importance sampling of log p(x): slow, and right where q(z|x) is wrong; and the rate–distortion curve."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from ..errors import ConfigError
from .batch import Batch
from .estimates import breadth
from .latents.base import Posterior
from .model import Model, Pass

# Numbers of one decode with its gradient: 4 MB of float32 and what the nets keep beside them.
CHUNK = 1 << 20
# Leapfrog steps of a move, and the share of moves that step sizes are made for: both as Wu et al. 2017; 65 % is where
# Hamiltonian moves are cheapest for their worth (Beskos et al. 2013, arXiv:1001.4460).
LEAPS, TARGET = 10, 0.65
# The step size of the first pilot move, and by how much a move's surprise changes its logarithm.
FIRST, RATE = 0.3, 0.1
# Where chains may start: p(z), or q(z|x).
STARTS = ("prior", "posterior")


@dataclass(frozen=True)
class Annealed:
    """What the chains of b rows found at each of t inverse temperatures, in nats.

    betas: [t], from 0. log_z: on average a lower bound on log ∫ start(z)^(1−β) (p(z) p(x|z))^β dz [t, b]; from the
    prior that is log ∫ p(z) p(x|z)^β dz. distortion: −E log p(x|z) under that density [t, b]. share: effective chains
    at the end, over chains [b]; near 1 / chains one chain holds all the weight, and more temperatures are needed.
    accepted: share of the moves.
    """

    betas: Tensor
    log_z: Tensor
    distortion: Tensor
    share: Tensor
    accepted: float

    def at(self, beta: float) -> int:
        """The index of an inverse temperature that was asked for."""
        return int((self.betas - beta).abs().argmin())

    @property
    def log_p(self) -> Tensor:
        """log p(x): on average a lower bound. [b]"""
        return self.log_z[self.at(1.0)]

    @property
    def rate(self) -> Tensor:
        """From the prior: KL(p_β(z|x) ‖ p(z)) with p_β(z|x) ∝ p(z) p(x|z)^β. [t, b]"""
        return -self.betas.unsqueeze(-1) * self.distortion - self.log_z


def schedule(steps: int, last: float = 1.0, also: Sequence[float] = ()) -> Tensor:
    """Inverse temperatures from 0 to `last`, close at both ends: a sigmoid of −4 … 4 (Wu et al. 2017)."""
    t = torch.linspace(-4, 4, steps + 1, dtype=torch.float64).sigmoid()
    return torch.cat([last * (t - t[0]) / (t[-1] - t[0]), t.new_tensor([1.0, *also])]).unique()


def annealed(
    model: Model,
    batch: Batch,
    generator: torch.Generator,
    *,
    chains: int = 16,
    betas: Tensor | None = None,
    start: str = "prior",
) -> Annealed:
    """`chains` chains a row from p(z), or from q(z|x), to p(x, z), moved by Hamiltonian Monte Carlo at each of `betas`.

    From the prior the estimate owes nothing to the encoder. A row's step sizes come from one more chain, the
    pilot, which is not counted: the others move by rules that owe nothing to where they have been, so that the mean of
    their weights is unbiased. For models with a prior density on numbers and a decoder that can be differentiated.

    Sources: Neal 2001 (arXiv:physics/9803008); Wu, Burda, Salakhutdinov & Grosse 2017 (arXiv:1611.04273); the
    curve: Huang, Makhzani, Cao & Grosse 2020 (arXiv:2008.06653).
    """
    if chains < 1:
        raise ConfigError(f"chains must be 1 or more, not {chains}")
    betas = schedule(500) if betas is None else betas
    size = max(1, CHUNK // ((chains + 1) * breadth(model, batch)))
    pieces = (batch.rows(slice(i, i + size)) for i in range(0, len(batch), size))
    found = [_run(_Path(model, rows, chains + 1, start, generator), betas) for rows in pieces]
    weights = [f.log_z.shape[1] / len(batch) for f in found]
    return replace(
        found[0],
        log_z=torch.cat([f.log_z for f in found], 1),
        distortion=torch.cat([f.distortion for f in found], 1),
        share=torch.cat([f.share for f in found]),
        accepted=sum(w * f.accepted for w, f in zip(weights, found, strict=True)),
    )


class _Point(NamedTuple):
    """Places of the chains, and log f_β = base + β · ratio there with the gradients of both."""

    z: Tensor  # [s, b, d]
    base: Tensor  # [s, b]
    ratio: Tensor
    log_px: Tensor
    d_base: Tensor  # [s, b, d]
    d_ratio: Tensor

    def log_f(self, beta: float) -> Tensor:
        return self.base + beta * self.ratio

    def slope(self, beta: float) -> Tensor:
        return self.d_base + beta * self.d_ratio


class _Path:
    """The geometric path of some rows, and the chains on it."""

    def __init__(self, model: Model, rows: Batch, chains: int, start: str, generator: torch.Generator) -> None:
        self.model, self.rows, self.generator = model, rows, generator
        with torch.no_grad():
            self.given = model.given(rows)
            self.prior = model.prior(self.given)
            self.q: Posterior = model.encode(rows)
        self.from_q = start == "posterior"
        if self.from_q and not self.q.has_density:
            raise ConfigError("chains cannot start from q(z|x), which has no density here", hint="start='prior'")
        with torch.no_grad():
            if self.from_q:
                z = self.q.sample(chains, generator)
            else:
                z = self.prior.sample(chains * len(rows), generator).unflatten(0, (chains, len(rows)))
        self.point = self.at(z)

    @torch.enable_grad()
    def at(self, z: Tensor) -> _Point:
        z = z.detach().requires_grad_()
        out = Pass(self.q, self.prior, z, self.model.decode(z, self.given), self.rows)
        base = out.log_qz if self.from_q else out.log_pz
        ratio = out.log_px + out.log_pz - out.log_qz if self.from_q else out.log_px
        (d_ratio,) = torch.autograd.grad(ratio.sum(), z, retain_graph=self.from_q)
        (d_base,) = torch.autograd.grad(base.sum(), z)
        return _Point(*(t.detach() for t in (z, base, ratio, out.log_px, d_base, d_ratio)))

    def move(self, beta: float, size: Tensor) -> Tensor:
        """One Hamiltonian move of every chain with leapfrog steps of `size` [b]; the chance each had. [s, b]"""
        old, step = self.point, size.unsqueeze(-1)
        device = old.z.device
        momentum = torch.randn(old.z.shape, generator=self.generator, device=device)
        before = old.log_f(beta) - 0.5 * momentum.square().sum(-1)
        new = old
        for _ in range(LEAPS):
            momentum = momentum + 0.5 * step * new.slope(beta)
            new = self.at(new.z + step * momentum)
            momentum = momentum + 0.5 * step * new.slope(beta)
        after = new.log_f(beta) - 0.5 * momentum.square().sum(-1)
        # A way that left the numbers is refused.
        chance = (after - before).nan_to_num(-math.inf, neginf=-math.inf).clamp(max=0).exp()
        taken = torch.rand(chance.shape, generator=self.generator, device=device) < chance
        picked = (
            torch.where(taken.unsqueeze(-1) if a.dim() == 3 else taken, b, a) for a, b in zip(old, new, strict=True)
        )
        self.point = _Point(*picked)
        return chance


@torch.no_grad()
def _run(path: _Path, betas: Tensor) -> Annealed:
    """All temperatures in turn. The first chain is the pilot: it sets the size of the next move, and is not counted."""
    first = path.point.ratio
    chains, b = len(first) - 1, first.shape[1]
    log_w = first.new_zeros((chains, b), dtype=torch.float64)
    log_size = first.new_full((b,), math.log(FIRST))
    log_z, distortion, accepted, last = [], [], 0.0, 0.0
    for beta in betas.tolist():
        log_w += (beta - last) * path.point.ratio[1:].double()
        last = beta
        chance = path.move(beta, log_size.exp())
        log_size += RATE * (chance[0] - TARGET)
        accepted += float(chance[1:].mean()) / len(betas)
        log_z.append(torch.logsumexp(log_w, 0) - math.log(chains))
        distortion.append(-(log_w.softmax(0) * path.point.log_px[1:].double()).sum(0))
    share = 1 / (log_w.softmax(0).square().sum(0) * chains)
    return Annealed(betas, torch.stack(log_z), torch.stack(distortion), share, accepted)
