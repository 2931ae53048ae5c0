"""Whether what DAST-AL chooses is more diverse: table 3 of its paper, by the real images that are nearest to augmented
features, where the paper draws them by a network of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from backend.reporting.learning_curves import MeanStd
from benchmarks.curves.display import Display
from benchmarks.papers.pictures import side_by_side, strips
from benchmarks.papers.study import Outcome, Places, Study
from benchmarks.papers.trained import Labels, labels_of
from benchmarks.speed.measuring import machine
from models.files import replace_file

if TYPE_CHECKING:
    from backend.learning.learner import Learner

CHOICES = ("DAST-AL", "least confidence", "random")
COLUMNS = 2  # images with their neighbors, side by side in the picture
FIGURES = ("different neighbors", "their classes", "of another class than the image, %")


@dataclass(frozen=True)
class Neighbors(Study):
    """Of each of ``picks`` images that are chosen, ``draws`` augmentations; the nearest other image to each of them."""

    small: tuple[str, int, int] = ("fashion-mnist", 300, 2_000)
    """Data set, labels, and the unlabeled images to choose from."""
    paper_scale: tuple[str, int, int] = ("cifar10", 10_000, 10_000)
    picks: int = 100
    draws: int = 8
    shown: int = 6
    trials: int = 3
    settings: tuple[str, ...] = ()

    def make(self, scale: str, places: Places, display: Display) -> Outcome:
        size = self.small if scale == "small" else self.paper_scale
        figures: dict[str, list[list[float]]] = {words: [] for words in CHOICES}
        picture = ""
        for trial in range(1, self.trials + 1):
            display.say(f"Trial {trial}: training on {size[1]:,} labels of {size[0]}")
            given = labels_of(size, "dast-al", self.settings, places, display, trial)
            found = self._found(given)
            for words, (picked, nearest) in found.items():
                figures[words].append(self._figures(given, picked, nearest))
            picture = picture or self._picture(given, found, f"{self.name}-{scale}.png", places)
        rows = [[words, *map(_cell, np.transpose(trials).tolist())] for words, trials in figures.items()]
        notes = [
            f"Of the {self.picks} images that come first, each augmented {self.draws} times: features drawn from the"
            " normal distribution about its own, with the variances of the class that is predicted, and the nearest"
            f" other image of the {size[2]:,}. Means over the images, ± half of the 95 % interval over the trials.",
            f"The picture: the first {self.shown} that each chooses, trial 1, each followed by the nearest images to"
            f" its {self.draws} augmentations.",
        ]
        facts = machine() | {"seeds": f"--seed {places.seed}, {self.trials} trials"}
        return Outcome(["chosen by", *FIGURES], rows, notes, facts, picture)

    def _found(self, given: Labels) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """By whom they were chosen -> rows (P,) of what was, and (P, K) of the nearest to each augmentation."""
        import torch

        from backend.learning.learner import Learner
        from models.inference.predictions import embed

        learner, _ = Learner.trained(given.settings, given.task.classes, given.data, given.runtime)
        net, rows, runtime = learner.net, given.others, given.runtime
        features = torch.from_numpy(embed(net, given.data.pixels, rows, runtime, "score")).double()
        spread = net.task.class_spread(net, given.data, runtime, "diag")
        deviations = spread.covariance.double().cpu().sqrt()
        orders, predicted = self._orders(learner, given)
        generator = torch.Generator().manual_seed(runtime.seed)
        found = {}
        for words, order in orders.items():
            picked = torch.from_numpy(order[: self.picks].copy())
            noise = torch.randn((self.picks, self.draws, features.shape[1]), generator=generator, dtype=torch.float64)
            drawn = features[picked, None] + noise * deviations[predicted[picked], None]
            away = torch.cdist(drawn, features.expand(self.picks, -1, -1))
            away.scatter_(2, picked[:, None, None].expand(-1, self.draws, 1), torch.inf)  # itself
            found[words] = (rows[picked.numpy()], rows[away.argmin(dim=2).numpy()])
        return found

    def _orders(self, learner: Learner, given: Labels) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """By whom -> places in the unlabeled rows, the first chosen first; and the classes predicted (N,)."""
        acquisition, predictions = learner.score(given.data.pixels, given.others, given.runtime)
        predicted, confidence = np.asarray(predictions.predicted), np.asarray(predictions.confidence)
        chance = np.random.default_rng(given.runtime.seed).permutation(len(given.others))
        orders = (np.argsort(-acquisition, kind="stable"), np.argsort(confidence, kind="stable"), chance)
        return dict(zip(CHOICES, orders, strict=True)), predicted

    def _figures(self, given: Labels, picked: np.ndarray, nearest: np.ndarray) -> list[float]:
        labels = given.task.images.train_labels
        different = [len(np.unique(rows)) for rows in nearest]
        classes = [len(np.unique(labels[rows])) for rows in nearest]
        other = labels[nearest] != labels[picked][:, None]
        return [float(np.mean(different)), float(np.mean(classes)), 100 * float(other.mean())]

    def _picture(
        self, given: Labels, found: Mapping[str, tuple[np.ndarray, np.ndarray]], name: str, places: Places
    ) -> str:
        pixels = given.data.pixels
        shown = {
            words: side_by_side(pixels[picked[: self.shown]], [pixels[rows] for rows in nearest[: self.shown]])
            for words, (picked, nearest) in found.items()
        }
        places.pictures.mkdir(parents=True, exist_ok=True)
        replace_file(places.pictures / name, strips(shown, COLUMNS * (self.draws + 3)))
        return name


def _cell(trials: list[float]) -> str:
    value = MeanStd.of(trials)
    return f"{value.mean:.2f} ± {value.margin:.2f}"
