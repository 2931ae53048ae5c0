"""What nobody knows any more is removed after a grace time; against a real Label Studio."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from backend.files import project_folder
from backend.labelstudio.records import MLBackend
from backend.worker import leftovers
from tests.backend.workbench import Workbench, workbench
from tests.rig.servers import LabelStudioServer

pytestmark = pytest.mark.slow

DAY = 86_400.0
OURS = MLBackend(1, "http://here:9090")


@pytest.fixture
def bench(label_studio: LabelStudioServer, tmp_path: Path) -> Iterator[Workbench]:
    with workbench(label_studio, tmp_path, tasks=3) as made:
        made.with_settings(
            label_studio_url=made.job.gateway.url, label_studio_api_key=made.job.gateway._token, keep_days=2.0
        )
        yield made


def later(bench: Workbench, monkeypatch: pytest.MonkeyPatch, days: float) -> None:
    now = bench.state.now()
    monkeypatch.setattr(bench.state, "now", lambda: now + days * DAY)


def write(bench: Workbench, name: str) -> None:
    for task in bench.tasks:
        bench.job.gateway.predictions.create(task, [], 0.5, name)


@pytest.mark.parametrize("named", [[OURS], [OURS, OURS], []], ids=["ours alone", "another backend too", "none"])
def test_versions_of_ours_that_nobody_knows_go_after_the_grace_time(
    bench: Workbench, named: list[MLBackend], monkeypatch: pytest.MonkeyPatch
) -> None:
    known = bench.scored(name="entropy-c5-00000000").name
    unknown, in_force, foreign = "entropy-c1-0123abcd", "margin-c2-0123abcd", "my-model-c1-0123abcd"
    for name in (known, unknown, in_force, foreign):
        write(bench, name)
    bench.job.gateway.update_project(bench.project.id, model_version=in_force)
    monkeypatch.setattr(bench.job.gateway.connections, "of_project", lambda _: named)

    leftovers.remove_unknown_versions(bench.job)
    later(bench, monkeypatch, 1.9)
    leftovers.remove_unknown_versions(bench.job)
    assert set(bench.job.gateway.predictions.versions(bench.project.id)) == {known, unknown, in_force, foreign}

    later(bench, monkeypatch, 0.2)
    leftovers.remove_unknown_versions(bench.job)
    held = {name: count for name, count in bench.job.gateway.predictions.versions(bench.project.id).items() if count}
    kept = {known, in_force, foreign} | (set() if named == [OURS] else {unknown})
    assert held == dict.fromkeys(kept, 3)


def test_folders_of_deleted_projects_go_after_the_grace_time(bench: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    settings, state, number = bench.job.settings, bench.state, bench.project.id
    deleted, known, twin = f"{10**6}-1600000000", bench.job.folder.name, f"{number}-5"
    for name in (deleted, known, twin, "by-hand"):
        (settings.directory / "projects" / name).mkdir(parents=True)

    def left() -> set[str]:
        leftovers.remove_deleted_projects(state, settings)
        return set(os.listdir(settings.directory / "projects"))

    assert left() == {deleted, known, twin, "by-hand"}
    later(bench, monkeypatch, 2.1)
    silent = replace(settings, label_studio_api_key="0" * 40)
    leftovers.remove_deleted_projects(state, silent)  # who cannot ask deletes nothing
    assert left() == {known, twin, "by-hand"}


def test_a_project_that_is_gone_goes_after_the_grace_time(bench: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    settings, state, number = bench.job.settings, bench.state, bench.project.id
    bench.job.folder.mkdir(parents=True)
    state.projects.set_aside(number, "it is not found", gone=True)
    later(bench, monkeypatch, 2.1)
    leftovers.remove_deleted_projects(state, settings)
    assert state.projects.get(number) is not None and bench.job.folder.exists()  # it was a mistake: it is there

    other = state.projects.connect(10**6, "1000000.5", "<View/>", {}, settings.label_studio_url, "")
    folder = project_folder(settings.directory, "1000000.5")
    folder.mkdir()
    state.projects.set_aside(other, "it is not found", gone=True)
    state.projects.update(other, standing_since=0.0)
    leftovers.remove_deleted_projects(state, settings)
    assert state.projects.get(other) is None and not folder.exists()
