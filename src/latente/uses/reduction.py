"""The latent beside other ways to fewer dimensions: PCA, kernel PCA and UMAP of as many, on the same rows.

rows ──evenly spread──▶ features ──each method──▶ codes ──▶ error, trustworthiness, continuity, neighbours, silhouette
"""

import importlib
import importlib.util
import json
import math
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from sklearn.decomposition import KernelPCA
from sklearn.kernel_ridge import KernelRidge

from ..atomic import atomic_write
from ..errors import ConfigError, DataError
from ..estimator import Autoencoder, _seed
from ..kinds.sequences import Sequences
from ..kinds.writing import write
from ..model.batch import Batch, parts_of
from ..training import baseline
from ..training.progress import Passed
from . import embedding, pictures, recommendation
from .labelled import Rows, rows_with_labels
from .meanings import Meaning, meanings, shown
from .ways import walk

# Rows that are measured: every pair of them is looked at. Rows that kernel PCA and UMAP are fitted on.
ROWS, FITTED = 5_000, 2_000
# Rows without which there is nothing to compare.
LEAST = 30
# Share of the rows measured that may be among those before it is said.
REPEATED = 0.05
# Strengths of the ridge of kernel PCA's way back, of which a quarter of its rows chooses one.
RIDGES = (1.0, 0.1, 0.01, 0.001)
# What the table is of, and its heads.
MEASURES = ("error", "trustworthiness", "continuity", "accuracy", "silhouette")
HEADS = {"trustworthiness": "trust", "continuity": "contin", "accuracy": "10-NN", "silhouette": "silh"}
MISSING_UMAP = "not installed: pip install 'latente[umap]'"
# Latent dimensions that are shown, those that change the rows most; and of a picture's traversal.
SHOWN, STEPS, DIMS = 12, 11, 16


