"""Series that go on from a given start: what may follow, drawn a part of a window at a time."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from ..errors import ConfigError, DataError
from ..estimator import Autoencoder
from ..kinds.segments import seconds, step_of
from ..kinds.series import Series
from ..kinds.table import as_frame, from_arrow, is_arrow
from ..model.batch import Batch
from .imputation import expected

# What is drawn at once, as a share of a window: the rest of it is what is known.
AHEAD = 4
# Codes that are weighed for each series and draw, and rounds in which the open end is filled before it is encoded.
CANDIDATES, ROUNDS = 64, 4


@torch.no_grad()
def continued(ae: Autoencoder, start: Any, steps: int, n: int, seed: int) -> Any:
    """`n` ways in which the series `start` may go on for so many steps: a table with the columns series, the time or
    the step (from 1), and the channels; of an array [n, steps, channels].

    A code of each window is drawn given its known part, by importance among `CANDIDATES` draws from the prior and from
    q(z|x) of the window with its end filled (sampling–importance–resampling, Rubin 1987); of a latent without a density
    it is that of the filled window. Raises ConfigError for a model of another kind, DataError for a start that is
    shorter than three quarters of a window.
    """
    kind = ae.schema_
    if not isinstance(kind, Series):
        raise ConfigError("a start is of series", hint="leave --start out")
    if steps < 1:
        raise ConfigError(f"steps must be 1 or more, not {steps}", hint=f"--steps {kind.window}")
    raw = ae.rows(start)
    ahead = max(1, kind.window // AHEAD)
    known = _end(kind, raw, kind.window - ahead)
    generator = torch.Generator().manual_seed(seed)
    x = torch.from_numpy(np.nan_to_num(known)).float().expand(n, -1, -1)
    seen = torch.from_numpy(~np.isnan(known)).expand(n, -1, -1)
    new: list[Tensor] = []
    for _ in range(math.ceil(steps / ahead)):
        open_end = torch.zeros(n, len(kind.channels), ahead)
        batch = Batch(torch.cat([x, open_end], 2), torch.cat([seen, open_end.bool()], 2))
        z = _drawn(ae, batch, generator)
        drawn = ae.model_.decode(z).sample(generator)[..., -ahead:]
        new.append(drawn)
        x, seen = (
            torch.cat([x, drawn], 2)[..., ahead:],
            torch.cat([seen, torch.ones_like(drawn).bool()], 2)[..., ahead:],
        )
    values = kind.values(torch.cat(new, 2)[..., :steps])
    if not hasattr(raw, "columns") and not is_arrow(raw):
        return values
    return kind.framed(_table(kind, as_frame(from_arrow(raw)), values))


def _drawn(ae: Autoencoder, batch: Batch, generator: torch.Generator) -> Tensor:
    """A code of each row given its observed cells. [b, d]"""
    filled = replace(batch, x=expected(ae, batch, ROUNDS), observed=None)
    q = ae.model_.encode(filled)
    if not q.has_density:
        return q.mean
    prior, b = ae.model_.prior(), len(batch)
    own = q.sample(CANDIDATES // 2, generator)  # [k, b, d]
    others = prior.sample(CANDIDATES // 2 * b, generator).unflatten(0, (CANDIDATES // 2, b))
    z = torch.cat([own, others])
    log_p = prior.log_prob(z)
    px = ae.model_.decode(z).seen(batch.x, batch.observed).flatten(2).sum(-1)
    weight = px + log_p - torch.logaddexp(q.log_prob(z), log_p)
    which = torch.multinomial(weight.T.softmax(1), 1, generator=generator)[:, 0]
    return z[which, torch.arange(b)]


def _end(kind: Series, raw: Any, length: int) -> np.ndarray:
    """The last so many steps of a series in the model's units, NaN where missing. [1, c, length]"""
    segments = kind.opened(raw)
    if len({s.entity for s in segments}) > 1 or (np.ndim(raw) == 3 and len(segments) > 1):
        raise DataError(f"the start holds {len(segments)} series", hint="give the rows of one")
    values = segments[-1].values
    if len(values) < length:
        raise DataError(
            f"the start has {len(values)} steps without a long break, and {length} are needed",
            hint=f"windows of this model have {kind.window}",
        )
    return kind.numbers(values[-length:]).T[None]


def _table(kind: Series, start: pd.DataFrame, values: np.ndarray) -> pd.DataFrame:
    n, steps, _ = values.shape
    frame = pd.DataFrame(values.reshape(n * steps, -1), columns=list(kind.channels))
    start = start.set_axis([str(c) for c in start.columns], axis=1)
    when = kind.when(start)
    after: Any = np.arange(1, steps + 1)
    if when is not None:
        column = start[when]
        numeric = pd.api.types.is_numeric_dtype(column)
        times = seconds(column, when)
        after = times[-1] + after * (kind.every or step_of(times))
        if not numeric:
            # Microseconds are what numbers of seconds since 1970 can tell.
            after = pd.to_datetime(np.round(after * 1e6).astype("int64"), unit="us")
            zone = getattr(column.dtype, "tz", None)
            after = after if zone is None else after.tz_localize("UTC").tz_convert(zone)
    frame.insert(0, when or kind.fresh("step"), pd.Index(after).append([pd.Index(after)] * (n - 1)))
    frame.insert(0, kind.fresh("series"), np.repeat(np.arange(n), steps))
    return frame
