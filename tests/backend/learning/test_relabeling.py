"""Which labels a cycle finds worth asking again."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from backend.learning import relabeling
from backend.learning.relabeling import relabeling_figures
from backend.tasks.votes import Answer
from models.training.label_doubts import Judged

CLASSES = ("cat", "dog")
COUNT = 20


def figures(
    answers: dict[int, list[Answer]],
    confidence: list[float] | None,
    budget: int = 5,
    places: np.ndarray | None = None,
    synthetic: np.ndarray | None = None,
    judged: bool = True,
) -> dict[str, Any]:
    """Of 20 labels, all cats, tasks 100 to 119, of all of which the network is 80 % sure."""
    said = np.tile([0.8, 0.2], (COUNT, 1))
    found = Judged(np.arange(COUNT) if places is None else places, said, np.zeros(COUNT, dtype=np.int64), 0.5)
    learner: Any = SimpleNamespace(net=SimpleNamespace(judged=found if judged else None), classes=CLASSES)
    data: Any = SimpleNamespace(synthetic=synthetic)
    tasks = np.arange(100, 100 + COUNT) if synthetic is None else np.arange(100 - synthetic.sum(), 100 + COUNT)
    pool: Any = SimpleNamespace(confidence=None if confidence is None else np.array(confidence))
    return relabeling_figures(learner, tasks.tolist(), data, answers, pool, budget)


def answers(differ: tuple[int, ...] = (103, 107)) -> dict[int, list[Answer]]:
    """Two people on each of the tasks, of whom the second calls some of them dogs."""
    return {
        task: [Answer(1, 7, "cat", False), Answer(2, 8, "dog" if task in differ else "cat", False)]
        for task in range(100, 100 + COUNT)
    }


def test_labels_that_people_differ_about_come_before_what_the_network_is_sure_of() -> None:
    found = figures(answers(), [0.99] * 50)["relabel"]
    assert [task for task, *_ in found["proposed"][:2]] == [103, 107]
    assert (found["count"], found["of"], found["shared"]) == (5, 5, COUNT), "all of the next 5 are labeled tasks"
    assert found["proposed"][0][2] == 2
    assert json.loads(json.dumps(found)) == found


def test_new_images_come_first_where_the_network_knows_nothing_of_them() -> None:
    found = figures(answers(()), [0.5] * 50)["relabel"]
    assert (found["count"], found["proposed"]) == (0, [])


def test_generated_images_are_no_place_to_count_by() -> None:
    synthetic = np.array([True, *[False] * COUNT])
    assert [t for t, *_ in figures(answers(), [0.99] * 50, synthetic=synthetic)["relabel"]["proposed"][:2]] == [
        103,
        107,
    ]


def test_with_few_shared_tasks_it_says_how_many_there_are() -> None:
    few = answers()
    for task in range(104, 100 + COUNT):
        few[task] = few[task][:1]
    assert figures(few, [0.9]) == {"relabel": {"shared": 4, "needed": relabeling.FEWEST_SHARED}}


@pytest.mark.parametrize(
    "of",
    [figures({}, [0.9]), figures(answers(), None), figures(answers(), [0.9], judged=False), figures(answers(), [])],
)
def test_nothing_is_said_where_nothing_can_be(of: dict[str, Any]) -> None:
    assert of == {}


def test_one_person_is_not_asked_to_label_again() -> None:
    alone = {task: [Answer(1, 7, "cat", False)] for task in range(100, 100 + COUNT)}
    assert figures(alone, [0.9]) == {}


def test_what_is_kept_does_not_grow_with_the_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relabeling, "PROPOSED_KEPT", 3)
    found = figures(answers(), [0.99] * 50, budget=1000)["relabel"]
    assert found["count"] == COUNT and len(found["proposed"]) == 3
