"""The loop on a real Label Studio: connect, first order, label what is served, a new order; again."""

from __future__ import annotations

import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from tests.integration.helpers import (
    FRUIT,
    SHAPES,
    UNCERTAINTY,
    LabelProject,
    Seen,
    asleep,
    wait_for,
    wait_until_quiet,
)
from tests.rig.servers import BackendServer

NO_CYCLE = {"budget": 1000}


def check_published(project: LabelProject, version: str, *, answered: bool) -> None:
    """``version`` orders the queue: one prediction for each unlabeled task, scores in (0, 1] and all different, and
    (``answered``) a class of this project in each."""
    info = project.info()
    assert (info["sampling"], info["model_version"]) == (UNCERTAINTY, version)
    assert project.missing_predictions(version) == ""
    predictions = project.predictions(version)
    scores = [item["score"] for item in predictions]
    assert all(0 < score <= 1 for score in scores)
    assert len(set(scores)) == len(scores)
    from_name, to_name, _ = project.names
    for item in predictions:
        if not answered:
            assert item["result"] == []
            continue
        (region,) = item["result"]
        assert (region["from_name"], region["to_name"], region["type"]) == (from_name, to_name, "choices")
        (label,) = region["value"]["choices"]
        assert label in project.classes


def test_the_first_order_comes_before_any_label(
    backend: BackendServer, make_project: Callable[..., LabelProject], seen: Seen
) -> None:
    project = make_project(SHAPES, names=("kind", "photo", "picture_url"))
    project.connected(backend.url, {"sampler": "entropy"} | NO_CYCLE)

    version = project.wait_for_version()

    assert re.fullmatch(r"entropy-c0-[0-9a-f]{8}", version)
    check_published(project, version, answered=False)
    assert sorted(item["task"] for item in project.predictions()) == sorted(project.tasks())
    order = project.published_order()
    assert project.label_served(6) == order[:6]
    # spread over the pool: the first of 40 pictures in four kinds are not all of one kind
    assert len({project.truth(project.tasks()[task]) for task in order[:8]}) > 1
    assert seen.cycles(project) == []


@pytest.mark.parametrize("sampler", [pytest.param("random", marks=pytest.mark.long), "entropy"])
def test_the_whole_queue_is_served_in_the_published_order(
    sampler: str, backend: BackendServer, make_project: Callable[..., LabelProject]
) -> None:
    project = make_project(FRUIT, tasks=30).connected(backend.url, {"sampler": sampler} | NO_CYCLE)
    project.wait_for_version()
    project.label_served(6)
    project.start_training()
    version = project.wait_for_cycle(1)

    check_published(project, version, answered=True)
    order = project.published_order()
    assert len(order) == 24
    assert project.label_served(30) == order
    assert project.next_task() is None


@pytest.mark.long
def test_two_projects_with_their_own_samplers_and_classes_at_once(
    backend: BackendServer, make_project: Callable[..., LabelProject], seen: Seen
) -> None:
    budget = 6
    fruit = make_project(FRUIT, tasks=45, names=("fruit", "photo", "image"))
    shapes = make_project(SHAPES, tasks=40, seed=1, names=("shape", "drawing", "file"))
    fruit.connected(backend.url, {"sampler": "vaal", "budget": budget, "health": "off"})  # hardly trained
    shapes.connected(backend.url, {"sampler": "dast-al", "budget": budget})
    samplers = {fruit.id: "vaal", shapes.id: "dast-al"}
    versions = {project.id: project.wait_for_cycle(0) for project in (fruit, shapes)}

    for project in (fruit, shapes):
        order = project.published_order(versions[project.id])
        assert project.label_served(budget) == order[:budget]
    for project in (fruit, shapes):
        version = project.wait_for_cycle(1)
        assert re.fullmatch(rf"{samplers[project.id]}-c1-[0-9a-f]{{8}}", version)
        check_published(project, version, answered=True)
        versions[project.id] = version
    for project in (fruit, shapes):
        order = project.published_order(versions[project.id])
        assert project.label_served(3) == order[:3]

    # Publishing updated the projects, which Label Studio reported to the backend: nothing may come of that.
    wait_until_quiet(seen, fruit, shapes)
    for project in (fruit, shapes):
        assert project.version() == versions[project.id]
        assert seen.labels(project) == {1: budget}


