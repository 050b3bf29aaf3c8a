"""Differentially private fits: what a row can do to the weights is bounded, and the noise is what it takes."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from test_cli import run

import latente as lt
from latente.errors import ConfigError
from latente.model.spec import recipe
from latente.training import private
from latente.training.feed import Resident
from latente.training.gradients import Gradients


@pytest.fixture(scope="module")
def plans() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    n = 1500
    plan = rng.choice(["basic", "plus", "gold"], n, p=[0.6, 0.3, 0.1])
    spend = np.where(plan == "basic", 0.0, np.exp(rng.normal(3, 0.5, n)).round(2))
    return pd.DataFrame({"plan": plan, "spend": spend, "age": rng.integers(18, 80, n)})


def ready(frame: pd.DataFrame):
    """The parts of one step of a private fit on these rows."""
    ae = lt.Autoencoder("tabular", steps=1, prior="standard", latent="gaussian", random_state=0).fit(frame)
    spec = recipe("tabular").override("train.dp_epsilon", 3.0)
    spec = private.spec_of(spec, False)
    model = ae.model_.train()
    feed = Resident(ae._batch(frame, None), spec.train)
    return Gradients(model, spec.objective, ae.schema_, spec.train, steps=10, rows=feed.rows), feed


def test_the_noise_is_what_the_literature_says_and_falls_as_epsilon_rises():
    # One Gaussian release with sensitivity 1: ε 1 and δ 1e-5 take σ = 3.7306 (Balle & Wang 2018, analytic mechanism).
    assert private.multiplier(1.0, 1e-5, 1.0, 1) == pytest.approx(3.73, abs=0.02)
    few, many = (private.multiplier(2.0, 1e-5, 0.01, steps) for steps in (100, 1_000))
    assert private.multiplier(8.0, 1e-5, 0.01, 100) < few < many


def test_one_row_moves_the_gradient_by_no_more_than_the_clip(plans):
    gradients, feed = ready(plans)
    step, batch = gradients.private, feed.fit.rows(torch.arange(40))
    assert step is not None
    step.sigma = 0.0

    def summed(rows):
        noise = torch.Generator().manual_seed(3)
        step(gradients.kind.prepare(batch.rows(rows), noise), noise)
        found = torch.cat([p.grad.flatten() for p in gradients.weights if p.grad is not None])
        return found * step.expected

    alone = summed(torch.arange(1))
    assert alone.norm() == pytest.approx(private.CLIP, abs=1e-3)  # those of an untrained model are long
    assert summed(torch.arange(40)).norm() <= 40 * private.CLIP + 1e-3


def test_the_noise_on_the_sum_has_the_width_that_was_asked_for(plans):
    gradients, feed = ready(plans)
    step = gradients.private
    assert step is not None
    assert step.expected == 256
    rows = gradients.kind.prepare(feed.fit.rows(torch.arange(2)))
    step(rows, torch.Generator().manual_seed(0))
    found = torch.cat([p.grad.flatten() for p in gradients.weights if p.grad is not None]) * step.expected
    # Some 100,000 weights, on which two rows lie with a length of 2 at most: their width is known to 1 %.
    assert found.std() == pytest.approx(step.sigma * private.CLIP, rel=0.02)


def test_rows_are_drawn_by_themselves():
    config = recipe("tabular").train
    steps = private.draws(2000, config, 200)
    sizes = np.array([len(s) for s in steps])
    # Binomial(2000, .128): mean 256, standard deviation 14.9; five standard errors of each over 200 steps.
    assert sizes.mean() == pytest.approx(256, abs=5.3)
    assert sizes.std() == pytest.approx(14.9, rel=0.3)
    assert len(torch.cat(steps).unique()) == 2000


def test_a_private_fit_makes_rows_and_says_what_it_guarantees(plans, tmp_path):
    ae = lt.Autoencoder(dp_epsilon=8.0, epochs=8, random_state=0).fit(plans)
    card = ae.card_["privacy"]
    assert card["epsilon"] == 8.0
    assert card["delta"] == pytest.approx(0.1 / 1500)
    assert card["noise"] > 0.3
    assert ae.history_.held_out_rows == 0
    assert ae.card_["held_out"] == {}
    assert "new rows" in ae.card_["contains"]
    new = ae.sample(1500, random_state=0)
    assert (new["plan"] == "basic").mean() == pytest.approx((plans["plan"] == "basic").mean(), abs=0.1)
    ae.save(tmp_path / "m.safetensors")
    again = lt.load(tmp_path / "m.safetensors")
    assert again.card_["privacy"] == card
    pd.testing.assert_frame_equal(again.sample(5, random_state=1), ae.sample(5, random_state=1))


def test_no_two_private_fits_have_the_same_noise(plans):
    a, b = (lt.Autoencoder(dp_epsilon=3.0, steps=8, random_state=0).fit(plans.head(300)) for _ in range(2))
    assert not torch.equal(a.model_.likelihood.net.blank, b.model_.likelihood.net.blank)  # type: ignore[union-attr]


def test_gaps_that_are_filled_are_private_too(plans):
    gone = plans.mask(np.random.default_rng(1).random(plans.shape) < 0.2)
    settings = {"kind.gaps": "filled"}
    ae = lt.Autoencoder("tabular", dp_epsilon=3.0, steps=3, settings=settings, random_state=0).fit(gone)
    assert ae.sample(50, random_state=0).notna().all().all()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"dp_epsilon": 0.0}, "dp_epsilon must be above 0"),
        ({"dp_epsilon": 1.0, "batch_size": 16}, "batches of 64 rows"),
        ({"dp_epsilon": 1.0, "time_limit": 5.0}, "number of steps"),
        ({"dp_epsilon": 1.0, "recipe": "vae"}, "running numbers"),
        ({"dp_epsilon": 1e-6, "epochs": 5}, "no noise gives"),
        ({"dp_epsilon": 1.0, "recipe": "codec"}, "learned from the rows themselves"),
        ({"dp_epsilon": 1.0, "recipe": "anomaly"}, "learned from the rows themselves"),
    ],
)
def test_what_cannot_be_private_is_refused(plans, options, words):
    with pytest.raises(ConfigError, match=words):
        lt.Autoencoder(**options).fit(plans)


def test_a_table_that_is_streamed_is_refused_on_the_command_line(plans, tmp_path):
    plans.to_csv(tmp_path / "p.csv", index=False)
    done = run("fit", tmp_path / "p.csv", "--dp-epsilon", "2", "--stream", "yes", "-o", tmp_path / "run")
    assert done.code == 2
    assert "--stream no" in done.err
    done = run("fit", tmp_path / "p.csv", "--dp-epsilon", "2", "--epochs", "1", "-o", tmp_path / "run")
    assert done.code == 0
    assert not (tmp_path / "run" / "latent.parquet").exists()
    told = json.loads(run("info", tmp_path / "run", "--json").out)
    assert told["privacy"]["epsilon"] == 2.0


def test_what_the_model_draws_in_a_private_fit_is_nobodys_to_know(plans):
    # With draws from a known seed a row that is not there would move those of all after it.
    first, second = (lt.Autoencoder("tabular", dp_epsilon=3, steps=2, random_state=0).fit(plans) for _ in "ab")
    ends = [[r["train"]["loss"] for r in ae.history_.rows] for ae in (first, second)]
    assert ends[0] != ends[1]


def test_generators_of_a_private_fit_have_more_than_32_bits():
    # torch reads the lower half of a seed alone: the same stream for seeds that differ in the upper.
    same = [torch.Generator().manual_seed(s) for s in (5, 5 + 77 * 2**32)]
    assert torch.equal(*(torch.randn(4, generator=g) for g in same))
    assert not isinstance(private.secret(), torch.Generator)


def test_a_prior_that_is_fitted_to_codes_is_refused_in_a_private_fit(plans):
    with pytest.raises(ConfigError, match="fitted to the codes"):
        lt.Autoencoder("tabular", dp_epsilon=3, steps=2, settings={"prior": "flow", "prior.afterwards": True}).fit(
            plans
        )


def test_a_delta_that_guarantees_nothing_is_refused(plans):
    with pytest.raises(ConfigError, match="one row's share"):
        lt.Autoencoder(dp_epsilon=3, steps=2, settings={"train.dp_delta": 0.5}).fit(plans)
