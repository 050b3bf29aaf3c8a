"""An .h5ad file in blocks is, put together, what is read of it whole."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from latente.errors import ConfigError, DataError
from latente.kinds import streams_counts
from latente.kinds.counted import Counted
from latente.kinds.reading import read
from latente.kinds.streams import footprint, open_source, opened, streamable
from latente.kinds.writing_counts import write_counts
from latente.training.stream import chosen

h5py = pytest.importorskip("h5py", reason="reading .h5ad needs h5py")

GOLDEN = Path(__file__).parent / "golden" / "anndata-0.12.h5ad"
ROWS = 1000  # blocks have at least 256
X = np.random.default_rng(0).poisson(0.2, (ROWS, 30))


@pytest.fixture(params=["csr", "dense", "packed"])
def place(request, tmp_path):
    about = pd.DataFrame(
        {"type": pd.Categorical(np.where(X[:, 0] > 0, "a", "b")), "n": np.arange(ROWS)},
        index=[f"cell{i}" for i in range(ROWS)],
    )
    path = tmp_path / "a.h5ad"
    write_counts(Counted(sp.csr_matrix(X), tuple(f"g{i}" for i in range(30)), about), path)
    if request.param != "csr":
        with h5py.File(path, "r+") as file:
            del file["X"]
            file.create_dataset(
                "X", data=X, **({"chunks": (100, 7), "compression": "gzip"} if request.param == "packed" else {})
            )
    return path


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(streams_counts, "rows_per_block", lambda row_bytes: 256)


@pytest.mark.usefixtures("small")
def test_blocks_together_are_the_whole(place):
    whole, source = read(place), open_source(place)
    assert source.kind == "counts"
    assert len(source) == ROWS
    assert len(source.sizes) > 3
    # Any order: no block needs another.
    blocks = {i: source.read(i) for i in reversed(range(len(source.sizes)))}
    blocks = [blocks[i] for i in range(len(source.sizes))]
    assert [len(block) for block in blocks] == list(source.sizes)
    assert (sp.vstack([block.counts for block in blocks]) != whole.counts).nnz == 0
    assert {block.names for block in blocks} == {whole.names}
    pd.testing.assert_frame_equal(pd.concat([block.about for block in blocks]), whole.about)
    assert np.concatenate([np.asarray(part) for part in source.take("n")]).tolist() == list(range(ROWS))
    assert list(source.without(["n"]).read(1).about.columns) == ["type"]
    with pytest.raises(ConfigError, match="no column 'x' in obs"):
        source.without(["x"])


@pytest.mark.usefixtures("small")
def test_packed_rows_are_unpacked_once(place):
    with h5py.File(place) as file:
        chunks = getattr(file["X"], "chunks", None)
    if chunks:
        assert open_source(place).sizes[0] % chunks[0] == 0


def test_a_source_is_opened_when_asked_or_when_it_is_large(place, monkeypatch):
    assert streamable(place)
    assert isinstance(opened(place), Counted)
    assert opened(place, stream="yes", layer="X").part == "X"
    # CSR of it takes 8 bytes a number or more.
    assert footprint(place) >= 8 * (X > 0).sum()
    monkeypatch.setattr("latente.kinds.streams.free_memory", lambda: 1000)
    assert opened(place).kind == "counts"


def test_the_fingerprint_is_of_the_bytes_and_the_layer(tmp_path):
    assert len({open_source(GOLDEN, layer=layer).fingerprint for layer in ("X", "dense", "raw")}) == 3
    again = tmp_path / GOLDEN.name
    again.write_bytes(GOLDEN.read_bytes())
    assert open_source(again, layer="raw").fingerprint == open_source(GOLDEN, layer="raw").fingerprint


def test_columns_cannot_be_gone_through_by_rows():
    with pytest.raises(DataError, match=r"layers/counts is stored by columns \(CSC\)"):
        open_source(GOLDEN)  # whose X is no counts


def test_other_forms_of_counts_are_read_whole(tmp_path):
    sp.save_npz(tmp_path / "a.npz", sp.csr_matrix(X))
    assert not streamable(tmp_path / "a.npz")
    assert isinstance(opened(tmp_path / "a.npz"), Counted)
    with pytest.raises(ConfigError, match="learned in memory"):
        opened(tmp_path / "a.npz", stream="yes")
    with pytest.raises(DataError, match="is read whole"):
        open_source(tmp_path / "a.npz")


def test_a_file_that_changes_during_a_run_is_noticed(place):
    source = open_source(place)
    write_counts(Counted(sp.csr_matrix(X[:10])), place)
    with pytest.raises(DataError, match="has changed"):
        source.read(0)


def test_some_rows_of_counts_are_chosen_with_what_is_known_of_them():
    some = chosen(read(GOLDEN), np.array([3, 1]))
    assert isinstance(some, Counted)
    assert some.about.index.tolist() == ["cell3", "cell1"]
    assert (some.counts != read(GOLDEN).counts[[3, 1]]).nnz == 0
