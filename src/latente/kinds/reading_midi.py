"""MIDI files -> tunes, by way of a process that no file can harm."""

import contextlib
import importlib.util
import json
import queue
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from ..errors import ConfigError, DataError
from . import midi_worker
from .tunes import Tune, of_notes

LARGEST = 1 << 21  # bytes of a file: a song has 20,000, a symphony 500,000
_MEMORY = 1 << 30  # bytes for a process; 2 MB of the shortest events make 0.3 GB of mido's objects
_PROCESSOR, _WALL = 20, 60  # seconds a file


def midi_tunes(files: Iterable[tuple[str, bytes]], grid: int) -> Iterator[tuple[Tune | str, dict[str, Any]]]:
    """For each (name, content) of MIDI files its tune, or why there is none, and what else was found.

    Raises ConfigError if mido is not installed.
    """
    if importlib.util.find_spec("mido") is None:
        raise ConfigError("reading MIDI files needs mido, which is not installed", hint="pip install 'latente[music]'")
    worker: _Worker | None = None
    try:
        for name, data in files:
            if len(data) > LARGEST:
                yield f"it has {len(data):,} bytes, and at most {LARGEST:,} are read", {}
                continue
            worker = worker or _Worker(grid)
            answer = worker.ask(data)
            if answer is None:
                worker.close()
                worker = None
                yield "it takes too long, or too much memory", {}
            elif "error" in answer:
                yield str(answer["error"]), {}
            else:
                yield _tune(answer, name, grid)
    finally:
        if worker is not None:
            worker.close()


def _tune(answer: dict[str, Any], name: str, grid: int) -> tuple[Tune | str, dict[str, Any]]:
    try:
        pitch, start, length, steps = (answer.pop(key) for key in ("pitch", "start", "length", "steps"))
        bar, tempo = answer.pop("bar"), answer.pop("tempo")
        return of_notes(pitch, start, length, steps, name=name, grid=grid, bar=bar, tempo=tempo), answer
    except DataError as error:
        return error.problem, {}


class _Worker:
    """A process that parses one file at a time."""

    def __init__(self, grid: int) -> None:
        # By its file and with -P, so that no module in the working directory stands in for another.
        command = [sys.executable, "-P", str(Path(midi_worker.__file__)), str(grid), str(_MEMORY), str(_PROCESSOR)]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        self.answers: queue.Queue[bytes] = queue.Queue()
        # A thread: pipes cannot be waited for with a time limit everywhere.
        self.listener = threading.Thread(target=self._listen, daemon=True)
        self.listener.start()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as out:
            for line in out:
                self.answers.put(line)
        self.answers.put(b"")

    def ask(self, data: bytes) -> dict[str, Any] | None:
        """What it found in a file; None if it died or took too long."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(len(data).to_bytes(8, "big") + data)
            self.process.stdin.flush()
            line = self.answers.get(timeout=_WALL)
            return json.loads(line) if line else None
        except (OSError, queue.Empty, ValueError):
            return None

    def close(self) -> None:
        self.process.kill()
        with contextlib.suppress(OSError):
            if self.process.stdin is not None:
                self.process.stdin.close()
        self.process.wait()
        self.listener.join()
