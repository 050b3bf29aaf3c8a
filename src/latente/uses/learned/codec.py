"""Learning to compress: what the model file keeps beside the model, so that it is a codec."""

import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ...codec.coder import Coder, Latents, Level, Pictures
from ...codec.exact import Exact
from ...codec.fitting import fitted
from ...codec.grids import grid_of, pitch_of
from ...codec.numbers import alphabet_for, folded, symbols_of
from ...codec.pictures import Context
from ...codec.ranks import Ranks
from ...codec.tables import Tables, quantised
from ...errors import DataError
from ...kinds.base import DataWarning
from ...kinds.pictures import Pictures as Images
from ...kinds.sources import Source
from ...parts import part, require
from ..packing import Layout

if TYPE_CHECKING:
    from ...estimator import Autoencoder
    from ...training.feed import Feed
    from ...training.loop import Report

# Bytes of numbers or pixels that are learned from, at the most; and columns.
MOST, COLUMNS = 256 << 20, 4_096
# Words of a column that have numbers in the model, those that occur most.
MOST_WORDS = 1_000


@part("use", "codec")
@dataclass(frozen=True)
class Codec:
    """Coders for exactly these relative error bounds and for no loss; of pictures for no loss, and for qualities.

    bounds: as shares of each column's range. leaves: tables of a picture's coder, at the most: 0 is 2,000 for grey
    pictures and 4,000 for colour. latents: whether pictures can also be sent in two parts, latents and what they leave,
    where latents are rounded and the decoder is a net of linear layers and relu. qualities: whether at a quality.
    """

    kinds = ("image", "series", "table")
    slow = True

    bounds: tuple[float, ...] = (1e-2, 1e-3)
    leaves: int = 0
    latents: bool = True
    qualities: bool = True

    def __post_init__(self) -> None:
        require(all(0 < b < 1 for b in self.bounds), self, "bounds", "between 0 and 1 each")
        require(self.leaves == 0 or 2 <= self.leaves <= 1 << 15, self, "leaves", "from 2 to 32,768, or 0")

    def learn(
        self, ae: "Autoencoder", feed: "Feed", seed: int, raw: Any = None, report: "Report | None" = None
    ) -> Coder:
        """From the rows that the model was fitted on."""

        def say(doing: str) -> None:
            if report is not None:
                report({"beside": "codec", "doing": doing}, ae.history_)

        name = ae.schema_.name
        if name == "image":
            return self._of_pictures(ae, raw, seed, say)
        return self._of_columns(raw, name == "series", say)

    def restore(self, ae: "Autoencoder", document: dict[str, Any], tensors: dict[str, np.ndarray]) -> Coder:
        """From a model file."""
        coder = Coder.restore(document, tensors)
        if (coder.pictures is not None) != (ae.schema_.name == "image"):
            raise ValueError("its codec is of other data than its model")
        return coder

    # ── columns ─────────────────────────────────────────────────────────────────────────────────────────────────

    def _of_columns(self, raw: Any, time: bool, say: Callable[[str], None]) -> Coder:
        numbers, names, words = _numbers(raw, flat=time)
        columns, ranges, grids = [], [], []
        for name, values in zip(names, numbers, strict=True):
            there = values[np.isfinite(values)]
            columns.append(name)
            ranges.append(float(there.max()) - float(there.min()) if len(there) and name not in words else 0.0)
            bound = min(self.bounds, default=0.0) * ranges[-1]
            grids.append([grid_of(values), grid_of(values, exact=False), pitch_of(values, bound)])
        coder = Coder(columns, ranges, grids, [], words=words)
        for bound in (0.0, *sorted(self.bounds)):
            say(
                f"a coder of {len(columns)} columns, {f'within {bound:g} of their ranges' if bound else 'without loss'}"
            )
            level = _level(coder, dict(zip(names, numbers, strict=True)), bound, time)
            if level is not None:
                coder.levels.append(level)
        return coder

    # ── pictures ────────────────────────────────────────────────────────────────────────────────────────────────

    def _of_pictures(self, ae: "Autoencoder", raw: Any, seed: int, say: Callable[[str], None]) -> Coder:
        from . import codec_blocks, codec_pictures

        pixels = _pixels(raw, ae)
        if getattr(ae.schema_, "binarize", False):  # as the model saw them
            drawn = np.random.default_rng(seed).integers(0, 255, pixels.shape, np.uint8)
            pixels = (drawn < pixels) * np.uint8(255)
        leaves = self.leaves or (2_000 if pixels.shape[3] == 1 else 4_000)
        context = codec_pictures.learned(pixels, seed, leaves, say)
        latents = self._latents(ae, pixels, context, seed, leaves, say) if self.latents else None
        binary = bool(np.isin(pixels, (0, 255)).all())
        lossy = None
        if self.qualities and not binary and len(pixels) >= 20:
            say("qualities")
            lossy = codec_blocks.learned(pixels, seed)
        return Coder([], [], [], [], Pictures(context, latents, lossy))

    def _latents(
        self,
        ae: "Autoencoder",
        pixels: np.ndarray,
        context: Context,
        seed: int,
        leaves: int,
        say: Callable[[str], None],
    ) -> Latents | None:
        from . import codec_pictures
        from .codec_latents import exact_of, whole_codes

        if ae.spec_.latent.name != "rounded" or pixels.shape[3] != 1:
            return None
        net: Exact | None = exact_of(ae.model_)
        if net is None:
            return None
        say("latents, and a tree of what they leave")
        few = pixels[np.random.default_rng(seed).permutation(len(pixels))[:30_000]]
        z = whole_codes(ae.model_)(few)
        symbols = symbols_of(folded(z), alphabet_for(int(np.abs(z).max(initial=1))))[0]
        size = int(symbols.max()) + 2
        counts = np.stack([np.bincount(column, minlength=size) for column in symbols.T]) + 0.1
        told = net(z.T).reshape(*pixels.shape[1:3], len(few))
        own = codec_pictures.with_tree(context.method, few, told, seed, leaves)
        return Latents(Tables(quantised(counts)), net, own)


