"""Fills a project's image cache, in the order in which the images will be needed, and sets broken images aside."""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from backend.errors import ImageError
from backend.images.cache import Broken, Fetch, ImageCache
from backend.images.source import fetch_image, sources
from backend.images.trying import Attempts, Tried, source_digest
from backend.state import BrokenImage
from backend.worker.job import Job
from backend.worker.truth import Truth
from models import ProgressFn

log = logging.getLogger(__name__)

_SLICE = 256  # images between two looks at the clock


def open_images(
    job: Job,
    truth: Truth,
    report: ProgressFn,
    *,
    seconds: float | None = None,
    wanted: np.ndarray | None = None,
) -> ImageCache:
    """The project's image cache, filled with the images of all labeled tasks that can be fetched and decoded, and then
    with those of others. Broken ones are set aside; they are tried again when they are due, or at once if their source
    changed.

    Args:
        seconds: how long to go on with tasks that are not labeled; None: until all are there. If some are left, the
            project's upkeep stays due, which goes on with them.
        wanted: tasks (M,) without a label to fetch; None: all, in an order drawn at random, so that those which arrive
            first are a sample of the pool.
    """
    state, project_id = job.state, job.project.id
    fetch, attempts = _fetcher(job, truth), Attempts(job.folder)
    note_deaths(job, attempts)
    if wanted is None:
        wanted = np.random.default_rng([job.settings.seed, len(truth.tasks)]).permutation(truth.unlabeled)
    labeled = truth.annotated
    first = itertools.chain(labeled.tolist(), wanted.tolist())
    cache = truth.kind.open_cache(job.folder, _with_sources(job, first), fetch, job.device.type)

    set_aside = {image.task_id: image for image in state.tasks.broken_images(project_id)}
    again = set(state.tasks.changed_images(project_id)) | set_aside.keys()
    missing = [_missing(cache, tasks, again) for tasks in (labeled, wanted)]
    until = None if seconds is None else time.monotonic() + seconds
    with attempts:
        filling = _Filling(job, cache, fetch, attempts, set_aside, again, report, sum(map(len, missing)))
        filling.fill(missing[0], None)
        if not filling.fill(missing[1], until):
            state.hints.add(project_id, tasks=True)
    cache.forget(np.setdiff1d(np.array(cache.task_ids(), dtype=np.int64), truth.tasks).tolist())
    return cache


def note_deaths(job: Job, attempts: Attempts) -> None:
    """Set aside the images that processes were decoding when they died."""

    def note(tried: Sequence[Tried]) -> None:
        sources = job.state.tasks.sources(job.project.id, [task for task, _ in tried])
        found = [(task, sources[task]) for task, digest in tried if source_digest(sources.get(task, "")) == digest]
        named = ", ".join(str(task) for task, _ in found)
        log.warning("Project %s: a process ended while it decoded the images of tasks %s", job.project.id, named)
        job.check()
        job.state.tasks.set_deadly(job.project.id, found, job.settings.retry_broken_seconds)

    attempts.collect(note)


