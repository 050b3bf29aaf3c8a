"""Pictures: grey or colour, all of one size, uint8 in memory."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import ConfigError, DataError
from ..model.batch import Batch
from ..model.dists.autoregressive import Autoregressive
from ..model.dists.bernoulli import Bernoulli
from ..model.dists.discretised_logistic import DiscretisedLogistic
from ..model.dists.gaussian import Gaussian
from ..model.dists.logistic_mixture import LogisticMixture
from ..model.nets.conv import Conv
from ..model.nets.mlp import Mlp
from ..model.noise import bernoulli
from ..parts import part, require
from .base import Built, Kind, Nets
from .pictures import Pictures

# Small grey pictures are learned as well, and several times faster on a CPU, by fully connected nets.
SMALL = 28 * 28


@part("kind", "image")
@dataclass(frozen=True)
class Image(Kind):
    """Pictures as pixels in [0, 1]; densities are of pixels in that range.

    likelihood: "auto" is Bernoulli for pictures of black and white alone, else Gaussian with one closed-form σ.
    components: how many logistics a pixel has where the likelihood is their mixture.
    "autoregressive", each pixel given those before it, is for black and white pictures (or binarize) of one channel.
    told: of "autoregressive", whether z speaks to each of the "pixels" or in one word to the whole "picture".
    binarize: draw every pixel as 0 or 1 with its grey value as probability, anew in every training batch; the
    likelihood is then Bernoulli (Salakhutdinov & Murray 2008; Burda et al. 2016, arXiv:1509.00519, sec. 5).
    Learned: `shape` (c, h, w); `binary`, whether every pixel was black or white; `dtype` of an array that came in, and
    `flat`, whether it had no channel axis.
    """

    likelihood: Literal[
        "auto", "gaussian", "bernoulli", "discretised-logistic", "discretised-logistic-mixture", "autoregressive"
    ] = "auto"
    components: int = 5
    told: Literal["pixels", "picture"] = "pixels"
    binarize: bool = False
    shape: tuple[int, ...] = ()
    binary: bool = False
    dtype: str = "uint8"
    flat: bool = True

    def __post_init__(self) -> None:
        fine = self.shape == () or (len(self.shape) == 3 and all(0 < s < 1 << 16 for s in self.shape))
        require(fine, self, "shape", "three sizes: channels, height, width")
        require(self.components >= 1, self, "components", "1 or more")

    @classmethod
    def accepts(cls, raw: Any) -> bool:
        if isinstance(raw, Pictures):
            return True
        if isinstance(raw, (list, tuple)):
            return len(raw) > 0 and all(type(r).__module__.startswith("PIL.") for r in raw)
        ndim, dtype = getattr(raw, "ndim", 0), str(getattr(raw, "dtype", ""))
        return ndim == 4 or (ndim == 3 and dtype == "uint8")

    def learn_blocks(self, blocks: Iterable[Any]) -> "Image":
        n, differ, kind = 0, False, replace(self, binary=True)
        first = np.empty(0)
        for raw in blocks:
            pictures, _ = as_pictures(raw)
            h, w, c = pictures.shape[1:]
            if n == 0:
                array = not isinstance(raw, (Pictures, list, tuple))
                dtype, flat = (str(raw.dtype), raw.ndim == 3) if array else ("uint8", c == 1)
                kind, first = replace(kind, shape=(c, h, w), dtype=dtype, flat=flat), pictures[:1].copy()
            elif (c, h, w) != kind.shape:
                raise DataError(
                    f"picture {n:,} is of {w}×{h} pixels in {c} channel(s), those before it of "
                    f"{kind.shape[2]}×{kind.shape[1]} in {kind.shape[0]}",
                    hint="give all blocks one shape",
                )
            n += len(pictures)
            differ = differ or not (pictures == first).all()
            kind = replace(kind, binary=kind.binary and bool(np.isin(pictures, (0, 255)).all()))
        if n < 2:
            raise DataError(f"found {n} picture(s) (n_samples={n}), and a model needs 2 or more to learn from")
        # Equal pictures leave nothing to learn, whatever they show.
        if not differ:
            raise DataError(f"there is nothing to learn: all {n} pictures are the same", hint="check the folder")
        if kind.likelihood == "autoregressive":
            kind._require_black_and_white()
        return kind

    def to_batch(self, raw: Any) -> Batch:
        pictures, observed = as_pictures(raw)
        _, h, w, c = pictures.shape
        if (c, h, w) != self.shape:
            raise DataError(
                f"pictures of {w}×{h} pixels in {c} channel(s), and the model was fitted on "
                f"{self.shape[2]}×{self.shape[1]} in {self.shape[0]}",
                hint="resize them, or give the folder or zip: pictures from files are brought to the model's size",
            )
        pixels = np.ascontiguousarray(pictures.transpose(0, 3, 1, 2))
        # torch has no read-only tensors: a memory map or a view of bytes is copied.
        x = torch.from_numpy(pixels if pixels.flags.writeable else pixels.copy())
        if observed is None:
            return Batch(x)
        return Batch(x, torch.from_numpy(observed)[:, None].expand(x.shape).clone())

    def prepare(self, batch: Batch, generator: torch.Generator | None = None) -> Batch:
        x = batch.x.float().div_(255)
        if self.binarize and generator is not None:
            x = bernoulli(x, generator)
        return replace(batch, x=x)

    def restore(self, x: Tensor) -> Any:
        pixels = x.detach().float().clamp(0, 1).cpu().numpy().transpose(0, 2, 3, 1)
        if self.flat:
            pixels = pixels[..., 0]
        return np.rint(pixels * 255).astype(np.uint8) if self.dtype == "uint8" else pixels.astype(self.dtype)

    def build(self, nets: Nets, dim: int) -> Built:
        likelihood = self._likelihood().build(self.shape)
        body, width = nets.encoder(self.shape)
        decoder = nets.decoder(dim, likelihood.out_shape)
        return Built(_Encoder(self.shape[0], body), width, decoder, likelihood, self.shape)

    @property
    def nets(self) -> Nets:
        c, h, w = self.shape
        return Mlp((512, 512), residual=True) if c == 1 and h * w <= SMALL else Conv()

    @property
    def shown(self) -> str:
        # Pixels that are drawn one after the other fit together, and what z leaves open is open in the draw alone.
        return "sample" if self.likelihood == "autoregressive" else "mean"

    @property
    def read_options(self) -> dict[str, Any]:
        c, h, w = self.shape or (0, 0, 0)
        return {"shape": (h, w, c)} if self.shape else {}

    def cell_name(self, index: int) -> str:
        _, h, w = self.shape
        return f"pixel (row {index // w % h}, column {index % w})"

    @property
    def summary(self) -> list[str]:
        c, h, w = self.shape
        return [f"{w}×{h} pixels, {'grey' if c == 1 else f'{c} channels'}{', black and white' if self.binary else ''}"]

    def _likelihood(self) -> Any:
        name = self.likelihood
        if name == "auto":
            name = "bernoulli" if self.binary or self.binarize else "gaussian"
        if name == "gaussian":
            return Gaussian("closed-form", "row")
        if name == "discretised-logistic-mixture":
            return LogisticMixture(self.components)
        if name == "autoregressive":
            return Autoregressive(self.told)
        return Bernoulli() if name == "bernoulli" else DiscretisedLogistic()

    def _require_black_and_white(self) -> None:
        if self.shape[0] != 1 or not (self.binary or self.binarize):
            found = "pictures of grey values" if self.shape[0] == 1 else f"pictures of {self.shape[0]} channels"
            hint = "kind.binarize=true draws them as black and white" if self.shape[0] == 1 else "kind.likelihood=auto"
            raise ConfigError(
                f"likelihood 'autoregressive' is for black and white pictures, and these are {found}", hint=hint
            )


class _Encoder(nn.Module):
    """Pixels, with a learned value where one is missing -> the body."""

    def __init__(self, channels: int, body: nn.Module) -> None:
        super().__init__()
        self.gap = nn.Parameter(torch.zeros(channels, 1, 1))
        self.body = body

    def features(self, batch: Batch) -> Tensor:
        """What the body sees."""
        return batch.x if batch.observed is None else torch.where(batch.observed, batch.x, self.gap)

    def forward(self, batch: Batch) -> Tensor:
        return self.body(self.features(batch))


def _from_pil(pictures: list[Any]) -> tuple[np.ndarray, np.ndarray | None]:
    """Pictures of PIL, by the same rules as files: grey if all are, 16 bits scaled to 8, alpha 0 is missing."""
    deep = {"I;16", "I;16B", "I", "F"}
    if len({p.size for p in pictures}) > 1:
        raise DataError("the pictures differ in size", hint="give a folder or a zip: files are brought to one size")
    if any(p.mode in {"I", "F"} for p in pictures):
        raise DataError("pictures of 32 bits a pixel have no known range", hint="scale them to uint8 arrays yourself")
    mode = "L" if all(p.mode in {"1", "L", "LA"} | deep for p in pictures) else "RGB"
    planes, seen = [], []
    for p in pictures:
        if p.mode in deep:
            grey = (np.asarray(p).astype(np.uint32) // 257).astype(np.uint8)
            planes.append(grey if mode == "L" else np.stack([grey] * 3, -1))
            seen.append(np.ones(grey.shape, bool))
        else:
            alpha = np.asarray(p.convert("RGBA"))[..., 3]
            planes.append(np.asarray(p.convert(mode)))
            seen.append(alpha > 0)
    pixels, observed = np.stack(planes), np.stack(seen)
    return pixels.reshape(*pixels.shape[:3], -1), None if observed.all() else observed


def as_pictures(raw: Any) -> tuple[np.ndarray, np.ndarray | None]:
    """Pixels as uint8 [n, h, w, c] and which of them were observed [n, h, w], or None for all."""
    if isinstance(raw, Pictures):
        return raw.pixels, raw.observed
    if isinstance(raw, (list, tuple)):
        return _from_pil(list(raw))
    array = np.asarray(raw)
    if array.ndim == 3:
        array = array[..., None]
    if array.ndim != 4 or array.shape[-1] not in (1, 3):
        raise DataError(
            f"pictures are arrays (n, h, w), (n, h, w, 1) or (n, h, w, 3), not {np.shape(raw)}",
            hint="turn channels-first arrays round with x.transpose(0, 2, 3, 1)",
        )
    if array.dtype == np.uint8:
        return array, None
    values = array.astype(np.float32)
    gaps = np.asarray(np.isnan(values).any(-1))
    low, high = (
        (float(f(np.where(np.isnan(values), 0, values))) for f in (np.min, np.max)) if values.size else (0.0, 0.0)
    )
    if low < 0 or high > 1:
        raise DataError(
            f"pixels run from {low:g} to {high:g}; numbers that are not uint8 must lie in [0, 1]",
            hint=f"scale them: (x - {low:g}) / {high - low:g}",
        )
    return np.rint(np.nan_to_num(values) * 255).astype(np.uint8), (~gaps if gaps.any() else None)
