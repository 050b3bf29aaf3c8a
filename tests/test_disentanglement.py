"""Pictures of known factors, and scores of codes whose truth is known."""

import numpy as np
import pytest

from latente.errors import ConfigError, DataError
from latente.uses.disentanglement import dci, mig, scores
from latente.uses.factors import LARGEST, NAMES, SIZES, SMALLEST, draw, make


@pytest.fixture(scope="module")
def data():
    return make(10_000, 0)


def centres(data):
    """Centres of mass in pixels, x and y, and the sum of each picture."""
    p = data.pictures / 255.0
    mass, at = p.sum((1, 2)), np.arange(32) + 0.5
    return (p.sum(1) @ at) / mass, (p.sum(2) @ at) / mass, mass


def test_a_picture_is_its_factors_and_a_seed_is_its_pictures(data):
    assert data.names == NAMES
    assert data.pictures.shape == (10_000, 32, 32)
    assert data.pictures.dtype == np.uint8
    assert np.array_equal(draw(data.factors[:50]), data.pictures[:50])
    assert np.array_equal(make(50, 3).pictures, make(50, 3).pictures)
    assert not np.array_equal(make(50, 3).factors, make(50, 4).factors)


def test_every_level_of_a_factor_is_drawn_equally_often(data):
    for levels, size in zip(data.factors.T, SIZES, strict=True):
        counts = np.bincount(levels, minlength=size)
        # Five standard deviations of a count.
        assert np.abs(counts - 10_000 / size).max() < 5 * np.sqrt(10_000 / size)


def test_scale_is_the_area_and_place_the_centre_of_mass_for_every_shape_and_turn(data):
    x, y, mass = centres(data)
    side = SMALLEST + (LARGEST - SMALLEST) * data.factors[:, 1] / 5
    # At a corner anti-aliasing sees two edges as one: in small wedges that is worth some 4 % of the area.
    assert np.abs(mass / side**2 - 1).max() < 0.05
    assert np.abs(x - (9.5 + 13 * data.factors[:, 3] / 15)).max() < 0.2
    assert np.abs(y - (9.5 + 13 * data.factors[:, 4] / 15)).max() < 0.2


@pytest.mark.parametrize("axis", [3, 4])
def test_no_shape_is_cut_off_at_the_border(axis):
    first = np.array([[shape, 5, turn, 8, 8] for shape in range(3) for turn in range(20)])
    first[:, axis] = 0
    last = first.copy()
    last[:, axis] = 15
    # The outermost places are 13 whole pixels apart; a grey value can be rounded the other way.
    moved = np.roll(draw(first).astype(int), 13, axis=5 - axis)
    assert np.abs(moved - draw(last)).max() <= 1


def test_all_turns_of_all_shapes_differ_even_at_the_smallest_scale():
    grid = np.array([[shape, 0, turn, 8, 8] for shape in range(3) for turn in range(20)])
    flat = draw(grid).reshape(60, -1) / 255.0
    apart = np.abs(flat[:, None] - flat[None]).sum(-1) + 1e9 * np.eye(60)
    assert apart.min() > 0.5  # pixels of full white, of 25 that are white


def test_factors_that_there_are_not_are_refused():
    with pytest.raises(ConfigError, match="factors are rows"):
        draw(np.array([[3, 0, 0, 0, 0]]))
    with pytest.raises(ConfigError, match="n must be"):
        make(0)


def test_codes_that_are_the_factors_score_one(data):
    codes = -3.0 * data.factors + 7.0  # neither sign nor unit matters
    found = scores(codes, data.factors, data.names)
    # I − second is short of H by the bias of the second code, at most 19 · 19 / 20,000 nats of 3.
    assert found["mig"] == pytest.approx(1, abs=0.01)
    assert found["disentanglement"] == pytest.approx(1, abs=1e-6)
    assert found["completeness"] == pytest.approx(1, abs=1e-6)
    assert found["informativeness"] == pytest.approx(1, abs=1e-6)


def test_a_factor_told_twice_has_no_gap_and_is_not_complete_but_its_codes_are_disentangled(data):
    v = data.factors[:, 1:].astype(float)
    noise = np.random.default_rng(0).normal(size=(10_000, 2))
    twice = np.column_stack([v, v[:, 0] + 0.8 * noise[:, 0], v[:, 1:]])
    assert mig(np.column_stack([v, v]), data.factors[:, 1:]).score == pytest.approx(0, abs=1e-9)
    found = mig(twice[:, [0, 4]], data.factors[:, 1:2])
    # The second code knows something of the scale, so the gap is less than one and more than nothing.
    assert 0.2 < found.gaps[0] < 0.8


def test_mixed_codes_know_as_much_and_score_far_less(data):
    v = (data.factors - data.factors.mean(0)) / data.factors.std(0)
    q, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(5, 5)))
    found = scores((v @ q)[:5000], data.factors[:5000])
    assert found["mig"] < 0.4
    assert found["disentanglement"] < 0.4
    assert found["completeness"] < 0.4
    assert found["informativeness"] > 0.5  # it is all there: only the trees' axes are not the factors'


def test_noise_scores_nothing(data):
    codes = np.random.default_rng(0).normal(size=(3_000, 6))
    found = scores(codes, data.factors[:3_000])
    # Informations are all bias, 19 · 19 / 6,000 = 0.06 nats at most, and their gap a fraction of it; importances of 6
    # codes are equal but for noise of a few per cent.
    for name in ("mig", "disentanglement", "completeness", "informativeness"):
        assert abs(found[name]) < 0.03


def test_the_gap_of_a_binary_factor_seen_through_a_noisy_channel_is_its_capacity():
    rng = np.random.default_rng(0)
    v = rng.integers(2, size=200_000)
    flipped = np.where(rng.random(200_000) < 0.1, 1 - v, v)
    entropy = -(0.1 * np.log(0.1) + 0.9 * np.log(0.9))
    found = mig(np.column_stack([flipped, rng.normal(size=200_000)]), v[:, None])
    # Five standard errors of the flip rate 0.1 ± 0.0007, times the derivative log 9 / log 2.
    assert found.score == pytest.approx(1 - entropy / np.log(2), abs=0.012)


def test_half_of_the_codes_for_all_of_two_factors_gives_halves():
    # One code tells both of two equal factors, so it is not disentangled; each factor is in one code, so complete.
    rng = np.random.default_rng(0)
    v = rng.integers(4, size=(4_000, 2))
    found = dci((4 * v[:, 0] + v[:, 1])[:, None].astype(float), v)
    assert found.disentanglement == pytest.approx(0, abs=1e-6)
    assert found.informativeness == pytest.approx(1, abs=1e-6)
    spread = dci(np.column_stack([v, v])[:, [0, 0, 1, 1]] + 0.1 * rng.normal(size=(4_000, 4)), v)
    assert spread.disentanglement > 0.95  # each code tells one factor
    assert spread.completeness < 0.8  # and two of the four codes each factor: at equal shares 1 − log 2 / log 4 = ½


def test_what_cannot_be_scored_is_refused():
    with pytest.raises(DataError, match="one level only"):
        mig(np.zeros((5, 2)), np.zeros((5, 1)))
    with pytest.raises(DataError, match="not finite"):
        mig(np.full((5, 2), np.nan), np.arange(5)[:, None])
    with pytest.raises(DataError, match="are needed"):
        dci(np.zeros((5, 2)), np.zeros((4, 1)))
