"""After a cycle: another sampler, where the owner lets a replay choose."""

from __future__ import annotations

import logging

from backend.reporting.auto_sampler import switched
from backend.settings.core import Settings
from backend.state import Version
from backend.worker.job import Job

log = logging.getLogger(__name__)


def consider(job: Job, settings: Settings, version: Version) -> None:
    """Switch if that is due (:mod:`backend.reporting.auto_sampler`). ``settings``: those of the project as its owner
    has them; ``version``: that of the cycle which has just ended."""
    if switch := switched(settings, job.folder, version.sampler, int(version.metrics.get("labels", 0))):
        log.info(
            "Project %s: from the next cycle on, %s orders the queue in place of %s, by the replay of its labels",
            job.project.name,
            switch.sampler,
            version.sampler,
        )
