"""LatentClassifier and LatentRegressor: scikit-learn's contracts, few labels and many rows, files, and bad input."""

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import latente as lt
from latente import LatentClassifier, LatentRegressor
from latente.errors import ConfigError, DataError, ModelFileError
from latente.uses.learned.predictor import temperature
from latente.uses.targets import task_of

QUICK = {"steps": 50, "dropout": 0.0}


# No expected failure. Short runs: the contracts do not depend on how well a model has learned.
@parametrize_with_checks(
    [
        LatentClassifier(epochs=3, dim=2, tuning=QUICK),
        LatentClassifier(method="frozen", epochs=3, dim=2, calibrate=False),
        LatentRegressor(epochs=3, dim=2, tuning=QUICK),
    ]
)
def test_every_contract_of_scikit_learn_is_kept(estimator, check):
    check(estimator)


@pytest.fixture(scope="module")
def digits():
    data = load_digits()
    mixed = np.random.default_rng(0).permutation(len(data.target))
    x, y = (data.images / 16).astype(np.float32)[mixed], data.target[mixed]
    known = y.astype(float)
    known[80:] = np.nan
    return x[:1200], known[:1200], x[1200:], y[1200:]


@pytest.mark.parametrize(("method", "least"), [("finetune", 0.86), ("frozen", 0.75), ("semi", 0.86)])
def test_80_labels_tell_most_digits_apart(digits, method, least):
    x, y, new, new_y = digits
    semi = method == "semi"
    made = LatentClassifier(
        method=method,
        kind="image",
        epochs=None if semi else 20,
        tuning={"steps": 250} if semi else None,
        calibrate=False,
        random_state=0,
        dim=16,
    )
    # Chance is .1; a linear model on the pixels of the same 80 labels has .85.
    assert made.fit(x, y).score(new, new_y) > least
    p = made.predict_proba(new)
    assert np.allclose(p.sum(1), 1)
    assert (made.classes_ == np.arange(10)).all()


def blobs(n=400, seed=0, labels=40):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, n)
    frame = pd.DataFrame({"a": rng.normal(size=n) + 2 * y, "b": rng.normal(size=n) - 2 * y, "c": rng.normal(size=n)})
    frame["word"] = np.where(rng.random(n) < 0.8, np.where(y == 1, "yes", "no"), "maybe")
    known = pd.Series(np.where(y == 1, "plus", "minus"), dtype=object)
    known[labels:] = None
    return frame, known, y


def test_rows_without_a_label_may_come_in_y_or_beside_it():
    frame, known, y = blobs()
    options = {"epochs": 5, "tuning": QUICK, "random_state": 0, "calibrate": False}
    one = LatentClassifier(**options).fit(frame, known)
    two = LatentClassifier(**options).fit(frame[:40], known[:40], unlabelled=frame[40:])
    assert np.array_equal(one.predict_proba(frame), two.predict_proba(frame))
    assert (one.predict(frame) == np.where(y == 1, "plus", "minus")).mean() > 0.9


def test_the_same_seed_is_the_same_classifier_and_global_state_stays():
    frame, known, _ = blobs()
    before = torch.random.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    found = [
        LatentClassifier(epochs=3, tuning={"steps": 30}, random_state=3).fit(frame, known).predict_proba(frame)
        for _ in range(2)
    ]
    assert np.array_equal(*found)
    assert torch.equal(before[0], torch.random.get_rng_state())
    assert np.array_equal(before[1], np.random.get_state()[1])  # noqa: NPY002


@pytest.mark.parametrize("method", ["finetune", "frozen", "semi"])
def test_what_predicts_is_in_one_file_with_all_that_the_model_did_before(tmp_path, method):
    frame, known, _ = blobs()
    tuning, epochs = ({"steps": 20} if method != "frozen" else None), (None if method == "semi" else 3)
    made = LatentClassifier(method=method, epochs=epochs, tuning=tuning, random_state=0, calibrate=method == "frozen")
    made.fit(frame, known).save(tmp_path / "m.safetensors")
    again = LatentClassifier.load(tmp_path / "m.safetensors")
    assert np.array_equal(again.predict_proba(frame), made.predict_proba(frame))
    assert list(again.predict(frame[:3])) == list(made.predict(frame[:3]))
    model = lt.load(tmp_path / "m.safetensors")
    assert model.transform(frame).shape[0] == len(frame)
    assert (tmp_path / "m.safetensors").read_bytes() == made.autoencoder_._bytes()


