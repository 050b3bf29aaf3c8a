"""Transfer: what pretraining on rows without labels is worth where labels are few. MNIST and Adult.

--only mnist: three hidden layers of 1,000, tuned alike (dropout, AdamW, averaged weights) from pretrained and from
random weights, with 10,000, 1,000 and 100 labels: pretrained on the same pictures, all layers together (joint: three
quarters of the pixels hidden; bent: turned, shifted, bent) and layer by layer (stacked), and on all 60,000 (joint).
Intervals are of the paired difference over draws of the labels.
--only semi: 100 labels, the other pictures without: a semi-supervised VAE, and the same without its VAE.
--only frozen: codes that no label has changed: label spreading on their graph of neighbours, and a linear head; PCA
with 50 components beside, by the same graph and head.
--only adult: 200 labels of census income: tuned from pretrained weights, from random ones, gradient boosting.
--only continue: going on with other data (`init`), with and without rehearsal.

Settings were chosen on training pictures and rows held out (--validation); test data are looked at once, at the end.

    bench/transfer.py [--only PART] [--seeds 3] [--labels 10000,1000,100] [--validation] [--data DIR] [--quick]
"""

import copy
import time
from typing import Any

import numpy as np
import pandas as pd
import torch
from common import adult, arguments, cpu_seconds, finish, labels, mnist

import latente as lt
from latente.verbs.fit import _setting

WIDTHS = [1000, 1000, 1000]
# Steps of pretraining and of tuning, for so many labels: a third to two thirds of those of our trials on a GPU.
STEPS = {10_000: (4_000, 3_000), 1_000: (3_000, 1_500), 100: (2_000, 800)}
CORRUPTION: dict[str, dict[str, Any]] = {
    "joint": {"part": "masking", "share": 0.75},
    "stacked": {"part": "masking", "share": 0.5},
    "bent": {"part": "deform"},
}
TUNING = {"dropout": 0.5, "smoothing": 0.1, "weight_decay": 0.05}


