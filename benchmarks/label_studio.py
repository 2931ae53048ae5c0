"""``python -m benchmarks label-studio``: how many labels a second one Label Studio serves and stores, and how long its
annotators wait, by its number of processes.

Beside each other: ``label-studio start`` on SQLite, as in the demo, and Label Studio as docker/docker-compose.scale.yml
runs it (uWSGI, PostgreSQL, Redis with a job worker, nginx), all started without Docker. Annotators who never think
label one project whose queue is ordered by predictions, as the backend orders it. A webhook goes out for each label.
They label in each of them for a while, in turns, so that a machine that grows slower or faster favors none.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests

from benchmarks.speed.labeling import import_project
from benchmarks.speed.measuring import machine, percentile
from benchmarks.speed.pool import CLASSES
from demo.annotator import Annotator
from demo.choices import choose
from tests.rig.accounts import sign_up
from tests.rig.json_server import JsonServer
from tests.rig.processes import Server, children_of
from tests.rig.scaled_studio import ScaledStudio, missing
from tests.rig.servers import LabelStudioServer, PostgresServer

VERSION, ACTION = "published-once", "ANNOTATION_CREATED"
HEADS = (
    *("Label Studio", "labels/s", "`next`", "Submit", "core s a label"),
    *("labels", "served twice", "places early", "webhooks"),
)


@dataclass
class Served:
    """What one Label Studio did for all annotators."""

    seconds: float = 0.0
    computed: tuple[float, float] = (0.0, 0.0)
    """Processor seconds of Label Studio's processes, and of everything around them."""
    next: list[float] = field(default_factory=list)
    submit: list[float] = field(default_factory=list)
    tasks: list[int] = field(default_factory=list)
    """In the order in which they were served."""


