"""What `detect` needs beside a model: forest, prototypes, scales, and the scores of rows by strangers."""

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor

from ...errors import ConfigError, DataError
from ...kinds.base import Kind
from ...kinds.series import Series
from ...model.batch import Batch, parts_of
from ...model.committee import Together
from ...model.dists.gaussian import GaussianDist
from ...model.model import Model
from ...parts import part, require
from ...training.feed import evenly
from . import forest, prototypes, steps
from .base import Learned
from .calibration import Scale, p_values, scale_of, threshold
from .forest import Forest
from .prototypes import Prototypes
from .steps import Seen, Steps

if TYPE_CHECKING:
    from ...estimator import Autoencoder
    from ...training.feed import Feed

# Rows that scales and p-values are made of: the smallest p-value is one in so many.
MOST = 20_000
# Fewer rows than this say nothing of how strange one in a hundred is.
FEWEST = 20
DRAWS = 8
PARTS = ("autoencoder", "forest", "prototypes", "latent")
# Standard deviations of the noise of "denoising", in the model's units.
NOISE = (0.1, 0.3, 1.0)
# Sets of windows that came back: they overlap with those that were learned, and more sets judge no more fairly.
SETS = 4
# Rounds in which gaps of a series are filled.
ROUNDS = 4
DECIMALS = 4


@dataclass(frozen=True)
class Scored:
    """Rows as a detector sees them. score, p [n]; parts: the score of each part on its scale, by name; shares of the
    score that belong to each cell, summing to 1 [n, cells].
    """

    score: np.ndarray
    p: np.ndarray
    parts: dict[str, np.ndarray]
    shares: np.ndarray


