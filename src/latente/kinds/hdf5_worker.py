"""The process that goes through an HDF5 file first, so that no file can harm the one that asks.

    python hdf5_worker.py FILE

A damaged file can make HDF5 break off, or turn in a circle for ever: names and attributes are lists in a heap, groups
and chunks are trees, and it trusts both. What this process comes to the end of, another does too. Errors that HDF5
reports are left to be found, and told, by the one that asks. It imports nothing of latente: its start is cheap.
"""

import contextlib
import sys
from typing import Any

_SLICE = 1 << 16  # names at once

# What is asked for by its name.
_KNOWN = (
    *("X", "Y", "x", "y", "labels", "counts", "layers", "raw", "raw.X", "raw.var", "obs", "var", "_index", "index"),
    *("data", "indices", "indptr", "shape", "codes", "categories", "__categories", "values", "mask"),
    *("matrix", "barcodes", "features", "name", "id", "feature_type", "gene_names", "genes"),
)
_ATTRIBUTES = ("encoding-type", "shape", "_index", "column-order", "ordered", "h5sparse_format", "h5sparse_shape")


def go_through(path: str) -> None:
    """Touch all that is no plain number: the groups, the attributes, the texts, the places of chunks."""
    import h5py

    with h5py.File(path, "r", locking=False) as file:
        seen: set[int] = set()
        rest: list[Any] = [file]
        while rest:
            thing = rest.pop()
            _touch(thing)
            if not isinstance(thing, h5py.Group):
                continue
            names = set(_KNOWN)
            with contextlib.suppress(Exception):
                names.update(thing)  # a group that cannot be listed may be asked for a name all the same
            for name in names:
                with contextlib.suppress(Exception):
                    if isinstance(thing.get(name, getlink=True), h5py.HardLink):
                        found = thing[name]
                        place = h5py.h5o.get_info(found.id).addr
                        if place not in seen:
                            seen.add(place)
                            rest.append(found)


def _touch(thing: Any) -> None:
    import h5py

    names = set(_ATTRIBUTES)
    with contextlib.suppress(Exception):
        names.update(thing.attrs)
    for name in names:
        with contextlib.suppress(Exception):
            thing.attrs.get(name)
    if not isinstance(thing, h5py.Dataset) or thing.shape is None:
        return
    with contextlib.suppress(Exception):
        if thing.is_virtual or thing.external:
            return
        if thing.chunks:
            thing.id.chunk_iter(lambda chunk: None)
        # What declares far more than it holds is refused before it is read.
        if thing.dtype.kind in "OSV" and thing.size * thing.dtype.itemsize < 1000 * thing.id.get_storage_size() + 4096:
            for start in range(0, thing.shape[0] if thing.shape else 1, _SLICE):
                thing[start : start + _SLICE] if thing.shape else thing[()]


if __name__ == "__main__":
    with contextlib.suppress(Exception):
        go_through(sys.argv[1])
