"""The written-out training step gives the loss, the terms and the gradients that autograd gives."""

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


def autograd(model: Model, objective: object) -> object:
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
        gradients = (step_of if fused else autograd)(model, spec.objective)
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
