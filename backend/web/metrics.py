"""Metrics of projects and requests in Prometheus's text format.

Metrics of projects are read from the state when they are requested, so they are right in any process and after a
restart. Requests are counted in the process that serves them, of which there is one: see
:mod:`backend.web.gunicorn_config`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from backend.reporting.acceptance import acceptance_of
from backend.reporting.advice import advice_of
from backend.reporting.agreement import agreement_of
from backend.reporting.cycles import phase_seconds, share_done
from backend.reporting.facts import Facts, facts_of_all
from backend.reporting.relabeling import relabeling_of
from backend.settings.core import Settings
from backend.state import Cycle, Project, State
from backend.web.acceptance_metrics import acceptance_metrics
from backend.web.control_metrics import control_metrics
from backend.web.metric_names import PREFIX
from backend.web.team_metrics import team_metrics

CONTENT_TYPE = CONTENT_TYPE_LATEST
BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.5, 1.0, 3.0, 10.0, 30.0)
"""In seconds. They include Label Studio's limits: 1 s for ``/webhook`` and ``/health``, 3 s for ``/setup``."""

ALL_CYCLES = 1_000_000


class Metrics:
    """The metrics of one application, in a registry of its own, so that applications share no counters."""

    def __init__(self, state: State, settings: Settings) -> None:
        self.registry = CollectorRegistry()
        labels = ("endpoint", "method", "status")
        self._requests = Counter(PREFIX + "requests", "Requests served.", labels, registry=self.registry)
        self._latency = Histogram(
            PREFIX + "request_seconds",
            "Seconds from a request's arrival to its response.",
            ("endpoint",),
            buckets=BUCKETS,
            registry=self.registry,
        )
        self.registry.register(StateCollector(state, settings))

    def observe_request(self, endpoint: str, method: str, status: int, seconds: float) -> None:
        """Count one request. ``endpoint`` is a route, never a raw path, so that the number of time series is
        limited."""
        self._requests.labels(endpoint, method, str(status)).inc()
        self._latency.labels(endpoint).observe(seconds)

    def text(self) -> bytes:
        """All metrics in Prometheus's text format."""
        return generate_latest(self.registry)


class StateCollector(Collector):
    """The metrics of all projects, read from the state at each scrape."""

    def __init__(self, state: State, settings: Settings) -> None:
        self._state, self._settings = state, settings

    def describe(self) -> Iterable[Metric]:
        return ()  # called when the collector is registered, which should not read the database

    def collect(self) -> Iterator[Metric]:
        projects, now = self._state.projects.all(), self._state.now()
        known = facts_of_all(self._state, self._settings, projects, now)
        yield _gauge("projects", "Connected projects.", (), [((), len(projects))])
        yield from _project_gauges([(facts.project, _figures(facts)) for facts in known])
        yield from control_metrics(known)
        yield from acceptance_metrics([(project.name, acceptance_of(project)) for project in projects])
        team = [
            (f, agreement_of(self._state, f.project), relabeling_of(self._state, f.project, f.current)) for f in known
        ]
        yield from team_metrics([(facts.project.name, agreed, worth) for facts, agreed, worth in team])
        yield _advice(known)
        cycles = self._state.cycles.recent_of([project.id for project in projects], ALL_CYCLES)
        yield from _cycles([(project, cycles[project.id]) for project in projects])
        yield from self._versions(projects)
        yield self._ignored(projects)

    def _ignored(self, projects: list[Project]) -> Metric:
        family = _gauge("ignored_annotations", "Annotations that do not count, by reason.", ("project", "reason"), [])
        for project in projects:
            for reason, count in self._state.labels.ignored(project.id).items():
                family.add_metric((str(project.id), reason), count)
        return family

    def _versions(self, projects: list[Project]) -> Iterator[Metric]:
        count = _gauge("versions", "Versions by status.", ("project", "status"), [])
        info = _gauge("current_version_info", "1 for the current version.", ("project", "version", "sampler"), [])
        learned = [_gauge(name, help, ("project",), []) for name, (_, help) in LEARNED_GAUGES.items()]
        every = self._state.versions.of_projects([project.id for project in projects])
        for project in projects:
            versions = every[project.id]
            for status in sorted({version.status for version in versions}):
                same = sum(version.status == status for version in versions)
                count.add_metric((project.name, status), same)
            for version in versions:
                if version.id == project.current_version_id:
                    info.add_metric((project.name, version.name, version.sampler), 1)
                    for family, (key, _) in zip(learned, LEARNED_GAUGES.values(), strict=True):
                        if key in version.metrics:
                            family.add_metric((project.name,), version.metrics[key])
        yield from (count, info, *learned)


