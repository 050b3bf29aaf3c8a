"""Recommendations on MovieLens-1M, strong generalisation: users never seen, a fifth of whose history is to be found.

    bench/recommend.py [--seeds 3] [--data FILE, a line a user] [--peers ENV] [--only quality,speed,large] [--quick]

Users with 5 items or more, permuted with seed 98765: the last 1,000 are for the test, the 500 before them for every
choice (the weight of the linear scores beside the net's), the others are trained on; items are those of the last. Of a
test user a random 80 % of the history goes in and 20 % is to be found among the rest. ndcg100, recall20, recall50 are
means over users and seeds, `_se` the standard error over users. fit_cpu_s: CPU seconds of the whole fit, the choice of
the weight included (linear and EASE are fitted in it too). vae_only is the net of the same kind of fit without any
linear model, linear_only the closed form alone; ease and popularity as they stand beside every model. `default` is a
plain `fit` of the trained and the 500 together, which holds users out by itself. over_ease: the difference with a 95 %
interval of a paired bootstrap over users. users_per_s: new users a CPU second through `recommend` at k = 20, without
and (`_why`) with reasons. evaluate_ms_per_user beside epoch_ms_per_user. large: one epoch on 200,000 users × 20,000
items with 20 million interactions, in a process of its own, in float32 and in what a fit chooses: gb, and
step_over_gemm, a step in units of the output layer's own three products in the same numbers.
"""

import json
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from common import DATA, arguments, cpu_seconds, finish, place

import latente as lt
from latente.kinds.histories import of_matrix
from latente.training.feed import Portion
from latente.training.gradients import Gradients
from latente.training.optimiser import Optimiser
from latente.uses import ranking
from latente.uses.learned.recommender import TRIED, Recommend

LEAST, SEED, TEST, VALIDATION = 5, 98765, 1000, 500
Split = dict[str, sp.csr_matrix]


def main() -> None:
    args = arguments(
        __doc__,
        peers={"type": Path, "default": None, "help": "the environment of bench/requirements-cornac.txt"},
        only={"default": "quality,speed,large", "help": "which"},
        precision={"default": "float32", "help": "of large-alone"},
    )
    start, only = time.perf_counter(), args.only.split(",")
    if "large-alone" in only:
        print(json.dumps(large(args.quick, args.precision)))
        return
    figures: dict[str, Any] = {}
    peers: dict[str, Any] = {}
    if "quality" in only or "speed" in only:
        data = split(histories(args.data))
        figures |= {"users": data["train"].shape[0], "items": data["train"].shape[1]}
        seeds = 1 if args.quick else args.seeds or 3
        runs = [once(data, seed, args.quick) for seed in range(seeds)]
        ours, peers = summary(runs)
        figures |= ours
        if "speed" in only:
            figures |= speed(runs[0]["model"], data)
        if args.peers:
            peers |= cornac(args.peers, data)
    if "large" in only:
        for precision in ("float32", "auto"):
            command = [sys.executable, __file__, "--only", "large-alone", "--precision", precision]
            command += ["--quick"] if args.quick else []
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            figures[f"large_{precision}"] = json.loads(done.stdout)
    finish("recommend", figures, peers, start)


def histories(given: Path | None) -> list[list[str]]:
    """Items of each user."""
    folder = "interactions/ml-1m-4plus.train.txt"
    file = place(given, folder, "fetch MovieLens-1M, and write USER ITEM ITEM … a line for ratings of 4 and 5")
    files = [file] if given else [file, DATA / "interactions/ml-1m-4plus.test.txt"]
    found: dict[int, set[int]] = {}
    for path in files:
        for line in path.read_text().splitlines():
            user, *items = (int(w) for w in line.split()) if line.strip() else (-1,)
            if items:
                found.setdefault(user, set()).update(items)
    return [sorted(map(str, found[user]), key=int) for user in sorted(found) if len(found[user]) >= LEAST]


def split(users: list[list[str]]) -> Split:
    """train, and of validation and test users what is seen and what is to be found."""
    rng = np.random.RandomState(SEED)
    order = rng.permutation(len(users))
    fit, validation, test = np.split(order, [-TEST - VALIDATION, -TEST])
    items = sorted({i for u in fit for i in users[u]}, key=int)
    place_of = {name: i for i, name in enumerate(items)}

    def matrix(rows: list[Any]) -> sp.csr_matrix:
        row = np.repeat(np.arange(len(rows)), [len(r) for r in rows])
        column = np.array([i for r in rows for i in r], int)
        return sp.csr_matrix((np.ones(len(row), np.float32), (row, column)), shape=(len(rows), len(items)))

    found = {"train": matrix([[place_of[i] for i in users[u]] for u in fit])}
    for name, some in (("validation", validation), ("test", test)):
        known = [rng.permutation([place_of[i] for i in users[u] if i in place_of]) for u in some]
        parts = [(k[int(0.2 * len(k)) :], k[: int(0.2 * len(k))]) for k in known]
        parts = [(a, b) for a, b in parts if len(a) and len(b)]
        found |= {f"{name}_seen": matrix([a for a, _ in parts]), f"{name}_wanted": matrix([b for _, b in parts])}
    return found


