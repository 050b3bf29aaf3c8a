"""finetune: learn to predict a column from a fitted model and some labels."""

from typing import TYPE_CHECKING, Annotated, Any

from . import DATA, MODEL, new_place

if TYPE_CHECKING:
    from pathlib import Path

    from ..estimator import Autoencoder


def finetune(
    model: Annotated["Autoencoder", MODEL],
    data: Annotated[Any, DATA],
    *,
    target: Annotated[str, "the column to predict; of pictures 'label': their folder, or the idx file beside them"],
    task: Annotated[
        str, "classes, numbers, or auto: numbers if the column holds reals, or more than 20 of them"
    ] = "auto",
    method: Annotated[
        str,
        "finetune (the whole encoder), frozen (a linear head on the codes), semi (classes: a semi-supervised VAE, "
        "which takes the kind of data alone from MODEL)",
    ] = "finetune",
    unlabelled: Annotated[Any, "more rows, without labels; rows of DATA whose label is empty are used anyway"] = None,
    unfreeze: Annotated[str, "what of the encoder is tuned: all, partial (its upper half), head (nothing)"] = "all",
    balanced: Annotated[bool, "classes count alike, however many rows they have"] = False,
    early_stopping: Annotated[bool, "hold out a tenth of the labelled rows, and keep what is best on them"] = False,
    calibrate: Annotated[bool, "hold rows out in turn, to measure how sure it may be"] = True,
    steps: Annotated[int | None, "steps of tuning; planned from the number of labels unless given"] = None,
    seed: Annotated[int, "seed of everything"] = 0,
    quiet: Annotated[bool, "no progress lines"] = False,
) -> Any:
    """Learn to predict a column from a few labels, beginning with what a model has learned from rows without any.

    The fitted LatentClassifier or LatentRegressor; -o, or a file in runs/, is a model file for `predict`, which does
    all that the model did besides. The table's columns are matched with the model's by name: where others came or went,
    the model first goes on with these rows. What is printed: accuracy, log_loss and auroc (numbers: r2) on rows that
    were held out in turn, and the same of gradient boosting on these rows alone (`_boosting`; of wide data
    `_linear_on_pca`).
    Raises DataError, saying why, for a target that cannot be learned: one class, text for numbers, no shared column.
    """
    from ..errors import ConfigError
    from ..uses import rows
    from ..uses.supervised import LatentClassifier, LatentRegressor
    from ..uses.targets import task_of

    kind, options = model.schema_.name, model.schema_.read_options
    named = kind == "image" and target == "label" and isinstance(data, str)
    loaded = rows.load(data, kind, label_col=None if named else target, stream="no", **_asked(options))
    if loaded.labels is None:
        raise ConfigError("these pictures have no labels", hint="a folder for each label, or idx files with labels")
    task = task_of(loaded.labels, task)
    extra = None if unlabelled is None else rows.load(unlabelled, kind, stream="no", **_asked(options)).raw
    if extra is not None and target in getattr(extra, "columns", ()):
        extra = extra.drop(columns=[target])
    more: dict[str, Any] = {"class_weight": "balanced" if balanced else None} if task == "classes" else {}
    if method == "semi":
        # It begins with weights of its own: of the model it takes what kind of data these are.
        more |= {"kind": kind, "pretrained": None}
    else:
        more |= {"pretrained": model}
    made = (LatentClassifier if task == "classes" else LatentRegressor)(
        method=method,  # type: ignore[arg-type]
        unfreeze=unfreeze,  # type: ignore[arg-type]
        early_stopping=early_stopping,
        calibrate=calibrate,
        tuning={} if steps is None else {"steps": steps},
        random_state=seed,
        verbose=not quiet,
        **more,
    )
    return made.learn(loaded.raw, loaded.labels, extra, target=str(target), baseline=calibrate)


def _asked(options: dict[str, Any]) -> dict[str, Any]:
    """Of what a reader must know, what `rows.load` is told."""
    return {k: v for k, v in options.items() if k in ("text_col", "unit", "layer")}


def place(data: str, target: str, **_: Any) -> "Path":
    """Where the model goes unless told otherwise."""
    return new_place(data, target, ".safetensors")


def ready(place: "Path", **_: Any) -> None:
    """Refuse what is no model file, before anything is learned. Raises ConfigError."""
    from ..errors import ConfigError

    if place.suffix != ".safetensors":
        raise ConfigError(f"{place.name!r} is no model file", hint=f"-o {place.stem or 'model'}.safetensors")


def save(result: Any, place: "Path", **_: Any) -> "list[Path]":
    """Write the model file."""
    place.parent.mkdir(parents=True, exist_ok=True)
    result.save(place)
    return [place]


def unsaved(result: Any, place: "Path") -> dict[str, Any]:
    """What is printed: where it is, and how well it predicts."""
    found = {"model": str(place), **result.autoencoder_.use_.meaning.measured}
    return {k: v for k, v in found.items() if v is not None}
