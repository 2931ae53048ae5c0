"""The Data Manager's tab that shows the queue in its order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from backend.labelstudio.http import Connection

QUEUE_TAB = "Acquisition queue"

_COLUMN_WIDTHS = {
    "tasks:predictions_score": 150,
    "tasks:predictions_model_versions": 210,
    "tasks:predictions_results": 330,
}
"""Pixels: wide enough to read a version's name and the class, which the default of 150 cuts off."""


class QueueTab:
    """Makes the tab in a project, once: an existing one is the owner's."""

    def __init__(self, call: Connection) -> None:
        self._call = call

    def ensure(self, project_id: int, data_key: str, columns: Sequence[str]) -> int:
        """The id of the Data Manager tab "Acquisition queue", made if there is none. An existing one is the owner's.

        Unlabeled tasks, lowest score first. Its score column and its order count the project's current version alone
        (that is how Label Studio averages ``predictions_score``); the columns with the predicted class and the version
        list those of every version that is still stored, because Label Studio has no filter for them.

        ``data_key``: the field of the image; ``columns``: which of its predictions' columns are shown.
        """
        tabs = self._call.get("api/dm/views/", project=project_id)
        for tab in tabs:
            if (tab["data"] or {}).get("title") == QUEUE_TAB:
                return int(tab["id"])
        if not tabs:  # the tab with all tasks, which Label Studio only makes in a project without any
            self._call.post("api/dm/views/", {"project": project_id, "data": {"title": "Default"}})
        shown = {f"tasks:data.{data_key}", "tasks:id"} | {f"tasks:predictions_{name}" for name in columns}
        hidden = sorted(self._columns(project_id) - shown)
        data = {
            "title": QUEUE_TAB,
            "type": "list",
            "target": "tasks",
            "hiddenColumns": {"explore": hidden, "labeling": hidden},
            "filters": {"conjunction": "and", "items": [number("total_annotations", "equal", 0)]},
            "ordering": ["tasks:predictions_score"],
            "columnsWidth": _COLUMN_WIDTHS,
        }
        return int(self._call.post("api/dm/views/", {"project": project_id, "data": data})["id"])

    def _columns(self, project_id: int) -> set[str]:
        columns = self._call.get("api/dm/columns", project=project_id)["columns"]
        return {f"tasks:{'data.' if column.get('parent') == 'data' else ''}{column['id']}" for column in columns}


def number(column: str, operator: str, value: int | list[int]) -> dict[str, Any]:
    """A filter of the Data Manager on one column of tasks."""
    return {"filter": f"filter:tasks:{column}", "operator": operator, "type": "Number", "value": value}
