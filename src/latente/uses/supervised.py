"""LatentClassifier and LatentRegressor: learn from many rows and few labels, as scikit-learn has it."""

import copy
import warnings
from abc import ABC, abstractmethod
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, Self, final

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin

from ..errors import ConfigError, DataError, DataWarning, ModelFileError
from ..estimator import Autoencoder, _NotFitted, _seed, cloned, load
from ..kinds.base import infer
from ..kinds.merging import merged
from ..kinds.sources import Source
from ..model.batch import Batch, both
from ..parts import build
from ..training.tuning import Tuning
from . import finetuning, semisupervised
from .finetuning import Labelled
from .learned.predictor import METHODS, Meaning, Predictor, Predicts
from .targets import checked_rows, classes_in, meaning_of_classes, meaning_of_numbers, numbers_in, together

# Dimensions of the code of an autoencoder that is fitted for what comes after it.
DIM = 64
# What an autoencoder is fitted with that is to begin nets for labels. Chosen on Adult with 200 labels and MNIST with
# 100, by training data held out: swapping half of a row's cells .890 AUROC, hiding them .887; bending pictures 9.7 %
# error, hiding three quarters of them 18.8 %, no pretraining 20.8 %.
PRETRAINED: dict[str, dict[str, Any]] = {
    "table": {
        "corruption": {"part": "swap", "share": 0.5},
        "nets": {"part": "mlp", "widths": [512, 512], "activation": "relu"},
        "train.batch_size": 256,
        "train.unplanned": [20, 1_500],
    },
    "image": {"corruption": "deform"},
}
# How nets for tables are tuned: in few and small steps, held to where they began. Chosen on Adult with 200 labels, by
# rows of its training part (AUROC .890; at half the rate .888, at twice the rate .889).
TABLE = {
    "first": 100,
    "growth": 0.8,
    "lr": 2e-4,
    "batch_size": 32,
    "weight_decay": 0.0,
    "pull": 3e-3,
    "ema": 0.98,
    "dropout": 0.1,
    "smoothing": 0.0,
}


