"""A task network, its sampler and the classes they know: made from settings or from a checkpoint, trained, asked.

The worker, the web process (for tasks that came after the last version) and the benchmarks all use a model through this
one class, so that they cannot come to disagree about how.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from backend.errors import BackendError
from backend.scores import to_published
from backend.settings import Settings
from models import checkpoint
from models.classifier import Classifier, NetConfig, build_classifier, carry_over
from models.data import CycleData, Runtime
from models.inference import Answers, predict
from models.training import Recipe, train_classifier
from samplers import Sampler, build_sampler

log = logging.getLogger(__name__)

FORMAT = 1
PAPER_WIDTH = 64
CPU_WIDTH = 16


@dataclass(frozen=True)
class Learner:
    """``net`` and ``sampler`` on one device; ``classes`` in the order of the net's outputs."""

    net: Classifier
    sampler: Sampler
    net_config: NetConfig
    classes: tuple[str, ...]
    options: dict[str, Any]
    device: torch.device

    @classmethod
    def fresh(
        cls, settings: Settings, classes: Sequence[str], image_size: int, device: torch.device, seed: int
    ) -> Learner:
        """Initialised from ``seed``. On a CPU the net is narrower than the papers' unless ``task_width`` says
        otherwise."""
        width = settings.task_width or (PAPER_WIDTH if device.type == "cuda" or settings.pretrained else CPU_WIDTH)
        if width != PAPER_WIDTH and not settings.task_width:
            log.info(
                "No GPU: %s with %d channels in its first stage instead of %d (task_width)",
                settings.task_net,
                width,
                PAPER_WIDTH,
            )
        config = NetConfig(settings.task_net, len(classes), image_size, width, settings.pretrained)
        net = build_classifier(config, seed).to(device)
        options = settings.options()
        sampler = build_sampler(
            settings.sampler, options, num_classes=len(classes), image_size=image_size, device=device
        )
        return cls(net, sampler, config, tuple(classes), options, device)

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
        learner = cls.fresh(settings, classes, data.image_size, runtime.device, runtime.seed)
        if settings.warm_start and previous is not None:
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
        config = NetConfig.from_dict(saved["net_config"])
        classes = tuple(saved["classes"])
        # Its weights are about to be replaced: nothing is to be downloaded for it.
        net = build_classifier(NetConfig(**{**config.to_dict(), "pretrained": False}), 0)
        net.load_state_dict(saved["net"])
        sampler = build_sampler(
            saved["sampler_name"],
            saved["options"],
            num_classes=len(classes),
            image_size=config.image_size,
            device=device,
        )
        sampler.load_state_dict(saved["sampler"])
        return cls(net.to(device).eval(), sampler, config, classes, saved["options"], device)

    def payload(self) -> dict[str, Any]:
        """What a checkpoint holds: tensors and plain Python only."""
        return {
            "format": FORMAT,
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
        recipe = Recipe(
            epochs=settings.epochs,
            batch_size=settings.batch_size,
            learning_rate=settings.learning_rate,
            momentum=settings.momentum,
            weight_decay=settings.weight_decay,
        )
        objective = self.sampler.objective(self.net, data, runtime)
        metrics = {f"train_{k}": v for k, v in train_classifier(self.net, data, objective, recipe, runtime).items()}
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


def cycle_seed(seed: int, number: int) -> int:
    """Each cycle draws from a seed of its own, made from the project's."""
    return int(np.random.SeedSequence([seed, number]).generate_state(1, np.uint64)[0] >> np.uint64(2))


def random_subset(count: int, size: int, seed: int) -> np.ndarray:
    """The random subset R of a cycle: ``size`` of the places 0..count-1, ascending, from a generator of its own."""
    return np.sort(np.random.default_rng([seed, 1]).choice(count, size, replace=False))
