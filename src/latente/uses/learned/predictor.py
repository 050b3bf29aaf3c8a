"""What `predict` needs beside a model: a tuned encoder with a head, and what its outputs mean."""

import copy
import math
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...errors import ConfigError, DataError
from ...kinds.base import Kind
from ...model.batch import Batch
from ...model.model import Flat, Model
from ...parts import part, require
from ...training.tuning import Headed, outputs
from .base import Learned

if TYPE_CHECKING:
    from ...estimator import Autoencoder
    from ...training.feed import Feed

METHODS = ("finetune", "frozen", "semi")


@part("use", "predictor")
@dataclass(frozen=True)
class Predictor:
    """A class or a number of each row, learned from some of them (`latente finetune`).

    task: what is predicted. method: "finetune", a net that begins as the model's encoder; "frozen", a linear head on
    its codes; "semi", the classifier of a semi-supervised VAE. layers: the head sees all layers of the encoder.
    """

    task: Literal["classes", "numbers"] = "classes"
    method: Literal["finetune", "frozen", "semi"] = "finetune"
    layers: bool = False
    supervised = True

    def __post_init__(self) -> None:
        require(self.task in ("classes", "numbers"), self, "task", "classes or numbers")
        require(self.method in METHODS, self, "method", ", ".join(METHODS))

    def learn(self, ae: "Autoencoder", feed: "Feed", seed: int, raw: Any = None, report: Any = None) -> "Predicts":
        """Without labels there is nothing to learn. Raises ConfigError."""
        raise ConfigError(
            "what predicts is learned from labels, which `fit` does not have",
            hint="latente finetune MODEL DATA --target COLUMN, or LatentClassifier().fit(X, y)",
        )

    def restore(self, ae: "Autoencoder", document: dict[str, Any], tensors: dict[str, np.ndarray]) -> "Predicts":
        """The predictor of a model file."""
        meaning = Meaning.from_json(document, self.task)
        net = net_of(ae.model_, meaning.outputs, self)
        wanted = {name: tuple(t.shape) for name, t in net.state_dict().items()}
        if wanted != {name: t.shape for name, t in tensors.items()}:
            raise ValueError("its predictor's weights are not those of its encoder and head")
        if not all(np.isfinite(t).all() for t in tensors.values()):
            raise ValueError("its predictor holds what is no number")
        if "scale" in tensors and not (tensors["scale"] > 0).all():
            raise ValueError("what its predictor's features are divided by is not above 0")
        net.load_state_dict({name: torch.from_numpy(t.copy()) for name, t in tensors.items()})
        return Predicts(self, ae.schema_, net.eval(), meaning)


@dataclass(frozen=True)
class Meaning:
    """What a net's outputs mean. target: the name of what is predicted. classes: in the order of the outputs; () for
    numbers. dtype: of classes. mean, scale: of numbers, which the net gives standardised. temperature: what logits are
    divided by, so that probabilities are as often right as they say. measured: how well that was on rows held out.
    """

    target: str = "target"
    classes: tuple[Any, ...] = ()
    dtype: str = ""
    mean: tuple[float, ...] = ()
    scale: tuple[float, ...] = ()
    temperature: float = 1.0
    measured: dict[str, Any] = field(default_factory=dict)

    @property
    def outputs(self) -> int:
        """How many numbers the net gives of a row."""
        return len(self.classes) or len(self.mean)

    def to_json(self) -> dict[str, Any]:
        """The document."""
        return {name: list(v) if isinstance(v, tuple) else v for name, v in vars(self).items()}

    @classmethod
    def from_json(cls, document: dict[str, Any], task: str) -> "Meaning":
        """Raises ValueError or LookupError for what is none."""
        given: dict[str, Any] = {n: tuple(v) if isinstance(v, list) else v for n, v in document.items()}
        made = cls(**given)
        fine = isinstance(made.target, str) and isinstance(made.measured, dict) and type(made.temperature) is float
        if not fine or not 1e-3 <= made.temperature <= 1e3:
            raise ValueError("what its predictor's outputs mean is not said")
        if task == "classes":
            fine = not made.mean and not made.scale and made._are_classes()
        else:
            numbers = (*made.mean, *made.scale)
            if not all(type(v) is float for v in numbers):
                raise ValueError("the mean and scale of what it predicts are no numbers")
            fine = not made.classes and 0 < len(made.mean) == len(made.scale) and all(map(math.isfinite, numbers))
            fine = fine and min(made.scale) > 0
        if not fine:
            raise ValueError("what its predictor's outputs mean is not said")
        return made

    def _are_classes(self) -> bool:
        """Whether its classes are two or more different values, of the type that it says."""
        named = re.fullmatch(r"object|bool|u?int(8|16|32|64)|float(16|32|64)|<U([1-9][0-9]{0,5})", str(self.dtype))
        if named is None or len(self.classes) < 2 or not all(type(c) in (str, int, float, bool) for c in self.classes):
            return False
        made = self.labels
        return made.tolist() == list(self.classes) and len(set(self.classes)) == len(self.classes)

    @property
    def labels(self) -> np.ndarray:
        """The classes in their own type. [classes]"""
        if self.dtype == "object":
            made = np.empty(len(self.classes), dtype=object)
            made[:] = self.classes
            return made
        return np.array(self.classes, dtype=self.dtype)


