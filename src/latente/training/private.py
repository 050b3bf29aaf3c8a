"""Differentially private training: of every row a gradient of bounded length, and noise on their sum.

row ──▶ its own gradient ──▶ clipped to length C ─┐
row ──▶ its own gradient ──▶ clipped to length C ─┴▶ sum + N(0, (σC)²) ──▶ / expected rows ──▶ Adam

DP-SGD (Abadi et al. 2016, arXiv:1607.00133): (ε, δ) for one row there or blanked out, over rows that each step draws
by themselves (Poisson); how many rows there are is not secret. How much noise that takes is dp-accounting's to say, by
privacy loss distributions. All randomness of the run is the system's own: the noise, which rows a step draws, and what
the model draws itself, since a row that is not there would move the draws of all that come after it.
"""

import secrets
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, vmap

from ..errors import ConfigError
from ..kinds.sequences import Sequences
from ..model.batch import Batch
from ..model.latents.gaussian import Gaussian
from ..model.model import Model
from ..model.priors.standard import Standard
from ..model.spec import Spec, Train

# Length that a row's gradient is clipped to. Adam takes gradients of any scale: only its share of the noise counts.
CLIP = 1.0
# Rows whose gradients are held at once: each is as large as the model.
CHUNK = 32
# Fewer rows a step, and a step without any, which the accountant counts too, would not be improbable (e⁻⁶⁴).
LEAST_BATCH = 64
# Rows of a step, and (epochs, steps at least) of a run, unless given.
BATCH, UNPLANNED = 512, (3, 150)
# δ unless given: a tenth of one row's share.
DELTA = 0.1


def paced(spec: Spec) -> Spec:
    """`spec` with a length that suits a private fit: few steps of many rows, of which each costs privacy. On Adult at
    ε 3 three epochs of 512 rows gave pairs of .919, one of 256 .866.
    """
    return spec.override("train.unplanned", UNPLANNED).override("train.batch_size", BATCH)


def spec_of(spec: Spec, spread: bool) -> Spec:
    """`spec` without what would look at rows by another way than clipped gradients: rows held out, the doctor's acts, a
    prior that is fitted to codes. A code is then priced in full: its prior is the standard normal.

    spread: whether the rows are read while training, or shared out among processes, which a private fit cannot.
    """
    if spread:
        raise ConfigError(
            "a private fit draws its rows anew for every step, from memory and in one process",
            hint="--stream no --processes 1",
        )
    if spec.kind.sparse:
        raise ConfigError(f"a fit of kind {spec.kind.name!r} cannot be made private", hint="leave --dp-epsilon out")
    if isinstance(spec.kind, Sequences):
        raise ConfigError(
            "a private fit needs each row's own gradient, and rows of tokens go through their nets together",
            hint="leave out --dp-epsilon (dp_epsilon)",
        )
    if spec.use is not None:
        raise ConfigError(
            f"use {spec.use.name!r} is learned from the rows themselves, beside the private model",
            hint="a recipe without it: --recipe vae",
        )
    if spec.train.batch_size < LEAST_BATCH:
        raise ConfigError(
            f"a private fit needs batches of {LEAST_BATCH} rows or more, not {spec.train.batch_size}",
            hint="--set train.batch_size=256",
        )
    spec = spec.override("train.validation", 0.0).override("train.doctor", "off")
    if spec.prior.name in ("fitted", "composite"):
        spec = spec.override("prior", Standard())
    if spec.latent.name == "informative":
        spec = spec.override("latent", Gaussian(dim=spec.latent.dim))
    return spec


def secret() -> np.random.Generator:
    """A generator that nobody knows the seed of: with it, noise could be taken off again. Of 128 bits, where torch's
    takes 32, which can all be tried.
    """
    return np.random.Generator(np.random.PCG64DXSM(secrets.randbits(128)))


def unknown(generator: torch.Generator) -> None:
    """Give a generator of torch's a seed that nobody knows."""
    generator.manual_seed(secrets.randbits(63))


def delta_of(config: Train, rows: int) -> float:
    """δ of the fit."""
    return DELTA / rows if config.dp_delta is None else config.dp_delta


def multiplier(epsilon: float, delta: float, share: float, steps: int) -> float:
    """σ of the noise, in units of the clipping length, that gives (ε, δ) over so many steps, each of which draws every
    row with probability `share`.
    """
    try:
        import dp_accounting
        from dp_accounting import pld
    except ImportError:
        raise ConfigError(
            "a private fit needs the package dp-accounting, which is not here", hint="pip install 'latente[private]'"
        ) from None

    def event(sigma: float) -> Any:
        one = dp_accounting.PoissonSampledDpEvent(share, dp_accounting.GaussianDpEvent(sigma))
        return dp_accounting.SelfComposedDpEvent(one, steps)

    try:
        found = dp_accounting.calibrate_dp_mechanism(
            lambda: pld.PLDAccountant(value_discretization_interval=1e-3),
            event,
            epsilon,
            delta,
            dp_accounting.ExplicitBracketInterval(0.2, 200.0),
            tol=1e-3,
        )
    except ValueError as error:
        raise ConfigError(
            f"no noise gives ε {epsilon:g} with δ {delta:.1g} over {steps:,} steps: {error}",
            hint="fewer --epochs, or another --dp-epsilon",
        ) from None
    return float(found)


