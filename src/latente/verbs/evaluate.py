"""evaluate: how good a model is on rows, with PCA beside it."""

from typing import TYPE_CHECKING, Annotated, Any

from . import DATA, MODEL

if TYPE_CHECKING:
    from ..estimator import Autoencoder


def evaluate(
    model: Annotated["Autoencoder", MODEL],
    data: Annotated[Any, DATA],
    *,
    samples: Annotated[int, "importance samples a row"] = 200,
    seed: Annotated[int, "seed of the draws"] = 0,
) -> dict[str, Any]:
    """Bounds on −log p(x) in nats per row, reconstruction, KL, active units, and PCA of the same size beside it.

    Give it rows that the model was not fitted on. `neg_elbo` and `iw_nll` are upper bounds on −log p(x), the second
    tighter, both of cells in the model's units (`units`); `iw_nll_se` is the standard error of its mean over rows.
    `kl_by_dim` is the KL of each latent dimension in nats, in their order; absent where it has no closed form. `error`
    and `error_pca` are the squared reconstruction error over the variance, of one-hot categories and scaled numbers:
    0 is perfect, 1 is the mean row; PCA was fitted on the training rows. For a point latent the bounds are absent and
    `rec` is −log p(x|z). For codes both bounds are −log p(x|z) − log P(z) of the row's own code, `kl` is −log P(z),
    `codebook_use` the share of entries that these rows take at all and `codebook_perplexity` the number that would be
    as varied if all were taken alike. Raises DataError if the data do not fit the model.
    """
    from ..uses import evaluation

    return evaluation.evaluate(model, data, samples, seed)
