"""Autoencoder: the scikit-learn face of every model."""

import copy
import math
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.exceptions import NotFittedError as _SklearnNotFitted
from sklearn.utils.validation import _check_feature_names, _check_n_features, check_array, validate_data
from torch import Tensor

from . import __version__, atomic, file
from .errors import ConfigError, DataError, ModelFileError, NotFittedError
from .kinds import rows_of
from .kinds.base import DataWarning, Kind, infer
from .kinds.counted import Counted
from .kinds.given import apart, cells, chosen, together
from .kinds.hints import besides
from .kinds.joining import joined
from .kinds.merging import merged
from .kinds.pictures import Pictures
from .kinds.reading import form_of, whole_kind
from .kinds.sources import Read, Source
from .kinds.streams import opened
from .kinds.table import Table, as_frame, from_arrow, is_arrow
from .model.batch import Batch
from .model.dists.base import Bend
from .model.estimates import bounds
from .model.model import Model
from .model.spec import Spec, Train, recipe, recipes, with_dim
from .parts import find, from_json, to_json
from .training import baseline, private
from .training.checkpoint import Slots
from .training.feed import Feed, Resident
from .training.loop import History, Report, train
from .training.precision import device_of
from .training.progress import printer
from .training.stop import Stop
from .training.stream import Sampler, Streamed
from .training.team import ALONE, Team
from .training.transplant import transplant

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

# Columns of a table that are learned as a chain unless told otherwise: its steps take as long as it has columns.
MOST_COLUMNS = 100
# Rows that go through the nets at once when a fitted model is used.
ROWS = 1024


class _NotFitted(NotFittedError, _SklearnNotFitted):
    pass


