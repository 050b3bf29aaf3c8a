"""A diagonal Gaussian q(z|x) that is to say much of a row, where the decoder could do without."""

from dataclasses import dataclass, replace

from torch import Tensor, nn

from ...parts import part, require
from .gaussian import DiagonalGaussian, Head


class _Priced(nn.Module):
    """Features -> q(z|x) at its price."""

    def __init__(self, width: int, dim: int, price: float) -> None:
        super().__init__()
        self.inner, self.price = Head(width, dim), price

    def start(self, h: Tensor) -> None:
        """Before training, from rows with features h [b, width]."""
        self.inner.start(h)

    def forward(self, h: Tensor) -> DiagonalGaussian:
        return replace(self.inner(h), kl_weight=self.price)


@part("latent", "informative")
@dataclass(frozen=True)
class Informative:
    """q(z|x) = N(mean, diag(scale²)) in `dim` dimensions, whose KL counts `price` times in the objective `elbo`.

    A decoder that sees the cells before each pays a nat of code for less than a nat of reconstruction, and leaves the
    code alone; at a tenth of the price it says what a row is. The codes together are then no standard normal: take a
    prior that is fitted to them (`prior=fitted`). Below 1 the loss is no bound on −log p(x); `evaluate` reports one.
    """

    dim: int = 12
    price: float = 0.1

    def __post_init__(self) -> None:
        require(self.dim >= 1, self, "dim", "1 or more")
        require(0 < self.price <= 1, self, "price", "above 0, up to 1")

    def build(self, width: int) -> nn.Module:
        """The head on `width` features."""
        return _Priced(width, self.dim, self.price)
