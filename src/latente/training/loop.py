"""The training loop.

resident rows ──permutation──▶ prepare ──▶ objective ──backward──▶ fused Adam ──▶ averaged weights
                                                                                    │ each epoch
                                                   held-out rows ──▶ best weights ◀─┘
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ..kinds.base import Kind
from ..model.batch import Batch
from ..model.model import Model
from ..model.spec import Train
from . import doctor
from .feed import batches, plan, split
from .optimiser import Optimiser
from .precision import device_of, precision_of

Objective = Callable[[Model, Batch], Any]
# Rows of one evaluation batch: large enough for the matrix kernels, small enough for the cache.
EVAL_ROWS = 1024


@dataclass
class History:
    """What happened: one row an evaluation, and how the run ended. Losses in nats per row, times in seconds."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    steps: int = 0
    seconds: float = 0.0
    skipped: int = 0
    ended: str = ""
    best_epoch: float = 0.0
    precision: str = "float32"
    device: str = "cpu"
    training_rows: int = 0
    held_out_rows: int = 0
    findings: list[str] = field(default_factory=list)


def train(
    model: Model,
    objective: Objective,
    data: Batch,
    kind: Kind,
    config: Train,
    report: Callable[[dict[str, Any], History], None] = lambda row, history: None,
) -> History:
    """Fit `model` to `data` in place; it ends with the averaged weights of the best evaluation.

    Ctrl-C ends the run as its time limit would, and History.ended says so: what was learned is kept.
    """
    device = device_of(config.device)
    model.to(device).train()
    noise = torch.Generator(device).manual_seed(config.seed)
    order = torch.Generator().manual_seed(config.seed)
    fit_rows, held_out = (None if part is None else part.to(device) for part in split(data, config, order))
    assert fit_rows is not None
    pace = plan(len(fit_rows), config)
    history = History(precision=precision_of(model, config), device=device, training_rows=len(fit_rows))
    model.low_precision = history.precision == "bfloat16"
    history.held_out_rows = 0 if held_out is None else len(held_out)
    # Of so many rows the mean is known well enough.
    model.center(kind.prepare(fit_rows.rows(slice(0, 10 * EVAL_ROWS))))
    optimiser = Optimiser(model, config)
    totals, patience = Totals(), config.patience
    best: float | None = None
    start = time.perf_counter()
    try:
        while not history.ended:
            for index in batches(len(fit_rows), config.batch_size, order):
                done = share(history.steps, pace.steps, time.perf_counter() - start, config.time_limit)
                if done >= 1:
                    history.ended = "time limit" if history.steps < (pace.steps or math.inf) else "planned steps"
                    break
                model.progress, model.generator = done, noise
                loss = objective(model, kind.prepare(fit_rows.rows(index.to(device)), noise))
                finite = optimiser.step(loss.total, done)
                totals.add({"loss": loss.total, **loss.terms}, finite)
                history.steps += 1
                if history.steps % pace.evaluate_every == 0:
                    row = evaluate(model, objective, held_out, kind, config, optimiser, history)
                    row |= {"train": totals.take(), "epoch": history.steps / pace.batches_per_epoch}
                    history.seconds = time.perf_counter() - start
                    row |= {"seconds": history.seconds, "steps": history.steps, "planned": pace.steps or 0}
                    row["share"] = share(history.steps, pace.steps, history.seconds, config.time_limit)
                    history.rows.append(row)
                    score = row["val"]["loss"] if held_out is not None else -math.inf
                    if held_out is not None and (best is None or score < best - 1e-4 * abs(best)):
                        best, patience, row["best"] = score, config.patience, True
                        history.best_epoch = row["epoch"]
                        optimiser.keep()
                    elif held_out is not None and (patience := patience - 1) == 0:
                        history.ended = "early stopping"
                    report(row, history)
                    if history.ended:
                        break
    except KeyboardInterrupt:
        history.ended = "interrupted"
    history.skipped = int(optimiser.skipped)
    history.seconds = time.perf_counter() - start
    optimiser.finish()
    # From here on in full precision, as the model will be used.
    model.progress, model.low_precision = 1.0, False
    settle(model, fit_rows, held_out, kind, config)
    history.findings = doctor.examine(model, fit_rows, kind, history)
    model.generator = None
    return history


