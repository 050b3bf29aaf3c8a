"""The map of codes: exact neighbours, the loss's gradient, that neighbours stay, and the file."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.manifold import trustworthiness
from sklearn.neighbors import NearestNeighbors

import latente as lt
from latente.errors import DataError
from latente.uses.learned.map import Map, _Apart, learned_on, neighbours, weights


@pytest.mark.parametrize(("n", "k"), [(500, 15), (70, 15), (6, 5), (1500, 3)])
def test_neighbours_are_the_exact_ones(n, k):
    x = np.random.default_rng(n).normal(size=(n, 7)).astype(np.float32)
    found, distances = neighbours(torch.from_numpy(x), k)
    wanted, index = NearestNeighbors(n_neighbors=k + 1).fit(x).kneighbors(x)
    assert np.array_equal(found.numpy(), index[:, 1:])
    # Distances from a difference of squares, in float32.
    assert np.allclose(distances.numpy(), wanted[:, 1:], atol=1e-3)


def test_rows_that_are_there_twice_are_each_others_neighbours():
    x = torch.zeros(40, 3)
    found, distances = neighbours(x, 5)
    assert (distances == 0).all()
    assert all(i not in row for i, row in enumerate(found.tolist()))
    assert torch.isfinite(weights(distances)).all()


def test_weights_of_a_row_sum_to_the_logarithm_of_their_number():
    x = torch.from_numpy(np.random.default_rng(0).normal(size=(300, 4)).astype(np.float32))
    assert torch.allclose(weights(neighbours(x, 15)[1]).sum(1), torch.tensor(np.log2(15)).float(), atol=0.05)


def test_the_closed_gradient_of_what_keeps_points_apart_is_autograds():
    z = torch.randn(12, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(_Apart.apply, (z,))


@pytest.fixture(scope="module")
def mapped():
    x = (load_digits().images / 16).astype(np.float32)
    return lt.Autoencoder("map", kind="image", random_state=0).fit(x[:1200]), x


def test_neighbours_among_digits_stay_neighbours_for_fitted_rows_and_new_ones(mapped):
    ae, x = mapped
    for rows, least in ((x[:1200], 0.96), (x[1200:], 0.93)):
        place = ae.use_.place(ae.transform(rows))
        # PCA has .83 in two dimensions.
        assert trustworthiness(rows.reshape(len(rows), -1), place, n_neighbors=10) > least


def test_a_point_of_the_map_is_a_picture_again(mapped):
    ae, x = mapped
    new = x[1200:]
    back = ae.decode(ae.use_.back(ae.use_.place(ae.transform(new))))
    error = np.square(back - new).sum() / np.square(new - x[:1200].mean(0)).sum()
    assert error < 0.55  # of two principal components .72


def test_new_rows_land_on_the_same_map_after_a_file(mapped, tmp_path):
    ae, x = mapped
    ae.save(tmp_path / "m.safetensors")
    again = lt.load(tmp_path / "m.safetensors")
    assert np.array_equal(again.use_.place(again.transform(x)), ae.use_.place(ae.transform(x)))
    assert again._bytes() == ae._bytes()


def test_a_map_is_learned_for_a_model_that_has_none():
    x = np.random.default_rng(0).normal(size=(200, 6)).astype(np.float32)
    ae = lt.Autoencoder("vae", dim=4, epochs=5, random_state=0).fit(x)
    found = [learned_on(ae, x, 3, 0) for _ in range(2)]
    places = [m.place(ae.transform(x)) for m in found]
    assert places[0].shape == (200, 3)
    assert np.array_equal(*places)


def test_a_handful_of_rows_has_no_map():
    with pytest.raises(DataError, match="no neighbourhoods"):
        Map().drawn(np.zeros((3, 2), np.float32), 0)
    assert Map(steps=5).drawn(np.zeros((7, 2), np.float32), 0).place(np.zeros((2, 2), np.float32)).shape == (2, 2)
