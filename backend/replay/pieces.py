"""A replay in pieces: what was played so far is kept in the project's folder, and a later process goes on with it.

The labels are those that there were when it began. So people may go on labeling, and cycles may run in between.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from backend.errors import OwnerError
from backend.replay.learning import Labels, LearnerTrain
from backend.replay.project import check_trials, chosen_samplers, labels_of, said_of, summarized
from backend.replay.trials import Design, Played, Progress, play
from backend.reporting.replays import Replay
from backend.settings.core import Settings
from backend.state import Project, State
from backend.tasks import kind_of
from models import ProgressFn
from models.files import replace_file

log = logging.getLogger(__name__)

FILE = "replaying.json"
FORMAT = 1
TRIALS, SEED = 10, 0
"""As the command has them, unless it is told otherwise."""


def forget(folder: Path) -> None:
    """Of the project with this ``folder``, what was played so far."""
    (folder / FILE).unlink(missing_ok=True)


@dataclass(frozen=True)
class Begun:
    """``key``: the request and all that decides what it would find. ``said``: the labels, by task. ``played``: None
    before the first piece."""

    key: str
    said: dict[int, Any]
    played: Played | None = None

    def keep(self, folder: Path) -> None:
        played = self.played
        kept = None if played is None else {"curves": played.curves, "seconds": played.seconds, "failed": played.failed}
        found = {"format": FORMAT, "key": self.key, "said": list(self.said.items()), "played": kept}
        folder.mkdir(parents=True, exist_ok=True)
        replace_file(folder / FILE, json.dumps(found).encode())

    @classmethod
    def kept(cls, folder: Path, classes: int) -> Begun | None:
        """That of the project with this ``folder``; None if there is none, or it cannot be read."""
        try:
            found = json.loads((folder / FILE).read_bytes())
            if found["format"] != FORMAT:
                raise ValueError(f"format {found['format']}")
            begun = cls(str(found["key"]), {int(task): label for task, label in found["said"]})
            if (kept := found["played"]) is None:
                return begun
            curves = {name: {int(trial): of for trial, of in by.items()} for name, by in kept["curves"].items()}
            played = Played(Design.of(len(begun.said), classes), curves, kept["seconds"], kept["failed"])
        except FileNotFoundError:
            return None
        except (OSError, KeyError, TypeError, ValueError, AttributeError) as error:
            log.warning("%s cannot be read, so the replay begins again: %s", FILE, error)
            return None
        return cls(begun.key, begun.said, played)


def replay_piece(
    state: State,
    settings: Settings,
    project: Project,
    folder: Path,
    device: torch.device,
    *,
    progress: Progress,
    often: ProgressFn,
    check: Callable[[], None],
    go_on: Callable[[], bool],
) -> Replay | None:
    """Go on with the replay that was asked for last, with the usual samplers, and say what it found; None while it is
    not over.

    Args:
        settings: those of the project, in its ``folder``.
        often: called often while something is trained; what it raises ends the piece, which then loses no more than
            the curve that it is at.
        check: raises where nothing must be written any more.
        go_on: asked after each curve.

    Raises:
        OwnerError: it cannot be replayed; the message says what is missing.
    """
    kind = kind_of(project.label_config, settings)
    samplers = chosen_samplers(kind, ())
    check_trials(TRIALS, len(samplers) - 1)
    key = _key_of(project, settings, samplers)
    read = partial(labels_of, state, settings, project, kind, device)
    begun = Begun.kept(folder, len(kind.classes))
    labels = _still_there(begun, read) if begun is not None and begun.key == key else None
    if begun is None or labels is None:
        labels = read()
        said = said_of(state, project, kind)
        begun = Begun(key, {task: said[task] for task in labels.tasks.tolist()})
        check()
        begun.keep(folder)
    fixed = begun

    def kept_so_far(played: Played) -> bool:
        check()
        Begun(key, fixed.said, played).keep(folder)
        return go_on()

    train = LearnerTrain(kind.settings, labels, device, often)
    count, classes = len(labels.rows), len(labels.classes)
    played = play(samplers, count, classes, TRIALS, SEED, train, progress, time.monotonic, begun.played, kept_so_far)
    if not played.is_whole(samplers, TRIALS):
        return None
    return summarized(played, count, TRIALS, SEED, kind.settings.sampler, state.now())


def _key_of(project: Project, settings: Settings, samplers: Sequence[str]) -> str:
    options = sorted(settings.options().items())
    decisive = [project.replay_seq, project.label_config, options, samplers, TRIALS, SEED]
    return hashlib.sha256(json.dumps(decisive).encode()).hexdigest()


def _still_there(begun: Begun, read: Callable[[Mapping[int, Any]], Labels]) -> Labels | None:
    """The labels that a replay began with; None if some of them are gone since."""
    try:
        labels = read(begun.said)
    except OwnerError:  # too few of them are left
        return None
    return labels if len(labels.rows) == len(begun.said) else None
