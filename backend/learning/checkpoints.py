"""The files of a version: its checkpoint, and the predictions that do not fit into a row of the state.

    checkpoints/<version>.pt    the network and the sampler
    answers/<version>/          predictions, stored as its kind of task does: see :mod:`backend.tasks`

Both are complete before the version's row is stored. What a killed process leaves behind before that is deleted later.
"""

from __future__ import annotations

import itertools
import logging
import shutil
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

import torch

from backend.errors import BackendError
from backend.files import checkpoint_here, checkpoint_path
from backend.learning.learner import Learner
from backend.state import Version
from models.files import DRAFT

log = logging.getLogger(__name__)


def save_learner(project_folder: Path, learner: Learner, cycle: int, taken: Collection[str] = ()) -> str:
    """Write a learner's checkpoint atomically. Returns the name of its version,
    ``<sampler>-c<cycle>-<8 hex digits of the checkpoint's digest>``, which is none of those ``taken``: what was learned
    again, from the same labels after the state was lost, is the same to the last bit, and would get the same name."""
    folder = project_folder / "checkpoints"
    folder.mkdir(parents=True, exist_ok=True)
    draft = folder / f"cycle-{cycle}{DRAFT}"
    for salt in itertools.count():
        name = f"{learner.sampler.name}-c{cycle}-{learner.save(draft, salt)[:8]}"
        if name not in taken:
            break
    draft.replace(checkpoint_path(project_folder, name))
    return name


def sweep_leftovers(project_folder: Path, wanted: Collection[str], spared_before: float = 0.0) -> None:
    """Delete the checkpoints and predictions of all versions that are not in ``wanted``: those of removed versions, and
    of cycles that were killed before they stored their version's row. The caller must hold the project's lease.

    What was last changed before ``spared_before`` (seconds since the epoch) stays: it belongs to a state that was lost,
    and may be put back.
    """
    for path in (project_folder / "checkpoints").glob("*"):
        if path.stat().st_mtime < spared_before:
            continue
        if path.suffix != ".pt" or path.stem not in wanted:
            log.info("Deleting %s, left over from an interrupted cycle", path)
            path.unlink(missing_ok=True)
    for folder in (project_folder / "answers").glob("*"):
        if folder.stat().st_mtime < spared_before:
            continue
        if folder.name not in wanted:
            log.info("Deleting the predictions in %s, whose version does not exist (any more)", folder)
            shutil.rmtree(folder, ignore_errors=True)
        else:
            for draft in folder.glob(f"*{DRAFT}"):
                draft.unlink(missing_ok=True)


def last_learner(
    project_folder: Path, versions: Iterable[Version], device: torch.device, metrics: dict[str, Any] | None = None
) -> Learner | None:
    """The learner to go on with: that of the newest of ``versions`` (newest first) that has a checkpoint. None if
    there is none, or if it cannot be read, which ``metrics`` then say (``checkpoint_unreadable``)."""
    for version in versions:
        if version.checkpoint:
            try:
                return Learner.load(checkpoint_here(project_folder, version.checkpoint), device)
            except BackendError as error:
                log.warning("Going on without it: %s", error)
                if metrics is not None:
                    metrics["checkpoint_unreadable"] = str(error)
                return None
    return None
