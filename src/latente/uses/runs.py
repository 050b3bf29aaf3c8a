"""Run folders: a fit, everything it said, and what it left.

run.json  spec.json  metrics.jsonl  model.safetensors  latent.parquet  log.txt  [reconstructions.png  samples.png]
"""

import json
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from .. import __version__
from ..atomic import atomic_write, uninterrupted
from ..errors import ConfigError, DataError
from ..estimator import Autoencoder, read_noted
from ..kinds.image import Image
from ..kinds.reading import read
from ..kinds.writing import write
from ..training.progress import line, printer
from . import pictures


def load(data: Any, kind: str, header: str, label_col: str | None) -> tuple[Any, Any, str]:
    """Raw data, their labels or None, and a name for them."""
    name = "data"
    if isinstance(data, (str, Path)):
        name = Path(data).name.split(".")[0] or "data"
        data = read_noted(data, kind, header=header)
    labels = getattr(data, "labels", None)
    if label_col is not None:
        if not hasattr(data, "columns") or label_col not in list(data.columns):
            have = ", ".join(map(str, getattr(data, "columns", ()))) or "none"
            raise ConfigError(f"there is no column {label_col!r} to leave out", hint=f"columns: {have}")
        labels = np.asarray(data[label_col])
        data = data[[c for c in data.columns if c != label_col]]
    return data, labels, name


def fit(ae: Autoencoder, raw: Any, labels: Any, name: str, output: Any, quiet: bool) -> Autoencoder:
    """Fit, and write the run folder or the model file; after Ctrl-C too, with what was learned until then."""
    show = (lambda row, history: None) if quiet else printer()
    if output is None:
        ae._report = show
        return ae.fit(raw)
    target = Path(output)
    alone = target.suffix == ".safetensors"
    if not alone:
        claim(target)
    log = _Log(target, show, alone)
    ae._report = log
    try:
        with uninterrupted_after(ae, raw):
            _finish(ae, raw, labels, name, target, log, alone)
    except BaseException as error:
        kept = (target if alone else target / "model.safetensors").exists()
        if not alone and not kept:
            shutil.rmtree(target, ignore_errors=True)
        if isinstance(error, KeyboardInterrupt):
            # What the user is told: whether there is a model, and where.
            raise KeyboardInterrupt(
                f"what was learned until now is in {target}" if kept else "nothing was kept"
            ) from None
        raise
    return ae


@contextmanager
def uninterrupted_after(ae: Autoencoder, raw: Any) -> Iterator[None]:
    """Fit; then, whether it came to its end or Ctrl-C ended it with something learned, do what follows in one piece."""
    stopped: KeyboardInterrupt | None = None
    try:
        ae.fit(raw)
    except KeyboardInterrupt as error:
        if not hasattr(ae, "card_"):
            raise
        stopped = error
    with uninterrupted():
        yield
    if stopped is not None:
        raise stopped


def claim(folder: Path) -> None:
    """Make the run's folder; one that holds something already is not written into."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"{folder} is there already", hint=f"choose another: -o {folder}-2")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"{folder} cannot be made: {error.strerror}", hint="choose a folder that you may write to"
        ) from None


class _Log:
    """A `report` that shows each row and keeps it: metrics.jsonl while the run goes on, log.txt in words."""

    def __init__(self, folder: Path, show: Callable[[Any, Any], None], alone: bool) -> None:
        self.show, self.folder, self.alone = show, folder, alone
        self.started = time.strftime("%Y-%m-%dT%H:%M:%S%z")
        self.lines: list[str] = []

    def __call__(self, row: dict[str, Any], history: Any) -> None:
        self.show(row, history)
        if not self.alone:
            self.lines.append(line(row, history))
            with (self.folder / "metrics.jsonl").open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")


def _finish(ae: Autoencoder, raw: Any, labels: Any, name: str, target: Path, log: _Log, alone: bool) -> None:
    if alone:
        ae.save(target)
        return
    ae.save(target / "model.safetensors")
    codes = pd.DataFrame(ae.transform(raw), columns=[f"z{i}" for i in range(ae._n_features_out)])
    if labels is not None and len(labels) == len(codes):
        codes["label"] = labels
    write(codes, target / "latent.parquet")
    h = ae.history_
    run = {
        "latente": __version__,
        "data": name,
        "kind": ae.schema_.name,
        "started": log.started,
        "command": sys.argv[1:] if Path(sys.argv[0]).name == "latente" else None,
        "steps": h.steps,
        "seconds": round(h.seconds, 3),
        "ended": h.ended,
        "skipped_steps": h.skipped,
        "training_rows": h.training_rows,
        "held_out_rows": h.held_out_rows,
        "device": h.device,
        "precision": h.precision,
        "threads": h.threads,
        "findings": h.findings,
    }
    write(run, target / "run.json")
    write(
        ae.spec_.to_json() | {"kind": None if ae.spec_.kind is None else {"part": ae.spec_.kind.name}},
        target / "spec.json",
    )
    words = [*log.lines, f"ended: {h.ended}", *(f"doctor: {f}" for f in h.findings)]
    atomic_write(target / "log.txt", ("\n".join(words) + "\n").encode())
    if isinstance(ae.schema_, Image):
        pictures.album(ae, raw, target)


def row_of(data: Any, kind: str, options: dict[str, Any]) -> Any:
    """One row as raw data of one row: "FILE", "FILE:N", or a row in memory."""
    if isinstance(data, (str, Path)):
        text, _, at = str(data).rpartition(":")
        path, index = (
            (text, int(at))
            if text and at.isascii() and at.isdigit() and not Path(str(data)).exists()
            else (str(data), 0)
        )
        rows = read(path, kind, note=lambda text: None, **options)
        if index >= len(rows):
            raise DataError(f"{path} has {len(rows):,} rows, and row {index} was asked for (the first is 0)")
        return one(rows, index)
    if isinstance(data, pd.Series):
        return data.to_frame().T
    array = np.asarray(data)
    return (
        array[None] if not hasattr(data, "columns") and array.ndim in (1, 2, 3) and not _is_batch(array, kind) else data
    )


def one(rows: Any, index: int) -> Any:
    """Row `index` of raw data, as data of one row."""
    if hasattr(rows, "iloc"):
        return rows.iloc[index : index + 1]
    return (rows.pixels if hasattr(rows, "pixels") else rows)[index : index + 1]


def _is_batch(array: np.ndarray, kind: str) -> bool:
    """Whether an array already has a rows axis: tables are 2-D with it, pictures 3-D (grey) or 4-D."""
    if kind == "table":
        return array.ndim == 2
    return array.ndim == 4 or (array.ndim == 3 and array.shape[-1] not in (1, 3))
