"""What a run of a sampler that generates images (`gaal`) asks for, and what it is told.

A data set has no labels of images that it does not have: the demo's classifier of all its images answers in place of an
annotator, and is not always sure. Each image that is asked for counts as one label of the budget, recognized or not.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image

from benchmarks.curves.answers import UNRECOGNIZED, Answers
from demo.recognizer import Recognizer
from models.data import ClassTargets, CycleData, Runtime, targets_of
from models.networks.pretrained import FrozenClassifier
from models.pixels import normalize
from samplers import SAMPLERS
from samplers.base import Answered

if TYPE_CHECKING:
    from backend.learning.learner import Learner
    from backend.settings.core import Settings
    from benchmarks.curves.tasks.base import CurveTask

LEARNED = 20_000
"""Images of a data set, at most, that the classifier learns from."""


def with_answers(data: CycleData, runtime: Runtime, answers: Answers) -> tuple[CycleData, Runtime, Answered]:
    """``data`` and ``runtime`` of a cycle that learns from the recognized of ``answers``, too, and which of its rows
    were recognized and which not. The rows are those of the pool, in their order, and behind them the generated images;
    where there are none, as they were."""
    if not len(answers):
        return data, runtime, Answered(data.labeled, data.unlabeled[:0])
    pool = np.sort(np.concatenate([data.labeled, data.unlabeled]))
    made = len(pool) + np.arange(len(answers))
    recognized = answers.labels != UNRECOGNIZED
    real = np.searchsorted(pool, data.labeled)
    targets = targets_of(data, ClassTargets)
    grown = replace(
        data,
        pixels=np.concatenate([data.pixels[pool], answers.images]),
        labeled=np.concatenate([real, made[recognized]]),
        unlabeled=np.searchsorted(pool, data.unlabeled),
        targets=replace(targets, classes=np.concatenate([targets.classes, answers.labels[recognized]])),
        synthetic=np.concatenate([np.zeros(len(real), bool), np.ones(int(recognized.sum()), bool)]),
    )
    if runtime.features is not None:
        runtime = replace(runtime, features=np.concatenate([runtime.features[pool], answers.features]))
    return grown, runtime, Answered(grown.labeled, made[~recognized])


def ask(
    task: CurveTask[Any],
    learner: Learner,
    settings: Settings,
    budget: int,
    pixels: np.ndarray,
    answered: Answered,
    runtime: Runtime,
) -> Answers:
    """The images that ``learner`` asks for in a purchase of ``budget`` labels, with their answers; none where the
    generator is not to be trusted, as in the product. ``pixels`` and ``answered``: of :func:`with_answers`."""
    count = int(settings.synthetic_share * budget + 1e-9)
    made = None
    if SAMPLERS[settings.sampler].generates and learner.standin is None and count:
        made = learner.sampler.generate(learner.net, pixels, count, answered, runtime)
    if made is None or not len(made.images):
        return Answers.none()
    recognizer = _recognizer(task)
    found = [recognizer.recognize(image) for image in made.images]
    labels = np.array([UNRECOGNIZED if one is None else one for one in found], dtype=np.int64)
    images = np.stack([_at_size(image, pixels.shape[1]) for image in made.images])
    return Answers(images, labels, _embedded(learner, images, runtime))


def _at_size(image: np.ndarray, side: int) -> np.ndarray:
    if len(image) == side:
        return image
    return np.asarray(Image.fromarray(image).resize((side, side), Image.Resampling.BILINEAR))


def _embedded(learner: Learner, images: np.ndarray, runtime: Runtime) -> np.ndarray:
    if not isinstance(learner.net, FrozenClassifier) or runtime.features is None:
        return np.empty((len(images), 0), np.float16)
    with torch.inference_mode():
        said = learner.net.embed(normalize(torch.from_numpy(images).to(runtime.device)))
    return said.cpu().numpy().astype(np.float16)


def _recognizer(task: CurveTask[Any]) -> Recognizer:
    images = task.images
    rows = np.linspace(0, len(images.train_labels) - 1, min(LEARNED, len(images.train_labels))).astype(int)
    return Recognizer(images.train_pixels[rows], images.train_labels[rows], len(task.classes))
