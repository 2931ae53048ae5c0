"""Pre-annotations that people left as they were, as comparisons with Label Studio find them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from backend.labelstudio.records import TaskAnnotations
from backend.settings.core import Settings
from backend.state import StoredLabel
from backend.tasks.multilabel import Multilabel
from backend.worker.acceptance import begun_from, figures
from backend.worker.job import Job
from backend.worker.sync import read_truth
from tests.backend.small_label_studio import TAGS_CONFIG
from tests.backend.worker.model_studio import ModelStudio
from tests.backend.worker.test_asking import version_of
from tests.backend.worker.test_sync import job_on

OURS = "margin-c1"


@pytest.fixture
def studio() -> ModelStudio:
    made = ModelStudio()
    made.import_tasks(12)
    return made


@pytest.fixture
def job(studio: ModelStudio, tmp_path: Path) -> Iterator[Job]:
    made = job_on(studio, tmp_path)
    read_truth(made)
    version_of(made, range(1, 13), OURS)
    yield made.reread()
    made.state.close()


def known(job: Job, *, whole: bool = False) -> dict[str, Any] | None:
    studio: Any = job.gateway
    studio.now += 100
    read_truth(job.reread(), whole=whole)
    return job.reread().project.acceptance


def counted(job: Job, *, whole: bool = False) -> tuple[int, float] | None:
    found = known(job, whole=whole)
    return None if found is None else (found["n"], found["value"])


def test_a_label_that_says_what_was_filled_in_was_accepted_and_another_was_not(studio: ModelStudio, job: Job) -> None:
    studio.annotate(1, "cat", begun_from=(901, OURS, "cat"))
    studio.annotate(2, "cat", begun_from=(902, OURS, "cat"))
    studio.annotate(3, "dog", begun_from=(903, OURS, "cat"))
    studio.annotate(4, "dog", begun_from=(904, OURS, "dog"))
    found = known(job)
    # Clopper and Pearson, 3 of 4: R's binom.test(3, 4) gives 0.1941 to 0.9937
    share = {"n": 4, "value": 0.75, "low": 0.1941, "high": 0.9937}
    assert found == share | {"cycles": [{"cycle": 1, **share}]}


def test_what_opened_unticked_or_was_not_begun_from_a_prediction_does_not_count(studio: ModelStudio, job: Job) -> None:
    studio.annotate(1, "cat", begun_from=(901, OURS, ""))
    studio.annotate(2, "cat")
    alone = studio.annotate(3, "cat", begun_from=(903, OURS, "cat"))
    studio.contents[3].annotations[alone]["parent_prediction"] = None  # made by a program, or begun anew
    studio.annotate(4, "cat", begun_from=(904, OURS, "cat"))
    studio.remove_prediction(904)  # before it was ever read
    studio.annotate(5, "cat", begun_from=(905, "somebody-else", "cat"))
    studio.annotate(6, "cat", skipped=True, begun_from=(906, OURS, "cat"))
    studio.annotate(7, "cat", begun_from=(907, OURS, "a class of before"))
    assert known(job) is None


def test_it_is_known_still_after_the_prediction_was_removed(studio: ModelStudio, job: Job) -> None:
    studio.annotate(1, "cat", begun_from=(901, OURS, "cat"))
    studio.annotate(2, "dog", begun_from=(902, OURS, "cat"))
    assert counted(job) == (2, 0.5)
    for prediction in (901, 902):
        studio.remove_prediction(prediction)
    assert counted(job, whole=True) == (2, 0.5)


def test_whoever_opened_a_task_before_the_order_changed_counts_for_the_order_of_then(
    studio: ModelStudio, job: Job
) -> None:
    version_of(job, range(1, 13), "margin-c2")
    studio.annotate(1, "cat", begun_from=(901, OURS, "cat"))
    studio.contents[1].predictions[1001] = {"id": 1001, "model_version": "margin-c2", "result": []}
    assert counted(job) == (1, 1.0)


def test_a_label_that_is_corrected_later_was_not_accepted(studio: ModelStudio, job: Job) -> None:
    number = studio.annotate(1, "cat", begun_from=(901, OURS, "cat"))
    assert counted(job) == (1, 1.0)
    studio.remove_prediction(901)
    studio.now += 100
    studio.update(1, number, "dog", skipped=False)
    assert counted(job) == (1, 0.0)


def test_of_several_annotators_the_first_label_counts_and_when_it_is_deleted_the_next(
    studio: ModelStudio, job: Job
) -> None:
    studio.annotate(1, "cat", skipped=True, by=3, begun_from=(901, OURS, "cat"))
    first = studio.annotate(1, "cat", by=1, begun_from=(901, OURS, "cat"))
    studio.annotate(1, "dog", by=2, begun_from=(901, OURS, "cat"))
    studio.annotate(2, "cat", by=1)
    studio.annotate(2, "cat", by=2, begun_from=(902, OURS, "cat"))
    assert counted(job) == (1, 1.0), "task 2 was labeled first without one"
    studio.now += 100
    studio.delete_annotation(1, first)
    assert counted(job) == (1, 0.0)
    studio.delete_task(1)
    assert counted(job, whole=True) is None


def test_each_cycle_has_a_share_of_its_own() -> None:
    kept = [(OURS, "dog"), ("b-c9", "cat"), ("b-c9", "dog"), ("margin-c2", "cat"), ("b-c9", "cat"), ("theirs", "cat")]
    stored = [
        StoredLabel(task, "cat", [], 1, 0, None, None, [[task, 1, "cat", False]], [task, *one])
        for task, one in enumerate(kept)
    ]
    found = figures(stored, {OURS: 1, "margin-c2": 2, "b-c9": 9})
    assert found is not None and (found["n"], found["value"]) == (5, 0.6)
    assert [(one["cycle"], one["n"], one["value"]) for one in found["cycles"]] == [(1, 1, 0), (2, 1, 1), (9, 3, 0.6667)]


def test_of_several_choices_all_of_them_have_to_be_the_same() -> None:
    kind = Multilabel.read(TAGS_CONFIG, Settings())

    def result(names: list[str]) -> list[dict[str, Any]]:
        return [{"from_name": "what", "to_name": "pic", "type": "choices", "value": {"choices": names}}]

    def filled_in(names: list[str]) -> Any:
        shown = {"id": 9, "model_version": OURS, "result": result(names) if names else []}
        label = {"id": 1, "result": result(["dog", "cat"]), "parent_prediction": 9}
        return begun_from(kind, TaskAnnotations(5, [label], predictions=[shown]), None)

    assert filled_in(["dog", "cat"]) == [1, OURS, kind.answer_of({"result": result(["cat", "dog"])})]
    assert filled_in(["dog"]) == [1, OURS, ["dog"]]
    assert filled_in([]) is None, "nothing was ticked"
