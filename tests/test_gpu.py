"""What only a GPU can show: skipped, with this reason, where there is none."""

import numpy as np
import pytest
import torch

from latente import Autoencoder
from latente.training import graphs

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no GPU that torch can use")


def line_data(n=2000):
    rng = np.random.default_rng(0)
    return rng.normal(size=(n, 2)) @ rng.normal(size=(2, 8)) + 0.1 * rng.normal(size=(n, 8))


@pytest.mark.parametrize("nets", ["mlp", "conv"])
def test_a_gpu_learns_what_the_processor_learns(nets):
    x = line_data() if nets == "mlp" else np.random.default_rng(0).integers(0, 255, (600, 12, 12)).astype(np.uint8)
    options = {"dim": 2, "steps": 40, "precision": "float32", "random_state": 0, "nets": nets}
    # A point latent draws nothing: the two devices' random numbers differ.
    losses = [Autoencoder("ae", device=d, **options).fit(x).history_.rows[-1]["val"]["loss"] for d in ("cpu", "cuda")]
    # Sums of some thousand float32 terms in another order, over 40 steps.
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)


def test_a_recorded_step_is_the_step(monkeypatch):
    options = {"dim": 2, "steps": 100, "precision": "float32", "random_state": 0, "device": "cuda"}
    played = Autoencoder("vae", **options).fit(line_data())
    monkeypatch.setattr(graphs, "SMALL", 0)
    started = Autoencoder("vae", **options).fit(line_data())
    # The warm-up's progress is rounded to a sixty-fourth in a recording.
    ours, theirs = (ae.history_.rows[-1]["val"]["loss"] for ae in (played, started))
    assert ours == pytest.approx(theirs, rel=0.05)