class Private:
    """The step of a private fit; `card` says what it guarantees."""

    def __init__(self, model: Model, forward: nn.Module, config: Train, rows: int, steps: int | None) -> None:
        assert config.dp_epsilon is not None
        reads = model.likelihood.measured or any(True for _ in model.memory.buffers())
        if reads or any(hasattr(m, "team") for m in model.modules()):
            raise ConfigError(
                "this model keeps running numbers of the rows, which a private fit must not",
                hint="--recipe tabular, or a scale that is learned: --set kind.scale=learned",
            )
        if getattr(model.prior(), "fitted_afterwards", False):
            raise ConfigError(
                "this prior is fitted to the codes of rows, which a private fit must not", hint="--set prior=standard"
            )
        if steps is None:
            raise ConfigError("a private fit must know its number of steps", hint="give --epochs, not a time limit")
        self.model, self.forward, self.expected = model, forward, min(config.batch_size, rows)
        delta, share = delta_of(config, rows), self.expected / rows
        if delta >= 1 / rows:
            raise ConfigError(
                f"δ is the chance that nothing is guaranteed: {delta:g} is no less than one row's share of {rows:,}",
                hint=f"--set train.dp_delta={DELTA / rows:.1g}",
            )
        self.sigma = multiplier(config.dp_epsilon, delta, share, steps)
        self.noise = secret()
        self.card = {
            "epsilon": config.dp_epsilon,
            "delta": delta,
            "noise": round(self.sigma, 4),
            "clip": CLIP,
            "share": round(share, 6),
            "steps": steps,
            "covers": "the weights, for one row there or blanked out; not the number of rows, nor the schema: levels, "
            "ranges and quantiles are the data's own",
        }

    def __call__(self, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """Gradients in the weights' `.grad`; the loss and its terms, mean over the rows."""
        self.model.likelihood.deal(generator)
        present = {n: t for n in ("x", "observed", "context") if (t := getattr(batch, n)) is not None}
        weights = {n: p for n, p in self.forward.named_parameters() if p.requires_grad}
        detached = {n: p.detach() for n, p in weights.items()}
        sums = {n: torch.zeros_like(p) for n, p in detached.items()}
        terms: dict[str, Tensor] = {}

        def loss(of: dict[str, Tensor], row: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
            one = {n: t[None] for n, t in row.items()}
            found = functional_call(self.forward, of, (Batch(one["x"], one.get("observed"), one.get("context")),))
            return found["loss"], found

        gradients: Callable[..., Any] = vmap(grad_and_value(loss, has_aux=True), (None, 0), randomness="different")
        for start in range(0, len(batch), CHUNK):
            with warnings.catch_warnings():
                # Of operations that torch takes row by row; they are few.
                warnings.filterwarnings("ignore", "There is a performance drop", UserWarning)
                found, (_, told) = gradients(detached, {n: t[start : start + CHUNK] for n, t in present.items()})
            length = torch.stack([g.flatten(1).square().sum(1) for g in found.values()]).sum(0).sqrt()
            # A row whose gradient is no number says nothing.
            factor = torch.where(length.isfinite(), (CLIP / length.clamp(min=1e-12)).clamp(max=1.0), 0.0)
            for name, g in found.items():
                sums[name] += torch.tensordot(factor, g.nan_to_num(0.0, 0.0, 0.0), 1)
            for name, value in told.items():
                terms[name] = terms.get(name, torch.zeros(())) + value.detach().sum()
        self.model.likelihood.deal(None)
        for name, p in weights.items():
            # float64: those of float32 have gaps, and an end.
            drawn = torch.from_numpy(self.noise.standard_normal(tuple(p.shape))).to(p.device, torch.float32)
            p.grad = (sums[name] + self.sigma * CLIP * drawn) / self.expected
        return {name: value / max(1, len(batch)) for name, value in terms.items()}


def verdict(model: Model, steps: int) -> str:
    """One line on a private fit, for which no row is looked at. Raises ConfigError if a weight is no number."""
    if not all(p.isfinite().all() for p in model.parameters()):
        raise ConfigError("the run diverged: a weight is not finite, and it was not kept", hint="--set train.lr=1e-4")
    if steps < UNPLANNED[1] // 3:
        return f"{steps} steps are too few to have learned much (no row was looked at): give it more --epochs"
    return "private: no row was looked at to judge it; latente evaluate does, on rows that you give"


def draws(rows: int, config: Train, steps: int) -> list[Tensor]:
    """The rows of each of so many steps, every row in each with the same probability."""
    generator, share = secret(), min(config.batch_size, rows) / rows
    return [torch.from_numpy(np.flatnonzero(generator.random(rows) < share)) for _ in range(steps)]
