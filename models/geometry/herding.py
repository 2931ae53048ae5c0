"""Images that together cover a pool, an image the better the nearer they are to it.

Bae, Noh & Sutherland, Generalized Coverage for More Robust Low-Budget Active Learning (ECCV 2024), "MaxHerding": greedy
maximization of the generalized coverage C(S) = mean over x of max over s in S of k(x, s), with the Gaussian kernel
k(x, s) = exp(-|x - s|² / σ²), σ = 1, on features of length 1. Bae, Sutherland & Oliveira, Uncertainty Herding (ICLR
2025), weigh each x by how unsure of it a network is.

Axis letters: N points, D coordinates, S chosen points, B candidates.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from models.data import Runtime
from models.geometry.directions import main_basis
from models.threads import threads_for

SIGMA = 1.0  # the paper's, for features of length 1
SMALLEST_SIGMA = 1e-3
PICKS = 400  # images of the first order that are picked; the others follow by chance
LARGEST_SAMPLE = 5_000  # points that are compared
DIRECTIONS = 128  # in which points are compared; what is left of 1,280 features or more says next to nothing
LARGEST_BASIS = 1_000  # points that the directions are found by
CANDIDATES = 16  # whose gain is computed at a time
FARTHEST = 2.0**-100  # numbers that are nearly too small for float32 take ten times as long
_CHUNK = 1 << 22


def herding_order(points: np.ndarray, chosen: int, runtime: Runtime) -> np.ndarray:
    """Rank (N,) int64 of each of the points (N + `chosen`, D) but the last ones, which are labeled already: 0 = label
    first.

    First `PICKS` of `herd`. Behind them the order is by chance, as it is for all but `LARGEST_SAMPLE` points, drawn by
    chance. Reports runtime.progress("score", picks, all of them).
    """
    count = len(points) - chosen
    if count == 0:
        return np.empty(0, dtype=np.int64)
    shuffled = runtime.rng("herding order").permutation(count)
    sample = np.concatenate([shuffled[:LARGEST_SAMPLE], np.arange(count, count + chosen)])
    compared = comparable(torch.from_numpy(np.ascontiguousarray(points[sample], dtype=np.float32)), runtime)
    first = sample[herd(compared, chosen, PICKS, lambda done, total: runtime.progress("score", done, total)).numpy()]
    rest = shuffled[~np.isin(shuffled, first)]
    rank = np.empty(count, dtype=np.int64)
    rank[np.concatenate([first, rest])] = np.arange(count)
    return rank


def comparable(points: Tensor, runtime: Runtime) -> Tensor:
    """Points (N, D) of length 1, by at most `DIRECTIONS` coordinates, in which they are nearly as long: (N, R)."""
    points = torch.nn.functional.normalize(points)
    some = points[torch.from_numpy(runtime.rng("herding").permutation(len(points))[:LARGEST_BASIS]).to(points.device)]
    basis = main_basis(some, min(DIRECTIONS, *some.shape), runtime.generator("herding", "cpu"))
    return torch.nn.functional.normalize(points @ basis)


def smallest_distance(points: Tensor) -> float:
    """Between two points of (N, D) that are not the same, at least `SMALLEST_SIGMA`; `SIGMA` where there are none."""
    distances = torch.pdist(points)
    distances = distances[distances > SMALLEST_SIGMA]
    return float(distances.min()) if len(distances) else SIGMA


def herd(
    points: Tensor,
    chosen: int,
    count: int,
    progress: Callable[[int, int], None],
    weights: Tensor | None = None,
    sigma: float = SIGMA,
) -> Tensor:
    """Positions of the next `count` of the points (N + `chosen`, D) of length 1, or of all N where they are fewer, (K,)
    int64: each adds the most to the coverage by those before it and by the last ones, which are chosen already.

    weights: how much each point (N + `chosen`,) is to be covered; None: all alike. sigma: the width of the kernel.

    The coverage is submodular: a gain only falls as others are chosen (Nemhauser, Wolsey & Fisher 1978). So gains that
    were computed before bound those of now, and only the first few need computing again (Minoux 1978). Reports
    progress(picks, all of them).
    """
    free = len(points) - chosen
    weights = torch.ones(len(points), dtype=points.dtype, device=points.device) if weights is None else weights
    covered = torch.zeros_like(weights)
    step = max(1, _CHUNK // max(1, len(points)))
    for part in points[free:].split(step) if chosen else ():
        covered = torch.maximum(covered, kernel(points, part, sigma).amax(dim=1))

    def gain(candidates: Tensor) -> Tensor:
        return weights @ (kernel(points, candidates, sigma) - covered[:, None]).clamp_(min=0.0)

    bound = torch.cat([gain(part) for part in points[:free].split(step)])
    order: list[int] = []
    with threads_for(points.numel() * CANDIDATES):
        for _ in range(min(count, free)):
            best = _best(points, bound, gain)
            covered = torch.maximum(covered, kernel(points, points[best : best + 1], sigma).squeeze(1))
            bound[best] = -1.0
            order.append(best)
            progress(len(order), min(count, free))
    return torch.tensor(order, dtype=torch.int64)


def kernel(points: Tensor, others: Tensor, sigma: float = SIGMA) -> Tensor:
    """exp(-|x - s|² / σ²) for points (N, D) and others (B, D), all of length 1: (N, B), `FARTHEST` where it is less."""
    exponents = (points @ others.T).sub_(1.0).mul_(2.0 / (sigma**2 * math.log(2.0)))
    return exponents.clamp_(math.log2(FARTHEST), 0.0).exp2_()


def _best(points: Tensor, bound: Tensor, gain: Callable[[Tensor], Tensor]) -> int:
    """The candidate with the largest gain; makes the bounds (N,) of all that were looked at their gains of now."""
    seen = torch.zeros(len(bound), dtype=torch.bool, device=bound.device)
    while True:
        looked_at = bound.topk(min(CANDIDATES, len(bound))).indices
        if seen[looked_at[0]]:
            return int(looked_at[0])
        fresh = looked_at[~seen[looked_at]]
        bound[fresh] = torch.where(bound[fresh] < 0, bound[fresh], gain(points[fresh]))
        seen[fresh] = True
