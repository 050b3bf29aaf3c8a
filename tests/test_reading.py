"""Files are read as what they are, and whatever else they hold is a DataError."""

import csv
import gzip
import io
import pickle
import struct
import zipfile
import zlib

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image
from pyarrow import feather, ipc, parquet

from latente.errors import ConfigError, DataError, LatenteError, ResourceError
from latente.kinds import reading_bytes, reading_pictures
from latente.kinds.pictures import target
from latente.kinds.reading import Pictures, guess_kind, read
from latente.kinds.reading_csv import sniffed


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("reading")


def table(tmp_path, text, name="t.csv", **options):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read(path, **options)


def png(pixels, **options):
    out = io.BytesIO()
    Image.fromarray(np.asarray(pixels, np.uint8)).save(out, options.pop("format", "PNG"), **options)
    return out.getvalue()


def ramp(h, w, c=None):
    return np.linspace(0, 255, h * w * (c or 1)).astype(np.uint8).reshape((h, w) if c is None else (h, w, c))


def zipped(path, members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


# Tables


@pytest.mark.parametrize(
    ("cells", "dtype", "values"),
    [
        (["1", " 2 ", "-3"], "int64", [1, 2, -3]),
        (["+1", "2"], "int64", [1, 2]),
        (["1", "", "NA"], "Int64", [1, pd.NA, pd.NA]),
        (["1", "2.5"], "float64", [1.0, 2.5]),
        (["1", "?", "2.5"], "float64", [1.0, np.nan, 2.5]),
        (["inf", "-Infinity"], "float64", [np.inf, -np.inf]),
        (["99999999999999999999", "1"], "float64", [1e20, 1.0]),
        (["true", "FALSE"], "bool", [True, False]),
        (["true", ""], "boolean", [True, pd.NA]),
        (["007", "1"], "str", ["007", "1"]),
        (["0.5", "00.5"], "str", ["0.5", "00.5"]),
        (["1", "0x1F"], "str", ["1", "0x1F"]),
        (["1", "nan(7)"], "str", ["1", "nan(7)"]),
        (["1", "a"], "str", ["1", "a"]),
        (["", "?"], "float64", [np.nan, np.nan]),
        (["2020-01-31", "2020-02-01"], "datetime64[us]", [pd.Timestamp(2020, 1, 31), pd.Timestamp(2020, 2, 1)]),
        (["2020-01-31T10:00Z", "2020-01-31 12:00+02:00"], "datetime64[us]", [pd.Timestamp(2020, 1, 31, 10)] * 2),
        (["2020-02-30", "2020-02-01"], "str", ["2020-02-30", "2020-02-01"]),
    ],
    ids=str,
)
def test_a_column_has_the_one_type_that_fits_all_its_cells(tmp_path, cells, dtype, values):
    df = table(tmp_path, "k,x\n" + "".join(f"k,{cell}\n" for cell in cells))
    expected = pd.Series(values, dtype=dtype, name="x")
    pd.testing.assert_series_equal(df["x"], expected)


@pytest.mark.parametrize(("delimiter", "name"), [(",", "t.csv"), (";", "t.csv"), ("|", "t.csv"), ("\t", "t.tsv")])
def test_the_delimiter_is_found(tmp_path, delimiter, name):
    df = table(tmp_path, f"a{delimiter}b\n1{delimiter}x y\n2{delimiter}z\n", name)
    assert df.to_dict("list") == {"a": [1, 2], "b": ["x y", "z"]}


def test_a_comma_is_decimal_where_semicolons_delimit(tmp_path):
    df = table(tmp_path, "1,5;2\n-0,25;3\n", note=lambda _: None)
    assert df.to_dict("list") == {"c0": [1.5, -0.25], "c1": [2, 3]}
    assert sniffed(b"a|b,1\nc|d,2\n") == ","
    assert sniffed(b"one\ntwo\n") == ","


def test_a_row_with_a_number_is_no_header(tmp_path):
    notes = []
    df = table(tmp_path, "5,M,?\n6,F,x\n7,?,y\n", note=notes.append)
    assert df.to_dict("list") == {"c0": [5, 6, 7], "c1": ["M", "F", np.nan], "c2": [np.nan, "x", "y"]}
    assert notes == [
        "t.csv has no header row: its columns are named c0 … c2",
        "'?' is read as missing: 2 cells in c1, c2",
    ]


def test_the_header_can_be_decided(tmp_path):
    assert list(table(tmp_path, "2019,2020\n1,2\n", header="yes")) == ["2019", "2020"]
    assert len(table(tmp_path, "a,b\nc,d\n", header="no")) == 2


def test_columns_without_a_name_get_one_that_is_free(tmp_path):
    notes = []
    assert list(table(tmp_path, ",a,unnamed_0\nx,y,z\n", note=notes.append)) == ["unnamed_0_", "a", "unnamed_0"]
    assert notes == ["columns of t.csv without a name are called unnamed_0_"]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"a,b\n1,2\n\n1,2,3\n", "line 4: 3 fields, where the first row has 2"),
        (b'a,b\n"1\n1",2\n1\n', "line 4: 1 fields, where the first row has 2"),
        (b"a,b,a\n1,2,3\n", "more than one column called 'a'"),
        (b"a,b\n", "a header and no rows"),
        (b" \n\n", "empty"),
        (b'a,b\n1,"2\n3,4\n', "quote that is never closed"),
        (b"a,b\n1,\0\n", "byte 6 is zero"),
        (b"PK\x03\x04\xff\x01\x02", "not a text file"),
        (b"\xff\xfea", "utf-16"),
        (b"a,b\n1,\x81\n", "neither UTF-8 (byte 6) nor cp1252"),
        (b"a," * 100_000 + b"a\n", "100,001 columns"),
        (gzip.compress(b"a,b\n1,2\n" * 99)[:-12], "cut short"),
        (b"", "0 bytes"),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_a_table_that_cannot_be_read_is_refused_with_its_place(tmp_path, data, message):
    with pytest.raises(DataError) as caught:
        table(tmp_path, data)
    assert message in caught.value.problem
    assert caught.value.hint


