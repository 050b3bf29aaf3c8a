"""Being asked to stop: Ctrl-C and SIGTERM wait for the end of a step, so that what is kept is whole."""

import os
import signal
import threading
from types import FrameType
from typing import Any

from .team import ALONE, Team

_SIGNALS = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}


class Stop:
    """`asked` is why the run shall stop, or "". A second Ctrl-C does not wait.

    In a team all processes learn of it in the same step: one that stopped alone would leave the others waiting.
    """

    REASONS = tuple(_SIGNALS.values())

    def __init__(self, team: Team = ALONE) -> None:
        self.team, self.asked = team, ""
        self._heard = ""
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "Stop":
        if threading.current_thread() is threading.main_thread():
            self._before = {s: signal.signal(s, self._hear) for s in _SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for which, handler in self._before.items():
            signal.signal(which, handler)

    def agreed(self, seconds: float) -> float:
        """The time by which the team goes; `asked` is brought up to date."""
        if self.team.size == 1:
            self.asked = self._heard
            return seconds
        latest, reason = self.team.largest([seconds, float((*("",), *self.REASONS).index(self._heard))])
        self.asked = ("", *self.REASONS)[int(reason)]
        return latest

    def _hear(self, number: int, frame: FrameType | None) -> None:
        if self._heard:
            raise KeyboardInterrupt
        self._heard = _SIGNALS[signal.Signals(number)]
        # Not print: a handler may have come between two halves of one.
        os.write(2, b"\nstopping after this step, and keeping what was learned; once more to stop at once\n")
