"""``kill -9`` at the worst moments: of the worker in training and in every step of publishing, of the web process and
of the supervisor; and Label Studio going away. Afterwards every unlabeled task has exactly one prediction of the
current version, the queue is in its order, and nothing was learnt twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.integration.helpers import (
    FAST,
    LabelProject,
    Seen,
    Studio,
    drawings,
    kill_hard,
    start_backend,
    wait_for,
)
from tests.rig.proxy import Proxy, Trap
from tests.rig.servers import BackendServer, LabelStudioServer, ServerError, WorkerProcess

BUDGET, SHORTLIST, POOL = 4, 5, 18
SETTINGS = {"BUDGET": str(BUDGET), "SHORTLIST": str(SHORTLIST), "SAMPLER": "entropy"}
LONG = {"epochs": 100}
"""Trains long enough to be struck in the middle of it, and to be waited for once."""

SINGLE = ("POST", "^/api/predictions/$")
SWITCH = ("PATCH", r"^/api/projects/\d+/\?")
BULK = ("POST", "/import/predictions$")
IMPORT = ("POST", r"/projects/\d+/import$")

GENERATING = {
    "sampler": "gaal",
    "allow_synthetic_tasks": True,
    "synthetic_share": 0.75,
    "health": "off",
    "gan_iterations": 2,
    "gan_width": 4,
    "gan_latent": 6,
    "synthetic_steps": 2,
}
GENERATED = 3  # of BUDGET


class Rig:
    """A web process that stays and workers that are killed, all of whose calls go through ``proxy``."""

    def __init__(self, folder: Path, studio: Studio) -> None:
        self.proxy = Proxy(studio.url)
        key = studio.server.personal_access_token()
        self.web = start_backend(folder, studio, worker=False, LABEL_STUDIO_URL=self.proxy.url, **SETTINGS)
        self.worker = WorkerProcess(folder, self.proxy.url, key, env=FAST | SETTINGS, warm=True)
        self.seen = Seen.of(self.web)

    def kill_worker(self) -> None:
        kill_hard(self.worker.pid)

    def restart_worker(self) -> None:
        self.worker.kill()  # nothing of it is left; a killed process is waited for
        self.seen.let_leases_run_out()
        self.worker.start()

    def close(self) -> None:
        self.worker.stop()
        self.web.stop()
        self.proxy.close()


@pytest.fixture(scope="module")
def shared_rig(studio: Studio, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    made = Rig(tmp_path_factory.mktemp("kills"), studio)
    yield made
    made.close()


@pytest.fixture
def rig(shared_rig: Rig) -> Iterator[Rig]:
    if not shared_rig.worker.running:
        shared_rig.restart_worker()
    yield shared_rig
    shared_rig.proxy.clear()
    print(shared_rig.worker.log_tail())  # shown when the test failed


@pytest.fixture
def project(rig: Rig, make_project: Callable[..., LabelProject]) -> LabelProject:
    """Connected, its first order out."""
    made = make_project(tasks=POOL).connected(rig.web.url)
    made.wait_for_version()
    return made


def check(project: LabelProject, version: str) -> None:
    """``version`` orders the queue and is whole, and no version has a task twice."""
    info = project.info()
    assert (info["model_version"], info["sampling"]) == (version, "Uncertainty sampling")
    assert project.missing_predictions(version) == ""
    held = Counter((item["task"], item["model_version"]) for item in project.predictions())
    assert [key for key, times in held.items() if times > 1] == []
    waiting = project.unlabelled()
    order = [task for task in project.published_order(version) if task in waiting]
    assert project.label_served(BUDGET - 1) == order[: BUDGET - 1]  # too few to make another cycle due


def due_cycle(rig: Rig, project: LabelProject) -> None:
    assert len(project.label_served(BUDGET)) == BUDGET


def finished(rig: Rig, project: LabelProject, version: str) -> None:
    """Waits until ``version`` is wholly published for the backend, too, and nothing is due."""

    def quiet() -> bool:
        current = rig.seen.state.versions.current(project.id)
        whole = current is not None and (current.name, current.status) == (version, "current")
        return whole and rig.seen.idle(project) and not rig.seen.state.scores.to_write(current, None)

    wait_for(f"{version} to be finished", quiet)


# -- the worker --------------------------------------------------------------------------------------------------------


def test_killed_in_training(rig: Rig, make_project: Callable[..., LabelProject]) -> None:
    project = make_project(tasks=POOL).connected(rig.web.url, LONG)
    first = project.wait_for_version()
    due_cycle(rig, project)
    rig.seen.wait_for_training(project)
    rig.kill_worker()

    assert project.version() == first  # the order that annotators work by stays
    assert rig.seen.phase(project) == "train"  # nobody was left to say otherwise
    rig.restart_worker()
    version = project.wait_for_cycle(2)

    finished(rig, project, version)
    assert rig.seen.cycles(project, "interrupted") == [1]
    assert rig.seen.labels(project) == {2: BUDGET}
    check(project, version)


MOMENTS: dict[str, Callable[[Rig], Trap]] = {
    "in the shortlist, the answer lost": lambda rig: rig.proxy.set(*SINGLE, body="-c1-", nth=3, after=rig.kill_worker),
    "before the switch": lambda rig: rig.proxy.set(*SWITCH, body="-c1-", before=rig.kill_worker, cut="before"),
    "after the switch, unknown to the state": lambda rig: rig.proxy.set(*SWITCH, body="-c1-", after=rig.kill_worker),
    "in the bulk call, which goes on": lambda rig: rig.proxy.set(*BULK, body="-c1-", before=rig.kill_worker, hold=5.0),
    "after the bulk call, the answer lost": lambda rig: rig.proxy.set(*BULK, body="-c1-", after=rig.kill_worker),
}


# The others, which differ from this one in what is read back, in `make test-long`.
IN_SHORT = "in the bulk call, which goes on"


@pytest.mark.parametrize(
    "moment", [pytest.param(name, marks=() if name == IN_SHORT else pytest.mark.long) for name in MOMENTS]
)
def test_killed_while_publishing(rig: Rig, project: LabelProject, moment: str) -> None:
    trap = MOMENTS[moment](rig)
    due_cycle(rig, project)
    trap.wait()
    wanted = next(version.name for version in rig.seen.state.versions.of_project(project.id) if version.cycle == 1)
    rig.restart_worker()

    assert project.wait_for_cycle(1) == wanted
    finished(rig, project, wanted)
    # nothing was learnt a second time, and nothing is about to be
    assert rig.seen.labels(project) == {1: BUDGET}
    assert [cycle.number for cycle in rig.seen.state.cycles.recent(project.id)] == [1, 0]
    assert rig.seen.pending(project) == 0
    check(project, wanted)


IMPORTS: dict[str, Callable[[Rig], Trap]] = {
    "before it is sent": lambda rig: rig.proxy.set(*IMPORT, before=rig.kill_worker, cut="before"),
    "while it goes on": lambda rig: rig.proxy.set(*IMPORT, before=rig.kill_worker, hold=3.0),
    "its answer lost": lambda rig: rig.proxy.set(*IMPORT, after=rig.kill_worker),
}


@pytest.mark.parametrize(
    "moment", [pytest.param(name, marks=() if name == "its answer lost" else pytest.mark.long) for name in IMPORTS]
)
def test_killed_while_importing_generated_images(
    rig: Rig, make_project: Callable[..., LabelProject], moment: str
) -> None:
    project = make_project(tasks=POOL).connected(rig.web.url, GENERATING)
    project.wait_for_version()
    wait_for("the generator", lambda: has_generator(rig, project))
    trap = IMPORTS[moment](rig)
    due_cycle(rig, project)
    trap.wait()
    rig.restart_worker()

    def whole() -> bool:
        return len(generated_in(project)) >= GENERATED and rig.seen.idle(project)

    version = project.wait_for_cycle(1)
    wait_for("the generated images", whole)
    finished(rig, project, version)
    found = generated_in(project)
    assert len(found) == GENERATED and len(set(found.values())) == GENERATED
    assert set(project.published_order(version)[:GENERATED]) == set(found)
    assert rig.seen.labels(project) == {1: BUDGET}


def has_generator(rig: Rig, project: LabelProject) -> bool:
    known = rig.seen.state.projects.get(project.id)
    return bool(known and known.preparation and known.preparation["over"])


def generated_in(project: LabelProject) -> dict[int, int]:
    """Task → the seed of its image, of those that were generated."""
    data = {number: task["data"] for number, task in project.tasks().items()}
    return {number: fields["synthetic_seed"] for number, fields in data.items() if fields.get("synthetic")}


@pytest.mark.long
def test_asked_to_end_in_training(rig: Rig, make_project: Callable[..., LabelProject]) -> None:
    project = make_project(tasks=POOL).connected(rig.web.url, LONG)
    project.wait_for_version()
    due_cycle(rig, project)
    rig.seen.wait_for_training(project)
    process = rig.worker.process
    rig.worker.stop()
    assert process is not None and process.returncode == 0  # by itself, in the time that is given

    known = rig.seen.state.projects.get(project.id)
    assert known is not None and known.lease_owner is None  # no need to wait for its expiry
    assert rig.seen.cycles(project, "interrupted") == [1]
    assert known.pending_annotations >= BUDGET  # due again
    rig.restart_worker()
    version = project.wait_for_cycle(2)
    finished(rig, project, version)
    assert rig.seen.labels(project) == {2: BUDGET}
    check(project, version)


# -- Label Studio ------------------------------------------------------------------------------------------------------


@pytest.mark.long
def test_label_studio_away_while_publishing(rig: Rig, project: LabelProject) -> None:
    trap = rig.proxy.set(*SINGLE, body="-c1-", nth=3, before=rig.proxy.go_down, cut="before")
    due_cycle(rig, project)
    trap.wait()
    wanted = next(version.name for version in rig.seen.state.versions.of_project(project.id) if version.cycle == 1)
    wait_for("the failure to be noted", lambda: "cannot be reached" in rig.seen.last_error(project))
    rig.proxy.listen()

    assert project.wait_for_cycle(1) == wanted
    finished(rig, project, wanted)
    assert rig.seen.last_error(project) == ""
    assert rig.seen.labels(project) == {1: BUDGET}
    check(project, wanted)


@pytest.mark.long
def test_a_bulk_call_whose_outcome_is_unknown(rig: Rig, project: LabelProject) -> None:
    trap = rig.proxy.set(*BULK, body="-c1-", cut="after", status=504)  # a gateway that lost its patience
    due_cycle(rig, project)
    trap.wait()
    version = project.wait_for_cycle(1)
    finished(rig, project, version)
    bulk = f"/api/projects/{project.id}/import/predictions"
    assert [call.path for call in rig.proxy.writes(version)].count(bulk) == 1
    check(project, version)


@pytest.mark.long
def test_label_studio_itself_is_killed_and_started_again(tmp_path: Path) -> None:
    server = LabelStudioServer(tmp_path / "label-studio", durable=False)
    server.start()
    studio = Studio(server)
    proxy = Proxy(server.url)
    backend = start_backend(tmp_path / "backend", studio, LABEL_STUDIO_URL=proxy.url, **SETTINGS)
    try:
        project = studio.make_project("killed", ("apple", "pear"))
        project.upload(drawings(POOL, project.classes))
        project.connected(backend.url)
        project.wait_for_version()
        trap = proxy.set(*BULK, body="-c1-", before=server.kill)  # in the middle of publishing, as far as we know
        project.label_served(BUDGET)
        trap.wait()
        server.start()
        version = project.wait_for_cycle(1)
        held = Counter(item["task"] for item in project.predictions(version))
        assert set(held.values()) == {1}
        assert list(Seen.of(backend).labels(project)) in ([], [1])
    finally:
        backend.stop()
        proxy.close()
        server.stop()


# -- web and supervisor ------------------------------------------------------------------------------------------------


@pytest.fixture
def served(studio: Studio, tmp_path: Path) -> Iterator[BackendServer]:
    server = start_backend(tmp_path, studio, **SETTINGS)
    yield server
    print(server.log_tail())
    server.stop()


@pytest.mark.long
def test_the_web_process_is_killed_during_a_cycle(
    served: BackendServer, make_project: Callable[..., LabelProject]
) -> None:
    project = make_project(tasks=POOL).connected(served.url, LONG)
    seen = Seen.of(served)
    project.wait_for_version()
    project.label_served(BUDGET)
    seen.wait_for_training(project)
    before, worker = served.web_pid, served.worker_pid
    kill_hard(before)

    wait_for("the web process to come back", lambda: served.healthy() and web_pid(served) not in (None, before))
    assert served.worker_pid == worker  # the cycle goes on
    project.wait_for_cycle(1)
    assert seen.labels(project) == {1: BUDGET}
    project.label_served(1)
    wait_for("its webhooks to arrive again", lambda: seen.pending(project) == 1)


def test_the_supervisor_is_killed_and_webhooks_are_lost(
    served: BackendServer, make_project: Callable[..., LabelProject]
) -> None:
    project = make_project(tasks=POOL).connected(served.url, LONG)
    seen = Seen.of(served)
    project.wait_for_version()
    project.label_served(BUDGET)
    seen.wait_for_training(project)
    children = [served.web_pid, served.worker_pid]
    kill_hard(served.pid)
    wait_for("the children to be gone", lambda: not any(alive(pid) for pid in children))
    served.process.wait()  # type: ignore[union-attr]

    project.label_served(BUDGET)  # nobody hears of it
    seen.let_leases_run_out()
    served.start()
    version = project.wait_for_cycle(2)
    assert seen.labels(project) == {2: 2 * BUDGET}  # the comparison at the start made up for it
    assert project.missing_predictions(version) == ""


def web_pid(server: BackendServer) -> int | None:
    try:
        return server.web_pid
    except ServerError:  # none just now
        return None


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False
