"""TypiClust and then margin: ask for typical images until each class has been seen, and then for doubtful ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np

from samplers import families
from samplers.deferred import models
from samplers.margin import log_odds_of_no_margin
from samplers.options import SamplerOptions
from samplers.picks_base import PickingSampler, some_of

if TYPE_CHECKING:
    from torch import Tensor

    from models.data import CycleData, Runtime
    from models.networks.base import TaskNet

ENOUGH_LABELS = 10  # a class, on average: a class that was not among them is rare, and doubt finds it sooner


class TypiClustSampler(PickingSampler[SamplerOptions]):
    """TypiClust (Hacohen, Dekel & Weinshall, ICML 2022) and then margin, as in "TCM" (Doucet et al. 2024).

    The pool and the labeled images are divided into clusters of the task network's features, and the most typical
    image of each cluster without a label is picked, the largest cluster first; see `models.geometry.typical`, where
    clusters become finer on the way, because how many labels there will be is not known. From the cycle on in which
    each class has a label, or in which there are 10 labels for each class on average, the order is margin's. In TCM
    the change comes after a number of labels that is fixed beforehand.
    """

    name: ClassVar[str] = "typiclust"
    summary: ClassVar[str] = "typical images of clusters until each class has been seen, then like `margin`"
    why: ClassVar[str] = "it is typical of a cluster of images that has no label"
    source: ClassVar[str] = "Hacohen et al. 2022, Doucet et al. 2024"
    family: ClassVar[str] = families.BATCHES
    refusals: ClassVar[dict[str, str]] = {
        "segmentation": "whether each class has been seen is a question of whole images, and most masks show several"
    }
    Options = SamplerOptions

    def choose(self, net: TaskNet, data: CycleData, runtime: Runtime) -> np.ndarray:
        """The typical images; none once the time of margin has come. Of a pool above 5,000 images up to 20,000 are
        looked at where features are kept, else 5,000, by chance."""
        counts = net.task.labels_per_class(data)
        if counts.all() or len(data.labeled) >= ENOUGH_LABELS * data.num_classes:
            return data.unlabeled[:0]
        typical = models.geometry.typical
        if len(data.unlabeled) > typical.LARGEST_SAMPLE:
            read = models.inference.kept_rows.kept_rows(net, data.pixels, runtime)
            if read is not None:
                pool = some_of(data.unlabeled, typical.LARGEST_WHOLE, runtime)
                return pool[typical.typical_of_all(pool, data.labeled, read, runtime, "typiclust")]
        pool = some_of(data.unlabeled, typical.LARGEST_SAMPLE, runtime)
        labeled = some_of(data.labeled, typical.LARGEST_SAMPLE, runtime)
        both = np.concatenate([pool, labeled])
        points = models.inference.predictions.embed(net, data.pixels, both, runtime)
        return pool[typical.typical_first(points, len(labeled), runtime, "typiclust")]

    def rest(self, net: TaskNet, features: Tensor, logits: Tensor) -> Tensor:
        """Margin's figure."""
        return net.task.per_image(log_odds_of_no_margin, logits, reduce="log_odds_of_mean")
