"""As many new rows of each level of a column: small groups made larger."""

from typing import Any

import numpy as np
import pandas as pd

from ..errors import ConfigError
from ..estimator import Autoencoder
from ..kinds.binned import Binned
from ..kinds.columns import Binary, Categorical, Column
from ..kinds.derived import Derived
from ..kinds.subset import parsed
from ..kinds.table import is_arrow
from ..parts import nearest

# Values of a number, at most, that rows can be shared by.
MOST = 20


def balanced(ae: Autoencoder, n: int, column: str, seed: int, given: Any = None) -> Any:
    """n rows, shared evenly by the levels of `column` and mixed. Raises ConfigError if it has none."""
    if not ae.chained:
        raise ConfigError("only a table's chain can be given a column's levels", hint="fit with --recipe tabular")
    if ae.condition_ is not None:
        raise ConfigError(
            "this model is given its condition, and nothing else", hint="--given NAME=LEVEL, for one level at a time"
        )
    found = {str(c.label): c for c in ae.schema_.columns}  # type: ignore[attr-defined]
    if column not in found:
        raise ConfigError(f"there is no column {column!r}", hint=nearest(column, found))
    own = found[column]
    levels = _levels(own)
    if not levels:
        several = [c for c, kind in found.items() if _levels(kind)]
        raise ConfigError(f"{column!r} has no levels: {own.summary}", hint=f"--balance {several[0]}" if several else "")
    told = parsed(given) if isinstance(given, str) else given or {}
    if column in told:
        raise ConfigError(f"{column!r} is given, and cannot be balanced too", hint="leave out one of them")
    sizes = np.full(len(levels), n // len(levels)) + (np.arange(len(levels)) < n % len(levels))
    parts = [
        ae.sample(int(size), random_state=seed + i, given={**told, column: level})
        for i, (level, size) in enumerate(zip(levels, sizes, strict=True))
        if size
    ]
    order = np.random.default_rng(seed).permutation(n)
    if isinstance(parts[0], pd.DataFrame):
        return pd.concat(parts, ignore_index=True).iloc[order].reset_index(drop=True)
    if isinstance(parts[0], np.ndarray):
        return np.concatenate(parts)[order]
    if is_arrow(parts[0]):
        import pyarrow as pa

        return pa.concat_tables(parts).take(order)
    import polars as pl

    return pl.concat(parts)[order.tolist()]


def _levels(column: Column) -> tuple[Any, ...]:
    """What a column's rows can be shared by: its levels, or the values of a number that has few."""
    if isinstance(column, Derived):
        return _levels(column.of)
    if isinstance(column, (Categorical, Binary)):
        return column.levels
    few = isinstance(column, Binned) and not column.bins and column.size <= MOST
    return tuple(column.cells(np.array(column.atoms))) if few else ()  # type: ignore[attr-defined]
