"""evaluate: how good a model is on rows, with PCA beside it."""

from typing import TYPE_CHECKING, Annotated, Any

from . import DATA, MODEL

if TYPE_CHECKING:
    from pathlib import Path

    from ..estimator import Autoencoder


def evaluate(
    model: Annotated["Autoencoder", MODEL],
    data: Annotated[Any, DATA],
    *,
    samples: Annotated[int, "importance samples a row"] = 200,
    ais: Annotated[
        int, "check iw_nll on 100 rows by annealed importance sampling with this many chains a row; 16 will do"
    ] = 0,
    ais_steps: Annotated[int, "temperatures of it: more is tighter and slower"] = 500,
    ais_start: Annotated[
        str, "prior, which asks nothing of the encoder, or posterior: a fifth of the steps do if the encoder is good"
    ] = "prior",
    rate_distortion: Annotated[bool, "the curve, on 100 rows; -o a .png or .csv for it alone"] = False,
    fidelity: Annotated[
        bool, "compare samples with the rows: Fréchet distance, precision, recall, a classifier"
    ] = False,
    synthetic: Annotated[
        bool, "tables: a report on new rows in place of all this: fidelity, use, privacy; needs --training"
    ] = False,
    training: Annotated[
        Any,
        "the rows that the model was fitted on: with --synthetic or --reduction, or to look for copies among new texts "
        "or tunes",
    ] = None,
    reduction: Annotated[
        bool, "the latent beside PCA, kernel PCA and UMAP, and what each dimension stands for, in place of all this"
    ] = False,
    labels: Annotated[Any, "with --reduction: the rows' classes: a .npy, or a file of one column"] = None,
    label_col: Annotated[str | None, "with --reduction: the column of the rows' classes"] = None,
    target: Annotated[str | None, "with --synthetic: the column to predict, trained on new rows"] = None,
    seed: Annotated[int, "seed of the draws"] = 0,
    quiet: Annotated[bool, "say nothing on stderr while it computes"] = False,
) -> Any:
    """Bounds on −log p(x) in nats per row, reconstruction, KL, active units, and PCA of the same size beside it.

    Give it rows that the model was not fitted on. `neg_elbo` and `iw_nll` are upper bounds on −log p(x), the second
    tighter, both of cells in the model's units (`units`); `iw_nll_se` is the standard error of its mean over rows.
    `bits_per_dim` is iw_nll per cell in bits, where cells are discrete and p(x) is a probability. `kl_by_dim` is the KL
    of each latent dimension in nats, in their order; absent where it has no closed form; `kl_by_level` that of each
    level of a ladder, top first, both on the way along the means. `mutual_information` is how many nats of a row its
    code holds, at least, from 2,000 rows; it cannot exceed the log of their number.
    `error` and `error_pca` are the squared reconstruction error over the variance, of one-hot categories and scaled
    numbers: 0 is perfect, 1 is the mean row; PCA was fitted on the training rows. For a point latent the bounds are
    absent and `rec` is −log p(x|z). For codes both bounds are −log p(x|z) − log P(z) of the row's own code, `kl` is
    −log P(z), `codebook_use` the share of entries that these rows take at all and `codebook_perplexity` the number that
    would be as varied if all were taken alike.

    Of texts and tunes besides: `nll_per_token` and `perplexity` (its exponential) of iw_nll; `perplexity_without_code`,
    of the same decoder trained without a code, the baseline; `free_running_accuracy`, the share of tokens at their
    places when a row is written from its code alone; `z_matters`, by how many nats a row is worse told by another row's
    code; of 500 new rows `distinct_1`, `distinct_2` and `distinct_rows`, `valid_share` (they keep the grammar, if there
    is one, and come to an end) and `like_data_share` (no pair of tokens that the data do not have); with `training`
    `copies`, the share that are training rows token for token, and `likeness`, the median to the nearest.

    `check`: −log p(x) of 100 rows drawn from all, by chains (ais_nll, an upper bound too: the lower of the two is
    nearer), iw_nll of the same rows, and the gap between them. `rate_distortion`: KL and −log p(x|z) when the cells
    count beta times; at beta 1 their sum is −log p(x). Of a Gaussian likelihood `rate_distortion_gaussian` is the best
    that coding the principal components can do. `fidelity`: samples of the model against these rows, in their principal
    components (`space`): frechet (0 is best), precision and recall (1), two_sample (AUROC of boosted trees; .5), each
    beside `_ceiling`, of rows against other rows, and `_floor`, of rows whose columns were shuffled. docs/estimates.md
    says when to trust which.

    `synthetic`: a TabularReport instead, of as many new rows as `training` has: every figure between a floor (columns
    shuffled) and a ceiling (real rows); of recipe tabular beside it the same of rows drawn through the code. docs/
    tables.md says what each means.

    `reduction`: a ReductionReport instead: the latent, PCA, kernel PCA and, if it is installed, UMAP, each of as many
    dimensions (and at the map's, if the model carries one), on up to 5,000 rows: `error`, the share of the variance
    that the way back loses; `trustworthiness` and `continuity`, from 0 to 1, of 10 neighbours; with classes the share
    of rows whose neighbours have theirs; `silhouette`. Then what each latent dimension goes with and changes. -o a
    .json, a table, or of pictures a .png or a folder for the traversal too. docs/reduction.md says when not to trust
    which.

    Of a recommender (recipe recommend), in place of all this: of each new user's history a fifth is kept back, and
    ndcg100, recall20, recall50 and coverage say how much of it the lists find that the rest gives: of both parts
    together, each alone, EASE and popularity, with the 95 % intervals of the differences (paired bootstrap over users).

    Raises DataError if the data do not fit the model, ConfigError for `ais` of a latent that is not numbers.
    """
    if reduction or labels is not None or label_col is not None:
        from ..errors import ConfigError
        from ..uses import reduction as reductions

        if not reduction:
            raise ConfigError("labels are for the comparison with PCA and others", hint="add --reduction")
        if synthetic or ais or rate_distortion or fidelity or target is not None:
            raise ConfigError(
                "--reduction is a report of its own",
                hint="leave out --synthetic, --ais, --rate-distortion, --fidelity, --target",
            )
        return reductions.evaluate(
            model, data, labels=labels, label_col=label_col, training=training, seed=seed, quiet=quiet
        )
    if synthetic:
        from ..errors import ConfigError
        from ..uses import tabular_report

        if training is None:
            raise ConfigError(
                "a report on synthetic rows compares them with those that the model was fitted on",
                hint="--training TRAINING-ROWS",
            )
        return tabular_report.of_model(model, training, data, target=target, seed=seed)
    from ..uses import evaluation, neighbours, recommendation

    if recommendation.recommends(model):
        if ais or rate_distortion or fidelity or training is not None:
            from ..errors import ConfigError

            raise ConfigError(
                "a recommender is judged by its lists alone",
                hint="leave out --ais, --rate-distortion, --fidelity, --training",
            )
        return recommendation.evaluate(model, data, seed)
    tokens = neighbours.of_tokens(model)
    if target is not None or (training is not None and not tokens):
        from ..errors import ConfigError

        raise ConfigError(
            "training and target are for a report on synthetic rows", hint="add --synthetic (or --reduction)"
        )
    figures = evaluation.evaluate(
        model, data, samples, seed, ais, ais_steps, ais_start, rate_distortion, fidelity, quiet
    )
    return figures if training is None else figures | neighbours.repeated(model, training, seed)


