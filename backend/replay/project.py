"""The replay of a project, from what the state and its folder hold; Label Studio is not asked."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import numpy as np
import torch

from backend.control import Arm, first_annotations
from backend.errors import OwnerError, SettingsError
from backend.files import project_folder
from backend.images.cache import ImageCache
from backend.learning.features import Features
from backend.replay.learning import Labels, LearnerTrain
from backend.replay.trials import FEWEST_LABELS, Played, Progress, play
from backend.reporting import replays
from backend.reporting.comparison import LEVEL, compared, labels_needed
from backend.reporting.learning_curves import BASELINE
from backend.reporting.replays import Replay, ReplayedSampler
from backend.settings.core import Settings
from backend.state import Project, State
from backend.tasks import kind_of
from backend.tasks.base import AnyTaskKind
from backend.tasks.refusals import inside
from models.data import no_progress
from samplers import SAMPLER_NAMES, SAMPLERS

USUAL = ("margin", "typiclust")
"""What a project's sampler and random are compared with, unless others are asked for."""


def replay_project(
    state: State,
    settings: Settings,
    name: str,
    samplers: Sequence[str],
    trials: int,
    seed: int,
    device: torch.device,
    progress: Progress,
) -> Replay:
    """Replay the labels of the project that a person calls ``name``, and keep what was found. ``settings``: those of
    the process. ``samplers``: empty for the usual ones; random is always among them.

    Raises:
        OwnerError: it cannot be replayed; the message says what is missing.
        SettingsError: a sampler cannot be replayed.
    """
    project = state.projects.find(name)
    kind = kind_of(project.label_config, settings.for_project(project.extra_params))
    chosen = chosen_samplers(kind, samplers)
    check_trials(trials, len(chosen) - 1)
    labels = labels_of(state, settings, project, kind, device)
    train = LearnerTrain(kind.settings, labels, device)
    classes = len(labels.classes)
    played = play(chosen, len(labels.rows), classes, trials, seed, train, progress, time.monotonic)
    found = summarized(played, len(labels.rows), trials, seed, kind.settings.sampler, state.now())
    replays.keep(project_folder(settings.model_dir, project.folder_key), found)
    return found


def chosen_samplers(kind: AnyTaskKind, asked: Sequence[str]) -> list[str]:
    """The samplers to replay, random last. Raises SettingsError for one that cannot be, in words."""
    usual = [kind.settings.sampler, *(name for name in USUAL if kind.name in SAMPLERS[name].tasks)]
    for name in asked:
        if name not in SAMPLERS:
            raise SettingsError(f"there is no sampler {name!r}: choose from {', '.join(SAMPLER_NAMES)}")
        if reason := SAMPLERS[name].refusals.get(kind.name):
            raise SettingsError(f'sampler "{name}" has no meaning for {kind.learns}: {reason}')
        if asked_for := inside(kind.settings, name):
            setting, value = asked_for
            raise SettingsError(
                f'sampler "{name}" cannot be replayed with "{setting}": "{value}", which reaches inside the network: a '
                "replay trains heads alone"
            )
        if SAMPLERS[name].generates:
            raise SettingsError(
                f'sampler "{name}" cannot be replayed: it asks for images that it generates, which nobody has labeled'
            )
    wanted = asked or [name for name in usual if not SAMPLERS[name].generates]
    return [*dict.fromkeys(name for name in wanted if name != BASELINE), BASELINE]


def check_trials(trials: int, compared: int) -> None:
    """Raise SettingsError where so few trials could not tell ``compared`` samplers from random whatever they show: the
    smallest two-sided p of Wilcoxon's test is 2 / 2 ** trials, and Holm's correction multiplies it."""
    needed = math.ceil(math.log2(2 * max(1, compared) / LEVEL))
    if trials < needed:
        words = "1 sampler" if compared == 1 else f"{compared} samplers"
        raise SettingsError(f"{trials} trials are too few to tell {words} from random at 5 %: take at least {needed}")