@pytest.mark.parametrize("coding", ["utf-8", "utf-8-sig", "utf-16", "utf-32", "cp1252"])
def test_text_in_other_codings_is_read_and_a_guess_is_noted(tmp_path, coding):
    notes = []
    df = table(tmp_path, "größe,n\nhäßlich,1\n".encode(coding), note=notes.append)
    assert df.to_dict("list") == {"größe": ["häßlich"], "n": [1]}
    assert notes == ["t.csv is not UTF-8 (byte 2): it is read as cp1252 (Western European)"] * (coding == "cp1252")


@pytest.mark.parametrize(
    ("text", "bad"), [("aäöü€".encode(), None), ("aäö".encode() + b"\xe2\x82", 5), (b"abcde\xffg", 5)], ids=str
)
def test_a_byte_that_is_not_utf8_is_found_across_pieces(text, bad):
    notes = []
    found = reading_bytes.coding([text[i : i + 3] for i in range(0, len(text), 3)], "t.csv", notes.append)
    assert found == ("utf-8" if bad is None else "cp1252")
    assert len(notes) == (bad is not None)
    assert all(f"(byte {bad})" in note for note in notes)


def test_a_gzipped_table_is_read_and_a_bomb_is_not(tmp_path, monkeypatch):
    assert len(table(tmp_path, gzip.compress(b"a,b\n1,2\n3,4\n"), "t.csv.gz")) == 2
    monkeypatch.setattr(reading_bytes, "_HARMLESS", 1 << 16)
    with pytest.raises(DataError, match="more than 200 times its size"):
        table(tmp_path, gzip.compress(bytes(1 << 20)), "t.csv.gz")


def test_a_cell_may_be_longer_than_any_block(tmp_path):
    long = "x" * 9_000_000
    assert table(tmp_path, f"a,b\n1,{long}\n2,y\n")["b"].tolist() == [long, "y"]
    with pytest.raises(DataError, match=r"t\.csv cannot be read as a table"):
        table(tmp_path, f"a,b\n1,{long}\n2\n")


