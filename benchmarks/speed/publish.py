"""From scores ready until Label Studio's ``next`` serves by the new version ÷ one bulk call for the whole pool.

What a publisher would do that writes everything and then switches is the denominator alone, without its switch. Both
are taken in turns in one project of a real Label Studio. The numerator begins with the acquisition values in memory and
contains all that follows: the checkpoint, the rows in the state, the shortlist, the switch, and the response to
``GET next``, which has to be the task with the lowest score of the new version.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from backend import cycle
from backend.labelstudio.client import LabelStudio
from backend.learning.checkpoints import save_learner
from backend.learning.learner import Learner
from backend.learning.pool import ScoredPool
from backend.learning.scores import priority_scores
from backend.settings.core import Settings
from backend.state import State, StoredPrediction
from backend.worker import publisher
from backend.worker.job import Job, Reporter
from backend.worker.recording import CycleRecord
from backend.worker.results import project_kind
from backend.worker.sync import read_truth
from benchmarks.speed.measuring import Measured, seconds_of
from benchmarks.speed.pool import CLASSES, SIZE
from demo.annotator import Annotator
from demo.choices import choices_config, choose
from models.inference.predictions import Predictions
from tests.rig.servers import LabelStudioServer

LIMIT = 0.35
OWNER = "bench"
_LEASE_SECONDS = 3600.0


def measure(folder: Path, server: LabelStudioServer, small: bool) -> Measured:
    """10,000 tasks and three repetitions (60 tasks and one when ``small``). The images are never fetched."""
    count, repetitions = (60, 1) if small else (10_000, 3)
    bench = _open(folder, server, count)
    draw = np.random.default_rng(0)
    switched, bulk, written = [], [], []
    for number in range(1, repetitions + 1):
        for first in (True, False) if number % 2 else (False, True):
            acquisition = draw.normal(size=len(bench.open_tasks))
            if first:
                until_served, until_written = bench.publish(acquisition, number)
                switched.append(until_served)
                written.append(until_written)
            else:
                bulk.append(bench.import_in_one_call(acquisition, f"bulk-{number}"))
    bench.job.state.close()
    whole = ", ".join(f"{seconds:.1f}" for seconds in written)
    return Measured(
        "publish",
        f"scores ready until `next` serves by the new version ÷ one bulk call, {count:,} tasks",
        switched,
        bulk,
        "s",
        LIMIT,
        notes=(
            f"contains the checkpoint, the state's rows and the shortlist of {bench.job.settings.shortlist}; "
            f"the whole pool is written after {whole} s",
        ),
    )


@dataclass
class _Bench:
    """A project with open tasks, and a job for it as a worker would have."""

    job: Job
    annotator: Annotator
    learner: Learner
    open_tasks: list[int]

    def publish(self, acquisition: np.ndarray, number: int) -> tuple[float, float]:
        """Seconds until the new order is served, and until all of it is written. The served task gets labeled."""
        draw, count = np.random.default_rng(number), len(acquisition)
        predictions = Predictions(draw.integers(0, len(CLASSES), count), draw.uniform(0.1, 1.0, count))
        scored = ScoredPool(np.array(self.open_tasks), acquisition, predictions)
        truth = read_truth(self.job)
        served: list[tuple[float, dict[str, object] | None]] = []

        def ask(done: int, total: int) -> None:
            if not served:  # publish reports progress for the first time right after the switch
                task = self.annotator.next_task(self.job.project.id)
                served.append((time.perf_counter() - started, task))

        started = time.perf_counter()
        recorded = CycleRecord(number, number, Reporter(self.job, 0))
        name = save_learner(self.job.folder, self.learner, number)
        version = cycle.store_version(self.job, truth, scored, recorded, name, self.learner)
        publisher.publish(self.job, version, ask)
        whole = time.perf_counter() - started
        seconds, task = served[0]
        due = self.open_tasks[int(np.argmax(acquisition))]
        if task is None or task["id"] != due:
            raise RuntimeError(f"Label Studio served {task and task['id']} right after the switch, not {due}")
        self.annotator.submit(due, choose([CLASSES[0]]))  # gives up the lock that `next` took
        self.open_tasks.remove(due)
        return seconds, whole

    def import_in_one_call(self, acquisition: np.ndarray, version: str) -> float:
        """Seconds of one call that writes all predictions, with everything made ready beforehand."""
        kind = project_kind(self.job)
        items = []
        for task, score in zip(self.open_tasks, priority_scores(acquisition, 0).tolist(), strict=True):
            result = kind.result(StoredPrediction(task, version, CLASSES[0], 0.5, score), None)
            items.append({"task": task, "result": result, "score": score, "model_version": version})
        taken = 0

        def write() -> None:
            nonlocal taken
            taken = self.job.gateway.predictions.create_many(self.job.project.id, items)

        seconds = seconds_of(write)
        if taken != len(items):
            raise RuntimeError(f"Label Studio took {taken} of {len(items)} predictions")
        return seconds


def _open(folder: Path, server: LabelStudioServer, count: int) -> _Bench:
    token = server.personal_access_token()
    annotator = Annotator(server.url, token)
    project_id = annotator.create_project(f"Publishing {count} tasks", choices_config(CLASSES))
    tasks = _import_tasks(annotator, project_id, count)
    gateway = LabelStudio(server.url, token)
    info = gateway.project(project_id)
    settings = Settings(model_dir=str(folder / "publish"), sampler="dast-al", device="cpu")
    state = State.for_settings(settings)
    state.projects.connect(project_id, info.key, info.label_config, {}, server.url, token)
    state.tasks.put(project_id, {task: f"http://127.0.0.1/{task}.png" for task in tasks})
    if not state.leases.take(project_id, OWNER, _LEASE_SECONDS):
        raise RuntimeError("the project is leased already")
    project = state.projects.get(project_id)
    assert project is not None
    device = torch.device("cpu")
    learner = Learner.fresh(settings, CLASSES, SIZE, device, seed=0)
    job = Job(project, settings, state, gateway, OWNER, device, lambda: None)
    return _Bench(job, annotator, learner, tasks)


def _import_tasks(annotator: Annotator, project_id: int, count: int) -> list[int]:
    data = [{"data": {"image": f"http://127.0.0.1/{number}.png"}} for number in range(count)]
    imported = annotator.call(
        "POST", f"/api/projects/{project_id}/import", params={"return_task_ids": "true"}, json=data, timeout=600
    )
    tasks = [int(task) for task in imported["task_ids"]]
    if len(tasks) != count:
        raise RuntimeError(f"Label Studio made {len(tasks)} tasks of {count}")
    return tasks
