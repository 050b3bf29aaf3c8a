"""What the benches share: where the data lie, the machine's name, CPU seconds, and the last line of stdout."""

import argparse
import gzip
import json
import platform
import resource
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


def arguments(description: str, **extra: dict[str, Any]) -> argparse.Namespace:
    """--data, --seeds, --quick and what a bench adds."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=None, help="the data, if they are not beside the project")
    parser.add_argument("--seeds", type=int, default=None, help="how many seeds")
    parser.add_argument("--quick", action="store_true", help="a small run, to see that it works")
    for name, options in extra.items():
        parser.add_argument(f"--{name.replace('_', '-')}", **options)
    return parser.parse_args()


def place(given: Path | None, default: str, fetch: str) -> Path:
    """The data's folder or file; exit 3 with what to fetch if it is not there."""
    path = given or DATA / default
    if not path.exists():
        print(f"no data at {path}: {fetch}, and give its place with --data", file=sys.stderr)
        sys.exit(3)
    return path


def mnist(given: Path | None) -> tuple[np.ndarray, np.ndarray]:
    """MNIST, training and test pictures. uint8 [60000, 28, 28], [10000, 28, 28]"""
    folder = place(given, "images/mnist", "fetch MNIST's four idx.gz files")
    names = ("train-images-idx3-ubyte.gz", "t10k-images-idx3-ubyte.gz")
    arrays = [np.frombuffer(gzip.decompress((folder / n).read_bytes()), np.uint8, offset=16) for n in names]
    return arrays[0].reshape(-1, 28, 28), arrays[1].reshape(-1, 28, 28)


def labels(given: Path | None) -> tuple[np.ndarray, np.ndarray]:
    """The digits of MNIST's training and test pictures. uint8 [60000], [10000]"""
    folder = place(given, "images/mnist", "fetch MNIST's four idx.gz files")
    names = ("train-labels-idx1-ubyte.gz", "t10k-labels-idx1-ubyte.gz")
    first, second = (np.frombuffer(gzip.decompress((folder / n).read_bytes()), np.uint8, offset=8) for n in names)
    return first, second


def tables(given: Path | None) -> Path:
    """The folder of tables."""
    return place(given, "tables", "fetch Adult's, credit-default's and diamonds' csv files")


def adult(given: Path | None) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Census income, 32,561 training rows and 16,281 others, 15 columns, "?" as missing."""
    names = ["age", "workclass", "fnlwgt", "education", "education-num", "marital-status", "occupation", "relationship"]
    names += ["race", "sex", "capital-gain", "capital-loss", "hours-per-week", "native-country", "income"]
    options: dict[str, Any] = {"header": None, "names": names, "na_values": "?", "skipinitialspace": True}
    parts = [pd.read_csv(tables(given) / f"adult-{name}.csv", comment="|", **options) for name in ("train", "test")]
    train, test = (part.assign(income=part["income"].str.rstrip(".")) for part in parts)
    return train, test


def credit(given: Path | None) -> pd.DataFrame:
    """Credit-card default, 30,000 rows, 24 columns."""
    return pd.read_csv(tables(given) / "credit_card_default.csv").drop(columns="ID")


def held_out(frame: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Four fifths of the rows, and a fifth that is drawn once for all runs."""
    held = np.random.default_rng(0).permutation(len(frame))[: len(frame) // 5]
    return frame.drop(index=held).reset_index(drop=True), frame.loc[held].reset_index(drop=True)


def cpu_seconds() -> float:
    """CPU seconds of this process and its finished children, user and system."""
    own, gone = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + own.ru_stime + gone.ru_utime + gone.ru_stime


def finish(bench: str, figures: dict[str, Any], peers: dict[str, Any], start: float) -> None:
    """The last line of stdout."""
    import torch

    machine = {
        "processor": torch.cpu.get_capabilities().get("cpu_name") or platform.processor(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }
    seconds = round(time.perf_counter() - start, 1)
    print(json.dumps({"bench": bench, "figures": figures, "peers": peers, "machine": machine, "seconds": seconds}))
