"""The tab of the Data Manager that shows the queue in order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from backend.labelstudio.http import Connection

QUEUE_TAB = "Acquisition queue"
HEAD_TAB = "Acquisition queue (next tasks)"

_COLUMN_WIDTHS = {
    "tasks:predictions_score": 150,
    "tasks:predictions_model_versions": 210,
    "tasks:predictions_results": 330,
}
"""In pixels: wide enough for a version's name and the class, which the default of 150 cuts off."""


class QueueTab:
    """Creates the tab in a project, once. An existing one belongs to the owner and is left alone."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def ensure(self, project_id: int, data_key: str, columns: Sequence[str], *, head_only: bool = False) -> int:
        """The id of the tab "Acquisition queue", which is created if there is none.

        It shows the unlabeled tasks, lowest score first; if the order is published ``head_only``, those of its head,
        and its title says so. The score column and the order use only the project's current
        version, because Label Studio averages ``predictions_score`` over that. The columns with the predicted class and
        the version list every version that is still stored, because Label Studio has no filter for them.

        ``data_key``: the field with the image's address; ``columns``: which prediction columns are shown.
        """
        tabs = self._connection.get("api/dm/views/", project=project_id)
        for tab in tabs:
            if (tab["data"] or {}).get("title") in (QUEUE_TAB, HEAD_TAB):
                return int(tab["id"])
        if not tabs:  # also create the tab with all tasks, which Label Studio only creates in a project without tabs
            self._connection.post("api/dm/views/", {"project": project_id, "data": {"title": "Default"}})
        shown = {f"tasks:data.{data_key}", "tasks:id"} | {f"tasks:predictions_{name}" for name in columns}
        filters = [number("total_annotations", "equal", 0)]
        if head_only:
            filters.append(number("predictions_score", "greater_or_equal", 0))
        hidden = sorted(self._columns(project_id) - shown)
        data = {
            "title": HEAD_TAB if head_only else QUEUE_TAB,
            "type": "list",
            "target": "tasks",
            "hiddenColumns": {"explore": hidden, "labeling": hidden},
            "filters": {"conjunction": "and", "items": filters},
            "ordering": ["tasks:predictions_score"],
            "columnsWidth": _COLUMN_WIDTHS,
        }
        return int(self._connection.post("api/dm/views/", {"project": project_id, "data": data})["id"])

    def _columns(self, project_id: int) -> set[str]:
        columns = self._connection.get("api/dm/columns/", project=project_id)["columns"]
        return {f"tasks:{'data.' if column.get('parent') == 'data' else ''}{column['id']}" for column in columns}


def number(column: str, operator: str, value: int | list[int]) -> dict[str, Any]:
    """A Data Manager filter on a numeric column of tasks."""
    return {"filter": f"filter:tasks:{column}", "operator": operator, "type": "Number", "value": value}
