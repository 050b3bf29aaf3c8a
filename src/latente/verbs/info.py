"""info: what a model file says of itself."""

from typing import Annotated, Any

from . import MODEL


def info(model: Annotated[Any, MODEL]) -> dict[str, Any]:
    """What a model is: recipe, schema, training, held-out losses, findings. Reads no weights and loads no torch.

    Raises DataError if there is no such file and ModelFileError if it is damaged or foreign.
    """
    from ..file import FORMAT, described, read

    document, data = read(model) if not hasattr(model, "_bytes") else _own(model)
    # What `load` needs and a reader does not.
    card = {k: v for k, v in document.card.items() if k not in ("features", "names", "components")}
    described(lambda: [_part(p) for k, p in document.spec.items() if k != "train" and p], "the model file")
    parts = {k: v for k, v in document.spec.items() if k != "train" and v}
    return {
        "model": str(model) if isinstance(model, str) or hasattr(model, "__fspath__") else type(model).__name__,
        "format": FORMAT,
        "bytes": len(data),
        "digest": document.digest,
        **{role: _part(part) for role, part in parts.items()},
        **card,
    }


def _part(document: dict[str, Any]) -> str:
    settings = ", ".join(f"{k} {v}" for k, v in document.items() if k != "part")
    return document["part"] + (f" ({settings})" if settings else "")


def _own(model: Any) -> Any:
    from ..file import parse

    data = model._bytes()
    return parse(data, "the model"), data
