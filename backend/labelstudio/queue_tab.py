"""The tabs of the Data Manager that show the queue in order, and the generated images."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from backend.labelstudio.http import Connection

QUEUE_TAB = "Acquisition queue"
HEAD_TAB = "Acquisition queue (next tasks)"
SYNTHETIC_TAB = "Synthetic images (GAAL)"

_APART = " · "
"""Between the name of the queue's tab and what is said there of the version."""

_NOT_OF_THE_DATA = ("filters", "ordering", "selectedItems")
"""Label Studio shows these in a tab's data, and keeps them elsewhere; without them in an update they stay."""

_COLUMN_WIDTHS = {
    "tasks:predictions_score": 150,
    "tasks:predictions_model_versions": 210,
    "tasks:predictions_results": 330,
}
"""In pixels: wide enough for a version's name and the class, which the default of 150 cuts off."""


class QueueTab:
    """Creates the tab in a project, once, and that of generated images. An existing one belongs to the owner and is
    left alone, save for what follows the queue's name in its title."""

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
        shown = {f"tasks:data.{data_key}", "tasks:id"} | {f"tasks:predictions_{name}" for name in columns}
        filters = [number("total_annotations", "equal", 0)]
        if head_only:
            filters.append(number("predictions_score", "greater_or_equal", 0))
        return self._ensure(project_id, (QUEUE_TAB, HEAD_TAB), int(head_only), shown, filters)

    def ensure_synthetic(self, project_id: int, data_key: str, field: str) -> int:
        """The same of the tab "Synthetic images (GAAL)": tasks of whose data ``field`` is not empty, the next one
        first, and those that are answered behind them."""
        shown = {f"tasks:data.{data_key}", f"tasks:data.{field}", "tasks:id", "tasks:predictions_score"}
        shown |= {"tasks:total_annotations", "tasks:cancelled_annotations", "tasks:annotations_results"}
        filled = {"filter": f"filter:tasks:data.{field}", "operator": "empty", "type": "String", "value": "False"}
        return self._ensure(project_id, (SYNTHETIC_TAB,), 0, shown, [filled])

    def _ensure(
        self, project_id: int, titles: Sequence[str], chosen: int, shown: set[str], filters: list[dict[str, Any]]
    ) -> int:
        """The id of the tab with one of these ``titles``; if there is none, of a new one with the title ``chosen``."""
        tabs = self._tabs(project_id)
        if (found := _titled(tabs, titles)) is not None:
            return int(found["id"])
        if not tabs:  # also create the tab with all tasks, which Label Studio only creates in a project without tabs
            self._connection.post("api/dm/views/", {"project": project_id, "data": {"title": "Default"}})
        hidden = sorted(self._columns(project_id) - shown)
        data = {
            "title": titles[chosen],
            "type": "list",
            "target": "tasks",
            "hiddenColumns": {"explore": hidden, "labeling": hidden},
            "filters": {"conjunction": "and", "items": filters},
            "ordering": ["tasks:predictions_score"],
            "columnsWidth": _COLUMN_WIDTHS,
        }
        return int(self._connection.post("api/dm/views/", {"project": project_id, "data": data})["id"])

    def look_after(self, project_id: int, own: int | None = None, said: str | None = None) -> int | None:
        """Bring the title of the tab "Acquisition queue" up to date. Returns the tab's id; None if there is none: its
        owner may have deleted or renamed it.

        Args:
            own: the id under which it was created. That tab alone gets another title.
            said: what is to stand behind its name; None: its title stays as it is.
        """
        tab = _titled(self._tabs(project_id), (QUEUE_TAB, HEAD_TAB))
        if tab is None:
            return None
        name, _, before = str(tab["data"]["title"]).partition(_APART)
        if tab["id"] == own and said is not None and said != before:
            data = {key: value for key, value in tab["data"].items() if key not in _NOT_OF_THE_DATA}
            title = f"{name}{_APART}{said}" if said else name
            body = {"project": project_id, "data": data | {"title": title}}
            self._connection.patch(f"api/dm/views/{own}/", body)
        return int(tab["id"])

    def _tabs(self, project_id: int) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._connection.get("api/dm/views/", project=project_id)
        return found

    def _columns(self, project_id: int) -> set[str]:
        columns = self._connection.get("api/dm/columns/", project=project_id)["columns"]
        return {f"tasks:{'data.' if column.get('parent') == 'data' else ''}{column['id']}" for column in columns}


def _titled(tabs: Sequence[dict[str, Any]], titles: Sequence[str]) -> dict[str, Any] | None:
    """The first tab with one of these titles, whatever follows it."""
    ours = re.compile(f"({'|'.join(map(re.escape, titles))})({re.escape(_APART)}.*)?")
    return next((tab for tab in tabs if ours.fullmatch(str((tab["data"] or {}).get("title")))), None)


def number(column: str, operator: str, value: int | list[int]) -> dict[str, Any]:
    """A Data Manager filter on a numeric column of tasks."""
    return {"filter": f"filter:tasks:{column}", "operator": operator, "type": "Number", "value": value}
