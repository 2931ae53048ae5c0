"""k-center greedy over all of a large pool, without holding its features or computing most of the distances.

The same picks as `models.geometry.k_center.k_center_greedy`, up to rounding. What it spares: a row that is known to be
near some center already is not compared with others until it is the farthest of all, because its distance to the
nearest center only falls as centers are added (Minoux 1978, of submodular functions). And it is not compared with a
center at all that is too far in a few directions already (`models.geometry.space.Space.with_rest`).

Axis letters: N rows, F features, L labeled centers, K picks, P directions.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from models.data import Runtime
from models.geometry.k_center import TELL_EVERY, Greedy
from models.geometry.space import PART, Read, Space, in_parts
from models.threads import threads_for

ACTIVE = 0.05  # the share of the rows that the next picks come from; the others wait until these are nearer than they
FEWEST_ACTIVE = 2_000
VERIFIED = 128  # rows that are compared with centers at a time
CENTERS = 512  # centers that all rows are compared with at a time
PAIRS = 4_096  # rows and centers whose distance is computed at a time
ROUNDING = 1e-4  # of a squared distance in single precision, as a share of it
FIRST = 1_024  # rows among which the one nearest to the mean is looked for


def greedy_of_all(
    rows: np.ndarray, read: Read, picks: int, centers: Tensor, runtime: Runtime, phase: str = "core-set"
) -> Greedy:
    """Pick of the rows (N,) as `k_center_greedy` does, the ``centers`` (L, F) being picked already.

    `chosen` are positions in ``rows``. `nearest` is no more than an upper bound, save for its largest value. Reports
    runtime.progress("embed", rows, N) and runtime.progress(phase, picks, K). Memory: P + 5 numbers a row.
    """
    if not len(rows):
        return Greedy(torch.empty(0, dtype=torch.int64), torch.empty(0), torch.empty(0))
    space = Space.of(rows, read, runtime)
    known = _Known(rows, read, space, space.centered(centers), min(picks, len(rows)), runtime)
    count = min(picks, len(rows))
    chosen, radii = torch.empty(count, dtype=torch.int64), torch.empty(count)
    place = 0
    if count and not len(centers):
        chosen[0], radii[0] = known.middle(), torch.inf
        known.pick(int(chosen[0]))
        place = 1
    with threads_for(FEWEST_ACTIVE * known.full.shape[1]):
        while place < count:
            known.look_around()
            while place < count and (found := known.farthest()) is not None:
                chosen[place], radii[place] = found, known.nearest[found]
                known.pick(found)
                place += 1
                if place % TELL_EVERY == 0:
                    runtime.progress(phase, place, count)
    known.look_around()
    known.farthest()
    return Greedy(chosen, torch.cummin(radii, 0).values if count else radii, known.nearest.clamp_min(0.0))


class _Known:
    """What is known of the distances. Squared ones throughout.

    nearest (N,): at most so far is the nearest center; -1 of picks. stale (N,): one of those that came since may be
    nearer. full (L + K, F): the centers; before (N,): with how many of them the row was compared.
    """

    def __init__(
        self, rows: np.ndarray, read: Read, space: Space, centers: Tensor, picks: int, runtime: Runtime
    ) -> None:
        self._rows, self._read, self._space = rows, read, space
        self.count = self._seen_by_all = len(centers)
        self.full = torch.cat([centers, torch.empty(picks, centers.shape[1])])
        self._short = torch.empty(len(self.full), space.basis.shape[1] + 1)
        self._short[: self.count] = space.with_rest(centers * space.scale + space.mean)
        found = in_parts(rows, read, self._first, runtime, "embed")
        if not len(rows):
            found = torch.empty(0, 2 + self._short.shape[1])
        self.nearest, self._points = found[:, 0].clone(), found[:, 1:].clone()
        self._norms = self._points.square().sum(1)
        self._stale = torch.ones(len(rows), dtype=torch.bool)
        self._before = torch.zeros(len(rows), dtype=torch.int64)
        self._active = torch.empty(0, dtype=torch.int64)
        self._wait_below = torch.inf

    def _first(self, features: Tensor) -> Tensor:
        """(B, F) -> (B, 1 + P + 1): the distance to the center that seems to be the nearest, and the short form."""
        short = self._space.with_rest(features)
        if not self.count:
            return torch.cat([torch.full((len(short), 1), torch.inf), short], dim=1)
        least, which = torch.full((len(short),), torch.inf), torch.zeros(len(short), dtype=torch.int64)
        for start in range(0, self.count, CENTERS):
            part = self._short[start : min(self.count, start + CENTERS)]
            value, place = torch.addmm(part.square().sum(1), short, part.T, alpha=-2.0).min(1)
            which = torch.where(value < least, place + start, which)
            least = torch.minimum(least, value)
        away = (self._space.centered(features) - self.full[which]).square().sum(1)
        return torch.cat([away[:, None], short], dim=1)

    def middle(self) -> int:
        """The row nearest to the mean of all, among those that seem nearest."""
        mean = self._points[:, :-1].mean(0)
        apart = (self._points[:, :-1] - mean).square().sum(1) + self._points[:, -1].square()
        some = apart.topk(min(FIRST, len(apart)), largest=False).indices.sort().values
        exact = self._features(some).square().sum(1)  # centered: but for the mean of some instead of all
        return int(some[exact.argmin()])

    def pick(self, position: int) -> None:
        """The row at this position is a center from now on."""
        self.full[self.count] = self._features(torch.tensor([position]))[0]
        self._short[self.count] = self._points[position]
        self.nearest[position] = -1.0
        self._stale[position] = False
        self.count += 1
        if len(self._active):
            self._compare(self._active, self.count - 1)

    def look_around(self) -> None:
        """Bring all rows up to the centers, and choose those that the next picks come from."""
        if self._seen_by_all == 0 and self.count:  # no distance is known yet: to the first center, of each row
            self._all_to_first()
        for start in range(0, len(self._rows), PART):
            part = torch.arange(start, min(start + PART, len(self._rows)))
            self._compare(part, self._seen_by_all)
        self._seen_by_all = self.count
        wanted = min(len(self._rows), max(FEWEST_ACTIVE, round(ACTIVE * len(self._rows))))
        if wanted:
            self._active = self.nearest.topk(wanted).indices.sort().values
            self._wait_below = float(self.nearest[self._active].min()) if wanted < len(self._rows) else -torch.inf

    def _all_to_first(self) -> None:
        def away(features: Tensor) -> Tensor:
            return (self._space.centered(features) - self.full[0]).square().sum(1)

        picked = self.nearest < 0
        runtime = Runtime(torch.device("cpu"), 0)
        self.nearest = in_parts(self._rows, self._read, away, runtime, "embed").masked_fill(picked, -1.0)
        self._before[:] = 1
        self._stale[:] = False
        self._seen_by_all = 1

    def _compare(self, positions: Tensor, since: int) -> None:
        """Note which rows may be nearer to one of the centers that came since than to those before."""
        for start in range(since, self.count, CENTERS):
            centers = self._short[start : min(self.count, start + CENTERS)]
            points, norms = self._points[positions], self._norms[positions]
            least = torch.addmm(centers.square().sum(1), points, centers.T, alpha=-2.0).min(1).values + norms
            nearest = self.nearest[positions]
            self._stale[positions] |= _below(least[:, None], nearest, norms)[:, 0] & (nearest >= 0)

    def farthest(self) -> int | None:
        """The position of the row that is farthest from all centers; None if it may be one that is not active."""
        nearest, stale = self.nearest[self._active], self._stale[self._active]
        while len(nearest):
            place = int(nearest.argmax())
            if float(nearest[place]) < self._wait_below:
                return None
            if not stale[place]:
                return int(self._active[place])
            top = nearest.topk(min(VERIFIED, len(nearest))).indices
            top = top[stale[top]]
            positions = self._active[top]
            self._verify(positions)
            nearest[top], stale[top] = self.nearest[positions], False
        return None

    def _verify(self, positions: Tensor) -> None:
        """Compare rows with those centers that they have not been compared with and may be nearer to."""
        points, nearest = self._features(positions), self.nearest[positions]
        short, norms = self._points[positions], self._norms[positions]
        for start in range(int(self._before[positions].min()), self.count, CENTERS):
            centers = self._short[start : min(self.count, start + CENTERS)]
            least = torch.addmm(centers.square().sum(1), short, centers.T, alpha=-2.0) + norms[:, None]
            row, center = _below(least, nearest, norms).nonzero(as_tuple=True)
            for some, others in zip(row.split(PAIRS), (center + start).split(PAIRS), strict=True):
                away = (points[some] - self.full[others]).square().sum(1)
                nearest.scatter_reduce_(0, some, away, "amin")
        self.nearest[positions] = nearest
        self._before[positions], self._stale[positions] = self.count, False

    def _features(self, positions: Tensor) -> Tensor:
        order = positions.argsort()
        read = self._space.centered(self._read(self._rows[positions[order].numpy()]))
        found = torch.empty_like(read)
        found[order] = read
        return found


def _below(least: Tensor, nearest: Tensor, norms: Tensor) -> Tensor:
    """Whether distances that are at least so large (B, C) may be below those known (B,); norms (B,): of the rows."""
    return least < (nearest * (1.0 + ROUNDING) + ROUNDING * norms)[:, None]
