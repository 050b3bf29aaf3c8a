"""Fitting a density to codes, after training: what priors of that kind share."""

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

# The held-out share, and the number of codes that it takes at least.
HELD_OUT, FEWEST = 0.1, 5


def apart(codes: Tensor, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
    """Codes [n, ...] to fit to, and those held out; of too few, all are both."""
    held = int(len(codes) * HELD_OUT)
    if held < FEWEST:
        return codes, codes
    mixed = codes[torch.randperm(len(codes), generator=generator, device=codes.device)]
    return mixed[held:], mixed[:held]


@torch.enable_grad()
def maximise(
    module: nn.Module,
    log_prob: Callable[[Tensor], Tensor],
    data: Tensor,
    held_out: Tensor,
    generator: torch.Generator | None,
    *,
    steps: int = 300,
    rows: int = 256,
    lr: float = 5e-3,
    every: int = 25,
    patience: int = 3,
) -> float:
    """Raise the mean of log_prob over `data` by changing module's parameters; returns its best mean over `held_out`.

    At most `steps` steps of Adam on `rows` rows each, whose rate falls along a line to nothing; looks at the rows held
    out every so often, keeps the parameters of the best look (the first is before any step), and ends when `patience`
    looks in a row were no better. The parameters need no gradient before and afterwards.
    """
    parameters = list(module.parameters())
    for p in parameters:
        p.requires_grad_(True)
    first, second = ([torch.zeros_like(p) for p in parameters] for _ in range(2))
    counts = [torch.zeros((), device=p.device) for p in parameters]

    def look() -> float:
        with torch.no_grad():
            return float(torch.cat([log_prob(part) for part in held_out.split(1024)]).mean())

    best, worse, kept = look(), 0, copy.deepcopy(module.state_dict())
    for step in range(steps):
        pick = torch.randint(len(data), (min(rows, len(data)),), generator=generator, device=data.device)
        gradients = torch.autograd.grad(-log_prob(data[pick]).mean(), parameters, allow_unused=True)
        found = [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, gradients, strict=True)]
        torch._foreach_add_(counts, 1)
        with torch.no_grad():
            torch._fused_adam_(
                [p.detach() for p in parameters], found, first, second, [], counts,
                lr=lr * (1 - step / steps), beta1=0.9, beta2=0.99, weight_decay=0.0, eps=1e-8,
                amsgrad=False, maximize=False,
            )  # fmt: skip
        if (step + 1) % every == 0 or step + 1 == steps:
            score = look()
            if score > best:
                best, worse, kept = score, 0, copy.deepcopy(module.state_dict())
            else:
                worse += 1
            if worse >= patience:
                break
    module.load_state_dict(kept)
    for p in parameters:
        p.requires_grad_(False)
    return best
