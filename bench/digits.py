"""Digits: reconstruction error of an autoencoder with 8 latents on held-out pictures, over PCA's with 8 components.

scikit-learn's 1,797 digits of 8×8 pixels; each seed draws its own test fifth. The settings below were chosen on the
training four fifths alone (--validation). Both errors are squared error over pixels.

    bench/digits.py [--seeds 3] [--quick]
"""

import time

import numpy as np
from common import arguments, cpu_seconds, finish
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA

import latente as lt

SETTINGS = {
    "nets": {"part": "mlp", "widths": [512, 256]},
    "corruption": {"part": "noise", "std": 0.1},
    "batch_size": 64,
    "lr": 2e-3,
    "steps": 4000,
}


def main() -> None:
    args = arguments(
        __doc__, validation={"action": "store_true", "help": "hold a fifth of the training rows out instead"}
    )
    start, rows = time.perf_counter(), []
    pictures = np.rint(load_digits().images * (255 / 16)).astype(np.uint8)
    for seed in range(1 if args.quick else args.seeds or 3):
        order = np.random.default_rng(seed).permutation(len(pictures))
        test, train = pictures[order[:360]], pictures[order[360:]]
        if args.validation:
            test, train = train[:280], train[280:]
        before = cpu_seconds()
        settings = SETTINGS | ({"steps": 300} if args.quick else {})
        ae = lt.Autoencoder("ae", dim=8, random_state=seed, **settings)
        ae.fit(train)
        cpu = cpu_seconds() - before
        x = test.reshape(len(test), -1).astype(float)
        pca = PCA(8).fit(train.reshape(len(train), -1).astype(float))
        ours = np.square(ae.inverse_transform(ae.transform(test)).reshape(x.shape).astype(float) - x).mean()
        theirs = np.square(pca.inverse_transform(pca.transform(x)) - x).mean()
        rows.append((ours, theirs, cpu))
        print(f"seed {seed}: autoencoder {ours:.1f}, PCA {theirs:.1f}, ratio {ours / theirs:.3f}, {cpu:.1f} CPU s")
    ratios = [a / b for a, b, _ in rows]
    figures = {
        "error_over_pca": round(float(np.mean(ratios)), 4),
        "error_over_pca_sd": round(float(np.std(ratios)), 4),
        "error": round(float(np.mean([r[0] for r in rows])), 2),
        "cpu_s": round(float(np.mean([r[2] for r in rows])), 1),
        "seeds": len(rows),
    }
    finish("digits", figures, {"pca": {"error": round(float(np.mean([r[1] for r in rows])), 2)}}, start)


if __name__ == "__main__":
    main()
