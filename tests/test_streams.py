"""Data read in blocks are the data read whole; what is learned from blocks is what is learned from all."""

import gzip
import struct
import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Pil
from pyarrow import feather, ipc, parquet

from latente.errors import ConfigError, DataError, LatenteError
from latente.kinds import learning, sources, streams_arrow, streams_csv, table
from latente.kinds.image import Image
from latente.kinds.pictures import Pictures
from latente.kinds.reading import guess_kind, read
from latente.kinds.reading_csv import row_ends
from latente.kinds.streams import footprint, open_source, streamable
from latente.kinds.table import Table


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


NUMBERS = ["", "1", "-2", "+3", "4.5", "1,5", "1e3", "007", "0x1F", "inf", "nan(7)", "?", "NA", "9" * 20]
TIMES = [
    "2020-01-31",
    "2020-01-31 10:00",
    "2020-01-31T10:00:00.123456789",
    "9999-12-31",
    "2020-02-30",
    "2020-01-31T10:00Z",
]
WORDS = ["true", "FALSE", "a", " b ", 'say "x"', "x;y", "l\nm", '5" disk', "é"]
CELLS = st.sampled_from([*NUMBERS, *TIMES, *WORDS])


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(st.lists(CELLS, min_size=2, max_size=2), min_size=1, max_size=30),
    coding=st.sampled_from(["utf-8", "utf-8-sig", "cp1252"]),
    end=st.sampled_from(["\n", "\r\n"]),
    delimiter=st.sampled_from([",", ";"]),
    header=st.sampled_from(["auto", "yes", "no"]),
)
def test_the_blocks_of_any_csv_are_its_whole(tmp_path_factory, rows, coding, end, delimiter, header):
    quoted = [
        ['"' + cell.replace('"', '""') + '"' if set(cell) & set('",;\n') else cell for cell in row] for row in rows
    ]
    text = end.join(delimiter.join(row) for row in [["n", "m"], *quoted]) + end
    path = tmp_path_factory.mktemp("any") / "t.csv"
    path.write_bytes(text.encode(coding))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(streams_csv, "MOST_ROWS", 3)
        patch.setattr(streams_csv, "_BYTES", 64)
        require_law(path, header=header, delimiter=delimiter)


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet='a,"\n\r ', max_size=40).map(str.encode))
def test_rows_end_where_arrow_ends_them(text):
    state, expected = "start", []
    for i, char in enumerate(text.decode()):
        if state == "quoted":
            state = "shut" if char == '"' else "quoted"
        elif char == '"' and state in ("start", "shut"):
            state = "quoted"
        else:
            expected += [i + 1] * (char == "\n")
            state = "start" if char in ",\r\n" else "plain"
    assert b"\n" not in text or row_ends(text, ",").tolist() == expected


def test_a_csv_of_lone_carriage_returns_and_blank_lines_is_read_in_blocks(tmp_path, small_blocks):
    path = tmp_path / "t.csv"
    path.write_bytes(b"a,b\r" + b"".join(b"%d,x\r" % i for i in range(40)))
    require_law(path)
    path.write_bytes(b"a,b\n\n\n" + b"".join(b"%d,x\n\n\n\n\n\n\n\n\n" % i for i in range(40)))
    require_law(path)


def test_quotes_in_the_middle_of_cells_open_nothing(tmp_path, small_blocks):
    path = tmp_path / "t.csv"
    path.write_text("size,name\n" + '5",disk\n7" x,"a\nb, ""c"""\n' * 30)
    assert require_law(path).read(0)["size"][0] == '5"'