class _Filling:
    """One filling of the cache: what was tried, and what was found broken."""

    def __init__(
        self,
        job: Job,
        cache: ImageCache,
        fetch: Fetch,
        attempts: Attempts,
        set_aside: dict[int, BrokenImage],
        again: set[int],
        report: ProgressFn,
        total: int,
    ) -> None:
        self._job, self._cache, self._fetch, self._attempts = job, cache, fetch, attempts
        self._set_aside, self._again = set_aside, again
        self._report, self._total = report, total
        self._now = job.state.now()
        self._tried: set[int] = set()
        self._recorded: set[int] = set()
        self._waiting: set[int] = set()
        self._broken: dict[int, Broken] = {}

    def fill(self, tasks: np.ndarray, until: float | None) -> bool:
        """Fetch the images of ``tasks`` (M,), in their order, until the monotonic time ``until``, but at least some of
        them. Returns whether all were tried."""
        for start in range(0, len(tasks), _SLICE):
            if until is not None and start and time.monotonic() >= until:
                return False
            some = self._job.state.tasks.sources(self._job.project.id, tasks[start : start + _SLICE].tolist())
            wanted = [item for item in some.items() if not self._waits(*item)]
            self._sync(wanted, until)
            if until is not None and time.monotonic() >= until:
                done = self._note_tried(list(some)) and start + _SLICE >= len(tasks)
                self._record()
                return done
            self._tried |= some.keys()
            self._record()
        return True

    def _sync(self, wanted: Sequence[tuple[int, str]], until: float | None) -> None:
        """Fetch and decode images. Those that some process died of come last, and each alone, so that no other is taken
        for what kills."""
        deadly = [item for item in wanted if self._is_deadly(item[0])]
        together = [item for item in wanted if not self._is_deadly(item[0])]
        for part, workers in ((together, self._job.settings.download_workers), *(([item], 1) for item in deadly)):
            left = None if until is None else max(0.0, until - time.monotonic())
            if part and not (part is not together and left == 0.0):
                found = self._cache.sync(
                    part, self._fetch, workers, self._progress, seconds=left, trying=self._attempts.trying
                )
                self._broken |= {image.task_id: image for image in found}

    def _is_deadly(self, task: int) -> bool:
        image = self._set_aside.get(task)
        return image is not None and image.deaths > 0

    def _note_tried(self, tasks: list[int]) -> bool:
        """Note which of ``tasks`` were tried before the time was up. Returns whether it was all of them."""
        fetched = self._cache.rows(tasks) >= 0
        tried = {
            task
            for task, there in zip(tasks, fetched.tolist(), strict=True)
            if self._still_broken(task) or (there and task not in self._again)
        }
        self._tried |= tried
        return len(tried) == len(tasks)

    def _progress(self, phase: str, done: int, total: int) -> None:
        self._report(phase, len(self._tried) + done, max(self._total, len(self._tried) + done))

    def _record(self) -> None:
        """Store which images are set aside and which no longer are, as far as they were tried."""
        job, state, project_id = self._job, self._job.state, self._job.project.id
        found = [image for image in self._broken.values() if image.task_id not in self._recorded]
        if damaged := [image for image in found if image.later is None]:
            log.warning("Project %s: %d images set aside; first: %s", project_id, len(damaged), damaged[0].reason)
            rows = [(image.task_id, image.source, image.reason) for image in damaged]
            state.tasks.set_broken(project_id, rows, job.settings.retry_broken_seconds)
        waiting = [(i.task_id, i.source, i.reason, max(1.0, i.later)) for i in found if i.later is not None]
        if waiting:
            log.info("Project %s: %d images have to wait; first: %s", project_id, len(waiting), waiting[0][2])
            state.tasks.set_waiting(project_id, waiting)
        tried = self._tried - self._recorded
        fixed = {task for task in tried & self._set_aside.keys() if not self._still_broken(task)}
        state.tasks.clear_broken(project_id, fixed)
        state.tasks.clear_changed_images(project_id, tried)
        self._recorded |= tried | {image.task_id for image in found}

    def _still_broken(self, task: int) -> bool:
        return task in self._broken or task in self._waiting

    def _waits(self, task: int, source: str) -> bool:
        """Whether an image is set aside, and is neither due to be tried again nor has another address by now."""
        image = self._set_aside.get(task)
        waits = image is not None and image.retry_at > self._now and image.source == source
        if waits:
            self._waiting.add(task)
        return waits


def _fetcher(job: Job, truth: Truth) -> Fetch:
    available = sources(job.gateway, job.settings)

    def fetch(task: int, source: str) -> bytes:
        job.check()
        if not source:
            raise ImageError(f'the task has no "{truth.kind.data_key}"')
        return fetch_image(source, task, available)

    return fetch


def _with_sources(job: Job, tasks: Iterable[int]) -> Iterator[tuple[int, str]]:
    """(task id, source) of each of ``tasks``, read from the state as they are asked for."""
    remaining = iter(tasks)
    while some := list(itertools.islice(remaining, _SLICE)):
        yield from job.state.tasks.sources(job.project.id, some).items()


def _missing(cache: ImageCache, tasks: np.ndarray, again: set[int]) -> np.ndarray:
    """Those of ``tasks`` (M,) that have no row in the cache, or that have to be looked at ``again``, in their order."""
    looked_at = np.isin(tasks, np.array(sorted(again), dtype=np.int64))
    return tasks[(cache.rows(tasks) < 0) | looked_at]
