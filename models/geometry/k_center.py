"""k-center greedy: an order in which every next image is as far as possible from all before it.

Sener & Savarese, Active Learning for Convolutional Neural Networks: A Core-Set Approach (ICLR 2018), algorithm 1.
Distances to the nearest center are kept and updated with each pick: O(N) memory and O(N F) time a pick, never an N x
N matrix.

Axis letters: N points, F features, K picks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from models.data import Runtime

EMBED_SIDE = 8
MOST_POINTS = 50_000
TELL_EVERY = 64  # picks between two reports of progress


class Greedy(NamedTuple):
    """What `k_center_greedy` found, on the device of the points.

    chosen (K,) int64: indices of the picks in order. radii (K,): squared distance of each pick to the nearest center
    when it was picked, never growing; infinite for a first pick without any center. nearest (N,): squared distance of
    each point to its nearest center in the end.
    """

    chosen: Tensor
    radii: Tensor
    nearest: Tensor


def k_center_greedy(
    points: Tensor,
    picks: int,
    centers: Tensor | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Greedy:
    """Pick ``picks`` of ``points`` (N, F) one after the other, each the farthest from all centers so far.

    ``centers`` (L, F) count as picked already. Without any, the first pick is the point nearest to the mean: the same
    for any order of the points. The largest of the squared distances ``nearest`` is at most four times (twice,
    unsquared) the best possible. Distances are |x|² - 2xc + |c|²: points whose mean is far from 0 lose digits.

    ``progress`` is called as (picked, K) now and then and may raise to stop. Nothing waits for the device.
    """
    if centers is not None and len(centers) == 0:
        centers = None
    norms = points.square().sum(1)
    nearest = torch.full_like(norms, torch.inf)
    for part in () if centers is None else centers.split(512):
        distance = torch.addmm(part.square().sum(1), points, part.T, alpha=-2.0).min(1).values
        nearest = torch.minimum(nearest, (distance + norms).clamp_min_(0.0))
    count = min(picks, len(points))
    chosen = torch.empty(count, dtype=torch.int64, device=points.device)
    radii = torch.empty(count, dtype=points.dtype, device=points.device)
    for place in range(count):
        if place == 0 and centers is None:
            index = (norms - 2.0 * (points @ points.mean(0))).argmin(keepdim=True)
        else:
            index = nearest.argmax(keepdim=True)
        chosen[place : place + 1] = index
        radii[place : place + 1] = nearest[index]
        center = points[index][0]
        distance = torch.addmv(norms, points, center, alpha=-2.0).add_(center.square().sum())
        torch.minimum(nearest, distance.clamp_min_(0.0), out=nearest)  # clamped: rounding must not make it negative
        nearest.index_fill_(0, index, -1.0)  # and what is picked stays below every other
        if progress is not None and (place + 1) % TELL_EVERY == 0:
            progress(place + 1, count)
    return Greedy(chosen, radii, nearest.clamp_min_(0.0))


def thumbnails(pixels: np.ndarray, rows: np.ndarray, runtime: Runtime, batch: int = 1024) -> Tensor:
    """Each image averaged down to 8 x 8 colors in [0, 1]: (N, 192) float32 on the runtime's device.

    A plain feature on purpose. It needs no weights, and a network that has learned nothing yet sees no more.
    """
    parts = []
    for start in range(0, len(rows), batch):
        images = torch.from_numpy(pixels[rows[start : start + batch]]).to(runtime.device)
        small = functional.adaptive_avg_pool2d(images.permute(0, 3, 1, 2).float() / 255.0, EMBED_SIDE)
        parts.append(small.flatten(1))
        runtime.progress("embed", min(start + batch, len(rows)), len(rows))
    return torch.cat(parts) if parts else torch.empty(0, 3 * EMBED_SIDE**2, device=runtime.device)
