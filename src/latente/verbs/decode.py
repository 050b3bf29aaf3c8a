"""decode: codes to rows."""

from typing import TYPE_CHECKING, Annotated, Any

from . import CODES, MODEL

if TYPE_CHECKING:
    from ..estimator import Autoencoder


def decode(
    model: Annotated["Autoencoder", MODEL],
    codes: Annotated[Any, CODES],
    *,
    of: Annotated[str, "what is shown of p(x|z): mean, mode, or sample (one draw)"] = "mean",
    given: Annotated[str | None, "of a conditional model, what is given: plan=gold,age=60; the rest is unknown"] = None,
    temperature: Annotated[float, "texts and tunes, of sample: see `sample`"] = 1.0,
    top_p: Annotated[float, "texts and tunes, of sample: see `sample`"] = 1.0,
    seed: Annotated[int, "seed of the draws"] = 0,
) -> Any:
    """Codes to rows or pictures, in the training data's columns, types and ranges.

    Raises DataError if the number of columns is not that of the latent space.
    """
    from ..errors import ConfigError

    if of not in ("mean", "mode", "sample"):
        raise ConfigError(f"--of is mean, mode or sample, not {of!r}")
    if hasattr(codes, "columns"):
        # A file may carry labels or deviations beside the codes: those are called z0, z1, …
        named = [c for c in codes.columns if str(c)[:1] == "z" and str(c)[1:].isdigit()]
        codes = codes[named] if named else codes
    return model.decode(codes, of, seed, given, temperature=temperature, top_p=top_p)
