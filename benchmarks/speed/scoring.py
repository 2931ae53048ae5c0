"""What an acquisition costs on top of the forward pass that it needs anyway.

EPMCM ÷ inference, and the row of each sampler: :meth:`backend.learning.learner.Learner.score`, as the worker calls it,
against a bare loop of the same net over the same rows of the same cache, in the same batches. VAAL ÷ encoder: the
sampler's scores against a bare loop of its encoder to the means; the task network's predictions, which the worker
also wants, are no part of either. Core-set's picks: the greedy loop against the products that it cannot do without.

The rows "fused" have the fastest loop that we know of in place of the bare one: the same loop with batch normalization
folded into the convolutions beforehand, as scoring has it too (:func:`models.inference.fused.scoring_copy`).

The bare loops do what an evaluation loop has to: read rows from the cache, convert them on the device, run the net, and
bring the results to the host. They do not read ahead, check nothing and report no progress.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from backend.settings.core import Settings
from benchmarks.speed.measuring import Measured, in_turns, seconds_of
from benchmarks.speed.pool import fill_cache, trained_learner
from models.data import Runtime
from models.geometry.k_center import k_center_greedy
from models.inference.fused import scoring_copy
from models.inference.streaming import eval_batch_size
from models.networks.base import TaskNet
from models.networks.vae import prepare
from models.pixels import normalize
from samplers.vaal import VaalSampler

EPMCM_LIMIT, VAAL_LIMIT = 1.05, 1.10
LIMITS = dict.fromkeys(("least-confidence", "margin", "entropy", "max-prob"), 1.10)
"""Of the samplers' own rows: those that only look at the task network's predictions. The others are reported."""
_EPMCM_ROWS, _SAMPLER_ROWS, _VAAL_ROWS, _SMALL_ROWS = 2_048, 2_048, 6_144, 128
_REPETITIONS = 9
_SAMPLER_REPETITIONS, _LIMITED_REPETITIONS = 3, 7
_POINTS, _FEATURES, _PICKS = 10_000, 512, 1_000
_LABELS = 64  # enough that no class is without a covariance


def measure_epmcm(folder: Path, small: bool, fused: bool = False) -> Measured:
    """ResNet-18 at the width that a CPU gets by default, 10 classes, 32 px. ``fused``: against a fused loop."""
    count = _SMALL_ROWS if small else _EPMCM_ROWS
    cache = fill_cache(folder / "scoring", max(count, 2 * _LABELS))
    learner, runtime = trained_learner(cache, Settings(sampler="dast-al", task_net="resnet18", epochs=1), _LABELS)
    pixels, rows = cache.pixels, cache.rows(range(1, count + 1))
    forward = predictions_of(scoring_copy(learner.net, runtime) if fused else learner.net)
    over, under = in_turns(
        lambda: learner.score(pixels, rows, runtime),
        lambda: bare_loop(forward, pixels, rows, runtime),
        2 if small else _REPETITIONS,
    )
    return Measured(
        "epmcm-fused" if fused else "epmcm",
        f"EPMCM scoring ÷ {'fused' if fused else 'bare'} inference of the same net",
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


def measure_vaal(folder: Path, small: bool, fused: bool = False) -> Measured:
    """The autoencoder at the width that a CPU gets by default, latent 32, 32 px. ``fused``: against a fused loop."""
    count = _SMALL_ROWS if small else _VAAL_ROWS
    cache = fill_cache(folder / "scoring", max(count, 2 * _LABELS))
    settings = Settings(sampler="vaal", epochs=1, task_width=4)
    settings = settings.for_project({"vaal_iterations": 2, "gan_iterations": 2, "vaal_batch_size": 32})
    learner, runtime = trained_learner(cache, settings, _LABELS)
    pixels, rows = cache.pixels, cache.rows(range(1, count + 1))
    sampler = learner.sampler
    assert isinstance(sampler, VaalSampler) and sampler.vae is not None
    vae = sampler.vae.eval()
    encoder = scoring_copy(vae.encoder, runtime) if fused else vae.encoder

    def means(images: Tensor) -> tuple[Tensor, ...]:
        return (encoder.means(prepare(images, vae.config.image_size)),)

    over, under = in_turns(
        lambda: sampler.score(learner.net, pixels, rows, runtime),
        lambda: bare_loop(means, pixels, rows, runtime),
        2 if small else _REPETITIONS,
    )
    return Measured(
        "vaal-fused" if fused else "vaal",
        f"VAAL scoring ÷ {'fused' if fused else 'bare'} encoder forward",
        over,
        under,
        "s",
        VAAL_LIMIT,
        notes=(
            f"{count:,} cached images of 32 px, autoencoder of width {vae.config.width}, on the CPU with "
            f"{torch.get_num_threads()} threads; the task network's predictions, a pass of their own, are in neither",
        ),
    )


def measure_sampler(name: str, folder: Path, small: bool) -> Measured:
    """Any sampler with the net of :func:`measure_epmcm`, after a training as short as its settings allow."""
    count = _SMALL_ROWS if small else _SAMPLER_ROWS
    cache = fill_cache(folder / "scoring", max(count, 2 * _LABELS))
    width = 4 if small else 0  # 0: the device's
    short = {
        "task_net": "resnet18",
        "epochs": 1,
        "vaal_iterations": 2,
        "gan_iterations": 2,
        "vaal_batch_size": 32,
        "task_width": width,
        "vaal_width": width,
    }
    settings = Settings().for_project({"sampler": name, **short})
    learner, runtime = trained_learner(cache, settings, _LABELS)
    pixels, rows = cache.pixels, cache.rows(range(1, count + 1))
    over, under = in_turns(
        lambda: learner.score(pixels, rows, runtime),
        lambda: bare_loop(predictions_of(learner.net), pixels, rows, runtime),
        1 if small else _LIMITED_REPETITIONS if name in LIMITS else _SAMPLER_REPETITIONS,
    )
    return Measured(
        f"score-{name}",
        f"{name}: scoring ÷ bare inference of the task net",
        over,
        under,
        "s",
        LIMITS.get(name),
        notes=(
            f"{count:,} cached images of 32 px, {learner.net_config.name} of width {learner.net_config.width}, the "
            f"sampler's networks as wide as on a CPU by default, {torch.get_num_threads()} threads; scoring gives "
            "acquisition, class and confidence, inference class and confidence",
        ),
    )


def measure_k_center(small: bool) -> Measured:
    """Core-set's picks among random points. Each pick needs the distances to the one before, so the least there is to
    do is one product of all points with one, as often as there are picks."""
    count, picks = (200, 20) if small else (_POINTS, _PICKS)
    points = torch.randn(count, _FEATURES, generator=torch.Generator().manual_seed(0))
    over, under = in_turns(
        lambda: k_center_greedy(points, picks),
        lambda: [points @ point for point in points[:picks]],
        1 if small else _SAMPLER_REPETITIONS,
    )
    at_once = seconds_of(lambda: points @ points[:picks].T)
    return Measured(
        "k-center",
        f"core-set: {picks:,} greedy picks ÷ {picks:,} bare products of all points with one",
        over,
        under,
        "s",
        notes=(
            f"{count:,} points of {_FEATURES} features, {torch.get_num_threads()} threads; the same products as one of "
            f"matrices, which picks that wait for each other cannot have: {at_once:.2g} s",
        ),
    )


def predictions_of(net: TaskNet) -> Callable[[Tensor], tuple[Tensor, ...]]:
    """images (B, H, W, 3) uint8 -> confidence and class (B,) each; ``net`` is a classifier."""
    net.eval()

    def forward(images: Tensor) -> tuple[Tensor, ...]:
        return net(normalize(images)).softmax(dim=1).max(dim=1)

    return forward


def bare_loop(
    compute: Callable[[Tensor], tuple[Tensor, ...]], pixels: np.ndarray, rows: np.ndarray, runtime: Runtime
) -> list[np.ndarray]:
    """``compute`` over the rows in batches of the same size as scoring's; its results on the host."""
    size = eval_batch_size(runtime, (pixels.shape[1], pixels.shape[2]))
    found: list[tuple[Tensor, ...]] = []
    with torch.inference_mode():
        for start in range(0, len(rows), size):
            images = torch.from_numpy(pixels[rows[start : start + size]]).to(runtime.device)
            found.append(compute(images))
        return [torch.cat(parts).cpu().numpy() for parts in zip(*found, strict=True)]
