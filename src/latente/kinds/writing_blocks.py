"""Results in blocks -> one file, which may be larger than the memory; whole or not there, as `write` leaves it."""

import os
import tempfile
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from ..atomic import atomic_file, atomic_folder
from ..errors import ConfigError
from .writing import arrow_table, frame_of, has_returns, matrix_of, pour_text, what_of
from .writing_pictures import as_pictures, file_names, one_image

if TYPE_CHECKING:
    import pandas as pd

_TABLES = (".csv", ".tsv", ".parquet", ".arrow", ".feather", ".npy")


class Appender(ABC):
    """Takes the blocks of a result one after the other."""

    @abstractmethod
    def add(self, block: object) -> None:
        """The next rows: what `write` takes, with the columns and types of the first block."""

    @abstractmethod
    def close(self) -> None:
        """Nothing more comes."""


@contextmanager
def append_to(path: str | os.PathLike[str], *, names: Sequence[str] | None = None) -> Iterator[Appender]:
    """A file to which a result is added block by block; it takes its name when the `with` block ends without an error.

    Tables and arrays go to .csv .tsv .parquet .arrow .feather .npy; pictures to .npy, a .zip or
    a folder (a name without an ending, or with a final /). `names` are the columns of arrays, or
    the file names of all pictures; without them pictures of equal names are told apart by a number.

    What is read back is what one `write` of all blocks would leave. Raises ConfigError for
    other endings, for blocks that do not go together, and if there was no block.
    """
    place = Path(path)
    ending = place.suffix.lower()
    folder = not ending or os.fspath(path).endswith(("/", os.sep))
    if not folder and ending not in (*_TABLES, ".zip"):
        raise ConfigError(
            f"{place.name!r} cannot be written in blocks: it ends in {ending}",
            hint=f"tables can be written as {' '.join(_TABLES)}, pictures as .npy .zip or a folder (a final /)",
        )
    with ExitStack() as stack:
        out: Appender
        if folder:
            out = _Pictures(stack.enter_context(atomic_folder(place)), names)
        else:
            file = stack.enter_context(atomic_file(place))
            if ending in (".csv", ".tsv"):
                beside = place.resolve().parent
                out = _Text(
                    file,
                    place,
                    "," if ending == ".csv" else "\t",
                    names,
                    lambda: stack.enter_context(tempfile.TemporaryFile(dir=beside)),
                )
            elif ending == ".npy":
                out = _Array(file, place)
            elif ending == ".zip":
                out = _Pictures(stack.enter_context(zipfile.ZipFile(file, "w")), names)
            else:
                out = _Columnar(file, place, ending, names, stack)
        yield out
        out.close()


class _Table(Appender):
    """A format of named columns, which all blocks share."""

    def __init__(self, file: BinaryIO, path: Path, names: Sequence[str] | None) -> None:
        self.file, self.path, self.names = file, path, names
        self.columns: list[Any] | None = None

    def add(self, block: object) -> None:
        _require(block, "table", self.path)
        frame = frame_of(block, self.names)
        first = self.columns is None
        if self.columns is not None and list(frame.columns) != self.columns:
            raise ConfigError(
                f"{self.path.name} has the columns {self.columns[:6]}, and a later block {list(frame.columns)[:6]}",
                hint="give every block the same columns",
            )
        self.columns = list(frame.columns)
        self.put(frame, first=first)

    @abstractmethod
    def put(self, frame: "pd.DataFrame", *, first: bool) -> None: ...

    def close(self) -> None:
        if self.columns is None:
            raise _nothing(self.path)


class _Text(_Table):
    """csv and tsv.

    How pandas writes a time, with or without hours and fractions, depends on all times of its
    column: tables with times wait in a temporary file until all are known.
    """

    def __init__(
        self, file: BinaryIO, path: Path, delimiter: str, names: Sequence[str] | None, spare: Callable[[], Any]
    ) -> None:
        super().__init__(file, path, names)
        self.delimiter, self.spare = delimiter, spare
        self.times: dict[int, pd.Series] = {}  # by place: values that decide how the column is written
        self.waiting: Any = None  # the temporary file, and what writes into it
        self.queue: Any = None
        self.schema: Any = None
        self.quoted = False

    def put(self, frame: "pd.DataFrame", *, first: bool) -> None:
        import pandas as pd
        from pyarrow import ipc

        self.quoted = self.quoted or has_returns(frame)
        places = [i for i, kind in enumerate(frame.dtypes) if pd.api.types.is_datetime64_any_dtype(kind)]
        if not places and self.queue is None:
            pour_text(frame, self.file, self.delimiter, quoted=self.quoted, header=first)
            return
        if not first and self.queue is None:
            raise ConfigError(
                f"{self.path.name}: column {frame.columns[places[0]]!r} holds times, and none before",
                hint="give every block the same types",
            )
        for i in places:
            seen = _deciding(frame.iloc[:, i])
            self.times[i] = pd.concat([self.times[i], seen]) if i in self.times else seen
        table = arrow_table(frame, self.path, self.schema)
        if self.queue is None:
            self.schema = table.schema
            self.waiting = self.spare()
            self.queue = ipc.new_stream(self.waiting, self.schema)
        self.queue.write_table(table)

    def close(self) -> None:
        super().close()
        if self.queue is None:
            return
        from pyarrow import ipc

        self.queue.close()
        self.waiting.seek(0)
        for i, batch in enumerate(ipc.open_stream(self.waiting)):
            frame = batch.to_pandas()
            frame.columns = self.columns
            for place, times in self.times.items():
                frame.isetitem(place, _written(frame.iloc[:, place], times))
            pour_text(frame, self.file, self.delimiter, quoted=self.quoted, header=i == 0)


