"""Counts are read from the formats of single cells and of tables, and hostile files harm nothing."""

import gzip
import random
import time
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from scipy.io import mmwrite

from latente.errors import ConfigError, DataError, LatenteError, ResourceError
from latente.kinds import hdf5, hdf5_worker, matrices
from latente.kinds.counted import Counted
from latente.kinds.matrices import in_memory, looks, unique
from latente.kinds.reading import guess_kind, read, whole_kind
from latente.kinds.reading_counts import of_anndata, of_frame, read_counts

h5py = pytest.importorskip("h5py", reason="reading .h5ad needs h5py")

# Written by anndata 0.12.19: X and `scaled` are made of the counts, which are in `counts` (CSC), `dense` and raw.
GOLDEN = Path(__file__).parent / "golden" / "anndata-0.12.h5ad"
GENES = ("A", "B", "B-1", "C", "D", "E", "B-2")
SHARED = Path(__file__).resolve().parents[2] / "shared" / "data" / "counts" / "mouse_bladder_2100.h5"

X = np.random.default_rng(0).poisson(0.7, (12, 7))
CELLS = [f"cell{i}" for i in range(12)]


def group_of(parent, name, x, form="csr_matrix", **options):
    """A sparse matrix in HDF5, as AnnData writes it."""
    group = parent.create_group(name)
    group.attrs["encoding-type"] = form
    group.attrs["shape"] = np.array(x.shape)
    for part in ("data", "indices", "indptr"):
        group.create_dataset(part, data=getattr(x, part), **options)
    return group


def h5ad(path, x, rows=None, columns=None, **layers):
    """A small .h5ad file with matrices of all forms: scipy's, or dense."""
    with h5py.File(path, "w") as file:
        for name, matrix in {"X": x, **{f"layers/{key}": one for key, one in layers.items()}}.items():
            if sp.issparse(matrix):
                group_of(file, name, matrix, f"{matrix.format}_matrix")
            elif matrix is not None:
                file.create_dataset(name, data=matrix)
        for name, size in (("obs", rows or X.shape[0]), ("var", columns or X.shape[1])):
            file.create_group(name).create_dataset("_index", data=[f"{name}{i}" for i in range(size)])
    return path


def told(path, **options):
    notes = []
    return read(path, note=notes.append, **options), notes


def test_anndatas_own_file_is_read_with_all_that_is_known_of_its_cells():
    counted, notes = told(GOLDEN)
    assert counted.part == "layers/counts"
    assert (counted.counts.toarray() == X).all()
    assert counted.names == GENES
    assert counted.about.index.tolist() == CELLS
    assert counted.about["type"].tolist() == list("aabbcaaabbcc")
    assert isinstance(counted.about["type"].dtype, pd.CategoricalDtype)
    assert counted.about["n"].tolist() == list(range(12))
    assert counted.about["word"].tolist() == [f"w {i}" for i in range(12)]
    assert counted.about["ok"].tolist() == [True, False] * 6
    assert counted.about["some"].isna().tolist() == [False, True, False, False, False, False] * 2
    assert counted.about["maybe"].dtype == "boolean"
    assert any(
        "X looks normalised (fractions such as 0.6931)" in note and "counts are taken from layers/counts" in note
        for note in notes
    )
    assert any("2 name(s) of columns occur again" in note for note in notes)


@pytest.mark.parametrize(("layer", "part"), [("dense", "layers/dense"), ("raw", "raw"), ("layers/counts",) * 2])
def test_a_layer_is_taken_by_its_name(layer, part):
    counted = read(GOLDEN, "counts", layer=layer)
    assert counted.part == part
    assert (counted.counts.toarray() == X).all()
    assert counted.names == GENES


@pytest.mark.parametrize(("layer", "expected"), [("X", np.log1p(X)), ("scaled", X - 1.5)])
def test_a_named_layer_is_taken_as_it_is(layer, expected):
    assert read(GOLDEN, layer=layer).counts.toarray() == pytest.approx(expected, rel=1e-6)  # float32


def test_a_layer_that_is_not_there_is_refused_with_those_that_are():
    with pytest.raises(DataError, match=r"no layer 'nope'") as caught:
        read(GOLDEN, layer="nope")
    assert caught.value.hint == "--layer takes one of: X, counts, dense, scaled, raw"


