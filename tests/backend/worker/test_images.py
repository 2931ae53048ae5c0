"""Images are fetched in the order in which they are needed, while there is time, and each is looked at once."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from backend.images.cache import ImageCache
from backend.worker import images
from backend.worker.images import open_images
from backend.worker.sync import read_truth
from demo.annotator import as_png
from tests.backend.worker.model_studio import ModelStudio
from tests.backend.worker.test_sync import job_on

TASKS = 30


def address(value: int) -> str:
    return "data:image/png;base64," + base64.b64encode(as_png(np.full((20, 20, 3), value, np.uint8))).decode()


@pytest.fixture
def studio() -> ModelStudio:
    made = ModelStudio()
    for task in made.import_tasks(TASKS):
        made.change_data(task, address(task))
    return made


@pytest.fixture
def fetched(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The tasks whose images were fetched, in this order, after those that were measured to choose a size."""
    asked: list[int] = []
    plain = images.fetch_image

    def noting(source: str, task: int, available: Any) -> bytes:
        asked.append(task)
        return plain(source, task, available)

    monkeypatch.setattr(images, "fetch_image", noting)
    return asked


def silent(*_: object) -> None:
    pass


def test_images_of_labels_come_first_and_then_a_sample_of_the_pool(
    studio: ModelStudio, tmp_path: Path, fetched: list[int]
) -> None:
    for task in (29, 30):
        studio.annotate(task, "cat")
    job = job_on(studio, tmp_path, image_size=32, download_workers=1)
    cache = open_images(job, read_truth(job), silent)
    assert sorted(fetched) == list(range(1, TASKS + 1))
    assert fetched[:2] == [29, 30] and fetched[2:] != sorted(fetched[2:])
    assert len(cache.present(np.arange(1, TASKS + 1))) == TASKS


def test_what_there_was_no_time_for_stays_due_and_comes_later(
    studio: ModelStudio, tmp_path: Path, fetched: list[int]
) -> None:
    studio.annotate(29, "cat")
    job = job_on(studio, tmp_path, image_size=32, download_workers=1)
    truth = read_truth(job)
    cache = open_images(job, truth, silent, seconds=0.0)
    there = set(cache.present(truth.tasks).tolist())
    assert 29 in there and len(there) < TASKS  # labels do not have to hurry
    project = job.reread().project
    assert project.refresh_seq > truth.refresh_seq
    open_images(job, truth, silent)
    assert sorted(fetched) == list(range(1, TASKS + 1))  # none of them twice
    assert job.reread().project.refresh_seq == project.refresh_seq


def test_once_all_are_there_none_is_looked_at_again(studio: ModelStudio, tmp_path: Path, fetched: list[int]) -> None:
    job = job_on(studio, tmp_path, image_size=32)
    open_images(job, read_truth(job), silent)
    fetched.clear()
    studio.now += 1.0
    studio.change_data(7, address(200))
    cache = open_images(job, read_truth(job), silent)
    assert fetched == [7]
    assert cache.pixels[cache.rows([7])[0]].mean() == 200
    fetched.clear()
    open_images(job, read_truth(job), silent)
    assert fetched == []


def test_images_of_deleted_tasks_are_forgotten(studio: ModelStudio, tmp_path: Path) -> None:
    job = job_on(studio, tmp_path, image_size=32)
    open_images(job, read_truth(job), silent)
    studio.delete_task(3)
    cache = open_images(job, read_truth(job), silent)
    assert cache.rows([3, 4]).tolist()[0] == -1 and isinstance(cache, ImageCache)


def test_a_broken_image_waits_until_it_is_due_or_has_another_address(
    studio: ModelStudio, tmp_path: Path, fetched: list[int]
) -> None:
    studio.change_data(5, "data:image/png;base64,AAAA")
    job = job_on(studio, tmp_path, image_size=32)
    open_images(job, read_truth(job), silent)
    (broken,) = job.state.tasks.broken_images(1)
    assert broken.task_id == 5
    fetched.clear()
    open_images(job, read_truth(job), silent)
    assert fetched == [] and job.state.tasks.broken_images(1) == [broken]
    studio.now += 1.0
    studio.change_data(5, address(5))
    cache = open_images(job, read_truth(job), silent)
    assert fetched == [5] and job.state.tasks.broken_images(1) == [] and cache.rows([5])[0] >= 0
