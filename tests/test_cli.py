"""The command line as a user has it: real files in, exit codes, stdout and stderr apart."""

import io
import json
import os
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image as Picture

from latente import cli

LATENTE = str(Path(sys.executable).parent / "latente")


class Done:
    """What a run gave."""

    def __init__(self, code, out, err):
        self.code, self.out, self.err = code, out, err


def run(*arguments, cwd=None):
    """The command line in this process (a new one would import torch anew), its streams caught."""
    out, err = io.StringIO(), io.StringIO()
    before = sys.argv, sys.stdout, sys.stderr, os.getcwd(), warnings.showwarning
    sys.argv, sys.stdout, sys.stderr = ["latente", *map(str, arguments)], out, err
    os.chdir(cwd or before[3])
    code = 0
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("default")
            cli.main()
    except SystemExit as stop:
        code = stop.code or 0
    finally:
        sys.argv, sys.stdout, sys.stderr, _, warnings.showwarning = before
        os.chdir(before[3])
    return Done(code, out.getvalue(), err.getvalue())


@pytest.fixture(scope="module")
def work(tmp_path_factory, people, dots):
    """A folder with a table, pictures and a fitted model of each."""
    folder = tmp_path_factory.mktemp("work")
    people.to_csv(folder / "people.csv", index=False)
    (folder / "dots").mkdir()
    for i, dot in enumerate(dots[:120]):
        Picture.fromarray(dot).save(folder / "dots" / f"{i:03d}.png")
    assert run("fit", folder / "people.csv", "--epochs", 30, "--dim", 3, "-o", folder / "people", "--quiet").code == 0
    assert run("fit", folder / "dots", "--epochs", 30, "--dim", 3, "-o", folder / "shapes", "--quiet").code == 0
    return folder


def test_fit_prints_the_runs_place_and_nothing_else_on_stdout(tmp_path, people):
    people.to_csv(tmp_path / "people.csv", index=False)
    done = run("fit", "people.csv", "--epochs", 2, cwd=tmp_path)
    assert done.code == 0
    place = Path(tmp_path / done.out.strip())
    assert place.parent.name == "runs"
    assert (place / "model.safetensors").exists()
    assert "doctor:" in done.err
    assert "next: latente evaluate" in done.err


def test_every_verb_works_on_a_table(work, people):
    model, data = work / "people", work / "people.csv"
    codes = pd.read_csv(io.StringIO(run("encode", model, data).out))
    assert list(codes.columns) == ["z0", "z1", "z2"]
    assert len(codes) == 300
    run("encode", model, data, "-o", work / "codes.parquet")
    for verb in (("decode", model, work / "codes.parquet"), ("reconstruct", model, data), ("denoise", model, data)):
        table = pd.read_csv(io.StringIO(run(*verb).out))
        assert list(table.columns) == list(people.columns)
        assert len(table) == 300
    filled = pd.read_csv(io.StringIO(run("impute", model, data).out))
    assert not filled["income"].isna().any()
    assert len(pd.read_csv(io.StringIO(run("sample", model, "-n", 7).out))) == 7
    way = pd.read_csv(io.StringIO(run("interpolate", model, data, f"{data}:9", "--steps", 4).out))
    assert len(way) == 4
    walk = pd.read_csv(io.StringIO(run("traverse", model, f"{data}:9", "--steps", 4, "--dims", 2).out))
    assert list(walk.columns) == ["dim", "value", *people.columns]
    assert len(walk) == 8
    assert len(json.loads(run("traverse", model, "--json").out)["rows"]) == 27
    assert list(pd.read_csv(io.StringIO(run("score", model, data).out)).columns) == ["score"]
    found = json.loads(run("evaluate", model, data, "--json", "--samples", 5).out)
    assert found["rows"] == 300
    said = run("info", model)
    assert said.code == 0
    assert "categorical, 3 levels" in said.out


def test_every_verb_works_on_pictures(work):
    model, data = work / "shapes", work / "dots"
    album = {"samples.png", "reconstructions.png", "interpolation.png", "interpolation.gif", "traversal.png"}
    assert album <= {p.name for p in model.iterdir()}
    for verb in ("reconstruct", "denoise", "impute"):
        assert run(verb, model, data, "-o", work / f"{verb}.npy").code == 0
        assert np.load(work / f"{verb}.npy", allow_pickle=False).shape == (120, 8, 8)
    assert run("sample", model, "-n", 9, "-o", work / "grid.png").code == 0
    with Picture.open(work / "grid.png") as grid:
        assert min(grid.size) > 100
    assert run("sample", model, "-n", 5, "-o", work / "new").code == 0
    assert len(list((work / "new").iterdir())) == 5
    done = run("interpolate", model, work / "dots" / "003.png", f"{data}:7", "-o", work / "way.gif")
    assert done.code == 0, done.err
    with Picture.open(work / "way.gif") as film:
        assert film.n_frames > 20
    with Picture.open(work / "way.png") as strip:
        assert strip.width > 4 * strip.height
    assert run("traverse", model, "-o", work / "walk.png").code == 0
    assert run("traverse", model, f"{data}:7", "-o", work / "walk.npy").code == 0
    assert np.load(work / "walk.npy", allow_pickle=False).shape == (27, 8, 8)
    assert {"walk.png", "walk.gif"} <= {p.name for p in work.iterdir()}
    assert json.loads(run("evaluate", model, data, "--json", "--samples", 2).out)["dim"] == 3
    assert len(run("score", model, data).out.splitlines()) == 121


