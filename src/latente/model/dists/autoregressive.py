"""Black and white pixels, each given those before it: a PixelCNN whose inputs are the decoder's maps.

decoder ──maps──▶ + ──▶ residual blocks of masked convolutions ──▶ logits ──▶ p(pixel | pixels above and to its left, z)
pixels ──masked──▶ ┘

With such a likelihood z is needed for nothing that neighbouring pixels tell already: the textbook case of posterior
collapse (docs/collapse.md).
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...errors import ConfigError
from ...parts import part, require
from .base import Dist, Likelihood
from .bernoulli import BernoulliDist

# Rows that go through the net at once where no gradient is wanted: some 100 MB, and what a cache likes.
ROWS = 256


class _Masked(nn.Conv2d):
    """A convolution that sees the pixels above, those to the left, and, unless `strict`, the pixel itself."""

    mask: Tensor

    def __init__(self, inputs: int, outputs: int, size: int, dilation: int = 1, strict: bool = False) -> None:
        self.reach = size // 2 * dilation
        super().__init__(inputs, outputs, size, padding=self.reach, dilation=dilation)
        mask = torch.ones(size, size, dtype=torch.bool)
        mask[size // 2, size // 2 + (not strict) :] = False
        mask[size // 2 + 1 :] = False
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight * self.mask, self.bias, 1, self.padding, self.dilation)

    def matrix(self) -> Tensor:
        """The weights as a product with what `window` gives. [outputs, rows · columns · inputs]"""
        upper = (self.weight * self.mask)[:, :, : self.kernel_size[0] // 2 + 1]
        return upper.permute(0, 2, 3, 1).flatten(1)

    def memory(self, rows: int, height: int, width: int) -> Tensor:
        """Room for the inputs of pictures of which no pixel is known yet."""
        return self.weight.new_zeros(rows, height + self.reach, width + 2 * self.reach, self.in_channels)

    def put(self, memory: Tensor, i: int, j: int, values: Tensor) -> None:
        """Remember the inputs [rows, inputs] of pixel (i, j)."""
        memory[:, i + self.reach, j + self.reach] = values

    def window(self, memory: Tensor, i: int, j: int) -> Tensor:
        """The inputs that pixel (i, j) depends on. [rows, rows · columns · inputs]"""
        d = self.dilation[0]
        return memory[:, i : i + self.reach + 1 : d, j : j + 2 * self.reach + 1 : d].flatten(1)


class _Block(nn.Module):
    """h + f(h)."""

    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        self.near, self.mix = _Masked(channels, channels, 3, dilation), nn.Conv2d(channels, channels, 1)

    def forward(self, h: Tensor) -> Tensor:
        return h + self.mix(F.silu(self.near(F.silu(h))))


class _PixelCnn(nn.Module):
    """(maps, first layer's view of the pixels) -> logits."""

    def __init__(self, maps: int, channels: int, blocks: int) -> None:
        super().__init__()
        self.first = _Masked(1, channels, 7, strict=True)
        self.told = nn.Conv2d(maps, channels, 1)
        # Dilations 1, 2, 4: six blocks reach 17 pixels to each side, at the price of 3×3 products.
        self.blocks = nn.ModuleList([_Block(channels, 2 ** (i % 3)) for i in range(blocks)])
        self.last = nn.Conv2d(channels, 1, 1)
        # At first neighbours say nothing: the model starts from the decoder's own logits, and those from the mean row.
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)  # type: ignore[arg-type]

    def forward(self, maps: Tensor, first: Tensor) -> Tensor:
        h = first + self.told(maps)
        for block in self.blocks:
            h = block(h)
        return maps[:, :1] + self.last(F.silu(h))

    @torch.no_grad()
    def walk(self, maps: Tensor, u: Tensor | None) -> tuple[Tensor, Tensor]:
        """Pixels one after the other: those with u < p, or without u the likelier ones; and their p. Each [n, 1, h, w]

        Of each layer the inputs of earlier pixels are kept (Ramachandran et al. 2017, arXiv:1704.06001): a step is a
        few products of one pixel's window, whatever the picture's size.
        """
        n, _, height, width = maps.shape
        blocks = [block for block in self.blocks if isinstance(block, _Block)]
        layers = [self.first, *(block.near for block in blocks)]
        memories = [layer.memory(n, height, width) for layer in layers]
        matrices = [layer.matrix() for layer in layers]
        told = self.told(maps).permute(2, 3, 0, 1).contiguous()
        x, p = (torch.empty(n, 1, height, width, device=maps.device) for _ in range(2))

        def near(k: int, i: int, j: int) -> Tensor:
            return F.linear(layers[k].window(memories[k], i, j), matrices[k], layers[k].bias)

        for i in range(height):
            for j in range(width):
                h = near(0, i, j) + told[i, j]
                for k, block in enumerate(blocks, 1):
                    layers[k].put(memories[k], i, j, F.silu(h))
                    h = h + F.linear(F.silu(near(k, i, j)), block.mix.weight.flatten(1), block.mix.bias)
                logit = maps[:, 0, i, j] + F.linear(F.silu(h), self.last.weight.flatten(1), self.last.bias)[:, 0]
                p[:, 0, i, j] = chance = logit.sigmoid()
                x[:, 0, i, j] = pixel = ((chance > 0.5) if u is None else u[:, i, j] < chance).float()
                self.first.put(memories[0], i, j, _signed(pixel, None)[:, None])
        return x, p


def _signed(x: Tensor, observed: Tensor | None) -> Tensor:
    """Pixels as the net sees them: −1 black, 1 white, and 0 where one was not observed, as beyond the edge."""
    signed = 2 * x - 1
    return signed if observed is None else signed * observed


