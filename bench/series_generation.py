"""New series, judged as is usual for them: four sets of windows of 24 steps, discriminative and predictive scores.

    bench/series_generation.py [--seeds 5] [--data DIR] [--only sine,stock,air,energy] [--recipe NAME] [--quick]

Definitions: Yoon, Jarrett & van der Schaar 2019 (TimeGAN, sec. 5). discriminative: a GRU of half as many units as there
are channels, trained for 2,000 batches of 128 on four fifths of real and of new series to tell them apart; accuracy on
the rest − .5, absolute; 0 is best, .5 worst. predictive: a GRU of the same size, trained for 5,000 batches on new
series to tell the last channel a step ahead from the others; its mean absolute error on all real series. Channels are
scaled to [0, 1] by the real ones' range. As many new series as there are real ones.

`real`: the same scores of the real series themselves in the place of new ones (halves, for the discriminative one):
what a perfect sampler would get. `gaussian`: draws of one multivariate normal fitted to whole windows, cut to the
range, the honest baseline. Means over seeds (fit, draws and judges), and the standard deviation, `_sd`. For scale,
published of TimeVAE (Desai et al. 2021, arXiv:2111.08095), discriminative: sine .041, stock .145, energy .499.
cpu_s: fit and draw.
"""

import time
import warnings
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import arguments, finish, place
from torch import Tensor, nn

import latente as lt

SETS = {"sine": "sine_*", "stock": "stockv_*", "air": "air_*", "energy": "energy_*"}
BATCH, TELL, FORETELL = 128, 2_000, 5_000
RECIPE = "flow-vae"


def main() -> None:
    args = arguments(
        __doc__,
        only={"default": ",".join(SETS), "help": "which"},
        recipe={"default": RECIPE, "help": "what the series are learned with"},
        workers={"type": int, "default": 1, "help": "processes, of one thread each"},
    )
    start = time.perf_counter()
    folder = place(args.data, "series", "fetch the windows of sine, stock, air and energy that TimeVAE is measured by")
    seeds, few = range(1 if args.quick else args.seeds or 5), 20 if args.quick else 1
    tasks = [(folder, name, args.recipe, seed, few) for seed in seeds for name in args.only.split(",")]
    with ProcessPoolExecutor(
        args.workers, mp_context=get_context("spawn"), initializer=torch.set_num_threads, initargs=(1,)
    ) as pool:
        runs = list(pool.map(once, *zip(*tasks, strict=True)))
    figures: dict[str, Any] = {}
    peers: dict[str, dict[str, Any]] = {"gaussian": {}, "real": {}}
    for name in args.only.split(","):
        own = [run for task, run in zip(tasks, runs, strict=True) if task[1] == name]
        for way in own[0]:
            into = figures if way == "ours" else peers[way]
            for figure in own[0][way]:
                values = [run[way][figure] for run in own]
                into[f"{name}_{figure}"] = round(float(np.mean(values)), 4)
                into[f"{name}_{figure}_sd"] = round(float(np.std(values)), 4)
    finish("series_generation", figures, peers, start)