def test_numbers_are_predicted_in_their_own_unit(tmp_path):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(300, 4)), columns=list("abcd"))
    y = 1000 + 50 * frame.a - 30 * frame.b
    known = y.where(np.arange(300) < 100)
    made = LatentRegressor(epochs=10, random_state=0, tuning={"steps": 400, "lr": 3e-3}).fit(frame, known)
    assert made.score(frame[100:], y[100:]) > 0.8
    made.save(tmp_path / "m.safetensors")
    assert np.array_equal(LatentRegressor.load(tmp_path / "m.safetensors").predict(frame), made.predict(frame))
    with pytest.raises(ModelFileError, match="does not predict classes"):
        LatentClassifier.load(tmp_path / "m.safetensors")


def test_pretraining_is_done_once_for_several_targets():
    frame, known, _ = blobs()
    ae = LatentClassifier(epochs=5, random_state=0).autoencoder(frame)
    weights = {n: t.clone() for n, t in ae.model_.state_dict().items()}
    LatentClassifier(pretrained=ae, tuning=QUICK, calibrate=False, random_state=0).fit(frame, known)
    LatentRegressor(pretrained=ae, tuning=QUICK).fit(frame, frame.c)
    assert all(torch.equal(t, weights[n]) for n, t in ae.model_.state_dict().items())
    assert ae.use_ is None


def test_partial_unfreezing_leaves_the_lower_layers_as_they_were():
    frame, known, _ = blobs()
    ae = LatentClassifier(epochs=5, random_state=0).autoencoder(frame)
    for unfreeze, same in (("head", 2), ("partial", 1), ("all", 0)):
        made = LatentClassifier(pretrained=ae, unfreeze=unfreeze, tuning={"steps": 10}, calibrate=False)
        net = made.fit(frame, known).autoencoder_.use_.net
        own = dict(net.encoder.named_parameters())
        names = [n for n in own if n.endswith("weight")]
        kept = [torch.equal(own[n], dict(ae.model_.encoder.named_parameters())[n]) for n in names]
        assert sum(kept) == same, unfreeze


def test_class_weights_move_the_border():
    frame, known, _ = blobs()
    ae = LatentClassifier(epochs=5, random_state=0).autoencoder(frame)
    shares = [
        LatentClassifier(pretrained=ae, class_weight={"minus": w, "plus": 1}, tuning={"steps": 200}, calibrate=False)
        .fit(frame, known)
        .predict_proba(frame)[:, 0]
        .mean()
        for w in (0.05, 20)
    ]
    assert shares[0] + 0.1 < shares[1]


def test_a_temperature_gives_back_the_one_that_logits_were_divided_by():
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(20_000, 4, generator=generator)
    classes = torch.multinomial(torch.softmax(logits, 1), 1, generator=generator)[:, 0]
    # Its standard error is below 1 % for 20,000 draws.
    assert temperature(2.5 * logits, classes) == pytest.approx(2.5, rel=0.05)


def test_it_works_in_a_pipeline_and_a_grid_search_over_recipes():
    frame, _, y = blobs()
    pipe = make_pipeline(StandardScaler(), LatentClassifier(epochs=3, tuning=QUICK, calibrate=False, random_state=0))
    x = frame[["a", "b", "c"]]
    search = GridSearchCV(pipe, {"latentclassifier__recipe": ["auto", "vae"]}, cv=2).fit(x, y)
    assert search.best_score_ > 0.9


