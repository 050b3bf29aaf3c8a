"""The command line, made from the verbs' signatures. Imports no torch: `latente --help` must stay quick.

stdout carries data only; messages, notes and progress go to stderr. Exit codes: 0 ok, 1 a fault of ours, 2 usage,
3 bad data, 4 bad model file, 5 resources, 130 interrupted.
"""

import importlib
import inspect
import json
import os
import sys
import typing
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from . import __version__, verbs
from .errors import ConfigError, LatenteError
from .verbs import CODES, DATA, HISTORY, MODEL, ROW, RUN, STREAM, Mark, new_place

app = typer.Typer(
    name="latente",
    help="Learn a latent space from any data, then use it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
# In the order in which a user meets them, not in the alphabet's.
ORDER = (
    *(
        "demo",
        "fit",
        "resume",
        "info",
        "evaluate",
        "map",
        "encode",
        "decode",
        "reconstruct",
        "denoise",
        "impute",
        "sample",
    ),
    *(
        "interpolate",
        "finetune",
        "predict",
        "recommend",
        "differential",
        "neighbours",
        "vector",
        "apply",
        "traverse",
        "score",
        "detect",
        "compress",
        "decompress",
        "export",
        "doctor",
    ),
)
SHORT = {"output": "-o", "n": "-n", "k": "-k"}
# Numbers of a list that a line shows.
MOST = 64
# Verbs without a result to write, and those that write their own.
OWN_OUTPUT = ("fit", "resume", "demo", "export", "compress", "decompress")
# Those of them whose data go to stdout where no file is named: what is said of them goes to stderr.
PIPES = ("compress", "decompress")


def main() -> None:
    """The console script."""
    for stream in (sys.stdout, sys.stderr):
        # β, σ and − are meant; a terminal that cannot show them gets a question mark, not a traceback.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    app()


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="print the version")] = False) -> None:
    if version:
        print(__version__)
        raise typer.Exit


def _command(name: str) -> Callable[..., None]:
    module = importlib.import_module(f"latente.verbs.{name}")
    verb, column = getattr(module, name), getattr(module, "COLUMN", "score")
    given = inspect.signature(verb).parameters

    def command(**arguments: Any) -> None:
        as_json = arguments.pop("json_", False)
        output = arguments.get("output") if name in OWN_OUTPUT else arguments.pop("output", None)
        with _Manners():
            if name == "fit" and output is None:
                arguments["output"] = new_place(arguments["data"])
            if output is None and hasattr(module, "place"):
                output = module.place(**arguments)
            if name in PIPES and output is None:
                arguments["output"] = "-"
            inputs = {p: _value(_annotation(a)[1], arguments[p], name) for p, a in given.items() if p in arguments}
            if output is not None and getattr(module, "ROWWISE", False):
                from .uses.blocks import from_file_to_file

                def by_row(model: Any, data: Any) -> Any:
                    return _table(verb(model, data, **_rest(arguments, inputs)))

                _wrote(from_file_to_file(by_row, inputs["model"], inputs["data"], output))
                return
            if output is not None and hasattr(module, "ready"):
                module.ready(output, **_rest(arguments, inputs))
            result = verb(**{**arguments, **{k: v for k, v in inputs.items() if v is not None}})
            if name in PIPES:
                _said(result, output is None, as_json)
            elif name in ("fit", "resume"):
                _told(result, arguments["output" if name == "fit" else "run"], as_json)
            elif output is not None and name not in OWN_OUTPUT:
                save = getattr(module, "save", None)
                written = (
                    save(result, output, **inputs | _rest(arguments, inputs))
                    if save
                    else _write(result, output, column)
                )
                _wrote(written)
                rest = module.unsaved(result, output) if hasattr(module, "unsaved") else {}
                if rest:
                    _show(rest, as_json)
            elif name != "demo" or as_json:
                _show(result, as_json, column)

    parameters = [p for a in given.values() for p in [_parameter(a)] if p]
    if "output" not in given and name not in OWN_OUTPUT:
        parameters.append(
            _option("output", Path | None, None, "a file to write, its format by extension; stdout if absent")
        )
    parameters.append(_option("json_", bool, False, "one JSON object on stdout", "--json"))
    command.__name__, command.__doc__ = name, verb.__doc__
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: p.annotation for p in parameters}
    return command


def _brief(name: str) -> str:
    """The verb in a few words: the first line of its file."""
    return (importlib.import_module(f"latente.verbs.{name}").__doc__ or "").split(": ", 1)[1].splitlines()[0]


