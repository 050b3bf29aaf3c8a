"""Counts are written in every format that they are read from, and what is learned goes back into an .h5ad file."""

import gzip
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from latente.errors import ConfigError, DataError
from latente.kinds.counted import Counted
from latente.kinds.reading import read
from latente.kinds.writing import write
from latente.kinds.writing_counts import write_back

h5py = pytest.importorskip("h5py", reason="writing .h5ad needs h5py")

GOLDEN = Path(__file__).parent / "golden" / "anndata-0.12.h5ad"
X = np.random.default_rng(0).poisson(0.7, (12, 7))
ABOUT = pd.DataFrame(
    {
        "type": pd.Categorical(list("aabb") * 3, categories=["b", "a", "never"], ordered=True),
        "depth": np.arange(12) / 2,
        "word": [f"w {i}" for i in range(12)],
        "gap": ["x", None] * 6,
        "ok": [True, False] * 6,
        "some": pd.array([1, None] * 6, dtype="Int64"),
        "maybe": pd.array([True, None] * 6, dtype="boolean"),
    },
    index=[f"cell {i}" for i in range(12)],
)
COUNTED = Counted(sp.csr_matrix(X), tuple(f"g{i}" for i in range(7)), ABOUT)


@pytest.mark.parametrize("name", ["a.h5ad", "a.mtx", "a.mtx.gz", "matrix.mtx", "a.npz", "a.csv", "a.tsv", "a.parquet"])
def test_counts_come_back(tmp_path, name):
    files = write(COUNTED, tmp_path / name)
    assert sorted(files) == sorted(tmp_path.iterdir())
    back = read(tmp_path / name, "counts")
    assert (back.counts.toarray() == X).all()
    if name != "a.npz":
        assert back.names == COUNTED.names
        assert back.about.index.tolist() == ABOUT.index.tolist()


@pytest.mark.parametrize("name", ["a.h5ad", "a.mtx", "a.npz", "a.csv", "a.parquet"])
def test_counts_without_names_come_back_as_numbers(tmp_path, name):
    write(Counted(sp.csr_matrix(X)), tmp_path / name)
    assert (read(tmp_path / name, "counts").counts.toarray() == X).all()


def test_fractions_are_written_as_they_are(tmp_path):
    for name in ("a.mtx", "a.csv", "a.h5ad"):
        write(Counted(sp.csr_matrix(np.log1p(X))), tmp_path / name)
        back = read(tmp_path / name, "counts", layer="X" if name == "a.h5ad" else "auto")
        assert (back.counts.toarray() == np.log1p(X)).all()


def test_all_that_is_known_of_cells_comes_back_from_h5ad(tmp_path):
    write(COUNTED, tmp_path / "a.h5ad")
    back = read(tmp_path / "a.h5ad").about
    assert list(back.columns) == list(ABOUT.columns)
    assert back["type"].dtype == ABOUT["type"].dtype
    for name in ABOUT.columns:
        assert back[name].isna().tolist() == ABOUT[name].isna().tolist()
        assert back[name].dropna().tolist() == ABOUT[name].dropna().tolist()


def test_equal_counts_are_equal_bytes(tmp_path):
    for name in ("a.mtx.gz", "a.npz", "a.csv"):
        first, second = (write(COUNTED, tmp_path / str(i) / name) for i in range(2))
        assert [file.read_bytes() for file in first] == [file.read_bytes() for file in second]


def test_matrix_market_is_genes_by_cells(tmp_path):
    write(COUNTED, tmp_path / "matrix.mtx.gz")
    lines = gzip.decompress((tmp_path / "matrix.mtx.gz").read_bytes()).decode().splitlines()
    assert lines[:2] == ["%%MatrixMarket matrix coordinate integer general", f"7 12 {(X > 0).sum()}"]
    first = next(iter(zip(*np.nonzero(X), strict=True)))
    assert lines[2] == f"{first[1] + 1} {first[0] + 1} {X[first]}"
    assert gzip.decompress((tmp_path / "features.tsv.gz").read_bytes()).startswith(b"g0\tg0\tGene Expression\n")


def test_other_endings_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="cannot hold counts"):
        write(COUNTED, tmp_path / "a.png")
    cell = Counted(sp.csr_matrix(X[:, :1]), ("cell",), ABOUT)
    with pytest.raises(ConfigError, match="a column is called 'cell'"):
        write(cell, tmp_path / "a.csv")


CODES = np.random.default_rng(1).normal(size=(12, 3)).astype(np.float32)
ADDED = {
    "obsm": {"X_latente": CODES},
    "obsp": {"distances": sp.csr_matrix(np.eye(12))},
    "obs": {"cluster": pd.Categorical(list("xyz") * 4), "score": np.arange(12.0), "type": ["new"] * 12},
    "layers": {"denoised": sp.csr_matrix(X / 2)},
    "uns": {"latente": {"dim": 3, "recipe": "vae", "loss": [1.5, 0.5], "genes": ["a", "b"], "ok": True}},
}