@settings(max_examples=100, deadline=None)
@given(rows=st.integers(1, 4).flatmap(lambda w: st.lists(st.lists(st.text(max_size=6), min_size=w, max_size=w))))
@example(rows=[['a"b\r\n,', "ü\n"], ["\r", ";|"]])
def test_quoted_cells_come_back_whatever_they_hold(folder, rows):
    wrapped = [[f"~{cell.encode('utf-8', 'ignore').decode()}~".replace("\0", "") for cell in row] for row in rows]
    header = [f"n{i}" for i in range(len(rows[0]))] if rows else ["n0"]
    out = io.StringIO(newline="")
    csv.writer(out, quoting=csv.QUOTE_ALL).writerows([header, *wrapped, ["~"] * len(header)])
    df = table(folder, out.getvalue(), "quoted.csv")
    assert df.to_numpy().tolist() == [*wrapped, ["~"] * len(header)]


@pytest.mark.parametrize("form", ["parquet", "feather", "stream"])
def test_columnar_files_keep_types_and_what_is_missing(tmp_path, form):
    columns = {
        "i": pa.array([1, None], pa.int32()),
        "b": [True, None],
        "c": pa.array(["u", "v"]).dictionary_encode(),
        "d": pa.array([0, 1], pa.date32()),
        "z": pa.array([0, 1], pa.timestamp("s", "Europe/Berlin")),
        "n": pa.nulls(2),
        "__index_level_0__": [3, 4],
    }
    data, notes, path = pa.table(columns), [], tmp_path / ("t.parquet" if form == "parquet" else "t.arrow")
    if form == "stream":
        with ipc.new_stream(path, data.schema) as stream:
            stream.write_table(data)
    else:
        {"parquet": parquet.write_table, "feather": feather.write_feather}[form](data, str(path))
    df = read(path, note=notes.append)
    assert list(df) == ["i", "b", "c", "d", "z", "n"]
    assert [str(t) for t in df.dtypes[["i", "b", "c", "n"]]] == ["Int32", "boolean", "category", "float64"]
    assert df["z"].tolist() == [pd.Timestamp(1970, 1, 1), pd.Timestamp(1970, 1, 1, 0, 0, 1)]
    assert notes == ["times with a zone are turned into UTC: z"]


@pytest.mark.parametrize("column", [[[1], [2]], [{"a": 1}, None], [b"x", b"y"]], ids=str)
def test_columns_that_hold_more_than_values_are_refused_by_name(tmp_path, column):
    parquet.write_table(pa.table({"odd": column}), tmp_path / "t.parquet")
    with pytest.raises(DataError, match="column 'odd' holds"):
        read(tmp_path / "t.parquet")


# Arrays


def test_an_array_of_two_dimensions_is_a_table(tmp_path):
    x = np.arange(6.0).reshape(3, 2).astype(">f4")
    np.save(tmp_path / "x.npy", x)
    np.savez(tmp_path / "x.npz", y=np.arange(3), X=x)
    np.savez(tmp_path / "named.npz", one=np.arange(3), two=x)
    notes = []
    for name in ("x.npy", "x.npz", "named.npz"):
        assert guess_kind(tmp_path / name) == "table"
        got = read(tmp_path / name, note=notes.append)
        assert got.dtype == np.float32
        assert got.flags.writeable
        np.testing.assert_array_equal(got, x)
    assert notes[0] == "x.npz: only the columns of X are read, not its labels"
    assert notes[1] == "named.npz: of the arrays one, two it is 'two' that is read"


def test_fractions_become_bytes_and_nan_is_missing(tmp_path):
    x = np.array([[[0.0, 0.5], [1.0, np.nan]]])
    np.savez(tmp_path / "x.npz", X=x, y=np.array([7]))
    got = read(tmp_path / "x.npz")
    assert got.pixels[0, ..., 0].tolist() == [[0, 128], [255, 0]]
    assert got.observed.tolist() == [[[True, True], [True, False]]]
    assert got.labels.tolist() == [7]


