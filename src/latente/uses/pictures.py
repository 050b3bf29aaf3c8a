"""Pictures of what a model of pictures learned."""

from pathlib import Path
from typing import Any

import numpy as np

from ..estimator import Autoencoder
from ..kinds.image import as_pictures
from ..kinds.writing import write

# Pictures a row of the album's sheets.
ACROSS = 10


def album(ae: Autoencoder, raw: Any, folder: Path) -> None:
    """reconstructions.png (five rows of originals, each above its reconstructions) and samples.png (100 draws)."""
    pixels, _ = as_pictures(raw)
    # Evenly over the data: a folder of class folders shows every class.
    chosen = pixels[np.linspace(0, len(pixels) - 1, min(5 * ACROSS, len(pixels))).astype(int)]
    redone = rgb(ae.inverse_transform(ae.transform(chosen)))
    sheet = []
    for start in range(0, len(chosen) - len(chosen) % ACROSS or len(chosen), ACROSS):
        sheet += [*rgb(chosen[start : start + ACROSS]), *redone[start : start + ACROSS]]
    write(np.stack(sheet), folder / "reconstructions.png")
    write(rgb(ae.sample(ACROSS**2, random_state=0)), folder / "samples.png")


def rgb(pictures: np.ndarray) -> np.ndarray:
    """Pictures as uint8 [n, h, w, c]."""
    return as_pictures(pictures)[0]
