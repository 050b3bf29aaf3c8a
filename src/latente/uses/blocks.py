"""A verb from file to file: whole, or block by block where the data exceed the memory."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from ..errors import ConfigError
from ..estimator import Autoencoder, read_noted
from ..kinds.counted import Counted
from ..kinds.sources import Read, Source
from ..kinds.writing import write
from ..kinds.writing_blocks import append_to
from . import cells


def from_file_to_file(
    verb: Callable[[Autoencoder, Read], Any], model: Autoencoder, data: str, output: Path
) -> list[Path]:
    """Write what a verb gives of each row of a file; what it gives of one must not depend on the others."""
    kind = model.schema_
    raw = read_noted(data, kind.name, **kind.read_options)
    blocks = isinstance(raw, Source)
    if output.suffix.lower() == ".h5ad":
        parts = (
            [verb(model, Read(raw.read(i), True)) for i in range(len(raw.sizes))]
            if blocks
            else [verb(model, Read(raw))]
        )
        return _to_h5ad(parts, data, output)
    if not blocks:
        return write(verb(model, Read(raw)), output)
    with append_to(output) as out:
        for block in range(len(raw.sizes)):
            out.add(verb(model, Read(raw.read(block), True)))
    return [output]


def _to_h5ad(parts: list[Any], data: str, output: Path) -> list[Path]:
    """Codes beside the cells that they are of; counts in a file of their own."""
    if all(isinstance(p, Counted) for p in parts):
        return write(cells.together(parts), output)
    if not data.lower().endswith(".h5ad") or not all("z0" in p for p in parts):
        raise ConfigError(
            f"{output.name!r} can hold counts, or codes of the cells of an .h5ad file", hint="-o codes.parquet"
        )
    return cells.write_codes(pd.concat(parts, ignore_index=True), data, output)
