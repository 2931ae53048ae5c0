"""``auto_sampler``: where the last replay puts another sampler ahead of random and not the project's own, the other
one orders the queue from the next cycle on.

What was switched to is a file in the project's folder, and holds until the owner names another sampler. Without it, as
without a replay, the owner's own choice is in force.
"""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from backend.reporting.replays import fallback, kept
from backend.settings.core import Settings
from models.files import replace_file

log = logging.getLogger(__name__)

FILE = "auto_sampler.json"

FEWEST_LABELS = 200
"""New labels between two switches: fewer do not show what the first one was worth."""


@dataclass(frozen=True)
class Switch:
    """``sampler`` orders the queue in place of ``owners``, which the owner's settings said then, since the project had
    so many ``labels``; by the replay that ended ``at``, in seconds since the epoch."""

    sampler: str
    owners: str
    labels: int
    at: float


def last_switch(folder: Path) -> Switch | None:
    """The last one of the project with this ``folder``; None if there is none, or it cannot be read."""
    try:
        return Switch(**json.loads((folder / FILE).read_bytes()))
    except FileNotFoundError:
        return None
    except (OSError, TypeError, ValueError) as error:
        log.warning("%s cannot be read, so the owner's own sampler is in force: %s", FILE, error)
        return None


def in_force(settings: Settings, folder: Path) -> Settings:
    """``settings`` of a project, with the sampler that was switched to, if there is one."""
    if not settings.auto_sampler:
        return settings
    switch = last_switch(folder)
    if switch is None or switch.owners != settings.sampler:
        return settings
    return replace(settings, sampler=switch.sampler, given=settings.given | {"sampler"})


def switched(settings: Settings, folder: Path, sampler: str, labels: int) -> Switch | None:
    """Switch if that is due, once a cycle has ended, and say to what. ``settings``: of the project, as its owner has
    them; ``sampler``: which ordered the queue in that cycle, in which there were so many ``labels``."""
    replay, before = kept(folder), last_switch(folder)
    if not settings.auto_sampler or replay is None or not fallback(replay, sampler):
        return None
    if before is not None and (replay.at <= before.at or labels < before.labels + FEWEST_LABELS):
        return None
    best = replay.best
    assert best is not None  # or there is no fallback
    switch = Switch(best.sampler, settings.sampler, labels, replay.at)
    replace_file(folder / FILE, json.dumps(asdict(switch)).encode())
    return switch
