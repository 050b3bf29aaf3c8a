"""Where, in what numbers, by which kernels and on how many threads the nets compute."""

import contextlib
import json
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch
from torch import nn

from ..atomic import atomic_write, cache
from ..errors import ConfigError, LatenteError
from ..model.spec import Train

# Below this many weights the matrix products are no longer most of a step, and casting costs more than it saves.
LARGE = 200_000
# Operations of a step below which one thread is enough.
SMALL_STEP = 2e9
# oneDNN must be so much faster than torch's default in the median to be taken: less may be noise.
MARGIN = 1.15
# Rows, inputs and outputs of the layer that is timed, and tries of each side: a tenth of a second in all.
PROBE, TRIES = (256, 784, 512), 9


@dataclass(frozen=True)
class Choice:
    """How a training run computes, and why, in a sentence each. onednn: whether products with weights go through
    oneDNN's own operation in a written-out step.
    """

    precision: str
    onednn: bool
    threads: int
    why: dict[str, str]

    @property
    def how(self) -> tuple[str, bool, int]:
        """What the numbers' last digits depend on."""
        return self.precision, self.onednn, self.threads


def kernels_of(model: nn.Module, config: Train, written_out: bool = False) -> Choice:
    """The choice for a model. written_out: whether its step is (training/fused.py)."""
    precision, why = _precision(model, config)
    reasons = {"precision": why}
    threads, reasons["threads"] = _threads(model, config)
    onednn, reasons["kernel"] = _kernel(model, config, precision, threads, written_out)
    return Choice(precision, onednn, threads, reasons)


def device_of(wanted: str) -> str:
    """The device's name; "auto" is the GPU if there is one."""
    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if wanted == "cuda" and not torch.cuda.is_available():
        raise ConfigError(
            "device 'cuda' was asked for, and this machine has none that torch can use", hint="--device cpu"
        )
    if wanted not in ("cpu", "cuda"):
        raise ConfigError(f"there is no device called {wanted!r}", hint="--device auto, cpu or cuda")
    return wanted


def bfloat16_is_native(device: str) -> bool:
    """Whether the device multiplies bfloat16 in hardware."""
    if device == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    able = torch.cpu.get_capabilities()
    return bool(able.get("avx512_bf16") or able.get("amx_bf16") or able.get("bf16"))


@contextmanager
def threads_for(choice: Choice) -> Iterator[int]:
    """The chosen number of threads; what it was is put back afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(choice.threads)
    try:
        yield choice.threads
    finally:
        torch.set_num_threads(before)


def machine() -> dict[str, Any]:
    """The processor and what was measured on it, for `doctor`: measures now if it was not done before."""
    threads = torch.get_num_threads()
    found, kept = _measured(threads)
    return {
        "processor": processor(),
        "threads": threads,
        "bfloat16": "native" if bfloat16_is_native("cpu") else "not native",
        "float32_kernel": _by_name(_wins(found) if kept else _vendor_rule()),
        "float32_ms": {name: round(ms, 3) for name, ms in found.items()},
    }


def processor() -> str:
    """The processor's name."""
    return str(torch.cpu.get_capabilities().get("cpu_name") or platform.processor() or platform.machine())


def _precision(model: nn.Module, config: Train) -> tuple[str, str]:
    """ "bfloat16" for large nets where the processor multiplies it natively, else "float32".

    By the processor's word, not by a stopwatch: a choice that a busy moment could turn would make runs unrepeatable.
    """
    if config.precision != "auto":
        return config.precision, "it was asked for"
    weights = sum(p.numel() for p in model.parameters())
    if weights < LARGE:
        return "float32", f"{weights:,} weights are fewer than {LARGE:,}: casting would cost more than it saves"
    if not bfloat16_is_native(device_of(config.device)):
        return "float32", "this processor does not multiply bfloat16 natively"
    return "bfloat16", "the nets are large and this processor multiplies bfloat16 natively"


