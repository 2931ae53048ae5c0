"""How large the cycles are: the papers' sizes, and tiny ones that only show that everything runs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Sizes:
    """Defaults are the papers', but of the cycle with masks only the frame is. ``settings`` go to every sampler."""

    pool: int = 50_000
    dast_labels: int = 1_000
    dast_scored: int = 10_000
    epochs: int = 200
    batch: int = 128
    task_width: int = 64
    vaal_labels: int = 5_000
    vaal_width: int = 128
    vaal_iterations: int = 1_000
    matmul: int = 8_192
    frame: tuple[int, int] = (512, 1024)
    mask_labels: int = 64
    mask_scored: int = 192
    mask_epochs: int = 5
    mask_width: int = 16
    settings: dict[str, Any] = field(default_factory=dict)


SMOKE = Sizes(
    pool=256,
    dast_labels=32,
    dast_scored=64,
    epochs=2,
    batch=16,
    task_width=4,
    vaal_labels=32,
    vaal_width=4,
    vaal_iterations=3,
    matmul=512,
    frame=(32, 64),
    mask_labels=4,
    mask_scored=6,
    mask_epochs=2,
    mask_width=4,
    settings={"vaal_iterations": 2, "gan_iterations": 2, "ensemble_size": 2, "dropout_draws": 4, "core_set_picks": 8},
)
