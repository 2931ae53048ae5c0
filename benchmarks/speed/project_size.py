"""How large a project Label Studio itself carries: what an annotator and the backend wait for, by number of tasks.

A real Label Studio on SQLite, without a backend: a head of 200 predictions is published once, as the backend does it,
and then nobody else asks. So what is measured here is what a project costs before any backend.

    python -m benchmarks.speed.project_size --tasks 10000 50000 200000
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from backend.labelstudio.client import LabelStudio
from benchmarks.speed.labeling import import_project
from benchmarks.speed.measuring import machine, percentile, seconds_of
from benchmarks.speed.pool import CLASSES
from demo.annotator import Annotator
from demo.choices import choose
from tests.rig.servers import LabelStudioServer

HEAD, VERSION = 200, "published-once"
NEWEST = 10**12  # above every task's id: no task is new
ASKED = "next", "Submit", "project", "changes", "one prediction", "versions"


@dataclass
class Waits:
    """Seconds of each sort of request, in a project of ``tasks``, and of importing a thousand of them."""

    tasks: int
    importing: float = 0.0
    seconds: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in ASKED})

    def row(self) -> str:
        asked = (self.seconds[name] for name in ASKED)
        cells = (f"{statistics.median(one):.2f}, {percentile(one, 0.95):.2f}" for one in asked)
        return f"| {' | '.join([f'{self.tasks:,}', f'{self.importing:.2f}', *cells])} |"


def measure(server: LabelStudioServer, tasks: int, labels: int) -> Waits:
    """Label ``labels`` tasks one after the other; between two of them, ask what the backend asks in a cycle."""
    token = server.personal_access_token()
    annotator, client, waits = Annotator(server.url, token), LabelStudio(server.url, token), Waits(tasks)
    started = time.perf_counter()
    project = import_project(annotator, tasks)
    waits.importing = (time.perf_counter() - started) / tasks * 1000
    held = [task.id for task, _ in zip(client.tasks(project), range(HEAD + labels), strict=False)]
    for place, task in enumerate(held[:HEAD]):
        client.predictions.create(task, [], 1 - place / HEAD, VERSION)
    client.update_project(project, model_version=VERSION, sampling="Uncertainty sampling")
    for spare in held[HEAD:]:
        _once(waits, annotator, client, project, spare)
    return waits


def _once(waits: Waits, annotator: Annotator, client: LabelStudio, project: int, spare: int) -> None:
    def timed(name: str, work: Callable[[], object]) -> None:
        waits.seconds[name].append(seconds_of(work))

    found = client.project(project)
    timed("project", lambda: client.project(project))
    timed("changes", lambda: list(client.changed(project, (found.clock or time.time()) - 60, NEWEST)))
    timed("versions", lambda: client.predictions.versions(project))
    timed("one prediction", lambda: client.predictions.create(spare, [], 0.0, "another"))
    served: list[int] = []
    timed("next", lambda: served.append(int((annotator.next_task(project) or {})["id"])))
    timed("Submit", lambda: annotator.submit(served[0], choose([CLASSES[0]])))


def report(found: list[Waits], labels: int) -> str:
    facts = [f"- {name}: {value}" for name, value in machine().items()]
    facts.append(f"- seconds, median and 95th percentile of {labels} requests, one at a time; import: of 1,000 tasks")
    head = ["tasks", "import", *ASKED]
    lines = [f"| {' | '.join(head)} |", f"| {' | '.join('---' for _ in head)} |", *(one.row() for one in found)]
    return "\n".join([*facts, "", *lines]) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--tasks", type=int, nargs="+", default=[10_000, 50_000, 200_000])
    parser.add_argument("--labels", type=int, default=40, help="how often each request is sent")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, LabelStudioServer(Path(folder) / "label-studio") as server:
        assert isinstance(server, LabelStudioServer)
        print(report([measure(server, tasks, options.labels) for tasks in options.tasks], options.labels), end="")


if __name__ == "__main__":
    main()
