"""CPU milliseconds of a training step of each recipe, as a ratio to the plain VAE of the same size; asked: at most 1.5.

Two fits of different lengths each, whose difference is steps alone; a turn measures every recipe once and `vae` beside
each, and the ratio is the median over the turns. One thread, batch 128, default nets.

    bench/steps.py [--seeds 3] [--recipes vae vamp …] [--data DIR] [--quick]
"""

import time
from statistics import median
from typing import Any

import numpy as np
import pandas as pd
import torch
from common import arguments, cpu_seconds, finish, mnist, place

import latente as lt

SHORT, LONG = 20, 120


def step_ms(recipe: str, data: Any, dim: int, seed: int) -> float:
    """CPU milliseconds of one step."""

    def fit(steps: int) -> float:
        settings = {"train.validation": 0.0, "latent.dim": dim, "train.doctor": "off"}
        before = cpu_seconds()
        lt.Autoencoder(recipe, settings=settings, steps=steps, random_state=seed).fit(data)
        return cpu_seconds() - before

    return 1e3 * (fit(LONG) - fit(SHORT)) / (LONG - SHORT)


def main() -> None:
    args = arguments(__doc__, recipes={"nargs": "*", "default": None, "help": "which; all unless given"})
    start, turns = time.perf_counter(), args.seeds or (1 if args.quick else 3)
    torch.set_num_threads(1)
    images = mnist(args.data)[0][:5000]
    table = pd.read_csv(place(None, "tables/adult-train.csv", "fetch UCI's Adult"), header=None, skipinitialspace=True)
    table = table.sample(5000, random_state=np.random.RandomState(0)).rename(columns=lambda c: f"c{c}")
    figures: dict[str, Any] = {}
    # The first fit of a process pays for what is loaded and warmed up only once.
    step_ms("vae", images, 16, 0)
    for name, data in (("image", images), ("table", table)):
        for recipe in args.recipes or lt.recipes():
            pairs = [(step_ms(recipe, data, 16, turn), step_ms("vae", data, 16, turn)) for turn in range(turns)]
            ratio = median(a / b for a, b in pairs)
            figures[f"{name}.{recipe}"] = round(ratio, 2)
            print(f"{name} {recipe}: {median(a for a, _ in pairs):.1f} ms, {ratio:.2f} times a vae's", flush=True)
    finish("steps", figures, {}, start)


if __name__ == "__main__":
    main()
