"""The settings in force for a project, and where each comes from."""

from __future__ import annotations

from dataclasses import Field, dataclass
from typing import Any

from backend.settings.core import Settings, all_settings
from backend.settings.samplers import PRESETS
from backend.settings.spec import spec_of
from backend.settings.table import value_text
from backend.settings.values import parse_extra_params
from backend.state import Project

EXTRA_PARAMS, ENVIRONMENT, DEFAULT, BY_KIND = "extra params", "environment", "default", "kind of task"
BY_REPLAY = "auto_sampler, by a replay"


@dataclass(frozen=True)
class Origin:
    """A setting that projects may override: its ``name``, its ``value`` as the environment would spell it, and what it
    does (``help``); where the value comes from (``source``), in words; and whether it was ``chosen``."""

    name: str
    value: str
    source: str
    help: str
    chosen: bool


def origins(settings: Settings, project: Project, own: Settings) -> list[Origin]:
    """Every setting that a project may override, as in docs/settings.md. ``settings``: those of the process; ``own``:
    those of the project, with what its kind of task chose. Secrets are none of them."""
    given = parse_extra_params(project.extra_params)
    found = []
    for item in all_settings():
        spec = spec_of(item)
        if spec.per_project:
            value = getattr(own, item.name)
            source = _source(item, value, settings, own, set(given))
            if item.name == "sampler" and own.auto_sampler and value != given.get("sampler", settings.sampler):
                source = BY_REPLAY if "sampler" in own.given else source
            found.append(Origin(item.name, value_text(value), source, spec.help.replace("`", ""), source != DEFAULT))
    return found


def _source(item: Field[Any], value: Any, settings: Settings, own: Settings, given: set[str]) -> str:
    name = item.name
    if name in given:
        return EXTRA_PARAMS
    preset = own.preset
    if preset and name in PRESETS[preset] and PRESETS[preset][name] == value:
        return f"preset {preset}"
    if name in settings.given:
        return ENVIRONMENT
    return DEFAULT if value == item.default else BY_KIND
