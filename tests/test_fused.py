"""The written-out training step gives the loss, the terms and the gradients that autograd gives."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from latente.kinds.base import Kind
from latente.kinds.image import Image
from latente.kinds.table import Table
from latente.model.batch import Batch
from latente.model.model import Model
from latente.model.spec import Spec, Train, recipe
from latente.training.fused import step_of
from latente.training.loop import train
from latente.training.optimiser import Optimiser

ROWS = 40


def pictures(likelihood: str) -> tuple[Kind, Batch]:
    rng = np.random.default_rng(0)
    x = (rng.random((ROWS, 6, 5)) ** 2 * 255).astype(np.uint8)
    kind = Image(likelihood=likelihood).learn(x)
    return kind, kind.to_batch(x)


def table(scale: str, gaps: float = 0.0) -> tuple[Kind, Batch]:
    import pandas as pd

    rng = np.random.default_rng(0)
    x = rng.normal(size=(ROWS, 4))
    x[rng.random(x.shape) < gaps] = np.nan
    frame = pd.DataFrame(x, columns=list("abcd")).assign(
        yes=rng.random(ROWS) < 0.3, level=rng.choice(["x", "y", "z"], ROWS)
    )
    kind = Table(scale=scale).learn(frame)
    return kind, kind.to_batch(frame)


DATA = {
    "bernoulli": lambda: pictures("bernoulli"),
    "gaussian": lambda: pictures("gaussian"),
    "logistic": lambda: pictures("discretised-logistic"),
    "table": lambda: table("closed-form"),
    "learned": lambda: table("learned"),
    "gaps": lambda: table("unit", gaps=0.2),
}
# Each recipe, and nets that have every branch of the pass.
NETS = {
    "relu": {"part": "mlp", "widths": [24, 12], "activation": "relu"},
    "residual": {"part": "mlp", "widths": [16, 16, 16], "activation": "silu", "residual": True},
    "gelu": {"part": "mlp", "widths": [16, 16], "activation": "gelu", "residual": True},
    "sigmoid": {"part": "mlp", "widths": [8], "activation": "sigmoid"},
    "tanh": {"part": "mlp", "widths": [8, 8], "activation": "tanh", "residual": True},
    "linear": {"part": "mlp", "widths": []},
}


def spec_of(name: str, nets: str, kind: Kind, **settings: object) -> Spec:
    document = recipe(name).to_json() | {"nets": NETS[nets], "kind": None}
    document["latent"]["dim"] = 3
    spec = Spec.from_json(document)
    return Spec(kind, spec.nets, spec.latent, spec.prior, spec.objective, spec.corruption, Train(**settings))


def autograd_of(model: Model, objective: object) -> object:
    """The ordinary way."""

    def gradients(batch: Batch) -> object:
        model.zero_grad()
        loss = objective(model, batch)
        loss.total.backward()
        return loss

    return gradients


def both(name: str, nets: str, data: str, low: bool) -> list[tuple[Model, Batch, object]]:
    """Two equal models, and what each says of one batch."""
    kind, rows = DATA[data]()
    found = []
    for fused in (True, False):
        spec = spec_of(name, nets, kind)
        model = spec.model(0).train()
        model.low_precision = low
        with torch.no_grad():  # a value in a gap starts at 0, where its gradient could hide
            for w in model.parameters():
                w.add_(0.05 * torch.randn(w.shape, generator=torch.Generator().manual_seed(w.numel())))
        gradients = (step_of if fused else autograd_of)(model, spec.objective)
        assert gradients is not None
        for seed in (0, 1):  # the second pass finds the buffers of the first
            model.progress, model.generator = 0.03, torch.Generator().manual_seed(seed)
            loss = gradients(kind.prepare(rows, model.generator))
        found.append((model, loss))
    return found


@pytest.mark.parametrize("data", DATA)
@pytest.mark.parametrize("nets", NETS)
@pytest.mark.parametrize("name", ["vae", "beta-vae", "ae", "denoising"])
def test_the_written_step_is_the_objective_and_its_gradient(name, nets, data):
    (ours, loss), (theirs, exact) = both(name, nets, data, low=False)
    # float32 has 24 bits: sums of a few thousand terms in another order agree to some 1e-5.
    assert_close(loss.total, exact.total.detach(), rtol=2e-5, atol=1e-5)
    assert loss.terms.keys() == exact.terms.keys()
    for key, term in loss.terms.items():
        assert_close(term, exact.terms[key].detach(), rtol=2e-5, atol=1e-5)
    for (key, p), q in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        expected = torch.zeros_like(q) if q.grad is None else q.grad
        assert_close(p.grad, expected, rtol=1e-4, atol=2e-6 * max(1.0, float(expected.abs().max())), msg=key)
    for (key, a), b in zip(ours.named_buffers(), theirs.buffers(), strict=True):
        assert_close(a, b, rtol=1e-5, atol=1e-6, msg=key)


@pytest.mark.parametrize("data", ["bernoulli", "gaussian", "gaps"])
@pytest.mark.parametrize("nets", ["relu", "residual", "gelu"])
@pytest.mark.parametrize("name", ["vae", "ae"])
def test_in_bfloat16_too(name, nets, data):
    (ours, loss), (theirs, exact) = both(name, nets, data, low=True)
    # bfloat16 has 8 bits, and both sides round at the same places; a sum in another order may round the other way.
    assert_close(loss.total, exact.total.detach(), rtol=2e-3, atol=1e-2)
    for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
        expected = torch.zeros_like(q) if q.grad is None else q.grad
        assert (p.grad - expected).norm() <= 0.01 * expected.norm() + 1e-4


def test_a_fit_ends_where_one_by_autograd_ends(monkeypatch):
    from latente.training import gradients, loop

    found = []
    for make in (step_of, lambda model, objective, onednn: None):
        monkeypatch.setattr(gradients, "step_of", make)
        kind, rows = pictures("bernoulli")
        spec = spec_of("vae", "residual", kind, steps=60, batch_size=16, validation=0.25)
        model = spec.model(0)
        history = loop.train(model, spec.objective, rows, kind, spec.train)
        found.append((model.state_dict(), history.rows))
    for (name, a), b in zip(found[0][0].items(), found[1][0].values(), strict=True):
        # Adam divides by a gradient's own size: rounding grows where a gradient is close to 0, over 60 steps of 1e-3.
        assert_close(a, b, rtol=1e-3, atol=1e-4, msg=name)
    for ours, theirs in zip(found[0][1], found[1][1], strict=True):
        assert ours["val"]["loss"] == pytest.approx(theirs["val"]["loss"], rel=1e-4)


def test_the_written_step_gives_the_same_bits_again():
    kind, rows = pictures("bernoulli")
    found = []
    for _ in range(2):
        spec = spec_of("vae", "relu", kind, steps=20, batch_size=16, precision="bfloat16")
        model = spec.model(0)
        train(model, spec.objective, rows, kind, spec.train)
        found.append(model.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(found[0].values(), found[1].values(), strict=True))


def test_what_is_not_known_is_left_to_autograd():
    kind, _ = pictures("bernoulli")
    for name in ("iwae", "sparse", "contractive", "mixture"):
        spec = spec_of(name, "relu", kind)
        assert step_of(spec.model(0), spec.objective) is None
    spec = spec_of("vae", "relu", kind)
    for settings in ({"free_bits": 0.1}, {"samples": 2}):
        assert step_of(spec.model(0), replace(spec.objective, **settings)) is None


def test_bernoulli_cells_of_any_size_have_their_cross_entropy():
    from latente.model.dists.bernoulli import Bernoulli

    logits = torch.linspace(-120, 120, 3 * 50).reshape(3, 50)
    x = torch.rand(3, 50, generator=torch.Generator().manual_seed(0))
    gradient, leaf = torch.empty_like(logits), logits.clone().requires_grad_()
    rec = Bernoulli().build((50,)).descend(logits, Batch(x), gradient)
    exact = torch.nn.functional.binary_cross_entropy_with_logits(leaf, x, reduction="sum") / 3
    exact.backward()
    assert_close(rec, exact.detach(), rtol=1e-6, atol=0)
    assert_close(gradient, leaf.grad, rtol=1e-5, atol=1e-7)


def test_the_optimiser_goes_on_from_its_state_bit_for_bit():
    def run(steps: range, optimiser: Optimiser, layer: torch.nn.Linear) -> None:
        for i in steps:
            x = torch.randn(8, 3, generator=torch.Generator().manual_seed(i))
            layer.zero_grad()
            (layer(x).square().sum() * (float("nan") if i == 3 else 1.0)).backward()
            optimiser.step(i / 12)
            if i == 4:
                optimiser.keep()

    whole, first, second = (torch.nn.Linear(3, 2) for _ in range(3))
    first.load_state_dict(whole.state_dict())
    one, two = Optimiser(whole, Train()), Optimiser(first, Train())
    run(range(12), one, whole)
    run(range(7), two, first)
    state = two.state()
    run(range(7, 9), two, first)  # the state is a copy
    three = Optimiser(second, Train())
    three.restore(state)
    run(range(7, 12), three, second)
    assert one.skipped == three.skipped == 1
    assert one.state().keys() == three.state().keys()
    assert all(torch.equal(a, b) for a, b in zip(one.state().values(), three.state().values(), strict=True))
    assert torch.equal(whole.weight, second.weight)
    one.finish(), three.finish()
    assert torch.equal(whole.weight, second.weight)
    assert whole.weight.untyped_storage().nbytes() == 4 * whole.weight.numel()


def test_the_kernel_is_measured_once_and_remembered(monkeypatch, tmp_path):
    from latente.training import precision

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    layer, config = torch.nn.Linear(500, 500), Train(precision="float32")
    races = []
    monkeypatch.setattr(precision, "_race", lambda threads: races.append(threads) or {"default": 3.0, "onednn": 2.0})
    assert precision.kernels_of(layer, config, True).onednn
    assert precision.kernels_of(layer, config, True).onednn
    assert len(races) == 1
    assert precision.machine()["float32_kernel"] == "oneDNN"
    # A few per cent may be noise; a file that is no JSON, or cannot be written, is no reason to stop.
    monkeypatch.setattr(precision, "_race", lambda threads: {"default": 2.1, "onednn": 2.0})
    (tmp_path / "latente" / "kernels.json").write_text("{")
    assert not precision.kernels_of(layer, config, True).onednn
    monkeypatch.setenv("XDG_CACHE_HOME", "/dev/null")
    monkeypatch.setattr(precision, "processor", lambda: "AMD EPYC")
    assert precision.kernels_of(layer, config, True).onednn
    assert not precision.kernels_of(layer, config, False).onednn


def test_the_race_is_short_and_has_two_sides():
    from latente.training.precision import _race

    assert set(_race(1)) == {"default", "onednn"}


@pytest.mark.parametrize("name", ["vae", "ae"])
def test_by_either_library_the_numbers_are_the_same(name):
    kind, rows = pictures("bernoulli")
    found = []
    for onednn in (False, True):
        spec = spec_of(name, "relu", kind)
        model = spec.model(0).train()
        gradients = step_of(model, spec.objective, onednn)
        model.generator = torch.Generator().manual_seed(0)
        gradients(kind.prepare(rows))
        found.append(list(model.parameters()))
    for p, q in zip(*found, strict=True):
        assert_close(p.grad, q.grad, rtol=1e-4, atol=1e-5)
