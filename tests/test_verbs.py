import numpy as np
import pandas as pd
import pytest

import latente as lt
from latente.errors import ConfigError, DataError
from latente.uses.ways import path


@pytest.fixture(scope="module")
def table(people):
    return lt.Autoencoder("vae", dim=3, steps=400, random_state=0).fit(people)


@pytest.fixture(scope="module")
def blobs(dots):
    return lt.Autoencoder("ae", dim=3, steps=800, random_state=0).fit(dots)


def test_encode_and_decode_are_one_way_and_back(table, people):
    codes = lt.encode(table, people, deviations=True)
    assert list(codes.columns) == ["z0", "z1", "z2", "s0", "s1", "s2"]
    assert (codes[["s0", "s1", "s2"]] > 0).all(axis=None)
    decoded = lt.decode(table, codes)
    assert list(decoded.columns) == list(people.columns)
    pd.testing.assert_frame_equal(decoded, lt.reconstruct(table, people))


def test_reconstructed_pictures_look_like_theirs(blobs, dots):
    x = dots.astype(float)
    error = np.square(lt.reconstruct(blobs, dots) - x).mean() / np.square(x - x.mean(0)).mean()
    assert error < 0.1  # two numbers make a blob: three latents are enough for nearly all of the variance


def test_denoise_is_nearer_to_the_clean_pictures_than_the_noisy_ones(dots):
    ae = lt.Autoencoder("ae", dim=3, corruption={"part": "noise", "std": 0.3}, steps=800, random_state=0).fit(dots)
    rng = np.random.default_rng(0)
    noisy = np.clip(dots + rng.normal(scale=0.3 * 255, size=dots.shape), 0, 255).astype(np.uint8)
    clean = lt.denoise(ae, noisy, samples=2)
    error = [np.square(a.astype(float) - dots).mean() for a in (clean, noisy)]
    assert error[0] < 0.3 * error[1]


def test_impute_fills_gaps_better_than_the_mean_and_leaves_the_rest(table):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(900, 2)) @ rng.normal(size=(2, 6)) + 0.2 * rng.normal(size=(900, 6))
    ae = lt.Autoencoder("vae", dim=2, random_state=0).fit(x[:600])
    gaps = rng.random((300, 6)) < 0.15
    holed = np.where(gaps, np.nan, x[600:])
    filled = lt.impute(ae, holed)
    assert np.array_equal(filled[~gaps], x[600:][~gaps])
    assert not np.isnan(filled).any()
    mean = np.broadcast_to(x[:600].mean(0), gaps.shape)
    error = [np.square(f[gaps] - x[600:][gaps]).mean() for f in (filled, mean)]
    # Two factors explain all but .04 of each column's variance of about 2.
    assert error[0] < 0.3 * error[1]


def test_impute_keeps_a_frames_types_and_observed_cells(table, people):
    filled = lt.impute(table, people)
    assert filled.dtypes.equals(people.dtypes)
    assert not filled.isna().any(axis=None)
    holed = people.assign(age=people["age"].where(people.index % 5 > 0))
    assert lt.impute(table, holed)["age"].dtype == people["age"].dtype
    for label in people:
        seen = people[label].notna()
        assert filled.loc[seen, label].equals(people.loc[seen, label])


def test_sample_repeats_with_its_seed_and_differs_without(table):
    assert lt.sample(table, 30, seed=1).equals(lt.sample(table, 30, seed=1))
    assert not lt.sample(table, 30, seed=1).equals(lt.sample(table, 30, seed=2))
    with pytest.raises(ConfigError, match="n_samples must be 1 or more"):
        lt.sample(table, 0)


def test_samples_follow_the_table(people):
    new = lt.Autoencoder("vae", dim=4, random_state=0).fit(people).sample(2000, random_state=0)
    assert new["active"].mean() == pytest.approx(people["active"].mean(), abs=0.08)
    assert new["age"].mean() == pytest.approx(people["age"].mean(), abs=5)
    # Everyone above 60 is gold in the data.
    assert (new.loc[new["age"] > 65, "plan"] == "gold").mean() > 0.7


def test_interpolation_ends_where_it_should(table, people, blobs, dots):
    rows = lt.interpolate(table, people.iloc[0], people.iloc[9], steps=5)
    ends = lt.reconstruct(table, people.iloc[[0, 9]])
    pd.testing.assert_frame_equal(rows.iloc[[0, 4]].reset_index(drop=True), ends)
    way = lt.interpolate(blobs, dots[0], dots[1], steps=7)
    assert way.shape == (7, 8, 8)
    assert np.array_equal(way[[0, 6]], lt.reconstruct(blobs, dots[:2]))


