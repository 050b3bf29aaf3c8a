"""The mixture of discretised logistics, by summing over every picture there is."""

import itertools

import numpy as np
import pytest
import torch

from latente import Autoencoder
from latente.kinds.image import Image
from latente.kinds.pictures import Pictures
from latente.model.dists.discretised_logistic import DiscretisedLogistic, log_mass
from latente.model.dists.logistic_mixture import LogisticMixture


def one_pixel(channels, levels, components=4, seed=0, spread=1.0):
    """The distribution of single pixels under random parameters, 30 of them."""
    likelihood = LogisticMixture(components, levels).build((channels, 1, 1))
    generator = torch.Generator().manual_seed(seed)
    return likelihood(spread * torch.randn(30, *likelihood.out_shape, generator=generator, dtype=torch.float64))


def every_pixel(channels, levels):
    """Each value that a pixel can have. [levels ** channels, channels, 1, 1]"""
    steps = torch.arange(levels, dtype=torch.float64) / (levels - 1)
    return torch.stack([torch.stack(v) for v in itertools.product(steps, repeat=channels)])[..., None, None]


def probabilities(px, values):
    """P of each value under each of 30 pixels. [30, values]"""
    return torch.stack([px.cells(v.expand(30, *v.shape)).sum((-3, -2, -1)) for v in values], 1).exp()


@pytest.mark.parametrize(("channels", "levels"), [(1, 256), (1, 2), (3, 2), (3, 3), (3, 6), (2, 5)])
@pytest.mark.parametrize("spread", [1.0, 5.0])
def test_probabilities_of_all_pixels_sum_to_one(channels, levels, spread):
    total = probabilities(one_pixel(channels, levels, spread=spread), every_pixel(channels, levels)).sum(1)
    assert total.numpy() == pytest.approx(1.0, abs=1e-9)  # float64, at most 256 terms


def test_a_cell_is_scored_given_the_channels_before_it():
    px, values = one_pixel(3, 3), every_pixel(3, 3)
    p = probabilities(px, values).view(30, 3, 3, 3)
    red, green = p.sum((2, 3)), p.sum(3)
    for i, (r, g, b) in enumerate(itertools.product(range(3), repeat=3)):
        cells = px.cells(values[i].expand(30, 3, 1, 1)).exp()[..., 0, 0]
        by_hand = torch.stack([red[:, r], green[:, r, g] / red[:, r], p[:, r, g, b] / green[:, r, g]], 1)
        assert torch.allclose(cells, by_hand, rtol=1e-9)


def test_the_channels_of_a_pixel_depend_on_each_other():
    likelihood = LogisticMixture(1, 256).build((3, 1, 1))
    params = torch.zeros(1, 10, 1, 1)
    params[:, 4:7] = -2.0  # scales of about a hundredth
    params[:, 7:] = 3.0  # slopes of .995: each channel follows those before it
    px = likelihood(params.expand(2000, -1, -1, -1))
    x = px.sample(torch.Generator().manual_seed(0))[..., 0, 0].T.numpy()
    correlation = np.corrcoef(x)
    # Noise of one size s in each: r = N, g = r + N, b = r + g + N have correlations 1/√2 and 3/√12 … of √(1/2), √(2/3).
    assert correlation[0, 1] == pytest.approx(0.5**0.5, abs=0.06)
    assert correlation[0, 2] == pytest.approx((2 / 3) ** 0.5, abs=0.05)


def test_draws_are_as_frequent_as_they_are_probable():
    px, values = one_pixel(3, 2), every_pixel(3, 2)
    p = probabilities(px, values)[0]
    big = LogisticMixture(4, 2).build((3, 1, 1))
    generator = torch.Generator().manual_seed(0)
    params = torch.randn(30, *big.out_shape, generator=generator, dtype=torch.float64)[:1]
    draws = big(params.expand(40_000, -1, -1, -1)).sample(torch.Generator().manual_seed(1))[..., 0, 0]
    index = (draws * torch.tensor([4, 2, 1])).sum(1).round().long()
    share = torch.bincount(index, minlength=8) / len(draws)
    assert share.numpy() == pytest.approx(p.numpy(), abs=0.012)  # 5 standard errors of a share of 40,000


@pytest.mark.parametrize("spread", [0.5, 2.0])
def test_the_mean_is_that_of_the_probabilities(spread):
    values = every_pixel(1, 256)
    px = one_pixel(1, 256, spread=spread)
    exact = probabilities(px, values) @ values.flatten()
    # Half a level of 255: the mean is that of the logistics before rounding.
    assert px.mean.flatten().numpy() == pytest.approx(exact.numpy(), abs=0.5 / 255)


def test_the_mean_of_colours_is_near_that_of_the_probabilities():
    values = every_pixel(3, 8)
    px = one_pixel(3, 8, spread=0.5)
    exact = probabilities(px, values) @ values.flatten(1)
    # Half a level of 7, and what clipping takes: a later channel's is at the mean of those before it.
    assert px.mean.flatten(1).numpy() == pytest.approx(exact.numpy(), abs=0.5 / 7)


