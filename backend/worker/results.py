"""What predictions say, in the terms of the label config as Label Studio has it now."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from backend.files import predictions_folder
from backend.labelstudio.client import JUST_NOW
from backend.state import StoredPrediction, Version
from backend.tasks import kind_of
from backend.tasks.base import AnyTaskKind
from backend.tasks.records import Result
from backend.worker.job import Job


def project_kind(job: Job) -> AnyTaskKind:
    """The kind of task of the current label config: Label Studio refuses predictions that do not fit it."""
    return kind_of(job.gateway.project(job.project.number, JUST_NOW).label_config, job.settings)


@dataclass(frozen=True)
class Results:
    """The ``result`` of each prediction of a version, in the terms of the current label config. Each is built only when
    it is needed, because masks are large."""

    kind: AnyTaskKind
    kept: Any

    @classmethod
    def of(cls, job: Job, version: Version) -> Results:
        """Of ``version``, with the label config as Label Studio has it now."""
        kind = project_kind(job).serving(version.metrics)
        return cls(kind, kind.open_kept(predictions_folder(job.folder, version.name)))

    def __call__(self, stored: StoredPrediction) -> Result:
        return self.kind.result(stored, self.kept)