def test_channels_that_come_first_are_turned_round(tmp_path):
    x = np.random.default_rng(0).integers(0, 256, (2, 3, 5, 4))
    np.save(tmp_path / "x.npy", x)
    notes = []
    got = read(tmp_path / "x.npy", note=notes.append)
    np.testing.assert_array_equal(got.pixels, np.moveaxis(x, 1, 3))
    assert "channels come first" in notes[0]


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.full((2, 4, 4), 300), "the whole numbers in x.npy lie in [300, 300], not in [0, 255]"),
        (np.linspace(-1, 1, 32).reshape(2, 4, 4), "the fractions in x.npy lie in [-1, 1], not in [0, 1]"),
        (np.full((2, 4, 4), np.inf), "lie in [inf, inf]"),
        (np.full((2, 4, 4), np.nan), "every pixel of x.npy is NaN"),
        (np.zeros((2, 4, 4, 2)), "has shape (2, 4, 4, 2), which is no stack of pictures"),
        (np.zeros(4), "has 1 dimension"),
        (np.zeros((0, 4)), "empty"),
        (np.zeros((2, 2), complex), "type complex128, not numbers"),
        (np.array([["a"]]), "type <U1, not numbers"),
        (np.array([[{}]]), "pickled Python objects, which are never read"),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_an_array_that_is_no_data_is_refused_with_its_value(tmp_path, x, message):
    np.save(tmp_path / "x.npy", x, allow_pickle=True)
    with pytest.raises(DataError) as caught:
        read(tmp_path / "x.npy")
    assert message in caught.value.problem


def test_no_pickle_is_ever_run(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (tmp_path.joinpath("ran").touch, ())

    (tmp_path / "plain.npy").write_bytes(pickle.dumps(Bomb()))
    np.savez(tmp_path / "x.npz", X=np.array([[Bomb()]], dtype=object))
    for name in ("plain.npy", "x.npz"):
        with pytest.raises(DataError):
            read(tmp_path / name)
    assert not (tmp_path / "ran").exists()


def test_a_header_that_declares_more_than_the_file_holds_allocates_nothing(tmp_path):
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (999999999, 99999), }"
    data = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + bytes(64)
    (tmp_path / "x.npy").write_bytes(data)
    zipped(tmp_path / "x.npz", {"X.npy": data})
    (tmp_path / "x-idx3-ubyte").write_bytes(b"\0\0\x08\x03" + b"\xff" * 12 + bytes(64))
    (tmp_path / "x-idx255-ubyte").write_bytes(b"\0\0\x08\xff" + bytes(64))
    for name in ("x.npy", "x.npz", "x-idx3-ubyte", "x-idx255-ubyte"):
        with pytest.raises(LatenteError):
            read(tmp_path / name)


def test_idx_pictures_find_the_labels_beside_them(tmp_path):
    x = ramp(4, 9).reshape(3, 3, 4)
    head = b"\0\0\x08\x03" + struct.pack(">3I", 3, 3, 4)
    (tmp_path / "a-images-idx3-ubyte.gz").write_bytes(gzip.compress(head + x.tobytes()))
    (tmp_path / "a-labels-idx1-ubyte").write_bytes(b"\0\0\x08\x01" + struct.pack(">I", 3) + bytes([5, 0, 9]))
    got = read(tmp_path / "a-images-idx3-ubyte.gz")
    np.testing.assert_array_equal(got.pixels[..., 0], x)
    assert got.labels.tolist() == [5, 0, 9]
    with pytest.raises(DataError, match="holds labels, not pictures"):
        read(tmp_path / "a-labels-idx1-ubyte")
    with pytest.raises(DataError) as caught:
        read(tmp_path)
    assert caught.value.hint.endswith("a-images-idx3-ubyte.gz")


# Pictures


def test_a_folder_and_its_zip_read_alike_with_their_sub_folders_as_labels(tmp_path):
    members = {
        "cat/b.png": png(ramp(4, 5)),
        "cat/a.PNG": png(ramp(4, 5)[::-1]),
        "dog/a.bmp": png(ramp(4, 5).T.reshape(4, 5)),
    }
    members |= {"__MACOSX/x.png": b"x", "dog/.hidden.png": b"x", "dog/notes.txt": b"x", ".git/x.png": b"x"}
    for name, data in members.items():
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).write_bytes(data)
    for path in (tmp_path / "in", zipped(tmp_path / "in.zip", members)):
        assert guess_kind(path) == "image"
        got = read(path)
        assert got.names == ("cat/a.PNG", "cat/b.png", "dog/a.bmp")
        assert got.labels.tolist() == ["cat", "cat", "dog"]
        assert got.observed is None
        assert got.pixels.shape == (3, 4, 5, 1)
        np.testing.assert_array_equal(got.pixels[1, ..., 0], ramp(4, 5))


