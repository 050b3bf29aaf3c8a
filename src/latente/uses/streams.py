"""Compressed streams and files: data in, data out, in one go or chunk by chunk, through pipes too."""

import contextlib
import io
import itertools
import json
import sys
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from .. import atomic, file
from ..codec.coder import Coder
from ..codec.container import Damage
from ..errors import ConfigError, DataError, DataWarning, LatenteError, ModelFileError
from ..kinds.pictures import Pictures
from ..kinds.sources import Source
from .compression import Compressor, Report
from .decompression import Opened, opened, told
from .packing import Block, Layout
from .plans import Mode

if TYPE_CHECKING:
    from ..estimator import Autoencoder

# Lines of a csv on stdin that make a chunk, unless told otherwise.
LINES = 10_000
# Where models were when they made streams, in the user's cache folder.
KNOWN = "models.json"
# Model files that are looked at for a fingerprint.
_LOOKED_AT = 200


# ── compressing ─────────────────────────────────────────────────────────────────────────────────────────────────────


def compressed(
    ae: "Autoencoder", data: Any, out: BinaryIO, mode: Mode, *, rows: int | None, verify: bool, measure: bool
) -> Report:
    """Write data as a stream. Raises ConfigError if the model has no codec, DataError if the data do not fit it."""
    coder = coder_of(ae)
    digest, size = fingerprint(ae)
    blocks = _blocks(ae, data, rows)
    first = next(blocks, None)
    if first is not None and (not hasattr(first, "__len__") or getattr(first, "ndim", 1) == 0):
        raise DataError(f"a {type(first).__name__} cannot be compressed", hint="give a table, an array or pictures")
    if first is None or len(first) == 0:
        raise DataError("found 0 rows", hint="check the file, or the filter before it")
    layout = Layout.of(first, ae.schema_.name == "series", coder.words)
    encoder = None
    if coder.pictures is not None and coder.pictures.latents is not None:
        from .learned.codec_latents import whole_codes

        encoder = whole_codes(ae.model_)
    writer = Compressor(
        coder,
        out,
        layout,
        mode,
        model=digest,
        model_bytes=size,
        encoder=encoder,
        verify=verify,
        measure=measure,
        rows=rows,
        first=layout.fingerprint(first),
    )
    writer.add(first)
    for block in blocks:
        writer.add(block)
    return writer.close()


def fingerprint(ae: "Autoencoder") -> tuple[str, int]:
    """The digest of a model's file, and its size. A file that it was loaded from is remembered."""
    origin = getattr(ae, "_origin", None)
    if origin is not None:
        remember(origin[0], origin[2])
        return origin[0], origin[1]
    data = ae._bytes()
    return file.parse(data, "the model").digest, len(data)


def coder_of(ae: "Autoencoder") -> Coder:
    """What a model learned for its codec. Raises ConfigError if it has none."""
    ae._require_fitted()
    if not isinstance(ae.use_, Coder):
        raise ConfigError(
            "this model has not learned to compress", hint="latente fit DATA --recipe codec (recipe='codec')"
        )
    return ae.use_


def _blocks(ae: "Autoencoder", data: Any, rows: int | None) -> Iterator[Any]:
    """Data in parts: those of a source, lines of stdin as they come, or all of them."""
    if isinstance(data, str) and data == "-":
        yield from _lines(sys.stdin.buffer, rows or LINES, coder_of(ae).real)
        return
    if isinstance(data, (str, Path)):
        from ..estimator import read_noted

        kind = ae.schema_
        # Pictures as they are: brought to the model's size they would be others.
        options = {k: v for k, v in kind.read_options.items() if k != "shape"}
        place = Path(data)
        array = place.suffix.lower() in (".npy", ".npz")
        if kind.name == "image" and array:
            _require_bytes(place)
        data = read_noted(data, "table" if kind.name == "series" and not array else kind.name, **options)
    if isinstance(data, Source):
        yield from (data.read(i) for i in range(len(data.sizes)))
    else:
        yield data


def _require_bytes(place: Path) -> None:
    """Raises DataError if an array of pictures is not of whole numbers of 8 bits, which reading would make it."""
    from ..kinds.reading_arrays import mapped, read_arrays

    found = mapped(place) if place.suffix.lower() == ".npy" else read_arrays(place, lambda _: None).x
    if found.dtype != np.uint8:
        raise DataError(
            f"{place.name} holds pictures as {found.dtype}, and a codec of pictures is of 8 bits a pixel",
            hint="save them as uint8, or fit a model of --kind series to the numbers",
        )


