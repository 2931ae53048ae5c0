"""Uncertainty Herding: ask for images that together cover what the network is unsure of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from samplers import families
from samplers.deferred import models, torch
from samplers.margin import log_odds_of_no_margin
from samplers.options import SamplerOptions
from samplers.picks_base import PickingSampler, some_of

if TYPE_CHECKING:
    from torch import Tensor

    from models.data import CycleData, Runtime
    from models.networks.base import TaskNet

MOST_POINTS = 5_000  # of the pool, by chance, that are to be covered and that picks are drawn from
MOST_PICKS = 1_000


@dataclass(frozen=True)
class UHerdingOptions(SamplerOptions):
    """Twice `budget` images are picked, so that there are picks while the next cycle trains."""

    budget: int = 50


class UHerdingSampler(PickingSampler[UHerdingOptions]):
    """UHerding (Bae, Sutherland & Oliveira, Uncertainty Herding: One Active Learning Method for All Label Budgets, ICLR
    2025, algorithm 1).

    Each pick adds the most to the coverage of the pool (`models.geometry.herding`), where an image counts as much as
    the network is unsure of it: 1 - margin, of calibrated probabilities. What a label covers gets smaller as labels
    get denser: the width of the kernel is the smallest distance between two different labeled images. Calibration is
    that of the network (`models.networks.base.TaskNet.temperature`), not by a validation split of its own.
    """

    name: ClassVar[str] = "uherding"
    summary: ClassVar[str] = "images that together cover what the network is unsure of"
    why: ClassVar[str] = "it is near to many images that the network is unsure of and that nothing labeled is near to"
    source: ClassVar[str] = "Bae et al. 2025"
    trains: ClassVar[str] = "nothing; one extra pass over up to 5,000 images"
    family: ClassVar[str] = families.BATCHES
    refusals: ClassVar[dict[str, str]] = {
        "segmentation": "it covers the features of whole images, and a mask is unsure in some places only"
    }
    Options = UHerdingOptions

    def choose(self, net: TaskNet, data: CycleData, runtime: Runtime) -> np.ndarray:
        pool = some_of(data.unlabeled, MOST_POINTS, runtime)
        labeled = some_of(data.labeled, MOST_POINTS, runtime)

        def of_batch(features: Tensor, logits: Tensor) -> tuple[Tensor, ...]:
            return net.task.image_features(features), self.rest(net, features, logits / net.temperature)

        measure = models.inference.predictions.measure
        features, doubt = measure(net, data.pixels, np.concatenate([pool, labeled]), runtime, of_batch, "embed")
        herding = models.geometry.herding
        points = herding.comparable(torch.from_numpy(features).to(runtime.device), runtime)
        weights = torch.from_numpy(doubt).to(runtime.device).float().sigmoid()
        weights[len(pool) :] = 0.0  # what has a label is known
        chosen = herding.herd(
            points,
            len(labeled),
            min(2 * self.options.budget, MOST_PICKS),
            lambda done, total: runtime.progress("uherding", done, total),
            weights,
            herding.smallest_distance(points[len(pool) :]),
        )
        return pool[chosen.numpy()]

    def rest(self, net: TaskNet, features: Tensor, logits: Tensor) -> Tensor:
        """Margin's figure."""
        return net.task.per_image(log_odds_of_no_margin, logits, reduce="log_odds_of_mean")