def test_a_file_without_counts_says_what_each_matrix_looks_like(tmp_path):
    path = h5ad(tmp_path / "a.h5ad", sp.csr_matrix(np.log1p(X)), z=X - 2.0, gap=np.where(X > 2, np.nan, X / 1.0))
    with pytest.raises(DataError, match=r"X looks normalised \(fractions such as 0.6931\)") as caught:
        read(path)
    assert "layers/z looks scaled (negative numbers such as -1)" in caught.value.problem
    assert "layers['counts']" in caught.value.hint


@pytest.mark.parametrize("form", [sp.csr_matrix, sp.csc_matrix, np.asarray])
@pytest.mark.parametrize("dtype", ["f4", "f8", "i4", "i8", "u2", ">i4", "f2", "?"])
def test_matrices_of_every_form_and_type_are_read(tmp_path, form, dtype):
    x = X.astype(dtype)
    if dtype in ("f2", ">i4") and form is not np.asarray:
        pytest.skip("scipy has no such matrices")
    counted = read(h5ad(tmp_path / "a.h5ad", form(x)))
    assert counted.counts.format == "csr"
    assert counted.counts.has_canonical_format
    assert (counted.counts.toarray() == x.astype(float)).all()


def test_packed_data_sets_and_rows_in_chunks_give_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr(matrices, "_BLOCK", 7 * 8 * 5)  # five rows at once
    with h5py.File(h5ad(tmp_path / "a.h5ad", None), "r+") as file:
        file.create_dataset("X", data=X, chunks=(3, 4), compression="gzip")
    assert (read(tmp_path / "a.h5ad").counts.toarray() == X).all()


def test_what_is_not_in_order_or_twice_or_zero_is_put_right(tmp_path):
    x = sp.csr_matrix((np.array([1, 2, 3, 0]), np.array([3, 1, 1, 0]), np.array([0, 3, 4])), shape=(2, 4))
    counts = read(h5ad(tmp_path / "a.h5ad", x, 2, 4)).counts
    assert counts.indices.tolist() == [1, 3]
    assert counts.data.tolist() == [5, 1]


def test_old_files_of_anndata_are_read(tmp_path):
    path = tmp_path / "old.h5ad"
    obs = np.array([(b"a", 1, 2.5), (b"b", 2, 3.5)], dtype=[("index", "S1"), ("n", "i4"), ("v", "f4")])
    with h5py.File(path, "w") as file:
        group = group_of(file, "X", sp.csr_matrix(X[:2]))
        del group.attrs["encoding-type"], group.attrs["shape"]
        group.attrs["h5sparse_format"], group.attrs["h5sparse_shape"] = "csr", X[:2].shape
        file["obs"], file["var"] = obs, np.array([(f"g{i}".encode(),) for i in range(7)], dtype=[("index", "S2")])
    counted = read(path)
    assert (counted.counts.toarray() == X[:2]).all()
    assert counted.names == tuple(f"g{i}" for i in range(7))
    assert counted.about.index.tolist() == ["a", "b"]
    assert counted.about.to_dict("list") == {"n": [1, 2], "v": [2.5, 3.5]}


def tenx(path, group="matrix"):
    x = sp.csr_matrix(X)
    with h5py.File(path, "w") as file:
        place = file.create_group(group)
        for part in ("data", "indices", "indptr"):
            place[part] = getattr(x, part)
        place["shape"] = np.array(X.shape[::-1])
        place["barcodes"] = np.array(CELLS, dtype="S")
        if group == "matrix":
            place["features/name"], place["features/id"] = [f"g{i}" for i in range(7)], [f"E{i}" for i in range(7)]
            place["features/feature_type"] = ["Gene Expression"] * 6 + ["Antibody Capture"]
        else:
            place["gene_names"] = [f"g{i}" for i in range(7)]
    return path


@pytest.mark.parametrize("group", ["matrix", "mm10"])
def test_10x_files_are_cells_by_genes(tmp_path, group):
    counted, notes = told(tenx(tmp_path / "a.h5", group))
    assert (counted.counts.toarray() == X).all()
    assert counted.names == tuple(f"g{i}" for i in range(7))
    assert counted.about.index.tolist() == CELLS
    assert any("Antibody Capture" in note for note in notes) == (group == "matrix")


