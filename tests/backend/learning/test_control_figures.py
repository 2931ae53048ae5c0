"""What a cycle measures with its control arm: the network, on labels that were kept out, and the sampler's labels
against random ones."""

from __future__ import annotations

import numpy as np
import pytest

from backend.images.cache import ImageCache
from backend.learning.control_figures import ONLY_HEADS, control_figures
from backend.learning.learner import Learner
from backend.settings.core import Settings
from backend.tasks.records import TrainingLabels
from models.data import ClassTargets, MultilabelTargets, Runtime, Targets
from models.intervals import exact_interval
from samplers import build_sampler
from tests.backend.learning.test_learner import CLASSES, pictures, with_sampler
from tests.backend.web.pages.world import SIDE, picture
from tests.samplers.on_points import CPU, SIZE, head, runtime

TASKS = list(range(1, 121))
NOTHING = np.empty(0, dtype=np.int64)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> ImageCache:
    made = ImageCache(tmp_path_factory.mktemp("images"), SIDE)
    made.sync([(task, str(task)) for task in TASKS], lambda task, source: picture(task))
    return made


def learner(task: str = "classification", bias: float = 0.0) -> Learner:
    """Says of a point of the plane which axis it is nearer to."""
    net = head([[8.0, 0.0], [0.0, 8.0]], [bias, bias], task=task)
    given = Settings().options()
    sampler = build_sampler("margin", given, task=task, num_classes=2, image_size=SIZE)
    return Learner(task, net, sampler, net.config, ("a", "b"), given, CPU, (SIZE, SIZE))  # type: ignore[arg-type]


def world(cache: ImageCache) -> tuple[Runtime, dict[int, int]]:
    """Points of the plane, the first class on one axis and the second on the other; task → its class."""
    classes = {task: task % 2 for task in TASKS}
    points = np.zeros((len(cache.pixels), 2))
    for task, row in zip(TASKS, cache.rows(TASKS).tolist(), strict=True):
        points[row, classes[task]] = 1.0 + task / 1_000
    return runtime(points), classes


def labels(tasks: list[int], classes: dict[int, int]) -> TrainingLabels:
    targets: Targets = ClassTargets(np.array([classes[task] for task in tasks], dtype=np.int64))
    return TrainingLabels(tasks, targets, 2)


def test_the_network_is_asked_about_the_labels_that_were_kept_out(cache: ImageCache) -> None:
    """9 of 10 are as the network says, and its own temperature stays."""
    run, classes = world(cache)
    one = learner()
    one.net.temperature = 1.7
    wrong = {**classes, 3: 1 - classes[3]}
    found = control_figures(one, cache, labels(TASKS[20:], classes), labels(TASKS[:10], wrong), (NOTHING, NOTHING), run)
    low, high = exact_interval(9, 10)
    assert (found["n"], found["accuracy"]) == (10, 0.9)
    assert (found["low"], found["high"]) == pytest.approx((low, high), abs=1e-4)
    assert one.net.temperature == 1.7
    assert found["compared"] == {}


def test_of_several_choices_the_interval_counts_images(cache: ImageCache) -> None:
    """One of 20 choices is wrong: 9.5 of 10 images, whose interval reaches down as that of 9 and up as that of 10."""
    run, classes = world(cache)
    chosen = np.eye(2, dtype=np.uint8)[[classes[task] for task in TASKS[:10]]]
    chosen[0, 0] = 1 - chosen[0, 0]
    one = learner("multilabel", -4.0)
    held = TrainingLabels(TASKS[:10], MultilabelTargets(chosen), 2)
    learned = TrainingLabels(TASKS[10:30], MultilabelTargets(np.ones((20, 2), np.uint8)), 2)
    found = control_figures(one, cache, learned, held, (NOTHING, NOTHING), run)
    assert (found["n"], found["accuracy"]) == (10, 0.95)
    assert found["low"] == pytest.approx(exact_interval(9, 10)[0], abs=1e-4)
    assert found["high"] == 1.0


def test_with_no_label_kept_out_nothing_is_measured(cache: ImageCache) -> None:
    run, classes = world(cache)
    found = control_figures(learner(), cache, labels(TASKS, classes), None, (NOTHING, np.array(TASKS[:5])), run)
    assert found == {"labels": 5, "n": 0, "compared": {}}


def test_both_halves_of_the_arm_are_compared_with_what_the_sampler_chose(cache: ImageCache) -> None:
    """The first of the sampler's labels, in the order in which they were given, are of one class: they teach nothing,
    and as many random ones everything."""
    run, classes = world(cache)
    chosen = np.array([task for task in TASKS[60:] if classes[task] == 0] + [TASKS[61]])
    drawn, held = TASKS[:30], TASKS[30:60]
    learned = labels(sorted([*drawn, *chosen.tolist()]), classes)
    found = control_figures(learner(), cache, learned, labels(held, classes), (chosen, np.array(drawn)), run)
    assert (found["labels"], found["n"], found["accuracy"]) == (60, 30, 1.0)
    against = found["compared"]
    assert (against["labels"], against["asked"], against["drawn"]) == (30, 60, 1.0)
    assert against["chosen"] == 0.5 and against["high"] < 0


def test_only_heads_on_kept_features_are_compared(cache: ImageCache) -> None:
    _, kinds = pictures(36)
    settings = with_sampler("margin")
    one = Learner.fresh(settings, CLASSES, SIDE, CPU, 0)
    targets = ClassTargets(kinds[:10])
    found = control_figures(
        one,
        cache,
        TrainingLabels(TASKS[:10], targets, 3),
        TrainingLabels(TASKS[10:20], targets, 3),
        (NOTHING, NOTHING),
        Runtime(CPU, 0),
    )
    assert found["n"] == 10 and 0 <= found["accuracy"] <= 1
    assert found["compared"] == {"why": ONLY_HEADS}
