"""What a network's probabilities are worth where all labels are needed to train it: told by a second one.

A fresh network of the same kind, under the same objective, learns from three quarters of the labels, looks at a fifth
as many images as the training, and is asked about the others. The network itself cannot be asked: it learned from all
of them, some in earlier cycles. It is then made as sure of the pool, on average, as the second one is. Of a head on a
frozen backbone, cross-validation says the same and costs less (:mod:`models.training.head`).
"""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from models.data import CycleData, Runtime
from models.inference.predictions import NonFiniteOutputs
from models.networks.base import TaskNet
from models.training.calibration import Calibration
from models.training.held_back import agreed_temperature
from models.training.task_network import Recipe, TrainingDiverged, train_network

if TYPE_CHECKING:
    from backend.learning.learner import Learner

log = logging.getLogger(__name__)

HELD_BACK, MOST, FEWEST = 0.25, 100, 8
"""The part of the labels that is asked about, but no more than so many; of fewer than the last, none is."""
SHARE = 0.2
"""Of the images that the training looked at; passes without steps come on top."""
COMPARED = 16
"""Images of the pool that both networks are to be equally sure of."""


def rehearsed(
    net: TaskNet, learner: Learner, data: CycleData, recipe: Recipe, images: float, runtime: Runtime
) -> dict[str, float]:
    """Train a fresh ``learner`` on a part of the labels of ``data``, ask it about the others, and set the temperature
    of ``net``, which was trained on all of them. Returns that, what the labels say of the learner's network
    (:meth:`models.tasks.base.Task.held_back_figures`), and ``rehearsal_seconds``. Where there is nothing to say, only
    that nothing is known.

    Args:
        images: how many the training of ``net`` looked at.
    """
    parts = parted(data, runtime)
    if parts is None:
        return Calibration().figures()
    started = time.perf_counter()
    learned, held = parts
    own = replace(runtime, progress=lambda _, done, total: runtime.progress("calibrate", done, total))
    objective = learner.sampler.objective(learner.net, learned, own)
    shorter = replace(recipe, images=max(1, round(SHARE * images)))
    try:
        train_network(learner.net, learned, objective, shorter, own)
        found = learner.net.task.held_back_figures(learner.net, held, own)
        if len(data.unlabeled) and "ece" in found:
            some = np.sort(runtime.rng("compared").permutation(data.unlabeled)[:COMPARED])
            found["temperature"] = agreed_temperature(net, learner.net, data.pixels, some, own)
    except (TrainingDiverged, NonFiniteOutputs) as error:
        log.warning("How far confidences can be believed is not known: %s", error)
        found = Calibration().figures()
    net.temperature = found["temperature"]
    return found | {"rehearsal_seconds": time.perf_counter() - started}


def parted(data: CycleData, runtime: Runtime) -> tuple[CycleData, CycleData] | None:
    """The labels to learn from and those to ask about, drawn by chance, without the pool and without labels of
    generated images; None if they are too few."""
    data = data.real  # what is measured by labels of generated images says nothing of others
    labels = len(data.labeled)
    if labels < FEWEST:
        return None
    order = runtime.rng("held back").permutation(labels)
    count = min(round(HELD_BACK * labels), MOST)
    learned, held = (_at(data, np.sort(places)) for places in (order[count:], order[:count]))
    return learned, held


def _at(data: CycleData, places: np.ndarray) -> CycleData:
    return replace(data, labeled=data.labeled[places], unlabeled=data.unlabeled[:0], targets=data.targets.at(places))
