"""One project in the real Label Studio, and a job on it in this process: for tests of a single step of the worker."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from backend.errors import LeaseLost
from backend.job import Job
from backend.labelstudio import LabelStudio
from backend.settings import Settings
from backend.state import State, Version
from benchmarks.servers import LabelStudioServer
from tests.integration.helpers import FRUIT, LabelProject, Studio, drawings
from tests.integration.proxy import Proxy

OWNER = "bench"
TINY = {"task_width": 4, "epochs": 2, "batch_size": 16, "shortlist": 5, "device": "cpu"}
"""Settings of a task network that learns in a blink."""


@dataclass
class Workbench:
    """``project`` as its owner sees it, ``proxy`` on the way there, ``state`` and ``job`` as a worker has them."""

    project: LabelProject
    proxy: Proxy
    state: State
    job: Job

    @property
    def tasks(self) -> list[int]:
        return sorted(self.project.tasks())

    def with_settings(self, **changes: Any) -> Job:
        """The same job under other settings."""
        self.job = replace(self.job, settings=replace(self.job.settings, **changes))
        return self.job

    def restarted(self) -> Job:
        """The job as the next worker gets it: nothing but the database is left of the one before."""
        self.job = replace(self.job.reread(), gateway=LabelStudio(self.proxy.url, self.job.gateway._token))
        return self.job

    def scored(
        self, tasks: Sequence[int] | None = None, *, name: str = "", seed: int = 0, checkpoint: Path | None = None
    ) -> Version:
        """A version that waits to be published, with made-up answers."""
        chosen = np.array(self.tasks if tasks is None else tasks, dtype=np.int64)
        rng = np.random.default_rng(seed)
        number = self.state.next_cycle_number(self.project.id)
        self.state.start_cycle(self.project.id, OWNER, number, "entropy", 0)
        return self.state.add_version(
            self.project.id,
            OWNER,
            cycle=number,
            name=name or f"entropy-c{number}-{seed:08x}",
            sampler="entropy",
            checkpoint=None if checkpoint is None else str(checkpoint),
            classes=self.project.classes,
            metrics={},
            task_ids=chosen,
            published=rng.permutation(np.linspace(0.1, 0.9, len(chosen))),
            class_index=rng.integers(0, len(self.project.classes), len(chosen)),
            confidence=np.full(len(chosen), 0.5),
        )

    def order(self, version: Version) -> list[int]:
        """Task ids of ``version`` as scored, lowest first."""
        return [answer.task_id for answer in self.state.all_scores(version)]

    def status(self, version: Version) -> str:
        found = self.state.version(version.id)
        assert found is not None
        return found.status

    def lose_lease(self) -> None:
        """Another worker takes the project over."""
        self.state.release(self.project.id, OWNER)
        assert self.state.lease(self.project.id, "another", 600)


@contextmanager
def workbench(
    server: LabelStudioServer,
    folder: Path,
    *,
    tasks: int = 30,
    classes: Sequence[str] = FRUIT,
    pictures: bool = False,
    **settings: Any,
) -> Iterator[Workbench]:
    """A project of ``tasks`` tasks, with ``pictures`` inside their data or with addresses that nobody asks for."""
    project = Studio(server).make_project("workbench", classes)
    proxy = Proxy(server.url)
    state = State(f"sqlite:///{folder / 'state.sqlite3'}")
    try:
        add_tasks(project, tasks, pictures=pictures)
        token = server.personal_access_token()
        config = Settings(**{"model_dir": str(folder), **TINY, **settings})
        info = LabelStudio(server.url, token).project(project.id)
        state.connect(project.id, info.key, info.label_config, {}, proxy.url, "")
        assert state.lease(project.id, OWNER, 600)
        known = state.project(project.id)
        assert known is not None

        def check() -> None:
            now = state.project(known.id)
            if now is None or now.lease_owner != OWNER:
                raise LeaseLost("the lease is another's")

        gateway = LabelStudio(proxy.url, token)
        yield Workbench(project, proxy, state, Job(known, config, state, gateway, OWNER, torch.device("cpu"), check))
    finally:
        proxy.close()
        state.close()
        project.delete()


def add_tasks(project: LabelProject, count: int, *, pictures: bool = False, seed: int = 0) -> None:
    files = drawings(count, project.classes, seed)
    key = project.names[2]
    items = []
    for name, data in files.items():
        inside = "data:image/png;base64," + base64.b64encode(data).decode()
        kind = name.rsplit("-", 1)[1].removesuffix(".png")
        items.append({key: inside if pictures else f"/data/{name}", "kind": kind})
    if items:
        project.import_tasks(items)


def label(bench: Workbench, count: int) -> list[int]:
    """Annotates truly the ``count`` unlabelled tasks with the smallest ids."""
    tasks = bench.project.tasks()
    chosen = sorted(bench.project.unlabelled())[:count]
    for task in chosen:
        bench.project.annotate(task, tasks[task]["data"]["kind"])
    return chosen
