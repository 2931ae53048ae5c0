"""A state with projects to show, as cycles leave it: filled by hand, so that no network has to be trained."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from backend.files import project_folder
from backend.images.cache import ImageCache
from backend.settings.core import Settings
from backend.state import State, StoredLabel, Version
from tests.backend.images.pictures import encoded
from tests.backend.small_label_studio import CONFIG

OWNER = "world"
STUDIO = "http://labels.example:8080"
SIDE = 48


def connect(state: State, number: int, title: str, params: dict[str, Any] | None = None, config: str = CONFIG) -> None:
    """A project that Label Studio has confirmed, held by :data:`OWNER`."""
    state.projects.connect(number, f"{number}.1700000000", config, params or {}, STUDIO, "")
    state.projects.update(number, title=title, refresh_seen=1, queue_tab=70 + number)
    assert state.leases.take(number, OWNER, 600)


def fill_tasks(state: State, number: int, tasks: Sequence[int], labels: Sequence[str]) -> None:
    """``tasks``, of which the first have ``labels``; then the counts are kept, as after a comparison."""
    state.tasks.put(number, {task: f"/data/upload/{number}/{task}.png" for task in tasks})
    said = zip(tasks, labels, strict=False)
    state.labels.put(number, [StoredLabel(task, label, [[task, "monday"]], 1, 0) for task, label in said])
    state.tasks.keep_counts(number, OWNER, len(tasks), len(labels))


def add_cycle(
    state: State,
    number: int,
    *,
    labels: int,
    pool: Sequence[int],
    accuracy: float | None = None,
    seconds: dict[str, float] | None = None,
    sampler: str = "margin",
    **metrics: Any,
) -> Version:
    """A cycle that is done, and its version in force, with a prediction for each task of the ``pool``."""
    cycle = state.cycles.next_number(number)
    row = state.cycles.start(number, OWNER, cycle, sampler, 0)
    state.cycles.report(row, "publish", 1, 1, labels=labels)
    found = {"task": "classification", "frame": [SIDE, SIDE], "labels": labels, "pool": len(pool)} | metrics
    if accuracy is not None:
        found |= {"train_cv_accuracy": accuracy, "train_cv_labels": labels, "train_ece": 0.04}
    version = state.versions.add(
        number,
        OWNER,
        cycle=cycle if labels else 0,
        name=f"{sampler}-c{cycle}-{number:08x}",
        sampler=sampler,
        checkpoint=None,
        classes=["cat", "dog"] if labels else [],
        metrics=found,
        task_ids=np.array(pool, dtype=np.int64),
        priority_score=np.linspace(0.02, 0.98, len(pool)),
        class_index=np.arange(len(pool)) % 2 if labels else None,
        confidence=np.full(len(pool), 0.75) if labels else None,
    )
    state.versions.switch_to(version, OWNER)
    state.versions.update(version, OWNER, status="current")
    spent = seconds or {"read": 0.3, "images": 1.0, "train": 2.5, "score": 1.5, "publish": 1.2}
    state.cycles.finish(row, number, OWNER, status="done", metrics=found | {"seconds": spent})
    return version


def cache_images(state: State, settings: Settings, number: int, tasks: Sequence[int]) -> None:
    """A picture of each task in the project's image cache."""
    project = state.projects.get(number)
    assert project is not None
    folder = project_folder(settings.model_dir, project.folder_key)
    sources = state.tasks.sources(number, tasks)
    ImageCache(folder / f"images-{SIDE}", SIDE).sync(sources.items(), lambda task, source: picture(task))


def picture(task: int) -> bytes:
    """A disc on a ground, both of colors that depend on the task."""
    y, x = np.mgrid[0:SIDE, 0:SIDE]
    inside = (x - SIDE / 2) ** 2 + (y - SIDE / 2) ** 2 < (SIDE * (0.2 + 0.02 * (task % 10))) ** 2
    rng = np.random.default_rng(task)
    ground, disc = rng.integers(0, 256, 3), rng.integers(0, 256, 3)
    return encoded(Image.fromarray(np.where(inside[..., None], disc, ground).astype(np.uint8)))


def fill(state: State, settings: Settings, number: int = 1, title: str = "Pets", tasks: int = 60) -> None:
    """A project after its first order and three cycles, of which the accuracy rose; a fourth one runs."""
    every = list(range(1, tasks + 1))
    connect(state, number, title, {"sampler": "margin", "budget": 50})
    fill_tasks(state, number, every, ["cat", "dog", "cat"] * 5)
    cache_images(state, settings, number, every[:40])
    add_cycle(state, number, labels=0, pool=every)
    for labels, accuracy in ((50, 0.62), (100, 0.78), (150, 0.91)):
        predicted = {"cat": 0.6, "dog": 0.4}
        add_cycle(state, number, labels=labels, pool=every, accuracy=accuracy, predicted=predicted)
    state.hints.add(number, annotations=34)
    state.tasks.set_broken(number, [(58, "58.png", "not an image: it is a text"), (59, "59.png", "HTTP 404")], 600)
    state.labels.put(number, [StoredLabel(57, None, [], 0, 1, ignored={"skipped": 1})])
    state.tasks.keep_counts(number, OWNER, tasks, 15)
    running = state.cycles.start(number, OWNER, state.cycles.next_number(number), "margin", 0)
    state.cycles.report(running, "train", 5, 20)


def settings_in(folder: Path, **values: Any) -> Settings:
    return Settings(model_dir=str(folder), **values)
