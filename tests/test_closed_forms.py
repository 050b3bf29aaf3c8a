"""Numbers that are known exactly."""

import math

import numpy as np
import pytest
import torch
from sklearn.decomposition import FactorAnalysis
from torch import nn

from latente import Autoencoder
from latente.kinds.table import Table
from latente.model.batch import Batch
from latente.model.dists.bernoulli import Bernoulli
from latente.model.dists.discretised_logistic import DiscretisedLogistic
from latente.model.dists.gaussian import Gaussian
from latente.model.estimates import bounds
from latente.model.latents.gaussian import DiagonalGaussian
from latente.model.model import Flat
from latente.model.nets.mlp import Mlp
from latente.model.objectives.elbo import Elbo
from latente.model.objectives.iwae import Iwae
from latente.model.priors.base import Host
from latente.model.priors.standard import Standard

D, K, SIGMA = 6, 2, 0.5


class _Linear(nn.Module):
    """Encoder features: the exact posterior mean and log scale of a linear-Gaussian model with orthogonal loadings."""

    def __init__(self, w: torch.Tensor) -> None:
        super().__init__()
        # With WᵀW = diag(g): q(z|x) = N((g + σ²)⁻¹ Wᵀ x, σ² (g + σ²)⁻¹), diagonal.
        self.gain = (w * w).sum(0)
        self.w = w

    def forward(self, batch: Batch) -> torch.Tensor:
        mean = batch.x @ self.w / (self.gain + SIGMA**2)
        log_scale = 0.5 * torch.log(SIGMA**2 / (self.gain + SIGMA**2)).expand_as(mean)
        return torch.cat([mean, log_scale], -1)


class _Split(nn.Module):
    def forward(self, h: torch.Tensor) -> DiagonalGaussian:
        return DiagonalGaussian(*h.chunk(2, -1))


@pytest.fixture(scope="module")
def exact():
    """A linear-Gaussian model with its exact posterior, rows drawn from it, and the exact mean of −log p(x)."""
    rng = np.random.default_rng(0)
    q, _ = np.linalg.qr(rng.normal(size=(D, K)))
    w = torch.tensor(q * [2.0, 1.0], dtype=torch.float32)
    likelihood = Gaussian("learned", "cell").build((D,))
    with torch.no_grad():
        likelihood.log_scale.fill_(math.log(SIGMA))
    decoder = nn.Linear(K, D, bias=False)
    decoder.weight = nn.Parameter(w)
    model = Flat(_Linear(w), _Split(), Standard().build(Host(K)), decoder, likelihood, dim=K).eval()
    model.generator = torch.Generator().manual_seed(0)
    x = rng.normal(size=(2000, K)) @ w.numpy().T + SIGMA * rng.normal(size=(2000, D))
    covariance = w.numpy() @ w.numpy().T + SIGMA**2 * np.eye(D)
    quadratic = np.einsum("ni,ij,nj->n", x, np.linalg.inv(covariance), x)
    nll = 0.5 * (quadratic + np.linalg.slogdet(2 * np.pi * covariance)[1]).mean()
    return model, Batch(torch.tensor(x, dtype=torch.float32)), nll


@pytest.mark.parametrize("objective", [Elbo(), Iwae(samples=1), Iwae(samples=16)], ids=str)
def test_bound_is_tight_at_the_exact_posterior(exact, objective):
    model, batch, nll = exact
    # With the exact posterior Iwae's weight is constant; the ELBO's noise is its one draw's, over 2,000 rows.
    tolerance = 0.15 if isinstance(objective, Elbo) else 1e-3
    assert objective(model, batch).total.item() == pytest.approx(nll, abs=tolerance)


def test_the_importance_weighted_estimate_is_exact_at_the_exact_posterior(exact):
    model, batch, nll = exact
    found = bounds(model, batch, 4, torch.Generator().manual_seed(0))
    assert -found.log_p.mean().item() == pytest.approx(nll, abs=1e-3)


def test_a_linear_gaussian_vae_recovers_the_exact_log_p_of_factor_analysis():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(4000, 2)) @ rng.normal(size=(2, 5)) + rng.normal(size=(4000, 5)) * [0.3, 0.5, 0.4, 0.6, 0.5]
    exact = FactorAnalysis(2, tol=1e-8, max_iter=5000).fit(x[:3000]).score(x[3000:])
    vae = Autoencoder(
        "vae", dim=2, kind=Table(scale="learned"), nets=Mlp(widths=()), steps=4000, lr=1e-2, random_state=0
    ).fit(x[:3000])
    # The asked 0.1 nats; the columns are in their own units on both sides.
    assert vae.score(x[3000:]) == pytest.approx(exact, abs=0.1)


def test_the_kl_of_gaussians_equals_its_monte_carlo_estimate():
    generator = torch.Generator().manual_seed(0)
    q = DiagonalGaussian(torch.tensor([[0.5, -1.0]]), torch.tensor([[-0.5, 0.3]]))
    prior = Standard().build(Host(2))
    z = q.sample(200_000, generator)
    estimate = (q.log_prob(z) - prior.log_prob(z)).mean()
    assert prior.kl_dims(q).sum().item() == pytest.approx(estimate.item(), abs=0.02)


def test_the_discretised_logistic_sums_to_one():
    likelihood = DiscretisedLogistic(levels=16).build((1, 1, 1))
    levels = torch.arange(16.0).reshape(16, 1, 1, 1) / 15
    for location, scale in ((0.0, 0.0), (0.4, -3.0), (-0.7, 1.0), (3.0, -1.0)):
        px = likelihood(torch.tensor([location, scale]).reshape(1, 2, 1, 1).expand(16, 2, 1, 1))
        assert px.cells(levels).exp().sum().item() == pytest.approx(1.0, abs=1e-4)


def test_the_discretised_logistic_stays_finite_far_from_its_mean():
    likelihood = DiscretisedLogistic().build((1, 1, 1))
    px = likelihood(torch.tensor([-20.0, -30.0]).reshape(1, 2, 1, 1))
    assert torch.isfinite(px.cells(torch.full((1, 1, 1, 1), 0.5))).all()


def test_the_closed_form_scale_is_the_root_mean_squared_error():
    likelihood = Gaussian("closed-form", "cell").build((2,))
    x = torch.randn(4000, 2, generator=torch.Generator().manual_seed(0)) * torch.tensor([0.5, 2.0])
    px = likelihood(torch.zeros(1, 4000, 2))
    likelihood.observe(px, Batch(x))
    # Deviation of a root mean square of 4,000 draws: 1.1 %.
    assert likelihood.variance.sqrt().tolist() == pytest.approx([0.5, 2.0], rel=0.05)


def test_bernoulli_cells_are_the_cross_entropy():
    px = Bernoulli().build((1,))(torch.tensor([[[math.log(3.0)]]]))
    assert px.cells(torch.tensor([[1.0]])).item() == pytest.approx(math.log(0.75), abs=1e-6)


def test_warm_up_is_linear_then_full_and_cyclical_repeats():
    linear, cyclical = Elbo(warmup=0.2), Elbo(warmup=0.5, schedule="cyclical", cycles=2)
    assert [linear.ramp(t) for t in (0.0, 0.1, 0.2, 0.9)] == pytest.approx([0.0, 0.5, 1.0, 1.0])
    assert [cyclical.ramp(t) for t in (0.0, 0.125, 0.25, 0.5, 0.625)] == pytest.approx([0.0, 0.5, 1.0, 0.0, 0.5])