@pytest.mark.parametrize("form", ["csv", "parquet", "arrow"])
def test_a_folder_of_files_is_one_table(tmp_path, frame, small_blocks, form):
    writers = {"csv": "t.csv", "parquet": "t.parquet", "arrow": "t.arrow"}
    folder = tmp_path / "table"
    folder.mkdir()
    for i in range(3):
        part = frame.iloc[30 * i : 30 * i + 30]
        WRITERS[writers[form]](part[part.columns[::-1]] if i else part, folder / f"part-{i}.{form}")
    (folder / "_SUCCESS").touch()
    (folder / "readme.txt").write_text("hello")
    require_law(folder)
    whole = tmp_path / writers[form]
    WRITERS[writers[form]](frame, whole)
    require_equal(read(folder), read(whole))


@pytest.mark.parametrize("form", ["parquet", "arrow", "stream"])
def test_the_less_usual_types_of_arrow_are_the_same_in_blocks(tmp_path, small_blocks, form):
    n = 40
    late = pa.array([i < 30 for i in range(n)])
    day = pa.array(range(n), pa.int32())
    columns = {
        "date": day.cast(pa.date32()),
        "clock": pa.array([i * 1000 for i in range(n)], pa.time32("ms")),
        "decimal": pa.array(range(n), pa.int64()).cast(pa.decimal128(30, 2)),
        "nothing": pa.nulls(n),
        "zoned": pa.array(range(n), pa.timestamp("ms", "Europe/Madrid")),
        "long": pa.array([f"t{i % 3}" for i in range(n)], pa.large_string()),
        "codes": pa.array([f"t{i // 9}" for i in range(n)]).dictionary_encode(),
        "half": pa.array(range(n), pa.uint16()),
        "big": pa.array([2**63 - i for i in range(1, n + 1)], pa.int64()),
    }
    empty = {name: pa.nulls(n, column.type) for name, column in columns.items()}
    gappy = {f"{name}?": pc.if_else(late, columns[name], empty[name]) for name in ("date", "half", "zoned", "codes")}
    table = pa.table(columns | gappy | {"__index_level_0__": day})
    path = tmp_path / f"t.{'arrow' if form == 'stream' else form}"
    if form == "stream":
        stream_format(table, path)
    elif form == "arrow":
        feather.write_feather(table, path, chunksize=9)
    else:
        parquet.write_table(table, path, row_group_size=9)
    require_law(path)


@pytest.mark.parametrize("ending", ["parquet", "arrow"])
def test_categories_of_the_files_of_a_folder_are_brought_together(tmp_path, ending):
    for i, levels in enumerate(["ab", "bc", "a"]):
        part = pd.DataFrame({"level": pd.Categorical(list(levels)), "n": range(len(levels))})
        WRITERS[f"t.{ending}"](part, tmp_path / f"{i}.{ending}")
    first = require_law(tmp_path).read(0)["level"]
    assert first.cat.categories.tolist() == ["a", "b", "c"]


def test_columns_of_lists_are_refused_when_a_table_is_opened(tmp_path):
    parquet.write_table(pa.table({"a": [[1], [2]], "b": [1, 2]}), tmp_path / "t.parquet")
    with pytest.raises(DataError, match="column 'a' holds list"):
        open_source(tmp_path / "t.parquet")


def test_files_of_a_folder_may_have_different_types_of_number(tmp_path):
    for i, column in enumerate([[1, 2], [1.5, None], [True, False]][:2]):
        pd.DataFrame({"a": column}).to_parquet(tmp_path / f"{i}.parquet")
    assert require_law(tmp_path).read(0)["a"].tolist() == [1.0, 2.0]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"1.csv": "a,b\n1,2\n", "2.csv": "a,c\n1,2\n"}, "2.csv has no column 'b', which is in 1.csv"),
        ({"1.csv": "a,b\n1,2\n", "2.csv": "a,b,c\n1,2,3\n"}, "2.csv has a column 'c', which is not in 1.csv"),
        ({"1.csv": "a,b\n1,2\n", "2.tsv": "a\tb\n1\t2\n", "3.parquet": "?"}, "several formats"),
        ({"1.csv": "a,b\n1,2\n", "2.csv": "a,b\n1\n"}, "2.csv, line 2: 1 fields"),
    ],
    ids=str,
)
def test_a_folder_of_unlike_files_is_refused(tmp_path, files, message):
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    for use in (read, open_source):
        with pytest.raises(DataError, match=message):
            use(tmp_path)


