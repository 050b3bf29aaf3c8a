import warnings

import numpy as np
import pandas as pd
import polars as pl
import pytest
import scipy.sparse
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.pandas import column, data_frames, range_indexes

from latente import Autoencoder, DataWarning
from latente.errors import DataError
from latente.kinds.columns import KNEE, Binary, Categorical, Constant, Datetime, Numeric, damp, undamp
from latente.kinds.table import Table


def trip(frame):
    """A frame through the schema and back."""
    table = Table().learn(frame)
    return table, table.restore(table.to_batch(frame).x)


def test_each_column_is_known_for_what_it_is(people):
    columns = {c.label: c for c in Table().learn(people).columns}
    assert {k: type(c) for k, c in columns.items()} == {
        "age": Numeric,
        "income": Numeric,
        "plan": Categorical,
        "sex": Categorical,
        "active": Binary,
        "joined": Datetime,
        "country": Constant,
        "name": Constant,
    }
    assert columns["age"].integer
    assert not columns["income"].integer
    assert columns["name"].reason == "identifier"
    assert columns["joined"].unit == "D"


def test_a_table_comes_back_as_it_went(people):
    _, back = trip(people)
    assert list(back.columns) == list(people.columns)
    whole = people.drop(columns="name")
    for label in whole:
        seen = whole[label].notna()
        if whole[label].dtype == float:
            assert back[label][seen].to_numpy() == pytest.approx(whole[label][seen].to_numpy(), rel=1e-4)
        else:
            assert back[label][seen].tolist() == whole[label][seen].tolist()
        assert back[label].dtype == whole[label].dtype
    assert list(back["sex"].cat.categories) == ["m", "f", "x"]


@settings(max_examples=60, deadline=None)
@given(
    data_frames(
        index=range_indexes(min_size=2, max_size=30),
        columns=[
            column("f", elements=st.floats(-1e6, 1e6, width=32) | st.just(np.nan)),
            column("i", elements=st.integers(-(2**31), 2**31)),
            column("s", dtype=object, elements=st.text(max_size=4) | st.none()),
            column("b", dtype=bool),
            column("k", elements=st.integers(0, 100)),
        ],
    )
)
def test_any_frame_is_refused_or_comes_back_with_its_columns_levels_and_ranges(frame):
    if all(frame[c].nunique() < 2 for c in frame):
        with pytest.raises(DataError, match="no column varies"):
            Table().learn(frame)
        return
    table = Table().learn(frame)
    noise = torch_noise(len(table.modelled))
    back = table.restore(noise)
    assert list(back.columns) == list(frame.columns)
    for label in ("f", "i", "k"):
        low, high = frame[label].min(), frame[label].max()
        if not np.isnan(low):
            assert back[label].between(low, high).all()
    assert set(back["s"].dropna()) <= set(frame["s"].dropna())
    assert back["b"].dtype == bool


def torch_noise(columns):
    import torch

    return torch.randn(40, columns, generator=torch.Generator().manual_seed(0)) * 3


@given(st.floats(-1e12, 1e12))
def test_damping_is_undone(t):
    assert undamp(damp(np.array([t])))[0] == pytest.approx(t, rel=1e-9)


def test_damping_keeps_the_order_and_the_slope_at_the_joint():
    t = np.array([KNEE - 1e-6, KNEE, KNEE + 1e-6])
    assert np.diff(damp(t)) == pytest.approx(1e-6, rel=1e-3)
    assert damp(np.array([10.0]))[0] > damp(np.array([9.0]))[0]


@pytest.mark.parametrize("wild", [1e9, -1e9])
def test_one_wild_cell_moves_neither_the_scale_nor_the_codes_of_others(wild):
    x = np.random.default_rng(0).normal(size=(300, 2))
    clean = Table().learn(x).columns[0]
    x[0, 0] = wild
    dirty = Table().learn(x).columns[0]
    assert (dirty.center, dirty.scale) == pytest.approx((clean.center, clean.scale), abs=0.05)


def test_polars_numpy_and_sparse_come_back_as_they_came(people):
    frame = pl.from_pandas(people)
    ae = Autoencoder(dim=2, steps=5, random_state=0).fit(frame)
    assert isinstance(ae.sample(3), pl.DataFrame)
    assert ae.sample(3).columns == frame.columns
    x = np.random.default_rng(0).integers(0, 9, (50, 3)).astype(np.int16)
    assert Autoencoder(dim=2, steps=5).fit(x).sample(3).dtype == np.int16
    sparse = scipy.sparse.random(60, 5, 0.5, "csr", random_state=np.random.RandomState(0))
    ae = Autoencoder(dim=2, steps=5, random_state=0).fit(sparse)
    assert np.array_equal(ae.transform(sparse), ae.transform(sparse.toarray()))