def test_the_mode_is_the_most_probable_level():
    px, values = one_pixel(1, 256, spread=2.0), every_pixel(1, 256)
    p = probabilities(px, values)
    assert px.cells(px.mode).exp().flatten().numpy() == pytest.approx(p.max(1).values.numpy(), rel=1e-6)
    colour = one_pixel(3, 5, spread=2.0)
    red = probabilities(colour, every_pixel(3, 5)).view(30, 5, 25).sum(2)
    assert torch.equal((colour.mode[:, 0].flatten() * 4).round().long(), red.argmax(1))


def test_one_component_of_a_grey_pixel_is_the_plain_discretised_logistic():
    params = torch.randn(7, 2, 3, 3, generator=torch.Generator().manual_seed(0))
    plain = DiscretisedLogistic().build((1, 3, 3))(params)
    mixed = LogisticMixture(1).build((1, 3, 3))(torch.cat([torch.zeros(7, 1, 3, 3), params], 1))
    x = plain.sample(torch.Generator().manual_seed(1))
    assert torch.allclose(plain.cells(x), mixed.cells(x), atol=1e-5)  # float32 of some ten nats
    # The plain one's mode is its location's level; the mixture looks at the ends too, which take the tails.
    assert (mixed.cells(mixed.mode) >= plain.cells(plain.mode) - 1e-5).all()
    inner = (mixed.mode > 0) & (mixed.mode < 1)
    assert inner.any()
    assert (plain.mode - mixed.mode)[inner].abs().max() <= 1.01 / 255


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("size", [1.0, 30.0, 1e4])
def test_scores_and_gradients_are_finite_however_far_out(size, value):
    likelihood = LogisticMixture().build((3, 2, 2))
    generator = torch.Generator().manual_seed(0)
    params = (size * torch.randn(64, *likelihood.out_shape, generator=generator)).requires_grad_()
    cells = likelihood(params).cells(torch.full((64, 3, 2, 2), value))
    cells.sum().backward()
    assert torch.isfinite(cells).all()
    assert torch.isfinite(params.grad).all()
    assert (cells <= 1e-4).all()  # probabilities; the slack is float32's at weights of 0


def test_the_written_out_derivative_is_the_numerical_one():
    generator = torch.Generator().manual_seed(0)
    x = torch.tensor([0.0, 1 / 7, 3 / 7, 1.0], dtype=torch.float64).repeat(10)
    location = torch.rand(40, generator=generator, dtype=torch.float64).requires_grad_()
    log_scale = torch.linspace(-5, 1, 40, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda m, s: log_mass(x, m, s, 8), (location, log_scale))


def test_before_training_a_pixel_is_its_mean():
    likelihood = LogisticMixture().build((3, 2, 2))
    features = torch.rand(12, generator=torch.Generator().manual_seed(0))
    mean = likelihood(likelihood.start(features)[None]).expectation[0]
    # The tails of a scale of a tenth are clipped: at a mean of 0 or 1 that moves it by .1 log 2.
    assert (mean - features).abs().max() < 0.07


def test_a_missing_pixel_of_a_colour_picture_is_neither_seen_nor_scored():
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (80, 5, 5, 3), dtype=np.uint8)
    seen = rng.random((80, 5, 5)) < 0.8
    names = tuple(map(str, range(80)))
    kind = Image(likelihood="discretised-logistic-mixture", components=2)
    ae = Autoencoder(kind=kind, nets="mlp", dim=2, steps=20, random_state=0).fit(Pictures(x, seen, None, names))
    mask = ae.schema_.to_batch(Pictures(x, seen, None, names)).observed
    assert torch.equal(mask, mask[:, :1].expand_as(mask))  # all channels or none: no channel without those before it
    other = np.where(seen[..., None], x, 255 - x)
    scores = [ae.score_samples(Pictures(v, seen, None, names), samples=4) for v in (x, other)]
    assert np.array_equal(*scores)
    assert np.isfinite(scores[0]).all()


def test_a_mixture_scores_pictures_of_two_values_better_than_one_logistic_does():
    rng = np.random.default_rng(0)
    x = np.where(rng.random((600, 4, 4)) < 0.5, 60, 190) + rng.integers(-3, 4, (600, 4, 4))
    x = x.astype(np.uint8)
    found = {}
    for name in ("discretised-logistic", "discretised-logistic-mixture"):
        nets = {"part": "mlp", "widths": [32]}
        kind = Image(likelihood=name)
        ae = Autoencoder("vae", kind=kind, nets=nets, dim=1, steps=400, lr=1e-2, random_state=0).fit(x)
        found[name] = ae.score(x)
    # Each pixel is one of 14 levels: log 14 is 2.6 nats; one logistic over both values takes some five.
    assert found["discretised-logistic-mixture"] > -16 * 3.2
    assert found["discretised-logistic"] < -16 * 4