def _annotation(parameter: inspect.Parameter) -> tuple[Any, Any]:
    """(type, mark or help) of an Annotated parameter; a quoted annotation is an optional path."""
    note = parameter.annotation
    if isinstance(note, str):
        return Path | None, note.split("'")[1]
    return typing.get_args(note)[0], note.__metadata__[0]


def _parameter(parameter: inspect.Parameter) -> inspect.Parameter:
    kind, note = _annotation(parameter)
    if isinstance(note, Mark):
        argument = typer.Argument(help=note.help, metavar=note.name if note.name != "ROW" else parameter.name.upper())
        place = inspect.Parameter.POSITIONAL_OR_KEYWORD
        if parameter.default is None:
            return inspect.Parameter(parameter.name, place, default=None, annotation=Annotated[str | None, argument])
        return inspect.Parameter(parameter.name, place, annotation=Annotated[str, argument])
    # What may be anything in Python is a path or a word here.
    return _option(parameter.name, str | None if kind is Any else kind, parameter.default, note)


def _option(name: str, kind: Any, default: Any, note: str, flag: str = "") -> inspect.Parameter:
    flags = [flag or f"--{name.replace('_', '-')}"] + ([SHORT[name]] if name in SHORT else [])
    if kind is bool and default is True:
        flags[0] += f"/--no-{name.replace('_', '-')}"
    hint = Annotated[kind, typer.Option(*flags, help=note)]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=hint)


def _value(mark: Any, text: Any, verb: str) -> Any:
    """What a marked argument's text stands for; None for what is passed on as it is."""
    if mark is MODEL and verb != "info":
        from .estimator import load

        return load(text)
    if mark is CODES:
        from .kinds.reading import read

        return read(text, "table")
    if mark in (DATA, HISTORY, ROW, MODEL, RUN, STREAM):
        return None if text is None else str(text)
    return None


def _rest(arguments: dict[str, Any], inputs: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in arguments.items() if inputs.get(k) is None}


def _told(model: Any, output: Any, as_json: bool) -> None:
    """The end of a fit: the doctor's verdict and the next command; on stdout the model's place."""
    if os.environ.get("LATENTE_TEAM") or os.environ.get("RANK", "0") != "0":
        return  # one process of several: who started them tells it, or the first of them
    card = model.card_
    for text in [card["verdict"], *(f for f in card["findings"] if f != card["verdict"])]:
        print(f"doctor: {text}", file=sys.stderr)
    verb = "detect" if hasattr(model.use_, "calibrated") else "evaluate"
    verb, more = ("compress", " -o new.ltz") if hasattr(model.use_, "levels") else (verb, "")
    verb, more = ("finetune", " --target COLUMN") if card["recipe"] in ("pretrained", "stacked") else (verb, more)
    print(f"next: latente {verb} {output} {'ROWS' if verb == 'finetune' else 'NEW-ROWS'}{more}", file=sys.stderr)
    kept = ("kind", "rows", "dim", "held_out", "steps", "epochs", "precision", "ended", "verdict", "findings")
    print(json.dumps({"run": str(output), **{k: card[k] for k in kept}}) if as_json else output)


def _said(result: Any, piped: bool, as_json: bool) -> None:
    """What a verb says of the data that it wrote: on stderr if they went to stdout."""
    found = {k: v for k, v in result.items() if v not in ([], {}, None)}
    if "wrote" in found and not as_json:
        _wrote([Path(p) for p in found.pop("wrote")])
    if piped:
        print(json.dumps(found) if as_json else "", end="\n" if as_json else "", file=sys.stderr)
    elif found:
        _show(found, as_json)


def _write(result: Any, path: Path, column: str) -> list[Path]:
    from .kinds.writing import write

    return write(_table(result, column), path)


def _wrote(written: list[Path]) -> None:
    more = f" and {len(written) - 3} more" if len(written) > 3 else ""
    print(f"wrote {', '.join(str(p) for p in written[:3])}{more}", file=sys.stderr)


def _table(result: Any, column: str = "score") -> Any:
    """A vector of numbers as a table of one column; anything else as it is."""
    if getattr(result, "ndim", 0) == 1:
        import pandas as pd

        return pd.DataFrame({column: result})
    return result


