#!/usr/bin/env python
"""Texts: Multi30k captions and Don Quijote by sentences.

density        the default recipe beside a plain VAE without a floor, which collapses: GRU 128, 2,000 subwords, 6
               epochs, the same batches; importance-weighted NLL in nats per caption, mutual information, active units
speed          training tokens per second and core, beside the same nets in plain PyTorch (padded GRU, whole softmax)
interpolations ways between new captions: are the steps new, and small?
reconstruct    preset `reconstruct`: share of tokens at their places, written from the code alone
quijote        everything at its default: CPU seconds, and the share of words of new sentences that the book has

    bench/text.py [--only PART …] [--seeds 1] [--minutes 20] [--data DIR] [--quick]

Everything was chosen on captions held out of the training file; the validation file is looked at once.
"""

import re
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import arguments, cpu_seconds, finish, place
from torch import nn
from torch.nn import functional as F

import latente as lt
from latente.kinds.reading import read
from latente.kinds.text import Text
from latente.model.batch import Batch
from latente.model.estimates import bounds, mutual_information
from latente.model.objectives.elbo import Elbo
from latente.model.spec import recipe
from latente.training.doctor import active_units
from latente.uses.ways import between

PARTS = ("density", "speed", "interpolations", "reconstruct", "quijote")
SETTINGS = {"kind.vocabulary": 2000}


def main() -> None:
    args = arguments(
        __doc__,
        only={"nargs": "+", "choices": PARTS, "default": list(PARTS), "help": "some of the parts"},
        minutes={"type": float, "default": 20.0, "help": "minutes of preset `reconstruct`"},
        epochs={"type": int, "default": 6, "help": "epochs of the density part"},
        samples={"type": int, "default": 200, "help": "importance samples a caption"},
    )
    start = time.perf_counter()
    folder = place(args.data, "text", "fetch Multi30k's train and val captions, and Don Quijote as text")
    names = ("train.en", "val.en")
    train, val = ((folder / f"multi30k.{n}").read_text(encoding="utf-8").splitlines() for n in names)
    if args.quick:
        train, val, args.epochs, args.samples, args.minutes = train[:3000], val[:100], 1, 5, 0.3
    figures: dict[str, Any] = {}
    peers: dict[str, Any] = {}
    if {"density", "interpolations"} & set(args.only):
        model, found, other = density(train, val, args)
        figures |= found
        peers |= other
        if "interpolations" in args.only:
            figures |= interpolations(model, val)
    if "speed" in args.only:
        found, other = speed(train)
        figures |= found
        peers |= other
    if "reconstruct" in args.only:
        figures |= reconstruct(train, val, args.minutes)
    if "quijote" in args.only:
        figures |= quijote(folder / "quijote.txt", args.quick)
    finish("text", figures, peers, start)


def density(train: list[str], val: list[str], args: Any) -> tuple[lt.Autoencoder, dict[str, Any], dict[str, Any]]:
    rows: dict[str, list[dict[str, float]]] = {"default": [], "vanilla": []}
    vanilla = recipe("density").override("latent", "gaussian").override("latent.dim", 32).override("use", None)
    for seed in range(args.seeds or 1):
        for side, settings in (("vanilla", {"train.doctor": "off"}), ("default", {})):
            before = cpu_seconds()
            spec = vanilla if side == "vanilla" else "density"
            ae = lt.Autoencoder(spec, kind="text", epochs=args.epochs, random_state=seed, settings=SETTINGS | settings)
            ae.fit(train)
            found = judged(ae, val, args.samples) | {"fit_cpu_s": cpu_seconds() - before}
            print(f"seed {seed}, {side}:", {k: round(v, 3) for k, v in found.items()}, flush=True)
            rows[side].append(found)
            if side == "default":
                model = ae
    mean = {side: {k: float(np.mean([r[k] for r in found])) for k in found[0]} for side, found in rows.items()}
    ours, other = mean["default"], mean["vanilla"]
    figures = {
        "iw_nll": ours["iw_nll"],
        "iw_nll_vanilla": other["iw_nll"],
        "iw_nll_gap": ours["iw_nll"] - other["iw_nll"],
        "mi": ours["mi"],
        "mi_vanilla": other["mi"],
        "active_share": ours["active_share"],
        "z_matters": ours["z_matters"],
        "density_fit_cpu_s": ours["fit_cpu_s"],
    }
    return model, figures, {"language_model_nll": ours["language_model"]}


