"""Bend pictures."""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from ...errors import ConfigError
from ...parts import part, require
from ..batch import Batch
from ..noise import normal, uniform

# Points a side of the grid that is bent.
POINTS = 5


@part("corruption", "deform")
@dataclass(frozen=True)
class Deform:
    """Show the encoder each picture turned, stretched, slanted, shifted and bent a little, by other amounts each time.

    What must be given back is the picture as it was, so the code says what a picture shows, not how it lies: distances
    between codes then are between things. rotation: degrees, up to which; scale: share by which either side grows or
    shrinks; shear; shift: share of half the picture; bend: standard deviation, in the same unit, of the points of a
    coarse grid that is laid over it.

    Reconstructions lose what was bent. Source: of bending as knowledge of what stays the same, Simard et al. 2003,
    "Best practices for convolutional neural networks".
    """

    rotation: float = 20.0
    scale: float = 0.18
    shear: float = 0.35
    shift: float = 0.1
    bend: float = 0.1
    pictures = True  # what it is for

    def __post_init__(self) -> None:
        for name, most in (("rotation", 180), ("scale", 0.9), ("shear", 2), ("shift", 1), ("bend", 1)):
            require(0 <= getattr(self, name) <= most, self, name, f"from 0 to {most}")

    def __call__(self, batch: Batch, continuous: Tensor, generator: torch.Generator | None) -> Batch:
        x = batch.x
        if x.dim() != 4:
            raise ConfigError("corruption 'deform' bends pictures", hint="--set corruption=swap")
        grid = self.grid(x, generator)
        observed = batch.observed
        if observed is not None:
            # Where a gap is seen there is a gap.
            observed = F.grid_sample(observed.to(x.dtype), grid, mode="nearest", align_corners=False) > 0.5
        return replace(batch, x=F.grid_sample(x, grid, align_corners=False), observed=observed)

    def grid(self, x: Tensor, generator: torch.Generator | None) -> Tensor:
        """From where each pixel of a bent picture is taken, from −1 to 1. [b, h, w, 2]"""
        b, _, h, w = x.shape
        r = (2 * uniform((b, 6), generator, x.device) - 1).T
        angle = math.radians(self.rotation) * r[0]
        sx, sy, shear = 1 + self.scale * r[1], 1 + self.scale * r[2], self.shear * r[3]
        cos, sin = angle.cos(), angle.sin()
        # Turned, then slanted and stretched.
        rows = torch.stack(
            [
                torch.stack([sx * cos, sx * (shear * cos - sin), self.shift * r[4]], -1),
                torch.stack([sy * sin, sy * (shear * sin + cos), self.shift * r[5]], -1),
            ],
            1,
        )
        found = F.affine_grid(rows, [b, 1, h, w], align_corners=False)
        bent = self.bend * normal((b, 2, POINTS, POINTS), generator, x.device)
        bent = F.interpolate(bent, (h, w), mode="bicubic", align_corners=True)
        return found + bent.permute(0, 2, 3, 1)
