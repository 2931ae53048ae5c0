"""Who said what, how far they agree, and what is learned, as a comparison with Label Studio finds it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from backend.errors import BackendError
from backend.reporting.agreement import agreement_of
from backend.state import StoredLabel
from backend.worker.agreement import agreement_figures
from backend.worker.consensus import new_annotations, stamps
from backend.worker.job import Job
from backend.worker.sync import read_truth
from tests.backend.worker.model_studio import ModelStudio
from tests.backend.worker.test_sync import OWNER, job_on


def with_consensus(job: Job, consensus: str) -> Job:
    return replace(job.reread(), settings=replace(job.settings, consensus=consensus))


def learned_from(job: Job) -> None:
    """A cycle has learned from all labels."""
    truth = read_truth(job)
    job.state.versions.add(
        1,
        OWNER,
        cycle=1,
        name="margin-c1",
        sampler="margin",
        checkpoint=None,
        classes=(),
        metrics={},
        task_ids=np.arange(0),
        priority_score=np.empty(0),
        class_index=None,
        confidence=None,
        seen=truth.stamps,
    )


def two_who_differ(studio: ModelStudio, tasks: int = 3) -> list[int]:
    """Tasks that Ann calls cats; Bob, later, calls the first of them a dog."""
    made = studio.import_tasks(tasks)
    for task in made:
        studio.annotate(task, "cat", by=1)
    studio.now += 100
    for place, task in enumerate(made):
        studio.annotate(task, "dog" if place == 0 else "cat", by=2)
    studio.now += 100
    return made


def test_every_annotation_is_kept_with_who_gave_it_until_it_is_deleted(tmp_path: Path) -> None:
    studio = ModelStudio()
    job = job_on(studio, tmp_path)
    tasks = two_who_differ(studio)
    read_truth(job)
    asked = studio.asked_names
    kept = {one.task_id: one.answers for one in job.state.labels.all(1)}
    first = sorted(studio.contents[tasks[0]].annotations)
    assert kept[tasks[0]] == [[first[0], 1, "cat", False], [first[1], 2, "dog", False]]
    studio.update(tasks[0], first[0], "dog", skipped=False)
    studio.now += 100
    studio.delete_annotation(tasks[1], max(studio.contents[tasks[1]].annotations))
    read_truth(job.reread())
    kept = {one.task_id: one.answers for one in job.state.labels.all(1)}
    assert [said for _, _, said, _ in kept[tasks[0]] or ()] == ["dog", "dog"]
    assert [who for _, who, *_ in kept[tasks[1]] or ()] == [1]
    assert studio.asked_names == asked == 1, "names are asked for when somebody is new"
    job.state.close()


def test_agreement_is_figured_for_pairs_for_annotators_and_for_all(tmp_path: Path) -> None:
    studio = ModelStudio()
    job = job_on(studio, tmp_path)
    tasks = two_who_differ(studio, 5)
    studio.annotate(tasks[0], "cat", by=3)
    studio.annotate(studio.import_tasks(1)[0], "cat", by=1)  # alone
    read_truth(job)
    found = agreement_of(job.state, job.project)
    assert found is not None
    assert (found.together.n, found.together.value, found.disagreements) == (5, 0.8, 1)
    assert found.together.low == pytest.approx(0.2836, abs=1e-4), "Clopper-Pearson, 4 of 5"
    assert {one.names: (one.share.value, one.share.n) for one in found.pairs} == {
        ("Ann", "Bob"): (0.8, 5),
        ("Ann", "user 3"): (1.0, 1),
        ("Bob", "user 3"): (0.0, 1),
    }
    assert {one.name: (one.share.value, one.share.n) for one in found.annotators} == {
        "Ann": (1.0, 5),
        "Bob": (0.8, 5),
        "user 3": (0.0, 1),
    }, "of Bob and Ann, who differ, the later one leads"
    assert found.disagreed[0].said == [("Ann", "cat"), ("Bob", "dog"), ("user 3", "cat")]
    assert found.alpha is not None and found.as_json()["n"] == 5 and "80 %" in found.sentence
    job.state.close()


def test_names_that_label_studio_does_not_tell_stop_nothing(tmp_path: Path) -> None:
    studio = ModelStudio()
    job = job_on(studio, tmp_path)
    two_who_differ(studio)

    def names() -> dict[int, str]:
        studio.asked_names += 1
        raise BackendError("403")

    studio.names = names  # type: ignore[method-assign]
    read_truth(job)
    read_truth(job.reread())
    found = agreement_of(job.state, job.project)
    assert found is not None and found.pairs[0].names == ("user 1", "user 2")
    assert studio.asked_names == 1
    job.state.close()


def test_one_annotator_or_one_who_is_not_known_is_no_agreement(tmp_path: Path) -> None:
    studio = ModelStudio()
    job = job_on(studio, tmp_path)
    (task,) = studio.import_tasks(1)
    for who in (1, 1, None):
        studio.annotate(task, "cat", by=who)
    read_truth(job)
    assert agreement_of(job.state, job.project) is None and studio.asked_names == 0
    studio.annotate(task, "dog", by=2)
    studio.now += 100
    read_truth(job.reread())
    assert agreement_of(job.state, job.project) is not None
    studio.delete_annotation(task, max(studio.contents[task].annotations))
    studio.now += 100
    read_truth(job.reread())
    assert agreement_of(job.state, job.project) is None
    job.state.close()


def test_sets_are_compared_by_what_they_have_in_common() -> None:
    found = agreement_figures({1: {7: ["cat", "dog"], 8: ["dog"]}, 2: {7: [], 8: []}}, "sets")
    assert (found["value"], found["n"], found["low"], found["alpha"]) == (0.75, 2, None, None)
    assert found["pairs"] == [{"ids": [7, 8], "n": 2, "value": 0.75, "low": None, "high": None, "kappa": None}]
    assert found["disagreements"] == 1


@pytest.mark.parametrize(("consensus", "label"), [("latest", "dog"), ("majority", "cat"), ("auto", "cat")])
def test_the_setting_decides_what_is_learned_and_a_change_of_it_counts_like_a_changed_label(
    tmp_path: Path, consensus: str, label: str
) -> None:
    studio = ModelStudio()
    job = with_consensus(job_on(studio, tmp_path), "auto")
    (task,) = studio.import_tasks(1)
    for who, said in ((1, "cat"), (2, "cat"), (3, "dog")):
        studio.now += 100
        studio.annotate(task, said, by=who)
    learned_from(job)
    assert read_truth(job.reread()).new_annotations == 0
    truth = read_truth(with_consensus(job, consensus))
    assert truth.labels == {task: label}
    assert truth.new_annotations == int(label != "cat")
    job.state.close()


def test_weighed_votes_follow_whoever_is_right_and_the_state_says_so(tmp_path: Path) -> None:
    """Three who agree on the first tasks, but for the third, who is mostly wrong; then two of whom one is that one."""
    studio = ModelStudio()
    job = with_consensus(job_on(studio, tmp_path), "weighted")
    tasks = studio.import_tasks(9)
    for place, task in enumerate(tasks[:8]):
        right = ("cat", "dog")[place % 2]
        wrong = ("dog", "cat")[place % 2]
        for who, said in ((1, right), (2, right), (3, wrong)):
            studio.annotate(task, said, by=who)
    studio.annotate(tasks[8], "cat", by=1)
    studio.now += 100
    studio.annotate(tasks[8], "dog", by=3)
    truth = read_truth(job)
    assert truth.labels[tasks[8]] == "cat", "not the latest"
    assert job.state.labels.of(1, [tasks[8]]) == {tasks[8]: "cat"}
    assert read_truth(with_consensus(job, "majority")).labels[tasks[8]] == "dog"
    job.state.close()


def test_what_counts_as_new_and_what_does_not() -> None:
    one = StoredLabel(1, "cat", [[7, "monday"], [8, "tuesday"]], 2, 0)
    seen = stamps([one])
    assert new_annotations([one], seen) == 0
    assert new_annotations([one], {7: "monday", 8: "tuesday"}) == 0, "as an earlier version kept it"
    assert new_annotations([one], {}) == 2
    assert new_annotations([replace(one, label="dog")], seen) == 1, "decided otherwise"
    more = replace(one, label="dog", counted=[*one.counted, [9, "friday"]])
    assert new_annotations([more], seen) == 1, "it is the new annotation that decides otherwise"
    assert new_annotations([replace(one, counted=[[7, "friday"], [8, "tuesday"]])], seen) == 1
    assert stamps([StoredLabel(2, "cat", [[5, "monday"]], 1, 0)]) == {5: "monday"}
