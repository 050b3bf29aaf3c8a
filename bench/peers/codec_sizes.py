"""What other codecs make of the same data: bytes, or curves. Runs in the environment of bench/requirements-codec.txt.

    codec_sizes.py JOBS.json     a list of {"job", "file": NPY, ...}; on stdout a list of results, one JSON line

ints: whole numbers [n, c], by pcodec, zstd, xz, each the best of its ways. bounded: floats [n, c] within bounds [c], by
SZ3 and zfp. pictures: uint8 [n, h, w, c] without loss, by xz, PNG, WebP, JPEG-XL of one sheet. curve: the same with
loss, (bits a pixel, PSNR) of JPEG (its scan alone) and WebP by quality.
"""

import io
import json
import lzma
import sys

import imagecodecs
import numpy as np
import zfpy
import zstandard
from pcodec import ChunkConfig, DeltaSpec, standalone
from PIL import Image
from pysz import sz, szConfig, szErrorBoundMode


def packed(data):
    return {
        "zstd": len(zstandard.ZstdCompressor(level=19).compress(data)),
        "xz": len(lzma.compress(data, preset=9 | lzma.PRESET_EXTREME)),
    }


def pco(column):
    ways = [DeltaSpec.auto(), DeltaSpec.no_op(), DeltaSpec.try_consecutive(1), DeltaSpec.try_consecutive(2)]
    return min(
        len(standalone.simple_compress(column, ChunkConfig(compression_level=level, delta_spec=way)))
        for way in ways
        for level in (8, 12)
    )


def narrow(x):
    for dtype in (np.int8, np.int16, np.int32):
        if np.iinfo(dtype).min <= x.min() and x.max() <= np.iinfo(dtype).max:
            return x.astype(dtype)
    return x


def ints(x):
    wide = x.astype(np.int16 if np.abs(x).max() < 16_000 else np.int32 if np.abs(x).max() < 2**30 else np.int64)
    found = {"pcodec": sum(pco(np.ascontiguousarray(c)) for c in wide.T)}
    found["pcodec"] = min(found["pcodec"], pco(wide.T.ravel()), pco(wide.ravel()))
    for z in (x, np.diff(x, axis=0, prepend=0)):
        for order in "CF":
            for name, size in packed(narrow(z).tobytes(order=order)).items():
                found[name] = min(found.get(name, size), size)
    return found


def bounded(x, bounds):
    moving = np.flatnonzero(np.array(bounds) > 0)
    still = [c for c in range(x.shape[1]) if c not in moving]
    rest = sum(min(packed(np.ascontiguousarray(x[:, c]).tobytes()).values()) for c in still)
    by_column = zfp = 0
    for c in moving:
        column = np.ascontiguousarray(x[:, c])
        by_column += sz3(column, bounds[c])
        zfp += len(zfpy.compress_numpy(column, tolerance=float(bounds[c])))
    scaled = np.ascontiguousarray((x[:, moving] / np.array(bounds)[moving]).astype(np.float32))
    together = min(sz3(scaled, 1.0), sz3(np.ascontiguousarray(scaled.T), 1.0))
    return {"sz3": min(by_column, together) + rest, "zfp": zfp + rest}


def sz3(x, bound):
    config = szConfig()
    config.errorBoundMode = szErrorBoundMode.ABS
    config.absErrorBound = float(bound)
    return len(sz.compress(x, config)[0])


def sheet(x):
    n, h, w, c = x.shape
    across = next(a for a in range(int(n**0.5), 0, -1) if n % a == 0)
    return x.reshape(n // across, across, h, w, c).transpose(0, 2, 1, 3, 4).reshape(n // across * h, across * w, c)


def apart(y, shape):
    _, h, w, c = shape
    return y.reshape(y.shape[0] // h, h, y.shape[1] // w, w, c).transpose(0, 2, 1, 3, 4).reshape(shape)


def saved(image, **how):
    out = io.BytesIO()
    image.save(out, **how)
    return out.getvalue()


def pictures(x):
    whole = sheet(x)
    image = Image.fromarray(whole[..., 0] if x.shape[3] == 1 else whole)
    found = packed(x.tobytes()) | {"png": len(saved(image, format="PNG", optimize=True))}
    if max(image.size) < 16_384:
        found["webp"] = len(saved(image, format="WEBP", lossless=True, method=6))
    found["jxl"] = len(imagecodecs.jpegxl_encode(np.asarray(image), lossless=True, effort=7))
    return found


def curve(x):
    whole, n = sheet(x), x.shape[0] * x.shape[1] * x.shape[2]
    image = Image.fromarray(whole)

    def point(data, size):
        y = apart(np.asarray(Image.open(io.BytesIO(data)).convert("RGB")), x.shape)
        error = ((y.astype(float) - x) ** 2).mean((1, 2, 3))
        psnr = np.minimum(10 * np.log10(255**2 / np.maximum(error, 1e-9)), 60).mean()
        return [size * 8 / n, float(psnr)]

    def scan(data):
        at = data.index(b"\xff\xda")
        return len(data) - at - 4 - int.from_bytes(data[at + 2 : at + 4], "big")

    found = {}
    for name, sampling in (("jpeg444", 0), ("jpeg420", 2)):
        found[name] = []
        for quality in [*range(20, 96, 5), 72, 78, 82, 88, 92]:
            data = saved(image, format="JPEG", quality=quality, subsampling=sampling, optimize=True)
            found[name].append(point(data, scan(data)))
    found["webp"] = []
    for quality in range(5, 100, 5):
        data = saved(image, format="WEBP", quality=quality, method=6)
        found["webp"].append(point(data, len(data)))
    return found


def main():
    done = []
    with open(sys.argv[1], encoding="utf-8") as file:
        jobs = json.load(file)
    for job in jobs:
        x = np.load(job["file"], allow_pickle=False)
        more = [job["bounds"]] if "bounds" in job else []
        done.append({"ints": ints, "bounded": bounded, "pictures": pictures, "curve": curve}[job["job"]](x, *more))
    print(json.dumps(done))


main()
