"""Tokens, one after the other: the core that texts and tunes share."""

import itertools
import math

import numpy as np
import pytest
import torch

from latente.errors import ConfigError
from latente.kinds.sequences import batch_of
from latente.model.dists.base import Bend
from latente.model.dists.tokens import END, OWN, PAD, UNSEEN, Tokens, likeliest
from latente.model.latents.normed import Normed
from latente.model.nets.gru import Gru
from latente.model.nets.ragged import Ragged
from latente.model.nets.recurrent import Recurrent
from latente.model.nets.transformer import Transformer


def likelihood_of(steps=4, **settings):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Tokens(**({"size": 6, "maps": 3, "width": 8, "nets": Recurrent(8)} | settings)).build((steps,)).eval()


def params_of(likelihood, n=1, seed=0):
    return torch.randn(n, *likelihood.out_shape, generator=torch.Generator().manual_seed(seed))


# ── rows of different lengths ───────────────────────────────────────────────────────────────────────────────────────


def test_packing_and_spreading_are_inverses_but_for_the_padding():
    x = torch.randn(5, 7, 2)
    lengths = torch.tensor([3, 7, 1, 3, 5])
    rows = Ragged(lengths, 7)
    inside = torch.arange(7) < lengths[:, None]
    assert len(rows) == 19
    assert torch.equal(rows.spread(rows.pack(x)), x * inside[..., None])
    assert torch.equal(rows.ends(rows.pack(x)), x[torch.arange(5), lengths - 1])


def test_a_row_of_which_nothing_is_observed_has_one_cell():
    observed = torch.tensor([[False, False], [True, False], [False, True]])
    assert Ragged.of(observed).lengths.tolist() == [1, 1, 2]


@pytest.mark.parametrize("lengths", [[4, 4, 4], [5, 1, 3]])
def test_the_unit_and_its_gradients_are_those_of_torch(lengths):
    torch.manual_seed(0)
    own, theirs = Gru(3, 4), torch.nn.GRU(3, 4)
    # Ours has the columns n, r, z; theirs r, z, n.
    with torch.no_grad():
        own.within.copy_(torch.randn(4))
        theirs.weight_hh_l0.copy_(own.across)
        theirs.bias_hh_l0.zero_()
        theirs.bias_hh_l0[8:].copy_(own.within)
        n, r, z = own.read.weight.split(4)
        theirs.weight_ih_l0.copy_(torch.cat([r, z, n]))
        n, r, z = own.read.bias.split(4)
        theirs.bias_ih_l0.copy_(torch.cat([r, z, n]))
    rows = Ragged(torch.tensor(lengths), 5)
    x, first, weights = (torch.randn(*s) for s in ((3, 5, 3), (3, 4), (3, 5, 4)))
    ours, other = (x.clone().requires_grad_() for _ in range(2))
    h_own, h_other = (first.clone().requires_grad_() for _ in range(2))
    found = rows.spread(own(rows.pack(ours), rows, h_own))
    inside = (torch.arange(5) < rows.lengths[:, None])[..., None]
    wanted = theirs(other.transpose(0, 1), h_other[None])[0].transpose(0, 1) * inside
    assert torch.allclose(found, wanted, atol=1e-6)
    (found * weights).sum().backward()
    (wanted * weights).sum().backward()
    assert torch.allclose(ours.grad, other.grad, atol=1e-5)
    assert torch.allclose(h_own.grad, h_other.grad, atol=1e-5)
    assert torch.allclose(own.across.grad, theirs.weight_hh_l0.grad, atol=1e-5)
    assert torch.allclose(own.within.grad, theirs.bias_hh_l0.grad[8:], atol=1e-5)


# ── p(x|z) of tokens ────────────────────────────────────────────────────────────────────────────────────────────────


def every_sequence(size, steps):
    """All that a row of so many steps can be: tokens until an end, or until the last step."""
    found = []
    for length in range(steps + 1):
        for inner in itertools.product(range(OWN, size), repeat=length):
            row = [*inner, END] if length < steps else list(inner)
            found.append(row + [PAD] * (steps - len(row)))
    return torch.tensor(found)


