"""Numbers over time: windows, steps, gaps, entities, and series back in the form in which they came."""

import numpy as np
import pandas as pd
import pytest
import torch
from test_cli import run

import latente as lt
from latente import Autoencoder
from latente.errors import ConfigError, DataError
from latente.kinds.segments import of_frame, period
from latente.kinds.series import Series
from latente.model.batch import Batch
from latente.model.dists.gaussian import Gaussian

PERIOD = 24


def waves(n=960, seed=0):
    """Two waves of one period and a constant, a row a minute."""
    rng = np.random.default_rng(seed)
    t = np.arange(n)
    return pd.DataFrame(
        {
            "when": pd.Timestamp("2024-01-01") + pd.to_timedelta(60 * t, "s"),
            "a": np.sin(2 * np.pi * t / PERIOD) + 0.05 * rng.normal(size=n),
            "b": 10 + 3 * np.cos(2 * np.pi * t / PERIOD) + 0.1 * rng.normal(size=n),
            "flat": 5.0,
        }
    )


@pytest.fixture(scope="module")
def fitted() -> Autoencoder:
    return Autoencoder("vae", kind="series", epochs=60, random_state=0).fit(waves())


# ── from rows to steps ─────────────────────────────────────────────────────────────────────────────────────────────


def test_the_window_is_the_datas_own_period():
    x = waves()[["a", "b"]].to_numpy()
    assert period(x, 256) == PERIOD
    assert period(np.random.default_rng(0).normal(size=(500, 2)), 256) == 0
    learned = Series().learn(waves())
    assert learned.window == PERIOD
    assert learned.channels == ("a", "b", "flat")
    assert learned.summary[0] == "windows of 24 steps, one every 1"


def test_rows_stand_on_the_nearest_step_and_what_is_not_there_is_a_gap():
    frame = pd.DataFrame({"t": [0.0, 10.2, 20.0, 39.9, 40.1], "x": [1.0, 2.0, 3.0, 4.0, 6.0]})
    with pytest.warns(lt.DataWarning, match="1 rows share a time step"):
        (segment,) = of_frame(frame, ["x"], "t", "", 10.0, 100)
    assert np.array_equal(segment.values[:, 0], [1.0, 2.0, 3.0, np.nan, 5.0], equal_nan=True)
    assert segment.rows.tolist() == [0, 1, 2, 3, 4]
    assert segment.places.tolist() == [0, 1, 2, 4, 4]


def test_entities_and_long_breaks_are_apart():
    frame = pd.DataFrame({"t": [0, 1, 2, 50, 51, 0, 1], "who": list("aaaaabb"), "x": np.arange(7.0)})
    found = of_frame(frame, ["x"], "t", "who", 1.0, 10)
    assert [(s.entity, s.values[:, 0].tolist()) for s in found] == [
        ("a", [0.0, 1.0, 2.0]),
        ("a", [3.0, 4.0]),
        ("b", [5.0, 6.0]),
    ]


def test_time_that_goes_backwards_is_named():
    frame = waves(100)
    frame.loc[40, "when"] = frame.loc[10, "when"]
    with pytest.raises(DataError, match=r"column 'when', row 40: time goes backwards: .*\n\nhint: df.sort_values"):
        Series().learn(frame)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda f: f.drop(columns="b"), r"channel 'b' of the model is not there"),
        (lambda f: f.head(10), r"a stretch of 10 steps \(from row 0 on\) is shorter than the model's window of 24"),
        (lambda f: f.assign(a="x"), "is not a number"),
        (lambda f: f.assign(when=f["when"].mask(f.index == 3)), r"row 3: the time is missing"),
        (lambda f: f.assign(when=f["when"].astype(str).mask(f.index == 4, "noon")), r"row 4: 'noon' is no date"),
    ],
)
def test_what_does_not_fit_is_said_with_its_place(fitted, change, match):
    with pytest.raises(DataError, match=match):
        fitted.transform(change(waves(60)))


def test_what_cannot_be_learned_from_is_said():
    with pytest.raises(DataError, match="the longest stretch has 12 steps"):
        Series(window=24).learn(waves(12))
    with pytest.raises(DataError, match="no channel varies"):
        Series().learn(waves(100)[["when", "flat"]])
    with pytest.raises(DataError, match="no column of numbers"), pytest.warns(lt.DataWarning, match="left out"):
        Series().learn(pd.DataFrame({"when": waves(30)["when"], "word": ["x"] * 30}))
    with pytest.raises(ConfigError, match=r"no column 'tine'(.|\n)*did you mean"):
        Series(time="tine").learn(waves(100).rename(columns={"when": "time"}))
    x = np.zeros((4, 8, 1))
    x[0, 3, 0] = np.inf
    with pytest.raises(DataError, match=r"the value at \(0, 3, 0\) is infinite"):
        Series().learn(x)


