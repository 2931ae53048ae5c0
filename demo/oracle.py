"""The annotator who always knows: labels what Label Studio serves as the data set itself does, and checks the queue.

The check is the product's promise: what ``next`` serves is, one by one, ascending by the scores published under the
project's current model version, as Label Studio itself holds them; and the pre-annotations of the first of them can be
shown.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from backend.head import WHOLE_POOL
from backend.state import Cycle, State, Version
from demo.annotator import Annotator, PreannotationError, Prediction, image_index
from demo.generated import is_generated, pixels_of
from demo.judge import Judge, Judgment
from demo.subjects.base import Proposal, Subject
from samplers import SAMPLERS

HEAD = 10
"""Tasks at the head of a queue whose pre-annotations are looked at: the backend's shortlist."""

FILLED_SECONDS = 60.0
"""How long a head that is used up may stay empty. The oracle labels faster than anybody who looks at images."""

GIVE_UP_AFTER = 3
"""Failures in a row. One may be a busy Label Studio, which the worker tries again by itself."""


class QueueError(RuntimeError):
    """The served order was not the published order, or not whole; says which task came and which was due."""


class BackendFailed(RuntimeError):
    """The backend gave up on a cycle, or took too long."""


@dataclass
class Round:
    """One version: what it was trained on, how good it is (as soon as that is ``judged``) and what it proposes at the
    head of its queue (both in [0, 1], see :class:`Subject`), what it cost, and what of its order was served."""

    version: str
    labels: int
    judged: Judgment
    seconds: dict[str, float]
    waited: float
    agreement: float | None = None
    served: int = 0
    published: list[int] = field(default_factory=list, repr=False)

    @property
    def quality(self) -> float | None:
        return self.judged()