def _lines(stream: Any, rows: int, real: set[str]) -> Iterator[Any]:
    """A csv as tables of `rows` lines, as they come. The types of the first are those of all: columns `real` are no
    whole numbers, though their first ones may look so.
    """
    from ..kinds.reading_csv import of_lines

    head = stream.readline().removeprefix(b"\xef\xbb\xbf")
    lines = (line for line in iter(stream.readline, b"") if line.strip())
    while held := list(itertools.islice(lines, rows)):
        table = of_lines(head, held, "stdin")
        whole = [c for c in table.columns if c in real and table[c].dtype.kind in "iu"]
        yield table.astype(dict.fromkeys(whole, np.float64))


# ── decompressing ───────────────────────────────────────────────────────────────────────────────────────────────────


def open_stream(source: Any, rows: tuple[int, int] | None = None) -> "tuple[Opened, contextlib.ExitStack]":
    """A stream in a file, in bytes, or on stdin ("-"), and what closes it."""
    stack = contextlib.ExitStack()
    if isinstance(source, (bytes, bytearray, memoryview)):
        return opened(io.BytesIO(source), "the stream", rows), stack
    if str(source) == "-":
        if rows is not None:
            raise ConfigError("rows in the middle of a pipe cannot be read alone", hint="decompress it from a file")
        return opened(sys.stdin.buffer, "stdin"), stack
    try:
        handle = stack.enter_context(Path(source).open("rb"))  # noqa: SIM115 - the stack closes it
    except OSError as error:
        raise DataError(
            f"{source} cannot be read: {error.strerror}", hint="latente compress MODEL DATA -o data.ltz"
        ) from None
    try:
        return opened(handle, str(source), rows), stack
    except BaseException:
        stack.close()
        raise


def decompressed(
    stream: Opened, coder: Coder | None, rows: tuple[int, int] | None = None, recover: bool = False
) -> Iterator[Block | Damage]:
    """The blocks of a stream, cut to the rows that are asked for."""
    first, last = rows or (0, sys.maxsize)
    nothing = True
    for found in stream.blocks(coder, recover):
        nothing = False
        if isinstance(found, Damage) or rows is None:
            yield found
            continue
        start, stop = max(0, first - found.first), min(found.rows, last - found.first)
        if start < stop:
            yield found.part(start, stop)
    if nothing and rows is not None:
        raise DataError(f"{stream.name} has no row {first}", hint="rows are counted from 0")


def coder_for(stream: Opened, model: Any, near: Path | None) -> Coder | None:
    """The coder of the model that made a stream: of the model given, or found by its fingerprint beside the stream, in
    the folder at hand and its runs, or where it was last used. None if it is not found: chunks of libraries need none.

    Raises ModelFileError if the model given is another one.
    """
    if model is not None and hasattr(model, "use_"):
        _require_same(stream, fingerprint(model)[0], "the model given")
        return coder_of(model)
    if model is not None:
        document, data = file.read(model)
        _require_same(stream, document.digest, str(model))
        return _restored(document, data, str(model))
    for path in _candidates(near, stream.model):
        with contextlib.suppress(LatenteError, OSError):
            document, data = file.read(path)
            if document.digest == stream.model:
                return _restored(document, data, str(path))
    return None


def _require_same(stream: Opened, digest: str, name: str) -> None:
    if digest != stream.model:
        raise ModelFileError(
            f"{stream.name} was made by the model {stream.model[:12]}…, and {name} is {digest[:12]}…",
            hint="give the model that made it (--model)",
        )


def _restored(document: file.Document, data: bytes, name: str) -> Coder:
    """The coder in a model file, without its nets."""
    from safetensors.numpy import load

    if document.use is None or document.spec.get("use", {}).get("part") != "codec":
        raise ModelFileError(f"{name} has not learned to compress", hint="latente fit DATA --recipe codec")
    tensors = {k.removeprefix("use."): v for k, v in load(data).items() if k.startswith("use.")}
    learned = document.use["learned"]
    return file.described(lambda: Coder.restore(learned, tensors), name)


