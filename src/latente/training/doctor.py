"""What goes wrong silently, said in plain words when training is over.

What is done about it while a run goes on is in `treatment.py`.
"""

import math
import os
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ..kinds.base import Kind
from ..model.batch import Batch
from ..model.estimates import mutual_information
from ..model.ladder import LadderPosterior
from ..model.latents.base import Posterior
from ..model.latents.codes import usage
from ..model.model import Model
from . import baseline, treatment
from .feed import Feed
from .treatment import FEW_STEPS, NOTHING

if TYPE_CHECKING:
    from .loop import History

# A latent dimension is active if its mean moves by more than a tenth of the prior's standard deviation between rows:
# variance above 0.01, after Burda et al. 2016 (arXiv:1509.00519), sec. 5.
ACTIVE = 0.01
# A codebook of which these rows use a smaller share is too large for the data, or many of its entries are dead.
DEAD_CODES = 0.3
# Rows that are looked at; shares of units and outputs are known well enough from these.
ROWS, CELLS = 2048, 1 << 22
# Held-out rows below which a comparison on them is left alone, and the share of the variance by which PCA must be
# better to be named.
ENOUGH, BETTER = 20, 0.1
# An expectation is far outside if it passes the range of the data by so many of its widths, and worth a word in so many
# of the rows.
BEYOND, OFTEN = 0.5, 0.01
# Residuals are so many times wider or narrower than a σ that is fixed to 1: their weight beside the KL is off by its
# square.
UNSCALED = 3.0
# A run of fewer steps has hardly begun. A model that misses more of the variance than `NEAR` gives the average row.
HARDLY, NEAR = 50, 0.9
# Nats of KL in one dimension, averaged over rows, beyond which no code of data goes: 72 bits.
EXPLODED = 50.0
# Rows of a table below which new rows are said to be likely copies.
FEW_ROWS = 500
# Draws of the prior that are looked at.
DRAWS = 16
# How much better a held-out loss must be to be called better: nats, or a share of it.
NATS, SHARE = 0.1, 0.01
# How grave a finding is; a remark leaves a model healthy.
REMARK, POOR, COLLAPSED, SHORT, BROKEN = range(5)

Finding = tuple[int, str]
FALLING = "the held-out loss was still falling"


def active_units(codes: Tensor) -> int:
    """The number of dimensions whose posterior mean varies over the rows. codes [n, d]"""
    return int((codes.float().var(0, correction=0) > ACTIVE).sum()) if len(codes) > 1 else 0


def most_information(q: Posterior) -> float:
    """An upper bound on I(x; z) over these rows, in nats.

    Σ_j H(z_j) − H(z_j|x), with H(z_j) at most that of a Gaussian of its variance, which has the most entropy (Cover &
    Thomas 2006, thm. 8.6.5). A KL can be large and say nothing about a row; this can not.
    """
    variance = q.stddev.double().square()
    whole = q.mean.double().var(0, correction=0) + variance.mean(0)
    return float((0.5 * whole.log() - 0.5 * variance.log().mean(0)).sum())


def said(verdict: str, findings: list[str]) -> list[str]:
    """What is printed: the verdict, then what else was seen."""
    return [verdict, *(f for f in findings if f != verdict)]


