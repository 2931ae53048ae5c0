"""What a head on kept features costs: embedding the images, training the head, scoring the pool by it.

Embedding: :meth:`backend.learning.features.Features.fill` as the worker calls it, from the image cache to the file of
features, ÷ a bare loop of the same backbone over the same rows. Training: the product's training ÷ scikit-learn's
logistic regression on the same standardized features, both with the choice of a penalty by cross-validation. Scoring: a
million rows of a memory-mapped file ÷ a bare loop of the same head.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from backend.learning.features import Features
from backend.learning.learner import Learner
from backend.settings.core import Settings
from backend.tasks import kind_of
from benchmarks.speed.measuring import Bound, Measured, in_turns, seconds_of
from benchmarks.speed.pool import CLASSES, SIZE, fill_cache
from demo.choices import choices_config
from models.data import ClassTargets, CycleData, Runtime, no_progress
from models.networks.pretrained import FrozenClassifier
from models.pixels import normalize
from models.tasks import task_named
from models.training.logistic import FEW_FOLDS, STRENGTHS, Scale

EMBEDDING_LIMIT, TRAINING_LIMIT, SCORING_SECONDS = 1.10, 1.0, 5.0
EMBEDDED_SIDE, _EMBEDDED = 112, 192
LABELS, _SPREAD = 1_000, 0.6
SCORED, _BLOCK = 1_000_000, 10_000
_REPETITIONS = 5

SETTINGS = Settings(sampler="margin", device="cpu")
CPU = torch.device("cpu")


def measure_embedding(folder: Path, small: bool) -> Measured:
    """EfficientNet-Lite0 with its ImageNet weights, on noise: what an image shows costs nothing."""
    side, count = (SIZE, 32) if small else (EMBEDDED_SIDE, _EMBEDDED)
    kind = kind_of(choices_config(CLASSES), SETTINGS)
    tasks = np.arange(1, count + 1)
    caches = iter(fill_cache(folder / f"embedding-{number}", count, frame=side) for number in range(_REPETITIONS + 2))
    first = next(caches)
    net = task_named(kind.name).build(Features.open(kind, first, CPU).config, 0)
    assert isinstance(net, FrozenClassifier)
    rows = first.rows(tasks)

    batches = np.split(rows, range(net.embedded_at_a_time, count, net.embedded_at_a_time))

    def bare() -> None:
        with torch.inference_mode():
            for batch in batches:
                net.embed(normalize(torch.from_numpy(first.pixels[batch]))).numpy()

    def ours() -> None:
        assert Features.open(kind, next(caches), CPU).fill(tasks, no_progress)

    over, under = in_turns(ours, bare, 1 if small else _REPETITIONS)
    notes = (f"{count} cached images of {side} px, {net.config.name}, {torch.get_num_threads()} threads",)
    return Measured(
        "embedding", "embedding to the file ÷ bare inference", over, under, "s", EMBEDDING_LIMIT, notes=notes
    )


def measure_training(small: bool) -> Measured:
    """1,000 labels of 10 classes that overlap."""
    from sklearn.linear_model import LogisticRegression, LogisticRegressionCV  # here: slow to import

    learner, features, targets = clusters(100 if small else LABELS)
    rows = np.arange(len(targets))
    data = CycleData(no_pixels(len(rows)), rows, rows[:0], ClassTargets(targets), len(CLASSES))
    runtime = Runtime(CPU, 0, features=features)
    width = learner.net.feature_channels
    standard = Scale.of(torch.from_numpy(features[:, :width]).float())
    plain = standard.standardized(torch.from_numpy(features[:, :width]).float()).numpy()
    over, under = in_turns(
        lambda: learner.learn(data, SETTINGS, runtime),
        lambda: LogisticRegressionCV(
            Cs=STRENGTHS,
            cv=FEW_FOLDS,
            l1_ratios=(0.0,),
            max_iter=1000,
            scoring="neg_log_loss",
            use_legacy_attributes=False,
        ).fit(plain, targets),
        1 if small else _REPETITIONS,
    )
    once = seconds_of(lambda: LogisticRegression(C=0.01, max_iter=1000).fit(plain, targets))
    notes = (
        f"{len(targets):,} labels, {width:,} features, {len(CLASSES)} classes; both choose among {len(STRENGTHS)} "
        "penalties by cross-validation, and ours measures its calibration as well; scikit-learn's under one given "
        f"penalty takes {once:.2f} s",
    )
    title = "training a head ÷ scikit-learn's logistic regression, cross-validated"
    return Measured("head", title, over, under, "s", TRAINING_LIMIT, notes=notes)


def measure_scoring(folder: Path, small: bool) -> Measured:
    """Margin's order of a pool whose features lie in a file."""
    learner, block, _ = clusters(_BLOCK // 10 if small else _BLOCK)
    count = 2 * len(block) if small else SCORED
    path = folder / "features.f16"
    with path.open("wb") as file:
        for _ in range(count // len(block)):
            file.write(block.tobytes())
    kept = np.memmap(path, np.float16, "c", shape=(count, block.shape[1]))
    runtime, rows, pixels = Runtime(CPU, 0, features=kept), np.arange(count), no_pixels(count)
    head = learner.net.head
    assert isinstance(head, torch.nn.Linear)

    def bare() -> None:
        with torch.inference_mode():
            for start in range(0, count, 4096):
                part = torch.from_numpy(kept[start : start + 4096, : head.in_features]).float()
                head(part).softmax(dim=1).topk(2).values.numpy()

    over, under = in_turns(lambda: learner.score(pixels, rows, runtime), bare, 1 if small else 3)
    path.unlink()
    notes = (f"{count:,} rows of {block.shape[1]:,} numbers in float16, {torch.get_num_threads()} threads",)
    bounds = (Bound(f"seconds for {count:,} rows", min(over), SCORING_SECONDS, "s"),)
    title = "scoring kept features ÷ a bare loop of the head"
    return Measured("score-features", title, over, under, "s", bounds=bounds, notes=notes)


def clusters(count: int) -> tuple[Learner, np.ndarray, np.ndarray]:
    """A learner with a head, features (N, E) float16 in the form that it reads, and the class (N,) of each row."""
    learner = Learner.fresh(SETTINGS, CLASSES, EMBEDDED_SIDE, CPU, seed=0)
    width = learner.net_config.to_dict()["features"] + sum(learner.net_config.to_dict()["taps"])
    draw = np.random.default_rng(0)
    targets = np.arange(count) % len(CLASSES)
    centers = draw.normal(0, 1, (len(CLASSES), width))
    features = _SPREAD * centers[targets] / np.sqrt(width / 64) + draw.normal(0, 1, (count, width))
    return learner, features.astype(np.float16), targets


def no_pixels(count: int) -> np.ndarray:
    """As many images as there are features, which nobody reads."""
    return np.broadcast_to(np.zeros((1, SIZE, SIZE, 3), np.uint8), (count, SIZE, SIZE, 3))
