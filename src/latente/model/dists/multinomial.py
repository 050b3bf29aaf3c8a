"""A row of counts as draws from one distribution over its columns."""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ...parts import part
from .. import sparse
from .counts import CountsDist, CountsLikelihood, Sums, aligned, coefficient

# Numbers of a block of rows: 1 MB.
BLOCK = 1 << 18


class _LogP(torch.autograd.Function):
    """Σ_j x_j log softmax(logits)_j of rows of numbers [.., b, g + 1], the last of which is not a logit, with its
    derivative x − n·softmax(logits) written out: what is dense in it is passed over a block of rows at a time, which
    stays in the cache, and in place; the rest is gathered. The last numbers are its second output, so that their
    gradient has no pass of its own.
    """

    @staticmethod
    def forward(ctx: Any, numbers: Tensor, row: Tensor, column: Tensor, values: Tensor, n: Tensor) -> Any:
        flat = numbers[..., row, column]
        shares = aligned(numbers.shape, numbers)
        levels = torch.empty(numbers.shape[:-1], dtype=numbers.dtype, device=numbers.device)
        lines, out, level = numbers.flatten(0, -2), shares.flatten(0, -2), levels.view(-1)
        highest = torch.empty_like(level)
        for i in range(0, len(lines), block := max(1, BLOCK // lines.shape[1])):
            some, p = lines[i : i + block, :-1], out[i : i + block, :-1]
            top = some.amax(-1, keepdim=True)
            torch.sub(some, top, out=p).exp_()
            level[i : i + block] = (p.sum(-1, keepdim=True).log_() + top)[:, 0]
            highest[i : i + block] = top[:, 0]
        found = sparse.by_row(flat.double() * values, row, levels.shape[-1]) - n.double() * levels
        # exp(logit − highest) is a share once it is divided by exp(level − highest), which backward does on its way.
        mass = (levels - highest.view(levels.shape)).exp_()
        ctx.save_for_backward(row, column, values, n / mass)
        ctx.shares = shares
        return found, numbers[..., -1].clone()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor, of_last: Tensor) -> Any:
        row, column, values, n_by_mass = ctx.saved_tensors
        out, ctx.shares, gradient = ctx.shares, None, gradient.to(ctx.shares.dtype)
        out.mul_(-(gradient * n_by_mass).unsqueeze(-1))
        out[..., -1] = of_last
        own = gradient.index_select(-1, row) * values
        for each, more in zip(out.unbind(0) if out.dim() > 2 else (out,), own.view(-1, len(row)), strict=True):
            each.index_put_((row, column), more, accumulate=True)
        return out, None, None, None, None


@dataclass(frozen=True)
class MultinomialDist(CountsDist):
    """P(x | n, z) = n! / Π x_j! · Π p_j^x_j with p = softmax(logits). once: a column is drawn once at the most."""

    numbers: Tensor  # [..., g + 1]: the logits, and what the sums' mean is
    sums: Sums
    once: bool = False

    @property
    def logits(self) -> Tensor:
        """Of the columns. [..., g]"""
        return self.numbers[..., :-1]

    def cells(self, x: Tensor) -> Tensor:
        return self.seen(x, None)

    def seen(self, x: Tensor, observed: Tensor | None) -> Tensor:
        x = sparse.dense(x)
        logits = self.logits if observed is None else self.logits.masked_fill(~observed, -torch.inf)
        x = x if observed is None else x * observed
        n = x.sum(-1, keepdim=True)
        # n! belongs to the whole row: each count has its share of it.
        share = torch.special.gammaln(n + 1) / n.clamp(min=1)
        logs = logits.log_softmax(-1)
        logs = logs if observed is None else logs.masked_fill(~observed, 0.0)
        found = x * logs + x * share - torch.special.gammaln(x + 1)
        return found if observed is None else found.masked_fill(~observed, 0.0)

    def joint(self, x: Tensor, n: Tensor) -> Tensor:
        row, column, values = sparse.entries(x)
        found, mean = _LogP.apply(self.numbers, row, column, values, n)
        whole = (found + coefficient(row, values, n)).to(mean.dtype)
        return whole + replace(self.sums, mean=mean).log_prob(n)

    @property
    def mean(self) -> Tensor:
        return self.logits.softmax(-1) * self.sums.usual

    @property
    def mode(self) -> Tensor:
        # By the largest remainders: within one of the true mode in each column.
        mean = self.mean
        whole = mean.floor()
        rest = (self.sums.usual - whole.sum(-1, keepdim=True)).round().clamp(min=0)
        order = (mean - whole).argsort(-1, descending=True).argsort(-1)
        return whole + (order < rest)

    def sample(self, generator: torch.Generator | None) -> Tensor:
        p = self.logits.softmax(-1)
        n = self.sums.sample(generator).flatten().long().tolist()
        flat, out = p.flatten(0, -2), torch.zeros_like(p).flatten(0, -2)
        for i, (row, k) in enumerate(zip(flat, n, strict=True)):
            most = min(k, int((row > 0).sum())) if self.once else k
            taken = torch.multinomial(row, most, replacement=not self.once, generator=generator)
            out[i].index_add_(0, taken, torch.ones(len(taken), device=p.device))
        return out.view(p.shape)


class _Multinomial(CountsLikelihood):
    def __init__(self, shape: tuple[int, ...], once: bool) -> None:
        super().__init__(shape)
        self.once = once

    def forward(self, params: Tensor) -> MultinomialDist:
        return MultinomialDist(params, self.sums(params), self.once)


@part("likelihood", "multinomial")
@dataclass(frozen=True)
class Multinomial:
    """Counts of a row given their sum: each of its n draws is column j with probability p_j.

    once: a draw of a new row takes each column once at the most, as people take things.
    Source: Liang et al. 2018 (arXiv:1802.05814), eq. 2; theirs leaves out n! / Π x_j!, which has no gradient.
    """

    once: bool = False

    def build(self, shape: tuple[int, ...]) -> CountsLikelihood:
        """The likelihood of rows of `shape`."""
        return _Multinomial(shape, self.once)