def test_one_sub_folder_is_no_label_and_neither_are_pictures_beside_sub_folders(tmp_path):
    one = zipped(tmp_path / "one.zip", {"all/a.png": png(ramp(2, 2)), "all/b.png": png(ramp(2, 2))})
    mixed = zipped(
        tmp_path / "mixed.zip", {"a.png": png(ramp(2, 2)), "x/b.png": png(ramp(2, 2)), "y/b.png": png(ramp(2, 2))}
    )
    assert read(one).labels is None
    assert read(mixed).labels is None


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ({(28, 28): 5}, (28, 28)),
        ({(128, 100): 5}, (128, 100)),
        ({(129, 100): 5}, (64, 50)),
        ({(32, 32): 5, (500, 300): 4}, (32, 32)),
        ({(100, 300): 2, (32, 32): 1}, (21, 64)),
        ({(10, 20): 1, (20, 20): 1}, (20, 20)),
        ({(1, 5000): 2}, (1, 64)),
    ],
    ids=str,
)
def test_the_size_rule_keeps_small_pictures_of_one_size_and_fits_the_rest(sizes, expected):
    assert target(reading_pictures.Counter(sizes)) == expected


def test_pictures_are_fitted_centred_and_padded_by_their_edges(tmp_path):
    wide = np.repeat(np.array([[10, 200]], np.uint8), 8, axis=1)  # 16 wide: eight of 10, eight of 200
    members = {f"{i}.png": png(np.full((8, 8), i)) for i in range(3)} | {"wide.png": png(wide.repeat(4, axis=0))}
    notes = []
    got = read(zipped(tmp_path / "p.zip", members), note=notes.append)
    assert got.pixels.shape == (4, 8, 8, 1)
    fitted = got.pixels[3, ..., 0]
    assert (fitted == fitted[:1]).all()  # 8 × 2 inside, repeated upwards and downwards
    assert abs(int(fitted[0, 0]) - 10) < 12
    assert abs(int(fitted[0, 7]) - 200) < 12
    assert notes == [
        "p.zip: pictures of 8 × 8 to 16 × 4 pixels (width × height) were scaled to 8 × 8, their edges repeated to fill"
    ]


@pytest.mark.parametrize("shape", [(6, 4, 1), (6, 4, 3), (3, 9, 1)], ids=str)
def test_a_given_shape_is_met_and_noted(tmp_path, shape):
    path, notes = tmp_path / "p.png", []
    path.write_bytes(png(ramp(6, 4, 3)))
    assert read(path, shape=shape, note=notes.append).pixels.shape == (1, *shape)
    assert len(notes) == (shape[:2] != (6, 4)) + (shape[2] == 1)
    path.write_bytes(png(ramp(6, 4)))
    got = read(path, shape=(6, 4, 3)).pixels
    np.testing.assert_array_equal(got[0], np.repeat(ramp(6, 4)[..., None], 3, axis=-1))
    np.save(tmp_path / "x.npy", ramp(6, 4, 3)[None])
    assert read(tmp_path / "x.npy", shape=shape).pixels.shape == (1, *shape)


def test_clear_pixels_are_missing_and_half_clear_ones_lie_on_white(tmp_path):
    rgba = np.full((2, 2, 4), 0)
    rgba[..., 3] = [[0, 255], [128, 255]]
    (tmp_path / "p.png").write_bytes(png(rgba))
    got = read(tmp_path / "p.png")
    assert got.observed.tolist() == [[[False, True], [True, True]]]
    assert got.pixels[0, ..., 0].tolist() == [[0, 0], [127, 0]]
    rgba[..., 3] = 255
    (tmp_path / "p.png").write_bytes(png(rgba))
    assert read(tmp_path / "p.png").observed is None


def test_missing_pixels_do_not_bleed_when_a_picture_shrinks(tmp_path):
    rgba = np.full((256, 256, 4), 255)
    rgba[:, 128:] = [0, 0, 0, 0]
    rgba[:, :128, :3] = 90
    (tmp_path / "p.png").write_bytes(png(rgba))
    got = read(tmp_path / "p.png")
    assert got.observed[0, :, :32].all()
    assert not got.observed[0, :, 32:].any()
    assert np.ptp(got.pixels[0, :, :32].astype(int)) <= 2