def ready(place: "Path", rate_distortion: bool = False, reduction: bool = False, **_: Any) -> None:
    """Refuse a picture, before anything is computed, unless there will be a curve to draw. Raises ConfigError."""
    from ..errors import ConfigError
    from ..uses import curves

    if place.suffix.lower() in curves.PLOTS and not rate_distortion and not reduction:
        raise ConfigError(
            f"{place.name!r} is a picture, and without --rate-distortion there is no curve to draw",
            hint=f"add --rate-distortion, or -o {place.stem}.json",
        )


def unsaved(result: dict[str, Any], place: "Path") -> dict[str, Any]:
    """The numbers that `save` leaves out of this file: a picture or a table holds the curves alone."""
    if place.suffix.lower() == ".json" or hasattr(result, "figures"):
        return {}
    return {k: v for k, v in result.items() if not (k.startswith("rate_distortion") and isinstance(v, list))}


def save(result: Any, place: "Path", model: Any = None, **_: Any) -> "list[Path]":
    """Write all numbers (.json), or the rate–distortion curve as a picture (.png, .pdf, .svg) or a table."""
    from ..kinds.writing import write
    from ..uses import curves

    if hasattr(result, "meanings"):
        from ..uses import reduction

        return reduction.save(result, place, model)
    if hasattr(result, "figures"):
        result.save(place)
        return [place]
    if place.suffix.lower() in curves.PLOTS:
        return curves.plot(result, place)
    if place.suffix.lower() != ".json" and "rate_distortion" in result:
        return write(curves.table(result), place)
    return write(result, place)
