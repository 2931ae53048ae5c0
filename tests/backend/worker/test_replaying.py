"""The replay that is asked for on the page: played in upkeep a piece at a time, kept, and never in the way of other
work."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from backend.errors import Stopped
from backend.files import project_folder
from backend.labelstudio.client import LabelStudio
from backend.replay import pieces, project
from backend.replay import trials as module
from backend.replay.learning import Labels, LearnerTrain
from backend.replay.project import replay_project
from backend.replay.trials import SamplerFailed, Trained
from backend.reporting import replays
from backend.reporting.replays import Replay
from backend.settings.core import Settings
from backend.state import Project, State, StoredLabel
from backend.worker import replaying
from backend.worker.job import Job
from models import ProgressFn
from models.data import no_progress
from tests.backend.replay.owners import Scenes
from tests.backend.replay.test_project import COUNT, HEAD, labeled
from tests.backend.web.pages.world import OWNER

CPU = torch.device("cpu")


class Quick:
    """Stands in for :class:`backend.replay.learning.LearnerTrain`, which takes a second for each training."""

    def __init__(self, settings: Settings, labels: Labels, device: torch.device, progress: ProgressFn = no_progress):
        self._train, self._progress = Scenes(labels.tasks % 40), progress

    def __call__(
        self, sampler: str, labeled: np.ndarray, unlabeled: np.ndarray, seed: int, previous: Trained | None
    ) -> Trained:
        self._progress("train", 0, 1)
        return self._train(sampler, labeled, unlabeled, seed, previous)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Six trials of two samplers, of two trainings each; and a piece is one curve."""
    for place in (pieces, project):
        monkeypatch.setattr(place, "LearnerTrain", Quick)
    monkeypatch.setattr(module, "STAGES", 2)
    monkeypatch.setattr(project, "USUAL", ())
    monkeypatch.setattr(pieces, "TRIALS", 6)
    monkeypatch.setattr(replaying, "PIECE_SECONDS", 0.0)
    monkeypatch.setattr(replaying, "LOOK_SECONDS", 0.0)
    monkeypatch.setattr(replaying, "NOTE_SECONDS", 0.0)


def row(state: State) -> Project:
    found = state.projects.get(1)
    assert found is not None
    return found


def job(state: State, settings: Settings, check: Callable[[], None] = lambda: None) -> Job:
    known = row(state)
    own = settings.for_project(known.extra_params)
    return Job(known, own, state, LabelStudio("http://labels.example:8080", ""), OWNER, CPU, check)


def result(state: State, settings: Settings) -> Replay | None:
    return replays.kept(project_folder(settings.model_dir, row(state).folder_key))


def played(state: State, settings: Settings) -> Replay:
    """After as many pieces as it takes."""
    for _ in range(13):
        if not row(state).replay_requested:
            break
        replaying.replay(job(state, settings), lambda: False)
    found = result(state, settings)
    assert found is not None and not row(state).replay_requested
    return found


def curves(found: Replay) -> Any:
    return [dataclasses.replace(one, seconds=0.0, curve=list(one.curve)) for one in found.samplers]


def test_pieces_find_what_the_command_finds(state: State, settings: Settings) -> None:
    labeled(state, settings)
    state.replays.ask(1)
    found = played(state, settings)
    whole = replay_project(state, settings, "1", (), 6, 0, CPU, lambda done, total: None)
    assert curves(found) == curves(whole) and found.labels == COUNT
    assert row(state).replaying is None
    assert not (job(state, settings).folder / pieces.FILE).exists()


def test_asked_for_twice_it_is_played_once(state: State, settings: Settings) -> None:
    labeled(state, settings)
    state.replays.ask(1)
    replaying.replay(job(state, settings), lambda: False)
    state.replays.ask(1)
    first = played(state, settings)
    replaying.replay(job(state, settings), lambda: False)
    assert result(state, settings) == first
    state.replays.ask(1)
    assert row(state).replay_requested


def test_each_piece_notes_how_far_the_projects_own_network_is(
    state: State, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pieces, "LearnerTrain", LearnerTrain)
    labeled(state, settings)
    state.replays.ask(1)
    done = []
    for _ in range(2):
        replaying.replay(job(state, settings), lambda: False)
        known = row(state).replaying or {}
        done.append((known["done"], known["total"]))
    assert done == [(2, 24), (4, 24)]  # six trials of two samplers, of two trainings


