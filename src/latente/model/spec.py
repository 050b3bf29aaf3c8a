"""The specification of a model and its training: parts and numbers, as one JSON or TOML document."""

import json
import math
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import torch

from ..errors import ConfigError, DataError
from ..parts import build, find, from_json, names, nearest, to_json
from .latents.gaussian import Gaussian
from .model import Flat, Model
from .objectives.elbo import Elbo
from .priors.base import Host
from .priors.given import Moves
from .priors.standard import Standard

ROLES = ("kind", "nets", "latent", "prior", "objective", "corruption", "use")


@dataclass(frozen=True)
class Train:
    """How the model is trained.

    epochs, steps: length of the run; neither: planned from the number of rows, `unplanned` epochs or, if that is more,
    so many steps. time_limit: seconds after which the run
    ends; its schedules are planned to it. lr: Adam's peak rate, reached after `lr_warmup` of the run and lowered along
    a cosine. scale_lr: factor on it for learned scales. weight_decay: how much of the nets' matrices and kernels every
    step takes away, times the rate (AdamW, Loshchilov & Hutter 2019, arXiv:1711.05101). beta2: decay of Adam's mean of
    squared gradients; lower follows faster, which short runs like. ema: decay of the averaged
    weights, 0 for none. clip: largest gradient norm, in units of its own running mean. validation: share of rows held
    out for early stopping; patience: evaluations without a better held-out loss. precision: what the nets compute in;
    losses are float32 always. compile: whether the step goes through torch's compiler first, which takes a minute.
    layerwise: steps in which each layer of the encoder learns alone to give back what it is given, from the first to
    the last, before all are trained together (docs/transfer.md).
    doctor: "on", it acts in a run on what it sees (docs/training.md); "off", it only says it. dp_epsilon, dp_delta: ε
    and δ of a differentially private fit; δ None is a tenth of one row's share.
    """

    epochs: int | None = None
    steps: int | None = None
    unplanned: tuple[int, int] = (100, 1_500)
    batch_size: int = 128
    lr: float = 1e-3
    lr_warmup: float = 0.05
    scale_lr: float = 10.0
    time_limit: float | None = None
    weight_decay: float = 0.0
    beta2: float = 0.999
    ema: float = 0.999
    clip: float = 10.0
    validation: float = 0.1
    patience: int = 20
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    device: str = "auto"
    compile: bool = False
    layerwise: int = 0
    doctor: Literal["on", "off"] = "on"
    dp_epsilon: float | None = None
    dp_delta: float | None = None
    seed: int = 0

    role = "training"
    name = "adam"

    def __post_init__(self) -> None:
        rules = (
            ("epochs", self.epochs is None or self.epochs >= 1, "1 or more"),
            ("steps", self.steps is None or self.steps >= 1, "1 or more"),
            ("unplanned", len(self.unplanned) == 2 and min(self.unplanned) >= 1, "two numbers of 1 or more"),
            ("batch_size", self.batch_size >= 2, "2 or more: a batch of one row teaches nothing but noise"),
            ("batch_size", self.batch_size < 1 << 31, "below 2,147,483,648"),
            ("lr", self.lr > 0, "above 0"),
            ("lr_warmup", 0 <= self.lr_warmup < 1, "a share from 0 to below 1"),
            ("time_limit", self.time_limit is None or self.time_limit > 0, "above 0 seconds"),
            ("weight_decay", 0 <= self.weight_decay < math.inf, "0 or more"),
            ("beta2", 0 <= self.beta2 < 1, "from 0 to below 1"),
            ("ema", 0 <= self.ema < 1, "from 0 to below 1"),
            ("clip", self.clip > 0, "above 0"),
            ("validation", 0 <= self.validation < 0.9, "a share from 0 to 0.9"),
            ("patience", self.patience >= 1, "1 or more"),
            ("layerwise", self.layerwise >= 0, "0 or more"),
            ("layerwise", not self.layerwise or self.dp_epsilon is None, "0 in a private fit"),
            ("dp_epsilon", self.dp_epsilon is None or 0 < self.dp_epsilon <= 100, "above 0, up to 100"),
            ("dp_delta", self.dp_delta is None or 0 < self.dp_delta < 1, "between 0 and 1"),
        )
        for name, fine, rule in rules:
            if not fine:
                raise ConfigError(f"{name} must be {rule}, not {getattr(self, name)!r}")