def test_plain_hdf5_is_a_matrix_and_labels(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["X"], file["Y"] = X, [f"t{i % 3}" for i in range(12)]
    counted = read(tmp_path / "a.h5")
    assert (counted.counts.toarray() == X).all()
    assert counted.names == ()
    assert counted.about["Y"].tolist() == [f"t{i % 3}" for i in range(12)]
    with pytest.raises(ConfigError, match="no layers"):
        read(tmp_path / "a.h5", layer="counts")


@pytest.mark.skipif(not SHARED.is_file(), reason="the cells are not beside the project")
def test_the_mouse_bladder_is_read():
    counted = read(SHARED)
    assert counted.shape == (2100, 20670)
    assert counted.about["Y"].nunique() == 16
    assert looks(counted.counts.data) == ""


def market(folder, name="matrix.mtx", x=None, features="features.tsv", barcodes="barcodes.tsv", packed=False):
    """A Matrix Market file and its names, as 10x writes them: genes × cells."""
    folder.mkdir(exist_ok=True)
    names = {name: None, features: [f"E{i}\tg{i}\tGene Expression" for i in range(7)], barcodes: CELLS}
    for key, lines in names.items():
        if key is None:
            continue
        place = folder / (key + ".gz" * packed)
        with (gzip.open if packed else open)(place, "wb") as file:
            if lines is None:
                mmwrite(file, sp.coo_matrix(X.T if x is None else x))
            else:
                file.write(("\n".join(lines) + "\n").encode())
    return folder / (name + ".gz" * packed)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    ("name", "features", "barcodes"),
    [
        ("matrix.mtx", "features.tsv", "barcodes.tsv"),
        ("matrix.mtx", "genes.tsv", "barcodes.tsv"),
        ("GSM1_matrix.mtx", "GSM1_features.tsv", "GSM1_barcodes.tsv"),
        ("bladder.mtx", "bladder_features.tsv", "bladder_barcodes.tsv"),
        ("bladder.mtx", "genes.tsv", "barcodes.tsv"),
    ],
)
def test_matrix_market_files_of_10x_are_turned(tmp_path, name, features, barcodes, packed):
    path = market(tmp_path / "a", name, features=features, barcodes=barcodes, packed=packed)
    for place in [path] + [path.parent] * name.startswith("matrix"):
        counted = read(place)
        assert (counted.counts.toarray() == X).all()
        assert counted.names == tuple(f"g{i}" for i in range(7))
        assert counted.about.index.tolist() == CELLS


def test_matrix_market_without_names_or_with_those_of_its_rows_stays_as_it_is(tmp_path):
    path = market(tmp_path / "a", x=X, features=None, barcodes=None)
    assert (read(path).counts.toarray() == X).all()
    path = market(tmp_path / "b", x=X)  # cells × genes
    counted = read(path)
    assert (counted.counts.toarray() == X).all()
    assert counted.about.index.tolist() == CELLS


def test_a_square_matrix_with_both_files_is_as_10x_writes_it(tmp_path):
    path = market(tmp_path / "a", x=X[:7, :7])
    (path.parent / "barcodes.tsv").write_text("\n".join(CELLS[:7]))
    assert (read(path).counts.toarray() == X[:7, :7].T).all()


def test_names_of_another_matrix_are_refused(tmp_path):
    path = market(tmp_path / "a", x=X[:5, :6])
    with pytest.raises(DataError, match=r"5 rows × 6 columns, and beside it are names of 7 features and 12 barcodes"):
        read(path)


@pytest.mark.parametrize("form", [sp.csr_matrix, sp.csc_matrix, sp.coo_matrix, sp.csr_array])
@pytest.mark.parametrize("compressed", [True, False])
def test_sparse_matrices_of_scipy_are_counts_without_being_told(tmp_path, form, compressed):
    path = tmp_path / "a.npz"
    sp.save_npz(path, form(X), compressed=compressed)
    assert guess_kind(path) == whole_kind(path) == "counts"
    counted = read(path)
    assert (counted.counts.toarray() == X).all()
    assert (read(path, "interactions").counts.toarray() == X).all()
    with pytest.raises(DataError, match="holds counts, not a table"):
        read(path, "table")


def test_other_sparse_forms_and_pickles_are_refused(tmp_path):
    sp.save_npz(tmp_path / "a.npz", sp.bsr_matrix(X))
    with pytest.raises(DataError, match="of form 'bsr'"):
        read(tmp_path / "a.npz")
    parts = {
        "format": np.array(b"csr"),
        "shape": np.array([1, 2]),
        "indices": np.array([0]),
        "indptr": np.array([0, 1]),
    }
    np.savez(tmp_path / "b.npz", data=np.array([{}], dtype=object), **parts)
    with pytest.raises(DataError, match="pickle"):
        read(tmp_path / "b.npz")


