"""The only room that calls Label Studio: projects, tasks, annotations, predictions, its queue tab and its images.

Every failure is one of :mod:`backend.errors`: a 401, 403 or 404 is ``LabelStudioRefused``, no connection, a time-out or
a 5xx is ``LabelStudioUnavailable``, any other 4xx is ``BackendError`` with Label Studio's words. Reading, and writing
that may be repeated, is tried three times; new predictions are sent exactly once. No message holds a token.

The times below were measured on Label Studio 1.23.2 with its SQLite on two cores, in a project of 10,000 tasks.
"""

from __future__ import annotations

import importlib
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backend.labelstudio.http import Connection, NotFound
from backend.labelstudio.images import ImageFetcher
from backend.labelstudio.queue_tab import QueueTab, number

if TYPE_CHECKING:
    from backend.settings.core import Settings
    from backend.state import Project

log = logging.getLogger(__name__)


BULK_SECONDS = 900.0
"""A bulk write of 10,000 takes 7 s, the removal of a version of 10,000 half a minute; pools may be larger."""

_TASKS_A_PAGE, _FIRST_NEW_TASKS, _ANNOTATED_A_PAGE = 500, 100, 500
"""A page of 1,000 uploads fails on SQLite ("Expression tree is too large"); half of that costs no more a task."""

_DRAWN_A_PAGE = 50
"""Of annotations with regions: a brush stroke is a list of thousands of numbers. With 60,000 in each task a page takes
75 MB of memory, and a larger one saves no time."""

_ANNOTATION_FIELDS = "id,was_cancelled,ground_truth,created_at,updated_at,completed_by"


@dataclass(frozen=True)
class ProjectInfo:
    """What a project says of itself. ``key`` is "<id>.<created>", as in ``/setup``: an id may come again, a key not."""

    id: int
    key: str
    title: str
    label_config: str
    model_version: str
    sampling: str
    task_number: int


@dataclass(frozen=True)
class TaskRef:
    id: int
    data: dict[str, Any]


@dataclass(frozen=True)
class TaskAnnotations:
    """The submitted annotations of one task, skipped ones included.

    Each has ``id``, ``result`` if that was asked for, ``was_cancelled``, ``ground_truth``, ``created_at``,
    ``updated_at`` and ``completed_by``. ``is_labeled``: the task has as many as its overlap asks for, and is served no
    more.
    """

    task_id: int
    annotations: list[dict[str, Any]]
    is_labeled: bool = True


@dataclass(frozen=True)
class PredictionRef:
    id: int
    task_id: int
    score: float | None


def import_ahead() -> None:
    """The SDK takes seconds to import; neither a request nor a first order is to wait for it."""
    for module in ("label_studio_sdk.client", "label_studio_sdk.label_interface"):
        importlib.import_module(module)


