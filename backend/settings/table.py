"""The table of all settings in docs/settings.md, which `python -m backend settings` prints."""

from __future__ import annotations

from backend.settings.core import all_settings
from backend.settings.spec import spec_of


def settings_table() -> str:
    """The table in Markdown."""
    lines = ["| environment | extra params | default | allowed | what it does |", "|---|---|---|---|---|"]
    for item in all_settings():
        spec = spec_of(item)
        key = f"`{item.name}`" if spec.per_project else ""
        default = f"`{value_text(item.default)}`" if item.default != "" else "empty"
        lines.append(f"| `{item.name.upper()}` | {key} | {default} | {spec.check.allowed} | {spec.help} |")
    return "\n".join(lines) + "\n"


def value_text(value: object) -> str:
    """A value as the environment spells it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:g}" if isinstance(value, float) else str(value)
