"""What ASAL asks for, as a picture: images that it generates, and the real ones that they are matched with."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from benchmarks.curves.display import Display
from benchmarks.curves.plan import PlanError
from benchmarks.curves.prepared import prepared_for
from benchmarks.papers.pictures import in_pairs, strips
from benchmarks.papers.study import Outcome, Places, Study
from benchmarks.papers.trained import Labels, labels_of
from benchmarks.speed.measuring import machine
from models.files import replace_file

COLUMNS = 20


@dataclass(frozen=True)
class Matches(Study):
    """Generated images with their matches, for the network of one cycle."""

    small: tuple[str, int, int] = ("fashion-mnist", 100, 1_900)
    """Data set, labels, and the unlabeled images to match with."""
    paper_scale: tuple[str, int, int] = ("cifar10", 5_000, 10_000)
    settings: tuple[str, ...] = ()
    shown: int = 60

    def make(self, scale: str, places: Places, display: Display) -> Outcome:
        from backend.learning.learner import Learner
        from models.inference.fused import scoring_copy
        from models.networks.gan import as_pixels

        size = self.small if scale == "small" else self.paper_scale
        given = self._given(size, places, display)
        learner, metrics = Learner.trained(given.settings, given.task.classes, given.data, given.runtime)
        display.say("Matching")
        sampler: Any = learner.sampler
        made = sampler.synthesize(
            scoring_copy(learner.net, given.runtime), sampler.starts(given.runtime), given.runtime
        )
        if not math.isclose(float(made.after.mean()), metrics["fit_uncertainty_after"], rel_tol=1e-4):
            raise PlanError(
                "the machine is too slow for synthetic_seconds: other images were generated the second time"
            )
        images = as_pixels(made.images).cpu().numpy()
        matched = sampler.state_dict()["matches"].cpu().numpy()
        count = min(self.shown, len(matched))
        pairs = in_pairs(images[:count], given.data.pixels[matched[:count]])
        picture = f"{self.name}-{scale}.png"
        places.pictures.mkdir(parents=True, exist_ok=True)
        replace_file(places.pictures / picture, strips({"generated, and below each its match": pairs}, COLUMNS))
        notes = [
            f"One network on {size[1]:,} labels of {size[0]}, {size[2]:,} images to match with. The first two"
            " columns are the entropy, in nats, of what it predicts for the generated images before and after their"
            " latents were moved.",
            f"The picture: {count} generated images, the least certain first.",
        ]
        row = self._row(learner, given, metrics, matched)
        facts = machine() | {"seeds": f"--seed {places.seed}, one network"}
        return Outcome(list(row), [list(row.values())], notes, facts, picture)

    def _given(self, size: tuple[str, int, int], places: Places, display: Display) -> Labels:
        """The labels, with nothing but the others as the pool, and a GAN that learned from both."""
        given = labels_of(size, "asal", self.settings, places, display)
        everything = np.union1d(given.data.labeled, given.others)
        task, device = replace(given.task, pool=everything), given.runtime.device
        display.say(f"Training a GAN on {len(everything):,} images of {size[0]}")
        prepared = prepared_for(task, given.plan, given.settings, places.work / "prepared", device)
        data = replace(given.data, unlabeled=given.others)
        return replace(given, data=data, runtime=replace(given.runtime, prepared=prepared))

    def _row(self, learner: Any, given: Labels, metrics: dict[str, float], matched: np.ndarray) -> dict[str, str]:
        from models.inference.predictions import predict

        found = predict(learner.net, given.data.pixels, given.others, given.runtime)
        confidence = dict(zip(given.others.tolist(), np.asarray(found.confidence).tolist(), strict=True))
        classes = len(np.unique(given.task.images.train_labels[matched]))
        return {
            "entropy before": f"{metrics['fit_uncertainty_before']:.2f}",
            "entropy after": f"{metrics['fit_uncertainty_after']:.2f}",
            "confidence of matches, %": f"{100 * np.mean([confidence[row] for row in matched.tolist()]):.0f}",
            "confidence of all unlabeled, %": f"{100 * np.mean(list(confidence.values())):.0f}",
            "classes among the matches": f"{classes} of {len(given.task.classes)}",
        }
