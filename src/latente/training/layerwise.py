"""Greedy layer-wise pretraining: each layer of an encoder learns, by itself, to give back what it is given.

x ──corrupt──▶ layer 1 ──▶ p(x|·)      h1 ──corrupt──▶ layer 2 ──▶ h1      h2 ──corrupt──▶ layer 3 ──▶ h2      then all
                 └── h1 ──▲                               └── h2 ──▲

Source: Vincent et al. 2010, "Stacked denoising autoencoders", JMLR 11, sec. 3; Bengio et al. 2007 for the idea.
"""

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from ..errors import ConfigError
from ..kinds.base import Kind
from ..model.batch import Batch
from ..model.model import Flat, Model
from ..model.nets.layers import ACTIVATIONS, Offset, Stack
from ..model.spec import Train, seeded
from .feed import Feed
from .optimiser import Optimiser


def pretrain(
    model: Model,
    feed: Feed,
    kind: Kind,
    config: Train,
    steps: int,
    optimiser: Optimiser,
    generator: torch.Generator,
) -> None:
    """Train each layer of the model's encoder for so many steps, and the decoder's layer that undoes it.

    optimiser: of the whole model, whose weights and average become those that were found. Raises ConfigError for an
    encoder that is no stack of layers, and for several processes.
    """
    model, stack, mirror = _stacks(model)
    if optimiser.team.size > 1:
        raise ConfigError("layers are trained one by one in one process", hint="leave out --processes")
    weights = dict(model.named_parameters())
    for p in weights.values():
        # Tensors of their own while single layers are trained.
        p.data, p.grad = p.data.clone(), None
    rows = _rows(feed)
    for i in range(len(stack.layers)):
        one = _Layer(model, kind, stack, i)
        own = Optimiser(one, config)
        for step in range(steps):
            batch = kind.prepare(next(rows), generator)
            one.loss(batch, generator).backward()
            own.step(step / steps)
            own.gradient.zero_()
        own.finish()
        back = mirror.layers[-1 - i] if len(mirror.layers) == len(stack.layers) + 1 else None
        if back is not None and back.weight.shape == one.back.weight.shape:
            back.load_state_dict(one.back.state_dict())
    with torch.no_grad():
        optimiser.weights.copy_(torch.cat([p.detach().flatten() for p in optimiser.parameters]))
        if optimiser.average is not None:
            optimiser.average.copy_(optimiser.weights)
    optimiser._point(optimiser.weights)
    for p, slot in zip(optimiser.parameters, optimiser.slots, strict=True):
        p.grad = slot


def _rows(feed: Feed) -> Iterator[Batch]:
    """Batches without end."""
    epoch = 0
    while True:
        for portion in feed.epoch(epoch):
            yield portion.batch
        epoch += 1


def _stacks(model: Model) -> tuple[Flat, Stack, Stack]:
    """The model, the encoder's layers and the decoder's."""
    found: list[Stack] = []
    if isinstance(model, Flat):
        for side in (model.encoder, model.decoder):
            found += [m for m in side.modules() if isinstance(m, Stack)][:1]
    if not isinstance(model, Flat) or len(found) < 2 or not found[0].acts or any(found[0].skips):
        raise ConfigError(
            "layers are pretrained one by one in nets that are a stack of them",
            hint="--set nets.part=mlp --set nets.residual=false, or --set train.layerwise=0",
        )
    return model, found[0], found[1]


class _Layer(nn.Module):
    """One layer of the encoder, and a layer that gives back what it was given."""

    def __init__(self, model: Flat, kind: Kind, stack: Stack, at: int) -> None:
        super().__init__()
        layer = stack.layers[at]
        assert isinstance(layer, nn.Linear)
        self.layer, self.activation = layer, ACTIVATIONS[stack.acts[at]].forward
        # In tuples: they are no parts of this one.
        self._model, self._stack, self.at, self.first = (model,), (stack,), at, at == 0
        width = self.layer.out_features
        with seeded(at):
            out = nn.Linear(width, math.prod(model.likelihood.out_shape) if self.first else self.layer.in_features)
        self.back = out
        if self.first:
            # It begins as the rows' own mean, which the model's decoder has already.
            last = [m for m in model.output.modules() if isinstance(m, (nn.Linear, Offset))][-1]
            with torch.no_grad():
                out.weight.mul_(0.1)
                out.bias.copy_(last.bias.reshape(-1))

    def loss(self, batch: Batch, generator: torch.Generator) -> Tensor:
        """What the layer does not give back of the batch: −log p in nats of the rows themselves, half the squared error
        of what a layer below gives. A number
        """
        model = self._model[0]
        given, clean = self._given(model, batch, generator)
        params = self.back(self.activation(self.layer(given)))
        if clean is None:
            px = model.likelihood(params.reshape(1, len(batch), *model.likelihood.out_shape))
            model.likelihood.observe(px, batch)
            return -px.log_prob(batch.x, batch.observed).mean()
        return 0.5 * (params - clean).square().sum(1).mean()

    def _given(self, model: Model, batch: Batch, generator: torch.Generator) -> tuple[Tensor, Tensor | None]:
        """What the layer sees, and what it is to give back; None for the rows themselves."""
        noise: Callable[..., Batch] | None = model.corruption
        if self.first:
            seen = batch if noise is None else noise(batch, model.likelihood.continuous, generator)
            return self._features(model, seen), None
        stack, at = self._stack[0], self.at
        with torch.no_grad():
            h = self._features(model, batch)
            for layer, act in zip(stack.layers[:at], stack.acts[:at], strict=True):
                h = ACTIVATIONS[act].forward(layer(h))
        if noise is None:
            return h, h
        everywhere = torch.ones(h.shape[1:], dtype=torch.bool, device=h.device)
        seen = noise(Batch(h), everywhere, generator)
        return (seen.x if seen.observed is None else seen.x * seen.observed), h

    def _features(self, model: Model, batch: Batch) -> Tensor:
        found: Tensor = model.encoder.features(batch)  # type: ignore[operator]
        return found.flatten(1)
