"""The numbers of `evaluate`."""

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import ConfigError
from ..estimator import Autoencoder, _seed
from ..kinds.sequences import Sequences
from ..kinds.sources import Source
from ..model.annealing import STARTS, annealed, schedule
from ..model.batch import Batch, both
from ..model.dists.base import as_mask
from ..model.estimates import Bounds, bounds, mutual_information
from ..model.ladder import Ladder
from ..model.latents.codes import usage
from ..model.model import Model
from ..training import baseline
from ..training.doctor import active_units
from ..training.progress import Passed
from . import curves
from .fidelity import of_samples
from .sequences import OfTokens

# Rows that annealed importance sampling is done on: a thousand times the work of a row's importance-weighted estimate.
FEW = 100
# Chains that carry an estimate, on average over rows, below which it is no check.
LONELY = 2.0
# Rows that the mutual information is of: it cannot exceed the log of their number, and costs its square.
MANY = 2000


def evaluate(
    ae: Autoencoder,
    data: Any,
    samples: int,
    seed: int,
    ais: int = 0,
    steps: int = 500,
    start: str = "prior",
    rate_distortion: bool = False,
    fidelity: bool = False,
    quiet: bool = True,
) -> dict[str, Any]:
    """See `latente.evaluate`."""
    _require(ae, samples, ais, steps, start, rate_distortion)
    seed = _seed(seed)
    generator = torch.Generator().manual_seed(seed)
    few, many = (Few(size, torch.Generator().manual_seed(seed)) for size in (FEW, MANY))
    moments = curves.Moments() if rate_distortion else None
    tokens = OfTokens(ae, generator) if isinstance(ae.schema_, Sequences) else None
    parts, codes, volume = [], [], []
    by_dim: Tensor | None = None  # the KL of each dimension, summed over rows, where it has a closed form
    density, discrete, cells = True, True, 0
    model_error = pca_error = spread = 0.0
    raw = ae.rows(data)
    passed = Passed(sum(raw.sizes) if isinstance(raw, Source) else len(raw), quiet)
    if tokens is not None:
        passed.say(f"{len(raw):,} rows, {samples} draws of each (--samples 20 is sooner done, and a looser bound)")
    for batch in ae.prepared(raw):
        parts.append(bounds(ae.model_, batch, samples, generator))
        with torch.no_grad():
            q = ae.model_.encode(batch)
            kl_dims = ae.model_.prior(ae.model_.given(batch)).kl_dims(q) if q.has_density else None
        codes.append(q.mean)
        density = q.has_density or q.discrete
        if kl_dims is not None:
            by_dim = kl_dims.double().sum(0) + (0 if by_dim is None else by_dim)
        discrete = discrete and ae.model_.likelihood.discrete(batch.x)
        cells += int(as_mask(batch).sum())
        volume.append(ae.schema_.log_volume(batch))
        x, expected = baseline.features(ae.model_, batch)
        model_error += float(np.square(x - expected).sum())
        pca_error += float(np.square(ae._baseline.residual(x)).sum())
        spread += float(np.square(x - ae._baseline.mean).sum())
        few.add(batch)
        many.add(batch)
        if tokens is not None:
            tokens.add(batch)
        if moments is not None:
            moments.add(x, complete=bool(as_mask(batch).all()))
        passed(len(batch))
    found = Bounds(*(torch.cat([getattr(p, name) for p in parts]) for name in ("log_p", "rec", "kl")))
    figures: dict[str, Any] = {"rows": len(found.rec), "dim": ae._n_features_out}
    figures |= _bounds(found, samples if q.has_density else 1, density, cells if discrete else 0)
    if q.entropy is not None:  # of a flow or a ladder each of MANY² densities is a pass through its nets
        figures["mutual_information"] = mutual_information(ae.model_, many.batch, generator)
    figures |= usage(ae.model_, torch.cat(codes))
    if by_dim is not None:
        figures |= _kl(ae.model_, by_dim / len(found.rec))
    figures |= {
        "active_units": active_units(torch.cat(codes)),
        "error": model_error / max(spread, 1e-12),
        "error_pca": pca_error / max(spread, 1e-12),
        "pca_components": len(ae._baseline.components),
        "log_volume": float(torch.cat(volume).mean()),
        "units": "nats per row; subtract log_volume for densities in the data's own units",
    }
    if tokens is not None or not ae.schema_.pca:
        # Squared errors of counts, of a greedy run and of PCA, do not compare: such kinds have other baselines.
        for name in ("error", "error_pca", "pca_components", "log_volume"):
            del figures[name]
        figures["units"] = "nats per row"
    if tokens is not None:
        figures |= tokens.figures(figures.get("iw_nll", math.nan), seed)
    if ais:
        passed.say(f"annealed importance sampling: {len(few.batch)} rows, {ais} chains, {steps} steps")
        figures["check"] = check(ae, few.batch, samples, ais, steps, start, generator)
    if moments is not None:
        passed.say(f"rate and distortion: {len(few.batch)} rows at {len(curves.BETAS)} betas")
        chains = ais or 16
        curve, effective = curves.rate_distortion(ae.model_, few.batch, moments, chains, steps, generator)
        figures |= curve
        if chains > 1 and effective < LONELY:
            figures["rate_distortion_note"] = lonely(effective, chains, steps)
    if fidelity:
        figures["fidelity"] = of_samples(ae, data, seed)
    return figures


