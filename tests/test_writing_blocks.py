"""What is written block by block is what is written whole."""

import zipfile

import numpy as np
import pandas as pd
import pytest

from latente.atomic import atomic_file
from latente.errors import ConfigError
from latente.kinds.pictures import Pictures
from latente.kinds.reading import read
from latente.kinds.writing import write
from latente.kinds.writing_blocks import append_to


def written(blocks, path, **options):
    with append_to(path, **options) as out:
        for block in blocks:
            out.add(block)
    return path


def thirds(whole):
    n = len(whole)
    cuts = [slice(0, n // 3), slice(n // 3, n // 2), slice(n // 2, n)]
    return [whole.iloc[cut] if isinstance(whole, pd.DataFrame) else whole[cut] for cut in cuts]


@pytest.fixture
def frame(people):
    """A mixed table whose last third alone has times of day, fractions of seconds and carriage returns in text."""
    n = len(people)
    late = np.arange(n) >= n // 2
    return people.assign(
        made=pd.Timestamp("2021-05-04") + pd.to_timedelta(np.arange(n) * late * 1234, "ms"),
        zoned=pd.Timestamp("2021-05-04", tz="Europe/Madrid") + pd.to_timedelta(np.arange(n) * late * 3, "h"),
        note=np.where(late, "a\rb", 'c,"d"'),
        few=pd.array(np.arange(n), dtype="Int64"),
    ).assign(made=lambda f: f["made"].mask(f.index % 7 == 0), few=lambda f: f["few"].mask(late & (f.index % 5 == 0)))


@pytest.mark.parametrize("ending", ["csv", "tsv"])
@pytest.mark.parametrize("columns", [None, ["age", "income", "plan", "sex", "active"]], ids=["times", "no times"])
def test_text_written_in_blocks_is_the_same_bytes(tmp_path, frame, ending, columns):
    shown = frame if columns is None else frame[columns]
    write(shown, tmp_path / f"whole.{ending}")
    written(thirds(shown), tmp_path / f"t.{ending}")
    assert (tmp_path / f"t.{ending}").read_bytes() == (tmp_path / f"whole.{ending}").read_bytes()


def test_text_whose_first_blocks_have_no_carriage_return_is_read_back_the_same(tmp_path, frame):
    shown = frame[["note", "age", "income"]]
    write(shown, tmp_path / "whole.csv")
    written(thirds(shown), tmp_path / "t.csv")
    pd.testing.assert_frame_equal(read(tmp_path / "t.csv"), read(tmp_path / "whole.csv"))


@pytest.mark.parametrize("ending", ["parquet", "arrow", "feather"])
def test_columnar_files_written_in_blocks_are_read_back_the_same(tmp_path, frame, ending):
    write(frame, tmp_path / f"whole.{ending}")
    written(thirds(frame), tmp_path / f"t.{ending}")
    pd.testing.assert_frame_equal(read(tmp_path / f"t.{ending}"), read(tmp_path / f"whole.{ending}"))


@pytest.mark.parametrize("dtype", ["float64", "float32", "int64", "bool"])
@pytest.mark.parametrize("shape", [(30, 4), (30,)], ids=str)
def test_arrays_written_in_blocks_are_the_same_bytes(tmp_path, dtype, shape):
    x = np.random.default_rng(0).normal(size=shape).astype(dtype)
    write(x, tmp_path / "whole.npy")
    assert written(thirds(x), tmp_path / "t.npy").read_bytes() == (tmp_path / "whole.npy").read_bytes()
    write(x, tmp_path / "whole.csv")
    assert written(thirds(x), tmp_path / "t.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()


def test_pictures_written_in_blocks_are_read_back_the_same(tmp_path, dots):
    pixels = dots[:30, :, :, None]
    seen = np.ones(pixels.shape[:3], bool)
    seen[25, :4] = False
    pixels = np.where(seen[..., None], pixels, np.uint8(0))
    names = tuple(f"{'a' if i % 2 else 'b'}/{i}.jpg" for i in range(30))
    blocks = [Pictures(pixels[s], seen[s], None, names[s]) for s in (slice(0, 11), slice(11, 30))]
    write(Pictures(pixels, seen, None, names), tmp_path / "whole")
    for place in (tmp_path / "folder", tmp_path / "t.zip"):
        back, whole = read(written(blocks, place)), read(tmp_path / "whole")
        assert back.names == whole.names
        assert (back.pixels == whole.pixels).all()
        assert (back.observed == whole.observed).all()
    write(dots, tmp_path / "whole.npy")
    assert written(thirds(dots), tmp_path / "t.npy").read_bytes() == (tmp_path / "whole.npy").read_bytes()
    assert written(blocks, tmp_path / "again.zip").read_bytes() == (tmp_path / "t.zip").read_bytes()


def test_pictures_of_one_name_in_several_blocks_are_all_kept(tmp_path, dots):
    blocks = [Pictures(dots[:2, :, :, None], None, None, ("a.png", "b.png"))] * 2
    written(blocks, tmp_path / "t.zip")
    assert sorted(zipfile.ZipFile(tmp_path / "t.zip").namelist()) == ["a-2.png", "a.png", "b-2.png", "b.png"]
    written([dots[:2], dots[2:4]], tmp_path / "numbered")
    assert sorted(p.name for p in (tmp_path / "numbered").iterdir()) == [f"{i:06d}.png" for i in range(4)]
    written([dots[:2], dots[2:4]], tmp_path / "named", names=["x", "y", "z", "x"])
    assert len(list((tmp_path / "named").iterdir())) == 4


def interrupted(block):
    yield block
    raise KeyboardInterrupt


@pytest.mark.parametrize("name", ["t.csv", "t.parquet", "t.arrow", "t.npy", "t.zip", "folder"])
def test_an_error_on_the_way_leaves_the_old_file_and_no_litter(tmp_path, dots, frame, name):
    block = dots if name in ("t.zip", "folder") else frame[["age", "joined"]] if name != "t.npy" else frame[["age"]]
    if name != "folder":
        (tmp_path / name).write_text("old")
    with pytest.raises(KeyboardInterrupt):
        written(interrupted(block), tmp_path / name)
    assert [p.name for p in tmp_path.iterdir()] == [name] * (name != "folder")
    assert name == "folder" or (tmp_path / name).read_text() == "old"


@pytest.mark.parametrize(
    ("name", "blocks", "message"),
    [
        ("t.json", [], "cannot be written in blocks"),
        ("t.csv", [], "nothing to write"),
        ("t.npy", [], "nothing to write"),
        ("t.zip", [], "no picture"),
        ("t.csv", [pd.DataFrame({"a": [1]}), pd.DataFrame({"b": [1]})], "later block"),
        ("t.csv", [pd.DataFrame({"a": [1]}), pd.DataFrame({"a": [pd.Timestamp(0)]})], "holds times"),
        ("t.parquet", [pd.DataFrame({"a": [1]}), pd.DataFrame({"a": ["x"]})], "cannot hold this table"),
        ("t.npy", [np.zeros((2, 3)), np.zeros((2, 4))], "a later block"),
        ("t.npy", [np.zeros((2, 3), int), np.zeros((2, 3))], "a later block"),
        ("t.csv", [np.zeros((2, 3, 3), np.uint8)], "a block is of pictures"),
    ],
    ids=str,
)
def test_blocks_that_do_not_go_together_are_refused(tmp_path, name, blocks, message):
    with pytest.raises(ConfigError, match=message):
        written(blocks, tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_not_there_before_it_is_whole(tmp_path):
    with atomic_file(tmp_path / "t") as file:
        file.write(b"half")
        assert not (tmp_path / "t").exists()
    assert (tmp_path / "t").read_bytes() == b"half"