def said_of(state: State, project: Project, kind: AnyTaskKind) -> dict[int, Any]:
    """What the labels of ``project`` that may be replayed say, by task: without those of generated images, and without
    those that the control arm keeps out of all training."""
    generated = set(state.synthetic.ids(project.id).tolist())
    real = [one for one in state.labels.all(project.id) if one.label is not None and one.task_id not in generated]
    arm = Arm(project.folder_key, kind.settings.control_fraction, project.control or ())
    drawn = arm.drawn(first_annotations((one.task_id, one.counted) for one in real))
    apart = set(drawn[arm.measures(drawn)].tolist())
    known = set(kind.classes)  # if the config has changed, labels are read again soon
    return {
        one.task_id: one.label for one in real if one.task_id not in apart and set(kind.classes_in(one.label)) <= known
    }


def labels_of(
    state: State,
    settings: Settings,
    project: Project,
    kind: AnyTaskKind,
    device: torch.device,
    said: Mapping[int, Any] | None = None,
) -> Labels:
    """The labels of ``project`` whose images are embedded, as they are now or as they were ``said`` (:func:`said_of`).

    Raises:
        OwnerError: they cannot be replayed; the message says what is missing.
    """
    version = state.versions.current(project.id)
    frame = version.metrics.get("frame") if version else None
    folder = project_folder(settings.model_dir, project.folder_key)
    cache = ImageCache.open_existing(folder, (int(frame[0]), int(frame[1]))) if frame else None
    if cache is None:
        raise OwnerError("There is nothing to replay yet: no cycle has learned from this project's labels.")
    features = Features.open(kind, cache, device)
    if features.rows is None:
        raise OwnerError(
            "A replay trains hundreds of networks, so it needs a head for labels of whole images on a backbone that "
            f"stays as it is; this project's network, {features.config.name}, reads the images themselves."
        )
    said = said_of(state, project, kind) if said is None else said
    tasks = features.present(np.array(sorted(said), dtype=np.int64))
    if len(tasks) < FEWEST_LABELS:
        raise OwnerError(
            f"Too few labels to tell samplers apart: a replay needs {FEWEST_LABELS} labeled tasks whose images are "
            f"embedded; there are {len(said)} labeled tasks, and {len(tasks)} of them are embedded."
        )
    if len({str(said[task]) for task in tasks.tolist()}) < 2:
        raise OwnerError("All labels say the same, so every sampler would be right from the first label on.")
    labels = {task: kind.label_from(said[task]) for task in tasks.tolist()}
    found = kind.training_labels(labels, {}, cache, _read_nothing, no_progress)
    learned = np.array(found.tasks, dtype=np.int64)
    rows = cache.rows(learned)
    return Labels(cache.pixels, features.rows, learned, rows, found.targets, found.num_classes, kind.classes)


def _read_nothing(*_: Any) -> NoReturn:
    raise OwnerError("The labels of this kind of task are drawn, and a replay does not read them again.")


def summarized(played: Played, labels: int, trials: int, seed: int, chosen_by: str, at: float) -> Replay:
    """What a replay of so many ``labels`` comes to. Raises OwnerError where random failed."""
    if BASELINE not in played.curves:
        raise OwnerError(f"The replay found nothing: {played.failed[BASELINE]}")
    stages, curves = played.design.stages, played.curves
    base = curves[BASELINE]
    targets = np.array([base[trial][-1] for trial in sorted(base)])
    against = {one.arm: one for one in compared(stages, curves, stages[-1])}
    samplers = []
    for name, of_trials in curves.items():
        own = np.array([of_trials[trial] for trial in sorted(base)])
        mean, needed = own.mean(axis=0).tolist(), labels_needed(stages, own, targets)
        found = against.get(name)
        if found is None:
            samplers.append(ReplayedSampler(name, mean, needed, played.seconds[name]))
            continue
        gain, margin = found.gain.mean, found.gain.margin
        figures = (gain, gain - margin, gain + margin, found.p, found.corrected)
        samplers.append(ReplayedSampler(name, mean, needed, played.seconds[name], *figures))
    spent = sum(played.seconds.values())
    held_out, target, all_of_them = played.design.held_out, float(targets.mean()), tuple(samplers)
    return Replay(at, labels, held_out, trials, seed, stages, target, chosen_by, all_of_them, played.failed, spent)