PROJECT_GAUGES = {
    "tasks": ("tasks", "Tasks at the last comparison with Label Studio."),
    "labels": ("labelled", "Tasks with a label."),
    "pool_size": ("unlabelled", "Tasks without a label."),
    "scored_tasks": ("scored", "Tasks that the current version has scored."),
    "broken_images": ("broken", "Tasks whose image is set aside."),
    "waiting_images": ("waiting", "Tasks whose image's host asks to be asked later, or does not respond in time."),
    "due_annotations": ("pending", "New annotations since the last cycle, as far as known."),
    "budget": ("budget", "Number of new annotations that makes a cycle due."),
    "next_cycle_in_annotations": ("in_annotations", "New annotations that are missing until a cycle is due."),
    "failing": ("failing", "1 if the worker's last attempt failed."),
    "accuracy": ("value", "Share of right answers of the version in use on left-out labels; of masks, mean IoU."),
    "accuracy_low": ("low", "Lower end of its 95 % interval."),
    "accuracy_high": ("high", "Upper end of its 95 % interval."),
    "accuracy_labels": ("n", "Labels that it was measured on."),
}
"""Metric → its key among the counts, and its help text."""

LEARNED_GAUGES = {
    "current_version_cv_accuracy": (
        "train_cv_accuracy",
        "Accuracy of the current version's network, or one like it, on labels that were left out.",
    ),
    "current_version_mean_iou": ("train_mean_iou", "Mean IoU, likewise, where masks are predicted."),
    "current_version_pixel_accuracy": ("train_pixel_accuracy", "Share of the pixels that are told right, likewise."),
    "current_version_ece": ("train_ece", "Expected calibration error of its confidences on the same labels."),
}
"""Metric → its key among the metrics of a version, and its help text."""


def _figures(facts: Facts) -> dict[str, float]:
    """What :data:`PROJECT_GAUGES` names, as far as it is known."""
    counts: dict[str, float] = dict(facts.counts)
    counts["unlabelled"] = counts["tasks"] - counts["labelled"]
    counts["pending"] = facts.project.pending_annotations
    counts["budget"] = facts.budget if facts.settings else float("nan")  # refused; the worker tells the owner
    counts["failing"] = facts.project.last_error is not None
    found: dict[str, float | int | None] = {"in_annotations": facts.next_cycle()["in_annotations"]}
    if facts.accuracy is not None:
        found |= {key: value for key, value in facts.accuracy.as_json().items() if not isinstance(value, str)}
    return counts | {key: value for key, value in found.items() if value is not None}


def _project_gauges(projects: list[tuple[Project, dict[str, float]]]) -> Iterator[Metric]:
    for name, (key, description) in PROJECT_GAUGES.items():
        family = _gauge(name, description, ("project",), [])
        for project, figures in projects:
            if key in figures:
                family.add_metric((project.name,), figures[key])
        yield family


def _advice(known: list[Facts]) -> Metric:
    labels = ("project", "advice", "sentence")
    family = _gauge("advice_info", "1 for what is advised at the moment, by its code and in words.", labels, [])
    for facts in known:
        advice = advice_of(facts)
        family.add_metric((facts.project.name, advice.code, advice.sentence), 1)
    return family


def _cycles(projects: list[tuple[Project, list[Cycle]]]) -> Iterator[Metric]:
    count = _gauge("cycles", "Cycles by how they ended.", ("project", "status"), [])
    running = _gauge("cycle_running", "1 while a cycle runs.", ("project",), [])
    progress = _gauge("cycle_progress", "Share of the running phase that is done.", ("project", "phase"), [])
    seconds = _gauge("last_cycle_seconds", "Seconds per phase of the last cycle.", ("project", "phase"), [])
    for project, cycles in projects:
        name = project.name
        for status in ("done", "failed", "interrupted"):
            count.add_metric((name, status), sum(cycle.status == status for cycle in cycles))
        current = next((cycle for cycle in cycles if cycle.status == "running"), None)
        running.add_metric((name,), float(current is not None))
        if current is not None:
            progress.add_metric((name, current.phase), share_done(current))
        last = next((cycle for cycle in cycles if cycle.status == "done"), None)
        for phase, spent in (phase_seconds(last) if last else {}).items():
            seconds.add_metric((name, phase), spent)
    yield from (count, running, progress, seconds)


def _gauge(
    name: str, description: str, labels: tuple[str, ...], values: list[tuple[tuple[str, ...], float]]
) -> GaugeMetricFamily:
    family = GaugeMetricFamily(PREFIX + name, description, labels=labels)
    for names, value in values:
        family.add_metric(names, value)
    return family
