"""reconstruct: rows through the bottleneck and back."""

from typing import TYPE_CHECKING, Annotated, Any

from . import DATA, MODEL

# What it gives of a row does not depend on the others: data that exceed the memory can go through it in blocks.
ROWWISE = True

if TYPE_CHECKING:
    from ..estimator import Autoencoder


def reconstruct(
    model: Annotated["Autoencoder", MODEL],
    data: Annotated[Any, DATA],
) -> Any:
    """Rows as their codes remember them: the mean of each cell, the most probable level of a category.

    Missing cells come back filled. Raises DataError if the data do not fit the model.
    """
    return model.reconstruct(data)
