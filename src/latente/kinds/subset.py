"""What is given of some columns of a chained table: values, sets of levels, ranges.

"sex=Female,age>60" ──▶ conditions by name ──▶ cells that are known, and from where to where others may lie
"""

import re
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from ..errors import ConfigError
from ..parts import nearest
from .binned import Binned
from .columns import PER_DAY, Column, Datetime, to_days
from .derived import Derived, level_count
from .table import Table

# A name, a comparison, and what it compares with.
_PIECE = re.compile(r"\s*(?P<name>[^<>=]+?)\s*(?P<sign>>=|<=|=|>|<)\s*(?P<value>.*)", re.DOTALL)
SIGNS = (">=", "<=", ">", "<", "=")
# What else people write for a boolean.
_BOOLEANS = {"true": "True", "1": "True", "yes": "True", "false": "False", "0": "False", "no": "False"}


@dataclass(frozen=True)
class Subset:
    """What is given of every row: its known cells [m] and which they are [m]; `within`, of an open column from where to
    where in each of its tokens its cell may lie; `exact`, values that come back as they were given, by label.
    """

    cells: Tensor
    known: Tensor
    within: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)
    exact: dict[Any, Any] = field(default_factory=dict)


def subset(table: Table, given: Any) -> Subset:
    """`given` as a Subset: a text, "sex=Female,age>60,plan=gold|plus,hours=20..40", or a dict by name of such values,
    of lists and sets (one of them) and, of numbers and dates, of pairs (from, to), None for an open end.

    Raises ConfigError, with the nearest that there is, for a name, level or value that the training data did not have,
    and for values that contradict each other.
    """
    if not isinstance(given, (str, dict)):
        raise ConfigError(
            f"what is given is a text or a dict by name, not a {type(given).__name__}", hint='given={"age": (60, None)}'
        )
    wanted = parsed(given) if isinstance(given, str) else given
    columns = {str(c.label): c for c in table.columns}
    shares: dict[int, tuple[np.ndarray, np.ndarray]] = {}
    said: dict[int, str] = {}
    exact: dict[Any, Any] = {}

    def restrict(column: Column, low: np.ndarray, high: np.ndarray, words: str) -> None:
        """Cut off the column's cell, or that of the one it follows from."""
        place = _place(table, column)
        if place is None:
            raise ConfigError(
                f"{str(column.label)!r} is {column.summary}: it cannot be given",
                hint="give columns that the model holds",
            )
        if isinstance(column, Derived):
            low, high = (part[np.array(column.places)] * (np.array(column.places) >= 0) for part in (low, high))
        if place in shares:
            low, high = np.maximum(low, shares[place][0]), np.minimum(high, shares[place][1])
        if not (high > low).any():
            raise ConfigError(
                f"{words} cannot be together with {said.get(place, 'itself')}: no training row is like that",
                hint=f"leave one of them out; {column.summary}",
            )
        shares[place], said[place] = (low, high), words

    for name, values in ((str(key), value) for key, value in wanted.items()):
        if name not in columns:
            raise ConfigError(f"there is no column {name!r}", hint=nearest(name, columns))
        column = columns[name]
        for value in values if isinstance(values, Every) else [values]:
            if _is_missing(value):
                raise ConfigError(
                    f"{name!r} is given as missing, and a gap cannot be given",
                    hint=f"leave {name} out: what is not given is drawn",
                )
            low, high = _shares(column, value)
            restrict(column, low, high, f"{name}={value!s}")
            for rule in table.rules:
                if rule.label == column.label:
                    # It is read off the other one where both are there: that must say the same.
                    restrict(rule, low, high, f"{name}={value!s}")
            if isinstance(column, Binned) and _is_one(value):
                exact[column.label] = column.cells(_numbers(column, [value]))[0]
    return _gathered(table, shares, exact)


def _is_missing(value: Any) -> bool:
    return value is None or (
        not isinstance(value, (list, tuple, set, frozenset, str))
        and pd.api.types.is_scalar(value)
        and bool(pd.isna(value))
    )


class Every(list[Any]):
    """Several conditions on one column, all of which are to hold; a plain list is a set, of which one is."""


