"""The doctor: what it does in a run, what it leaves alone, and its verdict."""

import json
import signal
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

import latente as lt
from latente import Autoencoder
from latente.kinds.image import Image
from latente.kinds.table import Table
from latente.model.nets.mlp import Mlp
from latente.model.objectives.elbo import Elbo
from latente.model.spec import Spec, Train, recipe
from latente.training import doctor, treatment
from latente.training.checkpoint import Slots
from latente.training.loop import History, train


def factors(n=400, k=3, each=8, share=0.4):
    """Columns in `k` groups that correlate by `share`. A group's factor is worth .5 log(3.8 / .6) = .92 nats. But at
    the start, where σ is 1, β = 6 asks for a variance above 6 along it, and it has 3.8: the posterior collapses, and
    stays so.
    """
    rng = np.random.default_rng(0)
    common = rng.normal(size=(n, k)).repeat(each, 1)
    return np.sqrt(share) * common + np.sqrt(1 - share) * rng.normal(size=(n, k * each))


SMALL = {"part": "mlp", "widths": [32]}
HEAVY = {"dim": 6, "steps": 500, "lr": 5e-3, "random_state": 0, "nets": SMALL, "settings": {"objective.beta": 6.0}}


@pytest.fixture(scope="module")
def both():
    """A table under too heavy a price, with the doctor and without it."""
    return {d: Autoencoder("beta-vae", doctor=d, **HEAVY).fit(factors()) for d in ("on", "off")}


def trained(doctor="on", slots=None, stop_at=0, objective=None, x=None, **options):
    """A model of a few hundred steps and its history; a Ctrl-C comes at look `stop_at`."""
    x = factors() if x is None else x
    kind, base = Table().learn(x), recipe("beta-vae")
    objective = objective or replace(base.objective, beta=6.0)
    model = Spec(kind, Mlp((32,)), type(base.latent)(6), base.prior, objective).model(0)
    config = Train(**{"steps": 450, "lr": 5e-3, "doctor": doctor, "patience": 100} | options)

    def report(row, history):
        if len(history.rows) == stop_at:
            signal.raise_signal(signal.SIGINT)

    return model, train(model, objective, kind.to_batch(x), kind, config, report, slots=slots)


