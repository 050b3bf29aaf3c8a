"""A verb from file to file: whole, or block by block where the data exceed the memory."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..estimator import Autoencoder, read_noted
from ..kinds.sources import Read, Source
from ..kinds.writing import write
from ..kinds.writing_blocks import append_to


def from_file_to_file(
    verb: Callable[[Autoencoder, Read], Any], model: Autoencoder, data: str, output: Path
) -> list[Path]:
    """Write what a verb gives of each row of a file; what it gives of one must not depend on the others."""
    kind = model.schema_
    raw = read_noted(data, kind.name, **kind.read_options)
    if not isinstance(raw, Source):
        return write(verb(model, Read(raw)), output)
    with append_to(output) as out:
        for block in range(len(raw.sizes)):
            out.add(verb(model, Read(raw.read(block))))
    return [output]
