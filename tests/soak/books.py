"""What was given, what was seen, and what is published: counted in Label Studio and in the backend's own database."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import requests

from backend.head import head_size
from backend.settings.core import Settings
from tests.integration.helpers import LabelProject, Seen
from tests.soak.annotators import Annotator, Floor


@dataclass
class Samples:
    """How often the task that Label Studio served was the first of the published order."""

    equal: int = 0
    different: list[str] = field(default_factory=list)
    skipped: int = 0
    """No order yet, or it changed while it was looked at, or somebody could not hand in their task."""


def sample(project: LabelProject, floor: Floor, annotator: Annotator, samples: Samples) -> None:
    """Stop everybody, ask for the next task, and compare. ``annotator`` labels it."""
    try:
        if not floor.quiet(60.0):
            samples.skipped += 1
            return
        before = project.version()
        scores = {item["task"]: item["score"] for item in project.predictions(before)} if "-c" in before else {}
        unlabeled = project.unlabelled()
        task = annotator.next_task()
        after = project.version()
        waiting = sorted((score, number) for number, score in scores.items() if number in unlabeled)
        first = next((one for one in waiting if not _has_annotation(project, one[1])), None)
        if task is None or before != after or first is None:
            samples.skipped += 1
        elif scores.get(task["id"]) == first[0]:
            samples.equal += 1
        else:
            samples.different.append(f"{before}: served {task['id']} ({scores.get(task['id'])}), first is {first}")
        if task is not None:
            annotator.label(task)
    except (requests.RequestException, AssertionError):  # Label Studio was killed meanwhile
        samples.skipped += 1
    finally:
        floor.open.set()


def _has_annotation(project: LabelProject, task: int) -> bool:
    """Also of a task that Label Studio does not call labeled, because it was killed in the middle of a Submit. It does
    not serve that to whoever labeled it."""
    return bool(project.studio.get(f"/api/tasks/{task}/")["annotations"])


def given(project: LabelProject) -> set[int]:
    """The annotations that Label Studio holds."""
    tasks = project.studio.get(f"/api/projects/{project.id}/export", exportType="JSON")
    return {int(one["id"]) for task in tasks for one in task["annotations"]}


def seen_by(seen: Seen, project: LabelProject) -> set[int]:
    """The annotations that the backend has read and counts."""
    return {int(number) for label in seen.state.labels.all(project.id) for number, *_ in label.counted}


def published(seen: Seen, project: LabelProject, settings: Settings) -> tuple[Counter[int], str]:
    """How often each unlabeled task of the published head has a prediction of the current version in Label Studio, and
    what else is wrong with the order."""
    state = seen.state
    current = state.versions.current(project.id)
    if current is None:
        return Counter(), "there is no version"
    if project.version() != current.name:
        return Counter(), f"the project names {project.version()}, the backend {current.name}"
    labeled = {label.task_id for label in state.labels.all(project.id)}  # see _has_annotation
    unlabeled, scored = project.unlabelled() - labeled, state.scores.order(current).tolist()
    held = Counter(item["task"] for item in project.predictions(current.name))
    order = [task for task in scored if task in unlabeled]
    size = head_size(state, settings, current)
    if size is not None:
        # The head is filled up when half of it is used. Behind it are predictions of tasks that others, which joined
        # later, have pushed back; there may be none twice.
        head = set(order[: size // 2])
        order = [task for task in order if task in head or held[task]]
    unscored = unlabeled - set(scored) - {broken.task_id for broken in state.tasks.broken_images(project.id)}
    words = f"{len(unscored)} readable tasks have no score" if unscored else ""
    return Counter({task: held[task] for task in order}), words


def twice(project: LabelProject) -> list[str]:
    """What stands in Label Studio more than once: predictions of one version for one task, and tabs of the queue."""
    held = Counter((int(item["task"]), str(item["model_version"])) for item in project.predictions())
    found = [f"task {task} has {times} predictions of {name}" for (task, name), times in held.items() if times > 1]
    tabs = project.studio.get("/api/dm/views/", project=project.id)
    queues = [str(tab["data"]["title"]) for tab in tabs if str(tab["data"]["title"]).startswith("Acquisition queue")]
    return found + ([f"the tab of the queue is there {len(queues)} times"] if len(queues) > 1 else [])


def wait_until_settled(seen: Seen, project: LabelProject, settings: Settings, minutes: float) -> list[str]:
    """Wait until nothing is missing; what still is after ``minutes``."""
    until = time.monotonic() + 60 * minutes
    while True:
        missing = _missing(seen, project, settings)
        if not missing or time.monotonic() > until:
            return missing
        time.sleep(3.0)


def _missing(seen: Seen, project: LabelProject, settings: Settings) -> list[str]:
    held, read = given(project), seen_by(seen, project)
    times, words = published(seen, project, settings)
    wrong = {task: count for task, count in times.items() if count != 1}
    found: list[Any] = [
        f"annotations not seen: {sorted(held - read)[:10]}" if held - read else "",
        f"annotations seen that do not exist: {sorted(read - held)[:10]}" if read - held else "",
        f"tasks without exactly one prediction: {dict(list(wrong.items())[:10])}" if wrong else "",
        words,
    ]
    return [one for one in found if one]
