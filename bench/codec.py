"""The codec beside pcodec, zstd, xz, SZ3, zfp, PNG, WebP, JPEG, JPEG-XL, on data that the model was not fitted on.

    bench/codec.py [--data FOLDER] [--peers ENV] [--only PLACES] [--quick]

PLACES: some of sensors,embeddings,mnist,binary,colour,speed,settings.

--peers: the environment of bench/requirements-codec.txt; without it the libraries that latente has are the baselines.
Bits are those of whole streams of our format, headers, seals, index and times of rows included, not of our model,
whose bytes (those of its codec, and of the whole file) stand beside. All are fitted on the training part; nothing is
chosen on the other one.
sensors: omi-1..6 (fitted on their train part), ETTh1 (its first 60 %), SKAB's valve 1 (file 0, its first two thirds);
saving: against the best of the peers, given whole numbers of the plain width 2E; `_grid`: given our whole numbers, of
the grids that we found. embeddings: codes of 1,014 captions by a text model of 256 dimensions, fitted on 29,000 others,
and a codec fitted on theirs. mnist: bits a pixel, 10,000 pictures, by the chosen way; `small`: of at most 100 kB of
codec; `two_part`: latents and what they leave. binary: the same of pictures drawn black or white with their grey values
as probabilities; `by_code` counts what the pixels take given the latents alone. colour: CIFAR-10's 2,000 test pictures,
mean PSNR; saving at 28, 30, 32, 34 dB against JPEG and WebP of one sheet. speed: MB of float64 a second, one core, of
200,000 × 19 numbers (walks; rows of a table), verification apart. settings: whether decoded bytes are the same in 10
settings, of 5 kinds.
"""

import io
import json
import os
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from common import arguments, cpu_seconds, finish, mnist, place

import latente as lt
from latente.uses.plans import Mode
from latente.uses.streams import compressed, open_stream

DECIBELS = (28, 30, 32, 34)


class Peers:
    """Jobs for the peers' environment."""

    def __init__(self, env: Path | None) -> None:
        self.env = env

    def __call__(self, *jobs: dict[str, Any]) -> list[dict[str, Any]]:
        """The result of each; empty without an environment."""
        if self.env is None:
            return [{} for _ in jobs]
        with tempfile.TemporaryDirectory() as folder:
            for i, job in enumerate(jobs):
                np.save(Path(folder) / f"{i}.npy", job.pop("data"))
                job["file"] = str(Path(folder) / f"{i}.npy")
            (Path(folder) / "jobs.json").write_text(json.dumps(jobs))
            script = Path(__file__).parent / "peers" / "codec_sizes.py"
            done = subprocess.run(
                [self.env / "bin" / "python", script, Path(folder) / "jobs.json"], capture_output=True, check=True
            )
        return json.loads(done.stdout)


def main() -> None:
    args = arguments(
        __doc__,
        peers={"type": Path, "default": None, "help": "the environment of bench/requirements-codec.txt"},
        only={"default": "sensors,embeddings,mnist,binary,colour,speed,settings", "help": "which"},
    )
    start, figures, beside = time.perf_counter(), {}, {}
    peers = Peers(args.peers)
    for name in args.only.split(","):
        ours, theirs = RUN[name](args, peers)
        figures |= ours
        beside |= theirs
        print(json.dumps({name: ours, "peers": theirs}), file=sys.stderr, flush=True)
    finish("codec", figures, beside, start)


def fitted(data: Any, quick: bool, kind: str = "auto", **settings: Any) -> tuple[Any, float]:
    """A model of recipe codec, and its CPU seconds."""
    settings |= {"train.unplanned": [1, 20]} if quick else {}
    before = cpu_seconds()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", lt.DataWarning)
        ae = lt.Autoencoder("codec", kind=kind, random_state=0, settings=settings).fit(data)
    return ae, cpu_seconds() - before


def coded(
    ae: Any, data: Any, mode: str = "lossless", value: Any = None, **options: Any
) -> tuple[bytes, dict[str, Any]]:
    """A stream, and its report."""
    out = io.BytesIO()
    options = {"rows": None, "verify": True, "measure": False} | options
    report = compressed(ae, data, out, Mode(mode, value), **options)
    return out.getvalue(), report.to_json()


