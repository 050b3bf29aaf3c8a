"""Data to a stream and back: each chunk by the model or by a library, whichever is shorter.

    data ─ Layout ─▶ blocks of rows ─▶ columns that the model knows, as whole numbers ─▶ model | library
                                    ├▶ what those do not stand for within the bound
                                    ├▶ other columns of numbers, exactly ─▶ library
                                    └▶ what is no number ─▶ Arrow, zstd
    pictures ─▶ model (context, latents | quality) | library

A stream is read without the model's nets: what a decoder needs is whole numbers in the model file, no torch. Nothing
that is a float has a say in what symbol is read.
"""

import struct
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from .. import __version__
from ..codec import container
from ..codec.coder import Coder, Level
from ..codec.container import Chunk, Damage, digest, sections, sections_of
from ..codec.grids import Quantiser
from ..errors import ConfigError, DataError, ModelFileError
from . import libraries
from .libraries import NAMES, PLAIN, ZSTD, best, columns_of, columns_packed
from .packing import Block, Layout, batch_bytes, batch_of, stored

if TYPE_CHECKING:
    from ..codec.coder import Encoder

# The model's own methods, as streams name them: never to be renumbered.
CONTEXT, LATENTS, QUALITY = 16, 17, 18
METHODS = NAMES | {CONTEXT: "model", LATENTS: "model (latents)", QUALITY: "model (quality)"}
# A chunk decodes to about so many bytes unless told otherwise.
CHUNK_BYTES, MOST_ROWS = 8 << 20, 65_536
# The slow libraries are tried unless a quick one is longer by this factor than the model: none of them saves as much.
HOPELESS = 2.0


@dataclass(frozen=True)
class Mode:
    """How near to the data a stream is. name: "lossless", "max-error" (value: the bound, or bounds by column),
    "rel-error" (of each column's range among the rows that the model was fitted on), or "quality" (1 to 8).
    """

    name: str = "lossless"
    value: Any = None

    @staticmethod
    def of(quality: int | None, max_error: Any, rel_error: float | None, lossless: bool) -> "Mode":
        """From a verb's options. Raises ConfigError for more than one, or for what cannot be."""
        asked = {"quality": quality, "max-error": max_error, "rel-error": rel_error, "lossless": lossless or None}
        given = [name for name, value in asked.items() if value is not None]
        if len(given) > 1:
            raise ConfigError(f"{' and '.join(f'--{n}' for n in given)} exclude each other", hint="give one of them")
        name = given[0] if given else "lossless"
        if name == "quality" and (not isinstance(quality, int) or not 1 <= quality <= 8):
            raise ConfigError(f"the quality is a whole number from 1 to 8, not {quality!r}")
        if name == "max-error":
            return Mode(name, _bounds(max_error))
        if name == "rel-error" and not 0 <= float(rel_error or 0) < 1:
            raise ConfigError(
                f"a relative error is from 0 to 1, not {rel_error!r}", hint="0.01 is one per cent of a column's range"
            )
        return Mode(name, float(rel_error) if name == "rel-error" and rel_error is not None else quality)


def _bounds(asked: Any) -> Any:
    """0.1, "0.1", "a=0.1,b=2" or {"a": 0.1}: one bound, or bounds by column."""
    if isinstance(asked, str) and "=" in asked:
        asked = dict(part.split("=", 1) for part in asked.split(","))
    try:
        found = {str(k).strip(): float(v) for k, v in asked.items()} if isinstance(asked, dict) else float(asked)
    except (TypeError, ValueError):
        raise ConfigError(
            f"{asked!r} is no error bound", hint="--max-error 0.1, or --max-error temperature=0.1,pressure=2"
        ) from None
    for bound in found.values() if isinstance(found, dict) else [found]:
        if not 0 <= bound < np.inf:
            raise ConfigError(f"an error bound is 0 or more, not {bound}")
    return found


