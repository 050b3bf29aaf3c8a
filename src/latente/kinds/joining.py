"""Raw data of one kind, one after the other."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from ..errors import DataError
from .pictures import Pictures
from .table import as_frame


def joined(first: Any, second: Any) -> Any:
    """The rows of both; a table's columns are those of the first, with gaps where the second has none of them.

    Raises DataError for data that cannot be put together.
    """
    if hasattr(first, "columns"):
        a, b = as_frame(first), as_frame(second)
        return pd.concat([a, b.reindex(columns=a.columns).astype(_types(a, b))], ignore_index=True)
    if isinstance(first, Pictures):
        first = first.pixels
        second = np.asarray(second)
        second = second.reshape(-1, *first.shape[1:]) if second.ndim == first.ndim - 1 else second
    if isinstance(first, np.ndarray):
        second = np.asarray(second)
        if first.shape[1:] == second.shape[1:]:
            return np.concatenate([first, second.astype(first.dtype, copy=False)])
    elif type(first) is list and isinstance(second, Sequence):
        return [*first, *second]
    raise DataError(
        f"rows of {type(first).__name__} and of {type(second).__name__} cannot be put together",
        hint="give them as one table, array or list",
    )


def _types(a: pd.DataFrame, b: pd.DataFrame) -> dict[Any, Any]:
    """Of columns with levels or text their own type, so that what is drawn stays what it was."""
    return {c: a[c].dtype for c in a.columns if c in b.columns and a[c].dtype == object}
