"""Reading only what changed gives what reading everything gives, whatever people do in Label Studio."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from backend.labelstudio.client import LabelStudio
from backend.settings.core import Settings
from backend.state import State, StoredLabel
from backend.tasks.records import Label
from backend.worker import sample, sync
from backend.worker.job import Job
from backend.worker.sync import read_truth
from backend.worker.truth import Truth
from tests.backend.worker.model_studio import CLASSES, CONFIG, ModelStudio

OWNER = "reader"


def job_on(studio: ModelStudio, folder: Path, **changes: Any) -> Job:
    state = State(f"sqlite:///{folder / 'state.sqlite3'}")
    state.projects.connect(1, "1.5", CONFIG, {}, "", "")
    assert state.leases.take(1, OWNER, 10_000)
    project = state.projects.get(1)
    assert project is not None
    gateway = cast(LabelStudio, studio)
    own = Settings(model_dir=str(folder), **changes)
    return Job(project, own, state, gateway, OWNER, torch.device("cpu"), lambda: None)


def labels_in(studio: ModelStudio, truth: Truth) -> dict[int, Label]:
    """What the annotations in ``studio`` say."""
    return {
        task: label
        for task, one in studio.contents.items()
        if (label := truth.kind.label_of(list(one.annotations.values()), "")) is not None
    }


def assert_is_truth(truth: Truth, studio: ModelStudio, state: State) -> None:
    """``truth`` and the state say what is in ``studio``."""
    expected = labels_in(studio, truth)
    assert truth.labels == expected
    assert truth.tasks.tolist() == sorted(studio.contents)
    assert truth.unlabeled.tolist() == sorted(studio.contents.keys() - expected.keys())
    counted = [pair for one in studio.contents.values() for pair in truth.kind.counted(list(one.annotations.values()))]
    assert truth.annotations == dict(counted)
    told = {task: sorted(one.annotation for one in answers) for task, answers in truth.answers.items()}
    assert told == {
        task: sorted(number for number, _ in truth.kind.counted(list(one.annotations.values())))
        for task, one in studio.contents.items()
        if task in expected
    }
    assert state.tasks.sources_between(1, 0, None) == {t: one.data["image"] for t, one in studio.contents.items()}
    every = [one["was_cancelled"] for task in studio.contents.values() for one in task.annotations.values()]
    assert state.labels.totals(1) == (len(every) - sum(every), sum(every))
    assert sum(state.labels.ignored(1).values()) == len(every) - len(counted)


def test_how_long_a_label_takes_is_the_median_of_what_was_measured(tmp_path: Path) -> None:
    """10, 20 and 3,000 s, over lunch; imports have none, and what is no positive number is none."""
    studio = ModelStudio()
    job = job_on(studio, tmp_path)
    tasks = studio.import_tasks(7)
    assert read_truth(job).label_seconds is None
    for task, spent in zip(tasks, (10.04, 20, 3_000.0, None, 0, "long", float("nan")), strict=True):
        number = studio.annotate(task, CLASSES[0])
        studio.contents[task].annotations[number]["lead_time"] = spent
    assert read_truth(job).label_seconds == 20.0
    assert read_truth(job, whole=True).label_seconds == 20.0
    assert {len(one) for label in job.state.labels.all(1) for one in label.counted} == {3}
    job.state.close()


def test_what_earlier_versions_stored_without_seconds_is_read(tmp_path: Path) -> None:
    assert sync.label_seconds([StoredLabel(1, "cat", [[7, "monday"]], 1, 0)]) is None
    assert sync.label_seconds([StoredLabel(1, "cat", [[7, "monday"], [8, "monday", 4.0]], 2, 0)]) == 4.0


class Reading(RuleBasedStateMachine):
    """Anything that people do, in any order, with comparisons in between."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.studio = ModelStudio()
        self.job = job_on(self.studio, self.folder)
        self.hidden = False
        """Something changed that neither a stamp nor a count shows."""

    def teardown(self) -> None:
        self.job.state.close()
        shutil.rmtree(self.folder)

    def any_task(self, data: st.DataObject) -> int:
        return data.draw(st.sampled_from(sorted(self.studio.contents)))

    def any_annotation(self, data: st.DataObject) -> tuple[int, int] | None:
        pairs = [(task, number) for task, one in sorted(self.studio.contents.items()) for number in one.annotations]
        return data.draw(st.sampled_from(pairs)) if pairs else None

    @initialize(count=st.integers(0, 5))
    def connect(self, count: int) -> None:
        self.studio.import_tasks(count)
        read_truth(self.job)

    @rule(seconds=st.sampled_from([0.01, 1.0, 59.0, 3000.0]))
    def time_passes(self, seconds: float) -> None:
        self.studio.now += seconds

    @rule(count=st.integers(1, 3), late=st.sampled_from([0.0, 30.0]))
    def import_tasks(self, count: int, late: float) -> None:
        self.studio.import_tasks(count, late=late)

    @precondition(lambda self: self.studio.contents)
    @rule(data=st.data(), choice=st.sampled_from(CLASSES), skipped=st.booleans(), late=st.sampled_from([0.0, 50.0]))
    def annotate(self, data: st.DataObject, choice: str, skipped: bool, late: float) -> None:
        self.studio.annotate(self.any_task(data), choice, skipped=skipped, late=late)

    @precondition(lambda self: self.studio.contents)
    @rule(data=st.data(), choice=st.sampled_from(CLASSES))
    def annotate_uncounted(self, data: st.DataObject, choice: str) -> None:
        self.studio.annotate_uncounted(self.any_task(data), choice)

    @rule(data=st.data(), choice=st.sampled_from(CLASSES), skipped=st.booleans())
    def update(self, data: st.DataObject, choice: str, skipped: bool) -> None:
        if found := self.any_annotation(data):
            self.studio.update(*found, choice, skipped=skipped)

    @rule(data=st.data(), choice=st.sampled_from(CLASSES))
    def update_without_a_trace(self, data: st.DataObject, choice: str) -> None:
        if found := self.any_annotation(data):
            skipped = self.studio.contents[found[0]].annotations[found[1]]["was_cancelled"]
            self.studio.update(*found, choice, skipped=skipped, traced=False)
            self.hidden = True

    @rule(data=st.data(), traced=st.booleans())
    def delete_annotation(self, data: st.DataObject, traced: bool) -> None:
        if found := self.any_annotation(data):
            self.studio.delete_annotation(*found, traced=traced)
            self.hidden |= not traced  # one that is made before the next look makes up for it in the counts

    @precondition(lambda self: self.studio.contents)
    @rule(data=st.data())
    def delete_task(self, data: st.DataObject) -> None:
        self.studio.delete_task(self.any_task(data))

    @precondition(lambda self: self.studio.contents)
    @rule(data=st.data())
    def delete_and_import_again(self, data: st.DataObject) -> None:
        """The same image under a new number: the count of tasks does not change."""
        self.studio.delete_task(self.any_task(data))
        self.studio.import_tasks(1)

    @precondition(lambda self: self.studio.contents)
    @rule(data=st.data(), name=st.sampled_from("ab"))
    def move_image(self, data: st.DataObject, name: str) -> None:
        self.studio.change_data(self.any_task(data), f"http://host/{name}.png")

    @precondition(lambda self: not self.hidden)
    @rule()
    def compare(self) -> None:
        assert_is_truth(read_truth(self.job), self.studio, self.job.state)

    @precondition(lambda self: not self.hidden)
    @rule()
    def compare_labels(self) -> None:
        """Quickly. No two changes of a task fall on the same microsecond, as they would with this clock."""
        self.studio.now += 0.01
        found = read_truth(self.job, quick=True)
        assert found.labels == labels_in(self.studio, found)
        every = [list(one.annotations.values()) for one in self.studio.contents.values()]
        assert found.annotations == {number: stamp for one in every for number, stamp in found.kind.counted(one)}

    @rule()
    def compare_with_everything(self) -> None:
        assert_is_truth(read_truth(self.job, whole=True), self.studio, self.job.state)
        self.hidden = False

    @invariant()
    def flags_belong_to_labels(self) -> None:
        ids, labeled = self.job.state.tasks.ids(1)
        stored = {one.task_id for one in self.job.state.labels.all(1) if one.label is not None}
        assert set(ids[labeled].tolist()) == stored & set(ids.tolist())


