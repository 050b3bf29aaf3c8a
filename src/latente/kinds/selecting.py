"""Which columns of counts tell rows apart: statistics in one pass over blocks, and three rules of choice."""

from typing import Literal

import numpy as np
import scipy.sparse as sp

Rule = Literal["deviance", "dispersion", "variance"]
# Rows are brought to so many counts before variances are taken: the field's usual scale.
SCALE = 1e4
# Bins of the mean within which dispersions are compared.
BINS = 20


class Moments:
    """What the rules need of each column, added up block by block."""

    def __init__(self, columns: int) -> None:
        self.rows, self.whole = 0, 0.0
        self.sums, self.seen = np.zeros(columns), np.zeros(columns, np.int64)
        self.deviance = np.zeros(columns)
        self.plain, self.logs = np.zeros((2, columns)), np.zeros((2, columns))  # sums and squares

    def add(self, x: sp.csr_matrix) -> None:
        """Rows of counts. Rows of nothing say nothing."""
        x = x.tocsr()
        n = np.asarray(x.sum(1), np.float64).ravel()
        there = n > 0
        x, n = (x, n) if there.all() else (x[there], n[there])
        own = np.repeat(n, np.diff(x.indptr))
        values, column = x.data.astype(np.float64), x.indices
        width = len(self.sums)
        scaled = values * (SCALE / own)
        logs = np.log1p(scaled)

        def by_column(weights: np.ndarray) -> np.ndarray:
            return np.bincount(column, weights, width)

        self.rows += len(n)
        self.whole += n.sum()
        self.sums += by_column(values)
        self.seen += np.bincount(column[values > 0], minlength=width)
        rest = own - values
        share = values / own
        with np.errstate(divide="ignore", invalid="ignore"):
            left = np.where(rest > 0, rest * np.log1p(-share), 0.0)
            here = np.where(values > 0, values * np.log(share), 0.0)
        self.deviance += by_column(here) + by_column(left)
        self.plain += [by_column(scaled), by_column(scaled**2)]
        self.logs += [by_column(logs), by_column(logs**2)]

    def scores(self, rule: Rule) -> np.ndarray:
        """How much each column tells, by a rule. [columns]

        deviance: that of a binomial with one share for all rows (Townes et al. 2019, eq. 5). variance: of log(1 + x) at
        1e4 counts a row. dispersion: log(variance / mean) at that scale, against columns of like mean (Satija et al.
        2015, as in Seurat's first rule).
        """
        if rule == "deviance":
            share = np.clip(self.sums / max(self.whole, 1e-9), 1e-300, 1 - 1e-16)
            rest = self.whole - self.sums
            return 2 * (self.deviance - self.sums * np.log(share) - rest * np.log1p(-share))
        sums, squares = self.logs if rule == "variance" else self.plain
        mean = sums / self.rows
        variance = np.maximum(squares / self.rows - mean**2, 0.0)
        if rule == "variance":
            return variance
        with np.errstate(divide="ignore", invalid="ignore"):
            dispersion = np.log(variance / mean)
        level = np.log1p(mean)
        known = np.isfinite(dispersion)
        edges = np.linspace(level[known].min(), level[known].max(), BINS + 1)[1:-1] if known.any() else np.zeros(0)
        bins = np.digitize(level, edges)
        out = np.full(len(mean), -np.inf)
        for b in np.unique(bins[known]):
            inside = known & (bins == b)
            spread = dispersion[inside].std() if inside.sum() > 1 else 0.0
            out[inside] = (dispersion[inside] - dispersion[inside].mean()) / (spread or 1.0)
        return out

    def chosen(self, rule: Rule, most: int) -> np.ndarray:
        """The places of the columns that tell most, in their order; of those that are 0 in all rows none."""
        able = np.flatnonzero(self.seen > 0)
        if most and len(able) > most:
            scores = self.scores(rule)[able]
            able = able[np.argsort(-scores, kind="stable")[:most]]
        return np.sort(able)
