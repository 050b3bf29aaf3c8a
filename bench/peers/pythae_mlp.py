"""The cost of pythae's own VAE and BaseTrainer on an MLP, and the test -ELBO they reach.

    ENV/bin/python pythae_mlp.py --data train.npy --test test.npy --batch 128 --epochs 1 --seed 0

ENV is made from bench/requirements-pythae.txt; both files hold uint8 images [n, 784]. Encoder 784-512-256-16,
decoder mirrored, Bernoulli pixels with soft targets x/255, Adam at 1e-3, two threads. All else is what a pythae user
gets by default: no workers, shuffled, last short batch kept, no evaluation set, so the best model on train is copied
whenever an epoch improves it, and saved at the end.

Timed is `trainer.train()` alone: imports, x/255 and pythae's check for NaN come before. The epoch lines leave out
what train() does once (its set-up, the final save). The last line of stdout is one JSON: seconds of CPU (all threads
and workers) and of wall clock, and nats per test image from one posterior draw.
"""

import argparse
import json
import os
import resource
import tempfile
import time
from importlib.metadata import version

os.environ["TQDM_DISABLE"] = "1"  # BaseTrainer adds its progress bar unasked; tqdm reads this when first imported

import numpy as np
import torch
from pythae.data.preprocessors import DataProcessor
from pythae.models import VAE, VAEConfig
from pythae.models.base.base_utils import ModelOutput
from pythae.models.nn import BaseDecoder, BaseEncoder
from pythae.trainers import BaseTrainer, BaseTrainerConfig
from pythae.trainers.training_callbacks import TrainingCallback
from torch import Tensor, nn

PIXELS, DIM = 784, 16


class Encoder(BaseEncoder):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(PIXELS, 512), nn.ReLU(), nn.Linear(512, 256), nn.ReLU())
        self.mean, self.log_var = nn.Linear(256, DIM), nn.Linear(256, DIM)

    def forward(self, x: Tensor) -> ModelOutput:
        h = self.body(x)
        return ModelOutput(embedding=self.mean(h), log_covariance=self.log_var(h))


class Decoder(BaseDecoder):
    def __init__(self) -> None:
        super().__init__()
        hidden = nn.Linear(DIM, 256), nn.ReLU(), nn.Linear(256, 512), nn.ReLU()
        self.body = nn.Sequential(*hidden, nn.Linear(512, PIXELS), nn.Sigmoid())

    def forward(self, z: Tensor) -> ModelOutput:
        return ModelOutput(reconstruction=self.body(z))


def spent() -> np.ndarray:
    """Seconds so far: CPU of this process and its finished children, and wall clock. [2]"""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return np.array([time.process_time() + children.ru_utime + children.ru_stime, time.perf_counter()])


class EpochCost(TrainingCallback):
    """Prints what each epoch cost, pythae's copy of the best model included."""

    def on_epoch_begin(self, training_config: BaseTrainerConfig, **kwargs: object) -> None:
        self.epoch, self.start = kwargs["epoch"], spent()

    def on_epoch_end(self, training_config: BaseTrainerConfig, **kwargs: object) -> None:
        cpu, wall = spent() - self.start
        print(f"epoch {self.epoch}: {cpu:.2f} s CPU, {wall:.2f} s wall", flush=True)


def images(path: str) -> np.ndarray:
    return np.load(path).astype(np.float32) / 255


@torch.no_grad()
def neg_elbo(model: VAE, x: Tensor, seed: int) -> float:
    """BCE summed over pixels + KL in nats, mean over the images, one posterior draw each."""
    torch.manual_seed(seed)
    model.eval()
    return sum(model({"data": part}).loss.item() * len(part) for part in x.split(1000)) / len(x)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", required=True)
    parser.add_argument("--test", required=True)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    torch.set_num_threads(2)
    torch.manual_seed(args.seed)  # of the weights; train() seeds itself again from its config
    config = VAEConfig(input_dim=(PIXELS,), latent_dim=DIM, reconstruction_loss="bce")
    model = VAE(config, encoder=Encoder(), decoder=Decoder())
    processor = DataProcessor()
    train = processor.to_dataset(processor.process_data(images(args.data)))  # as TrainingPipeline does
    with tempfile.TemporaryDirectory() as folder:
        settings = BaseTrainerConfig(
            output_dir=folder,
            per_device_train_batch_size=args.batch,
            num_epochs=args.epochs,
            learning_rate=1e-3,
            seed=args.seed,
            no_cuda=True,
        )
        trainer = BaseTrainer(model, train, training_config=settings, callbacks=[EpochCost()])
        start = spent()
        trainer.train()
        cpu, wall = spent() - start

    record = {
        "cpu_s": round(cpu, 3),
        "wall_s": round(wall, 3),
        "neg_elbo": round(neg_elbo(model, torch.from_numpy(images(args.test)), args.seed), 3),
        "epochs": args.epochs,
        "batch": args.batch,
        "torch": torch.__version__,
        "pythae": version("pythae"),
    }
    print(json.dumps(record))


if __name__ == "__main__":
    main()