def test_export_prints_what_it_wrote_and_nothing_else(work):
    refused = run("export", work / "people", "-o", work / "people.onnx")
    assert refused.code == 2
    assert "hint: fit with --recipe vae" in refused.err
    plain = ("--recipe", "vae", "--epochs", 5, "--dim", 3, "--quiet")
    assert run("fit", work / "people.csv", *plain, "-o", work / "plain").code == 0
    done = run("export", work / "plain", "-o", work / "people.onnx", "--json")
    assert (done.code, done.err) == (0, "")
    said = json.loads(done.out)
    for part in ("encoder", "decoder"):
        assert (work / said[part]["file"]).stat().st_size > 1000
    assert run("export", work / "plain").code == 2


def test_synthetic_rows_are_drawn_filled_and_reported_from_the_command_line(work):
    gold = run("sample", work / "people", "-n", 50, "--given", "plan=gold|plus,age>60", "-o", work / "gold.csv")
    assert gold.code == 0
    made = pd.read_csv(work / "gold.csv")
    assert len(made) == 50
    assert made["plan"].isin(["gold", "plus"]).all()
    assert (made["age"] > 60).all()
    even = run("sample", work / "people", "-n", 60, "--balance", "plan")
    assert pd.read_csv(io.StringIO(even.out))["plan"].value_counts().tolist() == [20, 20, 20]
    wrong = run("sample", work / "people", "--given", "plan=golf")
    assert (wrong.code, wrong.out) == (2, "")
    assert "hint: did you mean 'gold'" in wrong.err
    drawn = run("impute", work / "people", work / "people.csv", "--draws", 3, "-o", work / "draws.csv")
    assert drawn.code == 0
    assert pd.read_csv(work / "draws.csv")["draw"].value_counts().tolist() == [300] * 3
    rows = ("--synthetic", "--training", work / "people.csv", "--target", "plan")
    told = run("evaluate", work / "people", work / "people.csv", *rows)
    assert told.code == 0
    assert "floor" in told.out
    assert "closer_to_training" in told.out
    kept = run("evaluate", work / "people", work / "people.csv", *rows, "-o", work / "report.json")
    assert kept.code == 0
    assert "two_sample" in json.loads((work / "report.json").read_text())["figures"]


def test_pictures_are_not_printed(work):
    done = run("sample", work / "shapes")
    assert done.code == 2
    assert "hint: give -o" in done.err


def test_the_model_alone_can_be_the_output(tmp_path, people):
    people.to_csv(tmp_path / "p.csv", index=False)
    assert run("fit", tmp_path / "p.csv", "--epochs", 1, "-o", tmp_path / "p.safetensors", "--quiet").code == 0
    assert [p.name for p in tmp_path.iterdir() if p.suffix != ".csv"] == ["p.safetensors"]


def test_settings_are_set_by_path(tmp_path, people):
    people.to_csv(tmp_path / "p.csv", index=False)
    options = ("--set", "objective.beta=4", "--set", "nets.widths=[16]", "--set", "nets.activation=relu")
    done = run("fit", tmp_path / "p.csv", "--epochs", 1, "--set", "nets=mlp", *options, "-o", tmp_path / "r", "--quiet")
    assert done.code == 0, done.err
    spec = json.loads((tmp_path / "r" / "spec.json").read_text())
    assert (spec["objective"]["beta"], spec["nets"]["widths"], spec["nets"]["activation"]) == (4.0, [16], "relu")


