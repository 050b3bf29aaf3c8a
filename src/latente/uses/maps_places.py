"""Where the rows lie on a map, how strange each is, and what is known of it: from raw data and a model, or PCA."""

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch

from ..errors import ConfigError, DataError
from ..estimator import Autoencoder
from ..kinds.base import Kind, infer
from ..kinds.counted import Counted
from ..kinds.histories import is_histories
from ..kinds.image import as_pictures
from ..kinds.music import Music, tunes_of
from ..kinds.pictures import Pictures
from ..kinds.sequences import Sequences
from ..kinds.series import Series
from ..kinds.sources import Read
from ..kinds.table import Table, as_frame
from ..model import sparse
from ..model.batch import Batch
from ..model.dists.tokens import PAD
from ..parts import find
from ..training import baseline
from .learned.anomaly import Detector
from .rows import Loaded

# Draws from q(z|x) for the anomaly score of a row; of texts and tunes, which take a walk of all tokens each.
DRAWS, WALKS = 8, 2
# Principal components that groups are looked for among; rows that go through the features at once.
COMPONENTS, BLOCK = 16, 4096
# Columns of counts that are shown, those that vary most.
COUNTED = 30


@dataclass(frozen=True, eq=False)
class Ground:
    """points [n, dim]; codes [n, k], among which groups are looked for; anomaly [n], higher is stranger, and measure,
    what it is; alarms [n] of a detector, or None; model: the one that was used, or None; fitted: whether just now.
    """

    points: np.ndarray
    codes: np.ndarray
    anomaly: np.ndarray
    measure: str
    schema: Kind
    alarms: np.ndarray | None = None
    model: Autoencoder | None = None
    fitted: bool = False


def placed(
    loaded: Loaded,
    by: str = "map",
    dim: int = 2,
    model: Autoencoder | None = None,
    kind: str = "auto",
    time_limit: float | None = None,
    seed: int = 0,
    quiet: bool = True,
) -> Ground:
    """Points of rows. Raises ConfigError if `by`, `dim` and the model do not go together."""
    raw = loaded.raw
    if model is None and by == "pca":
        name = infer(raw) if kind == "auto" else kind
        schema = find("kind", name)().learn(raw)
        data = schema.to_batch(schema.taken(raw))
        likelihood = schema.build(schema.nets, dim).likelihood
        points, scores, distance, k = _principal(schema, data, likelihood, dim, seed)
        return Ground(points, scores, distance, f"squared Mahalanobis distance by {k} principal components", schema)
    if model is not None:
        ae = model
        _fits(ae, by, dim)
        data = Read(raw) if loaded.path else raw
    else:
        ae, data = _fitted(raw, by, dim, kind, time_limit, seed, quiet), raw
    codes = ae.transform(data)
    if by == "latent":
        points = codes
    elif by == "pca":
        points = _principal(ae.schema_, ae.schema_.to_batch(ae.rows(data)), ae.model_.likelihood, dim, seed)[0]
    else:
        points = _mapped(ae, data, dim, seed, quiet).place(codes)
    anomaly, alarms, measure = strangeness(ae, data, seed)
    return Ground(np.asarray(points, np.float64), codes, anomaly, measure, ae.schema_, alarms, ae, model is None)


def _fits(ae: Autoencoder, by: str, dim: int) -> None:
    ae._require_fitted()
    if by == "latent" and ae.model_.dim != dim:
        raise ConfigError(
            f"the model's latent space has {ae.model_.dim} dimensions, and the map was to have {dim}",
            hint=f"--dim {ae.model_.dim}" if ae.model_.dim in (2, 3) else "--by map, or --by pca",
        )


def _fitted(raw: Any, by: str, dim: int, kind: str, time_limit: float | None, seed: int, quiet: bool) -> Autoencoder:
    """A model for these rows: one with a map beside it, or one whose latent space is the map."""
    more: dict[str, Any] = {"kind": kind, "time_limit": time_limit, "random_state": seed, "verbose": not quiet}
    if by == "latent":
        return Autoencoder("vae", dim=dim, **more).fit(raw)
    return Autoencoder("map", settings={"use.dim": dim}, **more).fit(raw)


def _mapped(ae: Autoencoder, data: Any, dim: int, seed: int, quiet: bool) -> Any:
    """The map of a model, or one that is learned for it now. Raises ConfigError if the model's has other dimensions."""
    from .learned.map import Mapped, learned_on

    if isinstance(ae.use_, Mapped):
        if ae.use_.dim != dim:
            raise ConfigError(f"the model's map has {ae.use_.dim} dimensions, not {dim}", hint=f"--dim {ae.use_.dim}")
        return ae.use_
    return learned_on(ae, data, dim, seed, quiet)


