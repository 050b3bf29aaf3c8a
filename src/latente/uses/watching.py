"""A series that comes row by row: each row is answered as soon as all windows that hold it are there."""

import warnings
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from ..errors import DataError, LatenteError
from ..estimator import Autoencoder
from ..kinds.base import DataWarning
from ..kinds.columns import to_numbers
from ..kinds.segments import seconds
from ..kinds.series import BREAK, Series
from ..kinds.sources import Read
from . import detection
from .drift import Drift
from .learned.anomaly import Detector


@dataclass(eq=False)
class Watch:
    """One series as it comes. A row at step t is answered when step t + window − 1 is there at the latest, with the
    numbers that it has in a file, but for the last rows before an end or a long break: there a file has one window
    more, which ends with it.
    """

    ae: Autoencoder
    detector: Detector
    threshold: float | None
    drift: Drift
    rows: list[pd.DataFrame] = field(default_factory=list)
    places: list[int] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)
    began: float = 0.0
    due: int = 0  # the first step that is not answered
    count: int = 0

    def add(self, row: pd.DataFrame) -> list[dict[str, Any]]:
        """One more row; the answers to those before it, if a long break lies between. Raises DataError if it comes from
        the past.
        """
        answers = list[dict[str, Any]]()
        number, self.count = self.count, self.count + 1
        row = self._checked(row)
        place = self._place(row)
        # A stamp from far away begins a new stretch, whichever way: the next one may be right again.
        if self.places and abs(place - self.places[-1]) > BREAK * self._kind.window:
            answers = self.end()
            place = self._place(row)
        if self.places and place < self.places[-1]:
            raise DataError(f"row {number}: time goes backwards", hint="rows in the order of their time")
        self.rows.append(row)
        self.places.append(place)
        self.numbers.append(number)
        return answers

    def ready(self) -> list[dict[str, Any]]:
        """The answers to the rows of which all windows are there."""
        kind, last = self._kind, self.places[-1] if self.places else -1
        whole = last - self.due - kind.window + 1
        if whole < 0:
            return []
        until = self.due + (whole // kind.stride + 1) * kind.stride
        answers = self._answer(until - kind.stride + kind.window - 1, until)
        self.due = until
        self._forget()
        return answers

    def end(self) -> list[dict[str, Any]]:
        """The answers to the rows that wait, when no more will come; none if there never was a whole window."""
        last = self.places[-1] if self.places else -1
        answers = []
        if last >= self._kind.window - 1:
            answers = self._answer(last, last + 1)
        else:
            short = DataError(
                f"a stretch of {last + 1} steps is shorter than the model's window of {self._kind.window}"
            )
            answers = [unread(number, short) for number in self.numbers]
        self.rows, self.places, self.numbers, self.due = [], [], [], 0
        return answers

    def _answer(self, last: int, until: int) -> list[dict[str, Any]]:
        """Rows of steps from `due` to before `until`, by the windows up to step `last`."""
        kind = self._kind
        # The first window that holds `due`, in step with those of the whole series.
        first = -(-max(0, self.due - kind.window + 1) // kind.stride) * kind.stride
        which = [i for i, place in enumerate(self.places) if first <= place <= last]
        frame = pd.concat([self.rows[i] for i in which], ignore_index=True)
        places = np.array([self.places[i] for i in which])
        frame, ends = self._with_ends(frame, places, first, last)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DataWarning)  # it would be said again and again
                found = detection.detect(self.detector, self.ae, Read(frame), threshold=self.threshold)
        except LatenteError as error:  # nothing is there: what comes later may be
            return [unread(self.numbers[i], error) for i in which if self.due <= self.places[i] < until]
        table, answers = found.table(every=True), []
        for line, i in zip(table.to_dict("records")[ends:], which, strict=False):
            if self.due <= self.places[i] < until:
                told = {str(k): v for k, v in line.items() if k != "time"} | {"row": self.numbers[i]}
                answers.append(told | {"drift": self.drift.update(float(told["p_value"]))})
        return answers

    def _with_ends(self, frame: pd.DataFrame, places: np.ndarray, first: int, last: int) -> tuple[pd.DataFrame, int]:
        """The rows with an empty one at the first and the last step if none is there; how many stand before them."""
        when = self._when(frame)
        if when is None:
            return frame, 0
        missing = [(first, places[0] > first), (last, places[-1] < last)]
        more = [[self.began + place * self._kind.every] * int(gone) for place, gone in missing]
        for times, at in zip(more, (0, len(frame)), strict=True):
            for time in times:
                blank = frame.iloc[:1].assign(**dict.fromkeys(self._kind.channels, np.nan))
                numeric = pd.api.types.is_numeric_dtype(frame[when])
                blank[when] = time if numeric else pd.Timestamp(round(time * 1e6), unit="us")
                frame = pd.concat([blank, frame] if at == 0 else [frame, blank], ignore_index=True)
        return frame, len(more[0])

    def _checked(self, row: pd.DataFrame) -> pd.DataFrame:
        """The row's time and channels as numbers. Raises DataError for what is none."""
        absent = [c for c in self._kind.channels if c not in row.columns]
        if absent:
            raise DataError(f"channel {absent[0]!r} of the model is not there", hint="the first line is of names")
        when = self._when(row)
        found = pd.DataFrame({c: to_numbers(row[c], c) for c in self._kind.channels})
        if when is not None:
            numeric = pd.api.types.is_numeric_dtype(row[when])
            times = seconds(row[when], when)
            found.insert(0, when, times if numeric else pd.to_datetime(np.round(times * 1e6), unit="us"))
        return found

    def _place(self, row: pd.DataFrame) -> int:
        when = self._when(row)
        if when is None or not self._kind.every:
            return self.places[-1] + 1 if self.places else 0
        at = float(seconds(row[when], when)[0])
        if not self.places:
            self.began = at
        return round((at - self.began) / self._kind.every)

    def _when(self, frame: pd.DataFrame) -> str | None:
        return self._kind.when(frame)

    def _forget(self) -> None:
        """Let go of rows that no later answer needs."""
        kept = next((i for i, place in enumerate(self.places) if place > self.due - self._kind.window), 0)
        self.rows, self.places, self.numbers = self.rows[kept:], self.places[kept:], self.numbers[kept:]

    @property
    def _kind(self) -> Series:
        assert isinstance(self.ae.schema_, Series)
        return self.ae.schema_


def unread(row: int, error: LatenteError) -> dict[str, Any]:
    """The answer to a row of which nothing can be said."""
    return {"row": row, "score": None, "p_value": None, "alarm": None, "why": f"error: {error.problem}", "drift": False}
