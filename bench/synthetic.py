"""Synthetic rows of a table: how near they are to real ones, what they are good for, what they give away.

    bench/synthetic.py [--table adult|credit|penguins|german] [--holes 0.2] [--dp-epsilon 3] [--peers DIR] [--seeds 3]
                       [--quick]

Adult: 32,561 rows to train on, 16,281 to compare with, as they come. Of the others a fifth of the rows, drawn once,
is held out. --holes removes that share of the training cells at random first. Every figure is a mean over seeds:
of rows by latente's recipe `tabular` with its default settings (`figures`, drawn without a code; `code`, the same model
drawn through its code, with its KL), of ctgan's TVAE with 100 epochs (from DIR/ctgan, made from
bench/requirements-ctgan.txt), of real rows whose columns were shuffled (`floor`), and of real rows (`ceiling`). CPU
seconds are of the whole fit, with preparation.
"""

import json
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from common import adult, arguments, cpu_seconds, credit, finish, held_out, tables

import latente as lt
from latente.uses.tabular_report import TabularReport, own_conditional, report

HERE = Path(__file__).resolve().parent
# Keys of the last line, and the report's figure that each is.
KEYS = {
    "tstr": "tstr_boosting",
    "tstr_linear": "tstr_linear",
    "shapes": "column_shapes",
    "pairs": "pair_trends",
    "c2st": "two_sample",
    "levels_missing": "levels_missing",
    "out_of_range": "out_of_range",
    "pairs_broken": "pairs_broken",
    "closer_to_training": "closer_to_training",
    "copies": "copies",
    "membership": "membership",
}
ROWS = 200_000  # that are drawn to see how fast


def main() -> None:
    args = arguments(
        __doc__,
        table={"default": "adult", "choices": ["adult", "credit", "penguins", "german"]},
        holes={"type": float, "default": 0.0, "help": "share of the training cells that are removed at random"},
        peers={"type": Path, "default": None, "help": "the folder of the peers' environments; without, no peer"},
        dp_epsilon={"type": float, "default": None, "help": "ε of a differentially private fit"},
        epochs={"type": int, "default": None, "help": "epochs of latente, in place of the default length"},
        set={"action": "append", "default": [], "help": "a setting, PATH=VALUE"},
    )
    start = time.perf_counter()
    train, test, target = read(args.table, args.data)
    if args.quick:
        train, test = train.head(3000), test.head(1500)
    found: dict[str, list[dict[str, float]]] = {"": [], "code": [], "floor": [], "ceiling": [], "tvae": []}
    for seed in range(args.seeds or 3):
        rows = pierced(train, args.holes, seed)
        ours(rows, test, target, seed, args, found)
        if args.peers:
            made, numbers = tvae(rows, seed, args)
            found["tvae"].append(keyed(report(rows, made, test, target=target, seed=seed), "value") | numbers)
        for side, values in found.items():
            if values:
                print(
                    f"seed {seed} {side or 'latente':<8}", {k: round(v, 4) for k, v in values[-1].items()}, flush=True
                )
    figures, peers = mean(found.pop("")), {}
    for side, values in found.items():
        if values:
            peers[side] = mean(values)
    finish("synthetic", figures | {"table": args.table, "holes": args.holes, "seeds": args.seeds or 3}, peers, start)


def read(table: str, data: Path | None) -> tuple[pd.DataFrame, pd.DataFrame, str]:
    """Training rows, other rows, and the column that is predicted."""
    if table == "adult":
        return *adult(data), "income"
    if table == "credit":
        return *held_out(credit(data)), "default.payment.next.month"
    small = pd.read_csv(tables(data) / f"{table}.csv", header=0 if table == "penguins" else None).rename(columns=str)
    return *held_out(small), "species" if table == "penguins" else "20"


def pierced(frame: pd.DataFrame, share: float, seed: int) -> pd.DataFrame:
    """The frame without a share of its cells."""
    if not share:
        return frame
    return frame.mask(np.random.default_rng(seed).random(frame.shape) < share)


def ours(rows: pd.DataFrame, test: pd.DataFrame, target: str, seed: int, args: Any, found: dict[str, Any]) -> None:
    """Fit, draw, compare; adds a line to each of our sides."""
    from latente.verbs.fit import _setting

    before = cpu_seconds()
    settings = dict(_setting(s) for s in args.set)
    ae = lt.Autoencoder("tabular", epochs=args.epochs, dp_epsilon=args.dp_epsilon, settings=settings, random_state=seed)
    ae.fit(rows)
    spent = cpu_seconds() - before
    began = time.perf_counter()
    ae.sample(ROWS, random_state=seed + 1)
    rate = ROWS / (time.perf_counter() - began)
    made, code = (ae.sample(len(rows), random_state=seed, through_code=through) for through in (False, True))
    told = report(rows, made, test, target=target, seed=seed, code=code)
    numbers = {"fit_cpu_s": spent, "rows_per_s": rate, "own_conditional": own_conditional(ae, test, target)}
    found[""].append(keyed(told, "value") | numbers)
    found["code"].append(keyed(told, "code") | {"kl": ae.card_["held_out"].get("kl", 0.0), "fit_cpu_s": spent})
    for side in ("floor", "ceiling"):
        found[side].append(keyed(told, side))


def tvae(rows: pd.DataFrame, seed: int, args: Any) -> tuple[pd.DataFrame, dict[str, float]]:
    """TVAE's rows, and what they took."""
    levels = [c for c in rows if not pd.api.types.is_numeric_dtype(rows[c])]
    with tempfile.TemporaryDirectory() as folder:
        data, out = Path(folder) / "train.csv", Path(folder) / "made.csv"
        rows.to_csv(data, index=False)
        command = [
            str(args.peers / "ctgan" / "bin" / "python"),
            str(HERE / "peers" / "ctgan_tvae.py"),
            "--data",
            str(data),
        ]
        command += ["--levels", ",".join(levels), "--seed", str(seed), "--rows", str(len(rows)), "--out", str(out)]
        command += ["--epochs", "3" if args.quick else "100"]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        numbers = json.loads(done.stdout.splitlines()[-1])
        made = pd.read_csv(out, dtype={c: rows[c].dtype for c in levels})
    return made, {k: numbers[k] for k in ("fit_cpu_s", "rows_per_s")}


def keyed(found: TabularReport, side: str) -> dict[str, float]:
    """One side of a report by the keys of the last line."""
    values = {key: getattr(found.figures[name], side) for key, name in KEYS.items() if name in found.figures}
    return {key: float(value) for key, value in values.items() if value is not None}


def mean(rows: list[dict[str, float]]) -> dict[str, float]:
    """The mean of each figure over the seeds."""
    return {key: round(float(np.mean([row[key] for row in rows])), 4) for key in rows[0]}


if __name__ == "__main__":
    main()
