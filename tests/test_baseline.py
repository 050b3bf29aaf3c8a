"""The PCA baseline: exact, in memory and block by block, and cheaper than an epoch."""

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.decomposition import PCA
from test_stream_feed import Cut

import latente as lt
from latente.kinds.table import Table
from latente.model.spec import Train
from latente.training import baseline
from latente.training.feed import Resident
from latente.training.stream import Sampler, Streamed


def low_rank(n: int, f: int, rank: int = 5, offset: float = 0.0, seed: int = 0) -> np.ndarray:
    """Rows of a few strong directions, each weaker than the one before, and noise. float32 [n, f]"""
    rng = np.random.default_rng(seed)
    strength = 2.0 ** -np.arange(rank)
    x = (rng.normal(size=(n, rank)) * strength) @ rng.normal(size=(rank, f)) + 0.05 * rng.normal(size=(n, f))
    return (x + offset).astype(np.float32)


def in_blocks(x: np.ndarray, size: int, dim: int) -> baseline.Baseline:
    found = baseline.Covariance()
    for start in range(0, len(x), size):
        found.add(x[start : start + size])
    return found.baseline(dim)


def same(found: baseline.Baseline, x: np.ndarray, dim: int) -> None:
    """Subspace and explained residual are those of sklearn's full solver in float64."""
    x = x.astype(np.float64)
    pca = PCA(dim, svd_solver="full").fit(x)
    between = found.components.astype(np.float64) @ pca.components_.T
    assert np.linalg.svd(between, compute_uv=False).min() > 1 - 1e-4  # the cosine of the largest angle
    own = np.square(found.residual(x.astype(np.float64))).sum()
    full = np.square(x - pca.inverse_transform(pca.transform(x))).sum()
    assert own == pytest.approx(full, rel=1e-4)


@pytest.mark.parametrize("offset", [0.0, 1e4])
@pytest.mark.parametrize("size", [1, 64, 5000])
def test_covariance_by_blocks_gives_pca_of_all_rows_whatever_is_added_to_them(offset, size):
    x = low_rank(700, 12, offset=offset)
    same(in_blocks(x, size, 4), x, 4)


def test_rows_sorted_so_that_the_first_are_far_from_the_rest_do_not_cancel():
    x = low_rank(2000, 10)
    x[:, 0] = np.sort(1e4 * np.random.default_rng(1).random(2000))
    same(in_blocks(x, 100, 3), x, 3)


def test_fewer_rows_than_features_go_by_the_products_of_rows():
    x = low_rank(60, 300, offset=1e4)
    same(baseline.of_few(x, 5), x, 5)
    # As many components as rows: the last has no variance at all, and is orthogonal all the same.
    every = baseline.of_few(x[:8], 8)
    np.testing.assert_allclose(every.components @ every.components.T, np.eye(8), atol=1e-5)


def test_a_lanczos_solver_of_many_features_agrees_with_the_full_one(monkeypatch):
    x = low_rank(400, 80)
    full = in_blocks(x, 128, 5)
    monkeypatch.setattr(baseline, "LANCZOS", 10)
    np.testing.assert_allclose(in_blocks(x, 128, 5).components, full.components, atol=1e-5)


def test_largest_loadings_are_positive():
    for found in (in_blocks(low_rank(300, 9), 100, 5), baseline.of_few(low_rank(20, 40), 5)):
        assert (found.components[np.arange(5), np.abs(found.components).argmax(1)] > 0).all()


def test_streamed_rows_give_the_pca_of_rows_in_memory():
    frame = pd.DataFrame(low_rank(1200, 6, offset=50.0), columns=list("abcdef"))
    frame["level"] = np.random.default_rng(0).choice(["x", "y", "z"], len(frame))
    frame.loc[::11, "b"] = np.nan
    ae = lt.Autoencoder("vae", dim=3, steps=2, random_state=0).fit(frame)
    config = Train(validation=0.1, seed=0)
    sampler = Sampler(Cut(frame, (300, 1, 499, 400)), config)
    kind = Table().learn_blocks(sampler.blocks())
    streamed = baseline.fit(ae.model_, Streamed(sampler, kind), kind, 3, 0)
    resident = baseline.fit(ae.model_, Resident(kind.to_batch(frame), config), kind, 3, 0)
    np.testing.assert_allclose(streamed.components, resident.components, atol=1e-4)  # float32 products of other blocks
    np.testing.assert_allclose(streamed.mean, resident.mean, atol=1e-6)
    same(resident, ae.model_.likelihood.features(kind.to_batch(frame).x).numpy(), 3)


