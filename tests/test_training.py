import numpy as np
import pytest
import torch

from latente import Autoencoder
from latente.errors import ConfigError
from latente.kinds.table import Table
from latente.model.model import Loss
from latente.model.spec import Train, recipe
from latente.training.feed import batches, plan, split
from latente.training.loop import train
from latente.training.optimiser import rate
from latente.training.progress import count, duration, line


def line_data(n=400, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, 1)) @ np.ones((1, 4)) + 0.1 * rng.normal(size=(n, 4))


def test_one_seed_is_one_model_bit_for_bit():
    x = line_data()
    a, b, c = (Autoencoder(dim=2, steps=100, random_state=s).fit(x).transform(x) for s in (0, 0, 1))
    assert np.array_equal(a, b)
    assert not np.array_equal(a, c)


def test_global_random_state_is_never_touched():
    torch.manual_seed(5)
    np.random.seed(5)  # noqa: NPY002 - the global state is what is looked at
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    ae = Autoencoder("ae", dim=2, steps=20).fit(line_data())
    ae.sample(3)
    ae.score_samples(line_data())
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])  # noqa: NPY002


def test_an_epoch_sees_every_row_once_in_batches_of_one_size():
    parts = list(batches(1003, 125, torch.Generator().manual_seed(0)))
    assert sorted(torch.cat(parts).tolist()) == list(range(1003))
    assert [len(p) for p in parts] == [125] * 8 + [3]
    assert [len(p) for p in batches(5, 2, torch.Generator())] == [2, 2]  # a batch of one row teaches nothing


def test_held_out_rows_are_not_trained_on():
    fit, held = split(100, Train(validation=0.2))
    assert len(held) == 20
    assert sorted([*fit.tolist(), *held.tolist()]) == list(range(100))


def test_a_run_is_planned_by_steps_epochs_or_the_number_of_rows():
    assert plan(1000, Train(steps=70)).steps == 70
    assert plan(1000, Train(epochs=3, batch_size=100)).steps == 30
    assert plan(100, Train()).steps >= 1000
    assert plan(1000, Train(time_limit=5.0)).steps is None


def test_a_time_limit_ends_the_run_and_its_schedule_with_it():
    ae = Autoencoder(dim=2, time_limit=0.5, random_state=0).fit(line_data())
    assert ae.history_.ended == "time limit"
    # Reading may take up to half of the limit; a busy machine takes its time for the last step.
    assert 0.25 <= ae.history_.seconds < 3
    assert ae.history_.rows[-1]["share"] > 0.8


def test_early_stopping_keeps_the_best_weights():
    # Pure noise: a flexible autoencoder can only over-fit.
    x = np.random.default_rng(0).normal(size=(200, 20))
    ae = Autoencoder("ae", dim=15, random_state=0, settings={"train.patience": 5}).fit(x)
    assert ae.history_.ended == "early stopping"
    losses = [r["val"]["loss"] for r in ae.history_.rows]
    assert [r for r in ae.history_.rows if r.get("best")][-1]["val"]["loss"] == pytest.approx(min(losses), rel=1e-3)
    assert ae.history_.best_epoch < ae.history_.rows[-1]["epoch"]


