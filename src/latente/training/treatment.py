"""What the doctor does while a run goes on.

each look ──row of the history──▶ `during` ──Act──▶ the loop: another objective, or back to good weights

An act is decided by the history and the settings alone, never by a clock, and stands in History.interventions, which
every checkpoint holds: a run that is resumed decides the same, and goes on with what was decided before.
"""

import math
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from ..model.model import Model
from ..model.spec import Train

if TYPE_CHECKING:
    from .loop import History

# Posterior collapse: fewer than a quarter of the dimensions move between held-out rows, and their KL is below a nat in
# all. Dimensions that the data do not need are off in a healthy model too, so neither sign is enough alone; but a tenth
# of a nat says nothing, however many dimensions it is spread over.
ACTIVE_SHARE, NEARLY_NOTHING, NOTHING = 0.25, 1.0, 0.1
# It must be seen at so many looks on end, so long (a share of the run) after β is at its full height, after this many
# steps (a net that has taken fewer has hardly left its start), and with enough of the run left for a change to tell.
LOOKS, SETTLED, FEW_STEPS, LATE = 2, 0.05, 200, 0.8
# Nats of KL that each dimension gets for nothing once a posterior has collapsed, by kind of data; the trials are in
# docs/training.md. Of tables 0.25 gave the best bound on other rows; of pictures 0.5 is a compromise: more was better
# on digits, and costs more where there is nothing to learn. "sequential" is the floor from the first step on where the
# decoder sees the cells before each: it learns to do without a code before the code has learned to say anything
# (Bowman et al. 2016, arXiv:1511.06349); docs/collapse.md. In few dimensions the floor is raised until it is
# `TOGETHER` nats in all; in many, as a ladder has, lowered until it is `AT_MOST` in all: a digit's whole code has 20.
FLOORS = {"table": 0.25, "image": 0.5, "sequential": 0.25}
ELSE, TOGETHER, AT_MOST = 0.25, 1.0, 16.0
# A nat of code that costs less than so much is not given away besides.
CHEAP = 0.5
# The longest warm-up of the KL, a share of the run: after it the model needs time to live with the whole price.
LONGEST_WARMUP = 0.5
# A KL beyond recall, in nats per dimension: a dimension that tells a thousand values apart costs 7, and the narrowest
# scale that a head gives costs 9 (`latents/gaussian.py`). Only of a loss that has the KL in it (this much of β, half of
# the warm-up behind it): an autoencoder's codes may lie anywhere.
EXPLODED, PRICED = 50.0, 0.1
# Or: the KL is so many times that of the best look, while the loss on the rows trained on rose by half and by 10 nats.
TIMES, WORSE = 3.0, 10.0
OFF = "--doctor off leaves the run as it is"


@dataclass(frozen=True)
class Act:
    """What is done, and why.

    kind: "free bits", "floor", "warm-up", "early stopping" or "rolled back". words: what was seen and done, and how to
    turn it off. settings: those of the objective that it changes.
    """

    kind: str
    words: str
    settings: dict[str, float] = field(default_factory=dict)

    def noted(self, steps: int) -> dict[str, Any]:
        """As History.interventions holds it."""
        return {"step": steps, **asdict(self)}


def treated(objective: Any, interventions: list[dict[str, Any]]) -> Any:
    """The objective with all that the interventions changed."""
    settings = {name: value for act in interventions for name, value in act["settings"].items()}
    return replace(objective, **settings) if settings else objective


def before(objective: Any, config: Train, model: Model) -> list[Act]:
    """What is to be done before the first step: about a warm-up that would leave no run after it, and a decoder that
    can do without a code.
    """
    if config.doctor == "off":
        return []
    acts = []
    warmup = getattr(objective, "warmup", 0.0)
    if getattr(objective, "schedule", "linear") == "linear" and warmup > LONGEST_WARMUP:
        words = (
            f"β would have risen over {warmup:.0%} of the run, and was never for long what was asked for: it rises "
            f"over {LONGEST_WARMUP:.0%}; {OFF}"
        )
        acts.append(Act("warm-up", words, {"warmup": LONGEST_WARMUP}))
    # A code that is cheap is not given away.
    head = getattr(model, "head", None)
    price = getattr(head, "price", 1.0) * getattr(objective, "beta", 1.0)
    dear = price >= CHEAP and not getattr(head, "floored", False)
    if model.likelihood.sequential and _free(objective) and dear:
        nats = floor("sequential", model.dim)
        words = (
            f"a decoder that sees the cells before each can do without a code: each of {model.dim} latent dimensions "
            f"was given {nats:.2g} nats for nothing from the first step on (objective.free_bits); {OFF}"
        )
        acts.append(Act("floor", words, {"free_bits": nats}))
    return acts


