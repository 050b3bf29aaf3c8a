"""Sealed files: one safetensors file whose metadata holds one JSON document with a digest of the whole.

    metadata["latente"] = {"digest": "<64 hex>", "format": n, ...}

`digest` is the SHA-256 of the whole file with its own 64 characters read as zeros: a flipped bit anywhere is an error,
never a wrong number. Equal contents are equal bytes: one metadata key, JSON keys sorted, tensors in name order. Model
files and checkpoints are of this form.
"""

import hashlib
import json
from typing import TYPE_CHECKING, Any

from .errors import DataError, ModelFileError

if TYPE_CHECKING:
    import numpy as np

_KEY = "latente"
_ZEROS = "0" * 64


def seal(document: dict[str, Any], tensors: "dict[str, np.ndarray]") -> bytes:
    """The bytes of a sealed file; `document` gets its digest here. Raises DataError if it holds 64 zeros in a row."""
    import numpy as np
    from safetensors.numpy import save

    text = json.dumps(document | {"digest": _ZEROS}, sort_keys=True, ensure_ascii=False, allow_nan=False)
    # safetensors writes an array's buffer as it lies: one in another order would come back scrambled.
    ordered = {name: np.asarray(tensors[name], order="C") for name in sorted(tensors)}
    data = save(ordered, metadata={_KEY: text})
    if data.count(_ZEROS.encode(), 0, 8 + int.from_bytes(data[:8], "little")) != 1:
        # Only a label or level of 64 zeros could do that.
        raise DataError("a name in the data holds 64 zeros in a row, which the model file cannot", hint="rename it")
    return data.replace(_ZEROS.encode(), hashlib.sha256(data).hexdigest().encode(), 1)


def unseal(data: bytes, name: str, newest: int, what: str = "model file") -> dict[str, Any]:
    """The document of a sealed file's bytes, after every check that needs no tensors; ModelFileError says what failed.

    newest: the highest `format` that the caller reads. what: what such a file is called.
    """
    size = int.from_bytes(data[:8], "little")
    if len(data) < 8 or size > 100_000_000 or size + 8 > len(data) or data[8:9] != b"{":
        raise ModelFileError(f"{name} is not a {what}, or is cut off", hint="copy it again, or fit the model anew")
    try:
        header = json.loads(data[8 : 8 + size])
        text = header.get("__metadata__", {}).get(_KEY)
    except (ValueError, AttributeError, RecursionError):
        raise ModelFileError(
            f"{name} is damaged: its header is no JSON", hint="copy it again from its source"
        ) from None
    if not isinstance(text, str):
        raise ModelFileError(
            f"{name} is a safetensors file, but not one of latente's", hint="latente fit DATA makes one"
        )
    try:
        document = json.loads(text)
        digest = document["digest"]
        length = 8 + size + max(v["data_offsets"][1] for k, v in header.items() if k != "__metadata__")
    except (ValueError, KeyError, TypeError, IndexError, RecursionError):
        raise ModelFileError(
            f"{name} is damaged: its document cannot be read", hint="copy it again from its source"
        ) from None
    if len(data) < length:
        raise ModelFileError(f"{name} is cut off: {len(data):,} of {length:,} bytes are there", hint="copy it again")
    version = document.get("format")
    if isinstance(version, int) and version > newest:
        raise ModelFileError(
            f"{name} has format {version}, and this latente reads up to {newest}", hint="pip install --upgrade latente"
        )
    mark = str(digest).encode()
    if len(mark) != 64 or data.count(mark, 0, 8 + size) != 1 or _digest(data, mark) != digest:
        raise ModelFileError(
            f"{name} is damaged: its digest does not match its content", hint="copy it again from its source"
        )
    return document


def _digest(data: bytes, mark: bytes) -> str:
    return hashlib.sha256(data.replace(mark, _ZEROS.encode(), 1)).hexdigest()