def test_recipes_can_be_searched_in_front_of_another_classifier():
    from sklearn.linear_model import LogisticRegression

    frame, _, y = blobs()
    x = frame[["a", "b", "c"]]
    pipe = make_pipeline(lt.Autoencoder("vae", dim=2, epochs=5, random_state=0), LogisticRegression())
    pipe.set_output(transform="pandas")
    search = GridSearchCV(pipe, {"autoencoder__recipe": ["ae", "vae"]}, cv=2).fit(x, y)
    assert search.best_score_ > 0.6
    names = search.best_estimator_[:-1].get_feature_names_out()
    assert list(names) == ["autoencoder0", "autoencoder1"]


BAD = {
    "one class": (lambda f, k: (f, pd.Series(["x"] * len(f))), "one class"),
    "no label": (lambda f, k: (f, pd.Series([None] * len(f), dtype=object)), "NaN in every row"),
    "lengths": (lambda f, k: (f, k[:10]), "inconsistent numbers"),
    "infinite": (lambda f, k: (f, np.full(len(f), np.inf)), "infinity"),
    "nothing": (lambda f, k: (f, None), "requires y"),
    "two columns": (lambda f, k: (f, np.zeros((len(f), 2))), "one column"),
    "lists": (lambda f, k: (f, pd.Series([[1]] * len(f))), "legacy multi-label"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_target_that_cannot_be_learned_says_why(name):
    frame, known, _ = blobs(60)
    x, y = BAD[name][0](frame, known)
    with pytest.raises(ValueError, match=BAD[name][1]):
        LatentClassifier(epochs=1).fit(x, y)


def test_a_regression_target_given_as_text_says_which_cell():
    frame, known, _ = blobs(60)
    with pytest.raises(DataError, match="'plus' is none") as caught:
        LatentRegressor(epochs=1).fit(frame, known)
    assert "LatentClassifier" in str(caught.value)


def test_settings_that_cannot_be_are_refused_before_anything_is_learned():
    frame, known, _ = blobs(60)
    for wrong in ({"method": "magic"}, {"tuning": {"dropout": 2}}, {"tuning": {"stepz": 1}}, {"unfreeze": "some"}):
        with pytest.raises(ConfigError):
            LatentClassifier(**wrong).fit(frame, known)
    with pytest.raises(ConfigError, match="method must be"):
        LatentRegressor(method="semi").fit(frame, frame.a)
    with pytest.raises(ConfigError, match="begins with its own weights"):
        LatentClassifier(method="semi", pretrained=False).fit(frame, known)


def test_a_pretrained_model_stays_fitted_when_scikit_learn_clones():
    from sklearn.base import clone
    from sklearn.model_selection import cross_val_score

    frame, _, y = blobs(120)
    ae = LatentClassifier(epochs=3, random_state=0).autoencoder(frame)
    made = LatentClassifier(pretrained=ae, tuning=QUICK, calibrate=False, random_state=0)
    assert clone(made).pretrained is ae
    assert cross_val_score(made, frame, y, cv=2).mean() > 0.8
    again = clone(lt.Autoencoder(init=ae, steps=2))
    assert again.init is ae
    for wrong in (True, 5, lt.Autoencoder()):
        with pytest.raises((ConfigError, lt.NotFittedError)):
            LatentClassifier(pretrained=wrong).fit(frame, y)
    with pytest.raises(ConfigError, match="has its recipe"):
        LatentClassifier("vae", pretrained=ae).fit(frame, y)


def test_threads_predict_what_one_does():
    from concurrent.futures import ThreadPoolExecutor

    frame, known, _ = blobs()
    made = LatentClassifier(epochs=2, tuning={"steps": 10}, calibrate=False, random_state=0).fit(frame, known)
    parts = [frame[i : i + 40 + i] for i in range(0, 200, 20)]
    alone = [made.predict_proba(p) for p in parts]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(5):
            together = list(pool.map(made.predict_proba, parts))
            assert all(np.array_equal(a, b) for a, b in zip(alone, together, strict=True))


def test_columns_may_come_in_another_order_and_with_new_levels():
    frame, known, _ = blobs()
    ae = LatentClassifier(epochs=3, random_state=0).autoencoder(frame)
    turned = frame[frame.columns[::-1]]
    one = LatentClassifier(pretrained=ae, tuning=QUICK, calibrate=False, random_state=0).fit(frame, known)
    two = LatentClassifier(pretrained=ae, tuning=QUICK, calibrate=False, random_state=0).fit(turned, known)
    assert np.array_equal(one.predict_proba(frame), two.predict_proba(turned))
    more = frame.assign(word=frame["word"].where(np.arange(len(frame)) % 3 > 0, "new"))
    with pytest.warns(lt.DataWarning, match="with new levels"):
        three = LatentClassifier(pretrained=ae, epochs=2, tuning=QUICK, calibrate=False).fit(more, known)
    assert "new" in next(c for c in three.autoencoder_.schema_.columns if c.label == "word").levels


@pytest.mark.parametrize(
    "change",
    [
        {"classes": ["a", "a"]},
        {"classes": [None, None]},
        {"classes": ["plus", "minus"], "dtype": "<U1"},
        {"dtype": "<U400000000"},
        {"dtype": "S3"},
        {"classes": [["a"], ["b"]]},
        {"classes": "ab"},
        {"temperature": 1e308},
        {"temperature": True},
        {"target": {}},
        {"measured": "much"},
        {"scale": [1.0]},
    ],
)
def test_a_document_that_means_nothing_is_refused(change):
    from latente.uses.learned.predictor import Meaning

    document = Meaning(classes=("minus", "plus"), dtype="object").to_json()
    assert Meaning.from_json(document, "classes").classes == ("minus", "plus")
    with pytest.raises((ValueError, LookupError, TypeError)):
        Meaning.from_json(document | change, "classes")


def test_one_known_number_is_refused_and_so_are_numbers_without_end():
    frame, _, _ = blobs(60)
    alone = np.full(60, np.nan)
    alone[3] = 1.0
    with pytest.raises(DataError, match=r"1 sample\(s\) with a known target"):
        LatentRegressor(epochs=1).fit(frame, alone)
    with pytest.raises(DataError, match="too large"):
        LatentRegressor(epochs=1).fit(frame, frame.a * 1e300)


@pytest.mark.parametrize("weights", [{"minus": -1, "plus": 1}, {"minus": 0, "plus": 0}, {"minus": np.nan}, "x"])
def test_class_weights_that_cannot_be_are_refused(weights):
    frame, known, _ = blobs(60)
    with pytest.raises(ConfigError, match=r"class_weight|class weights"):
        LatentClassifier(class_weight=weights, epochs=1, tuning=QUICK).fit(frame, known)


def test_a_class_that_has_one_row_is_learned_without_being_held_out():
    frame, known, _ = blobs(100, labels=30)
    known[5] = "rare"
    made = LatentClassifier(epochs=2, tuning={"steps": 20}, random_state=0).fit(frame, known)
    assert list(made.classes_) == ["minus", "plus", "rare"]
    assert made.predict_proba(frame).shape == (100, 3)


@pytest.mark.parametrize(
    ("values", "found"),
    [
        (["a", "b", None], "classes"),
        ([1, 2, 3, np.nan], "classes"),
        (list(range(30)), "numbers"),
        ([0.5, 1.5, 2.0], "numbers"),
        ([True, False], "classes"),
    ],
)
def test_whether_a_target_is_classes_or_numbers_is_seen_from_it(values, found):
    assert task_of(pd.Series(values), "auto") == found


def test_labels_spread_over_a_graph_of_codes():
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1], 200)
    codes = (rng.normal(size=(400, 3)) + 6 * y[:, None]).astype(np.float32)
    known = np.full(400, None, dtype=object)
    known[[0, 399]] = ["low", "high"]
    said, p = lt.spread_labels(None, codes, known)
    assert (said == np.where(y == 1, "high", "low")).all()
    assert np.allclose(p.sum(1), 1)
    with pytest.raises(DataError, match="one class"):
        lt.spread_labels(None, codes, [1] + [None] * 399)
