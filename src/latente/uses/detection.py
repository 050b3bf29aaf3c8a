"""Which rows are strange, how sure that is, and why: alarms from a model and what it learned for `detect`."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch

from ..errors import ConfigError, DataError
from ..estimator import Autoencoder
from ..kinds.columns import Column, to_numbers
from ..kinds.series import Series
from ..kinds.sources import Read, Source
from ..kinds.table import Table, as_frame
from ..model import sparse
from ..model.batch import Batch
from ..model.dists.base import as_mask
from .learned import calibration
from .learned.anomaly import FEWEST, Anomaly, Detector, Scored, features, kept, observed_features
from .reasons import named

if TYPE_CHECKING:
    from .steps import StepAlarms


def detector_of(ae: Autoencoder, normal: Any = None, score: str = "auto") -> Detector:
    """The detector in a model, or of any other model one that is calibrated on `normal` rows, by its word alone.

    Raises ConfigError if there is neither.
    """
    ae._require_fitted()
    if isinstance(ae.use_, Detector) and normal is None:
        if score not in ("auto", ae.use_.use.score):
            raise ConfigError(f"this detector's score is {ae.use_.use.score!r}", hint="leave --score out")
        return ae.use_
    if normal is None:
        raise ConfigError(
            "this model does not know how strange an ordinary row is",
            hint="--normal ROWS, ordinary rows that it was not fitted on; or latente fit DATA --recipe anomaly",
        )
    use = Anomaly(1.0, 0.0, 0.0, score, contaminated=False)  # type: ignore[arg-type]
    own = ae.use_ if isinstance(ae.use_, Detector) else Detector(use, ae.model_, ae.schema_, None, None)
    rows = joined(list(ae.batches(normal)))
    if len(rows) < FEWEST:
        raise ConfigError(f"{len(rows)} ordinary rows are too few to be measured by", hint=f"give {FEWEST} or more")
    made = own.calibrated(rows)
    if isinstance(ae.schema_, Series):
        made = made.in_time(ae.rows(normal), rows, None if own.steps is None else own.steps.windows)
    return made


def joined(parts: list[Batch]) -> Batch:
    """Batches as one."""
    masks = [as_mask(b) for b in parts]
    whole = all(b.observed is None for b in parts)
    return Batch(torch.cat([sparse.dense(b.x) for b in parts]), None if whole else torch.cat(masks))


@dataclass(frozen=True, eq=False, repr=False)
class Alarms:
    """Rows, scored: `found` [n] are the alarms. rows are prepared, raw is the data as they came."""

    ae: Autoencoder
    detector: Detector
    rows: Batch
    scored: Scored
    found: np.ndarray
    raw: Any

    def __repr__(self) -> str:
        return f"Alarms({len(self.found):,} rows, {int(self.found.sum()):,} alarms)"

    def table(self, every: bool = False, first: int = 0) -> pd.DataFrame:
        """A line an alarm, or a row if `every`: row (from `first`), score, p_value, alarm, why. The strangest are not
        first: rows stay in their order.
        """
        which = np.arange(len(self.found)) if every else np.flatnonzero(self.found)
        frame = pd.DataFrame(
            {
                "row": which + first,
                "score": self.scored.score[which].round(4),
                "p_value": self.scored.p[which].round(6),
                "alarm": self.found[which],
            }
        )
        for name, scores in self.scored.parts.items():
            if len(self.scored.parts) > 1:
                frame[name] = scores[which].round(4)
        frame["why"] = self.why(which)
        return frame

    def contributions(self) -> pd.DataFrame:
        """Of each row what each column adds to its score: a line sums to it. [rows × modelled columns]"""
        names = [name_of(self.ae, i) for i in range(self.scored.shares.shape[1])]
        return pd.DataFrame(self.scored.shares * self.scored.score[:, None], columns=names)

    def why(self, which: np.ndarray) -> list[str]:
        """In words, of each of these rows: the columns that add most to its score, what was seen there and what was
        expected, with the usual difference between the two.
        """
        if not len(which):
            return []
        some = self.rows.rows(torch.from_numpy(which))
        expected = self.detector.expected(some)
        columns = self.ae.schema_.modelled if isinstance(self.ae.schema_, Table) else None
        shares = self.scored.shares[which]
        told = {} if columns is None else self._told(columns, some, expected, which)
        lines = []
        for i in range(len(which)):
            words: list[str] = []
            for j in named(shares[i]):
                what = told[j][i] if columns else f"{float(some.x.flatten(1)[i, j]):.3g}"
                words.append(f"{name_of(self.ae, j)} {what} ({shares[i, j]:.0%})")
            lines.append("; ".join(words))
        return lines

    def _told(self, columns: list[Column], some: Batch, expected: Any, which: np.ndarray) -> dict[int, list[str]]:
        """Of each column of a table, in words, what was seen in these rows and what was expected."""
        seen, frame = some.x.numpy(), None if isinstance(self.raw, Source) else as_frame(self.raw)
        there = np.ones(seen.shape, bool) if some.observed is None else some.observed.numpy()
        guess, spread = expected.numpy(), self.detector.spread
        found = {}
        for j, column in enumerate(columns):
            own, model = column.decode(seen[:, j]), column.decode(guess[:, j])
            if frame is not None:  # as it came: a value outside the training data's range is cut off in the model
                labels = [str(c) for c in frame.columns]
                own = frame.iloc[which, labels.index(str(column.label)) if str(column.label) in labels else j]
            wide: Any = None
            if pd.api.types.is_numeric_dtype(model) and not pd.api.types.is_bool_dtype(model):
                ends = [to_numbers(column.decode(guess[:, j] + s * spread[j]), column.label) for s in (-1, 1)]
                wide = (ends[1] - ends[0]) / 2
            found[j] = [
                _said(_shown(a) if here else "missing", _shown(b), None if wide is None else wide[i])
                for i, (a, b, here) in enumerate(zip(own.tolist(), model.tolist(), there[:, j], strict=True))
            ]
        return found


def detect(
    detector: Detector,
    ae: Autoencoder,
    data: Any,
    *,
    fdr: float | None = None,
    threshold: float | None = None,
) -> "Alarms | StepAlarms":
    """Rows, scored, and which of them are alarms: those that `fdr` allows, or above the threshold."""
    if fdr is not None and threshold is not None:
        raise ConfigError("alarms are chosen by a rate or by a threshold", hint="leave out one: --fdr or --threshold")
    checked(fdr, threshold)
    raw = ae.rows(data)
    rows = joined(list(ae.prepared(raw)))
    if isinstance(ae.schema_, Series):
        from .steps import by_step

        return by_step(detector, ae.schema_, raw, rows, fdr, threshold)
    scored = detector.score(rows)
    if fdr is not None:
        found = calibration.discoveries(scored.p, fdr)
    else:
        found = scored.score > (detector.threshold if threshold is None else threshold)
    return Alarms(ae, detector, rows, scored, found, raw)


def checked(fdr: Any, threshold: Any) -> None:
    """Refuse a rate or a threshold that is none. Raises ConfigError."""
    if fdr is not None and (not isinstance(fdr, (int, float)) or not 0 < fdr < 1):
        raise ConfigError(f"a rate of false alarms lies between 0 and 1, not {fdr!r}", hint="--fdr 0.05")
    number = isinstance(threshold, (int, float, np.number)) and not np.isnan(threshold)
    if threshold is not None and threshold != "auto" and not number:
        raise ConfigError(f"a threshold is 'auto' or a number, not {threshold!r}", hint="leave --threshold out")


def nearest(detector: Detector, ae: Autoencoder, alarms: Alarms, normal: Any) -> np.ndarray:
    """Of each alarm the number of the most alike among the nine tenths of `normal` that are least strange; −1 for rows
    that are no alarms. [n]
    """
    known = joined(list(ae.batches(normal)))
    score = detector.score(known).score
    usual = np.flatnonzero(score <= np.quantile(score, 0.9))
    x = features(ae.model_, known.rows(torch.from_numpy(usual)))
    which = np.flatnonzero(alarms.found)
    found = np.full(len(alarms.found), -1)
    for start in range(0, len(which), 256):
        some = alarms.rows.rows(torch.from_numpy(which[start : start + 256]))
        own, seen = features(ae.model_, some), observed_features(ae.model_, some)
        there = torch.ones_like(own) if seen is None else seen.float()
        # Missing numbers of the alarm are 0 and count nothing.
        square = own.square().sum(1, keepdim=True) + there @ x.square().T - 2 * own @ x.T
        found[which[start : start + 256]] = usual[square.argmin(1).numpy()]
    return found


def name_of(ae: Autoencoder, cell: int) -> str:
    """What a cell is called in a table of alarms: a column by its name."""
    if isinstance(ae.schema_, Table):
        return str(ae.schema_.modelled[cell].label)
    return ae.schema_.cell_name(cell)


def _said(seen: str, expected: str, wide: float | None) -> str:
    if seen == expected:
        return f"{seen}, as expected"  # by itself: what is rare is the row
    return f"{seen}, expected {expected}" + (f" ± {wide:.2g}" if wide else "")


def _shown(value: Any) -> str:
    if isinstance(value, (float, np.floating)):
        return f"{value:.4g}"
    return str(value)


def more_known(detector: Detector, ae: Autoencoder, data: Any) -> Detector:
    """The detector with the scores of more ordinary rows to measure by."""
    raw = ae.rows(data)
    rows = joined(list(ae.prepared(raw)))
    made = detector.with_known(detector.score(rows).score)
    if detector.steps is None:
        return made
    known = kept([*detector.steps.known, *detector.steps.score(detector.seen(raw, rows))[0]])
    return replace(made, steps=replace(detector.steps, known=known))


def one_row(ae: Autoencoder, data: Any) -> Read:
    """One row: a dict or a series by column name, in any order, or a sequence in the model's order.

    Raises DataError if they are several, ConfigError for a model of series.
    """
    if isinstance(ae.schema_, Series):
        raise ConfigError(
            "a row of a series is judged by the windows that hold it",
            hint="detect(series); latente detect MODEL - --follow",
        )
    names = [c.label for c in ae.schema_.columns] if isinstance(ae.schema_, Table) else []
    if isinstance(data, dict):
        frame = pd.DataFrame([data])
    elif isinstance(data, pd.Series):
        frame = data.to_frame().T.infer_objects()
    elif hasattr(data, "columns"):
        frame = as_frame(data)
    else:
        array = np.atleast_2d(np.asarray(data, object))
        frame = pd.DataFrame(array, columns=names if len(names) == array.shape[1] else None).infer_objects()
    if len(frame) != 1:
        raise DataError(f"one row is asked for, and {len(frame):,} are given", hint="detect(rows).table(every=True)")
    return Read(frame)
