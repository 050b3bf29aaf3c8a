"""Series in use over time: followed row by row, drawn, gone on with, and the parts of their detector."""

import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from test_cli import run
from test_series import PERIOD, strange, waves

import latente as lt
from latente.errors import ConfigError, DataError
from latente.kinds.segments import period
from latente.kinds.series import Series
from latente.model.committee import Axes
from latente.training.feed import evenly
from latente.uses.continuation import continued
from latente.uses.drift import Drift
from latente.uses.learned import prototypes
from latente.uses.watching import Watch


@pytest.fixture(scope="module")
def watch() -> lt.AnomalyDetector:
    return lt.AnomalyDetector(False, kind="series", random_state=0).fit(waves(2000))


# ── the parts ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_axes_are_the_principal_ones_and_no_more_than_the_variance_takes():
    rng = np.random.default_rng(0)
    x = torch.from_numpy(rng.normal(size=(500, 3)) @ rng.normal(size=(3, 20)) + 0.01 * rng.normal(size=(500, 20)))
    axes = Axes(20, 8)
    axes.start(x.float())
    codes = axes(x.float())
    used = codes.abs().sum(0) > 0
    _, size, turn = np.linalg.svd((x - x.mean(0)).numpy(), full_matrices=False)
    count = int((np.cumsum(size**2) / (size**2).sum() < 0.9).sum()) + 1
    assert used.tolist() == [i < count for i in range(8)]
    centred = (x - x.mean(0)).float()
    axes_of_x = torch.from_numpy(np.asarray(turn[:count])).float()
    best = (centred @ axes_of_x.T @ axes_of_x).numpy()
    assert np.allclose(axes.back(codes).numpy(), best, atol=1e-3)
    assert torch.allclose(codes[:, used].std(0), torch.ones(count), atol=1e-3)
    axes.start(torch.ones(30, 20))  # rows that do not differ
    assert torch.isfinite(axes(torch.ones(2, 20))).all()


def test_a_committee_of_series_begins_as_principal_components(watch):
    start = lt.AnomalyDetector(False, kind="series", settings={"train.steps": 1, "train.lr": 1e-12}, random_state=0)
    ae = start.fit(waves(2000)).autoencoder_
    x = next(iter(ae.batches(waves(240, 3)))).x
    axes = ae.model_.decoder.axes
    with torch.no_grad():
        told = ae.model_.mean_of(next(iter(ae.batches(waves(240, 3))))).mean[0].flatten(1)
        linear = axes.back(axes(x.flatten(1))) + axes.mean
    assert torch.allclose(told, linear, atol=1e-3)


def test_a_window_that_never_came_back_is_no_prototype():
    rng = np.random.default_rng(0)
    t = np.arange(1200)
    x = np.sin(2 * np.pi * t / 24) + 0.05 * rng.normal(size=1200)
    x[600:650] = 4.0
    rows = torch.from_numpy(np.lib.stride_tricks.sliding_window_view(x, 24).astype(np.float32).copy())
    places = torch.arange(len(rows))
    kept = prototypes.found(rows, None, rows, 4, 64, 0, places, 12)
    everyone = prototypes.found(rows, None, rows, 4, 64, 0)
    highest = [np.nanmax(p.points.mean(2)) for p in (kept, everyone)]
    assert highest[0] < 1.0 < highest[1]


def test_a_state_that_lasts_came_back():
    flat = torch.zeros(500, 8) + 0.01 * torch.randn(500, 8, generator=torch.Generator().manual_seed(0))
    found = prototypes.found(flat, None, flat, 2, 16, 0, torch.arange(500), 4)
    assert (~np.isnan(found.points[:, :, 0])).sum() > 2


def test_the_flank_of_a_long_period_is_no_period():
    t = np.arange(3000)
    x = np.sin(2 * np.pi * t / 300) + 0.02 * np.random.default_rng(0).normal(size=3000)
    assert period(x[:, None], 256) == 0
    assert abs(period(x[:, None], 400) - 300) <= 3


