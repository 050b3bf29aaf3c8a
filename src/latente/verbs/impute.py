"""impute: fill what is missing, and nothing else."""

from typing import TYPE_CHECKING, Annotated, Any

from . import DATA, MODEL

# What it gives of a row does not depend on the others: data that exceed the memory can go through it in blocks.
ROWWISE = True

if TYPE_CHECKING:
    from ..estimator import Autoencoder


def impute(
    model: Annotated["Autoencoder", MODEL],
    data: Annotated[Any, DATA],
    *,
    rounds: Annotated[int, "times that the filled row is encoded again; not of recipe tabular"] = 10,
    draws: Annotated[
        int, "fill with so many draws in place of the mean: the rows so many times over, counted in a column 'draw'"
    ] = 0,
    seed: Annotated[int, "seed of the draws"] = 0,
) -> Any:
    """Missing cells (empty, NaN, or transparent pixels) filled by the mean, or most probable level, given the others.

    Observed cells are not touched. The first round encodes the observed cells alone; each further one encodes the row
    as filled so far, a mean-field version of pseudo-Gibbs (Rezende, Mohamed & Wierstra 2014, arXiv:1401.4082, app. F).
    A model of recipe tabular knows each cell's distribution given any others: the fill is its mean or mode. `draws` are
    for multiple imputation: the spread between them is what is not known.
    A column that the model does not hold (identifiers) stays missing. Raises DataError if the data do not fit.
    """
    from ..errors import ConfigError
    from ..uses import imputation, neighbours

    if rounds < 1:
        raise ConfigError(f"rounds must be 1 or more, not {rounds}")
    if not isinstance(draws, int) or draws < 0:
        raise ConfigError(f"draws must be a whole number, 0 or more, not {draws!r}")
    if neighbours.of_tokens(model):
        raise ConfigError("texts and tunes have no gaps to fill", hint="latente denoise, or latente reconstruct")
    if draws:
        return imputation.multiple(model, data, draws, seed)
    return imputation.fill(model, data, rounds)
