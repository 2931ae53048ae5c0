"""Keeps the project's queue in the published order, whoever changes what orders it."""

from __future__ import annotations

from backend.events import UNCERTAINTY
from backend.head import head_size
from backend.reporting.accuracy import accuracy_of, percent
from backend.state import Version
from backend.worker import publisher
from backend.worker.connection import note
from backend.worker.job import Job
from backend.worker.results import project_kind

ON_PURPOSE = 'To choose these yourself, set "manage_queue" to false in the extra params of the connection'


def hold(job: Job, version: Version, warning: str = "") -> None:
    """Compare what orders the project's queue with what should, and set it right; or only note it, where the owner
    manages the queue. ``warning``: who is known to have changed it."""
    info = job.gateway.project(job.project.number)
    found = {"model version": info.model_version, "sampling": info.sampling}
    wanted = {"model version": version.name, "sampling": UNCERTAINTY}
    wrong = {name: value for name, value in found.items() if value != wanted[name]}
    if not wrong:
        return
    if not job.settings.manage_queue:
        words = " and ".join(f'the {name} is "{value}"' for name, value in wrong.items())
        note(job, f"The owner manages the queue: {words}, so {version.name} does not order it")
    elif job.state.scores.has_written(version):
        publisher.switch(job, version)
        words = " and ".join(f'the {name} was "{value}"' for name, value in wrong.items())
        note(job, f"{warning + '. ' if warning else ''}In Label Studio {words}; set back. {ON_PURPOSE}")


def make_tab(job: Job) -> None:
    """Create the queue's tab, once: from then on it belongs to the owner, and is only looked for, so that links lead to
    it for as long as it is there; and its title says which version orders the queue, until the owner renames it."""
    if not job.settings.manage_queue:
        return
    job.check()
    current = job.state.versions.current(job.project.id)
    if job.project.queue_ready:
        said = in_title(current) if current is not None and current.status == "current" else None
        _note_tab(job, job.gateway.queue_tab.look_after(job.project.number, job.project.queue_tab, said))
        return
    kind = project_kind(job)
    head_only = current is not None and head_size(job.state, job.settings, current) is not None
    tab = job.gateway.queue_tab.ensure(job.project.number, kind.data_key, kind.queue_columns, head_only=head_only)
    job.state.projects.update(job.project.id, job.owner, queue_ready=True, queue_tab=tab)


def in_title(version: Version) -> str:
    """What the tab's title says of the version that orders the queue; "" for a first order."""
    if not version.labels:
        return ""
    accuracy = accuracy_of(version.metrics)
    return f"{percent(accuracy.value)} · {version.name}" if accuracy is not None else version.name


def _note_tab(job: Job, tab: int | None) -> None:
    if tab != job.project.queue_tab:
        job.state.projects.update(job.project.id, job.owner, queue_tab=tab)
