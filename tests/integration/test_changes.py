"""What people do to a project between cycles: tasks come and go, annotations too, classes are added."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import requests

from tests.integration.helpers import (
    FRUIT,
    SHAPES,
    LabelProject,
    Seen,
    choices_config,
    drawings,
    wait_for,
    wait_until_quiet,
)
from tests.rig.servers import BackendServer

NO_CYCLE = {"budget": 1000}


def trained(
    make_project: Callable[..., LabelProject], backend: BackendServer, sampler: str, labels: int = 6, tasks: int = 24
) -> tuple[LabelProject, str]:
    """A project after its first cycle, and the version of that."""
    project = make_project(FRUIT, tasks).connected(backend.url, {"sampler": sampler} | NO_CYCLE)
    project.wait_for_cycle(0)
    project.label_served(labels)
    project.start_training()
    return project, project.wait_for_cycle(1)


@pytest.mark.long
def test_new_tasks_join_the_current_version_without_a_cycle(
    backend: BackendServer, make_project: Callable[..., LabelProject], seen: Seen
) -> None:
    project, version = trained(make_project, backend, "dast-al")
    before = set(project.tasks())
    project.upload(drawings(7, FRUIT, seed=5, prefix="late-"))
    late = set(project.tasks()) - before

    assert project.wait_for_version() == version

    joined = {item["task"]: item for item in project.predictions(version) if item["task"] in late}
    assert set(joined) == late
    for item in joined.values():
        assert 0 < item["score"] <= 1
        assert item["result"][0]["value"]["choices"][0] in FRUIT
    scores = [item["score"] for item in project.predictions(version)]
    assert len(set(scores)) == len(scores)
    order = project.published_order(version)
    assert project.label_served(8) == order[:8]
    wait_until_quiet(seen, project)
    assert seen.cycles(project) == [1]


@pytest.mark.long
def test_tasks_join_before_the_first_cycle_too(
    backend: BackendServer, make_project: Callable[..., LabelProject]
) -> None:
    project = make_project(FRUIT, tasks=0).connected(backend.url, {"sampler": "entropy"} | NO_CYCLE)
    project.upload(drawings(20, FRUIT))
    first = project.wait_for_version()
    assert len(project.predictions(first)) == 20

    project.upload(drawings(1, FRUIT, seed=9, prefix="one-more-"))
    version = project.wait_for_version(lambda name: len(project.predictions(name)) == 21)
    assert version == first
    project.upload(drawings(15, FRUIT, seed=7, prefix="many-more-"))  # a cold start's order is then made again
    version = project.wait_for_version(lambda name: len(project.predictions(name)) == 36)
    assert version.startswith("entropy-c0-")
    order = project.published_order(version)
    assert project.label_served(5) == order[:5]


def test_deleted_tasks_leave(backend: BackendServer, make_project: Callable[..., LabelProject], seen: Seen) -> None:
    project, version = trained(make_project, backend, "entropy")
    order = project.published_order(version)
    labeled = sorted(set(project.tasks()) - project.unlabelled())
    for task in (order[0], order[5], labeled[0]):
        project.delete_task(task)

    wait_for("the deleted tasks to be forgotten", lambda: seen.counts(project)["tasks"] == 21)
    assert project.label_served(4) == [task for task in order if task not in (order[0], order[5])][:4]
    project.start_training()

    version = project.wait_for_cycle(2)
    assert seen.labels(project)[2] == 6 - 1 + 4
    assert sorted(project.published_order(version)) == sorted(project.unlabelled())


@pytest.mark.long
def test_the_next_cycle_does_not_see_deleted_annotations(
    backend: BackendServer, make_project: Callable[..., LabelProject], seen: Seen
) -> None:
    project = make_project(FRUIT, 20).connected(backend.url, {"sampler": "random"} | NO_CYCLE)
    project.wait_for_cycle(0)
    order = project.published_order()[:6]
    made = [project.annotate(task, project.truth(project.tasks()[task])) for task in order]
    project.start_training()
    project.wait_for_cycle(1)
    for annotation in made[:2]:
        project.studio.delete(f"/api/annotations/{annotation}/")
    project.start_training()

    version = project.wait_for_cycle(2)
    assert seen.labels(project) == {1: 6, 2: 4}
    assert set(order[:2]) <= set(project.published_order(version))


@pytest.mark.long
def test_a_changed_annotation_counts_as_new(
    backend: BackendServer, make_project: Callable[..., LabelProject], seen: Seen
) -> None:
    project = make_project(FRUIT, 12).connected(backend.url, {"sampler": "random", "budget": 3})
    project.wait_for_cycle(0)
    made = [project.annotate(task, FRUIT[0]) for task in project.published_order()[:3]]
    project.wait_for_cycle(1)
    from_name, to_name, _ = project.names
    region = {"from_name": from_name, "to_name": to_name, "type": "choices", "value": {"choices": [FRUIT[1]]}}
    for annotation in made:
        project.studio.patch(f"/api/annotations/{annotation}/", {"result": [region]})

    project.wait_for_cycle(2)
    assert seen.labels(project) == {1: 3, 2: 3}


@pytest.mark.long
def test_an_added_class_enters_with_the_next_cycle(
    backend: BackendServer, make_project: Callable[..., LabelProject], seen: Seen
) -> None:
    """Ten of the forty pictures are of a kind that the label config does not know at first."""
    project = make_project(SHAPES, 40)
    old, new = SHAPES[:3], SHAPES[3]
    project.studio.patch(f"/api/projects/{project.id}/", {"label_config": choices_config(old, project.names)})
    project.connected(backend.url, {"sampler": "entropy", "epochs": 40, "learning_rate": 0.02} | NO_CYCLE)
    truths = {number: project.truth(task) for number, task in project.tasks().items()}
    known = [task for task in project.published_order(project.wait_for_cycle(0)) if truths[task] != new]
    for task in known[:6]:
        project.annotate(task, truths[task])
    project.start_training()
    first = project.wait_for_cycle(1)

    classes = (new, *old)  # in front: the outputs must follow the names, not the places
    project.studio.patch(f"/api/projects/{project.id}/", {"label_config": choices_config(classes, project.names)})
    assert project.version() == first  # the order stands until something is learnt
    order = project.published_order(first)
    unknown = [task for task in order if truths[task] == new]
    for task in [*unknown[:5], *known[6:14]]:
        project.annotate(task, truths[task])
    project.start_training()

    version = project.wait_for_cycle(2)
    answers = {item["task"]: item["result"][0]["value"]["choices"][0] for item in project.predictions(version)}
    assert set(answers.values()) <= set(classes)
    assert sum(answers[task] == new for task in unknown[5:]) >= 3  # of five: a blank sheet is not hard to tell
    assert seen.classes(version, project) == list(classes)


@pytest.mark.long
def test_a_config_that_cannot_be_used_any_more_is_told_and_mended(
    backend: BackendServer, make_project: Callable[..., LabelProject], seen: Seen
) -> None:
    project = make_project(SHAPES, 12).connected(backend.url, {"sampler": "random", "budget": 3})
    version = project.wait_for_cycle(0)
    config = choices_config(SHAPES, project.names)
    second = '<Choices name="second" toName="picture"><Choice value="day"/><Choice value="night"/></Choices></View>'
    unusable = config.replace("</View>", second)
    project.studio.patch(f"/api/projects/{project.id}/", {"label_config": unusable})

    error = wait_for("a word to the owner", lambda: seen.last_error(project))
    assert "2 single-choice" in error
    assert project.version() == version

    project.studio.patch(f"/api/projects/{project.id}/", {"label_config": config})
    wait_for("the error to go", lambda: seen.last_error(project) == "")
    project.label_served(3)
    project.wait_for_cycle(1)


def test_a_project_deleted_in_label_studio_is_left_alone_and_kept(
    backend: BackendServer, make_project: Callable[..., LabelProject], seen: Seen
) -> None:
    project = make_project(FRUIT, 6).connected(backend.url, {"sampler": "random"} | NO_CYCLE)
    version = project.wait_for_cycle(0)
    project.studio.delete(f"/api/projects/{project.id}/")
    # Label Studio tells a project's webhook nothing of the project's end: any later event, or the slow timer, does
    requests.post(f"{backend.url}/webhook", json={"action": "TASKS_DELETED", "project": {"id": project.id}}, timeout=10)

    wait_for("the project to be left alone", lambda: [one.id for one in seen.state.projects.kept()] == [project.id])
    (kept,) = seen.state.projects.kept()
    assert kept.standing == "gone" and seen.version(project) == version
