"""AnomalyDetector: scikit-learn's outlier interface."""

from typing import Any, Literal

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, OutlierMixin
from sklearn.exceptions import NotFittedError as _SklearnNotFitted
from sklearn.utils.validation import check_is_fitted

from ..estimator import Autoencoder
from . import detection, streaming
from .detection import Alarms
from .drift import Drift
from .steps import StepAlarms


class AnomalyDetector(OutlierMixin, BaseEstimator):
    """Strange rows, how sure that is, and why.

    contaminated: True for data in which strange rows may be: they are trimmed away in training, and each row is scored
    by members that did not learn from it. False for data that are all ordinary (one-class, novelty).
    recipe: None is "anomaly" or "novelty", as `contaminated` says; or any other recipe, whose −log p is then the score.
    fdr: alarms are chosen so that this share of them at most is false, on average (Benjamini–Hochberg); None: by
    `threshold`, "auto" or a number. kind, settings, epochs, random_state, verbose: see `Autoencoder`.

    `score_samples` and `decision_function` are higher for ordinary rows, as scikit-learn has it; `predict` gives −1 for
    alarms and 1 for others. Fitted: autoencoder_, offset_ (−threshold).
    """

    def __init__(
        self,
        contaminated: bool = True,
        *,
        recipe: Any = None,
        kind: Any = "auto",
        fdr: float | None = None,
        threshold: float | Literal["auto"] = "auto",
        settings: dict[str, Any] | None = None,
        epochs: int | None = None,
        random_state: Any = None,
        verbose: bool = False,
    ) -> None:
        self.contaminated = contaminated
        self.recipe = recipe
        self.kind = kind
        self.fdr = fdr
        self.threshold = threshold
        self.settings = settings
        self.epochs = epochs
        self.random_state = random_state
        self.verbose = verbose

    def fit(self, X: Any, y: Any = None) -> "AnomalyDetector":
        """Learn what is ordinary from rows; `y` is ignored."""
        detection.checked(self.fdr, self.threshold)
        recipe = self.recipe or ("anomaly" if self.contaminated else "novelty")
        own = {"use": {"part": "anomaly", "forest": 0.0, "contaminated": self.contaminated}} if self.recipe else {}
        fitted = Autoencoder(
            recipe,
            kind=self.kind,
            settings={**own, **(self.settings or {})},
            epochs=self.epochs,
            random_state=self.random_state,
            verbose=self.verbose,
        ).fit(X)
        self._take(fitted)
        return self

    def _take(self, fitted: Autoencoder) -> None:
        """Use a fitted model."""
        self.autoencoder_ = fitted
        self.detector_ = detection.detector_of(fitted)
        self.drift_ = Drift()
        for name in ("n_features_in_", "feature_names_in_"):
            if hasattr(fitted, name):
                setattr(self, name, getattr(fitted, name))

    @property
    def offset_(self) -> float:
        """Minus the score above which a row is an alarm."""
        if not hasattr(self, "detector_"):
            raise AttributeError("offset_")
        detection.checked(self.fdr, self.threshold)
        own = (self.detector_.steps or self.detector_).threshold
        return -(own if self.threshold == "auto" or self.threshold is None else float(self.threshold))

    def partial_fit(self, X: Any, y: Any = None) -> "AnomalyDetector":
        """More ordinary rows to measure by: p-values and the automatic threshold follow them, the nets stay."""
        if not hasattr(self, "autoencoder_"):
            return self.fit(X, y)
        self.detector_ = detection.more_known(self.detector_, self.autoencoder_, X)
        self.autoencoder_.use_ = self.detector_
        return self

    def detect(self, X: Any) -> "Alarms | StepAlarms":
        """Rows, scored: `.found`, `.table()`, `.contributions()`."""
        self._require_fitted()
        threshold = None if self.fdr is not None else -self.offset_
        return detection.detect(self.detector_, self.autoencoder_, X, fdr=self.fdr, threshold=threshold)

    def score_samples(self, X: Any) -> np.ndarray:
        """Higher is more ordinary: minus the score that `detect` shows. [rows]"""
        return -self.detect(X).scored.score

    def decision_function(self, X: Any) -> np.ndarray:
        """`score_samples` minus `offset_`: below 0 for alarms by the threshold. [rows]"""
        return self.score_samples(X) - self.offset_

    def predict(self, X: Any) -> np.ndarray:
        """−1 for alarms, 1 for others. [rows]"""
        return np.where(self.detect(X).found, -1, 1)

    def p_values(self, X: Any) -> np.ndarray:
        """The share of ordinary rows that are at least as strange. [rows]"""
        return self.detect(X).scored.p

    def explain(self, X: Any) -> pd.DataFrame:
        """What each column adds to each row's score; a line sums to it."""
        return self.detect(X).contributions()

    def score_one(self, row: Any) -> dict[str, Any]:
        """One row of a stream, a dict or a sequence: its line of `detect(...).table()`, with `drift`, whether the rows
        of late are not what they were. Alarms are those above the threshold: a rate is of many rows together.
        """
        self._require_fitted()
        one = detection.one_row(self.autoencoder_, row)
        found = detection.detect(self.detector_, self.autoencoder_, one, threshold=-self.offset_)
        return streaming.lines(found.table(every=True, first=self.drift_.rows), self.drift_)[0]

    def save(self, path: Any) -> None:
        """Write the one model file, for `latente detect` and `AnomalyDetector.load`."""
        self._require_fitted()
        self.autoencoder_.save(path)

    @classmethod
    def load(cls, path: Any, **settings: Any) -> "AnomalyDetector":
        """The detector of a model file or a run folder."""
        from ..estimator import load

        made = cls(**settings)
        detection.checked(made.fdr, made.threshold)
        made._take(load(path))
        made.contaminated = made.detector_.use.contaminated
        return made

    def _require_fitted(self) -> None:
        try:
            check_is_fitted(self, "autoencoder_")
        except _SklearnNotFitted as error:
            from ..estimator import _NotFitted

            raise _NotFitted(str(error), hint="call fit(X) first") from None

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.sparse = True
        tags.input_tags.categorical = True
        return tags
