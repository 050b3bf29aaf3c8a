"""Run folders: a fit, everything it said, and what it left. A run that was stopped goes on from its checkpoints.

run.json  spec.json  metrics.jsonl  model.safetensors  latent.parquet  log.txt  checkpoints/
[samples.txt  ways.txt]  [samples.mid  samples.png  samples.wav]
[reconstructions.png  samples.png  interpolation.png  interpolation.gif  traversal.png]  [tensorboard/]

run.json is written first, with what was asked for, so that a run can be resumed from any moment on; its `status` is
"running" until all else is written.
"""

import contextlib
import hashlib
import inspect
import itertools
import json
import math
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from .. import __version__, estimator
from ..atomic import atomic_write, uninterrupted
from ..errors import ConfigError, DataError
from ..estimator import Autoencoder
from ..kinds.image import Image
from ..kinds.sequences import Sequences
from ..kinds.sources import Read, Source
from ..kinds.writing import write
from ..kinds.writing_blocks import append_to
from ..model.spec import Spec
from ..parts import to_json
from ..training.checkpoint import Slots
from ..training.doctor import said
from ..training.progress import line, printer
from ..training.stop import Stop
from ..training.team import ALONE, Team, start
from . import pictures
from .rows import Loaded, load, places
from .specimens import specimens


def fit(
    ae: Autoencoder,
    data: Loaded,
    output: Any,
    *,
    quiet: bool = False,
    options: dict[str, Any] | None = None,
    tensorboard: bool = False,
    team: Team = ALONE,
    started: float | None = None,
) -> Autoencoder:
    """Fit, and write the run folder or the model file; after Ctrl-C too, with what was learned until then.

    options: how the data were read, for `resume`. started: when the time limit began to run.
    """
    show = (lambda row, history: None) if quiet or not team.leads else printer()
    if output is None:
        return ae._fit(data.raw, data.labels, report=show, team=team, started=started)
    # The leader's, where each process has a default of its own.
    target = Path(team.gathered(str(output))[0])
    if target.suffix == ".safetensors":
        with _uninterrupted_after(
            ae, partial(ae._fit, data.raw, data.labels, report=show, team=team, started=started), target
        ):
            if team.leads:
                ae.save(target)
        return ae
    if isinstance(ae.init, Autoencoder):
        raise ConfigError(
            "a run folder needs the file of the model that it goes on from",
            hint="model.save('m.safetensors'), then that",
        )
    run = {
        "latente": __version__,
        "status": "running",
        "data": data.name,
        "path": data.path,
        "read": options or {},
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "command": sys.argv[1:] if Path(sys.argv[0]).name in ("latente", "__main__.py") else None,
        "processes": team.size,
        "sharding": team.sharding,
        "tensorboard": tensorboard,
        "estimator": _settings(ae),
    }
    if tensorboard:
        _summary_writer()  # not there: better said now than after reading
    if team.leads:
        claim(target)
        write(run, target / "run.json")
    team.gathered(None)  # the folder is there
    try:
        return _go(ae, data, target, run, show, team, started)
    except BaseException as error:
        # What never took a step has nothing to go on from, and what is refused in its first would be so again.
        refused = isinstance(error, ConfigError) and not (target / "metrics.jsonl").exists()
        if team.leads and (refused or not (target / "checkpoints").exists()):
            shutil.rmtree(target, ignore_errors=True)
        raise


