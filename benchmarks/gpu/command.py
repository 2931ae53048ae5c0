"""``python -m benchmarks gpu``: the papers' cycles on a CUDA device, in seconds and in shares of what it can do.

One DAST-AL cycle as in the paper's Table 4 (1,000 labels, 200 epochs, ResNet-18, batch 128, 32 px, 10,000 images
scored), a stated number of VAAL's iterations at the paper's size, a short DAST-AL cycle of segmentation at Cityscapes'
size, and then what such cycles cost with each sampler, through the same :class:`backend.learning.learner.Learner` as
the worker. Needs numpy and torch only, so that it runs on a machine that has nothing else of ours.
"""

from __future__ import annotations

import argparse
import platform
import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

import torch

from benchmarks.gpu import classification, segmentation
from benchmarks.gpu.shares import Stage
from benchmarks.gpu.sizes import SMOKE, Sizes
from samplers import SAMPLERS

CPU_REFUSAL = "This measures a CUDA device, and torch sees none here. --cpu-smoke runs a tiny version on the CPU."


class Part(Protocol):
    """What is measured of a kind of task. ``cycles``: also the papers' cycles, not only what each sampler costs."""

    def __call__(self, sizes: Sizes, stage: Stage, samplers: Sequence[str], *, cycles: bool) -> None: ...


PARTS: dict[str, Part] = {"classification": classification.run, "segmentation": segmentation.run}


def main(arguments: Sequence[str]) -> int:
    """0 when measured; 2, with the reason in words, without a CUDA device."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks gpu", description=__doc__)
    parser.add_argument("--vaal-iterations", type=int, default=Sizes.vaal_iterations, help="the paper's cycle: 39,062")
    parser.add_argument(
        "--costs", nargs="*", metavar="SAMPLER", choices=list(SAMPLERS), help="the table of costs alone, all or these"
    )
    parser.add_argument("--task", choices=PARTS, help="that alone; else all")
    parser.add_argument("--cpu-smoke", action="store_true", help="a tiny version on the CPU, to see that it runs")
    parser.add_argument("--write", type=Path, metavar="FILE", help="also store what is printed, as Markdown")
    options = parser.parse_args(arguments)
    if not options.cpu_smoke and not torch.cuda.is_available():
        print(CPU_REFUSAL, file=sys.stderr)
        return 2
    device = torch.device("cpu" if options.cpu_smoke else "cuda")
    sizes = SMOKE if options.cpu_smoke else replace(Sizes(), vaal_iterations=options.vaal_iterations)
    stage = Stage(device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or "CPU"
    stage.say(f"- {datetime.now(UTC):%Y-%m-%d}, {name}, torch {torch.__version__}, `python -m benchmarks gpu`")
    for task in [options.task] if options.task else PARTS:
        PARTS[task](sizes, stage, options.costs or list(SAMPLERS), cycles=options.costs is None)
    if options.write:
        options.write.write_text("\n".join(["# GPU", "", *stage.lines, ""]))
    return 0
