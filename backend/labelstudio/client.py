"""A client for Label Studio: projects, tasks, annotations, predictions, webhooks, the queue's tab, and images.

A 401, 403 or 404 raises LabelStudioRefused; no connection, a timeout or a 5xx raises LabelStudioUnavailable; any other
4xx raises BackendError with Label Studio's message. Reads, and writes that may be repeated, are tried three times. New
predictions are sent exactly once. No message contains a token.

The times below were measured with Label Studio 1.23.2 on SQLite and two cores, in a project of 10,000 tasks.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from random import Random
from typing import TYPE_CHECKING, Any

from backend.labelstudio.connections import Connections
from backend.labelstudio.http import Connection, NotFound
from backend.labelstudio.images import ImageFetcher
from backend.labelstudio.own_tasks import OwnTasks
from backend.labelstudio.pause import Pause
from backend.labelstudio.predictions import Predictions
from backend.labelstudio.queue_tab import QueueTab, number
from backend.labelstudio.records import ChangedTask, ProjectInfo, TaskAnnotations, TaskRef
from backend.labelstudio.team import Team

if TYPE_CHECKING:
    from backend.settings.core import Settings
    from backend.state import Project

_PROJECT_FIELDS = (
    "id,created_at,title,label_config,model_version,sampling,maximum_annotations,overlap_cohort_percentage,"
    "task_number,total_annotations_number,skipped_annotations_number"
)
_CHANGED_FIELDS = "id,data,total_annotations,cancelled_annotations,is_labeled"
_TASKS_A_PAGE, _FIRST_NEW_TASKS, _ANNOTATED_A_PAGE = 500, 100, 500
"""A page of 1,000 uploads fails on SQLite ("Expression tree is too large"); with 500, a task costs no more."""

_DRAWN_A_PAGE = 50
"""Tasks per page if their annotations have regions: with strokes of 60,000 numbers in each, a page takes 75 MB of
memory. A larger page saves no time."""

_SOMEBODY_ANNOTATED = {"filter": "filter:tasks:annotators", "operator": "empty", "type": "List", "value": "False"}
"""Finds annotations that Label Studio has not counted, because it was killed in the middle of a Submit. The counts find
those of accounts that were deleted."""

_ANNOTATION_FIELDS = "id,was_cancelled,ground_truth,created_at,updated_at,completed_by,lead_time,parent_prediction"


def _changed_task(item: dict[str, Any]) -> ChangedTask:
    count = (item.get("total_annotations") or 0) + (item.get("cancelled_annotations") or 0)
    # A Label Studio that was killed in the middle of a Submit may have the annotation, and have counted it nowhere.
    return ChangedTask(item["id"], item["data"], count or int(bool(item.get("is_labeled"))))


def _updated_after(since: float) -> dict[str, Any]:
    """The filter of tasks that changed after so many seconds since the epoch."""
    stamp = datetime.fromtimestamp(since, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    return {"filter": "filter:tasks:updated_at", "operator": "greater", "type": "Datetime", "value": stamp}


def _count(found: object) -> int:
    return found if isinstance(found, int) else -1


class LabelStudio:
    """A client for one Label Studio, with a personal access token or a legacy token; it detects which. Thread-safe."""

    def __init__(
        self,
        url: str,
        token: str,
        *,
        timeout: float = 60.0,
        public_url: str = "",
        image_hosts: Sequence[str] = (),
        shares_token: bool = False,
    ) -> None:
        """``public_url``: where its users reach it, if that is not ``url``. ``image_hosts``: see
        :class:`backend.labelstudio.outbound.Policy`. ``shares_token``: see
        :class:`backend.labelstudio.http.Connection`."""
        self._token = token
        self._connection = Connection(url, token, timeout, shares_token=shares_token)
        self._images = ImageFetcher(self._connection, public_url, image_hosts)
        self.predictions = Predictions(self._connection)
        self.queue_tab = QueueTab(self._connection)
        self.connections = Connections(self._connection)
        self.own_tasks = OwnTasks(self._connection)
        self.team = Team(self._connection)

    @classmethod
    def of_project(cls, settings: Settings, project: Project, *, timeout: float = 60.0) -> LabelStudio:
        """A client with the address and API key from the settings; if they are not set, with those from ``/setup``."""
        url = settings.label_studio_url or project.url
        key, hosts = settings.label_studio_api_key or project.token, settings.image_hosts.replace(",", " ").split()
        return cls(url, key, timeout=timeout, public_url=project.url, image_hosts=hosts, shares_token=True)

    @property
    def url(self) -> str:
        """The address of this Label Studio, without a user name and password."""
        return self._connection.display_url

    def check(self, timeout: float = 1.5) -> None:
        """Check that Label Studio responds and accepts the key. Tried only once, because a person is waiting.

        Raises:
            LabelStudioRefused: the message says what to set.
            LabelStudioUnavailable: no response within ``timeout`` seconds.
        """
        Connection(self._connection.url, self._token, timeout).get("api/current-user/whoami", retry=False)

    # -- projects ----------------------------------------------------------------------------------------------------

    def project(self, project_id: int) -> ProjectInfo:
        """The project with this id. Raises NotFound. Only the needed fields are requested, because Label Studio counts
        tasks or annotations for each of several others."""
        found = self._connection.get(f"api/projects/{project_id}/", include=_PROJECT_FIELDS)
        created = datetime.fromisoformat(found["created_at"])
        return ProjectInfo(
            id=found["id"],
            key=f"{found['id']}.{int(created.timestamp())}",
            title=found["title"],
            label_config=found["label_config"] or "",
            model_version=found["model_version"] or "",
            sampling=found["sampling"] or "",
            task_number=found["task_number"] or 0,
            submitted=_count(found.get("total_annotations_number")),
            skipped=_count(found.get("skipped_annotations_number")),
            clock=self._connection.clock,
            overlap=found.get("maximum_annotations") or 1,
            cohort=100 if found.get("overlap_cohort_percentage") is None else found["overlap_cohort_percentage"],
        )

    def project_exists(self, project_id: int) -> bool:
        try:
            return self.project(project_id).id == project_id
        except NotFound:
            return False

    def update_project(self, project_id: int, **fields: Any) -> None:
        """Set fields such as ``model_version`` and ``sampling``. Label Studio refuses a version without predictions. It
        ignores fields that the response is not to include, and its webhooks need the id there."""
        self._connection.patch(f"api/projects/{project_id}/", fields, include=",".join(["id", *fields]))

    # -- reading -----------------------------------------------------------------------------------------------------

    def tasks(self, project_id: int, after_id: int = 0) -> Iterator[TaskRef]:
        """All tasks with an id above ``after_id``, ascending, with their data as it is stored (``s3://…`` unresolved).

        Requesting only the needed fields, 1,000 tasks take 0.4 s instead of 2 s. Each page is requested by the last id
        of the one before, so that tasks which are added or deleted in the meantime do not shift the others. Others get
        their turn between two pages.
        """
        size = _FIRST_NEW_TASKS if after_id else _TASKS_A_PAGE
        pause = Pause()
        while page := self._page(project_id, [number("id", "greater", after_id)], size, include="id,data"):
            yield from (TaskRef(item["id"], item["data"]) for item in page)
            if len(page) < size:
                return
            after_id, size = page[-1]["id"], _TASKS_A_PAGE
            pause()

    def tasks_of(self, project_id: int, task_ids: Sequence[int]) -> list[TaskRef]:
        """Those of ``task_ids``, a page of them at most, that the project holds."""
        filters = [number("id", "in_list", list(task_ids[:_TASKS_A_PAGE]))]
        page = self._page(project_id, filters, _TASKS_A_PAGE, include="id,data")
        return [TaskRef(item["id"], item["data"]) for item in page]

    def some_tasks(self, project_id: int, count: int, rng: Random) -> Iterator[ChangedTask]:
        """The ``count`` tasks of a project, page after page at random. A page takes 0.2 s."""
        pages = range(1, count // _TASKS_A_PAGE + 1)  # without the last, which is gone when tasks are deleted
        for page in rng.sample(pages, len(pages)):
            found = self._page(project_id, [], _TASKS_A_PAGE, page=page, include=_CHANGED_FIELDS)
            yield from map(_changed_task, found)

    def annotated_since(self, project_id: int, since: float) -> dict[int, str] | None:
        """The tasks with annotations that changed after ``since``, and when each did; None if they fill a page."""
        annotated = {"child_filter": _SOMEBODY_ANNOTATED}
        page = self._page(project_id, [_updated_after(since) | annotated], _TASKS_A_PAGE, include="id,updated_at")
        return {item["id"]: item["updated_at"] for item in page} if len(page) < _TASKS_A_PAGE else None

    def changed(self, project_id: int, since: float, newest_id: int) -> Iterator[ChangedTask]:
        """The tasks that changed after ``since``, in seconds since the epoch by Label Studio's clock, and all with an
        id above ``newest_id``, ascending.

        An annotation or a prediction that is created, updated or deleted changes its task. The time does not depend on
        the number of tasks: 0.05 s, and 0.4 ms for each one that changed.
        """
        last, pause = 0, Pause()
        while True:
            after = {"child_filter": number("id", "greater", last)}
            filters = [_updated_after(since) | after, number("id", "greater", newest_id) | after]
            page = self._page(project_id, filters, _TASKS_A_PAGE, "or", include=_CHANGED_FIELDS)
            yield from map(_changed_task, page)
            if len(page) < _TASKS_A_PAGE:
                return
            last = page[-1]["id"]
            pause()

    def annotated(
        self, project_id: int, *, results: bool = True, drawn: bool = False, shown: bool = False
    ) -> Iterator[TaskAnnotations]:
        """All tasks with annotations, including skipped ones, by id. 1,000 such tasks take 2 s.

        Each page is requested when the one before is used up. Label Studio's export takes as long, and leaves two files
        on its disk at every call.

        Args:
            results: include what each annotation says. With strokes of 60,000 numbers, 1,000 tasks take 18 s.
            drawn: the results contain strokes; use smaller pages, so that memory use stays flat.
            shown: include the predictions of each task.
        """
        size = _DRAWN_A_PAGE if results and drawn else _ANNOTATED_A_PAGE
        last, pause = 0, Pause()
        while True:
            after = {"child_filter": number("id", "greater", last)}
            filters = [
                number("total_annotations", "greater", 0) | after,
                number("cancelled_annotations", "greater", 0) | after,
                _SOMEBODY_ANNOTATED | after,
            ]
            count = 0
            for item in self._annotations(project_id, filters, size, "or", results, shown):
                yield item
                last, count = item.task_id, count + 1
            if count < size:
                return
            pause()

    def annotations_of(
        self, project_id: int, task_ids: Sequence[int], *, results: bool = True, shown: bool = False
    ) -> Iterator[TaskAnnotations]:
        """The annotations of those ``task_ids`` that exist. Takes time in proportion to their number.
        ``results`` and ``shown``: as in :meth:`annotated`."""
        for start in range(0, len(task_ids), _DRAWN_A_PAGE):
            chosen = [int(task) for task in task_ids[start : start + _DRAWN_A_PAGE]]
            among = [number("id", "in_list", chosen)]
            yield from self._annotations(project_id, among, len(chosen), results=results, shown=shown)

    def _annotations(
        self,
        project_id: int,
        filters: Sequence[Mapping[str, Any]],
        size: int,
        conjunction: str = "and",
        results: bool = True,
        shown: bool = False,
    ) -> Iterator[TaskAnnotations]:
        fields = (
            f"is_labeled,overlap,annotations,{_ANNOTATION_FIELDS}"  # names select fields of tasks and of annotations
        )
        if results:
            fields += ",result"
        if shown:
            fields += ",predictions"
        for item in self._page(project_id, filters, size, conjunction, fields="all", include=fields):
            predictions = item.get("predictions", ())
            yield TaskAnnotations(item["id"], item["annotations"], item["is_labeled"], item["overlap"], predictions)

    def _page(
        self,
        project_id: int,
        filters: Sequence[Mapping[str, Any]],
        size: int,
        conjunction: str = "and",
        **params: Any,
    ) -> list[dict[str, Any]]:
        query = json.dumps({"filters": {"conjunction": conjunction, "items": list(filters)}, "ordering": ["tasks:id"]})
        response = self._connection.get(
            "api/tasks/", project=project_id, page_size=size, query=query, resolve_uri="false", **params
        )
        items: list[dict[str, Any]] = response["tasks"]
        return items

    # -- images --------------------------------------------------------------------------------------------------------

    def fetch_image(self, source: str, task_id: int | None = None) -> bytes:
        """The bytes of an image as it is stored: an upload, a local file, a file in a cloud storage (which requires
        ``task_id``) or a web address. Several threads may call this at once.

        Raises:
            ImageError: this image is not available; the reason is one that an owner can act on.
            ImageLater: nor at the moment, and nothing is known to be wrong with it.
            LabelStudioUnavailable, LabelStudioRefused: no image is: Label Studio does not respond, or refuses the key.
        """
        return self._images.fetch(source, task_id)
