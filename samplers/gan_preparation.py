"""The training of a GAN in pieces, between other work: what is learned, for how long, and when it goes on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from samplers.base import Preparation
from samplers.deferred import models, torch

if TYPE_CHECKING:
    from torch import Tensor

    from models.data import Runtime
    from models.networks.gan import GANConfig, Generator
    from models.training.gan import GanTraining

LEARNED_AT_ONCE = 4_096
"""Images of a larger pool that one piece learns from, drawn anew for each: so a piece costs the same in any pool."""
SHOWN = 64  # generated images in the sample for people
SLACK_SECONDS = 1.0  # less than that is not worth another piece


@dataclass(frozen=True)
class Wanted:
    """What is to be trained: `config`, for images of `image_size`, for so many iterations or seconds, whichever end
    first, and as long again when the images have grown in number by the share `growth`."""

    config: GANConfig
    image_size: int
    iterations: int
    seconds: float
    growth: float


def prepare_gan(
    before: Mapping[str, Any],
    wanted: Wanted,
    pixels: np.ndarray,
    rows: np.ndarray,
    runtime: Runtime,
    enough: Callable[[], bool],
) -> Preparation:
    """One piece of the training; see `samplers.base.Sampler.prepare`."""
    known = before if fits(before, wanted) else {}
    training = _training(known, wanted, runtime)
    began = known.get("began", {"taken": 0, "seconds": 0.0})
    if known and 0 < known["enough_for"] < len(rows):
        began = {"taken": training.taken, "seconds": training.seconds}
    last, until = began["taken"] + wanted.iterations, began["seconds"] + wanted.seconds
    left = until - training.seconds
    if training.taken < last and (left > SLACK_SECONDS or training.taken == began["taken"]):
        seconds = left if runtime.deadline is None else min(left, runtime.deadline.left())
        piece = replace(runtime, deadline=models.deadline.Deadline.after(seconds))
        training.run(pixels, some_rows(rows, training.taken, runtime), last, piece, enough)
    over = training.taken >= last or until - training.seconds <= SLACK_SECONDS
    learned_from = len(rows) if not known or not known["enough_for"] or len(rows) > known["enough_for"] else 0
    return _preparation(training, wanted, began, last, over, learned_from or known["learned_from"])


def fits(state: Mapping[str, Any], wanted: Wanted) -> bool:
    """Whether a training that was left is of these networks and images."""
    return bool(state) and state["images"] == wanted.image_size and state["gan"]["config"] == wanted.config.to_dict()


def _training(known: Mapping[str, Any], wanted: Wanted, runtime: Runtime) -> GanTraining:
    if known:
        return models.training.gan.GanTraining.from_state(known["gan"], runtime.device)
    generator, critic = models.networks.gan.build_gan(wanted.config, runtime.generator("gan weights", "cpu"))
    seed = int(runtime.rng("gan training").integers(2**62))
    on_device = (generator.to(runtime.device).eval(), critic.to(runtime.device).eval())
    return models.training.gan.GanTraining(*on_device, seed)


def some_rows(rows: np.ndarray, taken: int, runtime: Runtime) -> np.ndarray:
    """Those of rows (N,) that a piece learns from which begins after so many iterations."""
    if len(rows) <= LEARNED_AT_ONCE:
        return rows
    return np.sort(runtime.rng(f"gan images {taken}").choice(rows, LEARNED_AT_ONCE, replace=False))


def _preparation(
    training: GanTraining, wanted: Wanted, began: dict[str, float], last: int, over: bool, learned_from: int
) -> Preparation:
    enough_for = int((1.0 + wanted.growth) * learned_from) if over else 0
    state = {
        "gan": training.state_dict(),
        "images": wanted.image_size,
        "began": began,
        "learned_from": learned_from,
        "enough_for": enough_for,
    }
    ready = {
        "config": wanted.config.to_dict(),
        "generator": training.average.state_dict(),
        "critic": training.critic.state_dict(),
        "learned_from": learned_from,
        "images": wanted.image_size,
    }
    done, total = training.taken - int(began["taken"]), last - int(began["taken"])
    return Preparation(
        state, ready if over else None, total if over else done, total, enough_for, generated_sample(training.average)
    )


def generated_sample(generator: Generator) -> np.ndarray:
    """Some images of it, the same latents every time: (K, S, S, 3) uint8."""
    latent: Tensor = torch.randn((SHOWN, generator.config.latent), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        images = generator(latent.to(next(generator.parameters()).device))
    return models.networks.gan.as_pixels(images).cpu().numpy()