def parsed(text: str) -> dict[str, Every]:
    """What a command line gives, by name; a piece without a comparison belongs to the value before it."""
    found: dict[str, Every] = {}
    name = ""
    for piece in text.split(","):
        match = _PIECE.fullmatch(piece)
        if match is None and not name:
            raise ConfigError(f"--given takes NAME=VALUE, not {piece!r}", hint="as in --given 'sex=Female,age>60'")
        if match is None:
            found[name][-1] += f",{piece}"
            continue
        name, sign = match["name"], match["sign"]
        found.setdefault(name, Every()).append(match["value"].strip() if sign == "=" else sign + match["value"].strip())
    return found


def _place(table: Table, column: Column) -> int | None:
    """Where the column's cell is, or that of the one it follows from; None if it is not modelled."""
    label = column.source if isinstance(column, Derived) else column.label
    labels = [c.label for c in table.modelled]
    return labels.index(label) if label in labels else None


def _gathered(table: Table, shares: dict[int, tuple[np.ndarray, np.ndarray]], exact: dict[Any, Any]) -> Subset:
    """Shares of one token are a known cell; of several, an open one cut off. A missing cell is never what was given."""
    cells, known = torch.zeros(len(table.modelled)), torch.zeros(len(table.modelled), dtype=torch.bool)
    within = {}
    for place, ends in shares.items():
        column = table.modelled[place]
        low, high = (np.concatenate([end, np.zeros(table.tokens(column) - len(end))]) for end in ends)
        tokens = np.flatnonzero(high > low)
        if column.label in exact and isinstance(column, Binned):
            value = _numbers(column, [exact[column.label]])
            cells[place], known[place] = float(column.places(value)[0]), True
        elif len(tokens) == 1 and (low[tokens[0]], high[tokens[0]]) == (0, 1) and not isinstance(column, Binned):
            cells[place], known[place] = float(tokens[0]), True
        else:
            within[place] = (torch.tensor(low, dtype=torch.float32), torch.tensor(high, dtype=torch.float32))
    return Subset(cells, known, within, exact)


def _shares(column: Column, value: Any) -> tuple[np.ndarray, np.ndarray]:
    """From where to where in each token of a column its cells may lie. [tokens] each"""
    if isinstance(column, Derived):
        return _shares(column.of, value)
    if isinstance(column, Binned):
        many = _several(value)
        if many is None:
            return column.within(*_range(column, value))
        each = [column.within(*_range(column, one)) for one in many]
        lows, highs = np.array([low for low, _ in each]), np.array([high for _, high in each])
        if ((highs > lows).sum(0) > 1).any():
            raise ConfigError(
                f"{column.label!r} cannot be one of {value!s}: some lie too near to each other to be told apart",
                hint=f"a range: {column.label}={min(many)}..{max(many)}",
            )
        return np.where(highs > lows, lows, 0.0).max(0), np.where(highs > lows, highs, 0.0).max(0)
    if level_count(column) == 0:
        return np.zeros(1), np.ones(1)
    many = [*value] if isinstance(value, (list, tuple, set)) else str(value).split("|")
    known = [str(v) for v in column.levels]  # type: ignore[attr-defined]
    if len(many) > 1 and str(value) in known:
        many = [str(value)]
    if set(known) == {"False", "True"}:
        many = [_BOOLEANS.get(str(one).lower(), one) for one in many]
    allowed = np.zeros(level_count(column))
    # 1.0 is what pandas makes of 1 as soon as a column has gaps.
    many = [str(one).removesuffix(".0") if str(one) not in known else one for one in many]
    if not many:
        raise ConfigError(f"{column.label!r} is given as one of no values", hint=f"leave {column.label} out")
    for one in many:
        if str(one) not in known:
            raise ConfigError(f"{column.label!r} has no value {str(one)!r}", hint=nearest(str(one), sorted(known)))
        allowed[known.index(str(one))] = 1.0
    return np.zeros(len(allowed)), allowed


def _several(value: Any) -> list[Any] | None:
    """The values of a set of numbers or dates; None if it is no set."""
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    return [part.strip() for part in value.split("|")] if isinstance(value, str) and "|" in value else None