@pytest.mark.parametrize("ending", [".csv", ".tsv", ".parquet", ".feather"])
def test_tables_are_counts_when_told(tmp_path, ending):
    table = pd.DataFrame(X, columns=[f"g{i}" for i in range(7)])
    table.insert(0, "id", CELLS)
    table.insert(3, "type", list("ab") * 6)
    path = tmp_path / f"a{ending}"
    if ending in (".csv", ".tsv"):
        table.to_csv(path, index=False, sep="," if ending == ".csv" else "\t")
    else:
        getattr(table, f"to_{ending[1:]}")(path)
    assert isinstance(read(path), pd.DataFrame)
    counted, notes = told(path, kind="counts")
    assert (counted.counts.toarray() == X).all()
    assert counted.names == tuple(f"g{i}" for i in range(7))
    assert counted.about.index.tolist() == CELLS
    assert counted.about["type"].tolist() == list("ab") * 6
    assert notes == ["no counts, but known of each row: type"]


def test_arrays_are_counts_when_told(tmp_path):
    np.save(tmp_path / "a.npy", X)
    np.savez(tmp_path / "a.npz", X=X, y=np.arange(12))
    assert (read(tmp_path / "a.npy", "counts").counts.toarray() == X).all()
    counted = read(tmp_path / "a.npz", "counts")
    assert counted.about["Y"].tolist() == list(range(12))
    np.save(tmp_path / "b.npy", np.zeros((2, 3, 4)))
    with pytest.raises(DataError, match="not a table"):
        read(tmp_path / "b.npy", "counts")


def test_frames_with_an_index_gaps_and_sparse_columns_are_counts():
    counted = of_frame(pd.DataFrame({"a": pd.array([1, None], dtype="Int64"), "b": [0, 3]}, index=["x", "y"]))
    assert counted.about.index.tolist() == ["x", "y"]
    assert np.isnan(counted.counts.toarray()[1, 0])  # a kind says what a missing count is
    sparse = pd.DataFrame.sparse.from_spmatrix(sp.csr_matrix(X))
    assert (of_frame(sparse).counts.toarray() == X).all()
    with pytest.raises(DataError, match="none of the columns holds numbers"):
        of_frame(pd.DataFrame({"a": ["x", "y"]}))


def test_kinds_are_guessed_by_the_form(tmp_path):
    market(tmp_path / "tenx", packed=True)
    assert guess_kind(tmp_path / "tenx") == guess_kind(GOLDEN) == "counts"
    with pytest.raises(DataError, match="holds counts, not pictures"):
        read(GOLDEN, "image")
    (tmp_path / "a.png").write_bytes(b"x")
    with pytest.raises(DataError, match="holds pictures, not counts"):
        read(tmp_path / "a.png", "counts")


def test_names_that_occur_twice_are_told_apart():
    assert unique(["a", "b", "a", "a-1", "a"]) == ("a", "b", "a-2", "a-1", "a-3")
    assert unique([]) == ()


def test_the_matrix_in_memory_is_left_as_it_was():
    x = sp.csr_matrix((np.array([1, 0, 3]), np.array([1, 0, 0]), np.array([0, 3])), shape=(1, 2))
    counts = in_memory(x, "x").whole()
    assert counts.toarray().tolist() == [[3, 1]]
    assert x.data.tolist() == [1, 0, 3]
    assert x.indices.tolist() == [1, 0, 0]


@pytest.mark.parametrize("backed", [None, "r"])
@pytest.mark.parametrize("layer", ["X", "auto"])
def test_anndata_in_memory_and_on_disk_are_read(tmp_path, backed, layer):
    anndata = pytest.importorskip("anndata", reason="AnnData is not installed")
    for number, x in enumerate((sp.csr_matrix(X), sp.csc_matrix(X), X)):
        path = tmp_path / f"{number}.h5ad"
        adata = anndata.AnnData(x, obs=pd.DataFrame({"t": list("ab") * 6}, index=CELLS))
        adata.write_h5ad(path)
        adata = anndata.read_h5ad(path, backed=backed)
        counted = of_anndata(adata, layer, lambda _: None)
        assert isinstance(counted, Counted)
        assert (counted.counts.toarray() == X).all()
        assert counted.about["t"].tolist() == list("ab") * 6
        assert counted.names == tuple(map(str, range(7)))
        half = of_anndata(adata[::2], layer, lambda _: None)
        assert (half.counts.toarray() == X[::2]).all()
        if backed:
            adata.file.close()


