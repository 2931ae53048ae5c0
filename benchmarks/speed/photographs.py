"""A small project from its images on: a cycle of the default settings on a CPU, and what its head is worth.

800 × 600 photographs of three classes, 50 of them labeled by chance. They go through the product's own way: decoded
into the image cache, embedded once. What is timed is a cycle after that, without Label Studio: the head, the sampler,
the scores of the pool, the check of its order, and the checkpoint. What is compared is the accuracy on photographs that
are held out, with scikit-learn's logistic regression as it comes, on the same features and labels.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median

import numpy as np
import torch

from backend.images.cache import ImageCache
from backend.learning.features import Features
from backend.learning.health import checked
from backend.learning.learner import Learner
from backend.learning.pool import ScoredPool
from backend.settings.core import Settings
from backend.tasks import kind_of
from benchmarks.data.synthetic_photographs import KINDS, SIZE, photograph
from benchmarks.speed.measuring import Bound, Measured
from demo.choices import choices_config
from models.data import ClassTargets, CycleData, Runtime, no_progress
from models.inference.predictions import predict
from models.training.logistic import Scale

LIMIT, CYCLE_SECONDS = 1.0, 10.0
CPU = torch.device("cpu")
SETTINGS = Settings(device="cpu")


@dataclass(frozen=True)
class Load:
    """``pool`` photographs of ``size`` (H, W) to label ``labels`` of, ``test`` held out; ``draws`` of the labels.

    So many draws and held-out photographs that chance moves the difference of the two heads by less than half a point.
    """

    size: tuple[int, int] = SIZE
    pool: int = 300
    test: int = 1_000
    labels: int = 50
    draws: int = 60


SMALL = Load(size=(60, 80), pool=20, test=8, labels=10, draws=2)


def measure(folder: Path, small: bool) -> Measured:
    """Sixty draws of 50 labels (two of ten when ``small``)."""
    load = SMALL if small else Load()
    project = _Project.made(folder / "photographs", load)
    cycles = [project.cycle(seed, load) for seed in range(load.draws)]
    seconds, ours, plain, standardized = (list(values) for values in zip(*cycles, strict=True))
    features = project.features
    notes = (
        f"{load.pool} photographs of {load.size[1]} × {load.size[0]} px and {load.test} held out, all synthetic "
        f"(benchmarks/data/synthetic_photographs.py), {len(KINDS)} classes, {load.labels} labels drawn by chance, "
        f"{load.draws} draws; {features.config.name} at {features.cache.frame[0]} px, "
        f"{torch.get_num_threads()} threads",
        f"mean accuracy: ours {100 * fmean(ours):.1f} %, scikit-learn's as it comes (C = 1) {100 * fmean(plain):.1f} % "
        f"and on standardized features {100 * fmean(standardized):.1f} %",
        f"a cycle after the features are there takes {median(seconds):.2f} s (median), {max(seconds):.2f} s at most; "
        f"embedding took {1000 * project.embedding / (load.pool + load.test):.0f} ms an image, decoding included",
    )
    return Measured(
        "photographs",
        f"accuracy of scikit-learn's logistic regression ÷ ours, {load.labels} labels of photographs",
        [100 * value for value in plain],
        [100 * value for value in ours],
        "%",
        LIMIT,
        bounds=(Bound("seconds of a cycle", max(seconds), CYCLE_SECONDS, "s"),),
        notes=notes,
    )


@dataclass(frozen=True)
class _Project:
    """Photographs in the image cache, with features: rows of the pool, then of those held out. ``classes`` (N,): of
    each. ``embedding``: seconds for all of them."""

    folder: Path
    features: Features
    classes: np.ndarray
    embedding: float

    @classmethod
    def made(cls, folder: Path, load: Load) -> _Project:
        count = load.pool + load.test
        classes = np.arange(count) % len(KINDS)
        files = [photograph(kind, seed, load.size) for seed, kind in enumerate(classes.tolist())]
        kind, tasks = kind_of(choices_config(KINDS), SETTINGS), np.arange(1, count + 1)
        sources = [(int(task), f"photograph {task}") for task in tasks]

        def fetch(task: int, _: str) -> bytes:
            return files[task - 1]

        started = time.perf_counter()
        cache: ImageCache = kind.open_cache(folder, sources, fetch, CPU.type)
        broken = cache.sync(sources, fetch)
        features = Features.open(kind, cache, CPU)
        assert not broken and features.fill(tasks, no_progress)
        return cls(folder, features, classes, time.perf_counter() - started)

    def cycle(self, seed: int, load: Load) -> tuple[float, float, float, float]:
        """Seconds of a cycle on labels of this draw; accuracy of its head, of scikit-learn's, and of scikit-learn's on
        standardized features."""
        draw, cache = np.random.default_rng(seed), self.features.cache
        pool, test = np.arange(load.pool), np.arange(load.pool, load.pool + load.test)
        labeled = np.sort(draw.choice(pool, load.labels, replace=False))
        unlabeled = np.setdiff1d(pool, labeled)
        rows = cache.rows(np.arange(1, len(self.classes) + 1))
        data = CycleData(cache.pixels, rows[labeled], rows[unlabeled], ClassTargets(self.classes[labeled]), len(KINDS))
        runtime = Runtime(CPU, seed, features=self.features.rows)
        started = time.perf_counter()
        learner, metrics = Learner.trained(SETTINGS, KINDS, data, runtime)
        scored = ScoredPool.scored(learner, cache, 1 + unlabeled, runtime)
        learner, scored, _ = checked(learner, scored, metrics, data, SETTINGS, runtime)
        learner.save(self.folder / f"{seed}.pt")
        seconds = time.perf_counter() - started
        said = predict(learner.net, cache.pixels, rows[test], runtime).predicted
        assert self.features.rows is not None
        numbers = torch.from_numpy(self.features.rows[rows][:, : learner.net.feature_channels]).float()
        scale = Scale.of(numbers[labeled])
        plain, standardized = (
            _accuracy(one.numpy(), self.classes, labeled, test) for one in (numbers, scale.standardized(numbers))
        )
        return seconds, float((said == self.classes[test]).mean()), plain, standardized


def _accuracy(features: np.ndarray, classes: np.ndarray, labeled: np.ndarray, test: np.ndarray) -> float:
    """Of scikit-learn's logistic regression that learned the ``labeled`` rows of ``features`` (N, F), on ``test``."""
    from sklearn.linear_model import LogisticRegression  # here: slow to import

    head = LogisticRegression(max_iter=2_000).fit(features[labeled], classes[labeled])
    return float(head.score(features[test], classes[test]))
