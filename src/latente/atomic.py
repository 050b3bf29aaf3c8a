"""Files that are either whole or not there: written beside their place, synced, then renamed."""

import contextlib
import errno
import os
import secrets
import shutil
import signal
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from .errors import ConfigError, ResourceError

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.ENOMEM, errno.EMFILE, errno.ENFILE}


def atomic_write(path: str | os.PathLike[str], data: bytes | Callable[[BinaryIO], object]) -> None:
    """Write a file whole or not at all; missing parent folders are made, an existing file is replaced.

    `data` is the content, or a function that writes it into the open file it is given.
    A link is followed; a device or pipe is written directly. Raises ResourceError if the
    disk is full, ConfigError if the place cannot be written (a folder, no permission).
    """
    with atomic_file(path) as file:
        if isinstance(data, bytes):
            file.write(data)
        else:
            data(file)


@contextlib.contextmanager
def atomic_file(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """An open file to fill, which takes its name `path` once all is in it; raises as `atomic_write` does."""
    with _refusals(path):
        target = Path(os.path.realpath(path))
        target.parent.mkdir(parents=True, exist_ok=True)
        mode = _mode(target)
        if mode is not None and stat.S_ISDIR(mode):
            raise ConfigError(f"{path} is a folder, not a file", hint="name a file in it")
        if mode is not None and not stat.S_ISREG(mode):
            with target.open("wb") as file:  # /dev/stdout, a pipe: renaming would replace the device itself
                yield file
            return
        part = target.parent / _part()
        try:
            with _new_file(part) as file:
                if mode is not None:
                    part.chmod(stat.S_IMODE(mode))
                yield file
                file.flush()
                os.fsync(file.fileno())
            part.replace(target)
        except BaseException:  # an interrupt too must leave no litter
            part.unlink(missing_ok=True)
            raise
        _sync(target.parent)


@contextlib.contextmanager
def atomic_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A new folder to fill, which takes its name `path` once all is in it; raises as `atomic_write` does.

    A folder that is there and empty is replaced; one with something in it is a ConfigError.
    """
    with _refusals(path):
        target = Path(os.path.realpath(path))
        if target.exists() and not target.is_dir():
            raise ConfigError(f"{path} is a file, not a folder", hint="name a new folder")
        if target.is_dir() and any(target.iterdir()):
            raise ConfigError(f"the folder {path} is not empty", hint="name a new folder, or empty this one")
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.parent / _part()
        part.mkdir()
        try:
            yield part
            for root, _, files in os.walk(part):
                for file in files:
                    _sync(Path(root, file))
                _sync(Path(root))
            if target.is_dir():
                target.rmdir()
            part.rename(target)
        except BaseException:
            shutil.rmtree(part, ignore_errors=True)
            raise
        _sync(target.parent)


def cache(name: str) -> Path:
    """A file of this name in the user's cache folder, there or not."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "latente" / name


def _part() -> str:
    """A name which no other process takes, and short, so that a long target's name still fits."""
    return f".latente-{secrets.token_hex(6)}.part"


def _mode(path: Path) -> int | None:
    try:
        return path.stat().st_mode
    except FileNotFoundError:
        return None


def _new_file(path: Path) -> BinaryIO:
    # Not tempfile.mkstemp, whose files only their owner may read: here the umask decides.
    return os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666), "w+b")


def _sync(path: Path) -> None:
    # Some file systems cannot sync a folder; the rename is then as safe as it can be.
    with contextlib.suppress(OSError):
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


@contextlib.contextmanager
def _refusals(path: str | os.PathLike[str]) -> Iterator[None]:
    if b"\0" in os.fsencode(path):
        raise ConfigError(f"{os.fspath(path)!r} is no file name: it holds a zero", hint="name another file")
    try:
        yield
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        if error.errno in _FULL:
            raise ResourceError(
                f"{path} cannot be written: {reason}", hint="free some space, or write elsewhere"
            ) from error
        raise ConfigError(f"{path} cannot be written: {reason}", hint="name a place that you may write to") from error


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """Ctrl-C waits until this is over: what was learned or written is whole before anything stops."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    heard: list[int] = []
    # A handler, not a mask: a masked signal goes to another thread, and Python raises it in this one all the same.
    before = signal.signal(signal.SIGINT, lambda number, frame: heard.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if heard:
            signal.raise_signal(signal.SIGINT)
