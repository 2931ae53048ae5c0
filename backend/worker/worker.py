"""The worker process: leases projects with work due, does the work on its device, and keeps renewing the leases.

Each project is worked on in a lane of its own (:mod:`backend.worker.lanes`). On each device one cycle at a time trains,
and one upkeep at a time scores (:mod:`backend.worker.turns`). So a project that is connected while another one trains
for an hour still gets its first order within seconds, and a Label Studio that hangs keeps only its own projects
waiting. Projects are taken by a lease, and any number of workers on any number of machines use the same mechanism.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Sequence
from functools import cached_property, partial
from typing import TYPE_CHECKING

from backend import head, memory
from backend.errors import NoLabels
from backend.events import Work
from backend.files import project_folder
from backend.images.trying import forget_all
from backend.labelstudio.client import LabelStudio
from backend.reporting import auto_sampler
from backend.settings.core import Settings
from backend.state import Project, State, Version
from backend.worker import (
    asking,
    connection,
    failures,
    heartbeat,
    identity,
    leftovers,
    preparing,
    publisher,
    queue_order,
    removal,
    replaying,
    sample,
    storing,
    switching,
    sync,
    synthetic,
    unfinished,
)
from backend.worker.device import choose_devices
from backend.worker.due import Due
from backend.worker.engine import Engine
from backend.worker.job import Job
from backend.worker.lanes import REST_SECONDS, Lanes, log_failure
from backend.worker.leases import Leases
from backend.worker.slow_imports import import_slow_modules
from backend.worker.turns import Turns
from models import ProgressFn

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)

STOP_SECONDS = 5.0


class Worker:
    """Does the work that is due, project by project, until it is stopped. ``devices``: in place of those that the
    setting ``device`` names."""

    def __init__(
        self, settings: Settings, show: ProgressFn | None = None, devices: Sequence[torch.device] = ()
    ) -> None:
        self.settings = settings
        self.state = State.for_settings(settings)
        memory.configure(settings.memory_mb, settings.projects_at_once * settings.download_workers)
        self.name = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:6]}"
        self.stop = threading.Event()
        self._show = show
        self.leases = Leases(self.state, self.name, settings.lease_seconds, self.stop)
        self._devices = devices
        self.engine = Engine(settings)
        self.due = Due(self.state, settings)
        self._last: dict[int, Work] = {}
        """By project: what was done for it last."""
        self._seen: dict[int, dict[int, str]] = {}
        """By project: see :attr:`backend.worker.job.Job.seen`."""
        self._leftovers_due = self._room_due = 0.0
        self.lanes = Lanes(settings.projects_at_once)

    def run(self) -> None:
        """Work until :attr:`stop` is set."""
        log.info("Worker %s starts on %s", self.name, ", ".join(map(str, self.turns.devices)))
        self.engine.start(self.turns.devices[0])
        threading.Thread(target=import_slow_modules, args=(self.settings,), name="imports", daemon=True).start()
        threads = [
            threading.Thread(target=target, name=name, daemon=True)
            for name, target in (("lanes", self._look), ("leases", self.leases.keep_renewing))
        ]
        for thread in threads:
            thread.start()
        heartbeat.beat(self.settings.directory)
        while not self.stop.wait(heartbeat.EVERY_SECONDS):
            if all(thread.is_alive() for thread in threads):
                heartbeat.beat(self.settings.directory)
        ended = self.lanes.join(time.monotonic() + STOP_SECONDS)
        self.leases.release_all()
        self.engine.end()
        log.info("Worker %s ends", self.name)
        if not ended:
            forget_all()  # no image is to blame
            os._exit(0)  # some lane is in a long computation or call: this is as safe as a kill, and cannot hang

    @cached_property
    def turns(self) -> Turns:
        """The turns on the devices of the setting ``device``, which are chosen when they are first needed."""
        return Turns(self._devices or choose_devices(self.settings.device))

    # -- finding work ------------------------------------------------------------------------------------------------

    def _look(self) -> None:
        """Look for due work, again and again, and start lanes for it."""
        while not self.stop.is_set():
            pause = self.settings.poll_seconds
            try:
                if self._leftovers_due <= time.monotonic():
                    self._leftovers_due = time.monotonic() + leftovers.LOOK_SECONDS
                    leftovers.remove_deleted_projects(self.state, self.settings)
                if self._room_due <= time.monotonic():
                    self._room_due = time.monotonic() + storing.LOOK_SECONDS
                    storing.make_room(self.settings, self.state, self.leases, self.lanes.projects)
                projects = self.state.projects.all()
                self._forget_all_but({project.id for project in projects})
                studios = {self._studio(project) for project in projects}
                for project in sorted(projects, key=lambda project: project.checked_at):  # who has waited longest
                    work = None if project.id in self.lanes.projects else self._next(project)
                    if work is not None:
                        do = partial(self.work_on, project, work)
                        self.lanes.start(project.id, self._studio(project), studios, project.failures > 0, do)
            except Exception as error:  # for example, the database cannot be reached
                log_failure("Looking for due work failed", error)
                pause = max(pause, REST_SECONDS)
            self.lanes.wait(pause)

    def _forget_all_but(self, known: set[int]) -> None:
        """A worker runs for months, and projects come and go."""
        for kept in (self._last, self._seen):
            for gone in kept.keys() - known:
                del kept[gone]

    def _next(self, project: Project) -> Work | None:
        """What to do for a project now. Its cycle comes first, unless others train on all devices, or it has just had
        one: either may be due again and again, upkeep for as long as images are missing."""
        due = self.due.work(project)
        upkeep_next = Work.UPKEEP in due and self._last.get(project.id) is Work.CYCLE
        if Work.CYCLE in due and not upkeep_next and not self.turns.taken(Work.CYCLE):
            return Work.CYCLE
        return Work.UPKEEP if Work.UPKEEP in due else None

    def _studio(self, project: Project) -> str:
        return self.settings.label_studio_url or project.url

    def work_on(self, project: Project, work: Work) -> bool:
        """Do ``work`` for the project if it is due and nobody else holds the project. Returns whether it was done."""
        if work not in self.due.work(project):
            return False
        with self.leases.hold(project.id) as owner:
            if owner is None:
                return False
            fresh = self.state.projects.get(project.id)
            if fresh is None or work not in self.due.work(fresh):
                return False
            self._last[project.id] = work
            try:
                job = identity.confirm(self.job(fresh, owner, work))
                storing.bring_up_to_date(job)
                (self._cycle if work is Work.CYCLE else self._upkeep)(job)
                storing.store_all(job, partial(self._is_wanted_elsewhere, job))
            except Exception as error:
                failures.handle(self.state, self.settings, fresh, owner, error)
            else:
                self.state.projects.update(project.id, owner, failures=0, last_error=None, retry_at=0.0)
        return True

    # -- doing work --------------------------------------------------------------------------------------------------

    def job(self, project: Project, owner: str, work: Work = Work.CYCLE) -> Job:
        """The job for work on a project whose lease is held by ``owner``."""

        def check() -> None:
            self.leases.check(owner)

        settings = self.settings.for_project(project.extra_params)
        settings = auto_sampler.in_force(settings, project_folder(settings.model_dir, project.folder_key))
        return Job(
            project,
            settings,
            self.state,
            LabelStudio.of_project(settings, project),
            owner,
            self.turns.home(project.id),
            check,
            self._show or (lambda phase, done, total: None),
            self._seen.setdefault(project.id, {}),
            partial(self.turns.wait, work, project.id, check),
            self.turns.idle,
            self.engine.executor,
        )

    def _cycle(self, job: Job) -> None:
        from backend import cycle  # here: it imports torch

        try:
            standing = connection.require(job, job.info)
            truth = sync.read_truth(job, quick=True, info=standing.info)
            budget = job.settings.budget_after(self.state.versions.learned(job.project.id))
            # the budget counts annotations that exist, not webhooks
            if job.project.train_requested or truth.new_annotations >= budget:
                version = cycle.run_cycle(job.reread(), truth)
                switching.consider(job, self.settings.for_project(job.project.extra_params), version)
                queue_order.make_tab(job.reread())
        except NoLabels:
            self.state.projects.update(job.project.id, job.owner, train_seen=job.project.train_seq)
            raise

    def _upkeep(self, job: Job) -> None:
        from backend import cycle, joining
        from backend.learning.checkpoints import sweep_leftovers

        state, project_id = self.state, job.project.id
        standing = connection.require(job, job.info)
        state.versions.drop_drafts(project_id, job.owner)
        known = {v.name for v in state.versions.of_project(project_id) if v.status != "removed"}
        sweep_leftovers(job.folder, known, leftovers.spared_before(state, self.settings))
        if unfinished.finish(job):
            return
        if first := sample.read_sample(job):
            # Whole, because the others join in the upkeep that is still due, which lists all tasks first.
            cycle.cold_start(job, first, whole=True)
            return
        if not self._fill_up(job):  # first: annotators wait for nothing that comes after
            self._remove_superseded(job)
            return
        # once after a start: hints may have been lost, and changes that leave no trace, while no worker was running
        truth = sync.read_truth(job, whole=job.project.read_whole_at < self.due.since)
        current = state.versions.current(project_id)
        if current is None or head.is_outgrown(state, current, len(truth.unlabeled)):
            cycle.cold_start(job, truth)
            current = state.versions.current(project_id)
            if current is not None:
                self._complete(job, current)  # several annotators may have begun: what is there lasts them for seconds
        else:
            publisher.complete(job, current)
            asking.take_back(job)
            asking.reopen(job)
            joined = joining.join_new_tasks(job, current, truth)
            if asking.put_in_front(job, current) or joined:
                publisher.complete(job, current)
            synthetic.look_after(job, truth, current)
            publisher.verify(job, current)
            queue_order.hold(job, current, standing.warning)
            removal.remove_empty(job)
            self._remove_superseded(job)
        leftovers.remove_unknown_versions(job)
        connection.look_after_webhook(job, standing.row)
        queue_order.make_tab(job)
        preparing.prepare(job, truth, lambda: self._is_wanted_elsewhere(job))
        # After all of that, so that the refresh stays due if the process is killed before.
        state.projects.update(project_id, job.owner, refresh_seen=truth.refresh_seq)
        replaying.replay(job, lambda: self._is_wanted_elsewhere(job))

    def _fill_up(self, job: Job) -> bool:
        """Fill up the head of the current version if it is used up. Returns False if that gave way to a cycle."""
        current = self.state.versions.current(job.project.id)
        if current is None or not head.is_used_up(self.state, job.settings, job.reread().project, current):
            return True
        return self._complete(job, current)

    def _complete(self, job: Job, current: Version) -> bool:
        """Write what is missing of the head, until enough of it is there for a cycle that is due. Returns whether all
        of it is."""

        def enough(left: int) -> bool:
            can_begin = left >= job.settings.shortlist and not self.turns.taken(Work.CYCLE)
            return can_begin and Work.CYCLE in self.due.work(job.reread().project)

        return publisher.complete(job, current, enough)

    def _is_wanted_elsewhere(self, job: Job) -> bool:
        """Whether the project has work that is more urgent than training in upkeep: a cycle, or a head to fill up."""
        fresh = job.reread().project
        if Work.CYCLE in self.due.work(fresh) and not self.turns.taken(Work.CYCLE):
            return True
        current = self.state.versions.current(fresh.id)
        return current is not None and head.is_used_up(self.state, job.settings, fresh, current)

    def _remove_superseded(self, job: Job) -> None:
        if self.due.removal(job.reread().project, job.settings) and not removal.remove_superseded(job):
            self.due.put_off_removal(job.project.id)
