"""CPU seconds of one epoch of a 784-512-256-16 Bernoulli VAE on MNIST, beside pythae's own trainer.

Both sides run the same 60,000 pictures in grey, Adam at 1e-3, the same batch, in turn, each run in a process of its own
and with both of the machine's cores; only the training call is timed. `one_thread_…` is our side on one core against
pythae on both. pythae lives in its own environment:

    python -m venv /tmp/pythae && /tmp/pythae/bin/pip install torch==2.13.0+cpu \\
        && /tmp/pythae/bin/pip install -r bench/requirements-pythae.txt
    bench/speed_mlp.py --peer /tmp/pythae/bin/python [--repeats 5] [--data DIR] [--quick]
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


def main() -> None:
    args = arguments(
        __doc__,
        peer={"default": "python-pythae", "help": "the python of pythae's environment"},
        repeats={"type": int, "default": 5, "help": "runs of each side at each batch size"},
        ours={"nargs": 3, "metavar": ("TRAIN", "TEST", "BATCH"), "help": "run our side once and print its JSON"},
        precision={"default": "auto", "help": "of our side"},
        run_seed={"type": int, "default": 0, "help": "seed of our side"},
    )
    if args.ours:
        print(json.dumps(ours(*args.ours, precision=args.precision, seed=args.run_seed)))
        return
    start = time.perf_counter()
    train, test = mnist(args.data)
    train = train[:6000] if args.quick else train
    figures: dict[str, Any] = {}
    peers: dict[str, Any] = {}
    gaps = []
    with tempfile.TemporaryDirectory() as folder:
        paths = [str(Path(folder) / f"{n}.npy") for n in ("train", "test")]
        for path, rows in zip(paths, (train, test), strict=True):
            np.save(path, rows.reshape(len(rows), -1))
        for batch in (128, 512):
            runs: dict[str, list[dict[str, Any]]] = {"ours": [], "pythae": [], "one": []}
            for seed in range(1 if args.quick else args.repeats):
                me = [sys.executable, __file__, "--ours", *paths, str(batch), "--run-seed", str(seed)]
                runs["ours"].append(result([*me, "--precision", args.precision]))
                runs["one"].append(result([*me, "--precision", args.precision], OMP_NUM_THREADS="1"))
                peer = [args.peer, str(HERE / "peers" / "pythae_mlp.py"), "--data", paths[0], "--test", paths[1]]
                runs["pythae"].append(result([*peer, "--batch", str(batch), "--epochs", "1", "--seed", str(seed)]))
                a, b = runs["ours"][-1], runs["pythae"][-1]
                print(
                    f"batch {batch}, run {seed}: "
                    f"ours {a['cpu_s']:.2f} CPU s, {a['wall_s']:.2f} s, −ELBO {a['neg_elbo']:.2f}; "
                    f"pythae {b['cpu_s']:.2f} CPU s, {b['wall_s']:.2f} s, −ELBO {b['neg_elbo']:.2f}; "
                    f"ratio {b['cpu_s'] / a['cpu_s']:.2f}",
                    flush=True,
                )
            pairs = list(zip(runs["ours"], runs["pythae"], strict=True))
            figures[f"ratio_{batch}"] = round(median(b["cpu_s"] / a["cpu_s"] for a, b in pairs), 2)
            figures[f"ratio_wall_{batch}"] = round(median(b["wall_s"] / a["wall_s"] for a, b in pairs), 2)
            figures[f"cpu_s_{batch}"] = round(median(a["cpu_s"] for a, _ in pairs), 2)
            alone = list(zip(runs["one"], runs["pythae"], strict=True))
            figures[f"one_thread_ratio_{batch}"] = round(median(b["cpu_s"] / a["cpu_s"] for a, b in alone), 2)
            figures[f"one_thread_ratio_wall_{batch}"] = round(median(b["wall_s"] / a["wall_s"] for a, b in alone), 2)
            peers[f"cpu_s_{batch}"] = round(median(b["cpu_s"] for _, b in pairs), 2)
            figures[f"neg_elbo_{batch}"] = round(median(a["neg_elbo"] for a, _ in pairs), 2)
            peers[f"neg_elbo_{batch}"] = round(median(b["neg_elbo"] for _, b in pairs), 2)
            gaps.append(median(a["neg_elbo"] - b["neg_elbo"] for a, b in pairs))
            figures["precision"] = pairs[0][0]["precision"]
    # The worse of the two batch sizes; below 0 our bound is the better one.
    figures["elbo_gap"] = round(max(gaps), 2)
    finish("speed_mlp", figures, {"pythae": peers}, start)


def result(command: list[str], **environment: str) -> dict[str, Any]:
    """The JSON of a run's last line."""
    try:
        env = os.environ | environment
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=env)
    except FileNotFoundError:
        print(f"there is no {command[0]}: make pythae's environment, see bench/speed_mlp.py --help", file=sys.stderr)
        sys.exit(3)
    except subprocess.CalledProcessError as error:
        sys.exit(f"{' '.join(command)} failed:\n{error.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def ours(train: str, test: str, batch: str, precision: str, seed: int) -> dict[str, Any]:
    """One epoch by latente's own loop, with its defaults (clipping, averaged weights) on."""
    import torch

    from latente.kinds.image import Image
    from latente.model.estimates import bounds
    from latente.model.spec import Spec, Train, recipe
    from latente.training.loop import train as fit

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
    cpu, wall = cpu_seconds(), time.perf_counter()
    history = fit(model, spec.objective, data, kind, config)
    cpu, wall = cpu_seconds() - cpu, time.perf_counter() - wall
    rows = kind.to_batch(np.load(test).reshape(-1, 28, 28))
    generator, total = torch.Generator().manual_seed(0), 0.0
    for i in range(0, len(rows), 1000):
        total -= float(bounds(model, kind.prepare(rows.rows(slice(i, i + 1000))), 1, generator).elbo.double().sum())
    return {"cpu_s": cpu, "wall_s": wall, "neg_elbo": total / len(rows), "precision": history.precision}


if __name__ == "__main__":
    main()