@part("use", "anomaly")
@dataclass(frozen=True)
class Anomaly:
    """How strange a row is: the mean of up to three scores, each on the scale of ordinary rows, by weight.

    autoencoder: weight of what the model says, −log p in nats by `score`: "reconstruction", −log p(x|z); "elbo", with
    the KL of its code; "density", importance-weighted; "denoising", −log p of the row by the codes of copies with noise
    of several strengths, their mean; "auto", density where the latent has one, else reconstruction. forest: of an
    isolation forest of `trees`. prototypes: of the mean distance to the nearest of up to `size` means of like rows, in
    `sets`. latent: of the same distance between codes. All judge a row by those of their members alone that did not
    learn from it.
    windows: of series, which have neither forest nor prototypes, the distance from the nearest window of those that
    came back, as prototypes, is a voice beside the channels'.
    contaminated: whether strange rows were among those that it learned from.
    """

    autoencoder: float = 2.0
    forest: float = 1.0
    prototypes: float = 0.0
    score: Literal["auto", "reconstruction", "elbo", "density", "denoising"] = "auto"
    trees: int = 100
    sets: int = 16
    size: int = 256
    windows: bool = True
    contaminated: bool = True
    latent: float = 0.0

    def __post_init__(self) -> None:
        for name in PARTS:
            require(getattr(self, name) >= 0, self, name, "0 or more")
        require(any(getattr(self, name) for name in PARTS), self, "autoencoder", "above 0, if no other is")
        for name in ("trees", "sets", "size"):
            require(1 <= getattr(self, name) <= 4096, self, name, "1 to 4096")

    def learn(self, ae: "Autoencoder", feed: "Feed", seed: int, raw: Any = None, report: Any = None) -> "Detector":
        """Forest and prototypes of the rows, and the scores of those that a part has not learned from.

        Raises DataError if all rows have one score, or some have none.
        """
        rows, in_time = ae.schema_.prepare(feed.whole(MOST)), isinstance(ae.schema_, Series)
        if in_time and not self.autoencoder:
            raise ConfigError("series are judged by their autoencoder", hint="--set use.autoencoder=1")
        x, seen = features(ae.model_, rows), observed_features(ae.model_, rows)
        # What forest and prototypes say of whole windows, steps are not measured by.
        trees = forest.grow(x.numpy(), rows.x, self.trees, seed) if self.forest and not in_time else None
        points = None
        if self.prototypes and not in_time:
            points = prototypes.found(x, seen, rows.x, self.sets, self.size, seed)
        codes = None
        if self.latent and not in_time:
            codes = prototypes.found(codes_of(ae.model_, rows), None, rows.x, self.sets, self.size, seed)
        made = Detector(self, ae.model_, ae.schema_, trees, points, codes)
        # A model that is no committee judges what it has learned from too kindly: rows that were held out judge it.
        alone = not isinstance(ae.model_.likelihood, Together)
        if alone and feed.held_out is not None and len(feed.held_out) >= FEWEST:
            rows = ae.schema_.prepare(feed.held_out.to("cpu"))  # where the fitted model is
        made = made.calibrated(rows)
        if isinstance(ae.schema_, Series):
            back = None
            if self.windows:
                places = torch.from_numpy(ae.schema_.places(raw))
                places = places[evenly(len(places), MOST)]
                apart = max(1, ae.schema_.window // 2)
                sets = min(self.sets, SETS)
                back = prototypes.found(x, seen, rows.x, sets, self.size, seed, places, apart)
            made = made.in_time(raw, ae.schema_.prepare(ae.schema_.to_batch(raw)), back)
        return made

    def restore(self, ae: "Autoencoder", document: dict[str, Any], tensors: dict[str, np.ndarray]) -> "Detector":
        """The detector of a model file."""
        groups: dict[str, dict[str, np.ndarray]] = {}
        for name, value in tensors.items():
            group, _, own = name.partition(".")
            groups.setdefault(group, {})[own] = value
        size = ae.model_.likelihood.features(torch.zeros(1, *ae.model_.likelihood.continuous.shape)).numel()
        in_time = isinstance(ae.schema_, Series)
        trees = forest.of(groups["forest"], size) if self.forest and not in_time else None
        points = Prototypes(groups["prototypes"]["points"]) if self.prototypes and not in_time else None
        codes = Prototypes(groups["latent"]["points"]) if self.latent and not in_time else None
        for found, wanted in ((points, size), (codes, ae.model_.dim)):
            if found is not None and (found.points.ndim != 3 or found.points.shape[2] != wanted):
                raise ValueError(
                    f"its prototypes are {found.points.shape}, and what they stand for has {wanted} numbers"
                )
        scales = {name: Scale(*map(float, ends)) for name, ends in document["scales"].items()}
        if not all(np.isfinite([s.floor, s.median, s.width]).all() and 0 < s.width < 1e6 for s in scales.values()):
            raise ValueError("a scale of its scores is none")
        known, usual, spread = (groups["known"][name] for name in ("scores", "usual", "spread"))
        if not len(known) or (np.diff(known) < 0).any() or not np.isfinite(known).all():
            raise ValueError("its calibration is not sorted, or no numbers")
        cells = (ae.model_.likelihood.continuous.numel(),)
        if usual.shape != cells or spread.shape != cells:
            raise ValueError(f"its columns are {usual.shape} and {spread.shape}, and the model's {cells}")
        if not np.isfinite(usual).all() or not np.isfinite(spread).all() or (spread < 0).any():
            raise ValueError("what is usual in its columns is no number")
        by = steps.of(groups["steps"], ae.schema_, self.contaminated) if isinstance(ae.schema_, Series) else None
        made = Detector(self, ae.model_, ae.schema_, trees, points, codes, scales, known, usual, spread, by)
        if set(scales) != set(made._weights()):
            raise ValueError(f"it has scales of {sorted(scales)}, and parts {sorted(made._weights())}")
        return made


def features(model: Model, rows: Batch) -> Tensor:
    """What forest and prototypes see of rows: plain numbers, 0 where one is missing. float32 [n, f]"""
    found = model.likelihood.features(rows.x).flatten(1).float()
    seen = observed_features(model, rows)
    return found if seen is None else found * seen


@torch.no_grad()
def codes_of(model: Model, rows: Batch) -> Tensor:
    """The codes of rows, some at a time. [n, d]"""
    return torch.cat([model.encode(some).mean for some in parts_of(rows)])


def observed_features(model: Model, rows: Batch) -> Tensor | None:
    """Which features are there; None for all. bool [n, f]"""
    return None if rows.observed is None else rows.observed.flatten(1)[:, model.likelihood.owner]


def kept(scores: list[float]) -> np.ndarray:
    """Scores, sorted; of more than `MOST` as many at even steps, so that their distribution stays."""
    known = np.sort(np.array(scores))
    return known[np.linspace(0, len(known) - 1, min(len(known), MOST)).astype(int)]


@dataclass(frozen=True, eq=False)
class Detector(Learned):
    """A model, the other parts, and what their scores are measured by. known: scores of rows, sorted. usual, spread
    [cells]: nats of a cell, and the difference between it and what is expected of it, of an ordinary row, in the
    model's units. steps: of series, what steps are measured by.
    """

    use: Anomaly
    model: Model
    kind: Kind
    forest: Forest | None
    prototypes: Prototypes | None
    latent: Prototypes | None = None
    scales: dict[str, Scale] = field(default_factory=dict)
    known: np.ndarray = field(default_factory=lambda: np.empty(0))
    usual: np.ndarray = field(default_factory=lambda: np.empty(0, np.float32))
    spread: np.ndarray = field(default_factory=lambda: np.empty(0, np.float32))
    steps: Steps | None = None

    @property
    def document(self) -> dict[str, Any]:
        return {"scales": {name: [s.floor, s.median, s.width] for name, s in self.scales.items()}}

    @property
    def tensors(self) -> dict[str, np.ndarray]:
        found = {f"forest.{k}": v for k, v in self.forest.tensors().items()} if self.forest else {}
        if self.prototypes:
            found["prototypes.points"] = self.prototypes.points
        if self.latent:
            found["latent.points"] = self.latent.points
        if self.steps:
            found |= {f"steps.{k}": v for k, v in self.steps.tensors.items()}
        return found | {"known.scores": self.known, "known.usual": self.usual, "known.spread": self.spread}

    @property
    def threshold(self) -> float:
        """Where alarms begin unless a rate is asked for."""
        return threshold(self.known, self.use.contaminated)

    def calibrated(self, rows: Batch) -> "Detector":
        """This detector with `rows` as what is ordinary. Raises DataError if they have one score, or some have none."""
        seen = [self._raw(some) for some in parts_of(rows)]
        raw = {name: np.concatenate([r[name] for r, _ in seen]) for name in seen[0][0]}
        for name, scores in raw.items():
            bad = int((~np.isfinite(scores)).sum())
            if bad:
                raise DataError(
                    f"the {name} score of {bad:,} of {len(rows):,} rows is no number: nothing could be detected",
                    hint="latente doctor tells of the model; --set train.lr=1e-4 for one that diverged",
                )
        same = DataError(
            f"all {len(rows):,} rows have the same score: nothing could be detected",
            hint="a longer run (--epochs), or data that vary",
        )
        try:
            scales = {name: scale_of(v) for name, v in raw.items()}
        except ValueError:
            raise same from None
        errors = np.concatenate([(some.x - self.expected(some)).flatten(1).numpy() for some in parts_of(rows)])
        gone = np.zeros_like(errors, bool) if rows.observed is None else ~rows.observed.flatten(1).numpy()
        gone[0] &= ~gone.all(0)  # a column that is never there has some spread
        made = replace(
            self,
            scales=scales,
            usual=np.nanmedian(np.where(gone, np.nan, np.concatenate([c for _, c in seen])), 0).astype(np.float32),
            # Of a Gaussian so many lie within one standard deviation.
            spread=np.nanquantile(np.where(gone, np.nan, np.abs(errors)), 0.6827, 0).astype(np.float32),
        )
        known = np.sort(made._together(raw))
        if known[0] == known[-1]:
            raise same
        return replace(made, known=known)

    def with_known(self, scores: np.ndarray) -> "Detector":
        """This detector with more rows' scores among the ordinary ones."""
        return replace(self, known=kept([*self.known, *scores]))

    def score(self, rows: Batch) -> Scored:
        """Prepared rows, scored."""
        parts: list[Scored] = []
        for some in parts_of(rows):
            raw, cells = self._raw(some)
            score = self._together(raw)
            own = {name: self.scales[name](v) for name, v in raw.items()}
            parts.append(Scored(score, p_values(score, self.known), own, self._shares(some, cells)))
        return Scored(
            np.concatenate([p.score for p in parts]),
            np.concatenate([p.p for p in parts]),
            {name: np.concatenate([p.parts[name] for p in parts]) for name in self.scales},
            np.concatenate([p.shares for p in parts]),
        )

    @torch.no_grad()
    def expected(self, rows: Batch) -> Tensor:
        """What the model expects in each cell, given the row. As rows.x"""
        return self.model.mean_of(self._filled(rows)).mean[0]

    @torch.no_grad()
    def _filled(self, rows: Batch) -> Batch:
        """Rows as the encoder is to see them: of series with gaps filled by what is expected there, again and again,
        so that a gap does not make strange what is around it.
        """
        if rows.observed is None or not self.kind.plain:
            return rows
        seen = rows
        for _ in range(ROUNDS):
            guess = self.model.mean_of(seen).mean[0]
            seen = replace(rows, x=torch.where(rows.observed, rows.x, guess), observed=None)
        return seen

    @torch.no_grad()
    def squares(self, rows: Batch) -> np.ndarray:
        """Squared differences from what the members that did not learn from a row expect in it, of a Gaussian model;
        their mean. float64 [n, cells]
        """
        cells, _ = self._nats(rows)
        own = self.model.likelihood
        inner = own.inner if isinstance(own, Together) else own
        px = inner(torch.zeros(1, *inner.out_shape))
        assert isinstance(px, GaussianDist)
        scale = px.scale.expand(inner.out_shape).flatten().double().numpy()
        # −log p = ½ (square / σ²) + log σ + ½ log 2π
        return np.maximum(2 * scale**2 * (cells - np.log(scale) - 0.5 * math.log(2 * math.pi)), 0.0)

    def seen(self, raw: Any, rows: Batch) -> Seen:
        """What `rows`, the windows of the series `raw`, say of its rows."""
        assert isinstance(self.kind, Series)
        assert self.steps is not None
        return steps.seen_of(self, self.kind, self.steps.windows, raw, rows)

    def in_time(self, raw: Any, rows: Batch, windows: Prototypes | None) -> "Detector":
        """This detector with the series `raw`, whose windows are `rows`, as what steps are measured by."""
        assert isinstance(self.kind, Series)
        seen = steps.seen_of(self, self.kind, windows, raw, rows)
        return replace(self, steps=steps.measured(seen, self.use.contaminated, windows))

    def _weights(self) -> dict[str, float]:
        """Of each part that takes part."""
        absent = {name for name in PARTS[1:] if getattr(self, name) is None}
        weights = {name: getattr(self.use, name) for name in PARTS}
        return {name: w for name, w in weights.items() if w > 0 and name not in absent}

    def _together(self, raw: dict[str, np.ndarray]) -> np.ndarray:
        weights = self._weights()
        total = np.zeros(len(next(iter(raw.values()))))
        for name, weight in weights.items():
            total += weight * self.scales[name](raw[name])
        # Digits beyond these depend on how many rows go through the nets at once.
        return np.round(total / sum(weights.values()), DECIMALS)

    @torch.no_grad()
    def _raw(self, rows: Batch) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Each part's own score [n] by name; and −log p(x|z) of each cell [n, cells]."""
        cells, nats = self._nats(rows)
        own, x = {"autoencoder": nats} if self.use.autoencoder else {}, features(self.model, rows)
        if self.forest is not None:
            own["forest"] = self.forest.score(x.numpy(), rows.x)
        if self.prototypes is not None:
            own["prototypes"] = self.prototypes.score(x, observed_features(self.model, rows), rows.x)
        if self.latent is not None:
            own["latent"] = self.latent.score(self.model.encode(self._filled(rows)).mean, None, rows.x)
        return own, cells

    def _shares(self, rows: Batch, cells: np.ndarray) -> np.ndarray:
        """What share of a row's score belongs to each cell: nats beyond the usual, and distances from prototypes, by
        weight; what forest and codes say is divided like the rest. [n, cells]
        """
        # What is missing says nothing.
        there = np.ones_like(cells) if rows.observed is None else rows.observed.flatten(1).numpy()
        found = _parted(np.maximum(cells - self.usual, 0.0) * there, there)
        if self.prototypes is None:
            return found
        x = features(self.model, rows)
        far = self.prototypes.shares(x, observed_features(self.model, rows), rows.x)
        owner = self.model.likelihood.owner.numpy()
        by_cell = np.stack([far[:, owner == c].sum(1) for c in range(cells.shape[1])], 1)
        a, b = self.use.autoencoder, self.use.prototypes
        return (a * found + b * _parted(by_cell, there)) / (a + b)

    def _nats(self, rows: Batch) -> tuple[np.ndarray, np.ndarray]:
        """−log p(x|z) of each cell [n, cells], and the row's score in nats [n]."""
        q = self.model.encode(self._filled(rows))
        density = q.has_density
        # The same noise for every row: what it gives does not depend on the rows beside it.
        generator = torch.Generator().manual_seed(0)
        noise = torch.randn(DRAWS if density else 1, 1, self.model.dim, generator=generator)
        out = self.model.run(rows, noise=noise, q=q)
        cells = -out.cells.flatten(2).mean(0)
        way = self.use.score if density or self.use.score == "denoising" else "reconstruction"
        if way == "denoising":
            cells = torch.stack([self._denoised(rows, level, generator) for level in NOISE]).mean(0)
            way = "reconstruction"
        if way == "reconstruction":
            nats = cells.sum(1)
        elif way == "elbo":
            nats = cells.sum(1) + out.kl
        else:
            nats = math.log(len(noise)) - (out.log_px + out.log_pz - out.log_qz).logsumexp(0)
        return cells.numpy().astype(np.float64), nats.numpy().astype(np.float64)

    def _denoised(self, rows: Batch, level: float, generator: torch.Generator) -> Tensor:
        """−log p of each cell by the code of the row with noise on its real cells. [n, cells]"""
        shape = self.model.likelihood.continuous
        noise = level * torch.randn(1, *shape.shape, generator=generator) * shape
        seen = self._filled(rows)
        code = self.model.encode(replace(seen, x=seen.x + noise)).mean.unsqueeze(0)
        px = self.model.decode(code, self.model.given(rows))
        return -px.seen(rows.x, rows.observed)[0].flatten(1)


def _parted(amounts: np.ndarray, there: np.ndarray) -> np.ndarray:
    """Amounts [n, cells] as shares of their sum; where all are 0, alike among the cells that are `there`, if any."""
    total = amounts.sum(1, keepdims=True)
    alike = np.where(there.any(1, keepdims=True), there, 1.0)
    return np.where(total > 0, amounts / np.where(total > 0, total, 1.0), alike / alike.sum(1, keepdims=True))
