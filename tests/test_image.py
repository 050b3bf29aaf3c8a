import numpy as np
import pytest
import torch
from PIL import Image as Picture

from latente import Autoencoder, DataWarning
from latente.errors import DataError
from latente.kinds.image import Image
from latente.kinds.pictures import Pictures


def test_pictures_stay_uint8_in_memory(dots):
    batch = Image().learn(dots).to_batch(dots)
    assert batch.x.dtype == torch.uint8
    assert batch.x.shape == (400, 1, 8, 8)


@pytest.mark.parametrize("shape", [(30, 8, 8), (30, 8, 8, 1), (30, 9, 7, 3)])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
def test_pictures_come_back_in_the_form_in_which_they_came(shape, dtype):
    x = np.random.default_rng(0).random(shape)
    x = (x * 255).astype(np.uint8) if dtype == np.uint8 else x.astype(dtype)
    kind = Image().learn(x)
    back = kind.restore(kind.prepare(kind.to_batch(x)).x)
    assert back.shape == x.shape
    assert back.dtype == x.dtype
    # Half a level of 255.
    assert np.abs(back.astype(float) - x).max() <= (0 if dtype == np.uint8 else 0.5 / 255 + 1e-6)


def test_black_and_white_pictures_get_a_bernoulli_and_grey_ones_a_gaussian(dots):
    white = (dots > 100).astype(np.uint8) * 255
    assert Image().learn(white).binary
    assert not Image().learn(dots).binary
    names = [type(Autoencoder(dim=2, steps=2).fit(x).model_.likelihood).__name__ for x in (white, dots)]
    assert names == ["_Bernoulli", "_Gaussian"]


def test_binarisation_is_drawn_anew_for_every_training_batch_and_has_the_grey_values_as_mean():
    x = np.full((50, 8, 8), 64, np.uint8)
    x[0] = 0
    kind = Image(binarize=True).learn(x)
    batch, generator = kind.to_batch(x), torch.Generator().manual_seed(0)
    first, second = kind.prepare(batch, generator).x, kind.prepare(batch, generator).x
    assert set(first.unique().tolist()) == {0.0, 1.0}
    assert not torch.equal(first, second)
    # 49 · 64 draws of probability .25: standard error .008.
    assert first[1:].mean().item() == pytest.approx(64 / 255, abs=0.03)
    assert torch.equal(kind.prepare(batch).x, batch.x / 255)


def test_a_missing_pixel_is_neither_seen_nor_scored(dots):
    seen = np.ones(dots.shape, bool)
    seen[:, 0, 0] = False
    pictures = Pictures(dots[..., None], seen, None, tuple(map(str, range(len(dots)))))
    ae = Autoencoder(dim=2, steps=30, random_state=0).fit(pictures)
    other = Pictures(dots[..., None].copy(), seen, None, pictures.names)
    other.pixels[:, 0, 0] = 255 - other.pixels[:, 0, 0]
    assert np.array_equal(ae.transform(pictures), ae.transform(other))
    assert np.array_equal(ae.score_samples(pictures), ae.score_samples(other))


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.zeros((5, 8, 8), np.uint8), "all 5 pictures are the same"),
        (np.random.default_rng(0).random((5, 8, 8, 3)) * 9, "pixels run from"),
        (np.zeros((5, 8, 8, 2), np.uint8), r"not \(5, 8, 8, 2\)"),
        (np.zeros((1, 8, 8), np.uint8), "1 picture"),
    ],
)
def test_pictures_that_cannot_be_learned_are_refused_in_words(x, message):
    with pytest.raises(DataError, match=message):
        Autoencoder(kind="image", steps=2).fit(x)


def test_pictures_of_another_size_are_refused_with_both_sizes(dots):
    ae = Autoencoder(dim=2, steps=2).fit(dots)
    with pytest.raises(DataError, match=r"9×9 pixels in 1 channel.*8×8 in 1"):
        ae.transform(np.zeros((3, 9, 9), np.uint8))


def test_a_folder_is_brought_to_the_models_size(dots, tmp_path):
    ae = Autoencoder(dim=2, steps=5, random_state=0).fit(dots)
    Picture.fromarray(np.kron(dots[0], np.ones((2, 2), np.uint8))).save(tmp_path / "big.png")
    with pytest.warns(DataWarning):
        assert ae.transform(tmp_path).shape == (1, 2)


def test_a_list_of_pil_pictures_is_taken(dots):
    pictures = [Picture.fromarray(d) for d in dots[:60]]
    a = Autoencoder(dim=2, steps=5, random_state=0).fit(pictures)
    assert np.array_equal(a.transform(pictures), a.transform(dots[:60]))
