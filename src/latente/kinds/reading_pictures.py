"""Picture files, folders and zips of them -> one block of pixels."""

import io
import os
import stat
import threading
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, BinaryIO, TypeVar, cast

import numpy as np

from ..errors import DataError
from .pictures import Pictures, Shape, change, fitted, recolour, target
from .reading_bytes import Note, require_room
from .reading_columns import listing

if TYPE_CHECKING:
    from PIL import Image

ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff")

# Only these decoders: Pillow has others that start programs (EPS) or are seldom tried on hostile files.
_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF")
_LARGEST_FILE = 1 << 29  # bytes, unpacked
_LARGEST_PICTURE = 100_000_000  # pixels
_BLOCK = 4096  # pictures handed to the threads at once, so that an interrupt is heard
_THREADED = (
    1 << 16
)  # pixels of a mean picture: below, threads hinder each other (22,000 of 32 × 32: 13 s with, 4 s without)
_ORIENTATION = 0x0112  # the EXIF tag; from 5 on the picture lies on its side

_Out = TypeVar("_Out")


@dataclass(frozen=True)
class _Source:
    name: str
    size: int  # bytes
    open: Callable[[], BinaryIO]


@dataclass(frozen=True)
class _Look:
    """What the header of a picture tells."""

    size: tuple[int, int]  # height, width, as it is to be seen
    grey: bool
    alpha: bool


class _UnreadableError(Exception):
    """Why a picture is skipped."""


def read_pictures(path: Path, *, shape: Shape | None = None, note: Note = lambda _: None) -> Pictures:
    """A picture, or all pictures in a folder or zip and their sub-folders, sorted by path.

    They are brought to `shape`; without one, pictures of one size whose longer side is at
    most 128 pixels are kept as they are, and all others are fitted into the most common
    size, scaled down to a longer side of at most 64 (`pictures.fitted` says how). They are
    grey only if all are. Pixels of alpha 0 are missing; partly transparent ones are laid on
    white. If every picture lies in a sub-folder, and there are at least two of these, the
    names of the sub-folders are the labels.

    Pictures that cannot be read are left out and named in `skipped`; DataError if none can.
    """
    with ExitStack() as stack:
        found = list_pictures(path, stack, shape)
        return _decoded(found, note)


@dataclass(frozen=True)
class Listing:
    """The pictures in a place by their headers, and what they are brought to."""

    path: Path
    looks: list[tuple[_Source, _Look]]
    skipped: list[str]  # those that cannot even be looked at
    sizes: "Counter[tuple[int, int]]"
    grey: bool
    shape: Shape

    @property
    def alpha(self) -> bool:
        return any(look.alpha for _, look in self.looks)

    @property
    def threads(self) -> bool:
        """Whether the pictures are large enough for threads to help."""
        return sum(h * w * number for (h, w), number in self.sizes.items()) >= _THREADED * max(1, len(self.looks))

    def tell(self, problems: Sequence[str], note: Note) -> None:
        """The remarks on what is done to them."""
        if problems:
            number = f"{len(problems):,} picture{'s' * (len(problems) > 1)} could not be read"
            note(f"{number} and {'are' if len(problems) > 1 else 'is'} left out: {listing(list(problems), 5)}")
        if any(size != self.shape[:2] for size in self.sizes):
            note(f"{self.path.name}: {change(list(self.sizes), self.shape)}")
        if any(look.grey != (self.shape[2] == 1) for _, look in self.looks) and (self.grey or self.shape[2] == 1):
            note(f"{self.path.name}: {recolour(self.shape)}")

    def none_readable(self, problems: Sequence[str]) -> DataError:
        return DataError(
            f"no picture in {self.path} can be read: {listing(list(problems), 3)}", hint="open one in a viewer"
        )


def list_pictures(path: Path, stack: ExitStack, shape: Shape | None) -> Listing:
    """Look at the headers; a zip stays open until `stack` ends."""
    sources, skipped = _sources(path, stack)
    if not sources and not skipped:
        raise DataError(f"there is no picture in {path}", hint=f"pictures end in {' '.join(ENDINGS)}")
    looks: list[tuple[_Source, _Look]] = []
    with _Quiet():
        for source in sources:  # reading headers is Python's work: threads would only wait for each other
            look = _look(source)
            if isinstance(look, _Look):
                looks.append((source, look))
            else:
                skipped.append(f"{source.name}: {look}")
    sizes = Counter(look.size for _, look in looks)
    grey = all(look.grey for _, look in looks)
    if shape is None:
        shape = (*(target(sizes) if sizes else (1, 1)), 1 if grey else 3)
    return Listing(path, looks, skipped, sizes, grey, shape)


