"""What is written can be read again, and a file is either whole or not there."""

import errno
import json
import math
import os
import stat

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from latente.atomic import atomic_folder, atomic_write
from latente.errors import ConfigError, ResourceError
from latente.kinds.pictures import Pictures
from latente.kinds.reading import read
from latente.kinds.writing import strip, write


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("writing")


def frame():
    return pd.DataFrame(
        {
            "whole": [1, 2, 3],
            "gaps": pd.array([1, None, 3], "Int64"),
            "real": [0.1, math.nan, 3.25],
            "yes": [True, False, True],
            "day": pd.to_datetime(["2020-01-31", "2020-02-01", None]).as_unit("us"),
            "word": pd.Series(["a,b", 'q"', "line\nbreak"], dtype="str"),
        }
    ).set_axis([7, 8, 9])


def pictures(n=3, h=4, w=6, c=3, **more):
    pixels = np.random.default_rng(0).integers(0, 256, (n, h, w, c), dtype=np.uint8)
    return Pictures(pixels, more.get("observed"), more.get("labels"), more.get("names", ()))


# Tables


@pytest.mark.parametrize("ending", [".csv", ".tsv", ".parquet", ".arrow", ".feather"])
def test_a_table_comes_back_from_every_format_without_its_index(tmp_path, ending):
    path = tmp_path / f"t{ending}"
    assert write(frame(), path) == [path]
    pd.testing.assert_frame_equal(read(path), frame().reset_index(drop=True))
    assert list(tmp_path.iterdir()) == [path]


def test_a_csv_file_holds_whole_numbers_iso_times_and_empty_gaps(tmp_path):
    write(frame(), tmp_path / "t.csv")
    lines = (tmp_path / "t.csv").read_text().split("\n")
    assert lines[0] == "whole,gaps,real,yes,day,word"
    assert lines[1] == '1,1,0.1,True,2020-01-31,"a,b"'
    assert lines[2] == '2,,,False,2020-02-01,"q"""'


@pytest.mark.parametrize("ending", [".csv", ".parquet", ".arrow"])
def test_a_polars_table_keeps_whole_numbers_with_gaps(tmp_path, ending):
    df = pl.DataFrame({"i": [1, None], "s": ["x", "y"], "f": [0.5, None]})
    write(df, tmp_path / f"t{ending}")
    got = read(tmp_path / f"t{ending}")
    assert str(got["i"].dtype) == "Int64"
    assert got["i"].tolist() == [1, pd.NA]
    assert got["s"].tolist() == ["x", "y"]


def test_arrays_are_tables_with_the_names_they_are_given(tmp_path):
    x = np.array([[0.1, 1.0], [np.nan, 2.0]], np.float32)
    write(x, tmp_path / "x.csv")
    assert (tmp_path / "x.csv").read_text() == "c0,c1\n0.1,1.0\n,2.0\n"
    write(x, tmp_path / "x.csv", names=["a", "b"])
    assert (tmp_path / "x.csv").read_text().startswith("a,b\n")
    write(np.array([3, 4]), tmp_path / "x.csv")
    assert (tmp_path / "x.csv").read_text() == "value\n3\n4\n"
    with pytest.raises(ConfigError, match="1 names for 2 columns"):
        write(x, tmp_path / "x.csv", names=["a"])


@pytest.mark.parametrize("ending", [".npy", ".npz"])
def test_numbers_come_back_from_numpy_files(tmp_path, ending):
    path = tmp_path / f"x{ending}"
    write(np.arange(6).reshape(3, 2), path)
    np.testing.assert_array_equal(read(path), np.arange(6).reshape(3, 2))
    write(frame()[["whole", "gaps"]], path)
    np.testing.assert_array_equal(read(path), [[1, 1], [2, np.nan], [3, 3]])
    write(pl.DataFrame({"i": [1, None], "f": [0.5, 1.5]}), path)
    np.testing.assert_array_equal(read(path), [[1, 0.5], [np.nan, 1.5]])
    with pytest.raises(ConfigError, match="column 'day' has others"):
        write(frame(), path)


