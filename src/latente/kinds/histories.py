"""People and what they took: lines of (user, item[, weight, time]), a line a user, a sparse matrix -> Counted."""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp

from ..errors import ConfigError, DataError
from .counted import Counted
from .reading_bytes import content, utf8

# Names under which such tables have their columns, without case, spaces and underscores.
USERS = ("user", "userid", "uid", "username", "customer", "customerid", "visitor", "visitorid", "session", "sessionid")
ITEMS = (
    *("item", "itemid", "iid", "product", "productid", "movie", "movieid", "book", "bookid", "isbn", "article"),
    *("articleid", "track", "trackid", "song", "songid", "artist", "artistid", "sku"),
)
WEIGHTS = ("weight", "rating", "score", "count", "plays", "quantity", "stars")
TIMES = ("time", "timestamp", "date", "datetime", "unixtime")
# A weight beyond this is no count of anything.
HEAVIEST = 1e9
# What the rows of histories are called.
USER = "user"


def of_frame(
    frame: pd.DataFrame, user: str, item: str, weight: str | None, note: Callable[[str], None] = lambda _: None
) -> Counted:
    """A table of lines (user, item[, weight]); "" finds a column by a usual name, else the first two are user and item.
    weight None: whatever stands there, each line counts once.

    What a user took twice has the sum of its weights. Lines without user or item are left out and counted. Raises
    ConfigError for a column that is not there, DataError for a weight that is below 0 or no number.
    """
    names = [str(c) for c in frame.columns]
    user, item, weight = _columns(names, user, item, "" if weight is None else weight, weight is not None)
    users, items = (frame.iloc[:, names.index(c)] for c in (user, item))
    weights = np.ones(len(frame), np.float32)
    if weight:
        weights = _weights(frame.iloc[:, names.index(weight)], weight)
    there = ~(users.isna() | items.isna()).to_numpy()
    if not there.all():
        note(f"{int((~there).sum()):,} of {len(there):,} lines have no user or no item, and are left out")
        users, items, weights = users[there], items[there], weights[there]
    if not len(users):
        raise DataError("found 0 rows of a user and an item", hint="check the file and its header")
    (row, who), (column, what) = _numbered(users, user), _numbered(items, item)
    return replace(_counted(row, column, weights, who, what), part=weight)


def read_lines(path: Path, note: Callable[[str], None]) -> Counted:
    """A line a user: its name, then the items, apart by spaces, tabs or commas. A user without items is left out."""
    users: list[str] = []
    rows: list[list[str]] = []
    bare = 0
    for line in utf8(content(path), path.name, note).decode().splitlines():
        words = [w for w in re.split(r"[\s,;]+", line.strip()) if w]
        if len(words) < 2:
            bare += bool(words)
            continue
        users.append(words[0])
        rows.append(words[1:])
    if bare:
        note(f"{path.name}: {bare:,} user(s) without an item are left out")
    if not rows:
        raise DataError(
            f"{path.name} holds no histories", hint="a line a user: USER ITEM ITEM …, or a csv of columns user,item"
        )
    row = np.repeat(np.arange(len(rows)), [len(r) for r in rows])
    column, items = _numbered(pd.Series([w for r in rows for w in r], dtype=object), "item")
    who, names = _numbered(pd.Series(users, dtype=object), USER)
    return _counted(who[row], column, np.ones(len(column), np.float32), names, items)


def of_lists(lists: Sequence[Any], note: Callable[[str], None] = lambda _: None) -> Counted:
    """A list of items for each user; None and NaN among them are left out and counted."""
    odd = next((i for i, one in enumerate(lists) if isinstance(one, str) or not isinstance(one, Iterable)), None)
    if odd is not None:
        raise DataError(
            f"user {odd} of the list is {lists[odd]!r:.60}, and no list of items",
            hint="[['item a', 'item b']] is one user",
        )
    rows = [list(one) for one in lists]
    flat = pd.Series([w for r in rows for w in r], dtype=object)
    row = np.repeat(np.arange(len(rows)), [len(r) for r in rows])
    there = ~flat.isna().to_numpy()
    if not there.all():
        note(f"{int((~there).sum()):,} of {len(there):,} items have no name, and are left out")
    column, items = _numbered(flat[there], "item")
    users = [str(i) for i in range(len(rows))]
    return _counted(row[there], column, np.ones(len(column), np.float32), users, items)


def of_matrix(matrix: Any) -> Counted:
    """A sparse matrix [users, items], both named by their numbers."""
    x = csr_matrix(matrix, "a history is a matrix")
    return Counted(x, tuple(map(str, range(x.shape[1]))), _about(list(map(str, range(x.shape[0])))))


