"""Discrete latents: the codebook, and the prior over its codes."""

import math
import signal

import numpy as np
import pandas as pd
import pytest
import torch

from latente import Autoencoder, evaluate, interpolate, load
from latente.errors import ConfigError
from latente.kinds.table import Table
from latente.model.estimates import bounds
from latente.model.latents.codes import DEAD, Codes, usage
from latente.model.priors.autoregressive import Autoregressive
from latente.model.priors.base import Host
from latente.model.spec import Spec, Train, recipe, seeded
from latente.training.checkpoint import Slots
from latente.training.loop import train


def head(dim=4, features=4, seed=0, **options):
    """A head whose numbers are its features."""
    with seeded(seed):
        made = Codes(dim=dim, **options).build(features)
    with torch.no_grad():
        made.value.weight.copy_(torch.eye(dim, features))
        made.value.bias.zero_()
    return made


def draws(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def place(made, entries):
    """Give a head of one level these entries."""
    made.counts[0] = 1 / len(entries)
    made.sums[0] = entries / len(entries)


def test_each_slot_is_taken_to_its_nearest_entry():
    made, h = head(size=8).eval(), draws(50, 4)
    z = made(h).mean.reshape(100, 2)
    distances = (h.reshape(100, 1, 2) - made.codebook[0]).square().sum(-1)
    assert torch.equal(z, made.codebook[0][distances.argmin(1)])


def test_the_decoders_gradient_passes_straight_through():
    made = head(size=8, commitment=0.0).train()
    h = draws(50, 4).requires_grad_()
    weight = draws(50, 4, seed=1)
    (made(h).mean * weight).sum().backward()
    assert torch.equal(h.grad, weight)


def test_commitment_is_the_squared_distance_to_the_entries_summed_over_a_row():
    made, h = head(size=8, commitment=0.25).eval(), draws(50, 4)
    q = made(h)
    assert q.penalty.item() == pytest.approx(0.25 * (h - q.mean).square().sum(-1).mean().item(), rel=1e-6)


def test_an_entry_moves_to_the_mean_of_the_vectors_that_take_it():
    made = head(dim=2, features=2, size=2, decay=0.9).train()
    place(made, torch.tensor([[-1.0, 0.0], [1.0, 0.0]]))
    h = torch.cat(
        [draws(100, 2) * 0.1 + torch.tensor([-2.0, 1.0]), draws(50, 2, seed=1) * 0.1 + torch.tensor([3.0, 0])]
    )
    for _ in range(200):
        made(h)
    # .9 ** 200 = 7e-10 of the start is left.
    assert made.codebook[0, 0].tolist() == pytest.approx(h[:100].mean(0).tolist(), abs=1e-5)
    assert made.codebook[0, 1].tolist() == pytest.approx(h[100:].mean(0).tolist(), abs=1e-5)
    assert made.counts[0].tolist() == pytest.approx([2 / 3, 1 / 3], abs=1e-5)


def test_an_entry_that_nobody_takes_moves_to_a_vector_far_from_its_own():
    made = head(dim=2, features=2, size=3, decay=0.9).train()
    place(made, torch.tensor([[0.0, 0.0], [1.0, 0.0], [100.0, 100.0]]))
    h = torch.cat([draws(60, 2) * 0.01, torch.tensor([[0.0, 7.0]])])
    steps = math.ceil(math.log(DEAD) / math.log(0.9))
    for _ in range(steps + 1):
        made(h)
    assert (made.codebook[0] - torch.tensor([0.0, 7.0])).norm(dim=-1).min() < 1e-4
    assert usage_of(made, h)["codebook_use"] >= 2 / 3


def usage_of(made, h):
    class Owner:
        head = made

    return usage(Owner, made.eval()(h).mean)


def test_only_passes_that_learn_move_the_codebook():
    made, h = head(size=8), draws(50, 4)
    before = made.codebook.clone()
    made.eval()(h)
    with torch.no_grad():
        made.train()(h)
    assert torch.equal(made.codebook, before)
    made(h)
    assert not torch.equal(made.codebook, before)


def test_a_row_that_is_not_finite_leaves_no_trace_in_the_codebook():
    made, h = head(size=8).train(), draws(50, 4)
    h[3] = float("nan")
    q = made(h)
    assert torch.isfinite(made.codebook).all()
    assert not torch.isfinite(q.mean[3]).any()
    assert torch.isfinite(q.mean[4]).all()


def test_levels_lower_the_error_and_their_codes_are_found_again():
    h, errors = draws(2000, 4), []
    for levels in (1, 2, 3):
        made = head(size=16, levels=levels).train()
        made.start(h)
        for _ in range(100):
            made(h)
        z = made.eval()(h).mean
        errors.append((h - z).square().mean().item())
        index = made.indices(z)
        assert index.shape == (2000, 2 * levels)
        assert torch.equal(made.entries(index), z) or levels > 1
        # Another order of entries with the same sum would do; none is lost.
        assert (made.entries(index) - z).abs().max() < 1e-5
    # Sixteen entries in a plane leave about an eighth; each further level as much of what is left.
    assert errors[1] < errors[0] / 4
    assert errors[2] < errors[1] / 4


def test_slots_that_do_not_divide_the_numbers_are_refused():
    with pytest.raises(ConfigError, match=r"slots of latent 'codes' must be a divisor of dim = 6, not 4"):
        Codes(dim=6, slots=4)
    assert [Codes(dim=d).in_slots for d in (1, 2, 3, 5, 8, 9)] == [1, 1, 1, 5, 4, 3]


# ── several processes ───────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("dead", [False, True])
def test_the_mean_over_processes_of_their_statistics_is_that_of_one(dead):
    h, found = draws(60, 4), []
    for rank, of in ((0, 1), (0, 2), (1, 2)):
        made = head(size=8).train()
        made.start(h)
        if dead:
            made.counts[0, 2] = 0.0001
            made.sums[0, 2] = 1.0
        made.team = (rank, of)
        made(h[rank::of])
        found.append(made)
    one, *two = found
    counts, sums = (sum(getattr(m, n)[0] for m in two) / 2 for n in ("counts", "sums"))
    alive = torch.arange(8) != 2 if dead else torch.ones(8, dtype=torch.bool)
    # Sums of two halves instead of one whole: only rounding differs.
    assert torch.allclose(counts[alive], one.counts[0][alive], atol=1e-6)
    assert torch.allclose(sums[alive], one.sums[0][alive], atol=1e-6)
    if dead:
        # The vector of one process, not a mean of two.
        moved = sums[2] / counts[2]
        assert (h.reshape(-1, 2) - moved).norm(dim=-1).min() < 1e-5


# ── whole models ────────────────────────────────────────────────────────────────────────────────────────────────


def plane(n=600):
    rng = np.random.default_rng(0)
    return rng.normal(size=(n, 2)) @ rng.normal(size=(2, 4)) + 0.1 * rng.normal(size=(n, 4))


@pytest.fixture(scope="module")
def fitted():
    return Autoencoder("vq-vae", dim=4, steps=600, settings={"latent.size": 32}, random_state=0).fit(plane())


def test_codes_learn_the_plane_in_the_data_and_use_their_entries(fitted):
    figures = evaluate(fitted, plane())
    # Two slots of five bits: 1,024 places in a plane leave 2 % of its variance or more, and the noise is 2 %.
    assert figures["error"] < 0.1
    assert figures["codebook_use"] >= 0.6  # what is asked of MNIST; here .78
    assert 1 <= figures["codebook_perplexity"] <= 32


def test_what_is_scored_is_the_two_part_code(fitted):
    figures, x = evaluate(fitted, plane()), plane()
    assert figures["neg_elbo"] == pytest.approx(figures["rec"] + figures["kl"], rel=1e-6)
    assert figures["iw_nll"] == pytest.approx(figures["neg_elbo"], rel=1e-6)
    assert 0 < figures["kl"] < 10 * math.log(2)  # never more than its ten bits, for a prior that learned anything
    found = bounds(fitted.model_, next(fitted.batches(x)), 64, torch.Generator().manual_seed(0))
    assert torch.allclose(found.log_p, found.elbo)
    # Rows far from the data are strange.
    assert fitted.score_samples(x * 5).mean() < fitted.score_samples(x).mean()


def test_samples_and_codes_are_entries_of_the_codebook(fitted):
    head = fitted.model_.head
    z = fitted.model_.prior().sample(200, torch.Generator().manual_seed(0))
    for codes in (z, torch.from_numpy(fitted.transform(plane()))):
        assert torch.equal(head.snap(codes), codes)
        assert torch.equal(head.entries(head.indices(codes)), codes)
    assert torch.isfinite(fitted.model_.prior().log_prob(z)).all()


def test_the_way_between_two_rows_is_made_of_entries(fitted):
    x = plane()
    way = interpolate(fitted, x[:1], x[1:2], steps=7)
    assert np.allclose(way[[0, -1]], fitted.reconstruct(x[:2]), atol=1e-5)
    middle = fitted.model_.snap(torch.from_numpy(fitted.transform(x[:2]).mean(0, keepdims=True)))
    assert np.allclose(way[3], fitted.inverse_transform(middle.numpy())[0], atol=1e-5)


def test_a_loaded_model_has_the_same_codebook_and_prior(fitted, tmp_path):
    fitted.save(tmp_path / "m.safetensors")
    again = load(tmp_path / "m.safetensors")
    assert torch.equal(again.model_.head.codebook, fitted.model_.head.codebook)
    assert np.array_equal(again.transform(plane()), fitted.transform(plane()))
    assert np.array_equal(again.score_samples(plane()), fitted.score_samples(plane()))
    assert np.array_equal(again.sample(20), fitted.sample(20))


@pytest.mark.parametrize("objective", ["elbo", "iwae"])
def test_an_objective_that_needs_a_density_is_refused_on_codes_with_a_way_that_goes(objective):
    with pytest.raises(ConfigError, match=f"{objective}.*needs log q.*'codes'.*\n\nhint: --set objective=ae, or"):
        Autoencoder("vq-vae", objective=objective, dim=2, steps=2).fit(plane(50))
    with pytest.raises(ConfigError, match=r"needs log q(.|\n)*hint: --set objective=ae --set prior=autoregressive, or"):
        Autoencoder(objective=objective, latent="codes", dim=2, steps=2).fit(plane(50))
    for way in ({"objective": "ae", "prior": "autoregressive"}, {"latent": "gaussian", "prior": "standard"}):
        parts = {"objective": objective, "latent": "codes"} | way
        assert Autoencoder(**parts, dim=2, steps=2).fit(plane(50)).history_.steps == 2


def trained(slots=None, stop_at=0, patience=100):
    frame = pd.DataFrame(plane(400), columns=list("abcd"))
    kind, base = Table().learn(frame), recipe("vq-vae").override("latent.size", 16).override("latent.dim", 4)
    base = base.override("prior.steps", 20).override("latent.levels", 2)
    model = Spec(kind, None, base.latent, base.prior, base.objective).model(0)

    def report(row, history):
        if len(history.rows) == stop_at:
            signal.raise_signal(signal.SIGINT)

    config = Train(steps=200, batch_size=100, patience=patience)
    return model, train(model, base.objective, kind.to_batch(frame), kind, config, report, slots=slots)


def test_a_run_that_was_stopped_ends_with_the_codebook_of_one_that_was_not(tmp_path):
    whole, history = trained()
    _, stopped = trained(Slots(tmp_path), stop_at=2)
    assert 0 < stopped.steps < history.steps
    again, _ = trained(Slots(tmp_path))
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name]), name


