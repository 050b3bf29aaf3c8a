"""The model file: one safetensors file whose metadata holds one JSON document.

    metadata["latente"] = {"card": {...}, "digest": "<64 hex>", "format": 1, "schema": {...}, "spec": {...}}

`spec` is parts and training settings, `schema` the fitted kind, `card` what a reader wants to know; `use`, where there
is one, what was learned beside the model: {"learned": {...}, "tensors": {name: [dtype, shape]}}. There is no pickle
and no import path in it. `digest` and the bytes are those of every sealed file (`sealed.py`). `format` rises when
an old reader would misread a new file; `_MIGRATIONS[n]` turns a document of format n into one of n + 1.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import DataError, LatenteError, ModelFileError
from .sealed import seal, unseal

if TYPE_CHECKING:
    import numpy as np

FORMAT = 1
_MIGRATIONS: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {}
_NEEDED = {"card": dict, "digest": str, "format": int, "schema": dict, "spec": dict}


@dataclass(frozen=True)
class Document:
    """What a model file says, tensors apart."""

    spec: dict[str, Any]
    schema: dict[str, Any]
    card: dict[str, Any]
    digest: str = ""
    use: dict[str, Any] | None = None


# What building from a document that cannot be raises.
_FAULTS = (
    TypeError,
    ValueError,
    LookupError,
    AttributeError,
    ArithmeticError,
    AssertionError,
    RuntimeError,
    MemoryError,
)


def dump(document: Document, tensors: "dict[str, np.ndarray]") -> bytes:
    """The bytes of a model file."""
    more = {} if document.use is None else {"use": document.use}
    return seal(
        {"card": document.card, "format": FORMAT, "schema": document.schema, "spec": document.spec, **more},
        tensors,
    )


def read(path: str | Path) -> tuple[Document, bytes]:
    """The checked document of a model file, and the file's bytes. Needs no torch.

    A run folder stands for the model in it. Raises DataError if there is no such file, ModelFileError, saying which,
    for a truncated, damaged or foreign file or one of a newer format.
    """
    path = Path(path)
    if path.is_dir():
        path = path / "model.safetensors"
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise DataError(
            f"there is no model at {path}", hint="latente fit DATA makes one; latente demo shows how"
        ) from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from None
    return parse(data, str(path)), data


def parse(data: bytes, name: str) -> Document:
    """The document of a file's bytes, after every check that needs no tensors."""
    document = unseal(data, name, FORMAT)
    version = document.get("format")
    for step in range(version if isinstance(version, int) else FORMAT, FORMAT):
        document = _MIGRATIONS[step](document)
    for key, kind in _NEEDED.items():
        if not isinstance(document.get(key), kind):
            raise ModelFileError(f"{name} is damaged: its document has no {key!r}", hint="fit the model anew")
    use = document.get("use")
    if use is not None and not (isinstance(use, dict) and {"learned", "tensors"} <= use.keys()):
        raise ModelFileError(f"{name} is damaged: its document has no whole 'use'", hint="fit the model anew")
    return Document(document["spec"], document["schema"], document["card"], document["digest"], use)


def tensors(data: bytes, wanted: "dict[str, tuple[str, tuple[int, ...]]]", name: str) -> "dict[str, np.ndarray]":
    """The tensors of a file's bytes: exactly those wanted, by name, dtype and shape; ModelFileError otherwise."""
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        found = load(data)
    except (SafetensorError, ValueError, KeyError) as error:
        raise ModelFileError(f"{name} is damaged: {error}", hint="copy it again from its source") from None
    got = {k: (str(v.dtype), tuple(v.shape)) for k, v in found.items()}
    if got != wanted:
        odd = sorted(k for k in got.keys() | wanted.keys() if got.get(k) != wanted.get(k))[0]
        raise ModelFileError(
            f"{name} does not hold the model it describes: tensor {odd!r} is {got.get(odd)}, not {wanted.get(odd)}",
            hint="fit the model anew with this version",
        )
    return found


def described(build: Callable[[], Any], name: str) -> Any:
    """Run `build`, which makes parts of a file's document; what it refuses is the file's fault."""
    try:
        return build()
    except ModelFileError:
        raise
    except (
        LatenteError,
        TypeError,
        ValueError,
        LookupError,
        AttributeError,
        ArithmeticError,
        RuntimeError,
        AssertionError,
        MemoryError,
    ) as error:
        problem = error.problem if isinstance(error, LatenteError) else f"{type(error).__name__}: {error}"
        raise ModelFileError(
            f"{name} describes a model that this version cannot build: {problem}", hint="pip install --upgrade latente"
        ) from None
