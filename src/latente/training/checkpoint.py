"""Checkpoints: everything that a run is, in two slots of which one is always whole.

RUN/checkpoints/0.safetensors, 1.safetensors: sealed files (`sealed.py`), written in turn by temporary file, fsync,
rename and fsync of the folder. Whatever moment the power fails at, one of them is good; a flipped bit shows in the
digest, and the other is used. Without a folder the last state is kept in memory: enough to roll a diverged run back.
"""

import time
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..atomic import atomic_write
from ..errors import ConfigError, ModelFileError
from ..sealed import seal, unseal
from .team import ALONE, Team

FORMAT = 1
# Seconds between two checkpoints: never more than a twentieth of the time goes into writing them, and what a crash can
# cost is a fiftieth of what was done, within these bounds.
SHORTEST, LONGEST = 1.0, 300.0
WRITING, LOST = 0.05, 0.02


class CheckpointWarning(UserWarning):
    """A checkpoint that was damaged, and what is used in its place."""


@dataclass(frozen=True)
class Saved:
    """A document of plain values, and tensors by name."""

    document: dict[str, Any]
    tensors: dict[str, Tensor]


@dataclass
class Slots:
    """Where the checkpoints of a run lie. identity: what must be equal for a checkpoint to be of this run, by name.

    team: of processes that each hold the whole model one writes, and all read; of a sharded model each has slots of its
    own, written in the same steps, and all go back to the newest step that all of them have.
    """

    folder: Path | None = None
    identity: dict[str, str] = field(default_factory=dict)
    team: Team = ALONE
    _number: int = 0
    _cost: float = 0.0
    _last: float = 0.0
    _memory: Saved | None = None

    def due(self, seconds: float) -> bool:
        """Whether it is time for another, `seconds` into the run."""
        pause = max(min(max(LOST * seconds, SHORTEST), LONGEST), self._cost / WRITING)
        return seconds - self._last >= pause

    def save(self, document: dict[str, Any], tensors: dict[str, Tensor], seconds: float) -> None:
        """Write over the older slot. Raises ResourceError if the disk is full; the other slot is as it was."""
        start = time.perf_counter()
        if self.folder is None:
            self._memory = Saved(document, {n: t.detach().clone() for n, t in tensors.items()})
        elif self.team.leads or self.team.sharding == "full":
            content = {n: t.detach().cpu().numpy() for n, t in tensors.items()}
            whole = {"format": FORMAT, "checkpoint": document, "number": self._number, "identity": self.identity}
            atomic_write(self._slot(self._number), seal(whole | {"steps": document["steps"]}, content))
            self._number += 1
        self._cost, self._last = time.perf_counter() - start, seconds
        if self.team.size > 1:
            self._cost = self.team.largest([self._cost])[0]  # so that all find the same time due

    def load(self) -> Saved | None:
        """The newest whole checkpoint; None if there is none. A damaged one is a CheckpointWarning.

        Raises ConfigError for a checkpoint of another run (see `identity`).
        """
        if self.folder is None:
            return self._memory
        slots = [self._read(slot) for slot in (0, 1)]
        found = [s for s in slots if isinstance(s, tuple)]
        for problem in (s for s in slots if isinstance(s, str)):
            instead = f"the other one is used, of step {found[0][0]['steps']:,}" if found else "the run starts anew"
            warnings.warn(f"{problem}; {instead}", CheckpointWarning, stacklevel=3)
        common = set.intersection(*(set(n) for n in self.team.gathered([s[0]["number"] for s in found])))
        if not common:
            return None
        newest, data = next(s for s in found if s[0]["number"] == max(common))
        self._number = newest["number"] + 1
        for name, value in self.identity.items():
            if newest["identity"].get(name) != value:
                raise ConfigError(
                    f"the checkpoints in {self.folder} are of another run: the {name} differs",
                    hint=f"put the {name} back as it was, or start a new run: latente fit DATA",
                )
        from safetensors.torch import load

        return Saved(newest["checkpoint"], load(data))

    def _slot(self, number: int) -> Path:
        assert self.folder is not None
        own = f"-{self.team.rank}" if self.team.sharding == "full" else ""
        return self.folder / f"{number % 2}{own}.safetensors"

    def _read(self, slot: int) -> tuple[dict[str, Any], bytes] | str | None:
        """Document and bytes; what is wrong with them; None if there are none."""
        path = self._slot(slot)
        if not path.exists():
            return None
        try:
            data = path.read_bytes()
            document = unseal(data, str(path), FORMAT, "checkpoint")
            wanted = {"checkpoint": dict, "number": int, "identity": dict, "steps": int}
            fine = all(isinstance(document.get(key), kind) for key, kind in wanted.items())
            return (document, data) if fine else f"{path} is not a checkpoint"
        except (ModelFileError, OSError) as error:
            return str(getattr(error, "problem", error))


def put_back(target: Tensor, saved: Tensor) -> None:
    """Copy into the tensor that is there: its memory, and so the order of every later sum, stays as it is."""
    with torch.no_grad():
        target.copy_(saved)
