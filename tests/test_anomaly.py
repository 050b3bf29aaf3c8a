"""Strange rows: a committee that judges only what it did not learn, p-values, alarms, reasons, streams."""

import io
import json
import subprocess
import sys
import threading
import time
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.ensemble import IsolationForest
from sklearn.metrics import roc_auc_score
from sklearn.utils.estimator_checks import parametrize_with_checks
from test_cli import run

import latente as lt
from latente import AnomalyDetector, Autoencoder
from latente.errors import ConfigError, DataError, ModelFileError
from latente.model.batch import Batch
from latente.model.committee import bags
from latente.model.objectives.trimmed import kept
from latente.uses.drift import Drift
from latente.uses.learned import forest, prototypes
from latente.uses.learned.calibration import blocks, discoveries, p_values, scale_of


def plant(n=1500, seed=0):
    """A machine whose pressure and temperature follow its load, with gaps."""
    rng = np.random.default_rng(seed)
    load = rng.gamma(4, 10, n)
    frame = pd.DataFrame(
        {
            "pressure": 70 + 0.2 * load + rng.normal(0, 1, n),
            "load": load.round(1),
            "mode": np.where(load > 50, "high", "low"),
            "temperature": 20 + 0.1 * load + rng.normal(0, 0.5, n),
        }
    )
    frame.loc[rng.random(n) < 0.05, "temperature"] = np.nan
    return frame


STRANGE = [5, 50, 500, 1000]


@pytest.fixture(scope="module")
def dirty() -> pd.DataFrame:
    frame = plant()
    frame.loc[STRANGE, "pressure"] += 20
    return frame


@pytest.fixture(scope="module")
def found(dirty) -> AnomalyDetector:
    return AnomalyDetector(random_state=0).fit(dirty)


@pytest.fixture(scope="module")
def clean() -> AnomalyDetector:
    return AnomalyDetector(False, random_state=0).fit(plant())


# ── the committee ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_rows_members_follow_from_its_content_alone_and_are_drawn_evenly():
    x = torch.randn(20_000, 5, generator=torch.Generator().manual_seed(0))
    found = bags(x, 6, 0.3)
    # Binomial(20,000, .3): standard error .0032; five of them.
    assert (found.float().mean(1) - 0.3).abs().max() < 0.017
    # Pairs of members are independent: correlations of 20,000 have a standard error of .007.
    assert (torch.corrcoef(found.float()) - torch.eye(6)).abs().max() < 0.036
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(1))
    assert torch.equal(bags(x[order], 6, 0.3), found[:, order])
    assert torch.equal(bags(x.new_tensor([[0.0, 1.0]]), 6, 0.3), bags(x.new_tensor([[-0.0, 1.0]]), 6, 0.3))
    # Rows that differ in the last bit of one number share nothing.
    near = x.clone()
    near[:, 2] = near[:, 2].nextafter(torch.tensor(9.0))
    assert (bags(near, 6, 0.3) == found).float().mean() == pytest.approx(0.3**2 + 0.7**2, abs=0.01)


def test_no_member_judges_a_row_that_it_learned_from():
    x = torch.randn(40, 3, generator=torch.Generator().manual_seed(0))
    ae = Autoencoder("anomaly", steps=2, random_state=0).fit(x.numpy())
    batch = next(ae.batches(x.numpy()))
    px = ae.model_.run(batch).px
    each = px.each(batch.x, None)[:, 0]  # [k, b, cells]
    mine = px.bags(batch.x)
    for row in range(len(x)):
        own = each[~mine[:, row], row] if (~mine[:, row]).any() else each[:, row]
        assert torch.allclose(px.cells(batch.x)[0, row], own.mean(0), atol=1e-5)


def test_members_learn_from_their_own_rows_alone():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 3)).astype(np.float32)
    ae = Autoencoder("anomaly", steps=1, random_state=0).fit(x)
    model, batch = ae.model_.train(), next(ae.batches(x))
    mine = bags(batch.x, 8, 0.5)
    only = mine[0] & ~mine[1]  # rows of the first member, not of the second
    model.progress = 1.0
    loss = ae.spec_.objective(model, batch.rows(torch.nonzero(only)[:, 0])).total
    weight = model.decoder.blocks.weights[0]
    (gradient,) = torch.autograd.grad(loss, weight)
    assert gradient[0].abs().sum() > 0
    assert gradient[1].abs().sum() == 0


