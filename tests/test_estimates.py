"""Estimates of log p(x) and of the rate–distortion curve, against numbers that are known exactly."""

import json
import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn
from torch.distributions import MultivariateNormal

import latente as lt
from latente.errors import ConfigError
from latente.kinds.image import Image
from latente.model.annealing import annealed, schedule
from latente.model.batch import Batch
from latente.model.condition import Condition
from latente.model.dists.bernoulli import Bernoulli
from latente.model.dists.categorical import Categorical
from latente.model.dists.discretised_logistic import DiscretisedLogistic
from latente.model.dists.gaussian import Gaussian
from latente.model.estimates import bounds
from latente.model.latents.gaussian import DiagonalGaussian
from latente.model.model import Flat
from latente.model.nets.mlp import Mlp
from latente.model.priors.base import Host
from latente.model.priors.mixture import Mixture
from latente.model.priors.standard import Standard
from latente.uses import curves
from latente.uses.evaluation import Few
from latente.verbs.evaluate import save, unsaved

D, K, SIGMA = 6, 2, 0.5


class _Encoder(nn.Module):
    """The exact posterior of x = W z + σ ε for orthogonal columns of W, moved by `shift` and widened by `wide`: the
    mean, and the log scale.
    """

    def __init__(self, w: torch.Tensor, shift: float = 0.0, wide: float = 1.0) -> None:
        super().__init__()
        self.w, self.shift = w, shift
        self.precision = (w * w).sum(0) / SIGMA**2 + 1
        self.log_scale = -0.5 * self.precision.log() + math.log(wide)

    def forward(self, batch: Batch) -> torch.Tensor:
        mean = batch.x @ self.w / SIGMA**2 / self.precision
        return torch.cat([mean + self.shift, self.log_scale.expand_as(mean)], -1)


class _Head(nn.Module):
    def forward(self, h: torch.Tensor) -> DiagonalGaussian:
        return DiagonalGaussian(*h[:, : 2 * K].chunk(2, -1))


@pytest.fixture(scope="module")
def line():
    """What a linear-Gaussian model is made of, 100 rows drawn from it, and the exact log p of each."""
    rng = np.random.default_rng(0)
    q, _ = np.linalg.qr(rng.normal(size=(D, K)))
    w = torch.tensor(q * [2.0, 1.0], dtype=torch.float32)
    covariance = w @ w.T + SIGMA**2 * torch.eye(D)
    x = torch.tensor(rng.normal(size=(100, K)), dtype=torch.float32) @ w.T
    x = x + SIGMA * torch.tensor(rng.normal(size=(100, D)), dtype=torch.float32)
    return w, Batch(x), MultivariateNormal(torch.zeros(D), covariance).log_prob(x).double()


def model_of(w, prior=None, condition=None, **bad):
    likelihood = Gaussian("learned", "cell").build((D,))
    with torch.no_grad():
        likelihood.log_scale.fill_(math.log(SIGMA))
    decoder = nn.Linear(w.shape[1], D, bias=False)
    decoder.weight = nn.Parameter(w)
    prior = prior or Standard().build(Host(K))
    return Flat(_Encoder(w[:, :K], **bad), _Head(), prior, decoder, likelihood, condition=condition, dim=K).eval()


def seeded():
    return torch.Generator().manual_seed(0)


def error(estimate, exact):
    """Mean error over rows, and its standard error."""
    difference = estimate.double() - exact
    return difference.mean().item(), difference.std().item() / len(exact) ** 0.5


def test_annealing_from_the_prior_and_importance_weights_agree_with_the_exact_log_p(line):
    w, rows, exact = line
    found = annealed(model_of(w), rows, seeded(), betas=schedule(60))
    bias, se = error(found.log_p, exact)
    # A log of an unbiased mean lies below by half its variance: .04 at 16 chains and 60 temperatures.
    assert -0.08 < bias < 3 * se
    assert se < 0.03
    assert error(bounds(model_of(w), rows, 4, seeded()).log_p, exact)[0] == pytest.approx(0, abs=1e-5)
    # Step sizes are made for 65 % of the moves.
    assert found.accepted == pytest.approx(0.65, abs=0.1)


@pytest.mark.parametrize("bad", [{"shift": 3.0}, {"wide": 30.0}], ids=str)
def test_a_wrong_encoder_deceives_importance_weights_and_not_annealing(line, bad):
    w, rows, exact = line
    model = model_of(w, **bad)
    assert error(bounds(model, rows, 50, seeded()).log_p, exact)[0] < -0.5
    assert abs(error(annealed(model, rows, seeded(), betas=schedule(60)).log_p, exact)[0]) < 0.08


