"""Predicted masks over the next images of a project whose labels are drawn."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from backend.files import predictions_folder
from backend.settings.core import Settings
from backend.state import Project, Version
from backend.store.reading import folder_to_read
from backend.tasks import KINDS

COLORS = ("#1f77d0", "#d95f02", "#12876a", "#c2459b", "#857400", "#0a86ac", "#7a5cd6", "#c8443f")
"""Of the classes, in their order, then from the first again: readable on the ground of a card, light and dark."""


def overlay(settings: Settings, project: Project, version: Version, task: int) -> bytes | None:
    """The mask that ``version`` predicted for a task, as a PNG that is clear where there is background; None where it
    is not kept."""
    from backend.images.encoding import encode_overlay  # here: it imports Pillow

    kind = KINDS.get(version.metrics.get("task", ""))
    if kind is None:
        return None
    folder = folder_to_read(settings, project, predictions_folder(Path(), version.name).as_posix())
    mask = kind.mask_of(task, kind.open_kept(predictions_folder(folder, version.name)))
    return None if mask is None else encode_overlay(mask, COLORS)


def colors_of(version: Version, said: Iterable[str]) -> list[tuple[str, str]]:
    """(class, its color) of the classes that a mask shows."""
    places = {name: place for place, name in enumerate(version.classes)}
    return [(name, COLORS[places[name] % len(COLORS)]) for name in said if name in places]


def sealed(project: Project, version: Version, task: int) -> tuple[str, ...]:
    """What the address of a mask is for."""
    return "mask", project.key, project.studio, str(task), version.name
