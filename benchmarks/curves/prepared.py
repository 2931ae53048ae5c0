"""What a sampler learns from the images alone, a GAN: trained once for all arms of a trial that ask for the same one,
as the product trains it once for all cycles of a project."""

from __future__ import annotations

import hashlib
from functools import partial
from pathlib import Path
from typing import Any

import torch

from backend.learning import preparation
from backend.settings.core import Settings
from benchmarks.curves.plan import Plan
from benchmarks.curves.tasks.base import CurveTask
from models.data import Runtime
from models.deadline import Deadline
from samplers import SAMPLERS, build_sampler

PIECE_SECONDS = 30.0  # what a kill costs at most
PATIENT = {"gan_seconds": 1_000_000}
"""Instead of the plan's own, where it says how many iterations: how busy the machine is changes no result then."""


def prepared_for(
    task: CurveTask[Any], plan: Plan, settings: Settings, folder: Path, device: torch.device
) -> dict[str, Any] | None:
    """What cycles take over (:attr:`models.data.Runtime.prepared`), from ``folder`` or trained now; None for samplers
    that learn in their cycles. ``settings``: of the run, with the seed of its trial."""
    if not SAMPLERS[settings.sampler].prepares:
        return None
    build = partial(
        build_sampler,
        settings.sampler,
        task=plan.task,
        num_classes=len(task.classes),
        image_size=max(task.pixels.shape[1:3]),
        device=device,
    )
    options = settings.options()
    sampler = build(options)
    known = hashlib.sha256(f"{plan.data_digest} {sampler.preparation_key} {settings.seed}".encode())
    known.update(task.pool.tobytes())
    own = folder / known.hexdigest()[:12]
    if "gan_iterations" in plan.overrides:
        sampler = build({**options, **PATIENT})
    while not preparation.is_ready(own):
        runtime = Runtime(device, settings.seed, deadline=Deadline.after(PIECE_SECONDS))
        preparation.go_on(own, sampler, task.pixels, task.pool, runtime, lambda: False, lambda: None)
    return preparation.ready_state(own, device)
