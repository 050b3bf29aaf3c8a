"""Samples compared with data: closed forms, ceilings and floors."""

import numpy as np
import pytest

from latente import Autoencoder
from latente.errors import ConfigError, DataError
from latente.uses.factors import make
from latente.uses.fidelity import compare, frechet, of_samples, precision_recall, space, two_sample


def exactly(n, mean, covariance, seed=0):
    """n rows whose own mean and covariance are exactly these."""
    x = np.random.default_rng(seed).normal(size=(n, len(mean)))
    x -= x.mean(0)
    x = x @ np.linalg.inv(np.linalg.cholesky(np.cov(x, rowvar=False))).T
    return x @ np.linalg.cholesky(covariance).T + mean


def test_frechet_distance_of_gaussians_is_the_closed_form():
    a, b = np.diag([1.0, 4.0, 9.0]), np.diag([4.0, 1.0, 9.0])
    x, y = exactly(500, np.zeros(3), a), exactly(400, np.array([1.0, 2.0, 2.0]), b, 1)
    # |m|² = 9 and, of commuting covariances, Σ (σ_a − σ_b)² = 1 + 1 + 0.
    assert frechet(x, y) == pytest.approx(11, abs=1e-8)
    turn, _ = np.linalg.qr(np.random.default_rng(2).normal(size=(3, 3)))
    assert frechet(x @ turn, y @ turn) == pytest.approx(11, abs=1e-8)
    assert frechet(y, x) == pytest.approx(11, abs=1e-8)
    assert frechet(x, x) == pytest.approx(0, abs=1e-8)


def test_frechet_distance_of_covariances_that_do_not_commute_is_that_of_the_matrix_root():
    from scipy.linalg import sqrtm

    rng = np.random.default_rng(0)
    m, n = (r @ r.T + 0.1 * np.eye(4) for r in rng.normal(size=(2, 4, 4)))
    root = sqrtm(m @ n).real
    expected = np.trace(m) + np.trace(n) - 2 * np.trace(root)
    found = frechet(exactly(300, np.zeros(4), m), exactly(300, np.zeros(4), n, 1))
    assert found == pytest.approx(expected, abs=1e-6)


def test_frechet_distance_of_singular_covariances_is_finite():
    line = np.linspace(-1, 1, 50)[:, None] * np.ones(3)
    # Both lie on one line with variances v and 4 v: the distance is (2 − 1)² v.
    assert frechet(line, 2 * line) == pytest.approx(np.var(line, axis=0, ddof=1).sum(), rel=1e-6)


def test_precision_and_recall_are_shares_of_rows_in_balls():
    grid = np.arange(10.0)[:, None]
    near = np.array([[0.4], [4.4], [100.0], [101.0]])
    # Balls of a grid reach to the nearest neighbour, 1 away; those of the others 4, 4, 1 and 1.
    assert precision_recall(grid, near, k=1) == (0.5, 0.9)
    assert precision_recall(near, grid, k=1) == (0.9, 0.5)


def test_a_mode_that_was_dropped_costs_recall_and_one_that_was_invented_precision():
    rng = np.random.default_rng(0)
    one, two = rng.normal(size=(600, 2)), rng.normal([20, 0], size=(600, 2))
    both = np.concatenate([one[:300], two[:300]])
    # Two-dimensional samples of one distribution are nearly always in each other's balls of three neighbours.
    precision, recall = precision_recall(both, one[300:])
    assert precision > 0.9
    assert 0.4 < recall < 0.55
    precision, recall = precision_recall(one[300:], both)
    assert 0.4 < precision < 0.55
    assert recall > 0.9


def test_the_classifier_tells_a_shift_as_the_closed_form_says_and_nothing_from_nothing():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 2000, 3))
    # Standard error of an AUROC of equal samples: √(1 / 6n) = 0.009.
    assert two_sample(x, y) == pytest.approx(0.5, abs=0.03)
    # The best possible AUROC of N(0, 1) against N(1, 1) is Φ(1 / √2) = 0.760; trees of 4,000 rows lose a little.
    assert 0.70 < two_sample(x, y + np.eye(3)[0]) < 0.785
    # Equal margins, unequal dependence.
    assert two_sample(x, np.column_stack([y[:, 0], y[:, 0], y[:, 2]])) > 0.9


def test_a_mean_row_is_one_away_and_whole_data_nothing():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(1000, 5)) * [100, 10, 1, 1, 1]
    where = space(x)
    assert "5 principal components" in where.text
    assert where(x).var(0).sum() == pytest.approx(1)
    # The covariance divides by n − 1 and the variance by n.
    assert frechet(where(x), where(np.repeat(x.mean(0)[None], 50, 0))) == pytest.approx(1, rel=2e-3)


