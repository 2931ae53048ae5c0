"""Core-set: ask for the images that leave the largest holes in what is labelled."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch

from models.data import CycleData, Runtime
from models.geometry.coverage import EntryDistances, GreedyOrder, greedy_order
from models.geometry.k_center import MOST_POINTS
from models.inference.predictions import embed, predict_and_measure
from models.networks.base import TaskNet
from samplers.base import NotFitted, Sampler, Scored

NOTHING = 1e-12  # stands for a distance of 0 under the logarithm


@dataclass(frozen=True)
class CoreSetOptions:
    """core_set_picks: K, how many centers greedy picks one by one; the rest of the pool follows by distance."""

    core_set_picks: int = 1000


class CoreSetSampler(Sampler):
    """k-center greedy on the task network's features (Sener & Savarese, ICLR 2018, algorithm 1).

    `fit` runs greedy over the unlabelled rows, the labelled ones being centers already, and keeps the centers and the
    distance at which each became one. A row's score is the distance at which it becomes a center, so that the queue is
    greedy's order, and images that come later find their place in it. Of a pool or labelled set above
    `models.geometry.k_center.MOST_POINTS` rows a random sample is embedded. The paper's second part, a mixed integer
    program that improves on greedy, is left out, as in all code we know of. A segmenter's features are averaged over
    the pixels.
    """

    name: ClassVar[str] = "core-set"
    summary: ClassVar[str] = "farthest from all images labelled or picked before it, in the network's features"
    Options: ClassVar[type[Any]] = CoreSetOptions

    def __init__(
        self, options: Any = None, *, num_classes: int, image_size: int, device: torch.device | str = "cpu"
    ) -> None:
        super().__init__(options, num_classes=num_classes, image_size=image_size, device=device)
        self.order: GreedyOrder | None = None

    def fit(self, net: TaskNet, data: CycleData, runtime: Runtime) -> dict[str, float]:
        """Embed, then pick: phases "embed" and "core-set". Nothing of an earlier cycle is used."""
        started = time.perf_counter()
        rng = runtime.rng("core-set sample")
        labelled, pool = (sample(rows, rng) for rows in (data.labeled, data.unlabeled))
        features = torch.from_numpy(embed(net, data.pixels, np.concatenate([labelled, pool]), runtime))
        centers, points = features.to(self.device).split([len(labelled), len(pool)])
        self.order, nearest = greedy_order(
            centers,
            points,
            torch.from_numpy(pool.astype(np.int64)).to(self.device),
            self.options.core_set_picks,
            lambda done, count: runtime.progress("core-set", done, count),
        )
        return {
            "seconds": time.perf_counter() - started,
            "centers": float(len(labelled)),
            "picks": float(len(self.order.rows)),
            "radius": float(nearest.max()) if len(pool) else 0.0,
        }

    def _score(self, net: TaskNet, pixels: np.ndarray, rows: np.ndarray, runtime: Runtime) -> Scored:
        """log of the distance at which a row becomes a center, (N,): for a pick the one of algorithm 1, line 3, when it
        was picked. 1 / (1 + exp(a)) = 1 / (1 + distance). See `models.geometry.coverage`.
        """
        if self.order is None:
            raise NotFitted("sampler core-set: its centers were neither computed nor loaded yet")
        entrance = EntryDistances(self.order)
        answers, values = predict_and_measure(
            net, pixels, rows, runtime, lambda features, _: entrance.distances(net.task.image_features(features))
        )
        return Scored(np.log(np.maximum(entrance.at_picks(values, rows), NOTHING)), answers)

    def state_dict(self) -> dict[str, Any]:
        if self.order is None:
            return {}
        return {"centers": self.order.centers, "radii": self.order.radii, "rows": self.order.rows}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if state:
            parts = (state[key].to(self.device, copy=True) for key in ("centers", "radii", "rows"))
            self.order = GreedyOrder(*parts)


def sample(rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """At most MOST_POINTS of ``rows`` (N,), ascending."""
    return np.sort(rng.permutation(rows)[:MOST_POINTS])
