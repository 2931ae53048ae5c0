"""What ``/predict`` responds with: stored predictions, and fresh ones for tasks that have none."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from backend.errors import BackendError, OwnerError, understood
from backend.files import checkpoint_here, checkpoint_path, predictions_folder
from backend.images.trying import Attempts
from backend.labelstudio.client import LabelStudio
from backend.settings.core import Settings
from backend.state import Project, StoredPrediction, Version
from backend.store.reading import folder_to_read
from backend.tasks import kind_of
from backend.tasks.base import AnyTaskKind
from backend.tasks.label_config import image_source
from backend.tasks.records import FreshPrediction, Result
from backend.web.fresh import FETCH_SECONDS
from backend.web.services import Services

log = logging.getLogger(__name__)

REGIONS_SECONDS = 30.0  # Label Studio waits 100 seconds; the regions of a large photograph take one or two


@dataclass(frozen=True)
class RequestedPredictions:
    """The predictions that a request asks for, of a ``project`` whose ``label_config`` came with it."""

    services: Services
    project: Project
    label_config: str

    def fill(self, entries: dict[int, dict[str, Any]], tasks: Sequence[Mapping[str, Any]]) -> None:
        """Add predictions to ``entries``, by task id."""
        project = self.project
        version = self.services.state.versions.current(project.id)
        if version is None:
            return
        settings = self._settings()
        kind = self._kind(settings).serving(version.metrics)
        stored = self.services.state.scores.of_tasks(project.id, [task["id"] for task in tasks])
        folder = folder_to_read(settings, project, predictions_folder(Path(), version.name).as_posix())
        kept = kind.open_kept(predictions_folder(folder, version.name))
        until = time.monotonic() + REGIONS_SECONDS
        for task, prediction in stored.items():
            in_time = time.monotonic() < until
            entries[task] = _entry(prediction, kind.result(prediction, kept) if in_time else [])
        wanted = [task for task in tasks if task["id"] not in stored]
        if kind.name == version.metrics.get("task"):  # some kinds keep large predictions only for the head of the queue
            wanted += [task for task in tasks if task["id"] in stored and not kind.holds(stored[task["id"]], kept)]
        for task, (prediction, result) in self._fresh(version, kind, wanted).items():
            # if there is a stored score, it is the one that orders the queue
            entries[task] = _entry(stored.get(task, prediction), result)

    def _settings(self) -> Settings:
        try:
            return self.services.settings.for_project(self.project.extra_params)
        except OwnerError:  # stored by another version of the backend; the worker reports it to the owner
            return self.services.settings

    def _kind(self, settings: Settings) -> AnyTaskKind:
        try:
            return kind_of(self.label_config or self.project.label_config, settings)
        except OwnerError:  # it was edited just now; the stored one still describes what the model predicts
            return kind_of(self.project.label_config, settings)

    def _fresh(
        self, version: Version, kind: AnyTaskKind, tasks: Sequence[Mapping[str, Any]]
    ) -> dict[int, FreshPrediction]:
        if version.checkpoint is None or not tasks:
            return {}
        gateway = LabelStudio.of_project(kind.settings, self.project, timeout=FETCH_SECONDS)
        images = partial(self._images, gateway, kind.data_key, tasks)
        try:
            stored = checkpoint_path(Path(), version.name).as_posix()
            folder = folder_to_read(kind.settings, self.project, stored)
            version = replace(version, checkpoint=str(checkpoint_here(folder, version.checkpoint)))
            with Attempts(folder) as attempts:
                return self.services.fresh(version, gateway, kind, images, attempts.trying)
        except Exception as error:
            log.warning("No fresh predictions by %s: %s", version.name, error, exc_info=is_unexpected(error))
            return {}

    def _images(self, gateway: LabelStudio, data_key: str, tasks: Sequence[Mapping[str, Any]]) -> dict[int, str]:
        """Task id → image source, without the tasks that are set aside. A request may name any address: what is fetched
        is what stands in Label Studio, which is asked about tasks that were imported since the last comparison. An
        image that is in the request itself is fetched from nowhere."""
        state, project = self.services.state, self.project
        now = state.now()
        waits = {image.task_id for image in state.tasks.broken_images(project.id) if image.retry_at > now}
        sources = {task["id"]: _image_within(task, data_key) for task in tasks}
        sources |= state.tasks.sources(project.id, list(sources))
        if unknown := [task for task, source in sources.items() if not source]:
            try:
                held = gateway.tasks_of(project.number, unknown)
            except BackendError as error:
                log.info("Project %s: new tasks have no prediction yet: %s", project.name, error)
            else:
                sources |= {task.id: image_source(task.data, data_key) or "" for task in held}
        return {task: source for task, source in sources.items() if source and task not in waits}


def _image_within(task: Mapping[str, Any], data_key: str) -> str:
    """The image that a task of a request brings along as a data URI; "" if there is none."""
    data = task.get("data")
    source = image_source(data, data_key) if isinstance(data, dict) else None
    return source if source and source.startswith("data:") else ""


def _entry(stored: StoredPrediction, result: Result) -> dict[str, Any]:
    """One entry of the results of ``/predict``."""
    return {"result": result, "score": stored.priority_score, "model_version": stored.version}


def is_unexpected(error: Exception) -> bool:
    """Whether a failure is none that the backend has words for, so that its log needs the traceback."""
    return not isinstance(understood(error), BackendError)
