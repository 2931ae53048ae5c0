"""The replay of a project: its own labels, features and network, and in words what is missing for it."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from backend.control import Arm
from backend.errors import OwnerError, SettingsError
from backend.files import project_folder
from backend.images.cache import ImageCache
from backend.learning.features import Features
from backend.replay import trials as module
from backend.replay.project import chosen_samplers, labels_of, replay_project
from backend.reporting import replays
from backend.reporting.replays import Replay, left_in_words
from backend.settings.core import Settings
from backend.state import State, StoredLabel
from backend.state.records import Mark
from backend.tasks import kind_of
from tests.backend.small_label_studio import CONFIG, MASKS_CONFIG, TAGS_CONFIG
from tests.backend.web.pages.world import add_cycle, connect, fill_tasks

CPU = torch.device("cpu")
HEAD = {"task_net": "test_resnet", "weights": "none", "training": "head", "sampler": "margin"}
COUNT = 70


def labeled(
    state: State, settings: Settings, count: int = COUNT, config: str = CONFIG, names: tuple[str, ...] = ("cat", "dog")
) -> Features:
    """Project 1 after a cycle, with ``count`` labels of images whose features tell the classes apart."""
    connect(state, 1, "Pets", HEAD, config)
    tasks = list(range(1, count + 11))
    said = [names[task % len(names)] for task in range(count)]
    fill_tasks(state, 1, tasks, said)
    if config == TAGS_CONFIG:
        state.labels.put(1, [StoredLabel(t, [s], [[t, "monday"]], 1, 0) for t, s in zip(tasks, said, strict=False)])
    add_cycle(state, 1, labels=count, pool=tasks, frame=[32, 32])
    project = state.projects.get(1)
    assert project is not None
    cache = ImageCache(project_folder(settings.model_dir, project.folder_key) / "images-32", 32)
    with cache._writing(), cache._batch() as batch:
        for task in tasks:
            batch.add(task, bytes([task] * 16), np.zeros((32, 32, 3), np.uint8))
    features = Features.open(kind_of(config, settings.for_project(HEAD)), cache, CPU)
    assert features.kept is not None
    rng = np.random.default_rng(0)
    rows = np.zeros((len(tasks), features.kept.width))
    rows[:, :2] = rng.normal(0, 1, (len(tasks), 2))
    rows[:, 0] += 4 * (np.arange(len(tasks)) % 2)
    features.kept.write(np.array(tasks), rows.astype(np.float16))
    return features


def replayed(state: State, settings: Settings, samplers: tuple[str, ...] = ("margin",)) -> Replay:
    return replay_project(state, settings, "1", samplers, 6, 0, CPU, lambda done, total: None)


@pytest.mark.parametrize("config", [CONFIG, TAGS_CONFIG], ids=["classification", "multilabel"])
def test_a_replay_is_of_the_projects_labels_and_is_kept(
    state: State, settings: Settings, config: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "STAGES", 2)
    labeled(state, settings, config=config)
    found = replayed(state, settings)
    assert found.labels == COUNT and found.held_out == 21 and found.stages == (8, 49)
    assert [one.sampler for one in found.samplers] == ["margin", "random"]
    assert found.target > 0.85  # the classes are 4 standard deviations apart
    project = state.projects.get(1)
    assert project is not None
    folder = project_folder(settings.model_dir, project.folder_key)
    assert replays.kept(folder) == Replay.of_json(json.loads(json.dumps(found.as_json())))
    assert replays.in_words(found).startswith("Replay of 70 labels on ")


def test_labels_of_generated_images_are_left_out(state: State, settings: Settings) -> None:
    labeled(state, settings)
    state.synthetic.note(1, {3: Mark("gaal-c1-00000000", 5)})
    project = state.projects.get(1)
    assert project is not None
    kind = kind_of(project.label_config, settings.for_project(project.extra_params))
    assert len(labels_of(state, settings, project, kind, CPU).rows) == COUNT - 1


def test_labels_that_the_control_arm_keeps_out_of_training_are_left_out(state: State, settings: Settings) -> None:
    labeled(state, settings, count=100)
    state.labels.put(1, [StoredLabel(t, ("cat", "dog")[t % 2], [[100 + t, "monday"]], 1, 0) for t in range(1, 101)])
    state.projects.update(1, control=[[110, 0.5]])  # the annotations after that were given under an arm of a half
    project = state.projects.get(1)
    assert project is not None
    params = HEAD | {"control_fraction": 0.5}
    kind = kind_of(project.label_config, settings.for_project(params))
    tasks = np.arange(11, 101)
    arm = Arm(project.folder_key, 0.5, [[110, 0.5]])
    drawn = arm.of(tasks)
    apart = drawn[arm.measures(drawn)]
    assert 10 < len(apart) < 40
    found = labels_of(state, settings, project, kind, CPU)
    assert found.tasks.tolist() == np.setdiff1d(np.arange(1, 101), apart).tolist()
    everything = kind_of(project.label_config, settings.for_project(HEAD | {"control_fraction": 0.0}))
    assert len(labels_of(state, settings, project, everything, CPU).rows) == 100


def test_too_few_labels_are_refused_with_how_many_there_are(state: State, settings: Settings) -> None:
    labeled(state, settings, count=59)
    with pytest.raises(OwnerError, match=r"needs 60 labeled tasks .* there are 59 labeled tasks, and 59"):
        replayed(state, settings)


def test_labels_that_all_say_the_same_are_refused(state: State, settings: Settings) -> None:
    labeled(state, settings, names=("cat",))
    with pytest.raises(OwnerError, match="All labels say the same"):
        replayed(state, settings)


def test_images_that_are_not_embedded_are_counted(state: State, settings: Settings) -> None:
    features = labeled(state, settings)
    assert features.kept is not None
    (features.kept.directory / "stamps").unlink()
    with pytest.raises(OwnerError, match="70 labeled tasks, and 0 of them are embedded"):
        replayed(state, settings)


@pytest.mark.parametrize(
    ("config", "changes"),
    [(CONFIG, {"training": "finetune"}), (CONFIG, {"task_net": "resnet18", "training": "auto"}), (MASKS_CONFIG, {})],
)
def test_a_network_that_reads_images_is_refused(
    state: State, settings: Settings, config: str, changes: dict[str, str]
) -> None:
    labeled(state, settings)
    state.projects.connect(1, "1.1700000000", config, HEAD | changes, "http://labels.example:8080", "")
    with pytest.raises(OwnerError, match="reads the images themselves"):
        replayed(state, settings)


def test_before_the_first_cycle_there_is_nothing_to_replay(state: State, settings: Settings) -> None:
    connect(state, 1, "Pets", HEAD)
    with pytest.raises(OwnerError, match="no cycle has learned"):
        replayed(state, settings)


def test_random_is_always_replayed_and_what_cannot_be_is_refused_in_words() -> None:
    kind = kind_of(CONFIG, Settings().for_project(HEAD))
    assert chosen_samplers(kind, ()) == ["margin", "typiclust", "random"]
    assert chosen_samplers(kind, ("random", "badge", "badge")) == ["badge", "random"]
    for name, words in (("gaal", "cannot be replayed"), ("bold", "there is no sampler 'bold'")):
        with pytest.raises(SettingsError, match=words):
            chosen_samplers(kind, (name,))
    inside = kind_of(CONFIG, Settings().for_project(HEAD | {"dropout_place": "stages"}))
    assert chosen_samplers(inside, ("margin",)) == ["margin", "random"]
    with pytest.raises(SettingsError, match='sampler "bald" cannot be replayed with "dropout_place": "stages"'):
        chosen_samplers(inside, ("bald",))
    several = kind_of(TAGS_CONFIG, Settings().for_project({"sampler": "margin"}))
    with pytest.raises(SettingsError, match="has no meaning for several choices per image"):
        chosen_samplers(several, ("dast-al",))


def test_what_is_left_goes_by_the_trainings_that_are_done() -> None:
    """30 of 120 in 60 s: 90 more take 180 s."""
    assert left_in_words(30, 120, 60) == "3 minutes left"
    assert left_in_words(100, 120, 60) == "12 seconds left"
    assert left_in_words(0, 120, 60) == left_in_words(120, 120, 60) == ""