class Queue:
    """A project of a running Label Studio: ``head`` of its ``tasks`` tasks have a prediction, by which they are served
    to ``people``."""

    def __init__(self, name: str, servers: Sequence[Server], tasks: int, head: int, people: int) -> None:
        """``servers``: the Label Studio, and everything around it."""
        server, *self._around = servers
        assert isinstance(server, LabelStudioServer)
        self.name, self.url, self.served, self._server = name, server.url, Served(), server
        owner = Annotator(server.url, server.personal_access_token())
        self.project = import_project(owner, tasks)
        page = {"project": self.project, "page_size": head, "fields": "task_only"}
        listed = owner.call("GET", "/api/tasks/", params=page)["tasks"]
        self.order = [int(task["id"]) for task in listed][::-1]  # not the order in which they were imported
        shown = choose([CLASSES[0]])
        one = [
            {"task": task, "result": shown, "score": place / head, "model_version": VERSION}
            for place, task in enumerate(self.order)
        ]
        owner.call("POST", f"/api/projects/{self.project}/import/predictions", json=one)
        ordered = {"model_version": VERSION, "sampling": "Uncertainty sampling"}
        owner.call("PATCH", f"/api/projects/{self.project}/", json=ordered)
        self.reported = 0
        self._lock = threading.Lock()
        self._receiver = JsonServer(self._hear)
        hook = {"project": self.project, "url": self._receiver.url, "send_payload": True}
        owner.call("POST", "/api/webhooks/", json=hook | {"send_for_all_actions": False, "actions": [ACTION]})
        self._tokens = [sign_up(self.url, f"annotator-{n}@example.com", "annotate-me-too") for n in range(people)]

    def warm_up(self, seconds: float = 2.0) -> None:
        """The first requests of a process take longer: their seconds do not count, what is served does."""
        self.label(seconds)
        self.served = Served(tasks=self.served.tasks)

    def label(self, seconds: float) -> None:
        """Everybody labels for so long. Raises what stopped one of them."""
        before, failures = self._computed(), list[BaseException]()
        started = time.perf_counter()
        threads = [
            threading.Thread(target=self._person, args=(token, started + seconds, failures)) for token in self._tokens
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.served.seconds += time.perf_counter() - started
        self.wait_for_webhooks()
        spent = [after - earlier for after, earlier in zip(self._computed(), before, strict=True)]
        self.served.computed = (self.served.computed[0] + spent[0], self.served.computed[1] + spent[1])
        if failures:
            raise failures[0]

    def wait_for_webhooks(self, seconds: float = 20.0) -> int:
        """How many labels were reported, at the latest so long after the last of them."""
        until = time.monotonic() + seconds
        while self.reported < len(self.served.tasks) and time.monotonic() < until:
            time.sleep(0.1)
        return self.reported

    def row(self) -> str:
        served, reported = self.served, self.reported
        waits = [
            f"{percentile(times, 0.5):.2f}, {percentile(times, 0.99):.2f}" for times in (served.next, served.submit)
        ]
        measured, labels = len(served.submit), len(served.tasks)
        cells = [self.name, f"{measured / served.seconds:.1f}", *waits]
        cells.append(" + ".join(f"{seconds / measured:.2f}" for seconds in served.computed))
        cells += [f"{labels}", f"{twice(served.tasks)}", f"{early(served.tasks, self.order)}"]
        return f"| {' | '.join([*cells, f'{reported} of {labels}'])} |"

    def close(self) -> None:
        self._receiver.close()

    def _computed(self) -> tuple[float, float]:
        return processor_seconds(self._server), sum(map(processor_seconds, self._around))

    def _person(self, token: str, until: float, failures: list[BaseException]) -> None:
        try:
            while time.perf_counter() < until and not failures:
                self._one(token)
        except BaseException as error:
            failures.append(error)

    def _one(self, token: str) -> None:
        started = time.perf_counter()
        task = int(self._ask("GET", f"/api/projects/{self.project}/next/", token)["id"])
        got = time.perf_counter()
        with self._lock:
            self.served.tasks.append(task)
        body = {"result": choose([CLASSES[task % len(CLASSES)]]), "lead_time": 1.0}
        self._ask("POST", f"/api/tasks/{task}/annotations/", token, body)
        stored = time.perf_counter()
        with self._lock:
            self.served.next.append(got - started)
            self.served.submit.append(stored - got)

    def _ask(self, method: str, path: str, token: str, body: Any = None) -> Any:
        with requests.Session() as session:  # a connection for each: `label-studio start` keeps none
            session.trust_env = False
            headers = {"Authorization": f"Token {token}"}
            answer = session.request(method, self.url + path, json=body, headers=headers, timeout=120)
        answer.raise_for_status()
        return answer.json()

    def _hear(self, request: Any) -> tuple[int, Any]:
        with self._lock:
            self.reported += 1
        return 200, {}


def processor_seconds(server: Server) -> float:
    """Of a server's process and all that it has started, those that have ended by themselves included (Linux)."""
    ticks = 0
    for pid in (server.pid, *children_of(server.pid)):
        with suppress(OSError):
            ticks += sum(map(int, Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[11:15]))
    return ticks / os.sysconf("SC_CLK_TCK")


def twice(tasks: Sequence[int]) -> int:
    """How often a task was served that somebody had been given before."""
    return len(tasks) - len(set(tasks))


def early(tasks: Sequence[int], order: Sequence[int]) -> int:
    """By how many places, at most, a task was served before its turn in ``order``; whatever is not in it counts as
    behind all of it. As many annotators as there are may each be so many places early without fault."""
    place = {task: number for number, task in enumerate(order)}
    return max((place.get(task, len(order)) - turn for turn, task in enumerate(dict.fromkeys(tasks))), default=0)


@contextmanager
def servers(folder: Path, processes: Sequence[int], without_redis: Sequence[int]) -> Iterator[dict[str, list[Server]]]:
    """All that are compared, running: what one is called in the table → the Label Studio, and everything around it."""
    with ExitStack() as stack:
        postgres = PostgresServer()
        stack.enter_context(postgres)
        start = LabelStudioServer(folder / "start")
        stack.enter_context(start)
        found: dict[str, list[Server]] = {"`label-studio start`, SQLite": [start]}
        for redis, counts in ((True, processes), (False, without_redis)):
            for count in counts:
                scaled = ScaledStudio(folder / f"{count}-{redis}", postgres, count, redis=redis)
                stack.enter_context(scaled)
                name = f"{count} process{'es' * (count > 1)}{'' if redis else ' without Redis'}"
                found[name] = [scaled, *scaled.around, postgres]
        yield found


def report(queues: Sequence[Queue], options: argparse.Namespace) -> str:
    """What was measured, in Markdown."""
    facts = [f"- {name}: {value}" for name, value in machine().items() if name != "torch"]
    facts += [
        f"- {options.tasks:,} tasks, of which the first {options.head:,} are in order; {options.annotators} annotators "
        f"who never think; {options.rounds} × {options.seconds:g} s of each, in turns",
        "- `next`, Submit: seconds, median and 99th percentile; core s: processor seconds of Label Studio's processes "
        "+ of PostgreSQL, Redis, the job worker and nginx; labels: with those before the measurement",
    ]
    lines = [f"| {' | '.join(HEADS)} |", f"| {' | '.join('---' for _ in HEADS)} |", *(queue.row() for queue in queues)]
    return "\n".join([*facts, "", *lines])


def counts_of(text: str) -> list[int]:
    """ "1,2,4" → [1, 2, 4]; empty: none."""
    counts = [int(part) for part in text.split(",") if part]
    if any(count < 1 for count in counts):
        raise ValueError(text)
    return counts


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks label-studio", description=__doc__)
    parser.add_argument("--processes", type=counts_of, default="1,2,4", help="with Redis (default: %(default)s)")
    parser.add_argument("--without-redis", type=counts_of, default="2", help="likewise (default: %(default)s)")
    parser.add_argument("--tasks", type=int, default=5_000, help="in the project (default: %(default)s)")
    parser.add_argument("--head", type=int, default=900, help="of them with a prediction (default: %(default)s)")
    parser.add_argument("--annotators", type=int, default=8, help="at once (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each turn (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each (default: %(default)s)")
    options = parser.parse_args(arguments)
    if not 0 < options.head <= min(options.tasks, 998) or min(options.annotators, options.rounds) < 1:
        parser.error("the head is between 1 and 998 tasks, and there are annotators and rounds")
    if words := missing():
        parser.exit(1, f"{words}\n")
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        running = stack.enter_context(servers(Path(folder), options.processes, options.without_redis))
        shape = (options.tasks, options.head, options.annotators)
        queues = [Queue(name, server, *shape) for name, server in running.items()]
        for queue in queues:
            queue.warm_up()
        for turn in range(options.rounds):
            for queue in queues if turn % 2 == 0 else queues[::-1]:
                queue.label(options.seconds)
        print(report(queues, options))
        for queue in queues:
            queue.close()
    return 0