# ── numbers ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def series(folder: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Training and test part of each file of sensors."""
    found = {}
    for i in range(1, 7):
        with np.load(folder / f"asd/omi-{i}.npz", allow_pickle=False) as file:
            found[f"omi-{i}"] = file["train"], file["test"]
    x = pd.read_csv(folder / "ETTh1.csv").iloc[:, 1:].to_numpy(np.float32)
    found["ETTh1"] = x[: int(len(x) * 0.6)], x[int(len(x) * 0.6) :]
    x = pd.read_csv(folder / "skab/valve1/0.csv", sep=";").iloc[:, 1:9].to_numpy(np.float32)
    found["skab"] = x[: len(x) * 2 // 3], x[len(x) * 2 // 3 :]
    return found


def sensors(args: Any, peers: Peers) -> tuple[dict[str, Any], dict[str, Any]]:
    folder = place(args.data and args.data / "series", "series", "fetch the series")
    files = series(folder)
    files = dict([*files.items()][:1]) if args.quick else files
    table: dict[str, Any] = {}
    worst = 0.0
    for name, (train, test) in files.items():
        ae, seconds = fitted(train, True, "series")
        for bound in (1e-2, 1e-3):
            data, report = coded(ae, test, "rel-error", bound, measure=True)
            worst = max(worst, report.get("error_over_bound", 0.0))
            own, plain, bounds = wholes(ae, test, bound)
            ours = 8 * len(data) / test.size
            found = {"bits": ours, "codec_bytes": report["codec_bytes"], "fit_cpu_s": round(seconds, 1)}
            jobs = [{"job": "ints", "data": plain}, {"job": "bounded", "data": test, "bounds": bounds}]
            a, b, c = peers(*jobs, {"job": "ints", "data": own}) if peers.env else ({}, {}, report["baselines"])
            if peers.env:
                best = min((a | b).values())
                found |= {
                    "best": 8 * best / test.size,
                    "by": min(a | b, key=(a | b).get),
                    "saving": 1 - len(data) / best,
                }
                found["peers"] = {k: round(8 * v / test.size, 4) for k, v in (a | b).items()}
            found["best_grid"] = 8 * min(c.values()) / test.size
            found["saving_grid"] = 1 - len(data) / min(c.values())
            table[f"{name}_{bound:g}"] = {k: round(v, 4) if isinstance(v, float) else v for k, v in found.items()}
            print(name, bound, table[f"{name}_{bound:g}"], file=sys.stderr, flush=True)
    figures: dict[str, Any] = {"sensors": table, "max_error_over_bound": round(worst, 6)}
    for bound in ("0.01", "0.001"):
        rows = [v for k, v in table.items() if k.endswith("_" + bound) and not k.startswith("skab")]
        label = "1e-2" if bound == "0.01" else "1e-3"
        if peers.env:
            figures[f"sensors_saving_{label}"] = round(float(np.mean([r["saving"] for r in rows])), 4)
            figures[f"sensors_saving_{label}_least"] = round(min(r["saving"] for r in rows), 4)
        figures[f"sensors_saving_{label}_grid"] = round(float(np.mean([r["saving_grid"] for r in rows])), 4)
    return figures, {}


def wholes(ae: Any, test: np.ndarray, bound: float) -> tuple[np.ndarray, np.ndarray, list[float]]:
    """Our whole numbers of the test part, those of the plain width 2E, and the bounds E."""
    coder = ae.use_
    bounds = [bound * r for r in coder.ranges]
    level = next(level for level in coder.levels if level.bound == bound)
    own = np.stack([q.wholes(test[:, coder.columns.index(n)])[0] for n, q in level.quantisers.items()], 1)
    # A column that never moved has no width: it is exact, on its grid, else by its bits.
    plain = []
    for x, e, (grid, *_) in zip(test.T.copy(), bounds, coder.grids, strict=True):
        if e > 0:
            plain.append(np.rint(x.astype(float) / (2 * e)).astype(np.int64))
        else:
            plain.append(x.view(np.int32).astype(np.int64) if grid is None else grid.places(x).astype(np.int64))
    return own, np.stack(plain, 1), bounds


def embeddings(args: Any, peers: Peers) -> tuple[dict[str, Any], dict[str, Any]]:
    folder = place(args.data and args.data / "text", "text", "fetch multi30k")
    lines = {n: (folder / f"multi30k.{n}.en").read_text(encoding="utf-8").splitlines() for n in ("train", "val")}
    settings = {"train.unplanned": [1, 50]} if args.quick else {"train.unplanned": [2, 400]}
    text = lt.Autoencoder("reconstruct", dim=256, kind="text", random_state=0, settings=settings).fit(lines["train"])
    train, test = text.transform(lines["train"]), text.transform(lines["val"])
    ae, seconds = fitted(train, True, "table")
    table, savings = {}, []
    for bound in (1e-2, 1e-3):
        data, report = coded(ae, test, "rel-error", bound, measure=True)
        plain, bounds = wholes(ae, test, bound)[1:]
        found = {
            "bits": 8 * len(data) / test.size,
            "codec_bytes": report["codec_bytes"],
            "fit_cpu_s": round(seconds, 1),
        }
        if peers.env:
            a, b = peers({"job": "ints", "data": plain}, {"job": "bounded", "data": test, "bounds": bounds})
            found |= {k: 8 * v / test.size for k, v in (a | b).items()}
            best = min((a | b).values())
        else:
            best = min(report["baselines"].values())
        savings.append(1 - len(data) / best)
        table[f"{bound:g}"] = {k: round(v, 4) if isinstance(v, float) else v for k, v in found.items()}
        table[f"{bound:g}"]["saving"] = round(savings[-1], 4)
    return {"embeddings": table, "embeddings_saving": round(float(np.mean(savings)), 4)}, {}


def speed(args: Any, peers: Peers) -> tuple[dict[str, Any], dict[str, Any]]:
    rng = np.random.default_rng(0)
    rows, mix = 20_000 if args.quick else 200_000, rng.normal(size=(19, 19)) / 4 + np.eye(19)
    steps = rng.normal(size=(rows + 10_000, 19)) @ mix
    walks = steps.copy()
    for t in range(1, len(walks)):
        walks[t] += 0.98 * walks[t - 1]
    walks = np.round(walks, 2)
    ae, _ = fitted(walks[:10_000], True, "series")
    few, _ = fitted(np.round(steps[:10_000], 2), True, "table")
    found: dict[str, Any] = {}
    for name, model, many in (("series", ae, walks[10_000:]), ("table", few, np.round(steps[10_000:], 2))):
        taken, back = [], []
        for _ in range(3):
            begun = time.process_time()
            data, report = coded(model, many, "rel-error", 1e-2, verify=False)
            taken.append(many.nbytes / 1e6 / (time.process_time() - begun))
            begun = time.process_time()
            stream, closing = open_stream(data)
            with closing:
                out = stream.layout.join(list(stream.blocks(model.use_)))
            back.append(many.nbytes / 1e6 / (time.process_time() - begun))
            assert np.abs(out - many).max() <= 0.01 * max(model.use_.ranges)
        found[name] = {
            "encode_mb_s": round(float(np.median(taken)), 2),
            "decode_mb_s": round(float(np.median(back)), 2),
        }
        found[name] |= {"won": report["won"], "bits": round(8 * len(data) / many.size, 4)}
    return {
        "speed": found,
        "encode_mb_s": min(v["encode_mb_s"] for v in found.values()),
        "decode_mb_s": min(v["decode_mb_s"] for v in found.values()),
    }, {}


# ── pictures ────────────────────────────────────────────────────────────────────────────────────────────────────────


def two_part(ae: Any, pixels: np.ndarray) -> float:
    """Bits a pixel of the two-part code by itself, decoded and compared."""
    from latente.uses.learned.codec_latents import whole_codes

    latents = ae.use_.pictures.latents
    total = 0
    for start in range(0, len(pixels), 5_000):
        some = pixels[start : start + 5_000]
        data = latents.encode(some, whole_codes(ae.model_)(some))
        assert (latents.decode(memoryview(data), len(some)) == some).all()
        total += len(data)
    return 8 * total / pixels.size


def digits(args: Any, peers: Peers) -> tuple[dict[str, Any], dict[str, Any]]:
    train, test = mnist(args.data and args.data / "images" / "mnist")
    train, test = (train[:3000], test[:500]) if args.quick else (train, test)
    ae, seconds = fitted(train, args.quick)
    data, report = coded(ae, test, measure=True)
    found: dict[str, Any] = {"bits": 8 * len(data) / test.size, "fit_cpu_s": round(seconds, 1)}
    found |= {k: report[k] for k in ("codec_bytes", "model_file_bytes", "won", "encode_mb_s", "decode_mb_s")}
    found["two_part"] = two_part(ae, test[..., None])
    small, seconds = fitted(train, True, **{"use.leaves": 200, "use.latents": False, "use.qualities": False})
    data, report = coded(small, test)
    found["small"] = {"bits": 8 * len(data) / test.size, "codec_bytes": report["codec_bytes"]}
    theirs = peers({"job": "pictures", "data": test[..., None]})[0] or report.get("baselines", {})
    return (
        {"mnist": rounded(found), "mnist_bits": round(found["bits"], 4), "mnist_vae_bits": round(found["two_part"], 4)},
        {"mnist": {k: round(8 * v / test.size, 4) for k, v in theirs.items()}},
    )


def binary(args: Any, peers: Peers) -> tuple[dict[str, Any], dict[str, Any]]:
    from latente.uses.learned.codec_latents import whole_codes

    train, test = mnist(args.data and args.data / "images" / "mnist")
    train, test = (train[:3000], test[:500]) if args.quick else (train, test)
    drawn = (np.random.RandomState(0).rand(len(test), 784) * 255 < test.reshape(-1, 784)) * np.uint8(255)
    drawn = drawn.reshape(-1, 28, 28)
    ae, seconds = fitted(train, args.quick, **{"kind.binarize": True, "nets.widths": [500, 500]})
    data, report = coded(ae, drawn, measure=True)
    found: dict[str, Any] = {"bits": 8 * len(data) / test.size, "won": report["won"], "fit_cpu_s": round(seconds, 1)}
    found["codec_bytes"] = report["codec_bytes"]
    found["two_part"] = two_part(ae, drawn[..., None])
    found["elbo_nats"] = lt.evaluate(ae, drawn)["neg_elbo"]
    found["two_part_nats"] = found["two_part"] * 784 * np.log(2)
    # Given the latents alone: what the decoder says of a pixel is its only context, by 2^16 of the training pictures.
    latents, codes = ae.use_.pictures.latents, whole_codes(ae.model_)
    few = (np.random.default_rng(1).random((20_000, 28, 28)) * 255 < train[:20_000]) * np.uint8(255)
    told = [latents.told(codes(x[..., None])).transpose(2, 0, 1).clip(-127, 127) + 127 for x in (few, drawn)]
    ones = np.bincount(told[0].ravel(), weights=(few > 0).ravel(), minlength=255) + 0.5
    share = ones / (np.bincount(told[0].ravel(), minlength=255) + 1.0)
    bits = -np.log2(np.where(drawn > 0, share[told[1]], 1 - share[told[1]])).sum()
    z = codes(drawn[..., None])
    from latente.codec.numbers import folded, symbols_of

    symbols, raw, _ = symbols_of(folded(z), latents.tables.symbols)
    bits += (latents.tables.bits[np.arange(z.shape[1])[None], symbols] + raw).sum()
    found["by_code"] = float(bits) / test.size
    theirs = peers({"job": "pictures", "data": np.packbits(drawn > 0).reshape(-1, 1, 28, 1)})[0]
    return {"binary": rounded(found), "binary_mnist_bits": round(found["two_part"], 4)}, {
        "binary": {k: round(8 * v / test.size, 4) for k, v in theirs.items() if k in ("xz", "zstd")}
    }


def colour(args: Any, peers: Peers) -> tuple[dict[str, Any], dict[str, Any]]:
    folder = place(args.data and args.data / "images", "images", "fetch CIFAR-10 as JPEG")
    whole = lt.read(folder / "cifar10-jpg-22k.zip", "image")
    test_part = np.array(["test" in name for name in whole.names])
    train, test = whole.pixels[~test_part], whole.pixels[test_part]
    train, test = (train[:1500], test[:100]) if args.quick else (train, test)
    ae, seconds = fitted(train, True)
    data, report = coded(ae, test, measure=True)
    found: dict[str, Any] = {"lossless_bits": 8 * len(data) / test.size, "won": report["won"], "fit_cpu_s": seconds}
    found["codec_bytes"] = report["codec_bytes"]
    points = []
    for quality in range(1, 9):
        data, _ = coded(ae, test, "quality", quality)
        shown = lt.decompress(data, model=ae)
        error = ((shown.astype(float) - test) ** 2).mean((1, 2, 3))
        psnr = np.minimum(10 * np.log10(255**2 / np.maximum(error, 1e-9)), 60).mean()
        points.append([24 * len(data) / test.size, float(psnr)])
    found["curve"] = [[round(v, 4) for v in p] for p in points]
    lossless, curves = peers({"job": "pictures", "data": test}, {"job": "curve", "data": test})
    if not curves:
        return {"colour": rounded(found)}, {}
    jpeg = curves["jpeg444"] + curves["jpeg420"]
    savings = {}
    for d in DECIBELS:
        ours, by_jpeg, webp = at(points, d), at(jpeg, d), at(curves["webp"], d)
        savings[str(d)] = {
            "bpp": ours,
            "jpeg": by_jpeg,
            "webp": webp,
            "saving": 1 - ours / by_jpeg,
            "over_webp": 1 - ours / webp,
        }
    found["at"] = {k: rounded(v) for k, v in savings.items()}
    theirs = {k: round(8 * v / test.size, 4) for k, v in lossless.items()}
    mean = round(float(np.mean([s["saving"] for s in savings.values()])), 4)
    return {"colour": rounded(found), "colour_saving": mean}, {"colour_lossless": theirs}


def at(points: list[list[float]], decibels: float) -> float:
    """Bits a pixel at a PSNR: of points that no other beats in both, log bits along straight lines between them."""
    best: list[list[float]] = []
    for bits, psnr in sorted(points):
        if not best or psnr > best[-1][1]:
            best.append([bits, psnr])
    x, y = np.array(best).T
    return float(np.exp(np.interp(decibels, y, np.log(x))))


def rounded(found: dict[str, Any]) -> dict[str, Any]:
    return {
        k: round(v, 4) if isinstance(v, float) else rounded(v) if isinstance(v, dict) else v for k, v in found.items()
    }


# ── one stream, many machines ───────────────────────────────────────────────────────────────────────────────────────

_ENVIRONMENTS: tuple[dict[str, str], ...] = (
    {"OMP_NUM_THREADS": "1"},
    {"OMP_NUM_THREADS": "2"},
    {"OPENBLAS_NUM_THREADS": "1"},
    {"OPENBLAS_NUM_THREADS": "2"},
    {"OPENBLAS_CORETYPE": "Haswell"},
    {"OPENBLAS_CORETYPE": "Prescott"},
    {"OPENBLAS_CORETYPE": "SkylakeX"},
    {"NPY_DISABLE_CPU_FEATURES": "AVX2 FMA3"},
    {"ONEDNN_MAX_CPU_ISA": "SSE41", "MKL_NUM_THREADS": "1"},
    {"ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_NUM_THREADS": "2"},
)
_DECODE = """
import hashlib, sys
import latente as lt, numpy as np
x = lt.decompress(sys.argv[1], model=sys.argv[2])
print(hashlib.sha256(np.ascontiguousarray(x).tobytes()).hexdigest())
"""


def settings(args: Any, peers: Peers) -> tuple[dict[str, Any], dict[str, Any]]:
    rng = np.random.default_rng(0)
    sensors_ = series(place(args.data and args.data / "series", "series", "fetch the series"))["omi-1"]
    grey = mnist(args.data and args.data / "images" / "mnist")
    small = rng.normal(size=(3000, 12)).astype(np.float32) @ rng.normal(size=(12, 12)).astype(np.float32)
    photo = np.cumsum(rng.integers(-9, 10, (400, 16, 16, 3)), 1).clip(-120, 120).astype(np.int16) + 128
    kinds = {
        "sensors": (sensors_[0], sensors_[1][:1500], "series", ("rel-error", 1e-2)),
        "embeddings": (small[:2500], small[2500:], "table", ("rel-error", 1e-3)),
        "arrays": (np.round(small[:2500], 2), np.round(small[2500:], 2), "table", ("lossless", None)),
        "grey": (grey[0][:1500], grey[1][:200], "image", ("lossless", None)),
        "colour": (photo[:300].astype(np.uint8), photo[300:].astype(np.uint8), "image", ("quality", 5)),
    }
    same: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, (train, test, kind, mode) in kinds.items():
            ae, _ = fitted(train, True, kind)
            model, stream = Path(folder) / f"{name}.safetensors", Path(folder) / f"{name}.ltz"
            ae.save(model)
            stream.write_bytes(coded(ae, test, *mode)[0])
            here = lt.decompress(stream, model=ae)
            digests = set()
            for more in _ENVIRONMENTS[: 3 if args.quick else None]:
                command = [sys.executable, "-W", "ignore", "-c", _DECODE, str(stream), str(model)]
                done = subprocess.run(command, capture_output=True, env=os.environ | more, check=True)
                digests.add(done.stdout.strip().decode())
            import hashlib

            digests.add(hashlib.sha256(np.ascontiguousarray(here).tobytes()).hexdigest())
            same[name] = len(digests)
    return {"settings": same, "settings_identical": all(n == 1 for n in same.values())}, {}


RUN = {
    "sensors": sensors,
    "embeddings": embeddings,
    "mnist": digits,
    "binary": binary,
    "colour": colour,
    "speed": speed,
    "settings": settings,
}
if __name__ == "__main__":
    main()
