"""Plays, in upkeep and a piece at a time, the replay that was asked for on the page of a project."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from backend.errors import BackendError, OwnerError, understood
from backend.reporting import replays
from backend.worker.job import Job

log = logging.getLogger(__name__)

PIECE_SECONDS = 20.0
"""How long a project's upkeep plays before other work gets its turn, and then to the end of a curve."""

LOOK_SECONDS, NOTE_SECONDS = 0.5, 2.0
"""How often a piece looks whether other work is due, and notes how far it is."""


class _GivesWay(Exception):
    """Other work is due."""


def replay(job: Job, other_work: Callable[[], bool]) -> None:
    """One piece of the replay, if one was asked for. Until it is over, the project's upkeep stays due.

    ``other_work``: whether something is due that this gives way to, at once: the curve that is under way is lost then,
    and nothing else. A kill loses as much.
    """
    job = job.reread()
    project, state = job.project, job.state
    if not project.replay_requested or other_work():
        return
    from backend.replay.pieces import forget, replay_piece  # here: it imports torch

    watch = _Watch(job, other_work)
    try:
        with job.turn() as device:
            watch.begin()
            found = replay_piece(
                state,
                job.settings,
                project,
                job.folder,
                device,
                progress=watch.progress,
                often=watch.often,
                check=job.check,
                go_on=watch.has_time,
            )
    except _GivesWay:
        log.debug("Project %s: the replay gives way to other work", project.name)
        return
    except OwnerError as error:
        log.info("Project %s: no replay: %s", project.name, error)
        state.replays.settle(project.id, job.owner, project.replay_seq, str(error))
        return
    except Exception as error:
        if not isinstance(understood(error), BackendError):  # again, it would end the same, and the upkeep with it
            words = f"It failed ({type(error).__name__}); the worker's log has more."
            state.replays.settle(project.id, job.owner, project.replay_seq, words)
        raise
    if found is not None:
        job.check()
        replays.keep(job.folder, found)
        state.replays.settle(project.id, job.owner, project.replay_seq)
        forget(job.folder)
        log.info("Project %s: %s", project.name, replays.in_words(found))


class _Watch:
    """Notes how far a piece is, and looks whether it has to end."""

    def __init__(self, job: Job, other_work: Callable[[], bool]) -> None:
        self._job, self._other_work = job, other_work
        self._spent = float((job.project.replaying or {}).get("seconds", 0.0))
        self.begin()

    def begin(self) -> None:
        self._began = self._looked = time.monotonic()
        self._noted = self._began - NOTE_SECONDS

    def progress(self, done: int, total: int) -> None:
        now = time.monotonic()
        if now - self._noted >= NOTE_SECONDS or done == total:
            self._noted = now
            seconds = self._spent + now - self._began
            self._job.state.replays.note(self._job.project.id, self._job.owner, done, total, seconds)

    def often(self, phase: str, done: int, total: int) -> None:
        if time.monotonic() - self._looked < LOOK_SECONDS:
            return
        self._looked = time.monotonic()
        self._job.check()
        if self._other_work():
            raise _GivesWay

    def has_time(self) -> bool:
        return time.monotonic() - self._began < PIECE_SECONDS