def same(a, b):
    return all(torch.equal(p, q) for p, q in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


# ── collapse ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_posterior_that_collapses_without_the_doctor_does_not_with_it(both):
    on, off = both["on"], both["off"]
    found = [lt.evaluate(ae, factors(), samples=5) for ae in (on, off)]
    assert found[1]["active_units"] == 0
    assert found[1]["kl"] < 0.1
    assert found[0]["active_units"] >= 2
    assert found[0]["kl"] > 1
    # On the very rows: what is said is worth more than it costs.
    assert found[0]["neg_elbo"] < found[1]["neg_elbo"]
    act = on.history_.interventions[0]
    assert act["kind"] == "free bits"
    assert 200 <= act["step"] < 500
    assert "posterior collapse" in act["words"]
    assert "--doctor off" in act["words"]


def test_after_the_floor_the_verdict_is_healthy_and_says_what_was_done(both):
    h = both["on"].history_
    assert h.verdict.startswith("healthy: 6 of 6 latent dimensions in use, ")
    assert any("free bits" in f and "were switched on" in f for f in h.findings)
    assert both["on"].card_["verdict"] == h.verdict
    assert lt.info(both["on"])["verdict"] == h.verdict
    assert both["off"].history_.verdict.startswith("posterior collapse")


def test_switched_off_it_changes_nothing_and_still_says_what_it_sees(both, monkeypatch):
    off = both["off"]
    for name, nothing in (("before", []), ("during", None), ("early", None)):
        monkeypatch.setattr(treatment, name, lambda *_, nothing=nothing: nothing)
    never = Autoencoder("beta-vae", **HEAVY).fit(factors())
    assert same(off.model_, never.model_)
    assert not same(off.model_, both["on"].model_)
    assert off.history_.interventions == []
    assert off.history_.verdict.startswith("posterior collapse")


def test_a_run_that_is_resumed_across_an_intervention_ends_with_equal_bits(tmp_path):
    whole, history = trained()
    assert [a["kind"] for a in history.interventions] == ["free bits"]
    treated_at = next(i for i, r in enumerate(history.rows, 1) if "doctor" in r)
    # At its first sign, which the doctor must remember, and right after it.
    for where in (treated_at - 1, treated_at):
        _, stopped = trained(slots=Slots(tmp_path / str(where)), stop_at=where)
        assert stopped.ended == "interrupted"
        again, resumed = trained(slots=Slots(tmp_path / str(where)))
        assert same(whole, again)
        assert resumed.interventions == history.interventions
        assert resumed.verdict == history.verdict


def test_of_noise_it_says_that_there_is_nothing_to_learn_and_does_little_harm():
    x = np.random.default_rng(0).normal(size=(400, 24))
    found = [Autoencoder("beta-vae", doctor=d, **HEAVY).fit(x[:300]) for d in ("on", "off")]
    assert [a["kind"] for a in found[0].history_.interventions] == ["free bits"]
    assert "nothing to learn" in found[0].history_.verdict
    on, off = (lt.evaluate(ae, x[300:], samples=5)["neg_elbo"] for ae in found)
    # At the worst the whole floor is paid and nothing had for it: 6 dimensions of 0.25 nats, and the draws' noise.
    assert on < off + 6 * 0.25 + 0.3


@pytest.mark.parametrize("share", [0.0, 0.9])
def test_a_collapse_is_not_called_before_the_kl_has_settled_nor_when_it_is_too_late(share):
    row = {"active": 0, "dim": 8, "val": {"kl": 0.0, "loss": 9.0, "rec": 9.0}, "train": {"loss": 9.0}}
    rows = [row | {"steps": s, "share": share} for s in (500, 550)]
    assert treatment.during(History(rows=rows, steps=550), Elbo(), Train(), "table") is None
    rows = [row | {"steps": s, "share": 0.4} for s in (500, 550)]
    assert treatment.during(History(rows=rows, steps=550), Elbo(), Train(), "table").settings == {"free_bits": 0.25}
    assert treatment.during(History(rows=rows, steps=550), Elbo(beta=0.0), Train(), "table") is None
    assert treatment.during(History(rows=rows, steps=550), Elbo(free_bits=0.1), Train(), "table") is None


def test_dimensions_that_the_data_do_not_need_are_no_collapse():
    row = {"active": 2, "dim": 32, "val": {"kl": 5.0}, "share": 0.4, "steps": 500}
    assert not treatment.collapsed(row)
    assert treatment.collapsed(row | {"active": 16, "val": {"kl": 0.05}})
    assert treatment.collapsed(row | {"val": {"kl": 0.2}})
    assert treatment.floor("table", 2) == 0.5  # few dimensions get a nat together


# ── no false alarm ──────────────────────────────────────────────────────────────────────────────────────────────


def wholesome(name):
    from sklearn import datasets

    if name == "digits":
        return np.rint(datasets.load_digits().images[:600] * (255 / 16)).astype(np.uint8)
    return getattr(datasets, f"load_{name}")().data


@pytest.mark.parametrize("name", ["people", "dots", "breast_cancer", "wine", "digits"])
def test_a_healthy_run_is_left_alone(name, request):
    x = request.getfixturevalue(name) if name in ("people", "dots") else wholesome(name)
    ae = Autoencoder(steps=500, random_state=0, nets=SMALL).fit(x)
    assert ae.history_.interventions == []
    assert ae.history_.rollbacks == []
    assert "collapse" not in ae.history_.verdict


# ── other interventions ─────────────────────────────────────────────────────────────────────────────────────────


def test_a_kl_that_explodes_sends_the_run_back_with_half_the_rate():
    class Careless(Elbo):
        """elbo, but for a stretch of steps in which the codes are driven outwards."""

        def __call__(self, model, batch):
            found = super().__call__(model, batch)
            if model.training and 0.5 < model.progress < 0.6:
                return type(found)(-found.terms["kl"], found.terms)
            return found

    objective = Careless(warmup=0.1)
    model, history = trained(objective=objective, ema=0.0, lr=2e-2)
    assert {a["kind"] for a in history.interventions} == {"rolled back"}
    assert "KL exploded" in history.rollbacks[0]
    assert any(f.startswith("rolled back") for f in history.findings)
    assert history.rows[-1]["val"]["kl"] < 50
    assert all(torch.isfinite(p).all() for p in model.parameters())
    assert trained("off", objective=objective, ema=0.0, lr=2e-2)[1].rollbacks == []


def test_a_warm_up_longer_than_half_of_the_run_is_shortened_unless_it_is_off():
    objective = Elbo(warmup=0.9)
    for how, acts in (("on", ["warm-up"]), ("off", [])):
        _, history = trained(how, objective=objective, steps=60)
        assert [a["kind"] for a in history.interventions] == acts
    model, _ = trained("off", steps=2)
    assert treatment.before(Elbo(warmup=0.9, schedule="cyclical"), Train(), model) == []
    (act,) = treatment.before(objective, Train(), model)
    assert treatment.treated(objective, [act.noted(0)]) == Elbo(warmup=0.5)


def test_a_decoder_that_sees_the_cells_before_each_gets_a_floor_from_the_first_step_unless_it_is_off():
    white = (np.random.default_rng(0).random((200, 8, 8)) < 0.3).astype(np.uint8) * 255
    options = {"kind": Image(likelihood="autoregressive"), "dim": 4, "steps": 20, "random_state": 0, "nets": SMALL}
    on, off = (Autoencoder("vae", doctor=d, **options).fit(white) for d in ("on", "off"))
    (act,) = on.history_.interventions
    assert (act["kind"], act["step"], act["settings"]) == ("floor", 0, {"free_bits": 0.25})
    assert "--doctor off" in act["words"]
    assert any(act["words"] in f for f in on.history_.findings)
    assert off.history_.interventions == []
    assert not same(on.model_, off.model_)
    # What was asked for stands, and where the KL has no price there is nothing to floor.
    for objective in (Elbo(free_bits=0.1), Elbo(beta=0.0), Elbo(capacity=5.0), recipe("iwae").objective):
        assert treatment.before(objective, Train(), on.model_) == []
    assert len(treatment.before(Elbo(warmup=0.9), Train(), on.model_)) == 2


def test_the_floor_of_all_dimensions_together_has_bounds():
    assert treatment.floor("image", 16) == 0.5
    assert treatment.floor("table", 2) * 2 == 1
    # A ladder has thousands, and was given hundreds of nats.
    assert treatment.floor("image", 1502) * 1502 == pytest.approx(16)


def test_a_run_does_not_end_early_while_the_price_of_the_code_rises():
    objective, x = Elbo(warmup=0.5), np.random.default_rng(0).normal(size=(200, 30))
    ended = {}
    for how in ("on", "off"):
        _, history = trained(how, objective=objective, x=x, steps=1000, patience=1)
        ended[how] = history.steps
    assert ended["off"] < 500 <= ended["on"]


# ── words ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_handful_of_steps_is_too_short_and_no_collapse():
    ae = Autoencoder(steps=5, random_state=0).fit(factors())
    assert ae.history_.verdict.startswith("the run was far too short: 5 steps")
    assert not any("collapse" in f for f in ae.history_.findings)


def test_pca_of_the_same_size_is_named_where_it_reconstructs_better():
    x = np.random.default_rng(0).normal(size=(300, 3)) @ np.random.default_rng(1).normal(size=(3, 12))
    options = {"dim": 3, "steps": 250, "nets": {"part": "mlp", "widths": [4]}, "random_state": 0}
    ae = Autoencoder("ae", lr=1e-4, **options).fit(x)
    # Three factors without noise: PCA misses nothing.
    assert any(f.startswith("PCA of the same size (3 components) reconstructs better: it misses 0%") for f in _f(ae))
    good = Autoencoder("ae", dim=3, steps=500, lr=1e-2, random_state=0, nets=SMALL).fit(x)
    assert not any(f.startswith("PCA") for f in _f(good))


def _f(ae):
    return ae.history_.findings


def test_a_run_that_diverged_to_the_end_says_so_first():
    class Broken:
        def __call__(self, model, batch):
            loss = recipe("ae").objective(model, batch)
            return type(loss)(loss.total * float("nan") if model.training else loss.total, loss.terms)

    _, history = trained(objective=Broken(), steps=300)
    assert history.verdict.startswith("diverged: ")
    assert history.findings[0] == history.verdict
    rows = [
        {"steps": s, "epoch": s / 10, "train": {"loss": 10.0 + up, "rec": 1.0}, "val": {"loss": 11.0 + up, "rec": 1.0}}
        for s, up in ((10, 0.0), (20, 50.0), (30, 500.0))
    ]
    told = doctor._broken(_Still(), History(rows=rows, steps=30))
    assert told[0][1].startswith("diverged: after epoch 1 the training loss rose from 10.0 to 510.0 nats")


class _Still:
    mean = torch.zeros(2, 2)


def test_a_unit_scale_on_residuals_of_another_size_is_said_with_the_command():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 1)) @ np.ones((1, 6)) + 0.02 * rng.normal(size=(400, 6))
    options = {"dim": 1, "steps": 300, "lr": 1e-2, "random_state": 0, "kind": "table", "nets": SMALL}
    ae = Autoencoder("ae", settings={"kind.scale": "unit"}, **options).fit(x)
    assert any("the loss is unscaled" in f and "--set kind.scale=closed-form" in f for f in _f(ae))
    assert not any("unscaled" in f for f in _f(Autoencoder("ae", **options).fit(x)))


