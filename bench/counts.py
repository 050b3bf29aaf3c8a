"""Single cells: 2,100 of a mouse's bladder in 16 types, with PCA and scvi-tools beside.

    bench/counts.py [--seeds 3] [--data FILE.h5 with X, Y] [--peers ENV] [--only quality,density,synthetic] [--quick]

knn_accuracy: 15 nearest neighbours in the codes give a cell's type, five-fold, mean of three shuffles. ari, nmi:
k-means with 16 clusters, mean of three starts, against the types. No method sees a type; our settings were chosen while
these figures of this set were looked at, there is no other labelled set here. fit_cpu_s: CPU seconds of the whole fit
from counts in memory, selection of genes included. selection_RULE: ours with other rules. pca is of log(1 + x) at the
median sum: 20 components of 2,000 deviance genes (ours are these), and 10 of 2,000 dispersion genes, selection in
their seconds. scvi: SCVI as it comes, 60 epochs on our 2,000 genes, in an environment of its own, between our seeds.
density: importance-weighted −log p of 300 cells that were not fitted on, nats a cell, by likelihood, all with the same
nets: a negative binomial, zero-inflated, a multinomial, a Gaussian on log(1 + x) with a σ for each gene and with one
for all (as PCA has it), both as probabilities of whole counts, and the first as a density with the change of variables,
as it is written most often; `gain_over_` is what the negative binomial has beyond them.
synthetic: of 2,000 genes the share whose mean, variance and share of zeros over 40,000 new cells lie inside the 95 %
bands of 300 bootstraps of the 2,100 real ones; `_chance` the same of 40,000 cells drawn from the real ones.
"""

import json
import subprocess
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from common import arguments, cpu_seconds, finish, place
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.neighbors import KNeighborsClassifier

import latente as lt
from latente.kinds.counted import Counted
from latente.kinds.selecting import Moments
from latente.model import sparse

GENES, HELD_OUT = 2000, 300
PCAS = (("pca", "deviance", 20), ("pca_dispersion", "dispersion", 10))


def main() -> None:
    args = arguments(
        __doc__,
        peers={"type": Path, "default": None, "help": "the environment of bench/requirements-scvi.txt"},
        only={"default": "quality,density,synthetic", "help": "which"},
    )
    start, only = time.perf_counter(), args.only.split(",")
    file = place(args.data, "counts/mouse_bladder_2100.h5", "fetch it from ttgump/scDeepCluster")
    raw = lt.read(file, "counts")
    types = raw.about["Y"].to_numpy().astype(int)
    seeds = 1 if args.quick else args.seeds or 3
    figures: dict[str, Any] = {"cells": len(raw), "types": len(set(types)), "seeds": seeds}
    peers: dict[str, Any] = {}
    if "quality" in only:
        ours, peers = quality(raw, types, seeds, args.peers, args.quick)
        figures |= ours
    if "density" in only:
        figures["density"] = density(raw, args.quick)
    if "synthetic" in only:
        figures["synthetic"] = [synthetic(raw, seed, args.quick) for seed in range(seeds)]
    finish("counts", figures, peers, start)


def fitted(raw: Counted, seed: int, quick: bool, **settings: Any) -> tuple[Any, float]:
    """A fitted model, and its CPU seconds."""
    settings |= {"train.unplanned": [2, 20]} if quick else {}
    before = cpu_seconds()
    ae = lt.Autoencoder(kind="counts", random_state=seed, settings=settings).fit(raw)
    return ae, cpu_seconds() - before


def judged(z: np.ndarray, types: np.ndarray) -> dict[str, float]:
    """How well codes keep the types apart."""
    accuracies, aris, nmis = [], [], []
    for seed in range(3):
        folds = StratifiedKFold(5, shuffle=True, random_state=seed)
        accuracies.append((cross_val_predict(KNeighborsClassifier(15), z, types, cv=folds) == types).mean())
        clusters = KMeans(len(set(types)), n_init=10, random_state=seed).fit_predict(z)
        aris.append(adjusted_rand_score(types, clusters))
        nmis.append(normalized_mutual_info_score(types, clusters))
    return {"knn_accuracy": float(np.mean(accuracies)), "ari": float(np.mean(aris)), "nmi": float(np.mean(nmis))}


def quality(raw: Counted, types: np.ndarray, seeds: int, env: Path | None, quick: bool) -> tuple[Any, Any]:
    """Ours, by other rules of selection too; PCA; and scvi-tools on the same genes, seed by seed."""
    runs: dict[str, list[dict[str, float]]] = {}
    peers: dict[str, list[dict[str, float]]] = {}
    for seed in range(seeds):
        for rule in ("deviance", "dispersion", "variance"):
            ae, seconds = fitted(raw, seed, quick, **{"kind.selection": rule})
            name = "ours" if rule == "deviance" else f"selection_{rule}"
            runs.setdefault(name, []).append(judged(ae.transform(raw), types) | {"fit_cpu_s": seconds})
            if rule == "deviance":
                genes = [int(n[1:]) for n in ae.schema_.names] if not raw.names else None
        print(f"seed {seed}: {runs['ours'][-1]}", flush=True)
        if env is not None:
            where = genes if genes is not None else [raw.names.index(n) for n in ae.schema_.names]
            z, seconds = scvi(env, raw.counts[:, where].tocsr(), seed, 2 if quick else 60)
            peers.setdefault("scvi", []).append(judged(z, types) | {"fit_cpu_s": seconds})
            print(f"scvi {seed}: {peers['scvi'][-1]}", flush=True)
    for name, rule, components in PCAS:
        before = cpu_seconds()
        moments = Moments(raw.shape[1])
        moments.add(raw.counts)
        x = raw.counts[:, moments.chosen(rule, GENES)].toarray().astype(np.float64)
        n = x.sum(1, keepdims=True)
        z = PCA(components, random_state=0).fit_transform(np.log1p(x / np.maximum(n, 1) * np.median(n)))
        peers[name] = [judged(z, types) | {"fit_cpu_s": cpu_seconds() - before}]
    figures = means(runs.pop("ours")) | {name: means(found) for name, found in runs.items()}
    found = {name: means(each) for name, each in peers.items()}
    if "scvi" in found:
        figures["scvi_cpu_ratio"] = round(found["scvi"]["fit_cpu_s"] / figures["fit_cpu_s"], 2)
    return figures, found