def _deciding(column: "pd.Series") -> "pd.Series":
    """The first time, and the first that is no whole day, second, …: their like decide how all are written."""
    import pandas as pd

    times = column.dropna().reset_index(drop=True)
    clocks = [times] if times.dt.tz is None else [t.dt.tz_localize(None) for t in (times, times.dt.tz_convert("UTC"))]
    odd = [times[clock.dt.floor(unit) != clock].iloc[:1] for clock in clocks for unit in ("D", "s", "ms", "us")]
    return pd.concat([times.iloc[:1], *odd])


def _written(column: "pd.Series", deciding: "pd.Series") -> "pd.Series":
    """Times as the text that they are in a column which has the deciding ones too."""
    import pandas as pd

    text = pd.concat([deciding, column]).to_csv(header=False, index=False, na_rep="NaT", lineterminator="\n")
    lines = pd.Series(text.splitlines()[len(deciding) :], index=column.index, dtype=object)
    return lines.mask(lines == "NaT")


class _Columnar(_Table):
    """Parquet and Arrow: every block is a group of rows."""

    def __init__(self, file: BinaryIO, path: Path, ending: str, names: Sequence[str] | None, stack: ExitStack) -> None:
        super().__init__(file, path, names)
        self.ending, self.stack = ending, stack
        self.writer: Any = None
        self.schema: Any = None

    def put(self, frame: "pd.DataFrame", *, first: bool) -> None:
        import pyarrow as pa
        from pyarrow import ipc, parquet

        table = arrow_table(frame, self.path, self.schema)
        if first:
            self.schema = table.schema
            new = parquet.ParquetWriter if self.ending == ".parquet" else ipc.new_file
            self.writer = self.stack.enter_context(new(self.file, self.schema))
        try:
            self.writer.write_table(table)
        except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, ValueError) as error:
            reason = " ".join(str(error).split())[:200]
            raise ConfigError(f"{self.path.name} cannot hold these blocks: {reason}", hint="write .csv") from error


class _Array(Appender):
    """npy: numpy leaves room in the header for a number of rows that is written at the end."""

    def __init__(self, file: BinaryIO, path: Path) -> None:
        self.file, self.path = file, path
        self.rows, self.shape, self.dtype = 0, (), np.dtype(float)

    def add(self, block: object) -> None:
        if what_of(block) == "pictures":
            pixels = as_pictures(block).pixels
            array = pixels[..., 0] if pixels.shape[-1] == 1 else pixels
        else:
            _require(block, "table", self.path)
            array = matrix_of(block, self.path)
        if self.rows == 0:
            self.shape, self.dtype = array.shape[1:], array.dtype
            self._header(0)
        if array.shape[1:] != self.shape or not np.can_cast(array.dtype, self.dtype, "safe"):
            raise ConfigError(
                f"{self.path.name} holds rows of {self.dtype} of shape {self.shape}, "
                f"and a later block of {array.dtype} of shape {array.shape[1:]}",
                hint="write a table as .parquet, and pictures into a folder",
            )
        self.rows += len(array)
        self.file.write(np.ascontiguousarray(array, self.dtype).data)

    def close(self) -> None:
        if not self.rows:
            raise _nothing(self.path)
        self.file.seek(0)
        self._header(self.rows)

    def _header(self, rows: int) -> None:
        about = {"descr": np.lib.format.dtype_to_descr(self.dtype), "fortran_order": False}
        np.lib.format.write_array_header_1_0(self.file, about | {"shape": (rows, *self.shape)})


class _Pictures(Appender):
    """A folder or zip of PNG files."""

    def __init__(self, place: "Path | zipfile.ZipFile", names: Sequence[str] | None) -> None:
        self.place = place
        self.names = None if names is None else file_names(names, len(names))
        self.number = 0
        self.taken: dict[str, int] = {}

    def add(self, block: object) -> None:
        pictures = as_pictures(block)
        for i, name in enumerate(self._names(pictures.names, len(pictures))):
            image = one_image(pictures, i)
            if isinstance(self.place, Path):
                image.save(self.place / name, "PNG")
            else:
                # A date of its own would make equal archives differ.
                with self.place.open(zipfile.ZipInfo(name), "w") as file:
                    image.save(file, "PNG")
        self.number += len(pictures)

    def close(self) -> None:
        if not self.number:
            raise ConfigError("there is no picture to write", hint="give at least one picture")

    def _names(self, given: Sequence[str], n: int) -> list[str]:
        if self.names is not None:
            if self.number + n > len(self.names):
                raise ConfigError(f"{len(self.names)} names for more pictures", hint="give one name per picture")
            return self.names[self.number : self.number + n]
        found = file_names(given, n) if given else [f"{i:06d}.png" for i in range(self.number, self.number + n)]
        unique = []
        for name in found:
            again = self.taken[name.casefold()] = self.taken.get(name.casefold(), 0) + 1
            unique.append(name if again == 1 else f"{name.removesuffix('.png')}-{again}.png")
        return unique


def _require(block: object, what: str, path: Path) -> None:
    if (found := what_of(block)) != what:
        raise ConfigError(f"{path.name} holds a {what}, and a block is of {found}", hint="name another format")


def _nothing(path: Path) -> ConfigError:
    return ConfigError(f"there is nothing to write to {path.name}", hint="give at least one row")