class _Latent(BaseEstimator, ABC):
    """What both have in common: pretraining on every row, then learning from those with labels.

    recipe: of the autoencoder; "auto": "pretrained" for tables and pictures, else what a fit takes. pretrained: a
    fitted Autoencoder, or the path of one, in place of a fit; False: none, the net begins from random weights. method:
    "finetune" goes on with the whole encoder and a head on it; "frozen" learns a linear head on the codes. "semi"
    (classes): a semi-supervised VAE, which learns from both at once. unfreeze: "all" of the encoder is tuned, its upper
    half ("partial"), or the "head" alone. early_stopping: a tenth of the labelled rows is held out, and the best look
    at them is kept. calibrate: rows are held out in turn to measure how sure it may be, which takes as long again three
    times. tuning: settings of `Tuning`, of method "semi" those of `Semi`. dim, kind, settings, epochs (of pretraining),
    random_state, verbose: see `Autoencoder`.
    """

    _task: Literal["classes", "numbers"]
    recipe: Any
    method: Literal["finetune", "frozen", "semi"]
    pretrained: Any
    unfreeze: Literal["all", "partial", "head"]
    early_stopping: bool
    calibrate: bool
    dim: int | None
    kind: Any
    settings: dict[str, Any] | None
    tuning: dict[str, Any] | None
    epochs: int | None
    random_state: Any
    verbose: bool
    autoencoder_: Autoencoder

    def fit(self, X: Any, y: Any, unlabelled: Any = None) -> Self:
        """Learn from rows X and what is known of them, y; where y is missing (NaN, None, NA) the row is learned from
        without it. unlabelled: more such rows.

        Raises DataError, saying why, for targets that cannot be learned.
        """
        return self.learn(X, y, unlabelled)

    def learn(self, X: Any, y: Any, unlabelled: Any = None, *, target: str = "target", baseline: bool = False) -> Self:
        """`fit`. target: the name of what is predicted. baseline: measure another learner on the same rows beside."""
        self._require_settings()
        seed = _seed(self.random_state)
        values, known = self._targets(y)
        rows, extra = checked_rows(X), None if unlabelled is None else checked_rows(unlabelled)
        number = rows.shape[0] if hasattr(rows, "shape") else len(rows)
        if number != len(values):
            raise DataError(
                f"Found input variables with inconsistent numbers of samples: X has {number:,}, y {len(values):,}"
            )
        meaning, targets, weights = self._meaning(values[known])
        meaning = replace(meaning, target=target)
        if self.method == "semi":
            ae = self._told(rows, extra, len(meaning.classes), seed)
        else:
            ae = self._pretrained(rows, extra, seed)
        place = np.flatnonzero(known)
        compact = ae.schema_.to_batch(ae.rows(rows))
        if len(compact) != len(values):
            raise DataError(
                f"{len(values):,} rows became {len(compact):,} examples, so that labels of rows are none of theirs",
                hint="give windows themselves, an array (windows, steps, channels), with a label each",
            )
        labelled = Labelled(compact.rows(torch.from_numpy(place)), targets, len(meaning.classes), weights)
        if extra is not None:
            compact = both(compact, ae.schema_.to_batch(ae.rows(extra)))
        self._take(self._fitted(ae, labelled, compact, meaning, seed, baseline))
        return self

    def autoencoder(self, X: Any, unlabelled: Any = None) -> Autoencoder:
        """The autoencoder that `fit` would begin with: from rows alone. To be fitted once, and given as `pretrained` to
        several that are tuned to other labels.
        """
        extra = None if unlabelled is None else checked_rows(unlabelled)
        return self._pretrained(checked_rows(X), extra, _seed(self.random_state))

    def _fitted(
        self,
        ae: Autoencoder,
        labelled: Labelled,
        compact: Batch,
        meaning: Meaning,
        seed: int,
        baseline: bool,
    ) -> Autoencoder:
        """The model with what was learned from the labels."""
        table = ae.schema_.name == "table"
        use = Predictor(self._task, self.method, layers=table and self.method == "finetune")
        if self.method == "semi":
            learn = semisupervised.learner(ae, compact, self.tuning or {}, quiet=not self.verbose)
        else:
            early = 0.1 if self.early_stopping else 0.0
            learn = finetuning.learner(ae, use, self._config(table), early, compact, quiet=not self.verbose)
        t, measured = 1.0, dict[str, Any]()
        if self.calibrate:
            # A semi-supervised run is long, and most of what it learns from is the same in every fold: one is enough.
            most = 1 if self.method == "semi" else finetuning.FOLDS
            t, measured = finetuning.crossed(ae, labelled, learn, seed, baseline, most)
        net = learn(labelled, seed)
        ae.model_ = getattr(net, "vae", ae.model_)
        document = meaning.to_json() | {"temperature": t, "measured": {"rows": len(labelled), **measured}}
        meaning = Meaning.from_json(document, self._task)
        return finetuning.predictor(ae, use, net, meaning)

    @abstractmethod
    def _targets(self, y: Any) -> tuple[np.ndarray, np.ndarray]:
        """Targets [n], and which of them are known. bool [n]"""

    @abstractmethod
    def _meaning(self, values: np.ndarray) -> tuple[Meaning, torch.Tensor, torch.Tensor | None]:
        """Of known targets what they mean, as a net is trained on them, and how much each row counts."""

    def _require_settings(self) -> None:
        method = self.method
        allowed = METHODS if self._task == "classes" else METHODS[:2]
        if method not in allowed:
            raise ConfigError(
                f"method must be one of {', '.join(allowed)}, not {method!r}",
                hint="semi is of classes" if method == "semi" else "method='finetune'",
            )
        if self.tuning is not None and not isinstance(self.tuning, dict):
            raise ConfigError(f"tuning is a dict of settings, not {self.tuning!r:.60}", hint="tuning={'steps': 500}")
        if method != "semi":
            self._config()
        elif self.epochs is not None:
            raise ConfigError(
                "epochs are of pretraining, and a semi-supervised VAE has none", hint="tuning={'steps': 500}"
            )

    def _config(self, table: bool = False) -> Tuning:
        found = {**(TABLE if table else {}), **(self.tuning or {})}
        return build(Tuning, {"unfreeze": self.unfreeze, **found}, "tuning")

    def _pretrained(self, rows: Any, extra: Any, seed: int) -> Autoencoder:
        """The autoencoder that tuning begins with."""
        given = self.pretrained
        if isinstance(given, (str, Path)):
            given = load(given)
        if given is not None and given is not False and not isinstance(given, Autoencoder):
            raise ConfigError(
                f"pretrained is a fitted Autoencoder, its file, or False, not {given!r:.60}",
                hint="of a LatentClassifier it is .autoencoder_",
            )
        if isinstance(given, Autoencoder):
            given._require_fitted()
            if self.recipe != "auto" or self.dim is not None or self.settings:
                raise ConfigError("a pretrained model has its recipe, dim and settings", hint="leave them out")
            return self._adapted(given, together(rows, extra), seed)
        whole = together(rows, extra)
        name = self.kind if isinstance(self.kind, str) and self.kind != "auto" else infer(whole)
        planned = self.recipe == "auto" and name in PRETRAINED
        settings = {**(PRETRAINED[name] if planned else {}), **(self.settings or {})}
        made = Autoencoder(
            "pretrained" if planned else self.recipe,
            # What tuning begins with is to know all of a row: no smaller code than this.
            dim=DIM if self.dim is None and planned and "latent.dim" not in settings else self.dim,
            kind=self.kind,
            settings=settings,
            epochs=self.epochs,
            steps=1 if given is False else None,
            random_state=seed,
            verbose=self.verbose,
        )
        made.fit(whole)
        if given is False:
            made.model_ = made._build(seed).eval()  # the schema is learned, and no weight
        return made

    def _told(self, rows: Any, extra: Any, classes: int, seed: int) -> Autoencoder:
        """A VAE that is told the class, before any training."""
        if self.pretrained is not None:
            raise ConfigError("a semi-supervised VAE begins with its own weights", hint="leave out pretrained")
        whole = together(rows, extra)
        pictures = self.kind == "image" or (self.kind == "auto" and infer(whole) == "image")
        nets = {"nets": "strided"} if pictures else {}
        made = Autoencoder(
            "vae" if self.recipe == "auto" else self.recipe,
            dim=self.dim or 16,
            kind=self.kind,
            settings={**nets, **(self.settings or {})},
            steps=1,
            random_state=seed,
        )
        return semisupervised.begun(made, whole, classes)

    def _adapted(self, given: Autoencoder, rows: Any, seed: int) -> Autoencoder:
        """A fitted model for rows of these columns: as it is, or, if they are others, gone on from."""
        if given.condition_ is not None:
            raise ConfigError("a model that is given something cannot be tuned", hint="fit one without condition")
        if getattr(given.schema_, "chained", False):
            warnings.warn(
                "of a chain of columns (recipe tabular) the code holds a part alone: a model of recipe pretrained is "
                "the better one to begin with",
                DataWarning,
                stacklevel=5,
            )
        if not merged(given.schema_, given.schema_.taken(rows)).changed:
            made = copy.copy(given)
            if hasattr(rows, "columns") and hasattr(made, "feature_names_in_"):
                # The same columns, in the order in which they come now.
                made.feature_names_in_ = np.array([str(c) for c in rows.columns], dtype=object)
            return made
        made = Autoencoder(
            init=given,
            epochs=self.epochs,
            random_state=seed,
            verbose=self.verbose,
        )
        return made.fit(rows)

    def _take(self, ae: Autoencoder) -> None:
        """Use a model that predicts."""
        self.autoencoder_ = ae
        for name in ("n_features_in_", "feature_names_in_"):
            if hasattr(ae, name):
                setattr(self, name, getattr(ae, name))

    def _require_fitted(self) -> None:
        if not hasattr(self, "autoencoder_"):
            raise _NotFitted(
                f"This {type(self).__name__} instance is not fitted yet", hint="call fit(X, y) first, or load(path)"
            )

    @property
    def _predicts(self) -> Predicts:
        self._require_fitted()
        found = self.autoencoder_.use_
        assert isinstance(found, Predicts)
        return found

    def _rows(self, X: Any) -> Any:
        """Compact rows of `X`, checked."""
        ae = self.autoencoder_
        raw = ae.rows(X)
        if isinstance(raw, Source):
            raise DataError("predictions are of rows in memory", hint="latente predict MODEL DATA reads in blocks")
        if (raw.shape[0] if hasattr(raw, "shape") else len(raw)) == 0:
            raise DataError("found 0 rows (Found array with 0 sample(s))", hint="check the file, or the filter before")
        return ae.schema_.to_batch(raw)

    def save(self, path: Any) -> None:
        """Write the one model file, for `latente predict` and `load`."""
        self._require_fitted()
        self.autoencoder_.save(path)

    @classmethod
    def load(cls, path: Any) -> Self:
        """What predicts, of a model file or a run folder. Raises ModelFileError if it holds nothing of this task."""
        ae = load(path)
        if not isinstance(ae.use_, Predicts) or ae.use_.use.task != cls._task:
            raise ModelFileError(
                f"{path} does not predict {cls._task}", hint="latente finetune MODEL DATA --target COLUMN makes one"
            )
        made = cls()
        made._take(ae)
        return made

    def __sklearn_clone__(self) -> Any:
        return cloned(self, "pretrained")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.sparse = True
        tags.input_tags.categorical = True
        return tags