# ── windows and back ───────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("stride", [1, 5, 7])
def test_windows_of_a_series_put_together_are_the_series(stride):
    frame = waves(200)
    frame.loc[50:60, "a"] = np.nan
    kind = Series(window=24, stride=stride).learn(frame)
    batch = kind.to_batch(frame)
    assert batch.x.shape[1:] == (3, 24)
    again = kind.rejoin(frame, batch.x)
    assert list(again.columns) == list(frame.columns)
    assert np.allclose(again["b"], frame["b"])
    there = frame["a"].notna()
    assert np.allclose(again["a"][there], frame["a"][there])
    assert batch.observed is not None
    assert not batch.observed.all()


def test_rows_of_entities_that_take_turns_keep_to_their_own():
    one, other = waves(120), waves(120, 1).assign(b=-50.0)
    both = pd.concat([one.assign(who="one"), other.assign(who="other")]).sort_values(["when", "who"], ignore_index=True)
    twice = pd.concat([both, both.tail(1)], ignore_index=True)  # two rows at one step
    kind = Series(window=24, id="who").learn(both)
    with pytest.warns(lt.DataWarning, match="share a time step"):
        again = kind.rejoin(twice, kind.to_batch(twice).x)
    assert np.allclose(again["b"], twice["b"])
    assert np.allclose(again["a"], twice["a"])


def test_arrays_come_back_as_they_came():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, 12, 3)).cumsum(1).astype(np.float32)
    kind = Series().learn(x)
    assert (kind.form, kind.window) == ("windows", 12)
    back = kind.rejoin(x, kind.to_batch(x).x)
    assert back.dtype == np.float32
    assert np.allclose(back, x, atol=1e-5)
    long = x[0].repeat(20, 0)
    kind = Series(window=16).learn(long)
    assert np.allclose(kind.rejoin(long, kind.to_batch(long).x), long, atol=1e-5)


def test_a_scale_for_each_channel_is_what_the_rows_say():
    likelihood = Gaussian(per="channel").build((2, 50)).train()
    x = torch.randn(400, 2, 50, generator=torch.Generator().manual_seed(0)) * torch.tensor([[1.0], [3.0]])
    likelihood.observe(likelihood(torch.zeros(1, 400, 2, 50)), Batch(x))
    # Of 20,000 numbers each: standard error of a variance σ²·sqrt(2/20,000).
    assert likelihood.variance.flatten().tolist() == pytest.approx([1.0, 9.0], rel=0.05)


# ── the verbs ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_series_is_reconstructed_and_its_gaps_are_filled(fitted):
    frame = waves(480, seed=1)
    back = fitted.reconstruct(frame)
    assert back["when"].equals(frame["when"])
    clean = np.sin(2 * np.pi * np.arange(480) / PERIOD)
    # The mean over the overlapping windows is nearer to the wave than what was seen, whose noise is .05.
    assert np.sqrt(np.square(lt.denoise(fitted, frame)["a"] - clean).mean()) < 0.05
    holes = frame.copy()
    holes.loc[100:107, "a"] = np.nan
    filled = lt.impute(fitted, holes)
    assert filled.loc[:99].equals(holes.loc[:99])
    assert np.abs(filled["a"][100:108] - clean[100:108]).max() < 0.25


def test_new_series_are_waves_too(fitted):
    new = fitted.sample(20, random_state=0)
    assert list(new.columns) == ["series", "step", "a", "b", "flat"]
    assert len(new) == 20 * PERIOD
    spread = new.groupby("series")["a"].std()
    # A whole wave's is .71; codes between those of two phases give lower ones, and noise alone .05.
    assert 0.3 < spread.median() < 0.85
    assert (new["flat"] == 5.0).all()


def test_a_file_gives_the_model_again(fitted, tmp_path):
    fitted.save(tmp_path / "s.safetensors")
    again = lt.load(tmp_path / "s.safetensors")
    assert np.array_equal(again.transform(waves(100)), fitted.transform(waves(100)))
    assert again.sample(2, random_state=0).equals(fitted.sample(2, random_state=0))