@pytest.mark.parametrize("told", ["whole", "steps"])
@pytest.mark.parametrize("nets", [Recurrent(8), Recurrent(8, 2), Transformer(8, 2, 2)], ids=["gru", "two", "attention"])
def test_the_probabilities_of_all_sequences_sum_to_one(nets, told):
    likelihood = likelihood_of(3, nets=nets, told=told)
    x = every_sequence(6, 3)
    px = likelihood(params_of(likelihood).expand(len(x), *likelihood.out_shape).unsqueeze(0))
    with torch.no_grad():
        total = px.cells(x.float())[0].sum(-1).exp().sum()
    assert float(total) == pytest.approx(1.0, abs=1e-5)


def test_a_grammar_leaves_a_distribution_over_what_it_allows():
    likelihood = likelihood_of(3)
    allowed = torch.ones(6, 6, dtype=torch.bool)
    allowed[:, :END] = False
    allowed[3, 4] = allowed[PAD, 5] = False
    likelihood.net.allowed = allowed
    x = every_sequence(6, 3)
    before = torch.nn.functional.pad(x[:, :-1], (1, 0))
    fine = (allowed[before, x] | (x == PAD)).all(1)
    px = likelihood(params_of(likelihood).expand(len(x), 3).unsqueeze(0))
    with torch.no_grad():
        p = px.cells(x.float())[0].sum(-1).exp()
    assert float(p[fine].sum()) == pytest.approx(1.0, abs=1e-5)
    assert float(p[~fine].sum()) == 0
    draws = likelihood(params_of(likelihood).expand(200, 3).unsqueeze(0)).sample(torch.Generator().manual_seed(0))[0]
    before = torch.nn.functional.pad(draws[:, :-1].long(), (1, 0))
    assert (allowed[before, draws.long()] | (draws == PAD)).all()


def test_draws_come_as_often_as_their_probability_says():
    likelihood = likelihood_of(2, size=5)
    x = every_sequence(5, 2)
    params = params_of(likelihood)
    with torch.no_grad():
        p = likelihood(params.expand(len(x), 3).unsqueeze(0)).cells(x.float())[0].sum(-1).exp()
    n = 20_000
    draws = likelihood(params.expand(n, 3).unsqueeze(0)).sample(torch.Generator().manual_seed(0))[0]
    often = (draws[:, None] == x.float()).all(-1).float().mean(0)
    assert (often - p).abs().max() < 5 * math.sqrt(0.25 / n)  # five standard errors of a share


@pytest.mark.parametrize("nets", [Recurrent(8), Transformer(8, 2, 2)], ids=["gru", "attention"])
@pytest.mark.parametrize("told", ["whole", "steps"])
@pytest.mark.parametrize("period", [0, 3])
def test_writing_step_by_step_is_what_scoring_sees_at_once(nets, told, period):
    likelihood = likelihood_of(5, nets=nets, told=told, period=period, tick=4 if period else -1)
    px = likelihood(params_of(likelihood, 30).unsqueeze(0))
    greedy = px.mode[0]
    # Of every first token that is not the greedy one the probability is smaller.
    for token in range(END, 6):
        other = greedy.clone()
        other[:, 0] = token
        with torch.no_grad():
            a, b = px.cells(greedy)[0, :, 0], px.cells(other)[0, :, 0]
        assert (b <= a + 1e-6).all()
    # And so it goes on: at each later step, given the greedy tokens before.
    for at in range(1, 5):
        inside = (greedy[:, :at] != END).all(1)
        for token in range(END, 6):
            other = greedy.clone()
            other[:, at] = token
            with torch.no_grad():
                a, b = px.cells(greedy)[0, :, at], px.cells(other)[0, :, at]
            assert (b <= a + 1e-6)[inside].all()


def test_a_large_vocabularys_two_steps_are_one_distribution():
    likelihood = likelihood_of(4, size=700, width=16)
    assert likelihood.net.rare is not None
    h, token = torch.randn(50, 16), torch.randint(END, 700, (50,), generator=torch.Generator().manual_seed(0))
    before = torch.full((50,), OWN)
    with torch.no_grad():
        log_p = likelihood.net.log_p(h, before)
        nats = likelihood.net.nats(h, token, before)
    assert torch.allclose(log_p.exp().sum(-1), torch.ones(50), atol=1e-5)
    assert torch.allclose(-log_p.gather(1, token[:, None])[:, 0], nats, atol=1e-5)


