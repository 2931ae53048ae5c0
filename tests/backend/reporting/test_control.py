"""What is told of the control arm: in status, in metrics, on the page, and as advice."""

from __future__ import annotations

import io
import re
from typing import Any

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console

from backend.control import Arm
from backend.reporting.advice import advice_of
from backend.reporting.control import BETTER, NOT_TOLD_APART, UNKNOWN, WORSE, control_of, labels_saved_of
from backend.reporting.facts import Facts, facts_of
from backend.reporting.snapshot import snapshot
from backend.settings.core import Settings
from backend.state import State
from backend.status import show
from backend.web.metrics import Metrics
from models.intervals import exact_interval
from tests.backend.web.pages.world import add_cycle, connect, fill_tasks

POOL = range(1, 41)


def compared(low: float, high: float, **changes: Any) -> dict[str, Any]:
    """The figures of 60 labels of either kind, of which the drawn ones teach 70 %."""
    found = {
        "labels": 60,
        "asked": 125,
        "chosen": round(0.7 + (low + high) / 2, 4),
        "drawn": 0.7,
        "low": low,
        "high": high,
        "sizes": [5, 20, 60, 300],
        "curve": [0.3, 0.6, 0.8, 0.9],
        "needed": 31.4,
        "needed_low": 18.2,
        "needed_high": 52.6,
    }
    return found | changes


def metrics(**changes: Any) -> dict[str, Any]:
    found = {"labels": 125, "n": 65, "accuracy": 0.8, "low": 0.6823, "high": 0.8891, "compared": compared(0.05, 0.15)}
    return {"control": found | changes}


def known(state: State, settings: Settings) -> Facts:
    project = state.projects.get(1)
    assert project is not None
    return facts_of(state, settings, project, state.now())


def cycle(state: State, **found: Any) -> None:
    connect(state, 1, "Pets")
    fill_tasks(state, 1, POOL, [])
    add_cycle(state, 1, labels=100, pool=POOL, accuracy=0.8, **found)


@pytest.mark.parametrize(
    ("found", "verdict", "words"),
    [
        (compared(0.02, 0.2), BETTER, "is better than chance here"),
        (compared(-0.2, -0.02), WORSE, "is worse than chance here"),
        (compared(-0.02, 0.2), NOT_TOLD_APART, "cannot be told that the sampler is better than chance"),
    ],
)
def test_the_verdict_is_what_the_interval_says(found: dict[str, Any], verdict: str, words: str) -> None:
    control = control_of(metrics(compared=found))
    assert control is not None and control.verdict == verdict
    assert words in control.sentence and "60 random labels 70 %" in control.sentence


def test_too_few_labels_are_said_to_be_too_few() -> None:
    control = control_of(metrics(labels=12, compared={}))
    assert control is not None and control.verdict == UNKNOWN
    saved = labels_saved_of(control, Settings())
    assert saved.as_json() == {"why": "12 control labels so far; about 50 are needed for a comparison with chance."}


def test_labels_saved_are_those_that_the_sampler_needs_less() -> None:
    saved = labels_saved_of(control_of(metrics()), Settings())
    assert saved.as_json() == {"value": 29, "low": 7, "high": 42, "labels": 60}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"needed": None, "needed_low": None, "needed_high": None}, "first 300 labels .* do not teach what 60 random"),
        ({"needed_high": None}, "about 31 of the sampler's do, but the interval is wider than the 300 labels"),
    ],
)
def test_labels_saved_are_not_told_where_the_labels_do_not_reach(changes: dict[str, Any], words: str) -> None:
    saved = labels_saved_of(control_of(metrics(compared=compared(-0.1, 0.1, **changes))), Settings())
    assert saved.value is None
    assert re.search(words, saved.why)


def test_without_an_arm_it_is_said_that_there_is_none() -> None:
    assert "control_fraction is 0" in labels_saved_of(None, Settings(control_fraction=0.0)).why
    assert labels_saved_of(None, Settings()).why == "No cycle has measured it."


def test_a_sampler_that_is_worse_than_chance_is_advised_against(state: State, settings: Settings) -> None:
    cycle(state, **metrics(compared=compared(-0.2, -0.02)))
    advice = advice_of(known(state, settings))
    assert advice.code == "worse_than_random" and advice.concern and "set sampler to random" in advice.sentence


