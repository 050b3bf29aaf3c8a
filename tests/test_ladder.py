"""A ladder of latents: one density, whichever way one walks, and every use of a model with one layer."""

from itertools import pairwise

import numpy as np
import pytest
import torch

import latente as lt
from latente.errors import ConfigError
from latente.model.noise import normal


@pytest.fixture(scope="module")
def fitted(dots):
    """A ladder of four levels on small pictures: one vector, three grids."""
    latent = {"part": "ladder", "levels": 4, "dim": 3, "channels": 2}
    nets = {"part": "conv", "channels": 8, "width": 16, "blocks": 1}
    ae = lt.Autoencoder("ladder", latent=latent, nets=nets, steps=400, lr=3e-3, random_state=0)
    return ae.fit(dots)


def draws(ae, rows, samples):
    model, batch = ae.model_, next(ae.batches(rows))
    q = model.encode(batch)
    noise = normal((samples, len(rows), model.dim), torch.Generator().manual_seed(0), torch.device("cpu"))
    with torch.no_grad():
        return q, q.draw(noise), noise


def test_a_level_that_is_a_vector_comes_first_and_the_rest_are_grids(fitted):
    parts = fitted.model_.topdown.parts
    assert parts[0] == (3, 1, 1)
    assert len(parts) == 4
    assert all(p[0] == 2 and p[1] > 1 for p in parts[1:])
    assert fitted.transform(np.zeros((5, 8, 8), np.uint8)).shape == (5, fitted.model_.dim)


def test_the_density_of_a_code_is_the_same_on_the_way_it_was_drawn_and_asked_for_again(fitted, dots):
    q, z, noise = draws(fitted, dots[:20], 3)
    with torch.no_grad():
        fresh = fitted.model_.encode(next(fitted.batches(dots[:20])))
        assert torch.allclose(q.log_prob(z), fresh.log_prob(z.clone()), rtol=1e-5, atol=1e-3)
        # Decoding a code goes the way on which it was drawn.
        there = fitted.model_.run(next(fitted.batches(dots[:20])), noise=noise).px.mean
        assert torch.allclose(fitted.model_.decode(z).mean, there, atol=1e-5)


def test_the_kl_of_each_level_agrees_with_its_draws(fitted, dots):
    with torch.no_grad():
        q, z, _ = draws(fitted, dots[:50], 200)
        exact = q.kl_standard.sum(-1).mean()
        estimate = (q.log_prob(z) - fitted.model_.prior().log_prob(z)).mean()
    # 50 × 200 draws of a sum of some 130 numbers, each with a deviation of at most 1: a standard error of .1.
    assert exact.item() == pytest.approx(estimate.item(), abs=0.5)


def test_evaluate_says_the_kl_of_each_level_and_the_levels_add_up_to_the_dimensions(fitted, dots):
    found = lt.evaluate(fitted, dots, samples=2)
    sizes = fitted.model_.sizes
    assert len(found["kl_by_level"]) == len(sizes) == 4
    assert len(found["kl_by_dim"]) == sum(sizes) == found["dim"]
    ends = np.cumsum([0, *sizes])
    by_hand = [sum(found["kl_by_dim"][a:b]) for a, b in pairwise(ends)]
    # Each number is rounded to three digits.
    assert found["kl_by_level"] == pytest.approx(by_hand, abs=5e-4 * max(sizes) + 1e-3)


def test_codes_of_rows_are_whitened_by_the_prior_as_samples_are(fitted):
    with torch.no_grad():
        z = fitted.model_.prior().sample(4000, torch.Generator().manual_seed(0))
    assert z.std().item() == pytest.approx(1.0, abs=0.02)


def test_a_ladder_reconstructs_better_the_more_of_its_levels_are_told(fitted, dots):
    z = fitted.transform(dots)
    size = [int(np.prod(p)) for p in fitted.model_.topdown.parts]
    errors = []
    for keep in (0, size[0], sum(size)):
        part = z.copy()
        part[:, keep:] = 0.0
        errors.append(float(np.square(fitted.inverse_transform(part).astype(float) - dots).mean()))
    assert errors[2] < errors[0] / 2
    assert errors[1] <= errors[0]


@pytest.mark.parametrize("levels", [2, 5, 12])
def test_tables_carry_ladders_of_any_height(people, levels):
    ae = lt.Autoencoder("ladder", dim=2, settings={"latent.levels": levels}, steps=20, random_state=0).fit(people)
    assert ae.transform(people).shape == (len(people), 2 * levels)
    assert np.isfinite(ae.score_samples(people)).all()
    assert lt.impute(ae, people)["income"].notna().all()
    assert len(lt.interpolate(ae, people.iloc[0], people.iloc[9], steps=4)) == 4


def test_a_ladder_can_be_conditional_and_comes_back_from_its_file(people, tmp_path):
    ae = lt.Autoencoder("ladder", dim=2, condition="plan", steps=30, random_state=0).fit(people)
    ae.save(tmp_path / "m.safetensors")
    again = lt.load(tmp_path / "m.safetensors")
    assert again.sample(9, given={"plan": "gold"}).equals(ae.sample(9, given={"plan": "gold"}))
    assert not ae.sample(9, given={"plan": "gold"}).equals(ae.sample(9, given={"plan": "plus"}))


def test_scores_do_not_depend_on_how_many_draws_go_through_at_once(fitted, dots, monkeypatch):
    whole = fitted.score_samples(dots[:10], samples=8)
    monkeypatch.setattr("latente.model.estimates.CHUNK", 1)
    assert np.allclose(fitted.score_samples(dots[:10], samples=8), whole, rtol=1e-4)


def test_what_a_ladder_cannot_do_is_named(people):
    with pytest.raises(ConfigError, match=r"levels of latent 'ladder' must be 2 to 12"):
        lt.Autoencoder("ladder", settings={"latent.levels": 1}).fit(people)
    with pytest.raises(ConfigError, match="share their nets"):
        lt.Autoencoder("ladder", dim=2, settings={"objective.aggressive": 0.5}, steps=20).fit(people)
