"""traverse: what each latent dimension does."""

from typing import TYPE_CHECKING, Annotated, Any

from . import MODEL, ROW

if TYPE_CHECKING:
    from pathlib import Path

    from ..estimator import Autoencoder
    from ..uses.ways import Walk


def traverse(
    model: Annotated["Autoencoder", MODEL],
    row: Annotated[Any, ROW] = None,
    *,
    steps: Annotated[int, "values of each dimension, both ends included"] = 9,
    dims: Annotated[int, "how many dimensions, those that change the row most first"] = 16,
) -> Any:
    """Each latent dimension moved alone, from -3 to 3, around a row's code, or around the prior's mean, and decoded.

    The dimensions come in the order of their effect: the variance of the decoded row along the way. Where the prior is
    not a standard normal, a dimension goes from the 1st to the 99th percentile of draws from it. Of a table: the rows,
    with the columns dim and value before them. Of pictures: all of one dimension, then all of the next; as .png a row
    for each dimension, with a .gif in which all move at once beside it.

    What is given of the row, of a conditional model, stays as it is; without a row nothing is.

    Raises ConfigError for fewer than two steps or one dimension, and DataError if the row does not fit the model.
    """
    from ..uses.ways import decoded

    way = _walk(model, row, steps, dims)
    rows = decoded(model, way.codes(steps), way.told)
    return rows if model.schema_.name == "image" else _framed(rows, way, steps)


def _walk(model: "Autoencoder", row: Any, steps: int, dims: int) -> "Walk":
    from ..errors import ConfigError
    from ..uses.rows import row_of
    from ..uses.ways import told_of, walk

    for name, value, least in (("steps", steps, 2), ("dims", dims, 1)):
        if value < least:
            raise ConfigError(f"{name} must be {least} or more, not {value}")
    model._require_fitted()
    kind, options = model.schema_.name, model.schema_.read_options
    if row is None:
        return walk(model, None, dims)
    found = row_of(row, kind, options)
    return walk(model, model.transform(found)[0], dims, told_of(model, found))


def _framed(rows: Any, way: "Walk", steps: int) -> Any:
    """The rows of a table with their dimension and its value, in the frame they came in."""
    import numpy as np
    import pandas as pd

    polars = hasattr(rows, "to_pandas")
    frame = rows.to_pandas() if polars else pd.DataFrame(rows)
    frame.columns = pd.Index([f"c{c}" if isinstance(c, int) else c for c in frame.columns], dtype=object)
    added = pd.DataFrame({"dim": [f"z{i}" for i in np.repeat(way.order, steps)], "value": way.values(steps).ravel()})
    while set(added.columns) & set(frame.columns):  # a table may have columns of these names
        added = added.add_prefix("latent_")
    frame = pd.concat([added, frame], axis=1)
    if polars:
        from polars import from_pandas

        return from_pandas(frame)
    return frame


def save(result: Any, target: "Path", model: "Autoencoder", row: Any = None, **options: Any) -> "list[Path]":
    """Write the walk: a table as any table; pictures as a sheet (.png) with an animation (.gif) beside it."""
    from ..kinds.writing import write
    from ..uses.pictures import write_walk

    if model.schema_.name != "image" or target.suffix not in (".png", ".gif"):
        return write(result, target)
    steps = options["steps"]
    return write_walk(model, _walk(model, row, steps, options["dims"]), steps, target)
