"""What per-pixel EPMCM costs on top of the forward pass that it needs anyway, at Cityscapes' size.

As in :mod:`benchmarks.speed.scoring`: :meth:`backend.learning.learner.Learner.score`, as the worker calls it, against a
bare loop of the same net over the same rows of the same cache, in the same batches. Both give class and confidence;
both are at the resolution of the features, where the last layer plays.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from backend.learning.learner import Learner
from backend.settings.core import Settings
from benchmarks.speed.measuring import Measured, in_turns
from benchmarks.speed.pool import fill_cache
from benchmarks.speed.scoring import bare_loop
from models.data import CycleData, MaskTargets, Runtime
from models.networks.base import TaskNet
from models.pixels import normalize

LIMIT = 1.25
FRAME, CLASSES = (512, 1024), 19  # of Cityscapes, as the papers scale it
_IMAGES, _LABELS, _REPETITIONS = 9, 2, 7  # three batches on a CPU
_SMALL_FRAME, _SMALL_IMAGES = (32, 64), 4


def measure_epmcm(folder: Path, small: bool) -> Measured:
    """DRN-D-22 at the width that a CPU gets by default, which has the least to hide the scoring behind."""
    frame, count = (_SMALL_FRAME, _SMALL_IMAGES) if small else (FRAME, _IMAGES)
    cache = fill_cache(folder / "scoring-masks", count + _LABELS, frame=frame)
    learner, runtime = fitted_learner(cache.pixels, torch.device("cpu"))
    net, rows = learner.net, np.arange(_LABELS, count + _LABELS)
    over, under = in_turns(
        lambda: learner.score(cache.pixels, rows, runtime),
        lambda: bare_loop(predictions_of(net), cache.pixels, rows, runtime),
        1 if small else _REPETITIONS,
    )
    width = learner.net_config.width
    return Measured(
        "epmcm-pixels",
        f"per-pixel EPMCM ÷ bare inference, {frame[0]} × {frame[1]}, {CLASSES} classes",
        over,
        under,
        "s",
        LIMIT,
        notes=(
            f"{count} cached images of {frame[0]} × {frame[1]} px, {learner.net_config.name} of width {width}, on the "
            f"CPU with {torch.get_num_threads()} threads; inference gives class and confidence of each pixel of the "
            "features' maps, scoring the mean of its bound too",
        ),
    )


def fitted_learner(pixels: np.ndarray, device: torch.device, width: int = 0) -> tuple[Learner, Runtime]:
    """A DAST-AL learner of ``CLASSES`` classes for ``pixels`` (M, H, W, 3), of whose first two images it knows the
    labels: not trained, for that says nothing about scoring, but with the covariances of its classes."""
    settings = Settings(sampler="dast-al", task_width=width)
    runtime = Runtime(device=device, seed=0)
    draw = np.random.default_rng(0)
    patches = draw.integers(0, CLASSES, (_LABELS, pixels.shape[1] // 16, pixels.shape[2] // 16), dtype=np.uint8)
    data = CycleData(
        pixels=pixels,
        labeled=np.arange(_LABELS),
        unlabeled=np.empty(0, dtype=np.int64),
        targets=MaskTargets(patches.repeat(16, axis=1).repeat(16, axis=2), np.arange(_LABELS)),
        num_classes=CLASSES,
    )
    names = [f"class {number}" for number in range(1, CLASSES)]
    learner = Learner.fresh(settings, names, data.frame, device, seed=0, task=data.task)
    learner.net.to(memory_format=torch.channels_last)  # as a training leaves it
    learner.sampler.fit(learner.net, data, runtime)
    return learner, runtime


def predictions_of(net: TaskNet) -> Callable[[Tensor], tuple[Tensor, ...]]:
    """images (B, H, W, 3) uint8 -> mean confidence (B,) and the classes of the map's pixels (B, h, w)."""
    net.eval()

    def forward(images: Tensor) -> tuple[Tensor, ...]:
        confidence, classes = net.head(net.features(normalize(images))).softmax(dim=1).max(dim=1)
        return confidence.mean(dim=(1, 2)), classes.to(torch.uint8)

    return forward
