"""UMAP of rows in an .npz (x, new): the map of fitted rows, of new ones, and CPU seconds of the fit, as an .npz.

umap_map.py IN.npz OUT.npz DIM SEED
"""

import resource
import sys

import numpy as np
import umap


def cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def main() -> None:
    source, target, dim, seed = sys.argv[1:]
    data = np.load(source)
    # Its first call compiles: that is done before the clock.
    umap.UMAP(n_components=int(dim), random_state=int(seed), n_epochs=10).fit(data["x"][:300]).transform(data["x"][:20])
    start = cpu_seconds()
    fitted = umap.UMAP(n_components=int(dim), random_state=int(seed)).fit(data["x"])
    cost = cpu_seconds() - start
    np.savez(target, z=fitted.embedding_, z_new=fitted.transform(data["new"]), cpu_s=cost)


if __name__ == "__main__":
    main()
