"""A campaign against the codec's streams: what `bench/fuzz.py` and the slow tests run.

Mutations are made of (seed, number) alone. Some change bytes as they lie: whatever is given back must be rows of the
original, where they were, and what is lost must be named. Others change parts and make all seals anew, so that what is
behind the seals is reached: there any values may come, but no crash, no hang and no more memory than a chunk may take.
"""

import contextlib
import json
import random
import resource
import signal
import struct
import warnings
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

import latente as lt
from latente.codec import container
from latente.codec.coder import Coder
from latente.codec.container import Damage, digest, sections, sections_of
from latente.errors import LatenteError
from latente.uses import decompression
from latente.uses.streams import decompressed, open_stream

# The share of mutations whose seals are made anew, and what others do.
SEALED = 0.3
KINDS = ("flip", "flip", "byte", "cut", "insert", "delete", "zero", "drop", "double", "swap", "splice", "marks")
QUICK = {"train.unplanned": (1, 20), "nets.widths": (16,), "latent.dim": 3, "use.leaves": 40}
SECONDS = 5
_CHUNK = struct.Struct("<IQIQI8s8s")


@dataclass(frozen=True)
class Base:
    """A stream, its coder, and the bytes of each of its rows."""

    name: str
    data: bytes
    coder: Coder
    rows: list[bytes]
    parts: "Parts"


@dataclass(frozen=True)
class Parts:
    """A stream taken apart: header, chunks (number, first, rows, size, digest, sections), and where chunks lie."""

    header: dict[str, Any]
    chunks: list[tuple[int, int, int, int, bytes, list[tuple[int, bytes]]]]
    places: list[tuple[int, int]]

    @staticmethod
    def of(data: bytes) -> "Parts":
        length = struct.unpack_from("<HI", data, 8)[1]
        header, at = json.loads(zlib.decompress(data[14 : 14 + length])), 22 + length
        chunks, places = [], []
        while data[at : at + 4] == b"chnk":
            *head, size, inside, _ = _CHUNK.unpack_from(data, at + 4)
            payload = data[at + 56 : at + 56 + size]
            chunks.append((*head, inside, [(m, bytes(d)) for m, d in sections_of(payload)]))
            places.append((at, at + 56 + size))
            at += 56 + size
        return Parts(header, chunks, places)

    def sealed(self) -> bytes:
        """The stream of these parts, every seal made for them."""
        packed = zlib.compress(json.dumps(self.header, sort_keys=True).encode(), 1)
        start = container.MAGIC + struct.pack("<HI", 1, len(packed)) + packed
        key = digest(start)
        out = [start, key]
        for number, first, rows, size, inside, parts in self.chunks:
            payload = sections(parts)
            head = b"chnk" + _CHUNK.pack(number, first, rows, size, len(payload), inside, digest(payload, key=key))
            out += [head, digest(head, key=key), payload]
        index = b"indx" + struct.pack("<IQ", 0, sum(c[2] for c in self.chunks))
        return b"".join([*out, index, digest(index, key=key), struct.pack("<Q4s", 0, b"LTZE")])


def rows_of(block: Any) -> list[bytes]:
    """The bytes of each row."""
    parts = [*([] if block.pixels is None else [block.pixels]), *block.numbers]
    table = np.concatenate([np.ascontiguousarray(p).view(np.uint8).reshape(block.rows, -1) for p in parts], 1)
    other = [b""] * block.rows if block.other is None else [repr(r).encode() for r in block.other.to_pylist()]
    return [row.tobytes() + more for row, more in zip(table, other, strict=True)]


