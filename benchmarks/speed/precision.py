"""What scoring in bfloat16 costs and what it does to the order, against float32.

The time is that of :meth:`backend.learning.learner.Learner.score` with a sampler that only looks at the network. The
order is compared for several samplers, each with a network of its own that has learned some hundred labels of
Fashion-MNIST: by Spearman's rank correlation of the acquisition, and by how many of the first images stay.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from backend.learning.learner import Learner
from backend.settings.core import Settings
from benchmarks.data.datasets import Dataset, fashion_mnist
from benchmarks.speed.measuring import Measured, in_turns
from models.data import ClassTargets, CycleData, Runtime
from samplers.loss_prediction_base import rank_correlation

SAMPLERS = ("margin", "entropy", "dast-al", "bald", "vaal")
_ROWS, _LABELS, _EPOCHS, _FIRST, _WIDTH = 1_024, 300, 15, 50, 8
_SMALL_ROWS, _SMALL_LABELS = 128, 40
_REPETITIONS = 3


def measure(small: bool) -> Measured:
    """ResNet-18 at half of the width that a CPU gets by default, on the CPU."""
    count, labels = (_SMALL_ROWS, _SMALL_LABELS) if small else (_ROWS, _LABELS)
    dataset = fashion_mnist()
    data = cycle_data(dataset, labels, count)
    exact = Runtime(device=torch.device("cpu"), seed=0)
    reduced = replace(exact, score_dtype=torch.bfloat16)
    learners = {name: _learner(name, dataset, data, exact, small) for name in (SAMPLERS[:1] if small else SAMPLERS)}
    found = [f"{name} {_agreement(learner, data, exact, reduced)}" for name, learner in learners.items()]
    learner = learners[SAMPLERS[0]]
    over, under = in_turns(
        lambda: learner.score(data.pixels, data.unlabeled, reduced),
        lambda: learner.score(data.pixels, data.unlabeled, exact),
        1 if small else _REPETITIONS,
    )
    return Measured(
        "bfloat16",
        "scoring in bfloat16 ÷ in float32, on the CPU",
        over,
        under,
        "s",
        notes=(
            f"{len(data.unlabeled):,} images of {dataset.source}; {learner.net_config.name} of width "
            f"{learner.net_config.width} after {labels} labels, {torch.get_num_threads()} threads",
            f"Spearman's rank correlation of the two acquisitions, and how many of the first {_FIRST} are the same: "
            + ", ".join(found),
        ),
    )


def cycle_data(dataset: Dataset, labels: int, count: int) -> CycleData:
    """``labels`` labeled and ``count`` unlabeled images, all at 32 px."""
    images = dataset.train_images[: labels + count]
    margin = (32 - images.shape[1]) // 2
    gray = np.pad(images, ((0, 0), (margin, 32 - images.shape[1] - margin), (margin, 32 - images.shape[2] - margin)))
    rows = np.arange(len(images), dtype=np.int64)
    targets = ClassTargets(dataset.train_labels[:labels].astype(np.int64))
    pixels = np.repeat(gray[..., None], 3, axis=3)
    return CycleData(pixels, rows[:labels], rows[labels:], targets, len(dataset.class_names))


def _learner(name: str, dataset: Dataset, data: CycleData, runtime: Runtime, small: bool) -> Learner:
    settings = Settings().for_project(
        {
            "sampler": name,
            "epochs": 1 if small else _EPOCHS,
            "task_width": _WIDTH,
            "vaal_width": _WIDTH,
            "vaal_iterations": 2 if small else 40,
        }
    )
    return Learner.trained(settings, dataset.class_names, data, runtime)[0]


def _agreement(learner: Learner, data: CycleData, exact: Runtime, reduced: Runtime) -> str:
    one, other = (learner.score(data.pixels, data.unlabeled, runtime)[0] for runtime in (exact, reduced))
    first, now_first = (set(np.argsort(-values, kind="stable")[:_FIRST].tolist()) for values in (one, other))
    return f"{rank_correlation(one, other):.4f} and {len(first & now_first)}"
