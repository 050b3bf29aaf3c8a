"""What is asked of counts: genes that differ between groups, genes that are missing, codes back in the cells' file."""

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch
from sklearn.neighbors import NearestNeighbors

from ..errors import ConfigError, DataError
from ..estimator import Autoencoder, _seed
from ..kinds.base import DataWarning
from ..kinds.counted import Counted
from ..kinds.counts import Counts
from ..kinds.writing_counts import write_back
from ..model import sparse
from ..parts import nearest

# Neighbours of each cell in the graph, as scanpy has it; cells beyond which it is left to a tool for that.
NEIGHBOURS, MOST = 15, 200_000
# Pairs of cells that are decoded at once, and in all, at the most.
PAIRS, PAIRS_MOST = 500, 1_000_000


def differential(
    ae: Autoencoder, data: Any, by: str, a: str, b: str | None, change: float, samples: int, given: Any, seed: int
) -> pd.DataFrame:
    """See `latente.differential`."""
    kind, raw = _kind(ae), ae.rows(data)
    if by not in raw.about.columns:
        known = ", ".join(map(str, raw.about.columns[:8])) or "none"
        raise ConfigError(f"there is no column {by!r} beside the counts", hint=f"columns: {known}")
    if not change > 0:
        raise ConfigError(f"change must be above 0, not {change}", hint="--change 0.5")
    if not isinstance(samples, (int, np.integer)) or not 2 <= samples <= PAIRS_MOST:
        raise ConfigError(f"samples must be a whole number from 2 to {PAIRS_MOST:,}, not {samples!r}")
    unlabelled = raw.about[by].isna().to_numpy()
    if unlabelled.any():
        note = f"{int(unlabelled.sum()):,} rows have no {by!r}, and are in neither group"
        warnings.warn(note, DataWarning, stacklevel=4)
    groups = np.array([_word(v) for v in raw.about[by]], dtype=object)
    first = _members(groups, a, by) & ~unlabelled
    second = (~first if b is None else _members(groups, b, by)) & ~unlabelled
    if not second.any():
        raise DataError(f"column {by!r} has no row beside those of {a!r}", hint="--against GROUP")
    rng, generator = np.random.default_rng(_seed(seed)), torch.Generator().manual_seed(_seed(seed))
    with torch.no_grad():
        posteriors = [ae.model_.encode(batch) for batch in ae.batches(raw)]
        mean, deviation = (torch.cat([getattr(q, n) for q in posteriors]) for n in ("mean", "stddev"))
        z = [_draws(mean, deviation, mask, samples, rng, generator) for mask in (first, second)]
        total = torch.zeros(2, len(kind.names), dtype=torch.float64)
        more, less, folds = (torch.zeros(len(kind.names), dtype=torch.float64) for _ in range(3))
        for i in range(0, samples, PAIRS):
            shares = [_shares(ae, part[i : i + PAIRS], given) for part in z]
            fold = (shares[0] / shares[1]).log2()
            folds += fold.double().sum(0)
            more += (fold > change).double().sum(0)
            less += (fold < -change).double().sum(0)
            total += torch.stack([s.double().sum(0) for s in shares])
    batch = kind.to_batch(raw)
    there = np.ones(len(kind.names), bool) if batch.observed is None else batch.observed[0].numpy()
    plain = [_plain(kind, batch.x, mask) for mask in (first, second)]
    means = (total / samples * kind.usual).numpy()
    found = pd.DataFrame(
        {
            "name": kind.names,
            "log2_fold": (folds / samples).numpy(),
            "p_higher": (more / samples).numpy(),
            "p_lower": (less / samples).numpy(),
            "mean": means[0],
            "mean_other": means[1],
            "raw_log2_fold": np.log2((plain[0][0] + 1e-9) / (plain[1][0] + 1e-9)).clip(-30, 30),
            "seen": plain[0][1],
            "seen_other": plain[1][1],
        }
    )
    # What was not looked at in these cells says nothing without the model.
    found.loc[~there, ["raw_log2_fold", "seen", "seen_other"]] = np.nan
    order = np.argsort(-np.maximum(found.p_higher, found.p_lower) - 1e-6 * found.log2_fold.abs(), kind="stable")
    return found.iloc[order].reset_index(drop=True)


def impute(ae: Autoencoder, raw: Counted) -> Counted:
    """The counts with those of columns that are missing as they are expected, given the others; the others as they
    were. Columns are the model's, in its order.
    """
    kind, parts = _kind(ae), []
    with torch.no_grad():
        for batch in ae.prepared(raw):
            x = sparse.dense(batch.x)
            if batch.observed is not None:
                shares = ae.model_.mean_of(batch).mean[0]
                there = x.sum(1, keepdim=True) / (shares * batch.observed).sum(1, keepdim=True).clamp(min=1e-9)
                x = torch.where(batch.observed, x, shares * there)
            parts.append(sp.csr_matrix(x.numpy()))
    return Counted(sp.vstack(parts).tocsr(), kind.names, raw.about)


