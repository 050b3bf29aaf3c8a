"""A Gaussian mixture fitted to the codes after training, so that a plain autoencoder can draw new rows too."""

import math
import warnings
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.mixture import GaussianMixture
from torch import Tensor

from ...parts import part, require
from ..latents.base import Posterior
from .base import Host, PriorModule


class FittedMixture(PriorModule):
    """A Gaussian mixture, which a fit to codes makes of the standard normal."""

    fitted_afterwards = True
    weights: Tensor
    means: Tensor
    factors: Tensor

    def __init__(self, dim: int, components: int, diagonal: bool) -> None:
        super().__init__()
        self.diagonal = diagonal
        self.register_buffer("weights", torch.full((components,), 1 / components))
        self.register_buffer("means", torch.zeros(components, dim))
        self.register_buffer("factors", torch.eye(dim).repeat(components, 1, 1))  # lower Cholesky of each covariance

    def log_prob(self, z: Tensor) -> Tensor:
        if self.diagonal:
            widths = self.factors.diagonal(dim1=-2, dim2=-1)
            # Σ ((z − m) / s)² as three products of matrices.
            square = z.square() @ widths.pow(-2).t() - 2 * z @ (self.means / widths.square()).t()
            square = square + (self.means / widths).square().sum(-1)
            constant = widths.log().sum(-1) + 0.5 * math.log(2 * math.pi) * z.shape[-1]
            return torch.logsumexp(self.weights.log() - 0.5 * square - constant, -1)
        centred = (z.unsqueeze(-2) - self.means).unsqueeze(-1)  # [..., k, d, 1]
        standard = torch.linalg.solve_triangular(self.factors, centred, upper=False).squeeze(-1)
        log_det = self.factors.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        each = -0.5 * (standard.square() + math.log(2 * math.pi)).sum(-1) - log_det
        return torch.logsumexp(each + self.weights.log(), -1)

    def kl_dims(self, q: Posterior) -> Tensor | None:
        # Until it is fitted, when training is over, all components are the standard normal.
        return q.kl_standard if self.training else None

    def sample(self, n: int, generator: torch.Generator | None) -> Tensor:
        which = torch.multinomial(self.weights, n, replacement=True, generator=generator)
        noise = torch.randn((n, self.means.shape[1], 1), generator=generator, device=self.means.device)
        return self.means[which] + (self.factors[which] @ noise).squeeze(-1)

    def fit(self, codes: Tensor, generator: torch.Generator | None) -> None:
        """Expectation-maximisation by scikit-learn; few codes get fewer components."""
        # Half the time of float64, and the same mixture: the ridge is far above what float32 can tell apart.
        x = codes.float().cpu().numpy()
        n, dim = x.shape
        # A full covariance has d(d+3)/2 numbers: ask for some ten rows for each of a component's dimensions; for a
        # diagonal one, forty.
        k = int(max(1, min(len(self.weights), n // (40 if self.diagonal else 10 * dim))))
        seed = int(torch.randint(2**31 - 1, (), generator=generator, device=codes.device))
        ridge = 1e-6 + 1e-3 * float(x.var(0).mean())
        form = "diag" if self.diagonal else "full"
        mixture = GaussianMixture(
            k, covariance_type=form, reg_covar=ridge, random_state=np.random.RandomState(seed), max_iter=200, tol=1e-2
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an EM that stops early is still a valid density
            mixture.fit(x)
        # Unused components repeat the first with weight zero: the tensors' shape is the part's.
        pick = np.r_[np.arange(k), np.zeros(len(self.weights) - k, np.int64)]
        weights = np.r_[mixture.weights_, np.full(len(self.weights) - k, 0.0)]
        self.weights.copy_(torch.from_numpy(weights))
        self.means.copy_(torch.from_numpy(mixture.means_[pick]))
        found = mixture.covariances_
        factors = np.stack([np.diag(np.sqrt(v)) for v in found]) if self.diagonal else np.linalg.cholesky(found)
        self.factors.copy_(torch.from_numpy(factors[pick]))


@part("prior", "fitted")
@dataclass(frozen=True)
class Fitted:
    """p(z) = Σ_k w_k N(m_k, C_k), fitted to the codes of the training rows after training; no part of the loss.

    diagonal: whether the C_k are: fewer numbers each, so that there can be more of them.
    """

    components: int = 10
    diagonal: bool = False

    def __post_init__(self) -> None:
        require(self.components >= 1, self, "components", "1 or more")

    def build(self, host: Host) -> PriorModule:
        """The prior of a model."""
        return FittedMixture(host.dim, self.components, self.diagonal)
