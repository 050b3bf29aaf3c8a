"""Models of p(x|z, c): what is given is told to both sides, kept in the file, and put back where it was."""

import numpy as np
import pandas as pd
import pytest
import torch
from test_cli import run

import latente as lt
from latente.errors import ConfigError, DataError
from latente.kinds.given import cells, parsed


@pytest.fixture(scope="module")
def plans():
    """600 rows whose height depends on the plan alone: basic 0, plus 5, gold 10, each ± .5; weight is noise."""
    rng = np.random.default_rng(0)
    plan = rng.choice(["basic", "plus", "gold"], 600)
    height = np.select([plan == "basic", plan == "plus"], [0.0, 5.0], 10.0) + rng.normal(0, 0.5, 600)
    return pd.DataFrame({"height": height, "plan": plan, "weight": rng.normal(size=600)})


@pytest.fixture(scope="module")
def fitted(plans):
    return lt.Autoencoder("vae", dim=1, condition="plan", steps=800, lr=5e-3, random_state=0).fit(plans)


def test_samples_follow_what_is_given_and_have_the_columns_of_the_data(fitted, plans):
    for plan, height in (("basic", 0.0), ("plus", 5.0), ("gold", 10.0)):
        new = fitted.sample(300, given={"plan": plan})
        assert list(new.columns) == list(plans.columns)
        assert (new["plan"] == plan).all()
        # The mean of 300 draws of deviation .5 has a standard error of .03; the rest is the fit's.
        assert new["height"].mean() == pytest.approx(height, abs=0.7)


def test_what_is_not_given_is_unknown_and_samples_spread_over_all_plans(fitted):
    new = fitted.sample(500)
    assert new["plan"].isna().all()
    assert new["height"].std() > 1.0


def test_a_prior_that_is_told_lies_where_the_codes_of_what_is_given_lie(fitted, plans):
    for plan in ("basic", "gold"):
        rows = plans[plans["plan"] == plan]
        told = fitted.model_.condition(cells(fitted.condition_, rows[["plan"]].head(1)))
        draws = fitted.model_.prior(told).sample(4000, torch.Generator().manual_seed(0)).detach()
        mean, stddev = fitted.encode(rows)
        spread = float(np.sqrt(mean.var() + np.square(stddev).mean()))
        # A Gaussian learned in the bound has about the moments of the codes; the bound is loose by the rest.
        assert float(draws.mean()) == pytest.approx(float(mean.mean()), abs=0.3)
        assert float(draws.std()) == pytest.approx(spread, rel=0.3)


@pytest.mark.parametrize("prior", ["standard", "mixture", "vamp", "flow"])
def test_densities_of_a_prior_that_is_told_are_those_of_its_draws(plans, prior):
    ae = lt.Autoencoder("vae", dim=2, condition="plan", prior=prior, steps=20, random_state=0).fit(plans)
    moves = ae.model_.moves.both
    with torch.no_grad():
        moves.bias += torch.tensor([1.0, -2.0, 0.5, -0.5])
        told = ae.model_.condition(cells(ae.condition_, plans[["plan"]].head(3)))
        p = ae.model_.prior(told)
        z = p.sample(3 * 20_000, torch.Generator().manual_seed(1)).unflatten(0, (-1, 3))
        # E_p[w(z) / p(z)] = 1 for any density w: here one narrow enough for the weights to be bounded.
        box = torch.distributions.Normal(z.mean(0), 0.5 * z.std(0))
        ratio = (box.log_prob(z).sum(-1) - p.log_prob(z)).exp().mean(0)
    # 20,000 draws; ratios have a deviation of a few, so a standard error of .02 or so.
    assert ratio.numpy() == pytest.approx(np.ones(3), abs=0.15)


def test_the_prior_of_an_autoencoder_is_fitted_to_what_is_given(plans):
    ae = lt.Autoencoder("ae", dim=2, condition="plan", steps=400, lr=5e-3, random_state=0).fit(plans)
    for plan, height in (("basic", 0.0), ("gold", 10.0)):
        assert ae.sample(300, given={"plan": plan})["height"].mean() == pytest.approx(height, abs=1.0)


