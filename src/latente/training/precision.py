"""Where and in what numbers the nets compute."""

import torch
from torch import nn

from ..errors import ConfigError
from ..model.spec import Train

# Below this many weights the matrix products are no longer most of a step, and casting costs more than it saves.
LARGE = 200_000


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


def bfloat16_is_native(device: str) -> bool:
    """Whether the device multiplies bfloat16 in hardware."""
    if device == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    able = torch.cpu.get_capabilities()
    return bool(able.get("avx512_bf16") or able.get("amx_bf16") or able.get("bf16"))
