#!/usr/bin/env python
"""Whether samples are what was given: share of conditional samples of MNIST that a classifier reads as the digit asked.

10,000 training pictures and their digits, `condition=True`; 50 samples of each digit, read by five nearest neighbours
among 20,000 other training pictures. Chance is .1; the classifier itself reads other pictures right to `ceiling`.

    bench/given.py [--recipe vae] [--dims 2 16] [--epochs 40] [--data DIR] [--quick]
"""

import time
from typing import Any

import numpy as np
import torch
from common import arguments, cpu_seconds, finish, labels, mnist
from sklearn.neighbors import KNeighborsClassifier

import latente as lt
from latente.kinds.image import Image

EACH = 50


def main() -> None:
    args = arguments(
        __doc__,
        recipe={"default": "vae", "help": "a recipe of latente's"},
        dims={"nargs": "*", "type": int, "default": [2, 16], "help": "latent dimensions, one fit each"},
        epochs={"type": int, "default": 40, "help": "epochs of a fit"},
    )
    start = time.perf_counter()
    torch.set_num_threads(1)
    (x, _), (y, _) = mnist(args.data), labels(args.data)
    rows = 1_000 if args.quick else 10_000
    reader = KNeighborsClassifier(5).fit(flat(x[20_000:40_000]), y[20_000:40_000])
    figures: dict[str, Any] = {"ceiling": float(reader.score(flat(x[40_000:42_000]), y[40_000:42_000]))}
    for dim in args.dims:
        before = cpu_seconds()
        ae = lt.Autoencoder(
            args.recipe,
            dim=dim,
            kind=Image(binarize=True),
            nets="mlp",
            condition=True,
            epochs=args.epochs,
            random_state=0,
        )
        ae.fit(x[:rows], y[:rows])
        made = [ae.sample(EACH, given={"y": digit}, random_state=digit) for digit in range(10)]
        right = [float((reader.predict(flat(m)) == digit).mean()) for digit, m in enumerate(made)]
        found = {"right": round(float(np.mean(right)), 3), "worst_digit": min(right)}
        found["cpu_s"] = round(cpu_seconds() - before, 1)
        print(f"{dim} dimensions:", found, flush=True)
        figures |= {f"{name}_{dim}": value for name, value in found.items()}
    finish("given", figures | {"recipe": args.recipe, "epochs": args.epochs}, {}, start)


def flat(pictures: Any) -> np.ndarray:
    """Pixels from 0 to 1. [n, 784]"""
    return np.asarray(pictures).reshape(len(pictures), -1) / 255


if __name__ == "__main__":
    main()
