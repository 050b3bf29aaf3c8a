"""Learning the coder of qualities: colours, predictions, bases, then how large latents are likely to be."""

import numpy as np
import torch

from ...codec.blocks import (
    BASIS,
    CAP,
    CLASSES,
    COLOUR,
    FINE,
    FIRST,
    GROUPS,
    LARGEST,
    OCTAVE,
    PART,
    PREDICT,
    QUALITIES,
    SIZE,
    SYMBOL,
    SYMBOLS,
    Blocks,
    Choice,
    case_of,
    edge,
    padded,
)
from ...codec.columns import log16
from ...codec.tables import quantised

# Steps of the qualities in grey levels: about 27 to 38 dB on CIFAR's pictures. Chosen by nobody's test pictures.
STEPS = (76, 64, 54, 46, 38, 31, 25, 19)
# Latents of a block that are kept: those left out hold less than what rounding loses at the best quality.
KEPT = {1: 48, 3: 112}
# Pictures that predictions, likely sizes and tables are learned from, at the most, for pictures of 32×32 pixels.
_BASES, _SIZES, _TABLES = 20_000, 4_000, 1_500
_AREA = 32 * 32
_EPOCHS, _RATE, _BATCH = 3, 0.01, 1_024
# The step that predictions are drawn towards 0 for, and rounds of tables: choices depend on them, and they on choices.
_DRAWN, _ROUNDS = 40, 2


