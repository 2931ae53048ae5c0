"""``python -m benchmarks gpu``: the papers' cycles on a CUDA device, in seconds and in shares of what it can do.

One DAST-AL cycle as in the paper's Table 4 (1,000 labels, 200 epochs, ResNet-18, batch 128, 32 px, 10,000 images
scored), a stated number of VAAL's iterations at the paper's size, a short DAST-AL cycle of segmentation at Cityscapes'
size, and then what such cycles cost with each sampler, through the same :class:`backend.learning.learner.Learner` as
the worker. Needs numpy and torch only, so that it runs on a machine that has nothing else of ours.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import sys
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from backend.learning.learner import Learner
from backend.settings.core import Settings
from benchmarks.data.datasets import DEBIAN, fashion_mnist
from benchmarks.gpu.costs import print_costs, seconds
from benchmarks.speed.measuring import in_turns
from models.data import ClassTargets, CycleData, MaskTargets, Runtime
from models.inference.predictions import predict
from samplers import SAMPLERS

SIZE, NUM_CLASSES = 32, 10
MASK_CLASSES, PATCH = 19, 16  # classes of Cityscapes with the first for the background; side of a patch of one class
TABLE_4 = "the paper's TITAN Xp: 128.30 s and 7.59 s"
CPU_REFUSAL = "This measures a CUDA device, and torch sees none here. --cpu-smoke runs a tiny version on the CPU."


@dataclass(frozen=True)
class Sizes:
    """How large the cycles are. Defaults are the papers', but for those with masks: the frame alone is."""

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


SMOKE = Sizes(256, 32, 64, 2, 16, 4, 32, 4, 3, 512, (32, 64), 4, 6, 2, 4)
SMOKE_SETTINGS: dict[str, Any] = {"vaal_iterations": 2, "ensemble_size": 2, "dropout_draws": 4, "core_set_picks": 8}


class Stage:
    """Prints a line for each measurement and keeps it for the file."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str = "") -> None:
        print(line, flush=True)
        self.lines.append(line)


def main(arguments: Sequence[str]) -> int:
    """0 when measured; 2, with the reason in words, without a CUDA device."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks gpu", description=__doc__)
    parser.add_argument("--vaal-iterations", type=int, default=Sizes.vaal_iterations, help="the paper's cycle: 39,062")
    parser.add_argument(
        "--costs", nargs="*", metavar="SAMPLER", choices=list(SAMPLERS), help="the table of costs alone, all or these"
    )
    parser.add_argument("--task", choices=("classification", "segmentation"), help="that alone; else both")
    parser.add_argument("--cpu-smoke", action="store_true", help="a tiny version on the CPU, to see that it runs")
    parser.add_argument("--write", type=Path, metavar="FILE", help="also store what is printed, as Markdown")
    options = parser.parse_args(arguments)
    if not options.cpu_smoke and not torch.cuda.is_available():
        print(CPU_REFUSAL, file=sys.stderr)
        return 2
    device = torch.device("cpu" if options.cpu_smoke else "cuda")
    sizes = SMOKE if options.cpu_smoke else replace(Sizes(), vaal_iterations=options.vaal_iterations)
    stage = Stage()
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or "CPU"
    stage.say(f"- {datetime.now(UTC):%Y-%m-%d}, {name}, torch {torch.__version__}, `python -m benchmarks gpu`")
    names = options.costs or list(SAMPLERS)
    if options.task != "segmentation":
        pixels, targets, source = images(sizes.pool)
        stage.say(f"- {len(pixels):,} images of {SIZE} px: {source}")
        if options.costs is None:
            measure(device, sizes, pixels, targets, stage)
        costs(device, sizes, pixels, targets, names, stage)
    if options.task != "classification":
        data = patchwork(sizes)
        if options.costs is None:
            measure_masks(device, sizes, data, stage)
        costs_of_masks(device, sizes, data, names, stage)
    if options.write:
        options.write.write_text("\n".join(["# GPU", "", *stage.lines, ""]))
    return 0


def measure(device: torch.device, sizes: Sizes, pixels: np.ndarray, targets: np.ndarray, stage: Stage) -> None:
    """The two cycles in shares of what the device can do, printed as they come."""
    peak = _begin_table(device, sizes, stage)
    _dast_al(device, sizes, peak, pixels, targets, stage)
    _vaal(device, sizes, peak, pixels, targets, stage)
    stage.say()
    stage.say(f"DAST-AL as in Table 4 of its paper ({TABLE_4} for training and scoring). Multiplications and additions")
    stage.say("are counted apart, those of convolutions and matrix products alone. Training is in bfloat16, scoring in")
    stage.say("float32: the order of a pool needs the digits; its share is of the same peak.")