class _Poisoned:
    """The ae objective, not finite at every fifth step."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, model, batch):
        self.calls += 1
        rec = -model.run(batch).log_px.mean()
        if model.training and self.calls % 5 == 0:
            rec = rec * float("nan")
        return Loss(rec, {"rec": rec})


def fitted(objective, config, x):
    kind = Table().learn(x)
    spec = recipe("ae")
    model = type(spec)(kind, None, spec.latent, spec.prior, spec.objective).model(0)
    return model, train(model, objective, kind.to_batch(x), kind, config)


def test_steps_that_are_not_finite_are_skipped_and_counted():
    # An objective that counts its calls is none for a GPU, where a step is recorded once and played again.
    model, history = fitted(_Poisoned(), Train(steps=50, validation=0.0, device="cpu"), line_data())
    assert history.skipped == 10
    assert all(torch.isfinite(p).all() for p in model.parameters())
    assert any("10 of 50 steps" in f for f in history.findings)
    assert all(np.isfinite(r["train"]["loss"]) for r in history.rows)


def test_ctrl_c_keeps_what_was_learned():
    calls = []

    def interrupt(row, history):
        calls.append(row)
        raise KeyboardInterrupt

    kind = Table().learn(line_data())
    spec = recipe("vae")
    model = type(spec)(kind, None, spec.latent, spec.prior, spec.objective).model(0)
    history = train(model, spec.objective, kind.to_batch(line_data()), kind, Train(steps=500), interrupt)
    assert history.ended == "interrupted"
    assert len(calls) == 1
    assert all(torch.isfinite(p).all() for p in model.parameters())


def test_the_doctor_names_a_collapse():
    # Independent columns and a heavy price on the latent: the optimum is to say nothing.
    x = np.random.default_rng(0).normal(size=(400, 4))
    ae = Autoencoder("beta-vae", dim=4, steps=600, random_state=0, settings={"objective.beta": 20.0}).fit(x)
    assert any(f.startswith("posterior collapse") and "free_bits" in f for f in ae.history_.findings)


def test_free_bits_keep_the_latent_in_use():
    x = line_data() * 0.3 + np.random.default_rng(1).normal(size=(400, 4))
    options = {"objective.beta": 4.0, "objective.free_bits": 1.0, "objective.warmup": 0.0}
    ae = Autoencoder("vae", dim=2, steps=400, random_state=0, settings=options).fit(x)
    # The floor of one nat in each of two dimensions, of which the free part may stay just short.
    assert ae.history_.rows[-1]["train"]["kl"] > 1.8


def test_the_doctor_names_over_fitting():
    x = np.random.default_rng(0).normal(size=(120, 30))
    ae = Autoencoder("ae", dim=20, random_state=0).fit(x)
    assert any(f.startswith("over-fitting") for f in ae.history_.findings)


def test_the_doctor_names_a_run_that_was_too_short():
    ae = Autoencoder(dim=2, time_limit=0.001, random_state=0).fit(line_data(2000))
    assert any(f.startswith("the run was far too short") for f in ae.history_.findings)


def test_a_healthy_model_gets_no_finding():
    x = line_data(2000) + np.random.default_rng(1).normal(size=(2000, 4)) * 0.2
    ae = Autoencoder("vae", dim=1, random_state=0).fit(x)
    assert ae.history_.findings == []


@pytest.mark.slow
def test_bfloat16_learns_as_float32_does():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(1000, 8)) @ rng.normal(size=(8, 40)) + 0.3 * rng.normal(size=(1000, 40))
    scores = [
        Autoencoder(dim=8, steps=400, precision=p, random_state=0, nets={"part": "mlp", "widths": [256, 256]})
        .fit(x[:800])
        .score(x[800:])
        for p in ("float32", "bfloat16")
    ]
    # 40 columns; the runs differ by rounding and by where it leads.
    assert scores[1] == pytest.approx(scores[0], abs=2.0)


@pytest.mark.parametrize(
    ("setting", "value"), [("batch_size", 1), ("lr", 0.0), ("validation", 0.95), ("steps", 0), ("ema", 1.0)]
)
def test_a_training_setting_out_of_range_is_refused(setting, value):
    with pytest.raises(ConfigError, match=f"{setting} must be"):
        Autoencoder(settings={f"train.{setting}": value}).fit(line_data())


def test_a_device_that_is_not_there_is_refused():
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(ConfigError, match="device 'cuda'"):
        Autoencoder(device="cuda", steps=2).fit(line_data())


def test_a_run_shorter_than_an_epoch_is_evaluated_too():
    ae = Autoencoder(dim=2, steps=3, random_state=0).fit(line_data(2000))
    assert len(ae.history_.rows) == 1
    assert ae.card_["held_out"]["loss"] > 0


@pytest.mark.parametrize("decay", [0.0, 0.3])
def test_the_optimiser_is_adam_and_takes_away_from_weights_alone(decay):
    from torch import nn

    from latente.training.optimiser import Optimiser

    layers = [nn.Linear(3, 2), nn.Linear(3, 2)]
    layers[1].load_state_dict(layers[0].state_dict())
    ours = Optimiser(layers[0], Train(lr=1e-2, lr_warmup=0.0, weight_decay=decay))
    x = torch.randn(200, 8, 3, generator=torch.Generator().manual_seed(0))
    groups = [{"params": [layers[1].weight], "weight_decay": decay}, {"params": [layers[1].bias]}]
    theirs = torch.optim.AdamW(groups, lr=1e-2, weight_decay=0.0)
    for rows in x:
        layers[0].zero_grad()
        layers[0](rows).square().sum().backward()
        ours.step(0.0)
        theirs.zero_grad()
        layers[1](rows).square().sum().backward()
        theirs.step()
    for p, q in zip(layers[0].parameters(), layers[1].parameters(), strict=True):
        assert torch.allclose(p, q, rtol=1e-4, atol=1e-6)


def test_the_low_precision_stack_computes_what_autocast_does():
    from latente.model.nets.layers import ACTIVATIONS, Stack

    for name in ACTIVATIONS:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            stack = Stack((6, 16, 16, 4), name, residual=True, open_end=True)
            x = torch.randn(32, 6, requires_grad=True)
        found = []
        for low in (False, True):
            x.grad = None
            stack.zero_grad()
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=low):
                stack(x).float().square().sum().backward()
            found.append([x.grad.clone(), *(p.grad.clone() for p in stack.parameters())])
        for exact, rounded in zip(*found, strict=True):
            # bfloat16 has 8 bits: a few thousandths in each of a handful of products.
            assert (exact - rounded).norm() <= 0.03 * exact.norm() + 1e-3


def test_small_steps_take_one_thread_and_the_number_is_put_back():
    from latente.training.precision import kernels_of, threads_for

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    layer = torch.nn.Linear(300, 300)
    try:
        for batch, written, threads in ((1000, True, 1), (1000, False, 1), (100_000, True, 2), (100_000, False, 2)):
            with threads_for(kernels_of(layer, Train(batch_size=batch), written)) as used:
                assert used == torch.get_num_threads() == threads
            assert torch.get_num_threads() == 2
        assert kernels_of(torch.nn.Conv2d(3, 3, 3), Train()).threads == 2
    finally:
        torch.set_num_threads(before)


def test_the_rate_rises_then_falls():
    rates = [rate(t / 100, 0.1) for t in range(101)]
    assert max(rates) == rates[10] == pytest.approx(1.0)
    assert rates[0] < 0.02
    assert rates[100] == pytest.approx(0.01)


def test_the_progress_line_says_what_the_design_asks():
    ae = Autoencoder(dim=2, steps=200, random_state=0).fit(line_data())
    text = line(ae.history_.rows[-1], ae.history_)
    for piece in ("epoch ", " left", "val −ELBO", "rec ", "KL ", " nats", "active ", "/2", "rows/s", " GB"):
        assert piece in text
    assert [duration(s) for s in (12.2, 190, 3725)] == ["12s", "3m10s", "1h02m"]
    assert [count(n) for n in (950, 18_200, 2.1e6)] == ["950", "18.2k", "2.1M"]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # the compiler stumbles over its own warnings
def test_a_compiled_step_learns_what_the_step_does():
    import shutil

    if not shutil.which("g++"):
        pytest.skip("torch's compiler needs g++ on a CPU, and none is here")
    x = line_data()
    options = {"dim": 2, "steps": 30, "random_state": 0}
    losses = [
        Autoencoder("ae", settings={"train.compile": c}, **options).fit(x).history_.rows[-1]["val"]["loss"]
        for c in (False, True)
    ]
    # Joined operations round elsewhere, over 30 steps.
    assert losses[1] == pytest.approx(losses[0], abs=1e-2)


def test_a_long_pass_over_rows_says_how_far_it_is_and_a_short_one_nothing(monkeypatch):
    import io

    from latente.training import progress

    def told(quiet, wait):
        monkeypatch.setattr(progress, "QUIET", wait)
        stream = io.StringIO()
        passed = progress.Passed(3000, quiet, stream)
        for _ in range(3):
            passed(1000)
        return stream.getvalue().splitlines()

    assert [line.split(" · ")[0] for line in told(False, 0.0)] == ["1,000 of 3,000 rows", "2,000 of 3,000 rows"]
    assert told(False, 10.0) == told(True, 0.0) == []


@pytest.mark.parametrize("recipe_", ["vae", "ae"])
def test_a_model_whose_numbers_are_not_finite_is_not_kept(recipe_, tmp_path):
    with pytest.raises(ConfigError, match=r"diverged(.|\n)*train.lr=1e-4"):
        Autoencoder(recipe_, dim=2, epochs=2, random_state=0, settings={"train.lr": 1e30}).fit(line_data())


def test_settings_that_float32_or_a_batch_cannot_hold_are_refused():
    for settings in ({"objective.beta": 1e300}, {"objective.free_bits": 1e300}, {"train.batch_size": 2**63}):
        with pytest.raises(ConfigError, match="must be"):
            Autoencoder("vae", epochs=2, settings=settings).fit(line_data())
    ae = Autoencoder("vae", epochs=2, settings={"train": {"lr": 2e-3}}).fit(line_data())
    assert (ae.spec_.train.lr, ae.spec_.train.epochs) == (2e-3, 2)
