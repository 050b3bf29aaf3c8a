"""The training loop.

feed ──portion──▶ prepare ──▶ objective ──backward──▶ fused Adam ──▶ averaged weights ──▶ checkpoints
                                                                       │ each epoch
                                      held-out rows ──▶ best weights ◀─┘
"""

import copy
import json
import math
import time
import warnings
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from ..atomic import uninterrupted
from ..errors import ConfigError, DataError, ModelFileError
from ..kinds.base import Kind
from ..model.batch import Batch
from ..model.model import Model
from ..model.noise import Shared
from ..model.spec import Train
from . import doctor, layerwise, private, rescue, treatment
from .checkpoint import CheckpointWarning, Saved, Slots, put_back
from .feed import Feed, Resident, plan
from .fused import known
from .gradients import Gradients, Objective
from .optimiser import Optimiser
from .precision import Choice, device_of, kernels_of, threads_for
from .settle import EVAL_ROWS, gather, require_numbers, settle
from .stop import Stop
from .team import ALONE, Team
from .totals import Totals
from .treatment import Act

# Told of every evaluation: its row, and the history until then.
Report = Callable[[dict[str, Any], "History"], None]


@dataclass
class History:
    """What happened: one row an evaluation, and how the run ended. Losses in nats per row, times in seconds.

    interventions: what the doctor did, {"step", "kind", "words", "settings"} each. verdict: its one line on the whole;
    findings: all that it saw, the gravest first. privacy: what a private fit guarantees.
    """

    rows: list[dict[str, Any]] = field(default_factory=list)
    steps: int = 0
    seconds: float = 0.0
    skipped: int = 0
    ended: str = ""
    best_epoch: float = 0.0
    precision: str = "float32"
    device: str = "cpu"
    threads: int = 1
    onednn: bool = False
    why: dict[str, str] = field(default_factory=dict)
    processes: int = 1
    training_rows: int = 0
    held_out_rows: int = 0
    rollbacks: list[str] = field(default_factory=list)
    parts: int = 1
    resumed: int = 0
    interventions: list[dict[str, Any]] = field(default_factory=list)
    findings: list[str] = field(default_factory=list)
    verdict: str = ""
    privacy: dict[str, Any] | None = None


def train(
    model: Model,
    objective: Objective,
    data: Batch | Feed,
    kind: Kind,
    config: Train,
    report: Report = lambda row, history: None,
    *,
    slots: Slots | None = None,
    team: Team = ALONE,
    spent: float = 0.0,
    begun: bool = False,
) -> History:
    """Fit `model` to `data` in place; it ends with the averaged weights of the best evaluation.

    slots: where checkpoints are kept; a run whose slots hold one goes on from there. spent: seconds of the time limit
    that are gone already. begun: the weights are not the first ones, but those of a fitted model. Ctrl-C ends the run
    as its time limit would, and History.ended says so.
    """
    feed = data if isinstance(data, Feed) else Resident(data, config, device_of(config.device), team)
    run = _Run(model, objective, feed, kind, config, report, slots or Slots(team=team), team, spent, begun)
    history, pace = run.history, run.pace
    try:
        with run.ready(), Stop(team) as stop:
            while not history.ended:
                for portion in feed.epoch(*divmod(history.steps, pace.batches_per_epoch)):
                    run.clock(stop)
                    done = run.share()
                    if done >= 1 or stop.asked:
                        history.ended = stop.asked or run.why()
                        break
                    run.model.progress, run.model.generator = done, run.noise
                    if isinstance(run.noise, Shared):
                        run.noise.total = portion.total
                    terms = run.gradients(portion, run.noise)
                    finite = run.optimiser.step(done)
                    run.totals.add(terms, finite, len(portion.batch) * team.size / portion.total)
                    history.steps += 1
                    if run.guard.lost(finite, portion):
                        run.roll_back()
                    if history.steps % pace.evaluate_every == 0:
                        run.look()
                    if run.slots.due(history.seconds):
                        run.save()
                    if history.ended:
                        break
            if stop.asked:
                # Before the last look: whoever goes on from here looks when the others do.
                run.save()
            if history.steps % pace.evaluate_every and not run.looked:
                run.look()
            if not stop.asked:
                run.save()
    except KeyboardInterrupt:
        history.ended = "interrupted"
    with uninterrupted():
        run.finish()
    return history


