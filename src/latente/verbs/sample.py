"""sample: new rows."""

from typing import TYPE_CHECKING, Annotated, Any

from . import MODEL

if TYPE_CHECKING:
    from ..estimator import Autoencoder


def sample(
    model: Annotated["Autoencoder", MODEL],
    n: Annotated[int, "how many"] = 100,
    *,
    of: Annotated[str | None, "sample (a draw from p(x|z)), mean or mode; tables: sample, pictures: mean"] = None,
    given: Annotated[str | None, "of a conditional model, what is given: plan=gold,age=60; the rest is unknown"] = None,
    seed: Annotated[int, "seed of the draws"] = 0,
) -> Any:
    """New rows or pictures, with the training data's columns, order, types, levels and ranges.

    z is drawn from the prior. From Python, `given` may be a dict. Raises ConfigError if n is below 1, or if `given`
    names what the model was not conditioned on, or a value that it does not know.
    """
    return model.sample(n, random_state=seed, of=of, given=given)
