"""Tables of settings: what the presets are set to."""

from __future__ import annotations

from dataclasses import dataclass

from backend.settings.samplers import PRESETS
from benchmarks.curves.display import Display
from benchmarks.papers.study import Outcome, Places, Study


@dataclass(frozen=True)
class Presets(Study):
    """The presets whose name ``starts`` so; a row for each setting."""

    starts: str = ""

    def make(self, scale: str, places: Places, display: Display) -> Outcome:
        presets = {name: values for name, values in PRESETS.items() if name.startswith(self.starts)}
        keys = dict.fromkeys(key for values in presets.values() for key in values)
        rows = [[f"`{key}`", *(str(values.get(key, "")) for values in presets.values())] for key in keys]
        return Outcome(["", *(f"`{name}`" for name in presets)], rows, ["Nothing is measured: `preset` sets these."])