def test_an_unseen_level_is_read_as_other_and_counted(people):
    ae = Autoencoder(dim=2, steps=5, random_state=0).fit(people)
    new = people.head(5).copy()
    new.loc[new.index[:2], "plan"] = "platinum"
    with pytest.warns(DataWarning, match=r"'plan' \(2 of 5\)"):
        assert np.isfinite(ae.transform(new)).all()


def test_a_gap_is_not_the_median_in_secret():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(500, 3))
    # A gap in the first column tells of the second, where that one is hidden: a reason for the encoder to look at it.
    x[x[:, 1] > 0.5, 0] = np.nan
    x[:, 1] += 3 * (x[:, 1] > 0.5)
    ae = Autoencoder("ae", dim=2, steps=300, corruption="masking", random_state=0).fit(x)
    gap, median = np.array([[np.nan, 1.0, 1.0]]), np.array([[np.nanmedian(x[:, 0]), 1.0, 1.0]])
    assert not np.allclose(ae.transform(gap), ae.transform(median), atol=1e-3)


def test_a_gap_adds_nothing_to_the_score():
    x = np.random.default_rng(0).normal(size=(200, 3))
    table = Table().learn(x)
    batch = table.to_batch(np.array([[np.nan, 0.5, np.nan]]))
    assert batch.observed.tolist() == [[False, True, False]]
    assert batch.x[0, 0] == batch.x[0, 2] == 0
    one = table.modelled[1]
    assert table.log_volume(batch).item() == pytest.approx(-np.log(one.scale))


def test_columns_of_a_file_are_matched_by_name(people, tmp_path):
    ae = Autoencoder(dim=2, steps=5, random_state=0).fit(people)
    shuffled = people[list(people.columns)[::-1]].assign(extra=1)
    shuffled.to_parquet(tmp_path / "p.parquet")
    people.to_parquet(tmp_path / "q.parquet")
    with pytest.warns(DataWarning, match="'extra'"):
        codes = ae.transform(tmp_path / "p.parquet")
    assert np.array_equal(codes, ae.transform(tmp_path / "q.parquet"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.drop(columns="age"), "Feature names|not there: 'age'"),
        (lambda f: f.assign(age="old"), "column 'age', row 0: 'old' is not a number"),
        (lambda f: f.assign(age=np.inf), "column 'age', row 0: the value is inf"),
        (lambda f: f.assign(joined="yesterday-ish"), "column 'joined'"),
    ],
)
def test_a_new_frame_that_does_not_fit_is_refused_by_column_and_row(people, change, message):
    ae = Autoencoder(dim=2, steps=5, random_state=0).fit(people)
    with pytest.raises(ValueError, match=message):
        ae.transform(change(people))


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (pd.DataFrame({"a": [1.0]}), "1 sample"),
        (pd.DataFrame({"a": [1.0, 1.0], "b": ["x", "x"]}), "no column varies"),
        (pd.DataFrame({"a": [np.nan, np.nan]}), "no column varies"),
        (pd.DataFrame({"a": [1.0, np.inf]}), "column 'a', row 1: the value is inf"),
        (pd.DataFrame([[1, 2], [3, 4]], columns=["a", "a"]), "occur more than once: 'a'"),
        (pd.DataFrame({"a": [[1], [2]]}), "must be a string or a number, not 'list'"),
        (pd.DataFrame({"a": pd.to_timedelta([1, 2], "s")}), "durations"),
        (pd.DataFrame(index=[0, 1]), "no columns|0 feature"),
    ],
)
def test_a_frame_that_cannot_be_learned_is_refused_in_words(frame, message):
    with pytest.raises(ValueError, match=message):
        Autoencoder(steps=2).fit(frame)


def test_a_column_that_is_all_missing_is_left_out_and_comes_back_missing():
    frame = pd.DataFrame({"a": np.arange(60.0), "b": [np.nan] * 60, "c": np.arange(60.0) ** 2})
    ae = Autoencoder(dim=1, steps=5, random_state=0).fit(frame)
    assert ae.sample(4)["b"].isna().all()


def test_one_column_is_enough():
    x = np.random.default_rng(0).normal(size=(60, 1))
    assert Autoencoder(dim=1, steps=5).fit_transform(x).shape == (60, 1)


def test_samples_have_the_columns_types_levels_and_ranges_of_the_table(people):
    new = Autoencoder("vae", dim=3, steps=200, random_state=0).fit(people).sample(500)
    assert new.dtypes.drop("name").equals(people.dtypes.drop("name"))
    for label in ("age", "income", "joined"):
        assert new[label].between(people[label].min(), people[label].max()).all()
    for label in ("plan", "sex", "country"):
        assert set(new[label]) <= set(people[label].dropna())
    assert new["name"].isna().all()


def test_no_warning_is_given_for_a_table_that_fits(people):
    ae = Autoencoder(dim=2, steps=5, random_state=0).fit(people)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert ae.transform(people).shape == (300, 2)
