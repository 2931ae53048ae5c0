"""Core-set: ask for the images that leave the largest holes in what is labeled."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from samplers import families
from samplers.base import NotFitted, Sampler, Scored
from samplers.deferred import models, torch
from samplers.options import SamplerOptions, between, option

if TYPE_CHECKING:
    from torch import Tensor

    from models.data import CycleData, Runtime
    from models.geometry.coverage import GreedyOrder
    from models.geometry.space import Read
    from models.networks.base import TaskNet

NOTHING = 1e-12  # stands for a distance of 0 under the logarithm


@dataclass(frozen=True)
class CoreSetOptions(SamplerOptions):
    """core_set_picks: K, how many centers greedy picks one by one."""

    core_set_picks: int = option(
        1000, "Core-set: centers picked one by one in a cycle; the rest follows by distance.", between(1, 100_000)
    )


class CoreSetSampler(Sampler[CoreSetOptions]):
    """k-center greedy on the task network's features (Sener & Savarese, ICLR 2018, algorithm 1).

    `fit` runs greedy over the unlabeled rows, the labeled ones being centers already, and keeps the centers and the
    distance at which each became one. A row's score is the distance at which it becomes a center, so that the queue is
    greedy's order, and images that come later find their place in it. A pool above
    `models.geometry.k_center.MOST_POINTS` rows is gone through as a whole where features are kept
    (`models.geometry.k_center_whole`), else a random sample of it is embedded; of a labeled set above that, too. The
    paper's second part, a mixed integer program that improves on greedy, is left out, as in all code we know of. A
    segmenter's features are averaged over the pixels.
    """

    name: ClassVar[str] = "core-set"
    summary: ClassVar[str] = "what is farthest from every labeled image, in the task network's features"
    why: ClassVar[str] = "it is far from all labeled images and from those before it"
    source: ClassVar[str] = "Sener & Savarese 2018"
    trains: ClassVar[str] = "nothing; one extra pass over the pool"
    family: ClassVar[str] = families.COVERAGE
    diverse: ClassVar[bool] = True
    Options = CoreSetOptions

    order: GreedyOrder | None = None

    def fit(self, net: TaskNet, data: CycleData, runtime: Runtime) -> dict[str, float]:
        """Embed, then pick: phases "embed" and "core-set". Nothing of an earlier cycle is used."""
        started = time.perf_counter()
        rng = runtime.rng("core-set sample")
        read = None
        if len(data.unlabeled) > models.geometry.k_center.MOST_POINTS:
            read = models.inference.kept_rows.kept_rows(net, data.pixels, runtime)
        if read is not None:
            return self._fit_whole(read, sample(data.labeled, rng), data.unlabeled, runtime, started)
        labeled, pool = (sample(rows, rng) for rows in (data.labeled, data.unlabeled))
        everything = np.concatenate([labeled, pool])
        features = torch.from_numpy(models.inference.predictions.embed(net, data.pixels, everything, runtime))
        centers, points = features.to(self.device).split([len(labeled), len(pool)])
        self.order, nearest = models.geometry.coverage.greedy_order(
            centers,
            points,
            torch.from_numpy(pool.astype(np.int64)).to(self.device),
            self.options.core_set_picks,
            lambda done, count: runtime.progress("core-set", done, count),
        )
        return self._figures(started, len(labeled), nearest)

    def _fit_whole(
        self, read: Read, labeled: np.ndarray, pool: np.ndarray, runtime: Runtime, started: float
    ) -> dict[str, float]:
        centers = read(labeled)
        picks = self.options.core_set_picks
        found = models.geometry.k_center_whole.greedy_of_all(pool, read, picks, centers, runtime)
        if len(labeled) == 0:  # a first pick without any center: nobody is farther than twice this
            found.radii[0] = 4.0 * (found.radii[1] if len(found.radii) > 1 else found.nearest.max())
        rows = pool[found.chosen.numpy()].astype(np.int64)
        order = (torch.cat([centers, read(rows)]), found.radii.double().sqrt(), torch.from_numpy(rows))
        self.order = models.geometry.coverage.GreedyOrder(*(part.to(self.device) for part in order))
        return self._figures(started, len(labeled), found.nearest.sqrt())

    def _figures(self, started: float, centers: int, nearest: Tensor) -> dict[str, float]:
        assert self.order is not None
        return {
            "seconds": time.perf_counter() - started,
            "centers": float(centers),
            "picks": float(len(self.order.rows)),
            "radius": float(nearest.max()) if len(nearest) else 0.0,
        }

    def _score(self, net: TaskNet, pixels: np.ndarray, rows: np.ndarray, runtime: Runtime) -> Scored:
        """log of the distance at which a row becomes a center, (N,): for a pick the one of algorithm 1, line 3, when it
        was picked. 1 / (1 + exp(a)) = 1 / (1 + distance). See `models.geometry.coverage`.
        """
        if self.order is None:
            raise NotFitted("sampler core-set: its centers were neither computed nor loaded yet")
        entries = models.geometry.coverage.EntryDistances(self.order)

        def of_batch(features: Tensor, _: Tensor) -> Tensor:
            return entries.distances(net.task.image_features(features))

        predictions, values = models.inference.predictions.predict_and_measure(net, pixels, rows, runtime, of_batch)
        return Scored(np.log(np.maximum(entries.at_picks(values, rows), NOTHING)), predictions)

    def state_dict(self) -> dict[str, Any]:
        if self.order is None:
            return {}
        return {"centers": self.order.centers, "radii": self.order.radii, "rows": self.order.rows}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if state:
            parts = (state[key].to(self.device, copy=True) for key in ("centers", "radii", "rows"))
            self.order = models.geometry.coverage.GreedyOrder(*parts)


def sample(rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """At most `models.geometry.k_center.MOST_POINTS` of ``rows`` (N,), ascending."""
    return np.sort(rng.permutation(rows)[: models.geometry.k_center.MOST_POINTS])