@dataclass
class Report:
    """What a stream costs, and what else it might. sizes: payload bytes by method; parts: chunks by method; baselines:
    bytes of what the model codes, by library.
    """

    values: int = 0
    rows: int = 0
    raw: int = 0
    stream: int = 0
    chunks: int = 0
    exceptions: int = 0
    model_bytes: int = 0
    file_bytes: int = 0
    won: dict[str, int] = field(default_factory=dict)
    baselines: dict[str, int] = field(default_factory=dict)
    coded: int = 0
    seconds: float = 0.0
    decode_seconds: float = 0.0
    worst: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """For people and programs. Bits a value; ratios are raw bytes over coded ones; break_even_values: from how many
        values on the model has paid for its own bytes, against the best library; speeds in MB of raw data a second.
        """
        found: dict[str, Any] = {
            "rows": self.rows,
            "values": self.values,
            "raw_bytes": self.raw,
            "stream_bytes": self.stream,
            "ratio": round(self.raw / max(self.stream, 1), 3),
            "bits_per_value": round(8 * self.stream / max(self.values, 1), 4),
            "chunks": self.chunks,
            "won": self.won,
            "exceptions": self.exceptions,
            "codec_bytes": self.model_bytes,
            "model_file_bytes": self.file_bytes,
            "ratio_with_model": round(self.raw / max(self.stream + self.file_bytes, 1), 3),
            "encode_mb_s": round(self.raw / 1e6 / max(self.seconds, 1e-9), 2),
        }
        if self.decode_seconds:
            found["decode_mb_s"] = round(self.raw / 1e6 / self.decode_seconds, 2)
        if self.worst:
            found["error_over_bound"] = self.worst
        if self.baselines:
            least = min(self.baselines.values())
            saved = (least - self.coded) / max(self.values, 1)
            found |= {
                "coded_bytes": self.coded,
                "baselines": self.baselines,
                "saving": round(1 - self.coded / max(least, 1), 4),
                "break_even_values": round(self.model_bytes / saved) if saved > 0 else None,
            }
        return found


# ── compressing ─────────────────────────────────────────────────────────────────────────────────────────────────────