@pytest.mark.parametrize("found", [compared(0.05, 0.15), compared(-0.05, 0.15), {}])
def test_else_the_advice_is_about_the_accuracy(state: State, settings: Settings, found: dict[str, Any]) -> None:
    cycle(state, **metrics(compared=found))
    assert advice_of(known(state, settings)).code == "accuracy"


def test_status_and_metrics_have_the_same_figures(state: State, settings: Settings) -> None:
    cycle(state, **metrics())
    (found,) = snapshot(state, settings)["projects"]
    assert (found["control"]["value"], found["control"]["n"], found["control"]["verdict"]) == (0.8, 65, BETTER)
    assert found["labels_saved"]["value"] == 29
    families = text_string_to_metric_families(Metrics(state, settings).text().decode())
    read = {s.name: s.value for f in families for s in f.samples if s.labels.get("project") == "1"}
    of_status = {f"control_{key}": found["control"][key] for key in ("value", "low", "high", "n", "labels")}
    of_status |= {"control_difference": 0.1, "labels_saved": 29, "labels_saved_low": 7, "labels_saved_high": 42}
    for name, value in of_status.items():
        assert read[f"active_learning_{name}"] == pytest.approx(value), name


def test_status_says_in_words_how_the_sampler_compares(state: State, settings: Settings) -> None:
    cycle(state, **metrics(compared=compared(-0.05, 0.15)))
    out = io.StringIO()
    show(snapshot(state, settings), Console(file=out, width=400))
    assert "cannot be told that the sampler is better than chance" in out.getvalue()


def test_without_an_arm_status_has_no_figures(state: State, settings: Settings) -> None:
    cycle(state)
    (found,) = snapshot(state, settings)["projects"]
    assert found["control"] is None and found["labels_saved"] == {"why": "No cycle has measured it."}
    assert b"active_learning_control_value{" not in Metrics(state, settings).text()


# -- the statistics of the arm, over simulated projects ----------------------------------------------------------------


def labeled_by_chance(arm: Arm, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(the pool, the held-out labels) of a project whose owner imports a half late, skips one task in ten at random,
    deletes some tasks, and labels as far as they get."""
    rng = np.random.default_rng(seed)
    first = rng.permutation(100_000)[:1_500].astype(np.int64)
    late = rng.permutation(100_000)[:1_500].astype(np.int64) + 100_000
    far = int(rng.integers(100, 160))
    labeled = arm.of(first)[:far]
    pool = np.concatenate([first, late])
    waiting = np.setdiff1d(arm.of(pool), labeled)
    waiting = waiting[np.argsort(arm.places(waiting))]
    labeled = np.concatenate([labeled, waiting[: far + len(late) // 10]])
    labeled = labeled[rng.random(len(labeled)) > 0.1]
    gone = rng.random(len(pool)) < 0.1
    pool = pool[~gone]
    labeled = labeled[np.isin(labeled, pool)]
    drawn = arm.drawn({int(task): number for number, task in enumerate(labeled, 1)})
    return pool, drawn[arm.measures(drawn)]


def covered(projects: int) -> int:
    """In how many projects the interval has the accuracy on the pool. The network is right about some images and not
    about others: about fewer of those that came late, and in a fixed way, so that nothing but the arm is drawn by
    chance."""
    count = 0
    for seed in range(projects):
        arm = Arm(f"{seed}.2024", 0.2, [[0.0, 0.2]])
        pool, held_out = labeled_by_chance(arm, seed)
        right = (pool * 2_654_435_761 + seed * 97) % 1_000 < np.where(pool < 100_000, 850, 650)
        truth = dict(zip(pool.tolist(), right.tolist(), strict=True))
        low, high = exact_interval(sum(truth[task] for task in held_out.tolist()), len(held_out))
        count += bool(low <= right.mean() <= high)
    return count


def test_the_interval_covers_the_accuracy_on_the_pool() -> None:
    """Of 60 projects, of which each is covered with probability 0.95, fewer than 51 are covered once in 2,000 tests."""
    assert covered(60) >= 51


@pytest.mark.long
def test_the_interval_covers_the_accuracy_in_95_of_100_projects() -> None:
    found = covered(1_000)
    assert 930 <= found <= 970, found
