"""A model of what Label Studio tells of a project's tasks and annotations: its clock, its stamps and its counts, and
the changes that leave no stamp."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from random import Random
from typing import Any

from backend.labelstudio.records import ChangedTask, PredictionRef, ProjectInfo, TaskAnnotations, TaskRef

CONFIG = """<View><Image name="pic" value="$image"/><Choices name="what" toName="pic">
<Choice value="cat"/><Choice value="dog"/></Choices></View>"""
CLASSES = ("cat", "dog")


@dataclass
class ModelTask:
    data: dict[str, str]
    updated_at: float
    annotations: dict[int, dict[str, Any]] = field(default_factory=dict)
    uncounted: bool = False
    """Label Studio was killed in the middle of a Submit: its count of the task's annotations stays 0."""
    overlap: int = 1
    finished: bool = True
    predictions: dict[int, dict[str, Any]] = field(default_factory=dict)


class ModelStudio:
    """Has one project. Stands where a :class:`backend.labelstudio.client.LabelStudio` does, for reading only."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0
        self.config = CONFIG
        self.contents: dict[int, ModelTask] = {}
        self.number = 0
        self.read_whole = 0
        """How often all tasks were listed."""
        self.team = self
        self.predictions = self
        self.users = {1: "Ann", 2: "Bob", 3: ""}
        self.reopened: list[tuple[int, int]] = []
        """(task, number of people) that were served again."""
        self.predicted: list[int] = []
        """The tasks that have a prediction."""
        self.asked_names = 0
        """How often the names of users were asked for."""

    # -- what people do ----------------------------------------------------------------------------------------------

    def new_number(self) -> int:
        self.number += 1
        return self.number

    def import_tasks(self, count: int, *, late: float = 0.0) -> list[int]:
        """``late``: seconds for which the transaction that does it stays open."""
        made = [self.new_number() for _ in range(count)]
        for task in made:
            self.contents[task] = ModelTask({"image": f"http://host/{task}.png"}, self.now - late)
        return made

    def annotate(
        self,
        task: int,
        choice: str,
        *,
        skipped: bool = False,
        late: float = 0.0,
        by: int | None = None,
        begun_from: tuple[int, str, str] | None = None,
    ) -> int:
        """``begun_from``: (id, version, choice or "") of the prediction that the editor filled in."""
        number = self.new_number()
        self.contents[task].annotations[number] = {
            "id": number,
            "was_cancelled": skipped,
            "ground_truth": False,
            "created_at": _stamp(self.now - late),
            "updated_at": _stamp(self.now - late),
            "result": _result(choice),
            "completed_by": by,
            "parent_prediction": None,
        }
        if begun_from is not None:
            prediction, version, filled_in = begun_from
            shown = {"id": prediction, "model_version": version, "result": _result(filled_in) if filled_in else []}
            self.contents[task].predictions[prediction] = shown
            self.contents[task].annotations[number]["parent_prediction"] = prediction
        self.contents[task].updated_at = self.now - late
        self.contents[task].finished = len(self.contents[task].annotations) >= self.contents[task].overlap
        return number

    def annotate_uncounted(self, task: int, choice: str) -> None:
        self.annotate(task, choice)
        self.contents[task].uncounted = True

    def update(self, task: int, number: int, choice: str, *, skipped: bool, traced: bool = True) -> None:
        changed = {"result": _result(choice), "was_cancelled": skipped}
        self.contents[task].annotations[number] |= changed
        if traced:
            self.contents[task].annotations[number]["updated_at"] = _stamp(self.now)
            self.contents[task].updated_at = self.now

    def delete_annotation(self, task: int, number: int, *, traced: bool = True) -> None:
        del self.contents[task].annotations[number]
        if traced:
            self.contents[task].updated_at = self.now

    def remove_prediction(self, prediction: int) -> None:
        """Label Studio then forgets which annotations were begun from it."""
        for task in self.contents.values():
            task.predictions.pop(prediction, None)
            for one in task.annotations.values():
                if one["parent_prediction"] == prediction:
                    one["parent_prediction"] = None

    def delete_task(self, task: int) -> None:
        del self.contents[task]

    def change_data(self, task: int, address: str) -> None:
        self.contents[task].data = {"image": address}
        self.contents[task].updated_at = self.now

    # -- what the backend asks ---------------------------------------------------------------------------------------

    def project(self, project_id: int) -> ProjectInfo:
        every = [one for task in self.contents.values() for one in task.annotations.values()]
        skipped = sum(one["was_cancelled"] for one in every)
        return ProjectInfo(
            project_id, f"{project_id}.5", "model", self.config, "", "", len(self.contents), len(every) - skipped,
            skipped, self.now,
        )  # fmt: skip

    def reopen(self, task_id: int, people: int) -> None:
        self.reopened.append((task_id, people))
        self.serve(task_id, people, finished=False)

    def serve(self, task_id: int, people: int, *, finished: bool) -> None:
        self.contents[task_id].overlap, self.contents[task_id].finished = people, finished
        self.contents[task_id].updated_at = self.now

    def of_version(self, project_id: int, model_version: str) -> list[PredictionRef]:
        return [PredictionRef(1000 + task, task) for task in self.predicted]

    def delete(self, prediction_id: int) -> None:
        self.predicted.remove(prediction_id - 1000)

    def names(self) -> dict[int, str]:
        self.asked_names += 1
        return dict(self.users)

    def tasks(self, project_id: int, after_id: int = 0) -> Iterator[TaskRef]:
        self.read_whole += 1
        yield from (TaskRef(task, one.data) for task, one in sorted(self.contents.items()) if task > after_id)

    def some_tasks(self, project_id: int, count: int, rng: Random) -> Iterator[ChangedTask]:
        for task in rng.sample(sorted(self.contents), count):
            yield ChangedTask(task, self.contents[task].data, len(self.contents[task].annotations))

    def annotated_since(self, project_id: int, since: float) -> dict[int, str]:
        return {
            task: _stamp(one.updated_at)
            for task, one in self.contents.items()
            if one.annotations and one.updated_at > since
        }

    def changed(self, project_id: int, since: float, newest_id: int) -> Iterator[ChangedTask]:
        for task, one in sorted(self.contents.items()):
            if one.updated_at > since or task > newest_id:
                yield ChangedTask(task, one.data, 0 if one.uncounted else len(one.annotations))

    def annotated(
        self, project_id: int, *, results: bool = True, drawn: bool = False, shown: bool = False
    ) -> Iterator[TaskAnnotations]:
        yield from self.annotations_of(project_id, [task for task, one in self.contents.items() if one.annotations])

    def annotations_of(
        self, project_id: int, task_ids: Sequence[int], *, results: bool = True, shown: bool = False
    ) -> Iterator[TaskAnnotations]:
        for task in sorted(task_ids):
            if task in self.contents:
                one = self.contents[task]
                every = [dict(annotation) for annotation in one.annotations.values()]
                yield TaskAnnotations(
                    task, every, one.finished, one.overlap, [*one.predictions.values()] if shown else ()
                )


def _stamp(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()


def _result(choice: str) -> list[dict[str, Any]]:
    return [{"from_name": "what", "to_name": "pic", "type": "choices", "value": {"choices": [choice]}}]
