"""What is kept of tasks that are asked again, and of pre-annotations, in a database of the format before too."""

from __future__ import annotations

import sqlalchemy as sa

from backend.state import Asked, State, StoredLabel
from backend.state.schema import SCHEMA_VERSION, meta

ADDED = {
    "asked_again": ("overlap", "finished", "opened_for", "withdrawn"),
    "labels": ("preannotated",),
    "projects": ("acceptance",),
}
"""Table → its columns that format 7 did not have."""


def filled(url: str) -> State:
    state = State(url)
    state.projects.connect(1, "1.5", "<View/>", {}, "http://host", "")
    state.tasks.put(1, {1: "a", 2: "b"})
    state.labels.put(1, [StoredLabel(task, "cat", [[task, "now"]], 1, 0) for task in (1, 2)])
    state.team.ask(1, 1)
    return state


def test_a_database_of_the_format_before_keeps_what_was_asked_again(url: str) -> None:
    first = filled(url)
    with first.database.engine.begin() as conn:
        for table, columns in ADDED.items():
            for column in columns:
                conn.exec_driver_sql(f"ALTER TABLE {table} DROP COLUMN {column}")
        conn.execute(meta.update().where(meta.c.name == "schema").values(value="7"))
    first.close()
    second = State(url)
    assert second.team.asked(1) == [Asked(1, 1, None, None, None, None)] and second.team.withdrawn(1) == []
    assert second.labels.preannotated(1, [1, 2]) == {}
    project = second.projects.get(1)
    assert project is not None and project.acceptance is None
    with second.database.reader.connect() as conn:
        assert conn.scalar(sa.select(meta.c.value).where(meta.c.name == "schema")) == str(SCHEMA_VERSION)
    second.close()


def test_what_was_opened_is_withdrawn_and_what_was_not_is_gone(url: str) -> None:
    state = filled(url)
    state.team.ask(1, 2)
    assert state.team.note_opening(1, 2, 2, (1, True))
    state.team.withdraw(1, 1)
    state.team.withdraw(1, 2)
    assert state.team.asked(1) == []
    assert [(one.task_id, one.overlap, one.finished, one.opened_for) for one in state.team.withdrawn(1)] == [
        (2, 1, True, 2)
    ]
    assert not state.team.note_opening(1, 2, 3), "it is not opened once more"
    state.team.forget_answered(1)
    assert [one.task_id for one in state.team.withdrawn(1)] == [2], "it is still to be set back"
    state.team.ask(1, 2)
    state.team.forget_withdrawn(1, 2)
    assert [one.task_id for one in state.team.asked(1)] == [2], "asked again in the meantime"
    state.close()


def test_what_was_filled_in_is_kept_with_the_label(url: str) -> None:
    state = filled(url)
    kept = [7, "margin-c1", ["cat", "dog"]]
    state.labels.put(1, [StoredLabel(2, ["cat"], [[7, "now"]], 1, 0, preannotated=kept)])
    assert state.labels.preannotated(1, [1, 2, 3]) == {2: kept}
    state.labels.put(1, [StoredLabel(2, ["cat"], [[8, "now"]], 1, 0)])
    assert state.labels.preannotated(1, [1, 2]) == {}
    state.close()