def test_a_decoder_that_expects_what_no_row_holds_is_named_with_the_column():
    frame = pd.DataFrame(factors(), columns=[f"c{i}" for i in range(24)])
    ae = Autoencoder("vae", steps=20, random_state=0).fit(frame)
    batch = next(iter(ae.batches(frame)))
    assert doctor._range(ae.model_, batch, batch, ae.schema_) == []
    last = [m for m in ae.model_.output.modules() if hasattr(m, "bias") and m.bias is not None][-1]
    with torch.no_grad():
        last.bias[4] += 100.0
    ((_, text),) = doctor._range(ae.model_, batch, batch, ae.schema_)
    assert "column 'c4' in 100% of held-out rows" in text


def test_a_beta_of_zero_is_called_an_autoencoder():
    _, history = trained(objective=Elbo(beta=0.0), steps=250)
    assert any("this is an autoencoder" in f for f in history.findings)
    assert history.interventions == []


def test_codes_that_no_row_uses_are_counted():
    x = np.random.default_rng(0).normal(size=(200, 3))
    ae = Autoencoder("vq-vae", dim=2, settings={"latent.size": 16}, steps=30, random_state=0).fit(x)
    few = ae.model_.encode(next(ae.batches(x[:2])))
    # Two rows take at most two of the sixteen entries.
    assert doctor._codes(ae.model_, few)[0][1].startswith(("6% of the codebook", "12% of the codebook"))
    assert doctor._codes(ae.model_, ae.model_.encode(next(ae.batches(x)))) == []