def test_a_column_that_has_no_common_type_is_named(tmp_path):
    pd.DataFrame({"a": [1]}).to_parquet(tmp_path / "1.parquet")
    pd.DataFrame({"a": ["x"]}).to_parquet(tmp_path / "2.parquet")
    with pytest.raises(DataError, match=r"2\.parquet: column 'a' is of type .*string, and of int64 in 1\.parquet"):
        open_source(tmp_path)


@pytest.mark.parametrize(
    "x",
    [
        np.arange(60.0).reshape(30, 2),
        np.asfortranarray(np.arange(60, dtype=">i4").reshape(30, 2)),
        np.arange(30 * 12, dtype=np.uint8).reshape(30, 4, 3) % 7,
        np.linspace(0, 1, 30 * 48).reshape(30, 3, 4, 4).astype("float32"),
        np.where(np.arange(30)[:, None, None] == 29, np.nan, np.full((30, 4, 3), 0.5)),
        np.zeros((5, 200, 300), np.uint8),
    ],
    ids=lambda x: f"{x.dtype}{x.shape}",
)
def test_the_blocks_of_an_array_are_its_whole(tmp_path, small_blocks, x):
    np.save(tmp_path / "x.npy", x)
    require_law(tmp_path / "x.npy")


def test_the_blocks_of_an_idx_file_are_its_whole(tmp_path, small_blocks):
    path = tmp_path / "train-images-idx3-ubyte"
    path.write_bytes(struct.pack(">4B3I", 0, 0, 8, 3, 20, 4, 5) + bytes(range(200)) * 2)
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(struct.pack(">4BI", 0, 0, 8, 1, 20) + bytes(range(20)))
    source = require_law(path)
    assert len(source.sizes) > 2
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(path.read_bytes()))
    assert not streamable(tmp_path / "train-images-idx3-ubyte.gz")
    with pytest.raises(DataError, match="is packed"):
        open_source(tmp_path / "train-images-idx3-ubyte.gz")


def album(folder, alpha):
    rng = np.random.default_rng(0)
    for i in range(20):
        place = folder / ("cats" if i % 3 else "dogs of all sizes")
        place.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 255, (6 + (i == 7), 5, 4 if alpha and i == 9 else 3), dtype=np.uint8)
        Pil.fromarray(pixels).save(place / f"{i}.png")
    (folder / "cats" / "broken.png").write_bytes(b"no picture")


@pytest.mark.parametrize("alpha", [False, True], ids=["opaque", "alpha"])
@pytest.mark.parametrize("zipped", [False, True], ids=["folder", "zip"])
def test_the_blocks_of_an_album_are_its_whole(tmp_path, small_blocks, alpha, zipped):
    album(tmp_path / "album", alpha)
    place = tmp_path / "album"
    if zipped:
        place = tmp_path / "album.zip"
        with zipfile.ZipFile(place, "w") as archive:
            for file in sorted((tmp_path / "album").rglob("*.png")):
                archive.write(file, file.relative_to(tmp_path / "album"))
    source = require_law(place)
    assert len(source.sizes) > 4
    require_law(place, shape=(4, 4, 1))


def test_a_picture_that_proves_damaged_keeps_its_row_and_is_missing(tmp_path):
    album(tmp_path, alpha=False)
    whole = (tmp_path / "cats" / "10.png").read_bytes()
    (tmp_path / "cats" / "10.png").write_bytes(whole[:-40])
    source = open_source(tmp_path)
    block = source.read(0)
    assert len(block) == len(source) == 20
    assert [name for name, seen in zip(block.names, block.observed, strict=True) if not seen.any()] == ["cats/10.png"]
    assert block.skipped[0].startswith("cats/10.png: ")