def test_ways_are_given_what_their_ends_are(fitted, plans, tmp_path):
    ends = [plans[plans["plan"] == plan].head(1) for plan in ("basic", "gold")]
    way = lt.interpolate(fitted, *ends, steps=6)
    assert way["plan"].tolist() == ["basic"] * 3 + ["gold"] * 3
    assert way["height"].iloc[0] < 2.5
    assert way["height"].iloc[-1] > 7.5
    walked = lt.traverse(fitted, ends[1], steps=3)
    assert (walked["plan"] == "gold").all()
    assert lt.traverse(fitted, steps=3)["plan"].isna().all()
    codes = fitted.transform(plans.head(4))
    assert (lt.decode(fitted, codes, given="plan=plus")["plan"] == "plus").all()


def test_amounts_that_are_given_change_along_the_way_and_stay_whole():
    from latente.kinds.given import between

    a, b = pd.DataFrame({"age": [20], "size": [1.0]}), pd.DataFrame({"age": [25], "size": [2.0]})
    way = between(a, b, 3)
    assert way["age"].tolist() == [20, 22, 25]
    assert way["size"].tolist() == [1.0, 1.5, 2.0]
    assert way["age"].dtype.kind == "i"


def test_what_a_command_line_gives_may_have_commas_and_names_nothing_twice():
    assert parsed("city=Paris, France,age=60") == {"city": "Paris, France", "age": "60"}
    with pytest.raises(ConfigError, match="'age' is given twice"):
        parsed("age=1,age=2")
    with pytest.raises(ConfigError, match="NAME=VALUE"):
        parsed("gold")


def test_whole_numbers_and_dates_that_are_given_stay_what_they_are():
    rng = np.random.default_rng(0)
    days = pd.to_datetime("2024-01-01") + pd.to_timedelta(rng.integers(0, 300, 80), "D")
    frame = pd.DataFrame({"x": rng.normal(size=80), "rooms": rng.integers(1, 9, 80), "day": days})
    ae = lt.Autoencoder("vae", dim=1, condition=["rooms", "day"], steps=5, random_state=0).fit(frame)
    assert ae.sample(2, given={"rooms": "3"})["rooms"].tolist() == [3, 3]
    assert ae.sample(2, given={"rooms": 3})["rooms"].dtype.kind == "i"
    with pytest.raises(ConfigError, match=r"'day' ran from 2024-01-0\d to 2024-10"):
        ae.sample(2, given={"day": "1999-01-01"})
    with pytest.raises(ConfigError, match="'day' is a date, not 'soon'"):
        ae.sample(2, given={"day": "soon"})
    assert len(ae.sample(2, given={"day": "2024-03-01"})) == 2


def test_a_conditional_model_comes_back_from_its_file(fitted, plans, tmp_path):
    fitted.save(tmp_path / "m.safetensors")
    again = lt.load(tmp_path / "m.safetensors")
    assert again.sample(50, given={"plan": "gold"}).equals(fitted.sample(50, given={"plan": "gold"}))
    assert np.array_equal(again.score_samples(plans), fitted.score_samples(plans))
    assert lt.info(tmp_path / "m.safetensors")["condition"] == ["plan"]


def test_verbs_put_what_was_given_back_and_gaps_in_it_are_allowed(fitted, plans):
    rows = plans.head(20).copy()
    rows.loc[0, "plan"] = None
    back = lt.reconstruct(fitted, rows)
    assert list(back.columns) == list(rows.columns)
    assert back["plan"][1:].tolist() == rows["plan"][1:].tolist()
    rows.loc[3, "weight"] = np.nan
    filled = lt.impute(fitted, rows)
    assert filled["weight"].notna().all()
    assert pd.isna(filled.loc[0, "plan"])
    assert np.isfinite(lt.denoise(fitted, rows)["height"]).all()
    assert lt.evaluate(fitted, rows, samples=10)["rows"] == 20


def test_labels_condition_pictures_and_unknown_labels_are_refused(dots):
    y = (dots.reshape(len(dots), 8, 8).argmax(1).max(1) > 3).astype(int)
    ae = lt.Autoencoder("vae", dim=2, condition=True, steps=30, random_state=0).fit(dots, y)
    assert ae.sample(5, given={"y": 1}).shape == (5, 8, 8)
    assert not np.array_equal(ae.sample(5, given={"y": 1}), ae.sample(5, given={"y": 0}))
    mean, _ = ae.encode(dots, given=y)
    assert not np.array_equal(mean, ae.transform(dots))
    assert ae.reconstruct(dots, given=y).shape == dots.shape
    with pytest.raises(ConfigError, match="has no value 7"):
        ae.sample(5, given={"y": 7})
    with pytest.raises(ConfigError, match="not conditioned on 'plan'"):
        ae.sample(5, given={"plan": "gold"})