def test_a_posterior_that_moves_no_mean_says_nothing_whatever_its_kl():
    from latente.model.latents.gaussian import DiagonalGaussian

    still = DiagonalGaussian(torch.full((50, 3), 2.0), torch.full((50, 3), -1.0))
    assert doctor.most_information(still) == pytest.approx(0.0, abs=1e-6)
    # Two values, far apart for the noise: log 2 = 0.693 nats at the most, of which the Gaussian bound makes 3.
    apart = DiagonalGaussian(torch.tensor([[1.0], [-1.0]]), torch.full((2, 1), -3.0))
    assert apart.mean.std() > 0
    assert doctor.most_information(apart) > 0.693


def test_evaluate_gives_the_kl_of_each_dimension(both, capsys):
    from latente.cli import _lines

    found = lt.evaluate(both["on"], factors(), samples=5)
    assert len(found["kl_by_dim"]) == 6
    # Six numbers rounded to three digits.
    assert sum(found["kl_by_dim"]) == pytest.approx(found["kl"], abs=6 * 5e-4 + 1e-3)
    _lines(found)
    assert sum(line.startswith("kl_by_dim") for line in capsys.readouterr().out.splitlines()) == 1
    assert "kl_by_dim" not in lt.evaluate(Autoencoder("ae", dim=2, steps=5).fit(factors()), factors())


def test_a_run_folder_holds_the_verdict_and_what_was_done(tmp_path):
    frame = pd.DataFrame(factors(), columns=[f"c{i}" for i in range(24)])
    frame.to_csv(tmp_path / "x.csv", index=False)
    settings = ["train.steps=500", "train.lr=5e-3", "nets=mlp", "nets.widths=[32]", "objective.beta=6"]
    lt.fit(str(tmp_path / "x.csv"), recipe="beta-vae", dim=6, set=settings, output=tmp_path / "run", quiet=True)
    run = json.loads((tmp_path / "run" / "run.json").read_text())
    assert run["verdict"].startswith("healthy: ")
    assert run["interventions"][0]["kind"] == "free bits"
    log = (tmp_path / "run" / "log.txt").read_text()
    assert f"doctor: {run['verdict']}" in log
    assert f"at step {run['interventions'][0]['step']}: posterior collapse" in log
    lt.fit(str(tmp_path / "x.csv"), set=["train.steps=5"], doctor="off", output=tmp_path / "off", quiet=True)
    assert json.loads((tmp_path / "off" / "spec.json").read_text())["train"]["doctor"] == "off"
