"""What is said of a project: its advice, the next cycle, how long this one takes, and where settings come from."""

from __future__ import annotations

import json
import re

import pytest

from backend.files import project_folder
from backend.reporting import replays
from backend.reporting.advice import advice_of
from backend.reporting.facts import Facts, facts_of
from backend.reporting.origins import origins
from backend.reporting.outlook import CurvePoint, outlook
from backend.reporting.snapshot import snapshot
from backend.reporting.words import (
    PHASES,
    next_cycle_in_words,
    preparation_in_words,
    replaying_in_words,
    running_in_words,
)
from backend.settings.core import Settings
from backend.state import State
from tests.backend.reporting.test_replays import HELPS
from tests.backend.web.pages.world import OWNER, add_cycle, connect, fill, fill_tasks
from tests.rig.processes import REPOSITORY

POOL = range(1, 41)


def known(state: State, settings: Settings, number: int = 1) -> Facts:
    project = state.projects.get(number)
    assert project is not None
    return facts_of(state, settings, project, state.now())


def test_too_few_labels_tell_nothing(state: State, settings: Settings) -> None:
    connect(state, 1, "Pets", {"budget": 30})
    assert advice_of(known(state, settings)).code == "first_order"
    fill_tasks(state, 1, POOL, [])
    add_cycle(state, 1, labels=0, pool=POOL)
    advice = advice_of(known(state, settings))
    assert advice.code == "too_few_labels" and "after 30 annotations" in advice.sentence
    add_cycle(state, 1, labels=12, pool=POOL, accuracy=1.0)
    advice = advice_of(known(state, settings))
    assert advice.code == "too_few_labels" and "12 so far" in advice.sentence and "100 %" not in advice.sentence


def test_accuracy_is_told_with_its_interval_and_how_it_moved(state: State, settings: Settings) -> None:
    """Wilson's interval of 91 % of 150 is 85 to 95 %: 78 % before is outside of it, 90 % is not."""
    connect(state, 1, "Pets")
    for labels, accuracy in ((100, 0.78), (150, 0.91)):
        add_cycle(state, 1, labels=labels, pool=POOL, accuracy=accuracy)
    advice = advice_of(known(state, settings))
    assert advice.code == "accuracy" and not advice.concern
    assert "91 %" in advice.sentence and "85 % to 95 %" in advice.sentence
    assert "it was 78 % with 100, so it rose" in advice.sentence
    add_cycle(state, 1, labels=200, pool=POOL, accuracy=0.93)
    assert "it was 91 % with 150, which is within that interval" in advice_of(known(state, settings)).sentence
    add_cycle(state, 1, labels=250, pool=POOL, accuracy=0.6)
    assert "so it fell, as it can while the network improves" in advice_of(known(state, settings)).sentence


def test_a_sampler_that_learned_nothing_is_told_before_any_accuracy(state: State, settings: Settings) -> None:
    connect(state, 1, "Pets")
    health = {"order": "typiclust", "why": "its discriminator only guesses"}
    add_cycle(state, 1, labels=100, pool=POOL, accuracy=0.9, health=health)
    advice = advice_of(known(state, settings))
    assert advice.code == "sampler" and advice.concern and "its discriminator only guesses" in advice.sentence


def test_a_better_sampler_is_advised_by_the_last_replay_and_status_has_all_of_it(
    state: State, settings: Settings
) -> None:
    connect(state, 1, "Pets", {"sampler": "bald"})
    add_cycle(state, 1, labels=100, pool=POOL, accuracy=0.9)
    assert snapshot(state, settings)["projects"][0]["replay"] is None
    project = state.projects.get(1)
    assert project is not None
    replays.keep(project_folder(settings.model_dir, project.folder_key), HELPS)
    advice = advice_of(known(state, settings))
    assert advice.code == "better_sampler" and advice.concern
    assert advice.sentence.startswith("90 % of the predictions") and advice.sentence.endswith('"sampler": "margin".')
    found = json.loads(json.dumps(snapshot(state, settings)))["projects"][0]["replay"]
    assert (found["labels"], found["samplers"][1]["verdict"]) == (240, "ahead")
    assert found["sentence"] == replays.in_words(HELPS)


