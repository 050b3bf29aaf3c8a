"""The processes that train one model together, by torch's own engine.

`torchrun` starts them (RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR, MASTER_PORT), or `start` does on one machine. Each
takes its own rows of every batch; gradients and losses are means over all; one process, the leader, writes.
"""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from types import FrameType
from typing import Any

from ..errors import ConfigError, ResourceError

# Seconds that the processes wait for each other: a machine that is busy reading may take its time.
PATIENCE = 1800
# Seconds that the others have to end when one has failed, and when all were asked to stop: the leader writes a model.
GRACE, STOPPING = 5, 600
# The exit code of a process that was asked to stop.
INTERRUPTED = 130
# Between two looks at whether all processes live.
LOOK = 0.1
# Seconds in which a process that was killed is gone, on a machine however busy.
SETTLING = 5
# What the engine says when another process is gone.
_GONE = ("Connection closed by peer", "Connection reset by peer", "Broken pipe", "Socket Timeout", "NCCL", "Timed out")


@dataclass(frozen=True)
class Team:
    """rank: this process's number. size: how many there are. sharding: "none", each holds the whole model; "full", each
    holds its share of weights, gradients and moments.
    """

    rank: int = 0
    size: int = 1
    sharding: str = "none"

    @property
    def leads(self) -> bool:
        """Whether this process is the one that writes."""
        return self.rank == 0

    def largest(self, numbers: list[float]) -> list[float]:
        """The largest of each number over all processes."""
        import torch
        import torch.distributed as dist

        values = torch.tensor(numbers, dtype=torch.float64, device=_device())
        dist.all_reduce(values, dist.ReduceOp.MAX)
        return values.tolist()

    def total(self, values: Any) -> Any:
        """The sum of a tensor over all processes, in place."""
        if self.size > 1:
            import torch.distributed as dist

            dist.all_reduce(values)
        return values

    def gathered(self, value: Any) -> list[Any]:
        """A small value of each process, by rank."""
        if self.size == 1:
            return [value]
        import torch.distributed as dist

        found: list[Any] = [None] * self.size
        dist.all_gather_object(found, value)
        return found


ALONE = Team()


def called() -> bool:
    """Whether this process was started as one of several."""
    size = os.environ.get("WORLD_SIZE", "1")
    return not size.isdigit() or int(size) > 1


@contextmanager
def joined(sharding: str = "none") -> Iterator[Team]:
    """The team that this process was started for; a process started alone is a team of its own.

    Raises ResourceError if another process is lost, ConfigError for an environment that is not torchrun's.
    """
    if sharding not in ("none", "full"):
        raise ConfigError(f"sharding is 'none' or 'full', not {sharding!r}")
    if not called():
        yield Team(sharding="none")
        return
    import torch
    import torch.distributed as dist

    try:
        rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
        local = int(os.environ.get("LOCAL_RANK", rank))
        if not (0 <= rank < size and os.environ["MASTER_ADDR"] and int(os.environ["MASTER_PORT"]) > 0):
            raise ValueError(f"RANK={rank} of WORLD_SIZE={size}")
    except (KeyError, ValueError) as error:
        raise ConfigError(
            f"WORLD_SIZE is set, and the rest is not as torchrun sets it: {error}",
            hint="torchrun --nproc-per-node 2 -m latente fit …, or unset WORLD_SIZE",
        ) from None
    cuda = torch.cuda.is_available()
    if cuda:
        torch.cuda.set_device(local % torch.cuda.device_count())
    try:
        dist.init_process_group("nccl" if cuda else "gloo", timeout=timedelta(seconds=PATIENCE))
        yield Team(rank, size, sharding)
    except (RuntimeError, ConnectionError) as error:
        said = next((sign for sign in _GONE if sign in str(error)), None)
        if said is None:
            raise
        raise ResourceError(
            f"process {rank} of {size} lost another one ({said.lower()})",
            hint="see what the others said; the run's checkpoints are whole: latente resume RUN",
        ) from None
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


def start(command: list[str], processes: int, run: Any) -> None:
    """Run a command of latente on a run, in so many processes of this machine, until all are done.

    Raises ResourceError, after ending the others, if one dies. An error of its own it has told by itself: the exit code
    of this process is then that one's.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    base = os.environ | {
        "LATENTE_TEAM": "1",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": str(processes),
    }
    # Two cores and two processes: one thread each, unless the user says otherwise.
    threads = str(max(1, (os.cpu_count() or 1) // processes))
    base = {"OMP_NUM_THREADS": threads} | base
    with ExitStack() as stack:
        # What the others say is of use only if they know of an error that the leader does not.
        said = [stack.enter_context(tempfile.TemporaryFile("w+")) for _ in range(processes)]
        team = [
            subprocess.Popen(
                [sys.executable, "-m", "latente", *command],
                env=base | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
                stdout=None if rank == 0 else said[rank],
                stderr=None if rank == 0 else said[rank],
                preexec_fn=_end_with_parent if sys.platform == "linux" else None,  # noqa: PLW1509 - no locks in it
            )
            for rank in range(processes)
        ]
        rank, code = _watched(team)
        if rank > 0:
            said[rank].seek(0)
            print(said[rank].read()[-2000:], end="", file=sys.stderr)
    if code < 0:
        raise ResourceError(
            f"process {rank} of {processes} was ended by signal {-code}, and the others were stopped",
            hint=f"latente resume {run}",
        )
    if code:
        raise SystemExit(code)


def _end_with_parent() -> None:
    """Ask the kernel to end this process when the one that started it is killed."""
    import ctypes

    ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # 1: PR_SET_PDEATHSIG


def _watched(team: list["subprocess.Popen[bytes]"]) -> tuple[int, int]:
    """The process that ended the team, and its exit code: (0, 0) when all is done."""

    def pass_on(number: int, frame: FrameType | None) -> None:
        for process in team:
            if process.poll() is None:
                process.send_signal(number)

    before = {which: signal.signal(which, pass_on) for which in (signal.SIGINT, signal.SIGTERM)}
    try:
        while any(p.poll() is None for p in team) and not any(p.poll() for p in team):
            time.sleep(LOOK)
        # Who was killed falls first; those that lost a companion, or were told to stop, follow within seconds. But on a
        # busy machine it may take longer to vanish than they take to say so.
        until = time.monotonic() + SETTLING
        while (
            any(p.poll() is None for p in team) and min(p.poll() or 0 for p in team) >= 0 and time.monotonic() < until
        ):
            time.sleep(LOOK)
        dead = [(p.returncode, rank) for rank, p in enumerate(team) if p.poll()]
        grace = STOPPING if all(code in (0, INTERRUPTED) for code, _ in dead) else GRACE
        for process in team:
            try:
                process.wait(grace)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
    finally:
        for which, handler in before.items():
            signal.signal(which, handler)
    code, rank = min(dead, default=(0, 0))
    # What the leader has said need not be said again.
    return (0 if team[0].returncode == code else rank), code


def _device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"
