#!/usr/bin/env python
"""Tunes: Bach's chorales in quarters, and Nottingham's folk tunes.

chorales  preset `density` on whole chorales: bound on −log p in nats per frame on the validation part, beside the same
          decoder without a code, and frames as independent keys given the frame before
melodies  preset `reconstruct` on two bars of melody: share of notes that come back with pitch, start and length, of
          tunes that the model has not seen
validity  1,000 new tunes of the melody model as MIDI: does each open in mido and in pretty_midi? one as WAV, timed

    bench/music.py [--only PART …] [--seeds 1] [--minutes 10] [--data DIR] [--quick]

Everything was chosen on held-out rows of the training parts.
"""

import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import arguments, cpu_seconds, finish, place

import latente as lt
from latente.kinds.reading import read
from latente.kinds.tunes import Tunes, roll
from latente.model.estimates import bounds
from latente.uses.sequences import told_apart

PARTS = ("chorales", "melodies", "validity")


def main() -> None:
    args = arguments(
        __doc__,
        only={"nargs": "+", "choices": PARTS, "default": list(PARTS), "help": "some of the parts"},
        minutes={"type": float, "default": 10.0, "help": "minutes of the melody model"},
        samples={"type": int, "default": 50, "help": "importance samples a chorale"},
    )
    start = time.perf_counter()
    folder = place(args.data, "music", "fetch the JSB chorales (quarter) and Nottingham's ABC files")
    figures: dict[str, Any] = {}
    peers: dict[str, Any] = {}
    if "chorales" in args.only:
        found, other = chorales(folder / "jsb-chorales-quarter.json", args)
        figures |= found
        peers |= other
    if {"melodies", "validity"} & set(args.only):
        model, found = melodies(folder / "nottingham" / "abc", args)
        figures |= found
        if "validity" in args.only:
            figures |= validity(model, 50 if args.quick else 1000)
    finish("music", figures, peers, start)


def chorales(path: Path, args: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    train, valid = (read(f"{path}:{part}", "music", grid=1) for part in ("train", "valid"))
    assert isinstance(train, Tunes)
    assert isinstance(valid, Tunes)
    short = {"steps": 20} if args.quick else {}
    rows = []
    for seed in range(args.seeds or 1):
        before = cpu_seconds()
        ae = lt.Autoencoder(kind={"part": "music", "grid": 1}, random_state=seed, **short).fit(train)
        rows.append(per_frame(ae, valid, args.samples) | {"fit_cpu_s": cpu_seconds() - before})
        print(f"seed {seed}:", {k: round(v, 3) for k, v in rows[-1].items()}, flush=True)
    mean = {k: float(np.mean([row[k] for row in rows])) for k in rows[0]}
    alone = mean.pop("without_code")
    return {
        "nll_per_frame": mean["iw"],
        "neg_elbo_per_frame": mean["neg_elbo"],
        "chorales_z_matters": mean["z_matters"],
    } | {"chorales_fit_cpu_s": mean["fit_cpu_s"]}, {
        "nll_per_frame_without_code": alone,
        "nll_per_frame_of_keys": keys(train, valid),
    }


def per_frame(ae: lt.Autoencoder, tunes: Tunes, samples: int) -> dict[str, float]:
    """Nats per frame, frames averaged."""
    frames, generator = sum(t.steps for t in tunes), torch.Generator().manual_seed(0)
    sums = dict.fromkeys(("iw", "neg_elbo", "without_code"), 0.0)
    matters = 0.0
    for batch in ae.batches(tunes):
        found = bounds(ae.model_, batch, samples, generator)
        own, other = told_apart(ae.model_, batch, generator)
        sums["iw"] -= float(found.log_p.sum())
        sums["neg_elbo"] -= float(found.elbo.sum())
        sums["without_code"] -= float(ae.use_.log_p(batch).sum())
        matters += (other - own) * len(batch)
    return {name: nats / frames for name, nats in sums.items()} | {"z_matters": matters / frames}


def keys(train: Tunes, valid: Tunes) -> float:
    """Each key by itself, given whether it sounded in the frame before: what counting gives, in nats per frame."""
    counts = np.ones((2, 2, 128)) * 0.5
    for tune in train:
        on = np.pad(roll(tune), ((1, 0), (0, 0))).astype(int)
        for a, b in pairwise(on):
            counts[a, b, np.arange(128)] += 1
    p = counts / counts.sum(1, keepdims=True)
    nats = frames = 0.0
    for tune in valid:
        on = np.pad(roll(tune), ((1, 0), (0, 0))).astype(int)
        nats -= float(np.log(p[on[:-1], on[1:], np.arange(128)]).sum())
        frames += tune.steps
    return nats / frames


def melodies(folder: Path, args: Any) -> tuple[lt.Autoencoder, dict[str, Any]]:
    tunes = read(folder, "music")
    assert isinstance(tunes, Tunes)
    order = np.random.default_rng(0).permutation(len(tunes)).tolist()
    new, old = (Tunes(tuple(tunes[i] for i in part)) for part in (order[: len(tunes) // 10], order[len(tunes) // 10 :]))
    before = cpu_seconds()
    torch.set_num_threads(1)
    limit = 20.0 if args.quick else 60 * args.minutes
    ae = lt.Autoencoder("reconstruct", kind="music", time_limit=limit, random_state=0).fit(old)
    spent = cpu_seconds() - before
    windows = [w for _, w in ae.schema_.windows(new)]
    z = torch.from_numpy(ae.transform(new))
    again = ae.schema_.restore(ae._cells(z, "mode", 0, None))
    found = [(notes(a), notes(b)) for a, b in zip(windows, again, strict=True)]
    return ae, {
        "note_accuracy": sum(len(a & b) for a, b in found) / sum(len(a) for a, _ in found),
        "melody_windows": len(windows),
        "melodies_fit_cpu_s": spent,
    }


def notes(tune: Any) -> set[tuple[int, int, int]]:
    return set(zip(tune.pitch.tolist(), tune.start.tolist(), tune.length.tolist(), strict=True))


def validity(ae: lt.Autoencoder, n: int) -> dict[str, Any]:
    import mido
    import pretty_midi

    valid = 0
    with tempfile.TemporaryDirectory() as place_:
        paths = lt.write(ae.sample(n, random_state=1), Path(place_) / "tunes")
        for path in paths:
            try:
                opened = mido.MidiFile(path)
                valid += len(opened.tracks) > 0 and pretty_midi.PrettyMIDI(str(path)).get_end_time() >= 0
            except Exception as error:
                print(f"{path.name}: {error}")
        begun = time.perf_counter()
        lt.write(ae.sample(1, random_state=2), Path(place_) / "one.wav")
        seconds = time.perf_counter() - begun
    return {"midi_valid_share": valid / len(paths), "midi_files": len(paths), "wav_s": seconds}


if __name__ == "__main__":
    main()