def test_the_codebook_is_that_of_the_look_whose_weights_are_kept(monkeypatch):
    from latente.training import loop

    seen, evaluate = [], loop._Run._evaluate

    def worse(run, rows):
        seen.append(run.model.head.codebook.clone())
        return evaluate(run, rows) | {"val": {"loss": float(len(seen)), "rec": 0.0}}

    monkeypatch.setattr(loop._Run, "_evaluate", worse)
    model, _ = trained()
    assert len(seen) > 1
    assert torch.equal(model.head.codebook, seen[0])
    assert not torch.equal(model.head.codebook, seen[-1])


# ── the prior ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_autoregressive_prior_learns_a_markov_chain_to_its_entropy():
    rng, n, places, size = np.random.default_rng(0), 5000, 8, 6
    step = rng.dirichlet(np.full(size, 0.3), size)
    chain = np.zeros((n, places), np.int64)
    chain[:, 0] = rng.integers(0, size, n)
    for i in range(1, places):
        uniform = rng.random((n, 1))
        chain[:, i] = (step[chain[:, i - 1]].cumsum(1) < uniform).sum(1).clip(max=size - 1)
    held = chain[4000:]
    exact = math.log(size) - np.log(step[held[:, :-1], held[:, 1:]]).sum(1).mean()
    index = torch.from_numpy(chain)
    marginal = sum(-np.log(np.bincount(c, minlength=size)[c] / n).mean() for c in chain.T)
    with seeded(0):
        made = head(dim=places, features=places, size=size, slots=places)
        prior = Autoregressive(width=128, steps=400).build(Host(places, head=made))
    place(made, torch.arange(float(size))[:, None])
    z = made.entries(index)
    prior.fit(z[:4000], torch.Generator().manual_seed(0))
    found = -prior.log_prob(z[4000:]).mean().item()
    # The chain is worth 2.6 nats; .19 of them are lost: the net has some thousand weights for its 36 numbers.
    assert exact < marginal - 2
    assert found == pytest.approx(exact, abs=0.3)
    sampled = prior.sample(3000, torch.Generator().manual_seed(1))
    drawn = made.indices(sampled).numpy()
    pairs = np.zeros((size, size))
    np.add.at(pairs, (drawn[:, :-1].ravel(), drawn[:, 1:].ravel()), 1)
    shares = pairs / pairs.sum(1, keepdims=True).clip(min=1)
    # A share of some hundred draws has a standard error of up to .03, beside what was not learned.
    assert np.abs(shares - step).max() < 0.1


def test_the_priors_probabilities_sum_to_one():
    made = head(dim=2, features=2, size=5, slots=2)
    with seeded(1):
        prior = Autoregressive(width=8, steps=20).build(Host(2, head=made))
    prior.fit(made.snap(draws(100, 2)), torch.Generator().manual_seed(0))
    every = torch.cartesian_prod(torch.arange(5), torch.arange(5))
    assert prior.log_prob(made.entries(every)).exp().sum().item() == pytest.approx(1.0, abs=1e-5)


def test_codes_with_their_context_fit_a_conditional_model():
    frame = pd.DataFrame(plane(300), columns=list("abcd")).assign(half=np.where(np.arange(300) < 150, "first", "last"))
    ae = Autoencoder("vq-vae", dim=2, steps=20, condition="half", random_state=0).fit(frame)
    assert set(ae.sample(5, given={"half": "first"})["half"]) == {"first"}