def test_grey_is_grey_in_every_mode_and_16_bits_become_8(tmp_path):
    grey = Image.fromarray(ramp(3, 4))
    deep = Image.fromarray(ramp(3, 4).astype(np.uint16) * 257)
    palette = Image.fromarray(ramp(3, 4)).convert("P")
    modes = {"l.png": grey, "la.png": grey.convert("LA"), "i.png": deep, "p.png": palette, "l.tif": grey, "i.tif": deep}
    for name, image in modes.items():
        image.save(tmp_path / name)
    got = read(tmp_path)
    assert got.pixels.shape == (6, 3, 4, 1)
    assert (got.pixels[..., 0] == ramp(3, 4)).all()
    Image.fromarray(ramp(3, 4, 3)).save(tmp_path / "rgb.png")
    assert read(tmp_path).pixels.shape == (7, 3, 4, 3)


def test_a_picture_is_upright_as_its_camera_says(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90°
    for name in ("p.png", "p.webp"):
        Image.fromarray(ramp(3, 5)).save(tmp_path / name, exif=exif, **({"lossless": True} if "webp" in name else {}))
        got = read(tmp_path / name).pixels[0]
        assert got.shape[:2] == (5, 3)
        assert abs(got[..., 0].astype(int) - np.rot90(ramp(3, 5), -1)).max() <= 1


def test_unreadable_pictures_are_left_out_and_named(tmp_path, monkeypatch):
    good, header = png(ramp(4, 4)), struct.pack(">II5B", 60_000, 60_000, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + b"IHDR" + header + struct.pack(">I", zlib.crc32(b"IHDR" + header))
    members = {
        "a/good.png": good,
        "b/cut.png": good[:-30],
        "b/none.jpg": b"no",
        "c/bomb.png": good[:8] + chunk + good[33:],
    }
    notes = []
    for threaded in (0, 1 << 16):
        monkeypatch.setattr(reading_pictures, "_THREADED", threaded)
        got = read(zipped(tmp_path / "p.zip", members | {"z.png": good[::1]}), note=notes.append)
        assert got.names == ("a/good.png", "z.png")
        assert (got.pixels[..., 0] == ramp(4, 4)).all()
        assert [line.split(":")[0] for line in got.skipped] == ["b/cut.png", "b/none.jpg", "c/bomb.png"]
        assert "more than 100 million pixels" in got.skipped[2]
    assert notes[0].startswith("3 pictures could not be read and are left out: ")
    with pytest.raises(DataError, match=r"no picture in .* can be read"):
        read(zipped(tmp_path / "none.zip", {"b/none.jpg": b"no", "n.zip": b""}))


def test_members_of_a_zip_that_are_encrypted_or_huge_are_left_out(tmp_path, monkeypatch):
    monkeypatch.setattr(reading_pictures, "_LARGEST_FILE", 5_000)
    path = zipped(tmp_path / "p.zip", {"a.png": png(ramp(4, 4)), "b.png": png(ramp(4, 4)), "c.bmp": bytes(6_000)})
    data = bytearray(path.read_bytes())
    data[6] |= 1  # the flag of encryption, in the first member and in its entry of the directory
    data[data.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(data)
    got = read(path)
    assert got.names == ("b.png",)
    assert "encrypted" in got.skipped[0]
    assert "are read" in got.skipped[1]


def test_a_pipe_among_the_pictures_does_not_stall(tmp_path):
    import os

    os.mkfifo(tmp_path / "a.png")
    (tmp_path / "b.png").symlink_to(tmp_path / "nowhere.png")
    (tmp_path / "c.png").write_bytes(png(ramp(2, 2)))
    assert read(tmp_path).skipped == (
        "a.png: not a file",
        "b.png: [Errno 2] No such file or directory: '" + str(tmp_path / "b.png") + "'",
    )
    with pytest.raises(DataError, match="neither a file nor a folder"):
        read(tmp_path / "a.png")


# What is asked for


def test_a_missing_file_suggests_its_neighbours(tmp_path):
    (tmp_path / "patients.csv").write_text("a\n1\n")
    with pytest.raises(DataError) as caught:
        read(tmp_path / "patient.csv")
    assert caught.value.hint == "did you mean patients.csv?"
    for odd in ("no/such/x.csv", "patients.csv/x.csv", "x\0.csv", "x" * 9999 + ".csv"):
        with pytest.raises(DataError):
            read(tmp_path / odd)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"kind": "image"}, DataError, "t.csv holds a table, not pictures"),
        ({"kind": "poems"}, ConfigError, "kind 'poems'"),
        ({"header": "maybe"}, ConfigError, "header 'maybe'"),
        ({"shape": (2, 2, 2)}, ConfigError, "shape (2, 2, 2)"),
        ({"delimiter": "ab"}, ConfigError, "'ab' cannot be a delimiter"),
        ({"delimiter": "§"}, ConfigError, "'§' cannot be a delimiter"),
    ],
    ids=str,
)
def test_an_option_that_cannot_be_is_refused(tmp_path, options, error, message):
    with pytest.raises(error) as caught:
        table(tmp_path, "a,b\n1,2\n", **options)
    assert message in caught.value.problem


