"""apply: rows moved along a direction of the latent space."""

from typing import TYPE_CHECKING, Annotated, Any

from . import DATA, MODEL

if TYPE_CHECKING:
    from ..estimator import Autoencoder


def apply(
    model: Annotated["Autoencoder", MODEL],
    data: Annotated[Any, DATA],
    direction: Annotated[Any, DATA],
    *,
    strength: Annotated[float, "how often the direction is added; below 0, the other way"] = 1.0,
) -> Any:
    """Rows decoded from their codes plus `strength` times a direction, as `vector` finds one.

    direction: an array [dim], or the file of one. Raises DataError if it does not have the latent space's dimensions.
    """
    from ..uses.ways import moved

    return moved(model, data, direction, strength)