def means(runs: list[dict[str, float]]) -> dict[str, Any]:
    """Means over seeds; of the first figure each seed's too."""
    found: dict[str, Any] = {k: round(float(np.mean([r[k] for r in runs])), 4) for k in runs[0]}
    if len(runs) > 1:
        found["knn_accuracy_each"] = [round(r["knn_accuracy"], 4) for r in runs]
    return found


def scvi(env: Path, x: sp.csr_matrix, seed: int, epochs: int) -> tuple[np.ndarray, float]:
    """SCVI's codes of cells, and its CPU seconds."""
    with tempfile.TemporaryDirectory() as scratch:
        sp.save_npz(Path(scratch) / "x.npz", x)
        script = Path(__file__).parent / "peers" / "scvi_codes.py"
        command = [str(env / "bin" / "python"), str(script), scratch, str(seed), str(epochs)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        return np.load(Path(scratch) / "z.npy"), json.loads(done.stdout.splitlines()[-1])["cpu_s"]


def density(raw: Counted, quick: bool) -> dict[str, float]:
    """−log p of held-out cells by likelihood, nats a cell."""
    order = np.random.default_rng(0).permutation(len(raw))
    train, test = raw[order[HELD_OUT:]], raw[order[:HELD_OUT]]
    found = {}
    for name in LIKELIHOODS:
        ae, _ = fitted(train, 0, quick, **{"kind.likelihood": name})
        figures = lt.evaluate(ae, test, samples=20 if quick else 100, quiet=True)
        found[name] = round(figures["iw_nll"], 1)
        print(name, found[name], "±", round(figures["iw_nll_se"], 1), flush=True)
        if name == "log-gaussian":
            found["log-gaussian-density"] = round(as_density(ae, train, test), 1)
    ours = found["negative-binomial"]
    return found | {f"gain_over_{n}": round(v - ours, 1) for n, v in found.items() if n.startswith("log")}


def as_density(ae: Any, train: Counted, test: Counted) -> float:
    """−ELBO with log p(x|z) as the density of N(mean, σ²) at log(1 + x), less log(1 + x) for the change of variables,
    and each gene's σ as it is over the training cells.
    """
    with torch.no_grad():
        parts = []
        for rows in (train, test):
            batches = [(b, ae.model_.encode(b)) for b in ae.batches(rows)]
            z = [q.sample(1, torch.Generator().manual_seed(0)) for _, q in batches]
            means = torch.cat([ae.model_.decode(c).location[0] for c in z])
            parts.append((torch.cat([torch.log1p(sparse.dense(b.x)) for b, _ in batches]), means, batches))
        (y, means, _), (new, expected, batches) = parts
        sigma = (y - means).square().mean(0).sqrt().clamp(min=1e-3)
        nats = 0.5 * ((new - expected) / sigma).square() + sigma.log() + 0.5 * np.log(2 * np.pi) + new
        kl = torch.cat([ae.model_.run(b, q=q).kl for b, q in batches])
        return float((nats.sum(1) + kl).mean())


def synthetic(raw: Counted, seed: int, quick: bool) -> dict[str, float]:
    """Shares of genes whose figures over new cells lie inside the bands of the real ones."""
    ae, _ = fitted(raw, seed, quick)
    names = raw.names or tuple(f"c{i}" for i in range(raw.shape[1]))
    place_of = {n: i for i, n in enumerate(names)}
    x = raw.counts[:, [place_of[n] for n in ae.schema_.names]].toarray().astype(np.float32)
    rng = np.random.default_rng(0)

    def statistics(weights: np.ndarray, rows: np.ndarray) -> np.ndarray:
        weights = weights / weights.sum()
        mean = weights @ rows
        return np.array([mean, weights @ rows**2 - mean**2, weights @ (rows == 0)])

    def drawn() -> np.ndarray:
        return np.bincount(rng.integers(0, len(x), len(x)), minlength=len(x)).astype(np.float32)

    low, high = np.quantile([statistics(drawn(), x) for _ in range(30 if quick else 300)], [0.025, 0.975], axis=0)
    cells = 4_000 if quick else 40_000
    parts = [ae.sample(4_000, random_state=i).counts.toarray().astype(np.float32) for i in range(cells // 4_000)]
    new = np.mean([statistics(np.ones(len(p), np.float32), p) for p in parts], axis=0)
    # The variance over all parts has that between their means in it too.
    new[1] += np.var([p.mean(0) for p in parts], axis=0)
    same = statistics(np.bincount(rng.integers(0, len(x), cells), minlength=len(x)).astype(np.float32), x)
    found = {}
    for suffix, values in (("", new), ("_chance", same)):
        inside = (values >= low - 1e-6) & (values <= high + 1e-6)
        found |= {f"{n}{suffix}": round(float(v), 3) for n, v in zip(STATISTICS, inside.mean(1), strict=True)}
    return found


LIKELIHOODS = ("negative-binomial", "zero-inflated", "multinomial", "log-gaussian", "log-gaussian-isotropic")
STATISTICS = ("mean", "variance", "zeros")

if __name__ == "__main__":
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", lt.DataWarning)
        main()
