"""Seconds of one epoch of a 784-512-256-16 Bernoulli VAE on MNIST, beside pythae, Lightning, a torch loop and JAX.

All sides run the same 60,000 pictures in grey, Adam at 1e-3, the same batch, in turn, each run in a process of its own
and on two threads; only the training call is timed. `ratio_…` is a peer's wall time in units of ours (pythae's where no
name is said), `cpu_ratio_…` the same in CPU seconds, `one_thread_…` our side on one core against pythae on both.
`loop_overhead` is what our loop takes beyond a bare one over the same kernels, `gemm_share` what of our time the bare
matrix products of the epoch take. JAX's compilation is left out, and said beside it. Each peer lives in its own
environment, DIR/pythae (the torch loop too), DIR/lightning and DIR/jax, made from bench/requirements-*.txt:

    bench/speed_mlp.py --peers DIR [--repeats 5] [--data DIR] [--quick]
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from common import arguments, cpu_seconds, finish, mnist

HERE = Path(__file__).resolve().parent
# Name in the figures, environment, script.
PEERS = (
    ("pythae", "pythae", "pythae_mlp.py"),
    ("lightning", "lightning", "lightning_mlp.py"),
    ("dataloader", "pythae", "loop_mlp.py"),
    ("jax", "jax", "jax_mlp.py"),
)


def main() -> None:
    args = arguments(
        __doc__,
        peers={"type": Path, "default": Path("peers"), "help": "the folder of the peers' environments"},
        repeats={"type": int, "default": 5, "help": "runs of each side at each batch size"},
        ours={"nargs": 3, "metavar": ("TRAIN", "TEST", "BATCH"), "help": "run our side once and print its JSON"},
        kernels={"nargs": 3, "metavar": ("TRAIN", "TEST", "BATCH"), "help": "run the bare loop and the bare products"},
        precision={"default": "auto", "help": "of our side"},
        run_seed={"type": int, "default": 0, "help": "seed of our side"},
    )
    if args.ours or args.kernels:
        side = ours if args.ours else kernels
        print(json.dumps(side(*(args.ours or args.kernels), precision=args.precision, seed=args.run_seed)))
        return
    start = time.perf_counter()
    train, test = mnist(args.data)
    train = train[:6000] if args.quick else train
    figures: dict[str, Any] = {}
    peers: dict[str, dict[str, Any]] = {name: {} for name, _, _ in PEERS}
    gaps, overheads = [], []
    with tempfile.TemporaryDirectory() as folder:
        paths = [str(Path(folder) / f"{n}.npy") for n in ("train", "test")]
        for path, rows in zip(paths, (train, test), strict=True):
            np.save(path, rows.reshape(len(rows), -1))
        for batch in (128, 512):
            runs: dict[str, list[dict[str, Any]]] = {}
            for seed in range(1 if args.quick else args.repeats):
                for name, run in turn(args, paths, batch, seed).items():
                    runs.setdefault(name, []).append(run)
                print(
                    f"batch {batch}, run {seed}: " + "; ".join(said(name, r[-1]) for name, r in runs.items()),
                    flush=True,
                )
            for name, _, _ in PEERS:
                label = f"{batch}" if name == "pythae" else f"{name}_{batch}"
                figures[f"ratio_{label}"] = ratio(runs[name], runs["ours"], "wall_s")
                figures[f"cpu_ratio_{label}"] = ratio(runs[name], runs["ours"], "cpu_s")
                peers[name] |= summary(runs[name], batch)
            for key, name in (("wall_s", "one_thread_ratio"), ("cpu_s", "one_thread_cpu_ratio")):
                figures[f"{name}_{batch}"] = ratio(runs["pythae"], runs["one"], key)
            figures |= summary(runs["ours"], batch)
            figures["precision"] = runs["ours"][0]["precision"]
            overheads.append(ratio(runs["ours"], runs["kernels"], "wall_s", 3) - 1)
            shares = [k["products_s"] / o["wall_s"] for k, o in zip(runs["kernels"], runs["ours"], strict=True)]
            figures[f"gemm_share_{batch}"] = round(median(shares), 2)
            pairs = zip(runs["ours"], runs["pythae"], strict=True)
            gaps.append(median(a["neg_elbo"] - b["neg_elbo"] for a, b in pairs))
    # The worse of the two batch sizes; below 0 our bound is the better one.
    figures["loop_overhead"], figures["elbo_gap"] = round(max(overheads), 3), round(max(gaps), 2)
    figures["gemm_share"] = min(figures["gemm_share_128"], figures["gemm_share_512"])
    finish("speed_mlp", figures, peers, start)


def turn(args: Any, paths: list[str], batch: int, seed: int) -> dict[str, dict[str, Any]]:
    """One run of every side."""
    me = [sys.executable, __file__, "--run-seed", str(seed), "--precision", args.precision]
    found = {
        "ours": result([*me, "--ours", *paths, str(batch)], OMP_NUM_THREADS="2"),
        "kernels": result([*me, "--kernels", *paths, str(batch)], OMP_NUM_THREADS="2"),
        "one": result([*me, "--ours", *paths, str(batch)], OMP_NUM_THREADS="1"),
    }
    for name, environment, script in PEERS:
        python = str(args.peers / environment / "bin" / "python")
        options = ["--data", paths[0], "--test", paths[1], "--batch", str(batch), "--epochs", "1", "--seed", str(seed)]
        found[name] = result([python, str(HERE / "peers" / script), *options])
    return found


def said(name: str, run: dict[str, Any]) -> str:
    return f"{name} {run['wall_s']:.2f} s, {run['cpu_s']:.2f} CPU s"


def ratio(above: list[dict[str, Any]], below: list[dict[str, Any]], key: str, digits: int = 2) -> float:
    """The median, over the turns, of one side in units of another."""
    return round(median(a[key] / b[key] for a, b in zip(above, below, strict=True)), digits)


def summary(runs: list[dict[str, Any]], batch: int) -> dict[str, float]:
    keys = [k for k in ("wall_s", "cpu_s", "neg_elbo", "compile_s") if k in runs[0]]
    return {f"{k}_{batch}": round(median(r[k] for r in runs), 2) for k in keys}


def result(command: list[str], **environment: str) -> dict[str, Any]:
    """The JSON of a run's last line."""
    try:
        env = os.environ | environment
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=env)
    except FileNotFoundError:
        print(f"there is no {command[0]}: make the peers' environments, see bench/speed_mlp.py --help", file=sys.stderr)
        sys.exit(3)
    except subprocess.CalledProcessError as error:
        sys.exit(f"{' '.join(command)} failed:\n{error.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def subject(train: str, batch: str, precision: str, seed: int) -> tuple[Any, Any, Any, Any]:
    """Model, spec, rows and kind of our side, with latente's defaults (clipping, averaged weights) on."""
    from latente.kinds.image import Image
    from latente.model.spec import Spec, Train, recipe

    kind = Image(likelihood="bernoulli").learn(np.load(train).reshape(-1, 28, 28))
    data = kind.to_batch(np.load(train).reshape(-1, 28, 28))
    base = recipe("vae").to_json() | {
        "nets": {"part": "mlp", "widths": [512, 256], "activation": "relu"},
        "latent": {"part": "gaussian", "dim": 16},
        "objective": {"part": "elbo", "warmup": 0.0},
    }
    config = Train(epochs=1, batch_size=int(batch), validation=0.0, precision=precision, seed=seed)
    spec = Spec.from_json(base | {"kind": None})
    spec = Spec(kind, spec.nets, spec.latent, spec.prior, spec.objective, None, config)
    model = spec.model(seed)
    return model, spec, data, kind


def ours(train: str, test: str, batch: str, precision: str, seed: int) -> dict[str, Any]:
    """One epoch by latente's own loop."""
    import torch

    from latente.model.estimates import bounds
    from latente.training.loop import train as fit

    model, spec, data, kind = subject(train, batch, precision, seed)
    cpu, wall = cpu_seconds(), time.perf_counter()
    history = fit(model, spec.objective, data, kind, spec.train)
    cpu, wall = cpu_seconds() - cpu, time.perf_counter() - wall
    rows = kind.to_batch(np.load(test).reshape(-1, 28, 28))
    generator, total = torch.Generator().manual_seed(0), 0.0
    for i in range(0, len(rows), 1000):
        total -= float(bounds(model, kind.prepare(rows.rows(slice(i, i + 1000))), 1, generator).elbo.double().sum())
    return {"cpu_s": cpu, "wall_s": wall, "neg_elbo": total / len(rows), "precision": history.precision}


def kernels(train: str, test: str, batch: str, precision: str, seed: int) -> dict[str, Any]:
    """The same epoch as a bare loop over the same kernels; then the matrix products alone."""
    import torch

    from latente.model.batch import Batch
    from latente.training.fused import known, step_of
    from latente.training.optimiser import Optimiser
    from latente.training.precision import kernels_of

    del test
    model, spec, data, _ = subject(train, batch, precision, seed)
    pixels, size, generator = data.x, int(batch), torch.Generator().manual_seed(seed)
    choice = kernels_of(model.train(), spec.train, known(model, spec.objective))
    torch.set_num_threads(choice.threads)
    model.low_precision, model.generator = choice.precision == "bfloat16", generator
    cpu, wall = cpu_seconds(), time.perf_counter()
    optimiser, step = Optimiser(model, spec.train), step_of(model, spec.objective, choice.onednn)
    assert step is not None
    for i, index in enumerate(torch.randperm(len(pixels), generator=generator).split(size)):
        step(Batch(pixels.index_select(0, index).float().div_(255)))
        optimiser.step(i * size / len(pixels))
    optimiser.finish()
    cpu, wall = cpu_seconds() - cpu, time.perf_counter() - wall
    steps = len(pixels) / size
    return {"cpu_s": cpu, "wall_s": wall, "products_s": products(model.low_precision, size, steps)}


def products(low: bool, rows: int, steps: float) -> float:
    """Seconds of an epoch's products by weights, forward and backward, and of nothing else."""
    import torch

    dtype = torch.bfloat16 if low else torch.float32
    sizes = ((784, 512), (512, 256), (256, 32), (16, 256), (256, 512), (512, 784))
    layers = [[torch.randn(*shape).to(dtype) for shape in ((rows, a), (b, a), (rows, b))] for a, b in sizes]

    def step() -> None:
        for i, (x, w, g) in enumerate(layers):
            torch.mm(x, w.t())
            torch.mm(g.t(), x)
            if i:  # nobody asks for the pixels' gradient
                torch.mm(g, w)

    step()
    start = time.perf_counter()
    for _ in range(round(steps)):
        step()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
