"""What people who tried to break the family found, and what is said or done now."""

import numpy as np
import pandas as pd
import pytest
import torch

import latente as lt
from latente.errors import ConfigError
from latente.model.estimates import bounds, breadth


@pytest.fixture(scope="module")
def numbers():
    return np.random.default_rng(0).normal(size=(120, 4))


def test_contractive_refuses_by_name_what_has_no_slope(numbers):
    letters = pd.DataFrame({"c": list("abc") * 20, "d": list("xyxy") * 15})
    for rows, latent in ((letters, None), (numbers, {"part": "flow", "dim": 2})):
        with pytest.raises(ConfigError, match=r"'contractive' needs(.|\n)*--recipe denoising"):
            lt.Autoencoder("contractive", latent=latent, steps=3).fit(rows)


@pytest.mark.parametrize("settings", [{"latent.decay": 0.0}, {"latent.decay": 0.5, "latent.slots": 1}], ids=str)
def test_entries_that_nobody_takes_stay_finite(settings, numbers):
    ae = lt.Autoencoder("vq-vae", steps=250, random_state=0, settings={"prior.steps": 20} | settings).fit(numbers)
    assert np.isfinite(ae.transform(numbers)).all()
    assert np.isfinite(ae.sample(20)).all()


def test_a_size_that_was_set_by_its_path_stands(numbers):
    for settings in ({"latent.dim": 9}, {"latent": {"part": "gaussian", "dim": 9}}):
        assert lt.Autoencoder(settings=settings, steps=2).fit(numbers).model_.dim == 9
    assert lt.Autoencoder(steps=2).fit(numbers).model_.dim < 9


def test_a_sphere_of_one_column_has_two_dimensions_and_walks_stay_on_it(numbers):
    assert lt.Autoencoder("sphere", steps=2).fit(numbers[:, :1]).model_.dim == 2
    snapped = lt.Autoencoder("sphere", dim=3, steps=2).fit(numbers).model_.snap(torch.randn(5, 3))
    assert torch.allclose(snapped.norm(dim=-1), torch.ones(5), atol=1e-5)


@pytest.mark.parametrize("condition", [3, [3], (3,)])
def test_a_condition_may_be_a_column_that_a_number_names(condition, numbers):
    frame = pd.DataFrame({0: numbers[:, 0], 1: numbers[:, 1], 3: list("xyz") * 40})
    ae = lt.Autoencoder(condition=condition, steps=5, random_state=0).fit(frame)
    made = ae.sample(6, given={3: "x"})
    assert list(made.columns) == [0, 1, 3]
    assert set(made[3]) == {"x"}
    assert ae.transform(made).shape[0] == 6
    assert list(ae.sample(2, given={"3": float("nan")}).columns) == [0, 1, 3]


def test_running_sums_are_the_estimate_from_all_weights_at_once(numbers, monkeypatch):
    ae = lt.Autoencoder(dim=2, steps=20, random_state=0).fit(numbers)
    batch, generator = next(ae.batches(numbers)), torch.Generator().manual_seed(0)
    # Two draws at a time of 50.
    monkeypatch.setattr("latente.model.estimates.CHUNK", 2 * len(batch) * breadth(ae.model_, batch))
    found = bounds(ae.model_, batch, 50, torch.Generator().manual_seed(0))
    noise = torch.stack([torch.randn(len(batch), 2, generator=generator) for _ in range(50)])
    with torch.no_grad():
        out = ae.model_.run(batch, noise=noise)
    weights = (out.log_px + out.log_pz - out.log_qz).double()
    assert torch.allclose(found.log_p.double(), weights.logsumexp(0) - np.log(50), rtol=0, atol=1e-4)
    assert torch.allclose(found.rec, -out.log_px.mean(0), rtol=0, atol=1e-4)
    assert torch.allclose(found.kl, out.kl, rtol=0, atol=1e-4)


def test_a_fit_that_is_refused_in_its_first_step_leaves_the_place_free(numbers, tmp_path):
    refused = {"latent": "codes", "prior": "autoregressive"}
    with pytest.raises(ConfigError, match="iwae"):
        lt.fit(numbers, recipe="iwae", set=[f"{k}={v}" for k, v in refused.items()], output=tmp_path / "run")
    assert not (tmp_path / "run").exists()
    assert lt.fit(numbers, epochs=1, output=tmp_path / "run").model_.dim > 0


def test_the_help_of_fit_names_every_recipe():
    from latente.verbs.fit import RECIPES

    assert lt.recipes() == RECIPES


def test_seeds_that_are_none_are_refused_by_evaluate_too(numbers):
    ae = lt.Autoencoder(dim=2, steps=2).fit(numbers)
    for seed in (-1, 10**30):
        with pytest.raises(ConfigError, match="a seed is"):
            lt.evaluate(ae, numbers, samples=1, seed=seed)


def test_a_folder_of_pictures_can_be_conditional_from_the_command_line(tmp_path):
    from PIL import Image as Picture
    from typer.testing import CliRunner

    from latente.cli import app

    rng = np.random.default_rng(0)
    for label in ("cat", "ship"):
        (tmp_path / "data" / label).mkdir(parents=True)
        for i in range(60):
            pixels = rng.integers(0, 120, (12, 12), dtype=np.uint8) + (120 if label == "ship" else 0)
            Picture.fromarray(pixels.astype(np.uint8)).save(tmp_path / "data" / label / f"{i}.png")
    run, sheet = tmp_path / "run", tmp_path / "sheet.png"
    call = CliRunner().invoke
    options = ["--condition-col", "label", "--set", "train.steps=20", "--set", "nets=mlp"]
    fitted = call(app, ["fit", str(tmp_path / "data"), "-o", str(run), *options])
    assert fitted.exit_code == 0, fitted.output
    made = call(app, ["sample", str(run), "-n", "4", "--given", "label=ship", "-o", str(sheet)])
    assert made.exit_code == 0, made.output
    assert sheet.stat().st_size > 0