def _kl(model: Model, by_dim: Tensor) -> dict[str, list[float]]:
    """Of each latent dimension, and of each level of a ladder, the top first."""
    figures = {"kl_by_dim": by_dim}
    if isinstance(model, Ladder):
        figures = {"kl_by_level": torch.stack([level.sum() for level in by_dim.split(model.sizes)])} | figures
    return {name: [round(v, 3) for v in nats.tolist()] for name, nats in figures.items()}


def _bounds(found: Bounds, samples: int, weighed: bool, cells: int) -> dict[str, Any]:
    """The bounds on −log p(x), if any, and their parts; cells: how many, if each has a probability, else 0."""
    rec, kl = float(found.rec.double().mean()), float(found.kl.double().mean())
    if not weighed:
        return {"rec": rec}
    figures = {"neg_elbo": rec + kl} | _mean("iw_nll", -found.log_p) | {"iw_samples": samples}
    if cells:
        figures["bits_per_dim"] = float(-found.log_p.double().sum()) / (cells * math.log(2))
    return figures | {"rec": rec, "kl": kl}


def check(
    ae: Autoencoder, rows: Batch, samples: int, chains: int, steps: int, start: str, generator: torch.Generator
) -> dict[str, Any]:
    """−log p(x) of some rows by annealed importance sampling, and by importance weights beside it.

    gap is iw_nll − ais_nll: both are upper bounds on average, so what is above 0 is what q(z|x) leaves out; gap_se is
    its standard error, of the differences row by row.
    """
    found = annealed(ae.model_, rows, generator, chains=chains, betas=schedule(steps), start=start)
    figures: dict[str, Any] = {"rows": len(rows)} | _mean("ais_nll", -found.log_p)
    other = bounds(ae.model_, rows, samples, generator)
    if ae.model_.encode(rows).has_density:
        figures |= _mean("iw_nll", -other.log_p) | _mean("gap", found.log_p - other.log_p.double())
    effective = float(found.share.mean()) * chains
    figures |= {
        "chains": chains,
        "steps": steps,
        "start": start,
        "accepted": round(found.accepted, 4),
        "effective_chains": effective,
    }
    if chains > 1 and effective < LONELY:
        figures["note"] = f"{lonely(effective, chains, steps)}, or --ais-start posterior"
    return figures


def lonely(effective: float, chains: int, steps: int) -> str:
    """What too few chains mean, and what helps."""
    return (
        f"{effective:.1f} of {chains} chains carry the estimate, which is then far above −log p(x): "
        f"--ais-steps {4 * steps}"
    )


def _mean(name: str, nats: Tensor) -> dict[str, float]:
    """The mean of rows' numbers, and its standard error over rows (which holds the noise of the draws too)."""
    nats = nats.double()
    error = float(nats.std()) / len(nats) ** 0.5 if len(nats) > 1 else 0.0
    return {name: float(nats.mean()), f"{name}_se": error}


class Few:
    """Some of the rows that come by, each as likely as any other, however many there will be."""

    batch: Batch

    def __init__(self, size: int, generator: torch.Generator) -> None:
        self.size, self.generator = size, generator
        self.keys = torch.empty(0)

    def add(self, batch: Batch) -> None:
        """Look at some more rows."""
        joined = both(self.batch, batch) if len(self.keys) else batch
        keys = torch.cat([self.keys, torch.rand(len(batch), generator=self.generator)])
        kept = keys.argsort()[: self.size].sort().values
        self.keys, self.batch = keys[kept], joined.rows(kept)


def _require(ae: Autoencoder, samples: int, ais: int, steps: int, start: str, rate_distortion: bool) -> None:
    for name, value, least in (("samples", samples, 1), ("ais", ais, 0), ("ais_steps", steps, 2)):
        if value < least:
            raise ConfigError(f"{name} must be {least} or more, not {value}")
    if start not in STARTS:
        raise ConfigError(f"ais_start must be {' or '.join(STARTS)}, not {start!r}")
    support = getattr(ae.spec_.latent, "support", "numbers")
    if (ais or rate_distortion) and support != "numbers":
        raise ConfigError(
            f"latent {ae.spec_.latent.name!r} gives {support}, and annealed importance sampling moves in small steps "
            "through numbers",
            hint="leave out --ais and --rate-distortion",
        )
