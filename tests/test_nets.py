"""The nets by themselves: shapes, how they start, and what a ladder stands on."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from latente import Autoencoder, parts
from latente.kinds.image import Image
from latente.model.nets.conv import Conv, cells_of, pixels_of
from latente.model.nets.layers import Offset, Residual
from latente.model.nets.mlp import Mlp
from latente.model.nets.trunk import Trunk
from latente.model.spec import Spec, recipe

# Even and odd, square and long, grey and colour, from one pixel to 128.
SHAPES = [(1, 28, 28), (3, 32, 32), (1, 11, 7), (3, 128, 96), (1, 8, 8), (3, 37, 64), (1, 1, 9), (1, 1, 1)]
NETS = [Conv(), Conv(channels=4, blocks=1, patch=2, smallest=3), Conv(channels=3, blocks=0, patch=1, smallest=2), Mlp()]
LEVELS = (1, 2, 3, 6)


def draws(*shape: int) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0))


def climbed(trunk: Trunk, x: torch.Tensor) -> torch.Tensor:
    """The parameters that a ladder of points would give: every level's code is its features, mixed."""
    features, h = [], x
    for up in trunk.up:
        h = up(h)
        features.insert(0, h)
    state = torch.zeros(len(x), *trunk.shapes[0])
    for shape, down, seen in zip(trunk.shapes, trunk.down, features, strict=True):
        state = down(state)
        assert state.shape[1:] == seen.shape[1:] == shape
        state = state + trunk.mix(2 * shape[0], shape[0])(torch.cat([state, seen.to(state.dtype)], 1))
    return trunk.out(state)


@pytest.mark.parametrize("nets", NETS, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_pictures_of_any_size_go_in_and_come_out(nets, shape):
    encoder, width = nets.encoder(shape)
    out_shape = (2 * shape[0], *shape[1:])
    assert encoder(draws(2, *shape)).shape == (2, width)
    assert nets.decoder(5, out_shape)(draws(3, 5)).shape == (3, *out_shape)


@pytest.mark.parametrize("nets", NETS[1:], ids=str)
@pytest.mark.parametrize("levels", LEVELS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_features_and_state_of_each_level_of_a_ladder_meet(nets, levels, shape):
    trunk = nets.ladder(shape, (2 * shape[0], *shape[1:]), levels)
    assert len(trunk.up) == len(trunk.down) == len(trunk.shapes) == levels
    assert climbed(trunk, draws(2, *shape)).shape == (2, 2 * shape[0], *shape[1:])


@pytest.mark.parametrize("nets", [Conv(channels=8, blocks=1, patch=2), Mlp((16,))], ids=str)
def test_every_weight_of_a_ladder_takes_part_in_bfloat16_too(nets):
    trunk = nets.ladder((1, 20, 20), (1, 20, 20), 4)
    with torch.autocast("cpu", torch.bfloat16):
        climbed(trunk, draws(4, 1, 20, 20)).float().square().sum().backward()
    modules = nn.ModuleList([trunk.up, trunk.down, trunk.out])
    assert all(p.grad is not None and p.grad.isfinite().all() for p in modules.parameters())


def test_a_ladder_spreads_over_the_pictures_sizes_and_narrows_to_a_vector():
    conv = Conv(channels=8, patch=2, width=50, smallest=7)
    assert conv.ladder((1, 28, 28), (1, 28, 28), 2).shapes == ((50, 1, 1), (16, 7, 7))
    assert conv.ladder((1, 28, 28), (1, 28, 28), 4).shapes == ((50, 1, 1), (16, 7, 7), (16, 7, 7), (8, 14, 14))
    assert Mlp((128,)).ladder((3,), (3,), 4).shapes == ((32,), (32,), (64,), (128,))
    assert Mlp(()).ladder((3,), (3,), 2).shapes == ((3,), (3,))


@pytest.mark.parametrize("shape", [(2, 3, 12, 8), (2, 1, 7, 5), (1, 2, 1, 9)])
@pytest.mark.parametrize("k", [1, 2, 4])
def test_cells_hold_every_pixel_once(shape, k):
    x = draws(*shape) + 1.0
    cells = cells_of(x, k)
    assert torch.equal(pixels_of(cells, k, shape[2:]), x)
    assert (cells > 0).sum() == x.numel()
    assert cells.is_contiguous(memory_format=torch.channels_last)
    if shape[2] % k == shape[3] % k == 0:  # torch has the same channels in another order
        theirs = F.pixel_unshuffle(x, k).unflatten(1, (shape[1], k * k)).transpose(1, 2).flatten(1, 2)
        assert torch.equal(cells, theirs)


def test_residual_blocks_start_as_the_identity_and_a_deep_net_keeps_its_scale():
    encoder, _ = Conv(channels=64, patch=4, blocks=30).encoder((1, 28, 28))
    blocks = [m for m in encoder if isinstance(m, Residual)]
    h = draws(2, 64, 7, 7)
    assert len(blocks) == 30
    assert all(torch.equal(block(h), h) for block in blocks)
    # Features of the size of the pixels: neither shrunk nor blown up by more than a few layers would be.
    assert 0.1 < encoder(draws(64, 1, 28, 28)).std() < 1.0


@pytest.mark.parametrize("nets", parts.names("nets"))
@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian", "discretised-logistic"])
def test_a_centred_decoder_says_the_rows_mean_wherever_it_says_nothing_of_the_code(nets, likelihood):
    x = (draws(200, 9, 6, 3).numpy() ** 2 * 255).astype("uint8")
    kind = Image(likelihood=likelihood).learn(x)
    base = recipe("vae")
    model = Spec(kind, parts.find("nets", nets)(), base.latent, base.prior, base.objective).model(0)
    batch = kind.prepare(kind.to_batch(x))
    model.center(batch)
    last = [m for m in model.decoder.modules() if isinstance(m, (nn.Linear, Offset))][-1]
    with torch.no_grad():
        for p in model.decoder.parameters():
            if p is not last.bias:
                p.zero_()
        mean = model.decode(torch.zeros(1, base.latent.dim)).mean
    # Logits are cut at one in two hundred, the logistic's mean is rounded to a level of 255.
    assert (mean - batch.x.mean(0)).abs().max() < 0.006


def test_a_short_run_of_convolutions_with_a_warmed_up_kl_finds_where_the_blob_is(dots):
    ae = Autoencoder("vae", nets="conv", dim=2, steps=200, random_state=0).fit(dots)
    error = np.square(ae.inverse_transform(ae.transform(dots)).astype(float) - dots).sum()
    assert ae.history_.rows[-1]["active"] == 2
    # Two numbers make each picture; what they leave was .08 of the variance, and a collapsed code leaves all of it.
    assert error < 0.2 * np.square(dots - dots.mean(0)).sum()