def resume(folder: Any, data: Any = None, *, quiet: bool = False, team: Team = ALONE) -> Autoencoder:
    """Go on with the run of a folder, from its newest whole checkpoint; see `latente.resume`."""
    target = Path(folder)
    run = read_run(target)
    if run.get("status") == "finished":
        raise ConfigError(
            f"the run {target} is finished: {run.get('ended')} after {run.get('steps', 0):,} steps",
            hint=f"latente info {target} tells of it; latente fit starts another",
        )
    if data is None and run["path"] is None:
        raise ConfigError(
            f"the data of {target} were given in memory, and are needed again",
            hint=f"latente.resume({str(target)!r}, data=df)",
        )
    try:
        ae = Autoencoder(**run["estimator"])
        reading = partial(load, data if data is not None else run["path"], **run["read"])
        inspect.signature(load).bind("", **run["read"])
    except TypeError as error:
        raise DataError(f"{target / 'run.json'} cannot be used: {error}", hint="start the run anew") from None
    try:
        loaded = reading()
    except DataError as error:
        if data is not None or (run["path"] and Path(run["path"]).exists()):
            raise
        raise DataError(error.problem, hint=f"if they were moved: latente resume {target} --data PLACE") from None
    run["path"] = loaded.path or run["path"]
    show = (lambda row, history: None) if quiet or not team.leads else printer()
    return _go(ae, loaded, target, run, show, team, time.perf_counter())


def fit_together(data: Any, given: dict[str, Any], processes: int) -> Autoencoder:
    """`latente fit` in several processes of this machine; the fitted model."""
    if not isinstance(data, (str, Path)):
        raise ConfigError(
            "several processes each read the data, and these are in memory",
            hint="write them to a file first: df.to_parquet('data.parquet')",
        )
    with contextlib.ExitStack() as stack:
        output = given.get("output")
        if output is None:
            output = given["output"] = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "model.safetensors"
        command = ["fit", str(data)]
        for name, value in given.items():
            flag = f"--{name.replace('_', '-')}"
            for one in value if isinstance(value, (list, tuple)) else [value]:
                command += [flag] if one is True else [flag, str(one)]
        start(command, processes, output)
        return estimator.load(output)


def resume_together(folder: Any, data: Any, quiet: bool, processes: int) -> Autoencoder:
    """`latente resume` in as many processes as the run began with."""
    more = ["--quiet"] if quiet else []
    start(["resume", str(folder), *more, *([] if data is None else ["--data", str(data)])], processes, folder)
    return estimator.load(folder)


def read_run(folder: Path) -> dict[str, Any]:
    """run.json of a run folder. Raises DataError if there is none, or it is no run's."""
    path = folder / "run.json"
    if folder.is_file():
        raise DataError(f"{folder} is a file, and a run is a folder", hint=f"latente resume {folder.parent}")
    try:
        run = json.loads(path.read_text(encoding="utf-8"))
        if all(isinstance(run.get(key), kind) for key, kind in _KEPT.items()):
            return run
        problem = "it says nothing of how the run was begun"
    except FileNotFoundError:
        raise DataError(f"there is no run in {folder}", hint="latente fit DATA starts one in runs/") from None
    except (OSError, ValueError, AttributeError) as error:
        problem = str(error)
    raise DataError(f"{path} cannot be used: {problem}", hint="start the run anew: latente fit DATA")


# What `resume` needs of run.json.
_KEPT = {"status": str, "path": str | None, "read": dict, "estimator": dict, "processes": int, "sharding": str}


def claim(folder: Path) -> None:
    """Make the run's folder; one that holds something already is not written into."""
    # What a run leaves that was killed while it wrote its very first file is nothing to keep.
    if folder.exists() and (not folder.is_dir() or any(not p.match(".latente-*.part") for p in folder.iterdir())):
        unfinished = (folder / "run.json").exists() and read_run(folder)["status"] != "finished"
        hint = f"latente resume {folder}, if you want to go on with it" if unfinished else f"choose -o {folder}-2"
        raise ConfigError(f"{folder} is there already", hint=hint)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"{folder} cannot be made: {error.strerror}", hint="choose a folder that you may write to"
        ) from None


def _go(
    ae: Autoencoder,
    data: Loaded,
    target: Path,
    run: dict[str, Any],
    show: Callable[[Any, Any], None],
    team: Team,
    started: float | None,
) -> Autoencoder:
    log = _Log(
        target,
        show,
        team,
        _summary_writer()(str(target / "tensorboard")) if run.get("tensorboard") and team.leads else None,
    )
    with _alone_in(target) if team.leads else contextlib.nullcontext():
        work = partial(
            ae._fit,
            data.raw,
            data.labels,
            report=log,
            slots=partial(_slots, target, run, team),
            team=team,
            started=started,
        )
        with _uninterrupted_after(ae, work, target):
            if team.leads:
                _finish(ae, data, target, run)
    return ae


