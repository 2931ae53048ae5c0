"""What the module that predicts losses is trained on, over the epochs: figure 2 of TA-VAAL's supplement."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from backend.reporting.learning_curves import MeanStd
from benchmarks.curves.display import Display
from benchmarks.papers.pictures import lines
from benchmarks.papers.study import Outcome, Places, Study
from benchmarks.papers.trained import labels_of
from benchmarks.speed.measuring import machine
from models.files import replace_file

if TYPE_CHECKING:
    from torch import Tensor

VERSIONS = {"learning-loss": "v1, a margin of 1", "learning-loss-v2": "v2, ranks"}


@dataclass(frozen=True)
class PairLosses(Study):
    """Both versions, trained for ``epochs`` on the same labels from the same weights, ``trials`` times."""

    small: tuple[str, int, int] = ("fashion-mnist", 300, 30)
    """Data set, labels, epochs."""
    paper_scale: tuple[str, int, int] = ("cifar10", 10_000, 200)
    trials: int = 3
    settings: tuple[str, ...] = ()

    def make(self, scale: str, places: Places, display: Display) -> Outcome:
        dataset, labels, epochs = self.small if scale == "small" else self.paper_scale
        found = {
            words: np.array(
                [self._trained(sampler, (dataset, labels, epochs), trial, places, display) for trial in self._trials]
            )
            for sampler, words in VERSIONS.items()
        }
        at = sorted({1, epochs // 4, epochs // 2, round(0.6 * epochs), epochs})
        picture = f"{self.name}-{scale}.png"
        places.pictures.mkdir(parents=True, exist_ok=True)
        drawn = {words: losses / losses[:, :1] for words, losses in found.items()}
        image = lines(
            f"{dataset}, {labels:,} labels", drawn, "epoch", "loss of the module, first epoch = 1", 0.6 * epochs
        )
        replace_file(places.pictures / picture, image)
        notes = [
            "Mean loss of an epoch's pairs, ± half of the 95 % interval (Student's t). Without knowing anything the"
            " margin loss is 1 and the ranking loss ln 2 = 0.693.",
            "The picture: each divided by its first epoch's; dotted: from there on the gradient no longer reaches the"
            " network.",
        ]
        facts = machine() | {"seeds": f"--seed {places.seed}, {self.trials} trials"}
        return Outcome(["", *(f"epoch {one}" for one in at)], _rows(found, at), notes, facts, picture)

    @property
    def _trials(self) -> range:
        return range(1, self.trials + 1)

    def _trained(
        self, sampler: str, size: tuple[str, int, int], trial: int, places: Places, display: Display
    ) -> list[float]:
        """The mean loss of the module in each epoch (K,)."""
        from backend.learning.learner import Learner
        from models.losses.loss_prediction import LossPrediction
        from models.training.schedule import Recipe
        from models.training.task_network import train_network

        dataset, labels, epochs = size
        given = labels_of((dataset, labels, 1), sampler, self.settings, places, display, trial)
        display.say(f"{VERSIONS[sampler]}, trial {trial}: {epochs} epochs on {labels:,} labels of {dataset}")
        settings, runtime = given.settings, given.runtime
        learner = Learner.fresh(settings, given.task.classes, given.data.frame, runtime.device, runtime.seed)
        objective = learner.sampler.objective(learner.net, given.data, runtime)
        assert isinstance(objective, LossPrediction)
        pair_loss = objective.pair_loss
        seen: list[float] = []

        def watched(predicted: Tensor, losses: Tensor) -> Tensor:
            loss = pair_loss(predicted, losses)
            seen.append(float(loss.detach()))
            return loss

        objective.pair_loss = watched
        recipe = Recipe(epochs=epochs, batch_size=settings.batch_size, learning_rate=settings.learning_rate)
        train_network(learner.net, given.data, objective, recipe, runtime)
        found: list[float] = np.reshape(seen, (epochs, -1)).mean(axis=1).tolist()  # all epochs have as many batches
        return found


def _rows(found: dict[str, np.ndarray], at: Sequence[int]) -> list[list[str]]:
    rows = []
    for words, losses in found.items():
        means = [MeanStd.of(losses[:, one - 1].tolist()) for one in at]
        rows.append([words, *(f"{mean.mean:.3f} ± {mean.margin:.3f}" for mean in means)])
    return rows
