"""A semi-supervised VAE: a classifier and a generative model that share an encoder, from few labels and many rows.

labelled rows ──bent──▶ encoder ──▶ q(y|x) ──▶ cross-entropy
                              └──▶ q(z|x, y) ──▶ p(x|z, y)          ELBO at the true y
other rows ─┬─a little─▶ encoder of averaged weights ──▶ sure of a class? ──▶ label ─┐
            └──bent──▶ encoder ──▶ q(y|x) ──▶ cross-entropy with that label ◀────────┘
                              └──▶ Σ_y q(y|x) ELBO(x, y) + H(q(y|x)), all classes summed
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import ConfigError
from ..estimator import Autoencoder
from ..kinds.given import cells
from ..model.batch import Batch, both
from ..model.corruptions.deform import Deform
from ..model.corruptions.swap import Swap
from ..model.model import Corruption, Flat, Pass
from ..model.spec import Train
from ..parts import build, require
from ..training.feed import Resident, order
from ..training.optimiser import Optimiser
from ..training.precision import kernels_of, threads_for
from ..training.progress import Passed
from ..training.settle import settle
from ..training.tuning import Headed
from .finetuning import Labelled, Learner
from .learned.predictor import Predictor, net_of

# Share of a row's classes that is followed from batch to batch, and the least that it can be.
FOLLOW, LEAST = 0.02, 1e-3


@dataclass(frozen=True)
class Semi:
    """How it is trained. steps: None is 900 for pictures, 300 for other rows. labelled, unlabelled: rows of a step.
    weight: of the ELBO, per cell; 0 for none. sure: how probable a class must be to be taken for a label. quiet: share
    of the run before such labels count; they count in full after a bit more than twice as long. The numbers were
    chosen on MNIST with 100 labels, by pictures held out.

    Sources: Kingma et al. 2014 (arXiv:1406.5298), eq. 6–9, model M2; Sohn et al. 2020 (arXiv:2001.07685) for labels
    from a weak view to a strong one; Berthelot et al. 2020 (arXiv:1911.09785) for keeping the shares of classes.
    """

    steps: int | None = None
    labelled: int = 96
    unlabelled: int = 192
    elbo_rows: int = 48
    weight: float = 2.0
    sure: float = 0.95
    quiet: float = 0.17
    lr: float = 3e-3
    ema: float = 0.99
    dropout: float = 0.2
    aligned: bool = True
    precision: Literal["auto", "float32", "bfloat16"] = "auto"

    def __post_init__(self) -> None:
        for name in ("steps", "labelled", "unlabelled", "elbo_rows"):
            require((getattr(self, name) or 2) >= 2, self, name, "2 or more")
        require(0 < self.sure <= 1, self, "sure", "above 0, up to 1")
        require(0 <= self.quiet < 0.5, self, "quiet", "a share from 0 to below a half")
        require(self.weight >= 0, self, "weight", "0 or more")

    role = "training"
    name = "semi"


def begun(made: Autoencoder, rows: Any, classes: int) -> Autoencoder:
    """A VAE of these rows that is told classes, c0 to c`classes`, with weights that no step has changed."""
    names = pd.Series(np.array([f"c{i % classes}" for i in range(_rows(rows))], dtype=object))
    made.condition = True
    return made.fit(rows, names)


def _rows(rows: Any) -> int:
    return int(rows.shape[0] if hasattr(rows, "shape") else len(rows))


def learner(ae: Autoencoder, rows: Batch, config: dict[str, Any], quiet: bool) -> Learner:
    """What learns from labelled rows beside all others. rows: all, compact, with labels or without.

    The net that it gives has the VAE as `vae`. Raises ConfigError for a model without one encoder for both.
    """
    usual = 900 if ae.schema_.name == "image" else 300
    settings = build(Semi, {"steps": usual, **config}, "tuning")
    if type(ae.model_) is not Flat:
        raise ConfigError("method 'semi' needs a VAE with one layer of latents", hint="recipe='vae'")

    def learn(labelled: Labelled, seed: int) -> nn.Module:
        ae.model_ = ae._build(seed)
        run = _Run(ae, labelled, rows, settings, seed)
        net = run.train(Passed(settings.steps or usual, quiet, what="steps"))
        net.__dict__["vae"] = ae.model_
        return net

    return learn


class _Both(nn.Module):
    """The VAE and the classifier on its encoder: all that is trained."""

    def __init__(self, model: Flat, width: int, classes: int) -> None:
        super().__init__()
        self.model, self.head = model, nn.Linear(width, classes)


class _Run:
    def __init__(self, ae: Autoencoder, labelled: Labelled, rows: Batch, config: Semi, seed: int) -> None:
        assert isinstance(ae.model_, Flat)
        assert ae.condition_ is not None
        self.ae, self.labelled, self.rows, self.config, self.seed = ae, labelled, rows, config, seed
        self.kind, self.model = ae.schema_, ae.model_
        net = net_of(self.model, labelled.classes, Predictor(method="semi"))
        assert isinstance(net, Headed)
        self.net = net
        self.both = _Both(self.model, net.head.in_features, labelled.classes)
        self.both.head.load_state_dict(net.head.state_dict())
        frame = pd.DataFrame({ae.condition_.columns[0].label: [f"c{i}" for i in range(labelled.classes)]})
        self.contexts = cells(ae.condition_, frame)  # of each class
        self.generator = torch.Generator().manual_seed(seed)
        shares = torch.bincount(labelled.targets, minlength=labelled.classes).float() + 1
        self.shares = shares / shares.sum()
        self.found = self.shares.clone()  # what the classifier says of rows, on average
        self.weak, self.strong = _views(ae)
        self.size = float(np.prod(self.model.likelihood.out_shape))

    def train(self, passed: Callable[[int], None]) -> nn.Module:
        """The classifier, with the averaged weights of the last step; the model has them too."""
        config, steps = self.config, self.config.steps or 1
        train = Train(
            steps=config.steps,
            lr=config.lr,
            beta2=0.99,
            ema=config.ema,
            precision=config.precision,
            device="cpu",
            seed=self.seed,
        )
        optimiser, choice = Optimiser(self.both, train), kernels_of(self.both, train)
        self.model.low_precision = choice.precision == "bfloat16"
        self.model.generator = self.generator
        with torch.no_grad():
            self.model.center(self.kind.prepare(self.rows.rows(slice(0, 2048))))
        labelled = _endless(len(self.labelled), config.labelled, order(self.seed, 0))
        others = _endless(len(self.rows), config.unlabelled, order(self.seed, 1))
        self.both.train()
        with threads_for(choice):
            for step in range(steps):
                done = step / steps
                self.model.progress = done
                self._loss(next(labelled), next(others), done, optimiser).backward()
                optimiser.step(done)
                optimiser.gradient.zero_()
                passed(1)
            optimiser.finish()
        self.both.eval()
        self.model.low_precision, self.model.progress, self.model.generator = False, 1.0, None
        settle(self.model, Resident(self.rows, replace(train, validation=0.0)), self.kind, train)
        self.model.generator = None
        self.net.encoder.load_state_dict(self.model.encoder.state_dict())
        self.net.head.load_state_dict(self.both.head.state_dict())
        return self.net.eval()

    def _loss(self, own: Tensor, others: Tensor, done: float, optimiser: Optimiser) -> Tensor:
        config, rows = self.config, self.rows.rows(others)
        mine = self.labelled.rows.rows(own)
        first, second = (self.kind.prepare(b, self.generator) for b in (mine, rows))
        classes = self.labelled.targets[own]
        label, sure = self._labels(second, optimiser)
        seen = both(self._bent(self.strong, first), self._bent(self.strong, second))
        features, _ = self.model._seen(seen)
        logits = self.both.head(self._dropped(features))
        n = len(own)
        weights = None if self.labelled.weights is None else self.labelled.weights[own]
        loss = F.cross_entropy(logits[:n], classes, reduction="none")
        loss = loss.mean() if weights is None else (loss * weights).sum() / weights.sum()
        # Such labels count later, when there is something to be sure of.
        counts = min(1.0, max(0.0, (done - config.quiet) / max(config.quiet * 1.3, 1e-9)))
        loss = loss + counts * (sure * F.cross_entropy(logits[n:], label, reduction="none")).mean()
        if config.weight:
            m = min(config.elbo_rows, n)
            bound = self._bound(seen.rows(slice(0, m)), features[:m], self.contexts[classes[:m]]).mean()
            some = slice(n, n + config.elbo_rows)
            bound = bound + self._marginal(seen.rows(some), features[some], logits[some]).mean()
            loss = loss + config.weight / self.size * bound
        return loss

    @torch.no_grad()
    def _labels(self, rows: Batch, optimiser: Optimiser) -> tuple[Tensor, Tensor]:
        """What the averaged weights say of rows seen almost as they are, and whether they are sure of it. [b]"""
        self.both.eval()
        with optimiser.averaged():
            p = F.softmax(self.both.head(self.model._seen(self._bent(self.weak, rows))[0]), -1)
        self.both.train()
        if self.config.aligned:
            self.found.lerp_(p.mean(0), FOLLOW)
            p = p * self.shares / self.found.clamp_min(LEAST)
            p = p / p.sum(-1, keepdim=True)
        most, label = p.max(-1)
        return label, (most >= self.config.sure).float()

    def _bound(self, rows: Batch, features: Tensor, context: Tensor) -> Tensor:
        """−ELBO of rows at what is given, in nats. [b]"""
        assert self.model.condition is not None
        given = self.model.condition(context)
        q = self.model._posterior(features, given)
        z = q.sample(1, self.generator)
        px = self.model.decode(z, given)
        if self.model.training:
            self.model.likelihood.observe(px, rows)
        found = Pass(q, self.model.prior(given), z, px, rows)
        return found.kl - found.log_px[0]

    def _marginal(self, rows: Batch, features: Tensor, logits: Tensor) -> Tensor:
        """−ELBO of rows without labels: what each class would give, weighed by q(y|x), and −H(q(y|x)). [b]"""
        b, k = logits.shape
        index = torch.arange(b).repeat_interleave(k)
        each = self._bound(rows.rows(index), features[index], self.contexts.repeat(b, 1)).view(b, k)
        log_q = F.log_softmax(logits, -1)
        return (log_q.exp() * (each + log_q)).sum(-1) + math.log(k)

    def _bent(self, view: Corruption | None, rows: Batch) -> Batch:
        return rows if view is None else view(rows, self.model.likelihood.continuous, self.generator)

    def _dropped(self, h: Tensor) -> Tensor:
        share = self.config.dropout
        return h * (torch.rand(h.shape, generator=self.generator) >= share) / (1 - share) if share else h


def _views(ae: Autoencoder) -> tuple[Corruption | None, Corruption | None]:
    """How a row is seen by who gives labels, and by who learns from them: as little changed as can be; as much as
    leaves it what it is. Bent more, MNIST's classes mix (error 7.3 % with 2.4 times the bend, in a trial).
    """
    if ae.schema_.name == "image":
        # In halves of a picture: a pixel of MNIST is 1/14.
        still = Deform(rotation=0.0, scale=0.0, shear=0.0, shift=1 / 14, bend=0.0)
        return still, Deform(rotation=12.0, scale=0.12, shear=0.15, shift=2 / 14, bend=0.9 / 14)
    return None, Swap(0.1)


def _endless(rows: int, size: int, generator: torch.Generator) -> Iterator[Tensor]:
    """`size` rows at a time, all of them in turn."""
    left = torch.arange(0)
    while True:
        while len(left) < size:
            left = torch.cat([left, torch.randperm(rows, generator=generator)])
        yield left[:size]
        left = left[size:]
