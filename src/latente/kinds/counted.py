"""Raw data of rows in which nearly all numbers are 0: counts of genes, words, things that people took."""

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp


@dataclass(frozen=True, eq=False)
class Counted:
    """Rows of counts, as they were found: whether they are counts at all is a kind's to judge.

    counts: CSR [rows, columns]. names: the columns'; () where they have none. about: what else is known of each row;
    its index are the rows' names. part: where in a file the counts were ("X", "layers/counts", …); "" if in none.
    """

    counts: sp.csr_matrix
    names: tuple[str, ...] = ()
    about: pd.DataFrame = field(default_factory=pd.DataFrame)
    part: str = ""

    def __post_init__(self) -> None:
        if not len(self.about.index) and self.counts.shape[0]:
            object.__setattr__(self, "about", pd.DataFrame(index=pd.RangeIndex(self.counts.shape[0])))
        if len(self.about) != self.counts.shape[0] or (self.names and len(self.names) != self.counts.shape[1]):
            raise ValueError("names or rows of counts do not go with their matrix")

    def __len__(self) -> int:
        return int(self.counts.shape[0])

    @property
    def shape(self) -> tuple[int, int]:
        """Rows, and columns."""
        return self.counts.shape

    def to_pandas(self) -> pd.DataFrame:
        """A table of all numbers, the rows' names in its index."""
        names = list(self.names) or [f"c{i}" for i in range(self.shape[1])]
        return pd.DataFrame(self.counts.toarray(), columns=names, index=self.about.index)

    def __getitem__(self, index: Any) -> "Counted":
        """Some rows: a slice, or an array of their places."""
        index = index if isinstance(index, slice) else np.asarray(index)
        return replace(self, counts=self.counts[index], about=self.about.iloc[index])