def share(steps: int, planned: int | None, seconds: float, limit: float | None) -> float:
    """How much of the run is done, 0 to 1: by steps or by time, whichever is further."""
    return max(steps / planned if planned else 0.0, seconds / limit if limit else 0.0)


@torch.no_grad()
def evaluate(
    model: Model,
    objective: Objective,
    held_out: Batch | None,
    kind: Kind,
    config: Train,
    optimiser: Optimiser,
    history: History,
) -> dict[str, Any]:
    """Mean loss and terms of the averaged weights on the held-out rows, as at the end of the run; and active units."""
    if held_out is None:
        return {}
    device = held_out.x.device
    totals, codes, progress = Totals(), [], model.progress
    # The same noise at every evaluation, so that two of them differ by the weights alone.
    model.generator = torch.Generator(device).manual_seed(config.seed + 1)
    model.progress = 1.0
    model.eval()
    with optimiser.averaged():
        for start in range(0, len(held_out), EVAL_ROWS):
            batch = kind.prepare(held_out.rows(slice(start, start + EVAL_ROWS)), model.generator)
            loss = objective(model, batch)
            totals.add({"loss": loss.total, **loss.terms}, weight=len(batch))
            codes.append(model.encode(batch).mean)
    model.train()
    model.progress = progress
    return {"val": totals.take(), "active": doctor.active_units(torch.cat(codes)), "dim": codes[0].shape[1]}


@torch.no_grad()
def settle(model: Model, fit_rows: Batch, held_out: Batch | None, kind: Kind, config: Train) -> None:
    """After training: closed-form scales measured with the final weights, and the prior fitted to the codes.

    The scales are measured on held-out rows where there are any: on rows it was trained on, a model looks too exact.
    """
    model.generator = torch.Generator(fit_rows.x.device).manual_seed(config.seed + 2)
    model.eval()
    if model.likelihood.measured:
        model.likelihood.restart()
        rows = fit_rows if held_out is None or len(held_out) < 20 else held_out
        for start in range(0, len(rows), EVAL_ROWS):
            batch = kind.prepare(rows.rows(slice(start, start + EVAL_ROWS)))
            model.likelihood.observe(model.run(batch).px, batch)
    if model.prior().fitted_afterwards:
        # Twenty thousand codes fix a mixture in a few dozen dimensions as well as all of them.
        few = fit_rows.rows(slice(0, 20_000))
        parts = [few.rows(slice(i, i + EVAL_ROWS)) for i in range(0, len(few), EVAL_ROWS)]
        model.prior().fit(torch.cat([model.encode(kind.prepare(p)).mean for p in parts]), model.generator)


class Totals:
    """Running sums on the device, read once an epoch: reading a number at every step would stop the pipeline."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.sums: Tensor | float = 0.0

    def add(self, terms: dict[str, Tensor], finite: Tensor | None = None, weight: float = 1.0) -> None:
        """Add one batch's means; a batch that is not finite counts for nothing."""
        self.names = list(terms)
        one = next(iter(terms.values()))
        values = torch.stack([v.detach().float() for v in terms.values()] + [torch.ones_like(one, requires_grad=False)])
        self.sums = self.sums + weight * (values if finite is None else torch.where(finite > 0, values, 0.0))

    def take(self) -> dict[str, float]:
        """The means since the last call."""
        if not isinstance(self.sums, Tensor):
            return {}
        *values, weight = self.sums.tolist()
        self.sums = 0.0
        return {name: value / max(weight, 1e-9) for name, value in zip(self.names, values, strict=True)}