def judged(ae: lt.Autoencoder, val: list[str], samples: int) -> dict[str, float]:
    """Figures on new captions."""
    from latente.uses.sequences import told_apart

    generator, model = torch.Generator().manual_seed(0), ae.model_
    (batch,) = [joined(list(ae.batches(val)))]
    found = bounds(model, batch, samples, generator)
    own, other = told_apart(model, batch, generator)
    figures = {
        "iw_nll": -float(found.log_p.mean()),
        "neg_elbo": -float(found.elbo.mean()),
        "kl": float(found.kl.mean()),
        "mi": mutual_information(model, batch, generator),
        "active_share": active_units(torch.from_numpy(ae.transform(val))) / ae._n_features_out,
        "z_matters": other - own,
    }
    alone = ae.use_ if ae.spec_.use is not None else None
    return figures | ({} if alone is None else {"language_model": -float(alone.log_p(batch).mean())})


def joined(batches: list[Batch]) -> Batch:
    masks = [b.observed if b.observed is not None else torch.ones_like(b.x, dtype=torch.bool) for b in batches]
    return Batch(torch.cat([b.x for b in batches]), torch.cat(masks))


def interpolations(ae: lt.Autoencoder, val: list[str]) -> dict[str, Any]:
    """Ways of nine steps between fifty pairs of new captions, by the likeliest tokens."""
    from difflib import SequenceMatcher

    def apart(a: str, b: str) -> float:
        return 1 - SequenceMatcher(None, a.split(), b.split(), autojunk=False).ratio()

    new, pairs, near, far = 0, 0, [], []
    codes = ae.transform(val[:100])
    for a, b in zip(codes[:50], codes[50:], strict=True):
        way = ae.decode(between(ae, a, b, 9))
        if way[0] == way[-1]:
            continue
        pairs += 1
        new += sum(text not in (way[0], way[-1]) for text in way[3:6])
        near.append(np.mean([apart(x, y) for x, y in pairwise(way)]))
        far.append(apart(way[0], way[-1]))
    print("a way:", *way, sep="\n  ")
    return {
        "interpolation_distinct_share": new / (3 * pairs),
        "interpolation_neighbours_nearer_share": float(np.mean(np.array(near) < np.array(far))),
        "interpolation_pairs": pairs,
    }


