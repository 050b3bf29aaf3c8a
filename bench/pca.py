#!/usr/bin/env python
"""CPU seconds of the PCA row beside those of one epoch of the model it stands beside.

An epoch is half of what a fit of three epochs takes longer than one of one. `share` is PCA's part of an epoch, `rows`
of how many rows it is.

    bench/pca.py [--data DIR] [--quick]
"""

import time
from typing import Any

import numpy as np
import torch
from common import arguments, cpu_seconds, credit, finish, mnist

import latente as lt
from latente.training import baseline
from latente.training.feed import Resident

SMALL = {"part": "mlp", "widths": [16]}


def main() -> None:
    args = arguments(__doc__)
    start = time.perf_counter()
    torch.set_num_threads(1)
    pictures, table = mnist(args.data)[0], credit(args.data)
    wide = np.random.default_rng(0).normal(size=(10_000, 3_000)).astype(np.float32)
    if args.quick:
        pictures, table, wide = pictures[:5_000], table[:3_000], wide[:2_000, :1_000]
    figures: dict[str, Any] = {}
    for name, rows, settings in (
        ("mnist_mlp", pictures, {}),
        ("mnist_tiny_net", pictures, {"nets": SMALL}),
        ("mnist_conv", pictures[:6_000], {"nets": "conv"}),
        ("credit", table, {}),
        ("noise_3000_columns", wide, {}),
    ):
        figures |= {f"{name}_{k}": v for k, v in measured(rows, settings).items()}
        print(name, {k.removeprefix(f"{name}_"): v for k, v in figures.items() if k.startswith(name)}, flush=True)
    finish("pca", figures, {}, start)


def measured(rows: Any, settings: dict[str, Any]) -> dict[str, float]:
    """CPU seconds of an epoch, of PCA, and the part that one is of the other."""
    took = []
    for epochs in (1, 3):
        before = cpu_seconds()
        ae = lt.Autoencoder("vae", dim=16, epochs=epochs, random_state=0, **settings).fit(rows)
        took.append(cpu_seconds() - before)
    epoch = (took[1] - took[0]) / 2
    feed = Resident(ae.schema_.to_batch(ae.rows(rows)), ae.spec_.train)
    before = cpu_seconds()
    baseline.fit(ae.model_, feed, ae.schema_, 16, 0)
    pca = cpu_seconds() - before
    each = baseline.work(ae.model_, ae.schema_.prepare(feed.whole(1)))
    of = baseline.affordable(len(feed.data), ae._baseline.mean.size, each)
    found = {"epoch_cpu_s": round(epoch, 2), "pca_cpu_s": round(pca, 3), "share": round(pca / epoch, 3)}
    return found | {"rows": of, "rows_given": len(feed.data)}


if __name__ == "__main__":
    main()