@pytest.mark.parametrize("nets", ["temporal", "recurrent", "mlp"])
def test_every_kind_of_nets_learns_the_wave(nets):
    x = waves(480)[["a", "b"]].to_numpy()
    options = {
        "kind": "series",
        "nets": nets,
        "settings": {"kind.window": 24, "kind.stride": 4, "train.batch_size": 32},
    }
    ae = Autoencoder("ae", dim=4, steps=400, lr=3e-3, random_state=0, **options).fit(x)
    error = np.square(ae.reconstruct(x) - x).sum(0) / np.square(x - x.mean(0)).sum(0)
    assert error.max() < 0.1


def test_series_from_the_command_line(tmp_path):
    waves(400).to_csv(tmp_path / "waves.csv", index=False)
    done = run("fit", tmp_path / "waves.csv", "--kind", "series", "--epochs", "3", "-o", tmp_path / "run", "--quiet")
    assert done.code == 0, done.err
    assert run("reconstruct", tmp_path / "run", tmp_path / "waves.csv", "-o", tmp_path / "r.csv").code == 0
    assert len(pd.read_csv(tmp_path / "r.csv")) == 400
    assert run("encode", tmp_path / "run", tmp_path / "waves.csv", "-o", tmp_path / "z.csv").code == 0
    assert run("sample", tmp_path / "run", "-n", "3", "-o", tmp_path / "new.csv").code == 0
    assert len(pd.read_csv(tmp_path / "new.csv")) == 3 * PERIOD
    assert "windows of 24 steps" in run("info", tmp_path / "run").out
    refused = run("fit", tmp_path / "waves.csv", "--kind", "series", "--stream", "yes", "-o", tmp_path / "r2")
    assert (refused.code, "--stream no" in refused.err) == (2, True)


# ── strange steps ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def watch() -> lt.AnomalyDetector:
    return lt.AnomalyDetector(False, kind="series", random_state=0).fit(waves(2000))


def strange():
    frame = waves(960, 1)
    frame.loc[300:310, "a"] += 1.0
    frame.loc[600:640, "b"] = 10.0
    return frame


def test_strange_spans_are_found_with_their_channel_and_time(watch):
    alarms = watch.detect(strange())
    table = alarms.table()
    for first, last, channel in ((300, 310, "a"), (600, 640, "b")):
        (line,) = table[(table["row"] <= last) & (table["last"] >= first)].to_dict("records")
        # A window reaches over its length on both sides of what is strange.
        assert line["row"] >= first - 2 * PERIOD
        assert line["last"] <= last + 2 * PERIOD
        assert line["from"] == strange()["when"][line["row"]]
        adds = alarms.contributions()
        assert adds.loc[first:last].mean().idxmax() == channel
        assert f"{channel} " in line["why"]
    assert np.allclose(adds.sum(axis=1), alarms.scored.score)
    assert len(alarms.table(every=True)) == 960
    ordinary = watch.detect(waves(960, 2))
    assert ordinary.found.mean() < 0.06  # 1 % of the steps that it was measured by, and windows hang together


def test_a_rate_of_false_alarms_is_of_whole_windows(watch):
    loud = waves(4000, 3)
    loud.loc[2000:2400, "a"] *= -1
    watch.fdr = 0.2
    try:
        found = watch.detect(loud).found
    finally:
        watch.fdr = None
    assert found[2000:2400].mean() > 0.5
    assert found[np.r_[0:1950, 2450:4000]].sum() < 0.2 * found.sum()


def test_a_detector_of_steps_travels_in_its_file(watch, tmp_path):
    watch.save(tmp_path / "w.safetensors")
    again = lt.AnomalyDetector.load(tmp_path / "w.safetensors")
    assert np.array_equal(again.score_samples(strange()), watch.score_samples(strange()))
    assert again.offset_ == watch.offset_
    strange().to_csv(tmp_path / "s.csv", index=False)
    done = run("detect", tmp_path / "w.safetensors", tmp_path / "s.csv", "-o", tmp_path / "alarms.csv")
    assert done.code == 0, done.err
    assert len(pd.read_csv(tmp_path / "alarms.csv")) >= 2


def test_a_gap_is_no_alarm_by_itself(watch):
    holes = waves(480, 5)
    holes.loc[100:105, "a"] = np.nan
    alarms = watch.detect(holes)
    assert np.isfinite(alarms.scored.score).all()
    assert alarms.found[100:106].mean() < 0.5


def test_a_model_of_series_is_measured_by_ordinary_series(fitted):
    with pytest.raises(ConfigError, match="--normal"):
        lt.detect(fitted, strange())
    table = lt.detect(fitted, strange(), normal=waves(960, 8))
    assert any(row["row"] <= 310 and row["last"] >= 300 for row in table.to_dict("records"))
