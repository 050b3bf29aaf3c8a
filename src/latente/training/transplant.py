"""Weights of a model into one that begins where it ended, though some of its columns are others."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ..errors import ConfigError
from ..kinds.base import Kind
from ..kinds.columns import Binary, Categorical
from ..kinds.table import Table
from ..model.model import Model

Pairs = list[tuple[int, int]]  # (place in the old model, place in the new one)


@torch.no_grad()
def transplant(old: Model, was: Kind, new: Model, now: Kind) -> None:
    """Give `new` all that `old` knows: a table's columns by their names, everything else as it is. To columns that only
    `new` has its encoder is deaf at first.

    Raises ConfigError if the models differ in more than their columns.
    """
    found, wanted = old.state_dict(), new.state_dict()
    # A likelihood's own numbers depend on which sorts of columns there are: they are measured anew where they differ.
    strange = [n for n in found.keys() ^ wanted.keys() if not n.startswith("likelihood.")]
    if strange:
        _refuse(sorted(strange))
    other = isinstance(was, Table) and isinstance(now, Table) and was.columns != now.columns
    by_name = _by_name(was, now, wanted) if other else {}  # type: ignore[arg-type]
    for name, tensor in wanted.items():
        if name not in found:
            continue
        if name in by_name:
            axis, pairs, blank = by_name[name]
            if tensor.ndim == 2 and found[name].shape[1 - axis] != tensor.shape[1 - axis]:
                _refuse([name])
            if blank:
                tensor.zero_()
            a, b = (torch.tensor([p[side] for p in pairs], dtype=torch.long) for side in (0, 1))
            tensor.index_copy_(axis, b, found[name].index_select(axis, a))
        elif found[name].shape != tensor.shape:
            if not name.startswith("likelihood."):
                _refuse([name])
        else:
            tensor.copy_(found[name])


def _by_name(was: Table, now: Table, weights: dict[str, Tensor]) -> dict[str, tuple[int, Pairs, bool]]:
    """Of the weights that belong to columns: the axis that counts them, which are whose, and whether others are 0."""
    features = _pairs(was.feature_names, now.feature_names)
    columns = _pairs(*([str(c.label) for c in kind.modelled] for kind in (was, now)))
    numbers = _pairs(_numbers(was), _numbers(now))
    # An encoder sees features, then gaps.
    seen = features + [(a + len(was.feature_names), b + len(now.feature_names)) for a, b in columns]
    first = next(n for n, t in weights.items() if n.startswith("encoder.body.") and t.ndim == 2)
    last = [n for n in weights if n.startswith("decoder.")][-2:]
    found = {first: (1, seen, True), "encoder.gap": (0, columns, True)}
    found |= dict.fromkeys(last, (0, features, False))
    own = [n for n in weights if n.startswith("likelihood.") and n.endswith((".variance", ".log_scale"))]
    return found | dict.fromkeys((n for n in own if weights[n].shape == (len(_numbers(now)),)), (0, numbers, False))


def _numbers(kind: Table) -> list[str]:
    """The columns that a Gaussian has, in its order."""
    return [str(c.label) for c in kind.modelled if not isinstance(c, (Categorical, Binary))]


def _pairs(was: Sequence[str], now: Sequence[str]) -> Pairs:
    places = {name: i for i, name in enumerate(was)}
    return [(places[name], i) for i, name in enumerate(now) if name in places]


def _refuse(names: list[str]) -> None:
    raise ConfigError(
        f"the model to begin with has other nets ({', '.join(names[:3])})",
        hint="leave out recipe, dim and settings: they come with the model",
    )
