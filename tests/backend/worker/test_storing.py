"""What a worker stores, and what it deletes from a disk that is too small."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from backend.errors import StoreUnavailable
from backend.files import checkpoint_here, project_folder
from backend.images.cache import ImageCache
from backend.settings.core import Settings
from backend.state import State
from backend.store.objects import Objects
from backend.store.reading import _fetched, _resting, folder_to_read, mirror_of
from backend.store.record import LOCK
from backend.worker import storing
from backend.worker.leases import Leases
from tests.integration.helpers import choices_config, png

SIDE, IMAGES = 32, 100
CONFIG = choices_config(["cat", "dog"])


@dataclass
class Here:
    """A machine with three projects, 1 to 3, of which 1 was worked on least recently."""

    settings: Settings
    state: State
    leases: Leases

    def folder(self, number: int) -> Path:
        project = self.state.projects.get(number)
        assert project is not None
        return project_folder(self.settings.model_dir, project.folder_key)

    def work_on(self, number: int, images: int = IMAGES) -> None:
        with self.leases.hold(number) as owner:
            project = self.state.projects.get(number)
            assert owner is not None and project is not None
            mirror = mirror_of(self.settings, project)
            assert mirror is not None
            mirror.pull(project.stored, lambda: None)
            pixels = np.random.default_rng(number).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
            tasks = [(task, "x") for task in range(1, images + 1)]
            ImageCache(self.folder(number) / f"images-{SIDE}", SIDE).sync(tasks, lambda *_: png(pixels))
            (self.folder(number) / "map.npz").write_text(f"map of {number}")
            mirror.push(
                lambda name: self.state.projects.update(number, owner, stored=name), lambda: None, rows=number != 2
            )
        os.utime(self.folder(number) / LOCK, (number, number))

    def make_room(self, busy: tuple[int, ...] = ()) -> list[int]:
        """The projects whose images are still here."""
        storing.make_room(self.settings, self.state, self.leases, busy)
        return [number for number in (1, 2, 3) if (self.folder(number) / f"images-{SIDE}").exists()]


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Here]:
    _fetched.clear()
    _resting.clear()
    gigabytes = 2.5 * IMAGES * 3 * SIDE * SIDE / 1e9  # room for two of three
    settings = Settings(model_dir=str(tmp_path / "here"), store=str(tmp_path / "store"), cache_gb=gigabytes)
    state = State.for_settings(settings)
    for number in (1, 2, 3):
        state.projects.connect(number, f"{number}.1", CONFIG, {}, "http://studio", "")
    made = Here(settings, state, Leases(state, "worker", 60.0, threading.Event()))
    for number in (3, 2, 1):
        made.work_on(number)
    yield made
    state.close()


def test_what_was_used_least_recently_goes_and_comes_back(here: Here) -> None:
    assert here.make_room() == [2, 3]
    assert (here.folder(1) / "map.npz").read_text() == "map of 1"
    here.work_on(1, images=0)
    assert len(ImageCache(here.folder(1) / f"images-{SIDE}", SIDE).task_ids()) == IMAGES


def test_what_was_not_stored_yet_is_stored_first(here: Here) -> None:
    """Of project 2, the images were never sent."""
    assert here.make_room(busy=(1,)) == [1, 3]
    here.work_on(2, images=0)
    assert len(ImageCache(here.folder(2) / f"images-{SIDE}", SIDE).task_ids()) == IMAGES


def test_projects_that_are_being_worked_on_stay(here: Here) -> None:
    another = Leases(here.state, "another worker of this machine", 60.0, threading.Event())
    with another.hold(1):
        assert here.make_room(busy=(2, 3)) == [1, 2, 3]


def test_nothing_goes_that_the_store_does_not_take(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise StoreUnavailable("it is away")

    monkeypatch.setattr(Objects, "put", refuse)
    assert here.make_room(busy=(1, 3)) == [1, 2, 3]


def test_a_store_that_cannot_be_opened_keeps_nobody_from_work(here: Here, tmp_path: Path) -> None:
    (tmp_path / "a file").write_text("no folder")
    here.settings = replace(here.settings, store=str(tmp_path / "a file"))
    assert here.make_room() == [1, 2, 3]


def test_without_a_limit_or_a_store_nothing_goes(here: Here) -> None:
    for settings in (replace(here.settings, cache_gb=0.0), replace(here.settings, store="")):
        here.settings = settings
        assert here.make_room() == [1, 2, 3]


def test_pages_of_another_machine_show_what_was_stored(
    here: Here, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    there = replace(here.settings, model_dir=str(tmp_path / "there"))
    project = here.state.projects.get(1)
    assert project is not None
    assert (folder_to_read(there, project) / "map.npz").read_text() == "map of 1"
    assert not (folder_to_read(there, project) / f"images-{SIDE}").exists()
    (tmp_path / "a file").write_text("no folder")
    away = replace(there, store=str(tmp_path / "a file"), model_dir=str(tmp_path / "third"))
    assert not (folder_to_read(away, project) / "map.npz").exists()
    assert "is shown as it is here" in caplog.text


def test_a_checkpoint_is_found_where_this_machine_has_it(tmp_path: Path) -> None:
    """The state has the path of the machine that trained it."""
    path = tmp_path / "checkpoints" / "entropy-c1-00000000.pt"
    elsewhere = "/data/of/another/machine/projects/1-1/checkpoints/entropy-c1-00000000.pt"
    assert checkpoint_here(tmp_path, elsewhere) == Path(elsewhere)
    path.parent.mkdir()
    path.write_bytes(b"network")
    assert checkpoint_here(tmp_path, elsewhere) == path
