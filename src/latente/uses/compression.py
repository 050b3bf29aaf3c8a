"""Data to a stream: each chunk by the model or by a library, whichever is shorter.

data ─ Layout ─▶ blocks of rows ─▶ columns that the model knows, as whole numbers ─▶ model | library
                                ├▶ what those do not stand for within the bound
                                ├▶ other columns of numbers, exactly ─▶ library
                                └▶ what is no number ─▶ Arrow, zstd
pictures ─▶ model (context, latents | quality) | library
"""

import json
import struct
import time
import zlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from .. import __version__
from ..codec import container
from ..codec.coder import Coder
from ..codec.container import sections
from ..codec.grids import Quantiser
from ..errors import DataError
from . import libraries
from .decompression import decoded
from .libraries import EACH, NAMES, NEWS, PLAIN, ZSTD, best, columns_packed
from .packing import Block, Layout, batch_bytes
from .plans import CONTEXT, LATENTS, METHODS, MOST_CELLS, QUALITY, Mode, digest_of, groups_of, planned, size_of

if TYPE_CHECKING:
    from ..codec.coder import Encoder

# A chunk decodes to about so many bytes unless told otherwise.
CHUNK_BYTES, MOST_ROWS = 8 << 20, 65_536
# The slow libraries are tried unless a quick one is longer by this factor than the model: none of them saves as much.
HOPELESS = 2.0
# Columns that are tried by themselves, too: of more the time would be felt.
FEW = 64


@dataclass
class Report:
    """What a stream costs, and what else it might: bytes, but for values, rows, chunks and exceptions. won: chunks by
    method; baselines: of what the model codes, by library, as `coded` is by the shortest; worst: the largest error as a
    share of its bound.
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
        values on the codec has paid for its own bytes (_of_file: the model for its file), against the best library;
        speeds in MB of raw data a CPU second.
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
                "break_even_values_of_file": round(self.file_bytes / saved) if saved > 0 else None,
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
        first: str = "",
    ) -> None:
        self.coder, self.layout, self.mode, self.encoder = coder, layout, mode, encoder
        self.verify, self.measure = verify, measure
        self.plan = planned(coder, layout, mode)
        header = {
            "latente": __version__,
            "layout": layout.to_json(),
            "mode": [mode.name, mode.value],
            "model": model,
            "plan": self.plan.to_json(),
            # What tells streams of one model apart: their first rows.
            "first": first,
        }
        most = min(container.MOST_DECODED // 2 // max(1, layout.row_bytes()), MOST_CELLS // max(1, len(layout.numbers)))
        most = max(1, most)
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
            parts.append(libraries.packed(other))
        if block.news:
            news = json.dumps(block.news, ensure_ascii=False).encode()
            parts.append((NEWS, zlib.compress(news)))
            other += news
        payload, size, seal = sections(parts), size_of(back, other), digest_of(back, other)
        report.seconds += time.process_time() - begun
        if self.verify:
            begun = time.process_time()
            found = decoded(payload, block.rows, size, self.layout, self.plan, self.coder, self.mode)
            report.decode_seconds += time.process_time() - begun
            if report.chunks == 0:
                _require_kept(self.layout, found[0])
            if digest_of(*found) != seal:
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
            data, exact = own.lossy.encode(pixels, self.mode.value - 1), own.context.encode(pixels)
            if len(exact) <= len(data):  # few of its pictures have anything that could be left out
                return CONTEXT, exact, pixels
            return QUALITY, data, own.lossy.decode(memoryview(data), len(pixels), self.mode.value - 1)
        bound = int(min(self.mode.value, 255)) if self.mode.name == "max-error" else 0
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
        rest: list[tuple[int, bytes]] = []
        for group in groups_of(self.layout, plan):
            rest += self._exact([shown[i] for i in group])
        if not plan.asked and rest:
            method = max(rest, key=lambda one: len(one[1]))[0]
        return method, [*parts, *rest], shown

    def _exact(self, columns: list[np.ndarray]) -> list[tuple[int, bytes]]:
        """Columns of one type as they are, by libraries: all together, or each by the one that suits it."""
        together = list(columns_packed(columns))
        method, data = best(together)
        found = [(method, data)]
        if 1 < len(columns) <= FEW:
            apart = [best(columns_packed([c])) for c in columns]
            if sum(len(d) for _, d in apart) < len(data):
                found = [(EACH, b""), *apart]
        if self.measure:
            for method, data in together:
                self.report.baselines[NAMES[method]] = self.report.baselines.get(NAMES[method], 0) + len(data)
        self.report.coded += sum(len(d) for _, d in found)
        return found

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


def _require_kept(layout: Layout, block: Block) -> None:
    """Raises DataError for columns whose type can be written and not be read again."""
    try:
        layout.join([block])
    except Exception as error:  # what a library makes of a type that it half knows is anything
        raise DataError(
            f"a column has a type that cannot be kept: {' '.join(str(error).split())[:160]}",
            hint="make it text, or numbers",
        ) from error


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
    width = 2 * min(bound, 255) + 1
    return np.minimum(pixels.astype(np.int16) // width * width + width // 2, 255).astype(np.uint8)
