"""PyOD's detectors on tables: AUROC is the caller's to count; here are scores, and CPU seconds of fit and score.

    ENV/bin/python pyod_scores.py --threads 1        (a request a line on stdin, an answer a line on stdout)

ENV is made from bench/requirements-pyod.txt. A request is a JSON {"train": npy, "test": npy, "same": bool,
"names": [...], "seed": n, "out": npz}: each detector with PyOD's own settings, fitted on `train`, scores `test`
(`same`: the scores of its own training rows, `decision_scores_`). Columns are standardised by the training rows' mean
and deviation, as PyOD's examples do. The answer is {"cpu_s": {name: seconds}, "version": ...}.
"""

import argparse
import json
import sys
import time
import warnings
from importlib.metadata import version

import numpy as np
import torch
from pyod.models.auto_encoder import AutoEncoder
from pyod.models.ecod import ECOD
from pyod.models.iforest import IForest
from pyod.models.knn import KNN
from pyod.models.vae import VAE

MAKERS = {
    "iforest": lambda seed: IForest(random_state=seed),
    "knn": lambda seed: KNN(),
    "ecod": lambda seed: ECOD(),
    "autoencoder": lambda seed: AutoEncoder(random_state=seed, verbose=0),
    "vae": lambda seed: VAE(random_state=seed, verbose=0),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    torch.set_num_threads(parser.parse_args().threads)
    warnings.simplefilter("ignore")
    answers, sys.stdout = sys.stdout, sys.stderr  # PyOD prints as it goes
    for line in sys.stdin:
        request = json.loads(line)
        train, test = (np.load(request[k]).astype(np.float64) for k in ("train", "test"))
        mean, scale = train.mean(0), train.std(0)
        scale[scale == 0] = 1
        train, test = (train - mean) / scale, (test - mean) / scale
        scores, seconds = {}, {}
        for name in request["names"]:
            np.random.seed(request["seed"])  # noqa: NPY002 - PyOD draws from it
            start = time.process_time()
            model = MAKERS[name](request["seed"])
            model.fit(train)
            scores[name] = model.decision_scores_ if request["same"] else model.decision_function(test)
            seconds[name] = time.process_time() - start
        np.savez(request["out"], **scores)
        print(json.dumps({"cpu_s": seconds, "version": version("pyod")}), file=answers, flush=True)


if __name__ == "__main__":
    main()