class Oracle:
    """Labels project ``project`` whose tasks are the images of ``subject``."""

    def __init__(self, annotator: Annotator, state: State, project: int, subject: Subject) -> None:
        self.annotator = annotator
        self.state = state
        self.project = project
        self.subject = subject
        self.judge = Judge(subject)
        self.labeled: set[int] = set()
        self.generated: set[int] = set()
        self.recognized = self.skipped = 0
        """How many generated images it answered, and how many it was not sure of."""

    def open_round(self, version: Version, cycle: Cycle, waited: float) -> Round:
        """Reads the published order of a version from Label Studio and the version's figures from the backend.

        Raises:
            QueueError: Label Studio orders by another version, or holds not exactly one prediction for each
                unlabeled task (of a large pool, or in the first order, which others join as their images arrive: for
                none), or two with the same score, or a pre-annotation at the head that cannot be shown.
        """
        orders_by = self.annotator.project(self.project)["model_version"]
        if orders_by != version.name:
            raise QueueError(f"{version.name} is published, but Label Studio orders by {orders_by!r}")
        predictions = self.annotator.predictions(self.project, version.name)
        tasks = [prediction.task for prediction in predictions]
        if len(set(tasks)) != len(tasks):
            raise QueueError(f"{version.name}: {len(tasks)} predictions for {len(set(tasks))} tasks")
        if len({prediction.score for prediction in predictions}) != len(predictions):
            raise QueueError(f"{version.name}: some tasks have the same score, so their order is left to chance")
        self.generated |= self._generated(version)
        open_tasks = self._unlabeled
        published = len(set(tasks) - self.labeled - self.generated)
        whole = version.checkpoint is not None and open_tasks <= WHOLE_POOL
        left = set(tasks) - self.labeled  # at first, perhaps generated images alone
        if published != open_tasks and (whole or not left):
            raise QueueError(f"{version.name}: {len(tasks)} predictions, but {open_tasks} unlabeled tasks")
        seconds = {phase: float(spent) for phase, spent in cycle.metrics.get("seconds", {}).items()}
        labels = int(cycle.metrics.get("labels", 0))
        agreement = self._agreement(version, predictions)
        judged = self.judge.judge(version)
        return Round(version.name, labels, judged, seconds, waited, agreement, published=tasks)

    @property
    def _unlabeled(self) -> int:
        """How many of the images of the project have no label, of those that it began with."""
        return self.subject.count - len(self.labeled - self.generated)

    def _generated(self, version: Version) -> set[int]:
        """The tasks with a generated image, where the sampler generates any."""
        known = SAMPLERS.get(version.sampler)
        return self.annotator.generated(self.project) if known is not None and known.generates else set()

    def _agreement(self, version: Version, predictions: Sequence[Prediction]) -> float | None:
        """Of what is proposed at the head of the queue with the ground truth."""
        if version.checkpoint is None:
            return None
        passed = self.labeled | self.generated
        head = [prediction for prediction in predictions if prediction.task not in passed][:HEAD]
        try:
            return self.subject.agreement(self._proposals(head))
        except PreannotationError as error:
            raise QueueError(f"{version.name}: {error}") from error

    def _proposals(self, head: Sequence[Prediction]) -> Iterator[Proposal]:
        """One by one, for a subject that asks: each costs a request."""
        for prediction in head:
            yield image_index(self.annotator.task(prediction.task)), prediction.result

    def label(self, current: Round, count: int) -> int:
        """Labels the next ``count`` tasks that are served, or as many as there are; returns how many.

        Raises:
            QueueError: see above. A task that was served out of order is not labeled.
        """
        for done in range(count):
            task = self.served(current)
            if task is None:
                return done
            self.labeled.add(int(task["id"]))
            self._answer(task)
        return count

    def _answer(self, task: dict[str, Any]) -> None:
        """Says what is in an image: of a generated one what a classifier recognizes, or nothing."""
        number = int(task["id"])
        if not is_generated(task):
            self.annotator.submit(number, self.subject.ground_truth(image_index(task)), task["predictions"])
        elif (result := self.subject.recognize(pixels_of(task))) is not None:
            self.recognized += 1
            self.annotator.submit(number, result)
        else:
            self.skipped += 1
            self.annotator.skip(number)

    def served(self, current: Round) -> dict[str, Any] | None:
        """What ``next`` serves now, which must be the first published task that is not labeled. Of a large pool only
        the head is published, which is filled up as it is used, and tasks may join it: where another task is served
        than was due, what is published is read again."""
        self._wait_for_more(current)
        task = self.annotator.next_task(self.project)
        came = None if task is None else int(task["id"])
        if came != self._due(current) and self._unlabeled:
            self._read_again(current)
        if came != (due := self._due(current)):
            position = current.published.index(came) + 1 if came in current.published else "nowhere"
            raise QueueError(
                f"{current.version}: Label Studio served task {came} (published position {position} of "
                f"{len(current.published)}), but task {due} was due after {current.served} served in order"
            )
        current.served += came is not None
        return task

    def _wait_for_more(self, current: Round) -> None:
        """Where all that is known to be published is labeled, but not all images: until more is published."""
        until = time.monotonic() + FILLED_SECONDS
        while self._due(current) is None and self._unlabeled and time.monotonic() < until:
            time.sleep(0.1)
            self._read_again(current)

    def _read_again(self, current: Round) -> None:
        current.published = [row.task for row in self.annotator.predictions(self.project, current.version)]

    def check_next(self, current: Round) -> None:
        """Checks the next task without labeling it."""
        self.served(current)

    def _due(self, current: Round) -> int | None:
        """The first published task that is not labeled."""
        return next((task for task in current.published if task not in self.labeled), None)


def finished_version(state: State, project: int, after: str | None) -> tuple[Version, Cycle] | None:
    """The current version and its cycle's record, when it is wholly published and not the version named ``after``.

    Raises:
        BackendFailed: the worker has failed at it again and again; says why.
    """
    row = state.projects.get(project)
    if row is not None and row.failures >= GIVE_UP_AFTER:
        raise BackendFailed(f"the backend failed {row.failures} times, last: {row.last_error}")
    version = state.versions.current(project)
    if version is None or version.status != "current" or version.name == after:
        return None
    ended = [
        cycle for cycle in state.cycles.recent(project) if cycle.number == version.cycle and cycle.status != "running"
    ]
    return (version, ended[0]) if ended else None


def wait_for_version(
    state: State, project: int, after: str | None, *, timeout: float, look: Callable[[], None] = lambda: None
) -> tuple[Version, Cycle]:
    """Waits for :func:`finished_version`. ``look()`` is called between looks, to show progress or raise.

    Raises:
        BackendFailed: see there, or the time is up.
    """
    deadline = time.monotonic() + timeout
    while True:
        found = finished_version(state, project, after)
        if found is not None:
            return found
        if time.monotonic() > deadline:
            row = state.projects.get(project)
            why = f"; last error: {row.last_error}" if row and row.last_error else ""
            raise BackendFailed(f"no new version within {timeout:.0f} s{why}")
        look()
        time.sleep(0.2)
