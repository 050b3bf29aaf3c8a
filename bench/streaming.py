#!/usr/bin/env python
"""Training on a Parquet table that is read while the run goes on: memory as the table grows, and speed.

memory_growth: the peak resident memory of `fit --stream yes` (schema pass, training, held-out rows) on the larger table
over that on the smaller, minus 1; each in a process of its own. throughput_share: training rows per second streamed
over those with the table in memory, on a table that fits, medians of interleaved runs, reading and schema left out.
Tables are generated: 20 columns, of which 16 numbers, 2 whole numbers with gaps and 2 categories.

    bench/streaming.py [--sizes 1 10] [--repeats 3] [--folder DIR]    (needs disk for the larger table)
"""

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from common import arguments, finish

# Rows of a row group, and bytes of a row on disk as measured (8 of them a number).
GROUP, ROW = 50_000, 147


def main() -> None:
    args = arguments(
        __doc__,
        sizes={
            "type": float,
            "nargs": 2,
            "default": (1.0, 10.0),
            "help": "GB of the two tables; 0 0 leaves this part out",
        },
        repeats={"type": int, "default": 3, "help": "runs of each side for the throughput; 0 leaves it out"},
        folder={"type": Path, "default": None, "help": "where the tables are made"},
        one={"nargs": 3, "metavar": ("TABLE", "STREAM", "STEPS"), "help": "one fit; prints its JSON"},
    )
    if args.one:
        print(json.dumps(one(*args.one)))
        return
    start = time.perf_counter()
    sizes = (0.02, 0.2) if args.quick else args.sizes
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        table = Path(folder) / "table.parquet"
        memory = []
        for size in sizes if sizes[0] else ():
            rows = make(table, int(size * 1e9 / ROW))
            found = run(table, "yes", 2000)
            memory.append(found["peak_mb"])
            print(
                f"{table.stat().st_size / 1e9:.2f} GB, {rows:,} rows: {found['peak_mb']:.0f} MB at the peak, "
                f"{found['rows_per_s']:,.0f} rows/s in training, {found['seconds']:.0f} s in all",
                flush=True,
            )
        steps, repeats = (400, 1) if args.quick else (4000, args.repeats)
        pairs = []
        for again in range(repeats):
            if not again:
                make(table, 100_000 if args.quick else 1_200_000)
            pairs.append([run(table, stream, steps)["rows_per_s"] for stream in ("no", "yes")])
            print(f"in memory {pairs[-1][0]:,.0f} rows/s, streamed {pairs[-1][1]:,.0f} rows/s", flush=True)
    figures: dict[str, Any] = {}
    if memory:
        figures |= {"memory_growth": round(memory[1] / memory[0] - 1, 3), "peak_mb": [round(m) for m in memory]}
        figures["gb"] = list(sizes)
    if pairs:
        figures["throughput_share"] = round(median(b / a for a, b in pairs), 3)
        figures["rows_per_s_resident"] = round(median(a for a, _ in pairs))
        figures["rows_per_s_streamed"] = round(median(b for _, b in pairs))
    finish("streaming", figures, {}, start)


def make(path: Path, rows: int) -> int:
    """Write a table of so many rows, a row group at a time."""
    import pyarrow as pa
    from pyarrow import parquet

    rng, writer = np.random.default_rng(0), None
    mix = rng.normal(size=(4, 16))
    for begin in range(0, rows, GROUP):
        n = min(GROUP, rows - begin)
        z = rng.normal(size=(n, 4))
        x = z @ mix + 0.5 * rng.normal(size=(n, 16))
        columns = {f"x{i}": pa.array(x[:, i]) for i in range(16)}
        for i in range(2):
            counts = rng.poisson(np.exp(1 + 0.3 * z[:, i])).astype(np.float64)
            columns[f"n{i}"] = pa.array(np.where(rng.random(n) < 0.1, np.nan, counts), from_pandas=True)
        for i, levels in enumerate((["low", "middle", "high"], list("abcdefghij"))):
            index = ((z[:, 2 + i] - z.min()) / np.ptp(z) * len(levels)).astype(int).clip(0, len(levels) - 1)
            columns[f"c{i}"] = pa.array(np.array(levels)[index])
        table = pa.table(columns)
        writer = writer or parquet.ParquetWriter(path, table.schema, compression="none")
        writer.write_table(table)
    assert writer is not None
    writer.close()
    return rows


def run(table: Path, stream: str, steps: int) -> dict[str, float]:
    """One fit in a process of its own."""
    command = [sys.executable, __file__, "--one", str(table), stream, str(steps)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def one(table: str, stream: str, steps: str) -> dict[str, float]:
    """Rows per second of training, the peak of the resident memory in MB, and seconds in all."""
    import latente as lt

    start = time.perf_counter()
    settings = [f"train.steps={steps}", "train.batch_size=512", "train.patience=1000"]
    ae = lt.fit(table, stream=stream, set=settings, quiet=True)
    history = ae.history_
    return {
        "rows_per_s": history.steps * 512 / history.seconds,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3,
        "seconds": time.perf_counter() - start,
    }


if __name__ == "__main__":
    main()