def test_the_fingerprint_follows_the_data_and_not_their_place_or_time(tmp_path, frame):
    prints = set()
    for i, shown in enumerate([frame, frame, frame.assign(whole=frame["whole"] + 1)]):
        (tmp_path / str(i)).mkdir()
        shown.to_csv(tmp_path / str(i) / "t.csv", index=False)
        prints.add(open_source(tmp_path / str(i) / "t.csv").fingerprint)
    assert len(prints) == 2
    assert all(len(p) == 64 and int(p, 16) >= 0 for p in prints)
    source = open_source(tmp_path / "0" / "t.csv")
    assert source.without(["text"]).fingerprint not in prints


@pytest.mark.parametrize("name", ["t.csv", "t.parquet", "stream.arrow"])
def test_a_column_can_be_left_out_and_taken_alone(tmp_path, frame, small_blocks, name):
    WRITERS[name](frame, tmp_path / name)
    source, whole = open_source(tmp_path / name), read(tmp_path / name)
    require_equal(
        joined([source.without(["text"]).read(i) for i in range(len(source.sizes))]), whole.drop(columns="text")
    )
    assert np.concatenate(list(source.take("whole"))).tolist() == whole["whole"].tolist()
    with pytest.raises(ConfigError, match="there is no column 'nothing'"):
        source.without(["nothing"])


def outcome(path):
    """What is wrong with a file, or nothing."""
    try:
        source = open_source(path)
        sizes = [len(source.read(i)) for i in range(len(source.sizes))]
    except LatenteError as error:
        return str(error)
    return "" if sizes == list(source.sizes) else "its blocks are not as long as they should be"


