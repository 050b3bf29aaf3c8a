#!/usr/bin/env python
"""Kill runs with SIGKILL at random moments, resume them, and compare with runs that were never stopped.

Each run is a `latente fit` of its own table or pictures. Its process is killed after a random time between its start
and the time that a whole run takes, a third of the times at the first moment after that when a file is being written;
`latente resume` goes on, and is killed in its turn. In the end model.safetensors and latent.parquet must be the bytes
of the run that nothing happened to. Data are generated, so that the bench needs none.

    bench/kill.py [--kills 200] [--runs 20] [--seeds 0]
"""

import hashlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
from common import arguments, finish

LATENTE = [sys.executable, "-m", "latente"]
# Times that the killer looks for a checkpoint being written, and the pause between two looks.
LOOKS, PAUSE = 400, 0.002


def main() -> None:
    args = arguments(
        __doc__,
        kills={"type": int, "default": 200, "help": "kills in all"},
        runs={"type": int, "default": 20, "help": "runs they are spread over"},
    )
    start = time.perf_counter()
    rng = np.random.default_rng(args.seeds or 0)
    kills, runs = (4, 2) if args.quick else (args.kills, args.runs)
    done = identical = 0
    with tempfile.TemporaryDirectory() as folder:
        for number in range(runs):
            share = kills // runs + (number < kills % runs)
            made, same = campaign(number, share, rng, Path(folder))
            done, identical = done + made, identical + made * same
            print(f"run {number}: {made} kills, {'identical' if same else 'DIFFERENT'}", flush=True)
    finish("kill", {"kills": done, "identical": identical, "runs": runs}, {}, start)
    sys.exit(done != identical or done != kills)


def campaign(number: int, kills: int, rng: np.random.Generator, folder: Path) -> tuple[int, bool]:
    """One run killed so many times; how many kills hit it, and whether it ended as the one that was left alone."""
    data, options = task(number, folder)
    alone, killed = folder / f"alone-{number}", folder / f"killed-{number}"
    begin = time.perf_counter()
    subprocess.run(fit(data, alone, options), check=True, capture_output=True)
    seconds = time.perf_counter() - begin
    made = 0
    while made < kills:
        made += strike(fit(data, killed, options), killed, seconds, rng)
        if finished(killed) and made < kills:
            shutil.rmtree(killed)  # this one got through: another try
    if not finished(killed):
        last = [*LATENTE, "resume", str(killed), "--quiet"] if (killed / "run.json").exists() else None
        subprocess.run(last or fit(data, killed, options), check=True, capture_output=True)
    same = digests(alone) == digests(killed)
    shutil.rmtree(killed)
    return made, same


def strike(begin: list[str], folder: Path, seconds: float, rng: np.random.Generator) -> bool:
    """Start or resume the run and kill it at a random moment. False if it was over before."""
    command = [*LATENTE, "resume", str(folder), "--quiet"] if (folder / "run.json").exists() else begin
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        process.wait(rng.uniform(0, seconds))
    except subprocess.TimeoutExpired:
        if rng.random() < 1 / 3:
            for _ in range(LOOKS):
                if list(folder.glob("**/.latente-*.part")):
                    break
                time.sleep(PAUSE)
        process.send_signal(signal.SIGKILL)
    _, said = process.communicate()
    if process.returncode not in (0, -signal.SIGKILL):
        sys.exit(f"{' '.join(command)} failed:\n{said.decode()}")
    return process.returncode == -signal.SIGKILL


def finished(folder: Path) -> bool:
    """Whether all of the run was written."""
    path = folder / "run.json"
    return path.exists() and '"status": "finished"' in path.read_text()


def digests(folder: Path) -> list[str]:
    """SHA-256 of what a run leaves."""
    return [hashlib.sha256((folder / n).read_bytes()).hexdigest() for n in ("model.safetensors", "latent.parquet")]


def fit(data: Path, output: Path, options: list[str]) -> list[str]:
    """The command that starts a run."""
    return [*LATENTE, "fit", str(data), "-o", str(output), "--quiet", *options]


def task(number: int, folder: Path) -> tuple[Path, list[str]]:
    """Data and settings of a run: tables of numbers, gaps and categories, and pictures, in turn."""
    rng = np.random.default_rng(number)
    recipe = ("vae", "ae", "denoising", "beta-vae", "iwae")[number % 5]
    if number % 2:
        pixels = rng.random((600, 1, 1)) * np.linspace(0, 255, 12)[:, None] + rng.normal(0, 20, (600, 12, 12))
        np.save(folder / f"{number}.npy", pixels.clip(0, 255).astype(np.uint8))
        nets = ["--set", "nets=conv", "--set", "nets.channels=8"] if number % 4 == 1 else []
        return folder / f"{number}.npy", ["--recipe", recipe, "--epochs", "25", "--seed", str(number), *nets]
    x = rng.normal(size=(3000, 2)) @ rng.normal(size=(2, 10)) + 0.3 * rng.normal(size=(3000, 10))
    frame = pd.DataFrame(x, columns=[f"c{i}" for i in range(10)])
    frame["c0"] = frame["c0"].where(rng.random(3000) > 0.1)
    frame["level"] = np.where(x[:, 1] > 0, "high", np.where(x[:, 2] > 0, "middle", "low"))
    frame.to_csv(folder / f"{number}.csv", index=False)
    return folder / f"{number}.csv", ["--recipe", recipe, "--epochs", "40", "--seed", str(number)]


if __name__ == "__main__":
    main()
