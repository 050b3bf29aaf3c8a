"""Nets of whole numbers: the same output on every machine, whatever order sums are taken in.

    h = clip(⌊(W h + b) / 2^shift⌋, 0, cap) layer after layer; the last is not clipped at 0

Weights are int16, and float64 holds every whole number below 2^53: a product of matrices in float64 is exact as long as
no sum of absolute values can reach that, which is checked when a net is made.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

# The largest that a hidden unit can be, and the parts of 1 of hidden units and of weights.
CAP, UNIT, WEIGHT = 4095, 256, 1024
_EXACT = 1 << 53


class Exact:
    """weights: int16 [out, in] each; biases: int64 [out] each; shifts: of each layer; largest: of what comes in.

    places: two arrays int64 [n, out] that add to the first layer's bias, for where an input comes from: its row and its
    column.
    """

    def __init__(
        self,
        weights: Sequence[np.ndarray],
        biases: Sequence[np.ndarray],
        shifts: Sequence[int],
        largest: int,
        places: tuple[np.ndarray, np.ndarray] | None = None,
    ) -> None:
        self.weights, self.biases, self.shifts = list(weights), list(biases), list(shifts)
        self.largest, self.places = largest, places
        self._w = [w.astype(np.float64) for w in self.weights]
        self._b = [b.astype(np.float64)[:, None] for b in self.biases]
        most = largest
        for i, (w, b) in enumerate(zip(self.weights, self.biases, strict=True)):
            offset = np.abs(b) + (sum(np.abs(p).max(0) for p in places) if i == 0 and places is not None else 0)
            if w.ndim != 2 or b.shape != (len(w),) or not 0 <= shifts[i] < 40:
                raise ValueError("layers of a net do not go together")
            if i and w.shape[1] != len(self.weights[i - 1]):
                raise ValueError("layers of a net do not go together")
            if (np.abs(w.astype(np.int64)).sum(1) * most + offset >= _EXACT).any():
                raise ValueError("sums of a net could be larger than what is exact")
            most = CAP

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """What it is made of."""
        found = {f"weight{i}": w for i, w in enumerate(self.weights)} | {
            f"bias{i}": b for i, b in enumerate(self.biases)
        }
        found |= {"shifts": np.array(self.shifts, np.int32), "largest": np.array([self.largest], np.int64)}
        return found if self.places is None else found | {"row": self.places[0], "column": self.places[1]}

    @staticmethod
    def of(arrays: dict[str, np.ndarray]) -> "Exact":
        """Raises LookupError, ValueError for what `arrays` does not give."""
        count = len(arrays["shifts"])
        weights, biases = ([arrays[f"{n}{i}"] for i in range(count)] for n in ("weight", "bias"))
        shifts = [int(s) for s in arrays["shifts"]]
        places = (arrays["row"], arrays["column"]) if "row" in arrays else None
        return Exact(weights, biases, shifts, int(arrays["largest"][0]), places)

    @property
    def inputs(self) -> int:
        return self.weights[0].shape[1]

    @property
    def outputs(self) -> int:
        return len(self.weights[-1])

    def __call__(self, rows: np.ndarray, place: tuple[int, int] = (0, 0)) -> NDArray[np.int16]:
        """Whole numbers [in, n] -> [out, n]. place: the row and column that they come from."""
        h = np.clip(rows, -self.largest, self.largest).astype(np.float64)
        for i, (w, b, shift) in enumerate(zip(self._w, self._b, self.shifts, strict=True)):
            h = w @ h + b
            if i == 0 and self.places is not None:
                h += (self.places[0][place[0]] + self.places[1][place[1]]).astype(np.float64)[:, None]
            h *= 2.0**-shift
            np.floor(h, out=h)
            if i < len(self._w) - 1:
                np.clip(h, 0, CAP, out=h)
        return np.clip(h, -32_000, 32_000).astype(np.int16)
