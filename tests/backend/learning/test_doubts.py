"""What a cycle keeps of the labels that were left out in turn."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import numpy as np

from backend.learning import doubts
from backend.learning.doubts import judged_figures
from models.training.label_doubts import Judged


def learner(judged: Judged | None, classes: tuple[str, ...] = ("cat", "dog")) -> Any:
    return SimpleNamespace(net=SimpleNamespace(judged=judged), classes=classes)


def data(synthetic: list[bool] | None = None) -> Any:
    return SimpleNamespace(synthetic=None if synthetic is None else np.array(synthetic))


def five() -> Judged:
    said = np.array([[0.9, 0.1], [0.8, 0.2], [0.4, 0.6], [0.4, 0.6], [0.5, 0.5]])
    return Judged(np.arange(5), said, np.array([0, 0, 0, 1, 1]), 0.5)


def test_it_names_tasks_and_classes() -> None:
    found = judged_figures(learner(five()), [31, 32, 33, 34, 35], data())["judged"]
    assert found["doubted"] == [[33, "cat", "dog", 0.4, 0.6]]
    assert (found["judged"], found["sure"], found["doubts"]) == (5, True, 1)
    assert found["confusion"] == [[2, 1], [1, 1]]
    assert sum(count for _, _, count in found["reliability"]) == 5
    assert json.loads(json.dumps(found)) == found


def test_generated_images_are_no_place_to_count_by() -> None:
    found = judged_figures(
        learner(five()), [31, 90, 32, 33, 91, 34, 35], data([False, True, False, False, True, False, False])
    )
    assert found["judged"]["doubted"][0][0] == 33


def test_nothing_is_said_where_nothing_was_left_out() -> None:
    assert judged_figures(learner(None), [1, 2], data()) == {}


def test_what_is_kept_does_not_grow_with_the_labels_or_the_classes() -> None:
    count = 500
    said = np.where(np.eye(2)[np.arange(count) % 2] > 0, 0.9, 0.1)
    given = np.where(np.arange(count) < 200, (np.arange(count) + 1) % 2, np.arange(count) % 2)
    many = judged_figures(learner(Judged(np.arange(count), said, given, 0.5)), list(range(count)), data())["judged"]
    assert many["doubts"] > len(many["doubted"]) == doubts.DOUBTS_KEPT
    wide = Judged(np.arange(2), np.eye(30)[:2], np.array([0, 1]), 0.5)
    assert "confusion" not in judged_figures(learner(wide, tuple(map(str, range(30)))), [1, 2], data())["judged"]
