"""Compressing with a fitted model: what goes in comes out, within its bound, from the command line and from Python."""

import io
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import latente as lt
from latente import errors
from latente.cli import app
from latente.codec.coder import Coder
from latente.uses.streams import open_stream

RUNNER = CliRunner()
QUICK = {"train.unplanned": (1, 20), "nets.widths": (16,), "latent.dim": 4}


def fitted(data, kind="auto", **settings):
    return lt.Autoencoder("codec", kind=kind, random_state=0, settings=QUICK | settings).fit(data)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    """Where models were is kept in the user's cache folder: not in that of whoever runs the tests."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def walks(n=1500, seed=0):
    """A table as sensors write it: times, numbers on a grid, off any grid, constant, whole, and a word."""
    rng = np.random.default_rng(seed)
    a = np.cumsum(rng.normal(size=n))
    return pd.DataFrame(
        {
            "time": pd.date_range("2024-01-01", periods=n, freq="min"),
            "grid": np.round(a, 1),
            "free": (a + 0.3 * rng.normal(size=n)).astype(np.float32),
            "still": 2.5,
            "whole": rng.poisson(5, n),
            "word": rng.choice(["on", "off"], n),
        }
    )


@pytest.fixture(scope="module")
def sensors():
    return fitted(walks().drop(columns="word"), "series"), walks(800, seed=1)


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(1200, 3)) @ rng.normal(size=(3, 8)) + 0.1 * rng.normal(size=(1200, 8))
    return fitted(x[:900].astype(np.float32)), x[900:].astype(np.float32)


def drawings(n=400, seed=0):
    """Grey pictures [n, 12, 12]: a soft blob on paper."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:12, :12]
    middle = rng.uniform(3, 9, (n, 2, 1, 1))
    far = (y - middle[:, 0]) ** 2 + (x - middle[:, 1]) ** 2
    return np.clip(380 - 40 * far, 0, 255).astype(np.uint8)


