"""Tasks that the backend itself makes and removes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from backend.labelstudio.http import Connection, NotFound
from backend.labelstudio.queue_tab import number
from backend.labelstudio.records import TaskWork

IMPORT_SECONDS = 900.0
"""Timeout of an import: Label Studio counts the tasks of the project, which may be many."""


class OwnTasks:
    """Imports tasks into a project, and deletes them."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def create(self, project_id: int, data: Sequence[Mapping[str, Any]]) -> None:
        """Make a task of each of ``data``, all in one transaction. Sent exactly once: Label Studio does not notice what
        it was sent before.

        Raises:
            LabelStudioUnavailable: ``maybe_written`` says whether they may nevertheless have been made.
            BackendError: it was refused, and none was made, for example because the label config asks for a field that
                they do not have.
        """
        body = [{"data": dict(item)} for item in data]
        self._connection.post(f"api/projects/{project_id}/import", body, timeout=IMPORT_SECONDS)

    def work_on(self, project_id: int, task_ids: Sequence[int]) -> list[TaskWork]:
        """Of those of ``task_ids`` that exist: their data, and how many annotations and drafts they have, all of which
        are counted now, because Label Studio's own counts may lag behind."""
        filters = {"conjunction": "and", "items": [number("id", "in_list", list(task_ids))]}
        page = self._connection.get(
            "api/tasks/",
            project=project_id,
            page_size=max(1, len(task_ids)),
            query=json.dumps({"filters": filters, "ordering": ["tasks:id"]}),
            resolve_uri="false",
            fields="all",
            include="id,data,annotations,drafts",
        )
        return [
            TaskWork(item["id"], item["data"], len(item["annotations"]), len(item["drafts"])) for item in page["tasks"]
        ]

    def delete(self, task_id: int) -> None:
        """Delete a task with everything that belongs to it, if it still exists."""
        try:
            self._connection.delete(f"api/tasks/{task_id}/")
        except NotFound:
            return