def test_a_number_outside_of_what_the_model_saw_is_refused_with_the_nearest(plans):
    ae = lt.Autoencoder("vae", dim=1, condition=["height", "plan"], steps=5, random_state=0).fit(plans)
    high = plans["height"].max()
    with pytest.raises(ConfigError, match=rf"and 900 is outside\n\nhint: .*height={high:g}"):
        ae.sample(2, given={"height": 900})
    with pytest.raises(ConfigError, match="'height' is a number, not 'tall'"):
        ae.sample(2, given={"height": "tall"})
    assert (ae.sample(2, given={"height": "5", "plan": None})["height"] == 5).all()


def test_y_is_ignored_unless_asked_for(dots):
    y = np.arange(len(dots)) % 2
    plain = lt.Autoencoder("vae", dim=2, steps=5, random_state=0).fit(dots)
    assert np.array_equal(
        plain.transform(dots), lt.Autoencoder("vae", dim=2, steps=5, random_state=0).fit(dots, y).transform(dots)
    )
    with pytest.raises(ConfigError, match="not conditional"):
        plain.sample(3, given={"y": 1})


@pytest.mark.parametrize(
    ("condition", "y", "error", "words"),
    [
        (True, None, ConfigError, "data bring none"),
        ("plam", None, ConfigError, "no column 'plam'"),
        (["height", "plan", "weight"], None, ConfigError, "every column is given"),
        (True, [1, 2, 3], DataError, "3 labels"),
    ],
)
def test_what_cannot_be_given_is_named(plans, condition, y, error, words):
    with pytest.raises(error, match=words):
        lt.Autoencoder("vae", dim=1, condition=condition, steps=2).fit(plans, y)


def test_the_command_line_conditions_and_samples(plans, tmp_path):
    plans.to_csv(tmp_path / "plans.csv", index=False)
    fitted = ("fit", "plans.csv", "--condition-col", "plan", "--epochs", "2", "-o", "run", "--quiet")
    assert run(*fitted, cwd=tmp_path).code == 0
    done = run("sample", "run", "-n", "3", "--given", "plan=gold", cwd=tmp_path)
    assert done.out.splitlines()[0] == "height,plan,weight"
    assert all(",gold," in row for row in done.out.splitlines()[1:])
    odd = run("sample", "run", "--given", "plan=silver", cwd=tmp_path)
    assert (odd.code, "has no value 'silver'" in odd.err) == (2, True)


@pytest.mark.parametrize(("name", "told"), [("vae", False), ("sphere", True), ("vq-vae", True)])
def test_the_doctor_says_where_a_prior_cannot_be_told(plans, name, told):
    ae = lt.Autoencoder(name, dim=3, condition="plan", steps=60, random_state=0).fit(plans)
    assert any("the prior is not told" in finding for finding in ae.history_.findings) is told


def test_a_column_is_not_left_out_and_given_at_once(plans, tmp_path):
    with pytest.raises(ConfigError, match=r"both left out(.|\n)*leave out --label-col"):
        lt.fit(plans, label_col="plan", condition_col=["plan"], quiet=True)


def test_samples_of_a_runs_folder_have_a_row_for_each_value_that_can_be_given():
    from latente.uses import pictures

    rng = np.random.default_rng(0)
    x = rng.integers(0, 255, (60, 8, 8), dtype=np.uint8)
    ae = lt.Autoencoder("vae", condition=True, dim=2, steps=2, random_state=0).fit(x, np.arange(60) % 3)
    plain = lt.Autoencoder("vae", dim=2, steps=2, random_state=0).fit(x)
    sheets = [pictures._drawn(one)[0] for one in (ae, plain)]
    # Three rows of ten with their names on the left, against ten rows of ten.
    assert sheets[0].shape[0] < 0.35 * sheets[1].shape[0]
    assert sheets[0].shape[1] > sheets[1].shape[1]