@dataclass(frozen=True, eq=False)
class Predicts(Learned):
    """A net and what it says: of rows with a schema."""

    use: Predictor
    schema: Kind
    net: nn.Module
    meaning: Meaning

    @property
    def document(self) -> dict[str, Any]:
        return self.meaning.to_json()

    @property
    def tensors(self) -> dict[str, np.ndarray]:
        return {name: t.numpy() for name, t in self.net.state_dict().items()}

    def _said(self, rows: Batch) -> Tensor:
        """What the net gives of compact rows. float64 [n, outputs]"""
        found = outputs(self.net, rows, self.schema).double()
        if not found.isfinite().all():
            raise DataError(
                "what the model predicts of these rows is no number", hint="latente info MODEL; fit it anew"
            )
        return found

    def probabilities(self, rows: Batch) -> np.ndarray:
        """Of each class, for compact rows. float64 [n, classes]"""
        logits = self._said(rows)
        return np.asarray(F.softmax(logits / self.meaning.temperature, -1).numpy())

    def numbers(self, rows: Batch) -> np.ndarray:
        """Predicted numbers, for compact rows. float64 [n, targets]"""
        found = self._said(rows).numpy()
        return np.asarray(found * np.array(self.meaning.scale) + np.array(self.meaning.mean))


class OnCodes(nn.Module):
    """A linear head on the codes of a model, which is not part of it: its weights belong to the model file once."""

    def __init__(self, model: Model, outputs: int) -> None:
        super().__init__()
        self._encode = model.encode  # a bound method, not a submodule
        self.head = nn.Linear(model.dim, outputs)

    def forward(self, batch: Batch) -> Tensor:
        """What is said of each row. [b, outputs]"""
        return self.head(self._encode(batch).mean.float())


def net_of(model: Model, outputs: int, use: Predictor) -> nn.Module:
    """The net that predicts, as it is before any label was seen: a copy of the model's encoder with a head of 0, or a
    head on its codes.
    """
    if use.method == "frozen":
        return OnCodes(model, outputs)
    encoder, width = _encoder(model)
    return Headed(encoder, width, outputs, use.layers)


def _encoder(model: Model) -> tuple[nn.Module, int]:
    """A copy of what gives the head of the latent its features, and their number; where there is no such net, of what
    gives the code.
    """
    first = [m for m in getattr(model, "head", nn.Module()).modules() if isinstance(m, nn.Linear)]
    if type(model) is not Flat or not first:
        return _Codes(_copy(model)), model.dim
    given = 0 if model.condition is None else model.condition.width
    return _copy(model.encoder), first[0].in_features - given


class _Codes(nn.Module):
    """A model whose encoder is no single net: what it says of a row is its code."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: Batch) -> Tensor:
        return self.model.encode(batch).mean


def _copy(module: nn.Module) -> Any:
    """The same module with weights of its own."""
    return copy.deepcopy(module).requires_grad_(True)


def temperature(logits: Tensor, classes: Tensor) -> float:
    """What logits are to be divided by: the likeliest number for rows that the net did not learn from (Guo et al. 2017,
    arXiv:1706.04599), found by halving on its logarithm between 1/20 and 20.
    """
    logits = logits.double()
    low, high = math.log(1 / 20), math.log(20)

    def slope(log_t: float) -> float:
        scaled = logits / math.exp(log_t)
        p = F.softmax(scaled, -1)
        # d(−log p)/d log t = z_true/t − E_p[z]/t, whose sum is 0 at the best temperature.
        true = scaled.gather(1, classes[:, None]).squeeze(1)
        return float((true - (p * scaled).sum(1)).sum())

    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if slope(middle) < 0 else (low, middle)
    return math.exp((low + high) / 2)
