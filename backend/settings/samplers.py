"""The settings of single samplers, as their options in samplers/ say them, and the presets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, make_dataclass
from typing import TYPE_CHECKING

from backend.settings.spec import project
from samplers import SAMPLERS, all_options

if TYPE_CHECKING:

    @dataclass(frozen=True)
    class SamplerSettings:
        """What only some samplers read. Its fields are known when it runs; a sampler has its own typed options."""

else:
    SamplerSettings = make_dataclass(
        "SamplerSettings",
        [
            (name, type(known.default), project(known.default, known.help, known.check))
            for name, known in all_options().items()
        ],
        frozen=True,
    )

PRESETS: dict[str, Mapping[str, object]] = {
    preset: {"sampler": name} | dict(values)
    for name, sampler in SAMPLERS.items()
    for preset, values in sampler.presets.items()
}
"""Values that a paper gives under one name, by that name. A value that is given alongside ``preset`` wins."""
