"""Generated images in the state, on SQLite and on PostgreSQL: planned, sent, found, given up."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import sqlalchemy as sa

from backend.errors import LeaseLost
from backend.state import Mark, PlannedImage, State, StoredLabel
from backend.state.schema import SCHEMA_VERSION, meta, metadata

CONFIG = '<View><Image name="i" value="$image"/><Choices name="c" toName="i"><Choice value="a"/></Choices></View>'
OLD, NEW = "gaal-c1-00000000", "gaal-c2-00000000"


@pytest.fixture
def state(url: str) -> Iterator[State]:
    opened = State(url)
    opened.projects.connect(1, "1.100", CONFIG, {}, "http://label-studio", "token")
    assert opened.leases.take(1, "a", 60)
    yield opened
    opened.close()


def planned(batch: str, count: int) -> list[PlannedImage]:
    return [PlannedImage(Mark(batch, 2**40 + place), place, f"d{place}", f"data:{place}", 9) for place in range(count)]


def seeds(state: State, batch: str) -> list[int]:
    return [image.mark.seed - 2**40 for image in state.synthetic.to_send(1, batch)]


def test_what_is_planned_waits_to_be_sent_in_its_order(state: State) -> None:
    state.synthetic.plan(1, "a", planned(OLD, 3)[::-1])
    assert seeds(state, OLD) == [0, 1, 2] and seeds(state, NEW) == []
    assert state.synthetic.to_send(1, OLD) == planned(OLD, 3)
    assert state.synthetic.has_to_send(1) and state.synthetic.has_to_send(1, OLD)
    assert not state.synthetic.has_to_send(1, NEW) and not state.synthetic.has_to_send(2)
    state.synthetic.mark_sent(1, "a", OLD, 5.0)
    assert [image.sent_at for image in state.synthetic.to_send(1, OLD)] == [5.0] * 3
    state.synthetic.mark_sent(1, "a", OLD, None)
    assert state.synthetic.to_send(1, OLD) == planned(OLD, 3)


def test_who_lost_the_lease_plans_and_sends_nothing(state: State) -> None:
    for change in (
        lambda: state.synthetic.plan(1, "b", planned(OLD, 1)),
        lambda: state.synthetic.mark_sent(1, "b", OLD, 1.0),
        lambda: state.synthetic.give_up(1, "b"),
    ):
        with pytest.raises(LeaseLost):
            change()
    assert not state.synthetic.has_to_send(1)


def test_what_was_found_is_not_sent_again_and_a_copy_is_known_as_one(state: State) -> None:
    state.synthetic.plan(1, "a", planned(OLD, 3))
    first, second, _ = (image.mark for image in planned(OLD, 3))
    stranger = Mark("gaal-c9-ffffffff", 3)
    state.synthetic.note(1, {20: first, 21: second, 22: stranger})
    state.synthetic.note(1, {20: first, 25: first})
    assert seeds(state, OLD) == [2]
    found = {task.task_id: task for task in state.synthetic.tasks(1)}
    assert sorted(found) == [20, 21, 22, 25] == state.synthetic.ids(1).tolist()
    assert found[20].planned is not None and found[20].planned.task_id == 20
    assert found[25].planned == found[20].planned and found[22].planned is None
    assert state.synthetic.among(1, [19, 20, 22]) == {20, 22}


def test_what_was_given_up_is_still_known_if_it_was_sent(state: State) -> None:
    state.synthetic.plan(1, "a", planned(OLD, 2))
    state.synthetic.mark_sent(1, "a", OLD, 5.0)
    state.synthetic.plan(1, "a", planned(NEW, 2))
    state.synthetic.give_up(1, "a", keep=NEW)
    assert not state.synthetic.has_to_send(1, OLD) and seeds(state, NEW) == [0, 1]
    state.synthetic.give_up(1, "a")
    assert not state.synthetic.has_to_send(1)
    state.synthetic.note(1, {30: planned(OLD, 1)[0].mark, 31: planned(NEW, 1)[0].mark})
    late, unsent = state.synthetic.tasks(1)
    assert late.planned is not None and late.planned.digest == "d0"
    assert unsent.planned is None  # it was never sent: somebody else made that task


def test_tasks_are_served_until_they_are_answered(state: State) -> None:
    marks = [image.mark for image in planned(OLD, 4)]
    state.synthetic.note(1, dict(zip(range(20, 24), marks, strict=True)))
    state.tasks.put(1, dict.fromkeys([1, *range(20, 24)], "x"))
    state.labels.put(
        1,
        [
            StoredLabel(21, "a", [(1, "now")], 1, 0),
            StoredLabel(22, None, [(2, "now")], 0, 1),
            StoredLabel(23, "a", [(3, "now")], 1, 0, unfinished=True),
        ],
    )
    served = {task.task_id: (task.served, task.annotations, task.labeled) for task in state.synthetic.tasks(1)}
    assert served == {20: (True, 0, False), 21: (False, 1, True), 22: (False, 1, False), 23: (True, 1, True)}
    assert state.synthetic.counts(1) == {"labeled": 2, "skipped": 1, "waiting": 1}
    counts = state.tasks.counts(1)
    assert (counts["tasks"], counts["labelled"]) == (1, 0)  # they are no part of the pool


def test_tasks_with_a_generated_image_are_not_missing_from_an_order(state: State) -> None:
    state.tasks.put(1, {1: "x", 2: "x", 3: "x"})
    state.synthetic.note(1, {2: Mark(OLD, 1)})
    values = {"checkpoint": None, "classes": [], "metrics": {}, "class_index": None, "confidence": None}
    scored = {"task_ids": np.array([1]), "priority_score": np.array([0.25])}
    version = state.versions.add(1, "a", cycle=1, name=OLD, sampler="gaal", **values, **scored)  # type: ignore[arg-type]
    assert state.tasks.unscored(1, version).tolist() == [3]
    assert state.scores.lowest(version) == 0.25
    state.tasks.remove(1, [2])
    assert state.synthetic.ids(1).tolist() == []


def test_a_database_of_the_format_before_gets_the_tables(url: str) -> None:
    first = State(url)
    with first.database.engine.begin() as conn:
        for name in ("planned_images", "synthetic_tasks"):
            metadata.tables[name].drop(conn)
        conn.execute(meta.update().where(meta.c.name == "schema").values(value="3"))
    first.close()
    second = State(url)
    assert second.synthetic.tasks(1) == [] and not second.synthetic.has_to_send(1)
    with second.database.reader.connect() as conn:
        assert conn.scalar(sa.select(meta.c.value).where(meta.c.name == "schema")) == str(SCHEMA_VERSION)
    second.close()
