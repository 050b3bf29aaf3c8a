"""decompress: a stream back to data."""

from typing import TYPE_CHECKING, Annotated, Any

from . import STREAM

if TYPE_CHECKING:
    from pathlib import Path


def decompress(
    stream: Annotated[Any, STREAM],
    *,
    model: Annotated[Any, "the model that made it; unless given, it is looked for by its fingerprint"] = None,
    rows: Annotated[Any, "only these rows: FIRST:LAST, from 0, without the last"] = None,
    recover: Annotated[bool, "of a damaged stream the rows that are whole; what is lost is named"] = False,
    output: "Annotated[str | Path | None, 'a file, its format by extension; csv on stdout if absent']" = None,
) -> Any:
    """The data of a stream: values, types, shape, names of columns and files as they were, within its bound.

    Nothing of it depends on the machine: symbols are read with whole numbers alone, and no torch is loaded. A stream
    names its model by fingerprint; the model is looked for beside the stream, in this folder and its runs, and where it
    was when the stream was made. stdin and stdout go chunk by chunk.

    Raises DataError for a damaged stream, naming the chunk and its rows, ModelFileError if its model is not found or
    another one is given.
    """
    import sys
    import warnings
    from pathlib import Path

    from ..errors import ConfigError, DataWarning, ModelFileError
    from ..uses import streams

    asked = None
    if rows is not None:
        pair = f"{rows[0]}:{rows[1]}" if isinstance(rows, tuple) and len(rows) == 2 else str(rows)
        first, colon, last = pair.partition(":")
        try:
            asked = (int(first or 0), int(last) if last else sys.maxsize)
        except ValueError:
            asked = (0, -1)
        if not colon or not 0 <= asked[0] < asked[1]:
            raise ConfigError(f"rows are FIRST:LAST, as 100:200, not {rows!r}")
    found, closing = streams.open_stream(stream, asked)
    with closing:
        near = Path(stream).parent if isinstance(stream, (str, Path)) and str(stream) != "-" else None
        coder = streams.coder_for(found, model, near)
        lost: list[str] = []

        def note(text: str) -> None:
            warnings.warn(f"{found.name}: {text}", DataWarning, stacklevel=3)

        try:
            blocks = streams.without_damage(streams.decompressed(found, coder, asked, recover), lost, note)
            if output is None:
                return found.layout.join(list(blocks))
            if str(output) == "-":
                streams.write_lines(found, blocks, sys.stdout)
            else:
                return {"wrote": [str(p) for p in streams.write_data(found, blocks, Path(output))], "lost": lost}
        except ModelFileError as error:
            if coder is not None:
                raise
            raise ModelFileError(
                f"the model of {found.name} is not found: it has the fingerprint {found.model[:12]}…",
                hint="--model MODEL",
            ) from error
        return {"lost": lost}