def _principal(
    schema: Kind, data: Batch, likelihood: Any, dim: int, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """(first `dim` scores, more scores, squared Mahalanobis distance, how many more) of the principal components of
    features; as in probabilistic PCA, all that they leave out is of one variance.
    """
    if not schema.pca:
        raise ConfigError(f"principal components say little of data of kind {schema.name!r}", hint="--by map")
    if len(data) < 3:
        raise DataError(f"found {len(data)} row(s), and a map needs 3 or more", hint="check the file")

    def features(part: Batch) -> np.ndarray:
        x = schema.prepare(part).x
        return np.asarray(likelihood.features(x).flatten(1).cpu().numpy(), np.float32)

    with torch.no_grad():
        n = len(data)
        some = torch.arange(n)
        if n > baseline.ROWS:
            chosen = np.random.default_rng(seed).choice(n, baseline.ROWS, replace=False)
            some = torch.from_numpy(np.sort(chosen))
        x = features(data.rows(some))
        k = max(dim, min(COMPONENTS, x.shape[1] // 2))
        found = baseline.of(x, k, seed)
        if len(found.components) < dim:
            raise DataError(f"a row has {x.shape[1]} number(s), too few for a map of {dim} dimensions", hint="--by map")
        scores, residual = [], []
        for start in range(0, n, BLOCK):
            part = features(data.rows(slice(start, start + BLOCK)))
            scores.append((part - found.mean) @ found.components.T)
            residual.append(np.square(found.residual(part)).sum(1))
    whole, rest = np.concatenate(scores).astype(np.float64), np.concatenate(residual).astype(np.float64)
    # Not the residual alone: a row that is far enough from all others has a component to itself.
    left = x.shape[1] - len(found.components)
    strange = (np.square(whole) / np.maximum(whole.var(0), 1e-12)).sum(1)
    strange += rest * left / max(rest.mean(), 1e-12)
    return whole[:, :dim], whole, strange, len(found.components)


def strangeness(ae: Autoencoder, data: Any, seed: int) -> tuple[np.ndarray, np.ndarray | None, str]:
    """(score [n], alarms [n] or None, what the score is); higher is stranger."""
    if isinstance(ae.use_, Detector):
        from . import detection

        found = detection.detect(ae.use_, ae, data)
        if isinstance(found, detection.Alarms):
            return np.asarray(found.scored.score, np.float64), found.found, "score of the model's detector"
    draws = WALKS if isinstance(ae.schema_, Sequences) else DRAWS
    scores = -ae.score_samples(data, samples=draws, random_state=seed).astype(np.float64)
    what = "−log p(x)" if ae.model_.encode(next(iter(ae.batches(data)))).has_density else "−log p(x|z)"
    if isinstance(ae.schema_, Sequences) or ae.schema_.sparse:
        # A long row is less probable than a short one, and not stranger.
        scores = scores / np.maximum(_amounts(ae, data), 1)
        return scores, None, f"{what} in nats per {'token' if isinstance(ae.schema_, Sequences) else 'count'}"
    return np.nan_to_num(scores, nan=0.0, posinf=1e30, neginf=-1e30), None, f"{what} in nats"


def _amounts(ae: Autoencoder, data: Any) -> np.ndarray:
    """Of sequences the tokens of each row, of counts their sum."""
    found = []
    for batch in ae.batches(data):
        tokens = isinstance(ae.schema_, Sequences)
        found.append((batch.x.flatten(1) != PAD).sum(1) if tokens else sparse.dense(batch.x).sum(1))
    return torch.cat(found).double().numpy()


# What is known of each row


def known(loaded: Loaded, ground: Ground) -> tuple[pd.DataFrame, np.ndarray | None, Any]:
    """(columns of each row, pictures uint8 [n, h, w, c] or None, labels or None): for hovering, colours and trends."""
    schema, raw, labels, n = ground.schema, loaded.raw, loaded.labels, len(ground.points)
    pictures = None
    if isinstance(schema, Table):
        frame = as_frame(raw).reset_index(drop=True)
    elif schema.name == "image":
        pictures = as_pictures(raw)[0]
        frame = _of_pictures(raw, pictures)
    elif schema.name == "text":
        texts = list(raw)
        frame = pd.DataFrame({"text": texts, "characters": [len(t) for t in texts]})
    elif isinstance(schema, Series):
        frame, first = _of_windows(schema, raw)
        if labels is not None and len(labels) == len(raw) != n:
            labels = np.asarray(labels)[first]
    elif schema.sparse:
        frame = _of_counts(schema.taken(raw))
    elif isinstance(schema, Music):
        frame = _of_tunes(schema, raw)
    else:
        frame = pd.DataFrame()
    if len(frame) != n:
        frame = pd.DataFrame(index=range(n))
    if labels is not None and len(labels) != n:
        labels = None
    return frame, pictures, labels


def _of_pictures(raw: Any, pixels: np.ndarray) -> pd.DataFrame:
    """What can be said of a picture without looking at it: its name, and how bright and even it is."""
    flat = pixels.reshape(len(pixels), -1, pixels.shape[-1])
    mean, spread = np.empty((len(flat), flat.shape[2])), np.empty(len(flat))
    for start in range(0, len(flat), BLOCK):  # in blocks: as numbers pixels take eight times the room
        part = flat[start : start + BLOCK].astype(np.float32) / 255
        mean[start : start + BLOCK], spread[start : start + BLOCK] = part.mean(1), part.mean(2).std(1)
    frame = pd.DataFrame({"brightness": mean.mean(1), "contrast": spread})
    if mean.shape[1] == 3:
        frame["warmth (red − blue)"] = mean[:, 0] - mean[:, 2]
    if isinstance(raw, Pictures) and not all(name.isdigit() for name in raw.names[:10]):
        frame.insert(0, "file", list(raw.names))
    return frame


def _of_windows(schema: Series, raw: Any) -> tuple[pd.DataFrame, np.ndarray]:
    """Of each window its first row, whose it is, and mean and deviation of each channel; and the rows alone."""
    first, entity, means, spreads = [], [], [], []
    for segment in schema.segments(raw):
        starts = schema.starts(len(segment.values))
        views = np.lib.stride_tricks.sliding_window_view(segment.values, schema.window, axis=0)[starts]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # a window of which nothing is there
            means.append(np.nanmean(views, 2))
            spreads.append(np.nanstd(views, 2))
        at = np.minimum(np.searchsorted(segment.places, starts), len(segment.rows) - 1)
        first.append(segment.rows[at])
        entity += [segment.entity] * len(starts)
    rows = np.concatenate(first)
    frame = pd.DataFrame({"first row": rows})
    if any(e is not None for e in entity):
        frame[schema.id or "series"] = entity
    for numbers, word in ((np.concatenate(means), "mean"), (np.concatenate(spreads), "deviation")):
        for i, channel in enumerate(schema.channels[:COUNTED]):
            frame[f"{channel} ({word})"] = numbers[:, i]
    return frame, rows


def _of_counts(raw: Counted) -> pd.DataFrame:
    """Of each row its name and what stands beside it, its sum, and the columns whose shares vary most."""
    frame = raw.about.reset_index(drop=True)
    if not isinstance(raw.about.index, pd.RangeIndex):
        frame.insert(0, "name" if "name" not in frame else "row name", raw.about.index.astype(str))
    x = raw.counts.tocsr().astype(np.float64)
    total = np.asarray(x.sum(1)).ravel()
    frame["total"] = total
    logs = x.multiply(1e4 / np.maximum(total, 1)[:, None]).tocsr()
    logs.data = np.log1p(logs.data)
    mean = np.asarray(logs.mean(0)).ravel()
    spread = np.asarray(logs.multiply(logs).mean(0)).ravel() - mean**2
    for j in np.argsort(-spread, kind="stable")[:COUNTED]:
        name = str(raw.names[j] if raw.names else f"c{j}")
        column = logs[:, [j]].toarray().ravel()
        if is_histories(raw) and name not in frame:
            frame[name] = np.where(column > 0, "taken", "not")
        elif not is_histories(raw) and f"{name} (log)" not in frame:
            frame[f"{name} (log)"] = column  # log(1 + counts per 10,000), as cells are usually shown
    return frame


def _of_tunes(schema: Music, raw: Any) -> pd.DataFrame:
    """Of each window its tune, where it begins, and how high, wide and busy it is."""
    tune, step = schema.where(raw)
    pitches = [window.pitch for _, window in schema.windows(tunes_of(raw))]
    frame = pd.DataFrame({"tune": tune, "first step": step})
    frame["pitch (mean)"] = [p.mean() if len(p) else np.nan for p in pitches]
    frame["pitch (range)"] = [float(np.ptp(p)) if len(p) else np.nan for p in pitches]
    frame["notes"] = [len(p) for p in pitches]
    return frame
