"""A model's encoder and decoder as ONNX graphs."""

import importlib.util
import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .. import __version__
from ..atomic import atomic_write
from ..errors import ConfigError
from ..estimator import Autoencoder
from ..kinds.columns import KNEE, Binary, Categorical, Column, Datetime
from ..kinds.sequences import Sequences
from ..kinds.table import Table
from ..model.batch import Batch
from ..model.model import Model
from ..parts import to_json

# Rows of the example that is traced: neither 1 nor 0, which torch would take for a constant.
EXAMPLE = 3
NEEDED = ("onnx", "onnxscript")


class Encoder(nn.Module):
    """cells, observed -> mean, stddev of q(z|x)."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.model = model

    def forward(self, cells: Tensor, observed: Tensor) -> tuple[Tensor, Tensor]:
        q = self.model.encode(Batch(cells, observed))
        return q.mean, q.stddev


class Decoder(nn.Module):
    """z -> the mean of each cell and, if asked for, the expected features."""

    def __init__(self, model: Model, features: bool) -> None:
        super().__init__()
        self.model, self.features = model, features

    def forward(self, z: Tensor) -> tuple[Tensor, ...]:
        px = self.model.decode(z)
        return (px.mean, px.expectation) if self.features else (px.mean,)


def write_graphs(ae: Autoencoder, place: Path) -> dict[str, Any]:
    """See `latente.export`."""
    ae._require_fitted()
    absent = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if absent:
        raise ConfigError(f"export needs {' and '.join(absent)}", hint="pip install 'latente[onnx]'")
    if ae.chained:
        raise ConfigError(
            "a table's chain draws its columns one after the other, which a graph of one pass has no form for",
            hint="fit with --recipe vae",
        )
    if ae.schema_.sparse:
        raise ConfigError(
            "counts and histories stay sparse on their way through the nets, which a graph has no form for",
            hint="the model file is data alone: latente.load reads it anywhere",
        )
    if isinstance(ae.schema_, Sequences):
        raise ConfigError(
            "texts and tunes are read and written in steps, which a graph of one pass has no form for",
            hint="the model file is data alone: latente.load reads it anywhere",
        )
    if getattr(ae.spec_.latent, "searches", False):
        raise ConfigError(
            f"latent {ae.spec_.latent.name!r} finds a row's code by a search, which ONNX has no form for",
            hint="use a latent such as 'gaussian' or 'point'",
        )
    model, dim = ae.model_, ae._n_features_out
    shape = tuple(model.likelihood.continuous.shape)
    cells, z = torch.zeros(EXAMPLE, *shape), torch.zeros(EXAMPLE, dim)
    width = model.likelihood.features(cells).shape[1]
    features = width != cells[0].numel()
    outputs = ["cells", "expected"] if features else ["cells"]
    graphs = {
        "encoder": _graph(Encoder(model), (cells, cells == 0), ["cells", "observed"], ["mean", "stddev"]),
        "decoder": _graph(Decoder(model, features), (z,), ["z"], outputs),
    }
    shapes = {"cells": shape, "observed": shape, "mean": (dim,), "stddev": (dim,), "z": (dim,), "expected": (width,)}

    def port(name: str) -> dict[str, Any]:
        return {"name": name, "dtype": "bool" if name == "observed" else "float32", "shape": ["batch", *shapes[name]]}

    ports = {"encoder": (["cells", "observed"], ["mean", "stddev"]), "decoder": (["z"], outputs)}
    names = {part: place.with_suffix(f".{part}.onnx") for part in graphs}
    said: dict[str, Any] = {"latente": __version__, "kind": ae.schema_.name, "dim": dim}
    for part, (given, found) in ports.items():
        said[part] = {"file": names[part].name, "inputs": [*map(port, given)], "outputs": [*map(port, found)]}
    said |= {"cells": _cells(ae), "schema": ae.schema_.summary}
    if isinstance(ae.schema_, Table):
        said["expected"] = ae.schema_.feature_names
    for part, graph in graphs.items():
        atomic_write(names[part], graph)
    text = json.dumps(said, ensure_ascii=False, indent=2)
    atomic_write(place.with_suffix(".onnx.json"), (text + "\n").encode())
    return said


def _cells(ae: Autoencoder) -> Any:
    """What the cells are: of a table each column with its part of the schema, in order; of pictures a sentence."""
    if isinstance(ae.schema_, Table):
        return [{**to_json(column), "cell": _rule(column)} for column in ae.schema_.modelled]
    channels, height, width = ae.model_.likelihood.continuous.shape
    return f"pixels in [0, 1]: {channels} channel(s) × {height} rows × {width} columns; not observed is missing"


def _rule(column: Column) -> str:
    """How a value becomes a cell, in words."""
    if isinstance(column, Categorical):
        return "the index of the level in `levels`; any other is the index after the last; missing: 0, not observed"
    if isinstance(column, Binary):
        return "0 or 1, the index of the value; missing: 0, not observed"
    days = " (days since 1970-01-01)" if isinstance(column, Datetime) else ""
    return (
        f"t = (value{days} - center) / scale; beyond ±{KNEE:g} it is sign(t) · ({KNEE:g} + log(1 + |t| - {KNEE:g})); "
        "missing: 0, not observed"
    )


def _graph(module: nn.Module, example: tuple[Tensor, ...], given: list[str], found: list[str]) -> bytes:
    """The module as an ONNX file's bytes, with a batch of any size."""
    batch = torch.export.Dim("batch")
    with torch.no_grad(), _quiet():
        try:
            program = torch.onnx.export(
                module.eval(),
                example,
                input_names=given,
                output_names=found,
                dynamic_shapes=tuple({0: batch} for _ in example),
                dynamo=True,
                verbose=False,
            )
        except torch.onnx.OnnxExporterError as error:
            reason = next(iter(str(error.__cause__ or error).splitlines()), type(error).__name__)
            raise ConfigError(
                f"this model's {type(module).__name__.lower()} cannot be written as ONNX: {reason}",
                hint="use a latent such as 'gaussian' or 'point'",
            ) from error
    assert program is not None
    proto = program.model_proto
    _strip(proto)
    return proto.SerializeToString(deterministic=True)


def _strip(proto: Any) -> None:
    """Take out what the tracer noted of our sources: stack traces with the machine's paths, names of modules; and the
    shapes between the nodes, which every reader finds by itself.
    """
    graph = proto.graph
    del graph.value_info[:]
    for part in (proto, graph, *graph.node, *graph.input, *graph.output, *graph.initializer):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")


@contextmanager
def _quiet() -> Iterator[None]:
    """What torch remarks of itself while it exports is not the user's business."""
    logger = logging.getLogger("torch.onnx._internal.exporter._registration")  # "torchvision is not installed"
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", r".*isinstance\(treespec, LeafSpec\)", FutureWarning)
            warnings.filterwarnings("ignore", r"# The axis name: batch will not be used", UserWarning)
            yield
    finally:
        logger.setLevel(level)
