"""Cycles with one class for each image, at the sizes of DAST-AL's Table 4 and of VAAL's paper."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from backend.learning.learner import Learner
from backend.settings.core import Settings
from benchmarks.data.datasets import DEBIAN, fashion_mnist
from benchmarks.gpu.costs import Workload, print_costs
from benchmarks.gpu.shares import Stage, flops_of
from benchmarks.gpu.sizes import Sizes
from models.data import ClassTargets, CycleData, Runtime

SIZE, NUM_CLASSES = 32, 10
NAMES = [str(number) for number in range(NUM_CLASSES)]
TABLE_4 = "the paper's TITAN Xp: 128.30 s and 7.59 s"
WARM_UP_ROWS = 256


def run(sizes: Sizes, stage: Stage, samplers: Sequence[str], *, cycles: bool) -> None:
    """The two cycles, unless ``cycles`` is False, and the costs of the samplers."""
    pixels, targets, source = images(sizes.pool)
    stage.say(f"- {len(pixels):,} images of {SIZE} px: {source}")
    if cycles:
        measure(sizes, pixels, targets, stage)
    costs(sizes, pixels, targets, samplers, stage)


def measure(sizes: Sizes, pixels: np.ndarray, targets: np.ndarray, stage: Stage) -> None:
    """The two cycles in shares of what the device can do, printed as they come."""
    peak = stage.begin_table(sizes.matmul)
    _dast_al(sizes, peak, pixels, targets, stage)
    _vaal(sizes, peak, pixels, targets, stage)
    stage.say()
    stage.say(f"DAST-AL as in Table 4 of its paper ({TABLE_4} for training and scoring). Multiplications and additions")
    stage.say("are counted apart, those of convolutions and matrix products alone. Training is in bfloat16, scoring in")
    stage.say("float32: the order of a pool needs the digits; its share is of the same peak.")


def costs(sizes: Sizes, pixels: np.ndarray, targets: np.ndarray, samplers: Sequence[str], stage: Stage) -> None:
    """A cycle of Table 4's size with each sampler, all with their papers' settings."""
    data = _cycle_data(pixels, targets, sizes.dast_labels, sizes.dast_scored)
    settings = Settings().for_project(
        {
            "task_width": sizes.task_width,
            "epochs": sizes.epochs,
            "batch_size": sizes.batch,
            "vaal_width": sizes.vaal_width,
            "vaal_batch_size": sizes.batch,
            **sizes.settings,
        }
    )
    stage.say()
    size = f"{sizes.epochs} epochs of ResNet-18 × {sizes.task_width}"
    stage.say(f"A cycle: {len(data.labeled):,} labels, {size} from scratch, and")
    stage.say(f"{len(data.unlabeled):,} images scored. Settings are the defaults, the papers'; samplers with")
    stage.say("an autoencoder train it for 100 passes over all images.")
    stage.say()
    print_costs(stage.device, settings, Workload(data, NAMES, WARM_UP_ROWS), samplers, stage.say)


def images(count: int) -> tuple[np.ndarray, np.ndarray, str]:
    """``count`` images (N, 32, 32, 3) uint8, their classes (N,) int64, and where they come from.

    Fashion-MNIST where Debian's package is installed, else noise around one pattern for each class: nothing is
    downloaded, and the time does not depend on what is seen.
    """
    if DEBIAN.exists():
        found = fashion_mnist()
        if len(found.train_images) >= count:
            gray = np.pad(found.train_images[:count], ((0, 0), (2, 2), (2, 2)))
            return np.repeat(gray[..., None], 3, axis=3), found.train_labels[:count], found.source
    draw = np.random.default_rng(0)
    targets = draw.integers(0, NUM_CLASSES, count)
    patterns = draw.integers(0, 128, (NUM_CLASSES, SIZE, SIZE, 3), dtype=np.uint8)
    pixels = draw.integers(0, 128, (count, SIZE, SIZE, 3), dtype=np.uint8)
    for start in range(0, count, 1024):
        pixels[start : start + 1024] += patterns[targets[start : start + 1024]]
    return pixels, targets, "noise around one pattern for each class"


def _dast_al(sizes: Sizes, peak: float, pixels: np.ndarray, targets: np.ndarray, stage: Stage) -> None:
    settings = Settings().for_project(
        {
            "sampler": "dast-al",
            "task_width": sizes.task_width,
            "epochs": sizes.epochs,
            "batch_size": sizes.batch,
            "isda_lambda": 1.0,
        }
    )
    data = _cycle_data(pixels, targets, sizes.dast_labels, sizes.dast_scored)
    few = _cycle_data(pixels, targets, 2 * sizes.batch, sizes.batch)
    runtime = Runtime(device=stage.device, seed=0)

    def learn(epochs: int, part: CycleData) -> dict[str, float]:
        some = replace(settings, epochs=epochs)
        return learner.learn(part, some, runtime)

    learner = _learner(settings, stage.device)
    # by a difference, because a training also does things once
    per_image = (flops_of(lambda: learn(2, few)) - flops_of(lambda: learn(1, few))) / len(few.labeled)
    flops_of(lambda: learner.score(pixels, few.unlabeled, runtime))  # so that choosing algorithms is not timed
    learner = _learner(settings, stage.device)
    stage.reset_memory()
    metrics: dict[str, float] = {}
    stage.seconds(lambda: metrics.update(learn(sizes.epochs, data)))
    seen, train = metrics["train_epochs"] * len(data.labeled), metrics["train_seconds"]
    what = f"DAST-AL, train: {len(data.labeled):,} labels, {sizes.epochs} epochs, ResNet-18 × {sizes.task_width}"
    stage.row(what, train, f"{metrics['train_steps'] / train:.1f} steps/s", seen * per_image / train, peak)
    stage.reset_memory()
    scoring = flops_of(lambda: learner.score(pixels, data.unlabeled, runtime))
    score = stage.seconds(lambda: learner.score(pixels, data.unlabeled, runtime))
    rate = f"{len(data.unlabeled) / score:,.0f} images/s"
    stage.row(f"DAST-AL, score {len(data.unlabeled):,}", score, rate, scoring / score, peak)
    whole = train + metrics.get("fit_seconds", 0.0) + score
    stage.say(f"| DAST-AL, the cycle with its covariances | {whole:.2f} | | | | |")


def _vaal(sizes: Sizes, peak: float, pixels: np.ndarray, targets: np.ndarray, stage: Stage) -> None:
    data = _cycle_data(pixels, targets, sizes.vaal_labels, sizes.pool - sizes.vaal_labels)
    runtime = Runtime(device=stage.device, seed=0)

    def fit(iterations: int) -> dict[str, float]:
        settings = Settings().for_project(
            {
                "sampler": "vaal",
                "vaal_width": sizes.vaal_width,
                "vaal_batch_size": sizes.batch,
                "vaal_iterations": iterations,
                "task_width": sizes.task_width,
            }
        )
        learner = _learner(settings, stage.device)
        return learner.sampler.fit(learner.net, data, runtime)

    per_iteration = flops_of(lambda: fit(3)) - flops_of(lambda: fit(2))
    stage.reset_memory()
    metrics: dict[str, float] = {}
    stage.seconds(lambda: metrics.update(fit(sizes.vaal_iterations)))
    rate = sizes.vaal_iterations / metrics["seconds"]
    what = f"VAAL, {sizes.vaal_iterations:,} iterations of 2 × {sizes.batch}, width {sizes.vaal_width}"
    stage.row(what, metrics["seconds"], f"{rate:.1f} iterations/s", rate * per_iteration, peak)
    stage.say(f"| VAAL, a cycle of 39,062 iterations at that rate | {39_062 / rate:.0f} | | | | |")


def _learner(settings: Settings, device: torch.device) -> Learner:
    return Learner.fresh(settings, NAMES, SIZE, device, seed=0)


def _cycle_data(pixels: np.ndarray, targets: np.ndarray, labels: int, others: int) -> CycleData:
    order = np.random.default_rng(1).permutation(len(pixels))
    labeled, unlabeled = np.sort(order[:labels]), np.sort(order[labels : labels + others])
    return CycleData(pixels, labeled, unlabeled, ClassTargets(targets[labeled].astype(np.int64)), NUM_CLASSES)