def _is_one(value: Any) -> bool:
    """Whether a value of a number or date is one, not a range or a set."""
    return not isinstance(value, (list, tuple, set, frozenset)) and not (
        isinstance(value, str) and (value.startswith(SIGNS) or ".." in value or "|" in value)
    )


def _range(column: Binned, value: Any) -> tuple[float, float]:
    """From where to where a number or a date may lie."""
    least, most = column.of.low, column.of.high
    if isinstance(value, (list, tuple)):
        if len(value) != 2:
            raise ConfigError(
                f"{column.label!r} takes a value or a pair (from, to), not {value!r}",
                hint=f"one of several: {set(value)!r}" if value else f"({least:g}, {most:g})",
            )
        ends: list[Any] = [*value]
    elif isinstance(value, str) and value.startswith(SIGNS):
        sign = next(s for s in SIGNS if value.startswith(s))
        end = float(_numbers(column, [value.removeprefix(sign).strip()])[0])
        if sign in (">", "<"):
            # The next value that the column's precision has, or any beyond.
            end += (0.5 * _step(column) or 1e-9 * (abs(end) + most - least)) * (1 if sign == ">" else -1)
        return _require(column, value, *((end, most) if ">" in sign else (least, end)))
    elif isinstance(value, str) and ".." in value:
        ends = [part.strip() or None for part in value.split("..", 1)]
    else:
        one = float(_numbers(column, [value])[0])
        if not column.bins and one not in column.atoms and least <= one <= most:
            near = min(column.atoms, key=lambda atom: abs(atom - one))
            raise ConfigError(
                f"{column.label!r} never was {value} in the training data",
                hint=f"the nearest value: {column.label}={_shown(column, near)}",
            )
        return _require(column, value, one, one)
    low, high = (None if e is None else float(_numbers(column, [e])[0]) for e in ends)
    if low is not None and high is not None and low > high:
        turned = f"{column.label}={_shown(column, high)}..{_shown(column, low)}"
        raise ConfigError(f"{column.label}={value!s} begins after it ends", hint=turned)
    return _require(column, value, least if low is None else low, most if high is None else high)


def _step(column: Binned) -> float:
    """What the values of a column are multiples of; 0 if that is not known."""
    if isinstance(column.of, Datetime):
        return 1.0 / PER_DAY[column.of.unit]
    return 10.0**-column.decimals if column.decimals >= 0 else 0.0


def _require(column: Binned, value: Any, low: float, high: float) -> tuple[float, float]:
    """Ends on the column's own values, so that rounding brings nothing out; refuse what the training data never came
    near.
    """
    least, most, step = column.of.low, column.of.high, _step(column)
    if step and low < high:
        low, high = np.ceil(low / step - 1e-6) * step, np.floor(high / step + 1e-6) * step
    if low > high or high < least or low > most:
        near = least if high < least else most
        raise ConfigError(
            f"{column.label!r} ran from {_shown(column, least)} to {_shown(column, most)} in the training data: "
            f"{value} is outside",
            hint=f"the nearest value: {column.label}={_shown(column, near)}",
        )
    if low == high and column.bins and low not in column.atoms:
        # One value in a bin: the bin's own share of it is known, the value is put in its place.
        width = max(1e-9 * abs(low), 1e-9 * (most - least))
        return max(least, low - width), min(most, high + width)
    return low, high


def _numbers(column: Binned, values: list[Any]) -> np.ndarray:
    series = pd.Series(values)
    try:
        if isinstance(column.of, Datetime):
            return to_days(pd.to_datetime(series), column.label)
        return pd.to_numeric(series).to_numpy(np.float64)
    except (ValueError, TypeError):
        raise ConfigError(
            f"{column.label!r} is a {'date' if isinstance(column.of, Datetime) else 'number'}, not {values[0]!r}",
            hint=f"{column.label}={_shown(column, column.of.low)}",
        ) from None


def _shown(column: Binned, value: float) -> str:
    return str(column.cells(np.array([value]))[0]).removesuffix(" 00:00:00")
