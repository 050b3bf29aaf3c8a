"""Gaps filled: how far from what was there, beside the mean or mode and the nearest neighbours.

    bench/impute.py [--tables adult,credit,diamonds,adult-30] [--seeds 3] [--data DIR] [--quick]

A model of recipe `tabular` is fitted on training rows as they come. Of other rows, at most 4,000, a share of the cells
is removed at random (.2; of adult-30 .3) and filled. `nrmse`: of numbers, the root of the mean squared error over the
column's standard deviation, mean over columns. `accuracy`: of the missing levels, the share that is right. Neighbours:
scikit-learn's KNNImputer, ten of 5,000 training rows, numbers scaled, levels one-hot. Means over seeds; the ratios are
ours over theirs (nrmse) and ours minus theirs (accuracy).
"""

import time
from typing import Any

import numpy as np
import pandas as pd
from common import adult, arguments, credit, finish, held_out, tables
from sklearn.impute import KNNImputer

import latente as lt
from latente.uses.tabular_metrics import coded

ROWS, NEIGHBOURS, AMONG = 4_000, 10, 5_000


def main() -> None:
    args = arguments(
        __doc__,
        tables={"default": "adult,credit,diamonds,adult-30", "help": "which"},
        set={"action": "append", "default": [], "help": "a setting, PATH=VALUE"},
    )
    from latente.verbs.fit import _setting

    settings = dict(_setting(s) for s in args.set)
    start = time.perf_counter()
    figures: dict[str, Any] = {}
    for name in args.tables.split(","):
        train, test = read(name, args.data)
        share = 0.3 if name.endswith("-30") else 0.2
        runs = []
        for seed in range(1 if args.quick else args.seeds or 3):
            if args.quick:
                train, test = train.head(2000), test.head(300)
            runs.append(once(train, test, share, seed, settings))
            print(f"{name} seed {seed}", {k: round(v, 4) for k, v in runs[-1].items()}, flush=True)
        means = {key: float(np.mean([run[key] for run in runs])) for key in runs[0]}
        if "nrmse" in means:
            means["nrmse_over_mean"] = means["nrmse"] / means["nrmse_mean"]
            means["nrmse_over_knn"] = means["nrmse"] / means["nrmse_knn"]
        if "accuracy" in means:
            means["accuracy_over_mode"] = means["accuracy"] - means["accuracy_mean"]
            means["accuracy_over_knn"] = means["accuracy"] - means["accuracy_knn"]
        figures[name] = {key: round(value, 4) for key, value in means.items()}
    finish("impute", figures, {}, start)


def read(name: str, data: Any) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Training rows and other rows."""
    if name.startswith("adult"):
        return adult(data)
    return held_out(credit(data) if name == "credit" else pd.read_csv(tables(data) / "diamonds.csv"))


def once(
    train: pd.DataFrame, test: pd.DataFrame, share: float, seed: int, settings: dict[str, Any]
) -> dict[str, float]:
    """One model, one pattern of gaps, three ways to fill them."""
    rng = np.random.default_rng(seed)
    test = test.iloc[rng.permutation(len(test))[:ROWS]].reset_index(drop=True)
    gone = rng.random(test.shape) < share
    holes = test.mask(gone)
    ae = lt.Autoencoder("tabular", settings=settings, random_state=seed).fit(train)
    filled = lt.impute(ae, holes)
    some = train.iloc[rng.permutation(len(train))[:AMONG]]
    found = coded(train, test, holes, filled, some)
    real, truth, open_, ours, few = found.frames
    gone = gone & ~np.isnan(truth)
    by_mean = [mode(c) if of else np.nanmean(c) for c, of in zip(real.T, found.levels, strict=True)]
    sides = {"": ours, "_mean": np.broadcast_to(by_mean, truth.shape), "_knn": neighbours(few, open_, found.levels)}
    std, numbers = {}, {}
    for side, made in sides.items():
        error = [
            np.sqrt(np.mean((made[gone[:, j], j] - truth[gone[:, j], j]) ** 2)) / np.nanstd(real[:, j])
            for j in np.flatnonzero(~found.levels)
        ]
        right = [made[gone[:, j], j] == truth[gone[:, j], j] for j in np.flatnonzero(found.levels)]
        std[f"nrmse{side}"] = float(np.mean(error))
        numbers[f"accuracy{side}"] = float(np.concatenate(right).mean())
    return std | numbers


def mode(column: np.ndarray) -> float:
    """The most frequent level."""
    return float(np.bincount(column[~np.isnan(column)].astype(int)).argmax())


def neighbours(few: np.ndarray, open_: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """Rows filled by their nearest neighbours. [n, m]"""
    mean, std = np.nanmean(few, 0), np.nanstd(few, 0)
    sizes = [int(np.nanmax(few[:, j])) + 1 if of else 0 for j, of in enumerate(levels)]

    def spread(rows: np.ndarray) -> np.ndarray:
        parts = []
        for j, size in enumerate(sizes):
            x = rows[:, j : j + 1]
            parts.append(
                np.where(np.isnan(x), np.nan, x == np.arange(size)) if size else (x - mean[j]) / (std[j] or 1.0)
            )
        return np.concatenate(parts, 1).astype(float)

    imputer = KNNImputer(n_neighbors=NEIGHBOURS, keep_empty_features=True).fit(spread(few))
    full = imputer.transform(spread(open_))
    columns, at = [], 0
    for j, size in enumerate(sizes):
        piece = full[:, at : at + max(1, size)]
        columns.append(piece.argmax(1).astype(float) if size else piece[:, 0] * (std[j] or 1.0) + mean[j])
        at += max(1, size)
    return np.stack(columns, 1)


if __name__ == "__main__":
    main()
