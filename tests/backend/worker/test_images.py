"""Images are fetched in the order in which they are needed, while there is time, and each is looked at once."""

from __future__ import annotations

import base64
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from backend.errors import ImageLater
from backend.images import cache as cache_module
from backend.images.cache import ImageCache
from backend.images.trying import Attempts, source_digest
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


def test_what_killed_a_process_is_set_aside_and_tried_alone(
    studio: ModelStudio, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = job_on(studio, tmp_path, image_size=32, retry_broken_seconds=100)
    truth = read_truth(job)
    left_behind(job, tmp_path, 7, 9)
    cache = open_images(job, truth, silent)
    found = {image.task_id: image for image in job.state.tasks.broken_images(1)}
    assert found.keys() == {7, 9} == set(truth.tasks.tolist()) - set(cache.task_ids())
    assert {(image.deaths, image.attempts) for image in found.values()} == {(1, 1)}
    assert "a process ended while it decoded this image" in found[7].reason
    assert 50 < found[7].retry_at - job.state.now() <= 100
    left_behind(job, tmp_path, 7)
    open_images(job, truth, silent)
    found = {image.task_id: image for image in job.state.tasks.broken_images(1)}
    assert found[7].deaths == 2 and "2 times" in found[7].reason
    assert 350 < found[7].retry_at - job.state.now() <= 400  # longer each time

    later = job.state.now() + 1000
    monkeypatch.setattr(job.state, "now", lambda: later)
    at_once: list[set[int]] = []
    plain = ImageCache.sync

    def noting(self: ImageCache, tasks: Any, *args: Any, **options: Any) -> Any:
        at_once.append({task for task, _ in tasks})
        return plain(self, tasks, *args, **options)

    monkeypatch.setattr(ImageCache, "sync", noting)
    cache = open_images(job, truth, silent)
    assert {7} in at_once and {9} in at_once
    assert job.state.tasks.broken_images(1) == [] and len(cache.task_ids()) == TASKS


def left_behind(job: Any, folder: Path, *tasks: int) -> None:
    """As after a process that died while it decoded the images of ``tasks``."""
    attempts = Attempts(job.folder)
    attempts.__enter__()
    for place, task in enumerate(tasks):
        attempts._write(place, task, source_digest(address(task)))
    os.close(attempts._file)
    attempts._file = -1


def test_an_image_is_noted_while_it_is_decoded_and_only_then(
    studio: ModelStudio, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = job_on(studio, tmp_path, image_size=32, download_workers=1)
    noted: list[bytes] = []
    plain = cache_module.decode

    def looking(data: bytes, size: int) -> Any:
        (path,) = (job.folder / "trying").iterdir()
        noted.append(path.read_bytes())
        return plain(data, size)

    monkeypatch.setattr(cache_module, "decode", looking)
    open_images(job, read_truth(job), silent)
    assert {int.from_bytes(data[:8], "little") for data in noted} == set(range(1, TASKS + 1))
    assert list((job.folder / "trying").iterdir()) == []


def test_an_image_that_has_to_wait_is_not_broken(
    studio: ModelStudio, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    patience = 30.0
    plain = images.fetch_image

    def busy(source: str, task: int, available: Any) -> bytes:
        if task in (4, 5):
            raise ImageLater("the host asks to be asked later", patience)
        return plain(source, task, available)

    monkeypatch.setattr(images, "fetch_image", busy)
    job = job_on(studio, tmp_path, image_size=32, retry_broken_seconds=600)
    open_images(job, read_truth(job), silent)
    waiting = job.state.tasks.broken_images(1)
    assert [(image.task_id, image.waiting, image.attempts) for image in waiting] == [(4, True, 0), (5, True, 0)]
    assert all(0 < image.retry_at - job.state.now() <= patience for image in waiting)
    counts = job.state.tasks.counts(1)
    assert (counts["broken"], counts["waiting"]) == (0, 2)
    monkeypatch.setattr(images, "fetch_image", plain)
    later = job.state.now() + patience
    monkeypatch.setattr(job.state, "now", lambda: later)
    assert len(open_images(job, read_truth(job), silent).task_ids()) == TASKS
    assert job.state.tasks.broken_images(1) == []


def test_broken_images_are_noted_while_others_are_still_fetched(
    studio: ModelStudio, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images, "_SLICE", 5)
    studio.change_data(5, "data:image/png;base64,AAAA")
    studio.annotate(5, "cat")  # so it comes first
    job = job_on(studio, tmp_path, image_size=32, download_workers=1)
    noted: list[int] = []
    plain = images.fetch_image

    def looking(source: str, task: int, available: Any) -> bytes:
        noted.append(len(job.state.tasks.broken_images(1)))
        return plain(source, task, available)

    monkeypatch.setattr(images, "fetch_image", looking)
    open_images(job, read_truth(job), silent)
    assert noted[-1] == 1 and noted.count(1) > TASKS / 2