@torch.no_grad()
def examine(model: Model, feed: Feed, kind: Kind, objective: Any, history: "History") -> tuple[str, list[str]]:
    """The verdict on a model in one line, and the findings in words, the gravest first; none is a healthy model."""
    # Of large pictures fewer rows: they go through the nets at once.
    rows = max(ENOUGH, min(ROWS, CELLS // model.likelihood.continuous.numel()))
    few = kind.prepare(feed.some(rows))
    held_out = None if feed.held_out is None else kind.prepare(feed.held_out.rows(slice(0, rows)))
    q = model.encode(few)
    active, dim = active_units(q.mean), q.mean.shape[1]
    found = [*_broken(q, history), *_too_short(history, model, few)]
    if not found:
        found += [*_exploded(history, dim), *_no_samples(model, few.x.device)]
    if not found or max(found)[0] < SHORT:
        found += _treated(q, active, history)
        if not found or max(found)[0] < COLLAPSED:
            found += _collapse(q, active, history)
        over = _overfit(history)
        if over:  # what falls in the last stretch of a run that has been better is no reason for a longer one
            found = [f for f in found if FALLING not in f[1]]
        found += over
        if held_out is not None:
            found += _beside_pca(model, few, held_out, dim)
            found += _range(model, few, held_out, kind)
            found += _unscaled(model, held_out, kind)
    tokens = model.likelihood.sequential and not model.likelihood.whole and q.has_density
    if tokens and (not found or max(found)[0] < SHORT):
        found += _unheard(model, few, q)
    found += [
        *_codes(model, q),
        *_untold(model),
        *_few_rows(model, history),
        *_no_bound(objective),
        *_events(history),
        *_busy(history),
    ]
    # A stable sort: of equally grave ones the order above.
    texts = [text for _, text in sorted(found, key=lambda f: -f[0])]
    if found and max(found)[0] > REMARK:
        return texts[0], texts
    return _healthy(q, active, dim, history), texts


def _unheard(model: Model, rows: Batch, q: Posterior) -> list[Finding]:
    """Whether the decoder listens to the code: what a row costs by its own, and by another row's."""
    generator = torch.Generator(rows.x.device).manual_seed(0)
    z, told = q.sample(1, generator), model.given(rows)
    own, other = (
        float(-model.decode(code, told).seen(rows.x, rows.observed).sum(-1).mean())
        for code in (z, z.roll(max(1, len(rows) // 2), 1))
    )
    nats = mutual_information(model, rows, generator)
    text = f"the code says {nats:.1f} nats about a row (of {len(rows):,}, at most {math.log(len(rows)):.1f}); told by"
    text = f"{text} another row's code a row costs {other - own:.1f} nats more"
    if other - own < NOTHING:
        floored = getattr(getattr(model, "head", None), "floored", False)
        does = "a longer run, or --set latent.spread=0.8" if floored else "--recipe density has a floor"
        return [(COLLAPSED, f"z does not matter: {text}. The decoder does without it: {does}")]
    return [(REMARK, f"z matters: {text}")]


def _few_rows(model: Model, history: "History") -> list[Finding]:
    """Whether a chain was fitted to so few rows that its new rows may be old ones."""
    rows = history.training_rows + history.held_out_rows
    if not hasattr(model.likelihood, "alone") or rows >= FEW_ROWS:
        return []
    text = f"{rows} rows are few to learn from: new rows may repeat old ones; evaluate --synthetic counts the copies"
    return [(REMARK, text)]


def _healthy(q: Posterior, active: int, dim: int, history: "History") -> str:
    if not q.has_density:
        return f"healthy: {active} of {dim} code dimensions in use"
    best = next((r for r in reversed(history.rows) if r.get("best")), history.rows[-1] if history.rows else {})
    kl = best.get("val", best.get("train", {})).get("kl")
    nats = "" if kl is None else f", {kl:.1f} nats"
    return f"healthy: {active} of {dim} latent dimensions in use{nats}"


def _broken(q: Posterior, history: "History") -> list[Finding]:
    if not torch.isfinite(q.mean).all():
        return [(BROKEN, "diverged: the codes are not finite; try a smaller rate: --set train.lr=1e-4")]
    if history.ended == "diverged":
        text = "diverged: the run was rolled back too often and given up; the best weights until then were kept. Try"
        return [(BROKEN, f"{text} a smaller rate: --set train.lr=1e-4")]
    if history.steps and history.skipped >= history.steps:
        return [(BROKEN, f"diverged: none of the {history.steps} steps had a finite gradient; nothing was learned")]
    rows = _rows(history)
    best = min(rows, key=lambda r: r["val"]["loss"], default=None)
    if best is None:
        return []
    if not math.isfinite(best["val"]["loss"]):
        return [(BROKEN, "diverged: the held-out loss was never finite; try a smaller rate: --set train.lr=1e-4")]
    pairs = [(best[part]["loss"], rows[-1][part]["loss"]) for part in ("train", "val")]
    if all(now - was > max(treatment.WORSE, 0.5 * abs(was)) or not math.isfinite(now) for was, now in pairs):
        was, now = pairs[0]
        text = f"diverged: after epoch {best['epoch']:.0f} the training loss rose from {was:.1f} to {now:.1f} nats; the"
        return [(BROKEN, f"{text} weights of that epoch were kept. Try a smaller rate: --set train.lr=1e-4")]
    return []


def _exploded(history: "History", dim: int) -> list[Finding]:
    """Whether codes lie so far from the prior that nothing drawn from it comes near them."""
    rows = _rows(history)
    kl = min((r["val"]["kl"] for r in rows if r.get("best") and "kl" in r["val"]), default=0.0)
    if kl <= EXPLODED * dim:
        return []
    text = f"the KL exploded: {kl:,.0f} nats in {dim} dimensions; no draw of the prior comes near the codes, so samples"
    return [(POOR, f"{text} will not look like rows. A larger --set objective.beta=1 or a smaller --set train.lr=1e-4")]


def _no_samples(model: Model, device: torch.device) -> list[Finding]:
    """Whether draws of the prior, decoded, are numbers at all."""
    z = model.prior().sample(DRAWS, torch.Generator(device).manual_seed(0))
    if torch.isfinite(z).all() and torch.isfinite(model.decode(z).expectation).all():
        return []
    text = "draws of the prior do not decode to finite numbers: the model cannot sample. A smaller rate helps"
    return [(BROKEN, f"{text}: --set train.lr=1e-4")]


def _missed(model: Model, rows: Batch) -> float:
    """The share of the variance over these rows that the model's means miss; of tokens, which have none, 0."""
    if not model.likelihood.whole:
        return 0.0
    x, expected = baseline.features(model, rows)
    return float(np.square(x - expected).sum()) / max(float(np.square(x - x.mean(0)).sum()), 1e-12)


def _untold(model: Model) -> list[Finding]:
    """Whether the prior of a conditional model is one that cannot be told what is given."""
    if model.condition is None or getattr(model, "moves", model) is not None:
        return []
    words = (
        "the prior is not told what is given, which a codebook's and a sphere's cannot be: samples may not follow it"
    )
    return [(REMARK, words)]


def _too_short(history: "History", model: Model, rows: Batch) -> list[Finding]:
    """Whether the run ended before anything can be said of it, or while the held-out loss was still falling."""
    epochs = history.rows[-1]["epoch"] if history.rows else 0.0
    few, cut = history.steps < FEW_STEPS, history.ended == "time limit"
    # A net that has hardly left its start says nothing about a row yet: that is no collapse.
    idle = few and _missed(model, rows) > NEAR
    if idle or history.steps < HARDLY or (cut and (few or epochs < 1)):
        gives = "what it gives is close to the average row" if idle else "what it gives is far from what it could"
        return [
            (
                SHORT,
                f"the run was far too short: {history.steps} steps, {epochs:.1f} epochs; {gives}. Give it more "
                "(--epochs, --time-limit)",
            )
        ]
    losses = [r["val"]["loss"] for r in _rows(history)]
    k = max(1, len(losses) // 10)
    if len(losses) < 3 or history.ended not in ("planned steps", "time limit"):
        return []
    # The last tenth of the run against the tenth before: a cosine schedule flattens, so a slope here is a real one.
    late, before = sum(losses[-k:]) / k, sum(losses[-2 * k : -k]) / k
    if before - late > max(2 * NATS, SHARE * abs(late)):
        return [(REMARK, f"{FALLING} at the end: a longer run will be better (--epochs, --time-limit)")]
    return []


def _treated(q: Posterior, active: int, history: "History") -> list[Finding]:
    """Whether the floor under a collapsed posterior was of use."""
    act = next((a for a in history.interventions if a["kind"] == "free bits"), None)
    if act is None:
        return []
    sick = next(r for r in history.rows if r["steps"] == act["step"])["val"]
    since = [r["val"] for r in _rows(history) if r.get("best")]
    what, floor = f"posterior collapse at step {act['step']}", act["settings"]["free_bits"]
    if not since:
        return [(COLLAPSED, f"{what}: free bits were switched on, and the run ended before they could tell")]
    was, now = (part["rec"] + part["kl"] for part in (sick, since[-1]))
    nats, dim = max(0.0, most_information(q)), q.mean.shape[1]
    bound = f"the held-out −ELBO went from {was:.1f} to {now:.1f} nats"
    if active == 0 or nats < NOTHING:
        return [
            (
                COLLAPSED,
                f"{what}, and free bits ({floor:g} nats a dimension) did not help: the code still says at most "
                f"{nats:.2f} nats about a row. There may be nothing to learn beyond the average row, or the decoder "
                f"does without a code; {treatment.OFF}",
            )
        ]
    if was - now < max(NATS, SHARE * abs(was)):
        return [
            (
                COLLAPSED,
                f"{what}: free bits (objective.free_bits={floor:g}) keep {active} of {dim} dimensions in use, but "
                f"{bound}: there is nothing to learn beyond the average row, as in noise or columns that have nothing "
                "to do with each other; or the decoder does without a code, or the run was too short for one; "
                f"{treatment.OFF}",
            )
        ]
    return [
        (
            REMARK,
            f"{what}: free bits (objective.free_bits={floor:g}) were switched on. Now {active} of {dim} dimensions "
            f"are in use, they say at most {nats:.1f} nats about a row, and {bound}; {treatment.OFF}",
        )
    ]


def _collapse(q: Posterior, active: int, history: "History") -> list[Finding]:
    dim = q.mean.shape[1]
    if not q.has_density:
        few = active < dim / 4
        return [(POOR, f"only {active} of {dim} code dimensions vary between rows")] if few else []
    if active == 0 or most_information(q) < NOTHING:
        return [
            (
                COLLAPSED,
                f"posterior collapse: none of the {dim} latent dimensions says anything about a row; every sample and "
                "reconstruction will be the average row. If the data have structure, give the latent room: "
                "--set objective.free_bits=0.25 or a smaller --set objective.beta=0.5",
            )
        ]
    # A ladder's code is as long as its levels are wide: no option of the user's.
    choice = isinstance(q, LadderPosterior)
    if active < dim / 2 and not choice and not any("free_bits" in a["settings"] for a in history.interventions):
        return [
            (
                REMARK,
                f"{active} of {dim} latent dimensions are in use; the rest cost nothing and carry nothing: "
                f"--dim {active} would do, or --set objective.free_bits=0.25 to press for more",
            )
        ]
    return []


def _overfit(history: "History") -> list[Finding]:
    rows = _rows(history)
    if not rows:
        return []
    last, best = rows[-1], min(rows, key=lambda r: r["val"]["loss"])
    gap = last["val"]["rec"] - last["train"]["rec"]
    worse = last["val"]["loss"] - best["val"]["loss"]
    scale = max(1.0, 0.05 * abs(best["val"]["loss"]))
    if worse > scale and gap > scale:
        return [
            (
                POOR,
                f"over-fitting: after epoch {best['epoch']:.0f} the held-out loss rose by {worse:.1f} nats while "
                "training went on falling; the weights of the best epoch were kept. More rows, a smaller net "
                "(--set nets.widths=[64]) or a corruption (--recipe denoising) help",
            )
        ]
    return []


def _beside_pca(model: Model, few: Batch, held_out: Batch, dim: int) -> list[Finding]:
    """Whether PCA of the same size, fitted on rows that the model was trained on, gives held-out rows back better.

    Rows with gaps are left out: in those, PCA knows the filling and the model guesses.
    """
    if held_out.observed is not None:
        held_out = held_out.rows(held_out.observed.flatten(1).all(1).nonzero().flatten())
    if len(held_out) < ENOUGH or not model.likelihood.whole:
        return []
    features = model.likelihood.features(few.x).flatten(1).cpu().numpy()
    # With as many components as features PCA is the identity: there is nothing to compare.
    if dim >= features.shape[1]:
        return []
    pca = baseline.of(features, dim, 0)
    x, expected = baseline.features(model, held_out)
    spread = max(float(np.square(x - pca.mean).sum()), 1e-12)
    own, other = (float(np.square(e).sum()) / spread for e in (x - expected, pca.residual(x)))
    if own <= other + BETTER:
        return []
    text = (
        f"PCA of the same size ({len(pca.components)} components) reconstructs better: it misses {other:.0%} of the "
        f"variance of held-out rows, this model {own:.0%}"
    )
    if model.encode(held_out).has_density:
        # With a price on the code, what is as small as the noise is left out on purpose.
        return [(REMARK, f"{text}. If codes shall be exact: --recipe ae, or --set objective.beta=0.1")]
    return [(POOR, f"{text}. Use PCA, or give it more rows or more steps (--epochs)")]


def _range(model: Model, few: Batch, held_out: Batch, kind: Kind) -> list[Finding]:
    """Whether the decoder expects numbers far outside of those in the data, and where."""
    numbers = model.likelihood.continuous
    if not numbers.any():
        return []
    mean = model.mean_of(held_out).mean[0]
    x = torch.cat([few.x, held_out.x])
    picture = x.dim() == 4
    low, high = (x.amin(), x.amax()) if picture else (x.amin(0), x.amax(0))
    width = (high - low).clamp(min=1e-6)
    off = torch.maximum(low - mean, mean - high) / width
    far = ((off > BEYOND) & numbers).float().mean(0).flatten()
    worst = int(far.argmax())
    if float(far.mean() if picture else far[worst]) <= OFTEN:
        return []
    where, share = kind.cell_name(worst), float(far[worst])
    text = f"the decoder expects values far outside of the data's range at {where} in {share:.0%} of held-out rows"
    does = "--set kind.likelihood=bernoulli keeps pixels inside" if picture else "more rows or a smaller net help"
    return [(POOR, f"{text}: {does}{'' if picture else ' (--set nets.widths=[64])'}")]


def _unscaled(model: Model, held_out: Batch, kind: Kind) -> list[Finding]:
    """Whether σ is fixed to 1 where residuals are of another size: the KL then weighs too much, or too little."""
    if not any(getattr(m, "scale", "") == "unit" for m in model.likelihood.modules()):
        return []
    numbers, mean = model.likelihood.continuous, model.mean_of(held_out).mean[0]
    known = numbers.expand(held_out.x.shape)
    known = known if held_out.observed is None else known & held_out.observed
    spread = float((held_out.x - mean)[known].square().mean().sqrt())
    if 1 / UNSCALED <= spread <= UNSCALED:
        return []
    hint = "--set kind.scale=closed-form" if hasattr(kind, "scale") else "a closed-form scale"
    text = f"the loss is unscaled: σ is fixed to 1, and residuals spread by {spread:.2g}"
    return [(POOR, f"{text}; beside the KL, errors weigh {spread**-2:.2g} times what they should: {hint}")]


def _codes(model: Model, q: Posterior) -> list[Finding]:
    """Entries of a codebook that no row uses."""
    use = usage(model, q.mean).get("codebook_use", 1.0)
    if use >= DEAD_CODES:
        return []
    text = f"{use:.0%} of the codebook is in use: a smaller --set latent.size says as much, a longer run uses more"
    return [(POOR, text)]


def _no_bound(objective: Any) -> list[Finding]:
    if getattr(objective, "beta", 1.0) != 0:
        return []
    text = "β is 0 throughout, so this is an autoencoder: the KL is no part of the loss, and samples from the prior"
    return [(REMARK, f"{text} need not look like rows. --recipe ae fits a prior to the codes")]


def _events(history: "History") -> list[Finding]:
    found = [(REMARK, f"rolled back {text}; from there the rate was halved") for text in history.rollbacks]
    shown = ("warm-up", "floor", "early stopping")
    found += [(REMARK, f"at step {a['step']}: {a['words']}") for a in history.interventions if a["kind"] in shown]
    if history.parts > 1:
        text = f"memory ran out: each batch was taken in {history.parts} parts, with equal results and more time; "
        found.append((REMARK, f"{text}--set train.batch_size=64 needs less"))
    if history.skipped and not history.rollbacks:
        text = f"{history.skipped} of {history.steps} steps had a gradient that was not finite and were skipped; "
        found.append((REMARK, f"{text}if it is more than a few, lower the rate: --set train.lr=1e-4"))
    return found


def _busy(history: "History") -> list[Finding]:
    """Threads that share a core with other work wait for each other: at a load of 6 on two cores, two threads were
    fifteen times slower than one.
    """
    cores, load = os.cpu_count() or 1, os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    if history.threads == 1 or load < 2 * cores:
        return []
    text = f"this machine is busy (load {load:.0f} on {cores} cores), and {history.threads} threads wait for each other"
    return [(REMARK, f"{text}: until it is quiet, OMP_NUM_THREADS=1 before the command is several times faster")]


def _rows(history: "History") -> list[dict[str, Any]]:
    """The looks at held-out rows since the loss last changed its meaning."""
    start = treatment.last(history)
    return [r for r in history.rows if r["steps"] > start and r.get("val") and r.get("train")]