def test_the_worst_losses_of_each_line_are_left_out():
    losses = torch.tensor([[1.0, 9.0, 2.0, 3.0], [4.0, 1.0, 8.0, 2.0]])
    own = torch.tensor([[True, True, True, True], [True, True, True, False]])
    # Of four the best two; of three, ceil(1.5) = 2.
    assert kept(losses, own, 0.5).tolist() == [[0.5, 0.0, 0.5, 0.0], [0.5, 0.5, 0.0, 0.0]]


# ── the other parts ────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_forest_agrees_with_scikit_learns():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2000, 4)).astype(np.float32)
    x[:40] *= 3
    ours = forest.grow(x, torch.from_numpy(x), 200, 0).score(x, torch.from_numpy(x))
    theirs = -IsolationForest(n_estimators=200, random_state=0).fit(x).score_samples(x)
    # Two forests of scikit-learn's of other seeds agree by .99; ours uses half of its trees for each row.
    assert np.corrcoef(ours, theirs)[0, 1] > 0.97


def test_prototypes_are_means_of_several_rows():
    rng = np.random.default_rng(0)
    x = torch.from_numpy(rng.normal(size=(300, 2)).astype(np.float32))
    x[0] = 50.0
    points = prototypes.found(x, None, x, 4, 64, 0).points
    known = points[~np.isnan(points[..., 0])]
    assert np.abs(known).max() < 10  # the far row is none of them
    assert (np.abs(known[:, None] - x.numpy()).sum(-1).min(1) > 1e-6).mean() > 0.9


def test_a_missing_number_counts_as_far_as_the_others():
    x = torch.tensor([[0.0, 0.0], [0.0, 0.0], [0.1, 0.1], [3.0, 3.0]] * 20)
    made = prototypes.found(x, None, x, 4, 8, 0)
    own = torch.tensor([[3.5, 3.5], [3.5, 0.0]])
    both, half = made.score(own, torch.tensor([[True, True], [True, False]]), own)
    assert half == pytest.approx(both, rel=0.05)


# ── calibration ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_p_values_are_the_share_of_rows_as_strange():
    known = np.array([1.0, 2.0, 3.0, 4.0])
    assert p_values(np.array([0.5, 2.0, 5.0]), known).tolist() == [1.0, 0.8, 0.2]


def test_discoveries_are_those_of_benjamini_and_hochberg():
    p = np.array([0.01, 0.02, 0.03, 0.5, 0.9])
    # Sorted, against .05·k/5: .01 ≤ .01, .02 ≤ .02, .03 ≤ .03, .5 > .04.
    assert discoveries(p, 0.05).tolist() == [True, True, True, False, False]
    assert not discoveries(np.full(10, 0.2), 0.05).any()


def test_the_rate_of_false_alarms_is_kept_by_dependent_rows_in_blocks():
    rng = np.random.default_rng(0)
    rates = []
    for _ in range(200):
        p = np.repeat(rng.random(100), 10)  # ten rows in a row are one
        p[:100] = 1e-5
        called = blocks(p, 0.1, 10)
        rates.append(called[100:].sum() / max(1, called.sum()))
    assert np.mean(rates) <= 0.1
    assert called[:100].all()


def test_scores_that_do_not_differ_have_no_scale():
    with pytest.raises(ValueError, match="one score"):
        scale_of(np.ones(50))


def test_p_values_of_new_ordinary_rows_are_uniform(clean):
    p = np.sort(clean.p_values(plant(3000, seed=1)))
    steps = np.arange(1, len(p) + 1) / len(p)
    # Kolmogorov–Smirnov at 3,000 new and 1,500 known rows: 1.63·sqrt(1/3000 + 1/1500) at 1 %, and room for one model.
    assert np.abs(steps - p).max() < 0.07


# ── alarms ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_strange_rows_among_those_it_learned_from_are_found(found, dirty):
    truth = np.isin(np.arange(len(dirty)), STRANGE)
    assert roc_auc_score(truth, -found.score_samples(dirty)) > 0.99
    table = found.detect(dirty).table()
    assert set(STRANGE) <= set(table["row"])
    # 1 row in 100 by the calibration, and no more than 1 in 20 by what is the body of the scores.
    assert len(table) <= 0.05 * len(dirty)


