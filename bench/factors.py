#!/usr/bin/env python
"""Disentanglement on pictures of known factors (shape, scale, rotation, x, y): MIG and DCI of recipes, side by side.

The pictures are made here (latente.uses.factors): no data to fetch. Each seed draws its own training pictures and
initial weights, the same for every recipe; codes are posterior means of 10,000 other pictures. Nets, latent, steps and
batches are those of SETTINGS for every recipe, and only the objective differs. Beside them a PCA of the same size, and,
as a share of the pixels' variance, what each fails to reconstruct: a model that forgets is not disentangled.

    bench/factors.py [--seeds 3] [--recipes vae beta-tc] [--set objective.beta=6] [--quick]
"""

import time
from typing import Any

import numpy as np
from common import arguments, cpu_seconds, finish
from sklearn.decomposition import PCA

import latente as lt
from latente.kinds.image import Image
from latente.uses.disentanglement import scores
from latente.uses.factors import Factored, make

DIM = 10
SETTINGS: dict[str, Any] = {
    "kind": Image(likelihood="bernoulli"),  # grey values are edges, scored by their cross-entropy
    "nets": {"part": "mlp", "widths": [512, 256]},
    "latent": {"part": "gaussian", "dim": DIM},
    "batch_size": 128,
    "lr": 1e-3,
    "steps": 8_000,
}
TRAIN, ROWS = 50_000, 10_000


def main() -> None:
    args = arguments(
        __doc__,
        recipes={"nargs": "+", "default": ["vae", "beta-tc"], "help": "recipes to compare"},
        set={"nargs": "*", "default": [], "help": "PATH=NUMBER, a setting of every recipe but the first"},
        steps={"type": int, "default": SETTINGS["steps"], "help": "optimiser steps of a fit"},
    )
    import torch

    torch.set_num_threads(1)
    args.steps = 200 if args.quick else args.steps
    start = time.perf_counter()
    changed = {p: float(v) for p, _, v in (s.partition("=") for s in args.set)}
    found: dict[str, list[dict[str, float]]] = {name: [] for name in ["pca", *known(args.recipes)]}
    for seed in range(1 if args.quick else args.seeds or 3):
        data = make(2_000 if args.quick else TRAIN, seed)
        test = make(2_000 if args.quick else ROWS, 1_000_000 + seed)
        for name, rows in found.items():
            before = cpu_seconds()
            extra = changed if name != args.recipes[0] else {}
            codes, error = pca(data, test) if name == "pca" else fit(name, seed, data, test, args, extra)
            cpu = cpu_seconds() - before
            figures = scores(codes, test.factors, test.names)
            gaps = figures.pop("mig_by_factor")
            rows.append(figures | {"error": error, "cpu_s": cpu} | {f"mig_of_{k}": v for k, v in gaps.items()})
            print(f"seed {seed} {name}: " + " · ".join(f"{k} {v:.3f}" for k, v in rows[-1].items()), flush=True)
    short = {"disentanglement": "dci_d", "completeness": "dci_c", "informativeness": "dci_i"}
    figures = {"seeds": len(found["pca"]), "steps": args.steps, "dim": DIM}
    peers: dict[str, Any] = {"pca": {}}
    for name, rows in found.items():
        tail = name.replace("-", "_")
        for key in rows[0]:
            values = [r[key] for r in rows]
            into, label = (
                (peers["pca"], short.get(key, key)) if name == "pca" else (figures, f"{short.get(key, key)}_{tail}")
            )
            into[label] = round(float(np.mean(values)), 4)
            if key == "mig":
                into[f"{label}_each"] = [round(v, 4) for v in values]
    finish("factors", figures, peers, start)


def known(names: list[str]) -> list[str]:
    """The recipes that there are; of the others it says that they are left out."""
    found = []
    for name in names:
        try:
            lt.recipe(name)
            found.append(name)
        except lt.ConfigError as error:
            print(f"left out: {error}", flush=True)
    return found


def fit(
    name: str, seed: int, data: Factored, test: Factored, args: Any, extra: dict[str, float]
) -> tuple[np.ndarray, float]:
    """Codes of the test pictures, and the squared error of their reconstructions over the pixels' variance."""
    settings = SETTINGS | {"steps": args.steps, "settings": extra}
    ae = lt.Autoencoder(name, random_state=seed, **settings).fit(data.pictures)
    codes = ae.transform(test.pictures)
    return codes, share(test.pictures, ae.inverse_transform(codes))


def pca(data: Factored, test: Factored) -> tuple[np.ndarray, float]:
    """The same of a PCA."""
    rows = test.pictures.reshape(len(test.pictures), -1).astype(np.float32)
    few = data.pictures[:20_000].reshape(-1, rows.shape[1]).astype(np.float32)
    model = PCA(DIM, svd_solver="randomized", random_state=np.random.RandomState(0)).fit(few)
    codes = model.transform(rows)
    return codes, share(rows, model.inverse_transform(codes))


def share(pictures: np.ndarray, again: np.ndarray) -> float:
    """Squared error over the pixels' variance."""
    x, y = (np.asarray(p, np.float64).reshape(len(pictures), -1) for p in (pictures, again))
    return float(np.square(x - y).sum() / np.square(x - x.mean(0)).sum())


if __name__ == "__main__":
    main()
