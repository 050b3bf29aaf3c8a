"""The cost of Lightning's Trainer on the same model, with its defaults but for the log, the bar and the checkpoints.

ENV/bin/python lightning_mlp.py --data train.npy --test test.npy --batch 128

ENV is made from bench/requirements-lightning.txt. Timed is `Trainer.fit`; imports and x/255 come before.
"""

import logging
import warnings

import lightning
import torch
from lightning.pytorch import LightningModule, Trainer
from torch.utils.data import DataLoader, TensorDataset
from torch_vae import Vae, arguments, images, report, spent


class Module(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.vae = Vae()

    def training_step(self, batch: list[torch.Tensor], index: int) -> torch.Tensor:
        return self.vae(batch[0])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=1e-3)


def main() -> None:
    args = arguments(__doc__)
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    torch.set_num_threads(2)
    torch.manual_seed(args.seed)
    module, rows = Module(), TensorDataset(images(args.data))
    quiet = {"logger": False, "enable_progress_bar": False, "enable_checkpointing": False}
    trainer = Trainer(max_epochs=args.epochs, accelerator="cpu", enable_model_summary=False, **quiet)
    loader = DataLoader(rows, batch_size=args.batch, shuffle=True)
    start = spent()
    trainer.fit(module, loader)
    report(spent() - start, module.vae, args, lightning=lightning.__version__)


if __name__ == "__main__":
    main()