def test_an_alarm_says_what_was_seen_what_was_expected_and_what_that_adds(found, dirty):
    alarms = found.detect(dirty)
    line = alarms.table().set_index("row").loc[5]
    seen = dirty["pressure"][5]
    assert line["why"].startswith(f"pressure {seen:.4g}, expected ")
    adds = found.explain(dirty)
    assert list(adds.columns) == list(dirty.columns)
    assert np.allclose(adds.sum(axis=1), alarms.scored.score)
    assert adds.loc[5].idxmax() == "pressure"


def test_a_value_outside_the_training_data_is_shown_as_it_came(clean):
    odd = plant(1).assign(pressure=500.0)
    assert clean.detect(odd).table(every=True)["why"][0].startswith("pressure 500, expected ")


def test_the_rate_of_false_alarms_is_what_was_asked_for():
    rates, powers = [], []
    for seed in range(4):
        detector = AnomalyDetector(False, random_state=seed, fdr=0.1).fit(plant(1500, seed))
        asked = plant(400, 100 + seed)
        asked.loc[:19, "pressure"] += 12
        called = detector.predict(asked) == -1
        rates.append(called[20:].sum() / max(1, called.sum()))
        powers.append(called[:20].mean())
    # Its mean is at most .1; four runs of some 20 alarms have a standard error of about .04.
    assert np.mean(rates) <= 0.18
    assert np.mean(powers) > 0.9


def test_the_same_seed_gives_the_same_detector_and_a_file_gives_it_again(found, dirty, tmp_path):
    again = AnomalyDetector(random_state=0).fit(dirty)
    assert np.array_equal(again.score_samples(dirty), found.score_samples(dirty))
    found.save(tmp_path / "d.safetensors")
    read = AnomalyDetector.load(tmp_path / "d.safetensors")
    assert np.array_equal(read.score_samples(dirty), found.score_samples(dirty))
    assert read.offset_ == found.offset_
    again.save(tmp_path / "e.safetensors")
    assert (tmp_path / "d.safetensors").read_bytes() == (tmp_path / "e.safetensors").read_bytes()


def test_a_rows_score_does_not_depend_on_the_rows_beside_it(found, dirty):
    whole = found.score_samples(dirty)
    assert np.allclose(found.score_samples(dirty.iloc[3:10]), whole[3:10], atol=1e-5)


def test_more_ordinary_rows_move_the_p_values(clean):
    detector = AnomalyDetector(False, random_state=0, epochs=3).fit(plant(200))
    before = len(detector.detector_.known)
    detector.partial_fit(plant(300, 9))
    assert len(detector.detector_.known) == before + 300
    assert detector.p_values(plant(1).assign(pressure=500.0))[0] == pytest.approx(1 / (before + 301))


@pytest.mark.parametrize("recipe", ["vae", "tabular"])
def test_any_recipe_can_detect(recipe, dirty):
    detector = AnomalyDetector(recipe=recipe, random_state=0, epochs=20).fit(dirty)
    truth = np.isin(np.arange(len(dirty)), STRANGE)
    # Four rows among 1,500: by chance it is .5, with a standard error of .14.
    assert roc_auc_score(truth, -detector.score_samples(dirty)) > 0.8
    assert list(detector.detector_.scales) == ["autoencoder"]


def test_a_model_without_a_detector_asks_for_ordinary_rows(dirty):
    ae = Autoencoder("vae", random_state=0, epochs=10).fit(dirty)
    with pytest.raises(ConfigError, match="--normal ROWS"):
        lt.detect(ae, dirty)
    table = lt.detect(ae, dirty, normal=plant(400, 7), every=True, score="elbo")
    assert list(table.columns) == ["row", "score", "p_value", "alarm", "why"]
    assert len(table) == len(dirty)
    with pytest.raises(ConfigError, match="too few"):
        lt.detect(ae, dirty, normal=plant(5))


def test_the_nearest_ordinary_row_is_named(found, dirty):
    table = lt.detect(found.autoencoder_, dirty, like=dirty)
    like = int(table.set_index("row").loc[500, "like"])
    assert abs(dirty["load"][like] - dirty["load"][500]) < 10
    assert not set(table["like"]) & set(STRANGE)


def test_scores_that_are_all_one_or_no_numbers_are_refused_in_words(found, dirty):
    ae = found.autoencoder_
    rows = next(ae.batches(dirty))
    same = rows.rows(torch.zeros(50, dtype=torch.long))
    with pytest.raises(DataError, match="all 50 rows have the same score"):
        found.detector_.calibrated(same)
    x = rows.x.clone()
    x[:3, 0] = torch.nan
    lost = Batch(x, rows.observed)
    with pytest.raises(DataError, match=r"score of \d+ of .* rows is no number"):
        found.detector_.calibrated(lost)


