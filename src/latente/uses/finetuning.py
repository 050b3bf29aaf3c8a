"""From a fitted model and some labels to what predicts them, with probabilities that were held against other rows."""

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from sklearn.decomposition import PCA
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import accuracy_score, log_loss, r2_score, roc_auc_score
from sklearn.model_selection import GridSearchCV, KFold, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn

from ..estimator import Autoencoder
from ..kinds.sequences import Sequences
from ..model import sparse
from ..model.batch import Batch, parts_of
from ..model.corruptions.masking import Masking
from ..model.corruptions.swap import Swap
from ..model.model import Corruption
from ..training.feed import evenly
from ..training.progress import Passed
from ..training.tuning import Headed, Tuning, cross_entropy, outputs, squared, tune
from .learned.predictor import Meaning, Predictor, Predicts, net_of, temperature

# Below this number of labels each is held out once in FOLDS runs; from it on a tenth is, in one run.
FOLDS, MANY = 3, 2_000
# Features beyond which the baseline is a linear model on principal components, not boosted trees.
WIDE, COMPONENTS = 200, 50
# Rows by which what a head sees is standardised.
ENOUGH = 8_000
# Strengths of a linear head's penalty.
STRENGTHS = np.logspace(-4, 3, 8)


@dataclass(frozen=True, eq=False)
class Labelled:
    """Compact rows with targets: classes as numbers [n], or standardised numbers [n, k]. weights: of each row, or None.
    classes: how many, 0 for numbers.
    """

    rows: Batch
    targets: Tensor
    classes: int = 0
    weights: Tensor | None = None

    def part(self, index: Any) -> "Labelled":
        """Some of the rows."""
        at = torch.as_tensor(index)
        weights = None if self.weights is None else self.weights[at]
        return Labelled(self.rows.rows(at), self.targets[at], self.classes, weights)

    def __len__(self) -> int:
        return len(self.targets)


# Learns a net from labelled rows, with a seed.
Learner = Callable[[Labelled, int], nn.Module]


def learner(ae: Autoencoder, use: Predictor, config: Tuning, early: float, rows: Batch, quiet: bool = True) -> Learner:
    """What learns from labelled rows, as `use` says. early: share of them that ends a run early, 0 for none. rows: all
    that there are, with labels or without.
    """

    def frozen(labelled: Labelled, seed: int) -> nn.Module:
        return _linear(ae, labelled, seed)

    def finetuned(labelled: Labelled, seed: int) -> nn.Module:
        net = net_of(ae.model_, labelled.classes or labelled.targets.shape[1], use)
        assert isinstance(net, Headed)
        with torch.no_grad():
            net.eval().standardise(net.features(ae.schema_.prepare(rows.rows(evenly(len(rows), ENOUGH)))))
        fit, held_out = _apart(labelled, early, seed)
        tune(
            net,
            fit.rows,
            fit.targets,
            ae.schema_,
            config,
            cross_entropy(config.smoothing) if labelled.classes else squared,
            seed,
            weights=fit.weights,
            corruption=_noise(ae),
            continuous=ae.model_.likelihood.continuous,
            held_out=None if held_out is None else (held_out.rows, held_out.targets),
            passed=Passed(config.planned(len(fit)), quiet, what="steps"),
        )
        return net

    return frozen if use.method == "frozen" else finetuned


def predictor(ae: Autoencoder, use: Predictor, net: nn.Module, meaning: Meaning) -> Autoencoder:
    """The model with what was learned beside it, as one file keeps both; the model that was given stays as it is."""
    made = copy.copy(ae)
    made.spec_ = replace(ae.spec_, use=use)
    made.use_ = Predicts(use, ae.schema_, net, meaning)
    return made


def crossed(
    ae: Autoencoder, labelled: Labelled, learn: Learner, seed: int, baseline: bool = False, most: int = FOLDS
) -> tuple[float, dict[str, Any]]:
    """The temperature of a learner's probabilities, and how good its predictions are, both on rows that it did not
    learn from. baseline: of another learner on the same rows beside it. most: folds at the most.
    """
    found, places, other = [], [], []
    for fit, held_out in _folds(labelled, seed)[:most]:
        net = learn(labelled.part(fit), seed)
        found.append(outputs(net, labelled.rows.rows(torch.as_tensor(held_out)), ae.schema_))
        places.append(held_out)
        if baseline:
            other.append(_boosted(ae, labelled.part(fit), labelled.part(held_out), seed))
    if not found:
        return 1.0, {}
    index, said = torch.as_tensor(np.concatenate(places)), torch.cat(found)
    wanted = labelled.targets[index]
    if not labelled.classes:
        figures = {"r2": float(r2_score(wanted, said))}
        if baseline:
            figures[f"r2_{_named(ae)}"] = float(r2_score(wanted, np.concatenate(other)))
        return 1.0, {"rows_held_out": len(index), **figures}
    t = temperature(said, wanted)
    p = torch.softmax(said.double() / t, -1).numpy()
    figures = _figures(p, wanted.numpy())
    if baseline:
        figures |= {f"{n}_{_named(ae)}": v for n, v in _figures(np.concatenate(other), wanted.numpy()).items()}
    return t, {"rows_held_out": len(index), **figures}


def _figures(p: np.ndarray, classes: np.ndarray) -> dict[str, float]:
    sure = np.clip(p, 1e-9, 1)
    sure = sure / sure.sum(1, keepdims=True)
    found = {
        "accuracy": float(accuracy_score(classes, p.argmax(1))),
        "log_loss": float(log_loss(classes, sure, labels=range(p.shape[1]))),
    }
    if len(np.unique(classes)) == p.shape[1]:
        found["auroc"] = float(roc_auc_score(classes, p[:, 1] if p.shape[1] == 2 else p, multi_class="ovr"))
    return found