def test_the_step_of_the_data_that_were_learned_is_kept():
    kind = Series().learn(waves(480))
    assert kind.every == 60.0
    slow = waves(480).iloc[::2]
    with pytest.warns(lt.DataWarning, match="the rows are 120 s apart, and those that were learned 60 s"):
        (segment,) = kind.opened(slow)
    assert len(segment.values) == 479  # every other step is a gap
    assert np.isnan(segment.values[1]).all()
    assert kind.time == "when"
    with pytest.warns(lt.DataWarning, match="no column 'when': the rows follow each other at even steps"):
        assert len(kind.opened(waves(480).drop(columns="when"))[0].values) == 480
    untimed = Series(every=60.0).learn(waves(480).drop(columns="when"))
    assert len(untimed.opened(waves(480).drop(columns="when"))[0].values) == 480


@pytest.mark.parametrize(("rows", "n"), [(10, 20), (10, 10), (10, 4), (1, 1), (21, 10)])
def test_some_of_the_rows_are_spread_over_all(rows, n):
    chosen = np.arange(rows)[evenly(rows, n)]
    assert len(chosen) <= n
    assert chosen[0] == 0
    assert rows - chosen[-1] <= -(-rows // n)


@pytest.mark.parametrize("settings", [{"use.latent": 1.0, "use.autoencoder": 0.0}, {"use.score": "denoising"}])
def test_codes_and_denoising_tell_strange_rows_too(settings, tmp_path):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(600, 2)) @ rng.normal(size=(2, 6)) + 0.1 * rng.normal(size=(600, 6))
    odd = rng.normal(size=(40, 6)) * 4
    alone = {"use.forest": 0.0, "use.prototypes": 0.0}
    detector = lt.AnomalyDetector(False, settings=settings | alone, random_state=0).fit(x[:500])
    good, bad = detector.detect(x[500:]).scored.score, detector.detect(odd).scored.score
    assert np.median(bad) > np.quantile(good, 0.95)
    detector.save(tmp_path / "d.safetensors")
    again = lt.AnomalyDetector.load(tmp_path / "d.safetensors")
    assert np.array_equal(again.detect(odd).scored.score, bad)


# ── followed ───────────────────────────────────────────────────────────────────────────────────────────────────────


def answers(watch, frame, at_once):
    """What a stream of these rows is answered, so many rows at a time."""
    one = Watch(watch.autoencoder_, watch.detector_, None, Drift())
    found, waits = [], []
    for i in range(len(frame)):
        found += one.add(frame.iloc[i : i + 1])
        if i % at_once == at_once - 1:
            found += one.ready()
            waits.append(i + 1 - len(found))
    return found + one.end(), waits


@pytest.mark.parametrize("at_once", [pytest.param(1, marks=pytest.mark.slow), 70])
def test_a_followed_series_gets_the_numbers_of_the_file_within_a_window(watch, at_once):
    frame = strange().iloc[:400].drop(index=[77, 78, 200]).reset_index(drop=True)  # with steps missing
    frame.loc[50, "a"] = np.nan
    found, waits = answers(watch, frame, at_once)
    table = watch.detect(frame).table(every=True)
    assert [line["row"] for line in found] == list(range(len(frame)))
    assert np.allclose([line["score"] for line in found], table["score"], atol=2e-4)
    assert [line["why"] for line in found][300] == table["why"][300]
    assert max(waits) < PERIOD


def test_after_a_long_break_a_followed_series_begins_anew(watch):
    frame = waves(200, 4)
    frame.loc[120:, "when"] += pd.Timedelta(hours=5)
    found, _ = answers(watch, frame, 1)
    table = watch.detect(frame).table(every=True)
    assert [line["row"] for line in found] == list(range(200))
    assert np.allclose([line["score"] for line in found], table["score"], atol=2e-4)
    short, _ = answers(watch, frame.iloc[:10], 1)
    assert len(short) == 10
    assert "shorter than the model's window" in short[0]["why"]


def test_a_stamp_from_the_future_does_not_silence_those_that_follow(watch):
    frame = waves(120, 5)
    frame.loc[60, "when"] += pd.Timedelta(days=3650)
    found, _ = answers(watch, frame, 1)
    assert [line["row"] for line in found] == list(range(120))
    assert [line["row"] for line in found if line["score"] is None] == [60]


def test_an_outage_of_all_channels_does_not_end_a_stream(watch):
    frame = waves(260, 5)
    frame.loc[60:160, ["a", "b", "flat"]] = np.nan
    found, _ = answers(watch, frame, 1)
    assert [line["row"] for line in found] == list(range(260))
    assert any("no channel has a value" in line["why"] for line in found[60:160])
    assert all(line["score"] is not None for line in [*found[:60], *found[161:]])