@final
class LatentClassifier(ClassifierMixin, _Latent):
    """A classifier that learns from rows without labels too."""

    __doc__ = (__doc__ or "") + (_Latent.__doc__ or "").partition("\n")[2]
    _task = "classes"

    def __init__(
        self,
        recipe: Any = "auto",
        *,
        method: Literal["finetune", "frozen", "semi"] = "finetune",
        pretrained: Any = None,
        unfreeze: Literal["all", "partial", "head"] = "all",
        class_weight: Any = None,
        early_stopping: bool = False,
        calibrate: bool = True,
        dim: int | None = None,
        kind: Any = "auto",
        settings: dict[str, Any] | None = None,
        tuning: dict[str, Any] | None = None,
        epochs: int | None = None,
        random_state: Any = None,
        verbose: bool = False,
    ) -> None:
        self.recipe = recipe
        self.method = method
        self.pretrained = pretrained
        self.unfreeze = unfreeze
        self.class_weight = class_weight
        self.early_stopping = early_stopping
        self.calibrate = calibrate
        self.dim = dim
        self.kind = kind
        self.settings = settings
        self.tuning = tuning
        self.epochs = epochs
        self.random_state = random_state
        self.verbose = verbose

    def predict(self, X: Any) -> np.ndarray:
        """The likeliest class of each row. [rows]"""
        return np.asarray(self._predicts.meaning.labels[self.predict_proba(X).argmax(1)])

    def predict_proba(self, X: Any) -> np.ndarray:
        """The probability of each class, in the order of `classes_`: as often right as it says, on rows that were held
        out. [rows, classes]
        """
        predicts = self._predicts
        return predicts.probabilities(self._rows(X))

    def _take(self, ae: Autoencoder) -> None:
        super()._take(ae)
        self.classes_ = self._predicts.meaning.labels

    def _targets(self, y: Any) -> tuple[np.ndarray, np.ndarray]:
        return classes_in(y)

    def _meaning(self, values: np.ndarray) -> tuple[Meaning, torch.Tensor, torch.Tensor | None]:
        return meaning_of_classes(values, self.class_weight)