def photos(n=200, seed=0):
    """Colour pictures [n, 11, 13, 3], of no size that is whole blocks."""
    rng = np.random.default_rng(seed)
    ramps = np.cumsum(np.cumsum(rng.normal(0, 2, (n, 11, 13, 1)), 1), 2)
    return np.clip(128 + ramps + rng.normal(0, 4, (n, 11, 13, 3)) + [0, 10, -10], 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def grey():
    return fitted(drawings()), drawings(60, seed=1)


@pytest.fixture(scope="module")
def colour():
    return fitted(photos()), photos(40, seed=1)


# ── round trips ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_table_comes_back_as_it_was(sensors):
    ae, frame = sensors
    back = lt.decompress(lt.compress(ae, frame), model=ae)
    pd.testing.assert_frame_equal(back, frame)


@pytest.mark.parametrize("bound", [0.1, 0.01, 0.005, 0.001, 0.0001])
def test_no_number_is_off_by_more_than_its_share_of_the_range(sensors, bound):
    ae, frame = sensors
    back = lt.decompress(lt.compress(ae, frame, rel_error=bound), model=ae)
    ranges = walks()[["grid", "free", "still", "whole"]].agg(lambda c: float(c.max()) - float(c.min()))
    for name, reach in ranges.items():
        assert back[name].dtype == frame[name].dtype
        assert np.abs(back[name].astype(float) - frame[name].astype(float)).max() <= bound * reach
    pd.testing.assert_frame_equal(back[["time", "still", "word"]], frame[["time", "still", "word"]])


def test_bounds_by_column_hold_for_these_and_others_are_exact(sensors):
    ae, frame = sensors
    back = lt.decompress(lt.compress(ae, frame, max_error="free=0.5,whole=2"), model=ae)
    assert 0 < np.abs(back["free"] - frame["free"]).max() <= 0.5
    assert 0 < np.abs(back["whole"] - frame["whole"]).max() <= 2
    pd.testing.assert_series_equal(back["grid"], frame["grid"])


def test_a_wider_bound_makes_a_shorter_stream(sensors):
    ae, frame = sensors
    sizes = [
        len(lt.compress(ae, frame, **m)) for m in ({}, {"rel_error": 0.001}, {"rel_error": 0.01}, {"rel_error": 0.1})
    ]
    assert sizes == sorted(sizes, reverse=True)


@pytest.mark.parametrize("mode", [{}, {"rel_error": 0.01}, {"max_error": 0.3}])
def test_gaps_infinities_and_what_is_on_no_grid_are_kept_exactly(sensors, mode):
    ae, frame = sensors
    odd = frame.copy()
    odd.loc[[0, 5, 799], "free"] = [np.nan, np.inf, -np.inf]
    odd.loc[[1, 2], "grid"] = [1e300, 0.123456789]
    odd.loc[3, "grid"] = -0.0
    odd["free"] = odd["free"].where(np.arange(800) % 7 != 3)
    back = lt.decompress(lt.compress(ae, odd, **mode), model=ae)
    gone = ~np.isfinite(odd["free"].to_numpy())
    assert np.array_equal(back["free"][gone], odd["free"][gone], equal_nan=True)
    assert back["grid"][1] == 1e300
    if not mode:
        pd.testing.assert_frame_equal(back, odd)
        assert np.signbit(back["grid"][3])


@pytest.mark.parametrize("rows", [1, 2, 7, 300])
def test_few_rows_and_chunks_of_any_size_come_back(sensors, rows):
    ae, frame = sensors
    some = frame.iloc[:rows].reset_index(drop=True)
    pd.testing.assert_frame_equal(lt.decompress(lt.compress(ae, some), model=ae), some)
    cut = lt.compress(ae, frame, rows=rows + 90)
    pd.testing.assert_frame_equal(lt.decompress(cut, model=ae), frame)
    found = lt.decompress(cut, model=ae, rows="95:200")
    pd.testing.assert_frame_equal(found, frame.iloc[95:200].reset_index(drop=True))


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
@pytest.mark.parametrize("mode", [{}, {"rel_error": 0.01}, {"max_error": 0.05}])
def test_arrays_come_back_in_their_type_and_shape(table, dtype, mode):
    ae, x = table
    x = x.astype(dtype)
    back = lt.decompress(lt.compress(ae, x, **mode), model=ae)
    assert back.dtype == x.dtype
    assert back.shape == x.shape
    worst = np.abs(back.astype(float) - x.astype(float)).max()
    assert worst <= (0 if not mode else 0.05 if "max_error" in mode else 0.01 * max(ae.use_.ranges))


def test_frames_of_other_libraries_come_back_in_them(sensors):
    polars = pytest.importorskip("polars")
    ae, frame = sensors
    own = polars.from_pandas(frame)
    back = lt.decompress(lt.compress(ae, own), model=ae)
    assert back.equals(own)


def test_grey_pictures_come_back_by_both_of_the_models_ways(grey):
    from latente.uses.learned.codec_latents import whole_codes

    ae, pixels = grey
    assert np.array_equal(lt.decompress(lt.compress(ae, pixels), model=ae), pixels)
    own = ae.use_.pictures
    four = pixels[..., None]
    assert np.array_equal(own.context.decode(memoryview(own.context.encode(four)), len(four)), four)
    z = whole_codes(ae.model_)(four)
    # Whatever an encoder says, in float32 or bfloat16, the pictures are the same; only the length is not.
    for said in (z, z + np.random.default_rng(0).integers(-2, 3, z.shape), z * 0 + 4_000):
        assert np.array_equal(own.latents.decode(memoryview(own.latents.encode(four, said)), len(four)), four)


def test_pixels_that_were_never_seen_come_back(grey):
    ae, _ = grey
    noise = np.random.default_rng(0).integers(0, 256, (30, 12, 12), np.uint8)
    assert np.array_equal(lt.decompress(lt.compress(ae, noise), model=ae), noise)
    black = fitted(np.where(drawings() > 99, 255, 0).astype(np.uint8))
    own = black.use_.pictures.context
    assert own.method.escapes
    four = noise[..., None]
    assert np.array_equal(own.decode(memoryview(own.encode(four)), len(four)), four)


def test_colour_pictures_come_back_without_loss_and_nearer_with_each_quality(colour):
    ae, pixels = colour
    assert np.array_equal(lt.decompress(lt.compress(ae, pixels), model=ae), pixels)
    errors_, sizes = [], []
    for quality in (1, 4, 8):
        data = lt.compress(ae, pixels, quality=quality)
        back = lt.decompress(data, model=ae)
        assert back.shape == pixels.shape
        errors_.append(((back.astype(float) - pixels) ** 2).mean())
        sizes.append(len(data))
    assert errors_ == sorted(errors_, reverse=True)
    assert sizes == sorted(sizes)
    near = lt.decompress(lt.compress(ae, pixels, max_error=3), model=ae)
    assert 0 < np.abs(near.astype(int) - pixels).max() <= 3


# ── never longer than a library ─────────────────────────────────────────────────────────────────────────────────────


def test_every_chunk_is_the_shortest_there_is_and_the_report_says_whose(sensors, tmp_path):
    ae, frame = sensors
    report = lt.compress(ae, frame, rel_error=0.01, report=True, output=tmp_path / "a.ltz")
    assert report["won"] == {"model": 1}
    assert report["coded_bytes"] <= min(report["baselines"].values())
    assert report["error_over_bound"] <= 1
    assert report["stream_bytes"] == (tmp_path / "a.ltz").stat().st_size
    assert {"bits_per_value", "ratio", "ratio_with_model", "codec_bytes", "encode_mb_s", "decode_mb_s"} <= report.keys()
    assert report["break_even_values"] > 0
    again = pd.concat([frame.iloc[:50]] * 40, ignore_index=True)  # what a library packs better
    report = lt.compress(ae, again, rel_error=0.01, report=True, output=tmp_path / "b.ltz")
    assert "model" not in report["won"]
    assert report["coded_bytes"] == min(report["baselines"].values())


# ── the command line ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def place(sensors, grey, tmp_path_factory):
    folder = tmp_path_factory.mktemp("codec")
    sensors[0].save(folder / "sensors.safetensors")
    grey[0].save(folder / "grey.safetensors")
    sensors[1].to_csv(folder / "new.csv", index=False)
    np.save(folder / "new.npy", grey[1])
    return folder


def run(*arguments, **options):
    return RUNNER.invoke(app, [str(a) for a in arguments], **options)


def test_files_go_through_the_command_line_and_their_model_is_found(place):
    done = run("compress", place / "sensors.safetensors", place / "new.csv", "-o", place / "new.ltz", "--json")
    assert done.exit_code == 0, done.output
    assert run("decompress", place / "new.ltz", "-o", place / "back.csv").exit_code == 0
    assert (place / "back.csv").read_bytes() == (place / "new.csv").read_bytes()
    done = run("compress", place / "grey.safetensors", place / "new.npy", "-o", place / "new2.ltz")
    assert done.exit_code == 0, done.output
    assert run("decompress", place / "new2.ltz", "-o", place / "back.npy").exit_code == 0
    assert (place / "back.npy").read_bytes() == (place / "new.npy").read_bytes()
    done = run("decompress", place / "new.ltz", "--rows", "10:13")
    assert done.stdout.splitlines() == [(place / "new.csv").read_text().splitlines()[i] for i in (0, 11, 12, 13)]


def test_a_pipe_goes_chunk_by_chunk(place):
    lines = (place / "new.csv").read_text().splitlines(keepends=True)
    latente = [sys.executable, "-m", "latente"]
    compress = subprocess.Popen(
        [*latente, "compress", place / "sensors.safetensors", "-", "--rows", "100"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    back = subprocess.Popen(
        [*latente, "decompress", "-", "--model", place / "sensors.safetensors"],
        stdin=compress.stdout,
        stdout=subprocess.PIPE,
        text=True,
    )
    compress.stdin.write("".join(lines[:151]).encode())
    compress.stdin.flush()
    first = [back.stdout.readline() for _ in range(101)]  # though the rest has not come
    assert first == lines[:101]
    compress.stdin.write("".join(lines[151:]).encode())
    compress.stdin.close()
    rest = back.stdout.read()
    assert "".join(first) + rest == "".join(lines)
    assert compress.wait() == back.wait() == 0
    compress.stdout.close()
    back.stdout.close()


def test_whole_numbers_at_the_head_of_a_pipe_do_not_make_their_column_whole(place):
    text = "time,grid,free,still,whole\n" + "".join(f"{i},{i},{i + 1},2.5,3\n" for i in range(4)) + "4,,1.5,2.5,3\n"
    latente = [sys.executable, "-m", "latente"]
    model = place / "sensors.safetensors"
    command = [*latente, "compress", model, "-", "--rows", "2"]
    data = subprocess.run(command, input=text.encode(), capture_output=True, check=True).stdout
    back = subprocess.run([*latente, "decompress", "-", "--model", model], input=data, capture_output=True, check=True)
    assert pd.read_csv(io.BytesIO(back.stdout)).equals(pd.read_csv(io.StringIO(text)).astype({"free": float}))


def test_decompressing_loads_no_torch(place):
    run("compress", place / "sensors.safetensors", place / "new.csv", "-o", place / "t.ltz")
    code = (
        "import sys, latente as lt; x = lt.decompress(sys.argv[1], model=sys.argv[2]); "
        "assert len(x) == 800; sys.exit('torch' in sys.modules)"
    )
    command = [sys.executable, "-c", code, place / "t.ltz", place / "sensors.safetensors"]
    assert subprocess.run(command, check=False).returncode == 0


# ── bad input ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_lost_chunk_is_named_and_the_others_are_recovered(sensors):
    ae, frame = sensors
    data = bytearray(lt.compress(ae, frame, rows=200))
    places = [i for i in range(len(data)) if data[i : i + 4] == b"chnk"]
    data[places[1] + 100] ^= 1
    with pytest.raises(errors.DataError, match=r"rows 200 to 399 are lost.*\n\nhint: --recover"):
        lt.decompress(bytes(data), model=ae)
    with pytest.warns(lt.DataWarning, match="rows 200 to 399 are lost"):
        back = lt.decompress(bytes(data), model=ae, recover=True)
    whole = pd.concat([frame.iloc[:200], frame.iloc[400:]], ignore_index=True)
    pd.testing.assert_frame_equal(back, whole)
    with pytest.raises(errors.DataError, match=r"it is cut short: rows from 200 on, if there were any, are lost"):
        lt.decompress(bytes(data[: places[1] + 90]), model=ae)


def test_another_model_is_refused_by_its_fingerprint(sensors, table):
    data = lt.compress(*sensors)
    with pytest.raises(errors.ModelFileError, match=r"was made by the model \w{12}…, and"):
        lt.decompress(data, model=table[0])


def test_a_stream_whose_model_is_nowhere_says_which_it_needs(sensors, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    data = lt.compress(*sensors, rel_error=0.01)
    with pytest.raises(errors.ModelFileError, match=r"is not found: it has the fingerprint \w{12}…\n\nhint: --model"):
        lt.decompress(data)
    sensors[0].save(tmp_path / "runs" / "one" / "model.safetensors")
    assert len(lt.decompress(data)) == 800
    # Where a model was when it made a stream is remembered.
    sensors[0].save(tmp_path / "far" / "away.safetensors")
    (tmp_path / "runs" / "one" / "model.safetensors").unlink()
    with pytest.raises(errors.ModelFileError, match="is not found"):
        lt.decompress(data)
    assert lt.compress(lt.load(tmp_path / "far" / "away.safetensors"), sensors[1], rel_error=0.01) == data
    assert len(lt.decompress(data)) == 800


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"quality": 3, "lossless": True}, "exclude each other"),
        ({"quality": 9}, "from 1 to 8"),
        ({"quality": 3}, "a quality is of pictures"),
        ({"max_error": "much"}, "is no error bound"),
        ({"max_error": -1}, "from 0 to 1e300"),
        ({"max_error": "absent=1"}, "no column of numbers 'absent'"),
        ({"rel_error": 1.5}, "from 0 to 1"),
        ({"rows": 0}, "1 row or more"),
    ],
)
def test_what_cannot_be_asked_for_is_refused(sensors, options, says):
    with pytest.raises(errors.ConfigError, match=says):
        lt.compress(*sensors, **options)


