"""Where a point stands in the order that k-center greedy has made, also one that greedy never saw.

Axis letters: B batch, N rows, F features, L labeled centers, K picks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from models.geometry.k_center import k_center_greedy

PART = 1024  # centers compared at a time
SLACK = 1e-3  # a row counts as unseen by greedy when it is farther than the pick by this share
NOISE = 1e-5  # distances below this share of the features' length are rounding of the network's: 0
SAME = 1e-2  # how far, as a share of the same, a pick's features may move between devices


@dataclass(frozen=True)
class GreedyOrder:
    """What greedy left, all on one device.

    centers (L + K, F) float32: the labeled rows' features, then the picks' in order. radii (K,) float64: the distance
    at which each pick was picked, never growing. rows (K,) int64: the picks' rows in the pool.
    """

    centers: Tensor
    radii: Tensor
    rows: Tensor


def greedy_order(
    labeled: Tensor,
    points: Tensor,
    rows: Tensor,
    picks: int,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[GreedyOrder, Tensor]:
    """Greedy's order after K picks among ``points`` (N, F) with ``rows`` (N,), the ``labeled`` (L, F) being centers
    already, and the distance (N,) of each point to its nearest center in the end. Computes in float64, centered.
    """
    middle = torch.cat([labeled, points]).double().mean(0)
    chosen, squared, nearest = k_center_greedy(points - middle, picks, labeled - middle, progress)
    if len(labeled) == 0 and len(chosen):  # a first pick without any center: nobody is farther than twice this
        squared[0] = 4.0 * (squared[1] if len(chosen) > 1 else nearest.max())
    return GreedyOrder(torch.cat([labeled, points[chosen]]), squared.sqrt(), rows[chosen]), nearest.sqrt()


class EntryDistances:
    """A greedy order made ready to compare features with: `distances` on the device, then `at_picks` on the host."""

    def __init__(self, order: GreedyOrder) -> None:
        count = len(order.radii)
        centers = order.centers.double()
        self._middle = centers.mean(0)  # centered, because |x|² - 2xc + |c|² loses the digits that all points share
        self._labeled, self._picks = (centers - self._middle).split([len(centers) - count, count])
        length = centers.square().sum(1).mean().sqrt()
        self._zero = NOISE * length
        self._reach = order.radii * (1.0 + SLACK) + self._zero
        if len(self._labeled) == 0:
            self._reach[:1] = torch.inf  # greedy's first pick was not the farthest from anything
        self._radii = order.radii
        self._on_host = order.rows.cpu().numpy(), order.radii.cpu().numpy(), SAME * float(length)

    def distances(self, features: Tensor) -> Tensor:
        """(B, F) -> (B, 3) float64: the distance at which the row enters, the pick nearest to it (-1: none) and how
        far that is.

        With D_k the distance to the nearest of the labeled centers and the first k picks, greedy would have preferred
        a row to pick k + 1 if D_k > r_{k+1}. A row enters at D_k for the first such k. Rows that greedy saw have no
        such k, nor have those near a center; they get D_K, which is at most r_K: they come after all picks.
        """
        points = features.double() - self._middle
        norms = points.square().sum(1)
        if len(self._labeled) + len(self._picks) == 0:
            return torch.stack([torch.ones_like(norms), -torch.ones_like(norms), norms], dim=1)
        so_far = torch.full_like(norms, torch.inf)  # D_k
        for start in range(0, len(self._labeled), PART):
            squared = squared_distances(points, norms, self._labeled[start : start + PART])
            so_far = torch.minimum(so_far, squared.min(1).values)
        enters = torch.full_like(norms, -1.0)
        closest, which = torch.full_like(norms, torch.inf), torch.full_like(norms, -1.0)
        for start in range(0, len(self._picks), PART):
            squared = squared_distances(points, norms, self._picks[start : start + PART])
            known = torch.cat([so_far[:, None], squared], dim=1).cummin(1).values
            sooner = known[:, :-1] > self._reach[start : start + PART].square()
            first = sooner.byte().argmax(1, keepdim=True)
            hit = sooner.any(1) & (enters < 0.0)
            enters = torch.where(hit, known.gather(1, first).squeeze(1), enters)
            nearest, place = squared.min(1)
            which = torch.where(nearest < closest, (place + start).double(), which)
            closest = torch.minimum(closest, nearest)
            so_far = known[:, -1]
        if len(self._picks):
            so_far = so_far.clamp_max(self._radii[-1].square())  # what the slack let through
        enters = torch.where(enters < 0.0, so_far, enters).sqrt()
        enters = enters.masked_fill(enters <= self._zero, 0.0)
        return torch.stack([enters, which, closest.sqrt()], dim=1)

    def at_picks(self, distances: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """(N, 3) of `distances` -> (N,): a pick gets exactly the distance at which it was picked.

        A row is a pick when its number is the pick's and so are its features: numbers alone mean nothing in another
        array of images.
        """
        pick_rows, radii, same = self._on_host
        if len(radii) == 0:
            return distances[:, 0]
        which = distances[:, 1].astype(np.int64)
        picked = (which >= 0) & (pick_rows[which] == rows) & (distances[:, 2] <= same)
        return np.where(picked, radii[which], distances[:, 0])


def squared_distances(points: Tensor, norms: Tensor, centers: Tensor) -> Tensor:
    """(B, F), their squared norms (B,) and (K, F) -> (B, K), never below 0."""
    squared = torch.addmm(norms[:, None], points, centers.T, alpha=-2.0).add_(centers.square().sum(1))
    return squared.clamp_min_(0.0)
