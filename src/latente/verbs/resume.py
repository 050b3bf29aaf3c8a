"""resume: go on with a run that was stopped."""

from typing import TYPE_CHECKING, Annotated, Any

from . import RUN

if TYPE_CHECKING:
    from ..estimator import Autoencoder


def resume(
    run: Annotated[str, RUN],
    *,
    data: Annotated[Any, "the data, if they are not where they were when the run began"] = None,
    quiet: Annotated[bool, "no progress line"] = False,
) -> "Autoencoder":
    """Go on with a run that was stopped, killed or cut off, from its newest whole checkpoint, in its own folder.

    The fitted model. On the same machine with the same number of threads it is, bit for bit, the one of a run that was
    never stopped, unless a time limit ends it. Raises DataError if there is no run, ConfigError if it is finished, or
    if its data or specification changed since it began.
    """
    from pathlib import Path

    from ..training.team import called, joined
    from ..uses import runs

    begun = runs.read_run(Path(run))
    if begun["processes"] > 1 and not called():
        return runs.resume_together(run, data, quiet, begun["processes"])
    with joined(begun["sharding"]) as team:
        return runs.resume(run, data, quiet=quiet, team=team)