@final
class LatentRegressor(RegressorMixin, _Latent):
    """A regressor that learns from rows without targets too."""

    __doc__ = (__doc__ or "") + (_Latent.__doc__ or "").partition("\n")[2]
    _task = "numbers"

    def __init__(
        self,
        recipe: Any = "auto",
        *,
        method: Literal["finetune", "frozen"] = "finetune",
        pretrained: Any = None,
        unfreeze: Literal["all", "partial", "head"] = "all",
        early_stopping: bool = False,
        calibrate: bool = False,
        dim: int | None = None,
        kind: Any = "auto",
        settings: dict[str, Any] | None = None,
        tuning: dict[str, Any] | None = None,
        epochs: int | None = None,
        random_state: Any = None,
        verbose: bool = False,
    ) -> None:
        self.recipe = recipe
        self.method = method
        self.pretrained = pretrained
        self.unfreeze = unfreeze
        self.early_stopping = early_stopping
        self.calibrate = calibrate
        self.dim = dim
        self.kind = kind
        self.settings = settings
        self.tuning = tuning
        self.epochs = epochs
        self.random_state = random_state
        self.verbose = verbose

    def predict(self, X: Any) -> np.ndarray:
        """The expected number of each row. float64 [rows]"""
        predicts = self._predicts
        return predicts.numbers(self._rows(X))[:, 0]

    def _targets(self, y: Any) -> tuple[np.ndarray, np.ndarray]:
        return numbers_in(y)

    def _meaning(self, values: np.ndarray) -> tuple[Meaning, torch.Tensor, torch.Tensor | None]:
        return meaning_of_numbers(values)


def predicts_of(ae: Autoencoder) -> Predicts:
    """What a model predicts. Raises ConfigError for one that predicts nothing."""
    if not isinstance(ae.use_, Predicts):
        raise ConfigError(
            "this model predicts nothing: it was learned without labels",
            hint="latente finetune MODEL DATA --target COLUMN",
        )
    return ae.use_
