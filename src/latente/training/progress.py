"""The progress line, on stderr.

epoch 12/50 · 3m10s left · val −ELBO 84.1 ↓ best · rec 61.0 · KL 23.1 nats · active 14/16 · 18.2k rows/s · 1.2 GB
"""

import resource
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from .loop import History

# Seconds between two lines where the line cannot be rewritten: a log file, a pipe.
QUIET = 10.0


def printer(stream: TextIO | None = None) -> Callable[[dict[str, Any], "History"], None]:
    """A `report` for `train`: one line that is rewritten on a terminal, a line now and then elsewhere."""
    stream = stream or sys.stderr
    last = [-QUIET]

    def report(row: dict[str, Any], history: "History") -> None:
        if "doing" in row:  # of what is learned beside the model: what begins now
            stream.write(("\r\x1b[2K" if stream.isatty() else "") + f"{row['beside']}: {row['doing']}\n")
            stream.flush()
            return
        text = line(row, history)
        if "doctor" in row:
            stream.write(("\r\x1b[2K" if stream.isatty() else "") + f"doctor: {row['doctor']}\n")
        if stream.isatty():
            stream.write(f"\r\x1b[2K{text}" + ("\n" if history.ended or row["share"] >= 1 else ""))
        elif time.monotonic() - last[0] >= QUIET or history.ended or row["share"] >= 1:
            last[0] = time.monotonic()
            stream.write(text + "\n")
        stream.flush()

    return report


class Passed:
    """Says on stderr, now and then, how many of `total` rows a long pass over data has done; a short one is silent.

    what: what is counted, if not rows.
    """

    def __init__(self, total: int, quiet: bool, stream: TextIO | None = None, what: str = "rows") -> None:
        self.total, self.quiet, self.stream, self.what = total, quiet, stream or sys.stderr, what
        self.rows, self.start = 0, time.monotonic()
        self.last = self.start

    def __call__(self, rows: int) -> None:
        """So many more are done."""
        self.rows += rows
        now = time.monotonic()
        if not self.quiet and now - self.last >= QUIET and self.rows < self.total:
            self.last = now
            left = (now - self.start) / self.rows * (self.total - self.rows)
            self.say(f"{self.rows:,} of {self.total:,} {self.what} · {duration(left)} left")

    def say(self, text: str) -> None:
        """What begins now, where it may take long."""
        if not self.quiet:
            self.stream.write(text + "\n")
            self.stream.flush()


def line(row: dict[str, Any], history: "History") -> str:
    """One evaluation in words. Losses in nats per row."""
    done = row["share"]
    # A fraction of an epoch is said as one; a time limit may be passed by a step.
    digits = 0 if row["epoch"] >= 1 else 2
    total = f"/{row['epoch'] / min(done, 1.0):.{digits}f}" if done > 0 else ""
    left = row["seconds"] * max(0.0, 1 - done) / max(done, 1e-9)
    beside = f"{row['beside']}: " if "beside" in row else ""
    pieces = [f"{beside}epoch {row['epoch']:.{digits}f}{total}", f"{duration(left)} left"]
    part, where = (row["val"], "val ") if "val" in row else (row["train"], "")
    # A loss that weighs its parts, or one of several draws, is no −ELBO.
    bound = "kl" in part and abs(part["loss"] - part["rec"] - part["kl"]) <= 1e-3 * max(1.0, abs(part["loss"]))
    name = "−ELBO" if bound else "loss"
    pieces.append(f"{where}{name} {part['loss']:.1f}{' ↓ best' if row.get('best') else ''}")
    pieces.append(f"rec {part['rec']:.1f}")
    pieces += [f"{'KL' if k == 'kl' else k} {v:.1f}" for k, v in part.items() if k not in ("loss", "rec")]
    pieces[-1] += " nats"
    if "active" in row:
        pieces.append(f"active {row['active']}/{row['dim']}")
    rows = history.training_rows * row["epoch"]
    pieces.append(f"{count(rows / max(row['seconds'], 1e-9))} rows/s")
    pieces.append(f"{memory():.1f} GB")
    return " · ".join(pieces)


def duration(seconds: float) -> str:
    """3m10s, 1h02m, 12s."""
    s = round(seconds)
    if s >= 3600:
        return f"{s // 3600}h{s % 3600 // 60:02d}m"
    return f"{s // 60}m{s % 60:02d}s" if s >= 60 else f"{s}s"


def count(n: float) -> str:
    """18.2k, 950, 2.1M."""
    for size, letter in ((1e6, "M"), (1e3, "k")):
        if n >= size:
            return f"{n / size:.1f}{letter}"
    return f"{n:.0f}"


def memory() -> float:
    """The largest resident set of this process so far, in GB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1e9 if sys.platform == "darwin" else 1e6)
