"""score: how strange each row is."""

from typing import TYPE_CHECKING, Annotated, Any

from . import DATA, MODEL

# What it gives of a row does not depend on the others: data that exceed the memory can go through it in blocks.
ROWWISE = True

if TYPE_CHECKING:
    import numpy as np

    from ..estimator import Autoencoder


def score(
    model: Annotated["Autoencoder", MODEL],
    data: Annotated[Any, DATA],
    *,
    samples: Annotated[int, "draws per row; more is tighter and slower"] = 64,
    seed: Annotated[int, "seed of the draws"] = 0,
) -> "np.ndarray":
    """Anomaly score of each row, in nats: on average an upper bound on −log p(x). [rows]

    Higher is stranger. Missing entries are left out, not guessed, so a row with many of them scores lower: compare rows
    with the same pattern. A row's score does not depend on the rows beside it. For a point latent, which has no
    density, it is −log p(x|z) of the row's own code; for codes, −log p(x|z) − log P(z), the nats of a two-part message.
    Raises DataError if the columns differ from those the model was fitted on.

    Source: the importance-weighted bound of Burda et al. 2016, eq. 8.
    """
    from ..errors import ConfigError

    if samples < 1:
        raise ConfigError(f"samples must be 1 or more, not {samples}")
    return -model.score_samples(data, samples, seed)
