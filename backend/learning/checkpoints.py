"""What a version leaves on disk besides its row: a checkpoint, and what it predicted beyond a row.

    checkpoints/<version>.pt    the network and the sampler
    answers/<version>/          predictions, as the kind of task keeps them: :mod:`backend.tasks`

Both are there, whole, before the version's row is; what a kill in between leaves is swept.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Collection, Iterable
from pathlib import Path

import torch

from backend.errors import BackendError
from backend.files import DRAFT, checkpoint_path
from backend.learning.learner import Learner
from backend.state import Version

log = logging.getLogger(__name__)


def save_learner(project_folder: Path, learner: Learner, cycle: int) -> str:
    """The name of a version, ``<sampler>-c<cycle>-<digest of the weights>``, once its checkpoint is there, whole."""
    folder = project_folder / "checkpoints"
    folder.mkdir(parents=True, exist_ok=True)
    draft = folder / f"cycle-{cycle}{DRAFT}"
    name = f"{learner.sampler.name}-c{cycle}-{learner.save(draft)[:8]}"
    draft.replace(checkpoint_path(project_folder, name))
    return name


def sweep_leftovers(project_folder: Path, wanted: Collection[str]) -> None:
    """Delete checkpoints and predictions of all versions but those named in ``wanted``: of cycles that were killed
    before their version's row was in, and of removed versions. Only whoever holds the project's lease may call it."""
    for path in (project_folder / "checkpoints").glob("*"):
        if path.suffix != ".pt" or path.stem not in wanted:
            log.info("Deleting %s, left over from a cycle that was cut off", path)
            path.unlink(missing_ok=True)
    for folder in (project_folder / "answers").glob("*"):
        if folder.name not in wanted:
            log.info("Deleting the predictions in %s: no version has that name (any more)", folder)
            shutil.rmtree(folder, ignore_errors=True)
        else:
            for draft in folder.glob(f"*{DRAFT}"):
                draft.unlink(missing_ok=True)


def last_learner(versions: Iterable[Version], device: torch.device) -> Learner | None:
    """The model of the newest of ``versions`` (newest first) that has one, for a warm start; None when it cannot be
    read any more."""
    for version in versions:
        if version.checkpoint:
            try:
                return Learner.load(version.checkpoint, device)
            except BackendError as error:
                log.warning("Training from scratch: %s", error)
                return None
    return None
