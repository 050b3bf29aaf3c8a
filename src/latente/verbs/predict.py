"""predict: a class or a number of each row."""

from typing import TYPE_CHECKING, Annotated, Any

from . import DATA, MODEL

# What it gives of a row does not depend on the others: data that exceed the memory can go through it in blocks.
ROWWISE = True

if TYPE_CHECKING:
    from ..estimator import Autoencoder


def predict(
    model: Annotated["Autoencoder", MODEL],
    data: Annotated[Any, DATA],
    *,
    probabilities: Annotated[bool, "of classes, a column p_CLASS for each"] = True,
) -> Any:
    """The class of each row, and how probable each is; or its number. A table, with the target's name.

    For models that `finetune`, LatentClassifier or LatentRegressor made. Raises ConfigError for any other, and
    DataError if the data do not fit it.
    """
    import numpy as np
    import pandas as pd

    from ..uses.supervised import predicts_of

    predicts = predicts_of(model)
    meaning = predicts.meaning
    rows = model.schema_.to_batch(model.rows(data))
    if not meaning.classes:
        return pd.DataFrame({meaning.target: predicts.numbers(rows)[:, 0]})
    p = predicts.probabilities(rows)
    found = pd.DataFrame({meaning.target: meaning.labels[np.argmax(p, 1)]})
    if probabilities:
        found = pd.concat([found, pd.DataFrame(np.round(p, 6), columns=[f"p_{c}" for c in meaning.classes])], axis=1)
    return found