def test_data_that_do_not_fit_the_model_are_refused(sensors, table, grey):
    with pytest.raises(errors.DataError, match="column 'free' of the model is not there"):
        lt.compress(sensors[0], sensors[1].drop(columns="free"))
    with pytest.raises(errors.DataError, match="is no column of numbers"):
        lt.compress(sensors[0], sensors[1].assign(free="a"))
    with pytest.raises(errors.DataError, match="rows have 3 numbers, and the model's 8"):
        lt.compress(table[0], table[1][:, :3])
    with pytest.raises(errors.DataError, match=r"pictures of 9×9 pixels .* was fitted on 12×12"):
        lt.compress(grey[0], np.zeros((4, 9, 9), np.uint8))
    with pytest.raises(errors.DataError, match="are numbers"):
        lt.compress(grey[0], table[1])
    with pytest.raises(errors.DataError, match="are pictures"):
        lt.compress(table[0], grey[1])
    with pytest.raises(
        errors.ConfigError, match=r"has not learned to compress\n\nhint: latente fit DATA --recipe codec"
    ):
        lt.compress(lt.Autoencoder("ae", steps=5, random_state=0).fit(table[1]), table[1])


def test_texts_have_no_codec():
    with pytest.raises(errors.ConfigError, match="use 'codec' is of kinds image, series, table, and these"):
        lt.Autoencoder("codec", kind="text", random_state=0).fit(["one", "two", "three words"] * 20)