def is_histories(raw: Any) -> bool:
    """Whether counts are of people and what they took."""
    return isinstance(raw, Counted) and raw.about.index.name == USER


def _columns(names: list[str], user: str, item: str, weight: str, weighed: bool) -> tuple[str, str, str]:
    """The names of the three columns; "" where there are no weights, or none are asked for."""
    for asked in (user, item, weight):
        if asked and asked not in names:
            raise ConfigError(f"there is no column {asked!r}", hint=f"columns: {', '.join(names[:8])}")
    plain = {re.sub(r"[\s_-]", "", n).lower(): n for n in reversed(names)}
    found = [
        asked or next((plain[n] for n in usual if n in plain), "")
        for asked, usual in ((user, USERS), (item, ITEMS), (weight, WEIGHTS))
    ]
    if not (found[0] and found[1]):
        rest = [n for n in names if n not in found and re.sub(r"[\s_-]", "", n).lower() not in TIMES]
        if len(rest) < (not found[0]) + (not found[1]):
            raise DataError(
                f"histories are lines of a user and an item, and this table has the columns {', '.join(names[:8])}",
                hint="--set kind.user=COLUMN --set kind.item=COLUMN",
            )
        found[0] = found[0] or rest.pop(0)
        found[1] = found[1] or rest.pop(0)
    found[2] = found[2] if weighed else ""
    if len({found[0], found[1]}) < 2:
        raise ConfigError(f"user and item are both column {found[0]!r}", hint="--set kind.item=COLUMN")
    if found[2] in found[:2]:
        raise ConfigError(f"column {found[2]!r} is the weights' and another's", hint="--set kind.weight=COLUMN")
    return found[0], found[1], found[2]


def _weights(column: pd.Series, name: str) -> np.ndarray:
    if column.dtype.kind == "c":
        raise DataError(f"column {name!r} holds complex numbers", hint="--set kind.weight=COLUMN")
    numbers = pd.to_numeric(column, errors="coerce").to_numpy(np.float64, na_value=np.nan)
    odd = np.flatnonzero(~(numbers <= HEAVIEST) | (numbers < 0))
    if len(odd):
        value = column.iloc[odd[0]]
        shown = repr(value) if isinstance(value, str) else f"{value}"
        raise DataError(
            f"column {name!r}, row {odd[0]}: a weight is a number from 0 to {HEAVIEST:.0e}, not {shown}",
            hint="leave the line out, or name another column: --set kind.weight=COLUMN",
        )
    return numbers.astype(np.float32)


def csr_matrix(matrix: Any, what: str) -> sp.csr_matrix:
    """A matrix, dense or sparse, as rows. Raises DataError for one that is not of numbers in two dimensions."""
    found = matrix if sp.issparse(matrix) else np.asarray(matrix)
    if found.dtype.kind not in "fiub" or found.ndim != 2:
        raise DataError(f"{what} of numbers in two dimensions, not of {found.dtype} in {found.ndim}")
    # What scipy has no sparse form of, half and long doubles, in one that it has.
    odd = found.dtype.kind == "f" and found.dtype.itemsize not in (4, 8)
    return sp.csr_matrix(found.astype(np.float64) if odd else found)


def _numbered(names: pd.Series, column: str) -> tuple[np.ndarray, list[str]]:
    """The number of each name, and the names as text, each once. Raises DataError for names that are none."""
    try:
        codes, found = pd.factorize(names)
    except TypeError:
        odd = next(v for v in names if isinstance(v, (list, dict, set)))
        raise DataError(f"column {column!r}: {odd!r:.60} is no name", hint="names are words or numbers") from None
    again, words = pd.factorize(np.array(_words(found), dtype=object))
    return again[codes], list(words)


def _words(names: Any) -> list[str]:
    """Names as text: 3.0, which was a 3 before there was a gap in its column, as "3"."""
    return [_word(v) for v in np.asarray(names, dtype=object).tolist()]


def _word(name: Any) -> str:
    if isinstance(name, (float, np.floating)) and float(name).is_integer():
        name = int(name)
    # Half of a character cannot be written to a file.
    return str(name).encode("utf-8", "replace").decode()


def _counted(row: np.ndarray, column: np.ndarray, weights: np.ndarray, users: list[str], items: list[str]) -> Counted:
    x = sp.csr_matrix((weights, (row, column)), shape=(len(users), len(items)))
    x.sum_duplicates()
    x.eliminate_zeros()
    return Counted(x, tuple(items), _about(users))


def _about(users: list[str]) -> pd.DataFrame:
    return pd.DataFrame(index=pd.Index(users, name=USER))