def _candidates(near: Path | None, digest: str) -> Iterator[Path]:
    """Where the model may be."""
    with contextlib.suppress(OSError, ValueError):
        place = json.loads(atomic.cache(KNOWN).read_text(encoding="utf-8")).get(digest)
        if isinstance(place, str):
            yield Path(place)
    folders = [Path.cwd()] if near is None else [near, Path.cwd()]
    for folder in dict.fromkeys(f.resolve() for f in folders):
        found: Iterable[Path] = [
            *folder.glob("*.safetensors"),
            *folder.glob("*/model.safetensors"),
            *folder.glob("runs/*/model.safetensors"),
        ]
        yield from sorted(found, key=lambda p: -p.stat().st_mtime)[:_LOOKED_AT]


def remember(digest: str, path: Path) -> None:
    """Keep in the user's cache folder where a model is, for streams that were made with it."""
    place = path / "model.safetensors" if path.is_dir() else path
    with contextlib.suppress(OSError, ValueError, LatenteError):
        known: dict[str, str] = {}
        with contextlib.suppress(OSError, ValueError):
            known = json.loads(atomic.cache(KNOWN).read_text(encoding="utf-8"))
        if known.get(digest) == str(place.resolve()):
            return
        known = dict([*known.items()][-_LOOKED_AT:]) | {digest: str(place.resolve())}
        atomic.atomic_write(atomic.cache(KNOWN), json.dumps(known).encode())


# ── writing ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def write_data(stream: Opened, blocks: Iterable[Block], place: Path) -> list[Path]:
    """Decompressed data in a file, chunk by chunk where its format can be added to."""
    from ..kinds.writing import write
    from ..kinds.writing_blocks import append_to

    layout, ending = stream.layout, place.suffix.lower()
    if layout.form == "array" and ending == ".npy":
        array = layout.join(list(blocks))
        atomic.atomic_write(place, lambda out: np.save(out, array, allow_pickle=False))
        return [place]
    if layout.form == "frame" and ending in (".csv", ".tsv", ".parquet", ".arrow", ".feather"):
        with append_to(place) as out:
            for block in blocks:
                out.add(layout.join([block]))
        return [place]
    whole = layout.join(list(blocks))
    if isinstance(whole, Pictures) and (not ending or str(place).endswith("/")):
        return _write_folder(whole, place)
    if isinstance(whole, Pictures) and ending in (".npy", ".npz"):
        if whole.labels is not None and ending == ".npz":
            return write({"X": whole.pixels, "y": whole.labels}, place)
        if whole.labels is not None:
            warnings.warn("an .npy has no place for labels: an .npz has", DataWarning, stacklevel=4)
        whole = whole.pixels
    if isinstance(whole, np.ndarray) and whole.ndim > 2 and layout.form == "array":
        raise ConfigError(f"an array of {whole.ndim} dimensions goes into a .npy", hint="-o data.npy")
    names = list(whole.names) if isinstance(whole, Pictures) else None
    return write(whole, place, names=names)


def _write_folder(pictures: Pictures, place: Path) -> list[Path]:
    """Pictures under the names that they had, in the folders that they were in, as PNG."""
    from ..kinds.writing_pictures import file_names, one_image

    paths = [PurePosixPath(name.replace("\\", "/")) for name in pictures.names]
    safe = all(not p.is_absolute() and not {"..", ""} & set(p.parts) and p.name for p in paths)
    names = [str(p.with_suffix(".png")) for p in paths] if safe else []
    if len({n.casefold() for n in names}) < len(pictures) or not all(n.isprintable() for n in names):
        names = file_names(pictures.names, len(pictures))
    with atomic.atomic_folder(place) as folder:
        for i, name in enumerate(names):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            one_image(pictures, i).save(folder / name, "PNG")
    return [place / name for name in names]


def write_lines(stream: Opened, blocks: Iterable[Block], out: Any) -> None:
    """Decompressed tables as csv, chunk by chunk, as they come. Raises ConfigError for pictures."""
    from ..kinds.writing import frame_of

    if stream.layout.form != "frame" and len(stream.layout.inner) > 1:
        raise ConfigError("pictures and arrays of more than two dimensions cannot be printed", hint="-o data.npy")
    for number, block in enumerate(blocks):
        frame = frame_of(stream.layout.join([block]), None)
        frame.to_csv(out, index=False, header=number == 0)
        out.flush()


def without_damage(found: Iterable[Block | Damage], lost: list[str], note: Any) -> Iterator[Block]:
    """The blocks; what is lost is noted, and kept in `lost`."""
    for one in found:
        if isinstance(one, Damage):
            lost.append(told(one))
            note(told(one))
        else:
            yield one
