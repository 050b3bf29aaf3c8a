import numpy as np
import pytest
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks

from latente import Autoencoder


# No expected failure. A short run: the contracts do not depend on how well a model has learned.
@parametrize_with_checks([Autoencoder(dim=2, steps=60), Autoencoder("ae", dim=2, steps=60)])
def test_the_estimator_keeps_every_contract_of_scikit_learn(estimator, check):
    check(estimator)


def test_it_works_in_a_pipeline_and_a_grid_search():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 120)
    x = rng.normal(size=(120, 5)) + 3 * y[:, None]
    pipe = make_pipeline(Autoencoder("vae", steps=100, random_state=0), LogisticRegression())
    search = GridSearchCV(pipe, {"autoencoder__dim": [1, 3]}, cv=2).fit(x, y)
    assert search.best_score_ > 0.95  # two clouds three deviations apart in each of five columns


def test_clone_keeps_the_settings_and_drops_the_fit():
    ae = Autoencoder("beta-vae", dim=3, settings={"objective.beta": 2.0})
    assert clone(ae).get_params() == ae.get_params()


def test_codes_as_a_pandas_frame_have_names():
    x = np.random.default_rng(0).normal(size=(40, 3))
    frame = Autoencoder(dim=2, steps=20).set_output(transform="pandas").fit_transform(x)
    assert list(frame.columns) == ["autoencoder0", "autoencoder1"]


def test_a_verb_before_fit_says_so():
    from sklearn.exceptions import NotFittedError

    with pytest.raises(NotFittedError, match="not fitted"):
        Autoencoder().transform([[1.0, 2.0]])
