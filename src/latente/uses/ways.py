"""Ways through a latent space: from one code to another, and along each of its dimensions."""

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from ..errors import ConfigError, DataError
from ..estimator import ROWS, Autoencoder
from ..kinds.given import apart, cells
from ..kinds.given import between as along
from ..kinds.reading import read

# Frames between two pictures of a sheet, in an animation.
FINE = 6
# How far a dimension is moved, in standard deviations of a standard normal prior.
REACH = 3.0
# Of another prior: the percentiles between which a dimension is moved, and the draws that say where they lie.
PERCENTILES, DRAWS = (1.0, 99.0), 2000
# Places of each dimension at which the decoder's answers are compared.
LOOKS = 5


def path(a: np.ndarray, b: np.ndarray, steps: int, round: bool = True) -> np.ndarray:
    """Codes [steps, d] from a [d] to b [d]: along a great circle, with the radius in proportion, or along a line."""
    t = np.linspace(0.0, 1.0, steps)[:, None]
    ra, rb = float(np.linalg.norm(a)), float(np.linalg.norm(b))
    cosine = float(np.clip(a @ b / (ra * rb), -1, 1)) if ra > 0 and rb > 0 else 1.0
    angle = np.arccos(cosine)
    # Between (nearly) parallel codes a circle is the line; between opposite ones it is not defined.
    if not round or angle < 1e-3 or angle > np.pi - 1e-3:
        return ((1 - t) * a + t * b).astype(np.float32)
    direction = (np.sin((1 - t) * angle) * a / ra + np.sin(t * angle) * b / rb) / np.sin(angle)
    return (direction * ((1 - t) * ra + t * rb)).astype(np.float32)


def between(ae: Autoencoder, a: np.ndarray, b: np.ndarray, steps: int) -> np.ndarray:
    """Codes [steps, d] from a to b as the model's latent space wants it: a point's is flat, and codes have entries."""
    way = path(a, b, steps, round=ae.spec_.latent.name not in ("point", "codes"))
    return ae.model_.snap(torch.from_numpy(way)).numpy()


@dataclass(frozen=True)
class Walk:
    """Each dimension moved alone around a code.

    order: the dimensions, the one that changes the decoded row most first. low, high: where each of these begins and
    ends. base: the code. [n], [n], [n], [d]. told: what is given all along, of a conditional model.
    """

    order: np.ndarray
    low: np.ndarray
    high: np.ndarray
    base: np.ndarray
    told: pd.DataFrame | None = None

    def values(self, steps: int) -> np.ndarray:
        """The values of each dimension. [n, steps]"""
        return np.linspace(self.low, self.high, steps, axis=1, dtype=np.float32)

    def codes(self, steps: int) -> np.ndarray:
        """The codes, dimension by dimension. [n, steps, d]"""
        codes = np.tile(self.base, (len(self.order), steps, 1))
        for i, (dim, values) in enumerate(zip(self.order, self.values(steps), strict=True)):
            codes[i, :, dim] = values
        return codes


def walk(ae: Autoencoder, base: np.ndarray | None, dims: int, told: pd.DataFrame | None = None) -> Walk:
    """The walk around `base` [d], or around the prior's mean, along the `dims` dimensions that change the row most.

    A dimension's effect is the variance of p(x|z)'s expected features along the way, summed over them.
    """
    low, high, mean = _reach(ae, told)
    base = (mean if base is None else base).astype(np.float32)
    every = Walk(np.arange(len(base)), low, high, base, told)
    effect = _effects(ae, every.codes(LOOKS), told)
    order = np.argsort(-effect, kind="stable")[:dims]
    return Walk(order, low[order], high[order], base, told)


def _reach(ae: Autoencoder, told: pd.DataFrame | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where each dimension begins and ends, and the prior's mean. [d] each"""
    d = ae._n_features_out
    if ae.spec_.prior.name == "standard" and ae.condition_ is None:
        return np.full(d, -REACH), np.full(d, REACH), np.zeros(d)
    with torch.no_grad():
        draws = ae.model_.prior(numbers_of(ae, told)).sample(DRAWS, torch.Generator().manual_seed(0)).numpy()
    low, high = np.percentile(draws, PERCENTILES, axis=0)
    return low, high, draws.mean(0)


def _effects(ae: Autoencoder, codes: np.ndarray, told: pd.DataFrame | None) -> np.ndarray:
    """The variance of the expected features along each way, summed over them. codes [n, steps, d] -> [n]"""
    n, steps, d = codes.shape
    each = max(1, ROWS // steps)
    found = []
    for start in range(0, n, each):
        z = torch.from_numpy(codes[start : start + each]).reshape(-1, d)
        with torch.no_grad():
            expected = ae.model_.decode(ae.model_.snap(z), numbers_of(ae, told)).expectation
        found.append(expected.unflatten(0, (-1, steps)).var(1).sum(-1))
    return np.nan_to_num(torch.cat(found).numpy())


def decoded(ae: Autoencoder, codes: np.ndarray, told: pd.DataFrame | None = None) -> Any:
    """Rows or pictures of codes [..., d], as one block of rows; `told` is given of all of them."""
    z = ae.model_.snap(torch.from_numpy(codes.reshape(-1, codes.shape[-1]))).numpy()
    return ae.decode(z, given=None if told is None else pd.concat([told] * len(z), ignore_index=True))


def told_of(ae: Autoencoder, row: Any) -> pd.DataFrame | None:
    """What is given of a raw row, as a table of one row; None of an unconditional model, or where nothing is."""
    return None if ae.condition_ is None else apart(ae.rows(row), ae._condition)[1]


def told_between(ae: Autoencoder, a: Any, b: Any, steps: int) -> pd.DataFrame | None:
    """What is given along the way between two raw rows."""
    ends = told_of(ae, a), told_of(ae, b)
    return None if ends[0] is None or ends[1] is None else along(ends[0], ends[1], steps)


def numbers_of(ae: Autoencoder, told: pd.DataFrame | None) -> torch.Tensor | None:
    """What is given as the model's numbers. [rows, k]"""
    if told is None or ae.condition_ is None or ae.model_.condition is None:
        return None
    return ae.model_.condition(cells(ae.condition_, told))


def moved(ae: Autoencoder, data: Any, direction: Any, strength: float) -> Any:
    """See `latente.apply`."""
    if isinstance(direction, (str, Path)):
        direction = _numbers(Path(direction))
    numbers = np.asarray(direction, dtype=np.float64).reshape(-1)
    if len(numbers) != ae._n_features_out or not np.isfinite(numbers).all():
        raise DataError(
            f"the direction has {len(numbers)} numbers, and the latent space {ae._n_features_out} dimensions",
            hint="latente vector MODEL A B -o direction.npy",
        )
    if not np.isfinite(strength):
        raise ConfigError(f"strength must be a number, not {strength!r}")
    return decoded(ae, (ae.transform(data) + strength * numbers).astype(np.float32))


def _numbers(path: Path) -> Any:
    """The numbers of a file: an array of one dimension, or a table of one column."""
    if path.suffix.lower() == ".npy" and path.is_file():
        with contextlib.suppress(ValueError, OSError, EOFError):
            return np.load(path, allow_pickle=False)
    return read(path, "table", note=lambda text: None)
