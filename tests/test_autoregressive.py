"""p(x|z) of black and white pictures, pixel after pixel; and the mutual information of codes and rows."""

import math
from itertools import product

import numpy as np
import pytest
import torch

from latente import Autoencoder, load, recipe
from latente.errors import ConfigError
from latente.kinds.image import Image
from latente.kinds.pictures import Pictures
from latente.model.batch import Batch
from latente.model.dists.autoregressive import Autoregressive
from latente.model.estimates import mutual_information
from latente.model.spec import Spec, Train
from latente.training.fused import known, step_of
from latente.training.optimiser import Optimiser

# All 512 pictures of 3×3 pixels.
ALL = torch.tensor(list(product((0.0, 1.0), repeat=9))).reshape(512, 1, 3, 3)


def likelihood(shape=(1, 3, 3), blocks=3, told="pixels"):
    """One whose pixels hang together: the net's last layer, which starts at 0, has weights too."""
    made = Autoregressive(told, maps=2, channels=8, blocks=blocks).build(shape)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for w in made.parameters():
            w.copy_(0.5 * torch.randn(w.shape, generator=generator))
    return made


def maps(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def white(dots):
    return (dots > 100).astype(np.uint8) * 255


@pytest.fixture(scope="module")
def fitted(white):
    return Autoencoder(dim=2, kind=Image(likelihood="autoregressive"), steps=40, random_state=0).fit(white)


@pytest.mark.parametrize("told", ["pixels", "picture"])
@torch.no_grad()
def test_the_probabilities_of_all_pictures_sum_to_one(told):
    made = likelihood(told=told)
    shape = made.out_shape
    assert shape == ((2, 3, 3) if told == "pixels" else (2, 1, 1))
    log_p = made(maps(2, 1, *shape).expand(2, 512, *shape)).cells(ALL).flatten(2).sum(-1)
    # Sums of 512 float32 terms of up to 9 rounded logarithms each.
    assert log_p.exp().sum(1).tolist() == pytest.approx([1.0, 1.0], abs=1e-5)
    # The pixels do hang together: the law of a picture is not the product of the pixels' own.
    p = log_p[0].exp()
    alone = (p[:, None] * ALL.flatten(1)).sum(0)
    apart = (ALL.flatten(1) * alone.log() + (1 - ALL.flatten(1)) * (-alone).log1p()).sum(1).exp()
    assert (p - apart).abs().sum() > 0.1


@torch.no_grad()
def test_a_pixel_depends_on_those_before_it_and_on_no_other():
    made, x = likelihood((1, 6, 7), blocks=4), (maps(1, 1, 6, 7) > 0).float()
    px = made(maps(1, 1, 2, 6, 7))
    before = px.cells(x).flatten()
    moved = torch.zeros(42, 42)
    for at in range(42):
        other = x.clone().flatten()
        other[at] = 1 - other[at]
        moved[at] = (px.cells(other.reshape(1, 1, 6, 7)).flatten() - before).abs()
    assert (moved.diagonal() > 0).all()
    assert moved.tril(-1).max() == 0
    # Seven columns are within the net's reach but for its blind spot to the upper right (arXiv:1606.05328, fig. 1).
    assert (moved.triu(1) > 0).sum() > 0.8 * 42 * 41 / 2


@torch.no_grad()
def test_draws_have_the_frequencies_that_the_probabilities_say():
    px = likelihood()(maps(1, 2, 3, 3).expand(40_000, 2, 3, 3))
    draws = px.sample(torch.Generator().manual_seed(0)).flatten(1)
    which = (draws @ (2.0 ** torch.arange(8, -1, -1))).long()
    expected = likelihood()(maps(1, 2, 3, 3).expand(512, 2, 3, 3)).cells(ALL).flatten(1).sum(1).exp()
    found = torch.bincount(which, minlength=512) / len(draws)
    # E|found − p| is √(2 p / (π n)) for a rare picture; twice its sum over all pictures is far beyond chance.
    assert (found - expected).abs().sum() < 2 * (2 * expected / (math.pi * len(draws))).sqrt().sum()


@torch.no_grad()
def test_the_mean_is_the_chance_of_each_pixel_along_the_greedy_path():
    px = likelihood((1, 9, 8), blocks=4)(maps(2, 5, 2, 9, 8))
    chance = px.cells(px.mode[1])[1].exp()
    mean = torch.where(px.mode[1] == 1, px.mean[1], 1 - px.mean[1])
    # The loop and the single pass add the same float32 products in another order.
    assert torch.allclose(chance, mean, atol=1e-5)
    assert torch.equal(px.mode, (px.mean > 0.5).float())
    assert torch.equal(likelihood((1, 9, 8), blocks=4)(maps(2, 5, 2, 9, 8)).mean, px.mean)


@torch.no_grad()
def test_what_stands_in_a_gap_has_no_say():
    made, x = likelihood((1, 5, 5)), (maps(4, 1, 5, 5) > 0).float()
    px, observed = made(maps(3, 4, 2, 5, 5)), maps(4, 1, 5, 5).abs() > 0.5
    other = torch.where(observed, x, 1 - x)
    seen = px.seen(x, observed)
    assert torch.equal(seen, px.seen(other, observed))
    assert (seen.expand(3, 4, 1, 5, 5)[:, ~observed] == 0).all()
    assert not torch.equal(px.cells(x) * observed, seen)


@torch.no_grad()
def test_many_rows_are_scored_in_pieces_with_equal_numbers():
    made, x = likelihood((1, 4, 4)), (maps(150, 1, 4, 4) > 0).float()
    px = made(maps(3, 150, 2, 4, 4))
    with torch.enable_grad():
        whole = px.cells(x).detach()
    assert torch.allclose(px.cells(x), whole, atol=1e-5)


@pytest.mark.parametrize("told", ["pixels", "picture"])
def test_before_training_it_is_the_mean_row(told, white):
    spec = Spec(kind=Image(likelihood="autoregressive", told=told).learn(white))
    model, x = spec.model(0), spec.kind.prepare(spec.kind.to_batch(white))
    model.center(x)
    with torch.no_grad():
        p = model.decode(torch.zeros(1, 1, 16)).cells(torch.ones(1, 1, 8, 8))[0, 0].exp()
    # What the decoder makes of z = 0 beside its bias, which center sets: some tenths of a logit.
    mean = x.x.mean(0) if told == "pixels" else x.x.mean()
    assert (p - mean).abs().mean() < 0.05


def test_grey_and_coloured_pictures_are_refused_by_name(dots):
    with pytest.raises(ConfigError, match=r"'autoregressive'.*grey values\n\nhint: kind.binarize=true"):
        Autoencoder(kind=Image(likelihood="autoregressive"), steps=2).fit(dots)
    colour = np.random.default_rng(0).integers(0, 2, (20, 4, 4, 3)).astype(np.uint8) * 255
    with pytest.raises(ConfigError, match=r"'autoregressive'.*3 channels"):
        Autoencoder(kind=Image(likelihood="autoregressive"), steps=2).fit(colour)
    with pytest.raises(ConfigError, match=r"one channel, not for cells of shape \(3,\)"):
        Autoregressive().build((3,))


def test_every_use_works_and_a_saved_model_gives_the_same(fitted, white, tmp_path):
    fitted.save(tmp_path / "m.safetensors")
    again = load(tmp_path / "m.safetensors")
    new = fitted.sample(20, random_state=1)
    assert np.array_equal(again.sample(20, random_state=1), new)
    assert set(np.unique(new)) <= {0, 255}
    assert np.array_equal(again.score_samples(white[:50]), fitted.score_samples(white[:50]))
    back = fitted.inverse_transform(fitted.transform(white[:5]))
    assert back.shape == (5, 8, 8)
    assert np.array_equal(back, again.inverse_transform(again.transform(white[:5])))


def test_a_gap_in_a_picture_is_neither_seen_nor_scored(fitted, white):
    seen = np.ones(white.shape, bool)
    seen[:, 2:4, 3] = False
    pictures = [Pictures(w[..., None], seen, None, tuple(map(str, range(len(w))))) for w in (white, white.copy())]
    pictures[1].pixels[:, 2:4, 3] = 255 - pictures[1].pixels[:, 2:4, 3]
    a, b = (fitted.score_samples(p, samples=4) for p in pictures)
    assert np.array_equal(a, b)


def test_its_weights_are_trained_at_the_nets_rate_and_the_written_out_step_knows_them(white):
    kind = Image(likelihood="autoregressive").learn(white)
    spec, found = Spec(kind, objective=recipe("vae").objective), []
    for written in (True, False):
        model, batch = spec.model(0).train(), kind.prepare(kind.to_batch(white).rows(slice(0, 32)))
        with torch.no_grad():
            model.likelihood.net.last.weight.fill_(0.1)  # at its start, 0, it would hide the gradients below it
        assert known(model, spec.objective)
        model.progress, model.generator = 0.5, torch.Generator().manual_seed(0)
        if written:
            loss = step_of(model, spec.objective)(batch)
        else:
            loss = spec.objective(model, batch)
            loss.total.backward()
        found.append((loss.total.item(), [w.grad for w in model.parameters() if w.grad is not None and w.grad.any()]))
    # float32 sums in another order.
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-5)
    assert len(found[0][1]) == len(found[1][1]) > len(list(model.likelihood.parameters()))
    for a, b in zip(found[0][1], found[1][1], strict=True):
        assert torch.allclose(a, b, rtol=1e-3, atol=1e-5 * max(1.0, float(b.abs().max())))
    assert [factor for _, _, factor, _ in Optimiser(model, Train()).parts] == [1.0]


