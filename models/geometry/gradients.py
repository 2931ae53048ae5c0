"""Diverse and large gradients, without ever making one.

Ash, Zhang, Krishnamurthy, Langford & Agarwal, Deep Batch Active Learning by Diverse, Uncertain Gradient Lower Bounds
(ICLR 2020), "BADGE". The gradient embedding of an image is the gradient of the loss by the weights of the last layer,
if what the network predicts were the label: the outer product g = q fᵀ of the logits' gradient q and the features f.
It has C F numbers; but |g|² = |q|² |f|² and ⟨g, g'⟩ = ⟨q, q'⟩ ⟨f, f'⟩ need only q and f.

Axis letters: N points, C classes, F features, K picks.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

NOTHING = 1e-5  # a squared distance below this share of the two squared lengths is rounding: 0
TELL_EVERY = 16  # picks between two reports of progress


def seeded_gradients(
    residuals: Tensor,
    features: Tensor,
    picks: int,
    generator: torch.Generator,
    progress: Callable[[int, int], None] | None = None,
) -> Tensor:
    """Up to ``picks`` of the points by the seeding of k-means++ on their gradient embeddings: (K,) int64 on the CPU.

    residuals (N, C), the q; features (N, F), the f; `generator` on the CPU. The first is the longest gradient, as in
    the authors' code; each further one is drawn with a probability proportional to the squared distance to the nearest
    before it (algorithm 1, line 5). Ends early where all others are copies. O(N (C + F)) a pick.

    ``progress`` is called as (picked, K) now and then and may raise to stop.
    """
    norms = residuals.square().sum(1) * features.square().sum(1)
    nearest = torch.full_like(norms, torch.inf)
    chosen: list[int] = []
    count = min(picks, len(norms))
    while len(chosen) < count:
        if not chosen:
            index = int(norms.argmax())
        else:
            weights = nearest.double().cpu()
            if float(weights.sum()) <= 0.0:
                break
            index = int(torch.multinomial(weights, 1, generator=generator))
        chosen.append(index)
        both = norms + norms[index]
        squared = both - 2.0 * (residuals @ residuals[index]) * (features @ features[index])
        squared = torch.where(squared > NOTHING * both, squared, 0.0)
        squared[index] = 0.0
        nearest = torch.minimum(nearest, squared)
        if progress is not None and len(chosen) % TELL_EVERY == 0:
            progress(len(chosen), count)
    return torch.tensor(chosen, dtype=torch.int64)
