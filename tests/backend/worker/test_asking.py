"""Tasks that are asked again: opened once, in front of every order, until somebody else has labeled them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from backend.errors import BackendError
from backend.state import Version
from backend.worker import asking
from backend.worker.job import Job
from backend.worker.sync import read_truth
from tests.backend.worker.model_studio import CLASSES, ModelStudio
from tests.backend.worker.test_sync import OWNER, job_on


@pytest.fixture
def studio() -> ModelStudio:
    """Ann has labeled tasks 1 to 3 of 8."""
    made = ModelStudio()
    for task in made.import_tasks(8)[:3]:
        made.annotate(task, "cat", by=1)
    made.now += 100
    return made


@pytest.fixture
def job(studio: ModelStudio, tmp_path: Path) -> Job:
    made = job_on(studio, tmp_path)
    read_truth(made)
    return made.reread()


def version_of(job: Job, tasks: Sequence[int], name: str = "margin-c1") -> Version:
    version = job.state.versions.add(
        1,
        OWNER,
        cycle=1,
        name=name,
        sampler="margin",
        checkpoint=None,
        classes=CLASSES,
        metrics={},
        task_ids=np.array(tasks),
        priority_score=np.linspace(0.2, 0.9, len(tasks)),
        class_index=np.arange(len(tasks)) % 2,
        confidence=np.linspace(0.5, 0.6, len(tasks)),
    )
    job.state.versions.switch_to(version, OWNER)
    return version


def test_a_task_is_opened_for_one_more_person_than_it_has(studio: ModelStudio, job: Job) -> None:
    studio.annotate(1, "dog", by=2)
    studio.annotate(1, "dog", by=2)
    assert job.state.team.ask(1, 1) and job.state.team.ask(1, 1)
    assert not job.state.team.ask(1, 8), "nobody has labeled it yet"
    for _ in range(2):
        asking.reopen(job)
    assert studio.reopened == [(1, 3)] and job.state.labels.unfinished(1) == {1}


def test_in_a_project_with_a_larger_overlap_it_is_not_made_smaller(studio: ModelStudio, job: Job) -> None:
    job.state.projects.update(1, overlap=4)
    job.state.team.ask(1, 1)
    asking.reopen(job.reread())
    assert studio.reopened == [(1, 4)]


def test_it_comes_first_in_the_order_in_use_with_its_prediction_and_in_the_next(studio: ModelStudio, job: Job) -> None:
    version = version_of(job, [5, 1, 6, 2])
    job.state.scores.mark_written(version, OWNER, [5, 1, 6, 2])
    studio.predicted = [5, 1, 6, 2]
    before = {row.task_id: row for row in job.state.scores.all(version)}
    job.state.team.ask(1, 2)
    job.state.team.ask(1, 1)
    asking.reopen(job)
    assert asking.put_in_front(job, version)
    found = job.state.scores.all(version)
    assert [row.task_id for row in found] == [2, 1, 5, 6], "in the order in which they were asked for"
    told = [(row.label, row.confidence) for row in found]
    assert told == [(before[row.task_id].label, before[row.task_id].confidence) for row in found]
    assert studio.predicted == [5, 6], "a second prediction beside the first would do no good"
    assert [row.task_id for row in job.state.scores.to_write(version, None)] == [2, 1]
    assert not asking.put_in_front(job, version), "once is enough"
    after = version_of(job, [7, 1, 2], "margin-c2")
    assert asking.put_in_front(job, after) and job.state.scores.order(after).tolist() == [2, 1, 7]


def test_what_has_no_place_in_the_order_yet_waits_for_one(job: Job) -> None:
    job.state.team.ask(1, 1)
    assert not asking.put_in_front(job, version_of(job, [5, 6]))
    assert [one.placed_in for one in job.state.team.asked(1)] == [None]


def test_another_annotation_ends_it_and_it_can_be_asked_for_again(studio: ModelStudio, job: Job) -> None:
    job.state.team.ask(1, 1)
    assert read_truth(job).unfinished.tolist() == [], "Label Studio counts it as finished still"
    studio.annotate(1, "dog", by=2)
    studio.now += 100
    read_truth(job.reread())
    assert job.state.team.asked(1) == []
    job.state.team.ask(1, 1)
    asking.reopen(job)
    assert studio.reopened == [(1, 3)]


def test_it_is_forgotten_with_its_task_or_its_annotations(studio: ModelStudio, job: Job) -> None:
    for task in (1, 2, 3):
        job.state.team.ask(1, task)
    studio.delete_task(1)
    studio.delete_annotation(2, next(iter(studio.contents[2].annotations)))
    studio.now += 100
    read_truth(job.reread(), whole=True)
    assert [one.task_id for one in job.state.team.asked(1)] == [3]


def test_where_label_studio_refuses_the_owner_is_told_and_nothing_is_tried_again(
    studio: ModelStudio, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(task: int, people: int) -> None:
        raise BackendError("Label Studio does not allow that")

    monkeypatch.setattr(studio, "reopen", refuse)
    job.state.team.ask(1, 1)
    asking.reopen(job)
    note = job.reread().project.queue_note
    assert note == "Label Studio does not serve task 1 again: Label Studio does not allow that"
    assert job.state.team.asked(1) == []


def opened(studio: ModelStudio, task: int = 1) -> tuple[int, bool]:
    """(overlap, whether it counts as finished) of a task in Label Studio."""
    return studio.contents[task].overlap, studio.contents[task].finished


class Killed(BaseException):
    """As of a process that is killed."""


def killed_at(monkeypatch: pytest.MonkeyPatch, place: object, name: str, *, after: bool = False) -> None:
    """The next call ends the process, before or after it is done; those that follow are as ever."""
    real = getattr(place, name)

    def kill(*args: object, **options: object) -> object:
        monkeypatch.undo()
        if after:
            real(*args, **options)
        raise Killed

    monkeypatch.setattr(place, name, kill)


def test_what_was_asked_by_mistake_is_taken_back_and_served_as_before(studio: ModelStudio, job: Job) -> None:
    job.state.team.ask(1, 1)
    asking.reopen(job)
    assert opened(studio) == (2, False)
    job.state.team.withdraw(1, 1)
    assert job.state.team.asked(1) == [], "the page says so at once"
    asking.take_back(job)
    assert opened(studio) == (1, True) and job.state.labels.unfinished(1) == frozenset()
    assert job.state.team.withdrawn(1) == []
    assert job.state.team.ask(1, 1), "and it can be asked again"
    asking.reopen(job)
    assert opened(studio) == (2, False)


def test_what_was_never_opened_is_only_forgotten(studio: ModelStudio, job: Job) -> None:
    job.state.team.ask(1, 1)
    job.state.team.withdraw(1, 1)
    asking.take_back(job)
    asking.reopen(job)
    assert studio.reopened == [] and opened(studio) == (1, True)


def test_a_task_that_lost_its_annotation_meanwhile_is_open_again(studio: ModelStudio, job: Job) -> None:
    job.state.team.ask(1, 1)
    asking.reopen(job)
    studio.delete_annotation(1, next(iter(studio.contents[1].annotations)))
    job.state.team.withdraw(1, 1)
    studio.now += 100
    read_truth(job.reread(), whole=True)
    asking.take_back(job)
    assert opened(studio) == (1, False)


def test_an_overlap_that_the_owner_changed_since_stays(studio: ModelStudio, job: Job) -> None:
    job.state.team.ask(1, 1)
    asking.reopen(job)
    studio.serve(1, 5, finished=False)
    job.state.team.withdraw(1, 1)
    asking.take_back(job)
    assert opened(studio) == (5, False)


def test_a_task_that_is_gone_is_forgotten(studio: ModelStudio, job: Job) -> None:
    job.state.team.ask(1, 1)
    asking.reopen(job)
    studio.delete_task(1)
    job.state.team.withdraw(1, 1)
    asking.take_back(job)
    assert job.state.team.withdrawn(1) == []


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("step", ["note_opening", "reopen", "noted"])
def test_a_kill_while_it_is_opened_loses_nothing_of_how_it_was(
    step: str, after: bool, studio: ModelStudio, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = {"note_opening": job.state.team, "reopen": studio, "noted": job.state.labels}[step]
    killed_at(monkeypatch, place, "reopen" if step == "noted" else step, after=after)
    job.state.team.ask(1, 1)
    with pytest.raises(Killed):
        asking.reopen(job)
    asking.reopen(job)
    assert opened(studio) == (2, False) and job.state.labels.unfinished(1) == {1}
    job.state.team.withdraw(1, 1)
    asking.take_back(job)
    assert opened(studio) == (1, True)


@pytest.mark.parametrize("again", [False, True], ids=["", "asked-again-meanwhile"])
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("step", ["noted", "serve", "forget_withdrawn"])
def test_a_kill_while_it_is_taken_back_leaves_nothing_half_done(
    step: str, after: bool, again: bool, studio: ModelStudio, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever asks again in between has it served again."""
    job.state.team.ask(1, 1)
    asking.reopen(job)
    job.state.team.withdraw(1, 1)
    place = {"noted": job.state.labels, "serve": studio, "forget_withdrawn": job.state.team}[step]
    killed_at(monkeypatch, place, "reopen" if step == "noted" else step, after=after)
    with pytest.raises(Killed):
        asking.take_back(job)
    if again:
        job.state.team.ask(1, 1)
    asking.take_back(job)
    asking.reopen(job)
    assert opened(studio) == ((2, False) if again else (1, True))
    assert job.state.labels.unfinished(1) == ({1} if again else frozenset())
    assert job.state.team.withdrawn(1) == []


def test_an_order_of_a_withdrawn_task_is_not_changed_any_more(studio: ModelStudio, job: Job) -> None:
    job.state.team.ask(1, 1)
    asking.reopen(job)
    job.state.team.withdraw(1, 1)
    assert not asking.put_in_front(job, version_of(job, [5, 1, 6]))
    studio.now += 100
    assert read_truth(job.reread()).unfinished.tolist() == []