class LabelStudio:
    """One Label Studio, with a personal access token or a legacy token (which of them is found out). Thread-safe."""

    def __init__(self, url: str, token: str, *, timeout: float = 60.0) -> None:
        self._token = token
        self._call = Connection(url, token, timeout)
        self._images = ImageFetcher(self._call)
        self.queue_tab = QueueTab(self._call)

    @classmethod
    def of_project(cls, settings: Settings, project: Project, *, timeout: float = 60.0) -> LabelStudio:
        """By our own address and key where they are set, else by what Label Studio brought with ``/setup``."""
        url = settings.label_studio_url or project.url
        return cls(url, settings.label_studio_api_key or project.token, timeout=timeout)

    @property
    def url(self) -> str:
        return self._call.url

    def check(self, timeout: float = 1.5) -> None:
        """Is it there, and does it accept the key? Asked once, for a person who waits.

        Raises:
            LabelStudioRefused: says what to set. LabelStudioUnavailable: no answer in ``timeout`` seconds.
        """
        Connection(self._call.url, self._token, timeout).get("api/current-user/whoami", patient=False)

    # -- projects ----------------------------------------------------------------------------------------------------

    def project(self, project_id: int) -> ProjectInfo:
        found = self._call.get(f"api/projects/{project_id}/")
        created = datetime.fromisoformat(found["created_at"])
        return ProjectInfo(
            id=found["id"],
            key=f"{found['id']}.{int(created.timestamp())}",
            title=found["title"],
            label_config=found["label_config"] or "",
            model_version=found["model_version"] or "",
            sampling=found["sampling"] or "",
            task_number=found["task_number"] or 0,
        )

    def project_exists(self, project_id: int) -> bool:
        try:
            self.project(project_id)
        except NotFound:
            return False
        return True

    def update_project(self, project_id: int, **fields: Any) -> None:
        """Set fields such as ``model_version`` and ``sampling``. A version without predictions is refused."""
        self._call.patch(f"api/projects/{project_id}/", fields)

    # -- reading -----------------------------------------------------------------------------------------------------

    def tasks(self, project_id: int, after_id: int = 0) -> Iterator[TaskRef]:
        """Every task with a larger id, ascending, as its data is stored (``s3://…`` stays so).

        Naming the wanted fields makes 1,000 cost 0.4 s instead of 2 s; each page is asked for by the last id, so that
        tasks which come and go meanwhile move no other.
        """
        size = _FIRST_NEW_TASKS if after_id else _TASKS_A_PAGE
        while page := self._page(project_id, [number("id", "greater", after_id)], size, include="id,data"):
            yield from (TaskRef(item["id"], item["data"]) for item in page)
            if len(page) < size:
                return
            after_id, size = page[-1]["id"], _TASKS_A_PAGE

    def annotated(self, project_id: int, *, results: bool = True, drawn: bool = False) -> Iterator[TaskAnnotations]:
        """All tasks with an annotation, skipped ones included, by id; proportional to those (1,000: 2 s).

        A page is asked for when the one before it is used up. The export of annotated tasks takes as long, and leaves
        two files on Label Studio's disk at every call.

        Args:
            results: with what each annotation says: 18 s for 1,000 with strokes of 60,000 numbers.
            drawn: expect strokes in the results, and take smaller pages, so that memory stays flat.
        """
        size = _DRAWN_A_PAGE if results and drawn else _ANNOTATED_A_PAGE
        last = 0
        while True:
            after = number("id", "greater", last)
            filters = [
                number("total_annotations", "greater", 0) | {"child_filter": after},
                number("cancelled_annotations", "greater", 0) | {"child_filter": after},
            ]
            count = 0
            for item in self._annotations(project_id, filters, size, "or", results):
                yield item
                last, count = item.task_id, count + 1
            if count < size:
                return

    def annotations_of(self, project_id: int, task_ids: Sequence[int]) -> Iterator[TaskAnnotations]:
        """The annotations of these tasks, of those that still exist and have any; proportional to their number."""
        for start in range(0, len(task_ids), _DRAWN_A_PAGE):
            chosen = [int(task) for task in task_ids[start : start + _DRAWN_A_PAGE]]
            yield from self._annotations(project_id, [number("id", "in_list", chosen)], len(chosen))

    def _annotations(
        self,
        project_id: int,
        filters: Sequence[Mapping[str, Any]],
        size: int,
        conjunction: str = "and",
        results: bool = True,
    ) -> Iterator[TaskAnnotations]:
        fields = f"is_labeled,annotations,{_ANNOTATION_FIELDS}"  # the names count at both levels
        if results:
            fields += ",result"
        for item in self._page(project_id, filters, size, conjunction, fields="all", include=fields):
            yield TaskAnnotations(item["id"], item["annotations"], item["is_labeled"])

    def _page(
        self,
        project_id: int,
        filters: Sequence[Mapping[str, Any]],
        size: int,
        conjunction: str = "and",
        **wanted: Any,
    ) -> list[dict[str, Any]]:
        query = json.dumps({"filters": {"conjunction": conjunction, "items": list(filters)}, "ordering": ["tasks:id"]})
        answer = self._call.get(
            "api/tasks/", project=project_id, page_size=size, query=query, resolve_uri="false", **wanted
        )
        items: list[dict[str, Any]] = answer["tasks"]
        return items

    # -- predictions -------------------------------------------------------------------------------------------------

    def create_prediction(self, task_id: int, result: list[dict[str, Any]], score: float, model_version: str) -> None:
        """Write one. Costs 0.05 s whatever the project's size.

        Raises:
            LabelStudioUnavailable: ``maybe_written`` tells whether it may have been written all the same.
            BackendError: refused and not written, such as for a task that was deleted.
        """
        body = {"task": task_id, "result": result, "score": score, "model_version": model_version}
        self._call.post("api/predictions/", body)

    def import_predictions(self, project_id: int, predictions: Sequence[Mapping[str, Any]]) -> int:
        """Write many, each ``{"task", "result", "score", "model_version"}``, in one transaction; how many were written.

        Costs seconds whatever their number, because each call recounts the project's tasks: one call, not many. Label
        Studio silently leaves out those whose result or score it finds invalid. Raises as ``create_prediction``.
        """
        if not predictions:
            return 0
        path = f"api/projects/{project_id}/import/predictions"
        answer = self._call.post(path, list(predictions), timeout=BULK_SECONDS)
        created = int(answer["created"])
        if created != len(predictions):
            log.warning("Project %s: Label Studio took %d of %d predictions", project_id, created, len(predictions))
        return created

    def predictions(self, project_id: int, model_version: str) -> list[PredictionRef]:
        """All predictions of exactly this version, doubles included.

        Label Studio cannot be asked for one version. The plain list of all versions, read as it streams in, costs 1 s
        for every 10,000 predictions in the project; through the Data Manager with ``fields=all`` 10,000 tasks cost
        16 s, through the export 14 s.
        """

        def once() -> list[PredictionRef]:
            rows = self._call.stream("api/predictions/", timeout=BULK_SECONDS, project=project_id)
            return [
                PredictionRef(row["id"], row["task"], row["score"])
                for row in rows
                if row["model_version"] == model_version
            ]

        return self._call.patiently(once)

    def model_versions(self, project_id: int) -> dict[str, int]:
        """How many predictions the project holds of each version (0.1 s)."""
        answer = self._call.get(f"api/projects/{project_id}/model-versions")
        return {str(version): int(count) for version, count in answer.items()}

    def delete_prediction(self, prediction_id: int) -> None:
        """Delete one; one that is gone already is fine."""
        try:
            self._call.delete(f"api/predictions/{prediction_id}/")
        except NotFound:
            log.debug("Prediction %d was gone already", prediction_id)

    def delete_version(self, project_id: int, model_version: str) -> None:
        """Delete all predictions of a version: 30 s for 10,000, during which Label Studio's SQLite takes no write."""
        if not model_version:
            raise ValueError("without a version Label Studio would delete every prediction of the project")
        body = {"model_version": model_version}
        self._call.delete(f"api/projects/{project_id}/model-versions", body, timeout=BULK_SECONDS)

    # -- set-up of a project -----------------------------------------------------------------------------------------

    def update_webhook_headers(self, project_id: int, headers: Mapping[str, str], url_suffix: str = "/webhook") -> int:
        """Add ``headers`` to the webhook that Label Studio made for a backend with basic auth; how many were changed.

        Only a webhook at ``url_suffix`` under a backend that is connected with basic auth: nobody else is to learn it.
        """
        backends = self._call.get("api/ml/", project=project_id)
        ours = {item["url"].rstrip("/") + url_suffix for item in backends if item.get("auth_method") == "BASIC_AUTH"}
        changed = 0
        for hook in self._call.get("api/webhooks/", project=project_id):
            merged = {**(hook["headers"] or {}), **headers}
            if hook["url"] in ours and merged != hook["headers"]:
                # its actions go with it: Label Studio would reset them
                kept = {name: hook[name] for name in ("actions", "send_for_all_actions")}
                self._call.patch(f"api/webhooks/{hook['id']}/", {"headers": merged, **kept})
                changed += 1
        return changed

    # -- images ------------------------------------------------------------------------------------------------------

    def fetch_image(self, source: str, task_id: int | None = None, scratch: Path | None = None) -> bytes:
        """An image as it is stored: an upload, a local file, a cloud file (needs ``task_id``) or a web address.

        ``scratch``: where the download lies for a moment. Several threads may fetch at once.

        Raises:
            ImageError: this image cannot be had; the reason is one that an owner can act on.
            LabelStudioUnavailable, LabelStudioRefused: none can be had, Label Studio itself is away or refuses the key.
        """
        return self._images.fetch(source, task_id, scratch)
