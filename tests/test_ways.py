"""Ways through a latent space: traversals, and the album's pictures of them."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image as Picture

import latente as lt
from latente.errors import ConfigError
from latente.uses.pictures import album
from latente.uses.ways import path, walk


@pytest.fixture(scope="module")
def table(people):
    return lt.Autoencoder("vae", dim=3, steps=200, random_state=0).fit(people)


@pytest.fixture(scope="module")
def blobs(dots):
    return lt.Autoencoder("vae", dim=3, nets={"part": "mlp", "widths": [64]}, steps=400, random_state=0).fit(dots)


def test_a_traversal_of_a_table_says_dimension_and_value_beside_the_decoded_row(table, people):
    found = lt.traverse(table, people.iloc[4], steps=5)
    assert list(found.columns) == ["dim", "value", *people.columns]
    assert len(found) == 3 * 5
    assert sorted(found["dim"].unique()) == ["z0", "z1", "z2"]
    assert found["value"].iloc[:5].tolist() == [-3.0, -1.5, 0.0, 1.5, 3.0]
    code = table.transform(people.iloc[[4]])[0]
    for dim, rows in found.groupby("dim"):
        codes = np.tile(code, (5, 1))
        codes[:, int(dim[1:])] = rows["value"]
        pd.testing.assert_frame_equal(rows[list(people.columns)].reset_index(drop=True), lt.decode(table, codes))


def test_a_traversal_without_a_row_goes_through_the_middle_of_the_prior(table):
    found = lt.traverse(table, steps=3, dims=2)
    assert len(found) == 2 * 3
    middle = lt.decode(table, np.zeros((1, 3)))
    for i in (1, 4):
        pd.testing.assert_frame_equal(found.iloc[[i], 2:].reset_index(drop=True), middle)


def test_the_dimension_that_changes_the_row_most_comes_first(blobs):
    way = walk(blobs, None, 3)
    spread = [np.var(lt.decode(blobs, c).astype(float), axis=0).sum() for c in way.codes(5)]
    assert spread == sorted(spread, reverse=True)
    assert walk(blobs, None, 2).order.tolist() == way.order[:2].tolist()


def test_without_a_standard_prior_a_dimension_goes_where_the_priors_draws_are(dots):
    ae = lt.Autoencoder("ae", dim=2, nets={"part": "mlp", "widths": [16]}, steps=30, random_state=0).fit(dots)
    way = walk(ae, None, 2)
    codes = ae.transform(dots)[:, way.order]
    # The prior is fitted to the codes: its 98 % are about theirs, up to a fifth of their spread.
    slack = 0.2 * (codes.max(0) - codes.min(0))
    assert (np.abs(way.low - np.percentile(codes, 1, axis=0)) < slack).all()
    assert (np.abs(way.high - np.percentile(codes, 99, axis=0)) < slack).all()


def test_columns_that_are_called_dim_and_value_stay(tmp_path):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(60, 3)), columns=["dim", "value", "x"])
    found = lt.traverse(lt.Autoencoder(dim=1, steps=5, random_state=0).fit(frame), steps=2)
    assert list(found.columns) == ["latent_dim", "latent_value", "dim", "value", "x"]


def test_a_traversal_of_an_array_names_its_columns():
    x = np.random.default_rng(0).normal(size=(60, 3))
    found = lt.traverse(lt.Autoencoder(dim=1, steps=5, random_state=0).fit(x), x[3], steps=4)
    assert list(found.columns) == ["dim", "value", "c0", "c1", "c2"]
    assert len(found) == 4


def test_a_traversal_of_pictures_is_a_sheet_and_an_animation(blobs, dots, tmp_path):
    from latente.verbs.traverse import save

    found = lt.traverse(blobs, dots[3], steps=5)
    assert found.shape == (15, 8, 8)
    written = save(found, tmp_path / "walk.png", blobs, dots[3], steps=5, dims=16)
    assert [p.name for p in written] == ["walk.png", "walk.gif"]
    with Picture.open(tmp_path / "walk.png") as sheet:
        # Three rows of five pictures of 48 pixels, two between, and the dimensions' names on the left.
        assert sheet.height == 3 * 50 - 2
        assert 5 * 50 - 2 < sheet.width < 5 * 50 + 60
        pixels = np.asarray(sheet)
    np.testing.assert_array_equal(pixels[:48:6, -48::6], found[4])
    np.testing.assert_array_equal(pixels[100::6, -48::6], found[14])
    assert pixels[:, : -(5 * 50 - 2)].min() < 100, "no name is written"
    with Picture.open(tmp_path / "walk.gif") as film:
        assert film.n_frames == 2 * 24  # there and back
        assert film.size == (5 * 98, 5 * 98)  # two by two of 48 pixels, two between, five times as large


@pytest.mark.parametrize(("options", "message"), [({"steps": 1}, "steps must be 2"), ({"dims": 0}, "dims must be 1")])
def test_a_traversal_of_nothing_is_refused(table, options, message):
    with pytest.raises(ConfigError, match=message):
        lt.traverse(table, **options)


@pytest.mark.parametrize("n", [7, 23, 60])
def test_the_album_has_each_picture_above_its_reconstruction(blobs, dots, tmp_path, n):
    album(blobs, dots[:n], tmp_path)
    names = {"reconstructions.png", "samples.png", "interpolation.png", "interpolation.gif", "traversal.png"}
    assert {p.name for p in tmp_path.iterdir()} == names
    with Picture.open(tmp_path / "reconstructions.png") as sheet:
        pixels = np.asarray(sheet)
    rows = 2 * min(5, max(1, n // 10))
    assert pixels.shape == (rows * 50 - 2, min(10, n) * 50 - 2)
    np.testing.assert_array_equal(pixels[:48:6, :48:6], dots[0])
    np.testing.assert_array_equal(pixels[50:98:6, :48:6], lt.reconstruct(blobs, dots[:1])[0])


def test_the_ways_of_the_album_end_at_reconstructions(blobs, dots, tmp_path):
    album(blobs, dots, tmp_path)
    with Picture.open(tmp_path / "interpolation.png") as sheet:
        pixels = np.asarray(sheet)
    assert pixels.shape == (5 * 50 - 2, 10 * 50 - 2)
    np.testing.assert_array_equal(pixels[:48:6, :48:6], lt.reconstruct(blobs, dots[:1])[0])


def test_a_way_between_equal_codes_stays_there():
    a = np.array([1.0, -2.0])
    assert np.allclose(path(a, a, 4), a)
