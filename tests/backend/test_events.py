"""Webhooks as hints, and what is due."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from backend import events
from backend.events import Backlog, MalformedEvent, Work, due, parse, project_number
from backend.state import Project, State, Version

PROJECT = Project(
    id=1, key="1.5", title="", label_config="<View/>", extra_params={}, url="", token="",
    annotation_events=0, refresh_seq=3, refresh_seen=3, train_seq=0, train_seen=0, new_annotations=0, checked_at=1000.0,
    read_from=940.0, read_under="", read_whole_at=0.0, annotated_at=0.0,
    lease_owner=None, lease_expires=0.0, failures=0, retry_at=0.0, last_error=None, queue_ready=True,
    current_version_id=1, misfit=None, number=1,
)  # fmt: skip
DONE = Backlog(has_version=True, unfinished=False, superseded=0, quiet_since=1000.0, broken_due=False)


def work(project: Project = PROJECT, backlog: Backlog = DONE, now: float = 1001.0, **changes: Any) -> frozenset[Work]:
    return due(replace(project, **changes), backlog, now, budget=10, reconcile_seconds=300, cleanup_seconds=60)


@pytest.fixture
def state(tmp_path: Path) -> State:
    opened = State(f"sqlite:///{tmp_path / 'state.sqlite3'}")
    opened.projects.connect(1, "1.5", "<View/>", {}, "", "")
    return opened


def body(action: str, **more: Any) -> dict[str, Any]:
    return {"action": action, "project": {"id": 1, "label_config": "<View/>"}, **more}


def scored(state: State, name: str) -> Version:
    """A version of project 1, which "a" holds."""
    return state.versions.add(
        1, "a", cycle=1, name=name, sampler="margin", checkpoint=None, classes=[], metrics={},
        task_ids=np.array([1]), priority_score=np.array([0.5]), class_index=None, confidence=None,
    )  # fmt: skip


def handle(state: State, payload: dict[str, Any]) -> dict[str, Any]:
    """As the web process does it."""
    return events.record(state, parse(payload))


@pytest.mark.parametrize("payload", [None, [], {}, {"action": 3}, {"action": "X"}, {"action": "X", "project": {}}])
def test_a_body_that_is_no_event_is_refused_in_words(payload: Any) -> None:
    with pytest.raises(MalformedEvent, match="needs"):
        parse(payload)


@pytest.mark.parametrize(
    ("project", "number"),
    [(5, 5), ("5", 5), ("5.1700000000", 5), ({"id": 5}, 5), ({"id": "5"}, 5)]
    + [(2**31 - 1, 2**31 - 1), (" 5 ", 5), (5.0, 5)]
    + [(odd, None) for odd in (None, "", "x", {}, {"id": None}, {"title": "5"}, [5], True, {"id": True})]
    + [(odd, None) for odd in (0, -5, 2**31, 2**63, "9" * 19, "9" * 5000, "1_0", "٣", "5\x00", "5x")],
)
def test_a_project_is_known_by_any_of_its_spellings(project: Any, number: int | None) -> None:
    assert project_number(project) == number


def test_every_annotation_of_a_bulk_event_counts() -> None:
    assert parse(body("ANNOTATIONS_DELETED", annotations=[{"id": 1}, {"id": 2}])).annotations == 2
    assert parse(body("ANNOTATION_CREATED", annotation={"id": 1})).annotations == 1


WEBHOOKS = Path(__file__).parents[2] / ".venv-label-studio"


def webhook_actions() -> dict[str, dict[str, Any]]:
    """Action → its ``key``, whether it is ``many``, and more, as Label Studio's own table of webhooks says."""
    (path,) = WEBHOOKS.glob("lib/python3*/site-packages/label_studio/webhooks/models.py")
    (table,) = (
        node.value
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Assign)
        and isinstance(node.value, ast.Dict)
        and ast.unparse(node.targets[0]) == "ACTIONS"
    )
    return {
        ast.unparse(name): {
            ast.literal_eval(key): value.value if isinstance(value, ast.Constant) else ast.unparse(value)
            for key, value in zip(meta.keys, meta.values, strict=True)
        }
        for name, meta in zip(table.keys, table.values, strict=True)
        if isinstance(name, ast.Name) and isinstance(meta, ast.Dict)
    }


def as_sent(action: str, meta: Mapping[str, Any], items: int) -> dict[str, Any]:
    """The body that Label Studio posts (webhooks/utils.py): the item or the list under the action's own key."""
    found = [{"id": number} for number in range(1, items + 1)]
    payload: dict[str, Any] = {"action": action, meta["key"]: found if meta["many"] else found[0]}
    if "organization-only" not in meta:
        payload["project"] = {"id": 1, "title": "pets", "label_config": "<View/>"}
    if "nested-fields" in meta and "task" in meta["nested-fields"]:
        payload["task"] = [{"id": 1}] if meta["many"] else {"id": 1}
    return payload


