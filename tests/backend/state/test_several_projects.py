"""What is asked of several projects in one query is what each of them is asked alone, on SQLite and on PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from backend.state import Mark, State, StoredLabel
from backend.state.database import READ_CHUNK
from tests.backend.small_label_studio import CONFIG

ONE, TWO, NONE = 1, 2, 3


@pytest.fixture
def state(url: str) -> Iterator[State]:
    """Three connected projects, the last one with nothing; in the first, what would count for the second as well if
    projects were mixed up."""
    opened = State(url)
    for number in (ONE, TWO, NONE):
        opened.projects.connect(number, f"{number}.100", CONFIG, {}, "http://label-studio", "token")
        assert opened.leases.take(number, "w", 60)
    for number, cycles in ((ONE, 5), (TWO, 2)):
        opened.tasks.put(number, dict.fromkeys(range(1, 5 + number), "a.png"))
        opened.labels.put(number, [StoredLabel(2, "cat", [[2, "monday"]], 1, 0)])
        for cycle in range(cycles):
            row = opened.cycles.start(number, "w", cycle, "margin", 0)
            opened.cycles.finish(row, number, "w", status="done", metrics={"labels": 10 * cycle + number})
            add_version(opened, number, cycle)
    opened.synthetic.note(ONE, {3: Mark("batch", 1)})
    opened.tasks.set_broken(TWO, [(4, "a.png", "not an image")], 600)
    yield opened
    opened.close()


def add_version(state: State, number: int, cycle: int) -> None:
    version = state.versions.add(
        number,
        "w",
        cycle=cycle,
        name=f"margin-{cycle}",
        sampler="margin",
        checkpoint=None,
        classes=["cat"],
        metrics={"labels": cycle},
        task_ids=np.arange(1, 3 + number),
        priority_score=np.linspace(0.1, 0.9, 2 + number),
        class_index=None,
        confidence=None,
    )
    state.versions.switch_to(version, "w")


def test_the_last_cycles_of_each_project_are_its_own_and_newest_first(state: State) -> None:
    found = state.cycles.recent_of([ONE, TWO, NONE], 3)
    numbers = {project: [cycle.number for cycle in cycles] for project, cycles in found.items()}
    assert numbers == {ONE: [4, 3, 2], TWO: [1, 0], NONE: []}
    assert found[TWO][0].metrics == {"labels": 12} and found == {one: state.cycles.recent(one, 3) for one in found}


def test_the_counts_of_each_project_leave_out_its_own_generated_images_alone(state: State) -> None:
    """Task 3 is generated in the first project, and an image like others in the second."""
    found = state.tasks.counts_of([ONE, TWO, NONE])
    assert found[ONE] == {"tasks": 4, "labelled": 1, "scored": 3, "broken": 0, "waiting": 0}
    assert found[TWO] == {"tasks": 6, "labelled": 1, "scored": 4, "broken": 1, "waiting": 0}
    assert set(found[NONE].values()) == {0}
    assert found == {one: state.tasks.counts(one) for one in found}


def test_the_versions_of_each_project_are_its_own_and_newest_first(state: State) -> None:
    state.versions.update(state.versions.of_project(ONE)[-1], "w", status="removed")
    found = state.versions.of_projects([ONE, TWO, NONE], removed=False)
    assert {project: [one.cycle for one in versions] for project, versions in found.items()} == {
        ONE: [4, 3, 2, 1],
        TWO: [1, 0],
        NONE: [],
    }
    assert len(state.versions.of_projects([ONE])[ONE]) == 5
    assert state.versions.names_by_cycle(ONE, 2) == {4: "margin-4", 3: "margin-3"}


def test_more_projects_than_a_query_may_name_are_asked_about_in_turn(state: State) -> None:
    many = [*range(1, READ_CHUNK + 2), TWO + READ_CHUNK]
    assert [cycle.number for cycle in state.cycles.recent_of(many, 3)[TWO]] == [1, 0]
    assert state.tasks.counts_of(many[::-1])[TWO]["tasks"] == 6
    assert len(state.versions.of_projects(many[::-1])[TWO]) == 2


def test_as_many_tasks_as_anyone_asks_for_are_looked_up_at_once(state: State) -> None:
    asked = [*range(40_000, 0, -1)]
    assert state.labels.of(ONE, asked) == {2: "cat"} and state.labels.of(ONE, []) == {}
    assert list(state.tasks.sources(TWO, asked)) == [6, 5, 4, 3, 2, 1] and state.tasks.sources(TWO, []) == {}


def test_notes_are_read_together_in_the_order_that_was_asked_for(state: State) -> None:
    state.notes.put("b", "second")
    assert state.notes.several(["a", "b"]) == ["", "second"]