def _slots(target: Path, run: dict[str, Any], team: Team, spec: Spec, fingerprint: str) -> Slots:
    """The run's checkpoints, once it is sure that specification and data are those with which it began."""
    document = spec.to_json() | {"kind": None if spec.kind is None else to_json(spec.kind)}
    text = json.dumps(document, sort_keys=True)
    identity = {"specification": hashlib.sha256(text.encode()).hexdigest(), "data": fingerprint}
    if team.sharding == "full":
        identity["number of processes"] = str(team.size)
    asked = run.get("identity", identity)
    for name, value in identity.items():
        if not isinstance(asked, dict) or asked.get(name) != value:
            raise ConfigError(
                f"the {name} of {target} changed since the run began",
                hint=f"put the {name} back as before, or start another run: latente fit DATA",
            )
    if team.leads:
        if "identity" in run and _read_json(target / "spec.json") != document:
            raise ConfigError(
                f"{target / 'spec.json'} is not the specification with which the run began",
                hint="put it back as it was, or start another run: latente fit DATA --recipe spec.json",
            )
        for litter in (*target.glob(".latente-*.part"), *target.glob("checkpoints/.latente-*.part")):
            litter.unlink(missing_ok=True)
        if "identity" not in run:
            write(document, target / "spec.json")
            write(run | {"identity": identity}, target / "run.json")
        run["identity"] = identity
    return Slots(target / "checkpoints", identity, team)


def _read_json(path: Path) -> Any:
    """What a file says, or None if it cannot be read."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


@contextmanager
def _uninterrupted_after(ae: Autoencoder, work: Callable[[], Any], target: Path) -> Iterator[None]:
    """Work; then, if it came to its end or was stopped with something learned, do what follows in one piece."""
    stopped = False
    try:
        work()
    except KeyboardInterrupt:
        if not hasattr(ae, "card_"):
            raise KeyboardInterrupt(_left(target)) from None
        stopped = True
    with uninterrupted():
        yield
    if stopped:
        raise KeyboardInterrupt(f"what was learned until now is in {target}; {_left(target)}")


def _left(target: Path) -> str:
    """What the user who stopped a run can do."""
    if target.suffix == ".safetensors" or not (target / "checkpoints").exists():
        return "nothing is left to go on from"
    return f"go on with: latente resume {target}"


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """One process at a time writes a run folder. The lock goes with the process, however it ends."""
    try:
        import fcntl
    except ImportError:  # a system without it: the user sees to this
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(
                f"another process is working on the run {folder}", hint="wait until it is done, or stop it"
            ) from None
        yield
    finally:
        os.close(handle)


def _settings(ae: Autoencoder) -> dict[str, Any]:
    """The estimator's settings as JSON can hold them."""
    found: dict[str, Any] = {}
    for name, value in ae.get_params(deep=False).items():
        if isinstance(value, Spec):
            found[name] = value.to_json()
        elif isinstance(value, Path) or (name == "recipe" and str(value).endswith((".toml", ".json"))):
            # The file may be another one by the time the run goes on.
            from ..model.spec import recipe

            found[name] = recipe(value).to_json()
        else:
            found[name] = to_json(value) if hasattr(value, "role") else value
    seed = found["random_state"]
    if not isinstance(seed, int):
        from ..estimator import _seed

        ae.random_state = found["random_state"] = _seed(seed)
    return found