@pytest.mark.parametrize(
    "name", ["t.parquet", "t.feather", "stream.arrow", pytest.param("t.csv", marks=pytest.mark.slow)]
)
def test_a_file_with_a_wrong_byte_is_read_or_refused_by_its_name(tmp_path, frame, small_blocks, name):
    path = tmp_path / name
    WRITERS[name](frame.drop(columns=["text"]), path)
    data = bytearray(path.read_bytes())
    problems = set()
    for at in range(16, len(data), max(1, len(data) // 60)):
        path.write_bytes(data[:at] + bytes([data[at] ^ 0x55]) + data[at + 1 :])
        problems.add(outcome(path))
    assert all(name in problem for problem in problems - {""})
    path.write_bytes(data[: len(data) * 2 // 3])
    assert name == "t.csv" or name in outcome(path)


def test_a_file_that_shrinks_after_it_was_opened_is_a_data_error(tmp_path, frame):
    for name in ("t.csv", "t.feather", "t.parquet"):
        path = tmp_path / name
        WRITERS[name](frame, path)
        source = open_source(path)
        WRITERS[name](frame.iloc[:20], path)
        with pytest.raises(DataError, match=name):
            source.read(0)


def parts(frame, *places):
    return [frame.iloc[a:b] for a, b in zip([0, *places], [*places, len(frame)], strict=True)]


def wild(frame):
    """Columns that a file cannot hold, or on which a rule turns on a single cell."""
    n = len(frame)
    numbers = np.arange(n)
    return frame.assign(
        mixed=pd.Series([1, "a", 2.5] * (n // 3), dtype=object),
        decimals=pd.Series([1, 2.5, 3] * (n // 3), dtype=object),
        constant="x",
        empty=pd.Series([None] * n, dtype=object),
        two=numbers % 2,
        almost_two=np.where(numbers == n - 1, 7, numbers % 2),
        almost_whole=np.where(numbers == n - 1, 0.5, numbers),
        almost_days=pd.Timestamp("2020-01-01") + pd.to_timedelta(numbers * 86_400_000 + (numbers == n - 1) * 5, "ms"),
        identifier=[f"person {i}" for i in range(n)],
        zoned=(pd.Timestamp("2020-01-01", tz="Europe/Madrid") + pd.to_timedelta(numbers, "h")),
    )


@pytest.mark.parametrize("places", [(), (1,), (30, 60), (89,), tuple(range(1, 90))], ids=str)
def test_what_is_learned_from_blocks_is_what_is_learned_from_all(frame, places):
    table = wild(frame)
    assert Table().learn_blocks(iter(parts(table, *places))) == Table().learn(table)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_what_is_learned_from_any_blocks_is_what_is_learned_from_all(data):
    kinds = [
        st.none() | st.integers(-3, 3),
        st.none() | st.floats(-1e6, 1e6),
        st.none() | st.sampled_from("abc"),
        st.none() | st.booleans(),
        st.none() | st.datetimes(pd.Timestamp(1990, 1, 1), pd.Timestamp(2030, 1, 1)),
        st.none() | st.integers(0, 2) | st.sampled_from("xy"),
    ]
    n = data.draw(st.integers(2, 40))
    columns = {f"c{i}": data.draw(st.lists(kind, min_size=n, max_size=n)) for i, kind in enumerate(kinds)}
    frame = pd.DataFrame(columns | {"n": range(n)})
    places = sorted(data.draw(st.sets(st.integers(1, n - 1))))
    assert Table().learn_blocks(parts(frame, *places)) == Table().learn(frame)


def test_beyond_the_sample_all_but_medians_and_scales_are_exact(frame, monkeypatch):
    rng = np.random.default_rng(0)
    big = wild(pd.concat([frame] * 400, ignore_index=True)).drop(columns=["mixed", "identifier"])
    big["real"] = rng.gamma(2.0, 3.0, len(big)).round(2)
    exact = Table().learn(big)
    monkeypatch.setattr(table, "MOST_SAMPLED", 4000)
    monkeypatch.setattr(table, "FEWEST_SAMPLED", 1000)
    thinned = Table().learn_blocks(parts(big, *range(1000, len(big), 1000)))
    for a, b in zip(thinned.columns, exact.columns, strict=True):
        assert replace(a, center=0.0, scale=1.0) == replace(b, center=0.0, scale=1.0) if hasattr(a, "scale") else a == b
        if a.label in ("real", "almost_whole", "almost_days", "zoned"):
            # The others have few values, between which a median jumps. Six standard errors of a quartile from
            # 4,000 values, where the density is not far from a Gaussian's.
            assert a.center == pytest.approx(b.center, abs=0.15 * b.scale)
            assert a.scale == pytest.approx(b.scale, rel=0.15)


def test_text_of_more_values_than_are_counted_is_ranked_by_its_frequent_ones(monkeypatch):
    monkeypatch.setattr(learning, "MOST_LEVELS", 300)
    rng = np.random.default_rng(0)
    often = rng.choice(["a", "b", "c"], 20_000, p=[0.5, 0.3, 0.2])
    text = np.where(rng.random(20_000) < 0.5, often, [f"r{i % 5000}" for i in range(20_000)])
    frame = pd.DataFrame({"text": text, "id": [f"p{i}" for i in range(20_000)], "n": range(20_000)})
    column, names, _ = Table().learn_blocks(parts(frame, *range(1000, 20_000, 1000))).columns
    assert column.levels[:3] == ("a", "b", "c")
    assert len(column.levels) + len(column.rare) <= 300
    assert names.reason == "identifier"


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        (np.inf, "column 'a', row 7: the value is inf"),
        (1e200, "column 'a', row 7: 1e"),
        ([1], "column 'a', row 7: arg"),
    ],
    ids=str,
)
def test_errors_of_learning_count_rows_over_all_blocks(cell, message):
    cells = pd.Series([0.5, None, 2.0, 3.0, 1.0, 2.0, None, 0.0], dtype=object if isinstance(cell, list) else float)
    cells[7] = cell
    frame = cells.to_frame("a")
    for use in (lambda: Table().learn(frame), lambda: Table().learn_blocks(parts(frame, 3, 5))):
        with pytest.raises(DataError, match=message):
            use()


def test_blocks_of_unlike_columns_are_refused(frame):
    with pytest.raises(DataError, match="rows from 90 on have the columns"):
        Table().learn_blocks([frame, frame.drop(columns="flag")])
    with pytest.raises(DataError, match="column 'a' holds levels from row 2 on, and numbers before"):
        Table().learn_blocks([pd.DataFrame({"a": [1, 2]}), pd.DataFrame({"a": ["x", "y"]})])
    with pytest.raises(DataError, match="2 or more"):
        Table().learn_blocks([])


def test_what_is_learned_from_blocks_of_pictures_is_what_is_learned_from_all(dots):
    white = np.where(dots > 127, 255, 0).astype(np.uint8)
    for x in (dots, white, dots[..., None], dots.astype("float32") / 255):
        assert Image().learn_blocks(iter([x[:1], x[1:300], x[300:]])) == Image().learn(x)
    with pytest.raises(DataError, match="all 4 pictures are the same"):
        Image().learn_blocks([dots[:1]] * 4)
    with pytest.raises(DataError, match="picture 400 is of 4×8 pixels"):
        Image().learn_blocks([dots, dots[:, :, :4]])


def test_learning_from_a_source_is_learning_from_what_is_read(tmp_path, frame, small_blocks):
    frame.to_parquet(tmp_path / "t.parquet", row_group_size=4)
    source = open_source(tmp_path / "t.parquet")
    blocks = (source.read(i) for i in range(len(source.sizes)))
    assert Table().learn_blocks(blocks) == Table().learn(read(tmp_path / "t.parquet"))


@pytest.mark.parametrize("name", ["t.csv", "t.parquet", "t.arrow"])
def test_the_footprint_is_more_than_the_table_and_of_its_order(tmp_path, frame, name):
    big = pd.concat([frame] * 50, ignore_index=True)
    if name == "t.arrow":
        feather.write_feather(big, tmp_path / name)
    else:
        WRITERS[name](big, tmp_path / name)
    held = int(read(tmp_path / name).memory_usage(deep=True).sum())
    assert held < footprint(tmp_path / name) < 10 * held


def test_the_footprint_of_pictures_is_that_of_their_pixels(tmp_path):
    album(tmp_path / "album", alpha=False)
    assert footprint(tmp_path / "album") == 21 * 6 * 5 * 3  # one of them is broken, which is not looked at
    np.save(tmp_path / "x.npy", np.zeros((10, 4, 4)))
    assert footprint(tmp_path / "x.npy") >= 2 * 10 * 16 * 8


def test_what_has_no_blocks_is_refused_with_a_way_out(tmp_path):
    (tmp_path / "t.csv.gz").write_bytes(gzip.compress(b"a,b\n1,2\n"))
    np.savez(tmp_path / "x.npz", X=np.zeros((3, 2)))
    (tmp_path / "wide.csv").write_bytes("a,b\n1,2\n".encode("utf-16"))
    (tmp_path / "t.txt").write_text("a,b\n1,2\n")
    for name, hint in [("t.csv.gz", "gunzip -k t.csv.gz"), ("x.npz", "np.save"), ("wide.csv", "iconv -f utf-16")]:
        with pytest.raises(DataError) as error:
            open_source(tmp_path / name)
        assert hint in error.value.hint
    assert [streamable(tmp_path / name) for name in ("t.csv.gz", "x.npz", "t.txt", "nothing.csv")] == [False] * 4
    assert streamable(tmp_path / "t.txt", "table")
    assert len(open_source(tmp_path / "t.txt", "table")) == 1
    with pytest.raises(IndexError):
        open_source(tmp_path / "t.txt", "table").read(1)


def test_an_error_in_a_block_names_its_line_in_the_file(tmp_path, small_blocks):
    path = tmp_path / "t.csv"
    path.write_text("a,b\n" + '1,"x\ny"\n' * 60 + "1\n" + "1,2\n" * 60)
    for use in (read, open_source):
        with pytest.raises(DataError, match="line 122: 1 fields, where the first row has 2"):
            use(path)
