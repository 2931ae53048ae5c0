"""BADGE: ask for images whose gradients would be large and of many directions."""

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

MOST_POINTS = 20_000  # of the pool, by chance, that picks are drawn from
MOST_PICKS = 2_000
SMALLEST = 1e-30  # a squared length of 0 has a logarithm too


@dataclass(frozen=True)
class BadgeOptions(SamplerOptions):
    """Twice `budget` images are picked, so that there are picks while the next cycle trains."""

    budget: int = 50


class BadgeSampler(PickingSampler[BadgeOptions]):
    """Batch active learning by diverse gradient embeddings (Ash et al., ICLR 2020).

    The gradient embedding of an image is the gradient by the last layer's weights of the loss that it would have if
    what the network predicts were its label. Images are picked by the seeding of k-means++ on these; see
    `models.geometry.gradients`. Of several choices an image, the loss is the sum of the classes' binary cross
    entropies, and each is predicted for itself.
    """

    name: ClassVar[str] = "badge"
    summary: ClassVar[str] = "images whose gradients in the last layer would be large and differ from each other"
    why: ClassVar[str] = (
        "learning from it should change the last layer much, and in another way than the images before it"
    )
    why_rest: ClassVar[str] = "learning from it should change the last layer much"
    source: ClassVar[str] = "Ash et al. 2020"
    trains: ClassVar[str] = "nothing; one extra pass over up to 20,000 images"
    family: ClassVar[str] = families.BATCHES
    refusals: ClassVar[dict[str, str]] = {
        "segmentation": "an image has a gradient for each of its pixels, and their sum hides what is uncertain"
    }
    Options = BadgeOptions

    def choose(self, net: TaskNet, data: CycleData, runtime: Runtime) -> np.ndarray:
        pool = some_of(data.unlabeled, MOST_POINTS, runtime)

        def of_batch(features: Tensor, logits: Tensor) -> tuple[Tensor, ...]:
            return features, net.task.residuals(logits)

        measure = models.inference.predictions.measure
        features, residuals = measure(net, data.pixels, pool, runtime, of_batch, "embed")
        chosen = models.geometry.gradients.seeded_gradients(
            torch.from_numpy(residuals).to(runtime.device),
            torch.from_numpy(features).to(runtime.device),
            min(2 * self.options.budget, MOST_PICKS),
            runtime.generator("badge", "cpu"),
            lambda done, count: runtime.progress("badge", done, count),
        )
        return pool[chosen.numpy()]

    def rest(self, net: TaskNet, features: Tensor, logits: Tensor) -> Tensor:
        """log |g|², the squared length of the gradient."""
        squared = net.task.residuals(logits).double().square().sum(1) * features.double().square().sum(1)
        return squared.clamp(min=SMALLEST).log()
