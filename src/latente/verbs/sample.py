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
    given: Annotated[
        str | None, "what is given: plan=gold,age=60; of recipe tabular any columns, 'sex=Female|Male,age>60'"
    ] = None,
    balance: Annotated[str | None, "recipe tabular: a column of which each level gets as many rows"] = None,
    through_code: Annotated[bool, "recipe tabular: draw a code first, and the columns given it"] = False,
    seed: Annotated[int, "seed of the draws"] = 0,
) -> Any:
    """New rows or pictures, with the training data's columns, order, types, levels and ranges.

    z is drawn from the prior. From Python, `given` may be a dict. Rows of recipe tabular are drawn column by column
    without a code, which is nearer to the data, unless `through_code`. There ranges (age>60, hours=20..40) and sets
    (plan=gold|plus) can be given too; where rows must be drawn again until they fit, a note says how many were.

    Raises ConfigError if n is below 1, or if `given` names what the model was not conditioned on, or a value that it
    does not know.
    """
    if balance is not None:
        from ..uses.balance import balanced

        return balanced(model, n, balance, seed, given)
    return model.sample(n, random_state=seed, of=of, given=given, through_code=through_code or None)
