"""fit: learn a model from data."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from . import DATA

if TYPE_CHECKING:
    from ..estimator import Autoencoder

# By their files: `recipes()` would load torch, and `--help` must not.
RECIPES = sorted(file.stem for file in (Path(__file__).parents[1] / "recipes").glob("*.toml"))


def fit(
    data: Annotated[Any, DATA],
    *,
    recipe: Annotated[
        str,
        f"a recipe's name ({' '.join(RECIPES)}), a file, or auto: tabular for a table of named columns, density for "
        "texts and tunes, counts for counts, recommend for interactions, else vae",
    ] = "auto",
    kind: Annotated[
        str, "table, image, series, text, music, counts, interactions, or auto: what the data look like"
    ] = "auto",
    dim: Annotated[int | None, "dimensions of the latent space; planned unless given"] = None,
    label_col: Annotated[str | None, "a column to leave out of the model and keep beside the codes"] = None,
    condition_col: Annotated[
        list[str] | None,
        "a column that is given and not modelled, for `sample --given`; of pictures 'label': the folder",
    ] = None,
    text_col: Annotated[
        str | None, "texts: the column of a table, or the field of JSON lines, that is the text"
    ] = None,
    unit: Annotated[str | None, "texts: what of a .txt file is an example: line, paragraph or sentence"] = None,
    layer: Annotated[str | None, ".h5ad files: where the counts are: X, raw, or a layer's name"] = None,
    epochs: Annotated[int | None, "passes over the rows; planned from their number unless given"] = None,
    time_limit: Annotated[
        str | None,
        "end training after this long, with schedules planned to it: 60s, 10m, 1h; reading counts, writing does not",
    ] = None,
    precision: Annotated[str, "auto, float32 or bfloat16"] = "auto",
    set: Annotated[list[str] | None, "any setting by its path: objective.beta=4, nets=conv, kind.binarize=true"] = None,
    stream: Annotated[
        str, "read the data while training instead of holding them in memory: auto (if they are too large), yes or no"
    ] = "auto",
    processes: Annotated[int, "processes of this machine that train together; each batch is shared out"] = 1,
    sharding: Annotated[str, "none, or full: each process holds its share of the weights (FSDP)"] = "none",
    tensorboard: Annotated[bool, "also write RUN/tensorboard (pip install 'latente[tensorboard]')"] = False,
    device: Annotated[str, "auto, cpu or cuda"] = "auto",
    compile: Annotated[bool, "compile the step first: a minute that long runs of large nets win back"] = False,
    doctor: Annotated[str, "on, or off: it says what it sees, and changes nothing in the run"] = "on",
    dp_epsilon: Annotated[
        float | None, "ε of a differentially private fit (pip install 'latente[private]'); it takes minutes"
    ] = None,
    init: Annotated[
        str | None, "a fitted model to go on from with these rows: its weights, and its columns by name"
    ] = None,
    rehearsal: Annotated[
        float, "with --init: new rows of that model for each of these, so that it does not forget"
    ] = 0.5,
    header: Annotated[str, "whether a csv's first row holds names: auto, yes or no"] = "auto",
    seed: Annotated[int, "seed of everything"] = 0,
    quiet: Annotated[bool, "no progress line"] = False,
    output: "Annotated[str | Path | None, 'a run folder, or a .safetensors file for the model alone']" = None,
) -> "Autoencoder":
    """Learn a latent space from a table, from pictures, series, texts, tunes, counts or histories of users.

    The fitted model; with `output`, a run folder beside it: run.json, spec.json, metrics.jsonl, model.safetensors,
    latent.parquet, log.txt, checkpoints, and pictures of pictures. `resume` goes on with a run that was stopped.
    Raises DataError for data that cannot be learned from and ConfigError for settings that cannot be.
    """
    import time

    from ..errors import ConfigError
    from ..estimator import Autoencoder
    from ..model.spec import recipe as recipe_of
    from ..training.team import called, joined
    from ..uses import rows, runs

    if processes < 1 or (sharding != "none" and processes == 1 and not called()):
        raise ConfigError(
            f"{processes} process(es) cannot be: sharding is among several"
            if processes == 1
            else f"processes must be 1 or more, not {processes}",
            hint="--processes 2",
        )
    if processes > 1 and not called():
        usual: dict[str, Any] = fit.__kwdefaults__ or {}
        given = {k: v for k, v in locals().items() if k in usual and v != usual[k]}
        return runs.fit_together(data, given, processes)
    if label_col is not None and label_col in (condition_col or ()):
        raise ConfigError(
            f"the column {label_col!r} is both left out (--label-col) and given (--condition-col)",
            hint="leave out --label-col: what is given is not part of the code anyway",
        )
    if kind == "auto" and recipe in RECIPES:
        own = recipe_of(recipe).kind
        kind = "auto" if own is None else own.name
    if init is not None and kind == "auto":
        from ..file import read

        kind = str(read(init)[0].card["kind"])
    started = time.perf_counter()
    settings = dict(_setting(text) for text in set or [])
    options: dict[str, Any] = {"kind": kind, "header": header, "label_col": label_col, "stream": stream}
    options |= {"text_col": text_col, "unit": unit, "layer": layer}
    if layer is not None:
        settings = {"kind.layer": layer} | settings
    ae = Autoencoder(
        recipe,
        dim=dim,
        kind=kind,
        condition=list(condition_col) if condition_col else None,
        epochs=epochs,
        time_limit=seconds(time_limit),
        precision=precision,
        device=device,
        doctor=doctor,
        dp_epsilon=dp_epsilon,
        init=init,
        rehearsal=rehearsal,
        settings={"train.compile": True, **settings} if compile else settings,
        random_state=seed,
    )
    with joined(sharding) as team:
        loaded = rows.load(data, **options)
        return runs.fit(
            ae, loaded, output, quiet=quiet, options=options, tensorboard=tensorboard, team=team, started=started
        )


def seconds(text: str | float | None) -> float | None:
    """60s, 10m, 1.5h or a number of seconds, in seconds."""
    from ..errors import ConfigError

    if text is None or isinstance(text, (int, float)):
        return text
    unit = {"s": 1.0, "m": 60.0, "h": 3600.0}.get(text[-1:], 0.0)
    try:
        return float(text[:-1]) * unit if unit else float(text)
    except ValueError:
        raise ConfigError(f"{text!r} is not a length of time", hint="write 60s, 10m or 1h") from None


def _setting(text: str) -> tuple[str, Any]:
    """objective.beta=4 -> ("objective.beta", 4): the value is TOML, or plain text."""
    import tomllib

    from ..errors import ConfigError

    path, equals, value = text.partition("=")
    if not equals:
        raise ConfigError(f"--set takes PATH=VALUE, not {text!r}", hint="--set objective.beta=4")
    try:
        return path.strip(), tomllib.loads(f"v = {value}")["v"]
    except tomllib.TOMLDecodeError:
        pass
    try:
        return path.strip(), float(value)  # .5, which TOML does not take
    except ValueError:
        return path.strip(), value.strip()
