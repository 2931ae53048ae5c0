"""How good a generator is, beside what real images reach by the same measures.

Axis letters: N rows, B batch, S side of the working size.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from models.data import Runtime
from models.geometry.manifolds import precision_and_recall
from models.networks.gan import Critic, Generator
from models.networks.vae import prepare

BATCH = 64
SAMPLES = 256  # images of each sort


@torch.no_grad()
def generator_health(
    generator: Generator,
    critic: Critic,
    pixels: np.ndarray,
    rows: np.ndarray,
    embed: Callable[[Tensor], Tensor],
    runtime: Runtime,
) -> dict[str, float]:
    """How good the generator is, on up to 256 generated images and as many real ones, of rows (N,) of `pixels`, N > 1.

    critic_gap: E D(real) - E D(generated). distinct_neighbors: the share of different images among the real ones that
    are nearest to each generated one in the features of `embed`, which takes images (B, 3, S, S) in [-1, 1]: near 0
    where all generated images look alike. precision and recall: see `models.geometry.manifolds`, in the same features;
    a generator that was not trained may have a precision of 1, because its one image lies near an outlier, but then has
    no distinct neighbors. distinct_of_real and precision_of_real: the same of other real images in place of the
    generated ones, which is as much as can be reached.
    """
    count, size = min(SAMPLES, len(rows) // 2), generator.config.image_size
    some = runtime.rng("gan health").choice(rows, 2 * count, replace=False)
    halves = (torch.from_numpy(pixels[np.sort(half)]).to(runtime.device) for half in np.split(some, 2))
    real, other = (prepare(half, size) for half in halves)
    noise = runtime.generator("gan health")
    latent = torch.randn((count, generator.config.latent), generator=noise, device=runtime.device)
    fake = generator(latent)
    embedded = [torch.cat([embed(part) for part in images.split(BATCH)]) for images in (real, other, fake)]
    precision, recall = precision_and_recall(embedded[0], embedded[2])
    return {
        "gan_critic_gap": float(critic(real).mean() - critic(fake).mean()),
        "gan_distinct_neighbors": distinct_neighbors(embedded[2], embedded[0]),
        "gan_distinct_of_real": distinct_neighbors(embedded[1], embedded[0]),
        "gan_precision": precision,
        "gan_precision_of_real": precision_and_recall(embedded[0], embedded[1])[0],
        "gan_recall": recall,
    }


def distinct_neighbors(points: Tensor, among: Tensor) -> float:
    """The share of different ones among those that are nearest to each of the points (N, F) among others (M, F)."""
    return len(torch.cdist(points.double(), among.double()).argmin(dim=1).unique()) / len(points)