# Hostile files


def only_data_or_errors(path):
    """Reads it; what comes is data, or one of our errors."""
    try:
        counted = read_counts(path)
    except LatenteError:
        return
    counted.counts.check_format(full_check=True)
    assert len(counted.about) == counted.shape[0]


def files(folder):
    x = sp.csr_matrix(X)
    sp.save_npz(folder / "a.npz", x)
    sp.save_npz(folder / "b.npz", sp.coo_matrix(x))
    market(folder / "mtx")
    market(folder / "gz", packed=True)
    return [
        GOLDEN,
        h5ad(folder / "a.h5ad", x),
        tenx(folder / "a.h5"),
        folder / "a.npz",
        folder / "b.npz",
        folder / "mtx" / "matrix.mtx",
        folder / "gz" / "matrix.mtx.gz",
    ]


@pytest.mark.parametrize("number", range(7))
def test_damaged_files_give_data_or_an_error(tmp_path, number, monkeypatch):
    monkeypatch.setattr(hdf5, "_WALL", 3.0)  # a second would do; a busy machine needs more
    source = files(tmp_path)[number]
    whole = source.read_bytes()
    rng = random.Random(number)
    place = source.with_name(f"damaged-{source.name}") if source != GOLDEN else tmp_path / "g.h5ad"
    place = place if place.suffix != ".gz" else source
    for _ in range(10 if number < 3 else 60):  # HDF5 is tried in a process of its own, which takes its time
        data = bytearray(whole)
        if rng.random() < 0.3:
            del data[rng.randrange(1, len(data)) :]
        else:
            for _ in range(rng.choice([1, 1, 4, 32])):
                data[rng.randrange(len(data))] = rng.choice([0, 255, rng.randrange(256)])
        place.write_bytes(bytes(data))
        only_data_or_errors(place)


@pytest.mark.parametrize(
    "sizes",
    ["1000000000000 5 1", "5 1000000000000 1", "5 5 1000000000000", "-1 5 1", "5 5", "x y z", "9" * 30 + " 1 1"],
)
def test_absurd_sizes_of_matrix_market_are_refused_before_memory_is_taken(tmp_path, sizes):
    path = tmp_path / "a.mtx"
    path.write_text(f"%%MatrixMarket matrix coordinate integer general\n% made by hand\n{sizes}\n1 1 3\n")
    with pytest.raises((DataError, ResourceError)):
        read(path)


def test_going_through_a_file_first_takes_no_time_of_its_numbers(tmp_path):
    path = h5ad(tmp_path / "a.h5ad", np.ones((200_000, 10), np.float32), 200_000, 10)
    start = time.perf_counter()
    hdf5_worker.go_through(str(path))
    # Its 200,000 names take a tenth of a second; to go through the two million numbers one by one takes minutes.
    assert time.perf_counter() - start < 5


def test_names_that_hdf5_would_look_for_for_ever_are_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(hdf5, "_WALL", 3.0)
    path = tenx(tmp_path / "a.h5")
    data = bytearray(path.read_bytes())
    length = data.rindex(b"\x0f" + bytes(7) + b"Gene Expression")
    data[length + 1] = 1  # a text that now reaches beyond its heap
    path.write_bytes(bytes(data))
    with pytest.raises(DataError, match="damaged"):
        read(path)


@pytest.mark.parametrize(
    "header", ["", "%%MatrixMarket", "%%MatrixMarket matrix coordinate complex general", "%%MatrixMarket vector a b c"]
)
def test_other_headers_of_matrix_market_are_refused(tmp_path, header):
    (tmp_path / "a.mtx").write_text(f"{header}\n2 2 1\n1 1 3\n")
    with pytest.raises(DataError):
        read(tmp_path / "a.mtx")


def test_a_bomb_in_gzip_is_refused(tmp_path):
    with gzip.open(tmp_path / "a.mtx.gz", "wb") as file:
        file.write(b"%%MatrixMarket matrix coordinate integer general\n")
        for _ in range(300):
            file.write(b" " * (1 << 20))
    with pytest.raises(DataError, match="unpacks to more than"):
        read(tmp_path / "a.mtx.gz")


