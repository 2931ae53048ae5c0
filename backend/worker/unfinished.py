"""A version that was being published when the process before this one ended."""

from __future__ import annotations

from backend.worker import asking, publisher, queue_order, synthetic
from backend.worker.job import Job


def finish(job: Job) -> bool:
    """Publish the rest of it, and all that follows a publishing. Returns whether there was one."""
    version = job.state.versions.unpublished(job.project.id)
    if version is None:
        return False
    synthetic.ask_first(job, version)
    asking.put_in_front(job, version)
    publisher.publish(job, version)
    job.state.cycles.finish_resumed(job.project.id, job.owner, version.metrics)
    queue_order.make_tab(job.reread())
    return True
