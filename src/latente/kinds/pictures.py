"""Pictures in memory: arrays or decoded images -> one uint8 block of one size."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..errors import DataError
from .reading_bytes import Note, require_room

if TYPE_CHECKING:
    from PIL import Image

Shape = tuple[int, int, int]  # height, width, channels

_KEEP = 128  # pixels: pictures of one size are left alone up to this longer side
_FIT = 64  # pixels: the longer side of what others are brought to


@dataclass(frozen=True)
class Pictures:
    """`n` pictures of one size."""

    pixels: np.ndarray  # uint8 [n, h, w, c], c = 1 or 3
    observed: np.ndarray | None  # bool [n, h, w], False = missing; None = all observed
    labels: np.ndarray | None  # [n] str (class folders) or ints (npz, idx); None = there are none
    names: tuple[str, ...]  # file names, for messages and for writing back
    skipped: tuple[str, ...] = ()  # "dir/a.png: cannot identify image file", one per unreadable picture

    def __len__(self) -> int:
        return len(self.pixels)


def target(sizes: "Counter[tuple[int, int]]") -> tuple[int, int]:
    """The (height, width) to bring pictures of these sizes to.

    One size with a longer side of at most 128 pixels is kept. Otherwise the most common
    size, scaled down until its longer side is at most 64 (of equally common ones the largest).
    """
    (h, w), _ = max(sizes.items(), key=lambda item: (item[1], item[0][0] * item[0][1], item[0]))
    longer = max(h, w)
    if longer <= (_KEEP if len(sizes) == 1 else _FIT):
        return h, w
    scale = min(1.0, _FIT / longer)
    return max(1, round(h * scale)), max(1, round(w * scale))


def fitted(image: "Image.Image", shape: Shape) -> tuple[np.ndarray, np.ndarray | None]:
    """An image of mode L, LA, RGB or RGBA as uint8 [h, w, c], and where it is observed: bool [h, w], or None for all.

    It is scaled, antialiased, to fit inside with its aspect kept, centred, and its edge
    pixels are repeated outwards. Alpha means observed (255) or missing (0); pixels that are
    mostly missing are missing, and black.
    """
    from PIL import Image

    h, w, c = shape
    alpha = image.mode in ("LA", "RGBA")
    mode = ("L" if c == 1 else "RGB") + ("A" if alpha else "")
    if image.mode != mode:
        image = image.convert(mode)
    if image.size != (w, h):
        scale = min(w / image.width, h / image.height)
        inner = (min(w, max(1, round(image.width * scale))), min(h, max(1, round(image.height * scale))))
        # Pillow weighs colours by alpha here, so missing pixels do not bleed into their neighbours.
        image = image.resize(inner, Image.Resampling.LANCZOS, reducing_gap=3.0)
    block = np.asarray(image).reshape(image.height, image.width, -1)
    top, left = (h - image.height) // 2, (w - image.width) // 2
    rest = ((top, h - image.height - top), (left, w - image.width - left), (0, 0))
    if any(a or b for a, b in rest):
        block = np.pad(block, rest, mode="edge")
    if not alpha:
        return block, None
    observed = block[..., -1] >= 128
    return np.where(observed[..., None], block[..., :-1], np.uint8(0)), observed


def from_array(
    x: np.ndarray,
    *,
    name: str,
    labels: np.ndarray | None = None,
    observed: np.ndarray | None = None,
    shape: Shape | None = None,
    note: Note = lambda _: None,
    part: bool = False,
) -> Pictures:
    """[n, h, w], [n, h, w, 1|3] or [n, 1|3, h, w] numbers as pictures; `name` is the file in messages.

    Whole numbers of 0…255 are taken as they are, fractions of [0, 1] times 255, rounded;
    NaN is a missing pixel. Raises DataError for other ranges, shapes and kinds of values, and
    for pictures without a single pixel unless they are `part` of a longer array.
    """
    x = _channels_last(x, name, note)
    pixels, seen = _bytes(x, name, part)
    if observed is not None:
        if observed.shape != pixels.shape[:3]:
            raise DataError(
                f"'observed' in {name} has shape {observed.shape}, its pictures {pixels.shape[:3]}",
                hint="'observed' is (n, height, width), False where a pixel is missing",
            )
        seen = observed.astype(bool) if seen is None else seen & observed.astype(bool)
    if labels is not None and (labels.ndim != 1 or len(labels) != len(pixels)):
        raise DataError(
            f"{name} has labels of shape {labels.shape} for {len(pixels):,} pictures", hint="one label per picture"
        )
    h, w, c = pixels.shape[1:]
    if shape is None:
        shape = (*target(Counter([(h, w)])), c)
    if shape != (h, w, c):
        pixels, seen = _refit(pixels, seen, shape)
        note(f"{name}: {change([(h, w)], shape)}" if shape[:2] != (h, w) else f"{name}: {recolour(shape)}")
    if seen is not None and seen.all():
        seen = None
    if seen is not None:
        pixels = np.where(seen[..., None], pixels, np.uint8(0))
    return Pictures(pixels, seen, labels, tuple(f"{i:06d}" for i in range(len(pixels))))


def change(sizes: Sequence[tuple[int, int]], shape: Shape) -> str:
    """What `fitted` did to pictures of these (height, width)s, as a remark."""
    low, *_, high = sorted([*sizes, *sizes], key=lambda size: (size[0] * size[1], size[1]))
    span = f"{low[1]} × {low[0]}" + (f" to {high[1]} × {high[0]}" if len(sizes) > 1 else "")
    padded = any(round(h * shape[1] / w) != shape[0] and round(w * shape[0] / h) != shape[1] for h, w in sizes)
    end = ", their edges repeated to fill" if padded else ""
    return f"pictures of {span} pixels (width × height) were scaled to {shape[1]} × {shape[0]}{end}"


def recolour(shape: Shape) -> str:
    """The remark on a change of channels."""
    return "colour pictures were made grey" if shape[2] == 1 else "grey pictures were given three equal channels"


def _channels_last(x: np.ndarray, name: str, note: Note) -> np.ndarray:
    if x.ndim == 3:
        x = x[..., None]
    if x.ndim == 4 and x.shape[3] not in (1, 3) and x.shape[1] in (1, 3):
        note(f"{name}: channels come first in pictures of shape {x.shape[1:]}; they are moved to the end")
        x = np.moveaxis(x, 1, 3)
    if x.ndim != 4 or x.shape[3] not in (1, 3):
        raise DataError(
            f"{name} has shape {x.shape}, which is no stack of pictures",
            hint="pictures are (n, height, width) or (n, height, width, 3)",
        )
    if 0 in x.shape:
        raise DataError(f"{name} has shape {x.shape}: it holds no picture", hint="give at least one picture")
    return x


def _bytes(x: np.ndarray, name: str, part: bool) -> tuple[np.ndarray, np.ndarray | None]:
    """uint8 pixels [n, h, w, c] and the mask of those that are not NaN."""
    if x.dtype == np.uint8:
        return np.ascontiguousarray(x), None
    if x.dtype == np.bool_:
        return x.astype(np.uint8) * np.uint8(255), None
    if x.dtype.kind not in "iuf":
        raise DataError(f"{name} holds values of type {x.dtype}, not pixels", hint="save it as uint8")
    whole = x.dtype.kind != "f"
    lost = np.zeros((), bool) if whole else np.isnan(x)
    if lost.all() and not whole:
        if not part:
            raise DataError(f"every pixel of {name} is NaN", hint="give pictures with observed pixels")
        return np.zeros(x.shape, np.uint8), np.zeros(x.shape[:3], bool)
    low, high = (float(x.min()), float(x.max())) if whole else (float(np.nanmin(x)), float(np.nanmax(x)))
    top = 255.0 if whole else 1.0
    if low < 0 or high > top:
        values = "whole numbers" if whole else "fractions"
        hint = f"scale them: (x - {low:g}) / {high - low or 1.0:g}"
        raise DataError(
            f"the {values} in {name} lie in [{low:g}, {high:g}], not in [0, {top:g}]",
            hint=hint if np.isfinite(high - low) else "replace the infinities by numbers, or by NaN for missing",
        )
    if whole:
        return x.astype(np.uint8), None
    pixels = np.empty(x.shape, np.uint8)
    for i, picture in enumerate(x):  # one by one: a float copy of everything would be four to eight times the result
        pixels[i] = np.rint(np.nan_to_num(picture.astype(np.float64), nan=0.0) * 255)
    return pixels, np.asarray(~lost.any(-1)) if lost.any() else None


def _refit(pixels: np.ndarray, seen: np.ndarray | None, shape: Shape) -> tuple[np.ndarray, np.ndarray | None]:
    from PIL import Image

    require_room(len(pixels) * shape[0] * shape[1] * shape[2], "the array of pictures")
    out = np.empty((len(pixels), *shape), np.uint8)
    mask = None if seen is None else np.empty(out.shape[:3], bool)
    for i, picture in enumerate(pixels):
        image = Image.fromarray(picture[..., 0] if picture.shape[2] == 1 else picture)
        if seen is not None:
            image.putalpha(Image.fromarray(seen[i].astype(np.uint8) * np.uint8(255)))
        out[i], found = fitted(image, shape)
        if mask is not None and found is not None:
            mask[i] = found
    return out, mask
