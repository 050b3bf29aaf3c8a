"""An honest report on synthetic rows: every figure between a floor (columns shuffled) and a ceiling (real rows)."""

import json
import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from sklearn.metrics import r2_score, roc_auc_score

from ..atomic import atomic_write
from ..errors import ConfigError, DataError
from ..estimator import Autoencoder
from ..kinds import rows_of
from ..kinds.binned import Binned
from ..kinds.columns import Constant, Datetime, Identifier
from ..kinds.table import Table, as_frame
from ..parts import nearest as nearest_word
from . import tabular_metrics as metrics

# Rows of each sort that are compared; synthetic rows whose neighbours are looked for: 10,000 tell .51 from .5.
ROWS, NEIGHBOURS = 50_000, 10_000
# Below this number of training rows figures are mostly noise, and copies likely.
FEW = 500
# Rows of each sort without which nothing can be compared.
LEAST = 20


@dataclass(frozen=True)
class Figure:
    """One row of the report. value: of the synthetic rows. floor: of real rows whose columns were shuffled each by
    itself. ceiling: of real rows. best: which is better, "high", "low", or ".5". code: of rows that were drawn through
    a model's code, where `value` is of rows drawn without.
    """

    name: str
    value: float
    floor: float | None
    ceiling: float | None
    best: str
    code: float | None = None
    note: str = ""


