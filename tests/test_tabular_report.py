"""Figures on synthetic rows: their definitions on cases that can be counted by hand, and the report around them."""

import json

import numpy as np
import pandas as pd
import pytest

import latente as lt
from latente.errors import ConfigError, DataError
from latente.uses import tabular_metrics as metrics
from latente.uses.tabular_report import TabularReport, own_conditional, report


def rows(n, seed, noise=0.5):
    """n rows of a mixed table with a known structure."""
    rng = np.random.default_rng(seed)
    a = rng.normal(size=n)
    label = np.where(a + noise * rng.normal(size=n) > 0, "yes", "no")
    frame = pd.DataFrame(
        {"a": a, "b": a + 0.3 * rng.normal(size=n), "label": label, "kind": rng.choice(list("xyz"), n)}
    )
    frame["code"] = frame["kind"].map({"x": 1, "y": 2, "z": 3})
    frame.loc[rng.random(n) < 0.1, "b"] = np.nan
    return frame


def test_levels_and_gaps_are_coded_alike_in_every_frame():
    a = pd.DataFrame({"k": ["p", "q", "p", None], "n": [1.0, np.nan, 3.0, 4.0]})
    b = pd.DataFrame({"k": ["q", "new", None], "n": [7.0, 8.0, np.nan]})
    found = metrics.coded(a, b)
    assert found.levels.tolist() == [True, False]
    assert np.array_equal(found.frames[0][:, 0], [0, 1, 0, np.nan], equal_nan=True)
    assert np.array_equal(found.frames[1][:, 0], [1, 2, np.nan], equal_nan=True)


def test_a_columns_shape_is_one_minus_the_largest_distance():
    real = np.array([[1.0, 0], [2.0, 0], [3.0, 1], [4.0, 1]])
    made = np.array([[1.0, 0], [1.0, 0], [1.0, 0], [4.0, 2]])
    levels = np.array([False, True])
    # Numbers: at 1 the real rows have 1/4 behind them, the others 3/4. Levels: 1/2, 1/2, 0 against 3/4, 0, 1/4.
    assert metrics.shapes(real, made, levels) == pytest.approx([0.5, 0.5])


def test_pairs_count_only_where_the_real_columns_hang_together():
    real = metrics.coded(rows(4000, 0), rows(4000, 1)).frames
    levels = metrics.coded(rows(10, 0)).levels
    found = metrics.pairs(*real, levels)
    assert set(found) == {(0, 1), (0, 2), (1, 2), (3, 4)}
    assert min(found.values()) > 0.95
    mixed = np.stack([c[np.random.default_rng(j).permutation(4000)] for j, c in enumerate(real[1].T)], 1)
    # A third of the mass of kind × code is where it should be when the columns are shuffled.
    assert metrics.pairs(real[0], mixed, levels)[3, 4] == pytest.approx(1 / 3, abs=0.03)


def test_trees_do_not_tell_rows_of_one_kind_apart_and_tell_shuffled_ones():
    real, other = metrics.coded(rows(2000, 0), rows(2000, 1)).frames
    levels = metrics.coded(rows(10, 0)).levels
    assert metrics.two_sample(real, other, levels) == pytest.approx(0.5, abs=0.04)
    mixed = np.stack([c[np.random.default_rng(j).permutation(2000)] for j, c in enumerate(other.T)], 1)
    assert metrics.two_sample(real, mixed, levels) > 0.9


def test_what_is_trained_on_rows_without_the_structure_predicts_nothing():
    real, other = metrics.coded(rows(2000, 0), rows(2000, 1)).frames
    levels = metrics.coded(rows(10, 0)).levels
    good = metrics.trained_on(real, other, levels, 2)
    mixed = np.stack([c[np.random.default_rng(j).permutation(2000)] for j, c in enumerate(real.T)], 1)
    bad = metrics.trained_on(mixed, other, levels, 2)
    assert good["linear"] > 0.9
    assert good["boosting"] > 0.85
    assert abs(bad["boosting"] - 0.5) < 0.1
    assert metrics.trained_on(real, other, levels, 0)["linear"] > 0.85  # R² of a number
    assert np.isnan(metrics.trained_on(real[real[:, 2] == 0], other, levels, 2)["linear"])


def test_rules_are_found_and_broken_rows_counted():
    real = metrics.coded(rows(2000, 0)).frames[0]
    found = list(metrics.rules(real))
    assert {(i, j) for i, j, _ in found} == {(3, 4), (4, 3)}
    made = real[:100].copy()
    assert metrics.broken(made, found) == 0
    made[:7, 4] = 1 + (made[:7, 4] % 3)
    assert metrics.broken(made, found) == pytest.approx(0.07)


def test_levels_and_ranges_that_are_left_are_counted():
    real = np.array([[0.0, 5.0]] * 30 + [[1.0, 6.0]] * 12 + [[2.0, 7.0]] * 3)
    levels = np.array([True, False])
    assert metrics.levels_missing(real, np.array([[0.0, 5.0]]), levels) == (1, 2)  # the third has but three rows
    assert metrics.out_of_range(real, np.array([[0.0, 8.0], [3.0, 5.0]]), levels) == pytest.approx(0.5)


