"""The verbs: one function a file. Its signature is its Python, command-line and web interface.

Importing a verb imports nothing heavy: `latente --help` must stay quick. `Annotated["T", MARK]` marks what the command
line reads from a file; `Annotated[T, "words"]` is an option and its help.
"""

import pkgutil
import re
import time
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Mark:
    """A parameter that the command line turns from a path into a value."""

    name: str
    help: str


MODEL = Mark("MODEL", "a model file or a run folder")
RUN = Mark("RUN", "a run folder")
DATA = Mark("DATA", "a file, or a folder or zip of pictures or tunes, or a folder of 10x")
CODES = Mark("CODES", "a table of codes, as encode writes it")
STREAM = Mark("STREAM", "what compress wrote, or - for stdin")
HISTORY = Mark("HISTORY", "a file of users and items, or items with commas between them")
ROW = Mark("ROW", "a file's first row, picture or tune, FILE:N for its row N (from 0), or a text itself")


def new_place(data: str, what: str = "", ending: str = "") -> Path:
    """Where what is made of data goes unless told otherwise: runs/NAME[-WHAT]-TIME."""
    stem = Path(data).name.split(".")[0] or "run"
    # A column's name may hold anything: of a file's it must not be a way elsewhere.
    what = re.sub(r"[^\w-]+", "-", what)[:40].strip("-")
    return Path("runs") / f"{stem}{what and f'-{what}'}-{time.strftime('%Y%m%d-%H%M%S')}{ending}"


def names() -> list[str]:
    """The verbs, by listing the folder."""
    return [m.name for m in pkgutil.iter_modules(__path__)]
