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
    start: Annotated[Any, "series: rows from which each new one goes on"] = None,
    steps: Annotated[int | None, "with start: how many; unless given, a window"] = None,
    temperature: Annotated[
        float, "texts and tunes: below 1 the likelier tokens are drawn more often; 0: only those"
    ] = 1.0,
    top_p: Annotated[float, "texts and tunes: draw from the likeliest tokens that have this share together"] = 1.0,
    like_data: Annotated[bool, "texts and tunes: no token follows one that it never follows in the data"] = False,
    training: Annotated[
        Any, "texts and tunes: of each sample find the nearest of these rows, and say which are copies"
    ] = None,
    seed: Annotated[int, "seed of the draws"] = 0,
) -> Any:
    """New rows, pictures or series, with the training data's columns, order, types, levels and ranges.

    z is drawn from the prior. From Python, `given` may be a dict. Rows of recipe tabular are drawn column by column
    without a code, which is nearer to the data, unless `through_code`. There ranges (age>60, hours=20..40) and sets
    (plan=gold|plus) can be given too; where rows must be drawn again until they fit, a note says how many were.

    Of texts with `training`, a table: text, nearest (the number of the training row), likeness (the share of the tokens
    that they have in common; 1 is a copy).

    Of series each is a window, or, with `start`, one of n ways in which those rows may go on.

    Raises ConfigError if n is below 1, or if `given` names what the model was not conditioned on, or a value that it
    does not know.
    """
    if start is not None:
        from ..uses.continuation import continued

        _alone(n, of=of, given=given, balance=balance, through_code=through_code or None)
        window: int = getattr(model.schema_, "window", 1)
        return continued(model, start, window if steps is None else steps, n, seed)
    if steps is not None:
        from ..errors import ConfigError

        raise ConfigError("steps are of series that go on", hint="--start SERIES")
    if balance is not None:
        from ..uses.balance import balanced

        return balanced(model, n, balance, seed, given)
    new = model.sample(
        n,
        random_state=seed,
        of=of,
        given=given,
        through_code=through_code or None,
        temperature=temperature,
        top_p=top_p,
        like_data=like_data,
    )
    if training is None:
        return new
    import warnings

    from ..kinds.base import DataWarning
    from ..uses.neighbours import copies, told

    found = copies(model, new, training)
    warnings.warn(told(found), DataWarning, stacklevel=2)
    if isinstance(new, list):
        found.insert(0, "text", new)
        return found
    return new


def _alone(n: int, **others: Any) -> None:
    """Refuse what does not go with a start."""
    from ..errors import ConfigError

    if n < 1:
        raise ConfigError(f"n must be 1 or more, not {n!r}", hint="-n 10")
    for name, value in others.items():
        if value is not None:
            raise ConfigError(f"{name} does not go with a start", hint=f"leave --{name.replace('_', '-')} out")
