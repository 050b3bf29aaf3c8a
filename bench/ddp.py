#!/usr/bin/env python
"""Two processes against one at equal global batch: the largest gap between their loss curves, in nats per row.

Each side is a `latente fit` of its own, on a table (adult) and on pictures (MNIST's first 6,000), in float32: in
bfloat16 the two sides round at different places. Curves are the training and the held-out loss of every epoch.

    bench/ddp.py [--epochs 3] [--data DIR] [--quick]
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from common import arguments, finish, mnist, place


def main() -> None:
    args = arguments(__doc__, epochs={"type": int, "default": 3, "help": "of each run"})
    start = time.perf_counter()
    table = (
        place(None if args.data is None else args.data / "tables", "tables", "fetch the adult table")
        / "adult-train.csv"
    )
    pixels, _ = mnist(None if args.data is None else args.data / "images" / "mnist")
    epochs = 1 if args.quick else args.epochs
    gaps, relative, seconds = {}, {}, {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        np.save(folder / "mnist.npy", pixels[:6000])
        for label, data, recipe, more in (
            ("adult vae", table, "vae", []),
            ("adult ae", table, "ae", []),
            ("mnist vae", folder / "mnist.npy", "vae", []),
            ("mnist vae, sharded", folder / "mnist.npy", "vae", ["--sharding", "full"]),
        ):
            curves = []
            for processes in (1, 2):
                out = folder / f"{label}-{processes}"
                command = ["fit", str(data), "--recipe", recipe, "--epochs", str(epochs), "--precision", "float32"]
                command += ["-o", str(out), "--quiet", *(["--processes", "2", *more] if processes == 2 else [])]
                begin = time.perf_counter()
                subprocess.run([sys.executable, "-m", "latente", *command], check=True, capture_output=True)
                seconds[f"{label} {processes}"] = round(time.perf_counter() - begin, 1)
                rows = [json.loads(row) for row in (out / "metrics.jsonl").read_text().splitlines()]
                curves.append(np.array([[row["train"]["loss"], row["val"]["loss"]] for row in rows]))
            gap = np.abs(curves[0] - curves[1])
            gaps[label], relative[label] = float(gap.max()), float((gap / np.abs(curves[0])).max())
            print(f"{label}: {gap.max():.2e} nats of {curves[0][-1, 1]:.2f}", flush=True)
    figures = {"max_loss_gap": max(gaps.values()), "max_relative_gap": max(relative.values()), "gaps": gaps}
    finish("ddp", figures | {"seconds": seconds}, {}, start)


if __name__ == "__main__":
    main()