def bases() -> list[Base]:
    """Small streams of four models, in every mode, of some chunks each."""
    rng = np.random.default_rng(0)
    a = np.cumsum(rng.normal(size=1000))
    frame = pd.DataFrame({"grid": np.round(a, 1), "free": a.astype(np.float32), "whole": rng.poisson(3, 1000)})
    frame["word"] = rng.choice(["on", "off"], 1000)
    new = frame.iloc[900:960].reset_index(drop=True).assign(text=[f"t{i}" for i in range(60)])
    new.loc[[3, 40], "free"] = [np.nan, np.inf]
    x = (rng.normal(size=(700, 2)) @ rng.normal(size=(2, 5)) + 0.1 * rng.normal(size=(700, 5))).astype(np.float32)
    y, c = np.mgrid[:6, :6]
    far = (y - rng.uniform(1, 5, (300, 1, 1))) ** 2 + (c - rng.uniform(1, 5, (300, 1, 1))) ** 2
    grey = np.clip(300 - 60 * far, 0, 255).astype(np.uint8)
    photo = np.clip(128 + np.cumsum(rng.normal(0, 9, (120, 8, 9, 3)), 2), 0, 255).astype(np.uint8)
    kinds: list[tuple[str, Any, Any, list[dict[str, Any]], int]] = [
        ("series", frame.iloc[:900], new, [{}, {"rel_error": 0.01}, {"max_error": 0.3}], 25),
        ("table", x[:650], x[650:], [{}, {"rel_error": 0.001}], 20),
        ("image", grey[:280], grey[280:], [{}, {"max_error": 2}], 8),
        ("image", photo[:110], photo[110:], [{}, {"quality": 3}], 4),
    ]
    found = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for kind, train, test, modes, rows in kinds:
            ae = lt.Autoencoder("codec", kind=kind, random_state=0, settings=QUICK).fit(train)
            for mode in modes:
                data = lt.compress(ae, test, rows=rows, **mode)
                stream, closing = open_stream(data)
                with closing:
                    original = [r for b in stream.blocks(ae.use_) for r in rows_of(b)]
                found.append(Base(f"{kind} {mode}", data, ae.use_, original, Parts.of(data)))
    return found


def mutated(base: Base, other: Base, r: random.Random) -> tuple[str, bytes, bool]:
    """(kind, stream, whether its seals were made anew)."""
    data, places = bytearray(base.data), base.parts.places
    if r.random() < SEALED:
        return _resealed(base, other, r)
    kind = r.choice(KINDS)
    at = r.randrange(len(data))
    if kind == "flip":
        for _ in range(r.choice([1, 1, 2, 9])):
            data[r.randrange(len(data))] ^= 1 << r.randrange(8)
    elif kind == "byte":
        data[at] = r.randrange(256)
    elif kind == "cut":
        del data[at:]
    elif kind == "insert":
        data[at:at] = r.randbytes(r.choice([1, 7, 300]))
    elif kind == "delete":
        del data[at : at + r.choice([1, 5, 200])]
    elif kind == "zero":
        data[at : at + 40] = bytes(len(data[at : at + 40]))
    elif kind == "marks":
        data[at:at] = r.choice([b"chnk", b"indx", b"LTZE"]) * r.choice([1, 50])
    elif kind == "splice":
        i = r.randrange(len(other.parts.places))
        a, b = other.parts.places[i]
        data[at:at] = other.data[a:b]
    else:
        a, b = places[r.randrange(len(places))]
        one = bytes(data[a:b])
        if kind == "drop":
            del data[a:b]
        elif kind == "double":
            data[b:b] = one
        else:
            del data[a:b]
            data[places[0][0] : places[0][0]] = one
    return kind, bytes(data), False


