"""A task network, its sampler and the classes they know: made from settings or from a checkpoint, trained, asked.

The worker, the web process (for tasks that came after the last version) and the benchmarks all use a model through this
one class, so that they cannot come to disagree about how.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from backend.errors import BackendError
from backend.learning.scores import to_published
from backend.settings.core import Settings
from models import checkpoint
from models.data import CycleData, Runtime, Task
from models.inference.predictions import Answers, predict, predict_masks
from models.inference.streaming import one_by_one
from models.losses.index_masks import class_counts, inverse_log_weights
from models.networks.classifier import NetConfig
from models.networks.segmenter import Segmenter, SegmenterConfig
from models.networks.task_net import TaskConfig, TaskNet, build_net, carry_over, config_from_dict
from models.training.task_network import Recipe, train_network
from samplers import Sampler, build_sampler

log = logging.getLogger(__name__)

FORMAT = 1
PAPER_WIDTH, CPU_WIDTH = 64, 16  # channels of the first stage of a network that classifies
DRN_WIDTH, DRN_CPU_WIDTH = 16, 4  # and of drn-d-22


@dataclass(frozen=True)
class Learner:
    """``net`` and ``sampler`` on one device, for images of ``frame`` (H, W). ``classes`` in the order of the net's
    outputs, without the background that a segmenter's begin with."""

    net: TaskNet
    sampler: Sampler
    net_config: TaskConfig
    classes: tuple[str, ...]
    options: dict[str, Any]
    device: torch.device
    frame: tuple[int, int]

    @property
    def task(self) -> Task:
        return "segmentation" if isinstance(self.net, Segmenter) else "classification"

    @classmethod
    def fresh(
        cls,
        settings: Settings,
        classes: Sequence[str],
        frame: int | tuple[int, int],
        device: torch.device,
        seed: int,
        task: Task = "classification",
    ) -> Learner:
        """Initialised from ``seed``, for images of ``frame`` (H, W), a side where they are square. On a CPU the net is
        narrower than the papers' unless ``task_width`` says otherwise."""
        frame = (frame, frame) if isinstance(frame, int) else frame
        config: TaskConfig
        if task == "segmentation":
            config = _segmenter_config(settings, 1 + len(classes), device)
        else:
            config = _classifier_config(settings, len(classes), max(frame), device)
        net = build_net(config, seed).to(device)
        options = settings.options()
        sampler = build_sampler(
            settings.sampler, options, num_classes=config.num_classes, image_size=max(frame), device=device
        )
        return cls(net, sampler, config, tuple(classes), options, device, frame)

    @classmethod
    def trained(
        cls,
        settings: Settings,
        classes: Sequence[str],
        data: CycleData,
        runtime: Runtime,
        previous: Learner | None = None,
    ) -> tuple[Learner, dict[str, float]]:
        """A learner that has learnt ``data``, from ``previous`` where ``settings.warm_start`` says so, and the figures
        of its training. All randomness comes from ``runtime.seed``. A cycle of the worker and one of the benchmarks
        are this and :meth:`score`."""
        learner = cls.fresh(settings, classes, data.frame, runtime.device, runtime.seed, data.task)
        if settings.warm_start and previous is not None and previous.task == data.task:
            learner.warm_from(previous)
        return learner, learner.learn(data, settings, runtime)

    @classmethod
    def load(cls, path: str | Path, device: torch.device) -> Learner:
        """From a checkpoint that :meth:`payload` filled.

        Raises:
            BackendError: the file is missing, damaged or of another format.
        """
        try:
            saved = checkpoint.load(Path(path), device)
        except Exception as error:
            raise BackendError(f"the checkpoint {Path(path).name} cannot be read: {error}") from error
        if saved.get("format") != FORMAT:
            raise BackendError(f"the checkpoint {Path(path).name} has format {saved.get('format')}, not {FORMAT}")
        config = config_from_dict(saved["net_config"])
        # Those of versions before there were masks say it in their network's configuration.
        height, width = saved.get("frame") or [saved["net_config"]["image_size"]] * 2
        # Its weights are about to be replaced: nothing is to be downloaded for it.
        net = build_net(replace(config, pretrained=False), 0)
        net.load_state_dict(saved["net"])
        sampler = build_sampler(
            saved["sampler_name"],
            saved["options"],
            num_classes=config.num_classes,
            image_size=max(height, width),
            device=device,
        )
        sampler.load_state_dict(saved["sampler"])
        classes = tuple(saved["classes"])
        return cls(net.to(device).eval(), sampler, config, classes, saved["options"], device, (height, width))

    def payload(self) -> dict[str, Any]:
        """What a checkpoint holds: tensors and plain Python only."""
        return {
            "format": FORMAT,
            "frame": list(self.frame),
            "net_config": self.net_config.to_dict(),
            "net": self.net.state_dict(),
            "classes": list(self.classes),
            "options": self.options,
            "sampler_name": self.sampler.name,
            "sampler": self.sampler.state_dict(),
        }

    def save(self, path: Path) -> str:
        """Write the checkpoint atomically; a digest of the trained weights comes back, for the version's name."""
        checkpoint.save(path, self.payload())
        return hashlib.sha256(path.read_bytes()).hexdigest()

    def warm_from(self, previous: Learner) -> None:
        """Take over what fits of an earlier cycle: the net's weights (the head by class name) and the sampler's
        state, unless that goes by the index of classes that have changed."""
        state = previous.net.state_dict()
        if reason := carry_over(state, list(previous.classes), self.net, list(self.classes)):
            log.info("Training from scratch: %s", reason)
        same_classes = previous.classes == self.classes or not self.sampler.knows_classes
        if previous.sampler.name == self.sampler.name and same_classes:
            self.sampler.load_state_dict(previous.sampler.state_dict())

    def learn(self, data: CycleData, settings: Settings, runtime: Runtime) -> dict[str, float]:
        """Train the task net under the sampler's objective, then the sampler's own networks; figures of both."""
        if settings.class_balance and data.masks is not None:
            data = replace(data, class_weight=_class_weight(data))
        recipe = Recipe(
            epochs=settings.epochs,
            batch_size=settings.batch_size,
            learning_rate=settings.learning_rate,
            momentum=settings.momentum,
            weight_decay=settings.weight_decay,
            crop=settings.crop_size,
        )
        objective = self.sampler.objective(self.net, data, runtime)
        metrics = {f"train_{k}": v for k, v in train_network(self.net, data, objective, recipe, runtime).items()}
        metrics |= {f"fit_{k}": v for k, v in self.sampler.fit(self.net, data, runtime).items()}
        return metrics

    def score(self, pixels: np.ndarray, rows: np.ndarray, runtime: Runtime) -> tuple[np.ndarray, Answers]:
        """Acquisition (N,) float64, higher = sooner, and the net's answers for ``rows`` (N,) of ``pixels`` (M, H, W,
        3)."""
        scored = self.sampler.score(self.net, pixels, rows, runtime)
        return scored.acquisition, scored.answers or predict(self.net, pixels, rows, runtime)

    def answer(self, images: np.ndarray) -> tuple[list[str], np.ndarray, np.ndarray]:
        """Class names, confidence and published score for ``images`` (B, H, W, 3) uint8, outside of any pool."""
        rows = np.arange(len(images))
        runtime = Runtime(device=self.device, seed=0)
        acquisition, answers = self.score(images, rows, runtime)
        labels = [self.classes[index] for index in answers.predicted]
        return labels, answers.confidence, to_published(acquisition, seed=0)

    def masks(
        self, pixels: np.ndarray, rows: np.ndarray, runtime: Runtime
    ) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """A segmenter's answers for ``rows`` (N,) of ``pixels``, a batch at a time: positions in ``rows`` (B,), masks
        (B, H, W) uint8 and the confidence in each pixel (B, H, W) uint8; see
        :func:`models.inference.predictions.predict_masks`."""
        assert isinstance(self.net, Segmenter)
        return predict_masks(self.net, pixels, rows, runtime)

    def answer_masks(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Masks and confidence in each pixel, both (B, H, W) uint8, an image's confidence and its published score, both
        (B,) float64, for ``images`` (B, H, W, 3) uint8, outside of any pool."""
        rows = np.arange(len(images))
        runtime = Runtime(device=self.device, seed=0)
        acquisition, answers = self.score(images, rows, runtime)
        masks, confidence = np.empty(images.shape[:3], np.uint8), np.empty(images.shape[:3], np.uint8)
        for part, mask, sure in self.masks(images, rows, runtime):
            masks[part], confidence[part] = mask, sure
        return masks, confidence, answers.confidence, to_published(acquisition, seed=0)


def _classifier_config(settings: Settings, classes: int, image_size: int, device: torch.device) -> NetConfig:
    width = settings.task_width or (PAPER_WIDTH if device.type == "cuda" or settings.pretrained else CPU_WIDTH)
    _tell_width(settings, settings.task_net, width, PAPER_WIDTH)
    return NetConfig(settings.task_net, classes, image_size, width, settings.pretrained)


def _segmenter_config(settings: Settings, classes: int, device: torch.device) -> SegmenterConfig:
    width = settings.task_width
    if settings.segmentation_net == "drn-d-22" and not width:
        width = DRN_WIDTH if device.type == "cuda" else DRN_CPU_WIDTH
        _tell_width(settings, settings.segmentation_net, width, DRN_WIDTH)
    return SegmenterConfig(settings.segmentation_net, classes, width, settings.pretrained)


def _tell_width(settings: Settings, name: str, width: int, paper: int) -> None:
    if width != paper and not settings.task_width:
        words = "No GPU: %s with %d channels in its first stage instead of %d (task_width)"
        log.info(words, name, width, paper)


def _class_weight(data: CycleData) -> np.ndarray:
    """Weights (C,) float32 that make up for how few pixels of a class are labelled."""
    assert data.masks is not None
    counts = torch.zeros(data.num_classes, dtype=torch.int64)
    for mask in one_by_one(data.masks, data.targets):
        counts += class_counts(mask, data.num_classes)
    return inverse_log_weights(counts).numpy()


def cycle_seed(seed: int, number: int) -> int:
    """Each cycle draws from a seed of its own, made from the project's."""
    return int(np.random.SeedSequence([seed, number]).generate_state(1, np.uint64)[0] >> np.uint64(2))


def random_subset(count: int, size: int, seed: int) -> np.ndarray:
    """The random subset R of a cycle: ``size`` of the places 0..count-1, ascending, from a generator of its own."""
    return np.sort(np.random.default_rng([seed, 1]).choice(count, size, replace=False))
