"""Which sampler and objective have no meaning for which kind of task, in words."""

from __future__ import annotations

from backend.settings.core import Settings
from samplers import SAMPLERS

OF_ISDA = "dast-al"
"""The sampler whose objective ISDA is: what is no kind of task for the one is none for the other."""


def refused(settings: Settings, task: str, learns: str, instead: str) -> str:
    """What the owner of a project of the kind ``task`` has to change, or "". ``learns``: what that kind learns, in
    words; ``instead``: its default sampler."""
    sampler = SAMPLERS[settings.sampler]
    if reason := sampler.refusals.get(task):
        return (
            f'sampler "{sampler.name}" has no meaning for {learns}: {reason}. Set "sampler" to another, such as '
            f'"{instead}".'
        )
    if settings.objective == "isda":
        reason = SAMPLERS[OF_ISDA].refusals.get(task, "")
        if not reason and sampler.has_objective() and sampler.name != OF_ISDA:
            reason = f'sampler "{sampler.name}" trains the network on an objective of its own'
        if reason:
            return f'"objective": "isda" has no meaning here: {reason}. Set "objective" to "auto".'
    if sampler.generates and not settings.allow_synthetic_tasks:
        return (
            f'sampler "{sampler.name}" imports images that it generates into the project, as tasks to be labeled: '
            f'set "allow_synthetic_tasks" to true as well, or "sampler" to another, such as "{instead}".'
        )
    return ""


def inside(settings: Settings, sampler: str) -> tuple[str, str] | None:
    """The setting, and its value, by which ``sampler`` reaches inside the network, which only works where that is
    trained as a whole; None where it does not."""
    asked = SAMPLERS[sampler].inside.items()
    return next(((key, value) for key, value in asked if getattr(settings, key) == value), None)
