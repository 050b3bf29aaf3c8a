"""encode: rows to codes."""

from typing import TYPE_CHECKING, Annotated, Any

from . import DATA, MODEL

# What it gives of a row does not depend on the others: data that exceed the memory can go through it in blocks.
ROWWISE = True

if TYPE_CHECKING:
    import pandas as pd

    from ..estimator import Autoencoder


def encode(
    model: Annotated["Autoencoder", MODEL],
    data: Annotated[Any, DATA],
    *,
    clusters: Annotated[int, "also a column cluster: the rows in so many groups of like codes (k-means)"] = 0,
    seed: Annotated[int, "seed of the clusters"] = 0,
    deviations: Annotated[bool, "the posterior's standard deviations too, as s0, s1, …"] = False,
) -> "pd.DataFrame":
    """Codes of rows: the posterior means, one column a latent dimension: z0, z1, …  [rows, dim]; of tunes before them
    which tune a window is of, and the step at which it begins; of histories the user, of cells their names (row).

    An .h5ad file can be written to an .h5ad file (-o): a copy with codes in obsm["X_latente"], a graph of the 15
    nearest neighbours under the key "latente" (sc.tl.leiden(adata, neighbors_key="latente")), and
    obs["latente_cluster"].

    Raises ConfigError for clusters of rows that come in blocks, DataError if the data do not fit the model.
    """
    import pandas as pd

    from ..uses.rows import places

    model._require_fitted()
    part = getattr(data, "part", False)
    if model.schema_.sparse:  # read once: what the rows are called comes with them
        from ..kinds.sources import Read, Source

        raw = model.rows(data)
        data = raw if isinstance(raw, Source) else Read(raw)
    where = places(model, data)
    mean, stddev = model.encode(data)
    frame = pd.DataFrame(mean, columns=[f"z{i}" for i in range(mean.shape[1])])
    if deviations:
        frame[[f"s{i}" for i in range(mean.shape[1])]] = stddev
    if clusters:
        from ..uses.neighbours import grouped

        frame["cluster"] = grouped(mean, clusters, seed, part)
    return pd.concat([where, frame], axis=1)
