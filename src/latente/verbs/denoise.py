"""denoise: the clean row behind a noisy one."""

from typing import TYPE_CHECKING, Annotated, Any

from . import DATA, MODEL

# What it gives of a row does not depend on the others: data that exceed the memory can go through it in blocks.
ROWWISE = True

if TYPE_CHECKING:
    from ..estimator import Autoencoder


def denoise(
    model: Annotated["Autoencoder", MODEL],
    data: Annotated[Any, DATA],
    *,
    samples: Annotated[int, "posterior draws whose clean rows are averaged"] = 16,
    seed: Annotated[int, "seed of the draws"] = 0,
) -> Any:
    """Rows without their noise: E[clean x | seen x], the mean of p(x|z) averaged over draws from q(z|seen x).

    Of texts and tunes it is what `reconstruct` gives, since tokens have no mean.
    Averaging over the posterior is what minimises squared error, where `reconstruct` decodes one code. A recipe with a
    corruption ('denoising') is trained for it. Missing cells come back filled. Raises DataError if the data do not fit.
    """
    import torch

    from ..errors import ConfigError

    if samples < 1:
        raise ConfigError(f"samples must be 1 or more, not {samples}")
    model._require_fitted()
    if not model.model_.likelihood.whole:
        return model.reconstruct(data)  # tokens have no mean to take over draws
    generator = torch.Generator().manual_seed(seed)
    clean = []
    with torch.no_grad():
        raw = model.rows(data)
        for batch in model.prepared(raw):
            q = model.model_.encode(batch)
            told = model.model_.given(batch)
            draws = (model.model_.decode(q.sample(1, generator), told).expectation[0] for _ in range(samples))
            mean = torch.stack(tuple(draws)).mean(0)
            clean.append(model.model_.likelihood.from_features(mean))
    return model.schema_.rejoin(raw, torch.cat(clean))
