"""All that a model learned for its codec: of columns of numbers a coder for each bound, of pictures their coders.

In the model file it is one JSON document and one array of packed whole numbers. It needs no torch.
"""

import lzma
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from ..errors import ConfigError
from .columns import Columns
from .exact import Exact
from .grids import Grid, Quantiser
from .numbers import Numbers, Writer, opened
from .pictures import METHODS, Context, Method
from .ranks import Ranks
from .tables import Tables
from .tree import Tree

# What latents of pictures uint8 [n, h, w, c] are: whole numbers [n, d].
Encoder = Callable[[np.ndarray], np.ndarray]
# Arrays of a coder unpack to no more than this.
_MOST = 256 << 20
_FILTERS = [{"id": lzma.FILTER_LZMA2, "preset": 6}]


@dataclass(frozen=True, eq=False)
class Level:
    """bound: as a share of the columns' ranges, 0: exact. quantisers: of each column that has one, by name."""

    bound: float
    quantisers: dict[str, Quantiser]
    ranks: Ranks
    columns: Columns

    def __post_init__(self) -> None:
        if len(self.quantisers) != len(self.ranks.counts) or self.ranks.columns != len(self.columns.order):
            raise ValueError("a codec's columns do not go together")

    def encode(self, wholes: np.ndarray) -> bytes:
        """Whole numbers int64 [n, c] as bytes."""
        return self.columns.encode(self.ranks.split(wholes))

    def decode(self, data: memoryview, n: int) -> np.ndarray:
        """n rows that `encode` wrote. Raises DataError for other bytes."""
        return self.ranks.join(self.columns.decode(data, n))


@dataclass(frozen=True, eq=False)
class Latents:
    """Two parts: whole numbers that are a picture's latents, with tables of each dimension; then the picture, given
    what a net of whole numbers makes of them, pixel by pixel.
    """

    tables: Tables
    net: Exact
    context: Context

    def __post_init__(self) -> None:
        h, w, c = self.context.shape
        if self.net.inputs != len(self.tables) or self.net.outputs != h * w * c or c != 1:
            raise ValueError("the latents of pictures do not go with their net")

    def encode(self, pixels: np.ndarray, z: np.ndarray) -> bytes:
        """Pictures uint8 [n, h, w, c] with latents [n, d] as bytes."""
        writer = Writer()
        which = np.arange(z.shape[1]).repeat(len(z))
        writer.numbers(self.tables, which, z.T.reshape(-1), which)
        self.context.put(writer, pixels, self.told(z))
        lanes, data = writer.finish()
        return lanes.to_bytes(2, "little") + data

    def decode(self, data: memoryview, n: int) -> np.ndarray:
        """n pictures that `encode` wrote. Raises DataError for other bytes."""
        decoder, numbers = opened(data), Numbers(self.tables)
        z = np.stack([numbers.read(decoder, np.full(n, k)) for k in range(len(self.tables))], 1)
        found = self.context.take(decoder, n, self.told(z))
        decoder.finish()
        return found

    def told(self, z: np.ndarray) -> np.ndarray:
        """What latents [n, d] say of each pixel. int16 [h, w, n]"""
        h, w, _ = self.context.shape
        return np.asarray(self.net(z.T)).reshape(h, w, len(z))


