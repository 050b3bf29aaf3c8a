"""Strange rows found: 22 tables of ADBench, with PyOD's detectors beside ours.

    bench/anomaly.py [--seeds 3] [--data DIR of npz with X, y] [--peers ENV] [--only dirty,clean] [--out FILE]

dirty: fitted on all rows and asked of the same (recipe anomaly). clean: fitted on half of the ordinary rows and asked
of the others and the strange ones (recipe novelty). At most 10,000 rows a table, drawn once. AUROC and AUPRC are means
over tables and seeds, in percent; `_ae` is the committee alone, `_forest` and `_prototypes` the other parts alone.
cpu_s: of fit and score, median over tables. fdr_5, fdr_10: false alarms among the alarms of Benjamini–Hochberg at 5 and
10 % (clean), mean over tables; ks: the largest distance between the p-values of ordinary rows that were not learned
from and the uniform distribution, mean over tables, and `ks_chance` what it would be of p-values that are uniform, with
as many rows; power_5: share of the strange rows found at 5 %.
`over_NAME`: our AUROC and AUPRC minus the peer's, mean over tables with a 95 % bootstrap interval over tables (paired).
`chosen`: the weights of forest and prototypes beside the committee, chosen on tables that play no part in what is
shown (two halves, each by the other), over `WEIGHTS`. Columns go to PyOD standardised, to latente as they are.
"""

import json
import subprocess
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from common import arguments, finish, place
from sklearn.metrics import average_precision_score, roc_auc_score

import latente as lt
from latente.uses.learned.calibration import discoveries

MOST = 10_000
PEERS = ("iforest", "knn", "ecod", "autoencoder", "vae")
# Weights of committee, forest and prototypes among which `chosen` chooses.
WEIGHTS = [(1, 0, 0), (0, 1, 0), (0, 0, 1), (2, 1, 0), (1, 1, 0), (2, 0, 1), (2, 1, 1), (1, 1, 1), (1, 0, 2), (1, 1, 2)]


def main() -> None:
    args = arguments(
        __doc__,
        peers={"type": Path, "default": None, "help": "the environment of bench/requirements-pyod.txt"},
        only={"default": "dirty,clean", "help": "which"},
        out={"type": Path, "default": None, "help": "also write every table's numbers, as JSON"},
    )
    start = time.perf_counter()
    folder = place(args.data, "anomaly", "fetch the classical sets of ADBench, npz files with X and y")
    runs: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as scratch:
        peer = None if args.peers is None else Peer(args.peers, Path(scratch))
        for file in sorted(folder.glob("*.npz"))[: 3 if args.quick else None]:
            x, y = read(file)
            for seed in range(1 if args.quick else args.seeds or 3):
                for mode in args.only.split(","):
                    runs.append({"set": file.stem, "seed": seed, "mode": mode, **once(x, y, mode, seed, peer)})
                    print(shown(runs[-1]), flush=True)
    if args.out:
        args.out.write_text(json.dumps(runs))
    figures, peers = summary(runs)
    finish("anomaly", figures, peers, start)


def read(file: Path) -> tuple[np.ndarray, np.ndarray]:
    """At most `MOST` rows of a table, and which are strange."""
    with np.load(file) as data:
        x, y = data["X"].astype(np.float64), data["y"].astype(int)
    if len(x) > MOST:
        some = np.sort(np.random.default_rng(0).choice(len(x), MOST, replace=False))
        x, y = x[some], y[some]
    return x, y


class Peer:
    """PyOD in an environment of its own, asked table by table."""

    def __init__(self, env: Path, scratch: Path) -> None:
        self.scratch = scratch
        script = Path(__file__).parent / "peers" / "pyod_scores.py"
        command = [env / "bin" / "python", script]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __call__(self, train: np.ndarray, test: np.ndarray, same: bool, seed: int) -> dict[str, Any]:
        """{"scores": {name: [n]}, "cpu_s": {name: seconds}}"""
        places = {k: str(self.scratch / f"{k}.npy") for k in ("train", "test")}
        np.save(places["train"], train)
        np.save(places["test"], test)
        request = {**places, "same": same, "names": PEERS, "seed": seed, "out": str(self.scratch / "scores.npz")}
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(json.dumps(request), file=self.process.stdin, flush=True)
        answer: dict[str, Any] = json.loads(self.process.stdout.readline())
        with np.load(request["out"]) as scores:
            return answer | {"scores": dict(scores)}


