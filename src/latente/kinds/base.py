"""What every kind of data gives to the rest of the house."""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from ..errors import ConfigError, DataError, DataWarning
from ..model.batch import Batch
from ..model.dists.base import Likelihood
from ..parts import find, names

__all__ = ["Built", "DataWarning", "Kind", "Nets", "infer", "no_committee"]


class Nets(Protocol):
    """A nets part: bodies of encoder and decoder."""

    def encoder(self, shape: tuple[int, ...]) -> tuple[nn.Module, int]: ...
    def decoder(self, dim: int, shape: tuple[int, ...]) -> nn.Module: ...


def no_committee(nets: Nets, what: str, recipe: str) -> None:
    """Refuse a committee for data of kind `what`. Raises ConfigError."""
    if not hasattr(nets, "name"):
        raise ConfigError(f"a committee cannot read {what}", hint=f"--recipe {recipe}")


@dataclass(frozen=True)
class Built:
    """What a kind builds: the encoder and the width of what it gives, the decoder, and p(x|z). features: the shape of
    what the encoder makes of a row's cells before its nets see them.
    """

    encoder: nn.Module
    width: int
    decoder: nn.Module
    likelihood: Likelihood
    features: tuple[int, ...]


class Kind(ABC):
    """Raw data ⇄ tensors. An unfitted kind holds options; the one that `learn` returns is the learned schema too."""

    role: str
    name: str
    recipe = "vae"  # what `fit` takes for such data unless told otherwise
    sparse = False  # whether its batches are

    @classmethod
    @abstractmethod
    def accepts(cls, raw: Any) -> bool:
        """Whether data in memory is of this kind, as far as one can see without being told."""

    def learn(self, raw: Any) -> "Kind":
        """The fitted kind. Raises DataError for data that it cannot learn from."""
        return self.learn_blocks([raw])

    @abstractmethod
    def learn_blocks(self, blocks: Iterable[Any]) -> "Kind":
        """What `learn` gives of the blocks' rows together, in memory that does not grow with their number.

        Of more than one block medians and scales may be estimates from a sample of the rows.
        """

    @abstractmethod
    def to_batch(self, raw: Any) -> Batch:
        """Rows in the compact dtype in which they stay in memory. Raises DataError if they do not fit the schema."""

    @abstractmethod
    def prepare(self, batch: Batch, generator: torch.Generator | None = None) -> Batch:
        """Compact rows as the float32 that models take; with a generator, what each training batch draws anew."""

    @abstractmethod
    def restore(self, x: Tensor) -> Any:
        """Model cells [n, *cells] back to raw data."""

    def rejoin(self, raw: Any, x: Tensor) -> Any:
        """Model cells of the rows of `raw` back to raw data: `restore`, but for kinds whose rows overlap in it."""
        return self.restore(x)

    @abstractmethod
    def build(self, nets: Nets, dim: int) -> Built:
        """Encoder, decoder and likelihood for a latent of `dim` dimensions."""

    @property
    @abstractmethod
    def nets(self) -> Nets:
        """The default nets for this schema."""

    @property
    @abstractmethod
    def summary(self) -> list[str]:
        """The schema in lines, for `info`."""

    @property
    def shown(self) -> str:
        """What `sample` shows of p(x|z): a "sample" where noise is part of a row, the "mean" where it only hides it."""
        return "sample"

    @property
    def room(self) -> int:
        """The largest default for the latent's dimensions; a user may ask for more."""
        return 1 << 20

    @property
    def batch(self) -> int | None:
        """Rows of a training batch, at the most, unless a user asks for so many; None: as the recipe says."""
        return None

    def taken(self, data: Any) -> Any:
        """Data in memory, in any form that this kind takes, as its raw data."""
        return data

    @property
    def pca(self) -> bool:
        """Whether PCA of a row's features is a baseline for it."""
        return True

    @property
    def plain(self) -> bool:
        """Whether what p(x|z) needs of the nets are the means of a row's cells, which the encoder sees as they are."""
        return False

    @property
    def read_options(self) -> dict[str, Any]:
        """What a file's reader must know to bring data to this schema."""
        return {}

    def cell_name(self, index: int) -> str:
        """What cell `index` of a flattened row is called."""
        return f"cell {index}"

    def log_volume(self, batch: Batch) -> Tensor:
        """log |d model cells / d raw cells| of each row: densities in the data's own units. [b]"""
        return torch.zeros(len(batch))


def infer(raw: Any) -> str:
    """The kind of data in memory. Raises DataError if none accepts it."""
    for name in sorted(names("kind"), key=lambda name: name == "table"):  # which takes any list of rows
        if find("kind", name).accepts(raw):  # type: ignore[attr-defined]
            return name
    shape = getattr(raw, "shape", None)
    what = type(raw).__name__ + (f" of shape {tuple(shape)}" if shape is not None else "")
    raise DataError(f"no kind of data is known for a {what}", hint=f"say which: kind={names('kind')[-1]!r}")
