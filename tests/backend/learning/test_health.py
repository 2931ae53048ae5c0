"""A sampler that learned nothing does not order the queue, and says so."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from backend.learning.health import checked, effective_classes
from backend.learning.learner import Learner
from backend.learning.pool import ScoredPool
from backend.settings.core import Settings
from models.data import CycleData, Runtime
from models.inference.predictions import Predictions
from models.networks.backbones import NOTHING
from models.networks.pretrained import PretrainedConfig
from models.tasks import MULTILABEL
from samplers import build_sampler
from samplers.loss_prediction_base import rank_correlation
from samplers.noise import power_acquisition
from tests.backend.learning.test_learner import trained, with_sampler
from tests.samplers.on_points import CPU, SIZE, choices_data, head, points_data, runtime

CLASSES, EACH = 6, 30
LABELS = list(range(0, CLASSES * EACH, EACH))
DATA = points_data(CLASSES * EACH, LABELS, list(range(CLASSES)), CLASSES)
FAIR = {"fit_discriminator_accuracy": 0.6, "fit_ranker_correlation": 0.1}


def points(first: float, others: float) -> np.ndarray:
    """180 images, 30 of each class; how sure the network is of the first class, and of the others."""
    rng = np.random.default_rng(0)
    sure = np.where(np.arange(CLASSES * EACH) < EACH, first, others)
    return np.eye(CLASSES).repeat(EACH, axis=0) * (sure + rng.uniform(0, 0.5, CLASSES * EACH))[:, None]


def learner(name: str, task: str = "classification", **options: Any) -> Learner:
    net = head(np.eye(CLASSES).tolist(), task=task)
    given = Settings().options() | {"budget": 25, "vaal_width": 4} | options
    sampler = build_sampler(name, given, task=task, num_classes=CLASSES, image_size=SIZE)
    config = net.config
    assert isinstance(config, PretrainedConfig) and config.weights == NOTHING
    return Learner(task, net, sampler, config, tuple("abcdef"), given, CPU, (SIZE, SIZE))


def judged(
    one: Learner, kept: np.ndarray, metrics: dict[str, float], health: str = "on", data: CycleData = DATA
) -> tuple[Learner, ScoredPool, dict[str, Any]]:
    scored = ScoredPool(data.unlabeled, *scores(one, kept, data))
    return checked(one, scored, metrics, data, Settings(health=health, budget=25), runtime(kept))


def scores(one: Learner, kept: np.ndarray, data: CycleData = DATA) -> tuple[np.ndarray, Predictions]:
    one.sampler.fit(one.net, data, runtime(kept))
    return one.score(data.pixels, data.unlabeled, runtime(kept))


def test_effective_classes_by_hand() -> None:
    """Of classes a, a, b and b: 2; of a, a, a and a: 1."""
    pool = ScoredPool(np.arange(5), np.zeros(5), Predictions(np.array([0, 0, 3, 3, 0]), np.ones(5)))
    one = learner("margin")
    assert effective_classes(one, pool, np.array([0, 1, 2, 3])) == pytest.approx(2)
    assert effective_classes(one, pool, np.array([0, 1, 4])) == pytest.approx(1)


def test_several_choices_count_by_their_probability() -> None:
    found = MULTILABEL.class_shares(Predictions(np.array([[0.5, 0.1], [0.7, 0.3]]), np.ones(2)), 2)
    assert found == pytest.approx([1.2 / 1.6, 0.4 / 1.6])


def test_a_queue_of_one_class_is_replaced_where_another_is_of_several() -> None:
    """max-prob begins with the images of the one class that the network is sure of."""
    kept = points(first=4, others=1)
    other, ordered, found = judged(learner("max-prob"), kept, {})
    assert found["effective_classes"] == 1 and found["of_random_images"] > 4
    assert found["order"] == "typiclust" and "its next 25 images are of 1.0 classes" in found["why"]
    assert (ordered.acquisition == other.score(DATA.pixels, DATA.unlabeled, runtime(kept))[0]).all()
    assert effective_classes(other, ordered, np.argsort(-ordered.acquisition)[:25]) > 2


def test_a_queue_of_one_class_stays_where_the_others_is_no_better() -> None:
    """The network is in doubt about the images of one class alone."""
    one = learner("entropy")
    other, _, found = judged(one, points(first=1, others=4), {})
    assert other is one and found["effective_classes"] == 1
    assert (found["order"], found["why"]) == ("entropy", "")


def test_few_picks_say_nothing_of_classes() -> None:
    kept, one = points(first=4, others=1), learner("max-prob")
    scored = ScoredPool(DATA.unlabeled, *scores(one, kept))
    assert checked(one, scored, {}, DATA, Settings(budget=19), runtime(kept))[0] is one
    assert checked(one, scored, {}, DATA, Settings(budget=20), runtime(kept))[0] is not one


@pytest.mark.parametrize("name", ["random", "typiclust"])
def test_random_and_what_would_replace_it_are_left_alone(name: str) -> None:
    one = learner(name)
    assert judged(one, points(first=1, others=4), {"fit_discriminator_accuracy": 0.5})[0] is one


@pytest.mark.parametrize(
    ("name", "metrics", "why"),
    [
        ("vaal", FAIR, ""),
        ("vaal", FAIR | {"fit_discriminator_accuracy": 0.59}, "labeled in 59% of cases, where chance is 50%"),
        ("ta-vaal", FAIR | {"fit_discriminator_accuracy": 0.5}, "labeled in 50% of cases"),
        ("ta-vaal", FAIR | {"fit_ranker_correlation": 0.09}, "rank correlation of 0.09"),
        ("learning-loss", FAIR, ""),
        ("learning-loss-v2", FAIR | {"fit_ranker_correlation": -0.4}, "rank correlation of -0.40"),
        ("sraal", FAIR | {"fit_discriminator_accuracy": 0.5}, ""),
        ("vaal-wasserstein", {}, ""),
    ],
)
def test_gates_of_samplers(name: str, metrics: dict[str, float], why: str) -> None:
    found = learner(name).sampler.doubts({key.removeprefix("fit_"): value for key, value in metrics.items()})
    assert (why in found) if why else found == ""


@pytest.mark.parametrize("health", ["on", "off"])
def test_what_is_below_its_gate_orders_nothing_also_after_a_restart(health: str, tmp_path: Path) -> None:
    one = trained(with_sampler("vaal", health=health))
    pixels = np.random.default_rng(0).integers(0, 256, (36, 32, 32, 3), dtype=np.uint8)
    data = replace(points_data(36, list(range(12)), [k % 3 for k in range(12)], 3), pixels=pixels)
    run = Runtime(CPU, 5)
    scored = ScoredPool(data.unlabeled, *one.score(pixels, data.unlabeled, run))
    settings = with_sampler("vaal", health=health)
    other, ordered, found = checked(one, scored, {"fit_discriminator_accuracy": 0.5}, data, settings, run)
    other.save(tmp_path / "model.pt")
    again = Learner.load(tmp_path / "model.pt", CPU)
    assert again.sampler.name == "vaal"
    assert (again.score(pixels, data.unlabeled, run)[0] == ordered.acquisition).all()
    if health == "off":
        assert ordered is scored and again.standin is None and found["why"] == ""
    else:
        assert again.standin is not None and again.standin.name == found["order"] == "typiclust"
        following = trained(with_sampler("vaal"))
        following.warm_start_from(again)
        assert following.standin is None  # it gets its own chance in the next cycle


def test_several_choices_have_a_stand_in_too() -> None:
    data = choices_data(CLASSES * EACH, LABELS, np.eye(CLASSES, dtype=int).tolist())
    one = learner("entropy", "multilabel")
    kept = points(first=1, others=4)
    assert judged(one, kept, {}, data=data)[2]["why"] == ""


def test_rank_correlation_by_hand() -> None:
    """Ranks 1 2 3 4 and 1 3 2 4: 1 - 6 (1 + 1) / (4 * 15); ties share the mean of their ranks."""
    assert rank_correlation(np.array([1.0, 2, 3, 4]), np.array([0.1, 7, 6, 9])) == pytest.approx(0.8)
    assert rank_correlation(np.array([1.0, 2, 3]), np.array([3.0, 2, 1])) == pytest.approx(-1)
    assert rank_correlation(np.array([1.0, 1, 2]), np.array([1.0, 2, 3])) == pytest.approx(3**0.5 / 2)
    assert rank_correlation(np.ones(4), np.arange(4.0)) == 0


def test_diversity_disturbs_scores_but_not_those_whose_picks_differ_anyway() -> None:
    kept = points(first=1, others=4)
    for name, moved in (("margin", True), ("badge", False)):
        plain, noisy = (scores(learner(name, diversity=amount), kept)[0] for amount in (0.0, 1.0))
        assert (not np.array_equal(plain, noisy)) == moved
        if moved:
            np.testing.assert_array_equal(noisy, power_acquisition(plain, DATA.unlabeled, 0, 1.0))
