"""Reduction: maps of digits and MNIST in 2 and 8 dimensions beside PCA and UMAP, and how fast new rows are put on one.

Recipe `map`: an autoencoder, and a net from its codes to a map. error: squared reconstruction error of new rows
through the map, over the pixels' variance. Trustworthiness (10 neighbours) is in the space of pixels, knn the accuracy
of the 10 nearest on the map, leave-one-out for fitted rows, and of new rows among the fitted; both of at most 5,000
rows, drawn at random. New digits are a fifth, new MNIST pictures the test's.

    bench/reduction.py [--only digits,mnist,speed,cost] [--dims 2,8] [--seeds 3] [--umap ENV] [--data DIR] [--quick]

--umap: an environment with umap-learn (bench/requirements-umap.txt): its python runs bench/peers/umap_map.py.
"""

import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import arguments, cpu_seconds, finish, labels, mnist
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.manifold import trustworthiness
from sklearn.neighbors import KNeighborsClassifier

import latente as lt

MOST = 5000


def sets(args: Any, name: str, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Pictures to fit and their digits, new ones and theirs."""
    if name == "digits":
        data = load_digits()
        x, y = (data.images / 16).astype(np.float32), data.target
        mixed = np.random.default_rng(seed).permutation(len(x))
        new, fit = mixed[: len(x) // 5], mixed[len(x) // 5 :]
        return x[fit], y[fit], x[new], y[new]
    (x, new), (y, new_y) = mnist(args.data), labels(args.data)
    if args.validation:
        x, y, new, new_y = x[:50_000], y[:50_000], x[50_000:], y[50_000:]
    if args.quick:
        x, y, new, new_y = x[:3000], y[:3000], new[:1000], new_y[:1000]
    return x.astype(np.float32) / 255, y, new.astype(np.float32) / 255, new_y


def judged(
    x: np.ndarray, y: np.ndarray, new: np.ndarray, new_y: np.ndarray, z: np.ndarray, z_new: np.ndarray
) -> dict[str, float]:
    """How well a map of fitted rows and of new ones keeps neighbours."""
    rng = np.random.default_rng(0)
    some, few = (rng.permutation(len(a))[:MOST] for a in (x, new))
    near = KNeighborsClassifier(11).fit(z, y)
    # The nearest of a fitted row is itself.
    votes = y[near.kneighbors(z[some], return_distance=False)[:, 1:]]
    said = np.array([np.bincount(v).argmax() for v in votes.astype(int)])
    return {
        "knn": float((said == y[some]).mean()),
        "trustworthiness": float(trustworthiness(x[some], z[some], n_neighbors=10)),
        "knn_new": float(KNeighborsClassifier(10).fit(z, y).score(z_new, new_y)),
        "trustworthiness_new": float(trustworthiness(new[few], z_new[few], n_neighbors=10)),
    }


def one(args: Any, name: str, dim: int, seed: int) -> dict[str, dict[str, float]]:
    """A map, PCA and UMAP of one set."""
    x, y, new, new_y = sets(args, name, seed)
    flat, flat_new = x.reshape(len(x), -1), new.reshape(len(new), -1)
    spread = float(np.square(flat_new - flat.mean(0)).sum())
    start = cpu_seconds()
    settings: dict[str, Any] = {"use.dim": dim, "train.validation": 0.02}
    if name == "mnist":
        settings |= {"train.epochs": 4, "train.batch_size": 256, "train.lr": 2e-3}
    if args.quick:
        settings |= {"train.epochs": 1, "use.steps": 60}
    for setting in args.set:
        from latente.verbs.fit import _setting

        settings |= dict([_setting(setting)])
    ae = lt.Autoencoder("map", kind="image", settings=settings, random_state=seed).fit(x)
    cost = cpu_seconds() - start
    z, z_new = (ae.use_.place(ae.transform(rows)) for rows in (x, new))
    back = ae.decode(ae.use_.back(z_new)).reshape(len(new), -1)
    back = back.astype(np.float32) / (255 if back.dtype == np.uint8 else 1)
    found = {"ours": {"error": float(np.square(back - flat_new).sum()) / spread, "cpu_s": cost}}
    found["ours"] |= judged(flat, y, flat_new, new_y, z, z_new)
    start = cpu_seconds()
    pca = PCA(dim, random_state=0).fit(flat)
    cost = cpu_seconds() - start
    z, z_new = pca.transform(flat), pca.transform(flat_new)
    error = float(np.square(pca.inverse_transform(z_new) - flat_new).sum()) / spread
    found["pca"] = {"error": error, "cpu_s": cost} | judged(flat, y, flat_new, new_y, z, z_new)
    if args.umap:
        z, z_new, cost = beside(args.umap, flat, flat_new, dim, seed)
        found["umap"] = {"cpu_s": cost} | judged(flat, y, flat_new, new_y, z, z_new)
    return found


def beside(env: Path, x: np.ndarray, new: np.ndarray, dim: int, seed: int) -> tuple[np.ndarray, np.ndarray, float]:
    """UMAP in its own environment: the map of fitted rows, of new ones, and CPU seconds of the fit."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        np.savez(place / "in.npz", x=x, new=new)
        script = Path(__file__).parent / "peers" / "umap_map.py"
        python = env / "bin" / "python" if env.is_dir() else env
        subprocess.run([python, script, place / "in.npz", place / "out.npz", str(dim), str(seed)], check=True)
        out = np.load(place / "out.npz")
        return out["z"], out["z_new"], float(out["cpu_s"])


def speed(args: Any) -> dict[str, Any]:
    """A million rows of 32 columns on a map that was fitted on ten thousand of them."""
    rng = np.random.default_rng(0)
    number = 100_000 if args.quick else 1_000_000
    x = (rng.normal(size=(number, 6)) @ rng.normal(size=(6, 32)) + 0.3 * rng.normal(size=(number, 32))).astype(
        np.float32
    )
    ae = lt.Autoencoder("map", random_state=0, settings={"train.epochs": 5, "use.steps": 300}).fit(x[:10_000])
    wall, cpu = time.perf_counter(), cpu_seconds()
    z = ae.use_.place(ae.transform(x))
    wall, cpu = time.perf_counter() - wall, cpu_seconds() - cpu
    assert z.shape == (number, 2)
    assert np.isfinite(z).all()
    print(f"{number:,} rows × 32 on a map: {number / wall:,.0f} rows/s, {number / cpu:,.0f} rows a CPU second")
    return {"rows_per_s": round(number / wall), "rows_per_cpu_s": round(number / cpu)}


def main() -> None:
    args = arguments(
        __doc__,
        only={"default": "digits,mnist,speed", "help": "parts, with commas"},
        dims={"default": "2,8", "help": "dimensions of the map, with commas"},
        umap={"type": Path, "default": None, "help": "an environment, or its python, with umap-learn"},
        validation={"action": "store_true", "help": "MNIST: judge by training pictures that are held out"},
        set={"action": "append", "default": [], "help": "a setting, PATH=VALUE"},
    )
    start = time.perf_counter()
    torch.set_num_threads(1)
    figures: dict[str, Any] = {}
    peers: dict[str, Any] = {"pca": {}, "umap": {}}
    for name in [n for n in args.only.split(",") if n in ("digits", "mnist")]:
        for dim in [int(d) for d in args.dims.split(",")]:
            runs = [one(args, name, dim, seed) for seed in range(args.seeds or 3)]
            for who in runs[0]:
                mean = {k: round(float(np.mean([r[who][k] for r in runs])), 4) for k in runs[0][who]}
                least = {k: round(min(r[who][k] for r in runs), 3) for k in mean}
                most = {k: round(max(r[who][k] for r in runs), 3) for k in mean}
                shown = "  ".join(f"{k} {mean[k]:.3f} ({least[k]:g}–{most[k]:g})" for k in mean)
                print(f"{name}.{dim} {who:5} {shown}", flush=True)
                (figures if who == "ours" else peers[who])[f"{name}.{dim}"] = mean
    if "speed" in args.only:
        figures["million"] = speed(args)
    finish("reduction", figures, peers, start)


if __name__ == "__main__":
    main()
