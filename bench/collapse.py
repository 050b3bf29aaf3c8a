#!/usr/bin/env python
"""A task built to collapse: MNIST at 7×7 pixels, binarised anew for every batch, under an autoregressive likelihood.

Each pixel is modelled given all those before it, and z says one word to the whole picture (`told="picture"`): what it
could say is soon seen from the pixels themselves. Two runs of equal budget: everything at its default, and the doctor
off. Of each: mutual information of codes and pictures, active units, bounds on −log p(x).

    bench/collapse.py [--seeds 3] [--side 7] [--steps 2000] [--dim 16] [--floor NATS] [--validation] [--data DIR]

Pictures of the test file are looked at once, at the end; choices are made with --validation, on training pictures that
no run saw. --floor measures a floor by itself: the default side has free bits from its first step, and no doctor.
"""

import time
from dataclasses import fields
from typing import Any

import numpy as np
import torch
from common import arguments, cpu_seconds, finish, mnist

import latente as lt
from latente.kinds.image import Image
from latente.model.estimates import bounds, mutual_information
from latente.model.spec import Train
from latente.training.doctor import active_units

SETTINGS = {"train.validation": 0.05, "train.patience": 1000}
NETS = {"part": "mlp", "widths": [256, 256], "residual": True}
# Without a doctor that can be turned off there is none.
OFF: dict[str, Any] = {"train.doctor": "off"} if "doctor" in {f.name for f in fields(Train)} else {}


def main() -> None:
    args = arguments(
        __doc__,
        steps={"type": int, "default": 2000, "help": "optimiser steps of each run, 100 pictures each"},
        pictures={"type": int, "default": 20_000, "help": "training pictures"},
        dim={"type": int, "default": 16, "help": "latent dimensions"},
        side={"type": int, "default": 7, "help": "pixels: 7, of which the decoder sees all, 14 or 28"},
        samples={"type": int, "default": 64, "help": "importance samples a picture, on 500 pictures"},
        floor={"type": float, "default": None, "help": "nats of free bits in place of the doctor"},
        validation={"action": "store_true", "help": "look at training pictures that no run saw, not at the test's"},
    )
    start = time.perf_counter()
    train, test = mnist(args.data)
    if args.validation:
        train, test = train[:55_000], train[55_000:]
    if args.quick:
        args.steps, args.pictures, args.samples = 60, 2000, 8
    train, test = (smaller(p, args.side) for p in (train[: args.pictures], test[:2000]))
    test = (np.random.default_rng(0).random(test.shape) < test / 255).astype(np.uint8) * 255
    default = {} if args.floor is None else OFF | {"objective.free_bits": args.floor}
    rows: dict[str, list[dict[str, float]]] = {"default": [], "off": []}
    for seed in range(args.seeds or 1):
        for side, settings in (("default", default), ("off", OFF)):
            found = run(train, test, settings, seed, args)
            print(f"seed {seed}, {side}:", {k: round(v, 3) for k, v in found.items()}, flush=True)
            rows[side].append(found)
    figures: dict[str, Any] = {
        f"{name}_{side}": round(float(np.mean([r[name] for r in found])), 3)
        for side, found in rows.items()
        for name in found[0]
    }
    figures |= {"steps": args.steps, "pictures": len(train), "dim": args.dim, "side": args.side}
    figures |= {"seeds": len(rows["off"]), "floor": args.floor}
    finish("collapse", figures, {}, start)


def run(train: np.ndarray, test: np.ndarray, settings: dict[str, Any], seed: int, args: Any) -> dict[str, float]:
    """One run, and what is known of it."""
    ae = lt.Autoencoder(
        "vae",
        dim=args.dim,
        kind=Image(likelihood="autoregressive", told="picture", binarize=True),
        nets=NETS,
        settings=SETTINGS | settings,
        steps=args.steps,
        batch_size=100,
        lr=2e-3,
        random_state=seed,
    )
    before = cpu_seconds()
    ae.fit(train)
    cpu = cpu_seconds() - before
    print(ae.history_.findings)
    batch = ae.schema_.prepare(ae.schema_.to_batch(test))
    generator = torch.Generator().manual_seed(0)
    model = ae.model_
    few, whole = bounds(model, batch.rows(slice(500)), args.samples, generator), bounds(model, batch, 1, generator)
    with torch.no_grad():
        active = active_units(model.encode(batch).mean)
    return {
        "mi": mutual_information(model, batch, generator),
        "active_share": active / args.dim,
        "neg_elbo": float(-whole.elbo.mean()),
        "iw_nll": float(-few.log_p.mean()),
        "kl": float(whole.kl.mean()),
        "cpu_s": cpu,
    }


def smaller(pictures: np.ndarray, side: int) -> np.ndarray:
    """Pictures of `side` pixels, each the mean of a square of them. uint8"""
    k = pictures.shape[1] // side
    return np.rint(pictures.reshape(len(pictures), side, k, side, k).mean((2, 4))).astype(np.uint8)


if __name__ == "__main__":
    main()
