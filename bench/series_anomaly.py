"""Strange stretches of series found: application servers, a water loop and NAB, with plain methods beside ours.

    bench/series_anomaly.py [--seeds 3] [--data DIR] [--only asd,skab,nab] [--quick] [--out FILE]

asd: 6 servers of 19 channels; fitted on the first three quarters of `train` (recipe novelty), measured by the last,
asked of `test`. skab: valve 1, 16 files of 8 channels, each fitted on its rows 0 to 300, measured by 300 to 400, asked
of the rest; the false-alarm and missed rates are its own figures. nab: 29 files of one channel with at least one label
window; fitted on all of a file and asked of the same (recipe anomaly), as there is nothing else to learn from.

Beside ours: PCA of windows (as many components as 90 % of the variance takes), the mean of the 5 nearest windows
(`knn`; of NAB among those that do not overlap), an isolation forest of windows, random numbers, the row's number
(`index`), and `positive`, which calls every row. They have the same windows, and their errors go the same way to a
score as ours: of each window and channel the mean square, of each step the mean over the windows that hold it, each
channel in quartile widths, log, root mean square (the forest and random numbers have one voice). The thresholds are by
one rule too: 99 % of the rows it is measured by, of NAB that for data nobody cleaned. A figure is the mean over files,
then over seeds. vus_pr: volume under the surface of range-PR, Paparrizos et al. 2022 (PVLDB 15), buffers of 0 to 100
rows; f1, far, mar (false alarms among ordinary rows, missed among strange ones) at the threshold, row by row: nothing
is point-adjusted. cpu_s: fit, measure and score a file.
"""

import json
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from common import arguments, finish, place
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest
from sklearn.metrics import average_precision_score, roc_auc_score

import latente as lt
from latente.kinds.series import Series
from latente.uses import detection
from latente.uses.learned.calibration import threshold
from latente.uses.learned.steps import Seen, measured

BUFFER, SLICES, THRESHOLDS = 100, 11, 250
NEAREST = 5
PEERS = ("pca", "knn", "iforest", "random", "index", "positive")
FIGURES = ("vus_pr", "auc_pr", "auroc", "f1", "far", "mar", "cpu_s")


@dataclass(frozen=True)
class Task:
    """fit, normal, test [t, c]: what is learned from, measured by, asked of; strange [t]: the labels of test."""

    name: str
    fit: np.ndarray
    normal: np.ndarray
    test: np.ndarray
    strange: np.ndarray
    contaminated: bool = False


def main() -> None:
    args = arguments(
        __doc__,
        only={"default": "asd,skab,nab", "help": "which"},
        out={"type": Path, "default": None, "help": "also write every file's numbers, as JSON"},
    )
    start = time.perf_counter()
    folder = place(args.data, "series", "fetch NAB, SKAB (valve 1) and the ASD servers")
    figures: dict[str, Any] = {}
    peers: dict[str, Any] = {name: {} for name in PEERS}
    runs: list[dict[str, Any]] = []
    for name in args.only.split(","):
        tasks = list({"asd": asd, "skab": skab, "nab": nab}[name](folder))[: 2 if args.quick else None]
        for task in tasks:
            sure: dict[str, Any] = {}  # what has no seed is run once
            for seed in range(1 if args.quick else args.seeds or 3):
                runs.append({"set": name, "file": task.name, "seed": seed, **once(task, seed, sure)})
                sure = {k: v for k, v in runs[-1].items() if k in ("pca", "knn")}
                shown = " ".join(f"{k} {v['vus_pr']:.3f}/{v['f1']:.2f}" for k, v in runs[-1].items() if k in WAYS)
                print(f"{name} {task.name} {seed}: {shown} · {runs[-1]['ours']['cpu_s']:.1f} s", flush=True)
        own = [run for run in runs if run["set"] == name]
        for way in WAYS:
            means = {f"{name}_{k}": round(float(np.mean([run[way][k] for run in own])), 4) for k in FIGURES}
            (figures if way == "ours" else peers[way]).update(means)
        for way in ("pca", "knn"):
            each = [[r["ours"]["vus_pr"] - r[way]["vus_pr"] for r in own if r["file"] == t.name] for t in tasks]
            gap = np.mean(each, axis=1)
            draws = np.random.default_rng(0).integers(len(gap), size=(10_000, len(gap)))
            ends = np.percentile(gap[draws].mean(1), [2.5, 97.5])
            figures[f"{name}_vus_pr_over_{way}"] = [round(float(v), 3) for v in (gap.mean(), *ends)]
    if args.out:
        args.out.write_text(json.dumps(runs))
    finish("series_anomaly", figures, peers, start)


