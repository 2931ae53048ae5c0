"""Figures: of each cycle, of the requests, and of everything in Prometheus's text format.

What concerns projects is read from the state when it is asked for, so it is right in every process and after every
restart. Requests are counted in the process that answers them; there is one (:mod:`backend.web.gunicorn_config`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from backend.errors import OwnerError
from backend.settings.core import Settings
from backend.state import Cycle, Project, State

CONTENT_TYPE = CONTENT_TYPE_LATEST
PREFIX = "active_learning_"
BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.5, 1.0, 3.0, 10.0, 30.0)
"""Label Studio's limits are among them: 1 s for webhook and health, 3 s for setup."""

ALL_CYCLES = 1_000_000


def cycle_figures(cycle: Cycle) -> dict[str, Any]:
    """What is worth knowing of one cycle, in plain numbers and words; ``seconds`` by phase once it is done."""
    figures: dict[str, Any] = {
        "cycle": cycle.number,
        "sampler": cycle.sampler,
        "status": cycle.status,
        "phase": cycle.phase,
        "done": cycle.done,
        "total": cycle.total,
        "labels": cycle.labels,
        "started_at": cycle.started_at,
        "finished_at": cycle.finished_at,
        "seconds": phase_seconds(cycle),
        "error": cycle.error,
    }
    figures["figures"] = {key: value for key, value in cycle.metrics.items() if key != "seconds"}
    return figures


def phase_seconds(cycle: Cycle) -> dict[str, float]:
    seconds = cycle.metrics.get("seconds")
    return {str(phase): float(spent) for phase, spent in seconds.items()} if isinstance(seconds, dict) else {}


class Metrics:
    """The metrics of one application: a registry of its own, so that two applications never share a number."""

    def __init__(self, state: State, settings: Settings) -> None:
        self.registry = CollectorRegistry()
        labels = ("endpoint", "method", "status")
        self._requests = Counter(PREFIX + "requests", "Requests answered.", labels, registry=self.registry)
        self._latency = Histogram(
            PREFIX + "request_seconds",
            "Seconds from a request's arrival to its answer.",
            ("endpoint",),
            buckets=BUCKETS,
            registry=self.registry,
        )
        self.registry.register(StateCollector(state, settings))

    def answered(self, endpoint: str, method: str, status: int, seconds: float) -> None:
        """Count one request. ``endpoint`` is a route, never a raw path: the number of series stays bounded."""
        self._requests.labels(endpoint, method, str(status)).inc()
        self._latency.labels(endpoint).observe(seconds)

    def text(self) -> bytes:
        return generate_latest(self.registry)


class StateCollector(Collector):
    """Every project's figures, read from the state at each scrape."""

    def __init__(self, state: State, settings: Settings) -> None:
        self._state, self._settings = state, settings

    def describe(self) -> Iterable[Metric]:
        return ()  # asked when it is registered: no reason to read the database

    def collect(self) -> Iterator[Metric]:
        projects = self._state.projects.all()
        yield _gauge("projects", "Connected projects.", (), [((), len(projects))])
        figures = [(project, *self._of(project)) for project in projects]
        yield from _sizes(figures)
        yield from _cycles([(project, cycles) for project, _, cycles in figures])
        yield from self._versions(projects)

    def _of(self, project: Project) -> tuple[dict[str, float], list[Cycle]]:
        counts: dict[str, float] = dict(self._state.tasks.counts(project.id))
        counts["unlabelled"] = counts["tasks"] - counts["labelled"]
        counts["pending"] = project.pending_annotations
        try:
            counts["budget"] = self._settings.for_project(project.extra_params).budget
        except OwnerError:  # stored by another version of the backend; the worker tells the owner
            counts["budget"] = float("nan")
        counts["failing"] = project.last_error is not None
        return counts, self._state.cycles.recent(project.id, limit=ALL_CYCLES)

    def _versions(self, projects: list[Project]) -> Iterator[Metric]:
        count = _gauge("versions", "Versions by status.", ("project", "status"), [])
        info = _gauge("current_version_info", "1 for the version in force.", ("project", "version", "sampler"), [])
        for project in projects:
            versions = self._state.versions.of_project(project.id)
            for status in sorted({version.status for version in versions}):
                same = sum(version.status == status for version in versions)
                count.add_metric((str(project.id), status), same)
            for version in versions:
                if version.id == project.current_version_id:
                    info.add_metric((str(project.id), version.name, version.sampler), 1)
        yield from (count, info)


SIZES = {
    "tasks": ("tasks", "Tasks as last compared with Label Studio."),
    "labels": ("labelled", "Tasks with a label."),
    "pool_size": ("unlabelled", "Tasks without a label."),
    "scored_tasks": ("scored", "Tasks that the current version has scored."),
    "broken_images": ("broken", "Tasks whose image is set aside."),
    "due_annotations": ("pending", "New annotations since the last cycle, as far as known."),
    "budget": ("budget", "New annotations that make a cycle due."),
    "failing": ("failing", "1 while the last attempt of the worker has failed."),
}


def _sizes(figures: list[tuple[Project, dict[str, float], list[Cycle]]]) -> Iterator[Metric]:
    for name, (key, words) in SIZES.items():
        yield _gauge(name, words, ("project",), [((str(p.id),), counts[key]) for p, counts, _ in figures])


def _cycles(figures: list[tuple[Project, list[Cycle]]]) -> Iterator[Metric]:
    count = _gauge("cycles", "Cycles by how they ended.", ("project", "status"), [])
    running = _gauge("cycle_running", "1 while a cycle runs.", ("project",), [])
    progress = _gauge("cycle_progress", "Share of the running phase that is done.", ("project", "phase"), [])
    seconds = _gauge("last_cycle_seconds", "Seconds of the last cycle's phases.", ("project", "phase"), [])
    for project, cycles in figures:
        name = str(project.id)
        for status in ("done", "failed", "interrupted"):
            count.add_metric((name, status), sum(cycle.status == status for cycle in cycles))
        now = next((cycle for cycle in cycles if cycle.status == "running"), None)
        running.add_metric((name,), float(now is not None))
        if now is not None:
            progress.add_metric((name, now.phase), now.done / max(1, now.total))
        last = next((cycle for cycle in cycles if cycle.status == "done"), None)
        for phase, spent in (phase_seconds(last) if last else {}).items():
            seconds.add_metric((name, phase), spent)
    yield from (count, running, progress, seconds)


def _gauge(
    name: str, words: str, labels: tuple[str, ...], values: list[tuple[tuple[str, ...], float]]
) -> GaugeMetricFamily:
    family = GaugeMetricFamily(PREFIX + name, words, labels=labels)
    for names, value in values:
        family.add_metric(names, value)
    return family
