"""What the peers on plain torch share: the 784-512-256-16 Bernoulli VAE, its loss, options, clock and last line."""

import argparse
import json
import resource
import time
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

PIXELS, DIM = 784, 16


class Vae(nn.Module):
    """Encoder 784-512-256-16 with ReLU, decoder mirrored, pixels as logits."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(PIXELS, 512), nn.ReLU(), nn.Linear(512, 256), nn.ReLU())
        self.mean, self.log_var = nn.Linear(256, DIM), nn.Linear(256, DIM)
        hidden = nn.Linear(DIM, 256), nn.ReLU(), nn.Linear(256, 512), nn.ReLU()
        self.decoder = nn.Sequential(*hidden, nn.Linear(512, PIXELS))

    def forward(self, x: Tensor) -> Tensor:
        """−ELBO, mean over the rows, from one posterior draw each."""
        h = self.body(x)
        mean, log_var = self.mean(h), self.log_var(h)
        z = mean + (0.5 * log_var).exp() * torch.randn_like(mean)
        rec = F.binary_cross_entropy_with_logits(self.decoder(z), x, reduction="sum")
        kl = -0.5 * (1 + log_var - mean.square() - log_var.exp()).sum()
        return (rec + kl) / len(x)


def arguments(description: str) -> argparse.Namespace:
    """The options of every peer."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--data", required=True)
    parser.add_argument("--test", required=True)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def spent() -> np.ndarray:
    """Seconds so far: CPU of this process and its finished children, and wall clock. [2]"""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return np.array([time.process_time() + children.ru_utime + children.ru_stime, time.perf_counter()])


def images(path: str) -> Tensor:
    """Pixels in [0, 1]. [n, 784]"""
    return torch.from_numpy(np.load(path).astype(np.float32) / 255)


@torch.no_grad()
def neg_elbo(model: Vae, x: Tensor, seed: int) -> float:
    """Nats per test image."""
    torch.manual_seed(seed)
    model.eval()
    return sum(model(part).item() * len(part) for part in x.split(1000)) / len(x)


def report(seconds: np.ndarray, model: Vae, args: argparse.Namespace, **more: Any) -> None:
    """The last line of stdout."""
    cpu, wall = seconds
    record = {"cpu_s": round(cpu, 3), "wall_s": round(wall, 3), "epochs": args.epochs, "batch": args.batch}
    record["neg_elbo"] = round(neg_elbo(model, images(args.test), args.seed), 3)
    print(json.dumps(record | {"torch": torch.__version__} | more))