class _Run:
    """A run: all that a checkpoint holds, and what is made of it at the end."""

    def __init__(
        self,
        model: Model,
        objective: Objective,
        feed: Feed,
        kind: Kind,
        config: Train,
        report: Report,
        slots: Slots,
        team: Team,
        spent: float,
        begun: bool,
    ) -> None:
        device = device_of(config.device)
        if config.batch_size < 2 * team.size:
            raise ConfigError(
                f"a batch of {config.batch_size} rows cannot be shared by {team.size} processes: each needs 2 or more",
                hint=f"--set train.batch_size={32 * team.size}, or fewer --processes",
            )
        if feed.rows < 2:
            raise DataError(f"{feed.rows} row(s) are left to train on", hint="give more rows")
        self.model, self.feed, self.kind, self.config, self.team = model, feed, kind, config, team
        # `asked` is what the run was asked for; the doctor may have another.
        self.asked = self.objective = objective
        self.report, self.slots = report, slots
        self.pace = plan(feed.rows, config)
        self.choice = choice = kernels_of(model, config, known(model, objective) and team.size == 1)
        self.history = History(device=device, training_rows=feed.rows, why=choice.why)
        self.history.precision, self.history.onednn, self.history.threads = choice.how
        self.history.held_out_rows = 0 if feed.held_out is None else len(feed.held_out)
        self.history.processes = team.size
        model.to(device).train()
        if config.dp_epsilon is None and not begun:
            # Of so many rows the mean is known well enough.
            model.center(kind.prepare(feed.some(10 * EVAL_ROWS)))
        self.plain = model
        if team.sharding == "full":
            # What is sharded is a copy: the caller's model gets its weights back whole, in the end.
            self.model = model = copy.deepcopy(model)
        # CUDA graphs take torch's own generators alone.
        self.noise = torch.Generator(device) if team.size == 1 else Shared(device)
        self.noise.manual_seed(config.seed)
        if config.dp_epsilon is not None:
            private.unknown(self.noise)
        if isinstance(self.noise, Shared):
            self.noise.rank, self.noise.size = team.rank, team.size
        self.gradients = Gradients(model, objective, kind, config, team, choice.onednn, self.pace.steps, feed.rows)
        self.optimiser = Optimiser(model, config, team)
        self.guard = rescue.Guard(device)
        self.totals = Totals()
        self.best, self.worse, self.looked = math.inf, 0, False
        # What a run that diverges goes back to: the state of the last look, so that no clock has a say in it.
        self.good = {n: t.detach().clone() for n, t in self._state()}
        # Statistics at the best look, whose weights they belong to.
        self.kept: dict[str, Tensor] = {}
        self.spent, self.before, self.start = spent, 0.0, time.perf_counter()
        saved = slots.load()
        if saved is None and config.layerwise and not begun:
            # Of a short run each layer has no more steps than all of them together.
            each = min(config.layerwise, self.pace.steps or config.layerwise)
            layerwise.pretrain(model, feed, kind, config, each, self.optimiser, self.noise)
            put_back(self.good["weights"], self.optimiser.weights)
        if saved is not None:
            try:
                self._restore(saved)
            except (KeyError, TypeError, ValueError, RuntimeError) as error:
                raise ModelFileError(
                    f"the checkpoint is whole, but not one of this run: {error}", hint="start the run anew"
                ) from None
            self.history.resumed += 1
            self._compare(choice)
        else:
            for act in treatment.before(objective, config, model):
                self.treat(act)
            self.save()
        self.model.low_precision = self.history.precision == "bfloat16"

    def ready(self) -> ExitStack:
        """The number of threads that suits the model, until the stack is closed."""
        stack = ExitStack()
        stack.enter_context(threads_for(self.choice))
        return stack

    def _compare(self, choice: Choice) -> None:
        """Say if a resumed run computes in another way than before: it is no longer bit for bit the same."""
        history = self.history
        before = (history.precision, history.onednn, history.threads)
        if before != choice.how:
            words = "{0}, oneDNN {1}, {2} thread(s)"
            warnings.warn(
                f"this run computed in {words.format(*before)}, and goes on in {words.format(*choice.how)}: "
                "its numbers may differ in their last digits from those of a run that was not stopped",
                CheckpointWarning,
                stacklevel=3,
            )
        history.precision, history.onednn, history.threads = choice.how
        history.why = choice.why

    # ── time ────────────────────────────────────────────────────────────────────────────────────────────────────

    def clock(self, stop: Stop) -> None:
        """Read the clock; a team goes by the one of its slowest process."""
        self.history.seconds = stop.agreed(self.before + time.perf_counter() - self.start)

    def share(self) -> float:
        """How much of the run is done, 0 to 1: by steps or by time, whichever is further."""
        seconds = self.spent + self.history.seconds
        by_time = seconds / self.config.time_limit if self.config.time_limit else 0.0
        return max(self.history.steps / self.pace.steps if self.pace.steps else 0.0, by_time)

    def why(self) -> str:
        """What ended a run whose share is 1."""
        return "planned steps" if self.history.steps == self.pace.steps else "time limit"

    # ── looking ─────────────────────────────────────────────────────────────────────────────────────────────────

    def look(self) -> None:
        """One row of the history: look at the averaged weights, keep the best, end the run when they get no better."""
        history = self.history
        row: dict[str, Any] = {
            "train": self.totals.take(self.team),
            "epoch": history.steps / self.pace.batches_per_epoch,
        }
        row |= {"seconds": history.seconds, "steps": history.steps, "share": self.share()}
        if self.feed.held_out is not None:
            row |= self._evaluate(self.feed.held_out)
        history.rows.append(row)
        steady = not self.guard.streak
        act = treatment.during(history, self.objective, self.config, self.kind.name) if steady else None
        if act is None or act.kind != "rolled back":
            if "val" in row:
                self._judge(row)
            # A state that is far worse than the best is nothing to go back to, whatever its last batches said.
            if steady and not treatment.astray(row, self.best):
                for name, tensor in self._state():
                    put_back(self.good[name], tensor)
        if act is not None:
            self.treat(act)
        self.looked = bool(history.ended)
        self.report(row, history)

    def _judge(self, row: dict[str, Any]) -> None:
        """Keep the best weights; end a run that has not become better for long."""
        history, score = self.history, row["val"]["loss"]
        better = not math.isfinite(self.best) or score < self.best - 1e-4 * abs(self.best)
        if math.isfinite(score) and better:
            self.best, self.worse, row["best"] = score, 0, True
            history.best_epoch = row["epoch"]
            self.optimiser.keep()
            self.kept = {n: t.detach().clone() for n, t in self.model.named_buffers()}
            return
        self.worse += 1
        if self.worse >= self.config.patience and not history.ended:
            act = treatment.early(history, self.objective, self.config)
            if act is None:
                history.ended = "early stopping"
            else:
                self.treat(act)

    def treat(self, act: Act) -> None:
        """Do what the doctor decided. Of another loss the best is not known yet."""
        history = self.history
        # What is held off again and again is said once.
        if act.kind != "early stopping" or act.kind not in [a["kind"] for a in history.interventions]:
            history.interventions.append(act.noted(history.steps))
            if history.rows:
                history.rows[-1]["doctor"] = act.words
        if act.kind == "rolled back":
            self.roll_back(act.words)
            return
        self.worse = 0
        if act.settings:
            self.best = math.inf
            history.ended = "" if history.ended == "early stopping" else history.ended
            self._prescribe()

    def _prescribe(self) -> None:
        """Train on the objective as the interventions until now make it."""
        self.objective = treatment.treated(self.asked, self.history.interventions)
        self.gradients.change(self.objective)

    @torch.no_grad()
    def _evaluate(self, rows: Batch) -> dict[str, Any]:
        """Mean loss and terms of the averaged weights on held-out rows, as at the end of the run; and active units."""
        model, device = self.model, rows.x.device
        totals, codes, progress = Totals(), [], model.progress
        # The same noise at every evaluation, so that two of them differ by the weights alone.
        model.generator = torch.Generator(device).manual_seed(self.config.seed + 1)
        model.progress, model.judged = 1.0, True
        model.eval()
        with self.optimiser.averaged(), self.gradients.whole(), model.likelihood.judged():
            for start in range(0, len(rows), EVAL_ROWS):
                batch = self.kind.prepare(rows.rows(slice(start, start + EVAL_ROWS)), model.generator)
                loss = self.objective(model, batch)
                totals.add({"loss": loss.total, **loss.terms}, weight=len(batch))
                codes.append(model.encode(batch).mean)
        model.train()
        model.progress, model.judged = progress, False
        return {"val": totals.take(), "active": doctor.active_units(torch.cat(codes)), "dim": codes[0].shape[1]}

    # ── keeping ─────────────────────────────────────────────────────────────────────────────────────────────────

    def _state(self) -> list[tuple[str, Tensor]]:
        """Weights and running statistics."""
        return [("weights", self.optimiser.weights), *self.model.named_buffers()]

    def save(self) -> None:
        """A checkpoint, unless the run is in trouble: what it goes back to must be good."""
        if self.guard.streak:
            return
        history = self.history
        ended = "" if history.ended in Stop.REASONS else history.ended
        document = {
            # As text: a loss may be infinite, which a JSON document cannot say.
            "steps": history.steps,
            "history": json.dumps(asdict(history) | {"ended": ended}),
            "best": json.dumps(self.best),
            "worse": self.worse,
            "looked": self.looked,
            "terms": self.totals.names,
            "parts": self.gradients.parts,
        }
        tensors = {f"optimiser.{n}": t for n, t in self.optimiser.state().items()}
        tensors |= {f"good.{n}": t for n, t in self.good.items()}
        tensors |= {f"buffer.{n}": t for n, t in self.model.named_buffers()}
        tensors |= {f"kept.{n}": t for n, t in self.kept.items()}
        tensors |= {"noise": self.noise.get_state()}
        if isinstance(self.totals.sums, Tensor):
            tensors["totals"] = self.totals.sums
        self.slots.save(document, tensors, history.seconds)

    def _restore(self, saved: Saved) -> None:
        document, tensors = saved.document, saved.tensors
        vars(self.history).update(json.loads(document["history"]))
        self.best, self.worse, self.looked = json.loads(document["best"]), document["worse"], document["looked"]
        self.optimiser.restore({n.removeprefix("optimiser."): t for n, t in tensors.items() if n[:10] == "optimiser."})
        for name, buffer in self.model.named_buffers():
            put_back(buffer, tensors[f"buffer.{name}"])
        self.kept = {n.removeprefix("kept."): t for n, t in tensors.items() if n.startswith("kept.")}
        for name, tensor in self.good.items():
            put_back(tensor, tensors[f"good.{name}"])
        if self.config.dp_epsilon is None:
            self.noise.set_state(tensors["noise"])
        self.totals.names, self.totals.sums = document["terms"], tensors.get("totals", torch.zeros(())).clone()
        if "totals" not in tensors:
            self.totals.sums = 0.0
        self.gradients.parts = document["parts"]
        if self.history.interventions:
            self._prescribe()
        self.before, self.start = self.history.seconds, time.perf_counter()

    def roll_back(self, why: str = "") -> None:
        """Back to the weights of the last look, to go on in smaller steps; ends the run after too many times."""
        history, portion = self.history, self.guard.first
        for name, buffer in self.model.named_buffers():
            put_back(buffer, self.good[name])
        self.optimiser.begin_again(self.good["weights"], rescue.SMALLER ** (len(history.rollbacks) + 1))
        if self.gradients.private is not None:
            why = why or "the gradients were not finite"  # no row of a private fit is named
        if not why:
            assert portion is not None
            with self.gradients.whole():
                why = rescue.blame(self.model, self.kind, self.feed, portion)
        history.rollbacks.append(f"at step {history.steps}: {why}")
        if len(history.rollbacks) > rescue.ROLLBACKS:
            history.ended = "diverged"
        self.guard.forget()

    # ── the end ─────────────────────────────────────────────────────────────────────────────────────────────────

    def finish(self) -> None:
        """Leave the best averaged weights in the model, settle what is measured with them, and hear the doctor."""
        model, history = self.plain, self.history
        history.skipped, history.parts = int(self.optimiser.skipped), self.gradients.parts
        self.optimiser.finish()
        for name, buffer in self.model.named_buffers():
            put_back(buffer, self.kept.get(name, buffer))
        if model is not self.model:
            gather(self.model, model)
        # From here on in full precision, as the model will be used.
        model.progress, model.low_precision = 1.0, False
        if self.gradients.private is None:
            require_numbers(model, self.feed, self.kind)
            settle(model, self.feed, self.kind, self.config)
            history.verdict, history.findings = doctor.examine(model, self.feed, self.kind, self.objective, history)
        else:
            model.eval()
            history.privacy = self.gradients.private.card
            history.verdict = private.verdict(model, history.steps)
        model.generator = None
        model.likelihood.stir(None)