def sampled(path: Path, most: int) -> tuple["Counter[tuple[int, int]]", int]:
    """The sizes of some of the pictures in a place, evenly spread over it, and how many there are."""
    with ExitStack() as stack, _Quiet():
        sources, _ = _sources(path, stack)
        some = sources[:: max(1, len(sources) // most)]
        looks = [look for source in some if isinstance(look := _look(source), _Look)]
    return Counter(look.size for look in looks), len(sources)


class _Quiet:
    """Pillow warns of broken metadata and of large pictures; what matters is counted.

    Filters of warnings belong to the whole process: the first thread sets them, the last puts them back.
    """

    lock = threading.Lock()
    inside = 0
    before: "warnings.catch_warnings | None" = None

    def __enter__(self) -> None:
        with _Quiet.lock:
            if not _Quiet.inside:
                _Quiet.before = warnings.catch_warnings()
                _Quiet.before.__enter__()
                warnings.simplefilter("ignore")
            _Quiet.inside += 1

    def __exit__(self, *_: object) -> None:
        with _Quiet.lock:
            _Quiet.inside -= 1
            if not _Quiet.inside and _Quiet.before is not None:
                _Quiet.before.__exit__(None, None, None)


def picture_files(path: Path) -> list[Path]:
    """The files that hold the pictures of a folder or zip, or of a single file."""
    return sorted(file for file in _walk(path, []) if file.is_file()) if path.is_dir() else [path]


def has_pictures(path: Path) -> bool:
    """Whether a folder or zip holds a file that is named as a picture."""
    if path.is_dir():
        return next(_walk(path, []), None) is not None
    with ExitStack() as stack:
        return any(True for _ in _sources(path, stack)[0])


def decode(found: Listing, places: Sequence[int]) -> tuple[np.ndarray, np.ndarray | None, list[str | None]]:
    """Pixels of some pictures, where they are observed, and why each that could not be decoded was not."""
    pixels = np.empty((len(places), *found.shape), np.uint8)
    observed = np.ones(pixels.shape[:3], bool) if found.alpha else None

    def one(i: int) -> str | None:
        def into(image: "Image.Image") -> None:
            pixels[i], seen = fitted(_plain(image, found.shape), found.shape)
            if observed is not None and seen is not None:
                observed[i] = seen

        return _tried(found.looks[places[i]][0], into)

    with _Quiet():
        return pixels, observed, list(_mapped(one, range(len(places)), threads=found.threads))


def _decoded(found: Listing, note: Note) -> Pictures:
    height, width, channels = found.shape
    require_room(len(found.looks) * height * width * channels, f"an array of {len(found.looks):,} pictures")
    pixels, observed, problems = decode(found, range(len(found.looks)))
    skipped = list(found.skipped)
    kept: list[int] = []
    for i, problem in enumerate(problems):
        if problem is not None:
            skipped.append(f"{found.looks[i][0].name}: {problem}")
            continue
        new = len(kept)
        if new != i:  # close the gap in place: a copy could be as large as the memory
            pixels[new] = pixels[i]
            if observed is not None:
                observed[new] = observed[i]
        kept.append(i)
    if not kept:
        raise found.none_readable(skipped)
    found.tell(skipped, note)
    if observed is not None and observed[: len(kept)].all():
        observed = None
    names = tuple(found.looks[i][0].name for i in kept)
    seen = None if observed is None else observed[: len(kept)]
    return Pictures(pixels[: len(kept)], seen, labels_of(names), names, tuple(sorted(skipped)))


def labels_of(names: Sequence[str]) -> np.ndarray | None:
    """The sub-folders, if every picture lies in one and they are at least two."""
    folders = [PurePosixPath(name).parent.name for name in names]
    return np.array(folders) if all(folders) and len(set(folders)) > 1 else None


def _mapped(do: Callable[[int], _Out], items: Sequence[int], *, threads: bool) -> Iterator[_Out]:
    if not threads:
        yield from map(do, items)
        return
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        for start in range(0, len(items), _BLOCK):
            yield from pool.map(do, items[start : start + _BLOCK])


def _tried(source: _Source, use: "Callable[[Image.Image], _Out]") -> "_Out | str":
    """`use` of the opened picture, or why that is impossible."""
    from PIL import Image, UnidentifiedImageError

    try:
        if source.size > _LARGEST_FILE:
            raise _UnreadableError(f"{source.size / 1e6:,.0f} MB, and at most {_LARGEST_FILE / 1e6:,.0f} are read")
        with source.open() as file, Image.open(file, formats=_FORMATS) as image:
            if image.width * image.height > _LARGEST_PICTURE:
                raise _UnreadableError(f"{image.width:,} × {image.height:,} pixels, and at most 100 million are read")
            return use(image)
    except UnidentifiedImageError:
        return "cannot identify image file"
    except Image.DecompressionBombError:
        return "more than 100 million pixels"
    except MemoryError:
        return "not enough memory"
    except Exception as error:  # a broken file makes decoders raise anything: SyntaxError, struct.error, KeyError …
        return (" ".join(str(error).split()) or type(error).__name__)[:120]


def _look(source: _Source) -> "_Look | str":
    def look(image: "Image.Image") -> _Look:
        turned = False
        # A PNG without EXIF would be decoded whole in search of it.
        if image.format != "PNG" or "exif" in image.info:
            turned = image.getexif().get(_ORIENTATION, 1) in (5, 6, 7, 8)
        size = (image.width, image.height) if turned else (image.height, image.width)
        grey = image.mode.split(";")[0] in ("1", "L", "LA", "La", "I", "F")
        if image.mode in ("P", "PA") and (palette := image.getpalette("RGB")):
            grey = all(palette[i] == palette[i + 1] == palette[i + 2] for i in range(0, len(palette) - 2, 3))
        return _Look(size, grey, image.has_transparency_data)

    return _tried(source, look)


def _plain(image: "Image.Image", shape: Shape) -> "Image.Image":
    """Upright, in mode L or RGB, with an alpha of 0 or 255 if pixels are missing."""
    from PIL import Image, ImageOps

    if image.format == "JPEG":
        side = 2 * max(shape[:2])
        image.draft(
            None, (side, side)
        )  # a large JPEG is decoded at half, a quarter … of its size: up to 8 times faster
    image = ImageOps.exif_transpose(image)
    if image.mode.split(";")[0] in ("I", "F"):
        return Image.fromarray(_eight_bits(np.asarray(image)))
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        seen = rgba.getchannel("A").point(lambda opacity: 255 if opacity else 0)
        paper = Image.new("RGBA", rgba.size, "white")
        image = Image.alpha_composite(paper, rgba).convert("L" if shape[2] == 1 else "RGB")
        if seen.getextrema() != (255, 255):
            image.putalpha(seen)
        return image
    return image.convert("L" if shape[2] == 1 else "RGB")


def _eight_bits(deep: np.ndarray) -> np.ndarray:
    """16-bit whole numbers, or fractions of [0, 1], as 0…255."""
    top = 1.0 if deep.dtype.kind == "f" else 65_535.0
    low, high = float(deep.min()), float(deep.max())
    if not (low >= 0 and high <= top):  # written so that NaN fails too
        raise _UnreadableError(f"its pixels lie in [{low:g}, {high:g}], not in [0, {top:g}]")
    return np.rint(deep * (255.0 / top)).astype(np.uint8)


def _sources(path: Path, stack: ExitStack) -> tuple[list[_Source], list[str]]:
    """The pictures in `path`, sorted by path, and those that cannot even be listed."""
    skipped: list[str] = []
    if path.is_dir():
        found = sorted(_walk(path, skipped), key=lambda file: file.relative_to(path).parts)
        return [_file(file, file.relative_to(path).as_posix()) for file in found], skipped
    if path.suffix.lower() != ".zip":
        return [_file(path, path.name)], skipped
    try:
        archive = stack.enter_context(zipfile.ZipFile(path))
        members = [info for info in archive.infolist() if _wanted(PurePosixPath(info.filename)) and not info.is_dir()]
    except Exception as error:  # a broken directory of a zip raises struct.error, ValueError, NotImplementedError …
        raise DataError(f"{path.name} is not a readable zip: {error}", hint="fetch or pack it again") from error
    members.sort(key=lambda info: PurePosixPath(info.filename).parts)
    return [_member(archive, info) for info in members], skipped


def _walk(folder: Path, skipped: list[str]) -> Iterator[Path]:
    def refused(error: OSError) -> None:
        skipped.append(f"{_printable(str(error.filename))}: {error.strerror}")

    for root, folders, files in os.walk(folder, onerror=refused):
        folders[:] = [name for name in folders if _wanted(PurePosixPath(name + ".png"))]
        for file in files:
            if _wanted(PurePosixPath(file)):
                yield Path(root, file)


def _wanted(path: PurePosixPath) -> bool:
    visible = not any(part.startswith(".") or part.startswith("__MACOSX") for part in path.parts)
    return visible and path.suffix.lower() in ENDINGS


def _file(path: Path, name: str) -> _Source:
    def opened() -> BinaryIO:
        if not stat.S_ISREG(path.stat().st_mode):
            raise _UnreadableError("not a file")  # a pipe would wait for ever
        return path.open("rb")

    try:
        size = path.stat().st_size
    except OSError:
        size = 0  # a broken link: opening it tells
    return _Source(_printable(name), size, opened)


def _member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> _Source:
    # Never to disk. Large members are streamed, so that a bomb is found out by its first bytes; small ones, whose
    # seeking back would unpack them again, are read whole. Neither gives more bytes than it declares.
    def opened() -> BinaryIO:
        return io.BytesIO(archive.read(info)) if info.file_size < 1 << 20 else cast(BinaryIO, archive.open(info))

    return _Source(_printable(info.filename), info.file_size, opened)


def _printable(name: str) -> str:
    """Names that are not UTF-8 could otherwise not be shown."""
    return name.encode("utf-8", "backslashreplace").decode()