def test_json_holds_records_with_null_for_what_is_missing(tmp_path):
    write(frame().iloc[1:], tmp_path / "t.json")
    got = json.loads((tmp_path / "t.json").read_text())
    assert got[0] == {"whole": 2, "gaps": None, "real": None, "yes": False, "day": "2020-02-01T00:00:00", "word": 'q"'}
    assert got[1]["day"] is None
    odd = {"a": np.float32(np.inf), "b": np.arange(2), 3: {"c": (np.int8(1), None, np.datetime64("2020-01-01"))}}
    write(odd, tmp_path / "d.json")
    assert json.loads((tmp_path / "d.json").read_text()) == {
        "a": None,
        "b": [0, 1],
        "3": {"c": [1, None, "2020-01-01"]},
    }


text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8).map(lambda s: f"~{s}~")
real = st.none() | st.floats(allow_nan=False)


@settings(max_examples=80, deadline=None)
@given(
    names=st.lists(text, min_size=4, max_size=4, unique=True),
    rows=st.lists(st.tuples(st.integers(-(2**63), 2**63 - 1), real, text, st.booleans()), min_size=1, max_size=6),
)
@example(names=["~a\r~", "~b~", "~c~", "~d~"], rows=[(1, 5e-324, "~\r~", True)])
@example(names=["~a~", "~|b~", "~c~", "~d~"], rows=[(1, None, "~|\u2028\ufeff~", True)])
def test_any_table_is_the_same_after_csv(folder, names, rows):
    df = pd.DataFrame(rows, columns=names).astype({names[0]: "int64", names[1]: "float64", names[2]: "str"})
    write(df, folder / "any.csv")
    got = read(folder / "any.csv", delimiter=",")
    real_column = got[names[1]].astype("float64")  # all whole or all missing: the file cannot tell
    pd.testing.assert_frame_equal(got.assign(**{names[1]: real_column}), df, check_exact=True)


# Dictionaries, pictures


def test_pictures_come_back_from_npz_with_labels_and_gaps(tmp_path):
    observed = np.ones((3, 4, 6), bool)
    observed[1, 2, 3] = False
    given = pictures(observed=observed, labels=np.array(["cat", "dog", "cat"], object))
    write(given, tmp_path / "p.npz")
    got = read(tmp_path / "p.npz")
    np.testing.assert_array_equal(got.pixels, np.where(observed[..., None], given.pixels, 0))
    np.testing.assert_array_equal(got.observed, observed)
    assert got.labels.tolist() == ["cat", "dog", "cat"]
    write(given, tmp_path / "p.npy")
    np.testing.assert_array_equal(read(tmp_path / "p.npy").pixels, given.pixels)


@pytest.mark.parametrize("c", [1, 3])
def test_pictures_come_back_from_a_folder_with_clear_pixels_for_gaps(tmp_path, c):
    observed = np.ones((3, 4, 6), bool)
    observed[1, 2, 3] = False
    given = pictures(c=c, observed=observed)
    files = write(given, tmp_path / "out")
    assert [file.name for file in files] == ["000000.png", "000001.png", "000002.png"]
    got = read(tmp_path / "out")
    np.testing.assert_array_equal(got.pixels, np.where(observed[..., None], given.pixels, 0))
    np.testing.assert_array_equal(got.observed, observed)
    with pytest.raises(ConfigError, match="is not empty"):
        write(given, tmp_path / "out")
    assert len(os.listdir(tmp_path)) == 1


@pytest.mark.parametrize(
    ("names", "files"),
    [
        (("a.jpg", "x/b.png"), ["a.png", "b.png"]),
        (("cat/0.jpg", "dog/0.jpg"), ["cat_0.png", "dog_0.png"]),
        (("a", "A"), ["a.png", "A-2.png"]),
        (("..", ""), ["picture.png", "picture-2.png"]),
        (("../../etc/passwd", "x" * 500), ["passwd.png", "x" * 200 + ".png"]),
        (("a\n\\b", "c:\0"), ["b.png", "c__.png"]),
    ],
    ids=str,
)
def test_names_become_file_names_that_stay_in_the_folder(tmp_path, names, files):
    assert [file.name for file in write(pictures(2), f"{tmp_path}/out.d/", names=names)] == files
    assert sorted(os.listdir(tmp_path / "out.d")) == sorted(files)
    assert os.listdir(tmp_path) == ["out.d"]


def test_a_grid_is_nearly_square_and_enlarged_by_a_whole_factor(tmp_path):
    given = pictures(5, 10, 20)
    write(given.pixels, tmp_path / "p.png")
    sheet = np.asarray(Image.open(tmp_path / "p.png"))
    # Three columns, two rows; 20 pixels need the factor 3 to reach 48; two pixels between.
    assert sheet.shape == (2 * 30 + 2, 3 * 60 + 2 * 2, 3)
    np.testing.assert_array_equal(sheet[32::3, 62:122:3], given.pixels[4])
    assert (sheet[30:32] == 211).all()
    assert (sheet[32:, 124:] == 211).all()