@dataclass(frozen=True)
class ReductionReport:
    """`figures`: a row for each method, "dim" and its measures. `meanings`: what each latent dimension stands for, the
    one that changes the rows most first. rows: measured; fitted: that kernel PCA and UMAP were fitted on.

    Print it, or keep it: `report.save("report.json")`.
    """

    figures: pd.DataFrame
    meanings: tuple[Meaning, ...]
    rows: int
    fitted: int
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The report as plain numbers and words."""
        records = [
            {k: v for k, v in row.items() if v != "" and not (isinstance(v, float) and math.isnan(v))}
            for row in self.figures.to_dict("records")
        ]
        means = [m.to_json() for m in self.meanings]
        notes = list(self.notes)
        return {"rows": self.rows, "fitted": self.fitted, "figures": records, "meanings": means, "notes": notes}

    def save(self, path: str | Path) -> list[Path]:
        """Write it as JSON, or the figures alone as a table (.csv, .parquet, …)."""
        place = Path(path)
        if place.suffix.lower() != ".json":
            return write(self.figures, place)
        text = json.dumps(self.to_json(), indent=2, ensure_ascii=False)
        atomic_write(place, (text + "\n").encode())
        return [place]

    def __str__(self) -> str:
        kept = [m for m in MEASURES if m in self.figures]
        width = max(map(len, self.figures["method"]))
        lines = [f"{'':<{width}}  {'dim':>5}" + "".join(f"{HEADS.get(m, m):>8}" for m in kept)]
        for row in self.figures.to_dict("records"):
            cells = "".join(f"{'' if math.isnan(row[m]) else f'{row[m]:.4f}':>8}" for m in kept)
            lines.append(f"{row['method']:<{width}}  {row['dim']:>5}{cells}  {row['note']}".rstrip())
        lines += shown(self.meanings[:SHOWN], len(self.meanings))
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])


@dataclass(frozen=True)
class _Set:
    """Rows as all methods have them: features [n, f], their codes [n, d], the model's expectation of the features
    [n, f] or None, labels [n] as numbers (−1: none) or None.
    """

    x: np.ndarray
    codes: np.ndarray
    expected: np.ndarray | None
    labels: np.ndarray | None


@dataclass(frozen=True)
class _Way:
    """A way of a row to fewer numbers. back: features of codes, where there is a way."""

    there: Callable[[_Set], np.ndarray]
    back: Callable[[_Set, np.ndarray], np.ndarray] | None = None


def evaluate(
    ae: Autoencoder,
    data: Any,
    *,
    labels: Any = None,
    label_col: str | None = None,
    training: Any = None,
    seed: int = 0,
    quiet: bool = True,
) -> ReductionReport:
    """The model's latent beside PCA, kernel PCA and UMAP; see `latente.evaluate` and docs/reduction.md.

    Kernel PCA and UMAP are fitted on up to 2,000 rows of `training`, and up to 5,000 rows of `data` are measured;
    without `training` on every other row of `data`, and the rest is measured. Raises DataError for too few rows, or
    labels that are none, ConfigError for kinds that have no features to compare.
    """
    ae._require_fitted()
    seed = _seed(seed)
    if recommendation.recommends(ae) or not ae.schema_.pca:
        raise ConfigError(
            f"a model of {ae.schema_.name} has no features in which rows are near or far",
            hint="leave out --reduction: its lists are what it is judged by",
        )
    passed = Passed(1, quiet)
    measured, others, batch, notes = _sets(ae, data, labels, label_col, training)
    sample = _spread_over(others, FITTED)
    passed.say(f"{len(measured.x):,} rows measured, {len(sample.x):,} that kernel PCA and UMAP are fitted on")
    lookup = others if others.labels is not None and training is not None else None
    judge = embedding.Judge(measured.x, measured.labels, seed)
    spread = max(float(np.square(measured.x - ae._baseline.mean).sum()), 1e-12)
    found = []
    for name, dim, way in _ways(ae, sample, seed):
        row: dict[str, Any] = {"method": name, "dim": dim, "note": ""}
        if way is None:
            row["note"] = MISSING_UMAP
        else:
            passed.say(f"{name}, {dim} dimensions")
            codes = way.there(measured)
            if way.back is not None and not (name == _own(ae) and measured.expected is None):
                row["error"] = float(np.square(measured.x - way.back(measured, codes)).sum()) / spread
            known = None if lookup is None else (way.there(lookup), lookup.labels)
            row |= judge(codes, known, itself=name == ITSELF)
        found.append(row)
    figures = pd.DataFrame(found, columns=["method", "dim", *MEASURES, "note"])
    figures = figures.drop(columns=[m for m in MEASURES if figures[m].isna().all()])
    notes += judge.notes(lookup is not None) + _told(ae, measured, sample)
    means = () if isinstance(ae.schema_, Sequences) else meanings(ae, batch, measured.x, measured.codes)
    return ReductionReport(figures, means, len(measured.x), len(sample.x), tuple(notes))


ITSELF = "rows themselves"


def _own(ae: Autoencoder) -> str:
    return f"model ({ae.spec_.latent.name})"


def _sets(
    ae: Autoencoder, data: Any, labels: Any, label_col: str | None, training: Any
) -> tuple[_Set, _Set, Batch, list[str]]:
    """The rows that are measured; those that others are fitted on, and whose labels are known; the first as a batch;
    and what is to be noted.
    """
    given = rows_with_labels(ae, data, 2 * ROWS if training is None else ROWS, labels, label_col)
    notes = list(given.notes)
    if training is None:
        own, other = given.every_other()
        notes.append("kernel PCA and UMAP are fitted on the rows between those measured: --training gives other rows")
    else:
        own, other = given, rows_with_labels(ae, training, ROWS, None, label_col, needed=False)
    for rows, what in ((own, "rows to measure"), (other, "rows to fit kernel PCA on")):
        if len(rows.batch) < LEAST:
            raise DataError(
                f"{len(rows.batch)} {what} are too few: {LEAST} are needed",
                hint="give more rows" if training is not None else "give more rows, or --training TRAINING-ROWS",
            )
    if given.rows > len(own.batch):
        notes.append(f"{len(own.batch):,} of {given.rows:,} rows are measured, evenly spread")
    if training is not None and own.levels is not None and other.levels is not None:
        strange = sorted(set(own.levels) - set(other.levels))
        if len(strange) == len(own.levels):
            raise DataError(
                f"no label of these rows is one of the training rows: {strange[0]!r} here, {other.levels[0]!r} there",
                hint="bring both to the same words, or leave out --training",
            )
        if strange:
            notes.append(f"the training rows have no {', '.join(map(repr, strange[:3]))} among their labels")
    levels = None if own.levels is None else sorted({*own.levels, *(other.levels or ())})
    return _set(ae, own, levels), _set(ae, other, levels), own.batch, notes


@torch.no_grad()
def _set(ae: Autoencoder, rows: Rows, levels: Any) -> _Set:
    features, codes, expected = [], [], []
    for batch in parts_of(rows.batch):
        if isinstance(ae.schema_, Sequences):  # what is expected of tokens is a greedy run: no mean, and slow
            features.append(ae.model_.likelihood.features(batch.x).flatten(1).numpy())
        else:
            x, mean = baseline.features(ae.model_, batch)
            features.append(x)
            expected.append(mean)
        codes.append(ae.model_.encode(batch).mean.numpy())
    return _Set(
        np.concatenate(features).astype(np.float64),
        np.concatenate(codes).astype(np.float64),
        np.concatenate(expected).astype(np.float64) if expected else None,
        None if levels is None or rows.labels is None else pd.Index(levels).get_indexer(rows.labels),
    )


def _spread_over(rows: _Set, most: int) -> _Set:
    """Up to so many of the rows, evenly spread."""
    index = np.unique(np.linspace(0, len(rows.x) - 1, min(most, len(rows.x))).astype(int))
    kept = [None if part is None else part[index] for part in (rows.expected, rows.labels)]
    return _Set(rows.x[index], rows.codes[index], *kept)


def _ways(ae: Autoencoder, sample: _Set, seed: int) -> Iterator[tuple[str, int, _Way | None]]:
    """Every method at the latent's dimension, and, if the model carries a map, at the map's: (name, dim, way)."""
    dim = ae._n_features_out
    yield ITSELF, sample.x.shape[1], _Way(lambda rows: rows.x)
    yield _own(ae), dim, _Way(lambda rows: rows.codes, lambda rows, codes: rows.expected)  # type: ignore[arg-type,return-value]
    yield from _others(ae, sample, dim, seed)
    if hasattr(ae.use_, "place"):
        back = (lambda rows, points: _expected(ae, ae.use_.back(points))) if sample.expected is not None else None
        there = lambda rows: np.asarray(ae.use_.place(rows.codes.astype(np.float32)), np.float64)  # noqa: E731
        yield "map", int(ae.use_.dim), _Way(there, back)
        yield from _others(ae, sample, int(ae.use_.dim), seed)


@torch.no_grad()
def _expected(ae: Autoencoder, codes: np.ndarray) -> np.ndarray:
    """What a model expects of rows with these codes, as features. [n, f]"""
    parts = torch.from_numpy(np.asarray(codes, np.float32)).split(1024)
    return np.concatenate([ae.model_.decode(z).expectation.numpy() for z in parts]).astype(np.float64)


def _others(ae: Autoencoder, sample: _Set, dim: int, seed: int) -> Iterator[tuple[str, int, _Way | None]]:
    mean, components = (v.astype(np.float64) for v in (ae._baseline.mean, ae._baseline.components[:dim]))
    if len(components):
        yield (
            "PCA",
            len(components),
            _Way(lambda rows: (rows.x - mean) @ components.T, lambda rows, codes: codes @ components + mean),
        )
    k = min(dim, len(sample.x) - 1)
    yield "kernel PCA", k, kernel_pca(sample.x, k, back=sample.expected is not None)
    yield "UMAP", dim, _umap(sample.x, dim, seed)


def kernel_pca(x: np.ndarray, dim: int, back: bool = True) -> _Way:
    """Kernel PCA of features [n, f] with exp(−γ |a − b|²), γ = 1 / the median of |a − b|² over pairs of rows.

    The way back is a kernel ridge from codes to features (Bakır, Weston & Schölkopf 2003, "Learning to find
    pre-images"), as sklearn's `fit_inverse_transform`, but with a γ of the codes' own median distance and the ridge
    that a quarter of the rows chooses: sklearn takes the features' γ, and a ridge of 1.
    """
    fitted = KernelPCA(dim, kernel="rbf", gamma=embedding.gamma(x), eigen_solver="dense").fit(x)
    there = _Way(lambda rows: np.asarray(fitted.transform(rows.x)))
    if not back:
        return there
    codes, mean = np.asarray(fitted.transform(x)), x.mean(0)
    width = embedding.gamma(codes)
    quarter = np.arange(len(x)) % 4 == 0

    def ridge(strength: float, rows: np.ndarray) -> KernelRidge:
        return KernelRidge(alpha=strength, kernel="rbf", gamma=width).fit(codes[rows], x[rows] - mean)

    lost = [np.square(x[quarter] - mean - ridge(r, ~quarter).predict(codes[quarter])).sum() for r in RIDGES]
    chosen = ridge(RIDGES[int(np.argmin(lost))], np.ones(len(x), bool))
    return _Way(there.there, lambda rows, codes: np.asarray(chosen.predict(codes)) + mean)


def _umap(x: np.ndarray, dim: int, seed: int) -> _Way | None:
    """UMAP with its defaults; None where the package is not there."""
    if importlib.util.find_spec("umap") is None:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of threads that a seed costs, and of its own libraries
        umap = importlib.import_module("umap").UMAP
        # As many eigenvectors as rows there are not.
        init = "spectral" if dim + 1 < len(x) else "random"
        fitted = umap(n_components=dim, n_neighbors=min(15, len(x) - 1), random_state=seed, n_jobs=1, init=init)
        fitted.fit(x.astype(np.float32))

    def there(rows: _Set) -> np.ndarray:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return np.asarray(fitted.transform(rows.x.astype(np.float32)), np.float64)

    return _Way(there)


def _told(ae: Autoencoder, rows: _Set, sample: _Set) -> list[str]:
    notes = []
    seen = {row.tobytes() for row in sample.x}
    again = sum(row.tobytes() in seen for row in rows.x)
    if again > REPEATED * len(rows.x):
        notes.append(
            f"{again:,} of the rows measured are among those kernel PCA and UMAP are fitted on, which flatters them"
        )
    if ae.chained:
        notes.append("the columns' chain holds what the code does not: --recipe vae makes a code of all of the row")
    if len(ae._baseline.components) < ae._n_features_out:
        notes.append(
            f"PCA has {len(ae._baseline.components)} components: as many as features, or rows it was fitted on"
        )
    if rows.expected is None:
        notes.append("of texts and tunes there is no error: what is expected of tokens is no mean")
    return notes


def save(report: ReductionReport, place: Path, ae: Autoencoder) -> list[Path]:
    """Write all (.json), the figures as a table, or, of a model of pictures, the traversal (.png, with a .gif); a
    folder gets all of them.
    """
    image = ae.schema_.name == "image"
    if place.suffix.lower() in (".png", ".gif"):
        if not image:
            raise ConfigError(
                f"{place.name!r} is a picture, and this is a model of {ae.schema_.name}",
                hint=f"-o {place.stem}.json, or .csv for the table alone",
            )
        return pictures.write_walk(ae, walk(ae, None, DIMS), STEPS, place)
    if place.suffix:
        return report.save(place)
    place.mkdir(parents=True, exist_ok=True)
    written = report.save(place / "reduction.json") + report.save(place / "reduction.csv")
    return written + (save(report, place / "traversal.png", ae) if image else [])
