"""Images whose labels would tell the last layer the most about the pool.

Ash, Goel, Krishnamurthy & Kakade, Gone Fishing: Neural Active Learning with Fisher Embeddings (NeurIPS 2021), "BAIT".
There the Fisher information of an image is C D x C D. Here it is its trace over the classes, D x D: h f fᵀ for h the
trace of diag(p) - p pᵀ, so v vᵀ for v = √h f. Every step is then a change of rank one.

Axis letters: N points, L labeled points, D directions, K picks.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

TELL_EVERY = 16  # picks between two reports of progress


def informative(
    points: Tensor,
    labeled: Tensor,
    picks: int,
    strength: float = 1.0,
    progress: Callable[[int, int], None] | None = None,
) -> Tensor:
    """Up to ``picks`` of the points v (N, D), the first to be labeled first, (K,) int64: those that leave tr(M⁻¹ I)
    small (equation 3), for M = λ 1 + the sum of v vᵀ over labeled (L, D) and picked points, and I its mean over all of
    the ``points``. λ is ``strength``.

    Greedy forward, one point after the other, to twice as many as are wanted, and greedy backward (algorithm 1). O(N D)
    a pick. ``progress`` is called as (picked, to pick) now and then and may raise to stop.
    """
    v = points.double()
    known = labeled.double()
    eye = torch.eye(v.shape[1], dtype=torch.float64, device=v.device)
    inverse = torch.linalg.inv(strength * eye + known.T @ known)
    information = v.T @ v / max(1, len(v))
    wanted = min(picks, len(v))
    both = min(2 * picks, len(v))
    chosen: list[int] = []
    free = torch.ones(len(v), dtype=torch.bool, device=v.device)
    towards = v @ inverse  # v M⁻¹, a row for each point; changed along with M, which costs O(N D) and not O(N D²)
    own, gain = (towards * v).sum(dim=1), _weighed(towards, information)  # v M⁻¹ v and v M⁻¹ I M⁻¹ v
    while len(chosen) < both:
        index = int(torch.where(free, gain / (1.0 + own), -torch.inf).argmax())
        chosen.append(index)
        free[index] = False
        step = towards[index].clone()
        along, size, moved = v @ step, 1.0 + own[index], information @ step
        share = along / size
        gain = gain - 2.0 * share * (towards @ moved) + share.square() * (step @ moved)
        own = own - along * share
        towards = towards - torch.outer(share, step)
        inverse = inverse - torch.outer(step, step) / size
        if progress is not None and len(chosen) % TELL_EVERY == 0:
            progress(len(chosen), both)
    while len(chosen) > wanted:
        picked = v[torch.tensor(chosen, device=v.device)]
        towards = picked @ inverse
        left = 1.0 - (towards * picked).sum(dim=1)
        place = int((_weighed(towards, information) / left).argmin())
        inverse = inverse + torch.outer(towards[place], towards[place]) / left[place]
        del chosen[place]
    return torch.tensor(chosen, dtype=torch.int64)


def _weighed(rows: Tensor, matrix: Tensor) -> Tensor:
    """rᵀ A r of each row r: (N, D), (D, D) -> (N,)."""
    return ((rows @ matrix) * rows).sum(dim=1)
