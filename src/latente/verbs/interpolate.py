"""interpolate: a smooth way from one row to another."""

from typing import TYPE_CHECKING, Annotated, Any

from . import MODEL, ROW

if TYPE_CHECKING:
    from pathlib import Path

    from ..estimator import Autoencoder


def interpolate(
    model: Annotated["Autoencoder", MODEL],
    a: Annotated[Any, ROW],
    b: Annotated[Any, ROW],
    *,
    steps: Annotated[int, "rows or pictures on the way, both ends included"] = 9,
) -> Any:
    """Decoded codes on the way from a to b: rows of a table, pictures, texts (a file, FILE:N, or the text itself),
    tunes, or windows of series (FILE:N is the one from row N on).

    Of a tune the way is between its first window from the bar on in which it sounds.

    For a Gaussian latent the way is a great circle, whose points are as far from the origin as draws from the prior
    are: a straight line would cross the middle, where there are none (White 2016, arXiv:1609.04468). For a point latent
    it is a line, and for codes a line whose points are taken to their nearest entries. What is given of the ends, of a
    conditional model, is given on the way: amounts in proportion, all else as a's up to the middle. Raises DataError if
    a row does not fit the model.
    """
    from ..errors import ConfigError
    from ..uses.rows import row_of
    from ..uses.ways import between, told_between

    if steps < 2:
        raise ConfigError(f"steps must be 2 or more, not {steps}")
    kind, options = model.schema_.name, model.schema_.read_options
    ends = [row_of(end, kind, options, getattr(model.schema_, "window", 1)) for end in (a, b)]
    codes = [model.transform(end)[0] for end in ends]
    told = told_between(model, ends[0], ends[1], steps)
    return model.decode(between(model, codes[0], codes[1], steps), given=told)


def save(result: Any, target: "Path", model: "Autoencoder", a: Any, b: Any, **options: Any) -> "list[Path]":
    """Write the way: a table's rows as any table; pictures as a strip (.png) with an animation (.gif) beside it; tunes
    as .mid, one after the other, with a picture of their rolls (.png) beside it.
    """
    from ..kinds.writing import strip, write
    from ..uses.pictures import rgb
    from ..uses.ways import FINE

    if model.schema_.name == "music" and target.suffix in (".png", ".mid"):
        from dataclasses import replace

        result = type(result)(tuple(replace(t, name=f"step {i} of {len(result)}") for i, t in enumerate(result, 1)))
        return write(result, target.with_suffix(".mid")) + write(result, target.with_suffix(".png"))
    if model.schema_.name != "image" or target.suffix not in (".png", ".gif"):
        return write(result, target)
    frames = interpolate(model, a, b, **{**options, "steps": (len(result) - 1) * FINE + 1})
    written = write(strip(rgb(result)), target.with_suffix(".png"))
    return written + write(rgb(frames), target.with_suffix(".gif"))
