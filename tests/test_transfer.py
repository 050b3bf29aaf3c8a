"""Going on from a model with other rows and columns, layers learned one by one, pictures bent, and the command line."""

import contextlib
import json
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.datasets import load_digits
from typer.testing import CliRunner

import latente as lt
from latente import cli
from latente.errors import ConfigError, DataError
from latente.kinds.merging import merged
from latente.model.batch import Batch
from latente.model.corruptions.deform import Deform
from latente.model.nets.strided import Strided
from latente.training.transplant import transplant


def table(n=300, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=n)
    frame = pd.DataFrame({"a": x, "b": 2 * x + 0.1 * rng.normal(size=n), "c": rng.normal(size=n)})
    frame["plan"] = np.where(x > 0, "gold", "base")
    frame["city"] = rng.choice(["x", "y", "z"], n)
    return frame


@pytest.fixture(scope="module")
def fitted():
    return lt.Autoencoder("vae", dim=3, epochs=30, random_state=0).fit(table())


def test_a_model_that_goes_on_with_the_same_columns_begins_where_it_ended(fitted):
    made = lt.Autoencoder(init=fitted, rehearsal=0.0, steps=1, lr=1e-12, random_state=0).fit(table(seed=1))
    # One step of no length, and averaged weights: only rounding is between them.
    assert np.allclose(made.transform(table(seed=2)), fitted.transform(table(seed=2)), atol=1e-5)
    assert made.schema_.columns[0].center == fitted.schema_.columns[0].center


def test_columns_are_matched_by_name_and_what_is_new_is_said(fitted):
    other = table(seed=1).drop(columns=["c"])[["plan", "b", "a", "city"]]
    other["extra"] = np.random.default_rng(0).normal(size=len(other))
    with pytest.warns(lt.DataWarning, match=r"4 columns matched by name; 1 new \(extra\); 1 not there any more \(c\)"):
        made = lt.Autoencoder(init=fitted, epochs=20, random_state=0).fit(other)
    assert [c.label for c in made.schema_.columns] == list(other.columns)
    known = lt.evaluate(made, other, samples=2)
    assert np.isfinite(known["neg_elbo"])
    assert list(made.sample(3).columns) == list(other.columns)


def test_weights_of_columns_go_where_their_names_are(fitted):
    other = table(seed=1)[["city", "c", "b", "plan", "a"]]
    kind = merged(fitted.schema_, other).kind
    blank = lt.Autoencoder("vae", dim=3, steps=1, random_state=0).fit(other)
    blank.schema_ = kind
    model = blank._build(0)
    transplant(fitted.model_, fitted.schema_, model, kind)
    model.eval()
    with torch.no_grad():
        codes = model.encode(kind.prepare(kind.to_batch(other))).mean.numpy()
    # The same columns in another order: the sums are of the same numbers in another order.
    assert np.allclose(codes, fitted.transform(table(seed=1)), atol=1e-5)


def test_new_levels_are_added_to_those_that_are_known(fitted):
    other = table(seed=1)
    other.loc[:60, "city"] = "w"
    column = next(c for c in merged(fitted.schema_, other).kind.columns if c.label == "city")
    known = next(c for c in fitted.schema_.columns if c.label == "city")
    assert column.levels == (*known.levels, "w")


def test_a_column_that_holds_another_sort_of_thing_is_learned_anew(fitted):
    other = table(seed=1).assign(city=np.arange(300) % 7 * 1.5, plan=lambda f: f.plan)
    with pytest.warns(lt.DataWarning, match=r"1 new \(city\)"):
        made = lt.Autoencoder(init=fitted, epochs=2, random_state=0).fit(other)
    assert made.schema_.columns[-1].summary.startswith("numeric")


def test_the_default_recipe_of_tables_can_be_tuned_on_its_own_columns():
    frame = table()
    frame["double"] = frame["city"].map({"x": 1, "y": 2, "z": 3})
    base = lt.Autoencoder(steps=20, random_state=0).fit(frame)
    assert base.chained
    with pytest.warns(lt.DataWarning, match="recipe pretrained"):
        made = lt.LatentClassifier(pretrained=base, tuning={"steps": 20}, calibrate=False).fit(frame, frame.plan)
    assert made.predict_proba(frame).shape == (300, 2)


def test_what_a_column_is_called_is_no_way_to_another_folder():
    from latente.verbs import new_place

    place = new_place("x.csv", "../../e f/g", ".safetensors")
    assert place.parent == Path("runs")
    assert "/" not in place.name


