"""Labels drawn by chance, to train a task network on once: for studies that look into a network, not at curves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.curves.display import Display
from benchmarks.curves.plan import Plan, Run, overrides_of, trial_seed
from benchmarks.curves.tasks import TASKS
from benchmarks.curves.tasks.classification import Classification
from benchmarks.papers.study import Places

if TYPE_CHECKING:
    from backend.settings.core import Settings
    from models.data import CycleData, Runtime

SIDE = 32


@dataclass(frozen=True)
class Labels:
    """Labels drawn by chance from a data set, the rest of which is unlabeled in ``data``; ``others``: some of the
    unlabeled rows (N,), ascending."""

    task: Classification
    data: CycleData
    others: np.ndarray
    plan: Plan
    settings: Settings
    runtime: Runtime


def labels_of(
    size: tuple[str, int, int], sampler: str, settings: Sequence[str], places: Places, display: Display, trial: int = 1
) -> Labels:
    """size: data set, how many labels, how many others. ``trial`` decides which, and the seed.

    Raises:
        PlanError, SettingsError, DatasetUnavailable: they cannot be had.
    """
    import torch

    from models.data import Runtime

    dataset, labels, images = size
    with display.preparing() as report:
        folder = Classification.prepare(dataset, SIDE, places.data, places.work / "images", report)
    opened = TASKS["classification"].open(folder)
    overrides = overrides_of(settings)
    plan = Plan(dataset, opened.digest, labels, images, 2, places.seed, image_size=SIDE, overrides=overrides)
    task = Classification.of(opened, plan, trial)
    order = np.random.default_rng(trial_seed(places.seed, trial)).permutation(task.pool)
    data = task.data(np.sort(order[:labels]), np.sort(order[labels:]))
    runtime = Runtime(torch.device(places.devices.partition(",")[0] or "cpu"), places.seed + trial - 1)
    return Labels(
        task, data, np.sort(order[labels : labels + images]), plan, plan.settings(Run(sampler, trial)), runtime
    )