WAYS = ("ours", *PEERS)


def asd(folder: Path) -> Iterator[Task]:
    for file in sorted((folder / "asd").glob("*.npz")):
        with np.load(file) as data:
            train, test, labels = (data[k].astype(np.float64) for k in ("train", "test", "test_label"))
        cut = 3 * len(train) // 4
        yield Task(file.stem, train[:cut], train[cut:], test, labels.astype(bool))


def skab(folder: Path) -> Iterator[Task]:
    for file in sorted((folder / "skab" / "valve1").glob("*.csv"), key=lambda f: int(f.stem)):
        frame = pd.read_csv(file, sep=";")
        x = frame.drop(columns=["datetime", "anomaly", "changepoint"]).to_numpy(float)
        yield Task(file.stem, x[:300], x[300:400], x[400:], frame["anomaly"].to_numpy()[400:] > 0)


def nab(folder: Path) -> Iterator[Task]:
    labels = json.loads((folder / "nab" / "combined_windows.json").read_text())
    for file in sorted((folder / "nab").glob("*/*.csv")):
        frame = pd.read_csv(file, parse_dates=["timestamp"])
        strange = np.zeros(len(frame), bool)
        for begin, end in labels[f"{file.parent.name}/{file.name}"]:
            strange |= ((frame["timestamp"] >= begin) & (frame["timestamp"] <= end)).to_numpy()
        if strange.any():
            x = frame[["value"]].to_numpy(float)
            yield Task(f"{file.parent.name}/{file.stem}", x, x, x, strange, contaminated=True)


def once(task: Task, seed: int, sure: dict[str, Any]) -> dict[str, Any]:
    """One file, one seed: figures of ours and of the others, but for those that are `sure`."""
    cpu = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", lt.DataWarning)
        detector = lt.AnomalyDetector(task.contaminated, kind="series", random_state=seed).fit(task.fit)
        ae = detector.autoencoder_
        own = detector.detector_ if task.contaminated else detection.detector_of(ae, task.normal)
        scored = detection.detect(own, ae, task.test).scored
    cpu = time.process_time() - cpu
    assert own.steps is not None
    assert isinstance(ae.schema_, Series)
    found = {"window": ae.schema_.window, "ours": judged(task.strange, scored.score, own.steps.threshold, cpu)}
    found |= sure
    for name, way in others(task, ae.schema_, seed).items():
        if name in sure:
            continue
        cpu = time.process_time()
        known, asked = way()
        limit = threshold(np.sort(known), task.contaminated)
        found[name] = judged(task.strange, asked, limit, time.process_time() - cpu)
    rows = np.arange(len(task.strange), dtype=float)
    found["index"] = judged(task.strange, rows, rows[int(0.99 * len(rows))], 0.0)
    found["positive"] = judged(task.strange, np.ones(len(rows)), 0.0, 0.0)
    return found


# ── the others ─────────────────────────────────────────────────────────────────────────────────────────────────────


