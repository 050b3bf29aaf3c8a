"""Cornac's VAE for histories: cornac_vaecf.py FOLDER reads train.npz, test_seen.npz; writes scores.npy, prints seconds.

VAECF with the settings of its own example on MovieLens, but for as many epochs as its authors take for this size. Users
of the test are not among those that it learns from: their scores are its decoder's of its encoder's means.
"""

import json
import resource
import sys
from pathlib import Path

import cornac
import numpy as np
import scipy.sparse as sp
import torch
from cornac.models import VAECF

folder = Path(sys.argv[1])
torch.set_num_threads(1)


def seconds() -> float:
    """CPU seconds of this process."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


train, seen = sp.load_npz(folder / "train.npz"), sp.load_npz(folder / "test_seen.npz")
row, column = train.nonzero()
data = cornac.data.Dataset.from_uir([(int(u), int(i), 1.0) for u, i in zip(row, column, strict=True)], seed=0)
before = seconds()
model = VAECF(k=200, autoencoder_structure=[600], act_fn="tanh", likelihood="mult", n_epochs=100, batch_size=100)
model.lr, model.beta, model.seed, model.verbose = 0.001, 1.0, 0, False
model.fit(data)
spent = seconds() - before
items = np.array([data.iid_map[i] for i in range(train.shape[1])])
x = torch.from_numpy(seen.toarray().astype(np.float32)[:, np.argsort(items)])
with torch.no_grad():
    mean, _ = model.vae.encode(x)
    scores = model.vae.decode(mean).numpy()
np.save(folder / "scores.npy", scores[:, items])
print(json.dumps({"cpu_s": spent}))
