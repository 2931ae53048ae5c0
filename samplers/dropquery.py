"""DropQuery: ask for images whose predicted class does not survive dropout, one of each cluster."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from samplers import families
from samplers.deferred import models, torch
from samplers.margin import log_odds_of_no_margin
from samplers.options import SamplerOptions, between, option
from samplers.picks_base import PickingSampler, some_of

if TYPE_CHECKING:
    from torch import Tensor

    from models.data import CycleData, Runtime
    from models.networks.base import TaskNet

MOST_POINTS = 20_000  # of the pool, by chance, that candidates are looked for among
MOST_CANDIDATES = 5_000  # that are clustered
ENOUGH = 25  # candidates for each image to be picked; where there are fewer, less of a doubt makes one
PART = 2_048  # rows that dropout is drawn for at a time


@dataclass(frozen=True)
class DropQueryOptions(SamplerOptions):
    """`budget` images are picked, as many as there are clusters."""

    dropquery_draws: int = option(3, "DropQuery: draws of dropout for each image.", between(1, 100))
    dropquery_rate: float = option(0.75, "DropQuery: share of the features that each draw drops.", between(0.01, 0.99))
    budget: int = 50


class DropQuerySampler(PickingSampler[DropQueryOptions]):
    """DropQuery (Gupte, Aklilu, Nirschl & Yeung-Levy, TMLR 2024).

    Candidates are the images whose predicted class is another one in more than half of the draws of dropout on the
    features; where these are fewer than 25 for each image to be picked, fewer draws suffice, down to one, as in the
    authors' code. Candidates are clustered by their features, of length 1, into as many clusters as images are to be
    picked, and the image nearest to each center is picked, the largest cluster first. Where there are fewer candidates
    than that, all of them are; what is missing follows by margin, and not by chance as there.
    """

    name: ClassVar[str] = "dropquery"
    summary: ClassVar[str] = "images whose predicted class changes under dropout of their features, one of each cluster"
    why: ClassVar[str] = "its predicted class changes when some of its features are left out"
    source: ClassVar[str] = "Gupte et al. 2024"
    trains: ClassVar[str] = "nothing; one extra pass over up to 20,000 images"
    family: ClassVar[str] = families.BATCHES
    refusals: ClassVar[dict[str, str]] = {
        "segmentation": "its candidates are images whose predicted class changes, and each pixel of a mask has one",
        "multilabel": "its candidates are images whose predicted class changes, and here an image has several",
    }
    Options = DropQueryOptions

    def choose(self, net: TaskNet, data: CycleData, runtime: Runtime) -> np.ndarray:
        pool = some_of(data.unlabeled, MOST_POINTS, runtime)
        features = torch.from_numpy(models.inference.predictions.embed(net, data.pixels, pool, runtime))
        changed = self._changed(net, features.to(runtime.device), runtime)
        wanted = self.options.budget
        found = candidates(changed, self.options.dropquery_draws // 2, ENOUGH * wanted)
        if len(found) <= wanted:
            return pool[found[np.argsort(-changed[found], kind="stable")]]
        found = some_of(found, MOST_CANDIDATES, runtime)
        points = torch.nn.functional.normalize(features[torch.from_numpy(found)])
        of_point = models.geometry.typical.cluster(points, wanted, runtime.generator("dropquery clusters", "cpu"))
        runtime.progress("dropquery", len(pool), len(pool))
        return pool[found[nearest_to_centers(points, of_point, wanted)]]

    def _changed(self, net: TaskNet, features: Tensor, runtime: Runtime) -> np.ndarray:
        """In how many draws the predicted class of each row of features (N, F) is another one, (N,) int64."""
        head, rate = models.inference.dropout.as_linear(net.head), self.options.dropquery_rate
        generator, counts = runtime.generator("dropquery", "cpu"), []
        for start in range(0, len(features), PART):
            part = features[start : start + PART]
            predicted, count = net.task.predict(head(part))[0], torch.zeros(len(part), dtype=torch.int64)
            for _ in range(self.options.dropquery_draws):
                kept = torch.rand(part.shape, generator=generator).to(part.device) >= rate
                count += (net.task.predict(head(part * kept / (1.0 - rate)))[0] != predicted).cpu()
            counts.append(count)
            runtime.progress("dropquery", min(start + PART, len(features)), len(features))
        return torch.cat(counts).numpy()

    def rest(self, net: TaskNet, features: Tensor, logits: Tensor) -> Tensor:
        """Margin's figure."""
        return net.task.per_image(log_odds_of_no_margin, logits, reduce="log_odds_of_mean")


def candidates(changed: np.ndarray, threshold: int, enough: int) -> np.ndarray:
    """Positions in `changed` (N,) of those above the threshold, which falls, down to 0, until there are `enough`."""
    while threshold > 0 and np.count_nonzero(changed > threshold) < enough:
        threshold -= 1
    return np.flatnonzero(changed > threshold)


def nearest_to_centers(points: Tensor, of_point: Tensor, clusters: int) -> np.ndarray:
    """Of points (N, F) in clusters (N,), the one nearest to the mean of each, (K,) int64; the largest cluster first and
    none for an empty one."""
    sizes = torch.bincount(of_point, minlength=clusters)
    chosen = []
    for index in torch.argsort(sizes, descending=True, stable=True).tolist():
        members = torch.nonzero(of_point == index).squeeze(1)
        if len(members):
            own = points[members]
            chosen.append(int(members[int((own - own.mean(dim=0)).square().sum(dim=1).argmin())]))
    return np.array(chosen, dtype=np.int64)