def prepared(ae: Any, x: sp.csr_matrix) -> Any:
    """Histories as the model takes them."""
    return ae.schema_.prepare(ae.schema_.to_batch(of_matrix(x)))


def judged(ae: Any, data: Split, name: str, by: str) -> ranking.Lists:
    """Lists for the users of a part."""
    rows, wanted = prepared(ae, data[f"{name}_seen"]), prepared(ae, data[f"{name}_wanted"]).x
    return ranking.judged(ranking.top(ae.use_.scores(ae.model_, rows, by), rows.x, ranking.GAIN)[0], wanted)


def fitted(x: sp.csr_matrix, seed: int, quick: bool, **settings: Any) -> tuple[Any, float]:
    """A fitted model, and its CPU seconds."""
    before = cpu_seconds()
    settings |= {"train.unplanned": [2, 20]} if quick else {}
    ae = lt.Autoencoder(kind="interactions", random_state=seed, settings=settings).fit(of_matrix(x))
    return ae, cpu_seconds() - before


def once(data: Split, seed: int, quick: bool) -> dict[str, Any]:
    """One seed: both, the net alone, the closed form alone, and a plain fit."""
    ae, seconds = fitted(data["train"], seed, quick, **{"train.validation": 0.0})
    before = cpu_seconds()
    gains = {}
    for weight in TRIED:
        ae.use_ = replace(ae.use_, weight=weight)
        gains[weight] = judged(ae, data, "validation", "both").ndcg.mean()
    ae.use_ = replace(ae.use_, weight=max(gains, key=gains.get))
    found: dict[str, Any] = {"model": ae, "fit_cpu_s": seconds + cpu_seconds() - before, "weight": ae.use_.weight}
    found |= {by: judged(ae, data, "test", by) for by in ("both", "linear", "ease", "popularity")}
    alone, found["vae_cpu_s"] = fitted(
        data["train"], seed, quick, **{"train.validation": 0.0, "use.linear": False, "use.compare": False}
    )
    found["vae_only"] = judged(alone, data, "test", "net")
    before = cpu_seconds()
    Recommend().weights(data["train"])
    found["linear_cpu_s"] = cpu_seconds() - before
    whole = sp.vstack([data["train"], data["validation_seen"] + data["validation_wanted"]]).tocsr()
    plain, found["default_cpu_s"] = fitted(whole, seed, quick)
    found["default"], found["default_weight"] = judged(plain, data, "test", "both"), plain.use_.weight
    both = found["both"].means()
    print(f"seed {seed}: {both} weight {ae.use_.weight} in {found['fit_cpu_s']:.1f} CPU s", flush=True)
    return found


