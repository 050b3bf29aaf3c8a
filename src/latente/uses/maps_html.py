"""A map as one page to explore: no network, nothing but what is in it, whatever the data say."""

import base64
import html
import io
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .maps_fields import COLOURED, GREY, PALETTE, Field

if TYPE_CHECKING:
    from .maps import Landscape

TEMPLATE = Path(__file__).with_name("maps_page.html")
# Rows that a page holds; cells of columns beside them; letters of texts beside them.
ROWS, CELLS, LETTERS = 500_000, 6_000_000, 20_000_000
# Pictures that are shown small, and the longer side that they then have at most.
THUMBNAILS, SIDE = 2_000, 48
# Colours of a scale, from matplotlib's.
STEPS = 64


def page(found: "Landscape") -> bytes:
    """The page. Text of the data is in it as JSON alone, in which no sign of HTML is left; the page's program shows it
    as text, never as HTML; and a policy in its head lets nothing else in.
    """
    rows = _rows(found)
    fields, left = _fields(found, rows)
    data: dict[str, Any] = {
        "name": found.name,
        "by": found.by,
        "total": len(found),
        "rows": None if len(rows) == len(found) else _packed(rows, np.uint32),
        "n": len(rows),
        "dim": found.points.shape[1],
        "points": [_packed(_unit(found.points)[rows, i], np.float32) for i in range(found.points.shape[1])],
        "outlier": _packed(found.outlier[rows], np.uint8),
        "fields": fields,
        "left": left,
        "start": found.coloured_by.name,
        "clusters": [
            {"number": c.number, "size": c.size, "words": list(c.words), "medoid": int(np.searchsorted(rows, c.medoid))}
            for c in found.clusters
        ],
        "loose": int((found.cluster < 0).sum()),
        "trends": [
            {"axis": t.axis, "direction": t.direction, "words": [w for *_, w in t.columns]} for t in found.trends
        ],
        "measure": found.measure,
        "figures": {k: v for k, v in found.figures.items() if isinstance(v, float)},
        "palette": PALETTE,
        "coloured": COLOURED,
        "grey": GREY,
        "scale": _scale(),
    }
    if found.pictures is not None:
        data["sprite"] = _sprite(found, rows)
    template = TEMPLATE.read_text(encoding="utf-8")
    head, tail = template.split("{{data}}")
    name = html.escape(found.name, quote=True)
    return (head.replace("{{name}}", name) + _json(data) + tail).encode("utf-8")


def _json(data: Any) -> str:
    """JSON that is safe within a page: it holds none of the signs that end an element or begin one."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for sign in "<>&\u2028\u2029":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return text


def _rows(found: "Landscape") -> np.ndarray:
    """The rows that the page holds: all, or so many by chance, with the outliers and the groups' middlemost rows."""
    n = len(found)
    if n <= ROWS:
        return np.arange(n)
    some = np.random.default_rng(found.seed).choice(n, ROWS, replace=False)
    kept = [some, found.strangest[:10_000], np.array([c.medoid for c in found.clusters], int)]
    return np.unique(np.concatenate(kept)).astype(np.int64)


def _unit(points: np.ndarray) -> np.ndarray:
    """Points within −1 … 1: float32 then has digits to spare."""
    middle = (points.max(0) + points.min(0)) / 2
    return np.asarray((points - middle) / (np.ptp(points, axis=0).max() / 2 or 1.0))


def _packed(values: Any, dtype: Any) -> str:
    """Little-endian numbers as base64."""
    return base64.b64encode(np.ascontiguousarray(values, np.dtype(dtype).newbyteorder("<")).tobytes()).decode()


def _fields(found: "Landscape", rows: np.ndarray) -> tuple[list[dict[str, Any]], list[str]]:
    """All that points can be coloured by or say, as far as there is room, and the names of what is left out."""
    made, left, cells, letters = [], [], 0, 0
    for field in found.choices.values():
        cells += len(rows)
        packed = _field(field, rows)
        letters += sum(map(len, packed.get("levels", ())))
        own = field.name in ("label", "cluster", "anomaly")
        if not own and (cells > CELLS or letters > LETTERS):
            left.append(field.name)
            letters -= sum(map(len, packed.get("levels", ())))
            cells -= len(rows)
            continue
        made.append(packed)
    return made, left


def _field(field: Field, rows: np.ndarray) -> dict[str, Any]:
    values = field.values[rows]
    if field.numeric:
        there = values[~np.isnan(values)]
        low, high = np.percentile(there, (2, 98)) if len(there) else (0.0, 1.0)
        if low == high and len(there):
            low, high = there.min(), there.max()
        dtype = np.float64 if field.sort == "date" or (len(there) and np.abs(there).max() > 2**24) else np.float32
        found = {"name": field.name, "sort": field.sort, "low": float(low), "high": float(high)}
        return found | {"bits": np.dtype(dtype).itemsize * 8, "values": _packed(values, dtype)}
    used, codes = np.unique(values[values >= 0], return_inverse=True)
    if len(field.levels) <= COLOURED:
        used = np.arange(len(field.levels))
        codes = values[values >= 0]
    whole = np.zeros(len(values), np.uint32)  # 0 is missing
    whole[values >= 0] = codes + 1
    levels = [field.levels[u] for u in used]
    return {"name": field.name, "sort": field.sort, "levels": levels, "bits": 32, "values": _packed(whole, np.uint32)}


def _scale() -> list[str]:
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    return [to_hex(colormaps["viridis"](i / (STEPS - 1))) for i in range(STEPS)]


def _sprite(found: "Landscape", rows: np.ndarray) -> dict[str, Any]:
    """Small pictures of some rows on one sheet: outliers, the groups' middlemost rows, and others by chance."""
    from PIL import Image

    assert found.pictures is not None
    order = np.random.default_rng(found.seed).permutation(len(rows))
    first = [*found.strangest[: THUMBNAILS // 4], *(c.medoid for c in found.clusters)]
    chosen = dict.fromkeys([*map(int, np.searchsorted(rows, first)), *map(int, order)])
    some = np.sort(np.array(list(chosen)[:THUMBNAILS]))
    pixels = found.pictures[rows[some]]
    h, w, c = pixels.shape[1:]
    shrink = min(1.0, SIDE / max(h, w))
    size = (max(1, round(w * shrink)), max(1, round(h * shrink)))
    across = int(np.ceil(np.sqrt(len(some))))
    mode = "L" if c == 1 else "RGB"
    sheet = Image.new(mode, (across * size[0], -(-len(some) // across) * size[1]))
    for i, one in enumerate(pixels):
        image = Image.fromarray(np.ascontiguousarray(one[..., 0] if c == 1 else one))
        image = image if shrink == 1.0 else image.resize(size, Image.Resampling.LANCZOS)
        sheet.paste(image, (i % across * size[0], i // across * size[1]))
    held = io.BytesIO()
    if c == 1:
        sheet.save(held, "PNG", optimize=True)
    else:
        sheet.save(held, "JPEG", quality=85)
    kind = "png" if c == 1 else "jpeg"
    url = f"data:image/{kind};base64,{base64.b64encode(held.getvalue()).decode()}"
    return {"url": url, "width": size[0], "height": size[1], "across": across, "rows": some.tolist()}
