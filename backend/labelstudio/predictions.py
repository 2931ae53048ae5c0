"""The predictions of a project: written exactly once, read and deleted as far as Label Studio's API goes."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from backend.labelstudio.http import Connection, NotFound
from backend.labelstudio.records import PredictionRef

log = logging.getLogger(__name__)

BULK_SECONDS = 900.0
"""Timeout of bulk calls. Writing 10,000 predictions takes 7 s; pools may be larger."""


class Predictions:
    """Writes, reads and deletes predictions. New ones are sent once, without a retry, because Label Studio does not
    notice what it was sent before."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def create(self, task_id: int, result: list[dict[str, Any]], score: float, model_version: str) -> None:
        """Write one prediction. Takes 0.05 s, whatever the project's size.

        Raises:
            LabelStudioUnavailable: ``maybe_written`` says whether it may nevertheless have been written.
            BackendError: it was refused and not written, for example because the task was deleted.
        """
        body = {"task": task_id, "result": result, "score": score, "model_version": model_version}
        self._connection.post("api/predictions/", body)

    def create_many(self, project_id: int, predictions: Sequence[Mapping[str, Any]]) -> int:
        """Write many predictions, each ``{"task", "result", "score", "model_version"}``, in one transaction.

        Takes seconds, whatever their number, because Label Studio recounts the project's tasks at each call. Returns
        how many were written: Label Studio silently leaves out predictions whose result or score it considers invalid.
        Raises the same errors as :meth:`create`.
        """
        if not predictions:
            return 0
        path = f"api/projects/{project_id}/import/predictions"
        created = int(self._connection.post(path, list(predictions), timeout=BULK_SECONDS)["created"])
        if created != len(predictions):
            log.warning("Project %s: Label Studio took %d of %d predictions", project_id, created, len(predictions))
        return created

    def of_version(self, project_id: int, model_version: str) -> list[PredictionRef]:
        """All predictions of exactly this version, including duplicates.

        Label Studio cannot filter them by version. Reading the plain list of all versions as a stream takes 1 s for
        every 10,000 predictions in the project. Through the Data Manager with ``fields=all``, 10,000 tasks take 16 s;
        through the export, 14 s.
        """

        def once() -> list[PredictionRef]:
            rows = self._connection.stream("api/predictions/", timeout=BULK_SECONDS, project=project_id)
            return [PredictionRef(row["id"], row["task"]) for row in rows if row["model_version"] == model_version]

        return self._connection.with_retries(once)

    def empty(self, project_id: int) -> list[int]:
        """The ids of the predictions without a version, without a result and with the score 0: what Label Studio stores
        of a task for which this backend had no prediction. Takes as long as :meth:`of_version`."""

        def once() -> list[int]:
            rows = self._connection.stream("api/predictions/", timeout=BULK_SECONDS, project=project_id)
            return [row["id"] for row in rows if not (row["model_version"] or row["result"] or row["score"])]

        return self._connection.with_retries(once)

    def versions(self, project_id: int) -> dict[str, int]:
        """The number of predictions that the project holds of each version. Takes 0.1 s."""
        counts = self._connection.get(f"api/projects/{project_id}/model-versions/")
        return {str(version): int(count) for version, count in counts.items()}

    def delete(self, prediction_id: int) -> None:
        """Delete one prediction, if it still exists. Takes 0.05 s. (Deleting a whole version takes 5 to 7 ms for each
        of its predictions, in one transaction that all of Label Studio waits for.)"""
        try:
            self._connection.delete(f"api/predictions/{prediction_id}/")
        except NotFound:
            log.debug("Prediction %d was already deleted", prediction_id)