def test_a_great_circle_keeps_the_radius_and_a_line_does_not():
    a, b = np.array([3.0, 0.0]), np.array([0.0, 3.0])
    assert np.linalg.norm(path(a, b, 5), axis=1) == pytest.approx(3.0)
    assert np.linalg.norm(path(a, b, 5, round=False), axis=1)[2] == pytest.approx(3 / 2**0.5)
    for ends in ((a, a), (a, -a), (a, 0 * a)):
        assert np.isfinite(path(*ends, 5)).all()


def test_score_is_highest_for_the_strangest_row(table, people):
    strange = people.copy()
    strange.loc[5, "age"] = 900
    scores = lt.score(table, strange)
    assert scores.argmax() == 5
    # The same row has the same score whichever rows stand beside it.
    assert lt.score(table, strange.iloc[[5]])[0] == pytest.approx(scores[5], rel=1e-4)


def test_more_samples_tighten_the_bound(table, people):
    few, many = (lt.score(table, people, samples=s).mean() for s in (1, 200))
    assert many < few


def test_evaluate_orders_its_bounds_and_stands_beside_pca(table, people):
    found = lt.evaluate(table, people, samples=100)
    assert found["iw_nll"] < found["neg_elbo"]
    assert found["neg_elbo"] == pytest.approx(found["rec"] + found["kl"], abs=1e-6)
    assert 0 < found["error_pca"] < 1
    assert found["active_units"] <= found["dim"] == 3
    plain = lt.evaluate(lt.Autoencoder("ae", dim=3, steps=20).fit(people), people)
    assert "iw_nll" not in plain
    assert "rec" in plain


def test_pca_of_the_same_size_is_the_one_of_scikit_learn_and_survives_the_file(tmp_path):
    from sklearn.decomposition import PCA

    x = np.random.default_rng(0).normal(size=(500, 6)) * [3, 2, 1, 1, 1, 1]
    ae = lt.Autoencoder(dim=2, steps=10, random_state=0).fit(x)
    t = ae.schema_.to_batch(x).x.numpy()
    exact = 1 - PCA(2).fit(t).explained_variance_ratio_.sum()
    assert lt.evaluate(ae, x, samples=1)["error_pca"] == pytest.approx(exact, rel=1e-3)
    ae.save(tmp_path / "m.safetensors")
    assert lt.evaluate(lt.load(tmp_path / "m.safetensors"), x, samples=1) == lt.evaluate(ae, x, samples=1)


def test_fit_leaves_a_run_folder_with_everything(people, tmp_path):
    people.to_csv(tmp_path / "people.csv", index=False)
    ae = lt.fit(tmp_path / "people.csv", label_col="sex", dim=2, epochs=20, output=tmp_path / "run", quiet=True)
    names = {p.name for p in (tmp_path / "run").iterdir()}
    assert names == {"run.json", "spec.json", "metrics.jsonl", "model.safetensors", "latent.parquet", "log.txt"}
    assert "sex" not in [c.label for c in ae.schema_.columns]
    codes = pd.read_parquet(tmp_path / "run" / "latent.parquet")
    assert list(codes.columns) == ["z0", "z1", "label"]
    assert lt.load(tmp_path / "run").dim is None
    again = lt.recipe(str(tmp_path / "run" / "spec.json"))
    assert again.latent == ae.spec_.latent
    with pytest.raises(ConfigError, match="is there already"):
        lt.fit(people, output=tmp_path / "run", quiet=True)


def test_info_says_what_a_model_is(table, tmp_path):
    table.save(tmp_path / "m.safetensors")
    said = lt.info(tmp_path / "m.safetensors")
    assert (said["kind"], said["dim"], said["rows"], said["latent"]) == ("table", 3, 300, "gaussian (dim 3)")
    assert any(line.startswith("plan: categorical, 3 levels") for line in said["schema"])


def test_doctor_says_how_the_machine_computes():
    said = lt.doctor()
    assert said["threads"] >= 1
    assert "float" in said["precision"]


def test_codes_of_another_width_are_refused(table):
    with pytest.raises(DataError, match="latent space has 3 dimensions"):
        lt.decode(table, np.zeros((2, 5)))