def _level(coder: Coder, numbers: dict[str, np.ndarray], bound: float, time: bool) -> Level | None:
    """The coder of the columns that have whole numbers within a bound; None if there are none."""
    bounds = coder.bounds("rel-error", bound)
    quantisers = {}
    for name, values in numbers.items():
        found = coder.quantiser(name, values.dtype, bounds[name])
        if found is not None:
            quantisers[name] = found
    if not quantisers:
        return None
    wholes = np.stack([q.wholes(numbers[n])[0] for n, q in quantisers.items()], 1)
    ranks = Ranks.of(wholes)
    return Level(bound, quantisers, ranks, fitted(ranks.split(wholes), time))


def _numbers(raw: Any, flat: bool) -> tuple[list[np.ndarray], list[str], dict[str, list[str]]]:
    """The columns of numbers and words of data, in their first rows if they are many; their names; and the words."""
    blocks: Iterable[Any] = (raw.read(i) for i in range(len(raw.sizes))) if isinstance(raw, Source) else [raw]
    layout, parts, size, said = None, [], 0, []
    for block in blocks:
        layout = layout or Layout.of(block, flat)
        own = layout.block(block)
        parts.append(own.numbers)
        said.append(layout.words_in(own))
        size += sum(n.nbytes for n in parts[-1])
        if size > MOST:
            warnings.warn("the codec is learned from the first rows that fit in 256 MB", DataWarning, stacklevel=6)
            break
    if layout is None or not layout.numbers:
        raise DataError("there is no column of numbers to compress", hint="leave out --recipe codec")
    if len(layout.numbers) > COLUMNS:
        raise DataError(f"a row has {len(layout.numbers):,} numbers, and a codec knows {COLUMNS:,} at the most")
    found = [np.concatenate(column) for column in zip(*parts, strict=True)]
    words: dict[str, list[str]] = {}
    for name, _ in layout.words:
        values = pd.Series(np.concatenate([s[name] for s in said]))
        words[name] = values.value_counts().index[:MOST_WORDS].tolist()
        known = {w: i + 1 for i, w in enumerate(words[name])}
        codes = values.map(known).fillna(len(known) + 1).to_numpy(np.int32)
        found[layout.names.index(name)] = np.where(values.isna(), 0, codes).astype(np.int32)
    plain = [i for i, (_, dtype) in enumerate(layout.numbers) if np.dtype(dtype).kind not in "mM"]
    if not plain:
        raise DataError("there is no column of numbers to compress", hint="leave out --recipe codec")
    return [found[i] for i in plain], [layout.names[i] for i in plain], words


def _pixels(raw: Any, ae: "Autoencoder") -> np.ndarray:
    """Pictures as uint8 [n, h, w, c], the first if they are many."""
    from ...kinds.image import as_pictures

    blocks: Iterable[Any] = (raw.read(i) for i in range(len(raw.sizes))) if isinstance(raw, Source) else [raw]
    parts, size = [], 0
    for block in blocks:
        parts.append(block.pixels if isinstance(block, Images) else as_pictures(block)[0])
        size += parts[-1].nbytes
        if size > MOST:
            break
    return np.concatenate(parts)
