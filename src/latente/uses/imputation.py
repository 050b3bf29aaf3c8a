"""Filling missing cells with what a model expects of them."""

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from ..errors import ConfigError
from ..estimator import Autoencoder
from ..kinds import rows_of
from ..kinds.columns import Identifier
from ..kinds.image import Image, as_pictures
from ..kinds.series import Series
from ..kinds.table import Table, as_frame, from_arrow, is_arrow, to_arrow
from ..model.batch import Batch
from . import cells


@torch.no_grad()
def expected(ae: Autoencoder, batch: Batch, rounds: int) -> Tensor:
    """The model's cells [b, *cells] with the unobserved ones filled."""
    if ae.chained:
        return rows_of.filled(ae.schema_, ae.model_.likelihood, batch)  # type: ignore[arg-type]
    if batch.observed is None:
        return batch.x
    # The first round knows only what was seen; what it fills is then seen as if it had been there.
    guess = ae.model_.mean_of(batch).mean[0]
    for _ in range(rounds - 1):
        filled = replace(batch, x=torch.where(batch.observed, batch.x, guess), observed=None)
        guess = ae.model_.mean_of(filled).mean[0]
    return torch.where(batch.observed, batch.x, guess)


@torch.no_grad()
def drawn(ae: Autoencoder, batch: Batch, generator: torch.Generator) -> Tensor:
    """The model's cells [b, *cells] with the unobserved ones drawn given the others; without a chain, given one draw of
    the code of what was observed.
    """
    if ae.chained:
        return rows_of.filled(ae.schema_, ae.model_.likelihood, batch, generator)  # type: ignore[arg-type]
    if batch.observed is None:
        return batch.x
    z = ae.model_.encode(batch).sample(1, generator)
    guess = ae.model_.decode(z, ae.model_.given(batch)).sample(generator)[0]
    return torch.where(batch.observed, batch.x, guess)


def multiple(ae: Autoencoder, data: Any, draws: int, seed: int) -> Any:
    """`data` so many times over, each time with other draws in the gaps; a first column "draw" counts from 1."""
    raw = ae.rows(data)
    if not isinstance(ae.schema_, Table):
        raise ConfigError("draws are for tables", hint="leave out --draws")
    generator = torch.Generator().manual_seed(seed)
    found = []
    for number in range(1, draws + 1):
        rows = torch.cat([drawn(ae, batch, generator) for batch in ae.prepared(raw)])
        found.append((number, _joined(ae, raw, rows)))
    if is_arrow(data):
        found = [(k, to_arrow(f, data.schema)) for k, f in found]
    if draws == 1:
        return found[0][1]
    if is_arrow(data):
        import pyarrow as pa

        return pa.concat_tables([f.add_column(0, "draw", [[k] * len(f)]) for k, f in found])
    if type(raw).__module__.startswith("polars"):
        import polars as pl

        return pl.concat([f.insert_column(0, pl.lit(k).alias("draw")) for k, f in found])
    if isinstance(found[0][1], np.ndarray):
        return np.stack([f for _, f in found])
    return pd.concat([f.assign(draw=k)[["draw", *f.columns]] for k, f in found], ignore_index=True)


def fill(ae: Autoencoder, data: Any, rounds: int) -> Any:
    """`data` with its missing cells filled, in the form in which it came."""
    raw = ae.rows(data)
    if cells.of_counts(ae):
        return cells.impute(ae, raw)
    if ae.schema_.sparse:
        raise ConfigError("histories have no gaps to fill", hint="latente recommend says what may come next")
    found = _joined(ae, raw, torch.cat([expected(ae, batch, rounds) for batch in ae.prepared(raw)]))
    return to_arrow(found, data.schema) if is_arrow(data) else found


def _joined(ae: Autoencoder, raw: Any, rows: Tensor) -> Any:
    """`raw` with its gaps filled from the cells of `rows`."""
    if isinstance(ae.schema_, Image):
        return _pictures(ae, raw, rows)
    if isinstance(ae.schema_, Series):
        return _steps(ae.schema_, raw, rows)
    filled = from_arrow(ae.schema_.restore(rows))
    if hasattr(raw, "toarray") or isinstance(raw, (np.ndarray, list)):
        original = np.asarray(raw.toarray() if hasattr(raw, "toarray") else raw)
        return np.where(pd.isna(original), np.asarray(filled), original)
    if type(raw).__module__.startswith("polars"):
        return _polars(raw, filled)
    frame = as_frame(raw).copy()
    known = as_frame(filled)
    # New identifiers are for new rows: a gap among old ones stays one.
    own = {str(c.label) for c in ae.schema_.columns if not isinstance(c, Identifier)}  # type: ignore[attr-defined]
    known = known[[c for c in known.columns if str(c) in own]]
    for i, label in enumerate(frame.columns):
        if str(label) in known.columns or label in known.columns:
            new = known[label if label in known.columns else str(label)]
            frame.isetitem(i, _put(frame.iloc[:, i], new).array)
    return frame


def _steps(kind: Series, raw: Any, rows: Tensor) -> Any:
    """Series with their gaps filled; what was there is left as it is."""
    filled = kind.rejoin(raw, rows)
    if not hasattr(raw, "columns"):
        return np.where(pd.isna(np.asarray(raw)), filled, raw)
    if type(raw).__module__.startswith("polars"):
        return _polars(raw, as_frame(filled))
    table, known = as_frame(raw).copy(), as_frame(filled)
    for i, label in enumerate(table.columns):
        if str(label) in kind.channels:
            table.isetitem(i, _put(table.iloc[:, i], known.iloc[:, i]).array)
    return table


def _polars(frame: Any, filled: Any) -> Any:
    """A polars frame with its nulls and NaNs filled, observed cells and types as they were."""
    import polars as pl

    columns = []
    for name, dtype in frame.schema.items():
        column = frame[name].fill_nan(None) if dtype.is_float() else frame[name]
        if column.null_count() and name in filled.columns:
            new = filled[name].cast(dtype, strict=False)
            column = pl.select(pl.coalesce(pl.lit(column), pl.lit(new))).to_series().alias(name)
        columns.append(column)
    return pl.DataFrame(columns)


def _pictures(ae: Autoencoder, raw: Any, rows: Tensor) -> np.ndarray:
    """Pictures with their missing pixels filled: an array as it came, anything else as uint8."""
    restored = ae.schema_.restore(rows)
    if isinstance(raw, np.ndarray) and raw.dtype != np.uint8:
        return np.where(np.isnan(raw), restored.reshape(raw.shape), raw)
    pixels, seen = as_pictures(raw)
    if seen is not None:
        pixels = np.where(seen[..., None], pixels, as_pictures(restored)[0])
    return pixels.reshape(restored.shape)


def _put(column: pd.Series, filled: pd.Series) -> pd.Series:
    """The column with its gaps filled; its own dtype where that can hold what is filled in."""
    gaps = column.isna().to_numpy()
    if gaps.any():
        values = column.astype(object).to_numpy(object).copy()
        values[gaps] = filled.astype(object).to_numpy(object)[gaps]
        made = pd.Series(values, index=column.index)
        try:
            column = made.astype(column.dtype)
        except (TypeError, ValueError):
            column = made
    whole = pd.api.types.is_integer_dtype(filled.dtype) and not pd.api.types.is_integer_dtype(column.dtype)
    if whole and pd.api.types.is_numeric_dtype(column.dtype) and (column.dropna() % 1 == 0).all():
        # Gaps made floats of a column of integers when it was read; without them it is one again.
        column = column.astype(filled.dtype)
    return column