def test_every_action_of_label_studio_is_read_in_the_shape_in_which_it_is_sent(state: State) -> None:
    actions = webhook_actions()
    assert len(actions) >= 12
    for action, meta in actions.items():
        event = parse(as_sent(action, meta, 7))
        assert event.project_id == 1, action
        of_annotations = "ANNOTATION" in action
        assert event.annotations == (0 if not of_annotations else 7 if meta["many"] else 1), action
        before = state.projects.get(1)
        answer = events.record(state, event)
        assert before is not None
        after = state.projects.get(1)
        assert after is not None
        noted = after.annotation_events - before.annotation_events, after.refresh_seq > before.refresh_seq
        ignored = "LABEL_LINK" in action
        assert answer["status"] == ("ignored" if ignored else "noted"), action
        looked_at = action.startswith(("TASKS_", "PROJECT_")) and action != "PROJECT_UPDATED"
        assert noted == (event.annotations, looked_at), action


def test_annotations_created_carries_its_list_under_annotation() -> None:
    """Of "create annotations from predictions" in the Data Manager."""
    items = [{"id": number} for number in range(1, 8)]
    assert parse(body("ANNOTATIONS_CREATED", annotation=items, task=[{"id": 1}])).annotations == 7
    assert parse(body("ANNOTATIONS_CREATED", annotations=items)).annotations == 7  # as other actions carry theirs
    assert parse(body("ANNOTATIONS_CREATED")).annotations == 1  # a webhook without payload of an older version


def test_nothing_is_due_when_all_was_seen() -> None:
    assert work() == frozenset()


@pytest.mark.parametrize(("new", "hinted", "expected"), [(9, 0, False), (10, 0, True), (0, 10, True), (5, 5, True)])
def test_the_budget_makes_a_cycle_due(new: int, hinted: int, expected: bool) -> None:
    assert (Work.CYCLE in work(new_annotations=new, annotation_events=hinted)) is expected


def test_start_training_makes_a_cycle_due() -> None:
    assert work(train_seq=2, train_seen=1) == {Work.CYCLE}


def test_an_order_comes_before_anything_is_learnt() -> None:
    backlog = replace(DONE, has_version=False)
    assert work(backlog=backlog, train_seq=1, new_annotations=50) == {Work.UPKEEP}


def test_an_unfinished_publish_comes_before_the_next_cycle() -> None:
    assert work(backlog=replace(DONE, unfinished=True), new_annotations=50) == {Work.UPKEEP}


def test_a_changed_pool_is_looked_at() -> None:
    assert work(refresh_seq=4) == {Work.UPKEEP}
    assert work(now=1300.0) == {Work.UPKEEP}  # or after the slow timer, when the hint was lost


def test_a_head_that_is_used_up_keeps_no_cycle_waiting() -> None:
    backlog = replace(DONE, used_up=True)
    assert work(backlog=backlog) == {Work.UPKEEP}
    assert work(backlog=backlog, new_annotations=50) == {Work.CYCLE, Work.UPKEEP}


def test_superseded_versions_go_when_it_is_quiet() -> None:
    backlog = replace(DONE, superseded=1)
    assert work(backlog=backlog, now=1059.0) == frozenset()
    assert work(backlog=backlog, now=1060.0) == {Work.UPKEEP}
    assert work(backlog=backlog, now=1060.0, new_annotations=10) == {Work.CYCLE}


def test_many_superseded_versions_go_although_people_label() -> None:
    assert work(backlog=replace(DONE, superseded=events.MOST_SUPERSEDED)) == frozenset()
    assert work(backlog=replace(DONE, superseded=events.MOST_SUPERSEDED + 1)) == {Work.UPKEEP}


def test_an_annotation_ends_the_quiet(state: State) -> None:
    assert state.projects.get(1).annotated_at == 0.0  # type: ignore[union-attr]
    handle(state, body("ANNOTATION_CREATED", annotation={"id": 1}))
    assert abs(state.projects.get(1).annotated_at - state.now()) < 10  # type: ignore[union-attr]


def test_a_failing_project_waits_for_its_next_attempt() -> None:
    assert work(new_annotations=50, retry_at=1002.0) == frozenset()
    assert work(new_annotations=50, retry_at=1001.0) == {Work.CYCLE}


def test_times_that_were_noted_while_the_clock_was_ahead_hold_nothing_up() -> None:
    day = 86_400.0
    assert work(new_annotations=50, retry_at=1001.0 + day) == {Work.CYCLE}
    assert work(new_annotations=50, retry_at=1001.0 + events.LONGEST_RETRY_SECONDS) == frozenset()  # an honest pause
    assert work(checked_at=1000.0 + day) == {Work.UPKEEP}
    assert work(backlog=replace(DONE, superseded=1, quiet_since=1000.0 + day)) == {Work.UPKEEP}