@pytest.mark.parametrize("objective", ["sparse", "dip"])
def test_what_presses_on_means_refuses_means_that_are_made_of_draws(objective, numbers):
    with pytest.raises(ConfigError, match=r"made of draws(.|\n)*latent=gaussian"):
        lt.Autoencoder(latent={"part": "flow", "dim": 2}, objective=objective, steps=3).fit(numbers)


@pytest.mark.parametrize("objective", ["elbo", "iwae"])
def test_draws_that_fill_no_memory_are_the_most_that_are_taken(objective):
    with pytest.raises(ConfigError, match="between 1 and 10,000"):
        lt.Autoencoder(objective=objective, settings={"objective.samples": 10**8}, steps=2).fit(np.eye(9))


def test_a_card_that_contradicts_its_schema_is_the_files_fault(tmp_path):
    from safetensors.numpy import load as tensors

    from latente.errors import ModelFileError
    from latente.file import dump, read

    path, rows = tmp_path / "m.safetensors", pd.DataFrame({"a": np.arange(60.0), "b": list("xyz") * 20})
    lt.Autoencoder(dim=1, condition="b", steps=2).fit(rows).save(path)
    document, data = read(path)

    def edited(change):
        card, schema = dict(document.card), {**document.schema}
        schema["columns"] = [dict(c) for c in schema["columns"]]
        change(card, schema)
        path.write_bytes(dump(type(document)(document.spec, schema, card), tensors(data)))
        return lt.load(path)

    assert edited(lambda card, schema: None).condition == ["b"]
    changes = (
        lambda card, schema: card.update(condition=["c"]),
        lambda card, schema: card.update(condition=None),
        lambda card, schema: card.update(condition=7),
        lambda card, schema: card.update(names=["a"]),
        lambda card, schema: card.update(names=[["a"], 3]),
        lambda card, schema: card.update(features="many"),
        lambda card, schema: schema["columns"][0].update(dtype="float65"),
        lambda card, schema: schema["columns"][0].update(dtype="datetime64[parsec]"),
    )
    for change in changes:
        with pytest.raises(ModelFileError):
            edited(change)


def test_a_picture_without_a_curve_is_refused_before_anything_is_computed(tmp_path):
    from latente.verbs.evaluate import ready

    ready(tmp_path / "curve.png", rate_distortion=True)
    ready(tmp_path / "all.json")
    with pytest.raises(ConfigError, match=r"no curve to draw(.|\n)*-o x\.json"):
        ready(tmp_path / "x.png", fidelity=True)


def test_a_loss_that_weighs_its_parts_is_not_called_a_bound(numbers):
    from latente.training.progress import line

    for recipe, settings, name in (("vae", {}, "−ELBO"), ("vae", {"objective.beta": 4.0}, "loss")):
        ae = lt.Autoencoder(recipe, dim=2, steps=30, settings=settings, random_state=0).fit(numbers)
        assert f"val {name} " in line(ae.history_.rows[-1], ae.history_)


def discs(n, size):
    """Discs at any place, in colour."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:size, :size]
    at = rng.uniform(size / 4, 3 * size / 4, (n, 2))
    shapes = np.stack([((x - a) ** 2 + (y - b) ** 2 < size**2 / 20) for a, b in at])
    return (shapes[..., None] * np.array([255, 160, 40])).astype(np.uint8)


@pytest.mark.parametrize("latent", ["gaussian", "flow"])
def test_a_code_tells_rows_apart_before_training_and_pictures_start_at_their_mean(latent):
    pictures = discs(64, 32)
    ae = lt.Autoencoder("vae", dim=6, latent=latent, steps=1, lr=1e-9, batch_size=16, random_state=0).fit(pictures)
    with torch.no_grad():
        batch = next(ae.batches(pictures))
        q = ae.model_.encode(batch)
        draws = ae.model_.decode(q.sample(1, torch.Generator().manual_seed(0))).mean[0]
    # Measured on nine tenths of these rows, hence not quite SPREAD and exp(-NARROWER).
    assert q.mean.std(0).numpy() == pytest.approx(np.full(6, 0.3), rel=0.3)
    assert float(q.stddev.mean()) == pytest.approx(np.exp(-0.5), rel=0.3)
    # What z adds is far below what is in the pictures.
    assert float((draws - batch.x.mean(0)).std()) < 0.2 * float((batch.x - batch.x.mean(0)).std())


@pytest.mark.slow
def test_wide_pictures_leave_their_mean_within_a_hundred_steps():
    # The default nets stayed at the mean for good.
    pictures = discs(96, 64)
    ae = lt.Autoencoder("vae", dim=8, steps=60, batch_size=16, random_state=0).fit(pictures)
    found = lt.evaluate(ae, pictures[:48], samples=2)
    assert found["error"] < 0.7
    assert found["kl"] > 5


def test_draws_that_are_not_finite_are_no_healthy_model(numbers):
    from latente.training.doctor import _no_samples

    ae = lt.Autoencoder("vae", dim=2, steps=20, random_state=0).fit(numbers)
    assert _no_samples(ae.model_, torch.device("cpu")) == []
    with torch.no_grad():
        next(ae.model_.decoder.parameters()).fill_(torch.inf)
    assert "cannot sample" in _no_samples(ae.model_, torch.device("cpu"))[0][1]
