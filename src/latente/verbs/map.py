"""map: rows as points on a map, with groups, trends and outliers."""

from typing import TYPE_CHECKING, Annotated, Any

from . import DATA, new_place

if TYPE_CHECKING:
    from pathlib import Path

    from ..uses.maps import Landscape


def map(
    data: Annotated[Any, DATA],
    *,
    by: Annotated[
        str, "map (neighbours stay neighbours), latent (a model with so many latents), or pca (no model is trained)"
    ] = "map",
    dim: Annotated[int, "2, or 3 to turn in the page"] = 2,
    model: Annotated[
        Any, "a model file or run folder to use, in place of fitting one: new rows on the same map"
    ] = None,
    colour: Annotated[str, "label, cluster, anomaly, a column's name, or auto: label if there is one"] = "auto",
    label_col: Annotated[str | None, "a column to leave out of the model and colour by"] = None,
    kind: Annotated[
        str, "table, image, series, text, music, counts, interactions, or auto: what the data look like"
    ] = "auto",
    text_col: Annotated[
        str | None, "texts: the column of a table, or the field of JSON lines, that is the text"
    ] = None,
    header: Annotated[str, "whether a csv's first row holds names: auto, yes or no"] = "auto",
    time_limit: Annotated[str | None, "end training after this long: 60s, 10m, 1h"] = None,
    seed: Annotated[int, "seed of everything"] = 0,
    quiet: Annotated[bool, "no progress line"] = False,
) -> "Landscape":
    """A map of the rows: points to look at, groups and what sets each apart, what varies along the axes, outliers.

    -o is a folder (map.png, map.html to explore, map.parquet, report.json, model.safetensors) or one file by its
    ending: a picture, the page, or a table of row, x, y, cluster, anomaly, outlier, label. Labels of folders of
    pictures, and of idx and npz files, are labels. Groups are found by density (HDBSCAN) among the codes, or on the map
    where that shows more or rows are many; −1 is no group. Outliers are the alarms of a model with a detector, else the
    hundredth of the rows that are the strangest by −log p(x). ρ is Spearman's correlation with an axis, η² the share of
    its variance that lies between levels.
    Points that are near are alike. How far apart groups lie, and how large they are, means little: docs/maps.md.

    Raises ConfigError for settings that do not go together, DataError for data that cannot be learned from.
    """
    from pathlib import Path

    from ..estimator import load
    from ..uses import maps
    from .fit import seconds

    _checked(by, dim)
    ae = load(model) if isinstance(model, (str, Path)) else model
    if ae is not None:
        ae._require_fitted()
    kind = "text" if text_col is not None and kind == "auto" else kind
    loaded = maps.loaded_for(data, ae, kind, label_col, text_col, header)
    maps.coloured_early(loaded, colour)
    return maps.landscape(loaded, by, dim, ae, colour, kind, seconds(time_limit), seed, quiet)


def _checked(by: str, dim: int) -> None:
    from ..errors import ConfigError

    if by not in ("map", "latent", "pca"):
        raise ConfigError(f"a map is by 'map', 'latent' or 'pca', not {by!r}", hint="--by map")
    if dim not in (2, 3):
        raise ConfigError(f"a map has 2 or 3 dimensions, not {dim}", hint="--dim 2; latente fit --dim N for codes")


def place(data: str, **_: Any) -> "Path":
    """Where the map goes unless told otherwise: a folder."""
    return new_place(data, "map")


def ready(place: "Path", by: str = "map", dim: int = 2, **_: Any) -> None:
    """Refuse a place or a setting before anything is read. Raises ConfigError."""
    from ..uses import maps

    _checked(by, dim)
    maps.checked(place)


def save(result: "Landscape", place: "Path", **_: Any) -> "list[Path]":
    """Write the map: a folder, or one file by its ending."""
    return result.save(place)


def unsaved(result: "Landscape", place: "Path") -> "Landscape":
    """What is said on stdout of what was written: the groups, trends and outliers."""
    return result