def during(history: "History", objective: Any, config: Train, kind: str) -> Act | None:
    """What is to be done after the look that the last row of the history is of."""
    row = history.rows[-1]
    if config.doctor == "off" or "kl" not in row.get("val", {}):
        return None
    return _exploded(history, objective) or _collapsed(history, objective, kind)


def early(history: "History", objective: Any, config: Train) -> Act | None:
    """Whether the run must not end early yet: while β rises, the loss that patience looks at is not yet trained on."""
    warming = getattr(objective, "schedule", "") == "linear" and history.rows[-1]["share"] < objective.warmup
    if config.doctor == "off" or not warming:
        return None
    return Act(
        "early stopping",
        f"early stopping would have ended the run before β had risen (at {objective.warmup:.0%} of the run), and was "
        f"held off; {OFF}",
    )


def collapsed(row: dict[str, Any]) -> bool:
    """Whether the posterior says (nearly) nothing at this look."""
    few = row.get("active", math.inf) < ACTIVE_SHARE * row.get("dim", 1)
    return bool(row["val"].get("kl", math.inf) < (NEARLY_NOTHING if few else NOTHING))


def floor(kind: str, dim: int) -> float:
    """Free bits of each of `dim` dimensions, in nats. kind: of the data, or "sequential"."""
    return min(max(FLOORS.get(kind, ELSE), TOGETHER / dim), AT_MOST / dim)


def last(history: "History") -> int:
    """The step at which the loss last changed its meaning."""
    return max((act["step"] for act in history.interventions if act["settings"]), default=0)


def _collapsed(history: "History", objective: Any, kind: str) -> Act | None:
    if not _free(objective):
        return None
    row, rows = history.rows[-1], history.rows[-LOOKS:]
    settled = SETTLED + (objective.warmup if getattr(objective, "schedule", "") == "linear" else 0.0)
    late = len(rows) == LOOKS and all(r["share"] >= settled and r["steps"] >= FEW_STEPS for r in rows)
    if not late or row["share"] > LATE or not all(map(collapsed, rows)):
        return None
    nats = floor(kind, row["dim"])
    words = (
        f"posterior collapse: {row['active']} of {row['dim']} latent dimensions said anything about a row "
        f"({row['val']['kl']:.2f} nats); each was given {nats:.2g} nats for nothing (objective.free_bits); {OFF}"
    )
    return Act("free bits", words, {"free_bits": nats})


def _free(objective: Any) -> bool:
    """Whether there is a KL with a price, and room under it for a floor that nobody has asked for yet."""
    taken = getattr(objective, "free_bits", None) != 0 or getattr(objective, "capacity", None) is not None
    return not taken and getattr(objective, "beta", 1.0) != 0


def astray(row: dict[str, Any], best: float) -> bool:
    """Whether the held-out loss of a look is far above the best so far."""
    return bool(row.get("val")) and row["val"]["loss"] - best > max(WORSE, 0.5 * abs(best))


def _exploded(history: "History", objective: Any) -> Act | None:
    row = history.rows[-1]
    kl, share = row["val"]["kl"], row["share"]
    ramp = objective.ramp(share) if hasattr(objective, "ramp") else 1.0
    if ramp < 0.5 or getattr(objective, "beta", 1.0) < PRICED:
        return None
    start = getattr(objective, "warmup", 0.0)
    since = [r for r in history.rows[:-1] if r["steps"] > last(history) and r["share"] >= start]
    since = [r for r in since if r.get("val") and r.get("train")]
    best = min(since, key=lambda r: r["val"]["loss"], default=None)
    runaway = False
    if best is not None and row["train"]:
        was, now = best["train"]["loss"], row["train"]["loss"]
        runaway = kl > TIMES * best["val"]["kl"] and now - was > max(WORSE, 0.5 * abs(was))
    if kl <= EXPLODED * row["dim"] and not runaway:
        return None
    words = f"the KL exploded to {kl:.0f} nats in {row['dim']} latent dimensions ({OFF})"
    return Act("rolled back", words)
