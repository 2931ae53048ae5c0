"""Latents whose generated images the task network is least sure of.

GAAL (Zhu & Bento, 2017) and ASAL (Mayer & Timofte, WACV 2020): for two classes the distance to the boundary between
them is minimized, for several the entropy is maximized. Only the latents move.

Axis letters: G generated images, R restarts of each, Z latent, C classes, S side of the working size, H of the images.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

from models.deadline import Deadline
from models.networks.base import TaskNet
from models.networks.gan import Generator
from models.pixels import MEAN, STD

BATCH, BATCH_SIDE = 128, 64  # latents at a time, of images up to so many pixels; fewer of larger ones
CPU_BATCH = 32  # a CPU gains nothing by more, and the clock is looked at between steps
RATE, FASTEST = 0.05, 0.4  # of Adam on the latents: as it should be, and at most where there is time for few steps
PASSES = 3.0  # forward passes that a step costs: one there, and about two back


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
    deadline: Deadline | None = None,
) -> Synthesized:
    """G latents, each the best of R = `restarts` that are moved `steps` times by Adam.

    start (R G, Z), drawn from N(0, 1): latent g is the best of those at g, G + g, 2 G + g, ... uncertainty: what is
    maximized. Both networks must be in eval mode; neither gets a gradient. The best step of each latent is kept, so
    that none is worse than where it began. progress: steps of all latents that are done, and their number.

    Where the time until the deadline will not do for all of it, only the best start of each is moved, in as many steps
    as there is time for, and by so much more in each.
    """
    batch = min(BATCH if start.is_cuda else CPU_BATCH, BATCH * BATCH_SIDE**2 // image_size**2)
    climb = _Climb(generator, net, uncertainty, image_size, max(1, batch))
    count, numbers = len(start) // restarts, torch.arange(len(start), device=start.device)
    if deadline is not None and restarts > 1:
        began = deadline.clock()
        values = torch.cat([climb.value(part).detach() for part in start.split(climb.batch)])
        if PASSES * (steps + 1) * (deadline.clock() - began) > deadline.left():
            numbers, restarts = _best_of(values, restarts), 1
    parts, chosen, done = [], start[numbers].split(climb.batch), 0
    for number, part in enumerate(chosen):
        own = deadline and deadline.share(1 / (len(chosen) - number))
        report = partial(_report, progress, done, len(part), steps * len(numbers))
        parts.append(climb.best_on_the_way(part, steps, own, report))
        done += steps * len(part)
    latent, before, after = (torch.cat(columns) for columns in zip(*parts, strict=True))
    best = _best_of(after, restarts)
    best = best[after[best].argsort(descending=True, stable=True)]
    with torch.no_grad():
        images = torch.cat([generator(part) for part in latent[best].split(BATCH)])
    assert len(best) == count
    return Synthesized(latent[best], images, before[best], after[best], numbers[best])


def _report(progress: Callable[[int, int], None], before: int, size: int, total: int, step: int) -> None:
    progress(before + step * size, total)


def _best_of(values: Tensor, restarts: int) -> Tensor:
    """Of values (R G,): for each of G the place of the largest of its R."""
    count = len(values) // restarts
    return values.view(restarts, count).argmax(dim=0) * count + torch.arange(count, device=values.device)


@dataclass(frozen=True)
class _Climb:
    generator: Generator
    net: TaskNet
    uncertainty: Uncertainty
    image_size: int
    batch: int
    """Latents at a time."""

    def value(self, latent: Tensor) -> Tensor:
        """How uncertain the network is of the images of latents (B, Z): (B,)."""
        x = network_input(self.generator(latent), self.image_size)
        return self.uncertainty(self.net.head(self.net.features(x)))

    def best_on_the_way(
        self, start: Tensor, steps: int, deadline: Deadline | None, progress: Callable[[int], None]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The best latents (B, Z) on the way from `start`, and how uncertain the network is at the start and there."""
        latent = start.clone().requires_grad_()
        optimizer = torch.optim.Adam([latent], lr=RATE)
        best, first, highest = start.clone(), None, None
        step = 0
        while True:
            began = 0.0 if deadline is None else deadline.clock()
            value = self.value(latent)
            now = value.detach()
            if highest is None or first is None:
                first = highest = now
            better = now > highest
            best = torch.where(better[:, None], latent.detach(), best)
            highest = torch.maximum(highest, now)
            if step == steps:
                return best, first, highest
            (latent.grad,) = torch.autograd.grad(-value.sum(), latent)
            if deadline is not None:
                seconds = max(1e-9, deadline.clock() - began)
                left = deadline.left() / seconds  # steps that there is time for
                if left < 1:
                    progress(steps)
                    return best, first, highest
                optimizer.param_groups[0]["lr"] = min(FASTEST, RATE * max(1.0, (steps - step) / left))
            optimizer.step()
            step += 1
            progress(step)