@dataclass(frozen=True, repr=False)
class Spec:
    """Parts by role, and the training. `kind` and `nets` None: chosen from the data. use: what is learned beside the
    model when its training is over, or None. condition: the fitted table of what is given beside each row, or None.
    asks: settings of whatever kind the data will be of.
    """

    kind: Any = None
    nets: Any = None
    latent: Any = field(default_factory=Gaussian)
    prior: Any = field(default_factory=Standard)
    objective: Any = field(default_factory=Elbo)
    corruption: Any = None
    train: Train = field(default_factory=Train)
    condition: Any = None
    use: Any = None
    asks: dict[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        # A fitted kind holds a table's every level: names are what a reader of an estimator wants.
        named = ((role, getattr(self, role)) for role in ROLES)
        return f"Spec({', '.join(f'{role}={part.name!r}' for role, part in named if part is not None)})"

    def to_json(self) -> dict[str, Any]:
        """The document: every part with every setting."""
        parts = {role: None if getattr(self, role) is None else to_json(getattr(self, role)) for role in ROLES}
        if self.use is None:
            del parts["use"]
        if self.kind is None and self.asks:
            parts["kind"] = dict(self.asks)
        given = {} if self.condition is None else {"condition": to_json(self.condition)}
        return parts | {"train": {f.name: to_json(getattr(self.train, f.name)) for f in fields(Train)}} | given

    @classmethod
    def from_json(cls, document: Any) -> "Spec":
        """The spec of a document. Raises ConfigError for an unknown key, part or setting, or a wrong type."""
        if not isinstance(document, dict):
            raise ConfigError(f"a specification is a table of parts, not {document!r}")
        for key in document:
            if key not in (*ROLES, "train", "condition"):
                raise ConfigError(f"a specification has no key {key!r}", hint=nearest(key, (*ROLES, "train")))
        # A kind without a name: settings of the one that the data will have.
        asks = document.get("kind")
        asks = dict(asks) if isinstance(asks, dict) and "part" not in asks else {}
        named = document | {"kind": None} if asks else document
        parts = {r: from_json(r, named[r]) for r in ROLES if named.get(r) is not None}
        if document.get("condition") is not None:
            parts["condition"] = from_json("kind", document["condition"])
        return cls(**parts, asks=asks, train=build(Train, document.get("train", {}), "train"))

    def override(self, path: str, value: Any) -> "Spec":
        """This spec with one setting changed: override("objective.beta", 4.0), override("nets", "conv")."""
        head, _, key = path.partition(".")
        if path == "kind" and self.asks and self.kind is None:
            value = self._asked(value)
        document = self.to_json()
        if head not in (*ROLES, "train"):
            # `beta` is meant as `objective.beta`.
            whole = [f"--set {role}.{head}" for role, part in document.items() if not key and part and head in part]
            hint = " or ".join(f"{one}={value}" for one in whole) or nearest(head, (*ROLES, "train"))
            raise ConfigError(f"there is no setting {path!r}", hint=hint)
        if not key:
            value = value if not hasattr(value, "role") else to_json(value)
            document[head] = document[head] | value if head == "train" and isinstance(value, dict) else value
        elif document.get(head) is None:
            raise ConfigError(
                f"{path!r} is set, but this specification has no {head}", hint=f"--set {head}=NAME before it"
            )
        else:
            document[head] = {**document[head], key: list(value) if isinstance(value, tuple) else value}
        return Spec.from_json(document)

    def _asked(self, kind: Any) -> dict[str, Any]:
        """A kind, by name or with settings of its own, with those that the recipe asks of it besides."""
        document = {"part": kind} if isinstance(kind, str) else (kind if isinstance(kind, dict) else to_json(kind))
        usual = to_json(find("kind", document["part"])())
        for key, value in self.asks.items():
            if key not in usual:
                raise ConfigError(
                    f"this recipe sets {key!r} of its kind, which kind {document['part']!r} does not have",
                    hint="--recipe vae (recipe=)",
                )
            if document.get(key, usual[key]) == usual[key]:
                document = document | {key: value}
        try:
            from_json("kind", document)
        except ConfigError as error:
            raise ConfigError(
                f"this recipe sets {', '.join(map(repr, self.asks))} of its kind, which kind {document['part']!r} does "
                f"not have so: {error.problem}",
                hint=error.hint,
            ) from None
        return document

    def model(self, seed: int) -> Model:
        """The untrained model of a spec whose kind is fitted. Its weights depend on `seed` alone.

        Raises ConfigError for parts that do not go together.
        """
        if hasattr(self.objective, "needs"):
            self.objective.needs(self)
        self._together()
        with seeded(seed):
            model = self.latent.model(self) if hasattr(self.latent, "model") else self._flat()
        for name, value in (self.objective.memory() if hasattr(self.objective, "memory") else {}).items():
            model.memory.register_buffer(name, value, persistent=False)
        return model

    def _together(self) -> None:
        """Refuse a latent that does not go with the objective, or with the prior."""
        on, over = (getattr(part, "support", "numbers") for part in (self.latent, self.prior))
        priors = [n for n in names("prior") if _support(n) == on]
        if getattr(self.objective, "needs_density", False) and not getattr(self.latent, "density", True):
            # A hint that leads to the next refusal is none.
            its = "" if on == over else f" --set prior={priors[0]}"
            standard = "" if over == "numbers" else " --set prior=standard"
            raise ConfigError(
                f"objective {self.objective.name!r} needs log q(z|x), which latent {self.latent.name!r} does not have",
                hint=f"--set objective=ae{its}, or --set latent=gaussian{standard}",
            )
        if on != over:
            raise ConfigError(
                f"latent {self.latent.name!r} gives {on}, and prior {self.prior.name!r} is over {over}",
                hint=" or ".join(f"--set prior={n}" for n in priors),
            )
        if getattr(self.prior, "mixes", False) and not getattr(self.latent, "mixes", True):
            raise ConfigError(
                f"prior {self.prior.name!r} is a mixture of densities q(z|x), which latent {self.latent.name!r} does "
                "not give",
                hint="--set prior=standard, --set prior=fitted, or --set latent=gaussian",
            )

    def _flat(self) -> Flat:
        condition = None if self.condition is None else self.condition.condition()
        more = 0 if condition is None else condition.width
        built = self.kind.build(self.nets or self.kind.nets, self.latent.dim + more)
        head = self.latent.build(built.width + more)
        prior = self.prior.build(Host(self.latent.dim, built.features, head, more))
        moves = None
        if condition is not None and _support(self.prior.name) == "numbers":
            moves = Moves(condition.width, self.latent.dim)
            moves.requires_grad_(not getattr(prior, "fitted_afterwards", False))
        dim = self.latent.dim
        return Flat(built.encoder, head, prior, built.decoder, built.likelihood, self.corruption, condition, dim, moves)


def _support(prior: str) -> str:
    return getattr(find("prior", prior), "support", "numbers")


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """torch draws initial weights from its global state: lend it a seed, and put the state back as it was."""
    state = torch.default_generator.get_state()
    try:
        torch.default_generator.manual_seed(seed)
        yield
    finally:
        torch.default_generator.set_state(state)


def recipes() -> list[str]:
    """The names of the recipes that come with latente."""
    return sorted(p.name.removesuffix(".toml") for p in _folder().iterdir() if p.name.endswith(".toml"))


def recipe(source: Any) -> Spec:
    """A spec from a recipe's name, a .toml or .json file, a document, or a spec.

    Raises ConfigError for an unknown name or a file that is not there, DataError for one that cannot be read.
    """
    if isinstance(source, Spec):
        return source
    if isinstance(source, dict):
        return Spec.from_json(source)
    text = str(source)
    if text.endswith((".toml", ".json")):
        try:
            content = Path(text).read_text(encoding="utf-8")
            return Spec.from_json(tomllib.loads(content) if text.endswith(".toml") else json.loads(content))
        except FileNotFoundError:
            raise ConfigError(f"there is no recipe file {text}", hint=f"known: {', '.join(recipes())}") from None
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, json.JSONDecodeError, RecursionError) as error:
            raise DataError(f"the recipe {text} cannot be read: {error}", hint="latente fit --help") from None
    if text not in recipes():
        raise ConfigError(f"there is no recipe called {text!r}", hint=nearest(text.lower(), recipes()))
    return Spec.from_json(tomllib.loads((_folder() / f"{text}.toml").read_text(encoding="utf-8")))


def _folder() -> Any:
    return resources.files("latente") / "recipes"


def with_dim(spec: Spec, dim: int) -> Spec:
    """The spec with a latent of `dim` dimensions."""
    return replace(spec, latent=from_json("latent", {**to_json(spec.latent), "dim": dim}))