def test_a_rate_and_a_threshold_together_are_refused(found, dirty):
    with pytest.raises(ConfigError, match="leave out one"):
        lt.detect(found.autoencoder_, dirty, fdr=0.1, threshold=3.0)
    with pytest.raises(ConfigError, match="between 0 and 1"):
        lt.detect(found.autoencoder_, dirty, fdr=5)


def test_a_file_whose_detector_was_changed_is_refused(found, tmp_path):
    ae = found.autoencoder_
    bad = ae.use_.forest.left.copy()
    bad[0, 0] = 9999
    broken = type(ae.use_.forest)(**{**vars(ae.use_.forest), "left": bad})
    from dataclasses import replace

    whole = ae.use_
    try:
        ae.use_ = replace(whole, forest=broken)
        ae.save(tmp_path / "bad.safetensors")
    finally:
        ae.use_ = whole
    with pytest.raises(ModelFileError, match="left out of range"):
        lt.load(tmp_path / "bad.safetensors")


def test_pictures_can_be_strange_too(dots):
    detector = AnomalyDetector(random_state=0, epochs=5).fit(dots)
    odd = 255 - dots[:3]
    assert detector.p_values(odd).max() < 0.2
    assert "pixel (row" in detector.detect(odd).table(every=True)["why"][0]


def test_rows_that_tie_are_judged_alike_and_hardly_ever_called():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"k": rng.choice(["x", "y"], 1000, p=[0.8, 0.2])})
    detector = AnomalyDetector(random_state=0).fit(frame)
    # How many rows go through the nets at once changes last bits, which must not become scores.
    one = detector.score_one({"k": "x"})["score"]
    assert (detector.detect(frame[frame["k"] == "x"].head(9)).scored.score == one).all()
    assert detector.detect(frame).found.mean() <= 0.01
    two = pd.DataFrame({"a": rng.random(300) < 0.5, "b": rng.random(300) < 0.1})
    assert AnomalyDetector(random_state=0).fit(two).detect(two).found.mean() <= 0.05


def test_what_is_missing_has_no_share_of_the_score(found, dirty):
    gone = dirty.head(40).assign(temperature=np.nan)
    assert (found.explain(gone)["temperature"] == 0).all()
    assert "temperature" not in " ".join(found.detect(gone).table(every=True)["why"])


@pytest.mark.parametrize("settings", [{"threshold": float("nan")}, {"threshold": "abc"}, {"fdr": "x"}, {"fdr": 0.0}])
def test_rates_and_thresholds_that_are_none_are_refused_before_the_fit(settings, dirty, found, tmp_path):
    with pytest.raises(ConfigError, match=r"a rate of false alarms|a threshold is"):
        AnomalyDetector(**settings).fit(dirty)
    found.save(tmp_path / "d.safetensors")
    with pytest.raises(ConfigError, match=r"a rate of false alarms|a threshold is"):
        AnomalyDetector.load(tmp_path / "d.safetensors", **settings)


def test_settings_of_a_fitted_detector_are_heeded(dirty, found, tmp_path):
    found.save(tmp_path / "d.safetensors")
    loaded = AnomalyDetector.load(tmp_path / "d.safetensors")
    assert loaded.n_features_in_ == 4
    assert (loaded.set_params(threshold=100.0).predict(dirty) == 1).all()
    with pytest.raises(AttributeError):
        _ = AnomalyDetector().offset_


# ── streams ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_one_row_has_the_score_that_it_has_among_others(found, dirty):
    fresh = AnomalyDetector(random_state=0).fit(dirty)
    table = found.detect(dirty).table(every=True)
    for row in (0, 5):
        line = fresh.score_one(dirty.iloc[row].to_dict())
        assert line["score"] == pytest.approx(table["score"][row], abs=1e-4)
        assert line["why"] == table["why"][row]
    assert line["row"] == 1


def test_a_drift_is_noticed_and_ordinary_rows_raise_none():
    rng = np.random.default_rng(0)
    quiet, moved = Drift(), Drift()
    assert sum(quiet.update(p) for p in rng.random(5000)) <= 5  # once in a thousand rows or less
    # Rows that are a little stranger than before, none of which is an alarm.
    at = next(i for i, p in enumerate(rng.beta(0.7, 1.3, 2000)) if moved.update(p))
    assert at < 300


