"""What `evaluate` says of texts and tunes besides: per token, in a free run, beside a model without a code."""

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..estimator import Autoencoder
from ..kinds.sequences import Sequences
from ..model.batch import Batch
from ..model.dists.base import as_mask
from ..model.dists.tokens import END, PAD, TokensDist
from .learned.language_model import Alone

# New rows of which the variety is counted.
NEW = 500


class OfTokens:
    """Sums over the rows that come by."""

    def __init__(self, ae: Autoencoder, generator: torch.Generator) -> None:
        self.ae, self.generator = ae, generator
        self.tokens = self.right = self.rows = 0
        self.alone: list[Tensor] = []
        self.own = self.shuffled = 0.0

    @torch.no_grad()
    def add(self, batch: Batch) -> None:
        """Look at some more rows."""
        model, seen = self.ae.model_, as_mask(batch)
        q = model.encode(batch)
        px = model.decode(q.mean.unsqueeze(0), model.given(batch))
        assert isinstance(px, TokensDist)
        self.tokens += int(seen.sum())
        self.rows += len(batch)
        self.right += int(((px.mode[0] == batch.x) & seen).sum())
        own, other = told_apart(model, batch, self.generator)
        self.own += own * len(batch)
        self.shuffled += other * len(batch)
        if isinstance(self.ae.use_, Alone) and self.ae.use_.net is not None:
            self.alone.append(self.ae.use_.log_p(batch))

    def figures(self, iw_nll: float, seed: int) -> dict[str, Any]:
        """The numbers; iw_nll: the bound on −log p(x) in nats per row, or NaN of a latent without density."""
        each = self.rows / max(1, self.tokens)
        found: dict[str, Any] = {"tokens_per_row": 1 / each}
        if math.isfinite(iw_nll):
            found |= {"nll_per_token": iw_nll * each, "perplexity": math.exp(min(700.0, iw_nll * each))}
        found |= {
            "free_running_accuracy": self.right / max(1, self.tokens),
            "rec_shuffled": self.shuffled / max(1, self.rows),
            "z_matters": (self.shuffled - self.own) / max(1, self.rows),
        }
        if self.alone:
            nll = -float(torch.cat(self.alone).double().mean())
            found |= {"nll_without_code": nll, "perplexity_without_code": math.exp(min(700.0, nll * each))}
        return found | variety(self.ae, seed)


@torch.no_grad()
def told_apart(model: Any, batch: Batch, generator: torch.Generator) -> tuple[float, float]:
    """−log p(x|z) of rows with their own draws of z, and with those of other rows: nats per row."""
    z = model.encode(batch).sample(1, generator)
    other = z.roll(max(1, len(batch) // 2), 1)
    told = model.given(batch)
    nats = [-model.decode(code, told).seen(batch.x, batch.observed).sum(-1).mean() for code in (z, other)]
    return float(nats[0]), float(nats[1])


def variety(ae: Autoencoder, seed: int) -> dict[str, float]:
    """Of new rows the share of different n-grams of tokens (Li et al. 2016, arXiv:1510.03055), and of rows; of those
    that are valid: they keep the grammar, if there is one, and end; and that hold no pair of tokens that data do not.
    """
    with torch.no_grad():
        generator = torch.Generator().manual_seed(seed)
        rows = ae.model_.decode(ae.model_.prior().sample(NEW, generator)).sample(generator).long().numpy()
    found = {}
    for n in (1, 2):
        lists = [row[row >= END].tolist() for row in rows]
        grams = [tuple(row[i : i + n]) for row in lists for i in range(len(row) - n + 1)]
        found[f"distinct_{n}"] = len(set(grams)) / max(1, len(grams))
    valid, alike = (float(v.mean()) for v in _kept(ae, rows))
    distinct = len({row.tobytes() for row in rows}) / len(rows)
    return found | {"distinct_rows": distinct, "valid_share": valid, "like_data_share": alike}


def _kept(ae: Autoencoder, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Whether each row of tokens keeps the grammar and ends, and whether its pairs are all of the data. bool [n]"""
    schema = ae.schema_
    assert isinstance(schema, Sequences)
    before = np.pad(rows[:, :-1], ((0, 0), (1, 0)))
    there = rows != PAD
    fine = np.ones_like(there) if schema.grammar is None else schema.grammar[before, rows] | ~there
    ended = (rows == END).any(1) | (schema.whole_rows & there.all(1))
    return fine.all(1) & ended, (schema.follows[before, rows] | ~there).all(1)
