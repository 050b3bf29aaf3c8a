"""Flows, the sphere and the VampPrior: densities that are densities, draws that are theirs."""

import math

import numpy as np
import pytest
import torch
from scipy.special import ive
from torch.nn import functional as F

import latente as lt
from latente.errors import ConfigError
from latente.model.batch import Batch
from latente.model.flows import RealNVP
from latente.model.latents.flow import FlowPosterior
from latente.model.latents.gaussian import DiagonalGaussian
from latente.model.latents.sphere import VonMisesFisher, log_area
from latente.model.priors.base import Host
from latente.model.priors.flow import Flow
from latente.model.priors.vamp import _Components


def stirred(flow: RealNVP) -> RealNVP:
    """Weights that are not those of the identity."""
    with torch.no_grad():
        for i, p in enumerate(flow.parameters()):
            p.add_(0.3 * torch.randn(p.shape, generator=torch.Generator().manual_seed(i)))
    return flow


@pytest.mark.parametrize("dim", [1, 2, 5])
def test_a_flow_goes_back_where_it_came_from_and_its_determinant_is_autograds(dim):
    flow = stirred(RealNVP(dim, 4, 16, given=3)).double()
    generator = torch.Generator().manual_seed(0)
    z, given = (torch.randn(7, n, generator=generator, dtype=torch.float64) for n in (dim, 3))
    e, log_det = flow(z, given)
    back, other = flow.inverse(e, given)
    assert torch.allclose(back, z, atol=1e-9)
    assert torch.allclose(other, -log_det, atol=1e-9)
    jacobian = torch.autograd.functional.jacobian(lambda row: flow(row[None], given[:1])[0][0], z[0])
    assert torch.linalg.slogdet(jacobian)[1].item() == pytest.approx(log_det[0].item(), abs=1e-9)


def test_a_new_flow_is_the_identity():
    z = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
    e, log_det = RealNVP(4, 6, 32)(z)
    assert torch.equal(e, z)
    assert (log_det == 0).all()


def test_a_flow_posteriors_density_is_the_same_on_the_way_there_and_back():
    generator = torch.Generator().manual_seed(0)
    q = FlowPosterior(*(torch.randn(6, n, generator=generator) * 0.5 for n in (3, 3)), stirred(RealNVP(3, 4, 8, 8)),
                      torch.randn(6, 8, generator=generator))  # fmt: skip
    with torch.no_grad():
        z = q.draw(torch.randn(10, 6, 3, generator=generator))
        assert torch.allclose(q.log_prob(z), q.log_prob(z.clone()), atol=1e-3)
        # One noise for all rows, as scores use it.
        assert q.draw(torch.randn(10, 1, 3, generator=generator)).shape == (10, 6, 3)


@pytest.mark.slow
def test_a_flow_fitted_to_codes_comes_near_their_entropy():
    generator = torch.Generator().manual_seed(0)
    # A banana: x normal, y = x² + noise; its entropy is that of two normals, for the map has determinant 1.
    x, noise = (torch.randn(6000, generator=generator) for _ in range(2))
    codes = torch.stack([3 * x, x.square() + 0.3 * noise], 1)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        prior = Flow(afterwards=True).build(Host(2))
    prior.fit(codes, generator)
    entropy = math.log(2 * math.pi * math.e) + math.log(3) + math.log(0.3)
    # 6,000 log-densities with a deviation of 1 have a standard error of .013.
    assert -prior.log_prob(codes).mean().item() == pytest.approx(entropy, abs=0.1)
    draws = prior.sample(5000, generator)
    assert draws.std(0).tolist() == pytest.approx(codes.std(0).tolist(), rel=0.15)
    assert all(not p.requires_grad for p in prior.parameters())


@pytest.mark.parametrize("dim", [2, 3, 10, 64])
@pytest.mark.parametrize("kappa", [0.05, 1.0, 30.0, 3000.0])
def test_the_normaliser_of_von_mises_fisher_is_that_of_the_bessel_functions(dim, kappa):
    q = VonMisesFisher(F.normalize(torch.ones(1, dim), dim=-1), torch.tensor([[math.log(kappa)]]))
    # log ∫ exp(κ (w − 1)) dA, by I_v scaled with exp(−κ) (Davidson et al. 2018, eq. 2).
    v = dim / 2 - 1
    exact = math.log(ive(v, kappa)) + (v + 1) * math.log(2 * math.pi) - v * math.log(kappa)
    assert (q._grid[2] + log_area(dim)).item() == pytest.approx(exact, abs=2e-3)
    mean = ive(v + 1, kappa) / ive(v, kappa)
    assert q.entropy.item() == pytest.approx(exact + kappa - kappa * mean, abs=0.01)