class _Log:
    """A `report` that shows each row and keeps it in metrics.jsonl, and for TensorBoard, while the run goes on."""

    def __init__(self, folder: Path, show: Callable[[Any, Any], None], team: Team, board: Any = None) -> None:
        self.show, self.folder, self.team, self.board = show, folder, team, board
        self.begun = False

    def __call__(self, row: dict[str, Any], history: Any) -> None:
        self.show(row, history)
        if not self.team.leads or "beside" in row:  # of something else than the model
            return
        if self.board is not None:
            for name, value in _flat(row):
                self.board.add_scalar(name, value, row["steps"])
            self.board.flush()
        path = self.folder / "metrics.jsonl"
        if self.begun:
            with path.open("a", encoding="utf-8") as file:
                file.write(_metrics(row))
        else:
            # Rows that a stopped run wrote after its last checkpoint come again.
            atomic_write(path, "".join(map(_metrics, history.rows)).encode())
            self.begun = True


def _flat(row: dict[str, Any], before: str = "") -> Iterator[tuple[str, float]]:
    """The numbers of a row: val/loss, train/kl, active, …"""
    for name, value in row.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{before}{name}/")
        elif name not in ("steps", "share", "best", "doctor"):
            yield before + name, float(value)


def _summary_writer() -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ConfigError(
            f"TensorBoard cannot be used: {error}",
            hint="pip install 'latente[tensorboard]', or leave --tensorboard out",
        ) from None
    return SummaryWriter


def _metrics(row: dict[str, Any]) -> str:
    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: plain(v) for k, v in value.items()}
        # JSON has no NaN and no infinity.
        return None if isinstance(value, float) and not math.isfinite(value) else value

    return json.dumps(plain(row)) + "\n"


def _write_codes(ae: Autoencoder, data: Loaded, path: Path) -> None:
    """The codes of all rows, with their labels where there are any; of a stream block by block."""

    def codes(raw: Any, labels: Any) -> pd.DataFrame:
        frame = pd.DataFrame(ae.transform(raw), columns=[f"z{i}" for i in range(ae._n_features_out)])
        frame = pd.concat([places(ae, raw), frame], axis=1)
        if labels is not None and len(labels) == len(frame):
            frame["label"] = labels
        return frame

    if not isinstance(data.raw, Source):
        write(codes(data.raw, data.labels), path)
        return
    labels = data.labels() if data.labels else itertools.repeat(None)
    with append_to(path) as out:
        for block, label in zip(range(len(data.raw.sizes)), labels, strict=False):
            raw = data.raw.read(block)
            out.add(codes(Read(raw), getattr(raw, "labels", None) if label is None else label))


def _finish(ae: Autoencoder, data: Loaded, target: Path, run: dict[str, Any]) -> None:
    ae.save(target / "model.safetensors")
    if ae.history_.privacy is None:
        # Codes of the training rows would say what a private fit keeps to itself.
        _write_codes(ae, data, target / "latent.parquet")
    if isinstance(ae.schema_, Image):
        pictures.album(ae, data.raw.read(0) if isinstance(data.raw, Source) else data.raw, target)
    if isinstance(ae.schema_, Sequences):
        specimens(ae, data.raw, target)
    h = ae.history_
    words = [
        *(line(row, h) for row in h.rows),
        f"ended: {h.ended}",
        *(f"at step {act['step']}: {act['words']}" for act in h.interventions),
        *(f"doctor: {f}" for f in said(h.verdict, h.findings)),
    ]
    atomic_write(target / "log.txt", ("\n".join(words) + "\n").encode())
    run |= {
        "status": "stopped" if h.ended in Stop.REASONS else "finished",
        "kind": ae.schema_.name,
        "steps": h.steps,
        "seconds": round(h.seconds, 3),
        "ended": h.ended,
        "skipped_steps": h.skipped,
        "resumed": h.resumed,
        "training_rows": h.training_rows,
        "held_out_rows": h.held_out_rows,
        "batch": ae.spec_.train.batch_size,
        "rate": ae.spec_.train.lr,
        "device": h.device,
        "precision": h.precision,
        "threads": h.threads,
        "why": h.why,
        "processes": h.processes,
        "interventions": h.interventions,
        "verdict": h.verdict,
        "findings": h.findings,
    }
    # Until it says so, the run is not finished, and `resume` makes whatever is missing.
    write(run, target / "run.json")
    if run["status"] == "finished":
        shutil.rmtree(target / "checkpoints", ignore_errors=True)
