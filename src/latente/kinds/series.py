"""Series: numbers over time, in windows."""

import warnings
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from ..errors import DataError
from ..model.batch import Batch
from ..model.dists.gaussian import Gaussian
from ..model.nets.mlp import Mlp
from ..model.nets.temporal import Temporal
from ..parts import part, require
from .base import Built, DataWarning, Kind, Nets
from .columns import damp, undamp
from .segments import Segment, of_frame, period, time_column, usual_step
from .table import as_frame, from_arrow, is_arrow, to_arrow

# Windows are of a multiple of 4 steps in these bounds: of the data's period, or else of about so many numbers, of one
# channel 128 steps, of many 32.
SHORTEST, LONGEST = 8, 256
NUMBERS, FEW, MANY = 256, 32, 128
# Channels are linear so many standard deviations out, and logarithmic beyond: bursts of a channel that is nearly still
# are many of them. The standard deviation is of what lies between these percentiles, so that a glitch has no say.
KNEE, ENDS = 10.0, (0.1, 99.9)
# Windows that are learned from, about, and what share of a window lies between two of them at the most.
WINDOWS, APART = 20_000, 4
# Windows without a row for so long fall apart into two segments.
BREAK = 4
# Rates that differ by no more are the same.
PACE = 1.5
# Numbers of a small window.
SMALL = 4096


