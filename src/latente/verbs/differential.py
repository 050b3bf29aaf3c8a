"""differential: genes, or words, that two groups of rows differ in."""

from typing import TYPE_CHECKING, Annotated, Any

from . import DATA, MODEL

if TYPE_CHECKING:
    import pandas as pd

    from ..estimator import Autoencoder


def differential(
    model: Annotated["Autoencoder", MODEL],
    data: Annotated[Any, DATA],
    *,
    by: Annotated[str, "the column that says which group a row is in: of an .h5ad file, one of obs"],
    group: Annotated[str, "the group"],
    against: Annotated[str | None, "the group to compare it with; unless given, all other rows"] = None,
    change: Annotated[float, "log2 fold that counts as a change"] = 0.5,
    samples: Annotated[int, "pairs of cells that are drawn"] = 2000,
    given: Annotated[str | None, "what is given of all of them, so that it has no part in it: batch=a"] = None,
    seed: Annotated[int, "seed of the draws"] = 0,
) -> "pd.DataFrame":
    """Of each gene how it differs between two groups of cells, by draws of pairs of cells through the model.

    A line a gene, the surest first: name; log2_fold, the mean log2 ratio of its shares; p_higher and p_lower, the share
    of pairs in which it is higher, or lower, by more than `change`; mean and mean_other, its expected counts in a cell
    of the usual size; and, without a model, raw_log2_fold of the mean shares, seen and seen_other, in what share of the
    cells it is there at all. The shares of pairs say how surely two cells differ, not how surely two means do.

    Raises ConfigError for a column or a group that is not there, or a model that is not of counts.
    Source: Lopez et al. 2018 and Boyeau et al. 2019 (scVI's change mode), with no prior on the fold.
    """
    from ..uses import cells

    return cells.differential(model, data, by, group, against, change, samples, given, seed)
