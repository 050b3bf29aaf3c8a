"""evaluate --reduction: the latent beside PCA, kernel PCA and UMAP, and what its dimensions stand for."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.manifold import trustworthiness
from sklearn.neighbors import KNeighborsClassifier
from typer.testing import CliRunner

import latente as lt
from latente.cli import app
from latente.errors import ConfigError, DataError
from latente.uses import embedding, labelled, reduction
from latente.uses.learned.map import Map
from latente.uses.meanings import _between, _related, meanings


@pytest.fixture(scope="module")
def groups():
    """Three groups in two directions of six columns, a level that says which, and one column on its own."""
    rng = np.random.default_rng(0)
    which = rng.integers(0, 3, 400)
    centre = np.array([[0, 0], [4, 0], [0, 4]])[which] + rng.normal(size=(400, 2))
    x = centre @ rng.normal(size=(2, 6)) + 0.1 * rng.normal(size=(400, 6))
    frame = pd.DataFrame(x, columns=list("abcdef"))
    frame["level"] = np.array(["red", "green", "blue"])[which]
    return frame, np.array(["one", "two", "three"])[which]


@pytest.fixture(scope="module")
def model(groups):
    return lt.Autoencoder("vae", dim=2, steps=600, random_state=0).fit(groups[0])


@pytest.fixture(scope="module")
def report(model, groups):
    return lt.evaluate(model, groups[0], reduction=True, labels=groups[1], quiet=True)


@pytest.mark.parametrize("n", [40, 300, 700])
def test_trustworthiness_is_sklearns_and_continuity_is_it_with_the_spaces_exchanged(n):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, 8)) + 100
    z = PCA(2).fit_transform(x)
    judge = embedding.Judge(x, None, 0)
    found = judge(z)
    assert found["trustworthiness"] == pytest.approx(trustworthiness(x, z, n_neighbors=judge.k), abs=1e-6)
    assert found["continuity"] == pytest.approx(trustworthiness(z, x, n_neighbors=judge.k), abs=1e-6)


def test_accuracy_leaves_each_row_out_of_its_own_neighbours_and_rows_without_a_label_out_of_all():
    rng = np.random.default_rng(0)
    x, labels = rng.normal(size=(120, 3)), rng.integers(0, 2, 120)
    labels[::6] = -1
    found = embedding.Judge(x, labels, 0)(x[:, :2])
    kept, y = x[labels >= 0, :2], labels[labels >= 0]
    right = [
        KNeighborsClassifier(10).fit(np.delete(kept, i, 0), np.delete(y, i)).predict(kept[[i]])[0] == y[i]
        for i in range(len(y))
    ]
    assert found["accuracy"] == pytest.approx(np.mean(right))
    # Of new rows among others with labels.
    other = rng.normal(size=(50, 2)), rng.integers(0, 2, 50)
    told = embedding.Judge(x, labels, 0)(x[:, :2], other)
    assert told["accuracy"] == pytest.approx((KNeighborsClassifier(10).fit(*other).predict(kept) == y).mean())


def test_the_table_has_each_method_at_the_latents_dimension(report):
    figures = report.figures.set_index("method")
    assert list(figures.index) == ["rows themselves", "model (gaussian)", "PCA", "kernel PCA", "UMAP"]
    assert (figures.loc["model (gaussian)":, "dim"] == 2).all()
    for name in ("model (gaussian)", "PCA", "kernel PCA"):
        row = figures.loc[name]
        assert 0 < row.error < 1
        assert 0.8 < row.trustworthiness <= 1
        assert 0.8 < row.continuity <= 1
        # Three groups four deviations apart, and a column that names them.
        assert row.accuracy > 0.9
    assert report.rows == report.fitted == 200
    assert figures.loc["UMAP", "note"].startswith("not installed") or figures.loc["UMAP"].accuracy > 0.9


def test_errors_of_model_and_pca_are_those_of_evaluate_on_the_same_rows(model, groups):
    rows = groups[0].iloc[::2]
    plain = lt.evaluate(model, rows, samples=2, quiet=True)
    figures = lt.evaluate(model, rows, reduction=True, training=groups[0], quiet=True).figures.set_index("method")
    assert figures.loc["model (gaussian)"].error == pytest.approx(plain["error"], rel=1e-4)
    assert figures.loc["PCA"].error == pytest.approx(plain["error_pca"], rel=1e-4)


def test_kernel_pca_brings_digits_back_better_than_pca_and_than_sklearns_own_way_back():
    x = load_digits().data / 16
    sample, rest = x[::2], SimpleNamespace(x=x[1::2])
    way = reduction.kernel_pca(sample, 8)
    spread = np.square(rest.x - sample.mean(0)).sum()
    own = np.square(rest.x - way.back(rest, way.there(rest))).sum() / spread
    pca = PCA(8).fit(sample)
    assert own < np.square(rest.x - pca.inverse_transform(pca.transform(rest.x))).sum() / spread
    gamma = embedding.gamma(sample)
    theirs = reduction.KernelPCA(8, kernel="rbf", gamma=gamma, fit_inverse_transform=True).fit(sample)
    assert own < np.square(rest.x - theirs.inverse_transform(theirs.transform(rest.x))).sum() / spread


def test_umap_is_used_where_it_can_be_imported_and_named_where_not(model, groups, monkeypatch):
    asked = []

    class Umap:
        def __init__(self, **options):
            asked.append(options)

        def fit(self, x):
            self.pca = PCA(asked[-1]["n_components"]).fit(x)

        def transform(self, x):
            return self.pca.transform(x)

    fake = SimpleNamespace(UMAP=Umap)
    monkeypatch.setitem(sys.modules, "umap", fake)
    fake.__spec__ = SimpleNamespace(name="umap")
    row = lt.evaluate(model, groups[0], reduction=True, seed=3, quiet=True).figures.set_index("method").loc["UMAP"]
    assert asked[0]["n_components"] == 2
    assert asked[0]["random_state"] == 3
    assert row.trustworthiness > 0.9
    assert np.isnan(row.error)
    monkeypatch.setattr(reduction.importlib.util, "find_spec", lambda name: None)
    row = lt.evaluate(model, groups[0], reduction=True, quiet=True).figures.set_index("method").loc["UMAP"]
    assert "pip install 'latente[umap]'" in row.note


def test_a_map_that_the_model_carries_stands_beside_the_others_at_its_own_dimension(model, groups, monkeypatch):
    drawn = Map(dim=1, steps=100).drawn(model.transform(groups[0]), 0)
    monkeypatch.setattr(model, "use_", drawn)
    figures = lt.evaluate(model, groups[0], reduction=True, quiet=True).figures
    at = figures["method"].tolist().index("map")
    assert figures["dim"].tolist()[at:] == [1, 1, 1, 1]
    assert figures["method"].tolist()[at:] == ["map", "PCA", "kernel PCA", "UMAP"]
    # The way back from a point is a row again: 1 is the mean row.
    assert 0 < figures.loc[at, "error"] < 1


def test_labels_come_from_an_array_a_file_or_a_column_that_the_model_does_not_see(model, groups, tmp_path):
    frame, labels = groups
    beside = frame.assign(kind=labels)
    beside.to_csv(tmp_path / "rows.csv", index=False)
    np.save(tmp_path / "labels.npy", labels)
    pd.DataFrame({"kind": labels}).to_csv(tmp_path / "labels.csv", index=False)
    found = [
        labelled.rows_with_labels(model, frame, 100, labels),
        labelled.rows_with_labels(model, frame, 100, tmp_path / "labels.npy"),
        labelled.rows_with_labels(model, frame, 100, str(tmp_path / "labels.csv")),
        labelled.rows_with_labels(model, beside, 100, label_col="kind"),
        labelled.rows_with_labels(model, tmp_path / "rows.csv", 100, label_col="kind"),
    ]
    for rows in found:
        assert rows.rows == 400
        assert len(rows.batch) == 100
        assert rows.labels.tolist() == found[0].labels.tolist()
        assert rows.batch.x.allclose(found[0].batch.x, atol=1e-5)


def test_a_label_that_the_model_knows_is_said_to_be_no_test(model, groups):
    told = lt.evaluate(model, groups[0], reduction=True, label_col="level", quiet=True)
    assert any("a column of the model" in note for note in told.notes)


def test_mistakes_say_what_to_do(model, groups, dots):
    frame, labels = groups
    with pytest.raises(ConfigError, match="add --reduction"):
        lt.evaluate(model, frame, labels=labels)
    with pytest.raises(ConfigError, match="a report of its own"):
        lt.evaluate(model, frame, reduction=True, ais=4)
    with pytest.raises(ConfigError, match="no column 'colour'"):
        lt.evaluate(model, frame, reduction=True, label_col="colour")
    with pytest.raises(DataError, match="one label for each row"):
        lt.evaluate(model, frame, reduction=True, labels=labels[:-1])
    with pytest.raises(DataError, match="numbers or names, not classes"):
        lt.evaluate(model, frame, reduction=True, labels=frame["a"])
    with pytest.raises(DataError, match="two or more classes"):
        lt.evaluate(model, frame, reduction=True, labels=["x"] * len(frame))
    other = frame.assign(kind=[f"{word}." for word in labels])
    with pytest.raises(DataError, match="bring both to the same words"):
        lt.evaluate(model, frame.assign(kind=labels), reduction=True, label_col="kind", training=other)
    with pytest.raises(DataError, match="too few"):
        lt.evaluate(model, frame[:40], reduction=True)
    with pytest.raises(ConfigError, match="a model of table"):
        reduction.save(lt.evaluate(model, frame, reduction=True, quiet=True), Path("walk.png"), model)


def test_random_state_is_not_touched_and_the_same_seed_gives_the_same_table(model, groups):
    state = np.random.get_state()[1].copy()  # noqa: NPY002 - it is what must not change
    first, again = (lt.evaluate(model, groups[0], reduction=True, quiet=True) for _ in range(2))
    assert np.array_equal(np.random.get_state()[1], state)  # noqa: NPY002
    pd.testing.assert_frame_equal(first.figures, again.figures)
    assert first.to_json() == again.to_json()


def test_relations_are_spearmans_and_the_variance_between_levels():
    rng = np.random.default_rng(0)
    codes = rng.normal(size=(200, 2))
    values = np.exp(codes[:, 0] + 0.3 * rng.normal(size=200))
    holed = np.where(rng.random(200) < 0.2, np.nan, values)
    level = (codes[:, 1] > 0).astype(float)
    aspects = [SimpleNamespace(values=v, category=c) for v, c in ((values, False), (holed, False), (level, True))]
    found = _related(codes, aspects)
    there = ~np.isnan(holed)
    assert found[0, 0] == pytest.approx(spearmanr(codes[:, 0], values).statistic)
    assert found[0, 1] == pytest.approx(spearmanr(codes[there, 0], holed[there]).statistic)
    # The halves of a normal: (2/π) of its variance lies between them.
    assert found[1, 2] == pytest.approx(2 / np.pi, abs=0.08)
    # Forty levels drawn by chance: plain η² would be .2.
    assert _between(codes, rng.integers(0, 40, 200)).max() < 0.12


def test_meanings_of_a_table_name_the_columns_that_a_dimension_is_made_of():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 800))
    frame = pd.DataFrame({"tall": a, "large": a + 0.1 * rng.normal(size=800), "loud": b, "deaf": -b})
    frame["sort"] = np.where(b > 0, "shouts", "whispers")
    # Two causes, each in columns of its own: a rotation of them costs more KL, so a VAE keeps them apart.
    ae = lt.Autoencoder("vae", dim=2, steps=1500, random_state=0).fit(frame)
    found = lt.evaluate(ae, frame, reduction=True, quiet=True).meanings
    assert {m.dim for m in found} == {0, 1}
    for m in found:
        assert m.effect > 0.05
        names = {name for name, _, _ in m.goes_with[:2]}
        assert names <= {"tall", "large"} or names <= {"loud", "deaf", "sort"}
        changed = [name for name, _ in m.changes[:2]]
        assert set(changed) <= {"tall", "large"} or set(changed) <= {"loud", "deaf", "sort"}


def test_pictures_are_named_by_region_and_written_as_a_traversal(dots, tmp_path):
    ae = lt.Autoencoder("ae", dim=2, steps=400, random_state=0).fit(dots)
    report = lt.evaluate(ae, dots, reduction=True, quiet=True)
    places = {"upper left", "upper", "upper right", "middle left", "centre", "middle right"}
    places |= {"lower left", "lower", "lower right"}
    assert {name for m in report.meanings for name, _ in m.changes} <= places
    written = reduction.save(report, tmp_path / "all", ae)
    assert {p.name for p in written} == {"reduction.json", "reduction.csv", "traversal.png", "traversal.gif"}
    assert json.loads((tmp_path / "all" / "reduction.json").read_text())["rows"] == report.rows


def test_counts_are_named_by_column_and_series_by_channel():
    rng = np.random.default_rng(0)
    strength = np.exp(rng.normal(size=(200, 1)))
    counts = rng.poisson(np.concatenate([5 * strength, 5 / strength, np.full((200, 4), 5)], 1))
    frame = pd.DataFrame(counts, columns=[f"gene{i}" for i in range(6)])
    ae = lt.Autoencoder("vae", kind="counts", dim=2, steps=300, random_state=0).fit(frame)
    report = lt.evaluate(ae, frame, reduction=True, quiet=True)
    assert {"gene0", "gene1"} & {name for name, _, _ in report.meanings[0].goes_with}
    waves = np.sin(np.arange(16) / 3 + rng.uniform(0, 6, (120, 1)))[:, :, None] * [1.0, -2.0] + rng.normal(
        size=(120, 1, 2)
    )
    ae = lt.Autoencoder("vae", kind="series", dim=2, steps=200, random_state=0).fit(waves)
    report = lt.evaluate(ae, waves, reduction=True, quiet=True)
    assert {name for m in report.meanings for name, _ in m.changes} <= set(ae.schema_.channels)
    assert report.meanings[0].changes


def test_dimensions_that_nothing_hears_have_no_effect(model, groups):
    frame = groups[0]
    batch = model.schema_.to_batch(frame)
    x = model.model_.likelihood.features(batch.x).numpy()
    still = meanings(model, batch, x, np.zeros((len(frame), 2)))
    assert all(m.effect == 0 and not m.changes and not m.goes_with for m in still)


def test_the_command_prints_the_table_and_json_and_writes_files(model, groups, tmp_path):
    model.save(tmp_path / "m.safetensors")
    groups[0].assign(kind=groups[1]).to_csv(tmp_path / "rows.csv", index=False)
    call = ["evaluate", str(tmp_path / "m.safetensors"), str(tmp_path / "rows.csv"), "--reduction", "--quiet"]
    call += ["--label-col", "kind"]
    shown = CliRunner().invoke(app, call)
    assert shown.exit_code == 0
    assert "kernel PCA" in shown.stdout
    assert "what each latent dimension stands for" in shown.stdout
    found = json.loads(CliRunner().invoke(app, [*call, "--json"]).stdout)
    assert [row["method"] for row in found["figures"]][:3] == ["rows themselves", "model (gaussian)", "PCA"]
    assert CliRunner().invoke(app, [*call, "-o", str(tmp_path / "t.csv")]).exit_code == 0
    assert pd.read_csv(tmp_path / "t.csv")["method"].tolist()[1] == "model (gaussian)"
    assert CliRunner().invoke(app, [*call, "-o", str(tmp_path / "t.json")]).exit_code == 0
    assert json.loads((tmp_path / "t.json").read_text()) == found
    assert CliRunner().invoke(app, [*call, "-o", str(tmp_path / "t.png")]).exit_code == 2
