"""What a sampler learns from images alone, in upkeep: a piece at a time, kept, and never in the way of other work."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from backend.errors import Stopped
from backend.events import Work
from backend.files import prepared_folder
from backend.learning import preparation
from backend.state import Project
from backend.worker import preparing
from backend.worker.job import Job
from backend.worker.sync import read_truth
from backend.worker.worker import Worker
from models.training import gan
from models.training.task_network import TrainingDiverged
from tests.backend.workbench import OWNER, Workbench, add_tasks, label, workbench
from tests.rig.servers import LabelStudioServer

pytestmark = pytest.mark.slow

ASAL: dict[str, Any] = {
    "sampler": "asal",
    "budget": 3,
    "gan_iterations": 4,
    "gan_width": 4,
    "gan_latent": 6,
    "synthetic_steps": 2,
    "asal_images": 3,
}
TASKS = 12


@pytest.fixture
def bench(label_studio: LabelStudioServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workbench]:
    monkeypatch.setattr(preparing, "PIECE_SECONDS", 1_000.0)  # on a busy machine, a first iteration may take long
    with workbench(label_studio, tmp_path, tasks=TASKS, pictures=True, shortlist=3, **ASAL) as made:
        yield made


def row(bench: Workbench) -> Project:
    found = bench.state.projects.get(bench.project.id)
    assert found is not None
    return found


def piece(bench: Workbench, *, busy: bool = False, images: bool = True, job: Job | None = None) -> dict[str, Any]:
    """One upkeep's turn at it; what is known afterwards. ``busy``: other work is due all the time."""
    job = job or bench.restarted()
    truth = read_truth(job)
    job.state.projects.update(job.project.id, OWNER, refresh_seen=truth.refresh_seq)
    if images:
        preparing.open_images(job, truth, lambda *_: None)
    asked: list[int] = []

    def other_work() -> bool:
        asked.append(1)
        return busy and len(asked) > 1

    preparing.prepare(job, truth, other_work)
    return row(bench).preparation or {}


def taken(bench: Workbench) -> int:
    state = preparation._read(prepared_folder(bench.job.folder) / preparation.TRAINING, bench.job.device)
    return int(state["gan"]["taken"]) if state else 0


def test_a_gan_is_trained_once_and_kept_with_a_picture_of_what_it_makes(bench: Workbench) -> None:
    found = piece(bench)
    assert (found["over"], found["done"], found["total"], found["phase"]) == (True, 4, 4, "gan")
    folder = prepared_folder(bench.job.folder)
    assert {path.name for path in folder.iterdir()} == {preparation.READY, preparation.TRAINING, "sample.png"}
    assert row(bench).refresh_seq == row(bench).refresh_seen  # nothing more is due
    before = (folder / preparation.TRAINING).stat().st_mtime_ns
    piece(bench)
    assert (folder / preparation.TRAINING).stat().st_mtime_ns == before


def test_a_piece_gives_way_to_other_work_and_the_next_goes_on(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preparing, "LOOK_SECONDS", 0.0)
    for done in (1, 2, 3):
        found = piece(bench, busy=True)
        assert (found["over"], found["done"], taken(bench)) == (False, done, done)
        assert row(bench).refresh_seq > row(bench).refresh_seen  # so that upkeep goes on with it
    assert piece(bench)["over"] and taken(bench) == 4


def test_a_killed_piece_loses_itself_alone(bench: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preparing, "LOOK_SECONDS", 0.0)
    piece(bench, busy=True)
    job, calls = bench.restarted(), []

    def killed_later() -> None:
        calls.append(1)
        if len(calls) > 4:
            raise Stopped("killed")

    with pytest.raises(Stopped):
        piece(bench, job=replace(job, check=killed_later))
    assert taken(bench) == 1 and not preparation.is_ready(job.folder)
    assert piece(bench)["over"] and taken(bench) == 4


def test_a_damaged_file_means_a_fresh_start(bench: Workbench) -> None:
    piece(bench)
    folder = prepared_folder(bench.job.folder)
    (folder / preparation.READY).unlink()
    (folder / preparation.TRAINING).write_bytes(b"half of it")
    assert preparation.ready_state(bench.job.folder, bench.job.device) == {}
    assert piece(bench)["over"] and preparation.is_ready(bench.job.folder) and taken(bench) == 4


def test_other_settings_and_more_images_make_it_due_again(bench: Workbench) -> None:
    piece(bench)
    bench.with_settings(gan_iterations=6)
    assert piece(bench)["total"] == 6 and taken(bench) == 6
    add_tasks(bench.project, TASKS, pictures=True, seed=1)
    found = piece(bench)
    assert taken(bench) == 12 and found["enough_for"] == int(1.2 * 2 * TASKS)


def test_images_that_are_still_to_come_go_first(bench: Workbench) -> None:
    job = bench.restarted()
    truth = read_truth(job)
    job.state.hints.add(job.project.id, tasks=True)  # as when some are missing
    preparing.prepare(job, truth, lambda: False)
    assert row(bench).preparation is None and not prepared_folder(job.folder).exists()


def test_one_that_diverges_is_said_and_not_tried_again_until_settings_change(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def diverge(*_: Any, **__: Any) -> None:
        raise TrainingDiverged("the generator's training diverged")

    with monkeypatch.context() as patch:
        patch.setattr(gan.GanTraining, "run", diverge)
        assert "diverged" in piece(bench)["error"]
    assert "diverged" in piece(bench)["error"]
    bench.with_settings(gan_width=6)
    assert piece(bench)["over"] and not row(bench).preparation.get("error")  # type: ignore[union-attr]


def test_another_sampler_forgets_how_far_it_was(bench: Workbench) -> None:
    piece(bench)
    bench.with_settings(sampler="entropy")
    assert piece(bench) == {} and row(bench).preparation is None


def test_the_worker_trains_it_in_upkeep_and_cycles_are_by_entropy_until_then(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare = preparing.prepare
    monkeypatch.setattr(preparing, "prepare", lambda *_: None)
    bench.state.leases.release(bench.project.id, OWNER)
    key = {"label_studio_api_key": bench.job.gateway._token}
    hand = Worker(replace(bench.job.settings, health="on", reconcile_seconds=10_000.0, **key))

    def cycle() -> dict[str, Any]:
        label(bench, 3)
        bench.state.hints.add(bench.project.id, train=True)
        assert hand.work_on(row(bench), Work.CYCLE)
        version = bench.state.versions.current(bench.project.id)
        assert version is not None
        return version.metrics

    assert hand.work_on(row(bench), Work.UPKEEP)
    health = cycle()["health"]
    assert health["order"] == "entropy" and "still being trained" in health["why"]
    monkeypatch.setattr(preparing, "prepare", prepare)
    bench.state.hints.add(bench.project.id, tasks=True)
    while Work.UPKEEP in hand.due.work(row(bench)):
        assert hand.work_on(row(bench), Work.UPKEEP)
    assert (row(bench).preparation or {})["over"]
    metrics = cycle()
    assert metrics["fit_gan_images"] == TASKS and metrics["fit_matches"] == 3
    assert "fit_gan_missing" not in metrics
