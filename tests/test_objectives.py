"""Objectives: closed forms, gradients in expectation, and what they remember."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.testing import assert_close

from latente import Autoencoder
from latente.errors import ConfigError
from latente.kinds.image import Image
from latente.kinds.table import Table
from latente.model.batch import Batch
from latente.model.dists.gaussian import Gaussian
from latente.model.latents.gaussian import DiagonalGaussian
from latente.model.model import Flat
from latente.model.nets.mlp import Mlp
from latente.model.objectives import beta_tc
from latente.model.objectives.beta_tc import BetaTc, total_correlation
from latente.model.objectives.dip import Dip
from latente.model.objectives.elbo import Elbo
from latente.model.objectives.geco import Geco, squares
from latente.model.objectives.iwae import Iwae
from latente.model.objectives.mmd import Mmd, mmd2
from latente.model.priors.base import Host
from latente.model.priors.mixture import Mixture
from latente.model.priors.standard import Standard
from latente.model.spec import Spec, recipe
from latente.training.fused import known

D, K, SIGMA = 6, 2, 0.5


class _Encoder(nn.Module):
    """q(z|x) = N(x A, diag(exp(s)²)), in weights that have gradients."""

    def __init__(self, a: torch.Tensor, s: torch.Tensor) -> None:
        super().__init__()
        self.a, self.s = nn.Parameter(a), nn.Parameter(s)

    def forward(self, batch: Batch) -> torch.Tensor:
        mean = batch.x @ self.a
        return torch.cat([mean, self.s.expand_as(mean)], -1)


class _Split(nn.Module):
    def forward(self, h: torch.Tensor) -> DiagonalGaussian:
        return DiagonalGaussian(*h.chunk(2, -1))


def linear(rows: int, off: float = 0.0, mixture: bool = True) -> tuple[Flat, Batch]:
    """A linear-Gaussian model with its exact posterior, or one `off` it; p(z) = N(0, I) as a mixture of one, whose KL
    is estimated. All rows are equal, so that the mean over rows is one over draws.
    """
    generator = torch.Generator().manual_seed(0)
    w = torch.linalg.qr(torch.randn(D, K, generator=generator))[0] * torch.tensor([2.0, 1.0])
    gain = (w * w).sum(0)  # WᵀW is diagonal, and so is the posterior's covariance
    likelihood = Gaussian("learned", "cell").build((D,))
    decoder = nn.Linear(K, D, bias=False)
    prior = (Mixture(components=1) if mixture else Standard()).build(Host(K))
    with torch.no_grad():
        likelihood.log_scale.fill_(math.log(SIGMA))
        decoder.weight.copy_(w)
        for p in prior.parameters():
            p.zero_()
    encoder = _Encoder(w / (gain + SIGMA**2) + off, 0.5 * torch.log(SIGMA**2 / (gain + SIGMA**2)) + off)
    model = Flat(encoder, _Split(), prior, decoder, likelihood, dim=K)
    x = torch.randn(1, D, generator=generator) * 1.5
    return model, Batch(x.expand(rows, D).clone())


def gradients(objective, model, batch, seed=0) -> torch.Tensor:
    """Of all weights that an objective reaches, as one vector."""
    model.zero_grad()
    model.generator = torch.Generator().manual_seed(seed)
    objective(model, batch).total.backward()
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


# ── gradients ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("plain", "other"),
    [(Elbo(), Elbo(path=True)), (Elbo(samples=3), Elbo(samples=3, path=True)), (Iwae(4), Iwae(4, dreg=True))],
    ids=str,
)
def test_a_gradient_with_less_noise_is_the_plain_one_in_expectation(plain, other):
    model, batch = linear(4000, off=0.2)
    found = [torch.stack([gradients(o, model, batch, seed) for seed in range(20)]) for o in (plain, other)]
    means, errors = [f.mean(0) for f in found], [f.std(0) / 20**0.5 for f in found]
    # 5 standard errors of the difference; 1e-4 for what has no noise at all but float32's.
    assert ((means[0] - means[1]).abs() <= 5 * (errors[0] ** 2 + errors[1] ** 2).sqrt() + 1e-4).all()
    assert means[0].abs().max() > 0.1  # there is something to agree on


@pytest.mark.parametrize("objective", [Elbo(path=True), Iwae(4, dreg=True)], ids=str)
def test_at_the_exact_posterior_the_encoders_gradient_is_zero_for_every_draw(objective):
    model, batch = linear(3)
    gradients(objective, model, batch)
    quiet = model.encoder.a.grad.abs().max(), model.encoder.s.grad.abs().max()
    gradients(Elbo() if isinstance(objective, Elbo) else Iwae(4), model, batch)
    noisy = model.encoder.a.grad.abs().max(), model.encoder.s.grad.abs().max()
    assert max(quiet) < 1e-5  # float32, sums of a dozen terms of about one
    assert max(noisy) > 0.01


def test_iwae_of_one_draw_is_the_elbo():
    model, batch = linear(50, off=0.2)
    found = []
    for objective in (Iwae(1), Elbo(path=True)):
        model.generator = torch.Generator().manual_seed(1)
        found.append(objective(model, batch).total)
    assert_close(*found, rtol=1e-5, atol=1e-4)


def test_the_draws_of_iwae_rise_by_equal_factors_and_stay():
    rising = Iwae(49, rise=0.5)
    assert [rising.draws(p) for p in (0, 0.125, 0.25, 0.375, 0.5, 0.9, 1)] == [1, 3, 7, 19, 49, 49, 49]
    assert {Iwae(49).draws(p) for p in (0, 0.3, 1)} == {49}
    with pytest.raises(ConfigError, match="rise"):
        Iwae(5, rise=1.5)
    late = Iwae(49, rise=0.25, single=0.5)
    assert [late.draws(p) for p in (0, 0.49, 0.5, 0.625, 0.75, 1)] == [1, 1, 1, 7, 49, 49]
    with pytest.raises(ConfigError, match="single"):
        Iwae(5, rise=0.5, single=0.6)


def test_a_bound_of_one_draw_that_warms_up_is_an_elbo_that_does():
    model, batch = linear(50, off=0.2)
    model.progress = 0.25
    found = []
    for objective in (Iwae(1, warmup=0.5), Elbo(path=True, warmup=0.5)):
        model.generator = torch.Generator().manual_seed(1)
        found.append(objective(model, batch).total)
    assert_close(*found, rtol=1e-5, atol=1e-4)
    assert Iwae(1, warmup=0.5).ramp(1.0) == 1


def test_a_bound_of_rising_draws_is_that_of_as_many_draws():
    model, batch = linear(50, off=0.2)
    model.progress = 0.25
    found = []
    for objective in (Iwae(7), Iwae(49, rise=0.5)):
        model.generator = torch.Generator().manual_seed(1)
        found.append(objective(model, batch).total)
    assert_close(*found, rtol=0, atol=0)


def test_the_doubly_reparametrised_bound_is_the_bound():
    model, batch = linear(50, off=0.2)
    found = []
    for objective in (Iwae(5), Iwae(5, dreg=True)):
        model.generator = torch.Generator().manual_seed(1)
        found.append(objective(model, batch).total)
    assert_close(*found, rtol=1e-6, atol=1e-5)
    with torch.no_grad():
        assert torch.isfinite(Iwae(5, dreg=True)(model, batch).total)


def test_a_kl_from_the_entropy_and_draws_is_the_closed_form_in_expectation():
    model, batch = linear(20_000, off=0.2)
    exact = linear(1, off=0.2, mixture=False)[0]
    model.generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        out = model.run(batch)
        expected = exact.run(batch, q=out.q, noise=torch.zeros(1, 1, K)).kl.mean()
    assert out.kl_dims is None
    # 5 standard errors of a mean of 20,000.
    assert out.kl.mean().item() == pytest.approx(expected.item(), abs=5 * out.kl.std().item() / 20_000**0.5)


def test_fifty_draws_of_a_hundred_pictures_are_one_step():
    rng = np.random.default_rng(0)
    raw = rng.integers(0, 255, (100, 28, 28), dtype=np.uint8)
    kind = Image(likelihood="bernoulli").learn(raw)
    model = Spec(kind, Mlp(widths=(64, 64))).model(0).train()
    model.generator = torch.Generator().manual_seed(0)
    batch = kind.prepare(kind.to_batch(raw), model.generator)
    for objective in (Iwae(50), Iwae(50, dreg=True)):
        loss = objective(model, batch)
        loss.total.backward()
        assert torch.isfinite(loss.total)
        # Pixels at random: a bit for each is the least that can be.
        assert loss.terms["rec"].item() > 784 * 0.6


# ── total correlation ───────────────────────────────────────────────────────────────────────────────────────────────


def codes(correlation: float, rows: int = 2000, scale: float = 0.5) -> tuple[DiagonalGaussian, torch.Tensor, float]:
    """q of rows whose z is N(0, C) with unit variances, one draw of each, and the exact total correlation."""
    generator = torch.Generator().manual_seed(0)
    spread = 1 - scale**2
    cover = torch.tensor([[spread, correlation], [correlation, spread]])
    mean = torch.randn(rows, 2, generator=generator) @ torch.linalg.cholesky(cover).t()
    q = DiagonalGaussian(mean, torch.full_like(mean, math.log(scale)))
    return q, q.sample(1, generator)[0], -0.5 * math.log(1 - correlation**2)


@pytest.mark.parametrize("correlation", [0.0, 0.5, 0.7])
def test_the_total_correlation_of_gaussians_is_found(correlation):
    q, z, exact = codes(correlation)
    # 0.05: three standard errors of a mean of 2,000 log ratios, and what a sum of 2,000 kernels smooths away.
    assert total_correlation(q, z).item() == pytest.approx(exact, abs=0.05)


def test_the_total_correlation_in_blocks_is_the_same_with_its_gradient(monkeypatch):
    q, z, _ = codes(0.5, rows=40)
    found = []
    for chunk in (1 << 24, 1):
        monkeypatch.setattr(beta_tc, "CHUNK", chunk)
        leaf = z.clone().requires_grad_()
        value = total_correlation(q, leaf)
        value.backward()
        found.append((value.detach(), leaf.grad))
    assert_close(found[0], found[1], rtol=1e-5, atol=1e-6)


def test_beta_tc_of_one_is_the_elbo():
    model, batch = linear(30, off=0.1, mixture=False)
    found = []
    for objective in (BetaTc(beta=1.0), Elbo()):
        model.generator = torch.Generator().manual_seed(0)
        found.append(objective(model, batch).total)
    assert_close(*found)


def test_beta_tc_refuses_a_posterior_that_does_not_factorise():
    class Joint(DiagonalGaussian):
        def log_prob_dims(self, z, dims=slice(None)):
            return None

    mean = torch.zeros(3, 2)
    with pytest.raises(
        ConfigError, match=r"'beta-tc' needs the density of each latent dimension(.|\n)*latent=gaussian"
    ):
        total_correlation(Joint(mean, mean), mean)


# ── maximum mean discrepancy ────────────────────────────────────────────────────────────────────────────────────────


def test_mmd_of_equal_distributions_is_zero_in_the_mean():
    generator = torch.Generator().manual_seed(0)
    found = torch.stack(
        [mmd2(torch.randn(50, 3, generator=generator), torch.randn(50, 3, generator=generator)) for _ in range(200)]
    )
    assert (found < 0).any()  # without bias: on either side of 0
    assert abs(found.mean().item()) <= 4 * found.std().item() / 200**0.5


def test_mmd_grows_with_the_distance_and_ends_near_two():
    z, p = (torch.randn(400, 3, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1))
    near, far, beyond = (mmd2(z + shift, p).item() for shift in (0.5, 2.0, 300.0))
    assert 0.005 < near < far < beyond
    # Far away only the two within terms are left: the mean kernel of two draws of the prior, twice.
    squares_ = torch.cdist(p, p).square()
    base = squares_.sum().item() / (400 * 399)
    kernel = sum(s * base / (s * base + squares_) for s in (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)).sum() - 7 * 400
    assert beyond == pytest.approx(2 * kernel.item() / 7 / (400 * 399), rel=0.05)


def test_mmd_refuses_a_prior_that_is_fitted_afterwards_and_a_point_with_a_kl():
    x = np.random.default_rng(0).normal(size=(50, 3))
    with pytest.raises(ConfigError, match=r"'mmd' compares codes with draws of the prior(.|\n)*--set prior=standard"):
        Autoencoder("ae", objective=Mmd(alpha=1.0), steps=2).fit(x)
    with pytest.raises(ConfigError, match=r"alpha below 1 needs log q(.|\n)*objective.alpha=1"):
        Autoencoder("wae", objective=Mmd(), steps=2).fit(x)
    with pytest.raises(ConfigError, match="weight of objective 'mmd' must be 1 − alpha = 1 or more"):
        Mmd(alpha=0.0, weight=0.5)


def test_the_codes_of_a_wae_are_together_like_the_prior():
    rng = np.random.default_rng(0)
    x = 5 + 3 * rng.uniform(size=(500, 2)) @ rng.normal(size=(2, 5))
    ae = Autoencoder("wae", dim=2, nets=Mlp(widths=(32,)), steps=500, lr=3e-3, random_state=0).fit(x)
    z = ae.transform(x)
    # The mean of 500 codes and their covariance; uniform factors are no Gaussian, hence the room.
    assert np.abs(z.mean(0)).max() < 0.25
    assert np.abs(np.cov(z.T) - np.eye(2)).max() < 0.35


# ── covariance ──────────────────────────────────────────────────────────────────────────────────────────────────────


def whitened(rows: int = 200, dim: int = 3) -> torch.Tensor:
    """Means whose covariance over the batch is I, to float32."""
    x = torch.randn(rows, dim, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x = x - x.mean(0)
    return (x @ torch.linalg.inv(torch.linalg.cholesky(x.t() @ x / rows)).t()).float()


def test_the_covariance_of_standard_codes_costs_nothing():
    means = whitened()
    points = DiagonalGaussian(means, torch.full_like(means, -9.0))
    spread = DiagonalGaussian(means * 0.8, torch.full_like(means, math.log(0.6)))
    assert Dip(of="means").penalty(points).item() == pytest.approx(0, abs=1e-8)
    assert Dip(of="draws").penalty(spread).item() == pytest.approx(0, abs=1e-8)  # 0.64 + 0.36 = 1


def test_the_penalties_of_a_covariance_are_those_of_its_entries():
    means = whitened(dim=2) @ torch.tensor([[2.0, 0.5], [0.0, 1.0]])  # covariance [[4, 1], [1, 1.25]]
    q = DiagonalGaussian(means, torch.zeros_like(means))
    assert Dip(of="means", off_diagonal=1, diagonal=0).penalty(q).item() == pytest.approx(2.0, rel=1e-4)
    assert Dip(of="means", off_diagonal=0, diagonal=1).penalty(q).item() == pytest.approx(9 + 0.0625, rel=1e-4)
    assert Dip(of="draws", off_diagonal=0, diagonal=1).penalty(q).item() == pytest.approx(16 + 1.5625, rel=1e-4)


# ── capacity ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_capacity_is_priced_by_the_distance_of_the_kl():
    model, batch = linear(30, mixture=False)
    for progress, target in ((0.1, 1.0), (0.5, 5.0), (1.0, 5.0)):
        model.progress, model.generator = progress, torch.Generator().manual_seed(0)
        loss = Elbo(capacity=5.0, gamma=20.0, warmup=0.5)(model, batch)
        expected = loss.terms["rec"] + 20 * (loss.terms["kl"] - target).abs()
        assert loss.total.item() == pytest.approx(expected.item(), rel=1e-6)


def test_a_capacity_with_a_beta_or_free_bits_is_refused():
    with pytest.raises(ConfigError, match="beta of objective 'elbo' must be 1 where there is a capacity"):
        Elbo(capacity=5.0, beta=2.0)
    with pytest.raises(ConfigError, match="free_bits of objective 'elbo' must be 0 where there is a capacity"):
        Elbo(capacity=5.0, free_bits=0.1)


# ── what is remembered ──────────────────────────────────────────────────────────────────────────────────────────────


def test_aggressive_steps_are_the_encoders_alone():
    x = np.random.default_rng(0).normal(size=(40, 3))
    kind = Table().learn(x)
    spec = Spec(kind, Mlp(widths=(8,)), objective=Elbo(aggressive=0.5, turns=3))
    model, batch = spec.model(0).train(), kind.prepare(kind.to_batch(x))
    assert not known(model, spec.objective)

    def moves(progress):
        model.progress, model.generator = progress, torch.Generator().manual_seed(0)
        model.zero_grad()
        spec.objective(model, batch).total.backward()
        assert all(p.grad is not None for p in model.head.parameters())
        return [p.grad is not None for p in model.decoder.parameters()]

    pattern = [moves(step / 100) for step in (0, 1, 2, 3, 4, 4, 5)]
    # The step at 0.04 is taken twice, as in parts when memory is short: it counts once.
    assert [all(m) for m in pattern] == [False, False, True, False, False, False, True]
    assert [any(m) for m in pattern] == [all(m) for m in pattern]
    assert all(moves(0.6))
    model.eval()
    turn = model.memory.turn.clone()
    assert all(moves(0.06))
    assert torch.equal(model.memory.turn, turn)


def test_what_is_remembered_is_no_part_of_the_model_file():
    x = np.random.default_rng(0).normal(size=(40, 3))
    kind = Table().learn(x)
    for objective in (Elbo(aggressive=0.5), Geco()):
        model = Spec(kind, objective=objective).model(0)
        assert [n for n, _ in model.named_buffers() if n.startswith("memory.")]
        assert not [n for n in model.state_dict() if n.startswith("memory.")]
    assert not list(Spec(kind).model(0).memory.buffers())


@pytest.mark.parametrize("scale", ["closed-form", "learned"])  # the hard ones: their scale follows the error
def test_geco_loses_the_share_of_variance_that_it_was_told(scale):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(1000, 3)) @ rng.normal(size=(3, 8)) + 0.3 * rng.normal(size=(1000, 8))
    ae = Autoencoder(
        "geco", kind=Table(scale=scale), objective=Geco(tolerance=0.2), nets=Mlp(widths=(32,)), dim=4, steps=1200,
        lr=5e-3, random_state=0, settings={"train.patience": 1000, "train.validation": 0.0},
    ).fit(x)  # fmt: skip
    assert ae.history_.rows[-1]["train"]["lost"] == pytest.approx(0.2, rel=0.1)


def test_the_share_that_geco_counts_leaves_gaps_out(people):
    kind = Table().learn(people)
    model = Spec(kind).model(0).eval()
    model.generator = torch.Generator().manual_seed(0)
    batch = kind.prepare(kind.to_batch(people))
    assert batch.observed is not None
    assert not batch.observed.all()
    features, owner = model.likelihood.features(batch.x), model.likelihood.owner
    assert len(owner) == features.shape[1]
    # What stands in a gap is of no account.
    other = torch.where(batch.observed, batch.x, 0.0)
    with torch.no_grad():
        out = model.run(batch)
        changed = replace(out, target=Batch(other, batch.observed))
        assert_close(squares(model, out), squares(model, changed))
        full = replace(out, target=Batch(batch.x))
    assert squares(model, full)[0] > squares(model, out)[0]


def test_geco_ranks_held_out_losses_whatever_the_multiplier():
    x = np.random.default_rng(0).normal(size=(40, 3))
    kind = Table().learn(x)
    spec = Spec(kind, objective=Geco())
    model, batch = spec.model(0).train(), kind.prepare(kind.to_batch(x))
    losses = []
    for multiplier in (0.0, 3.0):
        model.generator = torch.Generator().manual_seed(0)
        model.eval()
        model.memory.log_multiplier.fill_(multiplier)
        losses.append(spec.objective(model, batch).total.item())
    assert losses[0] == losses[1]
    assert model.memory.log_multiplier.item() == 3.0
    assert model.memory.seen.item() == 0


@pytest.mark.parametrize("name", ["beta-tc", "info-vae", "wae", "dip-vae", "geco"])
def test_a_batch_of_one_row_has_a_finite_loss(name):
    x = np.random.default_rng(0).normal(size=(40, 3))
    kind = Table().learn(x)
    base = recipe(name)
    model = Spec(kind, None, base.latent, base.prior, base.objective).model(0).eval()
    model.generator = torch.Generator().manual_seed(0)
    loss = base.objective(model, kind.prepare(kind.to_batch(x[:1])))
    assert torch.isfinite(loss.total)
