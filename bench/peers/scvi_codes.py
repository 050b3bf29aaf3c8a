"""SCVI's codes of cells: scvi_codes.py FOLDER SEED EPOCHS reads x.npz, writes z.npy, prints its CPU seconds."""

import json
import resource
import sys
import warnings
from pathlib import Path

import anndata
import numpy as np
import scipy.sparse as sp
import scvi
import torch

warnings.simplefilter("ignore")
folder, seed, epochs = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
torch.set_num_threads(1)
scvi.settings.seed = seed
scvi.settings.verbosity = 30


def seconds() -> float:
    """CPU seconds of this process."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


data = anndata.AnnData(sp.load_npz(folder / "x.npz").astype(np.float32))
before = seconds()
scvi.model.SCVI.setup_anndata(data)
model = scvi.model.SCVI(data)
model.train(max_epochs=epochs, accelerator="cpu", enable_progress_bar=False, logger=False)
z = model.get_latent_representation()
spent = seconds() - before
np.save(folder / "z.npy", z)
print(json.dumps({"cpu_s": spent}))