def learned(pixels: np.ndarray, seed: int) -> Blocks:
    """A coder of qualities from pictures uint8 [n, h, w, c]."""
    rng = np.random.default_rng(seed)
    pixels = pixels[rng.permutation(len(pixels))]
    area = pixels.shape[1] * pixels.shape[2]

    def some(count: int) -> np.ndarray:
        return pixels[-max(20, count * _AREA // max(area, _AREA // 4)) :]

    blocks = _with_bases(some(_BASES))
    few = some(_SIZES)
    plain = []
    for quality in range(QUALITIES):
        found: list[np.ndarray] = []
        Choice(blocks, few, quality, lambda i, which, z, found=found: found.append(z), plain=True).run()
        plain.append(np.stack(found, 1).reshape(len(few), -1, blocks.latents))
    blocks = _with_sizes(blocks, plain, seed)
    for _ in range(_ROUNDS):
        blocks = _with_tables(blocks, some(_TABLES))
    return blocks


def _with_bases(pixels: np.ndarray) -> Blocks:
    h, w, c = pixels.shape[1:]
    flat = pixels[::4].reshape(-1, c).astype(np.float64)
    turn = np.linalg.eigh(np.atleast_2d(np.cov(flat.T)))[1][:, ::-1] if c > 1 else np.ones((1, 1))
    turn = turn * np.where(turn.sum(0) < 0, -1, 1)
    planes = np.round((padded(pixels).astype(np.float64) - 128) @ turn * FINE)
    kept = KEPT[c]
    arrays: dict[str, np.ndarray] = {
        "shape": np.array([h, w, c], np.int32),
        "steps": np.array(STEPS, np.int32),
        "colour": np.round(turn.T * 2**COLOUR).astype(np.int16),
        "basis": np.zeros((4, SIZE * SIZE * c, kept), np.int16),
    }
    for case in range(4):
        inputs, outputs = [], []
        for y in range(0, planes.shape[1], SIZE):
            for x in range(0, planes.shape[2], SIZE):
                if case_of(y, x) == case:
                    inputs.append(edge(planes, y, x))
                    outputs.append(planes[:, y : y + SIZE, x : x + SIZE].reshape(len(planes), -1))
        if not inputs:  # of pictures of one row of blocks there are none
            width = {0: 1, 1: 2 * SIZE * c + 1, 2: 2 * SIZE * c + 1, 3: 4 * SIZE * c + 4 * c + 1}[case]
            arrays[f"predict{case}"] = np.zeros((width, SIZE * SIZE * c), np.int16)
            arrays["basis"][case] = arrays["basis"][0]
            continue
        a, b = np.concatenate(inputs), np.concatenate(outputs)
        gram = a.T @ a
        drawn = np.full(len(gram), len(a) * (_DRAWN * FINE) ** 2 / 24)
        drawn[-1] = 1.0
        predict = np.round(np.linalg.solve(gram + np.diag(drawn), a.T @ b) * 2**PREDICT)
        arrays[f"predict{case}"] = np.clip(predict, -32_768, 32_767).astype(np.int16)
        rest = b - a @ (arrays[f"predict{case}"] / 2**PREDICT)
        basis = np.linalg.eigh(rest.T @ rest / len(rest))[1][:, ::-1][:, :kept]
        arrays["basis"][case] = np.round(basis * 2**BASIS).astype(np.int16)
    for name in ("inner", "left", "above", "across"):
        arrays[name] = np.zeros((kept, kept), np.int32)
    arrays["quality"], arrays["case"] = np.zeros((QUALITIES, kept), np.int32), np.zeros((4, kept), np.int32)
    arrays["offsets"] = np.full((CLASSES, 4), 4, np.int16)
    arrays["tables"] = quantised(_prior())
    return Blocks(**arrays)


def _prior() -> np.ndarray:
    """Tables before anything is counted: magnitudes of Laplace's distribution of each class's scale."""
    scale = 2.0 ** (np.arange(CLASSES) / 4 + 0.125 - FIRST)
    ratio, size = np.exp(-1 / scale)[:, None], np.arange(LARGEST + 1)
    shares = np.where(size == 0, 1 - ratio**0.6, ratio ** (np.maximum(size, 1) - 0.4) * (1 - ratio))
    found = np.full((CLASSES, SYMBOLS), 1e-6)
    np.add.at(found.T, SYMBOL[: LARGEST + 1], shares.T)
    return np.tile(found / found.sum(1, keepdims=True), (len(GROUPS), 1))


def _with_sizes(blocks: Blocks, plain: list[np.ndarray], seed: int) -> Blocks:
    """The linear forms that say how large latents are likely to be, from those [n, blocks, l] of each quality."""
    wide, kept = -(-blocks.shape[1] // SIZE), blocks.latents
    parts: list[list[np.ndarray]] = [[], [], [], [], [], []]
    for quality, z in enumerate(plain):
        size = np.minimum(np.abs(z), 100).astype(np.uint8)
        none = np.zeros_like(size[:, 0])
        for at in range(size.shape[1]):
            row, column = divmod(at, wide)
            here = (size[:, at], size[:, at - 1] if column else none, size[:, at - wide] if row else none)
            case = case_of(row, column)
            across = size[:, at - wide - 1] if case == 3 else none
            told = (np.full(len(size), quality), np.full(len(size), case))
            for part, found in zip(parts, (*here, across, *told), strict=True):
                part.append(found)
    data = [torch.from_numpy(np.concatenate(p)) for p in parts]
    logs = torch.from_numpy(log16(np.arange(CAP + 1)) / 16).float()
    generator = torch.Generator().manual_seed(seed)
    mask = torch.triu(torch.ones(kept, kept), 1)
    inner, left, above, across_w = (torch.zeros(kept, kept) for _ in range(4))
    left += 0.1 * torch.eye(kept)
    above += 0.1 * torch.eye(kept)
    by_quality, by_case = torch.full((QUALITIES, kept), -2.0), torch.zeros(4, kept)
    weights = [inner, left, above, across_w, by_quality, by_case]
    for one in weights:
        one.requires_grad_(True)
    optimiser = torch.optim.Adam(weights, _RATE, betas=(0.9, 0.98))
    rows = len(data[0])
    steps = max(1, rows // _BATCH) * _EPOCHS
    done = 0
    for _ in range(_EPOCHS):
        order = torch.randperm(rows, generator=generator)
        for batch in order.split(_BATCH)[: max(1, rows // _BATCH)]:
            size, *near = (logs[d[batch].long().clamp(max=CAP)] for d in data[:4])
            form = size @ (inner * mask) + near[0] @ left + near[1] @ above + near[2] @ across_w
            form = form + by_quality[data[4][batch]] + by_case[data[5][batch]]
            inverse, m = torch.exp2(-form.clamp(-FIRST, 8)), data[0][batch].float()
            nothing = -torch.log(-torch.expm1(-0.6 * inverse) + 1e-9)
            much = (m - 0.4) * inverse - torch.log(-torch.expm1(-inverse) + 1e-9) + 0.693
            loss = torch.where(m == 0, nothing, much).sum(1).mean()
            for group in optimiser.param_groups:
                group["lr"] = _RATE * (1 - done / steps)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            done += 1

    def whole(weight: torch.Tensor, octaves: int) -> np.ndarray:
        return np.round(weight.detach().double().numpy() * 2.0**octaves).astype(np.int32)

    arrays = dict(blocks.arrays)
    arrays |= {"inner": whole(inner * mask, OCTAVE - 4), "left": whole(left, OCTAVE - 4)}
    arrays |= {"above": whole(above, OCTAVE - 4), "across": whole(across_w, OCTAVE - 4), "case": whole(by_case, OCTAVE)}
    arrays["quality"] = whole(by_quality, OCTAVE) + (FIRST << OCTAVE)
    return Blocks(**arrays)


def _with_tables(blocks: Blocks, pixels: np.ndarray) -> Blocks:
    """The coder with tables and offsets counted on what it chooses."""
    counts = np.zeros((len(GROUPS) * CLASSES, SYMBOLS))
    less, seen = np.zeros((CLASSES, 4)), np.zeros((CLASSES, 4))

    for quality in range(QUALITIES):
        choice = Choice(blocks, pixels, quality, lambda *_: None)

        def count(i: int, which: np.ndarray, z: np.ndarray, choice: Choice = choice) -> None:
            far = np.abs(z)
            np.add.at(counts, (which, SYMBOL[np.minimum(far, LARGEST + 1)]), 1)
            some = np.flatnonzero(far)
            at = which[some] % CLASSES, np.minimum(far[some], 3)
            np.add.at(less, at, far[some] - np.abs(choice.v[some, i]))
            np.add.at(seen, at, 1)

        choice.wrote = count
        choice.run()
    arrays = dict(blocks.arrays)
    arrays["tables"] = quantised(counts + 20 * _prior())
    offsets = np.clip(np.round(PART * (less + 3 * 0.06) / (seen + 3)), -16, 31)
    offsets[:, 0] = 0
    arrays["offsets"] = offsets.astype(np.int16)
    return Blocks(**arrays)
