"""Rows that come one after the other: each is answered at once, with the numbers that it would have in a file."""

import os
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from ..errors import ConfigError, DataError, LatenteError
from ..estimator import Autoencoder
from ..kinds.base import DataWarning
from ..kinds.reading_csv import of_lines
from ..kinds.series import Series
from ..kinds.sources import Read
from . import detection
from .drift import Drift
from .learned.anomaly import Detector
from .watching import Watch, unread

# Seconds between two looks at a file that grows, and lines that are answered together if so many have come.
LOOK, MOST = 0.1, 1000


def follow(ae: Autoencoder, detector: Detector, data: Any, threshold: float | None) -> Iterator[dict[str, Any]]:
    """A line for each row of a csv that grows, or of stdin ("-"), until it ends: see `detect`. Files do not end.

    A row that cannot be read is answered with what is wrong with it, in `why`, and the next one follows.
    """
    if not isinstance(ae.schema_, Series):
        return _answers(ae, detector, data, threshold)
    if ae.schema_.id:
        raise ConfigError("one series is followed at a time", hint="a model of one entity, or leave --follow out")
    if detector.steps is None:
        raise ConfigError("this model does not know how strange an ordinary step is", hint="--normal SERIES")
    return _watched(Watch(ae, detector, threshold, Drift()), data)


def _watched(watch: Watch, data: Any) -> Iterator[dict[str, Any]]:
    for head, chunk in _chunks(data):
        for line in chunk:
            number = watch.count
            try:
                yield from watch.add(of_lines(head, [line], str(data)))
            except LatenteError as error:
                watch.count = number + 1
                yield unread(number, error)
        yield from watch.ready()
    if not watch.count:
        raise DataError("no row came", hint="a row of names first, then a line for each row")
    yield from watch.end()


def _answers(ae: Autoencoder, detector: Detector, data: Any, threshold: float | None) -> Iterator[dict[str, Any]]:
    drift, nothing = Drift(), True
    for head, chunk in _chunks(data):
        nothing = False
        try:
            yield from _found(ae, detector, head, chunk, threshold, drift, str(data))
        except LatenteError as error:
            if len(chunk) == 1:
                yield _unread(detector, drift, error)
                continue
            # One of them is at fault: each by itself.
            for line in chunk:
                try:
                    yield from _found(ae, detector, head, [line], threshold, drift, str(data))
                except LatenteError as own:
                    yield _unread(detector, drift, own)
    if nothing:
        raise DataError("no row came", hint="a row of names first, then a line for each row")


def _found(
    ae: Autoencoder,
    detector: Detector,
    head: bytes,
    chunk: list[bytes],
    threshold: float | None,
    drift: Drift,
    name: str,
) -> list[dict[str, Any]]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)  # it would be said of every line
        found = detection.detect(detector, ae, Read(of_lines(head, chunk, name)), threshold=threshold)
    return lines(found.table(every=True, first=drift.rows), drift)


def _unread(detector: Detector, drift: Drift, error: LatenteError) -> dict[str, Any]:
    """The answer to a row that cannot be read; it counts as a row, and says nothing of drift."""
    drift.rows += 1
    parts = dict.fromkeys(detector.scales, None) if len(detector.scales) > 1 else {}
    empty = {"row": drift.rows - 1, "score": None, "p_value": None, "alarm": None, **parts}
    return {**empty, "why": f"error: {error.problem}", "drift": False}


def lines(table: pd.DataFrame, drift: Drift) -> list[dict[str, Any]]:
    """The lines of a table of alarms as dicts, each with whether the rows of late are not what they were."""
    found: list[dict[str, Any]] = []
    for record in table.to_dict("records"):
        line = {str(k): v for k, v in record.items()}
        found.append(line | {"drift": drift.update(float(line["p_value"]))})
    return found


def _chunks(data: Any) -> Iterator[tuple[bytes, list[bytes]]]:
    """The header, and the whole lines that have come since the last time."""
    head, part = b"", b""
    for piece in _from_stdin() if str(data) == "-" else _from_file(Path(str(data))):
        if piece is None:  # the file was begun anew
            head = part = b""
            continue
        *whole, part = (part + piece).split(b"\n")
        waiting = [line + b"\n" for line in whole if line.strip()]
        if waiting and not head:
            head = waiting.pop(0).removeprefix(b"\xef\xbb\xbf")
        for start in range(0, len(waiting), MOST):
            yield head, waiting[start : start + MOST]
    if part.strip() and head:
        yield head, [part + b"\n"]


def _from_stdin() -> Iterator[bytes | None]:
    while piece := sys.stdin.buffer.read1(1 << 20):  # type: ignore[union-attr]
        yield piece


def _from_file(path: Path) -> Iterator[bytes | None]:
    try:
        stream = path.open("rb")
    except OSError as error:
        raise DataError(f"{path} cannot be followed: {error.strerror}", hint="latente detect MODEL - < FILE") from None
    with stream:
        while True:
            piece = stream.read(1 << 20)
            if piece:
                yield piece
                continue
            if os.fstat(stream.fileno()).st_size < stream.tell():
                stream.seek(0)
                yield None
            time.sleep(LOOK)
