"""A prior that is told what is given: p(z|c)."""

import torch
from torch import Tensor, nn

from ..latents.base import Posterior
from .base import PriorModule

# exp(±4): beyond, a level that a handful of rows have would become a point.
WIDEST = 4.0


class Moves(nn.Module):
    """What is given [b, k] -> where p(z|c) lies and the log of its width. Made as the prior itself, whatever is given.

    Without it what z says of c is paid for at the prior's price and a decoder reads c from z all the same: draws of
    p(z) then bring any c with them, and the c that was asked for is not heard (MNIST, 16 dimensions: 31 % of the
    samples were the digit asked for; docs/performance.md). Learned in the bound, as in Sohn et al. 2015 (NeurIPS).
    """

    def __init__(self, width: int, dim: int) -> None:
        super().__init__()
        self.both = nn.Linear(width, 2 * dim)
        nn.init.zeros_(self.both.weight)
        nn.init.zeros_(self.both.bias)

    def forward(self, given: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_width = self.both(given).chunk(2, -1)
        return mean, log_width.clamp(-WIDEST, WIDEST)

    @torch.no_grad()
    def fit(self, codes: Tensor, given: Tensor) -> Tensor:
        """Least squares of codes [n, d] on what is given [n, k], for a prior that is fitted when training is over; what
        is left of the codes. [n, d]
        """
        x = torch.cat([given, given.new_ones(len(given), 1)], -1).double()
        # A ridge: the one-hot columns of a category add up to the constant.
        gram = x.t() @ x + 1e-3 * torch.eye(x.shape[1], dtype=x.dtype, device=x.device)
        found = torch.linalg.solve(gram, x.t() @ codes.double()).to(codes.dtype)
        dim = codes.shape[1]
        self.both.weight[:dim], self.both.bias[:dim] = found[:-1].t(), found[-1]
        return codes - self(given)[0]


class Moved(PriorModule):
    """p(z|c) of rows: a prior over (z − mean) / exp(log_width), each [b, d], or [1, d] for all rows."""

    def __init__(self, base: PriorModule, mean: Tensor, log_width: Tensor) -> None:
        super().__init__()
        self.base, self.mean, self.log_width = base, mean, log_width
        self.fitted_afterwards = base.fitted_afterwards

    def log_prob(self, z: Tensor) -> Tensor:
        return self.base.log_prob((z - self.mean) * (-self.log_width).exp()) - self.log_width.sum(-1)

    def sample(self, n: int, generator: torch.Generator | None) -> Tensor:
        """n draws, row after row and from the first again. [n, d]"""
        rows = self.base.sample(n, generator).unflatten(0, (-1, len(self.mean)))
        return (rows * self.log_width.exp() + self.mean).flatten(0, 1)

    def kl_dims(self, q: Posterior) -> Tensor | None:
        moved = q.moved(self.mean, self.log_width)
        return None if moved is None else self.base.kl_dims(moved)
