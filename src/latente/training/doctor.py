"""What goes wrong silently, said in plain words."""

import os
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..kinds.base import Kind
from ..model.batch import Batch
from ..model.latents.codes import usage
from ..model.model import Model

if TYPE_CHECKING:
    from .loop import History

# A latent dimension is active if its mean moves by more than a tenth of the prior's standard deviation between rows:
# variance above 0.01, after Burda et al. 2016 (arXiv:1509.00519), sec. 5.
ACTIVE = 0.01
# A codebook of which these rows use a smaller share is too large for the data, or many of its entries are dead.
DEAD_CODES = 0.3
# A net that has taken fewer steps than this has hardly left its start.
FEW_STEPS = 200
# Rows that are looked at; shares of units and outputs are known well enough from these.
ROWS = 2048


def active_units(codes: Tensor) -> int:
    """The number of dimensions whose posterior mean varies over the rows. codes [n, d]"""
    return int((codes.float().var(0, correction=0) > ACTIVE).sum()) if len(codes) > 1 else 0


@torch.no_grad()
def examine(model: Model, data: Batch, kind: Kind, history: "History") -> list[str]:
    """Findings in words, the gravest first; an empty list is a healthy model."""
    batch = kind.prepare(data.rows(slice(0, ROWS)))
    q = model.encode(batch)
    active, dim = active_units(q.mean), q.mean.shape[1]
    found = []
    if not torch.isfinite(q.mean).all():
        found.append("the codes are not finite: training diverged; try a smaller rate: --set train.lr=1e-4")
    found += _collapse(q.has_density, active, dim)
    use = usage(model, q.mean).get("codebook_use", 1.0)
    if use < DEAD_CODES:
        found.append(
            f"{use:.0%} of the codebook is in use: a smaller --set latent.size says as much, a longer run uses more"
        )
    found += _overfit(history)
    if history.ended == "diverged":
        found.append("the run was rolled back too often and given up; the best weights until then were kept")
    found += [f"rolled back {text}; from there the rate was halved" for text in history.rollbacks]
    if history.parts > 1:
        found.append(
            f"memory ran out: each batch was taken in {history.parts} parts, with equal results and more time; "
            "--set train.batch_size=64 needs less"
        )
    if history.skipped and not history.rollbacks:
        found.append(
            f"{history.skipped} of {history.steps} steps had a gradient that was not finite and were skipped; "
            "if it is more than a few, lower the rate: --set train.lr=1e-4"
        )
    found += _too_short(history)
    found += _busy(history)
    return found


def _collapse(density: bool, active: int, dim: int) -> list[str]:
    if not density:
        return [f"only {active} of {dim} code dimensions vary between rows"] if active < dim / 4 else []
    if active == 0:
        return [
            f"posterior collapse: none of the {dim} latent dimensions says anything about a row, every sample and "
            "reconstruction will be the average row. If the data have structure, give the latent room: "
            "--set objective.free_bits=0.25 or a smaller --set objective.beta=0.5"
        ]
    if active < dim / 2:
        return [
            f"{active} of {dim} latent dimensions are in use; the rest cost nothing and carry nothing: "
            f"--dim {active} would do, or --set objective.free_bits=0.25 to press for more"
        ]
    return []


def _overfit(history: "History") -> list[str]:
    rows = [r for r in history.rows if r.get("val") and r.get("train")]
    if not rows:
        return []
    last, best = rows[-1], min(rows, key=lambda r: r["val"]["loss"])
    gap = last["val"]["rec"] - last["train"]["rec"]
    worse = last["val"]["loss"] - best["val"]["loss"]
    scale = max(1.0, 0.05 * abs(best["val"]["loss"]))
    if worse > scale and gap > scale:
        return [
            f"over-fitting: after epoch {best['epoch']:.0f} the held-out loss rose by {worse:.1f} nats while training "
            "went on falling; the weights of the best epoch were kept. More rows, a smaller net "
            "(--set nets.widths=[64]) or a corruption (--recipe denoising) help"
        ]
    return []


def _busy(history: "History") -> list[str]:
    """Threads that share a core with other work wait for each other: at a load of 6 on two cores, two threads were
    fifteen times slower than one.
    """
    cores, load = os.cpu_count() or 1, os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    if history.threads == 1 or load < 2 * cores:
        return []
    return [
        f"this machine is busy (load {load:.0f} on {cores} cores), and {history.threads} threads wait for each other: "
        "until it is quiet, OMP_NUM_THREADS=1 before the command is several times faster"
    ]


def _too_short(history: "History") -> list[str]:
    """Whether the held-out loss was still falling when steps or time ran out."""
    if history.ended not in ("planned steps", "time limit"):
        return []
    epochs = history.rows[-1]["epoch"] if history.rows else 0.0
    if history.ended == "time limit" and (epochs < 1 or history.steps < FEW_STEPS):
        return [
            f"the run was far too short: {history.steps} steps, {epochs:.1f} epochs; what it gives is close to the "
            "average row. Give it more time (--time-limit) or smaller nets (--set nets=mlp --set nets.widths=[128])"
        ]
    losses = [r["val"]["loss"] for r in history.rows if r.get("val")]
    k = max(1, len(losses) // 10)
    if len(losses) < 3:
        return []
    # The last tenth of the run against the tenth before: a cosine schedule flattens, so a slope here is a real one.
    late, before = sum(losses[-k:]) / k, sum(losses[-2 * k : -k]) / k
    if before - late > max(0.2, 0.01 * abs(late)):
        return ["the held-out loss was still falling at the end: a longer run will be better (--epochs, --time-limit)"]
    return []
