"""A short DAST-AL cycle with masks at Cityscapes' size, and what such a cycle costs with each sampler."""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from backend.learning.learner import Learner
from backend.settings.core import Settings
from benchmarks.gpu.costs import Workload, print_costs
from benchmarks.gpu.shares import Stage, flops_of
from benchmarks.gpu.sizes import Sizes
from benchmarks.speed.measuring import in_turns
from models.data import CycleData, MaskTargets, Runtime
from models.inference.predictions import predict, predict_masks

MASK_CLASSES, PATCH = 19, 16  # classes of Cityscapes with the first for the background; side of a patch of one class
NAMES = [str(number) for number in range(1, MASK_CLASSES)]
WARM_UP_ROWS = 16


def run(sizes: Sizes, stage: Stage, samplers: Sequence[str], *, cycles: bool) -> None:
    """The cycle, unless ``cycles`` is False, and the costs of the samplers."""
    data = patchwork(sizes)
    if cycles:
        measure(sizes, data, stage)
    costs(sizes, data, samplers, stage)


def measure(sizes: Sizes, data: CycleData, stage: Stage) -> None:
    """A short DAST-AL cycle, printed as it comes, and what its scoring adds to predictions alone."""
    stage.say()
    peak = stage.begin_table(sizes.matmul)
    runtime = Runtime(device=stage.device, seed=0)
    settings = Settings(sampler="dast-al", task_width=sizes.mask_width, epochs=sizes.mask_epochs)
    learner = Learner.fresh(settings, NAMES, sizes.frame, stage.device, seed=0, task=data.task)

    def learn(epochs: int) -> dict[str, float]:
        return learner.learn(data, replace(settings, epochs=epochs), runtime)

    # by a difference, because a training also does things once
    per_image = (flops_of(lambda: learn(2)) - flops_of(lambda: learn(1))) / len(data.labeled)
    stage.reset_memory()
    metrics: dict[str, float] = {}
    stage.seconds(lambda: metrics.update(learn(sizes.mask_epochs)))
    train, seen = metrics["train_seconds"], metrics["train_epochs"] * len(data.labeled)
    what = f"masks, train: {len(data.labeled):,} labels, {sizes.mask_epochs} epochs, DRN-D-22 × {sizes.mask_width}"
    stage.row(what, train, f"{metrics['train_steps'] / train:.1f} steps/s", seen * per_image / train, peak)

    def score() -> object:
        return learner.score(data.pixels, data.unlabeled, runtime)

    def segment() -> object:
        return deque(predict_masks(learner.net, data.pixels, data.unlabeled, runtime), maxlen=0)

    for word, work in (("score", score), ("masks of", segment)):
        stage.reset_memory()
        flops = flops_of(work)
        spent = stage.seconds(work)
        rate = f"{len(data.unlabeled) / spent:,.1f} images/s"
        stage.row(f"masks, {word} {len(data.unlabeled):,}", spent, rate, flops / spent, peak)
    over, under = in_turns(
        lambda: stage.seconds(score),
        lambda: stage.seconds(lambda: predict(learner.net, data.pixels, data.unlabeled, runtime)),
        5,
    )
    ratio = statistics.median(a / b for a, b in zip(over, under, strict=True))
    stage.say()
    stage.say(f"DAST-AL on {sizes.frame[0]} × {sizes.frame[1]} px and {MASK_CLASSES} classes, patches of {PATCH} px.")
    stage.say(f"Scoring ÷ predictions alone: {ratio:.3f}, the median of five pairs.")


def costs(sizes: Sizes, data: CycleData, samplers: Sequence[str], stage: Stage) -> None:
    """A cycle with each sampler that has a meaning for masks."""
    settings = Settings().for_project(
        {
            "task_width": sizes.mask_width,
            "epochs": sizes.mask_epochs,
            "vaal_width": sizes.vaal_width,
            "vaal_batch_size": 32,
            **sizes.settings,
        }
    )
    stage.say()
    size = f"{sizes.mask_epochs} epochs of DRN-D-22 × {sizes.mask_width}"
    stage.say(f"A cycle with masks: {len(data.labeled):,} labels of {sizes.frame[0]} × {sizes.frame[1]} px, {size}")
    stage.say(f"from scratch, and {len(data.unlabeled):,} images scored.")
    stage.say()
    print_costs(stage.device, settings, Workload(data, NAMES, WARM_UP_ROWS), samplers, stage.say)


def patchwork(sizes: Sizes) -> CycleData:
    """Labeled and other images of patches, each of a class that its color tells apart from the others', with noise,
    and the masks of the labeled ones."""
    draw = np.random.default_rng(0)
    count, (height, width) = sizes.mask_labels + sizes.mask_scored, sizes.frame
    colors = draw.integers(0, 192, (MASK_CLASSES, 3), dtype=np.uint8)
    classes = draw.integers(0, MASK_CLASSES, (count, height // PATCH, width // PATCH), dtype=np.uint8)
    pixels = draw.integers(0, 64, (count, height, width, 3), dtype=np.uint8)
    for image, patches in zip(pixels, classes, strict=True):
        image += colors[patches].repeat(PATCH, axis=0).repeat(PATCH, axis=1)
    masks = classes[: sizes.mask_labels].repeat(PATCH, axis=1).repeat(PATCH, axis=2)
    rows = np.arange(count)
    labeled, others = rows[: sizes.mask_labels], rows[sizes.mask_labels :]
    return CycleData(pixels, labeled, others, MaskTargets(masks, labeled.copy()), MASK_CLASSES)
