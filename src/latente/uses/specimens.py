"""What a model of texts or tunes makes, for its run folder: to read, to hear, to look at."""

from pathlib import Path
from typing import Any

import numpy as np

from ..estimator import Autoencoder
from ..kinds.text import Text
from ..kinds.writing import write
from .rows import one
from .ways import between

# New texts, and tunes; rows that are reconstructed; ways and their steps.
TEXTS, TUNES, AGAIN, WAYS, STEPS = 40, 6, 10, 4, 7


def specimens(ae: Autoencoder, raw: Any, folder: Path) -> None:
    """Of texts samples.txt and ways.txt (each way after the texts that it goes between, then reconstructions); of tunes
    samples.mid, samples.png and samples.wav.
    """
    if not isinstance(ae.schema_, Text):
        tunes = ae.sample(TUNES, random_state=0)
        for ending in (".mid", ".png", ".wav"):
            write(tunes, folder / f"samples{ending}")
        return
    write(ae.sample(TEXTS, random_state=0), folder / "samples.txt")
    rows = ae.rows(raw)
    chosen = [str(one(rows, i)[0]) for i in np.linspace(0, len(rows) - 1, min(AGAIN, len(rows))).astype(int)]
    codes, lines = ae.transform(chosen), []
    for i in range(min(WAYS, len(chosen) - 1)):
        lines += [f"from: {chosen[i]}", *(f"  {t}" for t in ae.decode(between(ae, codes[i], codes[i + 1], STEPS)))]
        lines.append(f"to:   {chosen[i + 1]}")
    again = ae.decode(codes)
    lines += [line for a, b in zip(chosen, again, strict=True) for line in (f"text: {a}", f"code: {b}")]
    write(lines, folder / "ways.txt")