def _threads(model: nn.Module, config: Train) -> tuple[int, str]:
    """One thread while steps are small, else all.

    A small step is mostly little operations, during which the second core spins: below SMALL_STEP two cores took 1.3 to
    2 times the CPU seconds of one, and .7 to 1 times its wall time; of a written-out step 1.8 times and .7 to 1.1. With
    a busy neighbour two threads wait for each other: an epoch of 3.7 s in one thread took 55 s in two.
    """
    # Forward, and backward by weights and by inputs: three products of two operations for each weight and row.
    work = 6 * config.batch_size * sum(p.numel() for p in model.parameters())
    # A convolution uses each weight once a pixel: never small.
    if work < SMALL_STEP and not any(isinstance(m, nn.Conv2d) for m in model.modules()):
        return 1, f"steps of {work / 1e9:.2g} billion operations are too small to be shared"
    return torch.get_num_threads(), f"steps of {work / 1e9:.2g} billion operations or more"


def _kernel(model: nn.Module, config: Train, precision: str, threads: int, written_out: bool) -> tuple[bool, str]:
    if not written_out or device_of(config.device) != "cpu":
        return False, "torch's own: the step is not written out"
    if precision == "bfloat16":
        able = bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
        return able, f"{_by_name(able)}: bias and activation are part of the product where oneDNN takes bfloat16"
    if sum(p.numel() for p in model.parameters()) < LARGE:
        return False, "torch's own: the nets are small"
    found, kept = _measured(threads)
    if not kept:
        return _vendor_rule(), f"{_by_name(_vendor_rule())}, by the processor's maker: no measurement could be kept"
    shown = ", ".join(f"{name} {ms:.2f} ms" for name, ms in found.items())
    return _wins(found), f"{_by_name(_wins(found))}, as measured once on this machine ({shown})"


def _by_name(onednn: bool) -> str:
    return "oneDNN" if onednn else "torch's own"


def _wins(found: dict[str, float]) -> bool:
    return found["default"] > MARGIN * found["onednn"]


def _vendor_rule() -> bool:
    """MKL, torch's default, is at its best on Intel's processors alone."""
    return torch.backends.mkldnn.is_available() and "amd" in processor().lower()


def _measured(threads: int) -> tuple[dict[str, float], bool]:
    """Milliseconds of a layer's forward and backward product in float32 by each kernel, and whether they are kept.

    They are measured once for a processor, a torch and a number of threads, and remembered in the user's cache folder:
    a stopwatch that decided anew in each run would make runs unrepeatable.
    """
    path = cache("kernels.json")
    key = f"{processor()} · torch {torch.__version__} · threads {threads}"
    known: dict[str, Any] = {}
    with contextlib.suppress(OSError, ValueError):
        read = json.loads(path.read_text(encoding="utf-8"))
        known = read if isinstance(read, dict) else {}
    found = known.get(key)
    if isinstance(found, dict) and all(isinstance(found.get(n), float) for n in ("default", "onednn")):
        return found, True
    found = _race(threads)
    try:
        text = json.dumps(known | {key: found}, indent=1, sort_keys=True, ensure_ascii=False)
        atomic_write(path, text.encode())
    except (LatenteError, OSError):
        return found, False
    return found, True


def _race(threads: int) -> dict[str, float]:
    """Both sides in turn, so that a busy moment meets both."""
    rows, inputs, outputs = PROBE
    generator = torch.Generator().manual_seed(0)
    x, w = (torch.randn(n, inputs, generator=generator) for n in (rows, outputs))
    g, bias = torch.randn(rows, outputs, generator=generator), torch.zeros(outputs)
    out, back = torch.empty(rows, outputs), torch.empty(rows, inputs)
    linear = torch.ops.mkldnn._linear_pointwise

    def default() -> None:
        torch.addmm(bias, x, w.t(), out=out)
        torch.mm(g, w, out=back)

    def onednn() -> None:
        linear(x, w, bias, "none", [], None)
        linear(g, w.t(), None, "none", [], None)

    sides: dict[str, Callable[[], None]] = {"default": default}
    if torch.backends.mkldnn.is_available():
        sides["onednn"] = onednn
    times: dict[str, list[float]] = {name: [] for name in ("default", "onednn")}
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        for _ in range(TRIES):
            for name, side in sides.items():
                start = time.perf_counter()
                side()
                times[name].append(1e3 * (time.perf_counter() - start))
    finally:
        torch.set_num_threads(before)
    # Never the faster one where it does not exist.
    return {name: round(median(t), 4) if t else 1e9 for name, t in times.items()}
