"""export: the encoder and the decoder as ONNX, for other programs."""

from typing import TYPE_CHECKING, Annotated, Any

from . import MODEL

if TYPE_CHECKING:
    from pathlib import Path

    from ..estimator import Autoencoder


def export(
    model: Annotated["Autoencoder", MODEL],
    *,
    output: "Annotated[str | Path | None, 'where: NAME.onnx']" = None,
) -> dict[str, Any]:
    """Write NAME.encoder.onnx, NAME.decoder.onnx and NAME.onnx.json, which says what goes in and comes out.

    encoder: `cells` [batch, …] float32 and `observed`, of the same shape, bool -> `mean`, `stddev` [batch, dim].
    decoder: `z` [batch, dim] -> `cells`, the mean of each (of a category the most probable level), and of a table
    `expected`, its features: a category is its levels' probabilities. Any number of rows. What is returned is what the
    .json says: the files, the schema, and how each column becomes a cell.

    Raises ConfigError where the packages of `pip install 'latente[onnx]'` are not there, and where the latent cannot
    be written as a graph.
    """
    from pathlib import Path

    from ..errors import ConfigError
    from ..uses.onnx import write_graphs

    if output is None or Path(output).suffix != ".onnx":
        raise ConfigError(
            "export needs a name that ends in .onnx" + (f", not {str(output)!r}" if output else ""),
            hint="latente export MODEL -o model.onnx",
        )
    return write_graphs(model, Path(output))
