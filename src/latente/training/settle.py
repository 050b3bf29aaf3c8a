"""When training is over: weights put together, and what is measured with the final ones."""

from typing import Any

import torch

from ..errors import ConfigError
from ..kinds.base import Kind
from ..model.model import Model
from ..model.spec import Train
from .feed import Feed

# Rows of one evaluation batch: large enough for the matrix kernels, small enough for the cache.
EVAL_ROWS = 1024
# Rows that show whether a model gives numbers at all; new rows of which the sums are looked at.
FEW, NEW = 256, 8192


@torch.no_grad()
def gather(sharded: Model, plain: Model) -> None:
    """Copy the weights of a sharded model, and its statistics, into one that holds them all."""
    found: dict[str, Any] = dict(sharded.named_parameters()) | dict(sharded.named_buffers())
    for name, tensor in (*plain.named_parameters(), *plain.named_buffers()):
        whole = found[name]
        tensor.copy_(whole.full_tensor() if hasattr(whole, "full_tensor") else whole)


@torch.no_grad()
def require_numbers(model: Model, feed: Feed, kind: Kind) -> None:
    """Raise ConfigError where codes are not finite, or densities no numbers: such a model is of no use to anybody."""
    model.eval()
    batch = kind.prepare(feed.some(FEW))
    codes = model.encode(batch).mean
    if not torch.isfinite(codes).all() or model.mean_of(batch).seen(batch.x, batch.observed).isnan().any():
        raise ConfigError(
            "the run diverged: what the model gives is not finite, and it was not kept", hint="--set train.lr=1e-4"
        )


@torch.no_grad()
def settle(model: Model, feed: Feed, kind: Kind, config: Train) -> None:
    """After training: closed-form scales measured with the final weights, and the prior fitted to the codes.

    The scales are measured on held-out rows where there are any: on rows it was trained on, a model looks too exact.
    """
    # Twenty thousand codes fix a mixture in a few dozen dimensions as well as all of them.
    few, held_out = feed.some(20_000), feed.held_out
    model.generator = torch.Generator(few.x.device).manual_seed(config.seed + 2)
    model.eval()
    if model.likelihood.measured:
        model.likelihood.restart()
        measured = few if held_out is None or len(held_out) < 20 else held_out
        for start in range(0, len(measured), EVAL_ROWS):
            batch = kind.prepare(measured.rows(slice(start, start + EVAL_ROWS)))
            model.likelihood.observe(model.run(batch).px, batch)
    if hasattr(model, "head") and hasattr(model.head, "settle"):
        # Moments of the codes, of many rows by the final weights, where training had those of its batches.
        parts = [kind.prepare(few.rows(slice(i, i + EVAL_ROWS))) for i in range(0, len(few), EVAL_ROWS)]
        model.head.settle(torch.cat([model.told(part) for part in parts]))  # type: ignore[operator]
    if model.prior().fitted_afterwards:
        parts = [kind.prepare(few.rows(slice(i, i + EVAL_ROWS))) for i in range(0, len(few), EVAL_ROWS)]
        # Draws of q, not its means: a prior is what all q(z|x) together are.
        codes = [model.encode(p).sample(1, model.generator)[0] for p in parts]
        model.fit_prior(torch.cat(codes), [model.given(p) for p in parts])
    if hasattr(model.likelihood, "refit"):
        rows = (kind.prepare(few.rows(slice(i, i + EVAL_ROWS))) for i in range(0, len(few), EVAL_ROWS))
        # New rows are draws of the prior, where nothing is given.
        new = None
        if model.condition is None:
            z = model.prior().sample(NEW, model.generator)
            new = (model.decode(z[i : i + EVAL_ROWS]) for i in range(0, NEW, EVAL_ROWS))
        model.likelihood.refit(((model.run(part).px, part) for part in rows), new)  # type: ignore[operator]
