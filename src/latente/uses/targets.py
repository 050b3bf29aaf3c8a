"""What is to be predicted: targets as users give them, checked, and as a net is trained on them."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from sklearn.utils.class_weight import compute_class_weight
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import column_or_1d

from ..errors import ConfigError, DataError
from ..kinds.joining import joined
from ..kinds.sources import Source
from ..kinds.table import as_frame
from .learned.predictor import Meaning

# Whole numbers of which there are more are numbers, not classes, unless told otherwise.
MOST_CLASSES = 20


def classes_in(y: Any) -> tuple[np.ndarray, np.ndarray]:
    """Classes [n], and which of them are known. bool [n]"""
    values = _column(y)
    known = ~np.asarray(pd.isna(values))
    if not known.any():
        raise DataError("Input y contains NaN in every row: there is no label to learn from", hint="label some rows")
    # Numbers that came as objects, or as reals because some were missing, are themselves.
    narrow = values[known]
    if narrow.dtype == object:
        narrow = pd.Series(narrow).infer_objects().to_numpy()
    try:
        check_classification_targets(narrow)
    except (ValueError, TypeError) as error:
        raise DataError(
            f"classes cannot be read from y: {error}", hint="of numbers LatentRegressor (--task numbers); else text"
        ) from None
    if narrow.dtype.kind == "f" and (~known).any() and (narrow == np.rint(narrow)).all():
        narrow = narrow.astype(np.int64)
    if narrow.dtype.kind not in "OUSbiuf":
        raise DataError(f"classes are names or numbers, not {narrow.dtype}", hint="y.astype(str)")
    if narrow.dtype == object and not all(isinstance(v, (str, bool, int, float)) for v in narrow):
        raise DataError("classes of more than one type cannot be told apart", hint="y.astype(str)")
    made = np.empty(len(values), dtype=narrow.dtype if not (~known).any() else object)
    made[known] = narrow
    return made, known


def meaning_of_classes(values: np.ndarray, class_weight: Any) -> tuple[Meaning, torch.Tensor, torch.Tensor | None]:
    """Of known classes what they mean, their numbers [n], and how much each row counts, or None for alike."""
    values = values if values.dtype != object else pd.Series(values).infer_objects().to_numpy()
    try:
        classes, numbers = np.unique(values, return_inverse=True)
    except TypeError:
        raise DataError("classes of more than one type cannot be told apart", hint="y.astype(str)") from None
    if len(classes) < 2:
        raise DataError(
            f"the target has one class, {str(classes[0])!r}: there is nothing to tell apart",
            hint="check the column; AnomalyDetector learns from rows of one class",
        )
    dtype = "object" if classes.dtype == object else str(classes.dtype)
    meaning = Meaning(classes=tuple(classes.tolist()), dtype=dtype)
    weights = None
    if class_weight is not None:
        try:
            own = compute_class_weight(class_weight, classes=classes, y=values)
        except (ValueError, TypeError) as error:
            raise ConfigError(f"class_weight cannot be used: {error}", hint="class_weight='balanced'") from None
        if not np.isfinite(own).all() or (own < 0).any() or not (own > 0).any():
            raise ConfigError("class weights are 0 or more, and not all 0", hint="class_weight='balanced'")
        weights = torch.from_numpy(own[numbers].astype(np.float32))
    return meaning, torch.from_numpy(numbers.astype(np.int64)), weights


def numbers_in(y: Any) -> tuple[np.ndarray, np.ndarray]:
    """Numbers [n], and which of them are known. bool [n]"""
    values = _column(y)
    try:
        numbers = np.array([np.nan if pd.isna(v) else v for v in values], dtype=np.float64)
    except (TypeError, ValueError):
        shown = str(next(v for v in values if not _is_number(v)))
        raise DataError(
            f"a regression target is numbers, and {shown!r:.60} is none",
            hint="LatentClassifier (--task classes) tells classes apart; pd.to_numeric(y) reads numbers from text",
        ) from None
    if np.isinf(numbers).any():
        raise DataError("Input y contains infinity or a value too large", hint="leave those rows' targets out: NaN")
    known = ~np.isnan(numbers)
    if not known.any():
        raise DataError("Input y contains NaN in every row: there is nothing to learn from", hint="give targets")
    return numbers, known


def meaning_of_numbers(values: np.ndarray) -> tuple[Meaning, torch.Tensor, None]:
    """Of known numbers what they mean, and standardised [n, 1]."""
    if len(values) < 2:
        raise DataError(
            f"found {len(values)} sample(s) with a known target (n_samples={len(values)}): that says nothing of others",
            hint="give two or more",
        )
    with np.errstate(over="ignore"):
        mean, scale = float(values.mean()), float(values.std()) or 1.0
    if not np.isfinite([mean, scale]).all():
        raise DataError("the targets are too large to be told apart in float64", hint="scale them: y / y.max()")
    targets = torch.from_numpy(((values - mean) / scale).astype(np.float32))[:, None]
    return Meaning(mean=(mean,), scale=(scale,)), targets, None


def _column(y: Any) -> np.ndarray:
    """Targets as one column. Raises DataError for what is none."""
    if y is None:
        raise DataError(
            "requires y to be passed, but the target y is None", hint="fit(X, y); rows without a label: NaN in y"
        )
    if hasattr(y, "to_numpy"):
        y = y.to_numpy()
    try:
        values: np.ndarray = column_or_1d(y, warn=True)
    except ValueError as error:
        raise DataError(f"y must be one column: {error}") from None
    if values.dtype.kind == "f" and np.isinf(values).any():
        raise DataError("Input y contains infinity or a value too large for its type")
    return values


def _is_number(value: Any) -> bool:
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return True


def checked_rows(X: Any) -> Any:
    """Rows in memory: data of a path are read."""
    if isinstance(X, (str, Path)):
        from .rows import load as read

        X = read(X).raw
    if isinstance(X, Source):
        raise DataError("labels are of rows in memory, and these are read in blocks", hint="--stream no")
    if hasattr(X, "__array__") and not hasattr(X, "shape"):
        X = np.asarray(X)
    if not (hasattr(X, "shape") or hasattr(X, "__len__")) or getattr(X, "ndim", 1) == 0:
        raise DataError(f"rows are a table, an array or a list, not {X!r:.60}", hint="a frame, or an array of 2 axes")
    return X


def together(rows: Any, extra: Any) -> Any:
    """Rows of one kind, one after the other."""
    if extra is None:
        return rows
    if hasattr(rows, "columns") or hasattr(extra, "columns"):
        a, b = as_frame(rows), as_frame(extra)
        if set(a.columns) - set(b.columns):
            few = ", ".join(repr(c) for c in a.columns if c not in set(b.columns))
            raise DataError(f"the rows without labels lack the columns {few:.200}", hint="give both the same columns")
    return joined(rows, extra)


def task_of(labels: Any, task: str) -> str:
    """ "classes" or "numbers", as asked for or as labels look: reals, or more than 20 numbers, are numbers."""
    if task not in ("auto", "classes", "numbers"):
        raise ConfigError(f"task must be auto, classes or numbers, not {task!r}")
    values = pd.Series(np.asarray(labels)).dropna().infer_objects()
    if task != "auto" or values.dtype.kind not in "iuf":
        return "classes" if task == "auto" else task
    whole = values.dtype.kind in "iu" or bool((values == np.rint(values)).all())
    return "classes" if whole and values.nunique() <= MOST_CLASSES else "numbers"
