"""A fitted model's latents as whole numbers, and its decoder as a net of whole numbers."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from ...codec.exact import Exact
from ...model.batch import Batch
from ...model.nets.layers import Stack

# What a decoder says of a pixel is told in so many parts of 1 of its own unit (a logit), and in 255ths of white.
TOLD = 16
# Parts of 1 of hidden units, which then reach 64; and of weights, at the most.
HIDDEN, FINEST = 64, 1 << 14
# Codes farther from 0 than this do not occur, or are cut.
_LARGEST = 4_095
_ROWS = 1_000


def exact_of(model: Any) -> Exact | None:
    """The decoder in whole numbers, its output the first number that it gives of each pixel; None if it is none of
    linear layers and relu.
    """
    body = model.decoder
    stack = body[0] if isinstance(body, nn.Sequential) and len(body) == 2 else body
    if not isinstance(stack, Stack) or set(stack.acts[:-1]) - {"relu"} or any(stack.skips):
        return None
    layers = list(stack.layers)
    cells = int(np.prod(model.likelihood.continuous.shape))
    weights, biases, shifts = [], [], []
    scale = 1.0  # parts of 1 in what a layer is given
    for i in range(len(layers)):
        weight, bias = stack.weights[2 * i : 2 * i + 2]
        w, b = weight.detach().double().numpy(), bias.detach().double().numpy()
        if i == len(layers) - 1:
            w, b = w[:cells], b[:cells]
        into = HIDDEN if i < len(layers) - 1 else TOLD
        # The finest weights that int16 holds.
        fine = min(FINEST, 2.0 ** np.floor(np.log2(32_000 / max(np.abs(w).max(), 1e-6))))
        shift = int(np.log2(scale * fine / into))
        if shift < 0:
            fine, shift = fine * 2.0**-shift, 0
        weights.append(np.clip(np.rint(w * fine), -32_768, 32_767).astype(np.int16))
        half = 2.0 ** (shift - 1) if shift else 0.0  # floors become the nearest
        biases.append(np.rint(b * fine * scale + half).astype(np.int64))
        shifts.append(shift)
        scale = scale * fine / 2**shift
    return Exact(weights, biases, shifts, _LARGEST)


def whole_codes(model: Any) -> Callable[[np.ndarray], np.ndarray]:
    """What makes of pictures uint8 [n, h, w, c] their codes, rounded. int64 [n, d]"""

    def codes(pixels: np.ndarray) -> np.ndarray:
        found = []
        with torch.no_grad():
            for start in range(0, len(pixels), _ROWS):
                some = pixels[start : start + _ROWS].transpose(0, 3, 1, 2).copy()
                mean = model.encode(Batch(torch.from_numpy(some).float().div_(255))).mean
                found.append(mean.round().clamp(-_LARGEST, _LARGEST).long().numpy())
        return np.concatenate(found)

    return codes
