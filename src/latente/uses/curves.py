"""Rate–distortion: what a model's decoder can do at every rate, beside the best code of a Gaussian."""

import io
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..atomic import atomic_write
from ..errors import ConfigError
from ..model.annealing import annealed, schedule
from ..model.batch import Batch
from ..model.dists.base import Dist
from ..model.dists.gaussian import GaussianDist
from ..model.dists.mixed import MixedDist
from ..model.estimates import bounds
from ..model.model import Model

# Inverse temperatures of the curve: half octaves from where a row's cells hardly matter to where they count fourfold.
BETAS = (0.0, *(2.0 ** (k / 2) for k in range(-16, 5)))
# Features up to which a covariance is looked at: its eigenvalues cost their cube.
FEATURES = 4096
# Draws from q(z|x) for the encoder's own point.
DRAWS = 100
# The lowest that the picture shows, and its formats.
SHOWN = 1 / 32
PLOTS = (".png", ".pdf", ".svg")


class Moments:
    """The covariance of features that come by, some rows at a time; none if there are too many, or gaps in them."""

    def __init__(self) -> None:
        self.rows, self.usable = 0, True
        self.total: Any = 0.0
        self.outer: Any = 0.0

    def add(self, x: np.ndarray, complete: bool) -> None:
        """Features [n, f]; complete: without gaps."""
        self.usable = self.usable and complete and x.shape[1] <= FEATURES
        if self.usable:
            x = x.astype(np.float64)
            self.rows, self.total, self.outer = self.rows + len(x), self.total + x.sum(0), self.outer + x.T @ x

    @property
    def covariance(self) -> np.ndarray:
        """[f, f]"""
        mean = self.total / self.rows
        return np.asarray(self.outer / self.rows - np.outer(mean, mean))


def rate_distortion(
    model: Model, rows: Batch, moments: Moments, chains: int, steps: int, generator: torch.Generator
) -> tuple[dict[str, Any], float]:
    """The curve of the model, the point (KL, reconstruction) where its encoder is, on the same rows, and the curve of a
    Gaussian with the covariance of all rows where the likelihood is Gaussian; and how many chains carry the curve, on
    average over rows.
    """
    betas = schedule(steps, BETAS[-1], BETAS)
    found = annealed(model, rows, generator, chains=chains, betas=betas)
    at = [found.at(beta) for beta in BETAS]
    curve = zip(BETAS, found.rate[at].mean(1).tolist(), found.distortion[at].mean(1).tolist(), strict=True)
    figures: dict[str, Any] = {"rate_distortion_rows": len(rows), "rate_distortion": [_point(*p) for p in curve]}
    own = bounds(model, rows, DRAWS, generator)
    with torch.no_grad():
        if model.encode(rows).has_density:
            figures["rate_distortion_encoder"] = {"rate": float(own.kl.mean()), "distortion": float(own.rec.mean())}
        px = model.mean_of(rows.rows(slice(0, 1)))
    scale = _scale(px, rows.x.shape[1:])
    if scale is not None and moments.usable:
        figures["rate_distortion_gaussian"] = [_point(*p) for p in gaussian(moments.covariance, scale)]
    return figures, float(found.share.mean()) * chains


def _scale(px: Dist, cells: tuple[int, ...]) -> Tensor | None:
    """The scale of each cell [f] if all are Gaussian."""
    if isinstance(px, GaussianDist):
        return px.scale.expand(cells).flatten()
    if isinstance(px, MixedDist):
        scales = [_scale(dist, columns.shape) for columns, dist in px.groups]
        if not any(s is None for s in scales):
            return torch.cat([s for s in scales if s is not None]).index_select(0, px.inverse)
    return None


def _point(beta: float, rate: float, distortion: float) -> dict[str, float]:
    # The draws' noise is in the second decimal at best.
    return {"beta": round(beta, 5), "rate": round(rate, 4), "distortion": round(distortion, 4)}


def gaussian(covariance: np.ndarray, scale: Tensor) -> list[tuple[float, float, float]]:
    """(β, rate, distortion) of the best code of N(mean, covariance), exact, by reverse water-filling.

    Distortion is −log N(x; its decoding, scale²), as a model with these scales [f] counts it: half the squared error in
    units of the scale, and constants. Principal components whose variance in these units is above the water level
    θ = 1/β are coded down to θ, and the others are left out: Cover & Thomas 2006, theorem 10.3.3. No distribution with
    this covariance needs a higher rate. At one β, both curves have one slope: −β nats of rate per nat of distortion.
    """
    sigma = scale.double().numpy()
    variances = np.linalg.eigvalsh(covariance / np.outer(sigma, sigma)).clip(min=0.0)
    constant = float(np.log(sigma).sum()) + 0.5 * len(sigma) * math.log(2 * math.pi)
    found = []
    for beta in BETAS:
        rate = 0.5 * np.log(np.maximum(beta * variances, 1.0)).sum()
        error = variances if beta == 0 else np.minimum(variances, 1 / beta)
        found.append((beta, float(rate), 0.5 * float(error.sum()) + constant))
    return found


def table(figures: dict[str, Any]) -> Any:
    """Both curves as a data frame: of, beta, rate, distortion."""
    import pandas as pd

    names = {"rate_distortion": "model", "rate_distortion_gaussian": "gaussian"}
    return pd.DataFrame([{"of": name, **p} for key, name in names.items() for p in figures.get(key, ())])


def plot(figures: dict[str, Any], path: Path) -> list[Path]:
    """Both curves, and the encoder's own point, as a picture."""
    from matplotlib.figure import Figure

    if "rate_distortion" not in figures:
        raise ConfigError(
            f"{path.name!r} is a picture, and only a rate–distortion curve is one", hint="add --rate-distortion"
        )
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for of, points in table(figures).groupby("of", sort=False):
        axes.plot(points["rate"], points["distortion"], ".-" if of == "model" else "--", label=of)
    own = figures.get("rate_distortion_encoder")
    if own is not None:
        axes.plot(own["rate"], own["distortion"], "k*", label="encoder")
    # At no rate at all the distortion is far above all else: the axis begins where a row's cells count a little.
    seen = [p["distortion"] for p in figures["rate_distortion"] if p["beta"] >= SHOWN]
    seen += [own["distortion"]] if own else []
    if "rate_distortion_note" in figures:
        axes.set_title(figures["rate_distortion_note"], fontsize="x-small", wrap=True)
    margin = 0.1 * (max(seen) - min(seen))
    axes.set_ylim(min(seen) - margin, max(seen) + margin)
    axes.set(xlabel="rate, nats per row", ylabel="distortion −log p(x|z), nats per row")
    axes.legend(frameon=False)
    held = io.BytesIO()
    figure.savefig(held, format=path.suffix[1:], dpi=150)
    atomic_write(path, held.getvalue())
    return [path]
