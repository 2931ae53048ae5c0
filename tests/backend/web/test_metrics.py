"""``/metrics``: what Prometheus reads is what the state holds."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console

from backend.reporting.cycles import cycle_summary, phase_seconds
from backend.reporting.snapshot import snapshot
from backend.settings.core import Settings
from backend.state import State, StoredLabel
from backend.status import show
from backend.web.app import create_app
from backend.web.metrics import Metrics
from tests.backend.small_label_studio import CONFIG

Labels = tuple[tuple[str, str], ...]


def read(text: bytes) -> dict[tuple[str, Labels], float]:
    """(name, labels) → value of every sample."""
    families = text_string_to_metric_families(text.decode())
    return {(s.name, tuple(sorted(s.labels.items()))): s.value for family in families for s in family.samples}


def of(name: str, **labels: str) -> tuple[str, Labels]:
    return f"active_learning_{name}", tuple(sorted(labels.items()))


def fill(state: State, params: dict[str, Any] | None = None, metrics: dict[str, Any] | None = None) -> None:
    """Project 1: five tasks, two labeled, one broken; a done and a failed cycle, one running; two versions with these
    metrics."""
    state.projects.connect(1, "1.1", CONFIG, params or {"budget": 7}, "", "")
    state.tasks.put(1, {task: f"{task}.png" for task in range(1, 6)})
    state.labels.put(1, [StoredLabel(task, "cat", [[task, "monday"]], 1, 0) for task in (1, 2)])
    state.tasks.set_broken(1, [(5, "5.png", "not an image")], 600)
    state.hints.add(1, annotations=3)
    state.leases.take(1, "w", 60)
    done = state.cycles.start(1, "w", 1, "vaal", 0)
    state.cycles.finish(done, 1, "w", status="done", metrics={"seconds": {"train": 2.5, "score": 0.5}, "labels": 2})
    failed = state.cycles.start(1, "w", 2, "vaal", 0)
    state.cycles.finish(failed, 1, "w", status="failed", error="Label Studio was away")
    running = state.cycles.start(1, "w", 3, "vaal", 0)
    state.cycles.report(running, "train", 5, 20)
    for number in (1, 2):
        version = state.versions.add(
            1,
            "w",
            cycle=number,
            name=f"vaal-c{number}-abc",
            sampler="vaal",
            checkpoint=None,
            classes=["cat", "dog"],
            metrics=metrics or {},
            task_ids=np.array([3, 4]),
            priority_score=np.array([0.1, 0.2]),
            class_index=None,
            confidence=None,
        )
        state.versions.switch_to(version, "w")
    state.versions.update(version, "w", status="current")
    state.projects.connect(2, "2.1", CONFIG, {}, "", "")
    state.projects.update(2, last_error="refused")


def test_the_figures_of_every_project(state: State, settings: Settings) -> None:
    fill(state)
    found = read(Metrics(state, settings).text())
    expected = {
        of("projects"): 2,
        of("tasks", project="1"): 5,
        of("labels", project="1"): 2,
        of("pool_size", project="1"): 3,
        of("scored_tasks", project="1"): 2,
        of("broken_images", project="1"): 1,
        of("due_annotations", project="1"): 3,
        of("budget", project="1"): 7,
        of("failing", project="1"): 0,
        of("cycles", project="1", status="done"): 1,
        of("cycles", project="1", status="failed"): 1,
        of("cycles", project="1", status="interrupted"): 0,
        of("cycle_running", project="1"): 1,
        of("cycle_progress", project="1", phase="train"): 0.25,
        of("last_cycle_seconds", project="1", phase="train"): 2.5,
        of("last_cycle_seconds", project="1", phase="score"): 0.5,
        of("versions", project="1", status="current"): 1,
        of("versions", project="1", status="superseded"): 1,
        of("current_version_info", project="1", version="vaal-c2-abc", sampler="vaal"): 1,
        of("tasks", project="2"): 0,
        of("budget", project="2"): 50,
        of("failing", project="2"): 1,
        of("cycle_running", project="2"): 0,
    }
    assert {key: found.get(key) for key in expected} == expected


def test_how_good_the_current_version_is_where_that_was_measured(state: State, settings: Settings) -> None:
    fill(state, metrics={"train_cv_accuracy": 0.8, "train_ece": 0.05})
    found = read(Metrics(state, settings).text())
    assert found[of("current_version_cv_accuracy", project="1")] == 0.8
    assert found[of("current_version_ece", project="1")] == 0.05
    assert of("current_version_ece", project="2") not in found


def test_how_good_the_masks_of_the_current_version_are(state: State, settings: Settings) -> None:
    fill(state, metrics={"train_mean_iou": 0.43, "train_pixel_accuracy": 0.9, "train_ece": 0.02})
    found = read(Metrics(state, settings).text())
    assert found[of("current_version_mean_iou", project="1")] == 0.43
    assert found[of("current_version_pixel_accuracy", project="1")] == 0.9
    assert of("current_version_cv_accuracy", project="1") not in found
    shown = io.StringIO()
    show(snapshot(state, settings), Console(file=shown, width=250))
    assert "IoU 43 %" in shown.getvalue()


def test_status_says_whose_order_is_in_use_where_it_is_not_the_samplers(state: State, settings: Settings) -> None:
    fill(state, metrics={"health": {"order": "typiclust", "why": "its discriminator only guesses"}})
    first, second = snapshot(state, settings)["projects"]
    words = "the order is by typiclust, because that of vaal is not to be trusted: its discriminator only guesses"
    assert (first["health"], second["health"]) == (words, "")
    console = Console(record=True, width=250, file=io.StringIO())
    show(snapshot(state, settings), console)
    assert f"Project 1: {words}" in console.export_text()


def test_a_growing_budget_is_that_of_the_labels_learned_from(state: State, settings: Settings) -> None:
    """A tenth of the 200 labels of the current version, not of those that came since."""
    fill(state, {"budget": 7, "budget_growth": 0.1}, {"labels": 200})
    assert read(Metrics(state, settings).text())[of("budget", project="1")] == 20
    assert snapshot(state, settings)["projects"][0]["budget"] == 20


def test_a_scrape_reads_the_state_as_it_is_then(state: State, settings: Settings) -> None:
    """Two processes over one database tell the same, also after a restart."""
    metrics = Metrics(state, settings)
    assert read(metrics.text())[of("projects")] == 0
    state.projects.connect(1, "1.1", CONFIG, {}, "", "")
    assert read(metrics.text())[of("projects")] == read(Metrics(state, settings).text())[of("projects")] == 1


def test_params_that_are_no_longer_allowed_do_not_break_the_scrape(state: State, settings: Settings) -> None:
    state.projects.connect(1, "1.1", CONFIG, {"of_an_older_version": 1}, "", "")
    found = read(Metrics(state, settings).text())
    assert np.isnan(found[of("budget", project="1")]) and found[of("tasks", project="1")] == 0


def test_requests_are_counted_by_route_in_each_application_alone(tmp_path: Path) -> None:
    first, second = (create_app(Settings(model_dir=str(tmp_path / name))) for name in "ab")
    client = first.test_client()
    for path in ("/health", "/health", "/no/such/1", "/no/such/2"):
        client.get(path)
    client.post("/webhook", data="{")
    answer = client.get("/metrics")
    assert answer.content_type.startswith("text/plain")
    found = read(answer.data)
    assert found[of("requests_total", endpoint="/health", method="GET", status="200")] == 2
    assert found[of("requests_total", endpoint="other", method="GET", status="404")] == 2, "one series, not one a path"
    assert found[of("requests_total", endpoint="/webhook", method="POST", status="400")] == 1
    assert found[of("request_seconds_count", endpoint="/health")] == 2
    assert 0 < found[of("request_seconds_sum", endpoint="/health")] < 5
    others = read(second.test_client().get("/metrics").data)
    assert not [key for key in others if key[0] == "active_learning_requests_total"]


def test_the_figures_of_a_cycle(state: State) -> None:
    fill(state)
    running, failed, done = state.cycles.recent(1)
    assert phase_seconds(done) == {"train": 2.5, "score": 0.5} and phase_seconds(failed) == {}
    figures = cycle_summary(done)
    assert (figures["cycle"], figures["status"], figures["figures"]) == (1, "done", {"labels": 2})
    assert cycle_summary(failed)["error"] == "Label Studio was away"
    assert (cycle_summary(running)["phase"], cycle_summary(running)["done"]) == ("train", 5)
