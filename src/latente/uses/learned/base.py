"""What a use learns beside the model, and the model file keeps: a part of role "use" of a specification."""

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

if TYPE_CHECKING:
    from ...estimator import Autoencoder
    from ...training.feed import Feed
    from ...training.loop import Report


class Learned(Protocol):
    """What was learned. `document` and `tensors` are all of it, for the model file."""

    @property
    def document(self) -> dict[str, Any]:
        """Numbers and names, as JSON can hold them."""
        ...

    @property
    def tensors(self) -> dict[str, np.ndarray]:
        """Arrays by name."""
        ...


class Use(Protocol):
    """A part of role "use": its settings."""

    def learn(
        self, ae: "Autoencoder", feed: "Feed", seed: int, raw: Any = None, report: "Report | None" = None
    ) -> Learned:
        """From the fitted model and the rows that it was fitted on; raw: as they came. report: is told of training."""
        ...

    def restore(self, ae: "Autoencoder", document: dict[str, Any], tensors: dict[str, np.ndarray]) -> Learned:
        """From a model file. Raises ValueError or LookupError for what does not go with the model."""
        ...
