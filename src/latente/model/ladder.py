"""The ladder: latents in several levels, drawn from the top down, each told what was drawn above it.

data ──▶ up ──▶ features of each level
zeros ──▶ down ──▶ state ──┬──▶ p(z_i | z above) = N(m, s²)
                           ├── with the features ──▶ q(z_i | x, z above) = N(m + s·μ, (s·σ)²)
                           └──◀── z_i, then down to the next level; from the last state to p(x|z)

A code is e_i = (z_i − m) / s of every level, one after the other: what is new at each level, given those above it. So
p(e) = N(0, I), whatever the nets say, q(e_i | x, e above) = N(μ, σ²), and every use of a model with one layer of
latents is one of a ladder's too.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, nn

from ..errors import ConfigError
from .batch import Batch
from .condition import Condition
from .dists.base import Dist, Likelihood
from .latents.base import Posterior
from .model import Corruption, Model
from .nets.trunk import Trunk
from .priors.base import PriorModule

# A level may be e⁻⁷ to e³ times as sure as the prior is, and the prior itself e⁻⁵ to e³: beyond, bfloat16 runs away.
NARROWEST, WIDEST, THINNEST = -7.0, 3.0, -5.0


@dataclass(frozen=True, eq=False)
class Walk:
    """One way down, of n rows. e, mean and log_scale (of q; zeros without features): [n, d]; state: the last one."""

    e: Tensor
    mean: Tensor
    log_scale: Tensor
    state: Tensor


class TopDown(nn.Module):
    """The nets on the way down. sizes: channels of z at each level, top first."""

    def __init__(self, trunk: Trunk, sizes: Sequence[int], given: int) -> None:
        super().__init__()
        self.shapes, self.down, self.out = trunk.shapes, trunk.down, trunk.out
        self.parts = [(z, *shape[1:]) for z, shape in zip(sizes, trunk.shapes, strict=True)]
        self.p, self.q, self.inject = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        for z, shape in zip(sizes, trunk.shapes, strict=True):
            prior, join, own = trunk.mix(shape[0], 2 * z), trunk.mix(2 * shape[0], shape[0]), trunk.mix(shape[0], 2 * z)
            inject = trunk.mix(z, shape[0])
            # At first p is N(0, 1), q narrower, and both low in the state: where q was as wide as p the noise of all
            # levels together drowned the row, and 400 small pictures collapsed at once (error 100 % against 1 %).
            nn.init.zeros_(prior.weight)
            nn.init.normal_(own.weight, std=0.5 / math.sqrt(shape[0]))
            with torch.no_grad():
                own.weight[z:].mul_(0.1)
                own.bias[z:] = -1.0
                inject.weight.mul_(0.3)
            self.p.append(prior)
            self.q.append(nn.Sequential(join, nn.ReLU(), own))
            self.inject.append(inject)
        self.given = nn.Linear(given, math.prod(trunk.shapes[0])) if given else None

    def forward(
        self,
        rows: int,
        features: Sequence[Tensor] | None,
        given: Tensor | None,
        *,
        noise: Tensor | None = None,
        e: Tensor | None = None,
    ) -> Walk:
        """The way down of `rows` rows: with e [rows, d] where it is known, else from noise [rows, d] sent through q."""
        known = None if e is None else self._split(e)
        noises = None if noise is None else self._split(noise)
        state = torch.zeros(rows, *self.shapes[0], device=next(self.parameters()).device)
        if self.given is not None and given is not None:
            state = state + self.given(given).unflatten(-1, self.shapes[0])
        found: list[tuple[Tensor, Tensor, Tensor]] = []
        for i, down in enumerate(self.down):
            state = down(state)
            m, log_s = self.p[i](state).float().chunk(2, 1)
            if features is None:
                mean = log_scale = torch.zeros_like(m)
            else:
                mean, log_scale = (
                    self.q[i](torch.cat([state.to(features[i].dtype), features[i]], 1)).float().chunk(2, 1)
                )
                log_scale = log_scale.clamp(NARROWEST, WIDEST)
            drawn = mean if noises is None else mean + log_scale.exp() * noises[i]
            new = drawn if known is None else known[i]
            z = m + log_s.clamp(THINNEST, WIDEST).exp() * new
            state = state + self.inject[i](z.to(state.dtype))
            found.append((new, mean, log_scale))
        e, mean, log_scale = (torch.cat([t.flatten(1) for t in level], 1) for level in zip(*found, strict=True))
        return Walk(e, mean, log_scale, state)

    def _split(self, code: Tensor) -> list[Tensor]:
        pieces = code.split([math.prod(part) for part in self.parts], -1)
        return [piece.unflatten(-1, part) for piece, part in zip(pieces, self.parts, strict=True)]


class LadderPosterior(Posterior):
    """q(e|x) = Π_i N(μ_i(x, e above), σ_i²(x, e above)). Mean and deviations are those of the way along the means."""

    def __init__(self, model: "Ladder", features: list[Tensor], given: Tensor | None) -> None:
        self.model, self.features, self.given = model, features, given
        self._means: Walk | None = None
        self.last: tuple[Tensor, Walk] | None = None

    @property
    def mean(self) -> Tensor:
        return self._along_the_means().mean

    @property
    def stddev(self) -> Tensor:
        return self._along_the_means().log_scale.exp()

    def _along_the_means(self) -> Walk:
        if self._means is None:
            self._means = self.model.walk(self.features, self.given, 1)
        return self._means

    @property
    def like(self) -> Tensor:
        first = self.features[0]
        return torch.empty(first.shape[0], self.model.dim, device=first.device)

    def draw(self, noise: Tensor) -> Tensor:
        samples, rows = len(noise), len(self.features[0])
        noise = noise.expand(samples, rows, -1).flatten(0, 1)
        walk = self.model.walk(self.features, self.given, samples, noise=noise)
        self.last = walk.e.unflatten(0, (samples, rows)), walk
        return self.last[0]

    def log_prob(self, z: Tensor) -> Tensor:
        walk = self._walk_of(z)
        standard = (walk.e - walk.mean) / walk.log_scale.exp()
        each = (-0.5 * standard.square() - walk.log_scale - 0.5 * math.log(2 * math.pi)).sum(-1)
        return each.unflatten(0, z.shape[:2])

    @property
    def kl_standard(self) -> Tensor:
        """KL(q(e_i | x, e above) ‖ N(0, 1)), exact given what was drawn above, a mean over the draws. [b, d]"""
        samples = 1 if self.last is None else len(self.last[0])
        walk = self._along_the_means() if self.last is None else self.last[1]
        each = 0.5 * (walk.mean.square() + (2 * walk.log_scale).exp() - 1) - walk.log_scale
        return each.unflatten(0, (samples, -1)).mean(0)

    def _walk_of(self, z: Tensor) -> Walk:
        if self.last is not None and z is self.last[0]:
            return self.last[1]
        return self.model.walk(self.features, self.given, len(z), e=z.flatten(0, 1))


@final
class Ladder(Model):
    """A ladder of latents on a trunk of nets."""

    def __init__(
        self,
        encoder: nn.Module,
        trunk: Trunk,
        sizes: Sequence[int],
        prior: PriorModule,
        likelihood: Likelihood,
        corruption: Corruption | None = None,
        condition: Condition | None = None,
    ) -> None:
        super().__init__(encoder, likelihood, corruption, condition)
        self.topdown = TopDown(trunk, sizes, 0 if condition is None else condition.width)
        self.prior_module = prior
        self.sizes = [math.prod(part) for part in self.topdown.parts]  # of a code, level by level
        self.dim = sum(self.sizes)
        self.breadth = max(math.prod(shape) for shape in trunk.shapes)

    def encode(self, batch: Batch) -> LadderPosterior:
        with self._low():
            features = self.encoder(batch)
        return LadderPosterior(self, features, self.given(batch))

    def walk(
        self,
        features: list[Tensor] | None,
        given: Tensor | None,
        samples: int,
        *,
        noise: Tensor | None = None,
        e: Tensor | None = None,
    ) -> Walk:
        """`samples` ways down for each row of the features or of e, one after the other."""
        # By `shape`, not `len`: a tracer may leave the one open, and must know the other.
        rows = e.shape[0] if e is not None else samples * features[0].shape[0] if features else 0
        if features is not None and samples > 1:
            features = [f.expand(samples, *f.shape).flatten(0, 1) for f in features]
        if given is not None and given.shape[0] != rows:
            given = given.expand(rows // given.shape[0], *given.shape).flatten(0, 1)
        with self._low():
            return self.topdown(rows, features, given, noise=noise, e=e)

    def prior(self, given: Tensor | None = None) -> PriorModule:
        # Its levels are told what is given on the way down.
        return self.prior_module

    @property
    def output(self) -> nn.Module:
        return self.topdown.out

    def decode(self, z: Tensor, given: Tensor | None = None) -> Dist:
        if self.condition is not None and given is None:
            given = self.condition(self.condition.unknown(1))
        return self._px(self.walk(None, given, 1, e=z.flatten(0, -2)), z.shape[:-1])

    def _px(self, walk: Walk, shape: Sequence[int]) -> Dist:
        with self._low():
            params = self.topdown.out(walk.state)
        return self.likelihood(params.float().unflatten(0, tuple(shape)))

    def drawn(self, q: Posterior, z: Tensor, given: Tensor | None, still: bool) -> Dist:
        if still:
            raise ConfigError(
                "a ladder's encoder and decoder share their nets: neither can be trained while the other rests",
                hint="--set objective.aggressive=0",
            )
        assert isinstance(q, LadderPosterior)
        assert q.last is not None
        return self._px(q.last[1], z.shape[:2])


class Climb(nn.Module):
    """Features of each level, top first, by the blocks on the way up."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks: nn.Module = nn.ModuleList()

    def forward(self, x: Tensor) -> list[Tensor]:
        found = []
        for block in self.blocks.children():
            x = block(x)
            found.append(x)
        return found[::-1]
