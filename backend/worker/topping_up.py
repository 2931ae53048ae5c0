"""Fills up the head of the order that is being labeled while a cycle trains, which may take longer than labeling it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from backend import head
from backend.errors import BackendError, HandsOff, LeaseLost, Stopped
from backend.worker import connection, publisher
from backend.worker.job import Job
from backend.worker.lanes import log_failure

log = logging.getLogger(__name__)

LOOK_SECONDS = 2.0
"""How often a cycle looks whether the head has to be filled up."""


@contextmanager
def kept_full(job: Job) -> Iterator[None]:
    """While a cycle trains and scores inside the block, fill up the head of the order that is being labeled. Nothing
    that happens to it ends the cycle."""
    done = threading.Event()
    thread = threading.Thread(target=_keep_full, args=(job, done), name=f"head {job.project.id}", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _keep_full(job: Job, done: threading.Event) -> None:
    def check() -> None:
        job.check()
        if done.is_set():  # the cycle does not wait for the rest of an order that is about to be replaced
            raise Stopped("the cycle goes on")

    while not done.wait(LOOK_SECONDS):
        try:
            now = replace(job.reread(), check=check)
            version = job.state.versions.current(job.project.id)
            if version is not None and head.is_short(job.state, job.settings, now.project, version):
                connection.require(now)
                publisher.complete(now, version)
        except (HandsOff, LeaseLost, Stopped):
            return
        except BackendError as error:
            log.info("Project %s: the queue could not be filled up, trying again: %s", job.project.id, error)
        except Exception as error:
            log_failure(f"Project {job.project.id}: the queue could not be filled up", error)
