"""As many new rows of each level of a column: small groups made larger."""

from typing import Any

import numpy as np
import pandas as pd

from ..errors import ConfigError
from ..estimator import Autoencoder
from ..kinds.columns import Binary, Categorical
from ..kinds.subset import parsed
from ..kinds.table import is_arrow
from ..parts import nearest


def balanced(ae: Autoencoder, n: int, column: str, seed: int, given: Any = None) -> Any:
    """n rows, shared evenly by the levels of `column` and mixed. Raises ConfigError if it has none."""
    if not ae.chained or ae.condition_ is not None:
        raise ConfigError("only a table's chain can be given a column's levels", hint="fit with --recipe tabular")
    found = {str(c.label): c for c in ae.schema_.columns}  # type: ignore[attr-defined]
    if column not in found:
        raise ConfigError(f"there is no column {column!r}", hint=nearest(column, found))
    own = found[column]
    if not isinstance(own, (Categorical, Binary)):
        several = [c for c, kind in found.items() if isinstance(kind, (Categorical, Binary))]
        raise ConfigError(f"{column!r} has no levels: {own.summary}", hint=f"--balance {several[0]}" if several else "")
    told = parsed(given) if isinstance(given, str) else {k: [v] for k, v in (given or {}).items()}
    if column in told:
        raise ConfigError(f"{column!r} is given, and cannot be balanced too", hint="leave out one of them")
    rest = {k: v[0] for k, v in told.items()}
    sizes = np.full(len(own.levels), n // len(own.levels)) + (np.arange(len(own.levels)) < n % len(own.levels))
    parts = [
        ae.sample(int(size), random_state=seed + i, given=rest | {column: level})
        for i, (level, size) in enumerate(zip(own.levels, sizes, strict=True))
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