def write_codes(codes: pd.DataFrame, source: str, target: Path) -> list[Path]:
    """A copy of an .h5ad file with codes as scanpy looks for them: obsm X_latente, a graph of neighbours under the key
    "latente", and clusters where there are some.
    """
    z = codes[[c for c in codes.columns if c[0] == "z" and c[1:].isdigit()]].to_numpy(np.float32)
    deviations = codes[[c for c in codes.columns if c[0] == "s" and c[1:].isdigit()]].to_numpy(np.float32)
    obsm = {"X_latente": z} | ({"X_latente_deviation": deviations} if deviations.shape[1] else {})
    graph: dict[str, Any] = {}
    if NEIGHBOURS < len(z) <= MOST:
        distances, connectivities = neighbours(z)
        parameters = {"n_neighbors": NEIGHBOURS + 1, "method": "gauss", "metric": "euclidean", "use_rep": "X_latente"}
        keys = {"distances_key": "latente_distances", "connectivities_key": "latente_connectivities"}
        graph = {
            "obsp": {"latente_distances": distances, "latente_connectivities": connectivities},
            "uns": {"latente": keys | {"params": parameters}},
        }
    obs = {"latente_cluster": pd.Categorical(codes["cluster"].astype(str))} if "cluster" in codes else None
    return [write_back(source, target, obsm=obsm, obs=obs, **graph)]


def neighbours(z: np.ndarray) -> tuple[sp.csr_matrix, sp.csr_matrix]:
    """Distances to the nearest 15 cells, and how near they are: exp(−d² / σ_i σ_j) with each cell's own median distance
    as σ (Coifman et al. 2005; Haghverdi et al. 2016), made symmetric. [cells, cells] each
    """
    distances = NearestNeighbors(n_neighbors=NEIGHBOURS).fit(z).kneighbors_graph(mode="distance").tocsr()
    distances.data = np.maximum(distances.data, 1e-12)
    width = np.median(distances.data.reshape(len(z), NEIGHBOURS), axis=1)
    row = np.repeat(np.arange(len(z)), NEIGHBOURS)
    near = distances.copy()
    near.data = np.exp(-(distances.data**2) / np.maximum(width[row] * width[distances.indices], 1e-24))
    return distances, near.maximum(near.T).tocsr().astype(np.float32)


def together(parts: list[Counted]) -> Counted:
    """Rows after each other."""
    if len(parts) == 1:
        return parts[0]
    about = pd.concat([p.about for p in parts])
    return replace(parts[0], counts=sp.vstack([p.counts for p in parts]).tocsr(), about=about)


def of_counts(ae: Autoencoder) -> bool:
    """Whether a model is of counts."""
    return isinstance(getattr(ae, "schema_", None), Counts)


def _kind(ae: Autoencoder) -> Counts:
    ae._require_fitted()
    if not isinstance(ae.schema_, Counts):
        raise ConfigError(
            f"this is asked of counts, and the model is of kind {ae.schema_.name!r}",
            hint="latente fit cells.h5ad learns one of counts",
        )
    return ae.schema_


def _word(value: Any) -> str:
    """A group's name: 3.0, as labels of a file often are, is "3"."""
    return str(int(value)) if isinstance(value, (float, np.floating)) and float(value).is_integer() else str(value)


def _members(groups: np.ndarray, name: str, by: str) -> np.ndarray:
    found = groups == _word(name)
    if not found.any():
        raise ConfigError(f"column {by!r} has no group {name!r}", hint=nearest(str(name), sorted(set(groups))))
    return np.asarray(found)


def _draws(
    mean: torch.Tensor,
    deviation: torch.Tensor,
    members: np.ndarray,
    samples: int,
    rng: np.random.Generator,
    generator: torch.Generator,
) -> torch.Tensor:
    """Draws of codes of cells of a group, each cell as likely as any other. [samples, d]"""
    which = torch.from_numpy(rng.choice(np.flatnonzero(members), samples))
    noise = torch.randn((samples, mean.shape[1]), generator=generator)
    return mean[which] + deviation[which] * noise


def _shares(ae: Autoencoder, z: torch.Tensor, given: Any) -> torch.Tensor:
    """The share of each column that codes stand for, what is given being the same for all. [n, columns]"""
    frame, told = ae._given(given, len(z)), None
    if frame is not None and ae.condition_ is not None and ae.model_.condition is not None:
        from ..kinds.given import cells

        told = ae.model_.condition(cells(ae.condition_, frame))
    return ae.model_.decode(z.unsqueeze(0), told).mean[0].clamp(min=1e-9) / _kind(ae).usual


def _plain(kind: Counts, x: torch.Tensor, members: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The mean share of each column over rows of a group, and in how many of them it is there at all: no model's."""
    rows = sparse.take(x, torch.from_numpy(np.flatnonzero(members)))
    row, column, values = sparse.entries(rows)
    total = sparse.totals(rows).clamp(min=1)
    shares = torch.zeros(len(kind.names)).index_add_(0, column, values.float() / total[row]) / len(rows)
    return shares.numpy(), column.bincount(minlength=len(kind.names)).numpy() / len(rows)