def test_a_strip_is_one_row_and_can_be_written(tmp_path):
    row = strip(pictures(7, 4, 6, 1))
    assert row.shape == (1, 4 * 8, 7 * 48 + 6 * 2, 1)
    write(row, tmp_path / "row.png")
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "row.png")), row[0, ..., 0])


@pytest.mark.parametrize("n", [1, 2, 4])
def test_an_animation_goes_there_and_back(tmp_path, n):
    shades = np.broadcast_to(np.arange(n, dtype=np.uint8)[:, None, None, None] * 50, (n, 8, 4, 1))
    write(shades, tmp_path / "p.gif")
    with Image.open(tmp_path / "p.gif") as gif:
        shown = []
        for i in range(gif.n_frames):
            gif.seek(i)
            shown.append(gif.convert("L").getpixel((0, 0)))
            assert gif.size == (64, 128)
            assert n == 1 or gif.info["duration"] == 80
    assert shown == [50 * i for i in [*range(n), *range(n - 2, 0, -1)]]


@pytest.mark.parametrize(
    ("result", "name", "hint"),
    [
        (frame(), "t.png", "a table can be written as .csv"),
        (frame(), "t", "a table can be written as .csv"),
        (pictures(), "p.csv", "pictures can be written as .png .gif .npy .npz or a folder"),
        ({"a": 1}, "d.csv", "a dictionary can be written as .json .npz"),
        ({"a": {}}, "d.npz", ".json"),
        (np.zeros((2, 3, 4, 5)), "x.npy", "pictures are uint8"),
        (pictures(0), "p.png", "at least one picture"),
        (np.zeros((300, 300, 2000), np.uint8), "p.png", "into a folder"),
        (pd.DataFrame({"a": [1, "x"]}), "t.parquet", ".csv"),
        (object(), "x.csv", "give a table"),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_a_format_that_cannot_hold_the_result_is_refused_with_those_that_can(tmp_path, result, name, hint):
    with pytest.raises(ConfigError) as caught:
        write(result, tmp_path / name)
    assert hint in caught.value.hint
    assert os.listdir(tmp_path) == []


# Atomic files


def test_a_write_that_fails_leaves_the_old_file_and_no_litter(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"old")
    for error in (KeyboardInterrupt, RuntimeError):

        def broken(file, error=error):
            file.write(b"half")
            raise error

        with pytest.raises(error):
            atomic_write(path, broken)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["x"]
    with pytest.raises(ConfigError), atomic_folder(tmp_path / "new") as part:
        (part / "no" / "half").touch()
    assert os.listdir(tmp_path) == ["x"]


@pytest.mark.parametrize(("code", "kind"), [(errno.ENOSPC, ResourceError), (errno.EACCES, ConfigError)], ids=str)
def test_a_full_disk_is_a_resource_error_and_a_closed_one_a_wrong_setting(tmp_path, monkeypatch, code, kind):
    def refuse(_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(kind) as caught:
        atomic_write(tmp_path / "new" / "x", b"data")
    assert os.strerror(code).lower() in caught.value.problem
    assert os.listdir(tmp_path / "new") == []


def test_places_that_are_no_file_are_refused(tmp_path):
    (tmp_path / "file").touch()
    for place in (tmp_path, tmp_path / "file" / "x", "a\0b", tmp_path / ("x" * 300)):
        with pytest.raises(ConfigError):
            atomic_write(place, b"data")
    with pytest.raises(ConfigError, match="is a file, not a folder"):
        write(pictures(), f"{tmp_path}/file/")
    assert os.listdir(tmp_path) == ["file"]


def test_parents_are_made_links_followed_and_permissions_kept(tmp_path):
    path = tmp_path / "a" / "b" / "x"
    atomic_write(path, b"one")
    path.chmod(0o640)
    (tmp_path / "link").symlink_to(path)
    atomic_write(tmp_path / "link", lambda file: file.write(b"two"))
    assert (tmp_path / "link").is_symlink()
    assert path.read_bytes() == b"two"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_a_device_is_written_and_not_replaced():
    atomic_write("/dev/null", b"gone")
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