@dataclass(frozen=True, eq=False)
class Pictures:
    """context: without loss; latents: the same in two parts, or None; lossy: by quality, or None."""

    context: Context
    latents: Latents | None = None
    lossy: Any = None

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height, width, channels."""
        return self.context.shape


def short(bound: float) -> float:
    """A bound of seven digits that is no larger: headers hold many of them."""
    found = float(f"{bound:.6e}")
    return found if found <= bound else float(f"{bound * (1 - 1e-6):.6e}")


class Coder:
    """columns: the names of the columns of numbers and words; ranges: how far numbers went; grids: of each column the
    exact, the near and the hidden one; words: of columns of words those that are 1, 2, …, the most frequent first;
    levels: coders, the exact one first; pictures: theirs, instead.
    """

    def __init__(
        self,
        columns: list[str],
        ranges: list[float],
        grids: list[list[Grid | None]],
        levels: list[Level],
        pictures: Pictures | None = None,
        words: dict[str, list[str]] | None = None,
    ) -> None:
        self.columns, self.ranges, self.grids, self.levels, self.pictures = columns, ranges, grids, levels, pictures
        self.words = words or {}
        if not len(columns) == len(ranges) == len(grids) or not set(self.words) <= set(columns):
            raise ValueError("a codec's columns do not go together")

    @property
    def real(self) -> set[str]:
        """Columns that held numbers which were no whole ones, by their type."""
        found = (q for level in self.levels for q in level.quantisers.items())
        return {name for name, q in found if np.dtype(q.dtype).kind == "f"}

    def quantiser(self, name: str, dtype: np.dtype, bound: float) -> Quantiser | None:
        """Whole numbers of a column within a bound; None if there are none."""
        exact, *near = self.grids[self.columns.index(name)]
        return Quantiser.best(dtype, bound, near if bound > 0 else [exact])

    def bounds(self, mode: str, value: Any) -> dict[str, float]:
        """How far each column's values may be off. Raises ConfigError for columns that are none of the model's."""
        if mode == "rel-error":
            return {n: short(float(value) * r) for n, r in zip(self.columns, self.ranges, strict=True)}
        if mode == "max-error" and isinstance(value, dict):
            odd = next((n for n in value if n not in self.columns or n in self.words), None)
            if odd is not None:
                raise ConfigError(
                    f"the model has no column of numbers {odd!r}",
                    hint=f"it has {', '.join(map(repr, self.columns[:6]))}",
                )
            return {n: float(value.get(n, 0.0)) for n in self.columns}
        return {n: float(value) if mode == "max-error" and n not in self.words else 0.0 for n in self.columns}

    # ── the model file ──────────────────────────────────────────────────────────────────────────────────────────

    @cached_property
    def _packed(self) -> tuple[dict[str, Any], bytes]:
        arrays: dict[str, np.ndarray] = {}
        levels = []
        for i, level in enumerate(self.levels):
            arrays |= {f"level{i}.{n}": a for n, a in level.columns.arrays.items()}
            arrays |= {f"level{i}.ranks": level.ranks.counts, f"level{i}.levels": level.ranks.levels}
            # A list: their order is that of the coder's columns, and a model file sorts names.
            quantisers = [[n, q.to_json()] for n, q in level.quantisers.items()]
            levels.append({"bound": level.bound, "quantisers": quantisers, **level.columns.settings})
        document: dict[str, Any] = {
            "columns": self.columns,
            "words": self.words,
            "ranges": self.ranges,
            "grids": [[None if g is None else [g.unit, g.per, g.single, g.slack] for g in pair] for pair in self.grids],
            "levels": levels,
            "pictures": None if self.pictures is None else _pictures_out(self.pictures, arrays),
        }
        names = sorted(arrays)
        document["arrays"] = [[n, str(arrays[n].dtype), list(arrays[n].shape)] for n in names]
        data = b"".join(np.ascontiguousarray(arrays[n]).tobytes() for n in names)
        return document, lzma.compress(data, lzma.FORMAT_RAW, filters=_FILTERS)

    @property
    def document(self) -> dict[str, Any]:
        """Numbers and names, as JSON can hold them."""
        return self._packed[0]

    @property
    def tensors(self) -> dict[str, np.ndarray]:
        """Arrays by name: one, of packed bytes."""
        return {"packed": np.frombuffer(self._packed[1], np.uint8)}

    @property
    def size(self) -> int:
        """Bytes of its arrays in the model file."""
        return len(self._packed[1])

    @staticmethod
    def restore(document: dict[str, Any], tensors: dict[str, np.ndarray]) -> "Coder":
        """From a model file. Raises ValueError, TypeError or LookupError for what cannot be."""
        arrays = _unpacked(document["arrays"], tensors["packed"])
        levels = []
        for i, said in enumerate(document["levels"]):
            own = {n.partition(".")[2]: a for n, a in arrays.items() if n.startswith(f"level{i}.")}
            quantisers = {str(n): Quantiser.from_json(q) for n, q in said["quantisers"]}
            ranks = Ranks(own["ranks"], own["levels"])
            levels.append(Level(float(said["bound"]), quantisers, ranks, Columns.of(own, said)))
        grids = [[_grid(g) for g in own] for own in document["grids"]]
        if any(len(own) != 3 for own in grids):
            raise ValueError("a column's grids cannot be")
        pictures = None if document["pictures"] is None else _pictures_in(document["pictures"], arrays)
        columns = [str(c) for c in document["columns"]]
        words = {str(n): [str(w) for w in own] for n, own in document["words"].items()}
        return Coder(columns, [float(r) for r in document["ranges"]], grids, levels, pictures, words)


def _grid(document: Any) -> Grid | None:
    if document is None:
        return None
    unit, per, single, slack = document
    if not (type(unit) is type(per) is int and unit >= 1 and per >= 1):
        raise ValueError(f"no grid has steps of {unit} / {per}")
    return Grid(unit, per, bool(single), float(slack))


def _unpacked(described: list[Any], packed: np.ndarray) -> dict[str, np.ndarray]:
    """The arrays of a coder, none larger than what is said of them."""
    wanted = [(str(n), np.dtype(str(d)), tuple(int(s) for s in shape)) for n, d, shape in described]
    if any(d.kind not in "iub" or min(shape, default=1) < 0 for _, d, shape in wanted):
        raise ValueError("a codec's arrays are of whole numbers")
    sizes = [int(np.prod([*shape, d.itemsize], dtype=object)) for _, d, shape in wanted]
    if sum(sizes) > _MOST or packed.dtype != np.uint8 or packed.ndim != 1:
        raise ValueError(f"a codec's arrays take {sum(sizes):,} bytes")
    unpacking = lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=_FILTERS)
    try:
        data = unpacking.decompress(packed.tobytes(), max_length=sum(sizes))
    except (lzma.LZMAError, EOFError) as error:
        raise ValueError(f"a codec's arrays are damaged: {error}") from None
    if len(data) != sum(sizes):
        raise ValueError("a codec's arrays are fewer than they should be")
    found, at = {}, 0
    for (name, dtype, shape), size in zip(wanted, sizes, strict=True):
        found[name] = np.frombuffer(data, dtype, size // dtype.itemsize, at).reshape(shape)
        at += size
    return found


# ── pictures ────────────────────────────────────────────────────────────────────────────────────────────────────────


def _context_out(context: Context, prefix: str, arrays: dict[str, np.ndarray], method: bool) -> None:
    tree = context.tree
    arrays |= {f"{prefix}.tree.{n}": getattr(tree, n) for n in ("feature", "threshold", "child", "parent")}
    arrays[f"{prefix}.tables"] = context.tables.freqs
    if method:
        arrays |= {f"method.{n}": a for n, a in context.method.arrays.items()}


def _context_in(
    shape: tuple[int, int, int], method: Method, prefix: str, arrays: dict[str, np.ndarray], told: bool
) -> Context:
    tree = Tree(*(arrays[f"{prefix}.tree.{n}"] for n in ("feature", "threshold", "child", "parent")))
    return Context(shape, method, tree, Tables(arrays[f"{prefix}.tables"]), told)


def _pictures_out(pictures: Pictures, arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    _context_out(pictures.context, "context", arrays, method=True)
    if pictures.latents is not None:
        _context_out(pictures.latents.context, "latents", arrays, method=False)
        arrays["latents.codes"] = pictures.latents.tables.freqs
        arrays |= {f"latents.net.{n}": a for n, a in pictures.latents.net.arrays.items()}
    if pictures.lossy is not None:
        arrays |= {f"lossy.{n}": a for n, a in pictures.lossy.arrays.items()}
    method = next(name for name, kind in METHODS.items() if isinstance(pictures.context.method, kind))
    return {
        "shape": list(pictures.shape),
        "method": method,
        "latents": pictures.latents is not None,
        "lossy": pictures.lossy is not None,
    }


def _pictures_in(document: dict[str, Any], arrays: dict[str, np.ndarray]) -> Pictures:
    from .blocks import Blocks

    h, w, c = (int(s) for s in document["shape"])
    if not all(0 < s < 1 << 16 for s in (h, w)) or c not in (1, 3):
        raise ValueError("pictures have no such shape")

    def named(prefix: str) -> dict[str, np.ndarray]:
        return {n.removeprefix(prefix): a for n, a in arrays.items() if n.startswith(prefix)}

    method = METHODS[document["method"]].of(named("method."))
    context = _context_in((h, w, c), method, "context", arrays, told=False)
    lossy = Blocks.of(named("lossy.")) if document["lossy"] else None
    if lossy is not None and lossy.shape != (h, w, c):
        raise ValueError("qualities are of other pictures")
    latents = None
    if document["latents"]:
        own = _context_in((h, w, c), method, "latents", arrays, told=True)
        latents = Latents(Tables(arrays["latents.codes"]), Exact.of(named("latents.net.")), own)
    return Pictures(context, latents, lossy)
