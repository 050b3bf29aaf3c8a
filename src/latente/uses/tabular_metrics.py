"""What tells synthetic rows of a table from real ones: columns, pairs, trees, a classifier trained on them, neighbours.

Frames of pandas in, numbers out; nothing here knows a model.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats.contingency import association
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import r2_score, roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

# Bins of a number where it is compared with levels, and how strongly two columns of the real rows must hang together to
# be compared at all: the defaults of the published score (SDMetrics 0.32, "Column Pair Trends").
BINS, LEAST_CORRELATION, LEAST_ASSOCIATION = 10, 0.4, 0.3
# Levels that trees take one by one; rarer ones share the last (scikit-learn's trees take 255).
MOST_LEVELS = 250
# A level that occurs this often in the real rows is to occur in as many synthetic ones.
FREQUENT = 10


@dataclass(frozen=True)
class Coded:
    """Frames of the same columns as numbers [n, m] each, NaN where missing; which columns are levels; their names."""

    frames: tuple[np.ndarray, ...]
    levels: np.ndarray
    names: tuple[str, ...]


def coded(*frames: pd.DataFrame) -> Coded:
    """Numbers and dates as they are, everything else by the place of its level among those of the first frame, the most
    frequent first; levels that it does not have follow.
    """
    columns: list[list[np.ndarray]] = []
    levels = []
    for name in frames[0].columns:
        parts = [frame[name] for frame in frames]
        number = is_number(parts[0])
        levels.append(not number)
        if number:
            columns.append([as_numbers(part) for part in parts])
            continue
        texts = [part.dropna().map(str) for part in parts]
        order = list(texts[0].value_counts().index)
        others = dict.fromkeys(level for text in texts[1:] for level in text.unique())
        known = {level: float(i) for i, level in enumerate(dict.fromkeys([*order, *others]))}
        columns.append(
            [text.map(known).reindex(part.index).to_numpy(float) for text, part in zip(texts, parts, strict=True)]
        )
    found = tuple(np.stack([column[i] for column in columns], 1) for i in range(len(frames)))
    return Coded(found, np.array(levels), tuple(map(str, frames[0].columns)))


def is_number(column: pd.Series) -> bool:
    """Whether a column holds amounts or dates, not levels."""
    if pd.api.types.is_bool_dtype(column.dtype):
        return False
    return bool(pd.api.types.is_numeric_dtype(column.dtype) or pd.api.types.is_datetime64_any_dtype(column.dtype))


def as_numbers(column: pd.Series) -> np.ndarray:
    """Amounts as they are, dates as seconds; NaN where missing."""
    if pd.api.types.is_datetime64_any_dtype(column.dtype):
        stamps = column.astype("datetime64[us]") if column.dt.tz is None else column.dt.tz_convert(None)
        return np.where(column.isna(), np.nan, stamps.astype("int64").to_numpy(float) / 1e6)
    return pd.to_numeric(column, errors="coerce").to_numpy(float, na_value=np.nan)


def shapes(real: np.ndarray, synthetic: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """Of each column 1 − the largest distance of the distribution functions (numbers: Kolmogorov–Smirnov) or 1 − the
    total variation (levels), of the cells that are there. 1 is best. [m]

    Source: SDMetrics, "Column Shapes": its mean over columns is the published score.
    """
    found = []
    for j, of_levels in enumerate(levels):
        a, b = (x[~np.isnan(x[:, j]), j] for x in (real, synthetic))
        if not len(a) or not len(b):
            found.append(float(len(a) == len(b)))
        elif of_levels:
            p, q = (np.bincount(x.astype(int), minlength=1 + int(max(a.max(), b.max()))) / len(x) for x in (a, b))
            found.append(1 - 0.5 * float(np.abs(p - q).sum()))
        else:
            at = np.unique(np.concatenate([a, b]))
            p, q = (np.searchsorted(np.sort(x), at, "right") / len(x) for x in (a, b))
            found.append(1 - float(np.abs(p - q).max()))
    return np.array(found)


def pairs(real: np.ndarray, synthetic: np.ndarray, levels: np.ndarray) -> dict[tuple[int, int], float]:
    """Of each pair of columns that hangs together in the real rows how alike it is: 1 − half the difference of the
    correlations, or 1 − the total variation of the tables of counts, numbers in ten bins of equal width. 1 is best.

    Source: SDMetrics, "Column Pair Trends", with its thresholds: a correlation above .4, Cramér's V above .3.
    """
    binned = [_bins(real[:, j], synthetic[:, j], bool(of)) for j, of in enumerate(levels)]
    found = {}
    for i, j in combinations(range(len(levels)), 2):
        if not levels[i] and not levels[j]:
            own = _correlation(real[:, i], real[:, j])
            if abs(own) > LEAST_CORRELATION:
                found[i, j] = 1 - abs(own - _correlation(synthetic[:, i], synthetic[:, j])) / 2
            continue
        size = max(int(x.max()) for x in binned[j]) + 1
        many = (max(int(x.max()) for x in binned[i]) + 1) * size
        a, b = (np.bincount(x * size + y, minlength=many) for x, y in zip(binned[i], binned[j], strict=True))
        table = a.reshape(-1, size)
        table = table[table.sum(1) > 0][:, table.sum(0) > 0]
        if min(table.shape) > 1 and association(table) > LEAST_ASSOCIATION:
            found[i, j] = 1 - 0.5 * float(np.abs(a / a.sum() - b / b.sum()).sum())
    return found


def _bins(real: np.ndarray, synthetic: np.ndarray, levels: bool) -> tuple[np.ndarray, np.ndarray]:
    """A column as whole numbers; missing is one of its own, after all others."""
    if not levels and not np.isnan(real).all():
        edges = np.histogram_bin_edges(real[~np.isnan(real)], BINS)
        edges[0], edges[-1] = -np.inf, np.inf
        real, synthetic = (np.where(np.isnan(x), np.nan, np.digitize(x, edges)) for x in (real, synthetic))
    last = np.nanmax(np.concatenate([real, synthetic, [0.0]])) + 1
    return tuple(np.where(np.isnan(x), last, x).astype(int) for x in (real, synthetic))  # type: ignore[return-value]


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    there = ~(np.isnan(a) | np.isnan(b))
    if there.sum() < 3 or np.ptp(a[there]) == 0 or np.ptp(b[there]) == 0:
        return 0.0
    return float(np.corrcoef(a[there], b[there])[0, 1])


def two_sample(a: np.ndarray, b: np.ndarray, levels: np.ndarray, seed: int = 0) -> float:
    """How well boosted trees tell two sets of rows apart, as many of each: AUROC over three folds; .5 is not at all.

    Source: Lopez-Paz & Oquab 2017 (arXiv:1610.06545), there as an accuracy.
    """
    rng = np.random.default_rng(seed)
    n = min(len(a), len(b))
    x = np.concatenate([part[rng.permutation(len(part))[:n]] for part in (a, b)])
    y = np.repeat([0, 1], n)
    folds = StratifiedKFold(3, shuffle=True, random_state=seed)
    trees = HistGradientBoostingClassifier(categorical_features=levels, random_state=seed)
    return float(roc_auc_score(y, cross_val_predict(trees, _few(x, levels), y, cv=folds, method="predict_proba")[:, 1]))


def trained_on(rows: np.ndarray, test: np.ndarray, levels: np.ndarray, target: int, seed: int = 0) -> dict[str, float]:
    """How well `target` is predicted in real test rows by gradient boosting and by a linear model trained on `rows`:
    AUROC of levels (of several, one against the rest), R² of numbers. NaN where `rows` have but one level.
    """
    rest = np.arange(rows.shape[1]) != target
    own, asked = (x[~np.isnan(x[:, target])] for x in (rows, test))
    x, y, other, truth = own[:, rest], own[:, target], asked[:, rest], asked[:, target]
    x, other, kinds = _few(x, levels[rest]), _few(other, levels[rest]), levels[rest]
    forest = HistGradientBoostingClassifier if levels[target] else HistGradientBoostingRegressor
    spread = make_column_transformer(
        (make_pipeline(SimpleImputer(), StandardScaler()), np.flatnonzero(~kinds)),
        (OneHotEncoder(handle_unknown="ignore", max_categories=50), np.flatnonzero(kinds)),
    )
    line = LogisticRegression(max_iter=500) if levels[target] else Ridge()
    models = {"boosting": forest(categorical_features=kinds, random_state=seed), "linear": make_pipeline(spread, line)}
    if levels[target] and len(np.unique(y)) < 2:
        return dict.fromkeys(models, float("nan"))
    return {name: _judged(model.fit(x, y), other, truth, bool(levels[target])) for name, model in models.items()}


def _judged(model: Any, x: np.ndarray, y: np.ndarray, levels: bool) -> float:
    if not levels:
        return float(r2_score(y, model.predict(x)))
    known = np.isin(y, model.classes_)
    p, y = model.predict_proba(x[known]), y[known]
    return auroc(p, np.searchsorted(model.classes_, y))


def auroc(p: np.ndarray, y: np.ndarray) -> float:
    """AUROC of probabilities [n, levels] for levels y [n]: of two, of the second; of several, the mean of each one
    against the rest, over those that occur.
    """
    if p.shape[1] == 2:
        return float(roc_auc_score(y == 1, p[:, 1]))
    return float(np.mean([roc_auc_score(y == k, p[:, k]) for k in range(p.shape[1]) if 0 < (y == k).mean() < 1]))


def _few(x: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """Levels no more than trees take: the rarest share one."""
    return np.where(levels, np.minimum(x, MOST_LEVELS), x)


def levels_missing(real: np.ndarray, synthetic: np.ndarray, levels: np.ndarray) -> tuple[int, int]:
    """Levels of ten real rows or more that no synthetic row has, and how many such levels there are."""
    missing = many = 0
    for j in np.flatnonzero(levels):
        found, counts = np.unique(real[~np.isnan(real[:, j]), j], return_counts=True)
        frequent = found[counts >= FREQUENT]
        many += len(frequent)
        missing += int((~np.isin(frequent, synthetic[:, j])).sum())
    return missing, many


def out_of_range(real: np.ndarray, synthetic: np.ndarray, levels: np.ndarray) -> float:
    """Share of the synthetic numbers, and levels, that lie outside of what the real column has."""
    outside = there = 0
    for j in range(real.shape[1]):
        x = synthetic[~np.isnan(synthetic[:, j]), j]
        there += len(x)
        outside += int(((x < np.nanmin(real[:, j])) | (x > np.nanmax(real[:, j]))).sum())
    return outside / max(1, there)


def rules(real: np.ndarray, least: int = 10) -> Iterator[tuple[int, int, dict[float, float]]]:
    """Pairs of columns (i, j, values) where the value of i tells that of j in every real row, learned from `least` rows
    a value of i or more, and which are not all alike.
    """
    few = [j for j in range(real.shape[1]) if len(np.unique(real[:, j])) <= max(2, min(200, len(real) // least))]
    for i in few:
        for j in few:
            if i == j:
                continue
            there = ~np.isnan(real[:, i]) & ~np.isnan(real[:, j])
            found = np.unique(real[there][:, [i, j]], axis=0)
            if len(np.unique(found[:, 0])) == len(found) and len(np.unique(found[:, 1])) > 1:
                yield i, j, {float(a): float(b) for a, b in found}


def broken(synthetic: np.ndarray, found: list[tuple[int, int, dict[float, float]]]) -> float:
    """Share of the synthetic rows in which one of the rules does not hold."""
    wrong = np.zeros(len(synthetic), bool)
    for i, j, values in found:
        told = pd.Series(synthetic[:, i]).map(values).to_numpy(float)
        there = ~np.isnan(told) & ~np.isnan(synthetic[:, j])
        wrong |= there & (told != synthetic[:, j])
    return float(wrong.mean())


class Space:
    """Rows as points: numbers by their standard deviation, levels apart by 1; a missing cell is apart from all."""

    def __init__(self, real: np.ndarray, levels: np.ndarray) -> None:
        self.levels = levels
        self.mean, self.std = np.nanmean(real, 0), np.nanstd(real, 0)
        self.sizes = [int(np.nanmax(real[:, j])) + 1 if of else 0 for j, of in enumerate(levels)]

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        """[n, coordinates], float32."""
        parts = []
        for j, size in enumerate(self.sizes):
            x, gone = rows[:, j], np.isnan(rows[:, j])
            if not size:
                scaled = (x - self.mean[j]) / (self.std[j] or 1.0)
                parts += [np.where(gone, 0.0, scaled)[:, None], gone[:, None] * 1.0]
                continue
            one = np.zeros((len(x), size + 2))
            one[np.arange(len(x)), np.where(gone, size + 1, np.minimum(np.nan_to_num(x), size)).astype(int)] = 0.5**0.5
            parts.append(one)
        return np.concatenate(parts, 1).astype(np.float32)


def nearest(points: np.ndarray, among: np.ndarray, rows: int = 2048) -> np.ndarray:
    """Euclidean distance of each point to the nearest of others. [n]"""
    square = (among.astype(np.float64) ** 2).sum(1)
    found = []
    for start in range(0, len(points), rows):
        some = points[start : start + rows]
        close = (square - 2.0 * (some @ among.T)).min(1)
        found.append(np.sqrt(np.maximum(close + (some.astype(np.float64) ** 2).sum(1), 0.0)))
    # float32 products leave some 1e-3 where the distance is 0.
    return np.where(np.concatenate(found) < 3e-3, 0.0, np.concatenate(found))


def closer(synthetic: np.ndarray, training: np.ndarray, held_out: np.ndarray) -> float:
    """Share of synthetic points that are nearer to a training row than to any held-out one, of as many of each; ties
    count half. .5 if the training rows are no nearer than others of their kind.
    """
    n = min(len(training), len(held_out))
    a, b = nearest(synthetic, training[:n]), nearest(synthetic, held_out[:n])
    return float((a < b).mean() + 0.5 * (a == b).mean())


def copies(synthetic: pd.DataFrame, real: pd.DataFrame) -> float:
    """Share of synthetic rows that are a real row, cell by cell. A row of which most cells are missing tells of nobody,
    and counts as none.
    """
    keys = [
        pd.util.hash_pandas_object(pd.DataFrame({c: f[c].map(str).where(f[c].notna(), "") for c in f}), index=False)
        for f in (synthetic, real)
    ]
    told = (2 * synthetic.notna().sum(axis=1) > synthetic.shape[1]).to_numpy()
    return float((keys[0].isin(set(keys[1])).to_numpy() & told).mean())
