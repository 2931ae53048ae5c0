"""Which projects there are, and which backends each of them names."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from backend.labelstudio.http import Connection
from backend.labelstudio.pause import Pause
from backend.labelstudio.records import BackendConnection

_PROJECTS_A_PAGE = 100


class Connections:
    """The connections between the projects of a Label Studio and backends, ours and others."""

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

    def of_project(self, number: int) -> list[BackendConnection]:
        """The backends that a project names.

        To tell how they are, Label Studio calls ``/health`` and ``/setup`` of each of them before it answers, as it
        does when somebody opens the project's page *Model*. So asking this is also how to be told again who one is.

        Raises:
            NotFound: there is no such project.
        """
        found: list[dict[str, Any]] = self._connection.get("api/ml/", project=number)
        return [
            BackendConnection(
                url=str(item["url"] or ""),
                responds=item.get("state") == "CO",
                extra_params=item.get("extra_params"),
                error=str(item.get("error_message") or ""),
            )
            for item in found
        ]