def test_what_more_labels_would_bring_stands_behind_the_accuracy(state: State, settings: Settings) -> None:
    connect(state, 1, "Pets", {"target_accuracy": 0.9})
    points = [CurvePoint(count, 0.95 - 1.2 * count**-0.5, count) for count in range(50, 301, 50)]
    add_cycle(state, 1, labels=300, pool=POOL, accuracy=0.88, outlook=outlook(points, 0.9, 36.0))
    advice = advice_of(known(state, settings))
    assert advice.code == "accuracy" and "The target of 90 % is met with about 5" in advice.sentence
    state.projects.update(1, extra_params={})
    advice = advice_of(known(state, settings))
    assert advice.code == "enough_labels" and not advice.concern
    assert "labeling may stop here, unless 2.0 points for 300 more (about 3.0 h) are worth it." in advice.sentence
    assert snapshot(state, settings)["projects"][0]["outlook"]["labels"] == 300


def test_where_nothing_is_measured_that_is_said(state: State, settings: Settings) -> None:
    connect(state, 1, "Pets")
    add_cycle(state, 1, labels=100, pool=POOL)
    assert advice_of(known(state, settings)).code == "not_measured"


@pytest.mark.parametrize(
    ("values", "code"),
    [
        ({"hands_off": "Label Studio no longer lists this backend"}, "connection"),
        ({"last_error": "401: the key is refused"}, "failing"),
        ({"standing": "unchecked"}, "unconfirmed"),
        ({"standing": "aside"}, "set_aside"),
        ({"extra_params": {"no_such_setting": 1}}, "failing"),
    ],
)
def test_what_is_wrong_is_told_first(state: State, settings: Settings, values: dict[str, object], code: str) -> None:
    connect(state, 1, "Pets")
    add_cycle(state, 1, labels=100, pool=POOL, accuracy=0.9)
    state.projects.update(1, **values)
    advice = advice_of(known(state, settings))
    assert advice.code == code and advice.concern


def test_the_next_cycle_comes_after_so_many_annotations(state: State, settings: Settings) -> None:
    connect(state, 1, "Pets", {"budget": 50})
    add_cycle(state, 1, labels=10, pool=POOL)
    state.hints.add(1, annotations=34)
    facts = known(state, settings)
    assert facts.next_cycle() == {"in_annotations": 16, "budget": 50}
    assert next_cycle_in_words(facts).startswith("34 of 50 new annotations: the next cycle starts by itself when 16")
    state.hints.add(1, train=True)
    facts = known(state, settings)
    assert facts.next_cycle() == {"in_annotations": 0, "budget": 50}
    assert next_cycle_in_words(facts) == "A cycle was asked for; it starts as soon as a worker is free."
    state.projects.update(1, retry_at=state.now() + 30)
    assert "tries again in" in next_cycle_in_words(known(state, settings))
    state.projects.update(1, hands_off="not listed")
    assert next_cycle_in_words(known(state, settings)) == "No cycle while the connection needs attention."
    state.projects.update(1, hands_off=None, extra_params={"no_such_setting": 1})
    facts = known(state, settings)
    assert facts.next_cycle() == {"in_annotations": None, "budget": None}
    assert next_cycle_in_words(facts) == "No cycle while the settings are refused."


def test_a_running_cycle_takes_as_long_as_the_last_one(state: State, settings: Settings) -> None:
    """A quarter of the training's 2.5 s is done: 1.875 s of it are left, then 1.5 s of scoring and 1.2 s of
    publishing."""
    fill(state, settings)
    facts = known(state, settings)
    assert facts.seconds_left == pytest.approx(1.875 + 1.5 + 1.2)
    assert running_in_words(facts) == "Cycle 4: training the network"