def _resealed(base: Base, other: Base, r: random.Random) -> tuple[str, bytes, bool]:
    parts = base.parts
    chunks = list(parts.chunks)
    i = r.randrange(len(chunks))
    number, first, rows, size, inside, own = chunks[i]
    kind = r.choice(["payload", "payload", "method", "rows", "size", "sections", "header", "foreign"])
    header = parts.header
    if kind in ("payload", "method", "sections", "foreign") and own:
        k = r.randrange(len(own))
        method, data = own[k]
        if kind == "method":
            method = r.choice([*range(9), 16, 17, 18, r.randrange(256)])
        elif kind == "payload" and data:
            changed = bytearray(data)
            for _ in range(r.choice([1, 1, 3, 20])):
                changed[r.randrange(len(changed))] = r.randrange(256)
            data = bytes(changed[: r.randrange(len(changed) + 1)] if r.random() < 0.2 else changed)
        elif kind == "foreign":
            theirs = r.choice(other.parts.chunks)[5]
            method, data = r.choice(theirs)
        own = (
            own[:k]
            + ([] if kind == "sections" and r.random() < 0.5 else [(method, data)])
            + own[k + (kind != "sections") :]
        )
    elif kind == "rows":
        rows = r.choice([0, 1, rows + 1, 1 << 20, (1 << 32) - 1])
    elif kind == "size":
        size = r.choice([0, size + 1, container.MOST_DECODED, 1 << 40])
    elif kind == "header":
        header = json.loads(json.dumps(header))
        target = r.choice([header, header["layout"], header["plan"]])
        key = r.choice(list(target))
        target[key] = r.choice([None, -1, 1e308, "x", [], {}, [[0]], [["a", "int64"]], 1 << 70, True, ["quality", 9]])
    chunks[i] = (number, first, rows, size, inside, own)
    return f"sealed {kind}", replace(parts, header=header, chunks=chunks).sealed(), True


class _Hang(BaseException):
    """The time of one stream is over."""


@contextlib.contextmanager
def _within(seconds: float) -> Iterator[None]:
    def ring(*_: Any) -> None:
        raise _Hang

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def outcome(base: Base, data: bytes, sealed: bool, recover: bool) -> str:
    """What becomes of a stream: refused, whole, part; or crash, hang, wrong, with what and where."""
    try:
        with _within(SECONDS):
            stream, closing = open_stream(data)
            with closing:
                found = list(decompressed(stream, base.coder, None, recover))
            blocks = [b for b in found if not isinstance(b, Damage)]
            stream.layout.join(blocks)
    except LatenteError:
        return "refused"
    except _Hang:
        return "hang"
    except Exception as error:
        at = error.__traceback__
        while at is not None and at.tb_next is not None:
            at = at.tb_next
        place = "" if at is None else f"{at.tb_frame.f_code.co_filename.rpartition('/')[2]}:{at.tb_lineno}"
        return f"crash {type(error).__name__} {place}"
    lost = any(isinstance(d, Damage) for d in found)
    if not sealed:
        seen = {b.first + i: row for b in blocks for i, row in enumerate(rows_of(b))}
        if len(seen) < sum(b.rows for b in blocks) or any(
            n >= len(base.rows) or base.rows[n] != r for n, r in seen.items()
        ):
            return "wrong"
        if len(seen) < len(base.rows) and not lost:
            return "wrong: rows are lost without a word"
    return "part" if lost else "whole"


def campaign(streams: int, seed: int, made: list[Base]) -> dict[str, Any]:
    """Figures of so many mutations: streams, crashes, wrong_silently, hangs, outcomes, peak_mb, failures."""
    counts: Counter[str] = Counter()
    failures: dict[str, str] = {}
    # What passes its seals is an original's chunk, as a rule: each is decoded once.
    real, done = decompression.decoded, {}

    def decoded(payload: bytes, rows: int, *rest: Any) -> Any:
        key = (payload, rows, repr(rest[1:3]), repr(rest[4:]), id(rest[3]))
        if key in done:
            return done[key]
        found = real(payload, rows, *rest)
        if len(done) < 500:
            done[key] = found
        return found

    decompression.decoded = decoded
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for number in range(streams):
        r = random.Random(f"{seed}-{number}")
        base, other = r.choice(made), r.choice(made)
        kind, data, sealed = mutated(base, other, r)
        found = outcome(base, data, sealed, recover=r.random() < 0.5)
        counts[found.split()[0].rstrip(":")] += 1
        if found.split()[0] in ("crash", "hang", "wrong", "wrong:"):
            failures.setdefault(f"{found} | {kind} | {base.name}", f"seed {seed}, number {number}")
    decompression.decoded = real
    return {
        "streams": streams,
        "crashes": counts["crash"],
        "hangs": counts["hang"],
        "wrong_silently": counts["wrong"],
        "refused": counts["refused"],
        "recovered": counts["part"],
        "whole": counts["whole"],
        "grown_mb": round((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024),
        "failures": failures,
    }