def speed(train: list[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Tokens per second of CPU, both sides in turn, each step on the same rows."""
    kind = Text(vocabulary=2000).learn(train)
    rows = kind.to_batch(train)
    model = recipe("density").override("kind", kind).model(0).train()
    model.center(kind.prepare(rows.rows(slice(0, 1000))))
    plain, loss = Plain(kind.size), Elbo()
    adams = [torch.optim.Adam(m.parameters(), fused=True) for m in (model, plain)]
    rates: dict[str, list[float]] = {"ours": [], "plain": []}
    torch.set_num_threads(1)
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))
    for turn in range(6):
        index = order[turn * 2560 : (turn + 1) * 2560].split(128)
        for side, adam in zip(("ours", "plain"), adams, strict=True):
            begun, tokens = time.process_time(), 0
            for some in index:
                batch = kind.prepare(rows.rows(some))
                assert batch.observed is not None
                tokens += int(batch.observed.sum())
                total = loss(model, batch).total if side == "ours" else plain(batch)
                adam.zero_grad()
                total.backward()
                adam.step()
            rates[side].append(tokens / (time.process_time() - begun))
    middle = {side: float(np.median(found[1:])) for side, found in rates.items()}
    print("tokens per CPU second:", {k: [round(v) for v in found] for k, found in rates.items()})
    return {"tokens_per_s": middle["ours"], "times_plain": middle["ours"] / middle["plain"]}, {
        "plain_pytorch_tokens_per_s": middle["plain"]
    }


class Plain(nn.Module):
    """The same VAE as one writes it down in PyTorch: padded rows, torch's GRU, a softmax over all tokens."""

    def __init__(self, size: int, width: int = 128, dim: int = 32) -> None:
        super().__init__()
        self.words, self.encoder = nn.Embedding(size, 64), nn.GRU(64, width, batch_first=True)
        self.head, self.first = nn.Linear(width, 2 * dim), nn.Linear(dim, width)
        self.decoder, self.out = nn.GRU(64 + dim, width, batch_first=True), nn.Linear(width, size)

    def forward(self, batch: Batch) -> torch.Tensor:
        assert batch.observed is not None
        tokens, seen = batch.x.long(), batch.observed
        longest = int(seen.sum(1).max())
        tokens, seen = tokens[:, :longest], seen[:, :longest]
        mean, log_scale = self.head(self.encoder(self.words(tokens))[0][:, -1]).chunk(2, -1)
        z = mean + log_scale.exp() * torch.randn_like(mean)
        before = F.pad(tokens[:, :-1], (1, 0))
        told = torch.cat([self.words(before), z[:, None].expand(-1, longest, -1)], -1)
        h, _ = self.decoder(told, torch.tanh(self.first(z))[None])
        rec = F.cross_entropy(self.out(h).flatten(0, 1), tokens.flatten(), reduction="none")
        kl = 0.5 * (mean.square() + (2 * log_scale).exp() - 1) - log_scale
        return (rec * seen.flatten()).sum() / len(tokens) + kl.sum(-1).mean()


def reconstruct(train: list[str], val: list[str], minutes: float) -> dict[str, Any]:
    before = cpu_seconds()
    torch.set_num_threads(1)
    ae = lt.Autoencoder("reconstruct", kind="text", time_limit=60 * minutes, random_state=0, settings=SETTINGS)
    ae.fit(train)
    spent = cpu_seconds() - before
    right = total = 0
    for batch in ae.batches(val):
        with torch.no_grad():
            again = ae.model_.decode(ae.model_.encode(batch).mean.unsqueeze(0)).mode[0]
        right += int(((again == batch.x) & batch.observed).sum())
        total += int(batch.observed.sum())
    for text, other in zip(val[:5], ae.reconstruct(val[:5]), strict=True):
        print("  ", text, "->", other)
    return {"free_running_accuracy": right / total, "reconstruct_cpu_s": spent}


def quijote(path: Path, quick: bool) -> dict[str, Any]:
    """As `latente fit quijote.txt` does."""
    before = cpu_seconds()
    texts = read(path, "text")
    ae = lt.Autoencoder(random_state=0, **({"steps": 30} if quick else {})).fit(texts)
    spent = cpu_seconds() - before
    known = set(words(path.read_text(encoding="utf-8")))
    new = ae.sample(500, random_state=1)
    found = [w for text in new for w in words(text)]
    cool = [w for text in ae.sample(500, random_state=1, temperature=0.7) for w in words(text)]
    print("new sentences:", *new[:6], sep="\n  ")
    return {
        "known_word_share": float(np.mean([w in known for w in found])),
        "known_word_share_at_temperature_0.7": float(np.mean([w in known for w in cool])),
        "fit_cpu_s": spent,
        "mojibake": sum("\ufffd" in text or "Ã" in text for text in new),
        "quijote_sentences": len(texts),
    }


def words(text: str) -> list[str]:
    return re.findall(r"[^\W\d_]+", text.lower())


if __name__ == "__main__":
    main()
