"""Exported graphs give the model's own numbers, in another program."""

import json
import sys

import numpy as np
import pytest
import torch

import latente as lt
from latente import recipes
from latente.errors import ConfigError
from latente.kinds.base import infer
from latente.kinds.image import Image
from latente.kinds.pictures import Pictures
from latente.model.spec import recipe

pytest.importorskip("onnxruntime")
TINY = {"part": "mlp", "widths": [16]}
# float32 sums in another order.
CLOSE = 1e-4


def session(path):
    import onnxruntime

    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


def used(ae, data, part):
    """How many weights the numbers of a graph depend on."""
    model, batch = ae.model_, next(ae.batches(data))
    if part == "encoder":
        q = model.encode(batch)
        found = q.mean.sum() + q.stddev.sum()
        # What stands in a gap is in the graph, whether or not these rows have some.
        gaps = {id(p): p for n, p in model.named_parameters() if n == "encoder.gap"}
    else:
        found, gaps = model.decode(torch.zeros(2, model.dim)).mean.sum(), {}
    weights = [p for p in model.parameters() if p.requires_grad and id(p) not in gaps]
    slopes = torch.autograd.grad(found, weights, allow_unused=True)
    own = [p for p, slope in zip(weights, slopes, strict=True) if slope is not None]
    return sum(p.numel() for p in (*own, *gaps.values()))


def check(ae, data, folder):
    """Export, and compare encoder and decoder with the model's, for all rows and for one."""
    said = lt.export(ae, output=folder / "m.onnx")
    assert json.loads((folder / "m.onnx.json").read_text(encoding="utf-8")) == said
    encoder, decoder = (session(folder / said[part]["file"]) for part in ("encoder", "decoder"))
    for part, graph in (("encoder", encoder), ("decoder", decoder)):
        content = (folder / said[part]["file"]).read_bytes()
        # No path of the machine that wrote it; not the other half's weights; structure takes some kilobytes.
        assert b"/latente/" not in content
        assert b".py" not in content
        weights = 4 * used(ae, data, part)
        assert weights - 100 < len(content) < weights + 15_000
        for key, ports in (("inputs", graph.get_inputs()), ("outputs", graph.get_outputs())):
            assert [p["name"] for p in said[part][key]] == [p.name for p in ports]
            assert [p["shape"] for p in said[part][key]] == [p.shape for p in ports]
    mean, stddev = ae.encode(data)
    batch = next(ae.batches(data))
    observed = torch.ones_like(batch.x, dtype=torch.bool) if batch.observed is None else batch.observed
    for n in (1, len(batch)):
        feed = {"cells": batch.x[:n].numpy(), "observed": observed[:n].numpy()}
        found = encoder.run(None, feed)
        assert found[0] == pytest.approx(mean[:n], abs=CLOSE)
        assert found[1] == pytest.approx(stddev[:n], abs=CLOSE)
        with torch.no_grad():
            px = ae.model_.decode(torch.from_numpy(mean[:n]))
        back = decoder.run(None, {"z": mean[:n]})
        assert back[0] == pytest.approx(px.mean.numpy(), abs=CLOSE)
        if len(back) > 1:
            assert back[1] == pytest.approx(px.expectation.numpy(), abs=CLOSE)
            assert back[1].shape[1] == len(said["expected"])
    return said


def test_the_graphs_of_a_table_with_categories_and_gaps_are_the_model(people, tmp_path, capfd):
    ae = lt.Autoencoder("vae", nets=TINY, dim=3, steps=40, random_state=0).fit(people)
    said = check(ae, people, tmp_path)
    shown = capfd.readouterr()
    assert shown.out == shown.err == ""
    assert [c["label"] for c in said["cells"]] == ["age", "income", "plan", "sex", "active", "joined"]
    assert {"plan=gold", "plan=<other>", "age"} <= set(said["expected"])
    assert "level" in said["cells"][2]["cell"]


CONV = {"part": "conv", "channels": 4, "width": 16}


# Five seconds each, most of which torch takes to start its exporter.
@pytest.mark.parametrize("nets", [CONV, pytest.param(TINY, marks=pytest.mark.slow)], ids=["conv", "mlp"])
def test_the_graphs_of_pictures_are_the_model(nets, tmp_path):
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (60, 11, 7, 3), dtype=np.uint8)
    pictures = Pictures(x, rng.random((60, 11, 7)) < 0.9, None, tuple(map(str, range(60))))
    kind = Image(likelihood="discretised-logistic-mixture", components=2)
    ae = lt.Autoencoder("ae", kind=kind, nets=nets, dim=2, steps=10, random_state=0).fit(pictures)
    said = check(ae, pictures, tmp_path)
    assert said["encoder"]["inputs"][0]["shape"] == ["batch", 3, 11, 7]


@pytest.mark.slow  # five seconds a model
@pytest.mark.parametrize("data", ["people", "dots"])
@pytest.mark.parametrize("name", recipes())
def test_every_recipe_is_exported(name, data, request, tmp_path):
    raw = request.getfixturevalue(data)
    spec = recipe(name)
    if spec.asks or (spec.kind is not None and spec.kind.name != infer(raw)):
        with pytest.raises(ConfigError, match="recipe"):  # for data of another kind
            lt.Autoencoder(name, nets=TINY, dim=3, steps=20).fit(raw)
        return
    ae = lt.Autoencoder(name, nets=TINY, dim=3, steps=20, random_state=0).fit(raw)
    if ae.chained:
        with pytest.raises(ConfigError, match="chain"):
            lt.export(ae, output=tmp_path / "m.onnx")
        return
    if getattr(ae.spec_.latent, "searches", False):
        with pytest.raises(ConfigError, match=r"finds a row's code by a search.*\n\nhint: use a latent"):
            lt.export(ae, output=tmp_path / "m.onnx")
        return
    check(ae, raw, tmp_path)


def test_what_is_missing_is_said_with_the_way_to_get_it(dots, tmp_path, monkeypatch):
    ae = lt.Autoencoder("vae", nets=TINY, dim=2, steps=5, random_state=0).fit(dots)
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "onnxscript" else object())
    with pytest.raises(ConfigError, match="export needs onnxscript") as caught:
        lt.export(ae, output=tmp_path / "m.onnx")
    assert caught.value.hint == "pip install 'latente[onnx]'"


@pytest.mark.parametrize("output", [None, "model.bin"])
def test_a_name_that_is_no_onnx_is_refused(output):
    with pytest.raises(ConfigError, match=r"ends in \.onnx"):
        lt.export(lt.Autoencoder(), output=output)
