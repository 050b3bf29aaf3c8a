"""Codes: share of a VQ codebook that MNIST's test pictures use, reconstruction beside PCA's, and sheets to look at.

Recipe `vq-vae`, fully connected, 32 numbers in 16 slots of 256 entries: a picture is 128 bits. PCA has 32 numbers of 32
bits. Errors are squared error over the variance of the pixels. Settings were chosen on the last five thousand training
pictures (--validation); the test pictures are looked at once, at the end.

    bench/codes.py [--steps 4000] [--out FOLDER] [--data DIR] [--quick]
"""

import time
from pathlib import Path

import torch
from common import arguments, cpu_seconds, finish, mnist

import latente as lt
from latente.uses.pictures import album

DIM = 32


def main() -> None:
    args = arguments(
        __doc__,
        steps={"type": int, "default": 4000, "help": "training steps of 256 pictures"},
        out={"type": Path, "default": None, "help": "a folder for reconstructions.png and samples.png"},
        validation={"action": "store_true", "help": "evaluate on held-out training pictures, not on the test's"},
        set={"action": "append", "default": [], "help": "a setting, PATH=VALUE"},
    )
    from latente.verbs.fit import _setting

    start = time.perf_counter()
    torch.set_num_threads(1)
    train, test = mnist(args.data)
    if args.validation:
        train, test = train[:55_000], train[55_000:]
    if args.quick:
        train, test, args.steps = train[:5000], test[:1000], 200
    settings = {"train.batch_size": 256, "train.lr": 2e-3, "train.validation": 1 / 12}
    settings |= {"train.patience": 1000, "prior.steps": 1000}
    settings |= dict(_setting(s) for s in args.set)
    ae = lt.Autoencoder("vq-vae", dim=DIM, steps=args.steps, settings=settings, random_state=0, verbose=True)
    before = cpu_seconds()
    ae.fit(train)
    cpu = cpu_seconds() - before
    found = lt.evaluate(ae, test)
    names = ("codebook_use", "codebook_perplexity", "error", "error_pca", "rec", "kl", "neg_elbo", "active_units")
    figures = {k: round(found[k], 4) for k in names}
    figures |= {"bits": ae.spec_.latent.bits, "cpu_s": round(cpu, 1), "pictures": len(test), "steps": args.steps}
    print(figures, ae.history_.findings)
    if args.out is not None:
        args.out.mkdir(parents=True, exist_ok=True)
        album(ae, test, args.out)
    peers = {"pca": {"error": figures.pop("error_pca"), "numbers": DIM}}
    finish("codes", figures, peers, start)


if __name__ == "__main__":
    main()
