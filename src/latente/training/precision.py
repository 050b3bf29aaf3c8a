"""Where and in what numbers the nets compute."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from ..errors import ConfigError
from ..model.spec import Train

# Below this many weights the matrix products are no longer most of a step, and casting costs more than it saves.
LARGE = 200_000
# Operations of a step below which one thread is enough.
SMALL_STEP = 2e9


def device_of(wanted: str) -> str:
    """The device's name; "auto" is the GPU if there is one."""
    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if wanted == "cuda" and not torch.cuda.is_available():
        raise ConfigError(
            "device 'cuda' was asked for, and this machine has none that torch can use", hint="device='cpu'"
        )
    if wanted not in ("cpu", "cuda"):
        raise ConfigError(f"there is no device called {wanted!r}", hint="device='auto', 'cpu' or 'cuda'")
    return wanted


def precision_of(model: nn.Module, config: Train) -> str:
    """ "bfloat16" for large nets where the processor multiplies it natively, else "float32".

    By the processor's word, not by a stopwatch: a choice that a busy moment could turn would make runs unrepeatable.
    """
    if config.precision != "auto":
        return config.precision
    large = sum(p.numel() for p in model.parameters()) >= LARGE
    return "bfloat16" if large and bfloat16_is_native(device_of(config.device)) else "float32"


@contextmanager
def threads_for(model: nn.Module, config: Train) -> Iterator[int]:
    """One thread while steps are small, else all; the number is put back afterwards.

    Below SMALL_STEP a step is mostly hundreds of little operations, during which the second core spins: measured at
    .8 billion operations a step, two cores took 1.3 to 2 times the CPU seconds of one, and .7 to 1 times its wall time.
    """
    before = torch.get_num_threads()
    # Forward, and backward by weights and by inputs: three products of two operations for each weight and row.
    work = 6 * config.batch_size * sum(p.numel() for p in model.parameters())
    # A convolution uses each weight once a pixel: never small.
    small = work < SMALL_STEP and not any(isinstance(m, nn.Conv2d) for m in model.modules())
    torch.set_num_threads(1 if small else before)
    try:
        yield torch.get_num_threads()
    finally:
        torch.set_num_threads(before)


def bfloat16_is_native(device: str) -> bool:
    """Whether the device multiplies bfloat16 in hardware."""
    if device == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    able = torch.cpu.get_capabilities()
    return bool(able.get("avx512_bf16") or able.get("amx_bf16") or able.get("bf16"))