def test_a_model_file_keeps_its_codec_and_one_that_was_altered_is_refused(sensors, tmp_path):
    ae, frame = sensors
    ae.save(tmp_path / "m.safetensors")
    again = lt.load(tmp_path / "m.safetensors")
    assert isinstance(again.use_, Coder)
    assert lt.compress(again, frame) == lt.compress(ae, frame)
    document, tensors = ae.use_.document, ae.use_.tensors
    for key, value in (
        ("arrays", [["x", "float32", [1 << 40]]]),
        ("columns", ["a"]),
        ("grids", [[None]]),
        ("levels", [{}]),
    ):
        with pytest.raises((ValueError, TypeError, LookupError)):
            Coder.restore(document | {key: value}, tensors)
    with pytest.raises(ValueError, match=r"damaged|fewer"):
        Coder.restore(document, {"packed": tensors["packed"][: len(tensors["packed"]) // 2]})


def test_the_same_data_make_the_same_stream_and_sizes_are_bounded(sensors):
    ae, frame = sensors
    assert lt.compress(ae, frame, rel_error=0.01) == lt.compress(ae, frame, rel_error=0.01)
    found, closing = open_stream(lt.compress(ae, frame))
    with closing:
        assert found.layout.names == ["time", "grid", "free", "still", "whole", "word"]
        assert io.BytesIO(lt.compress(ae, frame)).read(8) == b"\x93LTZ\r\n\x1a\n"


def test_words_levels_truths_and_times_come_back_in_their_types():
    rng = np.random.default_rng(0)
    n = 600
    town = rng.choice(["Oslo", "Lima", "São Paulo", 'a,b\n"c"'], n)
    frame = pd.DataFrame(
        {
            "town": town,
            "again": np.where(rng.random(n) < 0.9, town, None),
            "level": pd.Categorical(rng.choice(["low", "high"], n), ["low", "mid", "high"], ordered=True),
            "true": rng.random(n) < 0.3,
            "own": [f"row {i}" for i in range(n)],
            "day": pd.date_range("1960-01-01", periods=n, tz="Europe/Madrid"),
            "gap": pd.array(np.where(rng.random(n) < 0.2, None, 7), "Int64"),
            "small": rng.integers(0, 200, n).astype(np.uint8),
            "lag": pd.to_timedelta(rng.integers(0, 10**6, n), "s"),
        }
    )
    ae = fitted(frame.iloc[:400].drop(columns=["day", "lag", "own", "gap"]))
    assert {"town", "level", "again"} <= set(ae.use_.words)
    back = lt.decompress(lt.compress(ae, frame.iloc[400:].reset_index(drop=True)), model=ae)
    pd.testing.assert_frame_equal(back, frame.iloc[400:].reset_index(drop=True))
    odd = frame.iloc[:50].assign(town=["new town"] * 20 + ["Lima"] * 30, again=None)
    odd["again"] = odd["again"].astype(frame["again"].dtype)
    for rows in (None, 7):
        pd.testing.assert_frame_equal(lt.decompress(lt.compress(ae, odd, rows=rows), model=ae), odd)


def test_a_table_of_words_takes_less_than_its_csv_by_xz():
    import lzma

    rng = np.random.default_rng(0)
    kind = rng.choice(["alpha", "beta", "gamma"], 4000, p=[0.8, 0.15, 0.05])
    frame = pd.DataFrame({"kind": kind, "size": rng.poisson(3, 4000), "flag": rng.choice(["yes", "no"], 4000)})
    ae = fitted(frame.iloc[:2000])
    test = frame.iloc[2000:].reset_index(drop=True)
    assert len(lt.compress(ae, test)) < 0.9 * len(lzma.compress(test.to_csv(index=False).encode(), preset=9))


def test_numbers_with_places_without_one_come_back_exactly(table):
    polars, pa = pytest.importorskip("polars"), pytest.importorskip("pyarrow")
    whole = [2**60 + 1, None, 3] * 40
    frame = pd.DataFrame({"a": pd.array(whole, "Int64"), "b": pd.array([1.5, None, 2.5] * 40, "Float64")})
    ae = fitted(pd.DataFrame({"a": np.arange(300) % 7, "b": np.arange(300) % 5 / 2}))
    for mode in ({}, {"rel_error": 0.01}):
        pd.testing.assert_frame_equal(lt.decompress(lt.compress(ae, frame, **mode), model=ae), frame)
    own = polars.DataFrame({"a": whole, "b": [1.5, None, float("nan")] * 40})
    assert lt.decompress(lt.compress(ae, own), model=ae).equals(own, null_equal=True)
    arrow = pa.table({"a": pa.array(whole), "b": pa.array([1.5, None, 2.0] * 40)})
    assert lt.decompress(lt.compress(ae, arrow), model=ae).equals(arrow)


def test_names_that_are_numbers_and_arrays_without_names_fit_a_model_with_names():
    x = np.random.default_rng(0).normal(size=(300, 3)).astype(np.float32)
    ae = fitted(pd.DataFrame(x))
    frame = pd.DataFrame(x[:50])
    pd.testing.assert_frame_equal(lt.decompress(lt.compress(ae, frame), model=ae), frame)
    more = frame.assign(extra="word")
    pd.testing.assert_frame_equal(lt.decompress(lt.compress(ae, more), model=ae), more)
    assert np.array_equal(lt.decompress(lt.compress(ae, x), model=ae), x)
    swapped = x.astype(">f4")
    assert np.array_equal(lt.decompress(lt.compress(ae, swapped), model=ae), x)
    with pytest.warns(lt.DataWarning, match="the index is not kept"):
        lt.compress(ae, frame.set_index(pd.date_range("2024", periods=50)))


@pytest.mark.parametrize(
    ("column", "says"),
    [
        ([1, "a", None] * 10, "holds values of type int, str"),
        ([[1], [2], [3]] * 10, "holds values of type list"),
        ([2**70, 1, 2] * 10, "cannot be kept"),
        (["a", "\ud800", "b"] * 10, "cannot be kept"),
    ],
)
def test_a_column_that_could_not_come_back_as_it_was_is_refused(sensors, column, says):
    ae, frame = sensors
    odd = frame.iloc[:30].assign(odd=pd.Series(column, dtype=object))
    with pytest.raises(errors.DataError, match=says):
        lt.compress(ae, odd)


def test_pictures_keep_their_folders_and_labels_and_fractions_are_no_pixels(grey, colour, tmp_path):
    ae, pixels = colour
    labels = np.array(["cat", "dog"] * 20)
    pictures = lt.Pictures(pixels, None, labels, tuple(f"{c}/{i}.jpg" for i, c in enumerate(labels)))
    (tmp_path / "p.ltz").write_bytes(lt.compress(ae, pictures))
    lt.decompress(tmp_path / "p.ltz", model=ae, output=tmp_path / "out")
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["cat", "dog"]
    again = lt.read(tmp_path / "out", "image")
    order = [again.names.index(f"{c}/{i}.png") for i, c in enumerate(labels)]
    assert np.array_equal(again.pixels[order], pixels)
    lt.decompress(tmp_path / "p.ltz", model=ae, output=tmp_path / "out.npz")
    assert (lt.read(tmp_path / "out.npz", "image").labels == labels).all()
    np.save(tmp_path / "fractions.npy", grey[1] / np.float32(255))
    with pytest.raises(errors.DataError, match="holds pictures as float32"):
        lt.compress(grey[0], str(tmp_path / "fractions.npy"))


def test_a_quality_never_takes_more_than_no_loss(grey):
    ae, pixels = grey
    assert len(lt.compress(ae, pixels, quality=8)) <= len(lt.compress(ae, pixels)) + 16  # the mode's own name


def test_options_of_the_command_line_and_python_say_the_same(place, sensors, tmp_path):
    done = run("compress", place / "sensors.safetensors", place / "new.csv", "-o", tmp_path / "a.csv")
    assert (done.exit_code, "no .csv" in done.output) == (2, True)
    done = run(
        "compress", place / "sensors.safetensors", place / "new.csv", "--no-verify", "-o", tmp_path / "a.ltz", "--json"
    )
    assert done.exit_code == 0, done.output
    assert "decode_mb_s" not in done.stdout
    data, report = lt.compress(*sensors, report=True)
    assert report["stream_bytes"] == len(data)
    with pytest.raises(errors.DataError, match="has no row 5000"):
        lt.decompress(data, model=sensors[0], rows=(5000, 5100))
    assert len(lt.decompress(data, model=sensors[0], rows=(790, 5000))) == 10
