"""Pictures -> a grid, an animation, or a folder of PNG files."""

import io
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..atomic import atomic_folder
from ..errors import ConfigError
from .pictures import Pictures

if TYPE_CHECKING:
    from PIL import Image

_CELL, _FRAME = 48, 128  # least longer side of a picture in a grid and in an animation, in screen pixels
_GAP, _GREY = 2, 211  # between the pictures of a grid
_LABEL = 14  # height of the letters beside a grid, in pixels
_FRAME_MS = 80  # 12.5 a second; GIF counts in hundredths
_LARGEST = 100_000_000  # pixels of a grid: what picture viewers, and `read`, still open


def as_pictures(result: Any) -> Pictures:
    """Pictures from an array [n, h, w] or [n, h, w, c] too."""
    if not isinstance(result, Pictures):
        pixels = result[..., None] if result.ndim == 3 else result
        result = Pictures(pixels, None, None, ())
    if 0 in result.pixels.shape:
        raise ConfigError(
            f"there is no picture to write: shape {result.pixels.shape}", hint="give at least one picture"
        )
    return result


def grid(pictures: Pictures, columns: int | None = None, labels: Sequence[str] = ()) -> np.ndarray:
    """The pictures in rows of `columns` (None: one row), enlarged by a whole factor: uint8 [height, width, c].

    labels: what stands to the left of each row.
    """
    shown = _shown(pictures)
    n, h, w, c = shown.shape
    columns = columns or n
    rows = math.ceil(n / columns)
    factor = max(1, math.ceil(_CELL / max(h, w)))
    if rows * (h * factor + _GAP) * columns * (w * factor + _GAP) > _LARGEST:
        factor = 1
    height, width = rows * (h * factor + _GAP) - _GAP, columns * (w * factor + _GAP) - _GAP
    if height * width > _LARGEST:
        raise ConfigError(
            f"{n:,} pictures of {w} × {h} make a grid of {width:,} × {height:,} pixels",
            hint="write them into a folder (a name with a final /)",
        )
    sheet = np.full((height, width, c), _GREY, np.uint8)
    for i, picture in enumerate(shown):
        top, left = i // columns * (h * factor + _GAP), i % columns * (w * factor + _GAP)
        sheet[top : top + h * factor, left : left + w * factor] = _enlarged(picture, factor)
    return np.hstack([_margin(labels, height, h * factor, c), sheet]) if labels else sheet


def _margin(labels: Sequence[str], height: int, tall: int, channels: int) -> np.ndarray:
    """The labels of a grid's rows, each `tall` pixels high, on the colour of its gaps. [height, width, channels]"""
    from PIL import Image, ImageDraw, ImageFont

    font = ImageFont.load_default(_LABEL)
    width = 2 * _LABEL // 3 + math.ceil(max(font.getlength(label) for label in labels))
    margin = Image.new("L", (width, height), _GREY)
    for i, label in enumerate(labels):
        at = (width - _LABEL // 3, i * (tall + _GAP) + tall // 2)
        ImageDraw.Draw(margin).text(at, label, fill=40, font=font, anchor="rm")
    return np.repeat(np.asarray(margin)[..., None], channels, 2)


def animation(pictures: Pictures) -> bytes:
    """A GIF of the pictures, one a frame, there and back again, enlarged by a whole factor."""
    shown = _shown(pictures)
    factor = max(1, math.ceil(_FRAME / max(shown.shape[1:3])))
    order = [*range(len(shown)), *range(len(shown) - 2, 0, -1)]
    frames = [as_image(_enlarged(shown[i], factor)) for i in order]
    out = io.BytesIO()
    frames[0].save(out, "GIF", save_all=True, append_images=frames[1:], duration=_FRAME_MS, loop=0)
    return out.getvalue()


def _shown(pictures: Pictures) -> np.ndarray:
    if pictures.observed is None:
        return pictures.pixels
    return np.where(pictures.observed[..., None], pictures.pixels, np.uint8(_GREY))  # a gap looks like the gaps between


def _enlarged(picture: np.ndarray, factor: int) -> np.ndarray:
    return picture.repeat(factor, 0).repeat(factor, 1)


def as_image(pixels: np.ndarray) -> "Image.Image":
    """[h, w, c] as Pillow's picture."""
    from PIL import Image

    return Image.fromarray(np.ascontiguousarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels))


def write_folder(pictures: Pictures, path: Path, names: Sequence[str] | None) -> list[Path]:
    """One PNG a picture; missing pixels are transparent, as `read` takes them."""
    if names is not None and len(names) != len(pictures):
        raise ConfigError(f"{len(names)} names for {len(pictures)} pictures", hint="give one name per picture")
    files = file_names(names if names is not None else pictures.names, len(pictures))
    with atomic_folder(path) as folder:
        for i, name in enumerate(files):
            one_image(pictures, i).save(folder / name, "PNG")
    return [path / name for name in files]


def one_image(pictures: Pictures, i: int) -> "Image.Image":
    """A picture of several as Pillow's; missing pixels are transparent."""
    from PIL import Image

    image = as_image(pictures.pixels[i])
    if pictures.observed is not None and not pictures.observed[i].all():
        image.putalpha(Image.fromarray(pictures.observed[i].astype(np.uint8) * np.uint8(255)))
    return image


def file_names(names: Sequence[str], n: int) -> list[str]:
    """Names of PNG files in one folder: the stems; the whole path, joined by _, where two stems are equal."""
    if not names:
        return [f"{i:06d}.png" for i in range(n)]
    paths = [Path(name.replace("\\", "/")) for name in names]
    stems = [_safe(path.stem) for path in paths]
    if len({stem.casefold() for stem in stems}) < n:
        stems = [_safe("_".join((*path.parent.parts, path.stem))) for path in paths]
    taken: set[str] = set()
    counts: Counter[str] = Counter()
    for i, stem in enumerate(stems):
        while stems[i].casefold() in taken:  # some file systems do not tell A from a
            counts[stem.casefold()] += 1
            stems[i] = f"{stem}-{counts[stem.casefold()] + 1}"
        taken.add(stems[i].casefold())
    return [f"{stem}.png" for stem in stems]


def _safe(name: str) -> str:
    """A file name that is none of ., .., hidden, longer than file systems allow, or full of control characters."""
    name = "".join(c if c.isprintable() and c not in '/\\:*?"<>|' else "_" for c in name).lstrip(".")
    return name.encode("utf-8", "replace")[:200].decode("utf-8", "ignore").strip() or "picture"
