"""ctgan's TVAE on a table: CPU seconds of its fit, and rows that it makes.

    ENV/bin/python ctgan_tvae.py --data train.csv --levels a,b,c --epochs 100 --seed 0 --rows 32561 --out rows.csv

ENV is made from bench/requirements-ctgan.txt. All settings are TVAE's own but the epochs. It takes no missing cells: a
missing level is a level "?", a missing number the column's mean, as its users do. Timed is `fit` alone. The last line
of stdout is one JSON: CPU and wall seconds of the fit, rows a second of sampling.
"""

import argparse
import json
import time
from importlib.metadata import version

import numpy as np
import pandas as pd
import torch
from ctgan import TVAE


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("data", "levels", "out"):
        parser.add_argument(f"--{name}", required=True)
    for name, value in (("epochs", 100), ("seed", 0), ("rows", 1000)):
        parser.add_argument(f"--{name}", type=int, default=value)
    args = parser.parse_args()
    torch.set_num_threads(2)
    np.random.seed(args.seed)  # noqa: NPY002 - ctgan draws from it
    torch.manual_seed(args.seed)
    frame = pd.read_csv(args.data)
    levels = args.levels.split(",") if args.levels else []
    for column in frame:
        frame[column] = frame[column].fillna("?" if column in levels else frame[column].mean())
    model = TVAE(epochs=args.epochs, enable_gpu=False)
    cpu, wall = time.process_time(), time.perf_counter()
    model.fit(frame, levels)
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    start = time.perf_counter()
    made = model.sample(args.rows)
    rate = args.rows / (time.perf_counter() - start)
    made[levels] = made[levels].replace("?", np.nan)
    made.to_csv(args.out, index=False)
    print(json.dumps({"fit_cpu_s": cpu, "fit_s": wall, "rows_per_s": rate, "version": version("ctgan")}))


if __name__ == "__main__":
    main()
