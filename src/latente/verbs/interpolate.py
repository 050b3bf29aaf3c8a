"""interpolate: a smooth way from one row to another."""

from typing import TYPE_CHECKING, Annotated, Any

from . import MODEL, ROW

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np

    from ..estimator import Autoencoder

# Frames between two pictures of the strip, in the animation.
FINE = 6


def interpolate(
    model: Annotated["Autoencoder", MODEL],
    a: Annotated[Any, ROW],
    b: Annotated[Any, ROW],
    *,
    steps: Annotated[int, "rows or pictures on the way, both ends included"] = 9,
) -> Any:
    """Decoded codes on the way from a to b: rows of a table, or pictures.

    For a Gaussian latent the way is a great circle, whose points are as far from the origin as draws from the prior
    are: a straight line would cross the middle, where there are none (White 2016, arXiv:1609.04468). For a point latent
    it is a line, and for codes a line whose points are taken to their nearest entries. Raises DataError if a row does
    not fit the model.
    """
    import torch

    from ..errors import ConfigError
    from ..uses.rows import row_of

    if steps < 2:
        raise ConfigError(f"steps must be 2 or more, not {steps}")
    kind, options = model.schema_.name, model.schema_.read_options
    codes = [model.transform(row_of(end, kind, options))[0] for end in (a, b)]
    way = path(codes[0], codes[1], steps, round=model.spec_.latent.name not in ("point", "codes"))
    return model.inverse_transform(model.model_.snap(torch.from_numpy(way)).numpy())


def path(a: "np.ndarray", b: "np.ndarray", steps: int, round: bool = True) -> "np.ndarray":
    """Codes [steps, d] from a [d] to b [d]: along a great circle, with the radius in proportion, or along a line."""
    import numpy as np

    t = np.linspace(0.0, 1.0, steps)[:, None]
    ra, rb = float(np.linalg.norm(a)), float(np.linalg.norm(b))
    cosine = float(np.clip(a @ b / (ra * rb), -1, 1)) if ra > 0 and rb > 0 else 1.0
    angle = np.arccos(cosine)
    # Between (nearly) parallel codes a circle is the line; between opposite ones it is not defined.
    if not round or angle < 1e-3 or angle > np.pi - 1e-3:
        return ((1 - t) * a + t * b).astype(np.float32)
    direction = (np.sin((1 - t) * angle) * a / ra + np.sin(t * angle) * b / rb) / np.sin(angle)
    return (direction * ((1 - t) * ra + t * rb)).astype(np.float32)


def save(result: Any, target: "Path", model: "Autoencoder", a: Any, b: Any, **options: Any) -> "list[Path]":
    """Write the way: a table's rows as any table; pictures as a strip (.png) with an animation (.gif) beside it."""
    from ..kinds.writing import strip, write
    from ..uses.pictures import rgb

    if model.schema_.name != "image" or target.suffix not in (".png", ".gif"):
        return write(result, target)
    frames = interpolate(model, a, b, **{**options, "steps": (len(result) - 1) * FINE + 1})
    written = write(strip(rgb(result)), target.with_suffix(".png"))
    return written + write(rgb(frames), target.with_suffix(".gif"))