def once(folder: Path, name: str, recipe: str, seed: int, few: int) -> dict[str, dict[str, float]]:
    """One set, one seed: scores of ours, of the normal distribution, and of real series in the place of new ones."""
    real, found = read(folder, name), dict[str, dict[str, float]]()
    cpu = time.process_time()
    new = {"ours": ours(real, recipe, seed)}
    cpu = time.process_time() - cpu
    new |= {"gaussian": gaussian(real, seed), "real": real}
    for way, series in new.items():
        halves = np.random.default_rng(seed).permutation(len(real))
        a, b = (real[halves[::2]], real[halves[1::2]]) if way == "real" else (real, series)
        found[way] = {
            "discriminative": discriminative(a, b, seed, TELL // few),
            "predictive": predictive(real, series, seed, FORETELL // few),
        }
    found["ours"]["cpu_s"] = cpu
    shown = " · ".join(f"{w} {v['discriminative']:.3f} {v['predictive']:.4f}" for w, v in found.items())
    print(f"{name} {seed}: {shown} · {cpu:.0f} s", flush=True)
    return found


def read(folder: Path, name: str) -> np.ndarray:
    """The windows of a set, each channel in [0, 1]. float32 [n, 24, channels]"""
    (file,) = folder.glob(f"{SETS[name]}.npz")
    with np.load(file) as data:
        x = data["data"].astype(np.float64)
    low, high = x.min((0, 1)), x.max((0, 1))
    return ((x - low) / np.where(high > low, high - low, 1.0)).astype(np.float32)


def ours(real: np.ndarray, recipe: str, seed: int) -> np.ndarray:
    """As many new windows as there are real ones, from a model with default settings."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", lt.DataWarning)
        ae = lt.Autoencoder(recipe, kind="series", random_state=seed).fit(real)
    return ae.sample(len(real), random_state=seed).astype(np.float32)


def gaussian(real: np.ndarray, seed: int) -> np.ndarray:
    """Draws of the normal distribution with the windows' mean and covariance."""
    flat = real.reshape(len(real), -1).astype(np.float64)
    draws = np.random.default_rng(seed).multivariate_normal(flat.mean(0), np.cov(flat.T), len(flat), method="eigh")
    return draws.clip(0, 1).reshape(real.shape).astype(np.float32)


class Judge(nn.Module):
    """A GRU and what it says: of its last state, or of each."""

    def __init__(self, channels: int, size: int) -> None:
        super().__init__()
        self.gru, self.says = nn.GRU(channels, size, batch_first=True), nn.Linear(size, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.says(self.gru(x)[0])[..., 0]


def discriminative(real: np.ndarray, new: np.ndarray, seed: int, steps: int) -> float:
    """|accuracy − .5| of a judge who learned to tell new from real."""
    generator = torch.Generator().manual_seed(seed)
    sides = []
    for series in (real, new):
        x = torch.from_numpy(series)[torch.randperm(len(series), generator=generator)]
        sides.append((x[: int(0.8 * len(x))], x[int(0.8 * len(x)) :]))
    judge = made(real.shape[2], seed)
    optimiser = torch.optim.Adam(judge.parameters())
    for _ in range(steps):
        total = torch.zeros(())
        for truth, (x, _) in enumerate(sides):
            some = x[torch.randint(len(x), (BATCH,), generator=generator)]
            said = judge(some)[:, -1]
            total = total + nn.functional.binary_cross_entropy_with_logits(said, torch.full((BATCH,), 1.0 - truth))
        optimiser.zero_grad()
        total.backward()
        optimiser.step()
    with torch.no_grad():
        right = torch.cat([(judge(x)[:, -1] > 0) == (truth == 0) for truth, (_, x) in enumerate(sides)])
    return abs(float(right.float().mean()) - 0.5)


def predictive(real: np.ndarray, new: np.ndarray, seed: int, steps: int) -> float:
    """Mean absolute error, on real series, of who learned from new ones to tell the last channel a step ahead."""
    generator = torch.Generator().manual_seed(seed)
    judge = made(real.shape[2] - 1, seed, real.shape[2] // 2)
    optimiser, x = torch.optim.Adam(judge.parameters()), torch.from_numpy(new)
    for _ in range(steps):
        some = x[torch.randint(len(x), (BATCH,), generator=generator)]
        loss = (judge(some[:, :-1, :-1]).sigmoid() - some[:, 1:, -1]).abs().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    with torch.no_grad():
        truth = torch.from_numpy(real)
        return float((judge(truth[:, :-1, :-1]).sigmoid() - truth[:, 1:, -1]).abs().mean())


def made(channels: int, seed: int, size: int = 0) -> Judge:
    """An untrained judge whose weights depend on the seed."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Judge(channels, max(1, size or channels // 2))


if __name__ == "__main__":
    main()