def summary(runs: list[dict[str, Any]]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Means over seeds."""

    def means(way: str) -> dict[str, float]:
        each = [r[way].means() for r in runs]
        found = {name: round(float(np.mean([e[name] for e in each])), 4) for name in each[0]}
        spread = np.mean([r[way].ndcg for r in runs], axis=0)
        return found | {"ndcg100_se": round(float(spread.std() / len(spread) ** 0.5), 4)}

    def seconds(name: str) -> float:
        return round(float(np.median([r[name] for r in runs])), 2)

    figures: dict[str, Any] = means("both") | {"fit_cpu_s": seconds("fit_cpu_s"), "seeds": len(runs)}
    figures["weight"] = [r["weight"] for r in runs]
    for i, name in enumerate(("ndcg", "recall20", "recall50")):
        own, other = (np.mean([getattr(r[w], name) for r in runs], axis=0) for w in ("both", "ease"))
        low, high = ranking.apart(own, other, i)
        figures[f"over_ease_{name}"] = [round(float((own - other).mean()), 4), round(low, 4), round(high, 4)]
    figures["default"] = means("default") | {"fit_cpu_s": seconds("default_cpu_s")}
    figures["vae_only"] = means("vae_only") | {"fit_cpu_s": seconds("vae_cpu_s")}
    figures["linear_only"] = means("linear") | {"fit_cpu_s": seconds("linear_cpu_s")}
    return figures, {"ease": means("ease"), "popularity": means("popularity")}


def speed(ae: Any, data: Split) -> dict[str, float]:
    """New users a CPU second, and what evaluation costs beside an epoch."""
    many = of_matrix(sp.vstack([data["test_seen"]] * 8).tocsr())
    found: dict[str, float] = {}
    for name, why in (("users_per_s", 0), ("users_per_s_why", 3)):
        rates = []
        for _ in range(3):
            before = cpu_seconds()
            lt.recommend(ae, many, k=20, why=why)
            rates.append(len(many) / (cpu_seconds() - before))
        found[name] = round(float(np.median(rates)))
    before = cpu_seconds()
    lt.evaluate(ae, of_matrix((data["test_seen"] + data["test_wanted"]).tocsr()), quiet=True)
    users = data["test_seen"].shape[0]
    found["evaluate_ms_per_user"] = round(1000 * (cpu_seconds() - before) / users, 3)
    h = ae.history_
    found["epoch_ms_per_user"] = round(1000 * h.seconds * h.threads / (h.steps * ae.spec_.train.batch_size), 3)
    return found


def large(quick: bool, precision: str) -> dict[str, Any]:
    """One epoch on generated histories: popular items are taken more often, and each user has a taste."""
    users, items, n = (2_000, 2_000, 200_000) if quick else (200_000, 20_000, 20_000_000)
    rng = np.random.default_rng(0)
    popular = 1 / np.arange(1, items + 1) ** 0.8
    popular /= popular.sum()
    # Of each user's draws some are from the items of its group.
    row = np.sort(rng.integers(0, users, n)).astype(np.int32)
    column = rng.choice(items, n, p=popular).astype(np.int32)
    own = rng.random(n) < 0.5
    column[own] = column[own] // 20 * 20 + row[own] % 20
    x = sp.csr_matrix((np.ones(n, np.uint8), (row, np.minimum(column, items - 1))), shape=(users, items))
    del row, column, own
    x.sum_duplicates()
    x.data[:] = 1
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    cpu = cpu_seconds()
    ae = lt.Autoencoder(kind="interactions", random_state=0, epochs=1, precision=precision).fit(of_matrix(x))
    cpu = cpu_seconds() - cpu
    h, rows = ae.history_, ae.spec_.train.batch_size
    step, gemm = side_by_side(ae, x[: 20 * rows])
    return {
        "interactions": int(x.nnz),
        "gb_before": round(before / 2**20, 2),
        "gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
        "fit_cpu_s": round(cpu, 1),
        "steps": h.steps,
        "batch": rows,
        "precision": h.precision,
        "step_ms": round(1000 * step, 1),
        "gemm_ms": round(1000 * gemm, 1),
        "step_over_gemm": round(step / gemm, 2),
        "ndcg100": ae.use_.held_out["both"]["ndcg100"],
        "ndcg100_popularity": ae.use_.held_out["popularity"]["ndcg100"],
    }


def side_by_side(ae: Any, x: sp.csr_matrix) -> tuple[float, float]:
    """CPU seconds of a training step, and of the output layer's product forward and its two backward in the same
    numbers, in turns on one thread: medians.
    """
    torch.set_num_threads(1)
    rows, dim, dtype = ae.spec_.train.batch_size, ae.spec_.latent.dim, getattr(torch, ae.history_.precision)
    shapes = ((rows, dim), (x.shape[1], dim), (rows, x.shape[1]))
    h, w, g = (torch.randn(*shape).to(dtype) for shape in shapes)
    model, data = ae.model_.train(), ae.schema_.to_batch(of_matrix(x))
    model.generator = torch.Generator().manual_seed(0)
    model.low_precision = dtype == torch.bfloat16
    model.prior_module.start(model, data)
    optimiser = Optimiser(model, ae.spec_.train)
    gradients = Gradients(model, ae.spec_.objective, ae.schema_, ae.spec_.train)
    steps, products = [], []
    for turn in range(24):
        index = torch.randperm(len(data), generator=model.generator)[:rows]
        start = time.process_time()
        gradients(Portion(data.rows(index), index, rows), model.generator)
        optimiser.step(0.5)
        steps.append(time.process_time() - start)
        start = time.process_time()
        h @ w.t()
        g @ w
        g.t() @ h
        products.append(time.process_time() - start)
        model.progress = turn / 100
    return float(np.median(steps[4:])), float(np.median(products[4:]))


def cornac(env: Path, data: Split) -> dict[str, Any]:
    """Cornac's VAE for histories in an environment of its own, on the same users."""
    with tempfile.TemporaryDirectory() as scratch:
        for name, x in data.items():
            sp.save_npz(Path(scratch) / f"{name}.npz", x)
        script = Path(__file__).parent / "peers" / "cornac_vaecf.py"
        result = subprocess.run([env / "bin" / "python", script, scratch], check=True, capture_output=True, text=True)
        seconds = json.loads(result.stdout.splitlines()[-1])["cpu_s"]
        scores = torch.from_numpy(np.load(Path(scratch) / "scores.npy"))
    seen, wanted = (as_rows(data[f"test_{n}"]) for n in ("seen", "wanted"))
    lists = ranking.judged(ranking.top(scores, seen, ranking.GAIN)[0], wanted)
    return {"cornac_vaecf": {n: round(v, 4) for n, v in lists.means().items()} | {"fit_cpu_s": round(seconds, 1)}}


def as_rows(x: sp.csr_matrix) -> torch.Tensor:
    """A matrix as sparse rows."""
    from latente.kinds.interactions import csr_of

    return csr_of(x, np.float32)


if __name__ == "__main__":
    main()
