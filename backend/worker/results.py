"""What predictions say, in the terms of the label config as Label Studio has it now."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from backend.files import predictions_folder
from backend.labelstudio.records import ProjectInfo
from backend.state import StoredPrediction, Version
from backend.tasks import kind_of
from backend.tasks.base import AnyTaskKind
from backend.tasks.records import Result
from backend.worker.job import Job


def project_kind(job: Job, info: ProjectInfo | None = None) -> AnyTaskKind:
    """The kind of task of the current label config: Label Studio refuses predictions that do not fit it. ``info``: the
    project, if it was read a moment ago."""
    found = job.gateway.project(job.project.number) if info is None else info
    return kind_of(found.label_config, job.settings)


@dataclass(frozen=True)
class Results:
    """The ``result`` of each prediction of a version, in the terms of the current label config. Each is built only when
    it is needed, because masks are large."""

    kind: AnyTaskKind
    kept: Any

    @classmethod
    def of(cls, job: Job, version: Version, info: ProjectInfo | None = None) -> Results:
        """Of ``version``, with the label config as Label Studio has it now."""
        kind = project_kind(job, info).serving(version.metrics)
        return cls(kind, kind.open_kept(predictions_folder(job.folder, version.name)))

    def __call__(self, stored: StoredPrediction) -> Result:
        return self.kind.result(stored, self.kept)