class Autoencoder(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Learn a latent space from data, then use it: one estimator for every kind of data and every recipe.

    recipe: a name (see `latente fit --help`), a .toml or .json file, or a Spec. "auto" is "tabular" for a table in
    memory whose columns have names, at most 100 of them, where no part is chosen otherwise, and "vae" for all else.
    dim: dimensions of the latent space; None is the recipe's, but for a table at most half the number of its columns
    (recipe "tabular": their number).
    kind: "auto", "table", "image", "series", "text", "music", "counts", "interactions", or a kind with its options.
    condition: what is given and not modelled: names of columns of X, or True for the y of `fit` (which is otherwise
    ignored, so that in a Pipeline y belongs to the classifier alone). Then the model is p(x|z, c); `given` of `encode`,
    `decode` and `sample` says c, and what it leaves out is unknown.
    nets, latent, prior, objective, corruption: a part, its name, or a document, in place of the recipe's.
    settings: single settings by path, {"objective.beta": 4.0, "train.patience": 10}.
    epochs, steps, batch_size, lr, time_limit (seconds), validation (share held out), precision, device, doctor ("on",
    "off"): see `Train`.
    dp_epsilon: ε of a differentially private fit (docs/tables.md); it takes `latente[private]`, and minutes.
    init: a fitted model, or its file, to go on from with new rows (docs/transfer.md): its schema, made wider where they
    have more, its weights, its recipe. rehearsal: so many rows for each new one are drawn from it and learned again, so
    that it does not forget.
    random_state: the seed of everything. The same seed, data and machine give the same model, bit for bit, unless a
    time limit ends the run. None draws a fresh seed.
    verbose: a progress line on stderr.

    Fitted: model_, schema_ (the learned kind), spec_, history_, card_; condition_, the learned table of what is given;
    use_, what was learned beside the model for a use of its own (recipes "anomaly" and "novelty").
    """

    def __init__(
        self,
        recipe: Any = "auto",
        *,
        dim: int | None = None,
        kind: Any = "auto",
        condition: Any = None,
        nets: Any = None,
        latent: Any = None,
        prior: Any = None,
        objective: Any = None,
        corruption: Any = None,
        settings: dict[str, Any] | None = None,
        epochs: int | None = None,
        steps: int | None = None,
        batch_size: int | None = None,
        lr: float | None = None,
        time_limit: float | None = None,
        validation: float | None = None,
        precision: str | None = None,
        device: str | None = None,
        doctor: str | None = None,
        dp_epsilon: float | None = None,
        init: Any = None,
        rehearsal: float = 0.5,
        random_state: Any = None,
        verbose: bool = False,
    ) -> None:
        self.recipe = recipe
        self.dim = dim
        self.kind = kind
        self.condition = condition
        self.nets = nets
        self.latent = latent
        self.prior = prior
        self.objective = objective
        self.corruption = corruption
        self.settings = settings
        self.epochs = epochs
        self.steps = steps
        self.batch_size = batch_size
        self.lr = lr
        self.time_limit = time_limit
        self.validation = validation
        self.precision = precision
        self.device = device
        self.doctor = doctor
        self.dp_epsilon = dp_epsilon
        self.init = init
        self.rehearsal = rehearsal
        self.random_state = random_state
        self.verbose = verbose

    # ── fitting ─────────────────────────────────────────────────────────────────────────────────────────────────

    def fit(self, X: Any, y: Any = None) -> "Autoencoder":
        """Learn from rows: a data frame, an array, pictures, or the path of a file. `y` is ignored unless `condition`
        is True.

        Raises DataError for data that cannot be learned from and ConfigError for settings that cannot be. Ctrl-C keeps
        what was learned and raises KeyboardInterrupt.
        """
        return self._fit(X, y)

    def _fit(
        self,
        X: Any,
        y: Any = None,
        *,
        report: Report | None = None,
        slots: Callable[[Spec, str], Slots] | None = None,
        team: Team = ALONE,
        started: float | None = None,
    ) -> "Autoencoder":
        """`fit`; slots: from the finished spec and the data's fingerprint, where checkpoints lie. started: when the
        time limit began to run.
        """
        arrow, X = is_arrow(X), from_arrow(X)
        self.use_: Any = None
        show = report or (printer() if self.verbose else _silent)
        for name in ("card_", "_origin"):  # of an earlier fit: whoever finds a card knows that this fit came to its end
            self.__dict__.pop(name, None)
        started = time.perf_counter() if started is None else started
        seed = _seed(self.random_state)
        begun = self._begun()
        spec, raw = self._chosen(X, seed, team, begun)
        raw, given = apart(raw, self._condition, y)
        if self._condition and given is None:
            raise ConfigError(
                "the model is to be conditioned on labels, and these data bring none",
                hint="pictures: a folder for each label, or idx files with their labels beside them; Python: fit(X, y)",
            )
        self.condition_: Table | None = None
        if given is not None:
            table = Table().learn(given)
            assert isinstance(table, Table)
            self.condition_ = table
        feed, spec = self._learn(raw, given, spec, team, "pyarrow" if arrow else "", begun)
        asked = self.dim is not None or self.latent is not None or {"latent", "latent.dim"} & set(self.settings or {})
        # Sparse codes have more units than columns on purpose.
        planned = isinstance(self._recipe, str) and self._recipe in recipes() and spec.objective.name != "sparse"
        if planned and not asked:
            room = max(self.schema_.room, getattr(spec.latent, "least", 1))
            spec = with_dim(spec, min(spec.latent.dim, room))
        spec = spec.override("nets", self.schema_.nets) if spec.nets is None else spec
        self.spec_ = replace(self._set(spec, "nets"), condition=self.condition_)
        self.model_ = self._build(seed)
        if begun:
            transplant(begun.model_, begun.schema_, self.model_, self.schema_)
        # Of a time limit at least half is for training, however long reading took.
        spent = min(time.perf_counter() - started, 0.5 * (self.spec_.train.time_limit or math.inf))
        self.history_: History = train(
            self.model_,
            self.spec_.objective,
            feed,
            self.schema_,
            _beside(self.spec_),
            show,
            slots=slots(self.spec_, feed.fingerprint) if slots else None,
            team=team,
            spent=spent,
            begun=begun is not None,
        )
        self._finish(feed, seed, raw, show)
        if self.history_.ended in Stop.REASONS:
            raise KeyboardInterrupt
        return self

    def _chosen(self, X: Any, seed: int, team: Team, begun: "Autoencoder | None") -> tuple[Spec, Any]:
        """What is fitted: the recipe and the kind, as asked for or as the data are; and the raw data."""
        self._recipe: Any = begun.spec_ if begun else self._planned(X) if self.recipe == "auto" else self.recipe
        spec = self._spec(seed)
        if spec.kind is not None and self.kind == "auto" and _has_form(X) and infer(X) != spec.kind.name and not begun:
            raise ConfigError(
                f"recipe {self._recipe!r} is for data of kind {spec.kind.name!r}, and these are of kind {infer(X)!r}",
                hint=f"--recipe vae (recipe=), or --kind {spec.kind.name} (kind=) if that is what they are",
            )
        raw = self._raw(X, spec.kind, reset=True)
        if self.recipe == "auto" and not begun and self._is_tabular(raw):
            self._recipe = "tabular"
            spec = self._spec(seed)
        if spec.kind is None:
            spec = spec.override("kind", raw.kind if isinstance(raw, Source) else infer(raw))
        spec = self._set(spec, "kind")
        kinds = getattr(spec.use, "kinds", None)
        if kinds and spec.kind.name not in kinds:
            raise ConfigError(
                f"use {spec.use.name!r} is of kinds {', '.join(kinds)}, and these data are of kind {spec.kind.name!r}",
                hint="leave out --recipe (recipe=)",
            )
        if spec.train.dp_epsilon is not None:
            spec = private.spec_of(spec, isinstance(raw, Source) or team.size > 1)
        remark = besides(raw) if self.kind == "auto" and spec.kind.name == "table" else ""
        if remark:
            warnings.warn(remark, DataWarning, stacklevel=4)
        return spec, raw if isinstance(raw, Source) else spec.kind.taken(raw)

    def _begun(self) -> "Autoencoder | None":
        """The fitted model that this one goes on from, if any. Raises ConfigError for one that it cannot."""
        if self.init is None:
            return None
        begun = load(self.init) if isinstance(self.init, (str, Path)) else self.init
        if not isinstance(begun, Autoencoder):
            raise ConfigError(f"init is a fitted Autoencoder or its file, not {begun!r:.60}")
        begun._require_fitted()
        if not 0 <= self.rehearsal <= 10:
            raise ConfigError(f"rehearsal must be from 0 to 10, not {self.rehearsal!r}")
        for reason, why in ((begun.condition_, "given something"), (begun.spec_.train.dp_epsilon, "private")):
            if reason is not None:
                raise ConfigError(f"a model that is {why} cannot be gone on from", hint="fit it anew on all the data")
        if self.recipe != "auto" or self.dim is not None or self.condition or self.dp_epsilon:
            raise ConfigError(
                "a model that goes on from another has its recipe and dim, is told nothing, and not private",
                hint="leave out recipe, dim, condition and dp_epsilon",
            )
        made = copy.copy(begun)
        if getattr(begun.spec_.use, "supervised", False):
            made.spec_ = replace(begun.spec_, use=None)
        return made

    def _remembered(self, raw: Any, begun: "Autoencoder", shared: tuple[str, ...], seed: int) -> Any:
        """Rows with new ones of the model that this one goes on from after them, so that it does not forget. shared: a
        table's columns that mean the same to both.
        """
        number = round(self.rehearsal * len(raw))
        if number < 1:
            return raw
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DataWarning)
            drawn = begun.sample(number, random_state=seed)
        if hasattr(drawn, "columns"):
            drawn = as_frame(drawn)
            drawn = drawn[[c for c in drawn.columns if str(c) in shared]]
        return joined(raw, drawn)

    def _finish(self, feed: Feed, seed: int, raw: Any, show: Report) -> None:
        """What is learned beside a trained model, and its card."""
        with atomic.uninterrupted():
            self.model_.to("cpu").eval()
            self._n_features_out = self.model_.dim
            told = self.history_.privacy is not None
            self._baseline = baseline.fit(
                self.model_, feed, self.schema_, self._n_features_out, seed, told, self.history_.steps
            )
            if self.spec_.use is not None and not getattr(self.spec_.use, "slow", False):
                self.use_ = self.spec_.use.learn(self, feed, seed, raw, show)
        if self.spec_.use is not None and self.use_ is None:
            # What takes minutes Ctrl-C may end: `resume` begins it again, from the trained model.
            self.use_ = self.spec_.use.learn(self, feed, seed, raw, show)
        with atomic.uninterrupted():
            self.card_ = self._card(feed.rows + self.history_.held_out_rows)

    def _planned(self, X: Any) -> str:
        """The recipe of the kind that data are of, as far as one can see before they are read."""
        kind = getattr(self.kind, "name", self.kind.get("part", "auto") if isinstance(self.kind, dict) else self.kind)
        if kind == "auto" and isinstance(X, Source):
            kind = X.kind
        elif kind == "auto" and isinstance(X, (str, Path)):
            kind = whole_kind(X) or kind
        elif kind == "auto" and _has_form(X):
            kind = infer(X)
        return Kind.recipe if kind in ("auto", None) else str(find("kind", str(kind)).recipe)  # type: ignore[attr-defined]

    def _is_tabular(self, raw: Any) -> bool:
        """Whether `raw` is a table of named columns and nothing was chosen that recipe "tabular" chooses itself."""
        parts = {"nets", "latent", "prior", "objective", "corruption", "kind"}
        chosen = any(getattr(self, role) is not None for role in parts - {"kind"}) or self.condition
        if chosen or self.kind not in ("auto", "table") or parts & {p.partition(".")[0] for p in self.settings or {}}:
            return False
        names = list(getattr(raw, "columns", []))
        return 1 < len(names) <= MOST_COLUMNS and all(isinstance(name, str) for name in names)

    @property
    def _condition(self) -> Any:
        """True, or a list of names; false if nothing is given."""
        if self.condition is None or isinstance(self.condition, (bool, list)):
            return self.condition
        # One name, which may be a number; or another sequence of them.
        single = isinstance(self.condition, str) or not isinstance(self.condition, Iterable)
        return [self.condition] if single else list(self.condition)

    def _learn(
        self,
        raw: Any,
        given: pd.DataFrame | None,
        spec: Spec,
        team: Team,
        frame: str,
        begun: "Autoencoder | None" = None,
    ) -> tuple[Feed, Spec]:
        """Learn the schema, and the rows as training takes them; and the spec, with the batch that suits rows of their
        length. frame: what they came in, if `raw` no longer says. begun: whose schema it is, made wider where need be.
        """
        device = device_of(spec.train.device)
        if begun and isinstance(raw, Source):
            raise ConfigError("a model goes on from another with rows in memory", hint="--stream no")
        if begun:
            found = merged(begun.schema_, raw)
            if found.changed:
                warnings.warn(found.words, DataWarning, stacklevel=4)
            self.schema_: Kind = found.kind
            rows = self._remembered(raw, begun, found.shared, spec.train.seed)
            return Resident(self._batch(rows, given), spec.train, device, team), spec
        if not isinstance(raw, Source):
            learned: Kind = spec.kind.learn(raw)
            self.schema_ = replace(learned, frame=frame) if frame and isinstance(learned, Table) else learned
            planned = self.batch_size is None and "train.batch_size" not in (self.settings or {})
            if planned and isinstance(self._recipe, str) and learned.batch is not None:
                spec = spec.override("train.batch_size", min(learned.batch, spec.train.batch_size))
            return Resident(self._batch(raw, given), spec.train, device, team), spec
        sampler = Sampler(raw, spec.train)
        self.schema_ = spec.kind.learn_blocks(sampler.blocks())
        columns = getattr(self.schema_, "columns", None)
        if columns is not None:
            named = pd.DataFrame(columns=[c.label for c in columns])
            _check_feature_names(self, named, reset=True)
            _check_n_features(self, named, reset=True)
        return Streamed(sampler, self.schema_, device, team), spec

    def _spec(self, seed: int) -> Spec:
        spec = recipe(self._recipe) if self.dp_epsilon is None else private.paced(recipe(self._recipe))
        if self.kind != "auto":
            spec = spec.override("kind", self.kind)
        for role in ("nets", "latent", "prior", "objective", "corruption"):
            value = getattr(self, role)
            if value is not None:
                spec = spec.override(role, value)
        if self.dim is not None:
            spec = with_dim(spec, self.dim)
        names = ["epochs", "steps", "batch_size", "lr", "time_limit", "validation", "precision", "device", "doctor"]
        names += ["dp_epsilon"]
        for name in names:
            value = getattr(self, name)
            if value is not None:
                spec = spec.override(f"train.{name}", value)
        for path, value in (self.settings or {}).items():
            # Those of a kind or nets that the data choose wait until they are chosen.
            role = path.partition(".")[0]
            if "." not in path or role not in ("kind", "nets") or getattr(spec, role) is not None:
                spec = spec.override(path, value)
        return spec.override("train.seed", seed)

    def _set(self, spec: Spec, role: str) -> Spec:
        """The spec with the settings of one role."""
        for path, value in (self.settings or {}).items():
            if path.startswith(f"{role}."):
                spec = spec.override(path, value)
        return spec

    def _build(self, seed: int) -> Model:
        return replace(self.spec_, kind=self.schema_).model(seed)

    def _card(self, rows: int) -> dict[str, Any]:
        h = self.history_
        best = next((r for r in reversed(h.rows) if r.get("best")), h.rows[-1] if h.rows else {})
        return {
            "latente": __version__,
            "kind": self.schema_.name,
            "rows": rows,
            "dim": self._n_features_out,
            "components": len(self._baseline.components),
            "parameters": sum(p.numel() for p in self.model_.parameters()),
            "held_out": {k: round(v, 4) for k, v in best.get("val", {}).items() if math.isfinite(v)},
            "steps": h.steps,
            "epochs": round(h.steps / max(1, -(-h.training_rows // self.spec_.train.batch_size)), 2),
            "precision": h.precision,
            "ended": h.ended,
            "verdict": h.verdict,
            "findings": h.findings,
            "recipe": self._recipe if isinstance(self._recipe, str) else "given",
            "schema": self.schema_.summary[:100],
            "features": getattr(self, "n_features_in_", None),
            "names": [str(c) for c in getattr(self, "feature_names_in_", [])],
            "condition": self._condition if self._condition else None,
            "contains": "weights, the schema (column names, levels, ranges) and a PCA of "
            f"{'new' if h.privacy else 'the training'} rows; no rows",
        } | ({"privacy": h.privacy} if h.privacy else {})

    # ── using ───────────────────────────────────────────────────────────────────────────────────────────────────

    def transform(self, X: Any) -> np.ndarray:
        """Posterior means. float32 [rows, dim]"""
        return self.encode(X)[0]

    def encode(self, X: Any, given: Any = None) -> tuple[np.ndarray, np.ndarray]:
        """Posterior means and standard deviations, each float32 [rows, dim]; deviations are 0 for a point latent.

        given: of a model that was conditioned on y, the labels of these rows, or a dict for all of them.
        """
        with torch.no_grad():
            found = [(q.mean, q.stddev) for b in self.batches(X, given) for q in [self.model_.encode(b)]]
        mean, stddev = zip(*found, strict=True)
        return torch.cat(mean).numpy(), torch.cat(stddev).numpy()

    def inverse_transform(self, X: "ArrayLike") -> Any:
        """Codes [rows, dim] back to data: the mean of each cell, the most probable level of a category."""
        return self.decode(X, "mean")

    def reconstruct(self, X: Any, of: str = "mean", given: Any = None) -> Any:
        """Rows through the bottleneck and back, with what is given of them told to both sides."""
        self._require_fitted()
        rows = self.rows(X)
        if self.condition_ is None:
            if isinstance(rows, Source):
                return self.decode(self.transform(X), of)
            return self.schema_.rejoin(rows, self._cells(self._codes(self.transform(rows)), of, 0, None))
        known = apart(rows, self._condition, given)[1]
        return self.decode(self.encode(X, given)[0], of, given=given if known is None else known)

    def decode(
        self,
        Z: "ArrayLike",
        of: str = "mean",
        random_state: Any = 0,
        given: Any = None,
        *,
        temperature: float = 1.0,
        top_p: float = 1.0,
        like_data: bool = False,
    ) -> Any:
        """Codes [rows, dim] to data. of: "mean", "mode", or "sample" (one draw from p(x|z)). given: a dict for all rows
        ({"plan": "gold"}), or a frame or labels with a row for each. The rest: see `sample`.
        """
        z = self._codes(Z)
        frame = self._given(given, len(z))
        bend = self._bend(temperature, top_p, like_data)
        found = self.schema_.restore(self._cells(z, of, random_state, frame, bend))
        if frame is None or self._condition is True or not hasattr(found, "columns"):
            # Pictures have no place for what was given; counts have one beside them.
            return together(found, frame, []) if isinstance(found, Counted) and frame is not None else found
        return together(found, frame, getattr(self, "feature_names_in_", [*found.columns, *frame.columns]))

    def _bend(self, temperature: float, top_p: float, like_data: bool) -> Bend | None:
        """How draws are bent; None if they are not."""
        if like_data and not hasattr(self.schema_, "follows"):
            raise ConfigError("like_data is for texts and tunes", hint="leave it out for this model")
        bend = Bend(temperature, top_p, torch.from_numpy(self.schema_.follows) if like_data else None)  # type: ignore[attr-defined]
        return None if bend == Bend() else bend

    def _cells(
        self, z: Tensor, of: str, random_state: Any, frame: pd.DataFrame | None, bend: Bend | None = None
    ) -> Tensor:
        """Codes [n, d] as the model's cells, told what is given of each."""
        if of not in ("mean", "mode", "sample"):
            raise ConfigError(f"what is shown of p(x|z) is 'mean', 'mode' or 'sample', not {of!r}")
        generator = torch.Generator().manual_seed(_seed(random_state))
        context = None if self.condition_ is None or frame is None else cells(self.condition_, frame)

        def decoded(part: slice) -> Tensor:
            told = None if context is None else self.model_.given(Batch(z[part], context=context[part]))
            px = self.model_.decode(z[part], told)
            px = px if bend is None else px.bent(bend)
            return px.sample(generator) if of == "sample" else (px.mode if of == "mode" else px.mean)

        with torch.no_grad():
            return torch.cat([decoded(slice(i, i + ROWS)) for i in range(0, len(z), ROWS)])

    def sample(
        self,
        n_samples: int = 1,
        *,
        random_state: Any = 0,
        of: str | None = None,
        given: Any = None,
        through_code: bool | None = None,
        temperature: float = 1.0,
        top_p: float = 1.0,
        like_data: bool = False,
    ) -> Any:
        """New rows: z from the prior, then `of` p(x|z): a "sample" for tables, the "mean" for pictures. given: see
        `decode`.

        Of texts and tunes log p of each token is divided by `temperature` (0: the likeliest), then those are drawn from
        that have `top_p` together, the likeliest first; like_data: no token follows one that it never did in the data.

        A table's chain (recipe "tabular") knows p(x) without a code too, and better: its rows are drawn without one
        unless `through_code`. Then any columns can be given, as values, lists (one of them) or pairs (from, to):
        {"sex": "Female", "age": (60, None)}, or "sex=Female,age>60".
        """
        self._require_fitted()
        if not isinstance(n_samples, (int, np.integer)) or n_samples < 1:
            raise ConfigError(f"n_samples must be 1 or more, not {n_samples!r}")
        seed, told = _seed(random_state), None
        if self.chained:
            alone = self.condition_ is None and of in (None, "sample")
            if alone and not through_code and (temperature, top_p, like_data) == (1.0, 1.0, False):
                return rows_of.drawn(self.schema_, self.model_.likelihood, n_samples, seed, given)  # type: ignore[arg-type]
            if given is not None and self.condition_ is None:
                raise ConfigError(
                    "what is given is told to the columns' chain, not to the code",
                    hint="leave out through_code (--through-code), and of (--of)",
                )
        elif through_code is False:
            raise ConfigError(
                "this model's rows come from its code alone", hint="leave out through_code, or use --recipe tabular"
            )
        frame = self._given(given, n_samples)
        with torch.no_grad():
            if frame is not None and self.condition_ is not None and self.model_.condition is not None:
                told = self.model_.condition(cells(self.condition_, frame))
            z = self.model_.prior(told).sample(n_samples, torch.Generator().manual_seed(seed))
        bent = {"temperature": temperature, "top_p": top_p, "like_data": like_data}
        return self.decode(z.numpy(), of or self.schema_.shown, seed + 1, given, **bent)  # type: ignore[arg-type]

    @property
    def chained(self) -> bool:
        """Whether the model is of a table whose columns are a chain, which knows p(x) without a code too."""
        return bool(getattr(self.schema_, "chained", False)) and hasattr(self.model_.likelihood, "alone")

    def _given(self, given: Any, rows: int) -> pd.DataFrame | None:
        """What is given of `rows` rows as a table; of a model with a condition, all unknown if nothing is said."""
        if self.condition_ is None:
            if given is not None:
                raise ConfigError(
                    "the model is not conditional: nothing can be given",
                    hint="fit it with --condition-col (condition=)",
                )
            return None
        return chosen(self.condition_, {} if given is None else given, rows)

    def _batch(self, raw: Any, given: pd.DataFrame | None) -> Batch:
        """Compact rows, with what is given of them."""
        data = self.schema_.to_batch(raw)
        if given is None or self.condition_ is None:
            return data
        return replace(data, context=cells(self.condition_, given))

    def score_samples(self, X: Any, samples: int = 64, random_state: Any = 0, given: Any = None) -> np.ndarray:
        """Importance-weighted log p(x) of each row in nats: on average a lower bound; higher is more normal. [rows]

        Densities are in the data's own units, so that models of one table can be compared; missing cells are left out.
        For a point latent, which has no density, it is log p(x|z) of the row's own code; for codes it is
        log p(x|z) + log P(z).
        """
        if samples < 1:
            raise ConfigError(f"samples must be 1 or more, not {samples}")
        seed = _seed(random_state)
        scores = []
        for batch in self.batches(X, given):
            found = bounds(self.model_, batch, samples, torch.Generator().manual_seed(seed), shared=True)
            scores.append(found.log_p + self.schema_.log_volume(batch))
        return torch.cat(scores).float().numpy()

    def score(self, X: Any, y: Any = None) -> float:
        """The mean of `score_samples`."""
        return float(self.score_samples(X).mean(dtype=np.float64))

    def batches(self, X: Any, given: Any = None) -> Iterator[Batch]:
        """The rows of `X` as the model takes them, some at a time. Raises DataError if they do not fit the schema."""
        return self.prepared(self.rows(X), given)

    def rows(self, X: Any) -> Any:
        """`X` as raw data: read where it is a path, checked where it is an array or a frame."""
        self._require_fitted()
        raw = self._raw(X, self.schema_, reset=False)
        return raw if isinstance(raw, Source) else self.schema_.taken(raw)

    def prepared(self, raw: Any, given: Any = None) -> Iterator[Batch]:
        """`batches` of what `rows` gave."""
        for part in (raw.read(i) for i in range(len(raw.sizes))) if isinstance(raw, Source) else [raw]:
            found, known = apart(part, self._condition)
            data = self.schema_.to_batch(found)
            if len(data) == 0:
                raise DataError("found 0 rows", hint="check the file, or the filter before it")
            if self.condition_ is not None or given is not None:
                known = known if given is None else self._given(given, len(data))
                data = self._batch(found, known)
            for start in range(0, len(data), ROWS):
                yield self.schema_.prepare(data.rows(slice(start, start + ROWS)))

    # ── files ───────────────────────────────────────────────────────────────────────────────────────────────────

    def save(self, path: str | Path) -> None:
        """Write the model file: everything that a use needs, in one .safetensors file, atomically."""
        self._require_fitted()
        atomic.atomic_write(Path(path), self._bytes())

    def _bytes(self) -> bytes:
        state = {k: v.numpy() for k, v in self.model_.state_dict().items()}
        state |= {"baseline.mean": self._baseline.mean, "baseline.components": self._baseline.components}
        document, use = self.spec_.to_json(), None
        del document["kind"]
        if self.use_ is not None:
            more = {f"use.{name}": np.ascontiguousarray(v) for name, v in self.use_.tensors.items()}
            use = {"learned": self.use_.document, "tensors": {n: [str(v.dtype), [*v.shape]] for n, v in more.items()}}
            state |= more
        return file.dump(file.Document(document, to_json(self.schema_), self.card_, use=use), state)

    # ── scikit-learn ────────────────────────────────────────────────────────────────────────────────────────────

    def __sklearn_clone__(self) -> "Autoencoder":
        return cloned(self, "init")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.sparse = True
        tags.input_tags.categorical = True
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags

    def _raw(self, X: Any, kind: Kind | None, *, reset: bool) -> Any:
        """`X` checked as scikit-learn asks where it is a table; read where it is a path; else as it is."""
        X = from_arrow(X)
        if isinstance(X, Read):
            return X.raw
        if isinstance(X, str) and kind is not None and kind.name == "text" and not form_of(X):
            raise DataError(f"there is no file of texts {X!r:.80}", hint="a text itself goes in a list: ['a text']")
        if isinstance(X, (str, Path)):
            X = read_noted(X, kind.name if kind else "auto", **(kind.read_options if kind else {}))
            if not reset and not isinstance(X, np.ndarray):
                # A file's columns are matched by name, in any order; see Table.
                return X
        if isinstance(X, Source):
            return X
        name = kind.name if kind else (infer(X) if _has_form(X) else "table")
        if name != "table":
            return X
        if hasattr(X, "columns"):
            as_frame(X)  # its message for columns of one name is ours
            _check_feature_names(self, X, reset=reset)
            _check_n_features(self, X, reset=reset)
            return X
        try:
            return validate_data(
                self, X, reset=reset, accept_sparse=True, dtype=None, ensure_all_finite=False, ensure_min_samples=1
            )
        except ValueError as error:
            raise DataError(str(error)) from None

    def _codes(self, Z: Any) -> Tensor:
        self._require_fitted()
        try:
            codes = check_array(Z, dtype=np.float32)
        except ValueError as error:
            raise DataError(
                f"the codes cannot be used: {error}",
                hint="codes are a table of numbers, z0, z1, …, as encode writes it",
            ) from None
        if codes.shape[1] != self._n_features_out:
            raise DataError(
                f"the codes have {codes.shape[1]} columns, and the latent space has {self._n_features_out} dimensions",
                hint="transform(X) gives codes of the right shape",
            )
        return torch.from_numpy(codes if codes.flags.writeable else codes.copy())

    def _require_fitted(self) -> None:
        if not hasattr(self, "model_"):
            raise _NotFitted(
                "This Autoencoder instance is not fitted yet", hint="call fit(X) first, or latente.load(path)"
            )


def cloned(estimator: Any, fitted: str) -> Any:
    """scikit-learn's clone of an estimator, in which the fitted model that `fitted` names stays fitted: it is what a
    fit begins with, not a part that is fitted anew.
    """
    if not isinstance(getattr(estimator, fitted), Autoencoder):
        return BaseEstimator.__sklearn_clone__(estimator)
    kept = getattr(estimator, fitted)
    setattr(estimator, fitted, None)
    try:
        made = BaseEstimator.__sklearn_clone__(estimator)
    finally:
        setattr(estimator, fitted, kept)
    setattr(made, fitted, kept)
    return made


def load(path: str | Path) -> Autoencoder:
    """The fitted model of a model file or a run folder.

    Raises DataError if there is none, ModelFileError, saying why, if it is damaged, foreign or too new.
    """
    document, data = file.read(path)
    name = str(path)
    ae = Autoencoder()

    def describe() -> None:
        ae.schema_ = from_json("kind", document.schema)
        ae.spec_ = replace(Spec.from_json(document.spec), kind=ae.schema_)
        ae.condition_ = ae.spec_.condition
        # One column of each sort gives a cell back: a type that pandas does not know is the file's fault, and now.
        tables = [t for t in (ae.schema_, ae.condition_) if hasattr(t, "columns")]
        for column in {(type(c), c.dtype): c for t in tables for c in t.columns}.values():
            column.decode(np.zeros(1))

    def sizes() -> dict[str, tuple[str, tuple[int, ...]]]:
        # A skeleton without memory: a document that lies about its sizes must not cost any.
        with torch.device("meta"):
            model = ae._build(0)
            cells = torch.zeros(1, *model.likelihood.continuous.shape)
            f, k = model.likelihood.features(cells).numel(), document.card["components"]
        wanted = {n: (str(v.dtype).removeprefix("torch."), tuple(v.shape)) for n, v in model.state_dict().items()}
        wanted |= {"baseline.mean": ("float32", (f,)), "baseline.components": ("float32", (k, f))}
        beside = {} if document.use is None else document.use["tensors"]
        if not all(n.startswith("use.") for n in beside) or (ae.spec_.use is None) != (document.use is None):
            raise ValueError("what it holds beside the model is not what its specification says")
        return wanted | {n: (str(dtype), tuple(shape)) for n, (dtype, shape) in beside.items()}

    file.described(describe, name)
    found = file.tensors(data, file.described(sizes, name), name)
    for key, tensor in found.items():
        if tensor.dtype.kind == "f" and not key.startswith("use.") and not np.isfinite(tensor).all():
            raise ModelFileError(f"{name} is damaged: {key} holds what is no number", hint="fit the model anew")
    ae.model_ = file.described(lambda: ae._build(0).eval(), name)
    ae._baseline = baseline.Baseline(found.pop("baseline.mean"), found.pop("baseline.components"))
    beside = {n.removeprefix("use."): found.pop(n) for n in list(found) if n.startswith("use.")}
    ae.model_.load_state_dict({k: torch.from_numpy(v.copy()) for k, v in found.items()})
    learned = {} if document.use is None else document.use["learned"]
    ae.use_ = None if document.use is None else file.described(lambda: ae.spec_.use.restore(ae, learned, beside), name)
    ae.card_ = document.card
    ae._origin = (document.digest, len(data), Path(path))
    ae._n_features_out = ae.model_.dim
    file.described(lambda: _adopt(ae), name)
    return ae


def _adopt(ae: Autoencoder) -> None:
    """The constructor's settings of a loaded model, so that `clone` and `fit` again do the same."""
    ae.recipe = ae.spec_
    ae.random_state = ae.spec_.train.seed
    ae.condition, features, names = (ae.card_.get(key) for key in ("condition", "features", "names"))
    told = None if ae.condition_ is None else [str(c.label) for c in ae.condition_.columns]
    if ae.condition is not None and (
        told is None or (ae.condition is not True and list(map(str, ae.condition)) != told)
    ):
        raise ValueError(f"its card says that {ae.condition!r} is given, and its schema {told!r}")
    if (ae.condition is None) != (told is None):
        raise ValueError(f"its card says that nothing is given, and its schema {told!r}")
    if features is not None:
        ae.n_features_in_ = int(features)
    if names:
        if not all(isinstance(n, str) for n in names) or len(names) != features:
            raise ValueError(f"its card names {len(names)} of {features} columns")
        ae.feature_names_in_ = np.array(names, dtype=object)


def _beside(spec: Spec) -> Train:
    """How the model is trained: of a time limit with what is left when something else is trained beside it."""
    limit, share = spec.train.time_limit, getattr(spec.use, "share", 0.0)
    return spec.train if limit is None else replace(spec.train, time_limit=(1 - share) * limit)


def _silent(row: dict[str, Any], history: History) -> None:
    """No progress line."""


def read_noted(path: str | Path, kind: str, stream: str = "auto", **options: Any) -> Any:
    """Data of a file, or a Source if they exceed the memory; what the reader remarks becomes DataWarnings."""
    notes: list[str] = []
    raw = opened(path, kind, stream=stream, note=notes.append, **options)
    # After the reading, which silences the warnings of the libraries it uses.
    for note in notes:
        warnings.warn(note, DataWarning, stacklevel=3)
    return raw


def _has_form(X: Any) -> bool:
    return hasattr(X, "shape") or (isinstance(X, (Pictures, Sequence)) and not isinstance(X, str) and len(X) > 0)


def _seed(random_state: Any) -> int:
    """A seed from scikit-learn's random_state; None is fresh entropy, never numpy's global state."""
    if random_state is None:
        return int(np.random.SeedSequence().generate_state(1)[0] >> 1)
    if isinstance(random_state, np.random.Generator):
        return int(random_state.integers(2**31 - 1))
    if isinstance(random_state, np.random.RandomState):
        return int(random_state.randint(2**31 - 1))
    if not isinstance(random_state, (int, np.integer)) or not 0 <= random_state < 2**32:
        raise ConfigError(f"a seed is a whole number from 0 to 2**32 - 1, not {random_state!r}")
    return int(random_state)
