"""Rows that come one after the other: each is answered at once, with the numbers that it would have in a file."""

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from ..errors import ConfigError, DataError
from ..estimator import Autoencoder
from ..kinds.reading_csv import delimiter_of, of_text
from ..kinds.series import Series
from . import detection
from .drift import Drift
from .learned.anomaly import Detector

# Seconds between two looks at a file that grows, and lines that are answered together if so many have come.
LOOK, MOST = 0.1, 1000


def follow(ae: Autoencoder, detector: Detector, data: Any, threshold: float | None) -> Iterator[dict[str, Any]]:
    """A line for each row of a csv that grows, or of stdin ("-"), until it ends: see `detect`. Files do not end."""
    if isinstance(ae.schema_, Series):
        raise ConfigError("series are answered by whole windows, not line by line", hint="leave --follow out")
    drift = Drift()
    for head, lines in _chunks(data):
        text = b"".join([head, *lines])
        # Each chunk is read by itself: what the first lines look like must not decide how later ones are read.
        frame = of_text(
            text, str(data), header="yes", delimiter=delimiter_of(head, str(data), None), missing=("?",), note=_quiet
        )
        found = detection.detect(detector, ae, frame, threshold=threshold)
        yield from lines_of(found, drift)


def lines_of(alarms: Any, drift: Drift) -> list[dict[str, Any]]:
    """The rows of a stream as dicts, numbered on from those before them, with `drift`."""
    return lines(alarms.table(every=True, first=drift.rows), drift)


def lines(table: pd.DataFrame, drift: Drift) -> list[dict[str, Any]]:
    """The lines of a table of alarms as dicts, each with whether the rows of late are not what they were."""
    found: list[dict[str, Any]] = []
    for record in table.to_dict("records"):
        line = {str(k): v for k, v in record.items()}
        found.append(line | {"drift": drift.update(float(line["p_value"]))})
    return found


def _chunks(data: Any) -> Iterator[tuple[bytes, list[bytes]]]:
    """The header, and the whole lines that have come since the last time."""
    head = b""
    waiting: list[bytes] = []
    for line in _lines(data):
        if line and not head:
            head = line
        elif line.strip():
            waiting.append(line)
        if waiting and (not line or len(waiting) >= MOST):
            yield head, waiting
            waiting = []
    if waiting:
        yield head, waiting


def _lines(data: Any) -> Iterator[bytes]:
    """Whole lines as they come; b"" where there is none yet."""
    if str(data) == "-":
        for line in sys.stdin.buffer:
            yield line if line.endswith(b"\n") else line + b"\n"
            yield b""
        return
    path = Path(str(data))
    try:
        stream = path.open("rb")
    except OSError as error:
        raise DataError(f"{path} cannot be followed: {error.strerror}", hint="latente detect MODEL - < FILE") from None
    with stream:
        part = b""
        while True:
            piece = stream.readline()
            part += piece
            if part.endswith(b"\n"):
                yield part.removeprefix(b"\xef\xbb\xbf")
                part = b""
            elif not piece:
                yield b""
                time.sleep(LOOK)


def _quiet(_: str) -> None:
    """What a reader remarks of a chunk is said nowhere: it would be said of every line."""
