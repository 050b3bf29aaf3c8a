"""detect: alarms, with how sure they are and why."""

from typing import TYPE_CHECKING, Annotated, Any

from . import DATA, MODEL

if TYPE_CHECKING:
    from pathlib import Path

    from ..estimator import Autoencoder


def detect(
    model: Annotated["Autoencoder", MODEL],
    data: Annotated[Any, DATA],
    *,
    fdr: Annotated[float | None, "at most this share of the alarms false, on average: 0.05"] = None,
    threshold: Annotated[float | None, "alarms from this score on; unless given, the model's own"] = None,
    normal: Annotated[
        Any, "ordinary rows that the model was not fitted on, to measure by: for models of other recipes"
    ] = None,
    like: Annotated[Any, "rows among which to look for the most alike ordinary one of each alarm"] = None,
    score: Annotated[str, "of models of other recipes: reconstruction, elbo, density or denoising"] = "auto",
    every: Annotated[bool, "a line for every row, not for alarms alone"] = False,
    plot: Annotated[
        Any, "series: draw what was seen, what was expected, the score and the alarms, as .png, .pdf or .svg"
    ] = None,
    follow: Annotated[
        bool, "DATA is a csv that grows, or - for stdin: answer each line as it comes, and tell of drift"
    ] = False,
) -> Any:
    """Rows that are strange: score, p_value, and why: the columns that add most, what was seen and what was expected.

    `score` is on the scale of ordinary rows: about 0 for most, above 3 for hardly any. `p_value` is the share of rows
    as strange among those that the model was measured by: below .01 for 1 ordinary row in 100, whatever the data. With
    `fdr` the alarms are those of Benjamini & Hochberg; else those from the threshold on. A percentage behind a column
    is its share of the score; ± is the usual difference between what is seen and what is expected.
    The model is best one of recipe anomaly (data that nobody cleaned) or novelty (all ordinary); of any other recipe
    −log p is the score, and `normal` is what to measure by.
    Of series each row is scored by all windows that hold it; a line is a span of alarms, from its first to its last
    row, its peak, the row that is strangest by itself, with reasons there, and the highest score with its p_value. As
    windows are what is judged, a span may reach up to a window beyond what is strange. `fdr` holds for whole windows.
    Raises ConfigError if a model has nothing to measure by, DataError if the data do not fit it.
    """
    from pathlib import Path

    from ..errors import ConfigError
    from ..uses import detection, timeplots

    if plot is not None:
        timeplots.checked(Path(plot))
    own = detection.detector_of(model, normal, score)
    if follow:
        from ..uses import streaming

        if fdr is not None:
            raise ConfigError("a rate is of many rows together, and these come one by one", hint="leave --fdr out")
        if plot is not None:
            raise ConfigError("a stream has no end at which to draw it", hint="leave --plot out")
        if like is not None:
            raise ConfigError("rows of a stream are not looked for among others", hint="leave --like out")
        detection.checked(None, threshold)
        return streaming.follow(model, own, data, threshold)
    found = detection.detect(own, model, data, fdr=fdr, threshold=threshold)
    if plot is not None:
        if isinstance(found, detection.Alarms):
            raise ConfigError("a picture over time is of series", hint="leave --plot out")
        timeplots.draw(found, Path(plot))
    table = found.table(every)
    if like is not None:
        if not isinstance(found, detection.Alarms):
            raise ConfigError("steps of a series are not looked for one by one", hint="leave --like out")
        near = detection.nearest(own, model, found, like)[table["row"]]
        table["like"] = [int(row) if row >= 0 else None for row in near]
    return table


def ready(place: "Path", follow: bool = False, **_: Any) -> None:
    """Refuse a file for what comes line by line. Raises ConfigError."""
    from ..errors import ConfigError

    if follow:
        raise ConfigError("a stream is answered on stdout, line by line", hint=f"> {place}, in place of -o")
