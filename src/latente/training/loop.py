"""The training loop.

resident rows ──permutation──▶ prepare ──▶ loss and gradients ──▶ fused Adam ──▶ averaged weights
                                                                                    │ each epoch
                                                   held-out rows ──▶ best weights ◀─┘
"""

import math
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ..atomic import uninterrupted
from ..kinds.base import Kind
from ..model.batch import Batch
from ..model.model import Model
from ..model.spec import Train
from . import doctor
from .feed import Pace, batches, plan, split
from .fused import gradients_of, known
from .optimiser import Optimiser
from .precision import device_of, kernels_of, threads_for

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
    threads: int = 1
    why: dict[str, str] = field(default_factory=dict)
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
    choice = kernels_of(model, config, known(model, objective))
    history = History(precision=choice.precision, device=device, training_rows=len(fit_rows), why=choice.why)
    model.low_precision = history.precision == "bfloat16"
    history.held_out_rows = 0 if held_out is None else len(held_out)
    # Of so many rows the mean is known well enough.
    model.center(kind.prepare(fit_rows.rows(slice(0, 10 * EVAL_ROWS))))
    optimiser, gradients = Optimiser(model, config), gradients_of(model, objective, choice.onednn)
    watch = _Watch(model, objective, held_out, kind, config, optimiser, history, report)
    start, totals = time.perf_counter(), Totals()
    threads = ExitStack()
    history.threads = threads.enter_context(threads_for(choice))
    try:
        while not history.ended:
            for index in batches(len(fit_rows), config.batch_size, order):
                history.seconds = time.perf_counter() - start
                done = share(history, pace, config)
                if done >= 1:
                    history.ended = "planned steps" if history.steps == pace.steps else "time limit"
                    break
                model.progress, model.generator = done, noise
                loss = gradients(kind.prepare(fit_rows.rows(index.to(device)), noise))
                finite = optimiser.step(done)
                totals.add({"loss": loss.total, **loss.terms}, finite)
                history.steps += 1
                if history.steps % pace.evaluate_every == 0:
                    history.seconds = time.perf_counter() - start
                    watch.look(totals.take(), pace)
                    if history.ended:
                        break
        if history.steps % pace.evaluate_every:
            watch.look(totals.take(), pace)
    except KeyboardInterrupt:
        history.ended = "interrupted"
    finally:
        threads.close()
    with uninterrupted():
        history.skipped = int(optimiser.skipped)
        history.seconds = time.perf_counter() - start
        optimiser.finish()
        # From here on in full precision, as the model will be used.
        model.progress, model.low_precision = 1.0, False
        settle(model, fit_rows, held_out, kind, config)
        history.findings = doctor.examine(model, fit_rows, kind, history)
        model.generator = None
    return history


def share(history: History, pace: Pace, config: Train) -> float:
    """How much of the run is done, 0 to 1: by steps or by time, whichever is further."""
    by_time = history.seconds / config.time_limit if config.time_limit else 0.0
    return max(history.steps / pace.steps if pace.steps else 0.0, by_time)


@dataclass
class _Watch:
    """Looks at the averaged weights now and then, keeps the best, and ends the run when they get no better."""

    model: Model
    objective: Objective
    held_out: Batch | None
    kind: Kind
    config: Train
    optimiser: Optimiser
    history: History
    report: Callable[[dict[str, Any], History], None]
    best: float = math.inf
    worse: int = 0

    def look(self, training: dict[str, float], pace: Pace) -> None:
        """One row of the history."""
        history = self.history
        row: dict[str, Any] = {"train": training, "epoch": history.steps / pace.batches_per_epoch}
        row |= {"seconds": history.seconds, "steps": history.steps, "share": share(history, pace, self.config)}
        if self.held_out is not None:
            row |= self.evaluate(self.held_out)
            score = row["val"]["loss"]
            if not math.isfinite(self.best) or score < self.best - 1e-4 * abs(self.best):
                self.best, self.worse, row["best"] = score, 0, True
                history.best_epoch = row["epoch"]
                self.optimiser.keep()
            else:
                self.worse += 1
                if self.worse >= self.config.patience:
                    history.ended = "early stopping"
        history.rows.append(row)
        self.report(row, history)

    @torch.no_grad()
    def evaluate(self, rows: Batch) -> dict[str, Any]:
        """Mean loss and terms of the averaged weights on held-out rows, as at the end of the run; and active units."""
        model, device = self.model, rows.x.device
        totals, codes, progress = Totals(), [], model.progress
        # The same noise at every evaluation, so that two of them differ by the weights alone.
        model.generator = torch.Generator(device).manual_seed(self.config.seed + 1)
        model.progress = 1.0
        model.eval()
        with self.optimiser.averaged():
            for start in range(0, len(rows), EVAL_ROWS):
                batch = self.kind.prepare(rows.rows(slice(start, start + EVAL_ROWS)), model.generator)
                loss = self.objective(model, batch)
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