def _show(result: Any, as_json: bool, column: str = "score") -> None:
    """A result on stdout: JSON, or lines for a dict, csv for a table, numbers for scores, a report as it is."""
    if hasattr(result, "__next__"):
        _stream(result, as_json)
        return
    if hasattr(result, "figures"):
        print(json.dumps(result.to_json(), ensure_ascii=False, indent=2) if as_json else result)
        return
    if isinstance(result, dict):
        print(json.dumps(result, ensure_ascii=False, indent=2)) if as_json else _lines(result)
        return
    if isinstance(result, list) and all(isinstance(text, str) for text in result):
        if as_json:
            print(json.dumps({"rows": [{"text": text} for text in result]}, ensure_ascii=False))
        else:
            print("\n".join(text.replace("\n", "\\n") for text in result))
        return
    if type(result).__name__ == "Tunes":
        raise ConfigError(
            f"{len(result)} tune(s) cannot be printed", hint="give -o a .mid, .abc, .wav, .png or a folder's name"
        )
    if getattr(result, "ndim", 0) >= 3:
        raise ConfigError(
            f"{len(result)} pictures cannot be printed", hint="give -o a .png (a sheet), .gif, .npy or a folder's name"
        )
    import pandas as pd

    frame = _table(result, column)
    frame = frame.to_pandas() if hasattr(frame, "to_pandas") else pd.DataFrame(frame)
    if as_json:
        print(json.dumps({"rows": json.loads(frame.to_json(orient="records", date_format="iso"))}, ensure_ascii=False))
    else:
        frame.to_csv(sys.stdout, index=False)


def _stream(lines: typing.Iterator[dict[str, Any]], as_json: bool) -> None:
    """Results that come one by one: a line each, at once."""
    import csv

    writer = csv.writer(sys.stdout, lineterminator="\n")
    for number, line in enumerate(lines):
        if as_json:
            print(json.dumps(line, ensure_ascii=False), flush=True)
            continue
        if number == 0:
            writer.writerow(line)
        writer.writerow(line.values())
        sys.stdout.flush()


def _lines(result: dict[str, Any]) -> None:
    width = max(len(k) for k in result)
    for key, value in result.items():
        if isinstance(value, list) and value and all(isinstance(v, float) for v in value):
            text = " ".join(f"{v:.3f}" for v in value[:MOST])
            text += f" … ({len(value):,} in all: --json gives them)" if len(value) > MOST else ""
        elif isinstance(value, list):
            text = ("\n" + " " * (width + 2)).join(map(_line, value)) or "none"
        else:
            text = f"{value:.4f}" if isinstance(value, float) else _line(value)
        print(f"{key:<{width}}  {text}")


def _line(value: Any) -> str:
    if not isinstance(value, dict):
        return str(value)
    return " · ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in value.items())


class _Manners:
    """Errors as problem and hint, warnings as notes on stderr, Ctrl-C as exit code 130."""

    def __enter__(self) -> None:
        self.told: set[str] = set()
        warnings.showwarning = self._note

    def _note(self, message: Warning | str, category: type, *_: Any, **__: Any) -> None:
        # Data may be looked at more than once: what they are noted for is said once.
        if category.__module__.startswith("latente") and str(message) not in self.told:
            self.told.add(str(message))
            print(f"note: {message}", file=sys.stderr)

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if isinstance(error, LatenteError):
            self._stop(str(error), error.exit_code)
        if isinstance(error, KeyboardInterrupt):
            self._stop("; ".join(["interrupted", *map(str, error.args)]), 130, head="\n")
        if isinstance(error, BrokenPipeError):
            # The reader of our output (head) has seen enough.
            sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - Python flushes it at exit
            raise typer.Exit(0)
        if isinstance(error, RuntimeError) and (
            "allocate memory" in str(error) or "invalid for input of size" in str(error)
        ):
            self._stop("memory ran out\n\nhint: use fewer rows, fewer samples, or a smaller --set train.batch_size", 5)
        if isinstance(error, MemoryError):
            self._stop("memory ran out\n\nhint: use fewer rows, or a smaller --set train.batch_size", 5)
        if isinstance(error, OSError):
            place = f"{error.filename}: " if error.filename else ""
            self._stop(f"{place}{error.strerror or error}", 5 if error.errno == 28 else 3)

    @staticmethod
    def _stop(text: str, code: int, head: str = "") -> typing.NoReturn:
        print(f"{head}error: {text}", file=sys.stderr)
        raise typer.Exit(code)


for _name in sorted(verbs.names(), key=lambda n: ORDER.index(n) if n in ORDER else len(ORDER)):
    app.command(_name, short_help=_brief(_name))(_command(_name))