def test_a_span_of_one_of_many_entities_that_take_turns_is_one():
    parts = [waves(300, seed).assign(who=f"e{seed}") for seed in range(12)]
    kind = Series(id="who")
    turns = pd.concat(parts).sort_values(["when", "who"], ignore_index=True)
    watch = lt.AnomalyDetector(False, kind=kind, epochs=3, random_state=0).fit(turns)
    odd = turns.copy()
    odd.loc[(odd["who"] == "e5") & (odd["when"] >= odd["when"].iloc[-1] - pd.Timedelta(minutes=100)), "a"] += 5.0
    (line,) = [row for row in watch.detect(odd).table().to_dict("records") if row["who"] == "e5" and row["score"] > 2]
    assert line["last"] - line["row"] > 12 * 80


def test_more_ordinary_series_move_the_p_values_of_steps():
    watch = lt.AnomalyDetector(False, kind="series", random_state=0).fit(waves(800))
    before = watch.p_values(strange())
    watch.partial_fit(waves(1200, 5).assign(a=lambda f: f["a"] + np.random.default_rng(1).normal(size=1200)))
    after = watch.p_values(strange())
    assert len(watch.detector_.steps.known) == 2000
    assert after[305] > before[305]


def test_alarms_of_entities_are_apart_and_named():
    one, other = waves(600), waves(600, 1)
    other.loc[300:320, "a"] += 3.0
    one.loc[580:, "b"] += 20.0
    kind = Series(id="who")
    both = pd.concat([one.assign(who="A"), other.assign(who="B")], ignore_index=True)
    watch = lt.AnomalyDetector(False, kind=kind, random_state=0).fit(
        pd.concat([waves(600, 7).assign(who="A"), waves(600, 8).assign(who="B")], ignore_index=True)
    )
    table = watch.detect(both).table()
    assert set(table["who"][table["score"] > 1.5]) == {"A", "B"}
    assert (table["from"] <= table["to"]).all()
    assert not any(row["row"] < 600 <= row["last"] for row in table.to_dict("records"))
    turns = both.sort_values(["when", "who"], ignore_index=True)
    again = watch.detect(turns).table()
    assert again[["who", "from", "to"]].sort_values(["who", "from"]).to_numpy().tolist() == (
        table[["who", "from", "to"]].sort_values(["who", "from"]).to_numpy().tolist()
    )
    with pytest.raises(DataError, match="row 3: the id is missing"):
        watch.detect(both.assign(who=both["who"].mask(both.index == 3)))


def test_a_channel_that_is_not_there_at_all_is_said(watch):
    with pytest.warns(lt.DataWarning, match="channels without a value are not judged: 'a'"):
        watch.detect(waves(100).assign(a=np.nan))
    with pytest.raises(DataError, match="no channel has a value"):
        watch.detect(waves(100).assign(a=np.nan, b=np.nan, flat=np.nan))