def _folds(labelled: Labelled, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """(rows to learn from, rows to judge by); none if a class has a row alone."""
    n, where = len(labelled), np.zeros(len(labelled))
    numbers = labelled.targets.numpy() if labelled.classes else np.zeros(n, int)
    least = int(np.bincount(numbers, minlength=max(1, labelled.classes)).min())
    random = np.random.RandomState(seed)
    if least < 2 or n < 10:
        return []
    if n >= MANY:
        mixed = random.permutation(n)
        return [(mixed[n // 10 :], mixed[: n // 10])]
    if labelled.classes:
        return list(StratifiedKFold(min(FOLDS, least), shuffle=True, random_state=random).split(where, numbers))
    return list(KFold(FOLDS, shuffle=True, random_state=random).split(where))


def _apart(labelled: Labelled, share: float, seed: int) -> tuple[Labelled, Labelled | None]:
    """Some rows, of each class in turn, held out to end a run early; none where that would take a class's last."""
    if not share:
        return labelled, None
    n = len(labelled)
    mixed = np.random.RandomState(seed).permutation(n)
    if labelled.classes:
        numbers = labelled.targets.numpy()[mixed]
        own = [mixed[numbers == c] for c in range(labelled.classes)]
        held = np.concatenate([rows[: int(share * len(rows))] for rows in own])
    else:
        held = mixed[: int(share * n)]
    if len(held) == 0:
        return labelled, None
    return labelled.part(np.setdiff1d(mixed, held)), labelled.part(held)


def _noise(ae: Autoencoder) -> Corruption | None:
    """What the net sees of a row in tuning: of pictures and the like a fifth of the cells is hidden, of tables some are
    swapped with other rows'; rows of tokens, and sparse ones, are left as they are.
    """
    if ae.schema_.sparse or isinstance(ae.schema_, Sequences):
        return None
    return Swap(0.15) if ae.schema_.name == "table" else Masking(0.2)


def _linear(ae: Autoencoder, labelled: Labelled, seed: int) -> nn.Module:
    """A linear head on the codes, its penalty chosen by cross-validation."""
    net = net_of(ae.model_, labelled.classes or labelled.targets.shape[1], Predictor(method="frozen"))
    with torch.no_grad():
        codes = np.concatenate(
            [ae.model_.encode(ae.schema_.prepare(some)).mean.numpy() for some in parts_of(labelled.rows)]
        ).astype(np.float64)
    mean, scale = codes.mean(0), np.maximum(codes.std(0), 1e-6)
    z, weights = (codes - mean) / scale, None if labelled.weights is None else labelled.weights.numpy()
    folds = _folds(labelled, seed)
    if labelled.classes:
        search: Any = LogisticRegression(max_iter=2_000)
        grid = {"C": STRENGTHS}
    else:
        search, grid = Ridge(), {"alpha": STRENGTHS[::-1]}
    if folds:
        search = GridSearchCV(search, grid, cv=folds)
    search.fit(z, labelled.targets.numpy(), sample_weight=weights)
    best = getattr(search, "best_estimator_", search)
    coef, bias = np.atleast_2d(best.coef_), np.atleast_1d(best.intercept_)
    if labelled.classes == 2:  # one row of weights for two classes: half of it to each side
        coef, bias = np.concatenate([-coef, coef]) / 2, np.concatenate([-bias, bias]) / 2
    state = {"head.weight": coef / scale, "head.bias": bias - (coef / scale) @ mean}
    net.load_state_dict({name: torch.from_numpy(np.asarray(v, np.float32)) for name, v in state.items()})
    return net.eval()


def _features(ae: Autoencoder, rows: Batch) -> np.ndarray:
    """Rows as plain numbers, NaN where a cell is missing. [n, f]"""
    prepared = ae.schema_.prepare(rows)
    x = sparse.dense(ae.model_.likelihood.features(prepared.x)).flatten(1).numpy().astype(np.float64)
    if prepared.observed is not None:
        seen = prepared.observed.flatten(1)[:, ae.model_.likelihood.owner].numpy()
        x = np.where(seen, x, np.nan)
    return x


def _wide(ae: Autoencoder) -> bool:
    return bool(len(ae._baseline.mean) > WIDE)


def _named(ae: Autoencoder) -> str:
    """What the baseline is called."""
    return "linear_on_pca" if _wide(ae) else "boosting"


def _boosted(ae: Autoencoder, fit: Labelled, new: Labelled, seed: int) -> np.ndarray:
    """The honest baseline, learned from the same rows: gradient boosting, or of wide rows a linear model on PCA."""
    x, new_x = _features(ae, fit.rows), _features(ae, new.rows)
    y = fit.targets.numpy() if fit.classes else fit.targets.numpy()[:, 0]
    random = np.random.RandomState(seed)
    if _wide(ae):
        k = min(COMPONENTS, *x.shape)
        last: Any = LogisticRegression(max_iter=2_000) if fit.classes else Ridge()
        made: Any = make_pipeline(PCA(k, random_state=random), StandardScaler(), last)
        x, new_x = np.nan_to_num(x), np.nan_to_num(new_x)
    elif fit.classes:
        made = HistGradientBoostingClassifier(random_state=random)
    else:
        made = HistGradientBoostingRegressor(random_state=random)
    made.fit(x, y)
    if not fit.classes:
        return np.asarray(made.predict(new_x))
    p = np.zeros((len(new_x), fit.classes))
    p[:, made.classes_.astype(int)] = made.predict_proba(new_x)
    return p
