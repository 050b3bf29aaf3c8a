#!/usr/bin/env python
"""A convolutional VAE on MNIST: pictures per second of training, and the share of the device's bfloat16 peak.

The peak is measured: large bfloat16 products for a second. Operations of a step are counted by torch. On a machine with
a GPU that is what is measured, and the largest gap between its losses and the processor's (recipe `ae`, float32, 20
steps) beside it.

    bench/conv.py [--device auto] [--seconds 20] [--data DIR] [--quick]
"""

import time
from typing import Any

import numpy as np
from common import arguments, finish, mnist


def main() -> None:
    args = arguments(
        __doc__,
        device={"default": "auto", "help": "auto, cpu or cuda"},
        seconds={"type": float, "default": 20.0, "help": "length of the run"},
        batch={"type": int, "default": 256, "help": "pictures a step"},
    )
    start = time.perf_counter()
    import torch

    from latente.training.precision import device_of

    device = device_of(args.device)
    pixels, _ = mnist(args.data)
    seconds = 3.0 if args.quick else args.seconds
    history, operations = run(pixels, "vae", device, args.batch, time_limit=seconds)
    rate = history.steps * args.batch / history.seconds
    peak = measured_peak(device)
    figures: dict[str, Any] = {
        "pictures_per_s": round(rate),
        "peak_share": round(rate / args.batch * operations / peak, 3),
        "peak_tflops": round(peak / 1e12, 2),
        "precision": history.precision,
        "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
    }
    if device == "cuda":
        losses = [
            [r["train"]["loss"] for r in run(pixels[:5120], "ae", d, 256, steps=20, precision="float32")[0].rows]
            for d in ("cpu", "cuda")
        ]
        figures["cpu_gpu_gap"] = float(np.abs(np.subtract(*losses)).max())
    finish("conv", figures, {}, start)


def run(pixels: np.ndarray, name: str, device: str, batch: int, **options: Any) -> tuple[Any, float]:
    """The history of a fit, and the operations of one of its steps."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from latente.kinds.image import Image
    from latente.model.nets.conv import Conv
    from latente.model.spec import Spec, Train, recipe
    from latente.training.loop import train

    kind = Image(likelihood="bernoulli").learn(pixels)
    base = recipe(name)
    config = Train(batch_size=batch, validation=0.0, device=device, **options)
    model = Spec(kind, Conv(), base.latent, base.prior, base.objective, None, config).model(0)
    data = kind.to_batch(pixels)
    with FlopCounterMode(display=False) as counter:
        model.train()
        model.generator = torch.Generator().manual_seed(0)
        base.objective(model, kind.prepare(data.rows(slice(0, batch)))).total.backward()
    model.zero_grad()
    return train(model, base.objective, data, kind, config), counter.get_total_flops()


def measured_peak(device: str) -> float:
    """Operations per second of large bfloat16 products."""
    import torch

    n = 8192 if device == "cuda" else 2048
    a, b = (torch.ones(n, n, dtype=torch.bfloat16, device=device) for _ in range(2))
    best, begin = 0.0, time.perf_counter()
    while time.perf_counter() - begin < 1.5:
        at = time.perf_counter()
        a @ b
        if device == "cuda":
            torch.cuda.synchronize()
        best = max(best, 2 * n**3 / (time.perf_counter() - at))
    return best


if __name__ == "__main__":
    main()