def once(x: np.ndarray, y: np.ndarray, mode: str, seed: int, peer: Peer | None) -> dict[str, Any]:
    """One table, one seed: figures of ours, of its parts, and of the peers."""
    train, test = np.arange(len(y)), np.arange(len(y))
    if mode == "clean":
        ordinary = np.random.default_rng(seed).permutation(np.flatnonzero(y == 0))
        train = np.sort(ordinary[: len(ordinary) // 2])
        test = np.setdiff1d(test, train)
    asked = y[test]
    cpu = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", lt.DataWarning)
        detector = lt.AnomalyDetector(mode == "dirty", random_state=seed).fit(x[train])
        scored = detector.detect(x[test]).scored
    found: dict[str, Any] = {"cpu_s": time.process_time() - cpu, "ours": quality(asked, scored.score)}
    # All parts, for what each does alone; not part of the time.
    parts = all_parts(detector, x[train], x[test])
    for name, scores in parts.items():
        found[name] = quality(asked, scores)
    found["weighed"] = [quality(asked, sum(w * s for w, s in zip(ws, parts.values(), strict=True))) for ws in WEIGHTS]
    if mode == "clean":
        for rate in (0.05, 0.1):
            called = discoveries(scored.p, rate)
            found[f"fdr_{rate:.0%}"[:-1]] = float((called & (asked == 0)).sum() / max(1, called.sum()))
            found[f"power_{rate:.0%}"[:-1]] = float(called[asked == 1].mean())
        p = np.sort(scored.p[asked == 0])
        steps = np.arange(1, len(p) + 1) / len(p)
        found["ks"] = float(np.maximum(np.abs(steps - p), np.abs(steps - 1 / len(p) - p)).max())
        # The mean of Kolmogorov's distribution, .8687, for two samples.
        found["ks_chance"] = float(0.8687 * np.sqrt(1 / len(p) + 1 / len(train)))
    if peer is not None:
        answer = peer(x[train], x[test], mode == "dirty", seed)
        for name, scores in answer["scores"].items():
            # Of a net that diverged on a row: stranger than all others.
            most = 2 * np.abs(scores[np.isfinite(scores)]).max()
            numbers = np.nan_to_num(scores, nan=most, posinf=most)
            found[f"peer {name}"] = {**quality(asked, numbers), "cpu_s": answer["cpu_s"][name]}
    return found


def all_parts(detector: lt.AnomalyDetector, train: np.ndarray, test: np.ndarray) -> dict[str, np.ndarray]:
    """Scores of committee, forest and prototypes, whichever of them the detector uses."""
    from dataclasses import replace

    from latente.uses import detection
    from latente.uses.learned import forest, prototypes
    from latente.uses.learned.anomaly import features, observed_features

    ae, own = detector.autoencoder_, detector.detector_
    rows = detection.joined(list(ae.batches(train)))
    x = features(ae.model_, rows)
    use = replace(own.use, autoencoder=1.0, forest=1.0, prototypes=1.0)
    whole = replace(
        own,
        use=use,
        forest=own.forest or forest.grow(x.numpy(), rows.x, use.trees, 0),
        prototypes=own.prototypes
        or prototypes.found(x, observed_features(ae.model_, rows), rows.x, use.sets, use.size, 0),
    ).calibrated(rows)
    return whole.score(detection.joined(list(ae.batches(test)))).parts


def quality(y: np.ndarray, scores: Any) -> dict[str, float]:
    """AUROC and AUPRC, in percent."""
    return {"auroc": 100 * roc_auc_score(y, scores), "auprc": 100 * average_precision_score(y, scores)}


def shown(run: dict[str, Any]) -> str:
    """A line on one run."""
    named = {k: v for k, v in run.items() if isinstance(v, dict)}
    pairs = " · ".join(f"{k} {v['auroc']:.1f}/{v['auprc']:.1f}" for k, v in named.items())
    more = " ".join(f"{k} {run[k]:.3f}" for k in ("fdr_5", "power_5", "ks") if k in run)
    return f"{run['set']} {run['mode']} {run['seed']}: {pairs} · {run['cpu_s']:.1f} s {more}"


def summary(runs: list[dict[str, Any]]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Means over tables and seeds; peers; differences with intervals over tables."""
    figures: dict[str, Any] = {}
    peers: dict[str, Any] = {}
    for mode in dict.fromkeys(run["mode"] for run in runs):
        own = [run for run in runs if run["mode"] == mode]
        sets = list(dict.fromkeys(run["set"] for run in own))

        def table(pick: Any, own: Any = own, sets: Any = sets) -> np.ndarray:
            return np.array([np.mean([pick(run) for run in own if run["set"] == name]) for name in sets])

        for name, short in (("ours", ""), ("autoencoder", "_ae"), ("forest", "_forest"), ("prototypes", "_prototypes")):
            for figure in ("auroc", "auprc"):
                figures[f"{mode}_{figure}{short}"] = table(lambda r, n=name, f=figure: r[n][f]).mean()
        figures[f"{mode}_cpu_s_median"] = float(np.median(table(lambda r: r["cpu_s"])))
        if mode == "clean":
            for figure in ("fdr_5", "fdr_10", "power_5", "power_10", "ks", "ks_chance"):
                figures[figure] = table(lambda r, f=figure: r[f]).mean()
        for figure in ("auroc", "auprc"):
            weighed = np.array([table(lambda r, i=i, f=figure: r["weighed"][i][f]) for i in range(len(WEIGHTS))])
            figures[f"{mode}_{figure}_chosen"] = chosen(weighed)
        names = [k.removeprefix("peer ") for k in own[0] if k.startswith("peer ")]
        for name in names:
            peer = peers.setdefault(name, {})
            for figure in ("auroc", "auprc"):
                theirs = table(lambda r, n=name, f=figure: r[f"peer {n}"][f])
                peer[f"{mode}_{figure}"] = round(theirs.mean(), 2)
                gap = table(lambda r, f=figure: r["ours"][f]) - theirs
                draws = np.random.default_rng(0).integers(len(gap), size=(10_000, len(gap)))
                low, high = np.percentile(gap[draws].mean(1), [2.5, 97.5])
                figures[f"{mode}_{figure}_over_{name}"] = [round(v, 2) for v in (gap.mean(), low, high, gap.min())]
            peer[f"{mode}_cpu_s_median"] = round(float(np.median(table(lambda r, n=name: r[f"peer {n}"]["cpu_s"]))), 2)
    return {k: round(v, 3) if isinstance(v, float) else v for k, v in figures.items()}, peers


def chosen(weighed: np.ndarray) -> float:
    """Mean over tables of the weights that were best on the half of the tables that a table is not in. [weights, n]"""
    halves = np.arange(weighed.shape[1]) % 2
    found = np.empty(weighed.shape[1])
    for half in (0, 1):
        other = weighed[:, halves != half]
        best = int(other.mean(1).argmax()) if other.size else 0
        found[halves == half] = weighed[best, halves == half]
    return float(found.mean())


if __name__ == "__main__":
    main()