class _Known:
    """A model whose posterior is N(x, deviation²)."""

    def __init__(self, deviation):
        self.deviation = deviation

    def encode(self, batch):
        from latente.model.latents.gaussian import DiagonalGaussian

        return DiagonalGaussian(batch.x, torch.full_like(batch.x, math.log(self.deviation)))


@pytest.mark.parametrize("deviation", [0.5, 1.0, 20.0])
def test_the_mutual_information_of_a_gaussian_channel_is_the_known_one(deviation):
    x = torch.randn(3000, 2, generator=torch.Generator().manual_seed(0))
    found = mutual_information(_Known(deviation), Batch(x), torch.Generator().manual_seed(1))
    # Two channels of ½ log(1 + 1/σ²) each; the estimate's own noise is about 1/√3000 in each, .02 in all.
    assert found == pytest.approx(math.log(1 + 1 / deviation**2), abs=0.06)


def test_mutual_information_says_no_more_than_the_number_of_rows_lets_it():
    x = torch.arange(100.0)[:, None]
    found = mutual_information(_Known(1e-3), Batch(x), torch.Generator().manual_seed(1))
    assert found == pytest.approx(math.log(100), abs=1e-4)


def test_mutual_information_of_a_point_latent_is_refused(white):
    ae = Autoencoder("ae", dim=2, steps=2, random_state=0).fit(white)
    with pytest.raises(ConfigError, match="mutual information needs log q"):
        mutual_information(ae.model_, next(ae.batches(white)), torch.Generator())


def test_scores_of_a_net_in_bfloat16_are_those_of_float32_but_for_its_digits():
    made, params = likelihood(), maps(1, 512, 2, 3, 3)
    found = {}
    for low in (False, True):
        made.low_precision = low
        with torch.no_grad():
            found[low] = made(params).cells(ALL)
    assert found[True].dtype == torch.float32
    assert not torch.equal(found[True], found[False])
    # Logits of some units through five layers of eight binary digits each.
    assert (found[True] - found[False]).abs().mean() < 0.02


def test_a_models_precision_is_its_likelihoods_too(white):
    model = Spec(kind=Image(likelihood="autoregressive").learn(white)).model(0)
    assert not model.likelihood.low_precision
    model.low_precision = True
    assert model.likelihood.low_precision
