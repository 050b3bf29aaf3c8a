from sklearn.utils.estimator_checks import parametrize_with_checks

from latente import LatentClassifier, LatentRegressor

QUICK = {"steps": 60, "dropout": 0.0}


@parametrize_with_checks(
    [
        LatentClassifier(epochs=3, dim=2, tuning=QUICK),
        LatentClassifier(method="frozen", epochs=3, dim=2),
        LatentRegressor(epochs=3, dim=2, tuning=QUICK),
    ]
)
def test_every_contract_of_scikit_learn_is_kept(estimator, check):
    check(estimator)