def test_lines_of_a_series_on_stdin_are_answered_and_bad_ones_named(watch, tmp_path):
    watch.save(tmp_path / "w.safetensors")
    lines = waves(60, 6).to_csv(index=False).splitlines(keepends=True)
    lines.insert(30, "2024-01-01 00:28:30,what,1,5\n")
    lines.insert(40, lines[5])  # from the past
    command = [sys.executable, "-m", "latente", "detect", str(tmp_path / "w.safetensors"), "-", "--follow", "--json"]
    done = subprocess.run(command, input="".join(lines), capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    found = sorted((json.loads(line) for line in done.stdout.splitlines()), key=lambda line: line["row"])
    assert [line["row"] for line in found] == list(range(62))
    assert "is not a number" in found[29]["why"]
    assert "time goes backwards" in found[39]["why"]
    assert all(line["score"] is not None for i, line in enumerate(found) if i not in (29, 39))


# ── drawn, and gone on with ────────────────────────────────────────────────────────────────────────────────────────


def test_a_picture_shows_every_alarm_in_red(watch, tmp_path):
    watch.save(tmp_path / "w.safetensors")
    strange().to_csv(tmp_path / "s.csv", index=False)
    done = run("detect", tmp_path / "w.safetensors", tmp_path / "s.csv", "--plot", tmp_path / "p.png")
    assert done.code == 0, done.err
    picture = np.asarray(Image.open(tmp_path / "p.png").convert("RGB")).astype(int)
    red = (picture[:, :, 0] - picture[:, :, 1] > 20) & (picture[:, :, 0] > 200)
    columns = red.sum(0) > 0.3 * len(picture)
    alarms = watch.detect(strange())
    assert columns.mean() == pytest.approx(alarms.found.mean() * 0.9, abs=0.08)  # the axes take a tenth of the width
    refused = run("detect", tmp_path / "w.safetensors", tmp_path / "s.csv", "--plot", tmp_path / "p.doc")
    assert (refused.code, "p.png" in refused.err) == (2, True)


@pytest.mark.parametrize("recipe", ["vae", "novelty"])
def test_a_series_goes_on_from_its_start(recipe, tmp_path):
    ae = lt.Autoencoder(recipe, kind="series", epochs=60, random_state=0).fit(waves(1500))
    start, truth = waves(480, 9).iloc[:400], waves(480, 9).iloc[400:]
    found = continued(ae, start, 40, 20, seed=0)
    assert list(found.columns) == ["series", "when", "a", "b", "flat"]
    assert len(found) == 20 * 40
    one = found[found["series"] == 3]
    assert (one["when"].to_numpy() == truth["when"].to_numpy()[:40]).all()
    mean = found.groupby("when")[["a", "b"]].mean()
    assert np.corrcoef(mean["a"], truth["a"][:40])[0, 1] > 0.9
    assert np.corrcoef(mean["b"], truth["b"][:40])[0, 1] > 0.9
    assert continued(ae, start, 40, 20, seed=0).equals(found)
    ae.save(tmp_path / "m.safetensors")
    start.to_csv(tmp_path / "s.csv", index=False)
    done = run("sample", tmp_path / "m.safetensors", "-n", "2", "--start", tmp_path / "s.csv", "--steps", "5")
    assert (done.code, len(done.out.splitlines())) == (0, 11), done.err


def test_times_with_a_zone_go_on_in_it():
    frame = waves(480).drop(columns="flat").rename(columns={"b": "step"})
    frame["when"] = frame["when"].dt.tz_localize("America/New_York")
    ae = lt.Autoencoder("vae", kind="series", epochs=2, random_state=0).fit(frame)
    found = continued(ae, frame, 2, 2, seed=0)
    assert list(found.columns) == ["series", "when", "a", "step"]
    assert found["when"].tolist() == 2 * [frame["when"].iloc[-1] + pd.Timedelta(minutes=m) for m in (1, 2)]
    assert list(ae.sample(1).columns) == ["series", "step_", "a", "step"]
    windows = np.random.default_rng(0).normal(size=(40, 24, 2))
    ae = lt.Autoencoder("vae", kind="series", epochs=1, random_state=0).fit(windows)
    with pytest.raises(DataError, match="holds 3 series"):
        lt.sample(ae, 1, start=windows[:3])


def test_a_start_that_cannot_be_is_said(watch, tmp_path):
    ae = watch.autoencoder_
    with pytest.raises(DataError, match="the start has 10 steps"):
        continued(ae, waves(10), 5, 1, 0)
    with pytest.raises(ConfigError, match="steps must be 1 or more"):
        continued(ae, waves(100), 0, 1, 0)
    with pytest.raises(ConfigError, match="--start SERIES"):
        lt.sample(ae, 2, steps=4)
    with pytest.raises(ConfigError, match="given does not go with a start"):
        lt.sample(ae, 2, start=waves(100), given="a=1")


def test_between_two_windows_of_a_file_there_are_others(watch, tmp_path):
    watch.save(tmp_path / "w.safetensors")
    waves(200).to_csv(tmp_path / "s.csv", index=False)
    ends = [f"{tmp_path / 's.csv'}:{n}" for n in (0, 36)]
    done = run("interpolate", tmp_path / "w.safetensors", *ends, "--steps", "3", "-o", tmp_path / "way.csv")
    assert done.code == 0, done.err
    way = pd.read_csv(tmp_path / "way.csv")
    assert way["series"].value_counts().to_dict() == {0: PERIOD, 1: PERIOD, 2: PERIOD}
    assert np.allclose(way["b"][:PERIOD], waves(200)["b"][:PERIOD], atol=1.0)
