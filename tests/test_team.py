"""Several processes that train one model."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
import torch

import latente as lt
from latente.errors import ConfigError
from latente.model.batch import Batch
from latente.model.noise import Shared, bernoulli, normal, others, uniform
from latente.model.spec import Train
from latente.training.feed import Resident
from latente.training.team import Team

LATENTE = [sys.executable, "-m", "latente"]


@pytest.fixture
def data(tmp_path):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(1503, 2)) @ rng.normal(size=(2, 6)) + 0.3 * rng.normal(size=(1503, 6))
    pd.DataFrame(x, columns=list("abcdef")).to_csv(tmp_path / "data.csv", index=False)
    return tmp_path / "data.csv"


def curve(run):
    rows = [json.loads(row) for row in (run / "metrics.jsonl").read_text().splitlines()]
    return np.array([[row["train"]["loss"], row["val"]["loss"]] for row in rows])


def test_the_rows_of_two_processes_are_disjoint_and_make_up_the_batches_of_one():
    batch = Batch(torch.arange(103.0)[:, None])
    config = Train(batch_size=20, validation=0.0)
    feeds = [Resident(batch, config, team=team) for team in (Team(), Team(0, 2), Team(1, 2))]
    for one, first, second in zip(*(feed.epoch(3) for feed in feeds), strict=True):
        both = [*first.batch.x.flatten().tolist(), *second.batch.x.flatten().tolist()]
        assert sorted(both) == sorted(one.batch.x.flatten().tolist())
        assert len(set(both)) == one.total == first.total == second.total


@pytest.mark.parametrize("draw", [
    lambda g, n: normal((2, n, 3), g, torch.device("cpu"), rows=1).transpose(0, 1),
    lambda g, n: uniform((n, 3), g, torch.device("cpu")),
    lambda g, n: bernoulli(torch.full((n, 3), 0.5), g),
])  # fmt: skip
def test_the_draws_of_two_processes_are_those_of_one(draw):
    found = []
    for rank, size in ((0, 1), (0, 2), (1, 2)):
        generator = Shared()
        generator.manual_seed(5)
        generator.rank, generator.size, generator.total = rank, size, 9 if size > 1 else 0
        found.append(draw(generator, len(range(rank, 9, size))))
    assert torch.equal(found[0][0::2], found[1])
    assert torch.equal(found[0][1::2], found[2])


def test_rows_are_swapped_with_rows_of_the_same_process():
    generator = Shared()
    generator.manual_seed(5)
    generator.rank, generator.size, generator.total = 1, 2, 9
    assert set(others(4, generator, torch.device("cpu")).tolist()) <= set(range(4))


@pytest.mark.parametrize("sharding", ["none", pytest.param("full", marks=pytest.mark.slow)])
def test_two_processes_learn_as_one_does(tmp_path, data, sharding):
    options = {"recipe": "vae", "epochs": 6, "dim": 2, "quiet": True}
    lt.fit(str(data), output=tmp_path / "one", **options)
    ae = lt.fit(str(data), output=tmp_path / "two", processes=2, sharding=sharding, **options)
    # Sums of two halves instead of one whole: only rounding differs.
    assert np.abs(curve(tmp_path / "one") - curve(tmp_path / "two")).max() < 1e-3
    run = json.loads((tmp_path / "two/run.json").read_text())
    assert (run["processes"], run["batch"], run["sharding"]) == (2, 128, sharding)
    alone = lt.load(tmp_path / "one")
    frame = pd.read_csv(data)
    assert np.allclose(ae.transform(frame), alone.transform(frame), atol=1e-2)


@pytest.mark.slow
def test_a_dead_process_ends_all_with_a_named_error_and_the_run_can_be_resumed(tmp_path, data):
    run = tmp_path / "run"
    command = [
        *LATENTE,
        "fit",
        str(data),
        "-o",
        str(run),
        "--epochs",
        "60",
        "--processes",
        "2",
        "--dim",
        "2",
        "--quiet",
    ]
    team = subprocess.Popen([*command, "--set", "train.patience=999"], stderr=subprocess.PIPE, text=True)
    while not (run / "metrics.jsonl").exists():
        assert team.poll() is None, team.stderr.read()
        time.sleep(0.01)
    children = subprocess.run(["pgrep", "-P", str(team.pid)], capture_output=True, text=True, check=True).stdout.split()
    ranks = {rank_of(pid): int(pid) for pid in children}
    os.kill(ranks["1"], signal.SIGKILL)
    _, said = team.communicate(timeout=90)
    assert team.returncode == 5, said
    assert "process 1 of 2 was ended by signal 9" in said
    assert f"latente resume {run}" in said
    lt.resume(run, quiet=True)
    done = json.loads((run / "run.json").read_text())
    assert (done["status"], done["processes"], done["resumed"]) == ("finished", 2, 1)


def rank_of(pid):
    with open(f"/proc/{pid}/environ", "rb") as file:
        pairs = dict(p.split(b"=", 1) for p in file.read().split(b"\0") if b"=" in p)
    return pairs[b"RANK"].decode()


@pytest.mark.slow
def test_torchrun_starts_a_team_too(tmp_path, data):
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    more = ["-m", "latente", "fit", str(data), "-o", str(tmp_path / "run"), "--epochs", "2", "--dim", "2", "--quiet"]
    done = subprocess.run([*torchrun, *more], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(tmp_path / "run")]
    assert json.loads((tmp_path / "run/run.json").read_text())["processes"] == 2


def test_data_in_memory_are_not_for_several_processes():
    with pytest.raises(ConfigError, match="several processes each read the data"):
        lt.fit(pd.DataFrame({"a": [1.0, 2.0]}), processes=2)


@pytest.mark.slow
def test_an_error_of_the_user_is_said_once(tmp_path, data):
    command = [*LATENTE, "fit", str(data), "--processes", "2", "--label-col", "nowhere", "-o", str(tmp_path / "run")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 2
    assert done.stderr.count("there is no column 'nowhere'") == 1


@pytest.mark.slow
def test_a_batch_that_a_team_cannot_share_is_refused(tmp_path, data):
    more = ["--processes", "2", "--set", "train.batch_size=2", "--stream", "yes", "-o", str(tmp_path / "run")]
    done = subprocess.run([*LATENTE, "fit", str(data), *more], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 2
    assert "cannot be shared by 2 processes" in done.stderr


@pytest.mark.parametrize("environment", [
    {"WORLD_SIZE": "abc"}, {"WORLD_SIZE": "2", "RANK": "0"}, {"WORLD_SIZE": ""},
    {"WORLD_SIZE": "2", "RANK": "5", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29999"},
], ids=str)  # fmt: skip
def test_an_environment_that_is_not_torchruns_is_an_error_in_words(data, environment, monkeypatch):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match="WORLD_SIZE is set, and the rest is not as torchrun sets it"):
        lt.fit(str(data), epochs=1, quiet=True)


@pytest.mark.parametrize("options", [{"processes": 0}, {"sharding": "full"}], ids=str)
def test_teams_that_cannot_be_are_refused(data, options):
    with pytest.raises(ConfigError, match="process"):
        lt.fit(str(data), epochs=1, quiet=True, **options)
