"""Data read in blocks are the data read whole; what is learned from blocks is what is learned from all."""

import gzip
import struct
import zipfile
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Pil
from pyarrow import feather, ipc, parquet

from latente.errors import ConfigError, DataError, LatenteError
from latente.kinds import sources, streams_arrow, streams_csv
from latente.kinds.pictures import Pictures
from latente.kinds.reading import guess_kind, read
from latente.kinds.streams import footprint, open_source, streamable
from latente.kinds.streams_csv import row_ends


@pytest.fixture
def small_blocks(monkeypatch):
    """Blocks of a few rows, so that small files have many."""
    for module in (sources, streams_arrow, streams_csv):
        monkeypatch.setattr(module, "MOST_ROWS", 7)
    monkeypatch.setattr(sources, "FEWEST_ROWS", 3)
    monkeypatch.setattr(sources, "BLOCK_BYTES", 300)
    monkeypatch.setattr(streams_arrow, "BLOCK_BYTES", 300)
    monkeypatch.setattr(streams_arrow, "_LARGEST", 2000)
    monkeypatch.setattr(streams_csv, "_BYTES", 200)


@pytest.fixture
def frame():
    """90 rows of every type; the gaps are in the last third alone."""
    rng = np.random.default_rng(0)
    n = 90
    late = np.arange(n) > 60
    return pd.DataFrame(
        {
            "whole": rng.integers(-9, 9, n),
            "gappy": pd.array(rng.integers(0, 9, n), dtype="Int64").astype("Int64"),
            "real": np.where(late & (rng.random(n) < 0.3), np.nan, rng.normal(size=n).round(3)),
            "single": rng.normal(size=n).astype("float32"),
            "flag": rng.random(n) < 0.5,
            "maybe": pd.array(rng.random(n) < 0.5, dtype="boolean"),
            "text": rng.choice(["a", "b,c", 'd "e"', "f\ng", "ü"], n),
            "when": pd.Timestamp("2020-01-01") + pd.to_timedelta(rng.integers(0, 1500, n), "D"),
            "level": pd.Categorical(rng.choice(["x", "y"], n), categories=["z", "y", "x"], ordered=True),
            "small": rng.integers(0, 9, n).astype("uint8"),
        }
    ).assign(
        gappy=lambda f: f["gappy"].mask(late & (rng.random(n) < 0.3)),
        maybe=lambda f: f["maybe"].mask(late & (rng.random(n) < 0.3)),
        text=lambda f: f["text"].mask(late & (rng.random(n) < 0.3)),
    )


def joined(blocks):
    """Blocks put together."""
    if isinstance(blocks[0], pd.DataFrame):
        assert all((block.dtypes == blocks[0].dtypes).all() for block in blocks)
        return pd.concat(blocks, ignore_index=True)
    if isinstance(blocks[0], np.ndarray):
        return np.concatenate(blocks)
    seen = [np.ones(b.pixels.shape[:3], bool) if b.observed is None else b.observed for b in blocks]
    observed = np.concatenate(seen)
    return Pictures(
        np.concatenate([b.pixels for b in blocks]),
        None if observed.all() else observed,
        None if blocks[0].labels is None else np.concatenate([b.labels for b in blocks]),
        tuple(name for b in blocks for name in b.names),
    )


def require_equal(one, other):
    assert type(one) is type(other)
    if isinstance(one, pd.DataFrame):
        pd.testing.assert_frame_equal(one, other)
    elif isinstance(one, np.ndarray):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)
    else:
        for field in ("pixels", "observed", "labels"):
            a, b = getattr(one, field), getattr(other, field)
            assert (a is None) == (b is None)
            if a is not None:
                require_equal(a, b)
        assert one.names == other.names


def require_law(path, **options):
    """The blocks of a place are its whole, in any order and from two threads at once; returns the source."""
    notes, whole_notes = [], []
    whole = read(path, note=whole_notes.append, **options)
    source = open_source(path, note=notes.append, **options)
    assert notes == whole_notes
    order = list(range(len(source.sizes)))
    with ThreadPoolExecutor(2) as pool:
        backwards = list(pool.map(source.read, order[::-1]))
    blocks = [source.read(i) for i in order]
    require_equal(joined(blocks), whole)
    require_equal(joined(backwards[::-1]), whole)
    assert tuple(len(block) for block in blocks) == source.sizes
    assert len(source) == len(whole)
    assert source.kind == guess_kind(path)
    assert source.name == path.name
    assert streamable(path)
    assert footprint(path) > 0
    return source


def stream_format(table, path):
    with pa.OSFile(str(path), "wb") as file, ipc.new_stream(file, table.schema) as out:
        out.write_table(table, max_chunksize=11)


WRITERS = {
    "t.csv": lambda f, p: f.to_csv(p, index=False),
    "t.tsv": lambda f, p: f.to_csv(p, index=False, sep="\t"),
    "t.parquet": lambda f, p: f.to_parquet(p, row_group_size=4),
    "large.parquet": lambda f, p: f.to_parquet(p, row_group_size=1000),
    "bare.parquet": lambda f, p: parquet.write_table(pa.Table.from_pandas(f), p, write_statistics=False),
    "t.feather": lambda f, p: feather.write_feather(f, p, chunksize=11),
    "t.arrow": lambda f, p: feather.write_feather(f, p, chunksize=2, compression="uncompressed"),
    "stream.arrow": lambda f, p: stream_format(pa.Table.from_pandas(f), p),
}


@pytest.mark.parametrize("name", WRITERS)
def test_the_blocks_of_a_table_are_its_whole(tmp_path, frame, small_blocks, name):
    WRITERS[name](frame, tmp_path / name)
    source = require_law(tmp_path / name)
    assert len(source.sizes) > 5


@pytest.mark.parametrize("name", WRITERS)
def test_blocks_of_the_usual_size_are_the_whole_too(tmp_path, frame, name):
    WRITERS[name](frame, tmp_path / name)
    assert require_law(tmp_path / name).sizes