def test_a_run_that_saw_less_than_an_epoch_does_not_wait_for_a_pass_over_all_rows(monkeypatch):
    ae = lt.Autoencoder("vae", dim=2, steps=2, random_state=0).fit(low_rank(600, 6).astype(float))
    config = Train(batch_size=100, validation=0.1, seed=0)
    seen = []

    class Counting(Resident):
        def every(self, n):
            seen.append(n)
            return super().every(n)

    feed = Counting(ae.schema_.to_batch(low_rank(600, 6)), config)
    monkeypatch.setattr(baseline, "ROWS", 200)
    baseline.fit(ae.model_, feed, ae.schema_, 2, 0, steps=5)
    assert not seen
    baseline.fit(ae.model_, feed, ae.schema_, 2, 0, steps=6)
    assert len(seen) == 1


@pytest.mark.parametrize("each", [100, 10_000, 1_000_000])
@pytest.mark.parametrize("f", [5, 200, 784, 3072, 4096])
@pytest.mark.parametrize("rows", [300, 5_000, 60_000, 10_000_000])
def test_pca_takes_no_more_multiplications_than_an_epoch(rows, f, each):
    chosen = baseline.affordable(rows, f, each)
    assert min(rows, baseline.FEWEST) <= chosen <= rows
    assert chosen <= baseline.FEWEST or baseline.cost(chosen, f) <= rows * each
    # No row is left out that could be paid for.
    assert chosen == rows or baseline.cost(chosen + 1, f) > rows * each


def test_a_tiny_net_on_wide_rows_gets_pca_of_some_rows_and_a_usual_one_of_all(monkeypatch):
    x = low_rank(2_500, 400, rank=3).astype(float)
    told: list[int] = []
    real = baseline.Covariance.add
    monkeypatch.setattr(baseline.Covariance, "add", lambda self, x: (told.append(len(x)), real(self, x))[1])
    usual = lt.Autoencoder("ae", dim=3, steps=120, random_state=0).fit(x)
    assert sum(told) == len(x)
    row = usual.schema_.to_batch(x[:1])
    assert baseline.cost(len(x), 400) < len(x) * baseline.work(usual.model_, row)
    told.clear()
    tiny = lt.Autoencoder("ae", dim=3, nets={"part": "mlp", "widths": [4]}, steps=120, random_state=0).fit(x)
    few = sum(told) or baseline.FEWEST
    assert few < len(x)
    # Three strong directions: some rows tell them nearly as well.
    centred = tiny.model_.likelihood.features(tiny.schema_.to_batch(x).x).numpy()
    lost = [np.square(ae._baseline.residual(centred)).sum() for ae in (tiny, usual)]
    assert lost[0] < 1.2 * lost[1]


def test_more_features_than_a_covariance_is_kept_for_get_a_sample(monkeypatch):
    x = low_rank(900, 30)
    ae = lt.Autoencoder("ae", dim=3, steps=2, random_state=0).fit(x.astype(float))
    feed = Resident(ae.schema_.to_batch(x.astype(float)), Train(seed=0))
    exact = baseline.fit(ae.model_, feed, ae.schema_, 3, 0)
    monkeypatch.setattr(baseline, "WIDE", 20)
    monkeypatch.setattr(baseline, "BYTES", 4 * 30 * 300)
    some = baseline.fit(ae.model_, feed, ae.schema_, 3, 0)
    assert not np.array_equal(some.components, exact.components)
    assert np.linalg.svd(some.components @ exact.components.T, compute_uv=False).min() > 0.99


def test_work_counts_a_convolutions_places_and_no_vectors_that_are_looked_up(dots):
    ae = lt.Autoencoder("ae", nets="conv", dim=2, steps=2, random_state=0).fit(dots)
    row = ae.schema_.prepare(ae.schema_.to_batch(dots[:1]))
    weights = sum(p.numel() for p in ae.model_.parameters())
    assert baseline.work(ae.model_, row) > 3 * weights
    ae.model_.table = torch.nn.Embedding(1000, 4)
    with_table = baseline.work(ae.model_, row)
    del ae.model_.table
    assert with_table == baseline.work(ae.model_, row)