def pictures(args: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Training pictures and their digits, new ones and theirs; with --validation of the training pictures alone."""
    (x, new), (y, new_y) = mnist(args.data), labels(args.data)
    if args.validation:
        x, y, new, new_y = x[:50_000], y[:50_000], x[50_000:], y[50_000:]
    return (x, y, new[:2000], new_y[:2000]) if args.quick else (x, y, new, new_y)


def drawn(y: np.ndarray, number: int, seed: int) -> np.ndarray:
    """Places of so many labelled rows, of each class alike."""
    rng = np.random.default_rng(seed)
    classes = np.unique(y)
    return np.concatenate([rng.permutation(np.flatnonzero(y == c))[: number // len(classes)] for c in classes])


def interval(values: list[float]) -> tuple[float, float]:
    """Mean, and half the width of its 95 % interval by Student's t."""
    from scipy.stats import t

    a = np.asarray(values)
    half = t.ppf(0.975, len(a) - 1) * a.std(ddof=1) / len(a) ** 0.5 if len(a) > 1 else float("nan")
    return float(a.mean()), float(half)


def shown(name: str, values: list[float], unit: str = " %") -> float:
    mean, half = interval(values)
    print(f"{name:<44} {mean:7.3f}{unit} ± {half:.3f}   {[round(v, 3) for v in values]}", flush=True)
    return round(mean, 4)


def deep(args: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Three hidden layers, pretrained or not."""
    x, y, new, new_y = pictures(args)
    figures: dict[str, Any] = {}
    scratch: dict[str, Any] = {}
    for number in [int(n) for n in args.labels.split(",")]:
        before, after = STEPS.get(number, (3_000, 1_500))
        if args.quick:
            before, after = 60, 60
        errors: dict[str, list[float]] = {}
        for seed in range(args.seeds or 3):
            place = drawn(y, number, seed)
            for way in args.ways.split(","):
                start = cpu_seconds()
                rest = {"all": x}.get(way)
                settings = {
                    "kind.likelihood": "bernoulli",
                    "nets": {"part": "mlp", "widths": WIDTHS, "activation": "relu"},
                    "corruption": CORRUPTION.get(way, CORRUPTION["joint"]),
                    "train.steps": before if way != "stacked" else before // 2,
                    "train.validation": 0.0,
                    "train.batch_size": min(128, number),
                    "prior.components": 1,
                    "latent.dim": 256,
                    **({"train.layerwise": before // 6} if way == "stacked" else {}),
                }
                made = lt.LatentClassifier(
                    pretrained=False if way == "random" else None,
                    kind="image",
                    settings=settings,
                    tuning={**TUNING, "steps": after, "lowest": args.lowest},
                    calibrate=False,
                    random_state=seed,
                ).fit(x[place], y[place], rest if rest is None else np.delete(rest, place, 0))
                error = 100 * float((made.predict(new) != new_y).mean())
                errors.setdefault(way, []).append(error)
                print(
                    f"{number} labels, draw {seed}, {way}: {error:.2f} %, {cpu_seconds() - start:.0f} CPU s", flush=True
                )
        for way, found in errors.items():
            shown(f"{number} labels, {way}", found)
            if way != "random" and "random" in errors:
                gains = [a - b for a, b in zip(errors["random"], found, strict=True)]
                shown("    better than random by", gains)
        figures |= {f"error_{number}{'' if w == 'bent' else '_' + w}": round(float(np.mean(e)), 3)
                    for w, e in errors.items() if w != "random"}  # fmt: skip
        if "random" in errors:
            scratch[f"error_{number}"] = round(float(np.mean(errors["random"])), 3)
    return figures, {"scratch": scratch}


def semi(args: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """100 labels, all other training pictures without; with the VAE's term in the loss, and without it."""
    x, y, new, new_y = pictures(args)
    ways: dict[str, list[float]] = {}
    for seed in range(args.seeds or 3):
        known = np.full(len(y), np.nan)
        place = drawn(y, 100, seed)
        known[place] = y[place]
        for way, weight in (("semi", 2.0), ("without VAE", 0.0)):
            start = cpu_seconds()
            made = lt.LatentClassifier(
                method="semi",
                kind="image",
                settings={"kind.likelihood": "bernoulli"},
                tuning={"weight": weight, **({"steps": 30} if args.quick else {})},
                calibrate=False,
                random_state=seed,
            ).fit(x, known)
            cost = cpu_seconds() - start
            error = 100 * float((made.predict(new) != new_y).mean())
            ways.setdefault(way, []).append(error)
            ways.setdefault(f"{way}, CPU s", []).append(cost)
            found = lt.evaluate(made.autoencoder_, new[:1000], samples=1, quiet=True)
            print(f"draw {seed}, {way}: {error:.2f} %, {cost:.0f} CPU s, −ELBO {found['neg_elbo']:.1f}", flush=True)
    mean = {name: shown(f"100 labels, {name}", v, "") for name, v in ways.items()}
    return {"semi100_error": mean["semi"], "semi100_without_vae": mean["without VAE"],
            "semi100_cpu_s": mean["semi, CPU s"]}, {}  # fmt: skip


def frozen(args: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Codes that no label has changed, and 50 principal components, by the same graph and the same linear head."""
    from sklearn.decomposition import PCA
    from sklearn.linear_model import LogisticRegressionCV

    x, y, new, new_y = pictures(args)
    n = len(x)
    ways: dict[str, list[float]] = {}
    for seed in range(args.seeds or 3):
        start = cpu_seconds()
        ae = lt.Autoencoder("invariant", random_state=seed, settings={"train.validation": 0.02},
                            steps=30 if args.quick else None).fit(x)  # fmt: skip
        spaces = {"codes": np.concatenate([ae.transform(x), ae.transform(new)])}
        ways.setdefault("CPU s of the codes", []).append(cpu_seconds() - start)
        if seed == 0:
            flat = np.concatenate([x, new]).reshape(n + len(new), -1).astype(np.float32) / 255
            pca = PCA(50, random_state=0).fit(flat[:n]).transform(flat).astype(np.float32)
        spaces["pca"] = pca
        place = drawn(y, 100, seed)
        known = np.full(n + len(new), None, dtype=object)
        known[place] = y[place].tolist()
        for name, z in spaces.items():
            for k in (7, 10, 15):
                said = lt.spread_labels(None, z, known, k=k)[0][n:]
                ways.setdefault(f"{name}, graph of {k}", []).append(100 * float((said != new_y).mean()))
            scaled = (z - z[:n].mean(0)) / z[:n].std()
            head = LogisticRegressionCV(Cs=np.logspace(-4, 3, 15), cv=5, max_iter=2000).fit(scaled[place], y[place])
            ways.setdefault(f"{name}, linear", []).append(100 * (1 - head.score(scaled[n:], new_y)))
        print(f"draw {seed}: { ({k: round(v[-1], 2) for k, v in ways.items()}) }", flush=True)
    mean = {name: shown(f"100 labels, {name}", v, "") for name, v in ways.items()}
    figures = {"frozen100_graph": mean["codes, graph of 10"], "frozen100_linear": mean["codes, linear"]}
    best = min(mean[f"pca, graph of {k}"] for k in (7, 10, 15))
    beside = {"frozen100_graph": mean["pca, graph of 10"], "frozen100_graph_best": best}
    return figures, {"pca": beside | {"frozen100_linear": mean["pca, linear"]}}


def going_on(args: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """A VAE of digits 0 to 4 that goes on with digits 5 to 9: −ELBO on new pictures of both, in nats."""
    x, y, new, new_y = pictures(args)
    before, after = x[y < 5], x[y >= 5]
    tests = {"first": new[new_y < 5], "second": new[new_y >= 5]}
    ways: dict[str, list[float]] = {}
    for seed in range(args.seeds or 3):
        options: dict[str, Any] = {"kind": "image", "random_state": seed, "epochs": 1 if args.quick else 8}
        first = lt.Autoencoder("vae", settings={"kind.binarize": True}, **options).fit(before)
        models = {"before": first}
        for rehearsal in (0.0, 0.5, 1.0):
            models[f"rehearsal {rehearsal:g}"] = lt.Autoencoder(init=first, rehearsal=rehearsal, **options).fit(after)
        models["anew on both"] = lt.Autoencoder("vae", settings={"kind.binarize": True}, **options).fit(x)
        for name, ae in models.items():
            for part, rows in tests.items():
                nats = lt.evaluate(ae, rows, samples=1, quiet=True)["neg_elbo"]
                ways.setdefault(f"{name}, {part} digits", []).append(nats)
    mean = {name: shown(f"going on: {name}", v, " nats") for name, v in ways.items()}
    return {"continue": mean}, {}


def census(args: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Adult with 200 labels."""
    from sklearn.ensemble import GradientBoostingClassifier, HistGradientBoostingClassifier
    from sklearn.linear_model import LogisticRegressionCV
    from sklearn.metrics import roc_auc_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    train, test = adult(args.data)
    pool = train
    if args.validation:
        pool, test = train.iloc[:-8000], train.iloc[-8000:]
    rows, wanted = train.drop(columns="income"), (pool.income == ">50K").to_numpy()
    new, new_y = test.drop(columns="income"), (test.income == ">50K").to_numpy()
    ways: dict[str, list[float]] = {}
    plain = pd.get_dummies(pd.concat([rows.iloc[: len(pool)], new]), dummy_na=True).astype(float)
    plain_new, plain = plain.iloc[len(pool) :].to_numpy(), plain.iloc[: len(pool)].to_numpy()
    settings = dict(_setting(one) for one in args.set)
    for seed in range(args.seeds or 5):
        start = cpu_seconds()
        epochs = 1 if args.quick else args.epochs
        ae = lt.LatentClassifier(random_state=seed, epochs=epochs, settings=settings).autoencoder(rows)
        cost = cpu_seconds() - start
        blank = copy.copy(ae)
        blank.model_ = ae._build(1000 + seed).eval()
        place = np.random.default_rng(seed).permutation(len(pool))[:200]
        x, y = rows.iloc[place], wanted[place]

        def judged(name: str, p: np.ndarray) -> None:
            ways.setdefault(name, []).append(float(roc_auc_score(new_y, p)))

        for name, begun, method in (
            ("pretrained", ae, "finetune"), ("scratch", blank, "finetune"), ("frozen", ae, "frozen"),
        ):  # fmt: skip
            tuned = lt.LatentClassifier(pretrained=begun, method=method, calibrate=False, random_state=seed)
            judged(name, tuned.fit(x, y).predict_proba(new)[:, 1])
        for name, peer in (
            ("boosting", GradientBoostingClassifier(random_state=seed)),
            ("histogram boosting", HistGradientBoostingClassifier(random_state=seed)),
            ("logistic regression", make_pipeline(StandardScaler(), LogisticRegressionCV(Cs=8, cv=5, max_iter=2000))),
        ):
            judged(name, peer.fit(plain[place], y).predict_proba(plain_new)[:, 1])
        print(
            f"draw {seed}: pretraining {cost:.0f} CPU s, { ({n: round(v[-1], 4) for n, v in ways.items()}) }",
            flush=True,
        )
    mean = {name: shown(f"Adult, 200 labels, {name}", found, " AUROC") for name, found in ways.items()}
    for name in ("scratch", "boosting", "histogram boosting", "logistic regression"):
        gains = [a - b for a, b in zip(ways["pretrained"], ways[name], strict=True)]
        shown(f"    better than {name} by", gains, "")
    figures = {"adult200_auroc": mean["pretrained"], "adult200_frozen": mean["frozen"]}
    figures |= {"adult200_scratch": mean["scratch"], "adult200_boosting": mean["boosting"]}
    return figures, {"adult200": {n: m for n, m in mean.items() if n not in ("pretrained", "scratch", "frozen")}}


def main() -> None:
    args = arguments(
        __doc__,
        only={"default": "mnist,semi,frozen,adult,continue", "help": "parts, with commas"},
        labels={"default": "100,1000,10000", "help": "numbers of labels, with commas"},
        ways={"default": "random,bent,joint,stacked,all", "help": "of the deep net, with commas"},
        lowest={"type": float, "default": 0.25, "help": "rate of the first layer over that of the head"},
        epochs={"type": int, "default": 20, "help": "of pretraining on Adult"},
        set={"action": "append", "default": [], "help": "a setting of pretraining on Adult, PATH=VALUE"},
        validation={"action": "store_true", "help": "judge by training data that are held out, not by the test's"},
    )
    start = time.perf_counter()
    torch.set_num_threads(1)
    figures: dict[str, Any] = {}
    peers: dict[str, Any] = {}
    parts = {"mnist": deep, "semi": semi, "frozen": frozen, "adult": census, "continue": going_on}
    for name in args.only.split(","):
        if name in parts:
            found, beside = parts[name](args)
            figures |= found
            peers |= beside
    finish("transfer", figures, peers, start)


if __name__ == "__main__":
    main()
