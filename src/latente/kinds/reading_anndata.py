"""AnnData, in .h5ad files and in memory -> counts, from wherever in it they are.

    X                   counts, or what was made of them: normalised, logarithms, scaled
    layers/NAME         often "counts"
    raw/X               before genes were left out; with its own names

The format is read as it is documented, by h5py alone: AnnData itself would load a matrix before its size is known.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import DataError
from .counted import Counted
from .hdf5 import children, is_dataset, member, opened, said
from .hdf5_frames import frame, row_names
from .matrices import Compressed, Matrix, Sliced, in_memory, looks, unique
from .reading_bytes import Note
from .reading_columns import listing

if TYPE_CHECKING:
    import pandas as pd

AUTO = "auto"


@dataclass(frozen=True, eq=False)
class Layer:
    """One of the matrices of AnnData. part: where it is; matrix: how to come by it; names: its columns'."""

    part: str
    matrix: Callable[[], Matrix]
    names: Callable[[], list[str] | None]


def read_h5ad(path: Path, layer: str, note: Note) -> Counted:
    """The counts in an .h5ad file: `layer`, or the first of its matrices that holds counts. Raises as `read_counts`."""
    with opened(path) as file:
        chosen, matrix = of_layer(layers_of(file, path.name), layer, path.name, note)
        counts = matrix.whole()
        about = frame(member(file, "obs"), counts.shape[0], note)
        return Counted(counts, named(chosen.names(), counts.shape[1], note), about, chosen.part)


def of_anndata(adata: Any, layer: str, note: Note) -> Counted:
    """The counts of an AnnData object, also of one whose matrices are left on disk. Raises as `read_counts`."""

    def of(name: str, x: Any, names: Any) -> Layer:
        return Layer(name, lambda: in_memory(x, name), lambda: [str(n) for n in names])

    layers = [of("X", adata.X, adata.var_names)] if adata.X is not None else []
    layers += [of(f"layers/{name}", x, adata.var_names) for name, x in adata.layers.items() if name is not None]
    if adata.raw is not None and adata.raw.X is not None:
        layers.append(of("raw", adata.raw.X, adata.raw.var_names))
    chosen, matrix = of_layer(_in_order(layers), layer, "this AnnData", note)
    counts = matrix.whole()
    about = adata.obs.copy()
    return Counted(counts, named(chosen.names(), counts.shape[1], note), about, chosen.part)


def layers_of(file: Any, name: str) -> list[Layer]:
    """The matrices of an open .h5ad file, in the order in which counts are looked for. DataError if there are none."""

    def of(part: str, where: str, var: str) -> Layer:
        return Layer(part, lambda: stored(member(file, where), part), lambda: row_names(member(file, var)))

    layers = [of("X", "X", "var")] if member(file, "X") is not None else []
    layers += [of(f"layers/{key}", f"layers/{key}", "var") for key in children(member(file, "layers"))]
    if member(file, "raw/X") is not None:
        layers.append(of("raw", "raw/X", "raw/var"))
    elif member(file, "raw.X") is not None:  # before version 0.7
        layers.append(of("raw", "raw.X", "raw.var"))
    if not layers:
        raise DataError(f"{name} holds no matrix: neither X nor layers", hint="write it with adata.write_h5ad")
    return _in_order(layers)


def _in_order(layers: list[Layer]) -> list[Layer]:
    return sorted(layers, key=lambda one: {"X": 0, "layers/counts": 1, "raw": 3}.get(one.part, 2))


def stored(thing: Any, part: str) -> Matrix:
    """A matrix in an HDF5 file: a group of three arrays, or a data set of two dimensions."""
    if is_dataset(thing):
        if len(thing.shape) != 2:
            raise DataError(f"{part} has {len(thing.shape)} dimensions", hint="counts have two: rows and columns")
        return Sliced(part, thing)
    form = "" if thing is None else said(thing, "encoding-type") or said(thing, "h5sparse_format")
    if form not in ("csr_matrix", "csc_matrix", "csr", "csc"):
        raise DataError(f"{part} is stored as {form or 'something unknown'!r}", hint="save it as CSR or a dense array")
    shape = thing.attrs["shape"] if "shape" in thing.attrs else thing.attrs["h5sparse_shape"]
    data, indices, indptr = (member(thing, name) for name in ("data", "indices", "indptr"))
    if not (is_dataset(data) and is_dataset(indices) and is_dataset(indptr)):
        raise DataError(f"{part} lacks data, indices or indptr", hint="fetch or write the file again")
    rows, columns = (int(n) for n in np.ravel(shape)[:2])
    return Compressed(part, (rows, columns), data, indices, indptr, form.startswith("csc"))


def of_layer(layers: list[Layer], wanted: str, name: str, note: Note) -> tuple[Layer, Matrix]:
    """The layer that is wanted, or, for "auto", the first that holds counts. DataError if it is not there, or none."""
    if wanted != AUTO:
        wanted = {"raw/X": "raw", "raw.X": "raw"}.get(wanted, wanted)
        # A layer may be called X or raw too: by layers/X it is to be had.
        found = next((one for part in (wanted, f"layers/{wanted}") for one in layers if one.part == part), None)
        if found is None:
            there = listing([one.part.removeprefix("layers/") for one in layers])
            raise DataError(f"{name} has no layer {wanted!r}", hint=f"--layer takes one of: {there}")
        return found, found.matrix()
    seen: list[str] = []
    for one in _not_read(layers, seen):
        matrix = one.matrix()
        what = looks(matrix.sample())
        if not what:
            if seen:
                note(f"{name}: {'; '.join(seen)}; counts are taken from {one.part} (--layer NAME takes another)")
            return one, matrix
        seen.append(f"{one.part} {what}")
    raise DataError(
        f"{name} holds no counts: {'; '.join(seen)}",
        hint="a model of counts needs them: keep the raw ones in layers['counts']",
    )


def _not_read(layers: list[Layer], seen: list[str]) -> Iterator[Layer]:
    """The layers, without those that are no matrices of numbers; what they are is added to `seen`."""
    for one in layers:
        try:
            one.matrix()
        except DataError as error:
            seen.append(error.problem)
        else:
            yield one


def named(names: list[str] | None, columns: int, note: Note) -> tuple[str, ...]:
    """The names of so many columns, none of them twice; () if there are none. DataError if they are not as many."""
    if names is None:
        return ()
    if len(names) != columns:
        raise DataError(f"{len(names):,} names for {columns:,} columns of counts", hint="fetch or write the file again")
    distinct = unique(names)
    changed = [name for name, new in zip(names, distinct, strict=True) if name != new]
    if changed:
        note(f"{len(changed):,} name(s) of columns occur again, and get a number (-1, -2, …): {listing(changed, 3)}")
    return distinct


def cells(names: list[str] | None, rows: int) -> "pd.DataFrame":
    """What is known of so many rows: their names, if they have some. DataError if they are not as many."""
    import pandas as pd

    if names is None:
        return pd.DataFrame(index=pd.RangeIndex(rows))
    if len(names) != rows:
        raise DataError(f"{len(names):,} names for {rows:,} rows of counts", hint="fetch or write the file again")
    return pd.DataFrame(index=pd.Index(names))