def test_annealing_from_the_exact_posterior_has_no_error_and_from_a_wrong_one_finds_its_way(line):
    w, rows, exact = line
    few, known = rows.rows(slice(0, 20)), exact[:20]
    found = annealed(model_of(w), few, seeded(), betas=schedule(10), start="posterior")
    # Weights are constant: what is left is the rounding of float32.
    assert (found.log_p - known).abs().max().item() < 1e-4
    moved = annealed(model_of(w, shift=1.0), few, seeded(), betas=schedule(60), start="posterior")
    assert error(moved.log_p, known)[0] == pytest.approx(0, abs=0.1)


def test_annealing_takes_any_prior_with_a_density(line):
    w, rows, _ = line
    prior = Mixture(2).build(Host(K))
    with torch.no_grad():
        prior.means.copy_(torch.tensor([[2.0, 0.0], [-2.0, 0.0]]))
        prior.log_scales.fill_(math.log(0.5))
    noise = SIGMA**2 * torch.eye(D) + 0.25 * w @ w.T
    each = torch.stack([MultivariateNormal(w @ m, noise).log_prob(rows.x) for m in prior.means.detach()])
    exact = (torch.logsumexp(each, 0) - math.log(2)).double()
    bias, se = error(annealed(model_of(w, prior), rows, seeded(), betas=schedule(80)).log_p, exact)
    # The modes are 8 deviations apart and few chains change sides: the weights of 16 spread more, and the log of their
    # mean lies lower by half its variance.
    assert -0.25 < bias < 3 * se


def test_annealing_leaves_missing_cells_out(line):
    w, rows, _ = line
    observed = torch.arange(D).expand(100, D) < 3
    half = replace(rows, x=rows.x.masked_fill(~observed, 1e3), observed=observed)
    exact = MultivariateNormal(torch.zeros(3), (w @ w.T)[:3, :3] + SIGMA**2 * torch.eye(3)).log_prob(rows.x[:, :3])
    found = annealed(model_of(w), half, seeded(), betas=schedule(40))
    assert error(found.log_p, exact.double())[0] == pytest.approx(0, abs=0.08)


def test_annealing_is_told_what_is_given(line):
    w, rows, _ = line
    condition = Condition(Gaussian("unit", "cell").build((1,)), torch.zeros(1, dtype=torch.long), 1)
    # The decoder adds c to the first cell, and 0 · (c is known).
    wider = torch.cat([w, torch.eye(D)[:, :1], torch.zeros(D, 1)], 1)
    model = model_of(wider, condition=condition)
    c = torch.linspace(-3, 3, 100).unsqueeze(1)
    known = Batch(rows.x + c * torch.eye(D)[0], context=c)
    exact = MultivariateNormal(torch.zeros(D), w @ w.T + SIGMA**2 * torch.eye(D)).log_prob(rows.x)
    assert error(annealed(model, known, seeded(), betas=schedule(40)).log_p, exact.double())[0] == pytest.approx(
        0, abs=0.08
    )


def test_chains_repeat_by_their_seed_and_rows_in_pieces_are_all_there(line, monkeypatch):
    w, rows, exact = line
    one, two = (annealed(model_of(w), rows, seeded(), chains=4, betas=schedule(20)) for _ in range(2))
    assert torch.equal(one.log_z, two.log_z)
    monkeypatch.setattr("latente.model.annealing.CHUNK", 5 * D * 33)
    few = annealed(model_of(w), rows, seeded(), chains=4, betas=schedule(20))
    assert few.log_p.shape == (100,)
    # With 4 chains and 20 temperatures the bound is loose: by .3 in the mean, which is what wrongly joined rows exceed.
    assert error(few.log_p, exact)[0] == pytest.approx(-0.3, abs=0.3)
    assert np.corrcoef(few.log_p, exact)[0, 1] > 0.8