@pytest.mark.parametrize(("dim", "kappa"), [(2, 3.0), (3, 0.1), (5, 20.0), (40, 200.0)])
def test_draws_from_the_sphere_are_on_it_and_have_its_mean(dim, kappa):
    generator = torch.Generator().manual_seed(0)
    mu = F.normalize(torch.randn(2, dim, generator=generator), dim=-1)
    q = VonMisesFisher(mu, torch.full((2, 1), math.log(kappa)))
    z = q.sample(20_000, generator)
    assert z.norm(dim=-1).sub(1).abs().max() < 1e-5
    mean = ive(dim / 2, kappa) / ive(dim / 2 - 1, kappa)
    # Five standard errors of a mean of 20,000 numbers with a deviation below 1.
    assert (z * mu).sum(-1).mean(0).tolist() == pytest.approx([mean] * 2, abs=0.035)
    off = z.mean(0) - mean * mu
    assert off.norm(dim=-1).max() < 0.035


def test_the_concentrations_gradient_through_draws_is_that_of_their_mean():
    log_kappa = torch.tensor([[math.log(8.0)]], requires_grad=True)
    q = VonMisesFisher(F.normalize(torch.ones(1, 6), dim=-1), log_kappa)
    w = (q.sample(20_000, torch.Generator().manual_seed(0)) * q.direction).sum(-1).mean()
    (slope,) = torch.autograd.grad(w, log_kappa)
    mean = lambda k: ive(3, k) / ive(2, k)  # noqa: E731
    exact = 8.0 * (mean(8.001) - mean(7.999)) / 0.002
    assert slope.item() == pytest.approx(exact, rel=0.05)


def test_pairs_of_log_densities_are_those_one_by_one():
    generator = torch.Generator().manual_seed(0)
    q = DiagonalGaussian(torch.randn(4, 3, generator=generator), torch.randn(4, 3, generator=generator) - 2)
    z = torch.randn(9, 3, generator=generator)
    one_by_one = q.log_prob(z.unsqueeze(1).expand(9, 4, 3))
    assert torch.allclose(q.log_prob_pairs(z), one_by_one, rtol=1e-4, atol=1e-3)


def test_a_vamp_prior_is_the_mixture_of_its_posteriors():
    q = DiagonalGaussian(torch.tensor([[-2.0], [1.0], [3.0]]), torch.tensor([[-0.5], [0.2], [-1.0]]))
    mixture = _Components(q)
    grid = torch.linspace(-12, 12, 4001)[:, None]
    with torch.no_grad():
        density = mixture.log_prob(grid).exp()
        draws = mixture.sample(20_000, torch.Generator().manual_seed(0))
    assert density.sum().item() * 24 / 4000 == pytest.approx(1.0, abs=1e-3)
    assert draws.mean().item() == pytest.approx(2 / 3, abs=0.08)  # 5 standard errors of a mean of 20,000


def test_no_training_row_is_in_a_vamp_model(dots):
    ae = lt.Autoencoder("vamp", dim=2, steps=1, lr=1e-9, random_state=0, settings={"prior.inputs": 50}).fit(dots)
    inputs = ae.model_.prior_module.inputs.detach().reshape(50, -1)
    rows = torch.from_numpy(dots.reshape(len(dots), -1) / 255).float()
    assert torch.cdist(inputs, rows).min() > 0.1


@pytest.mark.slow
def test_learned_priors_beat_the_standard_one_on_clusters():
    rng = np.random.default_rng(0)
    x = rng.choice([-5.0, 5.0], (1500, 2)) + 0.1 * rng.normal(size=(1500, 2))
    found = {}
    for prior in ("standard", "flow", "vamp"):
        ae = lt.Autoencoder("vae", dim=2, prior=prior, steps=800, lr=3e-3, random_state=0).fit(x[:1200])
        found[prior] = ae.score(x[1200:])
    assert found["flow"] > found["standard"] - 0.05
    assert found["vamp"] > found["standard"] - 0.05


def test_a_sphere_goes_with_its_own_prior_and_every_verb(people):
    ae = lt.Autoencoder("sphere", dim=3, steps=60, random_state=0).fit(people)
    z = ae.transform(people)
    assert np.abs(np.linalg.norm(z, axis=1) - 1).max() < 1e-5
    assert np.isfinite(ae.score_samples(people)).all()
    assert list(ae.sample(5).columns) == list(people.columns)
    assert len(lt.interpolate(ae, people.iloc[0], people.iloc[9], steps=5)) == 5
    with pytest.raises(ConfigError, match="points of a sphere"):
        lt.Autoencoder("vae", latent="sphere", steps=2).fit(people)


def test_a_context_does_not_reach_a_vamp_priors_inputs(people):
    ae = lt.Autoencoder("vamp", dim=2, condition="plan", steps=20, random_state=0).fit(people)
    batch = next(ae.batches(people))
    assert isinstance(batch, Batch)
    assert torch.isfinite(ae.model_.prior().log_prob(ae.model_.encode(batch).mean)).all()
