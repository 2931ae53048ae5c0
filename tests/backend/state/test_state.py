"""The state, on SQLite and on PostgreSQL: projects, hints, leases between processes, versions, scores."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from backend.errors import BackendError, LeaseLost
from backend.head import head_size
from backend.settings.core import Settings
from backend.state import State, StoredLabel, Version

CONFIG = '<View><Image name="i" value="$image"/><Choices name="c" toName="i"><Choice value="a"/></Choices></View>'


@pytest.fixture
def state(url: str) -> Iterator[State]:
    opened = State(url)
    opened.projects.connect(1, "1.100", CONFIG, {}, "http://label-studio", "token")
    yield opened
    opened.close()


def add_version(state: State, owner: str, name: str = "vaal-c1-abc", rows: int = 10, **learnt: Any) -> Version:
    return state.versions.add(
        1,
        owner,
        cycle=1,
        name=name,
        sampler="vaal",
        checkpoint=None,
        classes=["cat", "dog"],
        metrics={"loss": 0.5},
        task_ids=np.arange(1, rows + 1),
        priority_score=np.linspace(0.9, 0.1, rows),
        class_index=np.arange(rows) % 2,
        confidence=np.full(rows, 0.75),
        **learnt,
    )


def test_connecting_twice_keeps_what_is_known(state: State) -> None:
    state.hints.add(1, annotations=3)
    state.projects.connect(1, "1.100", CONFIG, {}, "http://label-studio", "token")
    project = state.projects.get(1)
    assert project is not None and project.annotation_events == 3 and project.refresh_seq == 1


def test_changed_parameters_ask_for_a_look_at_once(state: State) -> None:
    state.projects.update(1, retry_at=state.now() + 500)
    state.projects.connect(1, "1.100", CONFIG, {"budget": 7}, "http://label-studio", "token")
    project = state.projects.get(1)
    assert project is not None
    assert project.extra_params == {"budget": 7} and project.refresh_seq == 2 and project.retry_at == 0


def test_another_project_with_the_same_number_starts_from_nothing_and_the_old_one_is_kept(state: State) -> None:
    assert state.leases.take(1, "a", 60)
    state.tasks.put(1, {1: "one"})
    version = add_version(state, "a", seen={7: "monday"})
    state.versions.switch_to(version, "a")

    new = state.projects.connect(1, "1.200", CONFIG, {}, "http://label-studio", "token")

    assert new != 1 and state.versions.of_project(new) == []
    assert state.tasks.sources_between(new, 0, None) == {} and state.scores.of_tasks(new, [1]) == {}
    assert [project.key for project in state.projects.all()] == ["1.200"]
    (kept,) = state.projects.kept()
    assert (kept.id, kept.key, kept.standing) == (1, "1.100", "aside") and "another project" in kept.standing_reason
    assert state.labels.seen(1) == {7: "monday"} and list(state.scores.of_tasks(1, [1])) == [1]

    assert state.projects.connect(1, "1.100", CONFIG, {}, "http://label-studio", "token") == 1  # it is back
    assert [project.key for project in state.projects.all()] == ["1.100"]
    assert state.versions.current(1) == state.versions.get(version.id)


def test_hints_add_up_and_unknown_projects_are_told_apart(state: State) -> None:
    assert state.hints.add(1, annotations=2) and state.hints.add(1, annotations=1, train=True)
    assert not state.hints.add(99, train=True)
    project = state.projects.get(1)
    assert project is not None and project.pending_annotations == 3 and project.train_requested


def test_a_label_studio_was_last_annotated_when_any_of_its_projects_was(state: State) -> None:
    state.projects.connect(2, "2.100", CONFIG, {}, "http://label-studio", "token")
    state.projects.connect(3, "3.100", CONFIG, {}, "http://another", "token")
    assert state.hints.annotated_at("http://label-studio") == 0.0
    state.projects.update(1, annotated_at=50.0)
    state.projects.update(2, annotated_at=70.0)
    state.projects.update(3, annotated_at=90.0)
    assert state.hints.annotated_at("http://label-studio") == 70.0
    assert state.hints.annotated_at("http://nobody") == 0.0


def test_events_that_came_during_a_comparison_stay(state: State) -> None:
    state.hints.add(1, annotations=5)
    state.hints.add(1, annotations=2)
    state.hints.settle(1, 5)
    assert state.projects.get(1).annotation_events == 2  # type: ignore[union-attr]
    state.hints.settle(1, 5)
    assert state.projects.get(1).annotation_events == 0  # type: ignore[union-attr]


def test_ctrl_c_amid_a_statement_stays_ctrl_c(state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(state.database.engine.dialect, "do_execute", interrupted)
        with pytest.raises(KeyboardInterrupt):
            state.hints.add(1, annotations=5)
    state.hints.add(1, annotations=2)  # on another connection
    assert state.projects.get(1).annotation_events == 2  # type: ignore[union-attr]


def test_of_many_threads_one_gets_the_lease(state: State) -> None:
    start = threading.Barrier(8)
    taken: list[str] = []

    def ask(name: str) -> None:
        start.wait()
        if state.leases.take(1, name, 60):
            taken.append(name)

    threads = [threading.Thread(target=ask, args=(f"worker-{i}",)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(taken) == 1


def test_of_two_processes_one_gets_the_lease(state: State, url: str) -> None:
    code = (
        "import sys; from backend.state import State; s = State(sys.argv[1]); sys.stdin.readline();"
        "print(s.leases.take(1, sys.argv[2], 60))"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code, url, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for name in ("first", "second")
    ]
    answers = sorted(process.communicate("go\n", timeout=60)[0].strip() for process in processes)
    assert answers == ["False", "True"]


def test_an_expired_lease_is_taken_over_and_its_cycle_marked(state: State) -> None:
    assert state.leases.take(1, "dead", -1)
    state.cycles.start(1, "dead", 1, "vaal", 0)
    assert state.leases.take(1, "alive", 60)
    assert not state.leases.renew(1, "dead", 60)
    assert [cycle.status for cycle in state.cycles.recent(1)] == ["interrupted"] and state.cycles.running() == []


def test_who_lost_the_lease_writes_nothing(state: State) -> None:
    assert state.leases.take(1, "slow", -1)
    cycle = state.cycles.start(1, "slow", 1, "vaal", 0)
    assert state.leases.take(1, "quick", 60)
    with pytest.raises(LeaseLost):
        add_version(state, "slow", seen={1: "x"})
    with pytest.raises(LeaseLost):
        state.cycles.finish(cycle, 1, "slow", status="done")
    assert state.versions.of_project(1) == [] and state.labels.seen(1) == {}


def test_a_version_is_a_draft_until_its_last_score_is_in(state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    assert state.leases.take(1, "a", 60)

    def die(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(state.scores, "add", die)
        with pytest.raises(KeyboardInterrupt):
            add_version(state, "a")
    assert state.versions.of_project(1) == [] and state.versions.unpublished(1) is None
    state.versions.drop_drafts(1, "a")
    assert add_version(state, "a").status == "scored"  # the name is free again


def test_switching_supersedes_the_older_version_and_answers_by_the_new_one(state: State) -> None:
    assert state.leases.take(1, "a", 60)
    old = add_version(state, "a", "vaal-c1-old")
    state.versions.switch_to(old, "a")
    new = add_version(state, "a", "vaal-c2-new")
    assert state.scores.of_tasks(1, [2])[2].version == "vaal-c1-old"
    state.versions.switch_to(new, "a")
    answer = state.scores.of_tasks(1, [2, 99])
    assert list(answer) == [2] and answer[2].version == "vaal-c2-new"
    assert answer[2].label == "dog" and answer[2].confidence == 0.75
    assert {v.name: v.status for v in state.versions.of_project(1)}["vaal-c1-old"] == "superseded"


def test_topping_up_the_current_version_leaves_the_one_that_follows_alone(state: State) -> None:
    assert state.leases.take(1, "a", 60)
    old = add_version(state, "a", "vaal-c1-old")
    state.versions.switch_to(old, "a")
    add_version(state, "a", "vaal-c2-new")
    state.versions.switch_to(old, "a")
    assert {v.name: v.status for v in state.versions.of_project(1)}["vaal-c2-new"] == "scored"


def test_unwritten_rows_come_in_the_order_in_which_they_are_served(state: State) -> None:
    assert state.leases.take(1, "a", 60)
    version = add_version(state, "a")
    state.scores.mark_written(version, "a", [10, 3])
    left = [answer.task_id for answer in state.scores.to_write(version, None)]
    assert left == [9, 8, 7, 6, 5, 4, 2, 1]
    state.scores.mark_written(version, "a", list(range(1, 11)))
    assert state.scores.to_write(version, None) == [] and not state.scores.has_unwritten(version)


def test_a_deleted_task_takes_its_scores_and_its_broken_image_along(state: State) -> None:
    assert state.leases.take(1, "a", 60)
    state.tasks.put(1, {i: f"image-{i}" for i in range(1, 11)})
    version = add_version(state, "a")
    state.tasks.set_broken(1, [(4, "image-4", "no such file")], 60)
    state.tasks.remove(1, [4, 5])
    assert set(state.tasks.sources_between(1, 0, None)) == {1, 2, 3, 6, 7, 8, 9, 10}
    assert set(state.scores.order(version).tolist()) == set(state.tasks.sources_between(1, 0, None))
    assert state.tasks.broken_images(1) == []


def test_labeled_flags_follow_the_truth_both_ways(state: State) -> None:
    state.tasks.put(1, {1: "a", 2: "b", 3: "c"})
    state.labels.put(1, [labeled(1, "cat"), labeled(2, "dog")])
    assert state.tasks.counts(1)["labelled"] == 2
    state.labels.put(1, [StoredLabel(1, None, [], 0, 1)])  # skipped instead: no label, but annotated
    assert state.tasks.counts(1)["labelled"] == 1 and state.labels.totals(1) == (1, 1)
    state.labels.remove(1, [2])
    ids, flags = state.tasks.ids(1)
    assert ids.tolist() == [1, 2, 3] and not flags.any()
    assert [one.task_id for one in state.labels.all(1)] == [1]


def labeled(task: int, label: str) -> StoredLabel:
    return StoredLabel(task, label, [[10 * task, "monday"]], 1, 0)


def test_a_broken_image_counts_its_attempts(state: State) -> None:
    state.tasks.set_broken(1, [(4, "x", "no such file")], 60)
    state.tasks.set_broken(1, [(4, "x", "not an image")], 60)
    (found,) = state.tasks.broken_images(1)
    assert found.attempts == 2 and found.reason == "not an image" and found.retry_at > state.now() + 50


def test_the_truth_a_version_was_learnt_from_is_seen_as_soon_as_the_version_is_there(state: State) -> None:
    assert state.leases.take(1, "a", 60)
    state.projects.update(1, new_annotations=12)
    number = state.cycles.next_number(1)
    state.cycles.start(1, "a", number, "vaal", 0)
    add_version(state, "a", seen={7: "monday", 8: "tuesday"}, train_seen=2)
    assert state.labels.seen(1) == {7: "monday", 8: "tuesday"}
    project = state.projects.get(1)
    assert project is not None and project.new_annotations == 0 and project.train_seen == 2
    assert state.cycles.next_number(1) == number + 1


def test_a_version_that_loses_the_lease_half_way_leaves_the_truth_unseen(
    state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert state.leases.take(1, "slow", -1)
    monkeypatch.setattr(state.scores, "add", lambda *_, **__: state.leases.take(1, "quick", 60))
    with pytest.raises(LeaseLost):
        add_version(state, "slow", seen={7: "monday"}, train_seen=2)
    assert state.labels.seen(1) == {} and state.versions.of_project(1) == []
    assert state.projects.get(1).train_seen == 0  # type: ignore[union-attr]


def test_a_cycle_that_was_cut_off_while_publishing_is_done_once_its_version_is_out(state: State) -> None:
    assert state.leases.take(1, "a", 60)
    first = state.cycles.start(1, "a", 0, "vaal", 0)
    state.cycles.finish(first, 1, "a", status="failed", error="older")
    state.cycles.start(1, "a", 1, "vaal", 0)
    assert state.leases.take(1, "a", 60)  # as after a kill
    state.cycles.finish_resumed(1, "a", {"labels": 5})
    newest, oldest = state.cycles.recent(1)
    assert (newest.status, newest.metrics, newest.error) == ("done", {"labels": 5}, None)
    assert oldest.status == "failed"


def test_many_rows_go_through(state: State) -> None:
    assert state.leases.take(1, "a", 60)
    version = add_version(state, "a", rows=12_000)  # several chunks
    assert len(set(state.scores.order(version).tolist())) == 12_000
    assert len(state.scores.of_tasks(1, range(1, 3000))) == 0  # not current yet
    state.versions.switch_to(version, "a")
    assert len(state.scores.of_tasks(1, range(1, 3000))) == 2_999


def test_a_database_of_another_format_is_refused_in_words(url: str) -> None:
    import sqlalchemy as sa

    first = State(url)
    with first.database.engine.begin() as conn:
        conn.execute(sa.text("update meta set value = '999'"))
    with pytest.raises(BackendError, match="format 999"):
        State(url)


@pytest.mark.parametrize(("publish", "unlabeled", "size"), [
    ("auto", 1000, None), ("auto", 1001, 200), ("head", 10, 200), ("all", 1001, None),
])  # fmt: skip
def test_a_large_pool_is_published_as_its_head(state: State, publish: str, unlabeled: int, size: int | None) -> None:
    assert state.leases.take(1, "a", 60)
    state.tasks.put(1, {task: f"{task}.png" for task in range(1, unlabeled + 3)})
    state.labels.put(1, [labeled(1, "cat"), labeled(2, "dog")])
    version = add_version(state, "a")
    settings = Settings(publish=publish, budget=50)
    assert head_size(state, settings, version) == size
    if size:
        assert head_size(state, replace(settings, budget=150), version) == 300


def test_the_head_is_counted_over_tasks_without_any_annotation(state: State) -> None:
    assert state.leases.take(1, "a", 60)
    state.tasks.put(1, {task: f"{task}.png" for task in range(1, 11)})
    version = add_version(state, "a")
    order = state.scores.order(version).tolist()
    assert [row.task_id for row in state.scores.to_write(version, 4)] == order[:4]
    state.scores.mark_written(version, "a", order[:4])
    assert state.scores.head(version, 4) == (4, 0)
    state.labels.put(1, [labeled(order[0], "cat"), StoredLabel(order[1], None, [], 0, 1)])  # a label and a skip
    assert state.scores.head(version, 4) == (2, 2)
    assert [row.task_id for row in state.scores.to_write(version, 4)] == order[4:6]
    assert [row.task_id for row in state.scores.to_write(version, 99)] == order[4:]
    assert state.scores.written(version).tolist() == sorted(order[:4])


def test_tasks_that_others_are_still_to_label_belong_to_what_is_written(state: State) -> None:
    """Two annotators a task: Label Studio serves those that one of them has labeled to the other one, before all
    others. As many as the head has tasks are written besides it, wherever they stand in the order."""
    assert state.leases.take(1, "a", 60)
    state.tasks.put(1, {task: f"{task}.png" for task in range(1, 11)})
    version = add_version(state, "a")
    order = state.scores.order(version).tolist()
    unfinished = [order[2], order[7], order[8], order[9]]
    state.labels.put(1, [replace(labeled(task, "cat"), unfinished=True) for task in unfinished])
    state.labels.put(1, [labeled(order[0], "dog")])
    assert state.labels.unfinished(1) == set(unfinished)
    written = [row.task_id for row in state.scores.to_write(version, 2)]
    assert written == [order[1], order[2], order[3], order[7]]
    state.scores.mark_written(version, "a", written)
    assert state.scores.to_write(version, 2) == []
    state.labels.put(1, [labeled(order[2], "cat")])  # the second annotation
    assert [row.task_id for row in state.scores.to_write(version, 2)] == [order[8]]


def test_a_version_lacks_new_tasks_and_those_that_others_are_still_to_label(state: State) -> None:
    assert state.leases.take(1, "a", 60)
    state.tasks.put(1, {task: f"{task}.png" for task in range(1, 7)})
    version = add_version(state, "a", rows=6)
    state.tasks.put(1, {task: f"{task}.png" for task in range(7, 11)})
    state.labels.put(1, [labeled(7, "cat"), replace(labeled(8, "cat"), unfinished=True)])
    assert state.tasks.unscored(1, version).tolist() == [8, 9, 10]
    assert state.tasks.unscored(1, version, unfinished=False).tolist() == [9, 10]
    assert state.tasks.unscored(1, version, after=9).tolist() == [8, 10]


# -- what pages ask ----------------------------------------------------------------------------------------------------


def test_kept_counts_are_counted_again_after_any_change(state: State) -> None:
    """Whatever changes the tasks or the labels: the counts are those of the rows, whether they were kept or not."""

    def counts() -> tuple[int, int]:
        found = state.tasks.counts(1)
        return found["tasks"], found["labelled"]

    label = StoredLabel(2, "cat", [[2, "monday"]], 1, 0)
    assert state.leases.take(1, "w", 60)
    state.tasks.put(1, dict.fromkeys(range(1, 6), "a.png"))
    assert counts() == (5, 0)
    for change, expected in (
        (lambda: state.labels.put(1, [label]), (5, 1)),
        (lambda: state.tasks.put(1, {6: "b.png"}), (6, 1)),
        (lambda: state.tasks.remove(1, [1, 6]), (4, 1)),
        (lambda: state.labels.remove(1, [2]), (4, 0)),
    ):
        state.tasks.keep_counts(1, "w", 777, 77)
        assert counts() == (777, 77), "kept counts are believed"
        change()
        assert counts() == expected
    with pytest.raises(LeaseLost):
        state.tasks.keep_counts(1, "another", 777, 77)
    assert counts() == (4, 0)


def test_deleting_a_project_deletes_its_counts(state: State) -> None:
    assert state.leases.take(1, "w", 60)
    state.tasks.keep_counts(1, "w", 777, 77)
    state.projects.remove(1)
    state.projects.connect(1, "1.100", CONFIG, {}, "http://label-studio", "token")
    assert state.tasks.counts(1)["tasks"] == 0


def test_labels_are_counted_by_what_they_say(state: State) -> None:
    said = [(1, "cat"), (2, "dog"), (3, "cat"), (4, None), (5, ["a", "b"])]
    state.tasks.put(1, {task: "a.png" for task, _ in said})
    state.labels.put(1, [StoredLabel(task, label, [], 1, 0) for task, label in said])
    found = state.labels.distinct(1, 10)
    assert found[0] == ("cat", 2) and sorted(map(str, found[1:])) == ["('dog', 1)", "(['a', 'b'], 1)"]
    assert state.labels.distinct(1, 1) == [("cat", 2)]


def test_the_first_tasks_are_those_that_are_served_next(state: State) -> None:
    assert state.leases.take(1, "w", 60)
    version = add_version(state, "w")
    state.labels.put(1, [StoredLabel(10, "cat", [], 1, 0), StoredLabel(8, None, [], 0, 1)])
    assert [one.task_id for one in state.scores.first(version, 3)] == [9, 7, 6]


def test_all_processes_have_the_same_key(state: State, url: str) -> None:
    other = State(url)
    key = state.keys.get("pages")
    assert len(key) == 32 and other.keys.get("pages") == key == state.keys.get("pages")
    assert state.keys.get("other") != key
    other.close()


def test_a_database_of_the_format_before_gets_what_is_new(state: State, url: str) -> None:
    state.projects.update(1, queue_tab=7)
    with state.database.engine.begin() as conn:
        for statement in (
            "ALTER TABLE projects DROP COLUMN queue_tab",
            "ALTER TABLE projects DROP COLUMN preparation",
            "DROP TABLE pool_counts",
            "UPDATE meta SET value = '3' WHERE name = 'schema'",
        ):
            conn.exec_driver_sql(statement)
    state.close()
    again = State(url)
    project = again.projects.get(1)
    assert project is not None and project.queue_tab is None and project.title == "" and project.preparation is None
    assert again.tasks.counts(1)["tasks"] == 0
    again.close()


def test_a_database_of_the_format_before_was_asked_for_no_replay(url: str) -> None:
    """Format 6; the columns that it lacks have their defaults, and work."""
    first = State(url)
    first.projects.connect(1, "1.100", CONFIG, {}, "http://label-studio", "token")
    with first.database.engine.begin() as conn:
        for column in ("replay_seq", "replay_seen", "replaying"):
            conn.exec_driver_sql(f"ALTER TABLE projects DROP COLUMN {column}")
        conn.exec_driver_sql("UPDATE meta SET value = '6' WHERE name = 'schema'")
    first.close()
    second = State(url)
    (project,) = second.projects.all()
    assert not project.replay_requested and project.replaying is None
    assert second.leases.take(1, "a", 60)
    second.replays.ask(1)
    second.replays.ask(1)
    second.replays.note(1, "a", 3, 9, 1.25)
    (project,) = second.projects.all()
    assert (project.replay_seq, project.replaying) == (1, {"done": 3, "total": 9, "seconds": 1.2})
    second.replays.settle(1, "a", 1)
    (project,) = second.projects.all()
    assert not project.replay_requested and project.replaying is None
    with pytest.raises(LeaseLost):
        second.replays.note(1, "b", 1, 9, 1.0)
    second.close()


def test_a_database_of_the_format_before_knows_of_no_control_arm(url: str) -> None:
    """Format 5: nothing that was labeled up to now was drawn by chance."""
    first = State(url)
    first.projects.connect(1, "1.100", CONFIG, {}, "http://label-studio", "token")
    with first.database.engine.begin() as conn:
        conn.exec_driver_sql("ALTER TABLE projects DROP COLUMN control")
        conn.exec_driver_sql("UPDATE meta SET value = '5' WHERE name = 'schema'")
    first.close()
    second = State(url)
    (project,) = second.projects.all()
    assert project.control is None
    assert second.leases.take(1, "a", 60)
    second.projects.update(1, "a", control=[[120.0, 0.1]])
    assert second.projects.all()[0].control == [[120.0, 0.1]]
    second.projects.update(1, "a", control=None)
    assert second.projects.all()[0].control is None
    second.close()


def test_a_database_of_the_format_before_knows_of_no_answers(url: str) -> None:
    """Format 6: who gave which annotation, agreement, and what is asked again come with the next comparison."""
    first = State(url)
    first.projects.connect(1, "1.100", CONFIG, {}, "http://label-studio", "token")
    first.labels.put(1, [StoredLabel(5, "cat", [[50, "monday", 1.0]], 1, 0)])
    with first.database.engine.begin() as conn:
        conn.exec_driver_sql("ALTER TABLE labels DROP COLUMN answers")
        for table in ("agreements", "asked_again"):
            conn.exec_driver_sql(f"DROP TABLE {table}")
        conn.exec_driver_sql("UPDATE meta SET value = '6' WHERE name = 'schema'")
    first.close()
    second = State(url)
    (label,) = second.labels.all(1)
    assert (label.label, label.answers) == ("cat", None)
    assert second.team.agreement(1) is None and second.team.asked(1) == []
    second.labels.put(1, [StoredLabel(5, "cat", [[50, "monday", 1.0]], 1, 0, answers=[[50, 7, "cat", False]])])
    assert second.labels.all(1)[0].answers == [[50, 7, "cat", False]]
    assert second.team.ask(1, 5) and [one.task_id for one in second.team.asked(1)] == [5]
    second.team.forget_answered(1)
    assert [one.task_id for one in second.team.asked(1)] == [5]
    second.labels.put(1, [StoredLabel(5, "cat", [[50, "monday", 1.0]], 2, 0)])
    assert second.team.asked(1) == [] and second.team.ask(1, 5), "that was done, and is asked for again"
    assert [one.annotations for one in second.team.asked(1)] == [2]
    second.projects.remove(1)
    assert second.team.asked(1) == []
    second.close()