def test_the_rate_distortion_curve_is_the_exact_one_of_a_linear_gaussian_model(line):
    w, rows, _ = line
    betas = (0.0, 0.25, 1.0, 4.0)
    found = annealed(model_of(w), rows, seeded(), betas=schedule(80, 4.0, betas))
    for beta in betas:
        precision = torch.eye(K) + beta * w.T @ w / SIGMA**2
        covariance = torch.linalg.inv(precision)
        mean = beta * rows.x @ w @ covariance / SIGMA**2
        rate = 0.5 * (covariance.trace() + mean.square().sum(-1) - K + precision.logdet())
        squares = (rows.x - mean @ w.T).square().sum(-1) + (w @ covariance @ w.T).trace()
        distortion = 0.5 * squares / SIGMA**2 + D * (math.log(SIGMA) + 0.5 * math.log(2 * math.pi))
        at = found.at(beta)
        # Means over 1,600 chains of uneven weights. At β = 0 each distortion is some 20 nats from the mean, later one.
        assert found.distortion[at].mean().item() == pytest.approx(distortion.mean().item(), abs=0.3 if beta else 1.5)
        assert found.rate[at].mean().item() == pytest.approx(rate.mean().item(), abs=0.2)


def test_the_gaussian_curve_fills_the_principal_components_with_water():
    points = curves.gaussian(np.diag([4.0, 1.0, 0.01]), torch.full((3,), 0.5))
    constant = 3 * (math.log(0.5) + 0.5 * math.log(2 * math.pi))
    _, rate, distortion = next(p for p in points if p[0] == 1.0)
    # Variances in units of the scale are 16, 4 and .04, and the water stands at 1.
    assert rate == pytest.approx(0.5 * math.log(16 * 4))
    assert distortion == pytest.approx(0.5 * (1 + 1 + 0.04) + constant)
    pairs = [(a, b) for a, b in pairwise(points) if b[1] > a[1] > 0]
    # The curve is convex and has slope −β: between two points, one of those between.
    assert len(pairs) > 5
    assert all(-b[0] <= (b[1] - a[1]) / (b[2] - a[2]) <= -a[0] for a, b in pairs)


@pytest.mark.parametrize("shared", [True, False])
def test_importance_weights_do_not_depend_on_how_draws_are_cut(line, monkeypatch, shared):
    w, rows, _ = line
    model = model_of(w, wide=2.0)
    whole = bounds(model, rows, 50, seeded(), shared=shared)
    monkeypatch.setattr("latente.model.estimates.CHUNK", 7 * 100 * D)
    cut = bounds(model, rows, 50, seeded(), shared=shared)
    # Sums in another order differ by roundings.
    assert torch.allclose(cut.log_p, whole.log_p, atol=1e-4)
    if shared:
        alone = torch.cat(
            [bounds(model, rows.rows(slice(i, i + 9)), 50, seeded(), True).log_p for i in range(0, 100, 9)]
        )
        assert torch.allclose(alone, whole.log_p, atol=1e-4)


def test_probabilities_are_told_from_densities():
    zeros, grey = torch.zeros(2, 3), torch.full((2, 3), 0.5)
    assert Bernoulli().build((3,)).discrete(zeros)
    assert not Bernoulli().build((3,)).discrete(grey)
    assert Categorical((2, 2, 2)).build((3,)).discrete(zeros)
    assert DiscretisedLogistic().build((1, 1, 3)).discrete(zeros.reshape(2, 1, 1, 3))
    assert not Gaussian().build((3,)).discrete(zeros)


def test_few_rows_are_drawn_from_all_wherever_they_stand():
    few = Few(100, seeded())
    for start in range(0, 1000, 250):
        few.add(Batch(torch.arange(start, start + 250.0).unsqueeze(1), context=torch.ones(250, 1)))
    assert few.batch.x.unique().numel() == len(few.batch) == len(few.batch.context) == 100
    # The mean of 100 of 0 … 999, without replacement, has a standard error of 27.
    assert few.batch.x.mean().item() == pytest.approx(499.5, abs=100)


@pytest.fixture(scope="module")
def binary(dots):
    return lt.Autoencoder("vae", kind=Image(binarize=True), nets=Mlp((32,)), dim=2, steps=200, random_state=0).fit(dots)


def test_evaluate_checks_its_estimate_and_gives_bits_per_dimension(binary, dots):
    black = (dots > 127).astype(np.uint8) * 255
    found = lt.evaluate(binary, black, samples=200, ais=8, ais_steps=40)
    assert found["bits_per_dim"] == pytest.approx(found["iw_nll"] / (64 * math.log(2)))
    assert 0 < found["mutual_information"] < math.log(len(dots))
    check = found["check"]
    assert check["rows"] == 100
    assert check["gap"] == pytest.approx(check["iw_nll"] - check["ais_nll"], abs=1e-3)
    # Two latents and 200 draws: both ways find the same number, to the noise of 40 temperatures.
    assert abs(check["gap"]) < 0.3
    assert "bits_per_dim" not in lt.evaluate(
        lt.Autoencoder("vae", nets=Mlp((8,)), dim=2, steps=2).fit(dots), dots, samples=2
    )