def test_start_training_makes_a_cycle_below_the_budget(
    backend: BackendServer, make_project: Callable[..., LabelProject], seen: Seen
) -> None:
    project = make_project(tasks=20).connected(backend.url, {"sampler": "entropy"} | NO_CYCLE)
    project.wait_for_cycle(0)
    project.label_served(4)
    wait_until_quiet(seen, project)
    assert seen.cycles(project) == []

    project.start_training()

    project.wait_for_cycle(1)
    assert seen.labels(project) == {1: 4}


@pytest.mark.long
def test_start_training_without_a_label_tells_the_owner(
    backend: BackendServer, make_project: Callable[..., LabelProject], seen: Seen
) -> None:
    project = make_project(tasks=6).connected(backend.url, {"sampler": "random"} | NO_CYCLE)
    project.wait_for_cycle(0)
    project.start_training()

    error = wait_for("a word to the owner", lambda: seen.last_error(project))
    assert "no labels" in error
    project.label_served(2)
    project.start_training()  # heard although the backend waits for the owner

    project.wait_for_cycle(2)
    assert seen.last_error(project) == ""


@pytest.mark.long
def test_skipped_and_empty_annotations_are_no_labels(
    backend: BackendServer, make_project: Callable[..., LabelProject], seen: Seen
) -> None:
    project = make_project(tasks=20).connected(backend.url, {"sampler": "random", "budget": 4})
    project.wait_for_cycle(0)
    order = project.published_order()
    for task in order[:4]:
        project.annotate(task, FRUIT[0], was_cancelled=True)
    project.annotate(order[4], FRUIT[0], result=[])
    wait_until_quiet(seen, project)
    assert seen.cycles(project) == []

    for task in order[5:9]:
        project.annotate(task, project.truth(project.tasks()[task]))

    version = project.wait_for_cycle(1)
    assert seen.labels(project) == {1: 4}
    # what was skipped is still unlabeled, and in the queue
    assert set(order[:4]) <= set(project.published_order(version))


@pytest.mark.long
def test_webhooks_without_new_annotations_are_no_reason_to_train(
    backend: BackendServer, make_project: Callable[..., LabelProject], seen: Seen
) -> None:
    project = make_project(tasks=12).connected(backend.url, {"sampler": "random", "budget": 2})
    project.wait_for_cycle(0)
    project.label_served(2)
    project.wait_for_cycle(1)

    assert send_webhooks(backend, project, 20) == {201}

    wait_for("the events to be counted", lambda: seen.pending(project) == 0)
    wait_until_quiet(seen, project)
    assert seen.cycles(project) == [1]


@pytest.mark.long
def test_300_webhooks_during_a_cycle_give_one_more_cycle(
    backend: BackendServer, make_project: Callable[..., LabelProject], seen: Seen
) -> None:
    budget = 5
    project = make_project(tasks=60).connected(backend.url, {"sampler": "entropy", "budget": budget, "epochs": 100})
    project.wait_for_cycle(0)
    project.label_served(budget)
    seen.wait_for_training(project)
    with asleep(backend.worker_pid):
        assert seen.phase(project) == "train", "the cycle was too short for this test"
        assert send_webhooks(backend, project, 300) == {201}
        project.label_served(budget + 2)

    project.wait_for_cycle(2)
    wait_until_quiet(seen, project)
    assert seen.labels(project) == {1: budget, 2: 2 * budget + 2}


def send_webhooks(backend: BackendServer, project: LabelProject, count: int) -> set[int]:
    """``count`` ANNOTATION_CREATED events, eight at a time, as Label Studio posts them; the statuses that came back."""
    body = {"action": "ANNOTATION_CREATED", "project": {"id": project.id}, "annotation": {"id": 1, "result": []}}

    def send(_: int) -> int:
        return requests.post(f"{backend.url}/webhook", json=body, timeout=10).status_code

    with ThreadPoolExecutor(8) as pool:
        return set(pool.map(send, range(count)))
