"""Before any work: is it still the same project? Against a real Label Studio."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from backend.errors import LabelStudioUnavailable
from backend.labelstudio.client import LabelStudio
from backend.worker import connection, identity
from backend.worker.identity import AnotherProject
from tests.backend.workbench import Workbench, workbench
from tests.rig.servers import LabelStudioServer

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def made(label_studio: LabelStudioServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workbench]:
    with workbench(label_studio, tmp_path_factory.mktemp("bench"), tasks=0) as bench:
        yield bench


@pytest.fixture
def bench(made: Workbench) -> Iterator[Workbench]:
    before = made.state.projects.get(made.project.id)
    assert before is not None
    yield made
    kept = {name: getattr(before, name) for name in ("key", "studio", "standing", "standing_reason", "folder")}
    made.state.projects.update(made.project.id, **kept)


def test_a_project_that_label_studio_confirms_is_left_as_it_is(bench: Workbench) -> None:
    before = bench.state.projects.get(bench.project.id)
    job = identity.confirm(bench.job.reread())
    assert job.project == before and bench.state.projects.get(bench.project.id) == before


def test_what_confirms_a_project_is_what_the_first_steps_go_on_from(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = identity.confirm(bench.job.reread())
    assert job.info is not None and job.info.id == bench.project.id
    monkeypatch.setattr(LabelStudio, "project", lambda *_: pytest.fail("it was asked again"))
    assert connection.require(job, job.info).info is job.info


def test_another_project_under_the_number_is_not_touched_and_the_known_one_is_kept(bench: Workbench) -> None:
    bench.state.projects.update(bench.project.id, key=f"{bench.project.id}.5")
    job = bench.job.reread()
    with pytest.raises(AnotherProject, match=f"another project under number {bench.project.id}") as error:
        identity.confirm(job)
    identity.set_aside(bench.state, job.project, str(error.value))
    (kept,) = bench.state.projects.kept()
    assert (kept.standing, kept.standing_reason) == ("aside", str(error.value))


def test_an_announced_project_is_confirmed_by_its_number(bench: Workbench) -> None:
    known = bench.job.project.key
    bench.state.projects.update(bench.project.id, key=str(bench.project.id), standing="unchecked")
    job = identity.confirm(bench.job.reread())
    assert (job.project.key, job.project.standing) == (known, "connected")


def test_an_announcement_that_is_wrong_is_forgotten(bench: Workbench) -> None:
    number = bench.project.id
    wrong = bench.state.projects.announce(number, f"{number}.5", "", {}, "", "", studio="http://elsewhere")
    assert wrong is not None
    project = bench.state.projects.get(wrong)
    assert project is not None
    with pytest.raises(AnotherProject) as error:
        identity.confirm(replace(bench.job, project=project))
    identity.set_aside(bench.state, project, str(error.value))
    assert bench.state.projects.get(wrong) is None and bench.state.projects.get(number) is not None


def test_what_label_studio_does_not_answer_changes_nothing(bench: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.state.projects.update(bench.project.id, key=f"{bench.project.id}.5")
    before = bench.state.projects.get(bench.project.id)

    def silent(_: int) -> None:
        raise LabelStudioUnavailable("it is away")

    monkeypatch.setattr(bench.job.gateway, "project", silent)
    with pytest.raises(LabelStudioUnavailable):
        identity.confirm(bench.job.reread())
    assert bench.state.projects.get(bench.project.id) == before
