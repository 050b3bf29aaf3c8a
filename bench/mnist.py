"""MNIST: −ELBO and importance-weighted −log p(x) in nats per picture, CPU seconds.

Training pictures are binarised anew for every batch; the 10,000 test pictures are binarised once, each pixel with its
grey value as probability, from numpy's default_rng(--test-seed). Five thousand of the training pictures are held out
for early stopping and for every choice; the test pictures are looked at once, at the end.

    bench/mnist.py [--recipe vae] [--cpu-budget 900 | --epochs 120] [--data DIR] [--quick]

With --epochs the length does not depend on how busy the machine is; the CPU seconds that it took are printed.
"""

import time
from typing import Any

import numpy as np
import torch
from common import arguments, cpu_seconds, finish, mnist

import latente as lt
from latente.kinds.image import Image

# Fully connected, residual; widths chosen on the held-out pictures.
MLP = {"part": "mlp", "widths": [512, 512, 512, 512], "residual": True}
# What a recipe changes; chosen on the held-out pictures.
RECIPES: dict[str, dict[str, Any]] = {
    "iwae": {"objective.samples": 50, "train.batch_size": 100, "train.lr": 1e-3},
}


def main() -> None:
    args = arguments(
        __doc__,
        recipe={"default": "vae", "help": "a recipe of latente's"},
        cpu_budget={"type": float, "default": 900.0, "help": "CPU seconds of training"},
        epochs={"type": int, "default": None, "help": "epochs of training, in place of the budget"},
        samples={"type": int, "default": 200, "help": "importance samples a picture"},
        test_seed={"type": int, "default": 0, "help": "seed of the test pictures' binarisation"},
        validation={"action": "store_true", "help": "evaluate on the held-out training pictures, not on the test's"},
        set={"action": "append", "default": [], "help": "a setting, PATH=VALUE"},
    )
    from latente.verbs.fit import _setting

    start = time.perf_counter()
    train, test = mnist(args.data)
    test = (np.random.default_rng(args.test_seed).random(test.shape) < test / 255).astype(np.uint8) * 255
    if args.validation:
        train, held = train[:55_000], train[55_000:]
        test = (np.random.default_rng(1).random(held.shape) < held / 255).astype(np.uint8) * 255
    if args.quick:
        train, test, args.cpu_budget, args.samples = train[:5000], test[:500], 20.0, 20
    # Batch, rate and warm-up by the held-out pictures, at a third of the budget (--validation --cpu-budget 200).
    settings = {"train.batch_size": 500, "train.lr": 4e-3, "train.validation": 1 / 12, "train.patience": 1000}
    if lt.recipe(args.recipe).objective.name == "elbo":
        settings["objective.warmup"] = 0.0
    settings |= RECIPES.get(args.recipe, {}) | dict(_setting(s) for s in args.set)
    ae = lt.Autoencoder(
        args.recipe,
        dim=40,
        nets=settings.pop("nets", MLP),
        kind=Image(binarize=True),
        settings=settings,
        epochs=args.epochs,
        time_limit=None if args.epochs else args.cpu_budget / torch.get_num_threads(),
        random_state=0,
        verbose=True,
    )
    before = cpu_seconds()
    ae.fit(train)
    cpu = cpu_seconds() - before
    found = lt.evaluate(ae, test, samples=args.samples)
    figures = {k: round(found[k], 3) for k in ("iw_nll", "iw_nll_se", "neg_elbo", "kl", "active_units")}
    figures |= {
        "cpu_s": round(cpu, 1),
        "epochs": ae.card_["epochs"],
        "recipe": args.recipe,
        "device": ae.history_.device,
    }
    figures |= {"precision": ae.history_.precision, "pictures": len(test), "samples": args.samples}
    print(figures, ae.history_.findings)
    finish("mnist", figures, {}, start)


if __name__ == "__main__":
    main()
