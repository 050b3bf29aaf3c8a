"""Runs that are stopped, killed, damaged or run out of something: what is kept, and how they go on."""

import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import latente as lt
from latente.errors import ConfigError, DataError, ResourceError
from latente.kinds.table import Table
from latente.model.spec import Spec, Train, recipe
from latente.training.checkpoint import CheckpointWarning, Slots
from latente.training.loop import train

LATENTE = [sys.executable, "-m", "latente"]


def table(n=400, seed=0):
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(
        rng.normal(size=(n, 1)) @ np.ones((1, 4)) + 0.1 * rng.normal(size=(n, 4)), columns=list("abcd")
    )
    return frame


def trained(slots=None, stop_at=0, config=None, name="vae", **options):
    """A model and its history; a Ctrl-C comes at evaluation `stop_at`."""
    kind = Table().learn(table())
    base = recipe(name)
    config = config or Train(steps=300, batch_size=100, patience=100)
    model = Spec(kind, None, base.latent, base.prior, base.objective, base.corruption).model(0)

    def report(row, history):
        if len(history.rows) == stop_at:
            signal.raise_signal(signal.SIGINT)

    history = train(model, base.objective, kind.to_batch(table()), kind, config, report, slots=slots, **options)
    return model, history


def same(a, b):
    return all(torch.equal(p, q) for p, q in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


AGGRESSIVE = recipe("vae").override("objective.aggressive", 0.8)


@pytest.mark.parametrize("name", ["vae", "ae", "denoising", "mixture", "geco", AGGRESSIVE], ids=str)
def test_a_run_that_was_stopped_ends_with_the_weights_of_one_that_was_not(tmp_path, name):
    whole, history = trained(name=name)
    _, stopped = trained(Slots(tmp_path), stop_at=2, name=name)
    assert stopped.ended == "interrupted"
    assert 0 < stopped.steps < history.steps
    again, resumed = trained(Slots(tmp_path), name=name)
    assert same(whole, again)
    drop = ("seconds",)
    rows = [[{k: v for k, v in row.items() if k not in drop} for row in h.rows] for h in (history, resumed)]
    assert rows[0] == rows[1]
    assert resumed.resumed == 1


def test_a_second_ctrl_c_does_not_wait(tmp_path):
    def report(row, history):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    kind, base = Table().learn(table()), recipe("ae")
    model = Spec(kind, None, base.latent, base.prior, base.objective).model(0)
    history = train(model, base.objective, kind.to_batch(table()), kind, Train(steps=300), report)
    assert history.ended == "interrupted"
    assert len(history.rows) == 1


def test_the_handlers_of_signals_are_put_back():
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    trained(config=Train(steps=3))
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def flip(path: Path, at=-40):
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(bytes(data))


def newest(folder: Path) -> Path:
    return max(folder.glob("*.safetensors"), key=lambda p: json.loads(document(p))["number"])


def document(path: Path) -> str:
    data = path.read_bytes()
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    return header["__metadata__"]["latente"]


@pytest.mark.parametrize("at", [-40, 5, 300], ids=["a tensor", "the length", "the header"])
def test_a_flipped_bit_falls_back_to_the_other_slot_and_says_so(tmp_path, at):
    whole, _ = trained()
    trained(Slots(tmp_path), stop_at=2)
    assert len(list(tmp_path.iterdir())) == 2
    flip(newest(tmp_path), at)
    with pytest.warns(CheckpointWarning, match=r"the other one is used, of step \d+"):
        again, history = trained(Slots(tmp_path))
    assert same(whole, again)
    assert history.resumed == 1


def test_without_a_whole_checkpoint_the_run_starts_anew(tmp_path):
    whole, _ = trained()
    trained(Slots(tmp_path), stop_at=2)
    for path in tmp_path.iterdir():
        path.write_bytes(path.read_bytes()[:-100])
    with pytest.warns(CheckpointWarning, match="is cut off") as notes:
        again, history = trained(Slots(tmp_path))
    assert all("starts anew" in str(n.message) for n in notes)
    assert same(whole, again)
    assert history.resumed == 0


def test_a_checkpoint_of_another_run_is_refused(tmp_path):
    trained(Slots(tmp_path, {"data": "a"}), stop_at=1)
    with pytest.raises(ConfigError, match="the data differ"):
        trained(Slots(tmp_path, {"data": "b"}))


def test_checkpoints_cost_at_most_a_twentieth_of_the_time():
    slots = Slots()
    slots._cost = 3.0
    assert not slots.due(59.0)
    assert slots.due(60.0)
    slots._cost = 0.001
    assert slots.due(1.0)
    # Far into a run, a fiftieth of what was done.
    slots._last = 1000.0
    assert not slots.due(1015.0)
    assert slots.due(1021.0)


def test_a_run_that_diverges_goes_back_in_smaller_steps_and_names_what_began_it():
    model, history = trained(config=Train(steps=300, lr=1e5, clip=1e9, lr_warmup=0.0, batch_size=100))
    assert history.rollbacks
    assert "rows " in history.rollbacks[0]
    assert "column '" in history.rollbacks[0]
    assert history.skipped >= 10
    assert any(f.startswith("rolled back") for f in history.findings)
    assert all(torch.isfinite(p).all() for p in model.parameters())


def test_a_run_is_given_up_after_five_rollbacks():
    class Broken:
        def __call__(self, model, batch):
            loss = recipe("ae").objective(model, batch)
            return type(loss)(loss.total * float("nan") if model.training else loss.total, loss.terms)

    kind, base = Table().learn(table()), recipe("ae")
    model = Spec(kind, None, base.latent, base.prior, base.objective).model(0)
    history = train(model, Broken(), kind.to_batch(table()), kind, Train(steps=300))
    assert history.ended == "diverged"
    assert len(history.rollbacks) == 6
    assert any("given up" in f for f in history.findings)


class _Hungry:
    """The ae objective, which finds no memory for more than `most` rows."""

    def __init__(self, most):
        self.most = most

    def __call__(self, model, batch):
        if model.training and len(batch) > self.most:
            # More than any machine has: the allocator itself refuses.
            torch.empty(1 << 60, dtype=torch.uint8)
        return recipe("ae").objective(model, batch)


def hungry(most):
    kind, base = Table().learn(table()), recipe("ae")
    model = Spec(kind, None, base.latent, base.prior, base.objective).model(0)
    return model, train(model, _Hungry(most), kind.to_batch(table()), kind, Train(steps=30, batch_size=100))


def test_when_memory_runs_out_a_batch_is_taken_in_parts_with_the_same_result():
    (whole, one), (parted, history) = hungry(100), hungry(30)
    assert (one.parts, history.parts) == (1, 4)
    assert any("memory ran out" in f for f in history.findings)
    for p, q in zip(whole.parameters(), parted.parameters(), strict=True):
        # Sums of four parts instead of one; Adam turns rounding of tiny gradients into differences of its step size.
        assert torch.allclose(p, q, atol=5e-3)


def test_when_not_even_two_rows_fit_the_error_says_so():
    with pytest.raises(ResourceError, match="memory ran out in a step of"):
        hungry(1)


# ── run folders ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def data(tmp_path):
    table(2000).to_csv(tmp_path / "data.csv", index=False)
    return tmp_path / "data.csv"


def stopped(data, folder, epochs=400):
    """A run of the command line, stopped by SIGTERM once it has written rows of its history."""
    command = [*LATENTE, "fit", str(data), "-o", str(folder), "--epochs", str(epochs), "--dim", "2"]
    process = subprocess.Popen([*command, "--set", "train.patience=9999"], stderr=subprocess.PIPE, text=True)
    while not (folder / "metrics.jsonl").exists():
        assert process.poll() is None, process.stderr.read()
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    return process.returncode, said


@pytest.mark.slow
def test_a_stopped_run_tells_how_to_go_on_and_goes_on(tmp_path, data):
    code, said = stopped(data, tmp_path / "run", epochs=60)
    assert code == 130
    assert f"latente resume {tmp_path / 'run'}" in said
    assert json.loads((tmp_path / "run/run.json").read_text())["status"] == "stopped"
    assert (tmp_path / "run/model.safetensors").exists()
    done = subprocess.run([*LATENTE, "resume", str(tmp_path / "run")], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(tmp_path / "run")
    run = json.loads((tmp_path / "run/run.json").read_text())
    assert (run["status"], run["ended"], run["resumed"]) == ("finished", "planned steps", 1)
    steps = [json.loads(row)["steps"] for row in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert steps == sorted(set(steps))
    assert not (tmp_path / "run/checkpoints").exists()
    lt.fit(str(data), output=tmp_path / "alone", epochs=60, dim=2, set=["train.patience=9999"], quiet=True)
    assert (tmp_path / "alone/model.safetensors").read_bytes() == (tmp_path / "run/model.safetensors").read_bytes()
    with pytest.raises(ConfigError, match="is finished: planned steps after"):
        lt.resume(tmp_path / "run")


def test_a_run_whose_data_specification_or_folder_changed_is_not_resumed(tmp_path, data):
    stopped(data, tmp_path / "run")
    text = data.read_text()
    data.write_text(text.replace("\n", "\n0.5,0.5,0.5,0.5\n", 2).replace("\n0.5,0.5,0.5,0.5\n", "\n", 1))
    with pytest.raises(ConfigError, match=r"the data of .* changed since the run began"):
        lt.resume(tmp_path / "run")
    data.write_text(text)
    spec = (tmp_path / "run/spec.json").read_text()
    (tmp_path / "run/spec.json").write_text(spec.replace('"beta": 1.0', '"beta": 2.0'))
    with pytest.raises(ConfigError, match="is not the specification with which the run began"):
        lt.resume(tmp_path / "run")
    (tmp_path / "run/spec.json").write_text(spec)
    run = json.loads((tmp_path / "run/run.json").read_text())
    run["estimator"]["settings"]["train.lr"] = 0.5
    (tmp_path / "run/run.json").write_text(json.dumps(run))
    with pytest.raises(ConfigError, match=r"the specification of .* changed"):
        lt.resume(tmp_path / "run")
    data.unlink()
    with pytest.raises(DataError, match="there is no file"):
        lt.resume(tmp_path / "run")


def test_what_is_no_run_cannot_be_resumed(tmp_path):
    with pytest.raises(DataError, match="there is no run in"):
        lt.resume(tmp_path / "nowhere")
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(DataError, match=r"run\.json cannot be used"):
        lt.resume(tmp_path)
    (tmp_path / "run.json").write_text('{"status": "running"}')
    with pytest.raises(DataError, match="says nothing of how the run was begun"):
        lt.resume(tmp_path)


def test_a_run_on_data_in_memory_is_resumed_with_the_data(tmp_path):
    def stop(row, history):
        signal.raise_signal(signal.SIGINT)

    from latente.uses import rows, runs

    frame, ae = table(2000), lt.Autoencoder("ae", dim=2, epochs=20, random_state=3)
    printer, runs.printer = runs.printer, lambda: stop
    try:
        with pytest.raises(KeyboardInterrupt, match="go on with: latente resume"):
            runs.fit(ae, rows.Loaded(frame), tmp_path / "run")
    finally:
        runs.printer = printer
    with pytest.raises(ConfigError, match="were given in memory"):
        lt.resume(tmp_path / "run")
    again = lt.resume(tmp_path / "run", data=frame, quiet=True)
    whole = lt.Autoencoder("ae", dim=2, epochs=20, random_state=3).fit(frame)
    assert np.array_equal(again.transform(frame), whole.transform(frame))


def test_two_processes_do_not_work_on_one_run(tmp_path, data):
    stopped(data, tmp_path / "run")
    import fcntl

    handle = os.open(tmp_path / "run", os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    with pytest.raises(ConfigError, match="another process is working on the run"):
        lt.resume(tmp_path / "run")
    os.close(handle)


@pytest.mark.slow
def test_a_full_disk_keeps_the_last_checkpoint_and_exits_5(tmp_path, data):
    code, _ = stopped(data, tmp_path / "run")
    assert code == 130
    size = newest(tmp_path / "run/checkpoints").stat().st_size
    before = {p.name: p.read_bytes() for p in (tmp_path / "run/checkpoints").iterdir()}

    def small():
        # A file may not grow beyond this: what the kernel says then is what it says of a full disk.
        resource.setrlimit(resource.RLIMIT_FSIZE, (size // 2, size // 2))

    done = subprocess.run(
        [*LATENTE, "resume", str(tmp_path / "run"), "--quiet"],
        capture_output=True,
        text=True,
        preexec_fn=small,
        check=False,
        env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},
    )
    assert done.returncode == 5, done.stderr
    assert "cannot be written" in done.stderr
    assert {p.name: p.read_bytes() for p in (tmp_path / "run/checkpoints").iterdir()} == before
    subprocess.run([*LATENTE, "resume", str(tmp_path / "run"), "--quiet"], check=True, capture_output=True)


@pytest.mark.parametrize(("kills", "runs"), [(1, 1), pytest.param(20, 4, marks=pytest.mark.slow)])
def test_killed_runs_end_bit_for_bit_as_if_nothing_had_happened(kills, runs):
    bench = Path(__file__).parents[1] / "bench" / "kill.py"
    command = [sys.executable, str(bench), "--kills", str(kills), "--runs", str(runs)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    figures = json.loads(done.stdout.splitlines()[-1])["figures"]
    assert (figures["kills"], figures["identical"]) == (kills, kills)


def test_a_run_that_is_asked_to_stop_is_interrupted_even_where_patience_ends(tmp_path):
    config = Train(steps=4000, batch_size=100, patience=1, lr=0.03)
    whole, history = trained(config=config)
    assert history.ended == "early stopping"
    # Stopped just before the look that ends it; the last look of the stopped run finds it no better.
    _, stopped = trained(Slots(tmp_path), stop_at=len(history.rows) - 1, config=config)
    assert stopped.ended == "interrupted"
    again, _ = trained(Slots(tmp_path), config=config)
    assert same(whole, again)


def test_where_a_run_goes_back_to_does_not_depend_on_the_clock(tmp_path, monkeypatch):
    config = Train(steps=300, lr=1e4, clip=1e9, lr_warmup=0.0, batch_size=100, patience=999)
    models = []
    for often in (True, False):
        monkeypatch.setattr(Slots, "due", lambda self, seconds, often=often: often)
        models.append(trained(config=config))
    assert models[0][1].rollbacks == models[1][1].rollbacks != []
    assert same(models[0][0], models[1][0])


def test_ctrl_c_waits_for_what_must_be_whole_whatever_threads_there_are():
    import threading

    from latente.atomic import uninterrupted

    def work():
        with uninterrupted():
            os.kill(os.getpid(), signal.SIGINT)
            done.append("all of it")

    done, halt = [], threading.Event()
    other = threading.Thread(target=halt.wait)
    other.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            work()
    finally:
        halt.set()
        other.join()
    assert done == ["all of it"]


def test_a_checkpoint_that_lacks_something_is_refused(tmp_path):
    trained(Slots(tmp_path), stop_at=1)
    slots = Slots(tmp_path)
    saved = slots.load()
    tensors = {n: t for n, t in saved.tensors.items() if n != "optimiser.first"}
    slots.save(saved.document, tensors, 0.0)
    slots.save(saved.document, tensors, 0.0)
    with pytest.raises(lt.ModelFileError, match=r"lacks first"):
        trained(Slots(tmp_path))


@pytest.mark.parametrize("change", [
    {"processes": "x"}, {"sharding": None}, {"status": None}, {"estimator": {"nothing": 1}}, {"read": {"nothing": 1}},
    {"identity": "x"}, {"identity": {}},
], ids=str)  # fmt: skip
def test_a_run_json_that_somebody_changed_is_refused_in_words(tmp_path, data, change):
    lt.fit(str(data), output=tmp_path / "run", epochs=1, dim=2, quiet=True)
    path = tmp_path / "run/run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"status": "running"} | change))
    with pytest.raises((DataError, ConfigError), match=r"run\.json cannot be used|changed since"):
        lt.resume(tmp_path / "run")


def test_a_spec_json_that_cannot_be_read_is_refused(tmp_path, data):
    lt.fit(str(data), output=tmp_path / "run", epochs=1, dim=2, quiet=True)
    path = tmp_path / "run/run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"status": "running"}))
    (tmp_path / "run/spec.json").write_bytes(b"\xff\xfe{")
    with pytest.raises(ConfigError, match="is not the specification with which the run began"):
        lt.resume(tmp_path / "run")


def test_data_that_were_moved_are_asked_for_and_remembered(tmp_path, data):
    lt.fit(str(data), output=tmp_path / "run", epochs=1, dim=2, quiet=True)
    path = tmp_path / "run/run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"status": "running"}))
    moved = data.rename(tmp_path / "moved.csv")
    with pytest.raises(DataError, match="there is no file") as error:
        lt.resume(tmp_path / "run")
    assert "--data PLACE" in error.value.hint
    lt.resume(tmp_path / "run", data=str(moved), quiet=True)
    assert json.loads(path.read_text())["path"] == str(moved)
    with pytest.raises(DataError, match="is a file, and a run is a folder"):
        lt.resume(path)


def test_fit_answers_with_one_json_object(tmp_path, data):
    command = [
        *LATENTE,
        "fit",
        str(data),
        "--epochs",
        "1",
        "--dim",
        "2",
        "--json",
        "--quiet",
        "-o",
        str(tmp_path / "run"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    assert (found["run"], found["dim"], found["ended"]) == (str(tmp_path / "run"), 2, "planned steps")
