"""What was bought: figures of the images that a sampler chose, for the bench alone, since they need all labels.

Axis letters: B picks, L labeled before, N rows of the pool, F features.
"""

from __future__ import annotations

import numpy as np

COLUMNS = {
    "picked_classes": "effective classes of the picks",
    "picked_error": "error on the picks, %",
    "pool_error": "error on the pool, %",
    "picked_duplicates": "near-duplicates among the picks, %",
}
CLOSE = 0.05
"""An image is a near-duplicate of another that is closer than this share of the pool's images are to their nearest."""
_SAMPLE = 500


def effective_classes(labels: np.ndarray) -> float:
    """exp of the entropy of the class counts of ``labels`` (B,): 1 where all are of one class, C where all C are as
    frequent."""
    counts = np.bincount(labels)
    shares = counts[counts > 0] / len(labels)
    return float(np.exp(-(shares * np.log(shares)).sum()))


def share_of_copies(picks: np.ndarray, before: np.ndarray, copies: int) -> float:
    """Share of the rows ``picks`` (B,) whose image, of which ``copies`` rows in a row are copies, is among those
    labeled ``before`` (L,) or among the picks in front of it."""
    images = picks // copies
    first = np.zeros(len(picks), bool)
    first[np.unique(images, return_index=True)[1]] = True
    return float((~first | np.isin(images, before // copies)).mean())


def share_of_duplicates(picks: np.ndarray, before: np.ndarray, close: float) -> float:
    """Share of the images with features ``picks`` (B, F) that are closer than ``close`` to one labeled ``before``
    (L, F) or to a pick in front of it."""
    both = unit(np.concatenate([before, picks]))
    distances = distances_of(both[len(before) :], both)
    in_front = np.arange(len(both)) < len(before) + np.arange(len(picks))[:, None]
    return float((np.where(in_front, distances, np.inf).min(axis=1, initial=np.inf) < close).mean())


def close_distance(features: np.ndarray) -> float:
    """The distance to the nearest other image that ``CLOSE`` of the images with ``features`` (N, F) fall below;
    estimated on some of them at regular intervals."""
    points = unit(features)
    some = np.arange(0, len(points), -(-len(points) // _SAMPLE))
    distances = distances_of(points[some], points)
    distances[np.arange(len(some)), some] = np.inf
    return float(np.quantile(distances.min(axis=1), CLOSE))


def unit(features: np.ndarray) -> np.ndarray:
    """``features`` (N, F) as float32 of length 1."""
    values = np.asarray(features, dtype=np.float32)
    return values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-12)


def distances_of(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Euclidean distances (A, B) of unit vectors (A, F) and (B, F)."""
    distances: np.ndarray = np.sqrt(np.maximum(2 - 2 * (a @ b.T), 0.0))
    return distances
