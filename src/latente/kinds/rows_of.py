"""Rows of a chained table: drawn without a code, given any columns, and with their gaps filled."""

import warnings
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from ..errors import ConfigError
from ..model.batch import Batch
from .base import DataWarning
from .binned import Binned
from .subset import Subset, subset
from .table import Table, is_arrow, to_arrow

# Rows drawn at once, and for each row that is wanted at most, before what is given counts as too rare.
ROWS, TRIES = 2048, 1000


@torch.no_grad()
def drawn(table: Table, likelihood: Any, n: int, seed: int, given: Any = None) -> Any:
    """n rows of p(x | given) by the chain alone. Says how many were drawn where some had to be left out.

    Raises ConfigError for what is given that the training data did not have, or that hardly occurs together.
    """
    asked = subset(table, {} if given is None else given)
    generator = torch.Generator().manual_seed(seed)
    parts: list[Tensor] = []
    kept = tried = 0
    while kept < n:
        size = min(ROWS, n - kept if tried == 0 else max(64, int(1.2 * (n - kept) * tried / max(kept, 1)) + 1))
        x, known = asked.cells.expand(size, -1), asked.known.expand(size, -1)
        rows, chance = likelihood.alone(size).complete(x, known, generator, within=asked.within)
        if len(asked.within) > 1:
            rows = rows[torch.rand(size, generator=generator) < chance]
        parts.append(rows[: n - kept])
        kept, tried = kept + len(parts[-1]), tried + size
        if tried > TRIES * max(1, kept) + 10 * ROWS:
            raise ConfigError(
                f"rows like that hardly occur: of {tried:,} that were drawn {kept} met what is given ({given!s})",
                hint="give wider ranges, or fewer columns",
            )
    if len(asked.within) > 1 and tried > n:
        warnings.warn(f"{tried:,} rows were drawn to keep {n:,} that meet what is given", DataWarning, stacklevel=3)
    return _exact(table.restore(torch.cat(parts)), asked)


def _exact(frame: Any, asked: Subset) -> Any:
    """Given numbers as they were given: a token would bring them back to within its resolution."""
    if not asked.exact:
        return frame
    if isinstance(frame, pd.DataFrame):
        return frame.assign(**{n: pd.Series([v] * len(frame)).astype(frame[n].dtype) for n, v in asked.exact.items()})
    if is_arrow(frame):
        return to_arrow(_exact(frame.to_pandas(), asked), frame.schema)
    if hasattr(frame, "with_columns"):
        import polars as pl

        values = {n: v.item() if hasattr(v, "item") else v for n, v in asked.exact.items()}
        return frame.with_columns([pl.lit(v).cast(frame.schema[n]).alias(n) for n, v in values.items()])
    return frame


def gaps(table: Table, batch: Batch) -> Tensor:
    """Which modelled cells of rows are missing, whether they are masked or tokens of their own. [b, m]"""
    missing = torch.zeros_like(batch.x, dtype=torch.bool) if batch.observed is None else ~batch.observed
    for j, column in enumerate(table.modelled):
        if table.learns_gaps(column):
            missing[:, j] |= batch.x[:, j] >= table.tokens(column) - 1
    return missing


@torch.no_grad()
def filled(table: Table, likelihood: Any, batch: Batch, generator: torch.Generator | None = None) -> Tensor:
    """Cells [b, m] with the missing ones filled given the others: by the mean of a number, the likeliest level; with a
    generator by a draw of all that are missing together.
    """
    missing = gaps(table, batch)
    if not missing.any():
        return batch.x
    x = batch.x.masked_fill(missing, 0.0)
    px = likelihood.alone(len(x))
    allowed = _allowed(table, x, missing)
    if generator is not None:
        present = {j: (torch.zeros_like(may), may) for j, may in allowed.items()}
        return px.complete(x, ~missing, generator, within=present)[0]
    found = x.clone()
    for j, (column, log_p) in enumerate(zip(table.modelled, px.marginals(x, ~missing), strict=True)):
        own = missing[:, j]
        if not own.any():
            continue
        p = log_p[own].exp() * allowed[j][own] if j in allowed else log_p[own].exp()
        p = p[:, :-1] if table.learns_gaps(column) else p
        if isinstance(column, Binned):
            mean = (p @ torch.from_numpy(column.centres).float()) / p.sum(-1)
            found[own, j] = torch.from_numpy(column.places(mean.double().numpy())).float()
        else:
            found[own, j] = p.argmax(-1).float()
    return found


def _allowed(table: Table, x: Tensor, missing: Tensor) -> dict[int, Tensor]:
    """Of columns that not every token may fill, which ones may in each row: never "missing", and where another column
    that follows from it is there, those from which it does. [b, tokens] each
    """
    labels = [c.label for c in table.modelled]
    found = {}
    for j, column in enumerate(table.modelled):
        may = torch.ones(len(x), table.tokens(column))
        if table.learns_gaps(column):
            may[:, -1] = 0
        for rule in table.rules:
            if rule.source != column.label or rule.label not in labels:
                continue
            at = labels.index(rule.label)
            told = torch.from_numpy(rule.allows(x[:, at].numpy())) & ~missing[:, at, None]
            # A value that no training row had beside any other rules nothing out.
            told = told | ~told.any(1, keepdim=True)
            may[:, : told.shape[1]] *= told
        if (may == 0).any():
            found[j] = may
    return found
