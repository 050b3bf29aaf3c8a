"""What each latent dimension stands for: the columns it goes with, and what changes in a decoded row when it moves."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.stats import rankdata

from ..estimator import Autoencoder
from ..kinds.columns import Binary, Categorical
from ..kinds.table import Table
from ..model.batch import Batch
from ..model.dists.base import as_mask

# Names of each sort that are given of a dimension; rows that are decoded with it moved.
TOP, MOVED = 3, 300
# ρ² or η² below which a column does not go with a dimension, and changes that are none.
LEAST, STILL = 0.01, 0.005
# Thirds of a picture, both ways.
_DOWN, _ACROSS = ("upper", "middle", "lower"), ("left", "", "right")


@dataclass(frozen=True)
class Meaning:
    """One latent dimension. spread: the standard deviation of the rows' codes. effect: the mean squared change of the
    decoded features over their variance when it moves by that. goes_with: (column, "ρ" or "η²", value), changes:
    (column, how much), the strongest three of each.
    """

    dim: int
    spread: float
    effect: float
    goes_with: tuple[tuple[str, str, float], ...]
    changes: tuple[tuple[str, float], ...]

    def to_json(self) -> dict[str, Any]:
        """Plain numbers and words."""
        return {
            "dim": f"z{self.dim}",
            "spread": self.spread,
            "effect": self.effect,
            "goes_with": [{"column": c, "measure": m, "value": v} for c, m, v in self.goes_with],
            "changes": [{"column": c, "value": v} for c, v in self.changes],
        }


@dataclass(frozen=True)
class _Aspect:
    """What has a name in a row: a column, a gene, a channel, a part of the picture. values: of each row, NaN where
    missing; the level, of a category. features: which of a row's features are its own.
    """

    name: str
    values: np.ndarray
    features: np.ndarray
    category: bool = False


def meanings(ae: Autoencoder, batch: Batch, x: np.ndarray, codes: np.ndarray) -> tuple[Meaning, ...]:
    """Of each latent dimension what it stands for, the one with the largest effect first.

    batch: prepared rows; x: their features [n, f]; codes [n, d]. goes_with: Spearman's ρ of numbers; of categories η²,
    the share of the dimension's variance between levels, less what so many levels get by chance. changes: of rows
    decoded half a standard deviation of the dimension below and above their own code, the mean absolute change of each
    column, in its standard deviations; of a category the probability that moves from one level to others.
    """
    aspects = _aspects(ae, batch, x)
    spread = codes.std(0)
    related = _related(codes, aspects)
    total = max(float(x.var(0).sum()), 1e-12)
    some = np.unique(np.linspace(0, len(codes) - 1, min(MOVED, len(codes))).astype(int))
    rows, deviation = batch.rows(torch.from_numpy(some)), x.std(0)
    found = []
    for dim in range(codes.shape[1]):
        change = _change(ae, rows, codes[some], dim, spread[dim])
        effect = float(np.square(change).mean(0).sum()) / total
        moved = [(a.name, _moved(a, change, deviation)) for a in aspects]
        moved = sorted((m for m in moved if m[1] >= STILL), key=lambda m: -m[1])[:TOP]
        with_ = [(a.name, "η²" if a.category else "ρ", float(r)) for a, r in zip(aspects, related[dim], strict=True)]
        with_ = [w for w in with_ if _share(w) >= LEAST]
        with_ = sorted(with_, key=lambda w: -_share(w))[:TOP]
        found.append(Meaning(dim, float(spread[dim]), effect, tuple(with_), tuple(moved)))
    return tuple(sorted(found, key=lambda m: -m.effect))


def shown(found: tuple[Meaning, ...], of: int) -> list[str]:
    """Meanings in lines; of: how many dimensions there are."""
    if not found:
        return []
    lines = [
        "",
        "what each latent dimension stands for; effect: the share of variance that one deviation of it moves; changes: "
        "in a column's deviations, or of a category in probability",
    ]
    for m in found:
        goes = ", ".join(
            f"{name} {sign} {v:+.2f}" if sign == "ρ" else f"{name} {sign} {v:.2f}" for name, sign, v in m.goes_with
        )
        changes = ", ".join(f"{name} {value:.2f}" for name, value in m.changes)
        lines.append(
            f"z{m.dim:<3} effect {m.effect:.3f}  goes with {goes or 'nothing'}; changes {changes or 'nothing'}"
        )
    if of > len(found):
        lines.append(f"… {of - len(found)} more: --json, or -o FILE.json, gives them")
    return lines


def _share(related: tuple[str, str, float]) -> float:
    """How much of a dimension's variance a column tells: ρ², or η²."""
    return related[2] ** 2 if related[1] == "ρ" else related[2]


