"""What a hostile tester found, once each."""

import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest
from PIL import Image as Picture

import latente as lt
from latente.errors import ConfigError, DataError, ModelFileError
from latente.file import dump, read

LATENTE = str(Path(sys.executable).parent / "latente")
A = np.random.default_rng(0).normal(size=60)


def fitted(frame, **options):
    return lt.Autoencoder(**{"dim": 1, "steps": 3, "random_state": 0} | options).fit(frame)


def test_impute_leaves_polars_cells_and_types_alone():
    frame = pl.DataFrame({"a": A, "i": [None] * 3 + [2**62 + i for i in range(3, 60)], "b": [None, *A[1:]]})
    filled = lt.impute(fitted(frame), frame)
    assert filled.schema == frame.schema
    assert filled["i"][3:].to_list() == frame["i"][3:].to_list()
    assert filled.null_count().row(0) == (0, 0, 0)


@pytest.mark.parametrize("names", [[1.5, ("x", 1)], [0, 1], pd.MultiIndex.from_tuples([("u", "a"), ("u", "b")])])
def test_impute_finds_columns_of_any_name(names):
    frame = pd.DataFrame({"p": A, "q": np.where(np.arange(60) < 5, np.nan, A)})
    frame.columns = names
    assert not lt.impute(fitted(frame), frame).isna().any(axis=None)


def test_dates_beyond_nanoseconds_come_back():
    frame = pd.DataFrame({"a": A, "until": pd.to_datetime(["9999-12-31", "2024-01-01"] * 30).astype("datetime64[us]")})
    assert fitted(frame).sample(20)["until"].between(frame["until"].min(), frame["until"].max()).all()


def test_a_constant_date_keeps_its_type():
    frame = pd.DataFrame({"a": A, "day": pd.Timestamp("2024-02-03")})
    new = fitted(frame).sample(3)
    assert new["day"].dtype == frame["day"].dtype
    assert (new["day"] == frame["day"].iloc[0]).all()


def test_settings_of_what_the_data_choose_are_taken(dots):
    ae = fitted(dots, settings={"kind.binarize": True, "nets.widths": [16]})
    assert ae.schema_.binarize
    assert ae.spec_.nets.widths == (16,)


@pytest.mark.parametrize("setting", ["train.lr", "objective.beta", "train.time_limit"])
def test_infinite_settings_are_refused_before_training(setting):
    with pytest.raises(ConfigError, match=r"finite|not inf"):
        fitted(A[:, None], settings={setting: float("inf")})


@pytest.mark.parametrize("seed", [-1, 2**32, "x", 1.5])
def test_a_seed_out_of_range_is_refused_before_training(seed):
    with pytest.raises(ConfigError, match="a seed is a whole number"):
        fitted(A[:, None], random_state=seed)


def test_numbers_of_numpy_are_settings_too():
    assert fitted(np.c_[A, A**2], dim=np.int64(2), lr=np.float32(0.01)).spec_.latent.dim == 2


def test_pythons_global_random_state_is_not_touched_by_a_first_fit():
    code = (
        "import random, numpy as np, latente as lt; AE = lt.Autoencoder\n"
        "before = random.getstate(); AE('ae', dim=1, steps=2).fit(np.random.default_rng(0).normal(size=(40, 2)))\n"
        "assert random.getstate() == before"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    state = random.getstate()
    fitted(np.c_[A, A**2])
    assert random.getstate() == state


def test_pil_pictures_follow_the_rules_of_files():
    rng = np.random.default_rng(0)
    deep = [Picture.fromarray(rng.integers(0, 65535, (6, 6), dtype=np.uint16)) for _ in range(12)]
    from latente.kinds.image import as_pictures

    pixels, seen = as_pictures(deep)
    assert seen is None
    assert 60 < pixels.mean() < 190
    rgba = [Picture.fromarray(rng.integers(0, 255, (6, 6, 4), dtype=np.uint8)) for _ in range(3)]
    rgba[0].putpixel((0, 0), (9, 9, 9, 0))
    assert not as_pictures(rgba)[1][0, 0, 0]


def test_an_unknown_view_of_a_distribution_is_refused():
    with pytest.raises(ConfigError, match="'zzz'"):
        fitted(np.c_[A, A**2]).sample(3, of="zzz")


def test_no_rows_are_a_data_error():
    frame = pd.DataFrame({"a": A, "b": A**2})
    with pytest.raises(DataError, match="0 rows"):
        fitted(frame).transform(frame.head(0))


def test_complex_columns_and_infinite_levels_are_refused():
    with pytest.raises(DataError, match="Complex"):
        fitted(pd.DataFrame({"a": A, "c": A + 1j}))
    with pytest.raises(DataError, match="inf"):
        fitted(pd.DataFrame({"a": A, "c": pd.Series([np.inf, "x", "y"] * 20, dtype=object)}))


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d.spec["latent"].update(dim=10**9),
        lambda d: d.spec["nets"].update(widths=[10**6, 10**6]),
        lambda d: d.schema["columns"][0].update(scale=0.0),
        lambda d: d.schema["columns"][0].update(low=9.0, high=1.0),
        lambda d: d.spec.update(zz=1),
    ],
)
def test_a_document_that_lies_costs_no_memory_and_is_an_error(change, tmp_path):
    from safetensors.numpy import load as tensors

    path = tmp_path / "m.safetensors"
    fitted(np.c_[A, A**2], nets={"part": "mlp", "widths": [8]}).save(path)
    document, data = read(path)
    change(document)
    path.write_bytes(dump(document, tensors(data)))
    with pytest.raises(ModelFileError):
        lt.load(path)


def test_a_fit_that_fails_leaves_no_folder(tmp_path):
    pd.DataFrame({"a": [1.0], "b": [2.0]}).to_csv(tmp_path / "one.csv", index=False)
    with pytest.raises(DataError):
        lt.fit(tmp_path / "one.csv", output=tmp_path / "r", quiet=True)
    assert not (tmp_path / "r").exists()


@pytest.mark.slow
def test_a_reader_that_has_seen_enough_is_no_fault(tmp_path):
    fitted(np.c_[A, A**2]).save(tmp_path / "m.safetensors")
    command = f"set -o pipefail; {LATENTE} sample {tmp_path}/m.safetensors -n 200000 | head -1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
