"""The cost of a plain torch loop: DataLoader with its defaults (no workers) and shuffling, autograd, Adam at 1e-3.

ENV/bin/python loop_mlp.py --data train.npy --test test.npy --batch 128

Runs in the environment of bench/requirements-pythae.txt. Timed is the loop; imports and x/255 come before.
"""

import torch
from torch.utils.data import DataLoader, TensorDataset
from torch_vae import Vae, arguments, images, report, spent


def main() -> None:
    args = arguments(__doc__)
    torch.set_num_threads(2)
    torch.manual_seed(args.seed)
    model, rows = Vae(), TensorDataset(images(args.data))
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3)
    start = spent()
    for _ in range(args.epochs):
        for (x,) in DataLoader(rows, batch_size=args.batch, shuffle=True):
            optimiser.zero_grad()
            model(x).backward()
            optimiser.step()
    report(spent() - start, model, args)


if __name__ == "__main__":
    main()
