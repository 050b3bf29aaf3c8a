"""Rows that are nearly all zeros: the tensors, the nets and the likelihoods that know of them."""

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from scipy import stats

from latente.kinds.interactions import csr_of
from latente.model import sparse
from latente.model.batch import Batch
from latente.model.corruptions.dropout import Dropout
from latente.model.dists.counts import QUANTILES, Sums
from latente.model.dists.log_gaussian import LogGaussian
from latente.model.dists.multinomial import Multinomial, MultinomialDist
from latente.model.dists.negative_binomial import NegativeBinomial, NegativeBinomialDist, likeliest
from latente.model.nets.sparse import Gather, Sparse


def rows(n=12, width=9, seed=0, most=5):
    """Random counts, with an empty row among them."""
    rng = np.random.default_rng(seed)
    x = rng.integers(1, most + 1, (n, width)) * (rng.random((n, width)) < 0.4)
    x[n // 2] = 0
    return torch.from_numpy(x.astype(np.float32))


def as_csr(x):
    return csr_of(sp.csr_matrix(x.numpy()), np.float32)


def sums(shape=(), usual=20.0):
    ends = torch.linspace(-1, 1, QUANTILES)
    return Sums(torch.full(shape, 3.0), torch.tensor(-0.5), torch.tensor(usual), ends, 3 + ends, 3 + ends)


@pytest.mark.parametrize("index", [slice(0, 5), slice(3, 3), slice(2, 11, 3), slice(8, 99), [4, 0, 6, 6], []], ids=str)
def test_rows_that_are_taken_are_those_of_the_dense_matrix(index):
    x = rows()
    which = index if isinstance(index, slice) else torch.tensor(index, dtype=torch.long)
    assert torch.equal(sparse.dense(sparse.take(as_csr(x), which)), x[which])
    assert torch.equal(Batch(as_csr(x)).rows(which).x.to_dense(), Batch(x).rows(which).x)


def test_rows_that_are_joined_are_one_after_the_other():
    parts = [rows(seed=i) for i in range(3)]
    assert torch.equal(sparse.dense(sparse.joined([as_csr(p) for p in parts])), torch.cat(parts))


def test_sums_of_rows_are_those_of_the_dense_matrix():
    x = rows()
    assert torch.equal(sparse.totals(as_csr(x)), x.sum(1))


def test_entries_of_sparse_and_dense_rows_are_the_same():
    for a, b in zip(sparse.entries(rows()), sparse.entries(as_csr(rows())), strict=True):
        assert torch.equal(a, b)


def test_a_gathered_layer_is_a_linear_one_and_so_are_its_gradients_wherever_they_are_kept():
    x, gradient = rows(), torch.randn(12, 4, generator=torch.Generator().manual_seed(0))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layer = Gather(9, 4)
    expected = x @ layer.weight + layer.bias
    wanted = torch.autograd.grad((expected * gradient).sum(), layer.weight)[0]
    for found in (layer(x), layer(as_csr(x))):
        assert torch.allclose(found, expected, atol=1e-6)
        assert torch.allclose(torch.autograd.grad((found * gradient).sum(), layer.weight)[0], wanted, atol=1e-6)
    layer.in_place, layer.weight.grad = True, torch.ones(9, 4)
    place = layer.weight.grad
    (layer(as_csr(x)) * gradient).sum().backward()
    assert layer.weight.grad is place
    assert torch.allclose(place, wanted + 1, atol=1e-6)  # added to what was there


@pytest.mark.parametrize("back", [(), (5,)])
def test_the_sparse_nets_give_sparse_and_dense_rows_the_same_features(back):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        body, width = Sparse(16, 2, back).encoder((9,))
    assert width == 16
    assert torch.allclose(body(rows()), body(as_csr(rows())), atol=1e-5)
    assert Sparse(16, 2, back).decoder(3, (9,))(torch.zeros(2, 3)).shape == (2, 9)


def test_dropout_leaves_out_a_share_and_keeps_the_mean():
    x = torch.ones(400, 50)
    csr = as_csr(x)
    generator = torch.Generator().manual_seed(0)
    found = sparse.dense(Dropout(0.6)(Batch(csr), torch.zeros(50, dtype=torch.bool), generator).x)
    # 20,000 draws: three standard errors are .011 of a share, .026 of a mean of 2.5s.
    assert (found == 0).float().mean().item() == pytest.approx(0.6, abs=0.011)
    assert found.mean().item() == pytest.approx(1.0, abs=0.026)
    assert torch.equal(sparse.dense(csr), x)  # what came in is as it was


def test_dropout_of_a_table_leaves_levels_as_they_are():
    x = torch.tensor([[2.0, 3.0]]).expand(500, 2)
    found = Dropout(0.5)(Batch(x), torch.tensor([True, False]), torch.Generator().manual_seed(0)).x
    assert set(found[:, 0].unique().tolist()) == {0.0, 4.0}
    assert (found[:, 1] == 3).all()


# ── likelihoods ─────────────────────────────────────────────────────────────────────────────────────────────────────


def _rest():
    s = sums()
    return s.log_scale, s.usual, s.noise, s.found, s.real


def test_a_multinomial_is_that_of_scipy_and_the_sum_is_log_normal():
    x = rows()
    numbers = torch.randn(1, 12, 10, generator=torch.Generator().manual_seed(0))
    px = MultinomialDist(numbers, Sums(numbers[..., -1], *_rest()))
    p, n = numbers[0, :, :-1].softmax(-1).double().numpy(), x.sum(1).numpy()
    shared = [stats.multinomial.logpmf(a, int(s), b / b.sum()) for a, s, b in zip(x.numpy(), n, p, strict=True)]
    logs = stats.lognorm.logpdf(np.maximum(n, 1), np.exp(-0.5), scale=np.exp(numbers[0, :, -1].numpy())) * (n > 0)
    for rows_ in (x, as_csr(x)):
        assert torch.allclose(
            px.log_prob(rows_, None)[0].double(), torch.from_numpy(np.array(shared, float) + logs), atol=1e-3
        )
    assert torch.allclose(px.cells(x).sum(-1)[0].double(), torch.from_numpy(np.array(shared, float)), atol=1e-3)


@pytest.mark.parametrize("what", ["multinomial", "negative-binomial"])
def test_written_out_gradients_of_counts_are_those_of_autograd(what):
    x, generator = rows(), torch.Generator().manual_seed(0)
    numbers = torch.randn(2, 12, 10, generator=generator).requires_grad_()
    log_theta = torch.randn(9, generator=generator).requires_grad_()
    weights = torch.rand(2, 12, generator=generator)

    def dist():
        s = Sums(numbers[..., -1], *_rest())
        if what == "multinomial":
            return MultinomialDist(numbers, s)
        return NegativeBinomialDist(numbers[..., :-1], log_theta, s)

    own = (dist().log_prob(as_csr(x), None) * weights).sum()
    other = ((dist().cells(x).sum(-1) + dist().sums.log_prob(x.sum(1))) * weights).sum()
    assert own.item() == pytest.approx(other.item(), rel=1e-5)
    leaves = [numbers] if what == "multinomial" else [numbers, log_theta]
    for a, b in zip(torch.autograd.grad(own, leaves), torch.autograd.grad(other, leaves), strict=True):
        assert torch.allclose(a, b, atol=2e-4)  # float32 sums of some hundred gamma functions


@pytest.mark.parametrize("inflated", [False, True])
def test_a_negative_binomial_is_that_of_scipy(inflated):
    x = rows(most=30)
    likelihood = NegativeBinomial(inflated).build((9,))
    params = torch.randn(1, 12, *likelihood.out_shape, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        likelihood.log_dispersion.copy_(torch.linspace(-2, 3, 9))
        px = likelihood(params)
        theta = likelihood.log_dispersion.exp().double().numpy()
        mu = (px.logits.softmax(-1)[0] * x.sum(1, keepdim=True)).double().numpy()
        p = theta / (theta + np.maximum(mu, 1e-12))
        expected = stats.nbinom.pmf(x.numpy(), theta, p)
        if inflated:
            shut = px.gates.sigmoid()[0].double().numpy()
            expected = (1 - shut) * expected + shut * (x.numpy() == 0)
        full = x.sum(1) > 0
        assert np.allclose(px.cells(x)[0].exp().double().numpy()[full], expected[full], rtol=2e-3, atol=1e-7)


def test_a_gaussian_on_log_counts_is_a_probability():
    likelihood = LogGaussian().build((3,))
    with torch.no_grad():
        px = likelihood(torch.tensor([[0.3, 2.0, 4.0, 0.0]]))
        counts = torch.arange(20_000.0)[:, None].expand(-1, 3)
        # Beyond twenty thousand a deviation of 1 leaves less than 1e-6.
        assert torch.allclose(px.cells(counts).exp().double().sum(0), torch.ones(3, dtype=torch.float64), atol=2e-3)


def test_a_missing_column_is_left_out_and_the_others_share_the_row():
    x = rows(most=30)
    likelihood = NegativeBinomial().build((9,))
    params = torch.randn(1, 12, *likelihood.out_shape, generator=torch.Generator().manual_seed(2))
    observed = torch.ones(12, 9, dtype=torch.bool)
    observed[:, 4] = False
    with torch.no_grad():
        px = likelihood(params)
        some = px.seen(x, observed)
        other = x.clone()
        other[:, 4] = 999.0
        assert torch.equal(some, px.seen(other, observed))  # what stands there has no say
        assert (some[..., 4] == 0).all()
        kept = [i for i in range(9) if i != 4]
        small = NegativeBinomialDist(px.logits[..., kept], px.log_theta[kept], px.sums)
        assert torch.allclose(some[..., kept], small.cells(x[:, kept]), atol=1e-4)


def test_the_likeliest_dispersion_is_found_from_afar():
    rng = np.random.default_rng(0)
    theta, n = np.array([0.3, 2.0, 20.0]), 20_000
    mu = rng.uniform(2, 8, (n, 1)) * np.ones(3)
    x = rng.negative_binomial(theta, theta / (theta + mu))
    found = likeliest(torch.zeros(3), torch.from_numpy(mu).float(), as_csr(torch.from_numpy(x).float())).exp().numpy()
    # About three standard errors of 20,000 draws; the last is hard to tell from Poisson.
    assert np.allclose(found[:2], theta[:2], rtol=0.06)
    assert found[2] == pytest.approx(20, rel=0.3)


def test_sums_of_new_rows_are_distributed_as_those_of_the_data():
    likelihood = Multinomial().build((4,))
    rng = np.random.default_rng(0)
    n = rng.choice([30, 31, 500], 3000)  # nothing like a log-normal
    x = np.zeros((3000, 4), np.float32)
    x[:, 0] = n
    batch = Batch(as_csr(torch.from_numpy(x)))
    with torch.no_grad():
        px = likelihood(torch.zeros(1, 3000, 5) + 4.0)
        likelihood.refit(iter([(px, batch)]))
        new = likelihood(torch.zeros(1, 3000, 5) + 4.0).sums.sample(torch.Generator().manual_seed(0)).numpy().ravel()
    assert new.min() >= 30
    assert new.max() <= 500
    # Three standard errors of a share of a third among 3,000.
    assert (new < 100).mean() == pytest.approx(2 / 3, abs=0.03)


def test_a_history_that_is_drawn_has_no_item_twice():
    likelihood = Multinomial(once=True).build((6,))
    with torch.no_grad():
        draw = likelihood(torch.zeros(1, 200, 7) + 1.0).sample(torch.Generator().manual_seed(0))
    assert set(draw.unique().tolist()) <= {0.0, 1.0}
    assert (draw.sum(-1) >= 1).all()