def test_without_an_earlier_cycle_nothing_tells_how_long_it_takes(state: State, settings: Settings) -> None:
    connect(state, 1, "Pets")
    state.cycles.start(1, OWNER, 0, "margin", 0)
    assert known(state, settings).seconds_left is None


def test_each_setting_says_where_it_comes_from(state: State) -> None:
    process = Settings.from_env({"BUDGET": "30", "SEED": "7", "MODEL_DIR": "unused", "EPOCHS": "3"})
    connect(state, 1, "Pets", {"budget": 40})
    project = state.projects.get(1)
    assert project is not None
    own = process.for_project(project.extra_params)
    found = {one.name: one for one in origins(process, project, own)}
    assert (found["budget"].value, found["budget"].source) == ("40", "extra params")
    assert (found["seed"].value, found["seed"].source) == ("7", "environment")
    assert found["sampler"].source == "default" and not found["sampler"].chosen
    assert not {"label_studio_api_key", "basic_auth_pass", "database_url"} & set(found), "secrets are no settings here"


def test_status_and_the_page_have_the_same_figures(state: State, settings: Settings) -> None:
    fill(state, settings)
    (found,) = snapshot(state, settings)["projects"]
    facts = known(state, settings)
    assert facts.accuracy is not None and found["accuracy"] == facts.accuracy.as_json()
    assert found["next_cycle"] == {"in_annotations": 16, "budget": 50}
    assert found["advice"] == advice_of(facts).sentence and found["advice_code"] == "accuracy"


def test_every_phase_that_is_reported_has_words() -> None:
    reported = {
        phase
        for room in ("backend", "models", "samplers")
        for path in (REPOSITORY / room).rglob("*.py")
        for phase in re.findall(r"\b(?:(?:progress|report)\(\s*|phase = )\"([a-z]+)\"", path.read_text())
    }
    assert {"read", "gan", "calibrate"} <= reported
    assert reported - PHASES.keys() == {"upkeep"}, "which status says of a project, and no cycle reports"


def test_a_replay_that_was_asked_for_says_how_far_it_is(state: State, settings: Settings) -> None:
    connect(state, 1, "Pets")
    assert replaying_in_words(known(state, settings)) == "" and "replay (asked for)" not in known(state, settings).due
    state.replays.ask(1)
    assert "begins as soon as a worker" in replaying_in_words(known(state, settings))
    assert "replay (asked for)" in known(state, settings).due
    assert running_in_words(known(state, settings)).startswith("Upkeep: comparing")
    state.replays.note(1, OWNER, 80, 320, 60.0)
    left = "Replay: 80 of 320 trainings done, 3 minutes left when nothing else has to be done first."
    assert replaying_in_words(known(state, settings)) == left
    assert running_in_words(known(state, settings)) == "Upkeep: the replay, and whatever else is due"
    state.replays.settle(1, OWNER, 1, "Too few labels.")
    assert replaying_in_words(known(state, settings)) == (
        "The replay that was asked for is not possible. Too few labels."
    )


def test_what_is_trained_between_cycles_says_how_far_it_is(state: State, settings: Settings) -> None:
    connect(state, 1, "Pets", {"sampler": "asal"})
    assert preparation_in_words(known(state, settings)) == ""
    how_far = {"key": "a", "phase": "gan", "done": 750, "total": 3000, "over": False, "enough_for": 0}
    state.projects.update(1, preparation=how_far)
    assert preparation_in_words(known(state, settings)) == "Between cycles: training the generator, 25% done."
    assert snapshot(state, settings)["projects"][0]["preparation"].endswith("25% done.")
    state.projects.update(1, preparation=how_far | {"over": True, "error": "the training diverged"})
    assert "asal needs could not be trained: the training diverged." in preparation_in_words(known(state, settings))
    state.projects.update(1, preparation=how_far | {"over": True})
    assert preparation_in_words(known(state, settings)) == ""
