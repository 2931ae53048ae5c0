"""Whose project it is: what is concluded from Label Studio's list of connections and the version in force, and how a
connection is recognized in a real Label Studio."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from backend.errors import HandsOff
from backend.labelstudio import http as labelstudio_http
from backend.labelstudio.records import MLBackend
from backend.worker import connection
from backend.worker.connection import judge, require
from tests.backend.workbench import Door, Workbench, workbench
from tests.rig.servers import LabelStudioServer

OURS = {"margin-c0-11111111", "margin-c1-22222222"}
THEIRS = "entropy-c4-abcdef01"
HERE = MLBackend(5, "http://here:9090", "AL", True, "margin-c1-22222222")


def other(number: int, version: str = THEIRS, answers: bool = True) -> MLBackend:
    return MLBackend(number, f"http://other:{number}", "AL", answers, version)


@pytest.mark.parametrize(
    ("rows", "in_force"),
    [
        ([HERE], "margin-c1-22222222"),
        ([HERE], "margin-c0-11111111"),  # a settings page that was opened before the last cycle
        ([HERE], ""),
        ([HERE], "AL"),  # the title, which Label Studio puts there while there is no version
        ([HERE], "gold-2024"),  # predictions that the owner imported
        ([HERE, other(6)], "margin-c1-22222222"),  # another backend that leaves the queue alone
        ([HERE, other(6, "yolo-8")], "gold-2024"),
        ([HERE, other(6, "")], "gold-2024"),
    ],
)
def test_there_is_no_other_hand_in_the_queue(rows: list[MLBackend], in_force: str) -> None:
    standing = judge(HERE, rows, in_force, OURS, None)
    assert (standing.row, standing.reason, standing.rival, standing.warning) == (HERE, "", None, "")


@pytest.mark.parametrize(
    ("rival", "in_force"),
    [
        (other(6), THEIRS),
        (other(6, "entropy-c3-00000000"), THEIRS),  # its answer is older than its last cycle
        (other(6, "", answers=False), THEIRS),  # switched off for now
        (other(6, "their-own-naming"), "their-own-naming"),
    ],
)
def test_of_two_that_order_the_queue_the_one_connected_first_stands_back(rival: MLBackend, in_force: str) -> None:
    standing = judge(HERE, [HERE, rival], in_force, OURS, None)
    assert standing.rival == rival.id and rival.url in standing.reason and not standing.warning


def test_the_one_connected_last_takes_the_queue_back_and_says_so() -> None:
    standing = judge(HERE, [other(4), HERE], THEIRS, OURS, None)
    assert not standing.reason and standing.rival is None
    assert "http://other:4" in standing.warning and THEIRS in standing.warning


def test_one_that_is_not_listed_is_overruled_and_mentioned() -> None:
    standing = judge(HERE, [HERE], THEIRS, OURS, None)
    assert not standing.reason and THEIRS in standing.warning


def test_who_stands_back_goes_on_standing_back_while_the_other_is_listed() -> None:
    """Also when a stale settings page puts our version in force for a moment: otherwise the two would take turns."""
    assert judge(HERE, [HERE, other(6)], "margin-c1-22222222", OURS, 6).rival == 6
    assert judge(HERE, [HERE], THEIRS, OURS, 6).reason == ""  # its connection was removed
    renewed = MLBackend(7, HERE.url, "AL", True, "margin-c1-22222222")
    assert judge(renewed, [other(6), renewed], THEIRS, OURS, 6).reason == ""  # ours was made anew


# -- in a real Label Studio --------------------------------------------------------------------------------------------


@pytest.fixture
def bench(label_studio: LabelStudioServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workbench]:
    monkeypatch.setattr(labelstudio_http, "RETRY_AFTER", (0.01, 0.02))
    monkeypatch.setattr(connection, "NOTED_SECONDS", 0.3)
    with workbench(label_studio, tmp_path, tasks=0) as made:
        yield made


@pytest.fixture
def neighbor(bench: Workbench) -> Iterator[Door]:
    """Another backend, which only predicts, connected to the same project."""
    door = Door(bench.state, bench.project.id, another=True)
    bench.project.studio.post("/api/ml/", {"url": door.url, "project": bench.project.id, "title": "other"})
    yield door
    door.close()


def remove(bench: Workbench) -> None:
    bench.project.studio.delete(f"/api/ml/{bench.project.ml_backend}")


@pytest.mark.slow
def test_our_connection_is_found_beside_others_and_behind_a_proxy(bench: Workbench, neighbor: Door) -> None:
    for hidden in ("", "http://inside:9090"):
        bench.door.address = hidden
        bench.state.projects.update(bench.project.id, connection_id=None, connection_url="")
        row = require(bench.job).row
        assert row is not None and (row.id, row.url) == (bench.project.ml_backend, bench.door.url)
        known = bench.job.reread().project
        assert (known.connection_id, known.connection_url) == (row.id, row.url)


@pytest.mark.slow
def test_a_web_process_that_does_not_answer_is_no_reason_to_stop(bench: Workbench, neighbor: Door) -> None:
    bench.door.address = "http://inside:9090"
    require(bench.job)
    bench.door.open = False
    row = require(bench.job).row
    assert row is not None and row.id == bench.project.ml_backend


@pytest.mark.slow
def test_what_an_earlier_version_of_the_backend_connected_goes_on(bench: Workbench) -> None:
    """It did not note at which address; and the web process may not be up yet."""
    bench.state.projects.update(bench.project.id, address="", setups=0)
    bench.door.open = False
    assert require(bench.job) == connection.Standing()
    bench.door.open = True
    assert require(bench.job).row is not None


@pytest.mark.slow
@pytest.mark.parametrize("alone", [True, False])
def test_a_removed_connection_is_noticed_and_so_is_its_return(
    bench: Workbench, request: pytest.FixtureRequest, alone: bool
) -> None:
    if not alone:
        request.getfixturevalue("neighbor")
    require(bench.job)
    remove(bench)
    with pytest.raises(HandsOff, match=f"no longer lists this backend at {bench.door.url}"):
        require(bench.job)
    assert "no longer lists" in str(bench.job.reread().project.hands_off)
    before = bench.job.reread().project.refresh_seq
    bench.project.connected(bench.door.url)
    assert bench.job.reread().project.refresh_seq > before  # so that a worker looks at once
    row = require(bench.job).row
    assert row is not None and row.id == bench.project.ml_backend
    assert bench.job.reread().project.hands_off is None


@pytest.mark.slow
def test_an_address_that_leads_to_another_backend_by_now_is_not_ours(bench: Workbench) -> None:
    """As after a move behind the same name: the old host, still on, finds somebody else in its place."""
    require(bench.job)
    body = {"url": bench.door.url, "project": bench.project.id, "title": "AL"}
    door = Door(bench.state, bench.project.id, another=True)
    try:
        bench.project.studio.patch(f"/api/ml/{bench.project.ml_backend}", body | {"url": door.url})
        bench.state.projects.update(bench.project.id, address=door.url, connection_url=door.url)
        with pytest.raises(HandsOff):
            require(bench.job)
    finally:
        door.close()


@pytest.mark.slow
def test_a_label_studio_that_does_not_say_changes_nothing(bench: Workbench) -> None:
    require(bench.job)
    bench.proxy.set("GET", "/api/ml/", cut="before", stays=True)
    with pytest.raises(Exception, match="closed the connection"):
        require(bench.job)
    assert bench.job.reread().project.hands_off is None


@pytest.mark.slow
def test_our_webhook_is_made_again_where_it_is_gone(bench: Workbench) -> None:
    row = require(bench.job).row
    (hook,) = bench.project.studio.get("/api/webhooks/", project=bench.project.id)
    bench.project.studio.delete(f"/api/webhooks/{hook['id']}/")
    for _ in range(2):
        connection.look_after_webhook(bench.job, row)
    (hook,) = bench.project.studio.get("/api/webhooks/", project=bench.project.id)
    assert hook["url"] == f"{bench.door.url}/webhook" and hook["is_active"]