def test_our_own_project_update_is_no_news(state: State) -> None:
    before = state.projects.get(1)
    assert handle(state, body("PROJECT_UPDATED")) == {"status": "noted"}
    assert state.projects.get(1) == before


def test_a_changed_label_config_is_news(state: State) -> None:
    handle(state, {"action": "PROJECT_UPDATED", "project": {"id": 1, "label_config": "<View><Text/></View>"}})
    assert state.projects.get(1).refresh_seq == 2  # type: ignore[union-attr]


def test_an_order_that_is_not_ours_is_news(state: State) -> None:
    """As when a settings page is saved that was opened before the last cycle. What we publish just now is ours."""
    assert state.leases.take(1, "a", 60)
    old, current, coming = (scored(state, f"margin-c{number}-0000000{number}") for number in range(3))
    state.versions.switch_to(current, "a")

    def seq(**fields: object) -> int:
        handle(state, {"action": "PROJECT_UPDATED", "project": {"id": 1, "maximum_annotations": 1, **fields}})
        return state.projects.get(1).refresh_seq  # type: ignore[union-attr]

    before = seq()
    for name in (current.name, coming.name):
        assert seq(model_version=name, sampling=events.UNCERTAINTY) == before
    for news in ({"model_version": old.name}, {"model_version": ""}, {"sampling": "Sequential sampling"}):
        assert seq(**{"model_version": current.name, **news}) == before + 1
        before += 1
    assert seq(maximum_annotations=2) == before + 1


def test_any_project_update_is_news_while_the_owner_has_something_to_mend(state: State) -> None:
    """A config that was broken and is put back is the one that the state still holds."""
    state.projects.update(1, last_error="The choices must be single.", retry_at=9e9)
    handle(state, body("PROJECT_UPDATED"))
    assert (state.projects.get(1).refresh_seq, state.projects.get(1).retry_at) == (2, 0.0)  # type: ignore[union-attr]


@pytest.mark.parametrize("action", sorted(events.ANNOTATIONS))
def test_annotation_events_count(state: State, action: str) -> None:
    handle(state, body(action, annotation={}))
    assert state.projects.get(1).annotation_events == 1  # type: ignore[union-attr]


def test_tasks_ask_for_a_refresh_and_training_for_a_cycle(state: State) -> None:
    handle(state, body("TASKS_CREATED", tasks=[{}]))
    handle(state, body("START_TRAINING"))
    project = state.projects.get(1)
    assert project is not None and project.refresh_seq == 2 and project.train_requested


def test_events_of_strangers_are_answered_but_change_nothing(state: State) -> None:
    assert handle(state, {"action": "START_TRAINING", "project": {"id": 5}})["status"] == "ignored"
    assert handle(state, body("LABEL_LINK_CREATED"))["status"] == "ignored"
    assert not state.projects.get(1).train_requested  # type: ignore[union-attr]


CREATED = "1970-01-01T00:00:05.7Z"
"""When project 1.5 was created."""


@pytest.mark.parametrize(("created", "noted"), [(CREATED, True), ("1970-01-01T00:00:06Z", False), ("soon", True)])
def test_a_webhook_is_for_the_project_that_was_created_then(state: State, created: str, noted: bool) -> None:
    payload = {"action": "START_TRAINING", "project": {"id": 1, "created_at": created}}
    assert handle(state, payload)["status"] == ("noted" if noted else "ignored")
    assert state.projects.get(1).train_requested is noted  # type: ignore[union-attr]


def test_projects_of_several_label_studios_with_one_number_are_told_apart_by_their_time_of_creation(
    state: State,
) -> None:
    other = state.projects.connect(1, "1.77", "<View/>", {}, "http://other", "")
    handle(state, {"action": "START_TRAINING", "project": {"id": 1, "created_at": CREATED}})
    assert [project.train_requested for project in state.projects.all()] == [True, False]
    handle(state, {"action": "TASKS_CREATED", "project": {"id": 1}})  # which of them is not said: all look
    assert [state.projects.get(number).refresh_seq for number in (1, other)] == [2, 2]  # type: ignore[union-attr]


def test_a_replay_that_was_asked_for_is_done_in_upkeep_and_takes_no_cycle_its_turn() -> None:
    assert work() == set()
    assert work(replay_seq=2, replay_seen=1) == {Work.UPKEEP}
    assert work(replay_seq=2, replay_seen=1, new_annotations=10) == {Work.CYCLE, Work.UPKEEP}
    assert work(replay_seq=2, replay_seen=2) == set()
