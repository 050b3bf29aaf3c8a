"""neighbours: the rows whose codes are nearest to one's."""

from typing import TYPE_CHECKING, Annotated, Any

from . import MODEL, ROW

if TYPE_CHECKING:
    import pandas as pd

    from ..estimator import Autoencoder


def neighbours(
    model: Annotated["Autoencoder", MODEL],
    item: Annotated[Any, ROW],
    *,
    among: Annotated[Any, "the rows among which to look"] = None,
    k: Annotated[int, "how many"] = 10,
) -> "pd.DataFrame":
    """The k rows of `among` whose codes are nearest to the item's: row (from 0), distance, and what is in the row.

    The model file holds no rows, so say where they are. Items of a recommender are in it: give an item's name alone,
    for those whose codes, each that of a history of one item, lie most nearly the same way (item, cosine).

    Raises ConfigError without `among`, or if k is not from 1 to the number of rows.
    """
    from ..errors import ConfigError
    from ..uses import recommendation
    from ..uses.neighbours import nearest
    from ..uses.rows import row_of

    if recommendation.recommends(model) and among is None:
        return recommendation.similar(model, str(item), k)
    if among is None:
        raise ConfigError("a model file holds no rows to look among", hint="--among TRAINING-ROWS")
    schema = model.schema_
    return nearest(model, row_of(item, schema.name, schema.read_options, getattr(schema, "window", 1)), among, k)
