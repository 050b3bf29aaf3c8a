"""What a model of texts or tunes makes, for its run folder: to read, to hear, to look at."""

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ..estimator import Autoencoder
from ..kinds.base import DataWarning
from ..kinds.music import Music, tunes_of
from ..kinds.tunes import Tunes, cut
from ..kinds.writing import write
from .rows import one
from .ways import between

# New texts, and tunes; rows that are reconstructed; ways and their steps.
TEXTS, TUNES, AGAIN, WAYS, STEPS = 40, 6, 10, 4, 7
# Characters of a line of ways.txt.
WIDE = 240


def specimens(ae: Autoencoder, raw: Any, folder: Path) -> None:
    """Of texts samples.txt and ways.txt (each way after the texts that it goes between, then reconstructions); of tunes
    samples.mid, samples.png and samples.wav, and reconstructions.png, tunes above what their codes say.
    """
    if isinstance(ae.schema_, Music):
        tunes = ae.sample(TUNES, random_state=0)
        for ending in (".mid", ".png", ".wav"):
            write(tunes, folder / f"samples{ending}")
        windows = [w for _, w in ae.schema_.windows(tunes_of(ae.rows(raw))) if len(w.pitch)]
        chosen = [windows[i] for i in np.linspace(0, len(windows) - 1, min(WAYS, len(windows))).astype(int)]
        pairs = [(a, cut(b, 0, a.steps)) for a, b in zip(chosen, ae.decode(ae.transform(chosen)), strict=True)]
        named = [replace(t, name=f"{word}{a.name}") for a, b in pairs for t, word in ((a, ""), (b, "its code: "))]
        write(Tunes(tuple(named)), folder / "reconstructions.png")
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)  # of a few rows, what was said of all of them
        _texts(ae, raw, folder)


def _texts(ae: Autoencoder, raw: Any, folder: Path) -> None:
    write(ae.sample(TEXTS, random_state=0), folder / "samples.txt")
    rows = ae.rows(raw)
    chosen = [str(one(rows, i)[0]) for i in np.linspace(0, len(rows) - 1, min(AGAIN, len(rows))).astype(int)]
    codes, lines = ae.transform(chosen), []
    for i in range(min(WAYS, len(chosen) - 1)):
        lines += [f"from: {chosen[i]}", *(f"  {t}" for t in ae.decode(between(ae, codes[i], codes[i + 1], STEPS)))]
        lines.append(f"to:   {chosen[i + 1]}")
    again = ae.decode(codes)
    lines += [line for a, b in zip(chosen, again, strict=True) for line in (f"text: {a}", f"code: {b}")]
    write([line if len(line) <= WIDE else f"{line[:WIDE]} …" for line in lines], folder / "ways.txt")