def test_kinds_are_told_by_name_and_content(tmp_path):
    for name, kind in (
        ("a.txt", "text"),
        ("a.mid", "music"),
        ("a.csv", "table"),
        ("a.tsv.gz", "table"),
        ("a.parquet", "table"),
        ("a.jpg", "image"),
    ):
        (tmp_path / name).write_bytes(b"x")
        assert guess_kind(tmp_path / name) == kind
    for name in ("a.xlsx", "plain", "a.zip"):
        (tmp_path / name).write_bytes(b"x")
        with pytest.raises(DataError):
            guess_kind(tmp_path / name)
    (tmp_path / "rows.txt").write_text("a b\n1\n2\n")
    assert read(tmp_path / "rows.txt", kind="table")["a b"].tolist() == [1, 2]
    with pytest.raises(DataError, match="holds pictures, not a table"):
        read(tmp_path / "a.jpg", kind="table")


def test_data_beyond_the_memory_is_a_resource_error(tmp_path, monkeypatch):
    parquet.write_table(pa.table({"a": np.zeros(100_000)}), tmp_path / "t.parquet")
    with monkeypatch.context() as small:
        small.setattr("os.sysconf", lambda _: 1 << 10)  # 1,024 pages of 1,024 bytes
        with pytest.raises(ResourceError, match=r"t\.parquet needs"):
            read(tmp_path / "t.parquet")
    with pytest.raises(ResourceError) as caught:
        reading_bytes.require_room(1 << 60, "x.npy")
    assert "x.npy needs 1,152,921,504.6 GB" in caught.value.problem


SEEDS = {
    ".csv": b"a,b\n1,x\n2,y\n",
    ".csv.gz": gzip.compress(b"a,b\n1,x\n2,y\n"),
    ".npy": b"\x93NUMPY\x01\x00",
    ".png": png(ramp(3, 3)),
    ".jpg": png(ramp(8, 8, 3), format="JPEG"),
    ".gif": png(ramp(3, 3), format="GIF"),
    ".tif": png(ramp(3, 3), format="TIFF"),
    ".idx": b"\0\0\x08\x03" + struct.pack(">3I", 2, 2, 2) + bytes(8),
    ".zip": b"PK\x03\x04",
    ".npz": b"PK\x03\x04",
    ".parquet": b"PAR1",
    ".arrow": b"ARROW1\0\0",
}


@settings(max_examples=200, deadline=None)
@given(ending=st.sampled_from(sorted(SEEDS)), cut=st.integers(0, 90), junk=st.binary(max_size=40))
def test_anything_else_in_a_file_is_data_or_a_data_error(folder, ending, cut, junk):
    path = folder / f"any{ending}"
    path.write_bytes(SEEDS[ending][:cut] + junk + SEEDS[ending][cut + len(junk) :])
    try:
        got = read(path)
    except LatenteError as error:
        got = error.hint  # never empty either
    assert isinstance(got, (str, pd.DataFrame, np.ndarray, Pictures))
    assert len(got) > 0
