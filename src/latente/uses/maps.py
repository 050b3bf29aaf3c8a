"""Maps of data: rows as points, with groups, trends and outliers, in pictures, pages and tables."""

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.manifold import trustworthiness
from sklearn.neighbors import NearestNeighbors

from .. import parts
from ..atomic import atomic_folder, atomic_write
from ..errors import ConfigError
from ..estimator import Autoencoder, read_noted
from ..kinds.writing import write
from . import maps_findings as findings
from . import maps_places as ground
from .maps_fields import Field, cluster_field, field_of, fields_of
from .rows import Loaded, load

# The share of rows that are outliers where no detector says which are.
OUTLIERS = 0.01
# Rows by which the map is judged, and neighbours of each.
JUDGED, NEAR = 2000, 10
# Outliers that are listed.
LISTED = 20
PICTURES = (".png", ".pdf", ".svg")
TABLES = (".csv", ".tsv", ".parquet", ".arrow", ".feather", ".json")
OWN = ("label", "cluster", "anomaly")


@dataclass(frozen=True, eq=False, repr=False)
class Landscape:
    """A map of rows. points [n, dim]; cluster [n], −1 for rows in no group; clusters: what each is; anomaly [n], higher
    is stranger, in `measure`; outlier [n]; label: of each row, or None; fields: its columns; pictures uint8
    [n, h, w, c], or None. colour: what points are coloured by. found_among: where groups were looked for, "codes" or
    "map". model: that which placed the rows, or None.
    """

    name: str
    kind: str
    by: str
    points: np.ndarray
    codes: np.ndarray
    cluster: np.ndarray
    clusters: tuple[findings.Cluster, ...]
    found_among: str
    trends: tuple[findings.Trend, ...]
    anomaly: np.ndarray
    measure: str
    outlier: np.ndarray
    label: Field | None
    labels: Any
    fields: tuple[Field, ...]
    pictures: np.ndarray | None
    colour: str
    model: Autoencoder | None
    fitted: bool
    seed: int

    def __repr__(self) -> str:
        return (
            f"Landscape({len(self.points):,} rows, {len(self.clusters)} clusters, {int(self.outlier.sum())} outliers)"
        )

    def __len__(self) -> int:
        return len(self.points)

    @property
    def names(self) -> dict[int, str]:
        """The number of each cluster, and what sets it apart in short."""
        return {c.number: f"{c.number}: {c.name}" if c.name else str(c.number) for c in self.clusters}

    @property
    def columns(self) -> tuple[str, ...]:
        """What points can be coloured by, besides label, cluster and anomaly."""
        return tuple(f.name for f in self.fields)

    @cached_property
    def choices(self) -> dict[str, Field]:
        """All that points can be coloured by, by name; label, cluster and anomaly come before a column of that name."""
        own = {} if self.label is None else {"label": self.label}
        own["cluster"] = cluster_field(self.cluster, self.names)
        own["anomaly"] = Field("anomaly", "number", self.anomaly)
        return own | {f.name: f for f in self.fields if f.name not in own}

    @property
    def coloured_by(self) -> Field:
        """The field that `colour` names."""
        return self.choices[("cluster" if self.label is None else "label") if self.colour == "auto" else self.colour]

    def coloured(self, colour: str) -> "Landscape":
        """The same map in other colours. Raises ConfigError if there is nothing of that name."""
        if colour != "auto" and colour not in self.choices:
            _no_colour(colour, list(self.choices))
        return replace(self, colour=colour)

    def table(self) -> pd.DataFrame:
        """A line a row: row, x, y (, z), cluster, anomaly, outlier, and label where there are some."""
        frame = pd.DataFrame({"row": np.arange(len(self))})
        for i, axis in enumerate("xyz"[: self.points.shape[1]]):
            frame[axis] = self.points[:, i]
        frame["cluster"], frame["anomaly"], frame["outlier"] = self.cluster, self.anomaly, self.outlier
        if self.labels is not None:
            labels = np.asarray(self.labels)
            mixed = labels.dtype == object
            frame["label"] = [None if pd.isna(v) else str(v) for v in labels] if mixed else labels
        return frame

    def outliers(self) -> pd.DataFrame:
        """The outliers, the strangest first: row, anomaly, cluster, and what is in the row."""
        rows = self.strangest
        frame = pd.DataFrame({"row": rows, "anomaly": self.anomaly[rows], "cluster": self.cluster[rows]})
        beside = ([self.label] if self.label is not None else []) + list(self.fields)
        return frame.assign(**{f.name: [f.said(r) for r in rows] for f in beside if f.name not in frame})

    @property
    def strangest(self) -> np.ndarray:
        """The outliers' rows, the strangest first."""
        rows = np.flatnonzero(self.outlier)
        return rows[np.argsort(-self.anomaly[rows], kind="stable")]

    @cached_property
    def figures(self) -> dict[str, Any]:
        """What was found, as JSON can hold it."""
        n = len(self)
        found: dict[str, Any] = {"rows": n, "kind": self.kind, "by": self.by, "dim": self.points.shape[1]}
        found |= self._trust()
        if self.doubt:
            found["doubt"] = self.doubt
        found["clusters"] = [
            {"cluster": c.number, "rows": c.size, "share": round(c.size / n, 4), "name": c.name, "apart": list(c.words)}
            | {"medoid": c.medoid}
            for c in self.clusters
        ]
        found["in_no_cluster"] = int((self.cluster < 0).sum())
        found["clusters_found_among"] = self.found_among
        found["trends"] = [
            {"axis": t.axis, "direction": [round(d, 4) for d in t.direction]}
            | {"columns": [{"column": c, "strength": round(s, 4), "words": w} for c, s, w in t.columns]}
            for t in self.trends
        ]
        found["anomaly"] = self.measure
        found["outlier_count"] = int(self.outlier.sum())
        found["outliers"] = [
            {"row": int(r), "anomaly": round(float(self.anomaly[r]), 4), "cluster": int(self.cluster[r])}
            | {"cells": {f.name: f.said(r) for f in ([self.label] if self.label else []) + list(self.fields[:8])}}
            for r in self.strangest[:LISTED]
        ]
        return found

    @property
    def doubt(self) -> str:
        """What the doctor found wrong with the model: such a map may show what is not there."""
        verdict = "" if self.model is None else str(self.model.card_.get("verdict", ""))
        return "" if verdict.startswith("healthy") else verdict

    def _trust(self) -> dict[str, float]:
        """How far the map can be believed, from rows that are spread over all."""
        n = len(self)
        some = np.sort(np.random.default_rng(self.seed).choice(n, min(n, JUDGED), replace=False))
        near = min(NEAR, (len(some) - 1) // 2)
        found: dict[str, float] = {}
        if near < 1:
            return found
        if self.by != "latent":
            found["trustworthiness"] = round(
                float(trustworthiness(self.codes[some], self.points[some], n_neighbors=near)), 4
            )
        if self.label is not None and not self.label.numeric and len(self.label.levels) > 1:
            codes = self.label.values[some]
            index = NearestNeighbors(n_neighbors=near).fit(self.points[some]).kneighbors(return_distance=False)
            shares = np.bincount(codes[codes >= 0]) / max(1, (codes >= 0).sum())
            found["neighbours_of_one_label"] = round(float((codes[index] == codes[:, None]).mean()), 4)
            found["neighbours_of_one_label_by_chance"] = round(float(np.square(shares).sum()), 4)
        return found

    def to_json(self) -> dict[str, Any]:
        """`figures`."""
        return self.figures

    def __str__(self) -> str:
        """What was found, in lines to read."""
        figures, n = self.figures, len(self)
        lines = [f"{self.name}: {n:,} rows on a map of {self.points.shape[1]} dimensions by {self.by}"]
        words = {
            "trustworthiness": "trustworthiness {:.2f}: 1 if all neighbours on the map are neighbours by their codes",
            "neighbours_of_one_label": "of a row's neighbours on the map {:.0%} have its label"
            f" (by chance {figures.get('neighbours_of_one_label_by_chance', 0):.0%})",
        }
        lines += [words[k].format(figures[k]) for k in words if k in figures]
        lines += [f"do not trust it far: {self.doubt}"] if self.doubt else []
        none = figures["in_no_cluster"]
        where = f"{'on' if self.found_among == 'map' else 'among'} the {self.found_among}"
        lines += ["", f"clusters: {len(self.clusters)}, found {where}; {none:,} rows in none"]
        lines += [f"  {c.number}  {c.size:,} rows  {' · '.join(c.words) or 'like all rows'}" for c in self.clusters]
        lines += ["", "trends:", *(f"  {t.axis}  {t.words or 'no column varies along it'}" for t in self.trends)]
        lines += ["", f"outliers: {figures['outlier_count']:,}, by {self.measure}"]
        for one in figures["outliers"][:10]:
            rest = " · ".join(f"{k} {v}" for k, v in one["cells"].items() if v != "")
            rest = rest if len(rest) <= 100 else rest[:99] + "…"
            lines.append(f"  row {one['row']}  {one['anomaly']:.4g}  {rest}".rstrip())
        return "\n".join(lines)

    def save(self, path: Any) -> list[Path]:
        """Write a folder (map.png, map.html, map.parquet, report.json, and model.safetensors if a model was fitted), or
        one file by its ending: a picture (.png .pdf .svg), the page (.html), or a table of coordinates.
        """
        from .maps_html import page
        from .maps_png import picture

        place = Path(path)
        checked(place, str(path))
        ending = place.suffix.lower()
        if ending in PICTURES:
            atomic_write(place, picture(self, ending[1:]))
        elif ending in (".html", ".htm"):
            atomic_write(place, page(self))
        elif ending:
            return write(self.table(), place)
        else:
            with atomic_folder(place) as folder:
                (folder / "map.png").write_bytes(picture(self, "png"))
                (folder / "map.html").write_bytes(page(self))
                write(self.table(), folder / "map.parquet")
                write(self.figures, folder / "report.json")
                if self.fitted and self.model is not None:
                    self.model.save(folder / "model.safetensors")
        return [place]


def checked(place: Path, text: str = "") -> None:
    """Raise ConfigError if nothing can be written there: before anything is computed."""
    ending = place.suffix.lower()
    if ending and ending not in (*PICTURES, ".html", ".htm", *TABLES):
        known = " ".join((*PICTURES, ".html", *TABLES))
        raise ConfigError(f"{place.name!r} cannot hold a map", hint=f"a folder, a name without an ending, or {known}")
    if not ending and place.is_dir() and any(place.iterdir()):
        raise ConfigError(f"the folder {text or place} is not empty", hint="name a new folder, or empty this one")


def loaded_for(
    data: Any, ae: Autoencoder | None, kind: str, label_col: str | None, text_col: str | None, header: str
) -> Loaded:
    """Rows in memory, their labels apart; for a model in the form that it knows: pictures of its size, its layer."""
    how: dict[str, Any] = {"label_col": label_col, "stream": "no", "text_col": text_col, "header": header}
    if ae is None:
        return load(data, kind, **how)
    kind = ae.schema_.name
    if not isinstance(data, (str, Path)) or (kind == "text" and label_col is not None):
        return load(data, kind, **how)
    asked = ae.schema_.read_options | ({} if text_col is None else {"text_col": text_col})
    raw = read_noted(data, kind, "no", header=header, **asked)
    name, path = Path(data).name.split(".")[0] or "data", str(Path(data).absolute())
    return replace(load(raw, kind, label_col=label_col), name=name, path=path)


def coloured_early(loaded: Loaded, colour: str) -> None:
    """Refuse a colour that a table does not have before anything is learned. Raises ConfigError."""
    raw = loaded.raw
    if colour in ("auto", *OWN[1:]) or (colour == "label" and loaded.labels is not None):
        return
    names = [str(c) for c in raw.columns] if hasattr(raw, "columns") else None
    if colour == "label" and (names is None or colour not in names):
        raise ConfigError("there are no labels to colour by", hint="--label-col COLUMN, or leave --colour out")
    if names is not None and colour not in names:
        _no_colour(colour, ["label"] * (loaded.labels is not None) + ["cluster", "anomaly", *names])


def _no_colour(colour: str, known: list[str]) -> None:
    hint = parts.nearest(colour, known)
    raise ConfigError(f"there is nothing called {colour!r} to colour by", hint=hint)


def landscape(
    loaded: Loaded,
    by: str = "map",
    dim: int = 2,
    model: Autoencoder | None = None,
    colour: str = "auto",
    kind: str = "auto",
    time_limit: float | None = None,
    seed: int = 0,
    quiet: bool = True,
) -> Landscape:
    """The map of rows. Raises ConfigError for settings that do not go together, DataError for too few rows."""
    at = ground.placed(loaded, by, dim, model, kind, time_limit, seed, quiet)
    columns, pictures, labels = ground.known(loaded, at)
    fields = fields_of(columns)
    n = len(at.points)
    label = None if labels is None else field_of("label", labels, label=True)
    cluster, among = findings.grouped(at.codes, at.points, seed)
    texts = list(columns["text"]) if at.schema.name == "text" and "text" in columns else None
    told = [*fields, *([] if label is None else [label])]
    outlier = at.alarms
    if outlier is None:
        outlier = np.zeros(n, bool)
        outlier[np.argsort(-at.anomaly, kind="stable")[: max(1, round(OUTLIERS * n))]] = True
    made = Landscape(
        name=loaded.name,
        kind=at.schema.name,
        by=by,
        points=at.points,
        codes=at.codes,
        cluster=cluster,
        clusters=findings.described(cluster, at.points, told, texts),
        found_among=among,
        trends=findings.trends(at.points, told, seed),
        anomaly=at.anomaly,
        measure=at.measure,
        outlier=outlier,
        label=label,
        labels=labels,
        fields=fields,
        pictures=pictures,
        colour="auto",
        model=at.model,
        fitted=at.fitted,
        seed=seed,
    )
    return made.coloured(colour)
