"""The registry of parts: a part is a frozen dataclass registered under (role, name), and nothing else.

A new part is one new file in its role's folder; it is found by listing that folder. Parts travel as JSON documents
`{"part": name, field: value, …}`; a part inside a part says its role too. There is no import path in a document, so
reading one can only ever give a registered part.
"""

import dataclasses
import difflib
import importlib
import math
import numbers
import pkgutil
import types
import typing
from collections.abc import Callable
from typing import Any, TypeVar

from .errors import ConfigError

FOLDERS = {
    "kind": "latente.kinds",
    "column": "latente.kinds",
    "nets": "latente.model.nets",
    "likelihood": "latente.model.dists",
    "latent": "latente.model.latents",
    "prior": "latente.model.priors",
    "objective": "latente.model.objectives",
    "corruption": "latente.model.corruptions",
    "use": "latente.uses.learned",
}
SHOWN = 60  # words that a hint lists
_CLASSES: dict[tuple[str, str], type] = {}
_LISTED: set[str] = set()

T = TypeVar("T", bound=type)


def part(role: str, name: str) -> Callable[[T], T]:
    """Register a frozen dataclass as the part `name` of `role`."""

    def register(cls: T) -> T:
        cls.role, cls.name = role, name  # type: ignore[attr-defined]
        _CLASSES[role, name] = cls
        return cls

    return register


def names(role: str) -> list[str]:
    """The names of every part of `role`, sorted."""
    folder = FOLDERS[role]
    if folder not in _LISTED:
        package = importlib.import_module(folder)
        for module in pkgutil.iter_modules(package.__path__):
            importlib.import_module(f"{folder}.{module.name}")
        _LISTED.add(folder)
    return sorted(name for r, name in _CLASSES if r == role)


def find(role: str, name: str) -> type:
    """The class of a part. Raises ConfigError, with the nearest name, if there is none."""
    known = names(role)
    if name not in known:
        raise ConfigError(f"there is no {role} called {name!r}", hint=nearest(name, known))
    return _CLASSES[role, name]


def nearest(word: str, known: typing.Iterable[str]) -> str:
    """A hint: the known word nearest to `word`, or all of them, if they are not too many."""
    known = list(known)
    near = difflib.get_close_matches(str(word), known, n=1)
    if near:
        return f"did you mean {near[0]!r}?"
    more = f", … ({len(known):,} in all)" if len(known) > SHOWN else ""
    return f"known: {', '.join(known[:SHOWN])}{more}" if known else "there are none"


def to_json(value: Any, nested: bool = False) -> Any:
    """The JSON document of a part: its name and every field, defaults included."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        head = {"role": value.role, "part": value.name} if nested else {"part": value.name}  # type: ignore[attr-defined]
        return head | {f.name: to_json(getattr(value, f.name), True) for f in dataclasses.fields(value)}
    if isinstance(value, (list, tuple)):
        return [to_json(v, True) for v in value]
    if isinstance(value, dict):
        return {k: to_json(v, True) for k, v in value.items()}
    return value


def from_json(role: str, document: Any) -> Any:
    """The part of a document; a plain string is a name with default settings.

    Raises ConfigError for an unknown part, an unknown setting, or a value of the wrong type.
    """
    if dataclasses.is_dataclass(document):
        if getattr(document, "role", None) != role:
            raise ConfigError(f"{document!r} is not a {role}", hint=nearest("", names(role)))
        return document
    if isinstance(document, str):
        document = {"part": document}
    if not isinstance(document, dict) or not isinstance(document.get("part"), str):
        raise ConfigError(
            f"a {role} is a name or a table with a 'part', not {document!r}", hint=nearest("", names(role))
        )
    cls = find(role, document["part"])
    return build(cls, {k: v for k, v in document.items() if k not in ("part", "role")}, f"{role} {document['part']!r}")


def build(cls: type, settings: dict[str, Any], owner: str) -> Any:
    """`cls(**settings)`, every name and type checked."""
    if not isinstance(settings, dict):
        raise ConfigError(f"{owner} is a table of settings, not {settings!r}")
    hints = typing.get_type_hints(cls)
    fields = {f.name: f for f in dataclasses.fields(cls)}
    values = {}
    for key, raw in settings.items():
        if key not in fields:
            raise ConfigError(f"{owner} has no setting {key!r}", hint=nearest(key, fields))
        values[key] = _fit(_unnest(raw), hints[key], f"{key} of {owner}")
    needed = (dataclasses.MISSING, dataclasses.MISSING)
    for key, field in fields.items():
        if key not in values and (field.default, field.default_factory) == needed:
            raise ConfigError(f"{owner} needs a value for {key!r}")
    return cls(**values)


def _unnest(value: Any) -> Any:
    if isinstance(value, dict):
        if "part" in value and "role" in value:
            if value["role"] not in FOLDERS:
                raise ConfigError(f"there is no role called {value['role']!r}", hint=nearest("", FOLDERS))
            return from_json(value["role"], value)
        return {k: _unnest(v) for k, v in value.items()}
    if isinstance(value, list):
        return tuple(_unnest(v) for v in value)
    return value


def _fit(value: Any, hint: Any, owner: str) -> Any:
    """`value` as the type `hint`, where no meaning is lost; ConfigError otherwise."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return value
    if origin in (types.UnionType, typing.Union):
        for option in args:
            try:
                return _fit(value, option, owner)
            except ConfigError:
                continue
    elif origin is tuple:
        if isinstance(value, (list, tuple)):
            item = args[0] if args else Any
            return tuple(_fit(v, item, owner) for v in value)
    elif origin is typing.Literal:
        if value in args:
            return value
        raise ConfigError(f"{owner} is {value!r}", hint=nearest(str(value), [str(a) for a in args]))
    elif hint is type(None):
        if value is None:
            return None
    elif hint is float:
        if isinstance(value, numbers.Real) and not isinstance(value, bool):
            if not math.isfinite(value):
                raise ConfigError(f"{owner} must be finite, not {value!r}")
            return float(value)
    elif hint is int:
        if isinstance(value, numbers.Integral) and not isinstance(value, bool):
            return int(value)
    elif isinstance(value, origin or hint):
        return value
    raise ConfigError(f"{owner} must be {_plain(hint)}, not {value!r}")


def _plain(hint: Any) -> str:
    return hint.__name__ if isinstance(hint, type) and not typing.get_args(hint) else str(hint).replace("typing.", "")


def require(condition: bool, owner: Any, field: str, rule: str) -> None:
    """Refuse a setting outside its range: name, rule and value."""
    if not condition:
        raise ConfigError(f"{field} of {owner.role} {owner.name!r} must be {rule}, not {getattr(owner, field)!r}")
