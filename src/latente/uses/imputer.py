"""Imputer: missing cells filled, as a step of a scikit-learn pipeline."""

from typing import Any

from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin

from ..errors import ConfigError, NotFittedError
from ..estimator import Autoencoder, _seed
from ..kinds.table import Table
from . import imputation


class Imputer(OneToOneFeatureMixin, TransformerMixin, BaseEstimator):
    """Fill the missing cells of a table by what a model expects given the others; observed cells are not touched.

    recipe: "tabular", which knows each cell's distribution given any others, or another recipe for tables.
    draws: 0 fills with means and the likeliest levels; 1 with one draw, so that the filled columns vary as real ones
    do. settings, epochs, random_state, verbose: see `Autoencoder`.

    Fitted: autoencoder_.
    """

    def __init__(
        self,
        recipe: Any = "tabular",
        *,
        draws: int = 0,
        settings: dict[str, Any] | None = None,
        epochs: int | None = None,
        random_state: Any = None,
        verbose: bool = False,
    ) -> None:
        self.recipe = recipe
        self.draws = draws
        self.settings = settings
        self.epochs = epochs
        self.random_state = random_state
        self.verbose = verbose

    def fit(self, X: Any, y: Any = None) -> "Imputer":
        """Learn from rows, which may have gaps themselves; `y` is ignored."""
        if self.draws not in (0, 1):
            raise ConfigError(
                f"draws must be 0 or 1, not {self.draws!r}: a transformer gives as many rows as it takes",
                hint="latente.impute(model, X, draws=5) for several",
            )
        self.autoencoder_ = Autoencoder(
            self.recipe,
            settings=self.settings,
            epochs=self.epochs,
            random_state=self.random_state,
            verbose=self.verbose,
        ).fit(X)
        if not isinstance(self.autoencoder_.schema_, Table):
            raise ConfigError("the imputer is for tables", hint="latente.impute(model, pictures) for pictures")
        for name in ("n_features_in_", "feature_names_in_"):
            if hasattr(self.autoencoder_, name):
                setattr(self, name, getattr(self.autoencoder_, name))
        return self

    def transform(self, X: Any) -> Any:
        """`X` with its gaps filled, in the form in which it came."""
        if not hasattr(self, "autoencoder_"):
            raise NotFittedError("this Imputer is not fitted yet", hint="call fit(X) first")
        if self.draws:
            return imputation.multiple(self.autoencoder_, X, 1, _seed(self.random_state))
        return imputation.fill(self.autoencoder_, X, 10)
