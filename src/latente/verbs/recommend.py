"""recommend: what people may like, from what they took."""

from typing import TYPE_CHECKING, Annotated, Any

from . import HISTORY, MODEL

if TYPE_CHECKING:
    import pandas as pd

    from ..estimator import Autoencoder


def recommend(
    model: Annotated["Autoencoder", MODEL],
    history: Annotated[Any, HISTORY],
    *,
    k: Annotated[int, "how many for each user"] = 20,
    by: Annotated[str, "both, or one of the parts: net, linear, ease, popularity"] = "both",
    why: Annotated[int, "items of the history that are named as the reasons of a pick; 0 is quicker"] = 3,
    among: Annotated[Any, "only these items: a .txt with one a line, or names with commas between them"] = None,
    seen: Annotated[bool, "recommend what was taken already, too"] = False,
) -> "pd.DataFrame":
    """For each user the k items that come next: user, rank, item, score, because. Users need not be known.

    history: lines of user and item as `fit` takes them, a sparse matrix, lists of item names, or, on the command line,
    names with commas between them. Items that the model does not know are named and left out.
    among: what may be recommended at all, such as what is in stock.
    score: log p of the net (nats) plus the linear model's score times its weight: higher is likelier; compare within a
    user. because: the items of the history that weigh most, with what each adds to the pick's score through the
    linear model; where there is none, how far the pick's log p falls without the item.

    Raises ConfigError for a model that gives no recommendations, DataError if it knows none of the items.
    """
    from ..uses import recommendation

    return recommendation.recommend(model, history, k, by, why, seen, among)