def test_one_row_comes_by_name_in_any_order_or_by_place(found, dirty):
    row = dirty.iloc[5].to_dict()
    score = found.score_one(row)["score"]
    assert found.score_one(dict(reversed(row.items())))["score"] == score
    assert found.score_one(list(row.values()))["score"] == score
    with pytest.raises(DataError, match="columns of the model are not there"):
        found.score_one({"load": 3.0})
    with pytest.raises(DataError, match="one row is asked for, and 3 are given"):
        found.score_one(dirty.head(3))


def test_a_line_that_cannot_be_read_is_answered_and_the_next_one_too(found, dirty, tmp_path):
    found.save(tmp_path / "d.safetensors")
    rows = dirty[["mode", "temperature", "load", "pressure"]].head(5).to_csv(index=False).splitlines(keepends=True)
    odd = [*rows[:3], "1,2\n", "low,20.1,abc,70\n", *rows[3:]]
    done = follow(str(tmp_path / "d.safetensors"), "--json", text="".join(odd))
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["row"] for line in lines] == list(range(7))
    assert [line["score"] is None for line in lines] == [False, False, True, True, False, False, False]
    assert lines[3]["why"].startswith("error: column 'load'")
    whole = found.detect(dirty.head(5)).scored.score
    assert [line["score"] for line in lines if line["score"] is not None] == pytest.approx(whole, abs=1e-3)
    refused = run("detect", tmp_path / "d.safetensors", "-", "--follow", "-o", tmp_path / "a.csv")
    assert (refused.code, "on stdout" in refused.err) == (2, True)


def follow(model, *more, text):
    command = [sys.executable, "-m", "latente", "detect", model, "-", "--follow", *more]
    return subprocess.run(command, input=text, capture_output=True, text=True, check=False)


def test_lines_of_stdin_are_answered_with_the_numbers_of_the_file(found, dirty, tmp_path):
    found.save(tmp_path / "d.safetensors")
    some = dirty.head(8)
    some.to_csv(tmp_path / "some.csv", index=False)
    whole = lt.detect(found.autoencoder_, str(tmp_path / "some.csv"), every=True)
    done = follow(str(tmp_path / "d.safetensors"), text=some.to_csv(index=False))
    assert done.returncode == 0, done.stderr
    lines = pd.read_csv(io.StringIO(done.stdout))
    assert lines["row"].tolist() == list(range(8))
    assert np.allclose(lines["score"], whole["score"], atol=1e-3)
    assert lines["alarm"][5]


def test_a_file_that_grows_is_answered_as_it_grows(found, dirty, tmp_path):
    path = tmp_path / "growing.csv"
    rows = dirty.to_csv(index=False).splitlines(keepends=True)
    path.write_text("".join(rows[:3]))
    lines = lt.detect(found.autoencoder_, str(path), follow=True)
    assert [next(lines)["row"] for _ in range(2)] == [0, 1]

    def later():
        time.sleep(0.3)
        with path.open("a") as stream:
            stream.write(rows[3][:7])
            stream.flush()
            time.sleep(0.3)
            stream.write(rows[3][7:])
        time.sleep(0.5)
        path.write_text(rows[0] + rows[6])  # begun anew

    thread = threading.Thread(target=later)
    thread.start()
    whole = found.detect(dirty).scored.score
    assert next(lines)["score"] == pytest.approx(whole[2], abs=1e-3)
    assert next(lines)["score"] == pytest.approx(whole[5], abs=1e-3)
    thread.join()


# ── the command line, scikit-learn ─────────────────────────────────────────────────────────────────────────────────


def test_from_the_command_line_to_alarms(dirty, tmp_path):
    dirty.to_csv(tmp_path / "plant.csv", index=False)
    run("fit", tmp_path / "plant.csv", "--recipe", "anomaly", "-o", tmp_path / "run", "--quiet")
    done = run("detect", tmp_path / "run", tmp_path / "plant.csv", "-o", tmp_path / "alarms.csv")
    assert "wrote" in done.err
    table = pd.read_csv(tmp_path / "alarms.csv")
    assert set(STRANGE) <= set(table["row"])
    assert "use" in run("info", tmp_path / "run").out


@parametrize_with_checks([AnomalyDetector(epochs=2, random_state=0)])
def test_scikit_learns_checks_of_outlier_detectors(estimator, check):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        check(estimator)