def measure_masks(device: torch.device, sizes: Sizes, data: CycleData, stage: Stage) -> None:
    """A short DAST-AL cycle of segmentation, printed as it comes, and what its scoring adds to the answers."""
    stage.say()
    peak = _begin_table(device, sizes, stage)
    runtime = Runtime(device=device, seed=0)
    settings = Settings(sampler="dast-al", task_width=sizes.mask_width, epochs=sizes.mask_epochs)
    learner = Learner.fresh(settings, _mask_names(), sizes.frame, device, seed=0, task="segmentation")

    def learn(epochs: int) -> dict[str, float]:
        return learner.learn(data, replace(settings, epochs=epochs), runtime)

    # by a difference, because a training also does things once
    per_image = (_flops(lambda: learn(2)) - _flops(lambda: learn(1))) / len(data.labeled)
    _reset_memory(device)
    figures: dict[str, float] = {}
    seconds(device, lambda: figures.update(learn(sizes.mask_epochs)))
    train, seen = figures["train_seconds"], figures["train_epochs"] * len(data.labeled)
    what = f"masks, train: {len(data.labeled):,} labels, {sizes.mask_epochs} epochs, DRN-D-22 × {sizes.mask_width}"
    _row(stage, device, what, train, f"{figures['train_steps'] / train:.1f} steps/s", seen * per_image / train, peak)

    def score() -> object:
        return learner.score(data.pixels, data.unlabeled, runtime)

    def segment() -> object:
        return deque(learner.masks(data.pixels, data.unlabeled, runtime), maxlen=0)

    for word, work in (("score", score), ("masks of", segment)):
        _reset_memory(device)
        flops = _flops(work)
        spent = seconds(device, work)
        rate = f"{len(data.unlabeled) / spent:,.1f} images/s"
        _row(stage, device, f"masks, {word} {len(data.unlabeled):,}", spent, rate, flops / spent, peak)
    over, under = in_turns(
        lambda: seconds(device, score),
        lambda: seconds(device, lambda: predict(learner.net, data.pixels, data.unlabeled, runtime)),
        5,
    )
    ratio = statistics.median(a / b for a, b in zip(over, under, strict=True))
    stage.say()
    stage.say(f"DAST-AL on {sizes.frame[0]} × {sizes.frame[1]} px and {MASK_CLASSES} classes, patches of {PATCH} px.")
    stage.say(f"Scoring ÷ the answers alone: {ratio:.3f}, the median of five pairs.")


def _begin_table(device: torch.device, sizes: Sizes, stage: Stage) -> float:
    """The head of a table of shares of the peak, which is answered in operations per second."""
    peak = peak_flops(device, sizes.matmul)
    stage.say(f"- peak: {peak / 1e12:.4g} TFLOP/s, a {sizes.matmul}² matrix product in {_dtype(device)}, best of ten")
    stage.say()
    stage.say("| what | seconds | rate | TFLOP/s | of the peak | device memory |")
    stage.say("|---|---|---|---|---|---|")
    return peak


def costs_of_masks(device: torch.device, sizes: Sizes, data: CycleData, names: Sequence[str], stage: Stage) -> None:
    """A cycle of segmentation with each sampler that has a meaning for it."""
    smoke: dict[str, Any] = SMOKE_SETTINGS if sizes == SMOKE else {}
    settings = Settings(
        task_width=sizes.mask_width, epochs=sizes.mask_epochs, vaal_width=sizes.vaal_width, vaal_batch_size=32, **smoke
    )
    stage.say()
    size = f"{sizes.mask_epochs} epochs of DRN-D-22 × {sizes.mask_width}"
    stage.say(f"A cycle with masks: {len(data.labeled):,} labels of {sizes.frame[0]} × {sizes.frame[1]} px, {size}")
    stage.say(f"from scratch, and {len(data.unlabeled):,} images scored.")
    stage.say()
    print_costs(device, settings, data, names, stage.say)