@dataclass(frozen=True, eq=False)
class AutoregressiveDist(Dist):
    """p(x|z) = Π p(pixel | pixels before it, z), row by row from the upper left.

    What has no closed form is read along the greedy path, on which each pixel takes its likelier value given those
    before it: `mode` is that path (the most probable picture of all cannot be found, so one that is more probable may
    exist), `mean` the probabilities met on it. Both are the same at every call.
    """

    maps: Tensor  # [..., maps, h, w]
    net: _PixelCnn
    low: bool = False  # whether the net scores in bfloat16

    def cells(self, x: Tensor) -> Tensor:
        return self.seen(x, None)

    def seen(self, x: Tensor, observed: Tensor | None) -> Tensor:
        """log p of each observed pixel given the observed ones before it. Without gaps the chain is p(x|z); with gaps
        it is a distribution over the observed pixels, but not exactly the one that summing over the others would give.
        """
        # Channels last: 1.4 times as fast, forward and backward, and bfloat16 another 1.5 (28×28, one Zen 4 core).
        maps = self.maps.flatten(0, -4).contiguous(memory_format=torch.channels_last)
        rows = len(maps) if torch.is_grad_enabled() else ROWS
        found = []
        with torch.autocast(maps.device.type, torch.bfloat16, enabled=self.low):
            first = self.net.first(_signed(x, observed).contiguous(memory_format=torch.channels_last))
            for start in range(0, len(maps), rows):
                some = maps[start : start + rows]
                # The view of the pixels is the same for all draws of z.
                which = torch.arange(start, start + len(some), device=maps.device) % len(first)
                found.append(self.net(some, first if len(first) == len(some) == len(maps) else first[which]))
        logits = torch.cat(found).float().unflatten(0, self.maps.shape[:-3])
        cells = BernoulliDist(logits, 3).cells(x)
        return cells if observed is None else cells.masked_fill(~observed, 0.0)

    @cached_property
    def _greedy(self) -> tuple[Tensor, Tensor]:
        return self._walk(None)

    def _walk(self, u: Tensor | None) -> tuple[Tensor, Tensor]:
        x, p = self.net.walk(self.maps.flatten(0, -4), u)
        return x.unflatten(0, self.maps.shape[:-3]), p.unflatten(0, self.maps.shape[:-3])

    @property
    def mean(self) -> Tensor:
        return self._greedy[1]

    @property
    def mode(self) -> Tensor:
        return self._greedy[0]

    @property
    def event_dim(self) -> int:
        return 3

    def sample(self, generator: torch.Generator | None) -> Tensor:
        maps = self.maps.flatten(0, -4)
        u = torch.rand((len(maps), *maps.shape[2:]), generator=generator, device=maps.device)
        return self._walk(u)[0]


class _Autoregressive(Likelihood):
    sequential = True

    def __init__(self, shape: tuple[int, ...], told: str, maps: int, channels: int, blocks: int) -> None:
        super().__init__()
        self.out_shape = (maps, *shape[1:]) if told == "pixels" else (maps, 1, 1)
        self.net = _PixelCnn(maps, channels, blocks)
        self.register_buffer("continuous", torch.zeros(shape, dtype=torch.bool), persistent=False)

    def discrete(self, x: Tensor) -> bool:
        return bool(((x == 0) | (x == 1)).all())

    def start(self, features: Tensor) -> Tensor:
        # The first map is a logit by itself; see _PixelCnn. Its bounds are Bernoulli's.
        mean = features.reshape(self.continuous.shape)
        mean = mean if self.out_shape[1:] == mean.shape[1:] else mean.mean((1, 2), keepdim=True)
        logits = torch.logit(mean.clamp(0.005, 0.995))
        return torch.cat([logits, logits.new_zeros(self.out_shape[0] - 1, *self.out_shape[1:])])

    def forward(self, params: Tensor) -> AutoregressiveDist:
        params = params.expand(*params.shape[:-2], *self.continuous.shape[1:])
        return AutoregressiveDist(params, self.net, self.low_precision)


@part("likelihood", "autoregressive")
@dataclass(frozen=True)
class Autoregressive:
    """Pixels that are 0 or 1, each given those before it and z, in nats: exact, however the pixels hang together.

    Source: van den Oord et al. 2016 (arXiv:1601.06759), sec. 3.4: masks A then B, residual blocks; here dilated, and
    conditional by maps added to the first layer (arXiv:1606.05328). Scoring is one pass; a draw takes one step for each
    pixel.
    told: "pixels", the decoder says something else to each pixel (there eq. 5); "picture", the same to all (eq. 4), so
    that z can say what a picture is like, and not where: fewer weights, and little that pixels would not know anyway.
    maps: how many numbers the decoder gives a pixel, the first of them a logit by itself. channels, blocks: of the net;
    multiples of 16 channels suit the processor's kernels (24 cost what 32 do, four times 16).
    """

    told: Literal["pixels", "picture"] = "pixels"
    maps: int = 8
    channels: int = 16
    blocks: int = 4

    def __post_init__(self) -> None:
        for name in ("maps", "channels", "blocks"):
            require(getattr(self, name) >= 1, self, name, "1 or more")

    def build(self, shape: tuple[int, ...]) -> Likelihood:
        """The likelihood of a picture of `shape` (1, h, w)."""
        if len(shape) != 3 or shape[0] != 1:
            raise ConfigError(
                f"likelihood 'autoregressive' is for pictures of one channel, not for cells of shape {shape}",
                hint="kind.likelihood=bernoulli",
            )
        return _Autoregressive(shape, self.told, self.maps, self.channels, self.blocks)
