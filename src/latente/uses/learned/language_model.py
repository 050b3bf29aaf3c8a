"""The honest baseline of texts and tunes: the same decoder, with no code to hear of."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from ...model.batch import Batch
from ...model.dists.base import Likelihood
from ...model.latents.point import Point
from ...model.model import Flat
from ...model.objectives.ae import Ae
from ...model.priors.base import Host
from ...model.priors.standard import Standard
from ...model.spec import seeded
from ...parts import part, require
from ...training.loop import History, Report, train
from ...training.stop import Stop
from .base import Learned

if TYPE_CHECKING:
    from ...estimator import Autoencoder
    from ...training.feed import Feed


class _Blind(nn.Module):
    """What the encoder of a model without a code says of each row: nothing."""

    def features(self, batch: Batch) -> Tensor:
        return torch.zeros(len(batch), 1, device=batch.x.device)

    def forward(self, batch: Batch) -> Tensor:
        return self.features(batch)


@dataclass(frozen=True, eq=False)
class Alone(Learned):
    """p(x) of the decoder without a code. net: a model that says the same word to each row; None if none was made."""

    net: Flat | None

    @torch.no_grad()
    def log_p(self, batch: Batch) -> Tensor:
        """log p(x) of prepared rows in nats: exact. [b]"""
        assert self.net is not None
        return self.net.mean_of(batch).seen(batch.x, batch.observed)[0].sum(-1)

    @property
    def document(self) -> dict[str, Any]:
        return {"made": self.net is not None}

    @property
    def tensors(self) -> dict[str, np.ndarray]:
        return {} if self.net is None else {name: value.numpy() for name, value in self.net.state_dict().items()}


@part("use", "language-model")
@dataclass(frozen=True)
class LanguageModel:
    """The model's own decoder, trained anew on the same rows for as many steps with nothing to hear of a code.

    Of a time limit it has `share`, at the most.
    What it gives of new rows is what the tokens say of each other: a code is worth what `evaluate` finds beyond that.
    """

    share: float = 0.35

    def __post_init__(self) -> None:
        require(0 < self.share < 1, self, "share", "a share between 0 and 1")

    def learn(self, ae: "Autoencoder", feed: "Feed", seed: int, raw: Any = None, report: Report | None = None) -> Alone:
        """From the rows that the model was fitted on, as its settings say."""
        net, history = self._net(ae, seed), ae.history_
        # One that was stopped on the way is no baseline; one that is not private would tell what the other keeps.
        if history.ended in Stop.REASONS or history.privacy is not None or history.processes > 1:
            return Alone(None)
        limit = ae.spec_.train.time_limit
        limit = None if limit is None else self.share * limit
        config = replace(ae.spec_.train, steps=max(1, history.steps), epochs=None, time_limit=limit)

        def told(row: dict[str, Any], history: History) -> None:
            if report is not None:
                report(row | {"beside": "without a code, to compare"}, history)

        train(net, Ae(), feed, ae.schema_, config, told)
        return Alone(net.to("cpu").eval())

    def restore(self, ae: "Autoencoder", document: dict[str, Any], tensors: dict[str, np.ndarray]) -> Alone:
        """From a model file. Raises ValueError if its tensors are not those of this model's decoder."""
        if not document["made"]:
            return Alone(None)
        net = self._net(ae, 0)
        wanted = {n: tuple(v.shape) for n, v in net.state_dict().items()}
        if wanted != {n: tuple(v.shape) for n, v in tensors.items()}:
            raise ValueError("its language model does not go with its decoder")
        net.load_state_dict({n: torch.from_numpy(v.copy()) for n, v in tensors.items()})
        return Alone(net.eval())

    def _net(self, ae: "Autoencoder", seed: int) -> Flat:
        schema, latent = ae.schema_, Point(1)
        with seeded(seed):
            built = schema.build(ae.spec_.nets or schema.nets, 1)
            likelihood: Likelihood = built.likelihood
            head = latent.build(1)
            prior = Standard().build(Host(1, (1,), head, 0))
            return Flat(_Blind(), head, prior, built.decoder, likelihood, dim=1)