class Compressor:
    """Writes blocks of data into a file. encoder: of a model with latents, what makes them of pictures. verify: decode
    each chunk at once, and stop if it is not what it should be. measure: try every library, for the report.
    """

    def __init__(
        self,
        coder: Coder,
        file: BinaryIO,
        layout: Layout,
        mode: Mode,
        *,
        model: str,
        encoder: "Encoder | None" = None,
        verify: bool = True,
        measure: bool = False,
        rows: int | None = None,
        model_bytes: int = 0,
    ) -> None:
        self.coder, self.layout, self.mode, self.encoder = coder, layout, mode, encoder
        self.verify, self.measure = verify, measure
        self.plan = _planned(coder, layout, mode)
        header = {
            "latente": __version__,
            "layout": layout.to_json(),
            "mode": [mode.name, mode.value],
            "model": model,
            "plan": self.plan.to_json(),
        }
        most = max(1, container.MOST_DECODED // 2 // max(1, layout.row_bytes()))
        self.size = min(rows or max(1, min(MOST_ROWS, CHUNK_BYTES // max(1, layout.row_bytes()))), most)
        self.report = Report(model_bytes=coder.size, file_bytes=model_bytes)
        self._out = container.Writer(file, header)

    def add(self, raw: Any) -> None:
        """The next rows."""
        block = self.layout.block(raw)
        for start in range(0, block.rows, self.size):
            self._chunk(block.part(start, start + self.size))

    def close(self) -> Report:
        """Write the end; what it all cost."""
        self._out.close()
        self.report.stream, self.report.rows = self._out.place, self._out.rows
        return self.report

    def _chunk(self, block: Block) -> None:
        begun = time.process_time()
        report = self.report
        if block.pixels is not None:
            method, data, pixels = self._pixels(block.pixels)
            parts, back = [(method, data)], Block(block.rows, [], pixels)
            report.values += block.pixels.size
        else:
            method, parts, shown = self._numbers(block)
            back = Block(block.rows, shown)
            report.values += sum(n.size for n in block.numbers)
        report.won[METHODS[method]] = report.won.get(METHODS[method], 0) + 1
        other = b"" if block.other is None else batch_bytes(block.other)
        if other:
            parts.append((ZSTD, struct.pack("<I", len(other)) + libraries.zstd(other)))
        payload, size, seal = sections(parts), _size(back, other), _digest(back, other)
        report.seconds += time.process_time() - begun
        if self.verify:
            begun = time.process_time()
            found = _decoded(payload, block.rows, size, self.layout, self.plan, self.coder, self.mode)
            report.decode_seconds += time.process_time() - begun
            if _digest(*found) != seal:
                raise RuntimeError(f"chunk {report.chunks} does not decode to what was coded: please report this")
        self._out.add(block.rows, payload, seal, size)
        report.chunks += 1
        report.raw += size

    def _pixels(self, pixels: np.ndarray) -> tuple[int, bytes, np.ndarray]:
        """(method, bytes, what they decode to) of pictures."""
        own = self.coder.pictures
        if self.mode.name == "quality":
            assert own is not None
            assert own.lossy is not None
            data = own.lossy.encode(pixels, self.mode.value - 1)
            return QUALITY, data, own.lossy.decode(memoryview(data), len(pixels), self.mode.value - 1)
        bound = int(self.mode.value) if self.mode.name == "max-error" else 0
        shown = pixels if bound == 0 else _coarse(pixels, bound)
        found: list[tuple[int, bytes]] = []
        if own is not None and bound == 0:
            found.append((CONTEXT, own.context.encode(pixels)))
            if own.latents is not None and self.encoder is not None:
                found.append((LATENTS, own.latents.encode(pixels, self.encoder(pixels))))
        method, data = self._shortest(found, lambda slow: libraries.pixels_packed(shown, slow), shown.tobytes())
        return method, data, shown

    def _numbers(self, block: Block) -> tuple[int, list[tuple[int, bytes]], list[np.ndarray]]:
        """(method of the model's columns, sections, what they decode to) of a table's numbers."""
        plan, report = self.plan, self.report
        shown = list(block.numbers)
        method, parts = PLAIN, []
        if plan.asked:
            wholes, odd = _wholes(plan.asked, block.numbers)
            found = []
            if plan.level is not None:
                own, apart = (wholes, odd) if plan.own == plan.asked else _wholes(plan.own, block.numbers)
                found.append((CONTEXT, plan.causal(self.coder).encode(own)))
            packed = np.ascontiguousarray(wholes.T).tobytes()
            method, data = self._shortest(
                found, lambda slow: columns_packed(list(libraries.smallest(wholes).T.copy()), slow), packed
            )
            used = plan.own if method == CONTEXT else plan.asked
            wholes, odd = (own, apart) if method == CONTEXT else (wholes, odd)
            for i, (at, quantiser) in enumerate(used):
                column = block.numbers[at]
                made = quantiser.values(wholes[:, i])
                if quantiser.bound and report is not None:
                    with np.errstate(all="ignore"):
                        off = np.abs(column.astype(np.float64) - made.astype(np.float64))[~odd[:, i]]
                    report.worst = max(report.worst, float(off.max(initial=0.0) / quantiser.bound))
                shown[at] = np.where(odd[:, i], column, made)
            parts = [(method, data), _exceptions(odd, [block.numbers[at] for at, _ in used])]
            report.exceptions += int(odd.sum())
        rest = [i for i in range(len(shown)) if i not in {at for at, _ in plan.asked}]
        packed_rest = [best(columns_packed([shown[i]])) for i in rest]
        if not plan.asked and packed_rest:
            method = max(packed_rest, key=lambda one: len(one[1]))[0]
        return method, [*parts, *packed_rest], shown

    def _shortest(self, own: list[tuple[int, bytes]], packed: Any, data: bytes) -> tuple[int, bytes]:
        """The model's ways against those of the libraries, which are tried as far as one may be shorter."""
        least = min((len(d) for _, d in own), default=None)
        if self.measure or least is None:
            theirs = list(packed(True))
            if self.measure:
                for method, found in theirs:
                    self.report.baselines[NAMES[method]] = self.report.baselines.get(NAMES[method], 0) + len(found)
        else:
            theirs = list(packed(libraries.quick(data) < HOPELESS * least))
        method, found = best([*own, *theirs])
        self.report.coded += len(found)
        return method, found


def _wholes(which: "list[tuple[int, Quantiser]]", numbers: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Whole numbers int64 [rows, c], and where they do not stand for the values."""
    found = [quantiser.wholes(numbers[at]) for at, quantiser in which]
    return np.stack([q for q, _ in found], 1), np.stack([odd for _, odd in found], 1)


def _exceptions(odd: np.ndarray, columns: list[np.ndarray]) -> tuple[int, bytes]:
    """Values that are listed as they are: their places, then their bits, row after row."""
    if not odd.any():
        return PLAIN, b""
    values = np.stack([_bits(c) for c in columns], 1)[odd]
    mask = np.packbits(odd.ravel()).tobytes()
    places = np.diff(np.flatnonzero(odd.ravel()).astype("<u4"), prepend=np.uint32(0)).astype("<u4").tobytes()
    sparse = libraries.zstd(places), libraries.zstd(mask)
    which = len(sparse[1]) < len(sparse[0])
    bits = values.astype("<u8").tobytes()
    return ZSTD, struct.pack("<BII", which, len(values), len(sparse[which])) + sparse[which] + libraries.zstd(bits)


def _bits(column: np.ndarray) -> np.ndarray:
    """The bits of values, as uint64."""
    return column.view(f"u{column.dtype.itemsize}").astype(np.uint64)


def _coarse(pixels: np.ndarray, bound: int) -> np.ndarray:
    """Pixels of which none is farther than `bound` from the one it was."""
    width = 2 * bound + 1
    return np.minimum(pixels.astype(np.int16) // width * width + bound, 255).astype(np.uint8)


def _size(block: Block, other: bytes) -> int:
    """Bytes of what a chunk decodes to."""
    return (0 if block.pixels is None else block.pixels.nbytes) + sum(n.nbytes for n in block.numbers) + len(other)


def _digest(block: Block, other: bytes) -> bytes:
    parts = [*([] if block.pixels is None else [block.pixels]), *block.numbers]
    return digest(*(np.ascontiguousarray(p).view(np.uint8).data for p in parts if p.size), other)


# ── what is coded how ───────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Plan:
    """asked: place among the numeric columns and quantiser of each that the model knows, within the bound that was
    asked for; own: the same as the model takes them, at its level `level` (None: it has none that is fine enough).
    """

    asked: list[tuple[int, Quantiser]]
    own: list[tuple[int, Quantiser]]
    level: int | None = None

    def causal(self, coder: Coder) -> Level:
        """The model's level."""
        assert self.level is not None
        return coder.levels[self.level]

    def to_json(self) -> dict[str, Any]:
        return {
            "asked": [[at, q.to_json()] for at, q in self.asked],
            "own": None if self.own == self.asked else [[at, q.to_json()] for at, q in self.own],
            "level": self.level,
        }

    @staticmethod
    def from_json(document: dict[str, Any], columns: int) -> "Plan":
        """Raises ValueError, TypeError or LookupError for what `to_json` does not give."""

        def read(entries: Any) -> list[tuple[int, Quantiser]]:
            found = [(int(at), Quantiser.from_json(q)) for at, q in entries]
            if not all(0 <= at < columns for at, _ in found) or len({at for at, _ in found}) < len(found):
                raise ValueError("a column is none of the table's")
            return found

        asked = read(document["asked"])
        own = asked if document["own"] is None else read(document["own"])
        if [at for at, _ in own] != [at for at, _ in asked]:
            raise ValueError("its columns are coded in two ways")
        level = document["level"]
        if level is not None and type(level) is not int:
            raise ValueError(f"there is no level {level!r}")
        return Plan(asked, own, level)


def _planned(coder: Coder, layout: Layout, mode: Mode) -> Plan:
    """What of the data the model codes, and at which of its levels. Raises DataError, ConfigError."""
    if layout.form in ("pictures", "pixels"):
        _require_pictures(coder, layout, mode)
        return Plan([], [])
    if mode.name == "quality":
        raise ConfigError(
            "a quality is of pictures", hint="--rel-error 0.01 keeps every number within a hundredth of its range"
        )
    if coder.pictures is not None:
        raise DataError("the model is of pictures, and these data are numbers", hint="fit a model to them")
    at = {name: i for i, name in enumerate(layout.names)}
    absent = [c for c in coder.columns if c not in at]
    if absent and layout.form == "array":
        raise DataError(f"rows have {len(layout.numbers)} numbers, and the model's {len(coder.columns)}")
    if absent:
        others = [n for n in layout.order if n not in at]
        what = "is no column of numbers" if absent[0] in others else "is not there"
        raise DataError(
            f"column {absent[0]!r} of the model {what}", hint=f"the data have {', '.join(map(repr, layout.order[:6]))}"
        )
    bounds = coder.bounds(mode.name, mode.value)
    asked = {}
    for name in coder.columns:
        dtype = np.dtype(layout.numbers[at[name]][1])
        if dtype.kind in "mM":
            raise DataError(f"column {name!r} is of times, and was of numbers", hint="give it as numbers")
        found = coder.quantiser(name, dtype, bounds[name])
        if found is not None:
            asked[name] = found
    fine = [
        (level.bound, i)
        for i, level in enumerate(coder.levels)
        if set(level.quantisers) == set(asked) and all(level.quantisers[n].bound <= bounds[n] for n in asked)
    ]
    which = [(at[n], q) for n, q in asked.items()]
    if not fine:
        return Plan(which, which)
    chosen = max(fine)[1]
    level = coder.levels[chosen]
    own = [(at[n], level.quantisers[n].typed(layout.numbers[at[n]][1])) for n in asked]
    return Plan(which, own, chosen)


def _require_pictures(coder: Coder, layout: Layout, mode: Mode) -> None:
    own = coder.pictures
    shape = (*layout.inner, 1)[:3]
    if own is None:
        raise DataError("these data are pictures, and the model is of numbers", hint="fit a model to them")
    if own.shape != shape:
        raise DataError(
            f"pictures of {shape[1]}×{shape[0]} pixels in {shape[2]} channel(s), and the model was fitted on "
            f"{own.shape[1]}×{own.shape[0]} in {own.shape[2]}",
            hint="resize them, or fit a model to them",
        )
    if mode.name == "quality" and own.lossy is None:
        raise ConfigError("this model has no qualities: its pictures are black and white alone", hint="--lossless")
    if mode.name == "rel-error" or (mode.name == "max-error" and isinstance(mode.value, dict)):
        raise ConfigError("pixels are whole numbers from 0 to 255", hint="--max-error 2")


# ── decompressing ───────────────────────────────────────────────────────────────────────────────────────────────────


def _decoded(
    payload: bytes, rows: int, size: int, layout: Layout, plan: Plan, coder: Coder | None, mode: Mode
) -> tuple[Block, bytes]:
    """What a chunk's payload says, and what is no number as bytes. Raises DataError for what `Compressor` cannot have
    written, ModelFileError if it needs another model.
    """
    parts = iter(sections_of(payload))

    def section() -> tuple[int, memoryview]:
        found = next(parts, None)
        if found is None:
            raise DataError("a section of it is missing")
        return found

    if rows * layout.row_bytes() > size:
        raise DataError("it has more rows than bytes")
    pixels, numbers = None, []
    if layout.form in ("pictures", "pixels"):
        shape = (*layout.inner, 1)[:3]
        method, data = section()
        if method in (CONTEXT, LATENTS, QUALITY):
            own = None if coder is None else coder.pictures
            if own is None or own.shape != shape:
                raise ModelFileError("the model given is not the one that made this stream")
            pixels = _of_model(own, method, data, rows, mode)
        elif method in NAMES and method != libraries.PCODEC:
            pixels = libraries.pixels_of(method, data, (rows, *shape))
        else:
            raise DataError(f"its pictures are coded by no known method ({method})")
    else:
        numbers = _columns(section, rows, layout, plan, coder)
    found, other, batch = next(parts, None), b"", None
    if found is not None:
        if len(found[1]) < 4 or struct.unpack_from("<I", found[1])[0] > size:
            raise DataError("its columns that are no numbers are damaged")
        other = libraries.unzstd(found[1][4:], struct.unpack_from("<I", found[1])[0])
        batch = batch_of(other)
        if batch.num_rows != rows:
            raise DataError("its columns are of different lengths")
    return Block(rows, numbers, pixels, batch), other


def _of_model(own: Any, method: int, data: memoryview, rows: int, mode: Mode) -> np.ndarray:
    """Pictures as the model coded them."""
    if method == QUALITY and own.lossy is not None and mode.name == "quality" and mode.value in range(1, 9):
        return own.lossy.decode(data, rows, mode.value - 1)
    if method == LATENTS and own.latents is not None:
        return own.latents.decode(data, rows)
    if method == CONTEXT:
        return own.context.decode(data, rows)
    raise DataError("its pictures are coded in a way that this model does not know")


def _columns(section: Any, rows: int, layout: Layout, plan: Plan, coder: Coder | None) -> list[np.ndarray]:
    columns: dict[int, np.ndarray] = {}
    if plan.asked:
        method, data = section()
        used = plan.own if method == CONTEXT else plan.asked
        if method == CONTEXT:
            if coder is None or plan.level is None or plan.level >= len(coder.levels):
                raise ModelFileError("the model given is not the one that made this stream")
            wholes = plan.causal(coder).decode(data, rows)
            if wholes.shape[1] != len(used):
                raise ModelFileError("the model given is not the one that made this stream")
        else:
            wholes = np.stack(columns_of(method, data, rows, len(used)), 1).astype(np.int64)
        for i, (at, quantiser) in enumerate(used):
            columns[at] = quantiser.values(wholes[:, i])
        _put(section(), [columns[at] for at, _ in used], rows)
    for i, (_, dtype) in enumerate(layout.numbers):
        if i not in columns:
            method, data = section()
            columns[i] = columns_of(method, data, rows, 1)[0]
        if columns[i].dtype.name != stored(dtype):
            raise DataError(f"its column {layout.names[i]!r} is of type {columns[i].dtype}, and not {dtype}")
    return [columns[i] for i in range(len(layout.numbers))]


def _put(found: tuple[int, memoryview], columns: list[np.ndarray], rows: int) -> None:
    """Put the values of a section of exceptions where they belong."""
    method, data = found
    if method == PLAIN and not data:
        return
    if len(data) < 9:
        raise DataError("its list of exceptions is cut short")
    as_mask, count, size = struct.unpack_from("<BII", data)
    cells = rows * len(columns)
    if not 0 < count <= cells or size > len(data) - 9 or as_mask > 1:
        raise DataError("its list of exceptions cannot be")
    packed = data[9 : 9 + size]
    if as_mask:
        bits = np.unpackbits(np.frombuffer(libraries.unzstd(packed, -(-cells // 8)), np.uint8))[:cells]
        places = np.flatnonzero(bits)
    else:
        places = np.cumsum(np.frombuffer(libraries.unzstd(packed, 4 * count), "<u4").astype(np.int64))
    values = np.frombuffer(libraries.unzstd(data[9 + size :], 8 * count), "<u8")
    if len(places) != count or places[-1] >= cells or (np.diff(places) <= 0).any():
        raise DataError("its list of exceptions cannot be")
    row, at = np.divmod(places, len(columns))
    for i, column in enumerate(columns):
        here = at == i
        column[row[here]] = values[here].astype(f"u{column.dtype.itemsize}").view(column.dtype)


@dataclass(frozen=True)
class Opened:
    """A stream whose header was read. needed: the fingerprint of its model."""

    header: dict[str, Any]
    layout: Layout
    plan: Plan
    mode: Mode
    model: str
    name: str
    _chunks: Iterable[Chunk | Damage]

    def blocks(self, coder: Coder | None, recover: bool = False) -> Iterator[Block | Damage]:
        """Its rows, chunk by chunk. What is damaged raises DataError, or is told of where `recover`."""
        for one in self._chunks:
            chunk = one
            if isinstance(chunk, Chunk):
                try:
                    found = _decoded(chunk.payload, chunk.rows, chunk.size, self.layout, self.plan, coder, self.mode)
                    if _size(*found) != chunk.size or _digest(*found) != chunk.digest:
                        raise DataError("it does not decode to what was coded")
                    yield replace(found[0], first=chunk.first)
                    continue
                except DataError as error:
                    chunk = Damage(chunk.first, chunk.rows, error.problem)
            if not recover:
                raise DataError(f"{self.name}: {told(chunk)}", hint="--recover gives the rows that are whole")
            yield chunk


def told(damage: Damage) -> str:
    """In words."""
    if damage.rows is None:
        return f"{damage.why}: rows from {damage.first} on, if there were any, are lost"
    if not damage.rows:
        return f"{damage.why}, but no rows are lost"
    return f"rows {damage.first} to {damage.first + damage.rows - 1} are lost: {damage.why}"


def opened(file: Any, name: str, rows: tuple[int, int] | None = None) -> Opened:
    """A stream's header and chunks. rows: first and last + 1 of those that are asked for: the file is read only there.
    Raises DataError for what is no stream or declares what cannot be.
    """
    if rows is None:
        reader = container.Reader(file, name)
        header, chunks = reader.header, reader.chunks()
    else:
        header, chunks = container.some(file, name, *rows)
    try:
        layout = Layout.from_json(header["layout"])
        plan = Plan.from_json(header["plan"], len(layout.numbers))
        mode, value = header["mode"]
        if layout.row_bytes() > container.MOST_DECODED:
            raise ValueError(f"a row of {layout.row_bytes():,} bytes")
        return Opened(header, layout, plan, Mode(str(mode), value), str(header["model"]), name, chunks)
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        raise DataError(f"{name} has a header that this version cannot read: {error}", hint="update latente") from None
