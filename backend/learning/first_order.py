"""The first order, before any label teaches a network: images that together are near to all of the pool."""

from __future__ import annotations

import numpy as np

from backend.learning.features import Features
from backend.learning.pool import ScoredPool
from models.data import Runtime
from models.geometry.herding import herding_order
from models.geometry.k_center import thumbnails

ENOUGH_EMBEDDED = 200
"""So many embedded images are a pool to choose from; where they are fewer, thumbnails of all images are compared."""


def first_order(features: Features, pool: np.ndarray, labeled: np.ndarray, runtime: Runtime) -> ScoredPool:
    """The tasks of ``pool`` (N,), all of which have an image, in the first half of the scale: each covers the most
    of what neither the ``labeled`` (L,) tasks nor those before it cover.

    By the features of those that are embedded already, where they are enough, and the others by chance behind them; by
    thumbnails else.
    """
    compared = features.present(pool)
    if features.rows is not None and len(compared) >= min(len(pool), ENOUGH_EMBEDDED):
        labeled = features.present(labeled)
        points = features.of(np.concatenate([compared, labeled]))
    else:
        compared = pool
        rows = features.cache.rows(np.concatenate([pool, labeled]))
        points = thumbnails(features.cache.pixels, rows, runtime).cpu().numpy()
    rank = herding_order(points, len(labeled), runtime)
    others = runtime.rng("first order").permutation(np.setdiff1d(pool, compared))
    rank = np.concatenate([rank, np.arange(len(compared), len(pool))])
    return ScoredPool.ranked(np.concatenate([compared, others]), rank, (0.0, 0.5))
