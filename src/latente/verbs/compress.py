"""compress: data to a small stream, without loss or within a bound."""

from typing import TYPE_CHECKING, Annotated, Any

from . import DATA, MODEL

if TYPE_CHECKING:
    from pathlib import Path

    from ..estimator import Autoencoder


def compress(
    model: Annotated["Autoencoder", MODEL],
    data: Annotated[Any, DATA],
    *,
    lossless: Annotated[bool, "every value as it is: what is done unless a bound or a quality is given"] = False,
    max_error: Annotated[
        Any, "no number farther from what it was than this: 0.1, or by column: temperature=0.1,pressure=2"
    ] = None,
    rel_error: Annotated[
        float | None, "the same as a share of each column's range among the rows that the model learned from: 0.01"
    ] = None,
    quality: Annotated[int | None, "pictures: 1 (smallest) to 8 (nearest), as few bits as such a picture needs"] = None,
    rows: Annotated[int | None, "rows of a chunk: each can be read, and lost, by itself; planned unless given"] = None,
    verify: Annotated[bool, "decode every chunk at once, and stop if it is not what was coded"] = True,
    report: Annotated[bool, "try every library on every chunk, and say what it would have taken"] = False,
    output: "Annotated[str | Path | None, 'a file, data.ltz; stdout if absent']" = None,
) -> Any:
    """Write data as a stream that `decompress` reads with the same model, on any machine, bit for bit.

    Of a table the model codes the columns that it knows, of pictures the pixels; other columns, names and labels are
    kept as they are. Each chunk is stored as the model has it or as pcodec, zstd, xz (PNG, WebP) do, whichever is
    shortest. NaN, infinities and what no grid holds are kept exactly. DATA - is a csv on stdin, coded line after line.
    What is returned is what it cost; from Python without `output` the stream's bytes, with `report` a pair of both.

    Raises ConfigError if the model was not fitted with recipe codec, DataError if the data do not fit it.
    """
    import io
    import sys
    from pathlib import Path

    from ..atomic import atomic_file
    from ..errors import ConfigError
    from ..uses.plans import Mode
    from ..uses.streams import compressed

    mode = Mode.of(quality, max_error, rel_error, lossless)
    ending = Path(str(output)).suffix.lower()
    if ending in (
        ".csv",
        ".tsv",
        ".parquet",
        ".arrow",
        ".feather",
        ".npy",
        ".npz",
        ".json",
        ".png",
        ".zip",
        ".safetensors",
    ):
        raise ConfigError(f"what compress writes is no {ending}", hint="-o data.ltz")
    if rows is not None and rows < 1:
        raise ConfigError(f"a chunk has 1 row or more, not {rows}")
    options: dict[str, Any] = {"rows": rows, "verify": verify, "measure": report}
    if output is None:
        held = io.BytesIO()
        said = compressed(model, data, held, mode, **options).to_json()
        return (held.getvalue(), said) if report else held.getvalue()
    if str(output) == "-":
        return compressed(model, data, sys.stdout.buffer, mode, **options).to_json()
    with atomic_file(output) as file:
        found = compressed(model, data, file, mode, **options)
    return found.to_json()
