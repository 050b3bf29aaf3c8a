"""vector: the direction in the latent space from some rows to others."""

from typing import TYPE_CHECKING, Annotated, Any

from . import DATA, MODEL

# What its numbers are called in a table.
COLUMN = "direction"

if TYPE_CHECKING:
    import numpy as np

    from ..estimator import Autoencoder


def vector(
    model: Annotated["Autoencoder", MODEL],
    a: Annotated[Any, DATA],
    b: Annotated[Any, DATA],
) -> "np.ndarray":
    """The mean code of b's rows minus that of a's: what `apply` adds to a row to make it more like b. float32 [dim]

    Rows of a and b should differ in one attribute and be alike on average in all else: whatever else sets them apart is
    part of the direction too. Raises DataError if the data do not fit the model.
    """
    return model.transform(b).mean(0) - model.transform(a).mean(0)
