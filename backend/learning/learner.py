"""The learner: a task network, its sampler and their classes. Built from settings or a checkpoint, it trains, scores
and predicts.

The worker, the web process (for tasks newer than the current version) and the benchmarks all use models through this
class, so that they all build, train and score in the same way.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from backend.errors import BackendError
from backend.learning import rehearsal
from backend.learning.scores import priority_scores
from backend.settings.core import Settings
from backend.tasks import KINDS
from models import ProgressFn, checkpoint
from models.data import SCORE_DTYPES, CycleData, Runtime, no_progress
from models.deadline import Deadline
from models.inference.predictions import Predictions, predict
from models.networks.base import PretrainedUnavailable, TaskConfig, TaskNet
from models.tasks import task_name_of, task_named
from models.training.kept_maps import EncodedImages
from models.training.task_network import Recipe, train_network
from samplers import SAMPLERS, Sampler, build_sampler
from samplers.noise import power_acquisition

log = logging.getLogger(__name__)

FORMAT = 1
STANDIN, STANDIN_OF_MASKS = "typiclust", "margin"


@dataclass(frozen=True)
class Learner:
    """A task network and its sampler on one device, for one kind of ``task`` and images of ``frame`` (H, W).

    ``classes`` are the labels, in the order of the network's outputs. Outputs that are not labels, such as a
    segmenter's background, come before them.
    """

    task: str
    net: TaskNet
    sampler: Sampler[Any]
    net_config: TaskConfig
    classes: tuple[str, ...]
    options: dict[str, Any]
    device: torch.device
    frame: tuple[int, int]
    standin: Sampler[Any] | None = None
    """What orders the pool in place of a sampler that is below a gate: see :mod:`backend.learning.health`."""

    @classmethod
    def fresh(
        cls,
        settings: Settings,
        classes: Sequence[str],
        frame: int | tuple[int, int],
        device: torch.device,
        seed: int,
        task: str = "classification",
    ) -> Learner:
        """A new learner, initialized from ``seed``, for images of ``frame`` (H, W), or one side length if they are
        square. On a CPU, the network is narrower than in the papers, unless ``task_width`` is set."""
        frame = (frame, frame) if isinstance(frame, int) else frame
        config = KINDS[task].net_config(settings, len(classes), frame, device)
        net = task_named(task).build(config, seed).to(device)
        options = settings.options()
        sampler = build_sampler(
            settings.sampler,
            options,
            task=task,
            num_classes=config.num_classes,
            image_size=max(frame),
            device=device,
        )
        return cls(task, net, sampler, config, tuple(classes), options, device, frame)

    @classmethod
    def trained(
        cls,
        settings: Settings,
        classes: Sequence[str],
        data: CycleData,
        runtime: Runtime,
        previous: Learner | None = None,
    ) -> tuple[Learner, dict[str, float]]:
        """A learner trained on ``data``, and the metrics of its training.

        Starts from the weights of ``previous`` if ``settings.warm_start`` is set. All randomness comes from
        ``runtime.seed``. A cycle, in the worker and in the benchmarks alike, is this followed by :meth:`score`.
        """
        task = data.targets.task
        learner = cls.fresh(settings, classes, data.frame, runtime.device, runtime.seed, task)
        if settings.warm_start and previous is not None and previous.task == task:
            learner.warm_start_from(previous)
        return learner, learner.learn(data, settings, runtime)

    @classmethod
    def load(cls, path: str | Path, device: torch.device) -> Learner:
        """Load a checkpoint that :meth:`save` wrote.

        Raises:
            BackendError: the file is missing, damaged or in another format.
        """
        _check_digest(Path(path))
        try:
            saved = checkpoint.load(Path(path), device)
        except Exception as error:
            raise BackendError(f"the checkpoint {Path(path).name} cannot be read: {error}") from error
        if saved.get("format") != FORMAT:
            raise BackendError(f"the checkpoint {Path(path).name} has format {saved.get('format')}, not {FORMAT}")
        # Checkpoints of 0.3.0 do not contain the name of the task; those of 0.2.0 do not contain the frame either.
        task = task_named(saved.get("task") or task_name_of(saved["net_config"]))
        config = task.config_from_dict(saved["net_config"])
        height, width = saved.get("frame") or [saved["net_config"]["image_size"]] * 2
        # Without pretrained weights, which would be loaded and then overwritten.
        net = task.build(config.bare(), 0)
        try:
            config.check()
        except PretrainedUnavailable as error:
            raise BackendError(f"the checkpoint {Path(path).name} cannot be used: {error}") from error
        net.load_state_dict(saved["net"])
        net.temperature = saved.get("temperature", 1.0)  # checkpoints before 0.4.0 do not contain it
        sampler = build_sampler(
            saved["sampler_name"],
            saved["options"],
            task=task.name,
            num_classes=config.num_classes,
            image_size=max(height, width),
            device=device,
        )
        sampler.load_state_dict(saved["sampler"])
        classes = tuple(saved["classes"])
        net = net.to(device).eval()
        learner = cls(task.name, net, sampler, config, classes, saved["options"], device, (height, width))
        if "standin" not in saved:  # nor do checkpoints of 0.3.0 contain one
            return learner
        standin = learner._sampler(saved["standin"]["name"])
        standin.load_state_dict(saved["standin"]["state"])
        return replace(learner, standin=standin)

    def payload(self) -> dict[str, Any]:
        """The contents of a checkpoint: tensors and plain Python values only."""
        standin = self.standin and {"name": self.standin.name, "state": self.standin.state_dict()}
        return {
            "format": FORMAT,
            "task": self.task,
            "frame": list(self.frame),
            "net_config": self.net_config.to_dict(),
            "net": self.net.state_dict(),
            "temperature": self.net.temperature,
            "classes": list(self.classes),
            "options": self.options,
            "sampler_name": self.sampler.name,
            "sampler": self.sampler.state_dict(),
        } | ({"standin": standin} if standin else {})

    def save(self, path: Path, salt: int = 0) -> str:
        """Write the checkpoint atomically. Returns the SHA-256 digest of the file, in hex, for the version's name.
        ``salt``: another one gives another digest."""
        checkpoint.save(path, self.payload() | ({"salt": salt} if salt else {}))
        return hashlib.sha256(path.read_bytes()).hexdigest()

    def warm_start_from(self, previous: Learner) -> None:
        """Take over what fits from an earlier cycle: the network's weights (those of the head by class name) and the
        sampler's state, unless that depends on the indices of classes that have changed."""
        task = task_named(self.task)
        if reason := task.carry_over(previous.net.state_dict(), previous.classes, self.net, self.classes):
            log.info("Training from scratch: %s", reason)
        same_classes = previous.classes == self.classes or not self.sampler.knows_classes
        if previous.sampler.name == self.sampler.name and same_classes:
            self.sampler.load_state_dict(previous.sampler.state_dict())

    def learn(self, data: CycleData, settings: Settings, runtime: Runtime) -> dict[str, float]:
        """Train the task network with the sampler's objective, then the sampler's own networks. Returns metrics to log:
        ``train_…`` of the former, ``fit_…`` of the latter.

        ``settings.fit_seconds`` is for all of it: the task network gets its share, out of which comes a rehearsal where
        it has one (:mod:`backend.learning.rehearsal`), and whatever that leaves is for the sampler's own."""
        if settings.class_balance:
            data = task_named(self.task).balanced(data)
        recipe = Recipe(
            epochs=settings.epochs,
            batch_size=settings.batch_size,
            learning_rate=settings.learning_rate,
            momentum=settings.momentum,
            weight_decay=settings.weight_decay,
            crop=settings.crop_size,
            images=settings.train_images,
            semi_supervised=settings.semi_supervised == "auto",
        )
        runtime = replace(runtime, encoded=EncodedImages(data.labeled))
        deadline = Deadline.after(settings.fit_seconds) if settings.fit_seconds else None
        first = replace(runtime, deadline=deadline and deadline.share(1 / self.sampler.trainings))
        if settings.objective == "isda" and not self.sampler.has_objective():
            objective = self.net.task.isda(self.options["isda_lambda"], self.options["covariance"])
        else:
            objective = self.sampler.objective(self.net, data, first)
        own = first
        if first.deadline and self.net.rehearses:
            own = replace(first, deadline=first.deadline.share(1 / (1 + rehearsal.SHARE)))
        found = train_network(self.net, data, objective, recipe, own)
        if self.net.rehearses:
            fresh = Learner.fresh(settings, self.classes, self.frame, self.device, runtime.seed, self.task)
            found |= rehearsal.rehearsed(self.net, fresh, data, recipe, found["images"], first)
        metrics = {f"train_{key}": value for key, value in found.items()}
        rest = replace(runtime, deadline=deadline)
        metrics |= {f"fit_{k}": v for k, v in self.sampler.fit(self.net, data.real, rest).items()}
        return metrics

    @property
    def standin_name(self) -> str:
        """What orders a pool where the project's sampler should not: it has to serve the kind of task."""
        if self.sampler.standin:
            return self.sampler.standin
        return STANDIN if self.task in SAMPLERS[STANDIN].tasks else STANDIN_OF_MASKS

    def with_standin(self, data: CycleData, runtime: Runtime) -> Learner:
        """The same, but that another sampler orders the pool."""
        standin = self._sampler(self.standin_name)
        standin.fit(self.net, data.real, runtime)
        return replace(self, standin=standin)

    def _sampler(self, name: str) -> Sampler[Any]:
        return build_sampler(
            name,
            self.options,
            task=self.task,
            num_classes=self.net_config.num_classes,
            image_size=max(self.frame),
            device=self.device,
        )

    def runtime(self, seed: int, progress: ProgressFn = no_progress) -> Runtime:
        """For scoring later on: on the same device and with the same precision as the pool was scored."""
        dtype = SCORE_DTYPES[self.options.get("score_dtype", "float32")]  # checkpoints of 0.3.0 do not contain it
        return Runtime(device=self.device, seed=seed, progress=progress, score_dtype=dtype)

    def score(self, pixels: np.ndarray, rows: np.ndarray, runtime: Runtime) -> tuple[np.ndarray, Predictions]:
        """The acquisition (N,) float64, higher = label sooner, and the network's predictions for ``rows`` (N,) of
        ``pixels`` (M, H, W, 3) uint8. With noise if the project wants diversity and the sampler does not see to it."""
        sampler = self.standin or self.sampler
        scored = sampler.score(self.net, pixels, rows, runtime)
        acquisition, inverse = scored.acquisition, self.options.get("diversity", 0.0)
        if inverse and not sampler.diverse:
            acquisition = power_acquisition(acquisition, rows, runtime.seed, inverse)
        return acquisition, scored.predictions or predict(self.net, pixels, rows, runtime)

    def predict(self, images: np.ndarray) -> tuple[Predictions, np.ndarray]:
        """Predictions and priority scores (B,) for ``images`` (B, H, W, 3) uint8 that belong to no pool."""
        runtime = self.runtime(seed=0)
        acquisition, predictions = self.score(images, np.arange(len(images)), runtime)
        return predictions, priority_scores(acquisition, seed=0)


_NAMED_AFTER_DIGEST = re.compile(r".+-c\d+-([0-9a-f]{8})")


def _check_digest(path: Path) -> None:
    """Raise BackendError if the file's digest is not the one that its version is named after: some bit of it changed,
    which the format itself may not notice. Other files, and one that is missing, are left to whoever loads them."""
    named = _NAMED_AFTER_DIGEST.fullmatch(path.stem)
    if named is None or not path.is_file():
        return
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest[:8] != named[1]:
        raise BackendError(f"the checkpoint {path.name} is damaged: what it holds is not what was written")


def cycle_seed(seed: int, number: int) -> int:
    """The seed of a project's cycle ``number``, derived from the project's ``seed``."""
    return int(np.random.SeedSequence([seed, number]).generate_state(1, np.uint64)[0] >> np.uint64(2))


def random_subset(count: int, size: int, seed: int) -> np.ndarray:
    """The random subset R of a cycle: ``size`` of the indices 0 to count - 1, ascending, drawn by a generator of its
    own."""
    return np.sort(np.random.default_rng([seed, 1]).choice(count, size, replace=False))