def test_what_changed_is_as_good_as_everything() -> None:
    run_state_machine_as_test(
        Reading,
        settings=settings(
            max_examples=25,
            stateful_step_count=25,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
        ),
    )


@pytest.fixture
def studio() -> ModelStudio:
    made = ModelStudio()
    for task in made.import_tasks(40)[:10]:
        made.annotate(task, "cat")
    return made


def test_everything_is_read_once_and_then_no_more(studio: ModelStudio, tmp_path: Path) -> None:
    job = job_on(studio, tmp_path)
    for _ in range(5):
        studio.now += 100.0
        studio.annotate(40, "dog")
        read_truth(job)
    assert studio.read_whole == 1


def test_a_quick_look_reads_each_annotation_once_and_leaves_the_rest_to_the_next(
    studio: ModelStudio, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = job_on(studio, tmp_path)
    read_truth(job)
    read: list[list[int]] = []
    ask = studio.annotations_of
    monkeypatch.setattr(
        studio, "annotations_of", lambda project, tasks, **more: read.append(list(tasks)) or ask(project, tasks, **more)
    )
    for task in (20, 21):
        studio.now += 10.0
        studio.annotate(task, "dog")
        studio.change_data(30, f"http://host/{task}.png")
        assert task in read_truth(job, quick=True).labels
    assert [task for tasks in read for task in tasks if task >= 20] == [20, 21], (
        "each once, though both are of the last minute"
    )
    assert job.state.tasks.sources(1, [30]) != {30: "http://host/21.png"}
    read_truth(job)
    assert job.state.tasks.sources(1, [30]) == {30: "http://host/21.png"}


def test_where_more_was_annotated_than_a_quick_look_sees_all_of_it_is_read(
    studio: ModelStudio, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also what the counts do not show."""
    job = job_on(studio, tmp_path)
    read_truth(job)
    monkeypatch.setattr(studio, "annotated_since", lambda project, since: None)
    studio.now += 10.0
    studio.update(1, min(studio.contents[1].annotations), "dog", skipped=False)
    truth = read_truth(job, quick=True)
    assert truth.labels == labels_in(studio, truth)


@pytest.mark.parametrize("what", ["annotation", "task"])
def test_a_quick_look_notices_what_is_gone(studio: ModelStudio, tmp_path: Path, what: str) -> None:
    """Although as many annotations are there as before."""
    job = job_on(studio, tmp_path)
    read_truth(job)
    studio.now += 1000.0
    read_truth(job)
    if what == "annotation":
        studio.delete_annotation(1, min(studio.contents[1].annotations))
    else:
        studio.delete_task(1)
        studio.import_tasks(1)
    studio.annotate(max(studio.contents), "dog")
    truth = read_truth(job, quick=True)
    assert 1 not in truth.labels and max(studio.contents) in truth.labels


def test_a_deletion_that_leaves_no_stamp_shows_in_the_counts(studio: ModelStudio, tmp_path: Path) -> None:
    job = job_on(studio, tmp_path)
    read_truth(job)
    studio.now += 1000.0
    read_truth(job)  # from now on the stamps of the first tasks are of the past
    studio.delete_annotation(1, min(studio.contents[1].annotations), traced=False)
    truth = read_truth(job)
    assert 1 not in truth.labels and studio.read_whole == 2


def test_counts_that_never_fit_make_nobody_read_everything_each_time(
    studio: ModelStudio, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = job_on(studio, tmp_path)
    tell = studio.project
    monkeypatch.setattr(studio, "project", lambda number: replace(tell(number), submitted=tell(number).submitted + 3))
    for _ in range(5):
        studio.now += 1000.0
        studio.annotate(40, "dog")
        read_truth(job)
    assert studio.read_whole == 2
    studio.delete_annotation(1, min(studio.contents[1].annotations), traced=False)
    assert 1 not in read_truth(job).labels and studio.read_whole == 3


def test_what_is_deleted_while_everything_is_read_is_found_by_the_next_comparison(
    studio: ModelStudio, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tasks were listed before, and counted after."""
    job = job_on(studio, tmp_path)
    read_truth(job)
    studio.delete_task(1)
    annotated = studio.annotated

    def after_another_deletion(*args: Any, **options: Any) -> Any:
        monkeypatch.undo()
        studio.delete_task(2)
        return annotated(*args, **options)

    monkeypatch.setattr(studio, "annotated", after_another_deletion)
    read_truth(job)
    assert {1, 2}.isdisjoint(studio.contents)
    assert_is_truth(read_truth(job), studio, job.state)
    assert studio.read_whole == 3


def test_people_who_go_on_annotating_make_nobody_read_everything(
    studio: ModelStudio, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = job_on(studio, tmp_path)
    read_truth(job)
    ask = studio.changed

    def while_they_annotate(*args: Any) -> Any:
        found = list(ask(*args))
        studio.annotate(30, "dog")  # after the read, before the counts are looked at again
        return iter(found)

    monkeypatch.setattr(studio, "changed", while_they_annotate)
    read_truth(job)
    assert studio.read_whole == 1


@pytest.mark.parametrize("what", ["label config", "setting", "time", "format"])
def test_what_annotations_mean_may_change_and_then_all_are_read(
    studio: ModelStudio, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    job = job_on(studio, tmp_path)
    read_truth(job)
    if what == "label config":
        studio.config = CONFIG.replace('"cat"', '"lynx"')
    elif what == "setting":
        job = job_on(studio, tmp_path, budget=7)
    elif what == "time":
        monkeypatch.setattr(sync, "WHOLE_SECONDS", 0.0)
    else:
        monkeypatch.setattr(sync, "FORMAT", sync.FORMAT + 1)
    assert len(read_truth(job).labels) == (0 if what == "label config" else 10)
    assert studio.read_whole == 2


def test_a_clock_that_is_wrong_by_an_hour_misses_nothing(studio: ModelStudio, tmp_path: Path) -> None:
    studio.now -= 3600.0
    job = job_on(studio, tmp_path)
    read_truth(job)
    studio.now += 10.0
    studio.annotate(30, "dog")
    assert read_truth(job).labels[30] == "dog" and studio.read_whole == 1


def test_a_hint_that_comes_after_the_settings_of_a_job_were_read_is_left_to_the_next(
    studio: ModelStudio, tmp_path: Path
) -> None:
    """It may be about these settings."""
    job = job_on(studio, tmp_path)
    assert job.state.hints.add(1, config=True)
    assert read_truth(job).refresh_seq == job.project.refresh_seq < job.reread().project.refresh_seq


def test_a_changed_address_is_remembered_until_its_image_was_looked_at(studio: ModelStudio, tmp_path: Path) -> None:
    job = job_on(studio, tmp_path)
    read_truth(job)
    assert job.state.tasks.changed_images(1) == []
    studio.now += 1.0
    studio.change_data(7, "http://host/other.png")
    read_truth(job)
    assert job.state.tasks.changed_images(1) == [7]
    job.state.tasks.clear_changed_images(1, [7])
    read_truth(job)
    assert job.state.tasks.changed_images(1) == []


def test_of_a_large_project_a_sample_is_read_first(
    studio: ModelStudio, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = job_on(studio, tmp_path)
    assert sample.read_sample(job) is None  # small: it is read whole
    monkeypatch.setattr(sample, "SAMPLED_PROJECT", 40)
    monkeypatch.setattr(sample, "FEWEST_SAMPLED", 12)
    monkeypatch.setattr(sample, "SAMPLE_SECONDS", 0.0)
    first = sample.read_sample(job)
    assert first is not None and len(first.tasks) == 12 and studio.read_whole == 0
    assert min(first.tasks) > 10  # none of those with annotations
    assert first.tasks.tolist() != list(range(11, 23))  # from everywhere
    truth = read_truth(job)
    assert studio.read_whole == 1 and len(truth.tasks) == 40 and len(truth.labels) == 10
    assert sample.read_sample(job) is None  # something is known


def test_pages_of_any_length_are_compared(tmp_path: Path) -> None:
    studio = ModelStudio()
    studio.import_tasks(1203)
    job = job_on(studio, tmp_path)
    read_truth(job)
    for task in (1, 2, 500, 501, 1000, 1001, 1203):
        studio.delete_task(task)
    studio.import_tasks(7)  # so that their number is the same
    studio.now += 1000.0
    truth = read_truth(job)
    assert np.array_equal(truth.tasks, np.array(sorted(studio.contents)))


MARKED = {"synthetic": True, "synthetic_batch": "gaal-c1-00000000"}


def generated(studio: ModelStudio, count: int) -> list[int]:
    tasks = studio.import_tasks(count)
    for task in tasks:
        studio.contents[task].data |= {**MARKED, "synthetic_seed": task}  # type: ignore[dict-item]
    return tasks


def test_generated_images_are_no_part_of_the_pool_and_their_labels_stand_apart(tmp_path: Path) -> None:
    studio = ModelStudio()
    studio.import_tasks(4)
    job = job_on(studio, tmp_path)
    read_truth(job)  # the others are read as changes
    labeled, skipped, both, waiting = generated(studio, 4)
    studio.annotate(1, CLASSES[0])
    studio.annotate(2, CLASSES[0], skipped=True)
    studio.annotate(labeled, CLASSES[1])
    studio.annotate(skipped, CLASSES[1], skipped=True)
    studio.annotate(both, CLASSES[1], skipped=True)
    studio.annotate(both, CLASSES[0])
    for whole in (False, True):
        truth = read_truth(job.reread(), whole=whole)
        assert truth.tasks.tolist() == sorted(studio.contents) and truth.unlabeled.tolist() == [2, 3, 4]
        assert truth.labels == {1: CLASSES[0]}
        apart = truth.synthetic
        assert apart.tasks.tolist() == [labeled, skipped, both, waiting]
        assert apart.labels == {labeled: CLASSES[1], both: CLASSES[0]} and list(apart.unrecognized) == [skipped]
        assert list(truth.to_learn) == [1, labeled, both]
        assert truth.annotated.tolist() == [1, labeled, both, skipped]
        assert truth.new_annotations == 5  # a skip of a real image is no answer, of a generated one it is
        assert job.state.labels.ignored(1) == {"skipped": 1}
    job.state.close()


def test_a_sample_of_a_large_project_has_no_generated_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the state was lost, nothing but their data says what they are."""
    studio = ModelStudio()
    studio.import_tasks(6)
    generated(studio, 3)
    monkeypatch.setattr(sample, "SAMPLED_PROJECT", 5)
    job = job_on(studio, tmp_path)
    found = sample.read_sample(job)
    assert found is not None and found.unlabeled.tolist() == [1, 2, 3, 4, 5, 6]
    job.state.close()


def test_an_image_with_a_class_that_says_so_shows_nothing(tmp_path: Path) -> None:
    studio = ModelStudio()
    studio.config = CONFIG.replace('<Choice value="dog"/>', '<Choice value="dog"/><Choice value="not recognisable"/>')
    (task,) = generated(studio, 1)
    studio.annotate(task, "not recognisable")
    job = job_on(studio, tmp_path)
    truth = read_truth(job)
    assert list(truth.synthetic.unrecognized) == [task] and not truth.synthetic.labels
    assert truth.new_annotations == 1
    job.state.close()
