"""BAIT: ask for images whose labels would tell the last layer the most about the pool."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from samplers import families
from samplers.deferred import models, torch
from samplers.options import SamplerOptions
from samplers.picks_base import PickingSampler, some_of

if TYPE_CHECKING:
    from torch import Tensor

    from models.data import CycleData, Runtime
    from models.networks.base import TaskNet

MOST_POINTS = 5_000  # of the pool, and of the labeled images, by chance
MOST_PICKS = 1_000
DIRECTIONS = 128  # D: of the features, that the information is computed in
SMALLEST = 1e-30  # information of nothing has a logarithm too


@dataclass(frozen=True)
class BaitOptions(SamplerOptions):
    """`budget` images are picked."""

    budget: int = 50


class BaitSampler(PickingSampler[BaitOptions]):
    """Batch active learning via information matrices (Ash, Goel, Krishnamurthy & Kakade, NeurIPS 2021), reduced.

    Images are picked so that the Fisher information of the labeled ones fits that of the pool; see
    `models.geometry.fisher`. Departures from the paper: an image's information is traced over the classes, D x D in
    place of C D x C D; and D are the 128 directions in which the features vary most, of variance 1 on average, and one
    for the bias. Of several choices an image, the information is the sum of that of the classes.
    """

    name: ClassVar[str] = "bait"
    summary: ClassVar[str] = "images whose labels would tell the last layer the most about the pool"
    why: ClassVar[str] = "its label should tell the last layer much about the pool that the labels before it do not"
    why_rest: ClassVar[str] = "its label should tell the last layer much"
    source: ClassVar[str] = "Ash et al. 2021"
    trains: ClassVar[str] = "nothing; one extra pass over up to 5,000 images, and the labeled ones"
    family: ClassVar[str] = families.BATCHES
    refusals: ClassVar[dict[str, str]] = {
        "segmentation": "the information of an image is that of its one row of features, and a mask has many"
    }
    Options = BaitOptions

    def choose(self, net: TaskNet, data: CycleData, runtime: Runtime) -> np.ndarray:
        pool = some_of(data.unlabeled, MOST_POINTS, runtime)
        labeled = some_of(data.labeled, MOST_POINTS, runtime)

        def of_batch(features: Tensor, logits: Tensor) -> tuple[Tensor, ...]:
            return features, net.task.per_image(information, logits).float()

        measure = models.inference.predictions.measure
        both = np.concatenate([pool, labeled])
        found = [torch.from_numpy(one) for one in measure(net, data.pixels, both, runtime, of_batch, "embed")]
        features, heights = (one.to(runtime.device) for one in found)
        directions = min(DIRECTIONS, features.shape[1])
        projection = models.networks.projection.Projection(features.shape[1], directions).to(runtime.device)
        projection.settle(features, runtime.generator("bait directions", "cpu"))
        seen = torch.cat([projection(features), torch.ones_like(heights)[:, None]], dim=1)
        points, known = (seen * heights.sqrt()[:, None]).split([len(pool), len(labeled)])
        chosen = models.geometry.fisher.informative(
            points,
            known,
            min(self.options.budget, MOST_PICKS),
            progress=lambda done, count: runtime.progress("bait", done, count),
        )
        return pool[chosen.numpy()]

    def rest(self, net: TaskNet, features: Tensor, logits: Tensor) -> Tensor:
        """log of the trace of the information, h |f|²."""
        heights = net.task.per_image(information, logits).double()
        return (heights * features.double().square().sum(dim=1)).clamp(min=SMALLEST).log()


def information(logits: Tensor) -> Tensor:
    """h = 1 - |p|², the trace of diag(p) - p pᵀ for p = softmax(logits): (B, C) -> (B,)."""
    p = logits.softmax(dim=1)
    return (p * (1.0 - p)).sum(dim=1)
