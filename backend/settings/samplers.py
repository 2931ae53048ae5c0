"""The settings of single samplers, as their options in samplers/ say them, and the presets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import make_dataclass
from typing import TYPE_CHECKING

from backend.settings.spec import project
from samplers import SAMPLERS, all_options

ROWS = (
    *("isda_lambda", "covariance"),
    *("vaal_width", "vaal_latent", "vaal_beta", "vaal_lambda", "vaal_iterations", "vaal_epochs", "vaal_vae_steps"),
    *("vaal_discriminator_steps", "vaal_batch_size", "vaal_learning_rate", "vaal_kl_reduction"),
    *("ta_vaal_latent", "ta_vaal_vae_steps", "ta_vaal_rank", "sraal_latent", "sraal_label_weight"),
    *("learning_loss_weight", "learning_loss_margin", "learning_loss_stop", "learning_loss_width"),
    *("ads_prototypes", "ads_alpha", "ads_tau", "dropout_rate", "dropout_draws", "mc_dropout_score"),
    *("ensemble_size", "qbc_score", "core_set_picks"),
    *("ceal_criterion", "ceal_delta", "ceal_decay", "ceal_schedule"),
)
"""The first rows of the samplers' part of docs/settings.md: what belongs together, the default sampler's first. Options
that are not among them follow in the samplers' order: a new one needs no entry."""


def _place(option: str) -> int:
    return ROWS.index(option) if option in ROWS else len(ROWS)


if TYPE_CHECKING:

    class SamplerSettings:
        """What only some samplers read. Its fields are known when it runs; a sampler has its own typed options."""

else:
    SamplerSettings = make_dataclass(
        "SamplerSettings",
        [
            (name, type(known.default), project(known.default, known.help, known.check))
            for name, known in sorted(all_options().items(), key=lambda item: _place(item[0]))
        ],
        frozen=True,
    )

PRESETS: dict[str, Mapping[str, object]] = {
    preset: {"sampler": name} | dict(values)
    for name, sampler in SAMPLERS.items()
    for preset, values in sampler.presets.items()
}
"""Values that a paper gives under one name, by that name. A value that is given alongside ``preset`` wins."""
