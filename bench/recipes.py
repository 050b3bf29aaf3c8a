#!/usr/bin/env python
"""Which recipe for which job: every recipe on pictures and on a table, each with the same CPU seconds.

Pictures: 20,000 of MNIST, binarised anew for every batch. Table: Adult without the income. Defaults but for the size of
the latent (16) and the time, of one thread that has its core to itself (`cpu_s` says whether). Of rows that no fit saw:

    error      share of the variance that reconstructions lose          beside it PCA's of the same size
    denoised   the same, when every tenth cell was swapped with another row's first
    iw_nll     −log p(x) in nats, an upper bound, where there is a density
    probe      logistic regression on the codes: accuracy of the digit, AUROC of the income; beside it on PCA's
    two_sample AUROC of trees that tell samples from rows (.5: not at all); recall: share of rows among the samples

    bench/recipes.py [--cpu-budget 30] [--recipes vae vamp …] [--kinds image table] [--data DIR] [--quick]
"""

import time
import warnings
from typing import Any

import numpy as np
import pandas as pd
import torch
from common import arguments, cpu_seconds, finish, labels, mnist, place
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import StandardScaler

import latente as lt
from latente.kinds.image import Image
from latente.training import baseline

DIM = 16
# Share of cells that are swapped before `denoised`.
SWAPPED = 0.1
# What a kind needs beside the defaults. A ladder of pictures is one of convolutions (README).
NETS = {("image", "ladder"): {"part": "conv"}}


def main() -> None:
    args = arguments(
        __doc__,
        recipes={"nargs": "*", "default": None, "help": "which; all unless given"},
        kinds={"nargs": "*", "default": ["image", "table"], "help": "image, table or both"},
        cpu_budget={"type": float, "default": 30.0, "help": "CPU seconds of a fit"},
    )
    start = time.perf_counter()
    torch.set_num_threads(1)
    if args.quick:
        args.cpu_budget, args.recipes = 3.0, args.recipes or ["ae", "vae"]
    figures: dict[str, Any] = {}
    for kind in args.kinds:
        rows = (pictures if kind == "image" else people)(args.data)
        for name in args.recipes or lt.recipes():
            found = run(kind, name, rows, args.cpu_budget)
            print(f"{kind} {name}:", found, flush=True)
            figures |= {f"{kind}.{name}.{k}": v for k, v in found.items()}
    figures |= {"cpu_budget": args.cpu_budget, "dim": DIM}
    finish("recipes", figures, {}, start)


def pictures(data: Any) -> tuple[Any, Any, np.ndarray, np.ndarray]:
    """Training pictures, others, and the digits of each."""
    (train, test), (y, y_test) = mnist(data), labels(data)
    test = (np.random.default_rng(0).random(test.shape) < test / 255).astype(np.uint8) * 255
    return train[:20_000], test[:2_000], y[:20_000], y_test[:2_000]


def people(_: Any) -> tuple[Any, Any, np.ndarray, np.ndarray]:
    """Adult's training rows, others, and whether each earns more than 50,000."""
    found = []
    for name in ("train", "test"):
        path = place(None, f"tables/adult-{name}.csv", "fetch UCI's Adult")
        frame = pd.read_csv(path, header=None, skipinitialspace=True, na_values="?")
        found.append(frame.dropna(subset=[14]).rename(columns=lambda c: f"c{c}"))
    train, test = found[0], found[1].sample(2_000, random_state=np.random.RandomState(0))
    return *(f.drop(columns="c14") for f in (train, test)), *(f.c14.str.contains(">").to_numpy() for f in (train, test))


def run(kind: str, name: str, rows: tuple[Any, ...], budget: float) -> dict[str, float]:
    """One recipe on one kind of data."""
    train, test, y, y_test = rows
    ae = lt.Autoencoder(
        name,
        dim=DIM,
        nets=NETS.get((kind, name)),
        kind=Image(binarize=True) if kind == "image" else None,
        time_limit=budget,
        random_state=0,
    )
    before = cpu_seconds()
    ae.fit(train)
    cpu = cpu_seconds() - before
    figures = {"cpu_s": cpu, "epochs": ae.card_["epochs"]}
    found = lt.evaluate(ae, test, samples=100, fidelity=True)
    figures |= {
        k: found[k] for k in ("error", "error_pca", "iw_nll", "active_units", "mutual_information") if k in found
    }
    figures |= {k: found["fidelity"][k] for k in ("two_sample", "recall", "two_sample_ceiling", "two_sample_floor")}
    figures["denoised"] = denoised(ae, test)
    few = np.random.default_rng(0).permutation(len(y))[:5_000]
    some = train.iloc[few] if kind == "table" else train[few]
    figures["probe"] = probe(ae.transform(some), y[few], ae.transform(test), y_test)
    cells = [np.concatenate([baseline.features(ae.model_, b)[0] for b in ae.batches(x)]) for x in (some, test)]
    pca = PCA(DIM, random_state=0).fit(cells[0])
    figures["probe_pca"] = probe(pca.transform(cells[0]), y[few], pca.transform(cells[1]), y_test)
    return {k: round(float(v), 3) for k, v in figures.items()}


def denoised(ae: Any, test: Any) -> float:
    """Share of the clean rows' variance that reconstructions of rows with swapped cells lose."""
    rng = np.random.default_rng(1)
    array = test.to_numpy(object) if isinstance(test, pd.DataFrame) else test
    flat = array.reshape(len(array), -1)
    other = np.stack([column[rng.permutation(len(flat))] for column in flat.T], 1)
    dirty = np.where(rng.random(flat.shape) < SWAPPED, other, flat).reshape(array.shape)
    if isinstance(test, pd.DataFrame):
        dirty = pd.DataFrame(dirty, columns=test.columns).astype(dict(test.dtypes))
    lost = spread = 0.0
    for clean, noisy in zip(ae.batches(test), ae.batches(dirty), strict=True):
        x, expected = baseline.features(ae.model_, clean)[0], baseline.features(ae.model_, noisy)[1]
        lost += float(np.square(x - expected).sum())
        spread += float(np.square(x - ae._baseline.mean).sum())
    return lost / spread


def probe(codes: np.ndarray, y: np.ndarray, others: np.ndarray, y_others: np.ndarray) -> float:
    """Accuracy of a linear classifier of codes; AUROC where there are two classes."""
    scale = StandardScaler().fit(codes)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        fitted = LogisticRegression(max_iter=300).fit(scale.transform(codes), y)
    if len(fitted.classes_) == 2:
        return float(roc_auc_score(y_others, fitted.decision_function(scale.transform(others))))
    return float(fitted.score(scale.transform(others), y_others))


if __name__ == "__main__":
    main()