def others(task: Task, kind: Series, seed: int) -> dict[str, Callable[[], tuple[np.ndarray, np.ndarray]]]:
    """Of each method, what gives the scores of the rows it is measured by, and of those that are asked of."""
    fit, normal, test = (windows(x, kind) for x in (task.fit, task.normal, task.test))
    some = fit[:: kind.stride]

    def by_errors(error: Callable[[np.ndarray], np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        known = of_steps(error(normal), kind.window)
        asked = known if task.contaminated else of_steps(error(test), kind.window)
        by = measured(known, task.contaminated, None)
        return by.score(known)[0], by.score(asked)[0]

    def pca() -> tuple[np.ndarray, np.ndarray]:
        model = PCA(0.9, svd_solver="full").fit(some.reshape(len(some), -1))

        def error(x: np.ndarray) -> np.ndarray:
            flat = x.reshape(len(x), -1)
            return ((flat - model.inverse_transform(model.transform(flat))) ** 2).reshape(x.shape).mean(2)

        return by_errors(error)

    def knn() -> tuple[np.ndarray, np.ndarray]:
        known = some.reshape(len(some), -1).astype(np.float32)
        at = np.arange(len(fit))[:: kind.stride]

        def error(x: np.ndarray) -> np.ndarray:
            out = np.empty(x.shape[:2])
            for i in range(0, len(x), 512):
                part = x[i : i + 512].reshape(len(x[i : i + 512]), -1).astype(np.float32)
                far = (part**2).sum(1)[:, None] - 2 * part @ known.T + (known**2).sum(1)
                if task.contaminated:
                    far[np.abs(np.arange(i, i + len(part))[:, None] - at) < kind.window] = np.inf
                near = np.argpartition(far, NEAREST, axis=1)[:, :NEAREST]
                square = sum((part - known[near[:, k]]) ** 2 for k in range(NEAREST))
                out[i : i + 512] = np.asarray(square).reshape(-1, *x.shape[1:]).mean(2) / NEAREST
            return out

        return by_errors(error)

    def iforest() -> tuple[np.ndarray, np.ndarray]:
        model = IsolationForest(n_estimators=100, random_state=seed).fit(some.reshape(len(some), -1))
        return by_errors(lambda x: -model.score_samples(x.reshape(len(x), -1))[:, None])

    def random() -> tuple[np.ndarray, np.ndarray]:
        generator = np.random.default_rng(seed)
        return by_errors(lambda x: generator.random((len(x), 1)))

    return {"pca": pca, "knn": knn, "iforest": iforest, "random": random}


def windows(x: np.ndarray, kind: Series) -> np.ndarray:
    """The windows of a series as ours sees them, one a step. [n, c, w]"""
    return np.lib.stride_tricks.sliding_window_view(kind.numbers(x), kind.window, axis=0)


def of_steps(errors: np.ndarray, window: int) -> Seen:
    """Of windows [n, c], one a step, what belongs to steps [t, c]: the mean over those that hold it."""
    total = np.concatenate([np.zeros((1, errors.shape[1])), errors.cumsum(0)])
    step = np.arange(len(errors) + window - 1)
    first, end = np.maximum(0, step - window + 1), np.minimum(len(errors), step + 1)
    means = (total[end] - total[first]) / (end - first)[:, None]
    return Seen(means, None, means)


# ── figures ────────────────────────────────────────────────────────────────────────────────────────────────────────


def judged(strange: np.ndarray, score: np.ndarray, limit: float, cpu: float) -> dict[str, float]:
    """The figures of one method on one file."""
    called = score > limit
    hits = int((called & strange).sum())
    return {
        "vus_pr": vus_pr(strange, score),
        "auc_pr": float(average_precision_score(strange, score)),
        "auroc": float(roc_auc_score(strange, score)),
        "f1": 2 * hits / max(1, int(called.sum() + strange.sum())),
        "far": float(called[~strange].mean()),
        "mar": float(1 - called[strange].mean()),
        "cpu_s": cpu,
    }


def vus_pr(strange: np.ndarray, score: np.ndarray) -> float:
    """The mean over buffers of the area under range-PR: labels reach beyond their ends with weight sqrt(1 − d / buffer)
    for up to half a buffer, and recall is that of rows times the share of stretches that are met.
    """
    order = np.argsort(-score, kind="stable")
    limits = score[order][np.linspace(0, len(score) - 1, THRESHOLDS).astype(int)]
    called = np.searchsorted(-score[order], -limits, "right")
    begins, ends = stretches(strange)
    areas = []
    for buffer in np.linspace(0, BUFFER, SLICES).astype(int):
        label = strange.astype(float)
        for far in range(1, buffer // 2 + 1):
            weight = np.sqrt(1 - far / buffer)
            before, after = begins - far, ends - 1 + far
            for rows in (before[before >= 0], after[after < len(label)]):
                label[rows] = np.minimum(1, label[rows] + weight)
        hits = label[order].cumsum()[called - 1]
        highest = np.array([score[a:b].max() for a, b in zip(*stretches(label > 0), strict=True)])
        met = (highest >= limits[:, None]).mean(1)
        recall = np.minimum(hits / ((strange.sum() + label.sum()) / 2), 1) * met
        areas.append(float((np.diff(recall, prepend=0) * hits / called).sum()))
    return float(np.mean(areas))


def stretches(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """First rows of runs of true, and the rows behind them."""
    edges = np.diff(np.r_[0, mask.astype(int), 0])
    return np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)


if __name__ == "__main__":
    main()