def test_what_is_not_observed_is_neither_scored_nor_seen():
    likelihood = likelihood_of(4)
    px = likelihood(params_of(likelihood, 2).unsqueeze(0))
    x = torch.tensor([[3.0, 4, 5, 2], [3, 4, 5, 2]])
    observed = torch.tensor([[True, False, True, True], [True, True, True, True]])
    other = x.clone()
    other[0, 1] = 5
    with torch.no_grad():
        a, b = (px.seen(t, observed)[0] for t in (x, other))
    assert a[0, 1] == 0
    assert torch.equal(a, b)


def test_words_that_are_dropped_are_dropped_in_training_alone():
    likelihood = likelihood_of(4, word_dropout=0.5)
    likelihood.stir(torch.Generator().manual_seed(0))
    px = likelihood(params_of(likelihood, 1).unsqueeze(0))
    x = torch.tensor([[3.0, 4, 5, 2]])
    with torch.no_grad():
        same = [px.cells(x) for _ in range(2)]
        likelihood.train()
        drawn = [px.cells(x) for _ in range(8)]
    assert torch.equal(*same)
    assert len({d.sum().item() for d in drawn}) > 1


def test_top_p_keeps_the_likeliest_that_have_the_share_together():
    p = torch.tensor([[0.5, 0.3, 0.15, 0.05], [0.25, 0.25, 0.25, 0.25]])
    assert likeliest(p, 0.7)[0].tolist() == pytest.approx([0.5, 0.3, 0, 0])
    assert likeliest(p, 1e-6)[0].tolist() == pytest.approx([0.5, 0, 0, 0])
    assert (likeliest(p, 0.7)[1] > 0).sum() == 3


def test_at_temperature_zero_a_draw_is_the_greedy_path():
    px = likelihood_of(4)(params_of(likelihood_of(4), 20).unsqueeze(0))
    cold = px.bent(Bend(temperature=0.0)).sample(torch.Generator().manual_seed(0))
    nearly = px.bent(Bend(temperature=1e-4)).sample(torch.Generator().manual_seed(0))
    assert torch.equal(cold, px.mode)
    assert torch.equal(nearly, px.mode)


def test_a_token_follows_only_what_it_may_follow():
    follows = np.zeros((6, 6), bool)
    follows[PAD, 3] = follows[3, 4] = follows[4, END] = True
    likelihood = likelihood_of(4)
    px = likelihood(params_of(likelihood, 50).unsqueeze(0)).bent(Bend(follows=torch.from_numpy(follows)))
    draws = px.sample(torch.Generator().manual_seed(0))[0]
    assert (draws == torch.tensor([3.0, 4, 2, 0])).all()


@pytest.mark.parametrize("bad", [{"temperature": -1}, {"temperature": float("nan")}, {"top_p": 0}, {"top_p": 1.5}])
def test_draws_that_cannot_be_are_refused(bad):
    with pytest.raises(ConfigError, match=r"temperature|top_p"):
        Bend(**bad)


def test_rows_are_filled_and_cut_to_the_steps():
    batch = batch_of([[3, 4], [3, UNSEEN, 5, 6, 7]], 4)
    assert batch.x.tolist() == [[3, 4, 0, 0], [3, 1, 5, 6]]
    assert batch.observed.tolist() == [[True, True, False, False], [True, False, True, True]]


# ── a code that cannot collapse ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("spread", [0.2, 0.47, 0.8])
def test_the_kl_of_normed_means_is_never_below_its_floor(spread):
    torch.manual_seed(0)
    head = Normed(8, spread).build(5).train()
    h = torch.randn(4000, 5) * 7 + 3
    head.start(h)
    with torch.no_grad():
        q = head(h)
    assert torch.allclose(q.mean.std(0, correction=0), torch.full((8,), spread), atol=1e-4)
    floor = -0.5 * 8 * math.log(1 - spread**2)
    assert float(q.kl_standard.sum(-1).mean()) >= floor - 1e-4
    head.settle(h)
    assert torch.allclose(head.eval()(h).mean, q.mean, atol=1e-4)


def test_rows_of_one_kind_do_not_make_normed_means_explode():
    head = Normed(4).build(5).train()
    h = torch.ones(10, 5)
    head.start(h)
    assert torch.isfinite(head(h).mean).all()