def _change(ae: Autoencoder, rows: Batch, codes: np.ndarray, dim: int, spread: float) -> np.ndarray:
    """How the expected features change from half of `spread` below to half above. [n, f]"""
    step = np.zeros(codes.shape[1])
    step[dim] = spread / 2
    ends = []
    with torch.no_grad():
        for z in (codes - step, codes + step):
            there = ae.model_.snap(torch.from_numpy(z.astype(np.float32)))
            ends.append(ae.model_.decode(there.unsqueeze(0), ae.model_.given(rows)).expectation[0].double().numpy())
    return np.nan_to_num(ends[1] - ends[0])


def _moved(aspect: _Aspect, change: np.ndarray, deviation: np.ndarray) -> float:
    own = np.abs(change[:, aspect.features])
    if aspect.category:
        return float(own.sum(1).mean()) / (2 if own.shape[1] > 1 else 1)
    unit = float(np.sqrt(np.square(deviation[aspect.features]).mean()))
    return float(own.mean()) / unit if unit > 0 else 0.0


def _aspects(ae: Autoencoder, batch: Batch, x: np.ndarray) -> list[_Aspect]:
    """What has a name in the rows of a model."""
    kind, owner = ae.schema_, ae.model_.likelihood.owner.numpy()
    if isinstance(kind, Table):
        cells = np.where(as_mask(batch).numpy(), batch.x.double().numpy(), np.nan)
        levels = [isinstance(c, (Categorical, Binary)) for c in kind.modelled]
        names = [str(c.label) for c in kind.modelled]
        return [_Aspect(names[i], cells[:, i], np.flatnonzero(owner == i), levels[i]) for i in range(len(names))]
    if kind.name == "series":
        cells = np.where(as_mask(batch).numpy(), batch.x.double().numpy(), np.nan)
        steps = np.arange(cells[0].size).reshape(cells.shape[1:])
        filled = [
            np.where(np.isnan(c).all(1), np.nan, np.nan_to_num(c).sum(1) / np.maximum((~np.isnan(c)).sum(1), 1))
            for c in np.moveaxis(cells, 2, 0)
        ]
        return [_Aspect(name, filled[i], steps[:, i]) for i, name in enumerate(kind.channels)]  # type: ignore[attr-defined]
    if kind.name == "image":
        return _regions(batch.x.shape[1:], x)
    return [_Aspect(_name(kind, i), x[:, i], np.array([i])) for i in range(x.shape[1])]


def _name(kind: Any, index: int) -> str:
    names = getattr(kind, "names", ())
    return str(names[index]) if len(names) > index else kind.cell_name(index)


def _regions(shape: tuple[int, ...], x: np.ndarray) -> list[_Aspect]:
    """The ninths of a picture of channels × height × width: the mean of each is its value."""
    height, width = shape[-2:]
    places = np.arange(int(np.prod(shape))).reshape(-1, height, width)
    found = []
    for down, rows in zip(_DOWN, np.array_split(np.arange(height), 3), strict=True):
        for across, columns in zip(_ACROSS, np.array_split(np.arange(width), 3), strict=True):
            own = places[:, rows][:, :, columns].reshape(-1)
            name = f"{down} {across}".strip()
            if len(own):
                found.append(_Aspect("centre" if name == "middle" else name, x[:, own].mean(1), own))
    return found


def _related(codes: np.ndarray, aspects: list[_Aspect]) -> np.ndarray:
    """ρ or η² of every dimension and aspect. [d, aspects]"""
    found = np.zeros((codes.shape[1], len(aspects)))
    whole = [j for j, a in enumerate(aspects) if not a.category and not np.isnan(a.values).any()]
    if whole:
        ranks = _standard(rankdata(np.stack([aspects[j].values for j in whole], 1), axis=0))
        found[:, whole] = _standard(rankdata(codes, axis=0)).T @ ranks / len(codes)
    for j in sorted(set(range(len(aspects))) - set(whole)):
        values = aspects[j].values
        there = ~np.isnan(values)
        if there.sum() > 2:
            some = codes[there]
            if aspects[j].category:
                found[:, j] = _between(some, values[there])
            else:
                ranks = _standard(rankdata(values[there])[:, None])
                found[:, j] = (_standard(rankdata(some, axis=0)).T @ ranks / len(some))[:, 0]
    return found


def _standard(x: np.ndarray) -> np.ndarray:
    centred = x - x.mean(0)
    return centred / np.maximum(np.sqrt(np.square(centred).mean(0)), 1e-12)


def _between(codes: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """The share of each dimension's variance that lies between levels, less what chance would give (ε²). [d]"""
    group, counts = np.unique(levels, return_inverse=True, return_counts=True)[1:]
    n, g = len(codes), len(counts)
    total = np.square(codes - codes.mean(0)).sum(0)
    if g < 2 or n <= g:
        return np.zeros(codes.shape[1])
    sums = np.zeros((g, codes.shape[1]))
    np.add.at(sums, group, codes)
    within = np.square(codes - (sums / counts[:, None])[group]).sum(0)
    share = np.where(total > 0, within / np.where(total > 0, total, 1), 1.0)
    return np.maximum(1 - share * (n - 1) / (n - g), 0.0)