def test_rehearsal_keeps_what_a_model_knew():
    first = table(600).assign(where=0.0)
    first["where"] += np.random.default_rng(0).normal(size=600) * 0.1
    second = first.assign(where=first["where"] + 8, a=-first["a"])
    begun = lt.Autoencoder("vae", dim=3, epochs=40, random_state=0).fit(first)
    before = lt.evaluate(begun, first, samples=2)["neg_elbo"]
    lost = []
    for rehearsal in (0.0, 1.0):
        made = lt.Autoencoder(init=begun, rehearsal=rehearsal, epochs=40, random_state=0).fit(second)
        lost.append(lt.evaluate(made, first, samples=2)["neg_elbo"] - before)
    assert lost[1] < 0.7 * lost[0]


REFUSED = {
    "no shared column": (table().rename(columns=str.upper), {}, DataError, "share no column"),
    "another recipe": (table(), {"recipe": "ae"}, ConfigError, "its recipe"),
    "another dim": (table(), {"dim": 5}, ConfigError, "its recipe"),
    "too much rehearsal": (table(), {"rehearsal": -1}, ConfigError, "rehearsal"),
    "no model": (table(), {"init": 3}, ConfigError, "fitted Autoencoder"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_gone_on_from_says_why(fitted, name):
    rows, settings, error, words = REFUSED[name]
    with pytest.raises(error, match=words):
        lt.Autoencoder(**{"init": fitted, "random_state": 0, **settings}).fit(rows)


def test_a_chain_of_columns_takes_its_own_columns_alone():
    chain = lt.Autoencoder("tabular", steps=20, random_state=0).fit(table())
    lt.Autoencoder(init=chain, steps=5, random_state=0).fit(table(seed=1))
    with pytest.raises(ConfigError, match=r"cannot take other columns than its own.*not there any more"):
        lt.Autoencoder(init=chain, steps=5, random_state=0).fit(table().drop(columns="c"))


def test_layers_that_learned_one_by_one_begin_better():
    x = (load_digits().images / 16).astype(np.float32)[:600]
    losses = []
    for steps in (0, 150):
        settings = {"nets.widths": [96, 96, 96], "train.layerwise": steps}
        made = lt.Autoencoder("stacked", kind="image", steps=150, random_state=0, settings=settings).fit(x)
        losses.append(made.history_.rows[0]["val"]["loss"])
    # In nats of 64 pixels; from drawn weights the first steps do not get far.
    assert losses[1] < losses[0] - 5


def test_layers_are_learned_one_by_one_in_stacks_alone():
    x = (load_digits().images / 16).astype(np.float32)[:100]
    with pytest.raises(ConfigError, match="a stack of them"):
        lt.Autoencoder("stacked", kind="image", steps=2, settings={"nets": "conv"}).fit(x)
    with pytest.raises(ConfigError, match="layerwise"):
        lt.Autoencoder("stacked", settings={"train.layerwise": -1}).fit(x)


def test_a_bent_picture_is_the_same_for_one_seed_and_itself_without_bending():
    x = torch.from_numpy((load_digits().images[:20] / 16).astype(np.float32))[:, None]
    everywhere = torch.ones(1, 8, 8, dtype=torch.bool)
    found = [Deform()(Batch(x), everywhere, torch.Generator().manual_seed(s)).x for s in (0, 0, 1)]
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])
    still = Deform(rotation=0, scale=0, shear=0, shift=0, bend=0)
    assert torch.allclose(still(Batch(x), everywhere, torch.Generator()).x, x, atol=1e-5)
    with pytest.raises(ConfigError, match="bends pictures"):
        Deform()(Batch(torch.zeros(3, 4)), torch.ones(4, dtype=torch.bool), None)


def test_where_a_bent_picture_shows_a_gap_there_is_one():
    x, seen = torch.rand(4, 1, 16, 16), torch.ones(4, 1, 16, 16, dtype=torch.bool)
    seen[..., :8, :] = False
    half_turn = Deform(rotation=0, scale=0, shear=0, shift=0, bend=0)
    made = half_turn(Batch(x, seen), torch.ones(1, 16, 16, dtype=torch.bool), None)
    assert torch.equal(made.observed, seen)


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 33, 17), (1, 5, 8)])
def test_strided_nets_read_pictures_of_any_size(shape):
    nets = Strided(channels=(4, 8), width=16, hidden=16)
    body, width = nets.encoder(shape)
    assert body(torch.rand(3, *shape)).shape == (3, width)
    assert nets.decoder(5, shape)(torch.rand(3, 5)).shape == (3, *shape)