def test_other_work_goes_first_and_what_was_played_stays(state: State, settings: Settings) -> None:
    labeled(state, settings)
    state.replays.ask(1)
    replaying.replay(job(state, settings), lambda: True)
    assert row(state).replaying is None
    replaying.replay(job(state, settings), lambda: False)
    asked: list[int] = []

    def soon() -> bool:
        asked.append(1)
        return len(asked) > 1

    replaying.replay(job(state, settings), soon)  # in the middle of its first training
    begun = pieces.Begun.kept(job(state, settings).folder, 2)
    assert begun is not None and begun.played is not None
    assert sum(map(len, begun.played.curves.values())) == 1 and row(state).replay_requested


def test_a_kill_loses_a_curve_at_most(state: State, settings: Settings) -> None:
    labeled(state, settings)
    state.replays.ask(1)
    replaying.replay(job(state, settings), lambda: False)
    for calls in (0, 1, 2):
        left = [calls]

        def killed_later(left: list[int] = left) -> None:
            left[0] -= 1
            if left[0] < 0:
                raise Stopped("killed")

        with pytest.raises(Stopped):
            replaying.replay(job(state, settings, killed_later), lambda: False)
        begun = pieces.Begun.kept(job(state, settings).folder, 2)
        assert begun is not None and begun.played is not None
        assert sum(map(len, begun.played.curves.values())) == 1
    found = played(state, settings)
    assert curves(found) == curves(replay_project(state, settings, "1", (), 6, 0, CPU, lambda *_: None))


def test_labels_that_come_meanwhile_are_left_to_the_next_one(state: State, settings: Settings) -> None:
    labeled(state, settings)
    state.replays.ask(1)
    replaying.replay(job(state, settings), lambda: False)
    state.labels.put(1, [StoredLabel(COUNT + 1, "cat", [[COUNT + 1, "monday"]], 1, 0)])
    assert played(state, settings).labels == COUNT
    state.replays.ask(1)
    assert played(state, settings).labels == COUNT + 1


def test_it_begins_again_where_settings_or_images_have_changed(state: State, settings: Settings) -> None:
    features = labeled(state, settings)
    assert features.kept is not None
    state.replays.ask(1)
    for _ in range(3):
        replaying.replay(job(state, settings), lambda: False)
    state.projects.connect(1, "1.1700000000", row(state).label_config, HEAD | {"seed": 3}, row(state).url, "")
    replaying.replay(job(state, settings), lambda: False)
    assert (row(state).replaying or {})["done"] == 2
    features.kept.cache.forget([1])
    assert played(state, settings).labels == COUNT - 1


def test_what_is_kept_of_it_may_be_damaged(state: State, settings: Settings) -> None:
    labeled(state, settings)
    state.replays.ask(1)
    replaying.replay(job(state, settings), lambda: False)
    (job(state, settings).folder / pieces.FILE).write_text('{"format": 1, "key"')
    assert played(state, settings).labels == COUNT


def test_too_few_labels_are_said_and_it_is_not_tried_again(state: State, settings: Settings) -> None:
    labeled(state, settings, count=59)
    state.replays.ask(1)
    replaying.replay(job(state, settings), lambda: False)
    known = row(state)
    assert not known.replay_requested and "needs 60 labeled tasks" in (known.replaying or {})["error"]
    state.replays.ask(1)
    assert row(state).replay_requested and row(state).replaying is None


def test_a_failure_that_nobody_foresaw_ends_the_replay_and_not_the_upkeep_after_it(
    state: State, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    labeled(state, settings)
    state.replays.ask(1)

    def broken(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(pieces, "play", broken)
    with pytest.raises(ZeroDivisionError):
        replaying.replay(job(state, settings), lambda: False)
    assert "ZeroDivisionError" in (row(state).replaying or {})["error"] and not row(state).replay_requested


def test_where_random_fails_nothing_is_found(state: State, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    labeled(state, settings)
    state.replays.ask(1)

    def failing(*_: Any) -> None:
        raise SamplerFailed("its training diverged")

    monkeypatch.setattr(module, "_curve", failing)
    for _ in range(2):
        replaying.replay(job(state, settings), lambda: False)
    assert "found nothing: its training diverged" in (row(state).replaying or {})["error"]
