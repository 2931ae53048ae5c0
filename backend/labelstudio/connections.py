"""Which projects there are, and which backends each of them names."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from backend.labelstudio import webhook
from backend.labelstudio.http import Connection
from backend.labelstudio.pause import Pause
from backend.labelstudio.records import MLBackend

_PROJECTS_A_PAGE = 100


class Connections:
    """The connections between the projects of a Label Studio and backends, ours and others, and their webhooks."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def project_numbers(self) -> Iterator[int]:
        """The numbers of all projects that the key opens. Others get their turn between two pages of a hundred."""
        page, pause = 1, Pause()
        while True:
            found = self._connection.get("api/projects/", page=page, page_size=_PROJECTS_A_PAGE, include="id")
            yield from (int(item["id"]) for item in found["results"])
            if not found.get("next"):
                return
            page += 1
            pause()

    def of_project(self, number: int) -> list[MLBackend]:
        """The backends that a project is connected to, by id.

        To tell how they are, Label Studio calls ``/health`` and ``/setup`` of each of them before it answers, as it
        does when somebody opens the project's page *Model*. That takes seconds where one does not answer; and so asking
        this is also how to be told again who one is.

        Raises:
            NotFound: there is no such project.
        """
        rows = self._connection.get("api/ml/", project=number)
        return sorted(map(_backend, rows), key=lambda row: row.id)

    def with_id(self, backend_id: int) -> MLBackend:
        """The same of a single backend, by the id of its connection."""
        return _backend(self._connection.get(f"api/ml/{backend_id}"))

    def repair_webhook(self, number: int, addresses: Collection[str], headers: Mapping[str, str]) -> list[str] | None:
        """See :func:`backend.labelstudio.webhook.repair_webhook`."""
        return webhook.repair_webhook(self._connection, number, addresses, headers)

    def create_webhook(self, number: int, address: str, headers: Mapping[str, str]) -> None:
        """See :func:`backend.labelstudio.webhook.create_webhook`."""
        webhook.create_webhook(self._connection, number, address, headers)


def _backend(row: Mapping[str, Any]) -> MLBackend:
    return MLBackend(
        id=row["id"],
        url=row["url"] or "",
        title=row.get("title") or "",
        answers=row.get("state") == "CO",
        model_version=row.get("model_version") or "",
        extra_params=row.get("extra_params"),
        error=str(row.get("error_message") or ""),
    )
