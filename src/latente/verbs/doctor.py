"""doctor: is this machine ready, and how will it compute?"""

from typing import Any


def doctor() -> dict[str, Any]:
    """The machine and how latente will use it: versions, processor, threads, precision, memory, disk."""
    import os
    import platform
    import shutil
    from importlib.metadata import version

    import torch

    from ..training.precision import LARGE, bfloat16_is_native, device_of, machine

    device = device_of("auto")
    native = bfloat16_is_native(device)
    free = shutil.disk_usage(".").free / 1e9
    found = machine()
    times = ", ".join(f"{name} {ms:.2f} ms" for name, ms in found["float32_ms"].items())
    problems = []
    if free < 1:
        problems.append(f"only {free:.1f} GB of disk are free here: run folders and checkpoints need room")
    if not os.access(".", os.W_OK):
        problems.append("this folder cannot be written to: give -o another place")
    return {
        "latente": version("latente"),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "processor": found["processor"],
        "threads": found["threads"],
        "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
        "bfloat16": "native" if native else "not native",
        "precision": f"bfloat16 for nets of {LARGE:,} weights and more, else float32" if native else "float32",
        "float32_kernel": f"{found['float32_kernel']} for large written-out steps ({times} a layer, measured once)",
        "memory_gb": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9, 1),
        "disk_free_gb": round(free, 1),
        "verdict": "; ".join(problems) or "ready",
    }