def test_what_is_learned_goes_back_and_the_rest_stays(tmp_path):
    assert write_back(GOLDEN, tmp_path / "a.h5ad", **ADDED) == tmp_path / "a.h5ad"
    with h5py.File(tmp_path / "a.h5ad") as file, h5py.File(GOLDEN) as before:
        assert file["obsm/X_latente"].shape == (12, 3)
        assert (file["obsm/X_latente"][:] == CODES).all()
        assert (file["X/data"][:] == before["X/data"][:]).all()
    back = read(tmp_path / "a.h5ad")
    assert (back.counts.toarray() == X).all()
    assert list(back.about.columns) == ["type", "n", "word", "ok", "some", "maybe", "cluster", "score"]
    assert back.about["cluster"].tolist() == list("xyz") * 4
    assert back.about["type"].tolist() == ["new"] * 12
    assert (read(tmp_path / "a.h5ad", layer="denoised").counts.toarray() == X / 2).all()


def test_a_file_may_be_written_back_to_itself_twice(tmp_path):
    place = tmp_path / "a.h5ad"
    place.write_bytes(GOLDEN.read_bytes())
    for codes in (CODES, CODES[:, :2]):
        write_back(place, place, obsm={"X_latente": codes})
    with h5py.File(place) as file:
        assert (file["obsm/X_latente"][:] == CODES[:, :2]).all()
    assert list(tmp_path.iterdir()) == [place]


@pytest.mark.parametrize(
    ("added", "match"),
    [
        ({"obsm": {"X": CODES[:5]}}, r"obsm\['X'\] has 5 rows, and anndata-0.12.h5ad 12 cells"),
        ({"obs": {"a": [1]}}, r"obs\['a'\] has 1 rows"),
        ({"uns": {"a/b": 1}}, "no name"),
        ({"uns": {"a": object()}}, "Python objects"),
    ],
)
def test_what_cannot_be_added_leaves_the_file_as_it_was(tmp_path, added, match):
    place = tmp_path / "anndata-0.12.h5ad"
    place.write_bytes(GOLDEN.read_bytes())
    with pytest.raises((DataError, ConfigError), match=match):
        write_back(place, place, **{"obsm": {"X_latente": CODES}} | added)
    assert place.read_bytes() == GOLDEN.read_bytes()
    assert list(tmp_path.iterdir()) == [place]


def test_what_is_no_h5ad_file_is_not_added_to(tmp_path):
    (tmp_path / "a.h5ad").write_text("cells")
    with pytest.raises(DataError, match=r"a\.h5ad"):
        write_back(tmp_path / "a.h5ad", tmp_path / "b.h5ad", obsm={"X": CODES})
    with h5py.File(tmp_path / "c.h5ad", "w") as file:
        file["X"] = X
    with pytest.raises(DataError, match=r"no \.h5ad file"):
        write_back(tmp_path / "c.h5ad", tmp_path / "b.h5ad", obsm={"X": CODES})
    assert not (tmp_path / "b.h5ad").exists()
    with pytest.raises(DataError):
        write_back(tmp_path / "none.h5ad", tmp_path / "b.h5ad")


def test_anndata_reads_what_was_written_and_written_back(tmp_path):
    anndata = pytest.importorskip("anndata", reason="AnnData is not installed")
    write(COUNTED, tmp_path / "a.h5ad")
    adata = anndata.read_h5ad(tmp_path / "a.h5ad")
    assert (adata.X.toarray() == X).all()
    assert adata.obs_names.tolist() == ABOUT.index.tolist()
    assert adata.obs["type"].cat.categories.tolist() == ["b", "a", "never"]
    assert adata.obs["some"].isna().sum() == adata.obs["gap"].isna().sum() == adata.obs["maybe"].isna().sum() == 6
    write_back(tmp_path / "a.h5ad", tmp_path / "a.h5ad", **ADDED)
    adata = anndata.read_h5ad(tmp_path / "a.h5ad")
    assert adata.obsm["X_latente"].shape == (12, 3)
    assert (adata.obsp["distances"].toarray() == np.eye(12)).all()
    assert (adata.layers["denoised"].toarray() == X / 2).all()
    assert adata.obs["cluster"].tolist() == list("xyz") * 4
    assert adata.uns["latente"]["dim"] == 3
    assert adata.uns["latente"]["recipe"] == "vae"
    assert adata.uns["latente"]["genes"].tolist() == ["a", "b"]
    backed = anndata.read_h5ad(tmp_path / "a.h5ad", backed="r")
    assert backed.obsm["X_latente"].shape == (12, 3)
    backed.file.close()
