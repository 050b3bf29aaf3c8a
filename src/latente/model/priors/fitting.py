"""Maximum likelihood for a prior that is fitted to codes when training is over."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

# Rows of a step, the largest number of steps, the peak rate of Adam, and the share of the codes that are held out. By
# trials on the codes of digits and MNIST: more steps gain less than .1 nats a row.
BATCH, STEPS, RATE, HELD_OUT = 256, 3000, 2e-3, 0.1
# Steps between two looks at the held-out codes, and looks without a better one after which it ends.
LOOK, PATIENCE = 100, 6


def maximise(
    module: nn.Module,
    log_prob: Callable[[Tensor], Tensor],
    codes: Tensor,
    generator: torch.Generator | None,
    steps: int = STEPS,
) -> float:
    """Fit a module's weights to Σ log_prob(codes) by Adam, keep the best by held-out codes, and return their mean
    log-probability in nats. log_prob gives one number a row of codes [n, ...]; few rows get few steps.
    """
    order = torch.randperm(len(codes), generator=generator, device=codes.device)
    held = int(len(codes) * HELD_OUT)
    fit, kept = codes[order[held:]], codes[order[:held]] if held else codes
    weights = list(module.parameters())
    module.requires_grad_(True)
    first, second = ([torch.zeros_like(w) for w in weights] for _ in range(2))
    counts = [torch.zeros((), device=codes.device) for _ in weights]
    best, worse, good = -math.inf, 0, [w.detach().clone() for w in weights]
    for step in range(1, steps + 1):
        rows = torch.randint(len(fit), (min(BATCH, len(fit)),), generator=generator, device=codes.device)
        with torch.enable_grad():
            found = torch.autograd.grad(-log_prob(fit[rows]).mean(), weights, allow_unused=True)
        slopes = [torch.zeros_like(w) if g is None else g for w, g in zip(weights, found, strict=True)]
        norm = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(g) for g in slopes]))
        if norm.isfinite():
            torch._foreach_mul_(slopes, float(min(1.0, 10.0 / max(float(norm), 1e-9))))
            rate = RATE * min(1.0, step / 50) * 0.5 * (1 + math.cos(math.pi * (step - 1) / steps))
            torch._foreach_add_(counts, 1.0)
            torch._fused_adam_(
                [w.detach() for w in weights], slopes, first, second, [], counts,
                lr=rate, beta1=0.9, beta2=0.999, weight_decay=0.0, eps=1e-8, amsgrad=False, maximize=False,
            )  # fmt: skip
        if step % LOOK == 0 or step == steps:
            with torch.no_grad():
                now = float(torch.cat([log_prob(part) for part in kept.split(2048)]).mean())
            if now > best + 1e-3:
                best, worse, good = now, 0, [w.detach().clone() for w in weights]
            else:
                worse += 1
                if worse >= PATIENCE:
                    break
    with torch.no_grad():
        torch._foreach_copy_([w.detach() for w in weights], good)
    module.requires_grad_(False)
    return best