def test_a_data_set_of_nothing_is_not_read_as_terabytes(tmp_path):
    with h5py.File(h5ad(tmp_path / "a.h5ad", None), "r+") as file:
        file.create_dataset("X", shape=(10**7, 10**5), dtype="f4", chunks=(1000, 1000))
    with pytest.raises(DataError, match="holds hardly any of it"):
        read(tmp_path / "a.h5ad")


def test_other_files_are_not_read_by_way_of_a_link(tmp_path):
    secret = h5ad(tmp_path / "secret.h5ad", X)
    with h5py.File(h5ad(tmp_path / "link.h5ad", None), "r+") as file:
        file["X"] = h5py.ExternalLink(str(secret), "X")
    with h5py.File(h5ad(tmp_path / "virtual.h5ad", None), "r+") as file:
        layout = h5py.VirtualLayout(shape=X.shape, dtype=X.dtype)
        layout[:] = h5py.VirtualSource(str(secret), "X", shape=X.shape)
        file.create_virtual_dataset("X", layout)
    with h5py.File(h5ad(tmp_path / "external.h5ad", None), "r+") as file:
        file.create_dataset("X", X.shape, "u1", external=[(str(secret), 0, X.size)])
    for name in ("link", "virtual", "external"):
        with pytest.raises(DataError, match=r"is a link|other files"):
            read(tmp_path / f"{name}.h5ad")


@pytest.mark.parametrize(
    "break_",
    [
        lambda g: g.attrs.__setitem__("shape", [12, 2**40]),
        lambda g: g.attrs.__setitem__("shape", [2**60, 7]),
        lambda g: g.attrs.__setitem__("shape", [-12, 7]),
        lambda g: g.attrs.__setitem__("shape", "x"),
        lambda g: g["indices"].__setitem__(0, 7),
        lambda g: g["indices"].__setitem__(0, -1),
        lambda g: g["indptr"].__setitem__(0, -5),
        lambda g: g["indptr"].__setitem__(3, 10**6),
        lambda g: g["indptr"].__setitem__(12, 10**6),
        lambda g: g.__delitem__("indices"),
        lambda g: g.attrs.__setitem__("encoding-type", "awkward-array"),
    ],
)
def test_matrices_that_are_not_what_they_say_are_refused(tmp_path, break_):
    path = h5ad(tmp_path / "a.h5ad", sp.csr_matrix(X))
    with h5py.File(path, "r+") as file:
        break_(file["X"])
    with pytest.raises(DataError):
        read(path, layer="X")


def test_names_or_rows_that_do_not_go_with_the_matrix_are_refused(tmp_path):
    with pytest.raises(DataError, match="8 names for 7 columns"):
        read(h5ad(tmp_path / "a.h5ad", X, 12, 8))
    with pytest.raises(DataError, match="obs has 9 names, and the counts 12 rows"):
        read(h5ad(tmp_path / "a.h5ad", X, 9, 7))


@pytest.mark.parametrize("name", ["a.h5ad", "a.h5", "a.mtx", "a.npz", "a.mtx.gz"])
def test_a_web_page_by_the_name_of_counts_is_no_such_file(tmp_path, name):
    (tmp_path / name).write_text("<html>not found</html>")
    with pytest.raises(DataError):
        read(tmp_path / name, "counts")


def test_an_npz_that_declares_terabytes_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        for name, value in {"format": b"coo", "shape": [10**12, 5], "data": [1], "row": [3], "col": [1]}.items():
            with archive.open(f"{name}.npy", "w") as file:
                np.lib.format.write_array(file, np.array(value))
    with pytest.raises((DataError, ResourceError)):
        read(tmp_path / "a.npz")


def test_a_matrix_beyond_the_memory_is_refused_while_it_is_read(tmp_path, monkeypatch):
    def small(size, what):
        if size > 1000:
            raise ResourceError(f"{what} needs {size} bytes")

    monkeypatch.setattr(matrices, "require_room", small)
    with pytest.raises(ResourceError):
        read(h5ad(tmp_path / "a.h5ad", np.tile(X, (10, 1)), 120))


def test_without_h5py_the_extra_is_named(monkeypatch):
    monkeypatch.setattr(hdf5.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"needs h5py") as caught:
        read(GOLDEN)
    assert caught.value.hint == "pip install 'latente[omics]'"
