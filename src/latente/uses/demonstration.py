"""What `latente demo` does: two data sets that come with scikit-learn, and every core verb on them."""

import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..estimator import Autoencoder
from ..kinds.writing import write
from . import evaluation, runs
from .rows import Loaded


def run(folder: Path, seed: int) -> dict[str, Any]:
    """Fit, evaluate, sample, interpolate and score; figures of each, and the commands to go on with."""
    runs.claim(folder)
    start = time.perf_counter()
    train, test = _digits()
    digits = Autoencoder("vae", dim=8, epochs=100, random_state=seed)
    _say("digits: 1,437 pictures of 8×8 pixels, a VAE with 8 latents")
    runs.fit(digits, Loaded(train, name="digits"), folder / "digits")
    write(test, folder / "digits-test.npy")

    table, held_out = _cancer()
    cancer = Autoencoder("vae", dim=8, random_state=seed)
    _say("breast cancer: 455 rows of 31 columns, a VAE with 8 latents")
    runs.fit(cancer, Loaded(table, name="cancer"), folder / "cancer")
    write(cancer.sample(100, random_state=seed), folder / "cancer" / "samples.csv")
    strange = held_out.copy()
    strange.iloc[0, 0] = 60.0  # a radius of 60 beside an area of a few hundred: no such tumour can be
    scores = -cancer.score_samples(strange)
    write(pd.DataFrame({"score": scores}), folder / "cancer" / "scores.csv")
    write(held_out, folder / "cancer-test.csv")

    figures = {
        "digits": _figures(digits, test, seed),
        "cancer": _figures(cancer, held_out, seed)
        | {"score_of_the_altered_row": float(scores[0]), "rank_of_it": int((scores > scores[0]).sum()) + 1},
        "folder": str(folder),
        "seconds": round(time.perf_counter() - start, 1),
    }
    write(figures, folder / "demo.json")
    _tell(figures, folder)
    return figures


def _figures(ae: Autoencoder, rows: Any, seed: int) -> dict[str, Any]:
    found = evaluation.evaluate(ae, rows, 200, seed)
    return {k: found[k] for k in ("rows", "neg_elbo", "iw_nll", "kl", "active_units", "dim", "error", "error_pca")}


def _tell(figures: dict[str, Any], folder: Path) -> None:
    for name in ("digits", "cancer"):
        f = figures[name]
        _say(
            f"{name}: −ELBO {f['neg_elbo']:.1f}, importance-weighted −log p(x) {f['iw_nll']:.1f} nats "
            f"on {f['rows']} new rows; {f['active_units']}/{f['dim']} units; "
            f"reconstruction error {f['error']:.1%} of the variance, PCA {f['error_pca']:.1%}"
        )
    rank = figures["cancer"]["rank_of_it"]
    _say(f"a row with an impossible radius ranks {rank} of {figures['cancer']['rows']} by its score")
    _say(f"look at: {folder}/digits/samples.png, reconstructions.png, interpolation.gif   ({figures['seconds']} s)")
    _say("")
    _say("go on with:")
    _say(f"  latente info {folder}/digits")
    _say(f"  latente interpolate {folder}/digits {folder}/digits-test.npy:3 {folder}/digits-test.npy:8 -o way.gif")
    _say(f"  latente score {folder}/cancer {folder}/cancer-test.csv -o scores.csv")


def _digits() -> tuple[np.ndarray, np.ndarray]:
    from sklearn.datasets import load_digits

    images = np.rint(load_digits().images * (255 / 16)).astype(np.uint8)
    return images[:1437], images[1437:]


def _cancer() -> tuple[pd.DataFrame, pd.DataFrame]:
    from sklearn.datasets import load_breast_cancer

    data = load_breast_cancer(as_frame=True)
    frame = data.frame.assign(target=pd.Categorical(data.target_names[data.target]))
    frame = frame.sample(frac=1, random_state=np.random.RandomState(0)).reset_index(drop=True)
    return frame[:455], frame[455:].reset_index(drop=True)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