BAD = {
    "a missing path": (lambda d: "fit none.csv", 3, "none.csv"),
    "an empty file": (lambda d: (d / "e.csv").write_text("") or "fit e.csv", 3, "e.csv"),
    "ragged rows": (lambda d: (d / "r.csv").write_text("a,b\n1,2\n1,2,3\n4,5\n") and "fit r.csv", 3, "3"),
    "one row": (lambda d: (d / "o.csv").write_text("a,b\n1,2\n") and "fit o.csv", 3, "1 sample"),
    "infinities": (lambda d: (d / "i.csv").write_text("a,b\n1,2\n2,inf\n3,1\n") and "fit i.csv", 3, "'b', row 1"),
    "columns of one name": (lambda d: (d / "d.csv").write_text("a,a\n1,2\n2,3\n") and "fit d.csv", 3, "a"),
    "an unknown recipe": (
        lambda d: (d / "k.csv").write_text("a,b\n1,2\n3,5\n") and "fit k.csv --recipe vea",
        2,
        "did you mean",
    ),
    "an unknown setting": (
        lambda d: (d / "k.csv").write_text("a,b\n1,2\n3,5\n") and "fit k.csv --set objective.beat=1",
        2,
        "beta",
    ),
    "a bad time": (lambda d: (d / "k.csv").write_text("a,b\n1,2\n3,5\n") and "fit k.csv --time-limit soon", 2, "60s"),
    "an unknown label": (
        lambda d: (d / "k.csv").write_text("a,b\n1,2\n3,5\n") and "fit k.csv --label-col c",
        2,
        "columns: a, b",
    ),
    "no model": (lambda d: "info none.safetensors", 3, "no model"),
    "a foreign model": (
        lambda d: (d / "m.safetensors").write_bytes(b"hello world") and "info m.safetensors",
        4,
        "not a model file",
    ),
    "a folder of nothing": (lambda d: (d / "n").mkdir() or "fit n", 3, "n"),
    "an unknown option": (lambda d: "fit --no-such-thing", 2, "no-such-thing"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_gets_a_message_and_its_exit_code(case, tmp_path):
    make, code, words = BAD[case]
    command = make(tmp_path)
    done = run(*command.split(), cwd=tmp_path)
    assert done.code == code, done.err
    assert words in done.err
    assert "Traceback" not in done.err
    assert done.out == ""
    assert not (tmp_path / "runs").exists() or not list((tmp_path / "runs").rglob("model*"))


NEW = {
    "a missing column": (lambda f: f.drop(columns="age"), 3, "not there: 'age'"),
    "an extra column": (lambda f: f.assign(more=1), 0, "left out: 'more'"),
    "columns in another order": (lambda f: f[list(f.columns)[::-1]], 0, ""),
    "a column of another type": (lambda f: f.assign(age="old"), 3, "'old' is not a number"),
    "a level never seen": (lambda f: f.assign(plan="platinum"), 0, "'plan' (all 300 of 300)"),
    "a column that is all missing": (lambda f: f.assign(income=np.nan), 0, ""),
}


@pytest.mark.parametrize("case", NEW)
def test_a_new_frame_that_differs_is_refused_or_handled_as_stated(case, work, people, tmp_path):
    change, code, words = NEW[case]
    change(people).to_parquet(tmp_path / "new.parquet")
    done = run("encode", work / "people", tmp_path / "new.parquet")
    assert done.code == code, done.err
    assert words in done.err
    assert len(done.out.splitlines()) == (301 if code == 0 else 0)


def test_a_corrupt_picture_is_named_counted_and_the_rest_is_used(work, tmp_path):
    for i, p in enumerate(sorted((work / "dots").iterdir())[:40]):
        (tmp_path / p.name).write_bytes(p.read_bytes() if i else b"no picture")
    done = run("encode", work / "shapes", tmp_path)
    assert done.code == 0
    assert "000.png" in done.err
    assert len(done.out.splitlines()) == 40


def test_a_damaged_model_writes_no_output(work, tmp_path):
    data = bytearray((work / "people" / "model.safetensors").read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "m.safetensors").write_bytes(data)
    done = run("encode", tmp_path / "m.safetensors", work / "people.csv", "-o", tmp_path / "z.csv")
    assert done.code == 4
    assert not (tmp_path / "z.csv").exists()


def test_ctrl_c_ends_with_130_and_keeps_the_model(tmp_path):
    rng = np.random.default_rng(0)
    pd.DataFrame(rng.normal(size=(3000, 6))).to_csv(tmp_path / "x.csv", index=False)
    run_folder = tmp_path / "r"
    command = [LATENTE, "fit", "x.csv", "--epochs", "100000", "--set", "train.patience=100000", "-o", "r"]
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    while not (run_folder / "metrics.jsonl").exists() and process.poll() is None:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted" in err
    assert "Traceback" not in err
    assert (run_folder / "model.safetensors").exists()
    assert json.loads((run_folder / "run.json").read_text())["ended"] == "interrupted"


def test_doctor_and_version_answer():
    assert "verdict" in run("doctor").out
    assert run("--version").out.strip() == "0.1.0"


@pytest.mark.slow
def test_demo_ends_within_a_minute_and_beats_pca_on_pictures(tmp_path):
    start = time.perf_counter()
    done = subprocess.run(
        [LATENTE, "demo", "-o", "d", "--json"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert time.perf_counter() - start < 60
    figures = json.loads(done.stdout)
    assert figures["digits"]["error"] < figures["digits"]["error_pca"]
    assert figures["cancer"]["rank_of_it"] == 1
    assert done.stderr.count("\n  latente ") == 3
