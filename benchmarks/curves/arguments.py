"""The options of ``python -m benchmarks curves``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.curves.plan import DEFAULT_TASK, FIRST
from benchmarks.curves.tasks import TASKS
from benchmarks.data.datasets import DOWNLOADS

ABOUT = """\
``python -m benchmarks curves``: accuracy (or mean average precision, or mean IoU) over labels, one curve for each
sampler, through the worker's own cycle.

    python -m benchmarks curves                    the plan of benchmarks/curves/suite.py, for two CPU cores
    python -m benchmarks curves --dataset fashion-mnist --samplers random,own+random,margin --image-size 32 \\
        --bank 6000 --pool 3000 --early 20 --initial 50 --budget 50 --cycles 8 --trials 10
    python -m benchmarks curves --dataset fashion-mnist --set task_net=resnet18 --set weights=none ...
    python -m benchmarks curves --task multilabel --dataset fashion-scenes --samplers random,margin,core-set
    python -m benchmarks curves --task segmentation --dataset fashion-scenes --samplers random,entropy,dast-al,vaal

``--cycles 5`` is five trainings: one on the initial labels and one after each of four purchases. The initial labels are
the first of the product's own first order, but before ``random``, for which they are drawn by chance; ``own+random``
and ``chance+margin`` are the other way round, and ``svm-pixels`` is an SVM on raw pixels with random labels. For masks,
``foreground-random`` is random among the images that the network predicts more foreground in than in most. With
``--set subset=N``, ``margin@uncertainty``, ``margin@neighborhood``, ``margin@random`` choose the candidates so, and
``margin@whole`` scores the whole pool. It may be
interrupted at any instant; the same command goes on after the last finished cycle of each run.
"""


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(_count(1)(number) for number in text.split(","))


def _count(low: int) -> Any:
    def number(text: str) -> int:
        value = int(text)
        if value < low:
            raise argparse.ArgumentTypeError(f"at least {low}, not {value}")
        return value

    return number


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Ends the process for options that are none."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks curves", description=ABOUT, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--task", choices=tuple(TASKS), default=DEFAULT_TASK, help="default: %(default)s")
    datasets = "; ".join(f"for {name}: {task.datasets}" for name, task in TASKS.items())
    add("--dataset", default="", help=f"without one the whole suite is played; {datasets}")
    add("--samplers", default="all", metavar="A,B", help="names as in the settings, or all")
    many = ", ".join(f"for {name} {task.labels}" for name, task in TASKS.items())
    add("--initial", type=_count(1), default=0, help=f"labels before the first purchase (default: {many})")
    add("--first", choices=FIRST, default="own", help="how those are chosen: the product's own first order, or chance")
    add("--early", type=_numbers, default=(), metavar="N,M", help="train on so many of those, too")
    add("--budget", type=_count(1), default=0, help=f"labels in a purchase (default: the preset's, else {many})")
    add("--cycles", type=_count(1), default=5, help="trainings, so one more than purchases")
    add("--trials", type=_count(1), default=0, help="repetitions with other seeds (default: 3; of the suite 10)")
    add("--seed", type=_count(0), default=0)
    add("--pool", type=_count(0), default=0, metavar="N", help="a random part of the training images; 0: all")
    add("--bank", type=_count(0), default=0, metavar="N", help="each trial's pool is drawn from so many images; 0: all")
    add("--one-pool", action="store_true", help="the same pool and held-out images in all trials")
    add(
        "--independent-learner", action="store_true", help="judge a network that learns without the sampler's objective"
    )
    add("--test", type=_count(0), default=0, metavar="N", help="a random part of the test images; 0: all")
    add("--image-size", type=_count(0), default=0, metavar="PX", help="0: the data set's own; of masks the longer side")
    add("--set", action="append", default=[], metavar="KEY=VALUE", help="any setting of a project, also preset")
    add("--data", type=Path, default=DOWNLOADS, metavar="DIR", help="torchvision's files (default: %(default)s)")
    add("--out", type=Path, metavar="DIR", help="results (default: benchmarks/results/curves/DATASET)")
    add("--work", type=Path, default=DOWNLOADS / "curves", metavar="DIR", help="pixels and checkpoints")
    add("--devices", default="", metavar="A,B", help="cpu, cuda:0 …; default: every CUDA device, else cpu")
    add("--jobs", type=_count(0), default=0, help="runs at a time; 0: one per CUDA device, on a CPU one per core")
    add("--together", action="store_true", help="the runs of a trial share a process: quicker where they are short")
    add("--only", default="", metavar="A,B", help="these experiments of the suite, without its summary")
    add("--fresh", action="store_true", help="forget what is stored under these options")
    add("--replace", action="store_true", help="overwrite the results of other options in the output folder")
    return parser.parse_args(arguments)
