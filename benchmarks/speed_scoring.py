"""What an acquisition costs beside the forward pass that it needs anyway.

EPMCM ÷ inference: :meth:`backend.learner.Learner.score`, as the worker calls it, against a bare loop of the same net
over the same rows of the same cache, in the same batches. VAAL ÷ encoder: the sampler's scores against a bare loop of
its encoder to the means; the task network's answers, which the worker also wants, are no part of either.

The bare loops do what an evaluation loop has to: read rows from the cache, convert them on the device, run the net, and
bring the results to the host. They do not read ahead, check nothing and report no progress.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from backend.settings import Settings
from benchmarks.measuring import Measured, in_turns
from benchmarks.pool import fill_cache, trained_learner
from models.data import Runtime
from models.pixels import normalise
from models.streaming import eval_batch_size
from models.vae import prepare
from samplers.vaal import VaalSampler

EPMCM_LIMIT, VAAL_LIMIT = 1.05, 1.10
_EPMCM_ROWS, _VAAL_ROWS, _SMALL_ROWS = 2_048, 6_144, 128
_REPETITIONS = 9
_LABELS = 64  # enough that no class is without a covariance


def measure_epmcm(folder: Path, small: bool) -> Measured:
    """ResNet-18 at the width that a CPU gets by default, 10 classes, 32 px."""
    count = _SMALL_ROWS if small else _EPMCM_ROWS
    cache = fill_cache(folder / "scoring", max(count, 2 * _LABELS))
    learner, runtime = trained_learner(cache, Settings(sampler="dast-al", epochs=1), _LABELS)
    pixels, rows = cache.pixels, cache.rows(range(1, count + 1))
    net = learner.net.eval()

    def answers(images: Tensor) -> tuple[Tensor, ...]:
        probabilities = net(normalise(images)).softmax(dim=1)
        return probabilities.max(dim=1)

    over, under = in_turns(
        lambda: learner.score(pixels, rows, runtime),
        lambda: _bare_loop(answers, pixels, rows, runtime),
        2 if small else _REPETITIONS,
    )
    return Measured(
        "epmcm",
        "EPMCM scoring ÷ bare inference of the same net",
        over,
        under,
        "s",
        EPMCM_LIMIT,
        notes=(
            f"{count:,} cached images of 32 px, {learner.net_config.name} of width {learner.net_config.width}, on the "
            f"CPU with {torch.get_num_threads()} threads; scoring gives acquisition, class and confidence, "
            "inference class and confidence",
        ),
    )


def measure_vaal(folder: Path, small: bool) -> Measured:
    """The autoencoder at the width that a CPU gets by default, latent 32, 32 px."""
    count = _SMALL_ROWS if small else _VAAL_ROWS
    cache = fill_cache(folder / "scoring", max(count, 2 * _LABELS))
    settings = Settings(sampler="vaal", epochs=1, vaal_iterations=2, task_width=4, vaal_batch_size=32)
    learner, runtime = trained_learner(cache, settings, _LABELS)
    pixels, rows = cache.pixels, cache.rows(range(1, count + 1))
    sampler = learner.sampler
    assert isinstance(sampler, VaalSampler) and sampler.vae is not None
    vae = sampler.vae.eval()

    def means(images: Tensor) -> tuple[Tensor, ...]:
        return (vae.encoder.means(prepare(images, vae.config.image_size)),)

    over, under = in_turns(
        lambda: sampler.score(learner.net, pixels, rows, runtime),
        lambda: _bare_loop(means, pixels, rows, runtime),
        2 if small else _REPETITIONS,
    )
    return Measured(
        "vaal",
        "VAAL scoring ÷ bare encoder forward",
        over,
        under,
        "s",
        VAAL_LIMIT,
        notes=(
            f"{count:,} cached images of 32 px, autoencoder of width {vae.config.width}, on the CPU with "
            f"{torch.get_num_threads()} threads; the task network's answers, a pass of their own, are in neither",
        ),
    )


def _bare_loop(
    compute: Callable[[Tensor], tuple[Tensor, ...]], pixels: np.ndarray, rows: np.ndarray, runtime: Runtime
) -> list[np.ndarray]:
    """``compute`` over the rows in batches of the same size as scoring's; its results on the host."""
    size = eval_batch_size(runtime, pixels.shape[1])
    found: list[tuple[Tensor, ...]] = []
    with torch.inference_mode():
        for start in range(0, len(rows), size):
            images = torch.from_numpy(pixels[rows[start : start + size]]).to(runtime.device)
            found.append(compute(images))
        return [torch.cat(parts).cpu().numpy() for parts in zip(*found, strict=True)]
