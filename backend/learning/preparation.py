"""What a project's sampler learns from the images alone, apart from cycles: kept with the project, and gone on with.

prepared/training.pt    what to go on with
prepared/ready.pt       what cycles take over
prepared/sample.png     some of what was learned, for people to look at
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from backend.files import learned_picture, prepared_folder
from backend.images.encoding import encode_png, grid
from backend.tasks.base import TaskKind
from models import checkpoint
from models.data import Runtime
from models.files import replace_file
from samplers import build_sampler
from samplers.base import Preparation, Sampler

log = logging.getLogger(__name__)

TRAINING, READY = "training.pt", "ready.pt"


def key_of(kind: TaskKind[Any, Any], device: torch.device) -> str:
    """What the training depends on besides the images, so that a change of it is noticed."""
    sampler = sampler_to_prepare(kind, max(1, kind.settings.image_size), device)
    return f"{sampler.name}-{sampler.preparation_key}-{kind.settings.image_size}"


def sampler_to_prepare(kind: TaskKind[Any, Any], image_size: int, device: torch.device) -> Sampler[Any]:
    """The sampler of ``kind``'s settings for images of so many pixels, of which nothing is trained yet."""
    settings, classes = kind.settings, max(1, len(kind.classes))
    return build_sampler(
        settings.sampler,
        settings.options(),
        task=kind.name,
        num_classes=classes,
        image_size=image_size,
        device=device,
    )


def ready_state(folder: Path, device: torch.device) -> dict[str, Any]:
    """What a cycle takes over (:attr:`models.data.Runtime.prepared`) from the project's ``folder``; {} if it is not
    there, or damaged."""
    return _read(prepared_folder(folder) / READY, device)


def is_ready(folder: Path) -> bool:
    return (prepared_folder(folder) / READY).is_file()


def go_on(
    folder: Path,
    sampler: Sampler[Any],
    pixels: np.ndarray,
    rows: np.ndarray,
    runtime: Runtime,
    enough: Callable[[], bool],
    check: Callable[[], None],
) -> Preparation:
    """Go on with what lies in the project's ``folder``: see :meth:`samplers.base.Sampler.prepare`. ``check`` is called
    before the result is written there. A kill loses what was learned since the call, and nothing else."""
    own = prepared_folder(folder)
    before: Mapping[str, Any] = _read(own / TRAINING, runtime.device)
    found = sampler.prepare(before, pixels, rows, runtime, enough)
    check()
    own.mkdir(parents=True, exist_ok=True)
    if found.sample is not None:
        replace_file(learned_picture(folder), encode_png(grid(found.sample)))
    if found.ready is not None:  # first: the training counts as over once it is stored as such
        checkpoint.save(own / READY, found.ready)
    checkpoint.save(own / TRAINING, found.training)
    return found


def _read(path: Path, device: torch.device) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        return checkpoint.load(path, device)
    except checkpoint.CheckpointError as error:
        log.warning("Going on without it: %s", error)
        return {}