def test_codes_of_the_invariant_recipe_tell_shifted_pictures_less_apart():
    x = np.pad((load_digits().images / 16).astype(np.float32), ((0, 0), (4, 4), (4, 4)))[:1000]
    moved = np.roll(x, 1, 2)
    apart = []
    for corruption in ("deform", None):
        settings = {"corruption": corruption, "nets": {"part": "mlp", "widths": [128, 128]}}
        ae = lt.Autoencoder("invariant", kind="image", epochs=40, dim=16, random_state=0, settings=settings).fit(x)
        a, b = ae.transform(x), ae.transform(moved)
        apart.append(np.square(a - b).sum() / np.square(a - a.mean(0)).sum())
    assert apart[0] < 0.6 * apart[1]


def run(*arguments, cwd, code=0):
    """The command line in this process: a start of its own costs seconds, and test_cli.py has that."""
    with contextlib.chdir(cwd), warnings.catch_warnings():
        warnings.simplefilter("default")
        done = CliRunner().invoke(cli.app, list(arguments))
    assert done.exit_code == code, done.output
    assert done.exception is None or isinstance(done.exception, SystemExit)
    return done


def test_fit_finetune_and_predict_from_file_to_file(tmp_path):
    frame = table(400)
    frame.drop(columns="plan").to_csv(tmp_path / "all.csv", index=False)
    known = frame.copy()
    known.loc[60:, "plan"] = np.nan
    known.to_csv(tmp_path / "known.csv", index=False)
    run("fit", "all.csv", "--recipe", "pretrained", "--epochs", "5", "-o", "m.safetensors", "--quiet", cwd=tmp_path)
    done = run(
        *("finetune", "m.safetensors", "known.csv", "--target", "plan", "-o", "t.safetensors", "--steps", "80"),
        *("--json", "--quiet"),
        cwd=tmp_path,
    )
    found = json.loads(done.stdout)
    assert found["rows"] == 60
    assert found["accuracy"] > 0.8
    assert {"auroc", "auroc_boosting", "log_loss_boosting"} <= found.keys()
    run("predict", "t.safetensors", "all.csv", "-o", "p.csv", cwd=tmp_path)
    said = pd.read_csv(tmp_path / "p.csv")
    assert list(said.columns) == ["plan", "p_base", "p_gold"]
    assert (said["plan"] == frame["plan"]).mean() > 0.85
    assert "predicts nothing" in run("predict", "m.safetensors", "all.csv", cwd=tmp_path, code=2).stderr
    assert "shares" not in done.stderr


def test_the_command_line_goes_on_from_a_model(tmp_path):
    table().to_csv(tmp_path / "one.csv", index=False)
    table(seed=1).assign(more=1.5).to_csv(tmp_path / "two.csv", index=False)
    table(50).rename(columns=str.upper).to_csv(tmp_path / "other.csv", index=False)
    run("fit", "one.csv", "--recipe", "vae", "--epochs", "3", "-o", "one", "--quiet", cwd=tmp_path)
    done = run("fit", "two.csv", "--init", "one", "--epochs", "2", "-o", "two", "--quiet", cwd=tmp_path)
    assert "5 columns matched by name; 1 new (more)" in done.stderr
    assert (tmp_path / "two" / "model.safetensors").exists()
    assert "share no column" in run("fit", "other.csv", "--init", "one", cwd=tmp_path, code=3).stderr
    lost = run("finetune", "one", "other.csv", "--target", "PLAN", cwd=tmp_path, code=3)
    assert "share no column" in lost.stderr


def test_finetune_says_what_is_wrong_with_a_target(tmp_path):
    frame = table(80)
    frame["same"] = "one"
    frame.to_csv(tmp_path / "t.csv", index=False)
    run("fit", "t.csv", "--recipe", "vae", "--epochs", "2", "-o", "m", "--quiet", cwd=tmp_path)
    cases = [("same", [], 3, "one class"), ("plan", ["--task", "numbers"], 3, "is none"), ("none", [], 2, "no column")]
    for target, more, code, words in cases:
        assert words in run("finetune", "m", "t.csv", "--target", target, *more, cwd=tmp_path, code=code).stderr
    wrong = run("finetune", "m", "t.csv", "--target", "plan", "-o", "x.csv", cwd=tmp_path, code=2)
    assert "no model file" in wrong.stderr