def test_distances_find_copies_and_leave_new_rows_even():
    training, held, new = (rows(1500, s).drop(columns="code") for s in (0, 1, 2))
    found = metrics.coded(training, held, new, training.head(300))
    space = metrics.Space(found.frames[0], found.levels)
    points = [space(f) for f in found.frames]
    assert metrics.closer(points[2], points[0], points[1]) == pytest.approx(0.5, abs=0.05)  # 4 standard errors
    assert metrics.closer(points[3], points[0], points[1]) > 0.99
    assert (metrics.nearest(points[3], points[0]) == 0).all()
    assert metrics.copies(training.head(300), training) == 1
    assert metrics.copies(new, training) == 0
    gone = training.head(10).assign(**dict.fromkeys(training.columns[1:], None))
    assert metrics.copies(gone, gone) == 0


def test_a_report_has_a_floor_and_a_ceiling_and_is_kept_as_json(tmp_path):
    found = report(rows(1500, 0), rows(1500, 2), rows(1500, 1), target="label")
    assert isinstance(found, TabularReport)
    for name in ("pair_trends", "tstr_boosting", "tstr_linear"):
        figure = found.figures[name]
        assert figure.floor < figure.value
        assert figure.value == pytest.approx(figure.ceiling, abs=0.06)  # fresh rows of the same kind
    assert found.figures["pairs_broken"].value == 0 < found.figures["pairs_broken"].floor
    text = str(found)
    assert "floor" in text
    assert "kind → code" in text
    found.save(tmp_path / "r.json")
    kept = json.loads((tmp_path / "r.json").read_text())
    assert kept["figures"]["two_sample"]["value"] == found.figures["two_sample"].value
    assert set(kept["columns"]) == {"a", "b", "label", "kind", "code"}


def test_few_rows_are_said_to_be_few():
    assert "few" in str(report(rows(100, 0), rows(100, 1), rows(100, 2)))
    with pytest.raises(DataError, match="too few"):
        report(rows(100, 0), rows(10, 1), rows(100, 2))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"target": "lable"}, ConfigError, "no column 'lable'"),
        ({"synthetic": rows(100, 1).drop(columns="kind")}, DataError, "synthetic rows have no column 'kind'"),
    ],
)
def test_what_cannot_be_compared_is_refused(change, error, message):
    asked = {"training": rows(100, 0), "synthetic": rows(100, 1), "held_out": rows(100, 2)} | change
    with pytest.raises(error, match=message):
        lt.tabular_report(asked.pop("training"), asked.pop("synthetic"), asked.pop("held_out"), **asked)


@pytest.mark.slow
def test_a_model_is_reported_with_its_code_and_its_own_conditional_beside(tmp_path):
    train, test = rows(1500, 0), rows(600, 1)
    ae = lt.Autoencoder("tabular", steps=400, random_state=0).fit(train)
    found = lt.evaluate(ae, test, synthetic=True, training=train, target="label")
    assert found.figures["pair_trends"].value > found.figures["pair_trends"].floor + 0.1
    assert found.figures["pairs_broken"].value == 0
    assert found.figures["tstr_linear"].code is not None
    assert found.figures["own_conditional"].value > 0.85
    assert own_conditional(ae, test, "a") > 0.7  # R² of a given b and the label
    with pytest.raises(ConfigError, match="--training"):
        lt.evaluate(ae, test, synthetic=True)
    with pytest.raises(ConfigError, match="add --synthetic"):
        lt.evaluate(ae, test, target="label")


def test_a_model_without_a_chain_is_reported_too():
    train, test = rows(400, 0), rows(200, 1)
    ae = lt.Autoencoder("vae", dim=2, steps=60, random_state=0).fit(train)
    found = lt.evaluate(ae, test, synthetic=True, training=train)
    assert found.figures["column_shapes"].code is None
    assert "by code" not in str(found)


def test_the_imputer_is_a_step_of_a_pipeline():
    from sklearn.base import clone
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    rng = np.random.default_rng(0)
    x = rng.normal(size=(600, 1)) @ np.ones((1, 4)) + 0.1 * rng.normal(size=(600, 4))
    y = x.mean(1) > 0
    holes = np.where(rng.random(x.shape) < 0.2, np.nan, x)
    imputer = clone(lt.Imputer(settings={"train.steps": 300}, random_state=0))
    full = imputer.fit(holes).transform(holes)
    there = ~np.isnan(holes)
    assert np.array_equal(full[there], holes[there])
    error = np.sqrt(np.mean((full[~there] - x[~there]) ** 2))
    assert error < 0.5  # the mean is off by 1, the other columns tell it to within .1
    made = make_pipeline(lt.Imputer(settings={"train.steps": 100}, draws=1, random_state=0), LogisticRegression())
    assert made.fit(holes, y).score(holes, y) > 0.9
    with pytest.raises(ConfigError, match="draws must be 0 or 1"):
        lt.Imputer(draws=5).fit(holes)
