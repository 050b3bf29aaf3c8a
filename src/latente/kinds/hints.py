"""What a table may be besides: told of, never decided."""

import re
from typing import Any

import numpy as np
import pandas as pd

from .histories import ITEMS, USERS

# Columns of a table of lines (user, item, …), at the most; columns and zeros from which a table may be of counts.
FEW, MANY, ZEROS = 6, 200, 0.5


def besides(table: Any) -> str:
    """A remark on a frame that looks like histories of users or like counts; "" for any other."""
    if not isinstance(table, pd.DataFrame):
        return ""
    plain = {re.sub(r"[\s_-]", "", str(c)).lower() for c in table.columns}
    if len(table.columns) <= FEW and plain & set(USERS) and plain & set(ITEMS):
        return "these look like lines of users and items, and are taken as a table: --recipe recommend recommends items"
    numbers = table.head(200).select_dtypes("integer")  # a look, not a copy of the whole
    if numbers.shape[1] >= MANY and (np.asarray(numbers) == 0).mean() >= ZEROS:
        return "these look like counts, and are taken as a table: --kind counts"
    return ""
