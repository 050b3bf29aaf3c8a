"""How near to the data a stream is, and what of them the model codes."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..codec.coder import Coder, Level
from ..codec.container import digest
from ..codec.grids import Quantiser
from ..errors import ConfigError, DataError, ModelFileError
from .libraries import NAMES
from .packing import Block, Layout, stored

# The model's own methods, as streams name them: never to be renumbered.
CONTEXT, LATENTS, QUALITY = 16, 17, 18
METHODS = NAMES | {CONTEXT: "model", LATENTS: "model (latents)", QUALITY: "model (quality)"}
# Numbers of a chunk, at the most.
MOST_CELLS = 1 << 23


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
        if not 0 <= bound < 1e300:
            raise ConfigError(f"an error bound is from 0 to 1e300, not {bound}")
    return found


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
        """For a header: of what the model knows by itself only the level."""
        if self.level is not None and self.own == self.asked:
            return {"level": self.level}
        asked, own = ([[at, q.to_json()] for at, q in which] for which in (self.asked, self.own))
        return {"asked": asked, "own": None if self.own == self.asked else own, "level": self.level}

    @staticmethod
    def from_json(document: dict[str, Any], layout: Layout, coder: Coder | None) -> "Plan":
        """Raises ValueError, TypeError or LookupError for what `to_json` does not give, ModelFileError if it takes a
        model that is not there.
        """
        level, columns = document["level"], len(layout.numbers)
        if level is not None and (type(level) is not int or level < 0):
            raise ValueError(f"there is no level {level!r}")
        if "asked" not in document:
            if coder is None:
                raise ModelFileError("the model of this stream is not there", hint="--model MODEL")
            if level is None or level >= len(coder.levels):
                raise ValueError(f"there is no level {level!r}")
            own = _own(coder, layout, level)
            return Plan(own, own, level)

        def read(entries: Any) -> list[tuple[int, Quantiser]]:
            found = [(int(at), Quantiser.from_json(q)) for at, q in entries]
            if not all(0 <= at < columns for at, _ in found) or len({at for at, _ in found}) < len(found):
                raise ValueError("a column is none of the table's")
            return found

        asked = read(document["asked"])
        own = asked if document["own"] is None else read(document["own"])
        if [at for at, _ in own] != [at for at, _ in asked]:
            raise ValueError("its columns are coded in two ways")
        return Plan(asked, own, level)


def _places(coder: Coder, layout: Layout) -> dict[str, int]:
    """Where the model's columns are. An array's have no names: they stand for the model's, in their order."""
    return {name: i for i, name in enumerate(coder.columns if layout.form == "array" else layout.names)}


def _own(coder: Coder, layout: Layout, level: int) -> list[tuple[int, Quantiser]]:
    """The columns of a level of the model, in the data's types."""
    at = _places(coder, layout)
    found = coder.levels[level].quantisers.items()
    return [(at[n], q.typed(stored(layout.numbers[at[n]][1]))) for n, q in found]


def planned(coder: Coder, layout: Layout, mode: Mode) -> Plan:
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
    _require_columns(coder, layout)
    at = _places(coder, layout)
    bounds = coder.bounds(mode.name, mode.value)
    asked = {}
    for name in coder.columns:
        dtype = np.dtype(stored(layout.numbers[at[name]][1]))
        if np.dtype(layout.numbers[at[name]][1]).kind in "mM":
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
    return Plan(which, _own(coder, layout, chosen), chosen)


def _require_columns(coder: Coder, layout: Layout) -> None:
    """Raises DataError if the data lack a column of the model, or have another kind of values in it."""
    words = dict(layout.words)
    if layout.form == "array" and len(layout.numbers) != len(coder.columns):
        raise DataError(
            f"rows have {len(layout.numbers)} numbers, and the model's {len(coder.columns)}",
            hint="give as many columns as the model was fitted on, or fit a model to these data",
        )
    for name in coder.columns if layout.form != "array" else coder.words:
        if name in layout.names and (name in words) == (name in coder.words):
            continue
        what = "words" if name in coder.words else "numbers"
        if name in layout.order or name in layout.names:
            raise DataError(
                f"column {name!r} is no column of {what}, as it was when the model was fitted",
                hint="mend the column, or fit a model to these data",
            )
        known = ", ".join(map(repr, (layout.order or layout.names)[:6]))
        raise DataError(f"column {name!r} of the model is not there", hint=f"the data have {known}")


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


def groups_of(layout: Layout, plan: Plan) -> list[list[int]]:
    """Columns of numbers that the model does not code, by their type."""
    coded = {at for at, _ in plan.asked}
    types: dict[str, list[int]] = {}
    for i, (_, dtype) in enumerate(layout.numbers):
        if i not in coded:
            types.setdefault(stored(dtype), []).append(i)
    return list(types.values())


def size_of(block: Block, other: bytes) -> int:
    """Bytes of what a chunk decodes to."""
    return (0 if block.pixels is None else block.pixels.nbytes) + sum(n.nbytes for n in block.numbers) + len(other)


def digest_of(block: Block, other: bytes) -> bytes:
    parts = [*([] if block.pixels is None else [block.pixels]), *block.numbers]
    return digest(*(np.ascontiguousarray(p).view(np.uint8).data for p in parts if p.size), other)