@part("kind", "series")
@dataclass(frozen=True)
class Series(Kind):
    """Numbers over time, in windows of `window` steps (0: about the data's own period, or 32 to 128, the fewer the more
    channels there are), one every `stride`.

    Data: an array (n, time, channels), each a window; an array (time, channels); or a table with a column of times and
    perhaps one of ids (`time`, `id`: their names; time "" is found by its type or name), whose other columns of
    numbers are the channels. every: seconds between two steps; 0: what is usual in the data that are learned, which is
    then kept. Rows are put on the nearest step, several on one are averaged, steps without a row are gaps.
    Learned: `channels`, and of each the median, scale and range; `form`, how the data came.
    """

    window: int = 0
    stride: int = 0
    time: str = ""
    id: str = ""
    every: float = 0.0
    scale: Literal["closed-form", "learned", "unit"] = "closed-form"
    channels: tuple[str, ...] = ()
    centers: tuple[float, ...] = ()
    scales: tuple[float, ...] = ()
    lows: tuple[float, ...] = ()
    highs: tuple[float, ...] = ()
    form: Literal["windows", "array", "table"] = "table"
    dtype: str = "float64"
    frame: str = "pandas"

    def __post_init__(self) -> None:
        require(self.window >= 0, self, "window", "0 or more steps")
        require(self.stride >= 0, self, "stride", "0 or more steps")
        require(self.every >= 0, self, "every", "0 or more seconds")
        each = {len(v) for v in (self.channels, self.centers, self.scales, self.lows, self.highs)}
        require(len(each) == 1, self, "channels", "as many as there are scales")
        require(all(s > 0 for s in self.scales), self, "scales", "above 0")

    @classmethod
    def accepts(cls, raw: Any) -> bool:
        return getattr(raw, "ndim", 0) == 3 and str(getattr(raw, "dtype", "")) != "uint8"

    def learn_blocks(self, blocks: Iterable[Any]) -> "Series":
        parts = list(blocks)
        if len(parts) != 1:
            raise DataError("series are learned in memory", hint="--stream no")
        kind, segments = self._opened(parts[0])
        if kind.form == "windows":
            kind = replace(kind, window=len(segments[0].values), stride=1)
        if not kind.window:
            longest = max(segments, key=lambda s: len(s.values)).values
            found = period(longest, LONGEST) or np.clip(NUMBERS // len(kind.channels), FEW, MANY)
            fits = max(SHORTEST, len(longest) // 4)
            kind = replace(kind, window=int(np.clip(4 * round(min(found, fits) / 4), SHORTEST, LONGEST)))
        steps = sum(max(0, len(s.values) - kind.window + 1) for s in segments)
        if kind.form != "windows" and steps < 2:
            most = max(len(s.values) for s in segments)
            raise DataError(
                f"the longest stretch has {most} steps, and a window of {kind.window} is to be learned from",
                hint=f"--set kind.window={max(2, most // 4)}" if most >= SHORTEST else "give longer series",
            )
        if not kind.stride:
            kind = replace(kind, stride=max(1, min(-(-steps // WINDOWS), kind.window // APART)))
        values = np.concatenate([s.values for s in segments])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # a channel that is never there
            middle, *ends = np.nanpercentile(values, [50, *ENDS], axis=0)
            whole, spread = np.nanstd(values, 0), np.nanstd(np.clip(values, *ends), 0)
            lows, highs = np.nanmin(values, 0), np.nanmax(values, 0)
        if not (whole > 0).any():
            raise DataError("there is nothing to learn: no channel varies", hint="check the file and its columns")
        scales = np.where(spread > 1e-9 * whole, spread, np.where(whole > 0, whole, 1.0))
        numbers = {
            n: tuple(np.nan_to_num(v).tolist()) for n, v in {"centers": middle, "lows": lows, "highs": highs}.items()
        }
        return replace(kind, scales=tuple(np.nan_to_num(scales, nan=1.0).tolist()), **numbers)  # type: ignore[arg-type]

    def _opened(self, raw: Any) -> tuple["Series", list[Segment]]:
        """The kind with its channels, and the data's segments."""
        if hasattr(raw, "columns") or is_arrow(raw):
            name = "pyarrow" if is_arrow(raw) else type(raw).__module__.split(".")[0]
            table = as_frame(from_arrow(raw))
            table.columns = pd.Index([str(c) for c in table.columns])
            when = self.when(table)
            if self.channels and self.time and when is None:
                note = f"there is no column {self.time!r}: the rows follow each other at even steps"
                warnings.warn(note, DataWarning, stacklevel=4)
            rest = [c for c in table.columns if c not in (when, self.id)]
            numeric = [
                c for c in rest if pd.api.types.is_numeric_dtype(table[c]) and not pd.api.types.is_bool_dtype(table[c])
            ]
            left = [c for c in rest if c not in numeric]
            if left and not self.channels:
                warnings.warn(
                    f"columns that are no numbers are left out of the series: {', '.join(left[:6])}",
                    DataWarning,
                    stacklevel=4,
                )
            if not self.channels and not numeric:
                raise DataError("there is no column of numbers to learn from", hint="check the file and its header")
            kind = self if self.channels else replace(self, form="table", frame=name)
            absent = [c for c in self.channels if c not in table.columns]
            if absent:
                raise DataError(
                    f"channel {absent[0]!r} of the model is not there",
                    hint=f"add it (empty cells are allowed); the data have {', '.join(map(repr, rest[:6]))}",
                )
            channels = list(self.channels) or numeric
            if when is not None and not (self.channels and kind.every):
                kind = replace(kind, time=when, every=kind.every or usual_step(table, when, self.id))
            elif when is not None:
                kind._rate(usual_step(table, when, self.id), when)
            segments = of_frame(table, channels, when, self.id, kind.every, BREAK * (self.window or 2 * FEW))
            return (kind if self.channels else kind._named(channels)), segments
        array = np.asarray(raw)
        if array.ndim not in (2, 3) or array.dtype.kind not in "fiub":
            raise DataError(
                f"series are arrays (n, time, channels) or (time, channels) of numbers, not {array.shape}",
                hint="x[:, :, None] for windows of one channel, x[:, None] for one series",
            )
        if np.isinf(array).any():
            place = tuple(int(i) for i in np.argwhere(np.isinf(array))[0])
            raise DataError(f"the value at {place} is infinite", hint="put NaN where a value is missing")
        whole = array.reshape(-1, *array.shape[-2:]).astype(np.float64)
        if whole.shape[0] == 0 or whole.shape[1] == 0:
            raise DataError("found 0 rows", hint="check the file, or the filter before it")
        names = list(self.channels) or [f"c{i}" for i in range(whole.shape[2])]
        if len(names) != whole.shape[2]:
            raise DataError(f"the series have {whole.shape[2]} channels, and the model's {len(names)}: {names[:6]}")
        form: Any = "windows" if array.ndim == 3 else "array"
        starts = np.arange(whole.shape[0]) * whole.shape[1]
        steps = np.arange(whole.shape[1])
        segments = [Segment(v, s + steps, steps) for v, s in zip(whole, starts, strict=True)]
        kind = self if self.channels else replace(self, form=form, dtype=str(array.dtype))._named(names)
        return kind, segments

    def when(self, table: pd.DataFrame) -> str | None:
        """The column of times: of a fitted kind the one that was learned, if it is there. Raises ConfigError if there
        is no column of ids, or while it is not fitted, of times, as was asked for.
        """
        learned = self.time if self.channels else ""
        found = time_column(table, "" if learned else self.time, self.id)
        if not self.channels:
            return found
        return learned if learned in [str(c) for c in table.columns] else None

    def _rate(self, usual: float, when: str) -> None:
        """Say that data come at another rate than those that were learned."""
        if usual and not 1 / PACE < usual / self.every < PACE:
            warnings.warn(
                f"column {when!r}: the rows are {usual:g} s apart, and those that were learned {self.every:g} s: what "
                "is between is missing, and several rows on a step are averaged",
                DataWarning,
                stacklevel=5,
            )

    def _named(self, channels: list[str]) -> "Series":
        zeros, ones = (0.0,) * len(channels), (1.0,) * len(channels)
        return replace(self, channels=tuple(channels), centers=zeros, scales=ones, lows=zeros, highs=zeros)

    def opened(self, raw: Any) -> list[Segment]:
        """The data's segments, of any length."""
        return self._opened(raw)[1]

    def numbers(self, values: np.ndarray) -> np.ndarray:
        """Numbers of the channels [..., c] in the model's units; the inverse is `values`."""
        return damp((values - np.array(self.centers)) / np.array(self.scales), KNEE)

    def segments(self, raw: Any) -> list[Segment]:
        """The data's segments, none shorter than a window. Raises DataError if one is."""
        found = self.opened(raw)
        short = next((s for s in found if len(s.values) < self.window), None)
        if short is not None:
            whose = "" if short.entity is None else f" of {short.entity!r}"
            at = f"a stretch{whose} of {len(short.values)} steps (from row {short.rows[0]} on)"
            raise DataError(f"{at} is shorter than the model's window of {self.window}", hint="give longer series")
        return found

    def places(self, raw: Any) -> np.ndarray:
        """Where each window of `raw` begins: steps in a segment, with more than a window between two segments. [n]"""
        found, first = [], 0
        for segment in self.segments(raw):
            found.append(first + self.starts(len(segment.values)))
            first += len(segment.values) + 2 * self.window
        return np.concatenate(found)

    def starts(self, length: int) -> np.ndarray:
        """Where windows begin in a segment: every `stride` steps, and one that ends with it."""
        last = length - self.window
        return np.unique([*range(0, last + 1, self.stride), last])

    def to_batch(self, raw: Any) -> Batch:
        parts = []
        for segment in self.segments(raw):
            numbers = self.numbers(segment.values).astype(np.float32)
            views = np.lib.stride_tricks.sliding_window_view(numbers, self.window, axis=0)  # [windows, c, w]
            parts.append(views[self.starts(len(numbers))])
        x = np.concatenate(parts)
        seen = ~np.isnan(x)
        return Batch(torch.from_numpy(np.nan_to_num(x)), None if seen.all() else torch.from_numpy(seen))

    def prepare(self, batch: Batch, generator: torch.Generator | None = None) -> Batch:
        return batch

    def values(self, x: Tensor) -> np.ndarray:
        """Model cells [n, c, w] as numbers of the channels [n, w, c], within their ranges."""
        numbers = undamp(x.detach().cpu().numpy().astype(np.float64).transpose(0, 2, 1), KNEE)
        return np.clip(numbers * np.array(self.scales) + np.array(self.centers), self.lows, self.highs)

    def restore(self, x: Tensor) -> Any:
        values = self.values(x)
        if self.form != "table":
            return values.astype(self.dtype if np.dtype(self.dtype).kind == "f" else "float64")
        n, w, _ = values.shape
        frame = pd.DataFrame(values.reshape(n * w, -1), columns=list(self.channels))
        frame.insert(0, self.fresh("step"), np.tile(np.arange(w), n))
        frame.insert(0, self.fresh("series"), np.repeat(np.arange(n), w))
        return self.framed(frame)

    def rejoin(self, raw: Any, x: Tensor) -> Any:
        """Windows [n, c, w] of `raw`, put back on its steps: where several overlap, their mean. In the form of `raw`;
        of a table its channels are replaced, and nothing else.
        """
        merged = self.merged(raw, self.values(x))
        if not hasattr(raw, "columns") and not is_arrow(raw):
            return merged.reshape(np.shape(raw)).astype(self.dtype if np.dtype(self.dtype).kind == "f" else "float64")
        table = as_frame(from_arrow(raw)).copy()
        for i, name in enumerate(self.channels):
            at = [str(c) for c in table.columns].index(name)
            table.isetitem(at, merged[:, i])
        return self.framed(table)

    def merged(self, raw: Any, values: np.ndarray) -> np.ndarray:
        """What belongs to the steps of windows [n, w, k] as what belongs to the rows of `raw`: the mean where windows
        overlap. [rows, k]
        """
        segments = self.segments(raw)
        out = np.empty((sum(len(s.rows) for s in segments), values.shape[2]))
        first = 0
        for segment in segments:
            starts = self.starts(len(segment.values))
            total = np.zeros((len(segment.values), values.shape[2]))
            count = np.zeros(len(segment.values))
            for window, start in zip(values[first : first + len(starts)], starts, strict=True):
                total[start : start + self.window] += window
                count[start : start + self.window] += 1
            out[segment.rows] = (total / count[:, None])[segment.places]
            first += len(starts)
        return out

    def fresh(self, name: str) -> str:
        """A name for a column beside the channels: this one, if none of them has it."""
        while name in self.channels:
            name += "_"
        return name

    def framed(self, frame: pd.DataFrame) -> Any:
        """A table in the library in which the data came."""
        if self.frame == "pyarrow":
            return to_arrow(frame)
        if self.frame == "polars":
            import polars

            return polars.from_pandas(frame)
        return frame

    def build(self, nets: Nets, dim: int) -> Built:
        shape = (len(self.channels), self.window)
        likelihood = Gaussian(self.scale, "channel").build(shape)
        body, width = nets.encoder(shape)
        decoder = nets.decoder(dim, likelihood.out_shape)
        return Built(_Encoder(shape[0], body), width, decoder, likelihood, shape)

    @property
    def nets(self) -> Nets:
        # On a processor fully connected nets learn small windows as well in a tenth of the time.
        small = len(self.channels) * self.window <= SMALL
        return Mlp((256, 256), residual=True) if small else Temporal()

    @property
    def room(self) -> int:
        return max(1, len(self.channels) * self.window // 4)

    @property
    def plain(self) -> bool:
        return True

    @property
    def summary(self) -> list[str]:
        head = f"windows of {self.window} steps, one every {self.stride}"
        flat = {c for c, low, high in zip(self.channels, self.lows, self.highs, strict=True) if low == high}
        ranges = [
            f"{c}: {'always ' if c in flat else ''}{low:g}{'' if c in flat else f' … {high:g}'}"
            for c, low, high in zip(self.channels, self.lows, self.highs, strict=True)
        ]
        return [head, *ranges]

    def cell_name(self, index: int) -> str:
        return f"channel {self.channels[index // self.window]!r} at step {index % self.window}"

    def log_volume(self, batch: Batch) -> Tensor:
        x = batch.x.double()
        scales = torch.tensor(self.scales, dtype=torch.float64)[:, None]
        volume = -scales.log() - (x.abs() - KNEE).clamp(min=0)
        return (volume if batch.observed is None else volume * batch.observed).flatten(1).sum(1)


class _Encoder(nn.Module):
    """Channels, with gaps bridged, -> the body; a channel of which nothing is there has a learned value."""

    def __init__(self, channels: int, body: nn.Module) -> None:
        super().__init__()
        self.gap = nn.Parameter(torch.zeros(channels, 1))
        self.body = body

    def features(self, batch: Batch) -> Tensor:
        """What the body sees."""
        return batch.x if batch.observed is None else bridged(batch.x, batch.observed, self.gap)

    def forward(self, batch: Batch) -> Tensor:
        return self.body(self.features(batch))


def bridged(x: Tensor, observed: Tensor, otherwise: Tensor) -> Tensor:
    """Series [b, c, w] with each gap as the straight line between its neighbours, at an end as the one that there is,
    and `otherwise` [c, 1] where there is none.
    """
    w = x.shape[-1]
    at = torch.arange(w, device=x.device).expand_as(x)
    last = at.masked_fill(~observed, -1).cummax(-1).values
    following = at.masked_fill(~observed, w).flip(-1).cummin(-1).values.flip(-1)
    left, right = x.gather(-1, last.clamp(min=0)), x.gather(-1, following.clamp(max=w - 1))
    way = (at - last) / (following - last).clamp(min=1)
    line = torch.where(last < 0, right, torch.where(following >= w, left, left + (right - left) * way))
    line = torch.where((last < 0) & (following >= w), otherwise, line)
    return torch.where(observed, x, line)