def test_the_curve_of_a_gaussian_model_is_written_as_a_picture_and_a_table(people, tmp_path):
    numbers = people[["age"]].assign(twice=2 * people["age"], third=np.arange(300.0))
    ae = lt.Autoencoder("vae", nets=Mlp((32,)), dim=2, steps=300, lr=5e-3, random_state=0).fit(numbers)
    found = lt.evaluate(ae, numbers, samples=20, ais=4, ais_steps=20, rate_distortion=True)
    rates = [p["rate"] for p in found["rate_distortion"]]
    distortions = [p["distortion"] for p in found["rate_distortion"]]
    assert rates[0] == 0
    assert rates[-1] > 1
    assert distortions[-1] < distortions[0]
    assert len(found["rate_distortion_gaussian"]) == len(rates)
    assert "chains carry the estimate" in found["rate_distortion_note"]
    encoder = found["rate_distortion_encoder"]
    # At β = 1 rate and distortion are −log p(x) together, and the encoder's are the ELBO: with 4 chains to a nat.
    at = next(p for p in found["rate_distortion"] if p["beta"] == 1)
    assert at["rate"] + at["distortion"] < encoder["rate"] + encoder["distortion"] + 1
    assert save(found, tmp_path / "curve.png") == [tmp_path / "curve.png"]
    assert (tmp_path / "curve.png").read_bytes()[:4] == b"\x89PNG"
    save(found, tmp_path / "curve.csv")
    assert set(pd.read_csv(tmp_path / "curve.csv")["of"]) == {"model", "gaussian"}
    save(found, tmp_path / "all.json")
    assert json.loads((tmp_path / "all.json").read_text())["rate_distortion_rows"] == 100
    assert unsaved(found, tmp_path / "all.json") == {}
    rest = unsaved(found, tmp_path / "curve.png")
    assert rest["check"] == found["check"]
    assert {"rate_distortion", "rate_distortion_gaussian"} == found.keys() - rest.keys()
    with pytest.raises(ConfigError, match="only a rate–distortion curve"):
        save({"rows": 1}, tmp_path / "curve.png")


def test_a_plain_autoencoder_has_a_likelihood_through_its_fitted_prior(dots):
    ae = lt.Autoencoder("ae", nets=Mlp((8,)), dim=2, steps=20, random_state=0).fit(dots)
    found = lt.evaluate(ae, dots[:50], ais=2, ais_steps=5)["check"]
    assert math.isfinite(found["ais_nll"])
    assert "iw_nll" not in found


def test_what_cannot_be_estimated_is_named(binary, dots, line):
    for options, words in (({"samples": 0}, "samples"), ({"ais": -1}, "ais"), ({"ais_steps": 1}, "ais_steps")):
        with pytest.raises(ConfigError, match=f"{words} must be"):
            lt.evaluate(binary, dots, **options)
    with pytest.raises(ConfigError, match="chains must be"):
        annealed(model_of(line[0]), line[1], seeded(), chains=0)


@pytest.mark.parametrize("recipe", ["mixture", "vamp", "flow-vae", "ladder"])
def test_every_latent_of_numbers_is_annealed(recipe, dots):
    options = {} if recipe == "ladder" else {"nets": Mlp((16,)), "dim": 2}
    ae = lt.Autoencoder(recipe, steps=60, random_state=0, **options).fit(dots)
    check = lt.evaluate(ae, dots[:8], samples=500, ais=4, ais_steps=40)["check"]
    # A bound from few chains of few temperatures: it is below, by some of the 20 nats that the prior is from a row.
    assert -20 < check["gap"] < 2
    assert 0.2 < check["accepted"] < 1


@pytest.mark.parametrize(("recipe", "words"), [("vq-vae", "gives codes"), ("sphere", "gives points of a sphere")])
def test_what_is_no_number_is_not_annealed_and_refused_by_name(recipe, words, dots):
    ae = lt.Autoencoder(recipe, nets=Mlp((8,)), steps=2, random_state=0).fit(dots)
    for options in ({"ais": 2}, {"rate_distortion": True}):
        with pytest.raises(ConfigError, match=words):
            lt.evaluate(ae, dots[:8], samples=2, **options)