@dataclass(frozen=True)
class TabularReport:
    """What synthetic rows are like: `figures` by name, `columns` (each column's shape) and `pairs` (the worst first).

    Print it, or keep it: `report.save("report.json")`.
    """

    figures: dict[str, Figure]
    columns: dict[str, float] = field(default_factory=dict)
    pairs: dict[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The report as plain numbers and words."""
        figures = {
            name: {k: v for k, v in vars(f).items() if k != "name" and v not in (None, "")}
            for name, f in self.figures.items()
        }
        return {"figures": figures, "columns": self.columns, "pairs": self.pairs, "notes": list(self.notes)}

    def save(self, path: str | Path) -> None:
        """Write it as JSON."""
        text = json.dumps(self.to_json(), indent=2, ensure_ascii=False, allow_nan=True)
        atomic_write(Path(path), (text + "\n").encode())

    def __str__(self) -> str:
        width = max(len(name) for name in self.figures)
        sides = [("floor", "floor"), ("here", "value"), ("by code", "code"), ("ceiling", "ceiling")]
        sides = [(head, key) for head, key in sides if any(getattr(f, key) is not None for f in self.figures.values())]
        lines = [f"{'':<{width}}  " + "".join(f"{head:>8}" for head, _ in sides) + "  best"]
        for name, f in self.figures.items():
            cells = "".join(f"{_shown(getattr(f, key)):>8}" for _, key in sides)
            lines.append(f"{name:<{width}}  {cells}  {f.best:<4}  {f.note}".rstrip())
        worst = sorted(self.columns.items(), key=lambda kv: kv[1])[:3]
        lines.append("columns least alike: " + ", ".join(f"{name} {value:.3f}" for name, value in worst))
        if self.pairs:
            lines.append("pairs least alike: " + ", ".join(f"{n} {v:.3f}" for n, v in list(self.pairs.items())[:3]))
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])


def _shown(value: float | None) -> str:
    return "" if value is None or math.isnan(value) else f"{value:.4f}"


def report(
    training: Any,
    synthetic: Any,
    held_out: Any,
    *,
    target: str | None = None,
    seed: int = 0,
    code: Any = None,
) -> TabularReport:
    """A report on synthetic rows, from the rows that a model was trained on, and rows of the same kind that it was not.

    target: the column whose prediction is tried (train on synthetic, test on real); none is tried without. code: other
    synthetic rows to stand beside. Identifiers and constant columns are left out. Raises DataError where columns
    differ, or rows are too few (20 of each sort), ConfigError for a target that is none.
    """
    frames = [as_frame(f).reset_index(drop=True) for f in (training, synthetic, held_out, code) if f is not None]
    frames = [f.set_axis([str(c) for c in f.columns], axis=1) for f in frames]
    kept = _columns(frames[0])
    for frame, what in zip(frames[1:], ("synthetic", "held-out", "code's"), strict=False):
        absent = [c for c in kept if c not in frame.columns]
        if absent:
            raise DataError(f"the {what} rows have no column {absent[0]!r}", hint=f"columns: {', '.join(kept[:6])}")
    if min(map(len, frames)) < LEAST:
        raise DataError(f"{min(map(len, frames))} rows are too few to be compared: {LEAST} of each sort are needed")
    if target is not None and target not in kept:
        raise ConfigError(f"there is no column {target!r} to predict", hint=nearest_word(target, kept))
    if target is not None and min(f[target].notna().sum() for f in frames) < LEAST:
        raise DataError(f"{target!r} is missing in nearly all rows", hint="another target, or none")
    rng = np.random.default_rng(seed)
    frames = [f[kept].iloc[rng.permutation(len(f))[:ROWS]].reset_index(drop=True) for f in frames]
    real = frames[0]
    shuffled = pd.DataFrame({c: real[c].iloc[rng.permutation(len(real))].array for c in real})
    return _Comparison(frames, shuffled, target, seed).report(len(training))


def of_model(
    ae: Autoencoder, training: Any, held_out: Any, *, target: str | None = None, seed: int = 0
) -> TabularReport:
    """A report on as many rows as `training` has, drawn from a model of it; of a chain, rows drawn through its code
    stand beside. With a target also how well the model's own p(target | all other columns) tells it.
    """
    if not isinstance(ae.schema_, Table):
        raise ConfigError("--synthetic is for tables", hint="pictures: --fidelity")
    rows, other = (as_frame(ae.rows(data)) for data in (training, held_out))
    made = as_frame(ae.sample(len(rows), random_state=seed))
    code = as_frame(ae.sample(len(rows), random_state=seed, through_code=True)) if ae.chained else None
    found = report(rows, made, other, target=target, seed=seed, code=code)
    if target is not None and ae.chained and target in {str(c.label) for c in ae.schema_.modelled}:
        value = own_conditional(ae, other, target)
        note = f"AUROC (levels) or R² of {target}, told by the model's own p({target} | the rest)"
        figure = found.figures["tstr_boosting"]
        own = Figure("own_conditional", value, figure.floor, figure.ceiling, "high", None, note)
        found = replace(found, figures=found.figures | {"own_conditional": own})
    return found


@torch.no_grad()
def own_conditional(ae: Autoencoder, rows: Any, target: str) -> float:
    """How well a chain's p(target | all other columns) tells the target of rows: AUROC of levels, R² of numbers."""
    table = ae.schema_
    assert isinstance(table, Table)
    j = next(i for i, c in enumerate(table.modelled) if str(c.label) == target)
    column = table.modelled[j]
    found, truth = [], []
    for batch in ae.batches(rows):
        there = ~rows_of.gaps(table, batch)[:, j]
        if not there.any():
            continue
        x = batch.x[there]
        known = torch.ones_like(x, dtype=torch.bool) if batch.observed is None else batch.observed[there].clone()
        known[:, j] = False
        log_p = ae.model_.likelihood.alone(len(x)).marginals(x, known)[j]  # type: ignore[operator]
        found.append(log_p.exp().numpy())
        truth.append(x[:, j].numpy())
    p, y = np.concatenate(found), np.concatenate(truth)
    if isinstance(column, Binned):
        p = p[:, : column.size]
        values = (
            metrics.as_numbers(column.decode(y))
            if not isinstance(column.of, Datetime)
            else column.centres[y.astype(int)]
        )
        return float(r2_score(values, p @ column.centres / p.sum(1)))
    size = int(y.max()) + 1
    return metrics.auroc(p[:, : max(2, size)], y.astype(int))


def _columns(frame: pd.DataFrame) -> list[str]:
    """The columns that are compared."""
    learned = Table(likelihood="chain").learn(frame)
    assert isinstance(learned, Table)
    return [str(c.label) for c in learned.columns if not isinstance(c, (Constant, Identifier))]


class _Comparison:
    """The figures of one report."""

    def __init__(self, frames: list[pd.DataFrame], shuffled: pd.DataFrame, target: str | None, seed: int) -> None:
        self.frames, self.target, self.seed = frames, target, seed
        coded = metrics.coded(*frames, shuffled)
        self.real, self.made, self.other = coded.frames[:3]
        self.code = coded.frames[3] if len(frames) > 3 else None
        self.shuffled, self.levels, self.names = coded.frames[-1], coded.levels, coded.names
        self.found: dict[str, Figure] = {}

    def add(self, name: str, of: Any, best: str, note: str = "", bounds: bool = True, ceiling: Any = None) -> None:
        """One figure: `of` rows, of the synthetic ones, of those through the code, of the floor and of the ceiling."""
        floor = float(of(self.shuffled)) if bounds else None
        top = ceiling if ceiling is not None or not bounds else float(of(self.other))
        code = None if self.code is None else float(of(self.code))
        self.found[name] = Figure(name, float(of(self.made)), floor, top, best, code, note)

    def report(self, rows: int) -> TabularReport:
        """All figures."""
        real, levels, names, seed = self.real, self.levels, self.names, self.seed
        self.add("column_shapes", lambda x: metrics.shapes(real, x, levels).mean(), "high")
        by_pair = metrics.pairs(real, self.made, levels)
        if by_pair:
            note = f"{len(by_pair)} pairs that hang together"
            self.add("pair_trends", lambda x: np.mean([*metrics.pairs(real, x, levels).values()]), "high", note)
        top = metrics.two_sample(self.other, real, levels, seed)
        note = "AUROC of boosted trees, held-out rows against these"
        self.add("two_sample", lambda x: metrics.two_sample(self.other, x, levels, seed), ".5", note, ceiling=top)
        if self.target is not None:
            self._prediction(names.index(self.target))
        many = metrics.levels_missing(real, self.made, levels)[1]
        note = f"of {many} that {metrics.FREQUENT} training rows have"
        self.add("levels_missing", lambda x: metrics.levels_missing(real, x, levels)[0], "low", note)
        self.add("out_of_range", lambda x: metrics.out_of_range(real, x, levels), "low", "share of cells")
        known = list(metrics.rules(real))
        if known:
            self.add("pairs_broken", lambda x: metrics.broken(x, known), "low", _named(known, names))
        self._privacy()
        shapes = metrics.shapes(real, self.made, levels)
        pairs = sorted(by_pair.items(), key=lambda kv: kv[1])
        return TabularReport(
            self.found,
            dict(zip(names, map(float, shapes), strict=True)),
            {f"{names[i]} × {names[j]}": value for (i, j), value in pairs},
            (f"{rows} training rows are few: figures are noisy, and copies likely",) if rows < FEW else (),
        )

    def _prediction(self, at: int) -> None:
        """Train on these rows, test on the held-out ones."""
        sides = {"": self.made, "floor": self.shuffled, "ceiling": self.real, "code": self.code}
        scores = {
            side: metrics.trained_on(x, self.other, self.levels, at, self.seed)
            for side, x in sides.items()
            if x is not None
        }
        what = "AUROC" if self.levels[at] else "R²"
        for name, value in scores[""].items():
            note = f"{what} of {self.target} in held-out rows, trained on these"
            code = scores["code"][name] if "code" in scores else None
            floor, ceiling = scores["floor"][name], scores["ceiling"][name]
            self.found[f"tstr_{name}"] = Figure(f"tstr_{name}", value, floor, ceiling, "high", code, note)

    def _privacy(self) -> None:
        """How near the rows are to those that were trained on."""
        space = metrics.Space(self.real, self.levels)
        n = min(len(self.real), len(self.other))
        near, far = space(self.real[:n]), space(self.other[:n])
        some = min(n, NEIGHBOURS)
        inside = np.repeat([1, 0], some)

        def closer(x: np.ndarray) -> float:
            return metrics.closer(space(x[:NEIGHBOURS]), near, far)

        def membership(x: np.ndarray) -> float:
            points = space(x[:NEIGHBOURS])
            attack = np.concatenate([metrics.nearest(rows[:some], points) for rows in (near, far)])
            return float(roc_auc_score(inside, -attack))

        note = "share of rows nearer to a training row than to a new one; .5: no nearer"
        self.add("closer_to_training", closer, ".5", note, bounds=False, ceiling=0.5)
        note = "AUROC of telling training rows from new ones by their nearest synthetic row"
        self.add("membership", membership, ".5", note, bounds=False, ceiling=0.5)
        held = metrics.copies(self.frames[2], self.frames[0])
        frames = {id(x): f for x, f in zip((self.made, self.code), (self.frames[1], self.frames[-1]), strict=True)}
        note = "share that are a training row, cell by cell; ceiling: of held-out rows"
        self.add("copies", lambda x: metrics.copies(frames[id(x)], self.frames[0]), "low", note, False, held)


def _named(found: list[tuple[int, int, dict[float, float]]], names: tuple[str, ...]) -> str:
    shown = ", ".join(f"{names[i]} → {names[j]}" for i, j, _ in found[:3])
    return shown + (f" and {len(found) - 3} more" if len(found) > 3 else "")