def patchwork(sizes: Sizes) -> CycleData:
    """Labelled and other images of patches, each of a class that its colour tells apart from the others', with noise,
    and the masks of the labelled ones."""
    draw = np.random.default_rng(0)
    count, (height, width) = sizes.mask_labels + sizes.mask_scored, sizes.frame
    colours = draw.integers(0, 192, (MASK_CLASSES, 3), dtype=np.uint8)
    classes = draw.integers(0, MASK_CLASSES, (count, height // PATCH, width // PATCH), dtype=np.uint8)
    pixels = draw.integers(0, 64, (count, height, width, 3), dtype=np.uint8)
    for image, patches in zip(pixels, classes, strict=True):
        image += colours[patches].repeat(PATCH, axis=0).repeat(PATCH, axis=1)
    masks = classes[: sizes.mask_labels].repeat(PATCH, axis=1).repeat(PATCH, axis=2)
    rows = np.arange(count)
    labelled, others = rows[: sizes.mask_labels], rows[sizes.mask_labels :]
    return CycleData(pixels, labelled, others, MaskTargets(masks, labelled.copy()), MASK_CLASSES)


def _mask_names() -> list[str]:
    return [str(number) for number in range(1, MASK_CLASSES)]


def costs(
    device: torch.device, sizes: Sizes, pixels: np.ndarray, targets: np.ndarray, names: Sequence[str], stage: Stage
) -> None:
    """A cycle of Table 4's size with each sampler, all with their papers' settings."""
    data = _cycle_data(pixels, targets, sizes.dast_labels, sizes.dast_scored)
    smoke: dict[str, Any] = SMOKE_SETTINGS if sizes == SMOKE else {}
    settings = Settings(
        task_width=sizes.task_width,
        epochs=sizes.epochs,
        batch_size=sizes.batch,
        vaal_width=sizes.vaal_width,
        vaal_batch_size=sizes.batch,
        **smoke,
    )
    stage.say()
    size = f"{sizes.epochs} epochs of ResNet-18 × {sizes.task_width}"
    stage.say(f"A cycle: {len(data.labeled):,} labels, {size} from scratch, and")
    stage.say(f"{len(data.unlabeled):,} images scored. Settings are the defaults, the papers'; samplers with")
    stage.say("an autoencoder train it for 100 passes over all images.")
    stage.say()
    print_costs(device, settings, data, names, stage.say)


def peak_flops(device: torch.device, side: int) -> float:
    """Floating-point operations per second of the best of ten square matrix products."""
    a = torch.randn(side, side, device=device).to(_dtype(device))
    b = torch.randn(side, side, device=device).to(_dtype(device))
    best = min(seconds(device, lambda: torch.mm(a, b)) for _ in range(10))
    return 2.0 * side**3 / best


def images(count: int) -> tuple[np.ndarray, np.ndarray, str]:
    """``count`` images (N, 32, 32, 3) uint8, their classes (N,) int64, and where they come from.

    Fashion-MNIST where Debian's package is installed, else noise around one pattern for each class: nothing is
    downloaded, and the time does not depend on what is seen.
    """
    if DEBIAN.exists():
        found = fashion_mnist()
        if len(found.train_images) >= count:
            grey = np.pad(found.train_images[:count], ((0, 0), (2, 2), (2, 2)))
            return np.repeat(grey[..., None], 3, axis=3), found.train_labels[:count], found.source
    draw = np.random.default_rng(0)
    targets = draw.integers(0, NUM_CLASSES, count)
    patterns = draw.integers(0, 128, (NUM_CLASSES, SIZE, SIZE, 3), dtype=np.uint8)
    pixels = draw.integers(0, 128, (count, SIZE, SIZE, 3), dtype=np.uint8)
    for start in range(0, count, 1024):
        pixels[start : start + 1024] += patterns[targets[start : start + 1024]]
    return pixels, targets, "noise around one pattern for each class"


def _dast_al(
    device: torch.device, sizes: Sizes, peak: float, pixels: np.ndarray, targets: np.ndarray, stage: Stage
) -> None:
    settings = Settings(
        sampler="dast-al", task_width=sizes.task_width, epochs=sizes.epochs, batch_size=sizes.batch, isda_lambda=1.0
    )
    data = _cycle_data(pixels, targets, sizes.dast_labels, sizes.dast_scored)
    few = _cycle_data(pixels, targets, 2 * sizes.batch, sizes.batch)
    runtime = Runtime(device=device, seed=0)

    def learn(epochs: int, part: CycleData) -> dict[str, float]:
        some = replace(settings, epochs=epochs)
        return learner.learn(part, some, runtime)

    learner = _learner(settings, device)
    # by a difference, because a training also does things once
    per_image = (_flops(lambda: learn(2, few)) - _flops(lambda: learn(1, few))) / len(few.labeled)
    _flops(lambda: learner.score(pixels, few.unlabeled, runtime))  # so that choosing algorithms is not timed
    learner = _learner(settings, device)
    _reset_memory(device)
    figures: dict[str, float] = {}
    seconds(device, lambda: figures.update(learn(sizes.epochs, data)))
    seen = figures["train_epochs"] * len(data.labeled)
    train = figures["train_seconds"]
    what = f"DAST-AL, train: {len(data.labeled):,} labels, {sizes.epochs} epochs, ResNet-18 × {sizes.task_width}"
    _row(stage, device, what, train, f"{figures['train_steps'] / train:.1f} steps/s", seen * per_image / train, peak)
    _reset_memory(device)
    scoring = _flops(lambda: learner.score(pixels, data.unlabeled, runtime))
    score = seconds(device, lambda: learner.score(pixels, data.unlabeled, runtime))
    rate = f"{len(data.unlabeled) / score:,.0f} images/s"
    _row(stage, device, f"DAST-AL, score {len(data.unlabeled):,}", score, rate, scoring / score, peak)
    whole = train + figures.get("fit_seconds", 0.0) + score
    stage.say(f"| DAST-AL, the cycle with its covariances | {whole:.2f} | | | | |")


def _vaal(
    device: torch.device, sizes: Sizes, peak: float, pixels: np.ndarray, targets: np.ndarray, stage: Stage
) -> None:
    settings = Settings(
        sampler="vaal", vaal_width=sizes.vaal_width, vaal_batch_size=sizes.batch, task_width=sizes.task_width
    )
    data = _cycle_data(pixels, targets, sizes.vaal_labels, sizes.pool - sizes.vaal_labels)
    runtime = Runtime(device=device, seed=0)

    def fit(iterations: int) -> dict[str, float]:
        learner = _learner(replace(settings, vaal_iterations=iterations), device)
        return learner.sampler.fit(learner.net, data, runtime)

    per_iteration = _flops(lambda: fit(3)) - _flops(lambda: fit(2))
    _reset_memory(device)
    figures: dict[str, float] = {}
    seconds(device, lambda: figures.update(fit(sizes.vaal_iterations)))
    rate = sizes.vaal_iterations / figures["seconds"]
    what = f"VAAL, {sizes.vaal_iterations:,} iterations of 2 × {sizes.batch}, width {sizes.vaal_width}"
    _row(stage, device, what, figures["seconds"], f"{rate:.1f} iterations/s", rate * per_iteration, peak)
    stage.say(f"| VAAL, a cycle of 39,062 iterations at that rate | {39_062 / rate:.0f} | | | | |")


def _learner(settings: Settings, device: torch.device) -> Learner:
    return Learner.fresh(settings, [str(number) for number in range(NUM_CLASSES)], SIZE, device, seed=0)


def _cycle_data(pixels: np.ndarray, targets: np.ndarray, labels: int, others: int) -> CycleData:
    order = np.random.default_rng(1).permutation(len(pixels))
    labelled, unlabelled = np.sort(order[:labels]), np.sort(order[labels : labels + others])
    return CycleData(pixels, labelled, unlabelled, ClassTargets(targets[labelled].astype(np.int64)), NUM_CLASSES)


def _row(stage: Stage, device: torch.device, what: str, spent: float, rate: str, flops: float, peak: float) -> None:
    memory = f"{torch.cuda.max_memory_allocated(device) / 2**30:.2f} GiB" if device.type == "cuda" else ""
    stage.say(f"| {what} | {spent:.2f} | {rate} | {flops / 1e12:.4g} | {flops / peak:.1%} | {memory} |")


def _flops(work: Callable[[], object]) -> float:
    """Floating-point operations of the convolutions and matrix products in ``work``."""
    with FlopCounterMode(display=False) as counter:
        work()
    return float(counter.get_total_flops())


def _reset_memory(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def _dtype(device: torch.device) -> torch.dtype:
    return torch.bfloat16 if device.type == "cuda" else torch.float32
