"""Latents whose generated images the task network is least sure of.

GAAL (Zhu & Bento, 2017) and ASAL (Mayer & Timofte, WACV 2020): for two classes the distance to the boundary between
them is minimized, for several the entropy is maximized. Only the latents move.

Axis letters: G generated images, R restarts of each, Z latent, C classes, S side of the working size, H of the images.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from models.networks.base import TaskNet
from models.networks.gan import Generator
from models.pixels import MEAN, STD

BATCH, BATCH_SIDE = 128, 64  # latents at a time, of images up to so many pixels; fewer of larger ones
RATE = 0.05  # of Adam on the latents


@dataclass(frozen=True)
class Synthesized:
    """latent (G, Z), their images (G, 3, S, S) in [-1, 1], and how uncertain the network is of each, (G,), before and
    after; most uncertain first. began (G,) int64: which of the starts each of them comes from."""

    latent: Tensor
    images: Tensor
    before: Tensor
    after: Tensor
    began: Tensor


Uncertainty = Callable[[Tensor], Tensor]
"""Logits (B, C) -> (B,), higher = less sure."""


def near_boundary(logits: Tensor) -> Tensor:
    """Of two classes: logits (B, 2) -> minus their distance (B,), that is -|Wᵀφ + b|, where W and b are the differences
    of the two classes' weights."""
    return -(logits[:, 0] - logits[:, 1]).abs()


def network_input(images: Tensor, image_size: int) -> Tensor:
    """Generated images (B, 3, S, S) in [-1, 1] as the task network is given images of H = `image_size` pixels."""
    mean, std = (torch.tensor(values, device=images.device).view(1, 3, 1, 1) for values in (MEAN, STD))
    x = (images.add(1.0).div(2.0) - mean) / std
    if x.shape[2] != image_size:
        x = functional.interpolate(x, size=(image_size, image_size), mode="bilinear", align_corners=False)
    return x


def synthesize(
    generator: Generator,
    net: TaskNet,
    uncertainty: Uncertainty,
    image_size: int,
    start: Tensor,
    restarts: int,
    steps: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Synthesized:
    """G latents, each the best of R = `restarts` that are moved `steps` times by Adam.

    start (R G, Z), drawn from N(0, 1): latent g is the best of those at g, G + g, 2 G + g, ... uncertainty: what is
    maximized. Both networks must be in eval mode; neither gets a gradient. The best step of each latent is kept, so
    that none is worse than where it began.
    """
    count, parts = len(start) // restarts, []
    batch = max(1, min(BATCH, BATCH * BATCH_SIDE**2 // image_size**2))
    for done in range(0, len(start), batch):
        parts.append(_climb(generator, net, uncertainty, image_size, start[done : done + batch], steps))
        progress(min(done + batch, len(start)), len(start))
    latent, before, after = (torch.cat(columns) for columns in zip(*parts, strict=True))
    best = after.view(restarts, count).argmax(dim=0) * count + torch.arange(count, device=after.device)
    best = best[after[best].argsort(descending=True, stable=True)]
    with torch.no_grad():
        images = torch.cat([generator(part) for part in latent[best].split(BATCH)])
    return Synthesized(latent[best], images, before[best], after[best], best)


def _climb(
    generator: Generator, net: TaskNet, uncertainty: Uncertainty, image_size: int, start: Tensor, steps: int
) -> tuple[Tensor, Tensor, Tensor]:
    """The best latents (B, Z) on the way from `start`, and how uncertain the network is at the start and there."""
    latent = start.clone().requires_grad_()
    optimizer = torch.optim.Adam([latent], lr=RATE)
    best, first, highest = start.clone(), None, None
    for step in range(steps + 1):
        x = network_input(generator(latent), image_size)
        value = uncertainty(net.head(net.features(x)))
        now = value.detach()
        if highest is None or first is None:
            first = highest = now
        better = now > highest
        best = torch.where(better[:, None], latent.detach(), best)
        highest = torch.maximum(highest, now)
        if step < steps:
            (latent.grad,) = torch.autograd.grad(-value.sum(), latent)
            optimizer.step()
    assert first is not None and highest is not None
    return best, first, highest