def test_labels_make_a_space_in_which_classes_lie_apart():
    rng = np.random.default_rng(0)
    labels = rng.integers(3, size=900)
    x = 10 * rng.normal(size=(900, 20))  # loud, and of no meaning
    x[:, :3] = 3 * np.eye(3)[labels] + 0.3 * rng.normal(size=(900, 3))

    def between(z):
        means = np.stack([z[labels == k].mean(0) for k in range(3)])
        return means.var(0).sum() / z.var(0).sum()

    plain, learned = space(x), space(x, labels)
    assert "classifier" in learned.text
    assert learned(x).shape == (900, 64)
    assert between(learned(x)) > 3 * between(plain(x))


def test_held_out_rows_are_the_ceiling_and_shuffled_columns_the_floor():
    rng = np.random.default_rng(0)
    mix = rng.normal(size=(6, 6))
    real, new, held_out = (rng.normal(size=(1500, 6)) @ mix for _ in range(3))
    good = compare(real, new, held_out)
    assert good["compared_rows"] == 1500
    for name, noise in (("frechet", 0.01), ("precision", 0.05), ("recall", 0.05), ("two_sample", 0.05)):
        assert good[name] == pytest.approx(good[f"{name}_ceiling"], abs=noise)
    assert good["frechet_floor"] > 10 * good["frechet_ceiling"]
    assert good["two_sample_floor"] > 0.75
    bad = compare(real, 0.3 * new, held_out)
    assert bad["recall"] < 0.7 * good["recall"]
    assert bad["two_sample"] > 0.7
    # Without held-out rows half of the real ones are.
    assert compare(real, new)["compared_rows"] == 750


def test_comparison_is_repeatable_and_too_few_rows_are_refused():
    rows = np.random.default_rng(0).normal(size=(200, 3))
    assert compare(rows, rows[::-1]) == compare(rows, rows[::-1])
    with pytest.raises(DataError, match="rows of each sort"):
        compare(rows, rows[:5])
    with pytest.raises(DataError, match="finite"):
        compare(np.full((50, 2), np.nan), rows[:, :2])


def test_samples_of_a_table_with_gaps_and_levels_are_compared_cell_by_cell(people):
    holes = people.mask(np.random.default_rng(0).random(people.shape) < 0.2)
    ae = Autoencoder("vae", dim=3, steps=100, random_state=0).fit(holes)
    found = of_samples(ae, holes, limit=150)
    assert found["compared_rows"] == 150
    # Rows of the data against rows of the data: five standard errors of an AUROC of 150 against 150.
    assert found["two_sample_ceiling"] == pytest.approx(0.5, abs=0.17)
    assert found["frechet_ceiling"] < found["frechet_floor"]
    assert found == of_samples(ae, holes, limit=150)
    with pytest.raises(DataError, match="too few"):
        of_samples(ae, people.iloc[:12])
    with pytest.raises(ConfigError, match="10 or more"):
        of_samples(ae, people, limit=3)


def test_samples_of_pictures_are_compared_in_components():
    pictures = make(1200, 0).pictures[:, ::2, ::2]
    ae = Autoencoder("vae", kind="image", nets="mlp", dim=4, steps=100, random_state=0).fit(pictures[:600])
    found = of_samples(ae, pictures[600:])
    assert found["compared_rows"] == 300
    assert found["space"].startswith("64 principal components")
    # A model of four dimensions after a hundred steps is told apart at once.
    assert found["two_sample"] > 0.9
    assert found["two_sample_ceiling"] < 0.62


def test_evaluate_compares_samples_when_asked_from_python_and_the_command_line(tmp_path):
    import json

    import pandas as pd
    from typer.testing import CliRunner

    import latente as lt
    from latente.cli import app

    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(300, 2)) @ rng.normal(size=(2, 5)), columns=list("abcde"))
    ae = Autoencoder("vae", dim=2, steps=100, random_state=0).fit(frame)
    assert "fidelity" not in lt.evaluate(ae, frame, samples=2)
    found = lt.evaluate(ae, frame, samples=2, fidelity=True)["fidelity"]
    assert found == of_samples(ae, frame, seed=0)
    ae.save(tmp_path / "m.safetensors")
    frame.to_csv(tmp_path / "x.csv", index=False)
    files = [str(tmp_path / name) for name in ("m.safetensors", "x.csv")]
    told = CliRunner().invoke(app, ["evaluate", *files, "--samples", "2", "--fidelity", "--json"])
    assert told.exit_code == 0, told.output
    # Decimal digits of the csv are those of the frame.
    assert json.loads(told.stdout)["fidelity"]["frechet"] == pytest.approx(found["frechet"], rel=1e-6)


def test_black_and_white_pictures_are_compared_with_black_and_white_samples():
    from latente.kinds.image import Image

    rng = np.random.default_rng(0)
    white = ((rng.random((400, 1, 1)) * rng.random((400, 8, 8))) < 0.3).astype(np.uint8) * 255
    ae = Autoencoder("vae", dim=4, kind=Image(binarize=True), steps=300, random_state=0).fit(white[:300])
    # Expected pixels are told from drawn ones by their spread alone: an AUROC of 1. Drawn ones are not.
    assert of_samples(ae, white, seed=0)["two_sample"] < 0.8
